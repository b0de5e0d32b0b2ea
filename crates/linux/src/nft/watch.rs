//! nftables' announcements: whoever changes a ruleset is heard. An event only means "look again".
use std::io;

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

/// `NFNLGRP_NFTABLES`.
const NFTABLES: u32 = 7;
/// Announcements are noticed, not read; what is longer is cut.
const ROOM: usize = 512;

/// A socket that hears of every change to the rulesets of a network namespace.
pub struct Watch {
    socket: TokioSocket,
}

impl Watch {
    /// Listens, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The socket could not be opened or bound.
    pub fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(NFTABLES)?;
        Ok(Self { socket })
    }

    /// Waits until something has changed. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn changed(&self) -> io::Result<()> {
        match self.socket.recv(&mut Vec::with_capacity(ROOM)).await {
            // An overrun says that announcements were lost, so there were some.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            other => other,
        }
    }

    /// Forgets what has been announced so far.
    pub fn drain(&self) {
        while self.socket.socket_ref().recv(&mut Vec::with_capacity(ROOM), 0).is_ok() {}
    }
}

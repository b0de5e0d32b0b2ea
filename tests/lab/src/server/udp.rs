//! A UDP server that answers with as many bytes as it is asked for.
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use super::Thread;
use crate::namespace::Namespace;

/// Answers a datagram that holds a decimal number with that many bytes, and any other with itself.
#[derive(Debug)]
pub struct Udp {
    _thread: Thread,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Udp {
    /// Listens in a namespace, on an address that it holds.
    pub fn start(host: &Namespace, address: SocketAddr) -> Result<Self> {
        let socket = host.inside(|| UdpSocket::bind(address)).with_context(|| format!("UDP {address}"))?;
        let peers = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&peers);
        let thread = Thread::start(move |stop| {
            let mut buffer = vec![0; 65_535];
            while stop.readable(&socket) {
                // An error here is an ICMP error about an earlier answer.
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(peer);
                let wanted = std::str::from_utf8(&buffer[..length]).ok().and_then(|text| text.parse().ok());
                let answer = wanted.map_or_else(|| buffer[..length].to_vec(), |count: u16| vec![b'.'; count.into()]);
                // EMSGSIZE: the kernel has just learnt a smaller path MTU; the client asks again.
                let _ = socket.send_to(&answer, peer);
            }
        })?;
        Ok(Self { _thread: thread, peers })
    }

    /// Everybody who has sent a datagram so far.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

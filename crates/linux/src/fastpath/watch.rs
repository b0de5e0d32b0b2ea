//! Who notes when the kernel's routes change, so that sessions may know theirs until then: a filter on a netlink socket, which
//! runs while the kernel tells of the change.
use std::io;

use aya::Ebpf;
use aya::programs::{ProgramError, SocketFilter};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use sixgate_fastpath::WATCH;

/// RTNLGRP_LINK, the addresses, routes, rules and forwarding of both families, and RTNLGRP_NEXTHOP.
const GROUPS: [u32; 10] = [1, 5, 7, 8, 9, 11, 19, 24, 25, 32];

/// The socket; who closes it has the program go.
pub(super) struct Watch {
    _socket: Socket,
}

impl Watch {
    /// Watches the calling thread's namespace.
    pub(super) fn begin(program: &mut Ebpf) -> Option<Self> {
        let socket = begin(program);
        let socket =
            socket.inspect_err(|error| tracing::info!("routes are asked for packet by packet: {error}")).ok()?;
        Some(Self { _socket: socket })
    }
}

fn begin(program: &mut Ebpf) -> io::Result<Socket> {
    let refused = |error: ProgramError| super::source(&error);
    let program = program.program_mut(WATCH).ok_or_else(|| refused(ProgramError::NotLoaded))?;
    let program: &mut SocketFilter = program.try_into().map_err(refused)?;
    program.load().map_err(refused)?;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    // From the first notice on.
    program.attach(&socket).map_err(refused)?;
    socket.bind(&SocketAddr::new(0, GROUPS.iter().fold(0, |groups, group| groups | 1 << (group - 1))))?;
    Ok(socket)
}

//! Who notes when the kernel's routes change, so that sessions may know theirs until then: a filter on a netlink socket, which
//! runs while the kernel tells of the change. Only while somebody listens does the program go by what sessions know.
use std::io;

use aya::Ebpf;
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{ProgramError, SchedClassifier, SocketFilter};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::source;
use crate::clock::now;

/// RTNLGRP_LINK, the addresses, routes, rules and forwarding of both families, and RTNLGRP_NEXTHOP.
const GROUPS: [u32; 10] = [1, 5, 7, 8, 9, 11, 19, 24, 25, 32];

/// What a watched program's parts are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    /// The filter.
    pub(crate) watch: &'static str,
    /// The map with the time of the last change.
    pub(crate) routes: &'static str,
    /// The array of programs that empties with its holder.
    pub(crate) listening: &'static str,
    /// What it holds.
    pub(crate) program: &'static str,
}

/// The socket; who closes it has the program go. And the entry by which sessions know their routes, which goes with the last
/// handle of its map: both go with the process.
pub(crate) struct Watch {
    _socket: Socket,
    _listening: ProgramArray<MapData>,
}

impl Watch {
    /// Watches the calling thread's namespace.
    pub(crate) fn begin(program: &mut Ebpf, names: Names) -> io::Result<Self> {
        let socket = listen(program, names.watch)?;
        let map =
            |program: &mut Ebpf, name| program.take_map(name).ok_or_else(|| io::Error::other("the maps are others"));
        // What a former process has left, nobody has watched since.
        let mut routes: Array<MapData, u64> = map(program, names.routes)?.try_into().map_err(|error| source(&error))?;
        routes.set(0, now().as_nanos(), 0).map_err(|error| source(&error))?;
        let mut listening = ProgramArray::try_from(map(program, names.listening)?).map_err(|error| source(&error))?;
        let remembering = program.program_mut(names.program).ok_or_else(|| source(&ProgramError::NotLoaded))?;
        let remembering: &mut SchedClassifier = remembering.try_into().map_err(|error| source(&error))?;
        remembering.load().map_err(|error| source(&error))?;
        let handle = remembering.fd().map_err(|error| source(&error))?;
        listening.set(0, handle, 0).map_err(|error| source(&error))?;
        Ok(Self { _socket: socket, _listening: listening })
    }
}

fn listen(program: &mut Ebpf, name: &str) -> io::Result<Socket> {
    let refused = |error: ProgramError| source(&error);
    let program = program.program_mut(name).ok_or_else(|| refused(ProgramError::NotLoaded))?;
    let program: &mut SocketFilter = program.try_into().map_err(refused)?;
    program.load().map_err(refused)?;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    // From the first notice on.
    program.attach(&socket).map_err(refused)?;
    socket.bind(&SocketAddr::new(0, GROUPS.iter().fold(0, |groups, group| groups | 1 << (group - 1))))?;
    Ok(socket)
}

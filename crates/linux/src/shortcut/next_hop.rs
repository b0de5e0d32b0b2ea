//! Next hops as the kernel would choose them, asked for by a thread of their own: routing locks may be held for long.
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use netlink_packet_route::link::{LinkAttribute, LinkLayerType, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// Questions that may wait; more are asked again when the next packet comes.
const QUESTIONS: usize = 64;

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NextHop {
    /// Kernel interface index.
    pub(super) link: u32,
    /// The link's own hardware address.
    pub(super) own: [u8; 6],
    /// The neighbour's.
    pub(super) mac: [u8; 6],
}

/// Where a packet of these addresses goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
}

/// What the kernel says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) to: IpAddr,
    /// Nothing where the packet is not forwarded to a neighbour that is known.
    pub(super) hop: Option<NextHop>,
}

/// The thread's two ends. It ends when they are dropped.
pub(super) struct Guide {
    questions: SyncSender<Question>,
    answers: Receiver<Answer>,
}

impl Guide {
    /// Starts the thread, in the network namespace of the calling one. Packets come from the link `device`.
    pub(super) fn start(device: u32) -> io::Result<Self> {
        let (questions, asked) = sync_channel::<Question>(QUESTIONS);
        let (told, answers) = sync_channel(QUESTIONS);
        let mut kernel = Kernel::connect()?;
        let work = move || {
            for question in asked {
                let hop = kernel.next_hop(device, question);
                if told.send(Answer { to: question.to, hop }).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("nat64-hops".to_owned()).spawn(work)?;
        Ok(Self { questions, answers })
    }

    /// Asks, unless too many wait already.
    pub(super) fn ask(&self, question: Question) -> bool {
        match self.questions.try_send(question) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// What has been answered by now.
    pub(super) fn answers(&self) -> impl Iterator<Item = Answer> {
        self.answers.try_iter()
    }
}

/// A netlink socket that asks one thing after the other.
struct Kernel {
    socket: Socket,
    sequence: u32,
}

impl Kernel {
    fn connect() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    fn next_hop(&mut self, device: u32, question: Question) -> Option<NextHop> {
        let (link, next) = self.route(device, question)?;
        let (own, mac) = (self.own(link)?, self.neighbour(link, next)?);
        Some(NextHop { link, own, mac })
    }

    /// The hardware address of an Ethernet link.
    fn own(&mut self, link: u32) -> Option<[u8; 6]> {
        let mut message = LinkMessage::default();
        message.header.index = link;
        let RouteNetlinkMessage::NewLink(held) = self.ask(RouteNetlinkMessage::GetLink(message))? else { return None };
        let ethernet = held.header.link_layer_type == LinkLayerType::Ether;
        held.attributes.iter().filter(|_| ethernet).find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok(),
            _ => None,
        })
    }

    /// The link and the neighbour that the kernel would forward to: rules, tables and metrics are its matter.
    fn route(&mut self, device: u32, question: Question) -> Option<(u32, IpAddr)> {
        let mut message = RouteMessage::default();
        let length = if question.to.is_ipv4() { 32 } else { 128 };
        message.header.address_family = family(question.to);
        message.header.destination_prefix_length = length;
        message.header.source_prefix_length = length;
        message.attributes = vec![
            RouteAttribute::Destination(question.to.into()),
            RouteAttribute::Source(question.from.into()),
            RouteAttribute::Iif(device),
        ];
        let RouteNetlinkMessage::NewRoute(route) = self.ask(RouteNetlinkMessage::GetRoute(message))? else {
            return None;
        };
        if route.header.kind != RouteType::Unicast {
            return None;
        }
        let (mut link, mut next) = (None, question.to);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => link = Some(*index),
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => next = IpAddr::V4(*address),
                RouteAttribute::Gateway(RouteAddress::Inet6(address)) => next = IpAddr::V6(*address),
                // A next hop of the other family, or a tunnel: the kernel's matter.
                RouteAttribute::Via(_) | RouteAttribute::Encap(_) | RouteAttribute::MultiPath(_) => return None,
                _ => {}
            }
        }
        let broadcast = next == IpAddr::V4(Ipv4Addr::BROADCAST) || next.is_multicast();
        Some((link.filter(|_| !broadcast)?, next))
    }

    /// The neighbour's hardware address, while the kernel itself would send there without asking first.
    fn neighbour(&mut self, link: u32, address: IpAddr) -> Option<[u8; 6]> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = link;
        message.attributes = vec![NeighbourAttribute::Destination(match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        })];
        let RouteNetlinkMessage::NewNeighbour(held) = self.ask(RouteNetlinkMessage::GetNeighbour(message))? else {
            return None;
        };
        let known = matches!(
            held.header.state,
            NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
        );
        held.attributes.iter().filter(|_| known).find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok(),
            _ => None,
        })
    }

    /// The kernel's answer; nothing when it is an error.
    fn ask(&mut self, message: RouteNetlinkMessage) -> Option<RouteNetlinkMessage> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).ok()?;
        loop {
            let (bytes, _) = self.socket.recv_from_full().ok()?;
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).ok()?;
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            return match answer.payload {
                NetlinkPayload::InnerMessage(message) => Some(message),
                _ => None,
            };
        }
    }
}

const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

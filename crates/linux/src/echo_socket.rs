//! ICMP echo requests with a hop limit of one's choice, and what comes back: for ping and trace.
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

/// What is larger comes cut; what is looked at stands at the beginning.
const BUFFER: usize = 2048;
/// Type, code, checksum, identifier, sequence.
const HEADER: usize = 8;
const IPV6_HEADER: usize = 40;

/// What came of an echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The host answered.
    Reply,
    /// A router on the way answered that the hop limit was used up.
    HopLimit,
    /// Somebody answered that it cannot be delivered, with the code of ICMP's or ICMPv6's Destination Unreachable.
    Unreachable(u8),
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who answers.
    pub from: IpAddr,
    /// What.
    pub outcome: Outcome,
    /// The request's identifier.
    pub identifier: u16,
    /// The request's sequence number.
    pub sequence: u16,
}

/// A raw socket of one family, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct EchoSocket {
    socket: UdpSocket,
    v6: bool,
}

impl EchoSocket {
    /// Opens the socket for IPv6 or IPv4.
    ///
    /// # Errors
    /// No CAP_NET_RAW.
    pub fn open(v6: bool) -> io::Result<Self> {
        let (domain, protocol) = if v6 { (Domain::IPV6, Protocol::ICMPV6) } else { (Domain::IPV4, Protocol::ICMPV4) };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        // What it sends and receives are messages with an address, whatever their protocol: all that this type asks for.
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, v6 })
    }

    /// Sends a request of `length` bytes of data; `scope` is the link of a link-local address.
    ///
    /// # Errors
    /// There is no route, or the address is of the other family.
    pub async fn send(
        &self,
        (to, scope): (IpAddr, u32),
        hops: u8,
        (identifier, sequence): (u16, u16),
        length: usize,
    ) -> io::Result<()> {
        let mut message = vec![0; HEADER + length];
        let kind = if self.v6 { 128 } else { 8 };
        let (identifier, sequence) = (identifier.to_be_bytes(), sequence.to_be_bytes());
        message[..HEADER].copy_from_slice(&[kind, 0, 0, 0, identifier[0], identifier[1], sequence[0], sequence[1]]);
        let socket = SockRef::from(&self.socket);
        let to = match to {
            IpAddr::V6(to) => {
                socket.set_unicast_hops_v6(hops.into())?;
                SocketAddrV6::new(to, 0, 0, scope).into()
            }
            IpAddr::V4(to) => {
                socket.set_ttl_v4(hops.into())?;
                // The kernel computes ICMPv6's checksum, which covers addresses, and not ICMP's.
                let checksum = checksum(&message).to_be_bytes();
                message[2..4].copy_from_slice(&checksum);
                SocketAddr::new(to.into(), 0)
            }
        };
        self.socket.send_to(&message, to).await.map(drop)
    }

    /// Waits for an answer to anybody's request on this machine. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn receive(&self) -> io::Result<Heard> {
        let mut buffer = [0; BUFFER];
        loop {
            let (length, from) = self.socket.recv_from(&mut buffer).await?;
            let bytes = buffer.get(..length).unwrap_or_default();
            let parsed = if self.v6 { parse_v6(bytes) } else { parse_v4(bytes) };
            if let Some((outcome, identifier, sequence)) = parsed {
                return Ok(Heard { from: from.ip(), outcome, identifier, sequence });
            }
        }
    }
}

type Parsed = Option<(Outcome, u16, u16)>;

/// An ICMPv6 message.
fn parse_v6(message: &[u8]) -> Parsed {
    let outcome = match message.first()? {
        129 => return echo(message, 129).map(|(identifier, sequence)| (Outcome::Reply, identifier, sequence)),
        1 => Outcome::Unreachable(*message.get(1)?),
        3 => Outcome::HopLimit,
        _ => return None,
    };
    let quoted = message.get(HEADER..)?;
    let (58, inner) = (*quoted.get(6)?, quoted.get(IPV6_HEADER..)?) else { return None };
    let (identifier, sequence) = echo(inner, 128)?;
    Some((outcome, identifier, sequence))
}

/// An IPv4 packet with an ICMP message.
fn parse_v4(packet: &[u8]) -> Parsed {
    let message = payload(packet)?;
    let outcome = match message.first()? {
        0 => return echo(message, 0).map(|(identifier, sequence)| (Outcome::Reply, identifier, sequence)),
        3 => Outcome::Unreachable(*message.get(1)?),
        11 => Outcome::HopLimit,
        _ => return None,
    };
    let (identifier, sequence) = echo(payload(message.get(HEADER..)?)?, 8)?;
    Some((outcome, identifier, sequence))
}

/// What an IPv4 header with ICMP is followed by.
fn payload(packet: &[u8]) -> Option<&[u8]> {
    let length = usize::from(packet.first()? & 15) * 4;
    (*packet.get(9)? == 1).then_some(packet.get(length..)).flatten()
}

/// Identifier and sequence of an echo message of that type.
fn echo(message: &[u8], kind: u8) -> Option<(u16, u16)> {
    let [first, _, _, _, a, b, c, d] = *message.first_chunk::<HEADER>()?;
    (first == kind).then_some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// RFC 1071, over whole 16-bit words.
fn checksum(message: &[u8]) -> u16 {
    let mut sum: u32 =
        message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Whether an address means something on one link only.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V6(address) => Ipv6Addr::is_unicast_link_local(&address),
        IpAddr::V4(address) => Ipv4Addr::is_link_local(&address),
    }
}

/// The kernel's index of a link.
///
/// # Errors
/// There is no link of that name.
pub fn link_index(name: &str) -> io::Result<u32> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(&socket, name)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_namespace;

    #[test]
    fn this_machine_answers_itself_in_both_families() {
        in_namespace(|| async {
            for (address, v6) in [("::1", true), ("127.0.0.1", false)] {
                let socket = EchoSocket::open(v6).unwrap();
                socket.send((address.parse().unwrap(), 0), 64, (0x1234, 7), 56).await.unwrap();
                // Requests come by on the loopback, too, and are passed over.
                let heard = socket.receive().await.unwrap();
                assert_eq!((heard.outcome, heard.identifier, heard.sequence), (Outcome::Reply, 0x1234, 7), "{address}");
            }
        });
    }

    #[test]
    fn errors_are_told_by_what_they_quote() {
        let mut v6 = vec![3, 0, 0, 0, 0, 0, 0, 0];
        v6.extend([0; 6]);
        v6.push(58);
        v6.extend([0; 33]);
        v6.extend([128, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(parse_v6(&v6), Some((Outcome::HopLimit, 0x0102, 0x0304)));
        let mut v4 = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let inner = [v4.clone(), vec![8, 0, 0, 0, 1, 2, 3, 4]].concat();
        v4.extend([3, 13, 0, 0, 0, 0, 0, 0]);
        v4.extend(inner);
        assert_eq!(parse_v4(&v4), Some((Outcome::Unreachable(13), 0x0102, 0x0304)));
        for length in 0..v4.len() {
            assert_eq!(parse_v4(&v4[..length]), None, "cut to {length}");
        }
        for length in 0..v6.len() {
            assert_eq!(parse_v6(&v6[..length]), None, "cut to {length}");
        }
    }

    #[test]
    fn a_link_that_is_not_there_has_no_index() {
        assert!(link_index("no-such-link").is_err());
        assert!(is_link_local("fe80::1".parse().unwrap()) && !is_link_local("2001:db8::1".parse().unwrap()));
    }
}

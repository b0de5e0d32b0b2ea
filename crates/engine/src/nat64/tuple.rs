//! Determining the incoming tuple (RFC 6146 section 3.4) and computing the outgoing one (section 3.6).
use core::net::{Ipv4Addr, Ipv6Addr};

use sixgate_wire::icmpv4::Icmpv4Message;
use sixgate_wire::icmpv6::Icmpv6Message;
use sixgate_wire::ipv4::{self, Ipv4Packet};
use sixgate_wire::ipv6::Ipv6Packet;
use sixgate_wire::rfc6052::Pref64;
use sixgate_wire::tcp::TcpSegment;
use sixgate_wire::udp::UdpDatagram;
use sixgate_wire::{icmpv4, icmpv6, tcp, udp};

use super::bib::Binding;
use super::verdict::{Reason, Refused};
use crate::xlat::originate::Error;
use crate::xlat::{Flow, Identifiers};

/// RFC 6146 section 3.1: each of these has its own BIB and session table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP queries; identifiers take the place of ports.
    Icmp,
}

impl Protocol {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Icmp];

    /// As in the log and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// An IPv6 transport address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransportV6 {
    /// Address.
    pub address: Ipv6Addr,
    /// Port or identifier.
    pub port: u16,
}

/// An IPv4 transport address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransportV4 {
    /// Address.
    pub address: Ipv4Addr,
    /// Port or identifier; zero at the far end of a query.
    pub port: u16,
}

/// The incoming tuple of a packet from IPv6; the server is what its destination embeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TupleV6 {
    /// Which tables it belongs to.
    pub protocol: Protocol,
    /// The host inside.
    pub client: TransportV6,
    /// The host outside.
    pub server: TransportV4,
}

/// The incoming tuple of a packet from IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TupleV4 {
    /// Which tables it belongs to.
    pub protocol: Protocol,
    /// The address and port that stand for the host inside.
    pub mapped: TransportV4,
    /// The host outside.
    pub server: TransportV4,
}

/// What a tuple was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<T> {
    /// The packet itself.
    Packet(T),
    /// RFC 6146 section 3.4: the packet that an ICMP error quotes, with its ends exchanged.
    Error(T),
}

impl<T> Incoming<T> {
    /// The tuple.
    pub const fn tuple(&self) -> &T {
        match self {
            Self::Packet(tuple) | Self::Error(tuple) => tuple,
        }
    }
}

/// RFC 6146 section 3.4: the tuple of a packet whose destination embeds `server`.
pub(super) fn incoming_v6(
    packet: &Ipv6Packet<'_>,
    server: Ipv4Addr,
    pref64: Pref64,
) -> Result<Incoming<TupleV6>, Refused> {
    let tuple = |protocol, client, port| TupleV6 {
        protocol,
        client: TransportV6 { address: packet.source(), port: client },
        server: TransportV4 { address: server, port },
    };
    match packet.protocol() {
        tcp::PROTOCOL => {
            let segment = TcpSegment::parse(packet.upper()).ok_or(Reason::Malformed)?;
            Ok(Incoming::Packet(tuple(Protocol::Tcp, segment.source_port(), segment.destination_port())))
        }
        udp::PROTOCOL => {
            let datagram = UdpDatagram::parse(packet.upper()).ok_or(Reason::Malformed)?;
            Ok(Incoming::Packet(tuple(Protocol::Udp, datagram.source_port(), datagram.destination_port())))
        }
        icmpv6::PROTOCOL => {
            let message = Icmpv6Message::parse(packet.upper()).ok_or(Reason::Malformed)?;
            if message.is_query() {
                Ok(Incoming::Packet(tuple(Protocol::Icmp, message.identifier(), 0)))
            } else if message.is_error() {
                quoted_v6(&message, server, pref64).map(Incoming::Error)
            } else {
                Err(Reason::IcmpType.into())
            }
        }
        // RFC 6146 section 3.4: ICMPv6 Destination Unreachable, code 4.
        _ => Err(Refused {
            reason: Reason::UnknownProtocol,
            answer: Some(Error { kind: icmpv6::DESTINATION_UNREACHABLE, code: icmpv6::PORT_UNREACHABLE, word: 0 }),
        }),
    }
}

/// The tuple of what an ICMPv6 error quotes: a packet that went from a server to a client.
fn quoted_v6(message: &Icmpv6Message<'_>, server: Ipv4Addr, pref64: Pref64) -> Result<TupleV6, Refused> {
    let quoted = Ipv6Packet::parse_quoted(message.body()).map_err(|_| Reason::Malformed)?;
    // An error goes to the sender of what it quotes.
    if pref64.extract(quoted.source()) != Some(server) || quoted.fragment().is_some_and(|fragment| fragment.offset != 0)
    {
        return Err(Reason::IcmpErrorWithoutSession.into());
    }
    let (protocol, source, destination) = match quoted.protocol() {
        tcp::PROTOCOL => ports(Protocol::Tcp, quoted.upper())?,
        udp::PROTOCOL => ports(Protocol::Udp, quoted.upper())?,
        icmpv6::PROTOCOL => {
            let query = Icmpv6Message::parse(quoted.upper()).filter(Icmpv6Message::is_query);
            // RFC 4443 section 2.4 (e): there are no errors about errors.
            (Protocol::Icmp, 0, query.ok_or(Reason::IcmpErrorWithoutSession)?.identifier())
        }
        _ => return Err(Reason::IcmpErrorWithoutSession.into()),
    };
    Ok(TupleV6 {
        protocol,
        client: TransportV6 { address: quoted.destination(), port: destination },
        server: TransportV4 { address: server, port: source },
    })
}

/// RFC 6146 section 3.4: the tuple of a packet to one of the pool's addresses.
pub(super) fn incoming_v4(packet: &Ipv4Packet<'_>) -> Result<Incoming<TupleV4>, Refused> {
    let tuple = |protocol, server, mapped| TupleV4 {
        protocol,
        mapped: TransportV4 { address: packet.destination(), port: mapped },
        server: TransportV4 { address: packet.source(), port: server },
    };
    match packet.protocol() {
        tcp::PROTOCOL => {
            let segment = TcpSegment::parse(packet.upper()).ok_or(Reason::Malformed)?;
            Ok(Incoming::Packet(tuple(Protocol::Tcp, segment.source_port(), segment.destination_port())))
        }
        udp::PROTOCOL => {
            let datagram = UdpDatagram::parse(packet.upper()).ok_or(Reason::Malformed)?;
            Ok(Incoming::Packet(tuple(Protocol::Udp, datagram.source_port(), datagram.destination_port())))
        }
        icmpv4::PROTOCOL => {
            let message = Icmpv4Message::parse(packet.upper()).ok_or(Reason::Malformed)?;
            if message.is_query() {
                Ok(Incoming::Packet(tuple(Protocol::Icmp, 0, message.identifier())))
            } else if message.is_error() {
                quoted_v4(&message, packet.destination()).map(Incoming::Error)
            } else {
                Err(Reason::IcmpType.into())
            }
        }
        // RFC 7915 section 4.2: IGMP is for one link, and is silently dropped.
        ipv4::IGMP => Err(Reason::UnknownProtocol.into()),
        // RFC 6146 section 3.4: ICMPv4 Destination Unreachable, code 2.
        _ => Err(Refused {
            reason: Reason::UnknownProtocol,
            answer: Some(Error { kind: icmpv4::DESTINATION_UNREACHABLE, code: icmpv4::PROTOCOL_UNREACHABLE, word: 0 }),
        }),
    }
}

/// The tuple of what an ICMPv4 error quotes: a packet that left with a mapped source.
fn quoted_v4(message: &Icmpv4Message<'_>, mapped: Ipv4Addr) -> Result<TupleV4, Refused> {
    let quoted = Ipv4Packet::parse_quoted(message.body()).map_err(|_| Reason::Malformed)?;
    // An error goes to the sender of what it quotes.
    if quoted.source() != mapped || quoted.fragment_offset() != 0 {
        return Err(Reason::IcmpErrorWithoutSession.into());
    }
    let (protocol, source, destination) = match quoted.protocol() {
        tcp::PROTOCOL => ports(Protocol::Tcp, quoted.upper())?,
        udp::PROTOCOL => ports(Protocol::Udp, quoted.upper())?,
        icmpv4::PROTOCOL => {
            let query = Icmpv4Message::parse(quoted.upper()).filter(Icmpv4Message::is_query);
            (Protocol::Icmp, query.ok_or(Reason::IcmpErrorWithoutSession)?.identifier(), 0)
        }
        _ => return Err(Reason::IcmpErrorWithoutSession.into()),
    };
    Ok(TupleV4 {
        protocol,
        mapped: TransportV4 { address: mapped, port: source },
        server: TransportV4 { address: quoted.destination(), port: destination },
    })
}

/// Source and destination port; RFC 792 guarantees no more than these eight bytes of the quoted packet.
fn ports(protocol: Protocol, upper: &[u8]) -> Result<(Protocol, u16, u16), Refused> {
    let &[a, b, c, d] = upper.first_chunk::<4>().ok_or(Reason::Malformed)?;
    Ok((protocol, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// RFC 6146 section 3.6.1: what a packet from the client to the server looks like in IPv4.
pub(super) fn outgoing_v4(protocol: Protocol, mapped: TransportV4, server: TransportV4) -> Flow<Ipv4Addr> {
    Flow {
        source: mapped.address,
        destination: server.address,
        identifiers: identifiers(protocol, mapped.port, mapped.port, server.port),
    }
}

/// RFC 6146 section 3.6.1: what a packet from the server to the client looks like in IPv6.
pub(super) fn outgoing_v6(
    protocol: Protocol,
    server: TransportV4,
    client: TransportV6,
    pref64: Pref64,
) -> Flow<Ipv6Addr> {
    Flow {
        source: pref64.embed(server.address),
        destination: client.address,
        identifiers: identifiers(protocol, client.port, server.port, client.port),
    }
}

/// How a packet from the server that an ICMPv6 error quotes looked in IPv4.
pub(super) fn quoted_flow_v4(tuple: &TupleV6, binding: &Binding) -> Flow<Ipv4Addr> {
    let (server, mapped) = (tuple.server, binding.mapped);
    Flow {
        source: server.address,
        destination: mapped.address,
        identifiers: identifiers(tuple.protocol, mapped.port, server.port, mapped.port),
    }
}

/// How a packet from the client that an ICMPv4 error quotes looked in IPv6.
pub(super) fn quoted_flow_v6(tuple: &TupleV4, binding: &Binding, pref64: Pref64) -> Flow<Ipv6Addr> {
    let (server, client) = (tuple.server, binding.client);
    Flow {
        source: client.address,
        destination: pref64.embed(server.address),
        identifiers: identifiers(tuple.protocol, client.port, client.port, server.port),
    }
}

const fn identifiers(protocol: Protocol, query: u16, source: u16, destination: u16) -> Identifiers {
    match protocol {
        Protocol::Tcp | Protocol::Udp => Identifiers::Ports { source, destination },
        Protocol::Icmp => Identifiers::Query(query),
    }
}

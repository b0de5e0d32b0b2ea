//! ICMP errors that the translator itself sends: RFC 4443 section 2.4 and RFC 1812 section 4.3.2.
use core::net::{Ipv4Addr, Ipv6Addr};

use sixgate_wire::checksum::{Sum, pseudo_v6};
use sixgate_wire::icmpv4::Icmpv4Message;
use sixgate_wire::icmpv6::Icmpv6Message;
use sixgate_wire::ipv4::{self, Ipv4Header, Ipv4Packet};
use sixgate_wire::ipv6::{self, Ipv6Header, Ipv6Packet};
use sixgate_wire::{icmpv4, icmpv6};

use super::Refusal;
use super::transmit::Transmit;

/// Hop limit and TTL of what we send ourselves.
const HOP_LIMIT: u8 = 64;

/// Type, code and the four bytes behind the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// MTU or pointer, or zero.
    pub word: u32,
}

/// What a sender in IPv6 is told of what was refused: RFC 7915 sections 5 and 5.4.
pub fn answer_v6(refusal: Refusal) -> Option<Error> {
    let error = |kind, code, word| Some(Error { kind, code, word });
    match refusal {
        Refusal::HopLimit => error(icmpv6::TIME_EXCEEDED, 0, 0),
        Refusal::TooBig { mtu } => error(icmpv6::PACKET_TOO_BIG, 0, mtu),
        Refusal::SegmentsLeft { pointer } => error(icmpv6::PARAMETER_PROBLEM, icmpv6::ERRONEOUS_FIELD, pointer),
        // RFC 7915 section 5.4: what the RFC drops without saying how is prohibited.
        Refusal::UdpChecksum | Refusal::FragmentedExtension | Refusal::Address => {
            error(icmpv6::DESTINATION_UNREACHABLE, icmpv6::PROHIBITED, 0)
        }
        Refusal::Malformed | Refusal::Checksum | Refusal::SourceRoute | Refusal::IcmpType | Refusal::FragmentedIcmp => {
            None
        }
    }
}

/// What a sender in IPv4 is told of what was refused: RFC 7915 sections 4 and 4.4.
pub fn answer_v4(refusal: Refusal) -> Option<Error> {
    let error = |kind, code, word| Some(Error { kind, code, word });
    match refusal {
        Refusal::HopLimit => error(icmpv4::TIME_EXCEEDED, 0, 0),
        Refusal::TooBig { mtu } => {
            error(icmpv4::DESTINATION_UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED, mtu.min(u32::from(u16::MAX)))
        }
        Refusal::SourceRoute => error(icmpv4::DESTINATION_UNREACHABLE, icmpv4::SOURCE_ROUTE_FAILED, 0),
        // RFC 7915 section 4.4: what the RFC drops without saying how is prohibited.
        Refusal::UdpChecksum | Refusal::FragmentedExtension | Refusal::Address => {
            error(icmpv4::DESTINATION_UNREACHABLE, icmpv4::COMMUNICATION_PROHIBITED, 0)
        }
        Refusal::Malformed
        | Refusal::Checksum
        | Refusal::SegmentsLeft { .. }
        | Refusal::IcmpType
        | Refusal::FragmentedIcmp => None,
    }
}

/// RFC 4443 section 2.4 (e): errors, redirects and what was sent to many are not answered.
pub fn may_answer_v6(packet: &Ipv6Packet<'_>) -> bool {
    let source = packet.source();
    let is_error = packet.protocol() == icmpv6::PROTOCOL
        && Icmpv6Message::parse(packet.upper()).is_none_or(|message| message.is_error() || message.kind() == 137);
    !(is_error
        || source.is_unspecified()
        || source.is_multicast()
        || packet.destination().is_multicast()
        || packet.fragment().is_some_and(|fragment| fragment.offset != 0))
}

/// RFC 1122 section 3.2.2: errors, later fragments and what was sent to many are not answered.
pub fn may_answer_v4(packet: &Ipv4Packet<'_>) -> bool {
    let (source, destination) = (packet.source(), packet.destination());
    let is_error = packet.protocol() == icmpv4::PROTOCOL
        && Icmpv4Message::parse(packet.upper()).is_none_or(|message| message.is_error());
    !(is_error
        || packet.fragment_offset() != 0
        || source.octets()[0] == 0
        || source.is_loopback()
        || source.is_multicast()
        || source.octets()[0] >= 240
        || destination.is_multicast()
        || destination.is_broadcast())
}

/// Appends an ICMPv6 error about `original`, of which as much is quoted as fits the minimum MTU.
pub fn emit_v6(error: Error, source: Ipv6Addr, destination: Ipv6Addr, original: &[u8], out: &mut Transmit) {
    let room = ipv6::MINIMUM_MTU as usize - ipv6::HEADER - icmpv6::HEADER;
    let quoted = &original[..original.len().min(room)];
    let length = icmpv6::HEADER + quoted.len();
    let pseudo = pseudo_v6(source, destination, icmpv6::PROTOCOL, length as u32);
    let start = start(error, pseudo, quoted);
    let header = Ipv6Header {
        traffic_class: 0,
        payload_length: length as u16,
        next_header: icmpv6::PROTOCOL,
        hop_limit: HOP_LIMIT,
        source,
        destination,
    };
    out.build(|bytes| {
        bytes.extend_from_slice(&header.emit());
        bytes.extend_from_slice(&start);
        bytes.extend_from_slice(quoted);
    });
}

/// Appends an ICMPv4 error about `original`, of which as much is quoted as fits 576 bytes.
pub fn emit_v4(
    error: Error,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    identification: u16,
    original: &[u8],
    out: &mut Transmit,
) {
    let room = ipv4::MINIMUM_REASSEMBLY - ipv4::HEADER - icmpv4::HEADER;
    let quoted = &original[..original.len().min(room)];
    let start = start(error, Sum::ZERO, quoted);
    let header = Ipv4Header {
        // RFC 1812 section 4.3.2.5: internetwork control.
        tos: 0xc0,
        total_length: (ipv4::HEADER + icmpv4::HEADER + quoted.len()) as u16,
        identification,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: HOP_LIMIT,
        protocol: icmpv4::PROTOCOL,
        source,
        destination,
    };
    out.build(|bytes| {
        bytes.extend_from_slice(&header.emit());
        bytes.extend_from_slice(&start);
        bytes.extend_from_slice(quoted);
    });
}

fn start(error: Error, pseudo: Sum, quoted: &[u8]) -> [u8; 8] {
    let [a, b, c, d] = error.word.to_be_bytes();
    let mut start = [error.kind, error.code, 0, 0, a, b, c, d];
    let checksum = pseudo.bytes(&start).bytes(quoted).checksum();
    start[icmpv6::CHECKSUM..icmpv6::CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
    start
}

//! IPv6 to IPv4: RFC 7915 section 5.
use core::net::Ipv4Addr;

use sixgate_wire::checksum::{Sum, pseudo_v6};
use sixgate_wire::icmpv6::Icmpv6Message;
use sixgate_wire::ipv4::{self, Ipv4Header};
use sixgate_wire::ipv6::{self, Ipv6Packet};
use sixgate_wire::virtio_net::SegmentationKind;
use sixgate_wire::{icmpv4, icmpv6, tcp, udp};

use super::offload::{Field, Unfinished};
use super::transmit::Transmit;
use super::transport::{self, Change};
use super::{FRAGMENTABLE_V4, Flow, GROWTH, Mtus, Policy, Refusal, decrement, icmp, mss, segment, split};

/// An IPv4 header, and as many bytes as a fragment has at least.
const SMALLEST_FRAGMENT: usize = ipv4::HEADER + 8;

/// How the packet may leave.
#[derive(Clone, Copy, Debug)]
pub struct Egress {
    /// What the links carry.
    pub mtus: Mtus,
    /// What the operator decided.
    pub policy: Policy,
    /// Identification of a packet without a Fragment header.
    pub identification: u16,
    /// The packet was put together from fragments of at most this many bytes: it leaves without DF, in pieces that are
    /// not larger than their translations would have been. Whoever sent them has found out what the path carries.
    pub reassembled_from: Option<u32>,
    /// What is left to do to the packet.
    pub unfinished: Unfinished,
}

/// Translates a packet that is not an ICMPv6 error into `out`.
pub fn translate(
    packet: &Ipv6Packet<'_>,
    flow: &Flow<Ipv4Addr>,
    egress: &Egress,
    out: &mut Transmit,
) -> Result<(), Refusal> {
    let Unfinished { field, .. } = egress.unfinished;
    refuse(packet, field)?;
    let mut header = header(packet, flow, egress.identification, &egress.policy)?;
    header.ttl = decrement(header.ttl)?;
    // What counts is the longest packet on the wire.
    let length = ipv4::HEADER + egress.unfinished.longest(packet.upper_length());
    header.dont_fragment &= length > FRAGMENTABLE_V4;
    let mut limit = egress.mtus.v4 as usize;
    if let Some(size) = egress.reassembled_from {
        header.dont_fragment = false;
        limit = limit.min(size.saturating_sub(GROWTH + ipv6::FRAGMENT_HEADER as u32) as usize).max(SMALLEST_FRAGMENT);
    }
    if header.dont_fragment && length > limit {
        return Err(Refusal::TooBig { mtu: egress.mtus.v4.saturating_add(GROWTH).max(ipv6::MINIMUM_MTU) });
    }
    let bytes = out.push(&header.emit(), packet.upper());
    rewrite(&mut bytes[ipv4::HEADER..], packet, flow, field);
    if egress.policy.clamp_mss && packet.protocol() == tcp::PROTOCOL && !is_later_fragment(packet) {
        mss::clamp(&mut bytes[ipv4::HEADER..], egress.mtus.segment_size(), field);
    }
    out.leave(egress.unfinished.offload(ipv4::HEADER, packet.protocol(), SegmentationKind::TcpV4));
    if length > limit {
        segment::finish_last(out);
        split::split_v4(out, &header, limit);
    }
    Ok(())
}

/// Translates an ICMPv6 error and the packet that it quotes. `quoted` is the quoted packet's flow as IPv4 sees it.
pub fn translate_error(
    packet: &Ipv6Packet<'_>,
    flow: &Flow<Ipv4Addr>,
    quoted: &Flow<Ipv4Addr>,
    egress: &Egress,
    out: &mut Transmit,
) -> Result<(), Refusal> {
    if let Some(pointer) = packet.segments_left() {
        return Err(Refusal::SegmentsLeft { pointer });
    }
    if packet.fragment().is_some_and(|fragment| fragment.offset != 0 || fragment.more) {
        return Err(Refusal::FragmentedIcmp);
    }
    let message = Icmpv6Message::parse(packet.upper()).ok_or(Refusal::Malformed)?;
    let pseudo = pseudo_v6(packet.source(), packet.destination(), icmpv6::PROTOCOL, packet.upper().len() as u32);
    if !pseudo.bytes(packet.upper()).is_valid() {
        return Err(Refusal::Checksum);
    }
    let ttl = decrement(packet.hop_limit())?;
    let (original, extensions) = icmp::split_v6(&message);
    let inner = Ipv6Packet::parse_quoted(original).map_err(|_| Refusal::Malformed)?;
    let mut start = icmp::error_to_v4(&message, inner.fragment().is_some(), egress.mtus).ok_or(Refusal::IcmpType)?;
    let mut inner_header = header(&inner, quoted, 0, &egress.policy)?;
    inner_header.ttl = inner.hop_limit();
    out.build(|bytes| {
        let outer = bytes.len();
        bytes.resize(outer + ipv4::HEADER + icmpv4::HEADER, 0);
        let body = bytes.len();
        bytes.extend_from_slice(&inner_header.emit());
        bytes.extend_from_slice(inner.upper());
        rewrite(&mut bytes[body + ipv4::HEADER..], &inner, quoted, Field::Checksum);
        // RFC 1812 section 4.3.2.3: an ICMPv4 error is at most 576 bytes long.
        let room = ipv4::MINIMUM_REASSEMBLY - ipv4::HEADER - icmpv4::HEADER;
        if let Some(length) = icmp::append_extensions(bytes, body, extensions, room, 4) {
            start[5] = length;
        }
        let length = bytes.len() - outer;
        let checksum = Sum::ZERO.bytes(&start).bytes(&bytes[body..]).checksum();
        start[icmpv4::CHECKSUM..icmpv4::CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
        bytes[outer + ipv4::HEADER..body].copy_from_slice(&start);
        let header = Ipv4Header {
            tos: egress.policy.tos.unwrap_or(packet.traffic_class()),
            total_length: length as u16,
            identification: egress.identification,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            ttl,
            protocol: icmpv4::PROTOCOL,
            source: flow.source,
            destination: flow.destination,
        };
        bytes[outer..outer + ipv4::HEADER].copy_from_slice(&header.emit());
    });
    Ok(())
}

/// What RFC 7915 forbids to translate.
fn refuse(packet: &Ipv6Packet<'_>, field: Field) -> Result<(), Refusal> {
    // RFC 7915 section 5.1: such a packet is not at its destination yet.
    if let Some(pointer) = packet.segments_left() {
        return Err(Refusal::SegmentsLeft { pointer });
    }
    // RFC 7915 section 5.1.1: the offsets of the other fragments would not fit what is left.
    if packet.fragment().is_some_and(|fragment| ipv6::is_extension(fragment.next_header)) {
        return Err(Refusal::FragmentedExtension);
    }
    let later_fragment = is_later_fragment(packet);
    match packet.protocol() {
        icmpv6::PROTOCOL if packet.fragment().is_some_and(|fragment| fragment.more) || later_fragment => {
            Err(Refusal::FragmentedIcmp)
        }
        icmpv6::PROTOCOL => {
            let message = Icmpv6Message::parse(packet.upper()).ok_or(Refusal::Malformed)?;
            if message.is_query() { Ok(()) } else { Err(Refusal::IcmpType) }
        }
        // RFC 8200 section 8.1: receivers discard such datagrams; over IPv4 they would look intact.
        udp::PROTOCOL if !later_fragment && field == Field::Checksum && lacks_checksum(packet) => {
            Err(Refusal::UdpChecksum)
        }
        _ => Ok(()),
    }
}

fn lacks_checksum(packet: &Ipv6Packet<'_>) -> bool {
    packet.upper().get(udp::CHECKSUM..udp::HEADER) == Some(&[0, 0])
}

/// RFC 7915 section 5.1 and 5.1.1: the header, with the hop limit as it is.
fn header(
    packet: &Ipv6Packet<'_>,
    flow: &Flow<Ipv4Addr>,
    identification: u16,
    policy: &Policy,
) -> Result<Ipv4Header, Refusal> {
    let length = ipv4::HEADER + packet.upper_length();
    let fragment = packet.fragment();
    Ok(Ipv4Header {
        // RFC 7915 section 5.1: copied by default, or always the same.
        tos: policy.tos.unwrap_or(packet.traffic_class()),
        total_length: u16::try_from(length).map_err(|_| Refusal::Malformed)?,
        // RFC 7915 section 5.1.1: the low-order 16 bits of the Fragment header's.
        identification: fragment.map_or(identification, |fragment| fragment.identification as u16),
        dont_fragment: fragment.is_none() && length > FRAGMENTABLE_V4,
        more_fragments: fragment.is_some_and(|fragment| fragment.more),
        fragment_offset: fragment.map_or(0, |fragment| fragment.offset),
        ttl: packet.hop_limit(),
        protocol: if packet.protocol() == icmpv6::PROTOCOL { icmpv4::PROTOCOL } else { packet.protocol() },
        source: flow.source,
        destination: flow.destination,
    })
}

fn is_later_fragment(packet: &Ipv6Packet<'_>) -> bool {
    packet.fragment().is_some_and(|fragment| fragment.offset != 0)
}

/// Rewrites the upper layer of `packet`, copied to `upper`.
fn rewrite(upper: &mut [u8], packet: &Ipv6Packet<'_>, flow: &Flow<Ipv4Addr>, field: Field) {
    if is_later_fragment(packet) {
        return;
    }
    let change = Change {
        removed: Sum::ZERO.v6(packet.source()).v6(packet.destination()),
        added: Sum::ZERO.v4(flow.source).v4(flow.destination),
    };
    match packet.protocol() {
        tcp::PROTOCOL => transport::rewrite_tcp(upper, change, flow.identifiers, field),
        udp::PROTOCOL => transport::rewrite_udp(upper, change, flow.identifiers, field),
        icmpv6::PROTOCOL => {
            let Some(kind) = upper.first().and_then(|kind| icmp::query_to_v4(*kind)) else { return };
            let length = packet.upper_length() as u32;
            let removed = pseudo_v6(packet.source(), packet.destination(), icmpv6::PROTOCOL, length);
            transport::rewrite_query(upper, kind, Change { removed, added: Sum::ZERO }, flow.identifiers);
        }
        _ => {}
    }
}

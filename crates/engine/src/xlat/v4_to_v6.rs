//! IPv4 to IPv6: RFC 7915 section 4.
use core::net::Ipv6Addr;

use sixgate_wire::checksum::{self, Sum, pseudo_v6};
use sixgate_wire::icmpv4::Icmpv4Message;
use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::ipv6::{self, Ipv6Header};
use sixgate_wire::virtio_net::SegmentationKind;
use sixgate_wire::{icmpv4, icmpv6, tcp, udp};

use super::offload::{Field, Unfinished};
use super::transmit::Transmit;
use super::transport::{self, Change};
use super::{ChecksumZero, Flow, GROWTH, Mtus, Policy, Refusal, decrement, icmp, mss, segment, split};

/// How the packet may leave.
#[derive(Clone, Copy, Debug)]
pub struct Egress {
    /// What the links carry.
    pub mtus: Mtus,
    /// What the operator decided.
    pub policy: Policy,
    /// The packet was put together from fragments of at most this many bytes: it leaves in pieces that are not larger
    /// than their translations would have been.
    pub reassembled_from: Option<u32>,
    /// What is left to do to the packet.
    pub unfinished: Unfinished,
}

/// Translates a packet that is not an ICMPv4 error into `out`.
pub fn translate(
    packet: &Ipv4Packet<'_>,
    flow: &Flow<Ipv6Addr>,
    egress: &Egress,
    out: &mut Transmit,
) -> Result<(), Refusal> {
    let Unfinished { field, .. } = egress.unfinished;
    refuse(packet, &egress.policy, field)?;
    let headers = Headers::new(packet, flow, &egress.policy);
    let hop_limit = decrement(packet.ttl())?;
    let payload_length = headers.fragment_length() + packet.upper_length();
    let fixed = headers.fixed(u16::try_from(payload_length).map_err(|_| Refusal::Malformed)?, hop_limit);
    // What counts is the longest packet on the wire.
    let length = ipv6::HEADER + headers.fragment_length() + egress.unfinished.longest(packet.upper_length());
    let mtu = egress.mtus.v6.max(ipv6::MINIMUM_MTU);
    let mut limit = if packet.dont_fragment() { mtu } else { egress.mtus.without_df(&egress.policy) };
    if let Some(size) = egress.reassembled_from {
        limit = limit.min(size.saturating_add(GROWTH + ipv6::FRAGMENT_HEADER as u32));
    } else if packet.dont_fragment() && length > mtu as usize {
        return Err(Refusal::TooBig { mtu: mtu - GROWTH });
    }
    let limit = limit.max(ipv6::MINIMUM_MTU) as usize;
    let (bytes, used) = headers.emit(&fixed);
    let bytes = out.push(&bytes[..used], packet.upper());
    rewrite(&mut bytes[used..], packet, flow, field);
    if field == Field::Checksum {
        complete_udp(&mut bytes[used..], packet, flow);
    }
    if egress.policy.clamp_mss && packet.protocol() == tcp::PROTOCOL && packet.fragment_offset() == 0 {
        mss::clamp(&mut bytes[used..], egress.mtus.segment_size(), field);
    }
    out.leave(egress.unfinished.offload(used, packet.protocol(), SegmentationKind::TcpV6));
    // RFC 7915 section 4: without DF a packet that is too long leaves in fragments.
    if length > limit {
        segment::finish_last(out);
        split::split_v6(out, &fixed, &headers.piece(), limit);
    }
    Ok(())
}

/// Translates an ICMPv4 error and the packet that it quotes. `quoted` is the quoted packet's flow as IPv6 sees it.
pub fn translate_error(
    packet: &Ipv4Packet<'_>,
    flow: &Flow<Ipv6Addr>,
    quoted: &Flow<Ipv6Addr>,
    egress: &Egress,
    out: &mut Transmit,
) -> Result<(), Refusal> {
    if packet.has_source_route() {
        return Err(Refusal::SourceRoute);
    }
    if packet.is_fragment() {
        return Err(Refusal::FragmentedIcmp);
    }
    let message = Icmpv4Message::parse(packet.upper()).ok_or(Refusal::Malformed)?;
    if !Sum::ZERO.bytes(packet.upper()).is_valid() {
        return Err(Refusal::Checksum);
    }
    let hop_limit = decrement(packet.ttl())?;
    let (original, extensions) = icmp::split_v4(&message);
    let inner = Ipv4Packet::parse_quoted(original).map_err(|_| Refusal::Malformed)?;
    let mut start = icmp::error_to_v6(&message, inner.total_length(), egress.mtus).ok_or(Refusal::IcmpType)?;
    let headers = Headers::new(&inner, quoted, &egress.policy);
    let inner_length = headers.fragment_length() + inner.upper_length();
    let inner_fixed = headers.fixed(u16::try_from(inner_length).map_err(|_| Refusal::Malformed)?, inner.ttl());
    out.build(|bytes| {
        let outer = bytes.len();
        bytes.resize(outer + ipv6::HEADER + icmpv6::HEADER, 0);
        let body = bytes.len();
        let (inner_headers, used) = headers.emit(&inner_fixed);
        bytes.extend_from_slice(&inner_headers[..used]);
        bytes.extend_from_slice(inner.upper());
        rewrite(&mut bytes[body + used..], &inner, quoted, Field::Checksum);
        // RFC 4443 section 2.4 (c): an ICMPv6 error fits the minimum MTU.
        let room = ipv6::MINIMUM_MTU as usize - ipv6::HEADER - icmpv6::HEADER;
        if let Some(length) = icmp::append_extensions(bytes, body, extensions, room, 8) {
            start[4] = length;
        }
        let length = bytes.len() - outer - ipv6::HEADER;
        let pseudo = pseudo_v6(flow.source, flow.destination, icmpv6::PROTOCOL, length as u32);
        let checksum = pseudo.bytes(&start).bytes(&bytes[body..]).checksum();
        start[icmpv6::CHECKSUM..icmpv6::CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
        bytes[outer + ipv6::HEADER..body].copy_from_slice(&start);
        let header = Ipv6Header {
            traffic_class: egress.policy.traffic_class.unwrap_or(packet.tos()),
            payload_length: length as u16,
            next_header: icmpv6::PROTOCOL,
            hop_limit,
            source: flow.source,
            destination: flow.destination,
        };
        bytes[outer..outer + ipv6::HEADER].copy_from_slice(&header.emit());
    });
    Ok(())
}

/// What RFC 7915 forbids to translate.
fn refuse(packet: &Ipv4Packet<'_>, policy: &Policy, field: Field) -> Result<(), Refusal> {
    // RFC 7915 section 4.1: other options are ignored.
    if packet.has_source_route() {
        return Err(Refusal::SourceRoute);
    }
    match packet.protocol() {
        icmpv4::PROTOCOL if packet.is_fragment() => Err(Refusal::FragmentedIcmp),
        icmpv4::PROTOCOL => {
            let message = Icmpv4Message::parse(packet.upper()).ok_or(Refusal::Malformed)?;
            if message.is_query() { Ok(()) } else { Err(Refusal::IcmpType) }
        }
        // RFC 7915 section 4.5: a checksum cannot be computed over a fragment.
        udp::PROTOCOL
            if packet.fragment_offset() == 0
                && field == Field::Checksum
                && lacks_checksum(packet)
                && (packet.more_fragments() || policy.udp_checksum_zero == ChecksumZero::Drop) =>
        {
            Err(Refusal::UdpChecksum)
        }
        _ => Ok(()),
    }
}

fn lacks_checksum(packet: &Ipv4Packet<'_>) -> bool {
    packet.upper().get(udp::CHECKSUM..udp::HEADER) == Some(&[0, 0])
}

/// The fixed header and, for a fragment, the Fragment header.
struct Headers {
    flow: Flow<Ipv6Addr>,
    traffic_class: u8,
    protocol: u8,
    identification: u32,
    fragment: Option<(u16, bool)>,
}

impl Headers {
    /// RFC 7915 section 4.1.
    fn new(packet: &Ipv4Packet<'_>, flow: &Flow<Ipv6Addr>, policy: &Policy) -> Self {
        let protocol = packet.protocol();
        Self {
            flow: *flow,
            traffic_class: policy.traffic_class.unwrap_or(packet.tos()),
            protocol: if protocol == icmpv4::PROTOCOL { icmpv6::PROTOCOL } else { protocol },
            identification: u32::from(packet.identification()),
            // RFC 8021: a packet that is whole does not get a Fragment header for want of DF.
            fragment: packet.is_fragment().then(|| (packet.fragment_offset() as u16, packet.more_fragments())),
        }
    }

    const fn fragment_length(&self) -> usize {
        if self.fragment.is_some() { ipv6::FRAGMENT_HEADER } else { 0 }
    }

    fn fixed(&self, payload_length: u16, hop_limit: u8) -> Ipv6Header {
        Ipv6Header {
            traffic_class: self.traffic_class,
            payload_length,
            next_header: if self.fragment.is_some() { ipv6::FRAGMENT } else { self.protocol },
            hop_limit,
            source: self.flow.source,
            destination: self.flow.destination,
        }
    }

    fn emit(&self, fixed: &Ipv6Header) -> ([u8; ipv6::HEADER + ipv6::FRAGMENT_HEADER], usize) {
        let mut bytes = [0; ipv6::HEADER + ipv6::FRAGMENT_HEADER];
        bytes[..ipv6::HEADER].copy_from_slice(&fixed.emit());
        if let Some((offset, more)) = self.fragment {
            let fragment = ipv6::emit_fragment(self.protocol, offset, more, self.identification);
            bytes[ipv6::HEADER..].copy_from_slice(&fragment);
        }
        (bytes, ipv6::HEADER + self.fragment_length())
    }

    fn piece(&self) -> split::Piece {
        let (offset, more) = self.fragment.unwrap_or_default();
        split::Piece {
            next_header: self.protocol,
            identification: self.identification,
            skip: self.fragment_length(),
            offset,
            more,
        }
    }
}

/// Rewrites the upper layer of `packet`, copied to `upper`.
fn rewrite(upper: &mut [u8], packet: &Ipv4Packet<'_>, flow: &Flow<Ipv6Addr>, field: Field) {
    if packet.fragment_offset() != 0 {
        return;
    }
    let change = Change {
        removed: Sum::ZERO.v4(packet.source()).v4(packet.destination()),
        added: Sum::ZERO.v6(flow.source).v6(flow.destination),
    };
    match packet.protocol() {
        tcp::PROTOCOL => transport::rewrite_tcp(upper, change, flow.identifiers, field),
        udp::PROTOCOL => transport::rewrite_udp(upper, change, flow.identifiers, field),
        icmpv4::PROTOCOL => {
            let Some(kind) = upper.first().and_then(|kind| icmp::query_to_v6(*kind)) else { return };
            let length = packet.upper_length() as u32;
            let added = pseudo_v6(flow.source, flow.destination, icmpv6::PROTOCOL, length);
            transport::rewrite_query(upper, kind, Change { removed: Sum::ZERO, added }, flow.identifiers);
        }
        _ => {}
    }
}

/// RFC 7915 section 4.5: a datagram without a checksum gets one, since IPv6 demands it.
fn complete_udp(upper: &mut [u8], packet: &Ipv4Packet<'_>, flow: &Flow<Ipv6Addr>) {
    if packet.protocol() != udp::PROTOCOL || packet.is_fragment() || !lacks_checksum(packet) {
        return;
    }
    let length = u16::from_be_bytes([upper[4], upper[5]]);
    let Some(datagram) = upper.get_mut(..usize::from(length)).filter(|datagram| datagram.len() >= udp::HEADER) else {
        return;
    };
    let pseudo = pseudo_v6(flow.source, flow.destination, udp::PROTOCOL, u32::from(length));
    let checksum = checksum::udp(pseudo.bytes(datagram).checksum());
    datagram[udp::CHECKSUM..udp::HEADER].copy_from_slice(&checksum.to_be_bytes());
}

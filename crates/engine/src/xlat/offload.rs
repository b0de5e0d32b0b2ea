//! Packets that the kernel has not finished: a checksum field that holds the pseudo-header's sum alone, and segments that
//! are still in one piece. They are translated as they are, and whoever sends them finishes them.
use core::net::{Ipv4Addr, Ipv6Addr};

use sixgate_wire::ipv4::{self, Ipv4Packet};
use sixgate_wire::ipv6::{self, Ipv6Packet};
use sixgate_wire::tcp::TcpSegment;
use sixgate_wire::virtio_net::{Offload, PartialChecksum, Segmentation, SegmentationKind};
use sixgate_wire::{tcp, udp};

use super::{FRAGMENTABLE_V4, Mtus, Policy};
use crate::status::Traffic;

/// Where the upper layer of a packet lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) version: Version,
    pub(crate) upper_at: usize,
    pub(crate) upper_length: usize,
    pub(crate) protocol: u8,
    is_fragment: bool,
}

/// A packet's version, with the addresses of its pseudo-header.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Layout {
    pub(crate) fn of_v4(packet: &Ipv4Packet<'_>) -> Self {
        Self {
            version: Version::V4(packet.source(), packet.destination()),
            upper_at: usize::from(packet.total_length()) - packet.upper_length(),
            upper_length: packet.upper_length(),
            protocol: packet.protocol(),
            is_fragment: packet.is_fragment(),
        }
    }

    pub(crate) fn of_v6(packet: &Ipv6Packet<'_>) -> Self {
        Self {
            version: Version::V6(packet.source(), packet.destination()),
            upper_at: ipv6::HEADER + usize::from(packet.payload_length()) - packet.upper_length(),
            upper_length: packet.upper_length(),
            protocol: packet.protocol(),
            is_fragment: packet.fragment().is_some(),
        }
    }
}

/// What the checksum field of the upper layer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Field {
    /// The checksum.
    #[default]
    Checksum,
    /// The sum of the pseudo-header: ports and data are added by whoever finishes the packet.
    PseudoHeader,
}

/// What is left to do to a packet of TCP or UDP. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    pub(crate) field: Field,
    pub(crate) segments: Option<Segments>,
}

/// The segments of a super-packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segments {
    /// Payload of each but the last.
    pub(crate) size: u16,
    /// Length of the upper layer's header, which each has.
    pub(crate) header: u16,
    /// CWR is set.
    pub(crate) ecn: bool,
}

/// What a header of the device and the packet behind it make together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inspected {
    /// The packet can be translated with this left to do.
    Fits(Unfinished),
    /// The checksum is none of TCP's or UDP's, so it has to be completed before.
    Complete(PartialChecksum),
    /// One does not fit the other.
    Malformed,
}

/// In how many parts a super-packet is translated, because its segments do not fare alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// In one.
    One,
    /// The last segment by itself.
    LastApart,
    /// Each by itself, and finished.
    Each,
}

/// Where the checksum of a protocol lies that card and kernel can complete.
pub(crate) const fn checksum_offset(protocol: u8) -> Option<u16> {
    match protocol {
        tcp::PROTOCOL => Some(tcp::CHECKSUM as u16),
        udp::PROTOCOL => Some(udp::CHECKSUM as u16),
        _ => None,
    }
}

/// Checks what the device says of a packet. Neither may be trusted: a guest writes both.
pub(crate) fn inspect(bytes: &[u8], layout: &Layout, offload: Offload) -> Inspected {
    let place = checksum_offset(layout.protocol).filter(|_| !layout.is_fragment);
    let place = place.map(|offset| PartialChecksum { start: layout.upper_at as u16, offset });
    let field = match offload.checksum {
        None => Field::Checksum,
        Some(checksum) if Some(checksum) == place => Field::PseudoHeader,
        Some(_) if offload.segmentation.is_some() => return Inspected::Malformed,
        Some(checksum) => return Inspected::Complete(checksum),
    };
    let Some(segmentation) = offload.segmentation else {
        return Inspected::Fits(Unfinished { field, segments: None });
    };
    let header = match (segmentation.kind, layout.version, layout.protocol) {
        (SegmentationKind::TcpV4, Version::V4(..), tcp::PROTOCOL)
        | (SegmentationKind::TcpV6, Version::V6(..), tcp::PROTOCOL) => tcp_header(bytes, layout),
        (SegmentationKind::Udp, _, udp::PROTOCOL) => Some(udp::HEADER),
        (_, _, _) => None,
    };
    let Some(header) = header.filter(|header| *header <= layout.upper_length && !layout.is_fragment) else {
        return Inspected::Malformed;
    };
    let payload = layout.upper_length - header;
    let segments = Segments { size: segmentation.size, header: header as u16, ecn: segmentation.ecn };
    // What fits one segment is none.
    let segments = (payload > usize::from(segmentation.size)).then_some(segments);
    Inspected::Fits(Unfinished { field, segments })
}

fn tcp_header(bytes: &[u8], layout: &Layout) -> Option<usize> {
    let offset = bytes.get(layout.upper_at + 12)?;
    let length = usize::from(offset >> 4) * 4;
    (length >= tcp::HEADER).then_some(length)
}

impl Segments {
    fn payload(self, upper_length: usize) -> usize {
        upper_length.saturating_sub(usize::from(self.header))
    }

    /// How many there are.
    pub(crate) fn count(self, upper_length: usize) -> usize {
        self.payload(upper_length).div_ceil(usize::from(self.size)).max(1)
    }

    /// Length of the last one, its header included.
    fn last(self, upper_length: usize) -> usize {
        let before = (self.count(upper_length) - 1) * usize::from(self.size);
        upper_length - before
    }
}

impl Unfinished {
    /// Nothing is left to do.
    pub const NONE: Self = Self { field: Field::Checksum, segments: None };

    /// Packets on the wire that this one becomes.
    pub(crate) fn count(&self, upper_length: usize) -> usize {
        self.segments.map_or(1, |segments| segments.count(upper_length))
    }

    /// Length of the upper layer in the longest packet on the wire: what counts against an MTU.
    pub(super) fn longest(&self, upper_length: usize) -> usize {
        self.segments.map_or(upper_length, |segments| usize::from(segments.header) + usize::from(segments.size))
    }

    /// Before a translation to IPv4.
    pub(crate) fn parts_to_v4(&self, upper_length: usize, mtus: Mtus) -> Parts {
        let Some(segments) = self.segments else { return Parts::One };
        let longest = ipv4::HEADER + self.longest(upper_length);
        let fits = longest <= mtus.v4 as usize;
        match (self.field, longest <= FRAGMENTABLE_V4) {
            // Somebody has verified a checksum that no segment will have.
            (Field::Checksum, _) => Parts::Each,
            // RFC 7915 section 5.1: such segments leave without DF, in fragments.
            (Field::PseudoHeader, true) if !fits => Parts::Each,
            // RFC 7915 section 5.1: DF depends on the length, and a short last segment leaves without.
            (Field::PseudoHeader, false) if fits && ipv4::HEADER + segments.last(upper_length) <= FRAGMENTABLE_V4 => {
                Parts::LastApart
            }
            (Field::PseudoHeader, _) => Parts::One,
        }
    }

    /// Before a translation to IPv6.
    pub(crate) fn parts_to_v6(&self, packet: &Ipv4Packet<'_>, mtus: Mtus, policy: &Policy) -> Parts {
        let longest = ipv6::HEADER + self.longest(packet.upper_length());
        let is_syn = || TcpSegment::parse(packet.upper()).is_some_and(|segment| segment.syn());
        let fragmented = !packet.dont_fragment() && longest > mtus.without_df(policy) as usize;
        match (self.segments, self.field) {
            // RFC 6146 section 3.5.2.2: a SYN may be stored, and quoted after seconds.
            (None, Field::PseudoHeader) if packet.protocol() == tcp::PROTOCOL && is_syn() => Parts::Each,
            (None, _) => Parts::One,
            (Some(_), Field::Checksum) => Parts::Each,
            (Some(_), Field::PseudoHeader) if fragmented => Parts::Each,
            (Some(_), Field::PseudoHeader) => Parts::One,
        }
    }

    /// What the device is told of a translated packet whose upper layer begins at `start`.
    pub(super) fn offload(&self, start: usize, protocol: u8, tcp: SegmentationKind) -> Offload {
        let Some(offset) = checksum_offset(protocol).filter(|_| self.field == Field::PseudoHeader) else {
            return Offload::NONE;
        };
        let segmentation = self.segments.map(|segments| Segmentation {
            kind: if protocol == udp::PROTOCOL { SegmentationKind::Udp } else { tcp },
            size: segments.size,
            header_length: start as u16 + segments.header,
            ecn: segments.ecn,
        });
        Offload { checksum: Some(PartialChecksum { start: start as u16, offset }), segmentation }
    }

    /// What a packet of `length` bytes is on the wire.
    pub(crate) fn on_the_wire(&self, length: usize, layout: impl FnOnce() -> Layout) -> Traffic {
        let Some(segments) = self.segments else { return Traffic { packets: 1, bytes: length as u64 } };
        let layout = layout();
        let count = segments.count(layout.upper_length);
        let headers = layout.upper_at + usize::from(segments.header);
        Traffic { packets: count as u64, bytes: (length + (count - 1) * headers) as u64 }
    }
}

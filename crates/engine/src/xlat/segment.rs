//! What a card does to an unfinished packet, done here: segments cut, checksums completed (RFC 9293, RFC 768).
use core::ops::Range;

use sixgate_wire::checksum::{self, Sum, pseudo_v4, pseudo_v6};
use sixgate_wire::tcp;
use sixgate_wire::virtio_net::{Offload, PartialChecksum, SegmentationKind};

use super::offload::{Field, Layout, Parts, Unfinished, Version, checksum_offset};
use super::transmit::Transmit;

/// An unfinished packet; `bytes` are as long as its header says.
pub(crate) struct SuperPacket<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) layout: Layout,
    pub(crate) unfinished: Unfinished,
}

/// FIN and PSH belong to the last segment.
const LAST: u8 = 0x01 | 0x08;
/// RFC 3168 section 6.1.2: CWR belongs to the first segment.
const FIRST: u8 = 0x80;

impl SuperPacket<'_> {
    /// How many segments there are; one if the checksum alone is missing.
    pub(crate) fn count(&self) -> usize {
        self.unfinished.count(self.layout.upper_length)
    }

    /// Writes some of the segments to `out`, behind headers of their own; returns what is left to do to them.
    pub(crate) fn cut(&self, range: Range<usize>, out: &mut Vec<u8>) -> Offload {
        out.clear();
        let Layout { upper_at, upper_length, .. } = self.layout;
        let whole = &self.bytes[..upper_at + upper_length];
        let Some(segments) = self.unfinished.segments else {
            out.extend_from_slice(whole);
            return self.unfinished.offload(upper_at, self.layout.protocol, SegmentationKind::TcpV6);
        };
        let (headers, size) = (upper_at + usize::from(segments.header), usize::from(segments.size));
        let part = (headers + range.start * size).min(whole.len())..(headers + range.end * size).min(whole.len());
        out.extend_from_slice(&whole[..headers]);
        out.extend_from_slice(&whole[part.clone()]);
        self.write_ip_header(range.start, out);
        self.write_upper_header(range.start * size, part.end == whole.len(), out);
        let several = (range.len() > 1).then_some(segments);
        let (tcp, ecn) = match self.layout.version {
            Version::V4(..) => (SegmentationKind::TcpV4, segments.ecn),
            Version::V6(..) => (SegmentationKind::TcpV6, segments.ecn),
        };
        let segments = several.map(|segments| super::offload::Segments { ecn: ecn && range.start == 0, ..segments });
        Unfinished { field: Field::PseudoHeader, segments }.offload(upper_at, self.layout.protocol, tcp)
    }

    /// Hands out the parts one by one, in `part`, with what is left to do to them.
    pub(crate) fn each_part(&self, parts: Parts, part: &mut Vec<u8>, mut handle: impl FnMut(&[u8], Offload)) {
        let count = self.count();
        let step = if parts == Parts::LastApart { count - 1 } else { 1 };
        for first in (0..count).step_by(step.max(1)) {
            let mut offload = self.cut(first..count.min(first + step), part);
            if let Some(checksum) = offload.checksum.take_if(|_| parts == Parts::Each) {
                complete(part, checksum);
            }
            handle(part, offload);
        }
    }

    /// Writes the first segment to `out`, finished: what an ICMP error quotes.
    pub(crate) fn finish_first(&self, out: &mut Vec<u8>) {
        if let Some(checksum) = self.cut(0..1, out).checksum {
            complete(out, checksum);
        }
    }

    fn write_ip_header(&self, first: usize, out: &mut [u8]) {
        let length = out.len();
        match self.layout.version {
            Version::V4(..) => {
                let identification = u16::from_be_bytes([out[4], out[5]]).wrapping_add(first as u16);
                out[2..4].copy_from_slice(&(length as u16).to_be_bytes());
                out[4..6].copy_from_slice(&identification.to_be_bytes());
                out[10..12].fill(0);
                let checksum = Sum::ZERO.bytes(&out[..self.layout.upper_at]).checksum();
                out[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            Version::V6(..) => out[4..6].copy_from_slice(&((length - sixgate_wire::ipv6::HEADER) as u16).to_be_bytes()),
        }
    }

    fn write_upper_header(&self, skipped: usize, is_last: bool, out: &mut [u8]) {
        let Layout { version, upper_at, upper_length, protocol, .. } = self.layout;
        let upper = &mut out[upper_at..];
        let length = upper.len() as u16;
        if protocol == tcp::PROTOCOL {
            let sequence = u32::from_be_bytes([upper[4], upper[5], upper[6], upper[7]]).wrapping_add(skipped as u32);
            upper[4..8].copy_from_slice(&sequence.to_be_bytes());
            upper[13] &= if is_last { u8::MAX } else { !LAST };
            upper[13] &= if skipped == 0 { u8::MAX } else { !FIRST };
        } else {
            upper[4..6].copy_from_slice(&length.to_be_bytes());
        }
        let Some(at) = checksum_offset(protocol).map(usize::from) else { return };
        let sum = match (self.unfinished.field, version) {
            (Field::PseudoHeader, _) => {
                let (old, new) = (Sum::ZERO.word(upper_length as u16), Sum::ZERO.word(length));
                !checksum::update(!u16::from_be_bytes([upper[at], upper[at + 1]]), old, new)
            }
            (Field::Checksum, Version::V4(source, destination)) => {
                pseudo_v4(source, destination, protocol, u32::from(length)).fold()
            }
            (Field::Checksum, Version::V6(source, destination)) => {
                pseudo_v6(source, destination, protocol, u32::from(length)).fold()
            }
        };
        upper[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Completes the checksum of the packet that was written last, before it is fragmented.
pub(super) fn finish_last(out: &mut Transmit) {
    let left = out.packets().last().and_then(|(_, offload)| offload.checksum);
    if let Some(checksum) = left {
        complete(out.last_mut(), checksum);
        out.leave(Offload::NONE);
    }
}

/// Completes a checksum whose field holds the pseudo-header's sum. Returns whether the place lies within the packet.
pub(crate) fn complete(packet: &mut [u8], checksum: PartialChecksum) -> bool {
    let Some(covered) = packet.get_mut(usize::from(checksum.start)..) else { return false };
    let sum = checksum::udp(Sum::ZERO.bytes(covered).checksum());
    let at = usize::from(checksum.offset);
    let Some(field) = covered.get_mut(at..at + 2) else { return false };
    field.copy_from_slice(&sum.to_be_bytes());
    true
}

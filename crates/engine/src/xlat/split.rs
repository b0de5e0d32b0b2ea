//! Fragmentation of a translated packet that was just written.
use sixgate_wire::{ipv4, ipv6};

use super::transmit::Transmit;

/// Replaces the last packet, which begins with `header`, by fragments of at most `limit` bytes.
pub(super) fn split_v4(out: &mut Transmit, header: &ipv4::Ipv4Header, limit: usize) {
    let whole = out.withdraw();
    let step = (limit.max(ipv4::HEADER + 8) - ipv4::HEADER) & !7;
    let upper = whole.start + ipv4::HEADER..whole.end;
    for start in upper.clone().step_by(step) {
        let part = start..upper.end.min(start + step);
        let piece = ipv4::Ipv4Header {
            total_length: (ipv4::HEADER + part.len()) as u16,
            dont_fragment: false,
            // RFC 791 section 3.2: fragments of a fragment count from where that began.
            more_fragments: header.more_fragments || part.end < upper.end,
            fragment_offset: header.fragment_offset + (start - upper.start) as u16,
            ..*header
        };
        out.push_again(&piece.emit(), part);
    }
}

/// Replaces the last packet by fragments of at most `limit` bytes. It begins with `header`, after which come `skip`
/// bytes of Fragment header, if it is a fragment already, that are replaced; `offset` and `more` are theirs.
pub(super) fn split_v6(out: &mut Transmit, header: &ipv6::Ipv6Header, piece: &Piece, limit: usize) {
    let whole = out.withdraw();
    let headers = ipv6::HEADER + ipv6::FRAGMENT_HEADER;
    let step = (limit.max(headers + 8) - headers) & !7;
    let upper = whole.start + ipv6::HEADER + piece.skip..whole.end;
    for start in upper.clone().step_by(step) {
        let part = start..upper.end.min(start + step);
        let mut bytes = [0; ipv6::HEADER + ipv6::FRAGMENT_HEADER];
        let fixed = ipv6::Ipv6Header {
            payload_length: (ipv6::FRAGMENT_HEADER + part.len()) as u16,
            next_header: ipv6::FRAGMENT,
            ..*header
        };
        bytes[..ipv6::HEADER].copy_from_slice(&fixed.emit());
        let offset = piece.offset + (start - upper.start) as u16;
        let more = piece.more || part.end < upper.end;
        let fragment = ipv6::emit_fragment(piece.next_header, offset, more, piece.identification);
        bytes[ipv6::HEADER..].copy_from_slice(&fragment);
        out.push_again(&bytes, part);
    }
}

/// What the Fragment headers of [`split_v6`] say.
pub(super) struct Piece {
    /// Upper-layer protocol.
    pub(super) next_header: u8,
    /// Identification.
    pub(super) identification: u32,
    /// Length of the Fragment header that is there already.
    pub(super) skip: usize,
    /// Its offset in bytes.
    pub(super) offset: u16,
    /// Its M flag.
    pub(super) more: bool,
}

//! ICMP types, codes, pointers and MTUs: the tables of RFC 7915 sections 4.2 and 5.2, and RFC 4884 extensions.
use sixgate_wire::icmpv4::{self, Icmpv4Message};
use sixgate_wire::icmpv6::{self, Icmpv6Message};
use sixgate_wire::ipv6;

use super::{GROWTH, Mtus};

/// RFC 1191 section 7.1: MTUs of the links there are, for routers that do not tell theirs.
const PLATEAUS: [u16; 11] = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];
/// RFC 4884 section 3: a quoted packet that extensions follow is padded to this length.
const MINIMUM_QUOTED: usize = 128;

/// The eight bytes that begin a message, checksum zero.
pub type Start = [u8; 8];

/// RFC 7915 section 5.2: the ICMPv4 type of an echo or its reply.
pub const fn query_to_v4(kind: u8) -> Option<u8> {
    match kind {
        icmpv6::ECHO_REQUEST => Some(icmpv4::ECHO),
        icmpv6::ECHO_REPLY => Some(icmpv4::ECHO_REPLY),
        _ => None,
    }
}

/// RFC 7915 section 4.2: the ICMPv6 type of an echo or its reply.
pub const fn query_to_v6(kind: u8) -> Option<u8> {
    match kind {
        icmpv4::ECHO => Some(icmpv6::ECHO_REQUEST),
        icmpv4::ECHO_REPLY => Some(icmpv6::ECHO_REPLY),
        _ => None,
    }
}

/// RFC 7915 section 5.2: the beginning of an ICMPv4 error, or none where the ICMPv6 error is dropped. `fragmented` says
/// whether the quoted packet has a Fragment header.
pub fn error_to_v4(message: &Icmpv6Message<'_>, fragmented: bool, mtus: Mtus) -> Option<Start> {
    let unreachable = |code| Some([icmpv4::DESTINATION_UNREACHABLE, code, 0, 0, 0, 0, 0, 0]);
    match (message.kind(), message.code()) {
        (icmpv6::DESTINATION_UNREACHABLE, icmpv6::NO_ROUTE | icmpv6::BEYOND_SCOPE | icmpv6::ADDRESS_UNREACHABLE) => {
            unreachable(icmpv4::HOST_UNREACHABLE)
        }
        (icmpv6::DESTINATION_UNREACHABLE, icmpv6::PROHIBITED) => unreachable(icmpv4::HOST_PROHIBITED),
        (icmpv6::DESTINATION_UNREACHABLE, icmpv6::PORT_UNREACHABLE) => unreachable(icmpv4::PORT_UNREACHABLE),
        (icmpv6::PACKET_TOO_BIG, _) => {
            // RFC 7915 section 5.2: the Fragment header is part of the difference. RFC 8021: less than IPv6's minimum is
            // not believed.
            let shrink = if fragmented { GROWTH + ipv6::FRAGMENT_HEADER as u32 } else { GROWTH };
            let mtu = (message.word().max(ipv6::MINIMUM_MTU) - shrink).min(mtus.for_v4_sender());
            let [high, low] = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
            Some([icmpv4::DESTINATION_UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED, 0, 0, 0, 0, high, low])
        }
        (icmpv6::TIME_EXCEEDED, code) => Some([icmpv4::TIME_EXCEEDED, code, 0, 0, 0, 0, 0, 0]),
        (icmpv6::PARAMETER_PROBLEM, icmpv6::ERRONEOUS_FIELD) => {
            let pointer = pointer_to_v4(message.word())?;
            Some([icmpv4::PARAMETER_PROBLEM, 0, 0, 0, pointer, 0, 0, 0])
        }
        (icmpv6::PARAMETER_PROBLEM, icmpv6::UNRECOGNIZED_NEXT_HEADER) => unreachable(icmpv4::PROTOCOL_UNREACHABLE),
        (_, _) => None,
    }
}

/// RFC 7915 section 4.2: the beginning of an ICMPv6 error, or none where the ICMPv4 error is dropped. `quoted_length` is
/// the Total Length of the quoted packet.
pub fn error_to_v6(message: &Icmpv4Message<'_>, quoted_length: u16, mtus: Mtus) -> Option<Start> {
    let unreachable = |code| Some([icmpv6::DESTINATION_UNREACHABLE, code, 0, 0, 0, 0, 0, 0]);
    match (message.kind(), message.code()) {
        (icmpv4::DESTINATION_UNREACHABLE, code) => match code {
            0 | 1 | 5 | 6 | 7 | 8 | 11 | 12 => unreachable(icmpv6::NO_ROUTE),
            // RFC 7915 section 4.2: the pointer points at the Next Header field.
            icmpv4::PROTOCOL_UNREACHABLE => {
                Some([icmpv6::PARAMETER_PROBLEM, icmpv6::UNRECOGNIZED_NEXT_HEADER, 0, 0, 0, 0, 0, 6])
            }
            icmpv4::PORT_UNREACHABLE => unreachable(icmpv6::PORT_UNREACHABLE),
            icmpv4::FRAGMENTATION_NEEDED => {
                let mtu = match message.mtu() {
                    0 => plateau_below(quoted_length),
                    mtu => mtu,
                };
                let mtu = u32::from(mtu).saturating_add(GROWTH).min(mtus.for_v6_sender()).max(ipv6::MINIMUM_MTU);
                let [a, b, c, d] = mtu.to_be_bytes();
                Some([icmpv6::PACKET_TOO_BIG, 0, 0, 0, a, b, c, d])
            }
            9 | 10 | 13 | 15 => unreachable(icmpv6::PROHIBITED),
            _ => None,
        },
        (icmpv4::TIME_EXCEEDED, code) => Some([icmpv6::TIME_EXCEEDED, code, 0, 0, 0, 0, 0, 0]),
        (icmpv4::PARAMETER_PROBLEM, 0 | 2) => {
            let pointer = pointer_to_v6(message.pointer())?;
            Some([icmpv6::PARAMETER_PROBLEM, icmpv6::ERRONEOUS_FIELD, 0, 0, 0, 0, 0, pointer])
        }
        (_, _) => None,
    }
}

/// RFC 7915 section 5.2, figure 6.
const fn pointer_to_v4(pointer: u32) -> Option<u8> {
    match pointer {
        0 => Some(0),
        1 => Some(1),
        4 | 5 => Some(2),
        6 => Some(9),
        7 => Some(8),
        8..=23 => Some(12),
        24..=39 => Some(16),
        _ => None,
    }
}

/// RFC 7915 section 4.2, figure 3.
const fn pointer_to_v6(pointer: u8) -> Option<u8> {
    match pointer {
        0 => Some(0),
        1 => Some(1),
        2 | 3 => Some(4),
        8 => Some(7),
        9 => Some(6),
        12..=15 => Some(8),
        16..=19 => Some(24),
        _ => None,
    }
}

/// RFC 1191 section 5: the greatest plateau that is less than the packet that did not fit.
fn plateau_below(length: u16) -> u16 {
    PLATEAUS.into_iter().find(|plateau| *plateau < length).unwrap_or(68)
}

/// The quoted packet and the RFC 4884 extensions of an ICMPv4 error. Extensions that ICMPv6 has no place for are left
/// out.
pub(super) fn split_v4<'a>(message: &Icmpv4Message<'a>) -> (&'a [u8], &'a [u8]) {
    let (original, extensions) = split(message.body(), message.quoted_length());
    match (message.kind(), message.code()) {
        (icmpv4::DESTINATION_UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED | icmpv4::PROTOCOL_UNREACHABLE) => {
            (original, &[])
        }
        (icmpv4::DESTINATION_UNREACHABLE | icmpv4::TIME_EXCEEDED, _) => (original, extensions),
        (icmpv4::PARAMETER_PROBLEM, _) => (original, &[]),
        (_, _) => (message.body(), &[]),
    }
}

/// The quoted packet and the RFC 4884 extensions of an ICMPv6 error.
pub(super) fn split_v6<'a>(message: &Icmpv6Message<'a>) -> (&'a [u8], &'a [u8]) {
    match message.kind() {
        icmpv6::DESTINATION_UNREACHABLE | icmpv6::TIME_EXCEEDED => split(message.body(), message.quoted_length()),
        _ => (message.body(), &[]),
    }
}

fn split(body: &[u8], quoted_length: Option<usize>) -> (&[u8], &[u8]) {
    quoted_length.and_then(|length| body.split_at_checked(length)).unwrap_or((body, &[]))
}

/// Cuts what was written from `body` on to `room` bytes and appends the extensions behind the padding that RFC 4884
/// section 3 demands. Returns the length of the quoted packet in units of `unit` bytes, if there are extensions.
pub(super) fn append_extensions(
    bytes: &mut Vec<u8>,
    body: usize,
    extensions: &[u8],
    room: usize,
    unit: usize,
) -> Option<u8> {
    // Extensions that leave no room for the quoted packet go first.
    if extensions.is_empty() || extensions.len() + MINIMUM_QUOTED > room {
        bytes.truncate(body + room);
        return None;
    }
    let most = (room - extensions.len()).min(usize::from(u8::MAX) * unit) / unit * unit;
    let length = (bytes.len() - body).next_multiple_of(unit).clamp(MINIMUM_QUOTED, most);
    bytes.resize(body + length, 0);
    bytes.extend_from_slice(extensions);
    u8::try_from(length / unit).ok()
}

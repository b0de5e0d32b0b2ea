//! The Maximum Segment Size option of TCP (RFC 9293 section 3.7.1), lowered to what the links on both sides carry.
use sixgate_wire::checksum::{self, Sum};
use sixgate_wire::{ipv4, ipv6, tcp};

use super::Mtus;
use super::offload::Field;

impl Mtus {
    /// RFC 9293 section 3.7.1: the most that fits both sides, without options of IP and TCP.
    pub(super) fn segment_size(self) -> u16 {
        let v6 = self.v6.saturating_sub((ipv6::HEADER + tcp::HEADER) as u32);
        let v4 = self.v4.saturating_sub((ipv4::HEADER + tcp::HEADER) as u32);
        u16::try_from(v6.min(v4)).unwrap_or(u16::MAX)
    }
}

/// Lowers the option of a SYN to `most`. Segments without SYN or without the option stay as they are: who announces
/// nothing receives what RFC 9293 says.
pub(super) fn clamp(segment: &mut [u8], most: u16, holds: Field) {
    let Some(at) = option(segment) else { return };
    if u16::from_be_bytes([segment[at], segment[at + 1]]) <= most {
        return;
    }
    // The option may begin at any byte, and checksums count in words.
    let words = at & !1..(at + 3) & !1;
    let before = Sum::ZERO.bytes(&segment[words.clone()]);
    segment[at..at + 2].copy_from_slice(&most.to_be_bytes());
    // The pseudo-header has no options.
    if holds == Field::PseudoHeader {
        return;
    }
    let after = Sum::ZERO.bytes(&segment[words]);
    let old = u16::from_be_bytes([segment[tcp::CHECKSUM], segment[tcp::CHECKSUM + 1]]);
    let updated = checksum::update(old, before, after);
    segment[tcp::CHECKSUM..tcp::CHECKSUM + 2].copy_from_slice(&updated.to_be_bytes());
}

/// Where the value of a SYN's MSS option lies.
fn option(segment: &[u8]) -> Option<usize> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const MAXIMUM_SEGMENT_SIZE: u8 = 2;
    if !tcp::TcpSegment::parse(segment)?.syn() {
        return None;
    }
    let end = usize::from(segment[12] >> 4) * 4;
    let mut at = tcp::HEADER;
    while at < end {
        match segment[at] {
            END => return None,
            NO_OPERATION => at += 1,
            kind => {
                let length = usize::from(*segment[..end].get(at + 1)?);
                if length < 2 || at + length > end {
                    return None;
                }
                if kind == MAXIMUM_SEGMENT_SIZE {
                    return (length == 4).then_some(at + 2);
                }
                at += length;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: u8 = 2;

    /// A segment with options; the checksum covers it without a pseudo-header.
    fn segment(flags: u8, options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; tcp::HEADER];
        bytes.extend_from_slice(options);
        bytes[12] = ((bytes.len() / 4) << 4) as u8;
        bytes[13] = flags;
        let checksum = Sum::ZERO.bytes(&bytes).checksum();
        bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn clamped(mut bytes: Vec<u8>, most: u16) -> Vec<u8> {
        clamp(&mut bytes, most, Field::Checksum);
        assert!(Sum::ZERO.bytes(&bytes).is_valid());
        bytes
    }

    #[test]
    fn greater_sizes_are_lowered_wherever_the_option_lies() {
        assert_eq!(clamped(segment(SYN, &[2, 4, 0x23, 0x28]), 1440)[20..], [2, 4, 5, 0xa0]);
        assert_eq!(clamped(segment(SYN, &[1, 2, 4, 0x23, 0x28, 1, 1, 1]), 1440)[20..], [1, 2, 4, 5, 0xa0, 1, 1, 1]);
        let scaled = [4, 2, 3, 3, 7, 2, 4, 0x23, 0x28, 0, 0, 0];
        assert_eq!(clamped(segment(SYN | 16, &scaled), 1440)[25..29], [2, 4, 5, 0xa0]);
    }

    #[test]
    fn everything_else_stays() {
        for bytes in [
            segment(SYN, &[2, 4, 5, 0xa0]),
            segment(16, &[2, 4, 0x23, 0x28]),
            segment(SYN, &[]),
            segment(SYN, &[0, 2, 4, 0xff]),
            segment(SYN, &[2, 3, 0xff, 0]),
            segment(SYN, &[1, 1, 1, 2]),
            segment(SYN, &[8, 0, 2, 4]),
            segment(SYN, &[1, 8, 9, 2]),
        ] {
            assert_eq!(clamped(bytes.clone(), 1440), bytes);
        }
        clamp(&mut [], 1440, Field::Checksum);
        clamp(&mut [0; 19], 1440, Field::Checksum);
    }

    #[test]
    fn the_size_fits_the_narrower_side() {
        assert_eq!(Mtus { v6: 1500, v4: 1500 }.segment_size(), 1440);
        assert_eq!(Mtus { v6: 1500, v4: 1400 }.segment_size(), 1360);
        assert_eq!(Mtus { v6: 9000, v4: 1500 }.segment_size(), 1460);
        assert_eq!(Mtus { v6: 1280, v4: 68 }.segment_size(), 28);
    }
}

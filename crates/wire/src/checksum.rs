//! The Internet checksum (RFC 1071), its pseudo-headers, and incremental updates (RFC 1624).
use core::net::{Ipv4Addr, Ipv6Addr};

/// A one's complement sum of 16-bit words that is not folded yet.
///
/// RFC 1071 section 2 (B): the sum does not depend on the byte order, so words are added as the machine holds them and
/// swapped once, when the sum is folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// Adds bytes that start at an even offset; an odd last byte is the upper half of its word.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // Four bytes a step into 64 bits: packets end long before the carry does.
        let (words, rest) = bytes.as_chunks::<4>();
        let mut sum = self.0;
        for word in words {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        Self(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// Adds one word given as a number.
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word.to_be() as u64)
    }

    /// Adds two words given as one number.
    #[must_use]
    pub const fn long(self, long: u32) -> Self {
        Self(self.0 + long.to_be() as u64)
    }

    /// Adds an IPv4 address.
    #[must_use]
    pub fn v4(self, address: Ipv4Addr) -> Self {
        self.bytes(&address.octets())
    }

    /// Adds an IPv6 address.
    #[must_use]
    pub fn v6(self, address: Ipv6Addr) -> Self {
        self.bytes(&address.octets())
    }

    /// Adds another sum.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The sum in 16 bits.
    pub const fn fold(self) -> u16 {
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        u16::from_be(sum as u16)
    }

    /// What goes into the checksum field: the complement of the sum over everything with that field zero.
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Whether a sum over everything, checksum field included, says that nothing was damaged.
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// RFC 9293 section 3.1: the pseudo-header of TCP and UDP over IPv4.
pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u32) -> Sum {
    Sum::ZERO.v4(source).v4(destination).word(u16::from(protocol)).long(length)
}

/// RFC 8200 section 8.1: the pseudo-header of upper layers over IPv6.
pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u32) -> Sum {
    Sum::ZERO.v6(source).v6(destination).word(u16::from(protocol)).long(length)
}

/// RFC 1624 equation 3: the checksum after `old` was replaced by `new`. A wrong checksum stays wrong.
#[must_use]
pub fn update(checksum: u16, old: Sum, new: Sum) -> u16 {
    !new.word(!checksum).word(!old.fold()).fold()
}

/// RFC 768: a UDP checksum that computes to zero is sent as all ones, since zero says that there is none.
#[must_use]
pub const fn udp(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    extern crate std;
    use std::vec::Vec;

    /// The obviously right twin: big-endian words, one after the other.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for word in bytes.chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }

    #[test]
    fn rfc_1071_section_3_example_sums_to_ddf2() {
        let sum = Sum::ZERO.bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
        assert_eq!(sum.checksum(), 0x220d);
    }

    #[test]
    fn rfc_1624_section_4_example_updates_to_zero_and_not_to_minus_zero() {
        let old = Sum::ZERO.word(0x5555);
        let new = Sum::ZERO.word(0x3285);
        assert_eq!(update(0xdd2f, old, new), 0x0000);
    }

    #[test]
    fn udp_never_sends_zero() {
        assert_eq!(udp(0), 0xffff);
        assert_eq!(udp(1), 1);
    }

    proptest! {
        #[test]
        fn sum_equals_its_slow_twin(bytes: Vec<u8>) {
            prop_assert_eq!(Sum::ZERO.bytes(&bytes).fold(), slow(&bytes));
        }

        #[test]
        fn words_and_longs_equal_their_bytes(word: u16, long: u32) {
            let mut bytes = Vec::from(word.to_be_bytes());
            bytes.extend(long.to_be_bytes());
            prop_assert_eq!(Sum::ZERO.word(word).long(long).fold(), slow(&bytes));
        }

        #[test]
        fn incremental_update_equals_computing_anew(
            kept in proptest::collection::vec(any::<u16>(), 1..40), old: [u16; 6], new: [u16; 6],
        ) {
            let all = |changed: &[u16]| kept.iter().chain(changed).fold(Sum::ZERO, |sum, word| sum.word(*word));
            let part = |changed: &[u16]| changed.iter().fold(Sum::ZERO, |sum, word| sum.word(*word));
            prop_assume!(all(&old).fold() != 0 && all(&new).fold() != 0);
            prop_assert_eq!(update(all(&old).checksum(), part(&old), part(&new)), all(&new).checksum());
        }

        #[test]
        fn a_damaged_checksum_stays_damaged(kept: u16, old: [u16; 6], new: [u16; 6], damage in 1u16..0xffff) {
            let part = |changed: &[u16]| changed.iter().fold(Sum::ZERO, |sum, word| sum.word(*word));
            let wrong = part(&old).word(kept).word(damage).checksum();
            let updated = update(wrong, part(&old), part(&new));
            prop_assert!(!part(&new).word(kept).word(updated).is_valid() || part(&new).word(kept).fold() == 0);
        }
    }
}

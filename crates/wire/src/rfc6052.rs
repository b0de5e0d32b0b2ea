//! IPv4 addresses embedded in IPv6 addresses: RFC 6052 section 2.2, all six prefix lengths.
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

/// A prefix of an RFC 6052 length, without host bits and with a zero u-octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pref64 {
    prefix: Ipv6Addr,
    length: u8,
}

/// Why a prefix cannot hold IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pref64Error {
    /// The length is none of 32, 40, 48, 56, 64, 96.
    Length,
    /// Bits beyond the length are set.
    HostBits,
    /// RFC 6052 section 2.2: bits 64 to 71 are set.
    UOctet,
}

impl fmt::Display for Pref64Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Length => "a NAT64 prefix has a length of 32, 40, 48, 56, 64 or 96 bits (RFC 6052 section 2.2)",
            Self::HostBits => "a NAT64 prefix has no bits set beyond its length",
            Self::UOctet => "bits 64 to 71 of a NAT64 prefix are zero (RFC 6052 section 2.2)",
        })
    }
}

impl core::error::Error for Pref64Error {}

impl Pref64 {
    /// RFC 6052 section 2.1: the Well-Known Prefix, `64:ff9b::/96`.
    pub const WELL_KNOWN: Self = Self { prefix: Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), length: 96 };

    /// Checks length, host bits and u-octet.
    pub fn new(prefix: Ipv6Addr, length: u8) -> Result<Self, Pref64Error> {
        if !matches!(length, 32 | 40 | 48 | 56 | 64 | 96) {
            return Err(Pref64Error::Length);
        }
        if prefix.to_bits() << length != 0 {
            return Err(Pref64Error::HostBits);
        }
        if prefix.octets()[8] != 0 {
            return Err(Pref64Error::UOctet);
        }
        Ok(Self { prefix, length })
    }

    /// The prefix as an address whose other bits are zero.
    pub const fn prefix(self) -> Ipv6Addr {
        self.prefix
    }

    /// Its length in bits.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Whether `address` begins with this prefix.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        (address.to_bits() ^ self.prefix.to_bits()) >> (128 - self.length) == 0
    }

    /// RFC 6052 section 2.3: prefix, address around the u-octet, suffix of zeros.
    pub fn embed(self, address: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.prefix.octets();
        for (position, octet) in self.positions().into_iter().zip(address.octets()) {
            octets[position] = octet;
        }
        Ipv6Addr::from(octets)
    }

    /// The IPv4 address within `address`, if that begins with this prefix. Suffix and u-octet do not matter (RFC 6052
    /// section 2.2 reserves the suffix for extensions).
    pub fn extract(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        if !self.contains(address) {
            return None;
        }
        let octets = address.octets();
        Some(Ipv4Addr::from(self.positions().map(|position| octets[position])))
    }

    /// RFC 6052 section 2.2, figure 1: where the four octets lie.
    const fn positions(self) -> [usize; 4] {
        match self.length {
            32 => [4, 5, 6, 7],
            40 => [5, 6, 7, 9],
            48 => [6, 7, 9, 10],
            56 => [7, 9, 10, 11],
            64 => [9, 10, 11, 12],
            _ => [12, 13, 14, 15],
        }
    }
}

impl fmt::Display for Pref64 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.prefix, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 6052 section 2.4, table 2.
    const TABLE: [(&str, u8, &str); 6] = [
        ("2001:db8::", 32, "2001:db8:c000:221::"),
        ("2001:db8:100::", 40, "2001:db8:1c0:2:21::"),
        ("2001:db8:122::", 48, "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::", 56, "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::", 64, "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::", 96, "2001:db8:122:344::192.0.2.33"),
    ];

    #[test]
    fn rfc_6052_section_2_4_examples_go_both_ways() {
        for (prefix, length, embedded) in TABLE {
            let pref64 = Pref64::new(prefix.parse().unwrap(), length).unwrap();
            let embedded: Ipv6Addr = embedded.parse().unwrap();
            assert_eq!(pref64.embed(Ipv4Addr::new(192, 0, 2, 33)), embedded, "{pref64}");
            assert_eq!(pref64.extract(embedded), Some(Ipv4Addr::new(192, 0, 2, 33)), "{pref64}");
        }
        let embedded = Pref64::WELL_KNOWN.embed(Ipv4Addr::new(192, 0, 2, 33));
        assert_eq!(embedded, "64:ff9b::192.0.2.33".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn other_lengths_host_bits_and_the_u_octet_are_refused() {
        let new = |text: &str, length| Pref64::new(text.parse().unwrap(), length);
        for length in (0..=128).filter(|length| ![32, 40, 48, 56, 64, 96].contains(length)) {
            assert_eq!(new("::", length), Err(Pref64Error::Length), "{length}");
        }
        assert_eq!(new("2001:db8:1::", 32), Err(Pref64Error::HostBits));
        assert_eq!(new("2001:db8::1", 96), Err(Pref64Error::HostBits));
        assert_eq!(new("2001:db8:0:0:100::", 96), Err(Pref64Error::UOctet));
    }

    /// RFC 6052 section 2.2: the suffix is reserved and ignored.
    #[test]
    fn suffix_and_u_octet_of_received_addresses_are_ignored() {
        for (prefix, length, embedded) in TABLE {
            let pref64 = Pref64::new(prefix.parse().unwrap(), length).unwrap();
            let embedded: Ipv6Addr = embedded.parse().unwrap();
            let mut octets = embedded.octets();
            let used = pref64.positions();
            for (position, octet) in octets.iter_mut().enumerate().skip(usize::from(length / 8)) {
                if !used.contains(&position) {
                    *octet = 0xa5;
                }
            }
            assert_eq!(pref64.extract(Ipv6Addr::from(octets)), Some(Ipv4Addr::new(192, 0, 2, 33)), "{pref64}");
        }
    }

    #[test]
    fn addresses_outside_hold_nothing() {
        assert_eq!(Pref64::WELL_KNOWN.extract("64:ff9b:1::192.0.2.33".parse().unwrap()), None);
        assert_eq!(Pref64::WELL_KNOWN.extract("64:ff9b::1:192.0.2.33".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn every_address_survives_every_length(address: u32, prefix: u128, length in 0usize..6) {
            let length = [32, 40, 48, 56, 64, 96][length];
            let bits = prefix & !(0xff << 56) & !(u128::MAX >> length);
            let pref64 = Pref64::new(Ipv6Addr::from_bits(bits), length).unwrap();
            let embedded = pref64.embed(Ipv4Addr::from_bits(address));
            prop_assert!(pref64.contains(embedded));
            prop_assert_eq!(embedded.octets()[8], 0);
            prop_assert_eq!(pref64.extract(embedded), Some(Ipv4Addr::from_bits(address)));
        }
    }
}

//! Explicit address mappings: RFC 7757.
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use ipnet::{Ipv4Net, Ipv6Net};

/// RFC 7757 section 3.1: an IPv4 prefix and the IPv6 prefix that stands for it. Single addresses are prefixes of 32 and
/// 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eam {
    v4: Ipv4Net,
    v6: Ipv6Net,
}

/// Why prefixes cannot be mapped to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EamError {
    /// RFC 7757 section 3.1: the IPv6 prefix leaves fewer bits than the IPv4 prefix.
    Suffix(Eam),
    /// The IPv4 prefix stands in the table already.
    TakenV4(Ipv4Net),
    /// The IPv6 prefix stands in the table already.
    TakenV6(Ipv6Net),
}

impl fmt::Display for EamError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suffix(Eam { v4, v6 }) => {
                let longest = 96 + v4.prefix_len();
                write!(out, "{v6} has no room for {v4}: choose a length of at most {longest} (RFC 7757 section 3.1)")
            }
            Self::TakenV4(v4) => write!(out, "{v4} is mapped twice; leave one of the mappings out"),
            Self::TakenV6(v6) => write!(out, "{v6} is mapped twice; leave one of the mappings out"),
        }
    }
}

impl core::error::Error for EamError {}

impl Eam {
    /// Checks that every IPv4 address has an IPv6 address; host bits are cleared.
    pub fn new(v4: Ipv4Net, v6: Ipv6Net) -> Result<Self, EamError> {
        let eam = Self { v4: v4.trunc(), v6: v6.trunc() };
        if 128 - v6.prefix_len() < 32 - v4.prefix_len() { Err(EamError::Suffix(eam)) } else { Ok(eam) }
    }

    /// RFC 7757 section 3.3.1: the IPv6 prefix, the rest of the IPv4 address, zeros.
    fn to_v6(self, address: Ipv4Addr) -> Ipv6Addr {
        let suffix = u128::from(address.to_bits() ^ self.v4.network().to_bits());
        Ipv6Addr::from_bits(self.v6.network().to_bits() | suffix.checked_shl(self.rest()).unwrap_or(0))
    }

    /// RFC 7757 section 3.3.2: the IPv4 prefix and the bits behind the IPv6 prefix; what follows them is ignored.
    fn to_v4(self, address: Ipv6Addr) -> Ipv4Addr {
        let suffix = (address.to_bits() ^ self.v6.network().to_bits()).checked_shr(self.rest()).unwrap_or(0);
        Ipv4Addr::from_bits(self.v4.network().to_bits() | suffix as u32)
    }

    /// How many more bits IPv6 has behind its prefix; all of 128 where there is nothing to map but one address.
    const fn rest(self) -> u32 {
        (128 - self.v6.prefix_len()) as u32 + self.v4.prefix_len() as u32 - 32
    }
}

/// RFC 7757 section 3.2: the table. Prefixes may lie inside one another; the longest counts.
#[derive(Clone, Debug, Default)]
pub struct Eamt {
    /// By length, longest first, and by prefix.
    by_v4: Vec<(u8, BTreeMap<u32, Eam>)>,
    /// The same for IPv6.
    by_v6: Vec<(u8, BTreeMap<u128, Eam>)>,
}

impl Eamt {
    /// A table of mappings. Each prefix stands in it once.
    pub fn new(mappings: impl IntoIterator<Item = Eam>) -> Result<Self, EamError> {
        let mut table = Self::default();
        for eam in mappings {
            let by_v4 = of_length(&mut table.by_v4, eam.v4.prefix_len());
            if by_v4.insert(eam.v4.network().to_bits(), eam).is_some() {
                return Err(EamError::TakenV4(eam.v4));
            }
            let by_v6 = of_length(&mut table.by_v6, eam.v6.prefix_len());
            if by_v6.insert(eam.v6.network().to_bits(), eam).is_some() {
                return Err(EamError::TakenV6(eam.v6));
            }
        }
        Ok(table)
    }

    /// The IPv6 address that is mapped to an IPv4 address.
    pub fn to_v6(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        let bits = address.to_bits();
        let masked = |length: u8| bits & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        self.by_v4.iter().find_map(|(length, prefixes)| prefixes.get(&masked(*length))).map(|eam| eam.to_v6(address))
    }

    /// The IPv4 address that is mapped to an IPv6 address.
    pub fn to_v4(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let bits = address.to_bits();
        let masked = |length: u8| bits & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        self.by_v6.iter().find_map(|(length, prefixes)| prefixes.get(&masked(*length))).map(|eam| eam.to_v4(address))
    }
}

fn of_length<K: Ord>(table: &mut Vec<(u8, BTreeMap<K, Eam>)>, length: u8) -> &mut BTreeMap<K, Eam> {
    let place = table.partition_point(|(other, _)| *other > length);
    if table.get(place).is_none_or(|(other, _)| *other != length) {
        table.insert(place, (length, BTreeMap::new()));
    }
    &mut table[place].1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn eam(v4: &str, v6: &str) -> Result<Eam, EamError> {
        Eam::new(v4.parse().unwrap(), v6.parse().unwrap())
    }

    fn table(mappings: &[(&str, &str)]) -> Eamt {
        Eamt::new(mappings.iter().map(|(v4, v6)| eam(v4, v6).unwrap())).unwrap()
    }

    /// Each pair both ways.
    fn assert_pairs(table: &Eamt, pairs: &[(&str, &str)]) {
        for (v4, v6) in pairs {
            let (v4, v6) = (v4.parse().unwrap(), v6.parse().unwrap());
            assert_eq!((table.to_v6(v4), table.to_v4(v6)), (Some(v6), Some(v4)));
        }
    }

    #[test]
    fn single_addresses_and_prefixes_are_mapped_both_ways() {
        let table = table(&[
            ("192.0.2.1/32", "2001:db8:aaaa::/128"),
            ("192.0.2.2/32", "2001:db8:bbbb::b/128"),
            ("192.0.2.16/28", "2001:db8:cccc::/124"),
            ("192.0.2.128/26", "2001:db8:dddd::/64"),
            ("192.0.2.192/29", "2001:db8:eeee:8::/62"),
            ("192.0.2.224/31", "64:ff9b::/127"),
        ]);
        assert_pairs(
            &table,
            &[
                ("192.0.2.1", "2001:db8:aaaa::"),
                ("192.0.2.2", "2001:db8:bbbb::b"),
                ("192.0.2.16", "2001:db8:cccc::"),
                ("192.0.2.24", "2001:db8:cccc::8"),
                ("192.0.2.31", "2001:db8:cccc::f"),
                ("192.0.2.128", "2001:db8:dddd::"),
                ("192.0.2.152", "2001:db8:dddd:0:6000::"),
                ("192.0.2.183", "2001:db8:dddd:0:dc00::"),
                ("192.0.2.192", "2001:db8:eeee:8::"),
                ("192.0.2.195", "2001:db8:eeee:9:8000::"),
                ("192.0.2.224", "64:ff9b::"),
                ("192.0.2.225", "64:ff9b::1"),
            ],
        );
        assert_eq!(table.to_v6(Ipv4Addr::new(192, 0, 2, 3)), None);
        assert_eq!(table.to_v4("2001:db8:aaaa::1".parse().unwrap()), None);
    }

    #[test]
    fn the_longest_prefix_counts_both_ways() {
        let table = table(&[
            ("10.0.0.0/8", "2001:db8:a::/104"),
            ("10.1.0.0/16", "2001:db8:b::/112"),
            ("10.1.1.1/32", "2001:db8:a::7/128"),
            ("0.0.0.0/0", "2001:db8:f::/96"),
        ]);
        assert_pairs(
            &table,
            &[
                ("10.2.3.4", "2001:db8:a::2:304"),
                ("10.1.3.4", "2001:db8:b::304"),
                ("10.1.1.1", "2001:db8:a::7"),
                ("11.0.0.1", "2001:db8:f::b00:1"),
            ],
        );
        // Mappings inside one another are not symmetrical.
        assert_eq!(table.to_v6(Ipv4Addr::new(10, 0, 0, 7)), Some("2001:db8:a::7".parse().unwrap()));
    }

    #[test]
    fn bits_behind_the_suffix_are_ignored() {
        let table = table(&[("192.0.2.128/26", "2001:db8:dddd::/64")]);
        let noisy = "2001:db8:dddd:0:63ff:ffff:ffff:ffff".parse().unwrap();
        assert_eq!(table.to_v4(noisy), Some(Ipv4Addr::new(192, 0, 2, 152)));
    }

    #[test]
    fn mappings_without_room_and_mappings_given_twice_are_refused() {
        let short = eam("192.0.2.0/24", "2001:db8::/121").unwrap_err();
        assert!(short.to_string().contains("at most 120"), "{short}");
        let twice = |second: (&str, &str)| {
            Eamt::new([eam("192.0.2.1/32", "2001:db8::1/128").unwrap(), eam(second.0, second.1).unwrap()]).unwrap_err()
        };
        assert!(matches!(twice(("192.0.2.1/32", "2001:db8::2/128")), EamError::TakenV4(_)));
        assert!(matches!(twice(("192.0.2.2/32", "2001:db8::1/128")), EamError::TakenV6(_)));
    }

    proptest! {
        #[test]
        fn every_mapping_undoes_itself(address: u32, base: u128, v4_length in 0u8..=32, spare in 0u8..=96) {
            let v6_length = (96 + v4_length).saturating_sub(spare);
            let v4 = Ipv4Net::new(Ipv4Addr::from_bits(address), v4_length).unwrap();
            let v6 = Ipv6Net::new(Ipv6Addr::from_bits(base), v6_length).unwrap();
            let table = Eamt::new([Eam::new(v4, v6).unwrap()]).unwrap();
            let mapped = table.to_v6(Ipv4Addr::from_bits(address)).unwrap();
            prop_assert!(v6.contains(&mapped));
            prop_assert_eq!(table.to_v4(mapped), Some(Ipv4Addr::from_bits(address)));
        }

        /// The obviously right twin looks at every mapping.
        #[test]
        fn lookups_agree_with_a_scan(prefixes: Vec<(u8, u8, u8)>, address: u8) {
            let mut mappings: Vec<Eam> = Vec::new();
            for (a, b, length) in prefixes {
                let v4 = Ipv4Net::new(Ipv4Addr::new(0, 0, 0, a), 24 + length % 9).unwrap().trunc();
                let v6 = Ipv6Net::new(Ipv6Addr::from_bits(b.into()), 120 + length % 9).unwrap().trunc();
                if mappings.iter().all(|eam| eam.v4 != v4 && eam.v6 != v6) {
                    mappings.push(Eam::new(v4, v6).unwrap());
                }
            }
            let table = Eamt::new(mappings.clone()).unwrap();
            let v4 = Ipv4Addr::new(0, 0, 0, address);
            let best = mappings.iter().filter(|eam| eam.v4.contains(&v4)).max_by_key(|eam| eam.v4.prefix_len());
            prop_assert_eq!(table.to_v6(v4), best.map(|eam| eam.to_v6(v4)));
            let v6 = Ipv6Addr::from_bits(address.into());
            let best = mappings.iter().filter(|eam| eam.v6.contains(&v6)).max_by_key(|eam| eam.v6.prefix_len());
            prop_assert_eq!(table.to_v4(v6), best.map(|eam| eam.to_v4(v6)));
        }
    }
}

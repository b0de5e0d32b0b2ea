//! IPv4 addresses that are not globally reachable: the registry of RFC 6890 (as of RFC 8190), and multicast.
use core::net::Ipv4Addr;

/// Blocks of the IANA IPv4 Special-Purpose Address Registry whose "Globally Reachable" column is false or empty.
pub const NON_GLOBAL_V4: [(Ipv4Addr, u8); 14] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Whether the address is globally reachable unicast.
pub fn is_global_v4(address: Ipv4Addr) -> bool {
    // RFC 7723 and RFC 8155: two anycast addresses inside 192.0.0.0/24 are global.
    if matches!(address.octets(), [192, 0, 0, 9 | 10]) {
        return true;
    }
    let inside = |&(block, length): &(Ipv4Addr, u8)| (address.to_bits() ^ block.to_bits()) >> (32 - length) == 0;
    !address.is_multicast() && !NON_GLOBAL_V4.iter().any(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_documentation_and_multicast_are_not_global() {
        for text in [
            "0.0.0.0",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.19.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!is_global_v4(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn neighbours_of_the_blocks_are_global() {
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.0.9",
            "192.0.0.10",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
        ] {
            assert!(is_global_v4(text.parse().unwrap()), "{text}");
        }
    }
}

//! Captured packets: which are wanted, how they are kept in a file, and what they are in a line for people.
use ipnet::IpNet;

use crate::facts::MacAddr;

mod line;
pub mod pcapng;

pub use line::line;

const ETHERNET_HEADER: usize = 14;
const VLAN: [u8; 2] = [0x81, 0x00];

/// Whose packets are wanted; everybody's where both are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Hardware addresses.
    pub macs: Vec<MacAddr>,
    /// Addresses and prefixes.
    pub nets: Vec<IpNet>,
}

impl Filter {
    /// Whether a packet comes from one of them or goes there.
    pub fn wants(&self, packet: &[u8], ethernet: bool) -> bool {
        if self.macs.is_empty() && self.nets.is_empty() {
            return true;
        }
        let mac = |at: usize| packet.get(at..at + 6).is_some_and(|bytes| self.macs.iter().any(|mac| mac.0 == bytes));
        if ethernet && (mac(0) || mac(6)) {
            return true;
        }
        let Some(ip) = network_packet(packet, ethernet) else { return false };
        let ends = ends(ip);
        ends.is_some_and(|ends| ends.iter().any(|end| self.nets.iter().any(|net| net.contains(end))))
    }
}

/// The packet behind an Ethernet header; nothing where it is neither IPv4 nor IPv6.
fn network_packet(packet: &[u8], ethernet: bool) -> Option<&[u8]> {
    let ip = match ethernet {
        false => packet,
        true => {
            let tagged = packet.get(12..14)? == VLAN;
            packet.get(ETHERNET_HEADER + if tagged { 4 } else { 0 }..)?
        }
    };
    matches!(ip.first()? >> 4, 4 | 6).then_some(ip)
}

/// Source and destination of an IP packet.
fn ends(ip: &[u8]) -> Option<[core::net::IpAddr; 2]> {
    if ip.first()? >> 4 == 6 {
        let address = |at: usize| ip.get(at..)?.first_chunk::<16>().copied();
        Some([address(8)?.into(), address(24)?.into()])
    } else {
        let address = |at: usize| ip.get(at..)?.first_chunk::<4>().copied();
        Some([address(12)?.into(), address(16)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ethernet frame with a UDP datagram in IPv6.
    pub(super) fn frame() -> Vec<u8> {
        let mut frame = vec![0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1, 0x86, 0xdd];
        frame.extend([0x60, 0, 0, 0, 0, 8, 17, 64]);
        for address in ["2001:db8::1", "2001:db8:0:1::2"] {
            frame.extend(address.parse::<core::net::Ipv6Addr>().unwrap().octets());
        }
        frame.extend([0x30, 0x39, 0, 53, 0, 8, 0, 0]);
        frame
    }

    #[test]
    fn packets_are_wanted_by_either_end() {
        let frame = frame();
        let wants = |filter: Filter| filter.wants(&frame, true);
        assert!(wants(Filter::default()));
        let mac = |last| Filter { macs: vec![MacAddr([0x52, 0x54, 0, 0, 0, last])], ..Filter::default() };
        assert!(wants(mac(1)) && wants(mac(2)) && !wants(mac(3)));
        let net = |net: &str| Filter { nets: vec![net.parse().unwrap()], ..Filter::default() };
        assert!(wants(net("2001:db8::1/128")) && wants(net("2001:db8:0:1::/64")) && !wants(net("2001:db8:0:2::/64")));
        assert!(net("2001:db8::1/128").wants(&frame[14..], false));
    }

    #[test]
    fn cut_packets_are_nobodys() {
        let frame = frame();
        let filter = Filter { nets: vec!["2001:db8::/32".parse().unwrap()], ..Filter::default() };
        for length in 0..30 {
            assert!(!filter.wants(&frame[..length], true), "cut to {length}");
        }
    }
}

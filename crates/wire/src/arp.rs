//! ARP for IPv4 over Ethernet: RFC 826, probes as in RFC 5227.
use core::net::Ipv4Addr;

use crate::mac::MacAddr;

/// Length of a packet.
pub const LENGTH: usize = 28;
const FIXED: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// A request or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Whether it is a request.
    pub request: bool,
    /// Who says it.
    pub sender: MacAddr,
    /// The address that it says to have; the unspecified one in a probe.
    pub sender_address: Ipv4Addr,
    /// The address that it is about.
    pub target_address: Ipv4Addr,
}

impl Arp {
    /// RFC 5227 section 1.1: asks who has an address without claiming it.
    pub const fn probe(sender: MacAddr, address: Ipv4Addr) -> Self {
        Self { request: true, sender, sender_address: Ipv4Addr::UNSPECIFIED, target_address: address }
    }

    /// RFC 5227 section 1.1: says that an address is taken from now on.
    pub const fn announcement(sender: MacAddr, address: Ipv4Addr) -> Self {
        Self { request: true, sender, sender_address: address, target_address: address }
    }

    /// Parses a packet; nothing where it is none of IPv4 over Ethernet.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<LENGTH>()?;
        let (fixed, rest) = bytes.split_first_chunk::<6>()?;
        let [0, operation @ (1 | 2), a, b, c, d, e, f, s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] = *rest else {
            return None;
        };
        (*fixed == FIXED).then_some(Self {
            request: operation == 1,
            sender: MacAddr([a, b, c, d, e, f]),
            sender_address: Ipv4Addr::new(s0, s1, s2, s3),
            target_address: Ipv4Addr::new(t0, t1, t2, t3),
        })
    }

    /// The packet's bytes; the target's hardware address is not known and zero.
    pub fn emit(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..6].copy_from_slice(&FIXED);
        bytes[7] = if self.request { 1 } else { 2 };
        bytes[8..14].copy_from_slice(&self.sender.0);
        bytes[14..18].copy_from_slice(&self.sender_address.octets());
        bytes[24..].copy_from_slice(&self.target_address.octets());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_has_the_bytes_of_the_rfc_and_is_read_back() {
        let probe = Arp::probe(MacAddr([2, 0, 0, 0, 0, 9]), Ipv4Addr::new(192, 0, 2, 7));
        let bytes = probe.emit();
        assert_eq!(bytes[..8], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(bytes[8..], [2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7]);
        assert_eq!(Arp::parse(&bytes), Some(probe));
        for at in [1, 3, 4, 6, 7] {
            let mut bad = bytes;
            bad[at] = 9;
            assert_eq!(Arp::parse(&bad), None, "byte {at}");
        }
        assert_eq!(Arp::parse(&bytes[..27]), None);
    }
}

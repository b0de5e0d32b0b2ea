//! The Identification of IPv4 packets that bring none along: RFC 7915 section 6, RFC 6864.
use core::net::Ipv4Addr;

use rand_core::Rng;
use siphasher::sip::SipHasher13;

/// Counters; flows that share one skip each other's values, which does no harm.
const COUNTERS: usize = 1024;

/// RFC 7915 section 6: one sequence per source, destination and protocol, so that values come back late (RFC 4963). It
/// begins anywhere, and where others are is not seen (RFC 7739).
#[derive(Debug)]
pub(crate) struct Identifications {
    key: (u64, u64),
    counters: Vec<u16>,
}

impl Identifications {
    pub(crate) fn new(random: &mut impl Rng) -> Self {
        let key = (random.next_u64(), random.next_u64());
        Self { key, counters: (0..COUNTERS).map(|_| random.next_u32() as u16).collect() }
    }

    /// The next value for a packet.
    pub(crate) fn next(&mut self, source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> u16 {
        self.take(source, destination, protocol, 1)
    }

    /// The first of `count` consecutive values, for what becomes that many packets on the wire.
    pub(crate) fn take(&mut self, source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, count: usize) -> u16 {
        let mut bytes = [0; 9];
        bytes[..4].copy_from_slice(&source.octets());
        bytes[4..8].copy_from_slice(&destination.octets());
        bytes[8] = protocol;
        let hash = SipHasher13::new_with_keys(self.key.0, self.key.1).hash(&bytes);
        let counter = &mut self.counters[hash as usize % COUNTERS];
        let next = counter.wrapping_add(1);
        *counter = counter.wrapping_add(count as u16);
        next
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn values_come_back_after_65536_packets_whatever_others_send() {
        let mut random = ChaCha8Rng::from_seed([1; 32]);
        let mut identifications = Identifications::new(&mut random);
        let [one, two, three] = [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]].map(Ipv4Addr::from);
        let values: BTreeSet<u16> = (0..=u16::MAX)
            .map(|_| {
                identifications.next(one, three, 17);
                identifications.next(one, two, 17)
            })
            .collect();
        assert_eq!(values.len(), 65_536);
        assert_ne!(identifications.next(one, two, 6), identifications.next(one, two, 17).wrapping_add(1));
    }
}

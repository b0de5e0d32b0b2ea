//! Port allocation: RFC 6146 section 3.5.1.1, random within the share (RFC 6056), parity kept where it can be.
use core::net::Ipv4Addr;
use core::ops::RangeInclusive;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::tuple::{Protocol, TransportV4, TransportV6};

/// 64 ports to a word.
const WORDS: usize = 1024;
/// RFC 6146 section 3.5.1.1: ports below are kept apart from those above.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// The addresses that stand for hosts inside, and our share of their ports and identifiers.
#[derive(Debug)]
pub(super) struct Pool {
    addresses: Vec<Address>,
    ports: RangeInclusive<u16>,
}

#[derive(Debug)]
struct Address {
    address: Ipv4Addr,
    /// A bit per port for each protocol.
    used: [Box<[u64; WORDS]>; 3],
}

impl Pool {
    pub(super) fn new(addresses: &[Ipv4Addr], ports: RangeInclusive<u16>) -> Self {
        let mut pool = Self { addresses: Vec::new(), ports: ports.clone() };
        pool.replace(addresses, ports);
        pool
    }

    /// Takes over other addresses and another share. What is allocated stays so on addresses that stay.
    pub(super) fn replace(&mut self, addresses: &[Ipv4Addr], ports: RangeInclusive<u16>) {
        let mut old = core::mem::take(&mut self.addresses);
        for address in addresses {
            let kept = old.iter().position(|old| old.address == *address).map(|position| old.swap_remove(position));
            let new = || Address { address: *address, used: core::array::from_fn(|_| Box::new([0; WORDS])) };
            self.addresses.push(kept.unwrap_or_else(new));
        }
        self.ports = ports;
    }

    /// Whether there is any address.
    pub(super) const fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// How many ports or identifiers there are of each protocol.
    pub(super) fn size(&self) -> u64 {
        self.addresses.len() as u64 * self.ports.len() as u64
    }

    /// Whether the address is one of ours.
    pub(super) fn contains(&self, address: Ipv4Addr) -> bool {
        self.addresses.iter().any(|ours| ours.address == address)
    }

    /// Whether the address is one of ours and the port is in our share.
    pub(super) fn owns(&self, transport: TransportV4) -> bool {
        self.ports.contains(&transport.port) && self.contains(transport.address)
    }

    /// Takes a free port or identifier for a client. RFC 4787 REQ-2: a client gets the same address as long as that
    /// has a free one.
    pub(super) fn allocate(
        &mut self,
        protocol: Protocol,
        client: TransportV6,
        random: &mut ChaCha8Rng,
    ) -> Option<TransportV4> {
        let count = self.addresses.len();
        let first = (client.address.to_bits() % count.max(1) as u128) as usize;
        let choices = choices(&self.ports, protocol, client.port);
        for turn in 0..count {
            let ours = &mut self.addresses[(first + turn) % count];
            let used = &mut ours.used[protocol as usize];
            for (range, mask) in choices.iter().flatten() {
                if let Some(port) = take(used, range, *mask, random) {
                    return Some(TransportV4 { address: ours.address, port });
                }
            }
        }
        None
    }

    /// Takes that very port or identifier; says whether it is ours and was free.
    pub(super) fn claim(&mut self, protocol: Protocol, mapped: TransportV4) -> bool {
        if !self.ports.contains(&mapped.port) {
            return false;
        }
        let Some(ours) = self.addresses.iter_mut().find(|ours| ours.address == mapped.address) else { return false };
        let word = &mut ours.used[protocol as usize][usize::from(mapped.port) / 64];
        let bit = 1 << (mapped.port % 64);
        let was_free = *word & bit == 0;
        *word |= bit;
        was_free
    }

    /// Keeps a port or identifier from being given to anybody, be it in our share or not.
    pub(super) fn reserve(&mut self, protocol: Protocol, mapped: TransportV4) {
        if let Some(ours) = self.addresses.iter_mut().find(|ours| ours.address == mapped.address) {
            ours.used[protocol as usize][usize::from(mapped.port) / 64] |= 1 << (mapped.port % 64);
        }
    }

    /// Gives a port or identifier back.
    pub(super) fn release(&mut self, protocol: Protocol, mapped: TransportV4) {
        if let Some(ours) = self.addresses.iter_mut().find(|ours| ours.address == mapped.address) {
            ours.used[protocol as usize][usize::from(mapped.port) / 64] &= !(1 << (mapped.port % 64));
        }
    }
}

/// Ranges of ports and the bits of each word that are wanted, best first.
fn choices(share: &RangeInclusive<u16>, protocol: Protocol, port: u16) -> [Option<(RangeInclusive<u16>, u64)>; 4] {
    const ALL: u64 = u64::MAX;
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let (start, end) = (*share.start(), *share.end());
    let low = (start < FIRST_UNPRIVILEGED).then(|| start..=end.min(FIRST_UNPRIVILEGED - 1));
    let high = (end >= FIRST_UNPRIVILEGED).then(|| start.max(FIRST_UNPRIVILEGED)..=end);
    let (near, far) = if port < FIRST_UNPRIVILEGED { (low, high) } else { (high, low) };
    let masks = match protocol {
        // RFC 4787 REQ-4: parity matters to RTP over UDP alone.
        Protocol::Udp => [Some(if port.is_multiple_of(2) { EVEN } else { !EVEN }), Some(ALL)],
        Protocol::Tcp | Protocol::Icmp => [Some(ALL), None],
    };
    let choice = |range: &Option<RangeInclusive<u16>>, mask: Option<u64>| Some((range.clone()?, mask?));
    [choice(&near, masks[0]), choice(&near, masks[1]), choice(&far, masks[0]), choice(&far, masks[1])]
}

/// The first free port at or after a random one, round the range.
fn take(used: &mut [u64; WORDS], range: &RangeInclusive<u16>, mask: u64, random: &mut ChaCha8Rng) -> Option<u16> {
    let (start, end) = (u32::from(*range.start()), u32::from(*range.end()));
    if start > end {
        return None;
    }
    let from = start + random.next_u32() % (end - start + 1);
    let port = free(used, from, end, mask).or_else(|| free(used, start, from, mask))?;
    used[usize::from(port) / 64] |= 1 << (port % 64);
    Some(port)
}

/// The first free port of `start..=end` whose bit is in `mask`.
fn free(used: &[u64; WORDS], start: u32, end: u32, mask: u64) -> Option<u16> {
    for word in start / 64..=end / 64 {
        let mut candidates = !used[word as usize] & mask;
        if word == start / 64 {
            candidates &= u64::MAX << (start % 64);
        }
        if word == end / 64 {
            candidates &= u64::MAX >> (63 - end % 64);
        }
        if candidates != 0 {
            return u16::try_from(word * 64 + candidates.trailing_zeros()).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use std::collections::BTreeSet;

    const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const TWO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    fn client(port: u16) -> TransportV6 {
        TransportV6 { address: "2001:db8::1".parse().unwrap(), port }
    }

    fn random() -> ChaCha8Rng {
        ChaCha8Rng::from_seed([7; 32])
    }

    #[test]
    fn every_port_of_the_share_is_given_once_and_none_outside() {
        let mut pool = Pool::new(&[ONE], 40_000..=40_199);
        let mut random = random();
        let ports: BTreeSet<u16> =
            (0..200).map(|port| pool.allocate(Protocol::Udp, client(port + 5000), &mut random).unwrap().port).collect();
        assert_eq!(ports, (40_000..=40_199).collect());
        assert_eq!(pool.allocate(Protocol::Udp, client(1), &mut random), None);
        assert!(pool.allocate(Protocol::Tcp, client(1), &mut random).is_some(), "protocols do not share");
        pool.release(Protocol::Udp, TransportV4 { address: ONE, port: 40_123 });
        assert_eq!(pool.allocate(Protocol::Udp, client(2), &mut random).unwrap().port, 40_123);
    }

    /// RFC 4787 REQ-4.
    #[test]
    fn udp_parity_is_kept_while_it_can_be() {
        let mut pool = Pool::new(&[ONE], 40_001..=40_100);
        let mut random = random();
        for _ in 0..50 {
            assert_eq!(pool.allocate(Protocol::Udp, client(5002), &mut random).unwrap().port % 2, 0);
        }
        assert_eq!(pool.allocate(Protocol::Udp, client(5002), &mut random).unwrap().port % 2, 1);
    }

    /// RFC 6146 section 3.5.1.1.
    #[test]
    fn low_ports_stay_low_while_they_can() {
        let mut pool = Pool::new(&[ONE], 1000..=2000);
        let mut random = random();
        for _ in 0..24 {
            assert!(pool.allocate(Protocol::Tcp, client(22), &mut random).unwrap().port < 1024);
        }
        assert!(pool.allocate(Protocol::Tcp, client(22), &mut random).unwrap().port >= 1024);
    }

    /// RFC 6056: an observer of one port does not know the next.
    #[test]
    fn ports_are_scattered_over_the_share() {
        let mut pool = Pool::new(&[ONE], 40_960..=65_535);
        let mut random = random();
        let ports: Vec<u16> =
            (0..100).map(|_| pool.allocate(Protocol::Tcp, client(5000), &mut random).unwrap().port).collect();
        let quarters: BTreeSet<u16> = ports.iter().map(|port| (port - 40_960) / 6144).collect();
        assert_eq!(quarters.len(), 4);
        assert!(ports.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() < 3);
    }

    #[test]
    fn a_port_is_claimed_once_and_not_given_to_others() {
        let mut pool = Pool::new(&[ONE], 40_000..=40_001);
        let at = |address, port| TransportV4 { address, port };
        assert!(pool.claim(Protocol::Tcp, at(ONE, 40_000)));
        assert!(!pool.claim(Protocol::Tcp, at(ONE, 40_000)));
        assert!(!pool.claim(Protocol::Tcp, at(ONE, 40_002)));
        assert!(!pool.claim(Protocol::Tcp, at(TWO, 40_000)));
        assert_eq!(pool.allocate(Protocol::Tcp, client(1), &mut random()).unwrap().port, 40_001);
    }

    /// RFC 4787 REQ-2.
    #[test]
    fn a_client_keeps_its_address_until_that_is_full() {
        let mut pool = Pool::new(&[ONE, TWO], 40_000..=40_009);
        let mut random = random();
        let mut addresses = || pool.allocate(Protocol::Tcp, client(5000), &mut random).map(|mapped| mapped.address);
        let first = addresses().unwrap();
        for _ in 1..10 {
            assert_eq!(addresses(), Some(first));
        }
        assert_ne!(addresses(), Some(first));
    }

    #[test]
    fn allocations_survive_a_replacement_of_other_addresses() {
        let mut pool = Pool::new(&[ONE], 40_000..=40_000);
        let mut random = random();
        pool.allocate(Protocol::Tcp, client(5000), &mut random).unwrap();
        pool.replace(&[TWO, ONE], 40_000..=40_000);
        assert_eq!(pool.allocate(Protocol::Tcp, client(5000), &mut random).unwrap().address, TWO);
        assert_eq!(pool.allocate(Protocol::Tcp, client(5000), &mut random), None);
        pool.replace(&[], 40_000..=40_000);
        assert!(pool.is_empty());
        assert_eq!(pool.allocate(Protocol::Tcp, client(5000), &mut random), None);
    }
}

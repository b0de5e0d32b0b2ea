//! Port allocation: RFC 6146 section 3.5.1.1, random within the share (RFC 6056), parity kept where it can be.
use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::keyed::Keyed;
use super::tuple::{Protocol, TransportV4, TransportV6};

/// 64 ports to a word.
const WORDS: usize = 1024;
/// RFC 6146 section 3.5.1.1: ports below are kept apart from those above.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// So many addresses are looked through one by one; where there are more, they are found by their hash.
const FEW: usize = 8;

/// The addresses that stand for hosts inside, and our share of their ports and identifiers.
#[derive(Debug)]
pub(super) struct Pool {
    addresses: Vec<Address>,
    /// Where an address stands in the list; empty while there are few.
    places: HashMap<Ipv4Addr, usize, Keyed>,
    /// Ports or identifiers that are left, of each protocol.
    free: [u64; 3],
}

#[derive(Debug)]
struct Address {
    address: Ipv4Addr,
    /// Our share.
    ports: RangeInclusive<u16>,
    /// A bit per port for each protocol; none is used where there is no list yet.
    used: [Option<Box<[u64; WORDS]>>; 3],
    /// Ports of the share that are left.
    free: [u32; 3],
}

impl Pool {
    pub(super) fn new(keyed: Keyed, shares: impl Iterator<Item = (Ipv4Addr, RangeInclusive<u16>)>) -> Self {
        let mut pool = Self { addresses: Vec::new(), places: HashMap::with_hasher(keyed), free: [0; 3] };
        pool.replace(shares);
        pool
    }

    /// Takes over other addresses and other shares. What is allocated stays so on addresses that stay.
    pub(super) fn replace(&mut self, shares: impl Iterator<Item = (Ipv4Addr, RangeInclusive<u16>)>) {
        let mut old: HashMap<Ipv4Addr, Address> =
            self.addresses.drain(..).map(|address| (address.address, address)).collect();
        for (address, ports) in shares {
            let used = old.remove(&address).map_or([const { None }; 3], |old| old.used);
            let ours = Address::new(address, ports, used);
            self.addresses.push(ours);
        }
        let many = self.addresses.len() > FEW;
        self.places.clear();
        self.places
            .extend(self.addresses.iter().enumerate().filter(|_| many).map(|(place, ours)| (ours.address, place)));
        self.free = core::array::from_fn(|protocol| self.addresses.iter().map(|it| u64::from(it.free[protocol])).sum());
    }

    /// Whether there is any address.
    pub(super) const fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// How many ports or identifiers are left.
    pub(super) const fn free(&self, protocol: Protocol) -> u64 {
        self.free[protocol as usize]
    }

    /// Whether the address is one of ours.
    pub(super) fn contains(&self, address: Ipv4Addr) -> bool {
        self.place(address).is_some()
    }

    /// Whether the address is one of ours and the port is in our share.
    pub(super) fn owns(&self, transport: TransportV4) -> bool {
        self.place(transport.address).is_some_and(|place| self.addresses[place].ports.contains(&transport.port))
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
        for turn in 0..count {
            let place = (first + turn) % count;
            if let Some(port) = self.addresses[place].allocate(protocol, client.port, random) {
                self.free[protocol as usize] -= 1;
                return Some(TransportV4 { address: self.addresses[place].address, port });
            }
        }
        None
    }

    /// Takes that very port or identifier; says whether it is ours and was free.
    pub(super) fn claim(&mut self, protocol: Protocol, mapped: TransportV4) -> bool {
        self.owns(mapped) && self.reserve(protocol, mapped)
    }

    /// Keeps a port or identifier from being given to anybody, be it in our share or not; says whether it was free.
    pub(super) fn reserve(&mut self, protocol: Protocol, mapped: TransportV4) -> bool {
        let Some(place) = self.place(mapped.address) else { return false };
        let ours = &mut self.addresses[place];
        let was_free = ours.mark(protocol, mapped.port);
        if was_free && ours.ports.contains(&mapped.port) {
            ours.free[protocol as usize] -= 1;
            self.free[protocol as usize] -= 1;
        }
        was_free
    }

    /// Gives a port or identifier back.
    pub(super) fn release(&mut self, protocol: Protocol, mapped: TransportV4) {
        let Some(place) = self.place(mapped.address) else { return };
        let ours = &mut self.addresses[place];
        if ours.unmark(protocol, mapped.port) && ours.ports.contains(&mapped.port) {
            ours.free[protocol as usize] += 1;
            self.free[protocol as usize] += 1;
        }
    }

    fn place(&self, address: Ipv4Addr) -> Option<usize> {
        if self.addresses.len() > FEW {
            return self.places.get(&address).copied();
        }
        self.addresses.iter().position(|ours| ours.address == address)
    }
}

impl Address {
    /// An address with a share, and what of its ports is used.
    fn new(address: Ipv4Addr, ports: RangeInclusive<u16>, used: [Option<Box<[u64; WORDS]>>; 3]) -> Self {
        let (start, end) = (u32::from(*ports.start()), u32::from(*ports.end()));
        let free = core::array::from_fn(|protocol| {
            let size = (end + 1).saturating_sub(start);
            size - used[protocol].as_ref().map_or(0, |used| count(used, start, end))
        });
        Self { address, ports, used, free }
    }

    /// A free port of the share, as like the client's own as there is one.
    fn allocate(&mut self, protocol: Protocol, port: u16, random: &mut ChaCha8Rng) -> Option<u16> {
        if self.free[protocol as usize] == 0 {
            return None;
        }
        let used = self.used[protocol as usize].get_or_insert_with(|| Box::new([0; WORDS]));
        let choices = choices(&self.ports, protocol, port);
        let port = choices.iter().flatten().find_map(|(range, mask)| take(used, range, *mask, random))?;
        self.free[protocol as usize] -= 1;
        Some(port)
    }

    /// Marks a port as used; says whether it was not.
    fn mark(&mut self, protocol: Protocol, port: u16) -> bool {
        let used = self.used[protocol as usize].get_or_insert_with(|| Box::new([0; WORDS]));
        let (word, bit) = (&mut used[usize::from(port) / 64], 1 << (port % 64));
        let was_free = *word & bit == 0;
        *word |= bit;
        was_free
    }

    /// Marks a port as free; says whether it was not.
    fn unmark(&mut self, protocol: Protocol, port: u16) -> bool {
        let Some(used) = &mut self.used[protocol as usize] else { return false };
        let (word, bit) = (&mut used[usize::from(port) / 64], 1 << (port % 64));
        let was_used = *word & bit != 0;
        *word &= !bit;
        was_used
    }
}

/// How many ports of `start..=end` are used.
fn count(used: &[u64; WORDS], start: u32, end: u32) -> u32 {
    (start / 64..=end / 64).map(|word| (used[word as usize] & within(word, start, end)).count_ones()).sum()
}

/// The bits of a word that lie in `start..=end`.
const fn within(word: u32, start: u32, end: u32) -> u64 {
    let mut bits = u64::MAX;
    if word == start / 64 {
        bits &= u64::MAX << (start % 64);
    }
    if word == end / 64 {
        bits &= u64::MAX >> (63 - end % 64);
    }
    bits
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
        let candidates = !used[word as usize] & mask & within(word, start, end);
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

    fn pool(addresses: &[Ipv4Addr], ports: RangeInclusive<u16>) -> Pool {
        Pool::new(Keyed::new((1, 2)), shares(addresses, &ports))
    }

    fn shares(
        addresses: &[Ipv4Addr],
        ports: &RangeInclusive<u16>,
    ) -> impl Iterator<Item = (Ipv4Addr, RangeInclusive<u16>)> {
        addresses.iter().map(|address| (*address, ports.clone()))
    }

    fn random() -> ChaCha8Rng {
        ChaCha8Rng::from_seed([7; 32])
    }

    #[test]
    fn every_port_of_the_share_is_given_once_and_none_outside() {
        let mut pool = pool(&[ONE], 40_000..=40_199);
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
        let mut pool = pool(&[ONE], 40_001..=40_100);
        let mut random = random();
        for _ in 0..50 {
            assert_eq!(pool.allocate(Protocol::Udp, client(5002), &mut random).unwrap().port % 2, 0);
        }
        assert_eq!(pool.allocate(Protocol::Udp, client(5002), &mut random).unwrap().port % 2, 1);
    }

    /// RFC 6146 section 3.5.1.1.
    #[test]
    fn low_ports_stay_low_while_they_can() {
        let mut pool = pool(&[ONE], 1000..=2000);
        let mut random = random();
        for _ in 0..24 {
            assert!(pool.allocate(Protocol::Tcp, client(22), &mut random).unwrap().port < 1024);
        }
        assert!(pool.allocate(Protocol::Tcp, client(22), &mut random).unwrap().port >= 1024);
    }

    /// RFC 6056: an observer of one port does not know the next.
    #[test]
    fn ports_are_scattered_over_the_share() {
        let mut pool = pool(&[ONE], 40_960..=65_535);
        let mut random = random();
        let ports: Vec<u16> =
            (0..100).map(|_| pool.allocate(Protocol::Tcp, client(5000), &mut random).unwrap().port).collect();
        let quarters: BTreeSet<u16> = ports.iter().map(|port| (port - 40_960) / 6144).collect();
        assert_eq!(quarters.len(), 4);
        assert!(ports.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() < 3);
    }

    #[test]
    fn a_port_is_claimed_once_and_not_given_to_others() {
        let mut pool = pool(&[ONE], 40_000..=40_001);
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
        let mut pool = pool(&[ONE, TWO], 40_000..=40_009);
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
        let mut pool = pool(&[ONE], 40_000..=40_000);
        let mut random = random();
        pool.allocate(Protocol::Tcp, client(5000), &mut random).unwrap();
        pool.replace(shares(&[TWO, ONE], &(40_000..=40_000)));
        assert_eq!(pool.allocate(Protocol::Tcp, client(5000), &mut random).unwrap().address, TWO);
        assert_eq!(pool.allocate(Protocol::Tcp, client(5000), &mut random), None);
        pool.replace(shares(&[], &(40_000..=40_000)));
        assert!(pool.is_empty());
        assert_eq!(pool.allocate(Protocol::Tcp, client(5000), &mut random), None);
    }
}

//! Port allocation: RFC 6146 section 3.5.1.1, random within the share (RFC 6056), parity kept where it can be.
use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use std::collections::{HashMap, HashSet};

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::block::{self, Assigned, Blocks, Row};
use super::hold::{Held, Hold};
use super::keyed::Keyed;
use super::quota::Client;
use super::tuple::{Protocol, TransportV4, TransportV6};
use super::verdict::Reason;
use crate::status;
use crate::time::{Duration, Instant};

/// 64 ports to a word.
const WORDS: usize = 1024;
/// RFC 6146 section 3.5.1.1: ports below are kept apart from those above.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// So many addresses are looked through one by one; where there are more, they are found by their hash.
const FEW: usize = 8;

/// Who asks for a port or identifier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) protocol: Protocol,
    pub(super) client: TransportV6,
    /// Who has the block.
    pub(super) owner: Client,
    /// RFC 4787 REQ-2: the address that the client has already.
    pub(super) home: Option<Ipv4Addr>,
}

/// The addresses that stand for hosts inside, and our share of their ports and identifiers.
#[derive(Debug)]
pub(super) struct Pool {
    addresses: Vec<Address>,
    /// Where an address stands in the list; empty while there are few.
    places: HashMap<Ipv4Addr, usize, Keyed>,
    /// Ports or identifiers that are left, of each protocol.
    free: [u64; 3],
    hold: Hold,
    blocks: Blocks,
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
    row: Row,
}

impl Pool {
    /// An empty pool.
    pub(super) fn new(keyed: Keyed) -> Self {
        let places = HashMap::with_hasher(keyed);
        Self { addresses: Vec::new(), places, free: [0; 3], hold: Hold::default(), blocks: Blocks::new(keyed) }
    }

    /// Takes over for how long ports are held back, and how many at most.
    pub(super) const fn hold_back(&mut self, time: Duration, most: u32) {
        self.hold.set(time, most);
    }

    /// Takes over other addresses and other shares, in blocks of `block` ports if that is not zero. What is allocated stays
    /// so on addresses that stay; who has which block is to be [told](Self::adopt) anew.
    pub(super) fn replace(&mut self, shares: impl Iterator<Item = (Ipv4Addr, RangeInclusive<u16>)>, block: u16) {
        let mut old: HashMap<Ipv4Addr, Address> =
            self.addresses.drain(..).map(|address| (address.address, address)).collect();
        self.blocks.reset(block);
        for (address, share) in shares {
            let used = old.remove(&address).map_or([const { None }; 3], |old| old.used);
            let (row, share) = if self.blocks.are_on() { self.blocks.row(&share) } else { (Row::default(), share) };
            self.addresses.push(Address::new(address, share, used, row));
        }
        let many = self.addresses.len() > FEW;
        self.places.clear();
        self.places
            .extend(self.addresses.iter().enumerate().filter(|_| many).map(|(place, ours)| (ours.address, place)));
        self.free = core::array::from_fn(|protocol| self.addresses.iter().map(|it| u64::from(it.free[protocol])).sum());
        let Self { addresses, hold, blocks, .. } = self;
        hold.retain(|held| {
            addresses.iter().any(|ours| ours.address == held.address)
                && (held.protocol.is_some() || held.count == blocks.size())
        });
        for (_, held) in hold.iter().filter(|(_, held)| held.protocol.is_none()) {
            if let Some(ours) = addresses.iter_mut().find(|ours| ours.address == held.address)
                && let Some(index) = ours.block(held.port, blocks.size())
            {
                blocks.keep(index, &mut ours.row);
            }
        }
    }

    /// A port that is allocated already belongs to that client: says whether its block is, or can be, the client's.
    pub(super) fn adopt(&mut self, mapped: TransportV4, owner: Client) -> bool {
        if !self.blocks.are_on() {
            return true;
        }
        let Some(position) = self.block(mapped) else { return false };
        let row = &mut self.addresses[position.place].row;
        let is_its_own = self.blocks.claim(owner, position, row);
        // Also if it is another's: this port is counted until it is released.
        row.count(position.index);
        is_its_own
    }

    /// All blocks that somebody has.
    pub(super) fn assigned(&self) -> HashSet<Assigned> {
        let count = self.blocks.size();
        let assigned = self.blocks.iter().map(|(client, position)| {
            let ours = &self.addresses[position.place];
            Assigned { client, address: ours.address, port: ours.first(position.index, count), count }
        });
        assigned.collect()
    }

    /// Whether there is any address.
    pub(super) const fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// How many ports or identifiers are left.
    pub(super) const fn free(&self, protocol: Protocol) -> u64 {
        self.free[protocol as usize]
    }

    /// What the console shows.
    pub(super) fn status(&self) -> status::Nat64Pool {
        let [tcp, udp, icmp] = self.free;
        status::Nat64Pool {
            addresses: self.addresses.len() as u64,
            free: status::Sessions { tcp, udp, icmp },
            held: self.hold.ports(),
            block: self.blocks.size(),
            blocks: self.blocks.counts(),
        }
    }

    /// Whether the address is one of ours.
    pub(super) fn contains(&self, address: Ipv4Addr) -> bool {
        self.place(address).is_some()
    }

    /// Whether the address is one of ours and the port is in our share.
    pub(super) fn owns(&self, transport: TransportV4) -> bool {
        self.place(transport.address).is_some_and(|place| self.addresses[place].ports.contains(&transport.port))
    }

    /// Takes a free port or identifier for a client, and a block where it needs another one.
    pub(super) fn allocate(
        &mut self,
        ask: Ask,
        random: &mut ChaCha8Rng,
        now: Instant,
    ) -> Result<(TransportV4, Option<Assigned>), Reason> {
        self.expire(now);
        if self.blocks.are_on() {
            return self.allocate_in_block(ask, random, now);
        }
        for place in self.order(ask, random) {
            if let Some(mapped) = self.take(place, ask, None, random) {
                return Ok((mapped, None));
            }
        }
        Err(Reason::PoolExhausted)
    }

    fn allocate_in_block(
        &mut self,
        ask: Ask,
        random: &mut ChaCha8Rng,
        now: Instant,
    ) -> Result<(TransportV4, Option<Assigned>), Reason> {
        for has in 0..self.blocks.of(ask.owner).len() {
            let position = self.blocks.of(ask.owner)[has];
            if let Some(mapped) = self.take(position.place, ask, Some(position.index), random) {
                return Ok((mapped, None));
            }
        }
        if self.blocks.are_out() {
            return Err(Reason::PoolExhausted);
        }
        if !self.blocks.is_fair(ask.owner) {
            return Err(Reason::ClientBindingLimit);
        }
        let home = self.blocks.of(ask.owner).first().map(|first| self.addresses[first.place].address);
        for place in self.order(Ask { home: ask.home.or(home), ..ask }, random) {
            let ours = &mut self.addresses[place];
            let Some(index) = self.blocks.assign(ask.owner, place, &mut ours.row, random.next_u32()) else { continue };
            let (port, count) = (ours.first(index, self.blocks.size()), self.blocks.size());
            let assigned = Assigned { client: ask.owner, address: ours.address, port, count };
            if let Some(mapped) = self.take(place, ask, Some(index), random) {
                return Ok((mapped, Some(assigned)));
            }
            // All of it is published.
            self.rest(place, index, now);
        }
        Err(Reason::PoolExhausted)
    }

    /// Addresses in the order in which they are tried: the client's own, or the emptier one of two.
    fn order(&self, ask: Ask, random: &mut ChaCha8Rng) -> impl Iterator<Item = usize> + use<> {
        let count = self.addresses.len();
        let first = ask.home.and_then(|home| self.place(home)).unwrap_or_else(|| match count {
            0 | 1 => 0,
            _ => {
                let one = random.next_u32() as usize % count;
                let other = (one + 1 + random.next_u32() as usize % (count - 1)) % count;
                let left = |place: usize| {
                    let ours = &self.addresses[place];
                    if self.blocks.are_on() { ours.row.free() } else { ours.free[ask.protocol as usize] as usize }
                };
                if left(other) > left(one) { other } else { one }
            }
        });
        (0..count).map(move |turn| (first + turn) % count)
    }

    fn take(&mut self, place: usize, ask: Ask, block: Option<u16>, random: &mut ChaCha8Rng) -> Option<TransportV4> {
        let ours = &mut self.addresses[place];
        let within = match block {
            None => ours.ports.clone(),
            Some(index) => {
                let first = ours.first(index, self.blocks.size());
                first..=first + (self.blocks.size() - 1)
            }
        };
        let port = ours.allocate(ask.protocol, ask.client.port, &within, random)?;
        if let Some(index) = block {
            ours.row.count(index);
        }
        self.free[ask.protocol as usize] -= 1;
        Some(TransportV4 { address: ours.address, port })
    }

    /// Takes that very port or identifier; says whether it is ours and was free.
    pub(super) fn claim(&mut self, protocol: Protocol, mapped: TransportV4, owner: Client) -> bool {
        if !self.owns(mapped) {
            return false;
        }
        if !self.blocks.are_on() {
            return self.reserve(protocol, mapped);
        }
        let Some(position) = self.block(mapped).filter(|_| !self.is_used(protocol, mapped)) else { return false };
        self.blocks.claim(owner, position, &mut self.addresses[position.place].row) && {
            self.addresses[position.place].row.count(position.index);
            self.reserve(protocol, mapped)
        }
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

    /// Gives back what was [reserved](Self::reserve).
    pub(super) fn unreserve(&mut self, protocol: Protocol, mapped: TransportV4) {
        let Some(place) = self.place(mapped.address) else { return };
        let ours = &mut self.addresses[place];
        if ours.unmark(protocol, mapped.port) && ours.ports.contains(&mapped.port) {
            ours.free[protocol as usize] += 1;
            self.free[protocol as usize] += 1;
        }
    }

    /// Gives back a client's port or identifier; returns its block if that was the last of it.
    pub(super) fn release(&mut self, protocol: Protocol, mapped: TransportV4, now: Instant) -> Option<Assigned> {
        let place = self.place(mapped.address)?;
        if self.blocks.are_on() {
            self.unreserve(protocol, mapped);
            return self.release_in_block(place, mapped, now);
        }
        if self.hold.applies(protocol) {
            let TransportV4 { address, port } = mapped;
            self.hold.push(Held { address, protocol: Some(protocol), port, count: 1 }, now);
            self.expire(now);
        } else {
            self.unreserve(protocol, mapped);
        }
        None
    }

    /// RFC 6888 REQ-8: the ports of a block stay with its client, so the block is what is held back.
    fn release_in_block(&mut self, place: usize, mapped: TransportV4, now: Instant) -> Option<Assigned> {
        let count = self.blocks.size();
        let ours = &mut self.addresses[place];
        let index = ours.block(mapped.port, count)?;
        let client = self.blocks.release(block::Position { place, index }, &mut ours.row)?;
        let released = Assigned { client, address: mapped.address, port: ours.first(index, count), count };
        self.rest(place, index, now);
        Some(released)
    }

    /// Nobody has this block any more, and nobody gets it for a while.
    fn rest(&mut self, place: usize, index: u16, now: Instant) {
        let count = self.blocks.size();
        let ours = &self.addresses[place];
        self.hold.push(Held { address: ours.address, protocol: None, port: ours.first(index, count), count }, now);
        self.expire(now);
    }

    /// What is held back, and since when.
    pub(super) fn held(&self) -> impl Iterator<Item = &(Instant, Held)> {
        self.hold.iter()
    }

    /// Holds back what a former daemon held back since then, if nobody has it; those that waited longest come first.
    pub(super) fn hold_again(&mut self, since: Instant, held: Held) {
        let Held { address, protocol, port, .. } = held;
        let mapped = TransportV4 { address, port };
        let is_held = match protocol {
            Some(protocol) => {
                !self.blocks.are_on()
                    && self.hold.applies(protocol)
                    && self.owns(mapped)
                    && self.reserve(protocol, mapped)
            }
            None => {
                let fits = self.blocks.are_on() && held.count == self.blocks.size();
                self.block(mapped).filter(|_| fits).is_some_and(|block::Position { place, index }| {
                    let ours = &mut self.addresses[place];
                    ours.first(index, held.count) == port && self.blocks.keep(index, &mut ours.row)
                })
            }
        };
        if is_held {
            self.hold.push(held, since);
        }
    }

    /// Frees what was held back long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(Held { address, protocol, port, .. }) = self.hold.pop(now) {
            match protocol {
                Some(protocol) => self.unreserve(protocol, TransportV4 { address, port }),
                None => {
                    let Some(place) = self.place(address) else { continue };
                    let ours = &mut self.addresses[place];
                    if let Some(index) = ours.block(port, self.blocks.size()) {
                        self.blocks.free(index, &mut ours.row);
                    }
                }
            }
        }
    }

    fn block(&self, mapped: TransportV4) -> Option<block::Position> {
        let place = self.place(mapped.address)?;
        let index = self.addresses[place].block(mapped.port, self.blocks.size())?;
        Some(block::Position { place, index })
    }

    fn is_used(&self, protocol: Protocol, mapped: TransportV4) -> bool {
        self.place(mapped.address).is_some_and(|place| self.addresses[place].is_used(protocol, mapped.port))
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
    fn new(address: Ipv4Addr, ports: RangeInclusive<u16>, used: [Option<Box<[u64; WORDS]>>; 3], row: Row) -> Self {
        let (start, end) = (u32::from(*ports.start()), u32::from(*ports.end()));
        let free = core::array::from_fn(|protocol| {
            let size = (end + 1).saturating_sub(start);
            size - used[protocol].as_ref().map_or(0, |used| count(used, start, end))
        });
        Self { address, ports, used, free, row }
    }

    /// The first port of a block.
    fn first(&self, index: u16, size: u16) -> u16 {
        self.ports.start() + index * size
    }

    /// The block that a port lies in.
    fn block(&self, port: u16, size: u16) -> Option<u16> {
        self.ports.contains(&port).then(|| (port - self.ports.start()) / size)
    }

    /// A free port within a part of the share, as like the client's own as there is one.
    fn allocate(
        &mut self,
        protocol: Protocol,
        port: u16,
        within: &RangeInclusive<u16>,
        random: &mut ChaCha8Rng,
    ) -> Option<u16> {
        if self.free[protocol as usize] == 0 {
            return None;
        }
        let used = self.used[protocol as usize].get_or_insert_with(|| Box::new([0; WORDS]));
        let choices = choices(within, protocol, port);
        let port = choices.iter().flatten().find_map(|(range, mask)| take(used, range, *mask, random))?;
        self.free[protocol as usize] -= 1;
        Some(port)
    }

    fn is_used(&self, protocol: Protocol, port: u16) -> bool {
        let used = self.used[protocol as usize].as_ref();
        used.is_some_and(|used| used[usize::from(port) / 64] & 1 << (port % 64) != 0)
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
mod tests;

//! Stored SYNs: RFC 6146 section 3.5.2.2, RFC 5382 REQ-4. A SYN from IPv4 that the filter refuses may be half of a
//! simultaneous open, so it waits for the other half before its sender is told anything.
use core::net::Ipv4Addr;
use std::collections::{HashMap, VecDeque};

use sixgate_wire::ipv4::{self, Ipv4Header, Ipv4Packet};

use super::keyed::Keyed;
use super::tuple::{TransportV4, TupleV4};
use super::verdict::Reason;
use crate::time::{Duration, Instant};

/// RFC 6146 section 5.3: SYNs that may wait.
pub(super) const MAX_SYNS: usize = 1024;
/// Of one sender, so that none fills the store alone.
pub(super) const MAX_SYNS_OF_SOURCE: u32 = 32;
/// Bytes that may wait.
pub(super) const MAX_BYTES: usize = 128 << 10;
/// What the ICMP error will quote at most.
const QUOTED: usize = ipv4::MINIMUM_REASSEMBLY - ipv4::HEADER - 8;

/// Where a SYN goes and where it comes from: a V4 INIT session whose IPv6 end is not settled.
type Key = (TransportV4, TransportV4);

/// A SYN that waits.
#[derive(Debug)]
pub(super) struct StoredSyn {
    /// The beginning of the packet, for the ICMP error.
    pub(super) quote: Vec<u8>,
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    /// Why it did not pass.
    pub(super) reason: Reason,
    since: Instant,
    serial: u64,
}

/// SYNs in the order in which they came.
#[derive(Debug)]
pub(super) struct StoredSyns {
    syns: HashMap<Key, StoredSyn, Keyed>,
    sources: HashMap<Ipv4Addr, u32, Keyed>,
    order: VecDeque<(u64, Key)>,
    serial: u64,
    bytes: usize,
}

impl StoredSyns {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self {
            syns: HashMap::with_hasher(keyed),
            sources: HashMap::with_hasher(keyed),
            order: VecDeque::new(),
            serial: 0,
            bytes: 0,
        }
    }

    /// Stores a SYN that `reason` keeps from passing. A repeated one changes nothing: the first one's time counts.
    pub(super) fn insert(
        &mut self,
        tuple: &TupleV4,
        packet: &Ipv4Packet<'_>,
        reason: Reason,
        now: Instant,
    ) -> Result<(), Reason> {
        let key = (tuple.mapped, tuple.server);
        if self.syns.contains_key(&key) {
            return Ok(());
        }
        let quote = quote(packet);
        let of_source = self.sources.get(&packet.source()).copied().unwrap_or(0);
        let is_full = self.syns.len() >= MAX_SYNS || self.bytes + quote.len() > MAX_BYTES;
        if is_full || of_source >= MAX_SYNS_OF_SOURCE {
            return Err(Reason::IncomingSynLimit);
        }
        if self.order.len() >= 2 * MAX_SYNS {
            let syns = &self.syns;
            self.order.retain(|(serial, key)| syns.get(key).is_some_and(|syn| syn.serial == *serial));
        }
        self.serial += 1;
        self.bytes += quote.len();
        self.sources.insert(packet.source(), of_source + 1);
        self.order.push_back((self.serial, key));
        let (source, destination) = (packet.source(), packet.destination());
        self.syns.insert(key, StoredSyn { quote, source, destination, reason, since: now, serial: self.serial });
        Ok(())
    }

    /// Takes back the SYN of a connection that opens after all; says whether there was one.
    pub(super) fn take(&mut self, mapped: TransportV4, server: TransportV4) -> bool {
        // Most of the time nothing waits.
        !self.syns.is_empty() && self.remove(&(mapped, server)).is_some()
    }

    /// A SYN that has waited for `lifetime`.
    pub(super) fn expired(&mut self, lifetime: Duration, now: Instant) -> Option<StoredSyn> {
        while let Some((serial, key)) = self.order.front().copied() {
            if let Some(syn) = self.live(serial, &key) {
                if syn.since + lifetime > now {
                    return None;
                }
                self.order.pop_front();
                return self.remove(&key);
            }
            self.order.pop_front();
        }
        None
    }

    /// When [`Self::expired`] has one next.
    pub(super) fn next_expiry(&self, lifetime: Duration) -> Option<Instant> {
        let oldest = self.order.iter().find_map(|(serial, key)| self.live(*serial, key));
        oldest.map(|syn| syn.since + lifetime)
    }

    /// Forgets the SYNs to addresses that are no longer ours.
    pub(super) fn retain(&mut self, is_ours: impl Fn(TransportV4) -> bool) {
        let gone: Vec<Key> = self.syns.keys().filter(|(mapped, _)| !is_ours(*mapped)).copied().collect();
        for key in gone {
            self.remove(&key);
        }
    }

    fn live(&self, serial: u64, key: &Key) -> Option<&StoredSyn> {
        self.syns.get(key).filter(|syn| syn.serial == serial)
    }

    fn remove(&mut self, key: &Key) -> Option<StoredSyn> {
        let syn = self.syns.remove(key)?;
        self.bytes -= syn.quote.len();
        if let Some(count) = self.sources.get_mut(&syn.source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&syn.source);
            }
        }
        Some(syn)
    }
}

/// What an error about the packet says of it, IPv4 options left out.
fn quote(packet: &Ipv4Packet<'_>) -> Vec<u8> {
    let upper = packet.upper();
    let header = Ipv4Header {
        tos: packet.tos(),
        total_length: (ipv4::HEADER + upper.len()) as u16,
        identification: packet.identification(),
        dont_fragment: packet.dont_fragment(),
        more_fragments: false,
        fragment_offset: 0,
        ttl: packet.ttl(),
        protocol: packet.protocol(),
        source: packet.source(),
        destination: packet.destination(),
    };
    let mut quote = header.emit().to_vec();
    quote.extend_from_slice(&upper[..upper.len().min(QUOTED - ipv4::HEADER)]);
    quote
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat64::tuple::Protocol;

    const LIFETIME: Duration = Duration::from_secs(6);

    fn transport(address: [u8; 4], port: u16) -> TransportV4 {
        TransportV4 { address: address.into(), port }
    }

    fn store(syns: &mut StoredSyns, server: [u8; 4], port: u16, now: Instant) -> Result<(), Reason> {
        let mut header = Ipv4Header {
            tos: 0,
            total_length: 1040,
            identification: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 64,
            protocol: 6,
            source: server.into(),
            destination: [198, 51, 100, 1].into(),
        }
        .emit()
        .to_vec();
        header.resize(1040, 0);
        let packet = Ipv4Packet::parse(&header).unwrap();
        let (mapped, server) = (transport([198, 51, 100, 1], 40_000), transport(server, port));
        syns.insert(&TupleV4 { protocol: Protocol::Tcp, mapped, server }, &packet, Reason::Filtered, now)
    }

    fn syns() -> StoredSyns {
        StoredSyns::new(Keyed::new((1, 2)))
    }

    #[test]
    fn a_syn_waits_its_time_once_however_often_it_is_repeated() {
        let mut syns = syns();
        let start = Instant::from_nanos(1);
        assert_eq!(syns.next_expiry(LIFETIME), None);
        store(&mut syns, [192, 0, 2, 1], 80, start).unwrap();
        store(&mut syns, [192, 0, 2, 1], 80, start + Duration::from_secs(3)).unwrap();
        assert_eq!(syns.next_expiry(LIFETIME), Some(start + LIFETIME));
        assert!(syns.expired(LIFETIME, start + Duration::from_secs(5)).is_none());
        let syn = syns.expired(LIFETIME, start + LIFETIME).unwrap();
        assert_eq!((syn.reason, syn.quote.len()), (Reason::Filtered, 548));
        assert!(syns.expired(LIFETIME, start + LIFETIME).is_none());
        assert_eq!((syns.bytes, syns.sources.len(), syns.order.len()), (0, 0, 0));
    }

    #[test]
    fn a_syn_that_is_taken_back_does_not_expire() {
        let mut syns = syns();
        let start = Instant::from_nanos(1);
        store(&mut syns, [192, 0, 2, 1], 80, start).unwrap();
        store(&mut syns, [192, 0, 2, 1], 81, start + Duration::from_secs(1)).unwrap();
        let mapped = transport([198, 51, 100, 1], 40_000);
        assert!(syns.take(mapped, transport([192, 0, 2, 1], 80)));
        assert!(!syns.take(mapped, transport([192, 0, 2, 1], 80)));
        assert_eq!(syns.next_expiry(LIFETIME), Some(start + Duration::from_secs(7)));
        syns.retain(|_| false);
        assert_eq!((syns.next_expiry(LIFETIME), syns.bytes), (None, 0));
    }

    #[test]
    fn one_sender_cannot_fill_the_store_and_all_of_them_fill_it_to_its_bounds_alone() {
        let mut syns = syns();
        let start = Instant::from_nanos(1);
        let of_one = (1..1000).filter(|port| store(&mut syns, [192, 0, 2, 1], *port, start).is_ok()).count();
        assert_eq!(of_one, MAX_SYNS_OF_SOURCE as usize);
        assert_eq!(store(&mut syns, [192, 0, 2, 2], 80, start), Ok(()));
        for sender in 0..10_000u32 {
            let [_, _, c, d] = sender.to_be_bytes();
            let _ = store(&mut syns, [198, 18, c, d], 80, start);
        }
        assert!(syns.bytes <= MAX_BYTES && syns.bytes > MAX_BYTES - 548);
        assert!(syns.syns.len() <= MAX_SYNS);
        assert_eq!(store(&mut syns, [203, 0, 113, 1], 80, start), Err(Reason::IncomingSynLimit));
        let later = start + LIFETIME;
        while syns.expired(LIFETIME, later).is_some() {}
        assert_eq!(store(&mut syns, [203, 0, 113, 1], 80, later), Ok(()), "room comes back");
    }
}

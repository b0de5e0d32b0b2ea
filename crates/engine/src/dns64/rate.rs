//! How often one client may ask by datagrams, whose sender anybody can write: what a victim would be flooded with is
//! bounded, and so is what one client costs the others.
use core::hash::Hasher as _;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use siphasher::sip::SipHasher13;

use crate::time::{Duration, Instant};

/// Clients that are told apart; a power of two. Those that meet in a slot share what one of them would have.
const SLOTS: usize = 8192;
/// For how long a client that was silent may ask as fast as it likes.
const BURST: u64 = 1_000_000_000;
/// Of the queries beyond the limit, one in so many is answered with TC, so that a client that is really there comes by
/// TCP, whose handshake shows its address to be its own. The rest is dropped.
const SLIP: u32 = 2;

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is answered.
    Granted,
    /// The client is told to come by TCP.
    Truncated,
    /// It is dropped.
    Dropped,
}

/// The clients' accounts, for any number of threads: nothing locks and nothing is allocated.
#[derive(Debug)]
pub struct RateLimit {
    key: (u64, u64),
    /// Nanoseconds for each query; zero for no limit.
    interval: u64,
    /// When each client's account would be even again: the generic cell rate algorithm.
    even_at: Box<[AtomicU64]>,
    slipped: AtomicU32,
}

impl RateLimit {
    /// So many queries a second for each client; no limit for zero. The key must not be guessable, lest a client choose whom
    /// it shares with.
    pub fn new(queries: u32, key: (u64, u64)) -> Self {
        let interval = 1_000_000_000_u64.checked_div(queries.into()).unwrap_or_default();
        let slots = if interval > 0 { SLOTS } else { 0 };
        Self { key, interval, even_at: (0..slots).map(|_| AtomicU64::new(0)).collect(), slipped: AtomicU32::new(0) }
    }

    /// A query that came in a datagram.
    pub fn admit(&self, client: SocketAddr, now: Instant) -> Admission {
        if self.wait(client, now).is_zero() {
            return Admission::Granted;
        }
        if self.slipped.fetch_add(1, Ordering::Relaxed).is_multiple_of(SLIP) {
            Admission::Truncated
        } else {
            Admission::Dropped
        }
    }

    /// Books a query, and says zero; or how long to wait before the next attempt, and books nothing.
    pub fn wait(&self, client: SocketAddr, now: Instant) -> Duration {
        let Some(slot) = self.slot(client) else { return Duration::ZERO };
        let now = now.as_nanos();
        let booked = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |even_at| {
            (even_at.saturating_sub(now) <= BURST).then(|| even_at.max(now) + self.interval)
        });
        match booked {
            Ok(_) => Duration::ZERO,
            Err(even_at) => Duration::from_nanos(even_at.saturating_sub(now).saturating_sub(BURST)),
        }
    }

    fn slot(&self, client: SocketAddr) -> Option<&AtomicU64> {
        if self.even_at.is_empty() {
            return None;
        }
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        match client.ip() {
            IpAddr::V4(address) => hasher.write_u32(address.to_bits()),
            IpAddr::V6(address) => hasher.write_u128(address.to_bits()),
        }
        self.even_at.get(usize::try_from(hasher.finish()).unwrap_or_default() & (SLOTS - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(host: u16) -> SocketAddr {
        (core::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host), 4711).into()
    }

    fn granted(limit: &RateLimit, host: u16, queries: usize, now: Instant) -> usize {
        (0..queries).filter(|_| limit.admit(client(host), now) == Admission::Granted).count()
    }

    #[test]
    fn a_client_may_ask_so_often_and_others_do_not_suffer_for_it() {
        let limit = RateLimit::new(100, (1, 2));
        let start = Instant::ZERO + Duration::from_secs(1000);
        assert_eq!(granted(&limit, 1, 1000, start), 101, "a second's worth at once");
        assert_eq!(granted(&limit, 1, 1000, start + Duration::from_millis(500)), 50);
        assert_eq!(granted(&limit, 2, 50, start), 50);
        assert_eq!(granted(&limit, 1, 1000, start + Duration::from_secs(9)), 101, "silence fills the account again");
    }

    #[test]
    fn every_other_query_beyond_the_limit_is_told_to_come_by_tcp() {
        let limit = RateLimit::new(1, (1, 2));
        let now = Instant::ZERO + Duration::from_secs(1);
        granted(&limit, 1, 2, now);
        let fates: Vec<Admission> = (0..4).map(|_| limit.admit(client(1), now)).collect();
        assert_eq!(fates.iter().filter(|fate| **fate == Admission::Truncated).count(), 2, "{fates:?}");
        let wait = limit.wait(client(1), now);
        assert!(!wait.is_zero() && limit.wait(client(1), now + wait).is_zero(), "{wait:?}");
    }

    #[test]
    fn zero_is_no_limit() {
        let limit = RateLimit::new(0, (1, 2));
        assert_eq!(granted(&limit, 1, 100_000, Instant::ZERO), 100_000);
    }
}

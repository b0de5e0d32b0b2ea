//! RFC 4443 section 2.4 (f) and RFC 1812 section 4.3.2.8: ICMP errors are limited by token buckets, fairly among many hosts.
use core::hash::{BuildHasher, Hash};

use super::keyed::Keyed;
use super::quota::is_fair;
use super::verdict::Direction;
use crate::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
/// Buckets of those who are told; some share one.
const SLOTS: usize = 1024;

/// A token bucket, kept as the time at which it would be full. Whoever causes many errors leaves some to the others.
#[derive(Debug)]
pub(super) struct Limiter {
    per_second: u32,
    keyed: Keyed,
    full: Instant,
    /// The same for those who are told, by hash.
    slots: Vec<Instant>,
    /// The same for those in IPv6 and those in IPv4, who may be as many as somebody makes up.
    sides: [Instant; 2],
}

impl Limiter {
    /// A full bucket that holds what may be sent in a second.
    pub(super) fn new(per_second: u32, keyed: Keyed) -> Self {
        let full = Instant::default();
        Self { per_second, keyed, full, slots: vec![full; SLOTS], sides: [full; 2] }
    }

    /// Takes over another rate.
    pub(super) fn set(&mut self, per_second: u32) {
        self.per_second = per_second;
    }

    /// Whether another error may be sent now to one who sent in this direction.
    pub(super) fn admit(&mut self, receiver: impl Hash, direction: Direction, now: Instant) -> bool {
        // RFC 7915 sections 4.4 and 5.4: an administrator may want none.
        let Some(interval) = SECOND.checked_div(self.per_second) else { return false };
        let slot = &mut self.slots[self.keyed.hash_one(receiver) as usize % SLOTS];
        let side = &mut self.sides[direction as usize];
        let sent = |full: Instant| full.saturating_since(now).as_nanos().div_ceil(interval.as_nanos()) as u64;
        let free = u64::from(self.per_second).saturating_sub(sent(self.full));
        let admitted = is_fair(sent(*slot), free) && is_fair(sent(*side), free);
        if admitted {
            for full in [&mut self.full, slot, side] {
                *full = (*full).max(now) + interval;
            }
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{V4ToV6, V6ToV4};

    const START: Instant = Instant::from_nanos(1);

    fn limiter(per_second: u32) -> Limiter {
        Limiter::new(per_second, Keyed::new((1, 2)))
    }

    fn burst(limiter: &mut Limiter, receiver: u32, direction: Direction, now: Instant) -> usize {
        (0..1000).filter(|_| limiter.admit(receiver, direction, now)).count()
    }

    #[test]
    fn one_who_causes_many_leaves_some_to_the_others() {
        let mut limiter = limiter(100);
        assert_eq!(burst(&mut limiter, 1, V6ToV4, START), 80);
        assert_eq!(burst(&mut limiter, 2, V6ToV4, START), 0, "the same side");
        assert_eq!(burst(&mut limiter, 2, V4ToV6, START), 16);
        assert_eq!(burst(&mut limiter, 1, V6ToV4, START + Duration::from_secs(1)), 80);
        assert_eq!(burst(&mut limiter, 1, V6ToV4, START + Duration::from_secs(60)), 80);
    }

    #[test]
    fn senders_that_are_made_up_leave_room_for_the_other_side() {
        let mut limiter = limiter(100);
        let strangers = (0..10_000u32).filter(|stranger| limiter.admit(stranger, V4ToV6, START)).count();
        assert_eq!(strangers, 80);
        assert_eq!(burst(&mut limiter, 1, V6ToV4, START), 16);
        let later = START + Duration::from_millis(105);
        assert!((0..10_000u32).filter(|stranger| limiter.admit(stranger, V4ToV6, later)).count() <= 10);
    }

    #[test]
    fn the_rate_may_change_and_may_be_none() {
        let mut limiter = limiter(0);
        assert!(!limiter.admit(1, V6ToV4, START));
        limiter.set(1);
        assert_eq!(burst(&mut limiter, 1, V6ToV4, START), 1);
        assert!(!limiter.admit(1, V6ToV4, START + Duration::from_millis(999)));
        assert!(limiter.admit(1, V6ToV4, START + Duration::from_secs(1)));
    }
}

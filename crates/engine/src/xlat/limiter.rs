//! RFC 4443 section 2.4 (f) and RFC 1812 section 4.3.2.8: ICMP errors are limited by a token bucket.
use crate::time::{Duration, Instant};

/// A token bucket, kept as the time at which it would be full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limiter {
    per_second: u32,
    full: Instant,
}

impl Limiter {
    /// A full bucket that holds what may be sent in a second.
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second, full: Instant::default() }
    }

    /// Whether another error may be sent now.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        const SECOND: Duration = Duration::from_secs(1);
        // RFC 7915 sections 4.4 and 5.4: an administrator may want none.
        let Some(interval) = SECOND.checked_div(self.per_second) else { return false };
        let full = self.full.max(now) + interval;
        let admitted = full.saturating_since(now) <= SECOND;
        if admitted {
            self.full = full;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_a_hundred_a_second() {
        let mut limiter = Limiter::new(100);
        let start = Instant::from_nanos(1);
        assert_eq!((0..1000).filter(|_| limiter.admit(start)).count(), 100);
        assert_eq!((0..1000).filter(|_| limiter.admit(start + Duration::from_millis(105))).count(), 10);
        assert_eq!((0..1000).filter(|_| limiter.admit(start + Duration::from_secs(60))).count(), 100);
    }

    #[test]
    fn the_rate_may_be_low_and_may_be_none() {
        let start = Instant::from_nanos(1);
        assert!(!Limiter::new(0).admit(start));
        let mut limiter = Limiter::new(1);
        assert_eq!((0..10).filter(|_| limiter.admit(start)).count(), 1);
        assert!(!limiter.admit(start + Duration::from_millis(999)));
        assert!(limiter.admit(start + Duration::from_secs(1)));
    }
}

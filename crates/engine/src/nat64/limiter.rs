//! RFC 4443 section 2.4 (f) and RFC 1812 section 4.3.2.8: ICMP errors are limited by a token bucket.
use crate::time::{Duration, Instant};

/// Errors that may be sent at once.
const BURST: u64 = 100;
/// One more after each of these.
const INTERVAL: Duration = Duration::from_millis(10);

/// A token bucket, kept as the time at which it would be full.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limiter {
    full: Instant,
}

impl Limiter {
    /// Whether another error may be sent now.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let full = self.full.max(now) + INTERVAL;
        let admitted = full.saturating_since(now) <= INTERVAL * BURST as u32;
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
        let mut limiter = Limiter::default();
        let start = Instant::from_nanos(1);
        assert_eq!((0..1000).filter(|_| limiter.admit(start)).count(), 100);
        assert_eq!((0..1000).filter(|_| limiter.admit(start + Duration::from_millis(105))).count(), 10);
        assert_eq!((0..1000).filter(|_| limiter.admit(start + Duration::from_secs(60))).count(), 100);
    }
}

//! Whether clients are refused what they need: RFC 6888 REQ-11 asks that the operator hears of it.
use std::collections::BTreeMap;
use std::time::Duration;

use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::nat64::verdict::Reason;
use sixgate_engine::time::Instant;

/// For how long it is shown after the last time.
const SHOWN: Duration = Duration::from_secs(60);
/// What is short when a packet is refused so.
const SHORT: [Reason; 5] = [
    Reason::PoolExhausted,
    Reason::SessionLimit,
    Reason::ClientSessionLimit,
    Reason::ClientBindingLimit,
    Reason::ClientRateLimit,
];

/// What has been short lately.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    /// What had been counted when it began.
    before: [u64; SHORT.len()],
    last: [u64; SHORT.len()],
    /// When it is over.
    until: Option<Instant>,
}

impl Shortage {
    /// Looks at the counters; says what is short, as long as it is.
    pub(super) fn observe(&mut self, reasons: &BTreeMap<String, u64>, now: Instant) -> Option<Finding> {
        let counts = SHORT.map(|reason| reasons.get(reason.name()).copied().unwrap_or_default());
        if self.until.is_some_and(|until| until <= now) {
            (self.until, self.before) = (None, self.last);
        }
        if counts != self.last {
            self.until = Some(now + SHOWN);
            self.last = counts;
        }
        self.until?;
        let refused = SHORT.iter().zip(counts).zip(self.before).filter(|((_, count), before)| count != before);
        let words: Vec<String> =
            refused.map(|((reason, count), before)| format!("{} {} times", reason.name(), count - before)).collect();
        Some(Finding::new(
            Severity::Warning,
            "nat64-exhausted",
            "nat64",
            format!("clients were refused sessions: {}", words.join(", ")),
            "see who has the most sessions (`sixgate sessions`), or raise memory, ports or [nat64.limits]",
        ))
    }

    /// When it is to be looked at again.
    pub(super) const fn over_at(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_shortage_is_shown_until_a_minute_after_its_end_and_counts_from_its_beginning() {
        let reasons = |count| BTreeMap::from([("pool-exhausted".to_owned(), count), ("malformed".to_owned(), 9)]);
        let mut shortage = Shortage::default();
        assert_eq!(shortage.observe(&reasons(0), at(0)), None);
        assert!(shortage.observe(&reasons(3), at(1)).unwrap().text.contains("pool-exhausted 3 times"));
        assert!(shortage.observe(&reasons(5), at(50)).unwrap().text.contains("pool-exhausted 5 times"));
        assert_eq!(shortage.over_at(), Some(at(110)));
        assert!(shortage.observe(&reasons(5), at(109)).is_some());
        assert_eq!(shortage.observe(&reasons(5), at(110)), None);
        assert_eq!(shortage.over_at(), None);
        assert!(shortage.observe(&reasons(6), at(500)).unwrap().text.contains("pool-exhausted 1 times"));
    }
}

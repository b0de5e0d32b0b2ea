//! Rates from counters: the last few states, and what moved between them.
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sixgate_engine::status::{Status, Traffic};

/// Rates are taken over so many states, which smooths what comes in bursts.
const SAMPLES: usize = 5;

/// The last states with the times at which they came.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<(Duration, Status)>,
}

impl History {
    /// Adds a state. A daemon that started anew begins a new history: its counters do.
    pub(super) fn push(&mut self, at: Duration, status: Status) {
        if self.last().is_some_and(|last| last.system.daemon_uptime > status.system.daemon_uptime) {
            self.samples.clear();
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((at, status));
    }

    /// The newest state.
    pub(super) fn last(&self) -> Option<&Status> {
        self.samples.back().map(|(_, status)| status)
    }

    /// How fast a counter moves, per second; absent while there is nothing to compare, or when the counter fell
    /// (somebody reset it).
    pub(super) fn rate(&self, counter: impl Fn(&Status) -> Option<u64>) -> Option<f64> {
        let ((from, first), (to, last)) = (self.samples.front()?, self.samples.back()?);
        let elapsed = to.checked_sub(*from)?.as_secs_f64();
        let moved = counter(last)?.checked_sub(counter(first)?)?;
        (elapsed > 0.0).then(|| moved as f64 / elapsed)
    }
}

/// Packets over all reasons.
pub(super) fn packets(reasons: &BTreeMap<String, Traffic>) -> u64 {
    reasons.values().fold(0, |sum, traffic| sum.saturating_add(traffic.packets))
}

/// Messages over all reasons.
pub(super) fn messages(reasons: &BTreeMap<String, u64>) -> u64 {
    reasons.values().fold(0, |sum, count| sum.saturating_add(*count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(uptime: u64, packets: u64) -> Status {
        let mut status = Status::default();
        status.system.daemon_uptime = uptime;
        status.wan.received.packets = packets;
        status
    }

    fn rate(history: &History) -> Option<f64> {
        history.rate(|status| Some(status.wan.received.packets))
    }

    #[test]
    fn rate_needs_two_states() {
        let mut history = History::default();
        assert_eq!(rate(&history), None);
        history.push(Duration::from_secs(1), state(10, 100));
        assert_eq!(rate(&history), None);
        history.push(Duration::from_secs(3), state(12, 300));
        assert_eq!(rate(&history), Some(100.0));
    }

    #[test]
    fn restarted_daemon_begins_a_new_history() {
        let mut history = History::default();
        history.push(Duration::from_secs(1), state(10, 1_000));
        history.push(Duration::from_secs(2), state(0, 0));
        history.push(Duration::from_secs(3), state(1, 7));
        assert_eq!(rate(&history), Some(7.0));
    }

    #[test]
    fn counter_that_fell_has_no_rate() {
        let mut history = History::default();
        history.push(Duration::from_secs(1), state(10, 1_000));
        history.push(Duration::from_secs(2), state(11, 900));
        assert_eq!(rate(&history), None);
    }

    #[test]
    fn rate_forgets_what_is_long_ago() {
        let mut history = History::default();
        for second in 0..20 {
            history.push(Duration::from_secs(second), state(second, second * second));
        }
        assert_eq!(rate(&history), Some((19.0 * 19.0 - 15.0 * 15.0) / 4.0));
    }
}

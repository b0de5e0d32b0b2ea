//! Rates from counters: the last few states, what moved between them, and how that was in the last minutes.
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sixgate_engine::status::{Sessions, Status, Traffic};

/// Rates are taken over so many states, which smooths what comes in bursts.
const SAMPLES: usize = 5;

/// Values of a graph that are kept: a wide terminal's width.
const KEPT: usize = 512;

/// What is drawn over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trend {
    /// Bytes a second that the uplink receives.
    Received,
    /// Bytes a second that the uplink sends.
    Sent,
    /// Packets a second that are translated, both ways.
    Translated,
    /// Sessions of the translator.
    Sessions,
    /// Questions a second to the resolver.
    Queries,
    /// Packets a second that the firewall drops.
    Dropped,
}

impl Trend {
    const ALL: [Self; 6] = [Self::Received, Self::Sent, Self::Translated, Self::Sessions, Self::Queries, Self::Dropped];

    /// The counter, or the level where it is one.
    fn value(self, status: &Status) -> Option<u64> {
        match self {
            Self::Received => Some(status.wan.received.bytes),
            Self::Sent => Some(status.wan.sent.bytes),
            Self::Translated => {
                let nat64 = status.nat64.as_ref()?;
                Some(nat64.v6_to_v4.packets.saturating_add(nat64.v4_to_v6.packets))
            }
            Self::Sessions => status.nat64.as_ref().map(|nat64| total(nat64.sessions)),
            Self::Queries => status.dns64.as_ref().map(|dns64| dns64.queries),
            Self::Dropped => Some(packets(&status.firewall.dropped)),
        }
    }

    /// What to draw of two states that follow each other; a counter that fell draws nothing.
    fn point(self, before: Option<&(Duration, Status)>, at: Duration, status: &Status) -> Option<f64> {
        let value = self.value(status)?;
        if self == Self::Sessions {
            return Some(value as f64);
        }
        let (then, before) = before?;
        let elapsed = at.checked_sub(*then)?.as_secs_f64();
        let moved = value.checked_sub(self.value(before)?)?;
        (elapsed > 0.0).then(|| moved as f64 / elapsed)
    }
}

/// The last states with the times at which they came.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<(Duration, Status)>,
    trends: [VecDeque<f64>; Trend::ALL.len()],
}

impl History {
    /// Adds a state. A daemon that started anew begins a new history: its counters do.
    pub(super) fn push(&mut self, at: Duration, status: Status) {
        if self.last().is_some_and(|last| last.system.daemon_uptime > status.system.daemon_uptime) {
            self.samples.clear();
        }
        for (trend, values) in Trend::ALL.into_iter().zip(&mut self.trends) {
            let Some(point) = trend.point(self.samples.back(), at, &status) else { continue };
            if values.len() == KEPT {
                values.pop_front();
            }
            values.push_back(point);
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

    /// What is drawn of a trend, oldest first.
    pub(super) fn trend(&self, trend: Trend) -> Vec<f64> {
        let index = Trend::ALL.iter().position(|one| *one == trend);
        index.map_or_else(Vec::new, |index| self.trends[index].iter().copied().collect())
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

/// Sessions over all protocols.
pub(super) fn total(sessions: Sessions) -> u64 {
    sessions.tcp.saturating_add(sessions.udp).saturating_add(sessions.icmp)
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
    fn trends_outlive_the_states_they_were_made_of_and_are_bounded() {
        let mut history = History::default();
        for second in 0..1_000 {
            let mut status = state(second, 0);
            status.wan.received.bytes = second * second;
            history.push(Duration::from_secs(second), status);
        }
        let received = history.trend(Trend::Received);
        assert_eq!(received.len(), KEPT);
        assert_eq!(received.last(), Some(&(999.0 * 999.0 - 998.0 * 998.0)));
        assert!(history.trend(Trend::Queries).is_empty());
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

//! Watches how full the kernel's table of connections is.
use std::time::Duration;

use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::status::Connections;
use sixgate_linux::conntrack::Occupancy;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// For how long it counts as full since a packet was dropped.
const LASTS: Duration = Duration::from_secs(60);

/// This task's ends of the channels.
pub struct Ends {
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// Absent while there is no connection tracking.
    pub status: Option<Connections>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Runs until nobody looks any more.
pub async fn run(ends: Ends) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pressure = Pressure::default();
    while !ends.slice.is_closed() {
        tick.tick().await;
        let status = Occupancy::read().map(|read| {
            let Occupancy { held, most, refused, evicted } = read;
            Connections { held, most, refused, evicted }
        });
        let findings = status.and_then(|status| pressure.judge(status, Instant::now())).into_iter().collect();
        let slice = Slice { status, findings };
        ends.slice.send_if_modified(|old| std::mem::replace(old, slice) != *old);
    }
}

/// Whether there was room of late.
#[derive(Debug, Default)]
struct Pressure {
    /// What had been dropped when it was looked at last; absent before.
    refused: Option<u64>,
    /// Until when it counts as full.
    full: Option<Instant>,
    /// How many there was room for when it was looked at last.
    most: u64,
}

impl Pressure {
    fn judge(&mut self, status: Connections, now: Instant) -> Option<Finding> {
        let before = self.refused.replace(status.refused);
        if before.is_some_and(|before| status.refused > before) {
            self.full = Some(now + LASTS);
        }
        // Somebody has mended it.
        if status.most > std::mem::replace(&mut self.most, status.most) {
            self.full = None;
        }
        // The kernel takes away what closes from 95 % on.
        let is_near = status.held * 20 >= status.most * 19;
        if self.full.is_none_or(|until| until <= now) && !is_near {
            return None;
        }
        let full = self.full.is_some_and(|until| until > now);
        let severity = if full { Severity::Error } else { Severity::Warning };
        let what = if full { "new connections are dropped, established ones go on" } else { "hardly any room is left" };
        Some(Finding::new(
            severity,
            "connections-full",
            "connections",
            format!("the table of connections has room for {}: {what}", status.most),
            "raise `entries` under [connections], which takes memory; `per_host` and `new_per_source` there keep one host from taking them all",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(held: u64, refused: u64) -> Connections {
        Connections { held, most: 1000, refused, evicted: 0 }
    }

    #[test]
    fn a_drop_is_told_for_a_minute_and_a_table_that_is_nearly_full_as_long_as_it_is() {
        let (mut pressure, begin) = (Pressure::default(), Instant::now());
        let mut at = |seconds, status| {
            let found = pressure.judge(status, begin + Duration::from_secs(seconds));
            found.map(|finding| finding.severity)
        };
        assert_eq!(at(0, status(10, 7)), None, "dropped before this daemon was there");
        assert_eq!(at(1, status(949, 7)), None);
        assert_eq!(at(2, status(950, 7)), Some(Severity::Warning));
        assert_eq!(at(3, status(500, 8)), Some(Severity::Error));
        assert_eq!(at(62, status(10, 8)), Some(Severity::Error));
        assert_eq!(at(63, status(10, 8)), None);
        assert_eq!(at(64, status(10, 9)), Some(Severity::Error));
        assert_eq!(at(65, Connections { most: 2000, ..status(10, 9) }), None, "a larger table is the mend");
    }
}

//! Notices that the machine was put back to a snapshot, copied, moved, or asleep: whoever relies on what was before is told.
use std::time::Duration;

use sixgate_linux::clock::{since_boot, wall};
use sixgate_linux::uevent::Uevents;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::now;
use crate::wiring::Resumed;

/// How often the clocks are compared.
const LOOK: Duration = Duration::from_secs(2);
/// A clock that differs by more from what it was was not merely adjusted.
const JUMP: i64 = 10_000_000_000;

/// This task's ends of the channels.
pub struct Ends {
    /// Raised by one each time.
    pub resumed: watch::Sender<Resumed>,
}

/// Runs for ever.
pub async fn run(ends: Ends) {
    let events = Uevents::open().inspect_err(|error| tracing::debug!("uevents: {error}")).ok();
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut clocks = Clocks::read();
    loop {
        let why = tokio::select! {
            () = new_generation(events.as_ref()) => Some("the hypervisor has put it back or copied it"),
            _ = tick.tick() => {
                let before = std::mem::replace(&mut clocks, Clocks::read());
                clocks.jumped(&before)
            }
        };
        if let Some(why) = why {
            tracing::warn!(
                "the machine goes on from another time: {why}; neighbours, advertisements and leases are refreshed"
            );
            ends.resumed.send_modify(|count| *count += 1);
        }
    }
}

async fn new_generation(events: Option<&Uevents>) {
    let Some(events) = events else { return std::future::pending().await };
    if let Err(error) = events.new_generation().await {
        tracing::debug!("uevents: {error}");
        std::future::pending::<()>().await;
    }
}

/// Three clocks that go at the same pace while nothing happens, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clocks {
    /// Stands still while the machine sleeps.
    monotonic: i64,
    /// Goes on meanwhile.
    boot: i64,
    /// May be set.
    wall: i64,
}

impl Clocks {
    fn read() -> Self {
        let nanos = |value: u128| i64::try_from(value).unwrap_or(i64::MAX);
        Self { monotonic: nanos(now().as_nanos().into()), boot: nanos(since_boot().as_nanos()), wall: wall() }
    }

    /// What happened since.
    fn jumped(&self, before: &Self) -> Option<&'static str> {
        let passed = self.monotonic.saturating_sub(before.monotonic);
        let slept = self.boot.saturating_sub(before.boot).saturating_sub(passed);
        if slept > JUMP {
            return Some("it was asleep");
        }
        // Whoever sets the clock by a jump knows about it, and refreshing once too often hurts nobody.
        let set = self.wall.saturating_sub(before.wall).saturating_sub(passed);
        (set.saturating_abs() > JUMP).then_some("its clock has jumped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn sleep_and_a_clock_that_jumps_are_noticed_and_late_ticks_are_not() {
        let before = Clocks { monotonic: 10 * SECOND, boot: 12 * SECOND, wall: 1000 * SECOND };
        let later = |monotonic: i64, boot: i64, wall: i64| Clocks {
            monotonic: before.monotonic + monotonic * SECOND,
            boot: before.boot + boot * SECOND,
            wall: before.wall + wall * SECOND,
        };
        assert_eq!(later(2, 2, 2).jumped(&before), None);
        assert_eq!(later(90, 90, 90).jumped(&before), None, "the machine was merely busy");
        assert_eq!(later(2, 3600, 3600).jumped(&before), Some("it was asleep"));
        assert_eq!(later(2, 2, -5000).jumped(&before), Some("its clock has jumped"));
        assert_eq!(later(2, 2, 3).jumped(&before), None);
    }
}

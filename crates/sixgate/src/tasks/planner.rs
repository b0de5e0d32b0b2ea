//! Computes the plan whenever the configuration or the facts change.
use std::sync::Arc;
use std::time::Duration;

use sixgate_engine::facts::{Discovered, Facts};
use sixgate_engine::plan::{Obstacle, Plan, plan};
use sixgate_engine::prefix::Learnt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::wiring::{Configured, Desired};

/// How long hosts wait at a cold start for the translator's device: it is made as soon as a plan wants it.
const DEVICE_WITHIN: Duration = Duration::from_secs(1);

/// This task's ends of the channels.
pub struct Ends {
    /// The configuration.
    pub configured: watch::Receiver<Configured>,
    /// The facts.
    pub facts: watch::Receiver<Option<Arc<Facts>>>,
    /// What is learnt on the uplink.
    pub learnt: watch::Receiver<Option<Arc<Learnt>>>,
    /// What discovery shows of the VMs.
    pub discovered: watch::Receiver<Vec<Discovered>>,
    /// The plan.
    pub desired: watch::Sender<Desired>,
}

/// Runs until a source of input is gone.
pub async fn run(mut ends: Ends) {
    let mut cold = Cold::Unknown;
    loop {
        let new = {
            let configured = ends.configured.borrow_and_update();
            let facts = ends.facts.borrow_and_update();
            let learnt = ends.learnt.borrow_and_update();
            let discovered = ends.discovered.borrow_and_update();
            cold.hold_back(desired(&configured, facts.as_deref(), learnt.as_deref(), &discovered), Instant::now())
        };
        ends.desired.send_if_modified(|old| {
            let changed = *old != new;
            if changed {
                *old = new;
            }
            changed
        });
        let changed = tokio::select! {
            changed = ends.configured.changed() => changed,
            changed = ends.facts.changed() => changed,
            changed = ends.learnt.changed() => changed,
            changed = ends.discovered.changed() => changed,
            () = cold.over() => Ok(()),
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Whether hosts are still to be told for the first time what there is. Said before the translator has its device, it would be
/// that there is no NAT64, and taken back a moment later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cold {
    /// There was no plan yet.
    Unknown,
    /// The first plan makes the device.
    Until(Instant),
    /// Everything is said as it is.
    Over,
}

impl Cold {
    /// The desired state, without advertisements and resolver while the device is awaited.
    fn hold_back(&mut self, desired: Desired, now: Instant) -> Desired {
        let Desired::Open(plan) = desired else { return desired };
        let awaited = plan.nat64.as_ref().is_some_and(|nat64| nat64.obstacle == Some(Obstacle::NoDevice));
        *self = match *self {
            Self::Unknown if awaited => Self::Until(now + DEVICE_WITHIN),
            Self::Until(end) if awaited && now < end => Self::Until(end),
            Self::Unknown | Self::Until(_) | Self::Over => Self::Over,
        };
        if *self == Self::Over {
            return Desired::Open(plan);
        }
        let mut silent = Plan::clone(&plan);
        silent.ra.clear();
        silent.dns64.listen.clear();
        Desired::Open(Arc::new(silent))
    }

    async fn over(self) {
        match self {
            Self::Until(end) => sleep_until(end).await,
            Self::Unknown | Self::Over => std::future::pending().await,
        }
    }
}

/// Until it is known what a former daemon had learnt, everything stays as it left it.
fn desired(
    configured: &Configured,
    facts: Option<&Facts>,
    learnt: Option<&Learnt>,
    discovered: &[Discovered],
) -> Desired {
    match (&configured.config, facts, learnt) {
        (Some(config), Some(facts), Some(learnt)) => {
            let facts = Facts { learnt: learnt.clone(), discovered: discovered.to_vec(), ..facts.clone() };
            Desired::Open(Arc::new(plan(config, &facts)))
        }
        (None, _, _) if configured.attempted => Desired::Closed,
        (Some(_), _, _) | (None, _, _) => Desired::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [wan]
        interface = "w"
        ipv4 = { address = "192.0.2.2/24", gateway = "192.0.2.1" }
        [[lan]]
        name = "lan"
        interface = "l"
        addresses = ["2001:db8::1/64"]
        [dns64]
        upstream = ["2001:db8:53::53"]
        [nat64]
    "#;

    fn first() -> Plan {
        let config = sixgate_engine::config::parse(FILE, "test").unwrap();
        plan(&config, &sixgate_engine::plan::preview_facts(&config))
    }

    fn with(obstacle: Option<Obstacle>) -> Desired {
        let mut plan = first();
        plan.nat64.as_mut().unwrap().obstacle = obstacle;
        Desired::Open(Arc::new(plan))
    }

    #[test]
    fn hosts_are_told_nothing_until_the_device_of_the_first_plan_is_there() {
        let (mut cold, now) = (Cold::Unknown, Instant::now());
        let held = cold.hold_back(with(Some(Obstacle::NoDevice)), now);
        let plan = held.plan().unwrap();
        assert!(plan.ra.is_empty() && plan.dns64.listen.is_empty());
        let full = first();
        assert_eq!((&plan.network, &plan.firewall), (&full.network, &full.firewall), "the rest does not wait");
        assert!(!full.ra.is_empty() && !full.dns64.listen.is_empty());
        assert_eq!(cold.hold_back(with(None), now), with(None));
        // A device that is lost later is said at once.
        assert_eq!(cold.hold_back(with(Some(Obstacle::NoDevice)), now), with(Some(Obstacle::NoDevice)));
    }

    #[test]
    fn a_device_that_does_not_come_keeps_hosts_waiting_for_a_second_only() {
        let (mut cold, now) = (Cold::Unknown, Instant::now());
        let none = || with(Some(Obstacle::NoDevice));
        assert_ne!(cold.hold_back(none(), now), none());
        assert_ne!(cold.hold_back(none(), now + DEVICE_WITHIN / 2), none());
        assert_eq!(cold.hold_back(none(), now + DEVICE_WITHIN), none());
        assert_eq!(
            Cold::Unknown.hold_back(with(Some(Obstacle::NoIpv4Uplink)), now),
            with(Some(Obstacle::NoIpv4Uplink))
        );
    }

    #[test]
    fn nothing_is_touched_before_the_file_was_read() {
        assert_eq!(
            desired(&Configured::default(), Some(&Facts::default()), Some(&Learnt::default()), &[]),
            Desired::Unknown
        );
    }

    #[test]
    fn nothing_is_touched_before_it_is_known_what_was_learnt_before() {
        let config = Arc::new(sixgate_engine::config::parse(FILE, "test").unwrap());
        let right = Configured { attempted: true, config: Some(config), ..Configured::default() };
        assert_eq!(desired(&right, Some(&Facts::default()), None, &[]), Desired::Unknown);
        assert!(desired(&right, Some(&Facts::default()), Some(&Learnt::default()), &[]).plan().is_some());
    }

    #[test]
    fn a_wrong_configuration_closes_the_router_even_before_facts_are_known() {
        let wrong = Configured { attempted: true, ..Configured::default() };
        assert_eq!(desired(&wrong, None, None, &[]), Desired::Closed);
        assert_eq!(desired(&wrong, Some(&Facts::default()), None, &[]), Desired::Closed);
    }
}

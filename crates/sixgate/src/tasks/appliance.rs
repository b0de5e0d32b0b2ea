//! The machine that process 1 made: what it met at its start, whether it proves healthy, updates, reset and restart.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sixgate_engine::facts::{AddressState, Facts};
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::status::{self, Status};
use sixgate_linux::clock::since_boot;
use sixgate_linux::network::channels;
use sixgate_linux::sysctl;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval, sleep_until};

use crate::control::MachineAction;
use crate::init::loader::{self, Slot};
use crate::init::prepare::{REPORT, Report, digest, last_good_path};
use crate::init::{CONFIG, entropy, state, timeline, update};
use crate::lifecycle::{Ending, SUPERVISOR_VARIABLE};
use crate::tasks::{network, ra};
use crate::wiring::{Ask, Configured};

/// How often a machine that has not proven healthy yet is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// It is healthy when nothing was wrong for so long.
const HEALTHY_FOR: Duration = Duration::from_secs(10);
/// The answer to a restart leaves before the machine does.
const LEAVE: Duration = Duration::from_millis(500);

/// Findings of these codes mean that a service is down, whatever the network around the router is like.
const UNHEALTHY: &[&str] = &[
    "apply-failed",
    "configuration-invalid",
    "dns-not-listening",
    "firewall-not-loaded",
    "nat64-no-device",
    "nat64-not-running",
    "netlink-unavailable",
    "ra-not-sent",
];

/// A request, and where its answer goes: what is done, or why it is not.
pub type Order = (MachineAction, oneshot::Sender<Result<(), String>>);

/// This task's ends of the channels.
pub struct Ends {
    /// The configuration.
    pub configured: watch::Receiver<Configured>,
    /// The machine's links.
    pub facts: watch::Receiver<Option<Arc<Facts>>>,
    /// What is in the kernel.
    pub network: watch::Receiver<network::Slice>,
    /// What the advertisers have sent.
    pub ra: watch::Receiver<ra::Slice>,
    /// Asks for the whole state.
    pub ask: mpsc::Sender<Ask>,
    /// Requests.
    pub orders: mpsc::Receiver<Order>,
    /// Asks the daemon to end.
    pub ending: mpsc::Sender<Ending>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// The machine; nothing on a host.
    pub status: Option<status::Appliance>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Runs until nobody can ask any more.
pub async fn run(mut ends: Ends) {
    if std::env::var_os(SUPERVISOR_VARIABLE).is_none_or(|name| name != "init") {
        while let Some((_, answer)) = ends.orders.recv().await {
            let _ = answer.send(Err(
                "this router runs on a host; only the image does that: use the host's own commands".to_owned(),
            ));
        }
        return;
    }
    let text = tokio::fs::read_to_string(REPORT).await.unwrap_or_default();
    let report: Report = serde_json::from_str(&text).unwrap_or_default();
    let slot = report.slot.as_deref().and_then(Slot::of_letter);
    ends.slice.send_modify(|slice| {
        slice.findings.clone_from(&report.findings);
        slice.status = Some(status::Appliance {
            slot: report.slot.clone(),
            trial: report.trial,
            healthy: false,
            state: report.state,
            configuration: report.configuration.clone(),
            locked: false,
            timeline: timeline::read(),
        });
    });
    reach(&ends.slice, "daemon", since_boot());
    let (mut in_force, mut advertised) = (false, false);
    let mut usable = BTreeMap::new();
    let mut locked = false;
    let mut healthy_since: Option<Instant> = None;
    let mut proven = false;
    let mut look = interval(LOOK);
    let mut leave: Option<(Instant, Ending)> = None;
    loop {
        tokio::select! {
            order = ends.orders.recv() => {
                let Some((action, answer)) = order else { return };
                let outcome = tokio::task::spawn_blocking(move || obey(action, slot)).await;
                let outcome = outcome.unwrap_or_else(|error| Err(error.to_string()));
                if outcome.is_ok() {
                    leave = Some((Instant::now() + LEAVE, Ending::Reboot));
                }
                // Whoever asked may have gone away meanwhile.
                let _ = answer.send(outcome);
            }
            changed = ends.configured.changed() => {
                if changed.is_err() {
                    return;
                }
                ends.slice.send_if_modified(|slice| forget_made(slice, report.made.as_deref()));
            }
            changed = ends.facts.changed() => {
                if changed.is_err() {
                    return;
                }
                let facts = ends.facts.borrow_and_update().clone().unwrap_or_default();
                if !advertised {
                    note_usable(&facts, &mut usable);
                }
                spread(&facts);
            }
            changed = ends.network.changed(), if !in_force => {
                if changed.is_err() {
                    return;
                }
                in_force = ends.network.borrow_and_update().ruleset.is_some();
                if in_force {
                    reach(&ends.slice, "rules in force", since_boot());
                }
            }
            changed = ends.ra.changed(), if !advertised => {
                if changed.is_err() {
                    return;
                }
                advertised = ends.ra.borrow_and_update().advertised.values().any(|lan| lan.sent > 0);
                if advertised {
                    note_usable(&ends.facts.borrow().clone().unwrap_or_default(), &mut usable);
                    // The address that came last is the one that was waited for.
                    if let Some(at) = usable.values().max() {
                        reach(&ends.slice, "address usable", *at);
                    }
                    reach(&ends.slice, "first advertisement", since_boot());
                    tell(&ends.slice);
                }
            }
            _ = look.tick(), if !proven || !locked => {
                if !locked && modules_locked() {
                    locked = true;
                    ends.slice.send_modify(|slice| slice.status.iter_mut().for_each(|status| status.locked = true));
                }
                if proven {
                    continue;
                }
                if !ask(&ends.ask).await.is_some_and(|status| is_healthy(&status)) {
                    healthy_since = None;
                    continue;
                }
                if healthy_since.get_or_insert_with(Instant::now).elapsed() >= HEALTHY_FOR {
                    proven = true;
                    let finding = tokio::task::spawn_blocking(move || prove(slot)).await.ok().flatten();
                    ends.slice.send_modify(|slice| {
                        slice.findings.extend(finding);
                        slice.status.iter_mut().for_each(|status| status.healthy = true);
                    });
                }
            }
            () = sleep_until(leave.map_or_else(Instant::now, |(at, _)| at)), if leave.is_some() => {
                if let Some((_, ending)) = leave.take() {
                    // A daemon that is ending already needs no second reason.
                    let _ = ends.ending.try_send(ending);
                }
            }
        }
    }
}

/// Whether process 1 has locked the kernel's modules, which is a while after the start.
fn modules_locked() -> bool {
    sysctl::read("kernel/modules_disabled").is_ok_and(|value| value == "1")
}

/// Cards that are there, or were just plugged in, get queues for each processor.
fn spread(facts: &Facts) {
    let processors = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
    for link in facts.links.iter().filter(|link| link.mac.is_some()) {
        match channels::spread(&link.name, processors) {
            Ok(Some(queues)) => tracing::info!("{} works with {queues} pairs of queues", link.name),
            Ok(None) => {}
            Err(error) => tracing::debug!("{}: its queues stay as they are: {error}", link.name),
        }
    }
}

/// Links whose link-local address may be used.
fn usable_links(facts: &Facts) -> impl Iterator<Item = u32> {
    let cards = facts.links.iter().filter(|link| link.mac.is_some());
    cards.map(|link| link.index).filter(|link| {
        let ready = facts.addresses.iter().filter(|held| held.link == *link && held.state == AddressState::Ready);
        ready.map(|held| held.net.addr()).any(|address| match address {
            IpAddr::V6(address) => address.is_unicast_link_local(),
            IpAddr::V4(_) => false,
        })
    })
}

/// Takes note of links whose address has become usable.
fn note_usable(facts: &Facts, usable: &mut BTreeMap<u32, Duration>) {
    let now = since_boot();
    for link in usable_links(facts) {
        usable.entry(link).or_insert(now);
    }
}

/// Takes note of a point that the start has reached.
fn reach(slice: &watch::Sender<Slice>, name: &str, at: Duration) {
    let seconds = at.as_secs_f64();
    slice.send_modify(|slice| {
        let milestone = status::Milestone { name: name.to_owned(), seconds };
        slice.status.iter_mut().for_each(|status| status.timeline.push(milestone.clone()));
    });
}

/// The first advertisement is out, which is what a start is for.
fn tell(slice: &watch::Sender<Slice>) {
    if let Some(status) = &slice.borrow().status {
        tracing::info!("from the kernel's start: {}", timeline::line(&status.timeline));
    }
}

/// Once somebody has said how this router is to be configured, what it made by itself is no news any more.
fn forget_made(slice: &mut Slice, made: Option<&str>) -> bool {
    let Some(made) = made else { return false };
    let held = state::read_text(Path::new(CONFIG), 1 << 20);
    if held.is_none_or(|held| digest(&held) == made) {
        return false;
    }
    let before = slice.findings.len();
    slice.findings.retain(|finding| finding.code != "configuration-made");
    slice.status.iter_mut().for_each(|status| "set on this machine".clone_into(&mut status.configuration));
    slice.findings.len() < before
}

async fn ask(ask: &mpsc::Sender<Ask>) -> Option<Status> {
    let (question, answer) = oneshot::channel();
    ask.send(question).await.ok()?;
    answer.await.ok()
}

fn is_healthy(status: &Status) -> bool {
    let broken = |finding: &Finding| finding.severity == Severity::Error && UNHEALTHY.contains(&finding.code.as_str());
    status.firewall.loaded && !status.findings.iter().any(broken)
}

/// The slot that runs is the good one from now on, and its configuration is the last good one.
fn prove(slot: Option<Slot>) -> Option<Finding> {
    let slot = slot?;
    if let Err(error) = entropy::leave() {
        tracing::warn!("the next start has no seed for its random numbers: {error}");
    }
    let confirmed = loader::change(|environment| {
        if environment.good != Some(slot) {
            environment.other = environment.good;
        }
        environment.good = Some(slot);
        environment.on_trial = None;
        environment.untried = false;
        environment.boots = 0;
    });
    match confirmed {
        Ok(()) => tracing::info!("slot {} has proven healthy", slot.letter()),
        Err(error) => tracing::error!("the loader cannot be told that slot {} is healthy: {error}", slot.letter()),
    }
    let good = state::read_text(Path::new(CONFIG), 1 << 20);
    if let Some(good) = good
        && let Err(error) = state::keep(&last_good_path(slot.letter()), good.as_bytes())
    {
        tracing::warn!("the last good configuration cannot be kept: {error}");
    }
    update::verify(slot).err().map(|error| {
        Finding::new(
            Severity::Warning,
            "slot-damaged",
            format!("slot {}", slot.letter()),
            format!("the system that runs is not as it was signed: {error}"),
            "install the update again (request `update`), and look at the host's disk",
        )
    })
}

fn obey(action: MachineAction, slot: Option<Slot>) -> Result<(), String> {
    let slot = || slot.ok_or("this machine was not booted from its disk".to_owned());
    match action {
        MachineAction::Reboot => Ok(()),
        MachineAction::FactoryReset => state::keep(Path::new(state::RESET), b"").map_err(|error| error.to_string()),
        MachineAction::Update => {
            let bundle = update::find().ok_or("no attached drive holds an update")?;
            let manifest = update::install(&bundle, slot()?)?;
            tracing::info!("sixgate {} is installed and is tried at the next start", manifest.version);
            Ok(())
        }
        MachineAction::Rollback => {
            let slot = slot()?;
            update::verify(slot.other()).map_err(|error| format!("the other slot cannot be used: {error}"))?;
            update::try_other(slot).map_err(|error| error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, code: &str) -> Finding {
        Finding::new(severity, code, "x", "x", "x")
    }

    #[test]
    fn a_service_that_is_down_is_not_healthy_and_an_uplink_without_a_link_is() {
        let mut status = Status::default();
        assert!(!is_healthy(&status));
        status.firewall.loaded = true;
        assert!(is_healthy(&status));
        status.findings.push(finding(Severity::Error, "wan-no-carrier"));
        assert!(is_healthy(&status));
        status.findings.push(finding(Severity::Error, "nat64-not-running"));
        assert!(!is_healthy(&status));
    }

    #[test]
    fn every_code_that_counts_exists() {
        for code in UNHEALTHY {
            assert!(sixgate_engine::finding::CODES.contains(code), "{code}");
        }
    }

    #[tokio::test]
    async fn on_a_host_nothing_is_done_to_the_machine() {
        let (ask, _asked) = mpsc::channel(1);
        let (order, orders) = mpsc::channel(1);
        let (ending, mut endings) = mpsc::channel(1);
        let (slice, seen) = watch::channel(Slice::default());
        let (_facts, facts) = watch::channel(None);
        let (_network, network) = watch::channel(network::Slice::default());
        let (_ra, ra) = watch::channel(ra::Slice::default());
        let (_configured, configured) = watch::channel(Configured::default());
        let task = tokio::spawn(run(Ends { configured, facts, network, ra, ask, orders, ending, slice }));
        let (answer, answered) = oneshot::channel();
        order.send((MachineAction::Reboot, answer)).await.unwrap();
        assert!(answered.await.unwrap().is_err());
        assert!(endings.try_recv().is_err() && seen.borrow().status.is_none());
        drop(order);
        task.await.unwrap();
    }
}

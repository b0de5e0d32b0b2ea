//! Keeps what was refused lately, proposes entries that would admit it, and tells it to the journal or to a syslog server.
//!
//! The rules tell of so many packets a second and no more; the counters have them all.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sixgate_engine::facts::Facts;
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::firewall::denial::{Denial, Names, Refused, Ring};
use sixgate_engine::plan::LogPlan;
use sixgate_linux::nflog::{Listener, NflogError, Told};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::tasks::nat64_log::{Line, Sink, open_sink};
use crate::wiring::Desired;

/// How long a log server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// By which the words of rules that admit begin.
const ADMITTED: &str = "allow ";

/// What this task can be asked for.
#[derive(Debug)]
pub enum Ask {
    /// The latest denials, the last one first.
    List(oneshot::Sender<Vec<Denial>>),
    /// The entry that would admit the one with that number.
    Propose(u64, oneshot::Sender<Result<String, String>>),
}

/// This task's ends of the channels.
pub struct Ends {
    /// The plan.
    pub desired: watch::Receiver<Desired>,
    /// Names of the links.
    pub facts: watch::Receiver<Option<Arc<Facts>>>,
    /// Questions.
    pub asked: mpsc::Receiver<Ask>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// Denials that are kept.
    pub kept: u64,
    /// Lines that were written to the log.
    pub logged: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Runs until nobody can ask any more.
pub async fn run(mut ends: Ends) {
    let mut ring = Ring::default();
    let mut log = Log::default();
    let (mut listener, mut backoff, mut retry) = (None, Backoff::default(), Instant::now());
    loop {
        if listener.is_none() && retry <= Instant::now() {
            match Listener::open().await {
                Ok(opened) => {
                    listener = Some(opened);
                    report(&ends.slice, None);
                }
                Err(error) => {
                    retry = Instant::now() + backoff.failed();
                    report(&ends.slice, Some(&error));
                }
            }
        }
        tokio::select! {
            changed = ends.desired.changed() => if changed.is_err() { return },
            asked = ends.asked.recv() => match asked {
                None => return,
                // Whoever asked may have gone away meanwhile.
                Some(Ask::List(answer)) => { let _ = answer.send(ring.latest().cloned().collect()); }
                Some(Ask::Propose(number, answer)) => { let _ = answer.send(propose(&ring, number)); }
            },
            told = next(&mut listener) => match told {
                Ok(told) => {
                    backoff.succeeded();
                    let desired = ends.desired.borrow().clone();
                    let Some(plan) = desired.plan() else { continue };
                    let link = link(&ends.facts, told.input);
                    let Some(line) = note(&mut ring, &told, &link, &plan.names) else { continue };
                    let written = log.write(plan.denial_log.as_ref(), &line).await;
                    let kept = ring.latest().count() as u64;
                    ends.slice.send_modify(|slice| {
                        slice.logged += u64::from(written);
                        slice.kept = kept;
                    });
                }
                Err(error) => {
                    // More came than could be read: the next ones can be.
                    tracing::debug!("denials: {error}");
                    listener = None;
                    retry = Instant::now() + backoff.failed();
                }
            },
            () = sleep_until(retry), if listener.is_none() => {}
        }
    }
}

async fn next(listener: &mut Option<Listener>) -> Result<Told, NflogError> {
    match listener {
        Some(listener) => listener.next().await,
        None => std::future::pending().await,
    }
}

fn report(slice: &watch::Sender<Slice>, error: Option<&NflogError>) {
    let finding = error.map(|error| {
        Finding::new(
            Severity::Note,
            "denials-not-heard",
            "firewall",
            format!("what is refused is counted, but who it was is not known: {error}"),
            "load the kernel module nfnetlink_log; run sixgate as root, or with CAP_NET_ADMIN",
        )
    });
    slice.send_modify(|slice| slice.findings = finding.into_iter().collect());
}

fn link(facts: &watch::Receiver<Option<Arc<Facts>>>, index: Option<u32>) -> String {
    let Some(facts) = facts.borrow().clone() else { return String::new() };
    let link = facts.links.iter().find(|link| Some(link.index) == index);
    link.map(|link| link.name.clone()).unwrap_or_default()
}

/// Puts a packet into the ring, unless it was admitted; the line for the log.
fn note(ring: &mut Ring, told: &Told, link: &str, names: &Names) -> Option<String> {
    let packet = Refused::parse(&told.packet)?;
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if told.prefix.starts_with(ADMITTED) {
        let mut alone = Ring::default();
        let (admitted, _) = alone.add(&packet, "", link, time, names);
        return Some(format!("admitted {} by {}", way(admitted), told.prefix));
    }
    let (denial, _) = ring.add(&packet, &told.prefix, link, time, names);
    Some(format!("denied {}: {}", way(denial), denial.reason))
}

fn way(denial: &Denial) -> String {
    let named = |name: &str, address: std::net::IpAddr| {
        if name == address.to_string() { name.to_owned() } else { format!("{name} ({address})") }
    };
    let (from, to) = (named(&denial.from, denial.source), named(&denial.to, denial.destination));
    let link = if denial.link.is_empty() { "the router" } else { denial.link.as_str() };
    format!("{from} to {to} {} from {link}", denial.service)
}

fn propose(ring: &Ring, number: u64) -> Result<String, String> {
    let denial = ring
        .find(number)
        .ok_or_else(|| format!("there is no denial {number}, or no longer: `sixgate denials` lists them"))?;
    denial.proposal()
}

/// Where denials are told. A server that does not take a line does not get it: the next ones are more urgent.
#[derive(Default)]
struct Log {
    plan: Option<LogPlan>,
    sink: Option<Sink>,
    retry: Option<Instant>,
    backoff: Backoff,
}

impl Log {
    /// Says whether the line was written.
    async fn write(&mut self, plan: Option<&LogPlan>, text: &str) -> bool {
        if self.plan.as_ref() != plan {
            *self = Self { plan: plan.cloned(), ..Self::default() };
        }
        let Some(plan) = plan else { return false };
        if self.sink.is_none() {
            if self.retry.is_some_and(|retry| retry > Instant::now()) {
                return false;
            }
            match open_sink(plan.to, PATIENCE).await {
                Ok(sink) => self.sink = Some(sink),
                Err(error) => return self.failed(&error),
            }
        }
        let Some(sink) = &mut self.sink else { return false };
        match sink.write(&Line::new(text, "firewall", &plan.hostname), PATIENCE).await {
            Ok(()) => {
                self.backoff.succeeded();
                true
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &std::io::Error) -> bool {
        tracing::debug!("the firewall's log: {error}");
        (self.sink, self.retry) = (None, Some(Instant::now() + self.backoff.failed()));
        false
    }
}

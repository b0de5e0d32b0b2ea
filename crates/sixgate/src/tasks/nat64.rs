//! Keeps the translator's thread running while the plan wants one.
use std::path::PathBuf;
use std::sync::Arc;

use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::firewall::admission::Admission;
use sixgate_engine::firewall::ruleset::Ruleset;
use sixgate_engine::nat64::event::Event;
use sixgate_engine::plan::{NAT64_DEVICE, Nat64Plan, Obstacle};
use sixgate_engine::savi::Sources;
use sixgate_engine::status;
use sixgate_linux::tun::Tun;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::tasks::network;
use crate::wiring::{Desired, ListSessions, Withdraw};

mod fast_path;
mod saved;
pub(in crate::tasks) mod senders;
mod shortage;
mod worker;

use worker::Worker;

/// This task's ends of the channels.
pub struct Ends {
    /// The plan.
    pub desired: watch::Receiver<Desired>,
    /// Asks for the device to be given up.
    pub withdraw: mpsc::Receiver<Withdraw>,
    /// Asks for the sessions to be saved for the next daemon.
    pub leave: mpsc::Receiver<Withdraw>,
    /// Asks for a new start, with the sessions that there are.
    pub restart: mpsc::Receiver<Withdraw>,
    /// Asks for a part of the sessions.
    pub list: mpsc::Receiver<ListSessions>,
    /// Which ruleset is in force.
    pub network: watch::Receiver<network::Slice>,
    /// Who may send from where on the LANs.
    pub sources: watch::Receiver<Arc<Vec<Sources>>>,
    /// What happens to bindings and sessions.
    pub events: mpsc::Sender<Vec<Event>>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// Where things are kept for the daemon that comes next.
#[derive(Clone, Debug)]
pub struct Places {
    /// The file of the sessions.
    pub saved: PathBuf,
    /// The BPF file system.
    pub bpffs: PathBuf,
}

/// What the translator's thread has to say, and where.
#[derive(Clone)]
struct Outlets {
    slice: watch::Sender<Slice>,
    events: mpsc::Sender<Vec<Event>>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// The translator; absent when switched off.
    pub status: Option<status::Nat64>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Runs until it has withdrawn or left, and then stays without doing anything.
pub async fn run(mut ends: Ends, places: Places) {
    let (worker, retry, backoff) = (None, None, Backoff::default());
    let outlets = Outlets { slice: ends.slice, events: ends.events };
    let (ruleset, sources) = (None, Arc::clone(&ends.sources.borrow_and_update()));
    let mut translator = Translator { worker, retry, backoff, outlets, places, ruleset, sources, admission: None };
    loop {
        let desired = ends.desired.borrow_and_update().clone();
        match &desired {
            Desired::Unknown => {}
            Desired::Closed => translator.end().await,
            Desired::Open(plan) => match &plan.nat64 {
                Some(plan) => translator.follow(plan),
                None => translator.end().await,
            },
        }
        tokio::select! {
            changed = ends.desired.changed() => if changed.is_err() { return },
            changed = ends.network.changed() => {
                if changed.is_err() { return }
                let network = ends.network.borrow_and_update().clone();
                translator.rules_changed(network.ruleset, network.admission);
            }
            changed = ends.sources.changed() => {
                if changed.is_err() { return }
                translator.sources = Arc::clone(&ends.sources.borrow_and_update());
                if let Some(worker) = &translator.worker {
                    worker.admit(&translator.sources);
                }
            }
            () = translator.news() => {}
            wanted = ends.list.recv() => {
                let Some(wanted) = wanted else { return };
                // Who asks while nothing is translated hears that nobody answers.
                if let Some(worker) = &translator.worker {
                    worker.list(wanted);
                }
            }
            Some(done) = ends.restart.recv() => {
                translator.leave().await;
                tracing::info!("the translator starts anew");
                let _ = done.send(());
            }
            done = ends.withdraw.recv() => {
                let Some(done) = done else { return };
                translator.end().await;
                saved::discard(&translator.places.saved);
                // Nobody waits any more when it took too long.
                let _ = done.send(());
                return std::future::pending().await;
            }
            done = ends.leave.recv() => {
                let Some(done) = done else { return };
                translator.leave().await;
                let _ = done.send(());
                return std::future::pending().await;
            }
        }
    }
}

struct Translator {
    worker: Option<Worker>,
    /// When the device is tried again.
    retry: Option<Instant>,
    backoff: Backoff,
    outlets: Outlets,
    places: Places,
    /// The ruleset in force.
    ruleset: Option<Arc<Ruleset>>,
    /// Who may send from where.
    sources: Arc<Vec<Sources>>,
    /// What it admits.
    admission: Option<Arc<Admission>>,
}

impl Translator {
    /// The thread runs with this plan, or is tried again later.
    fn follow(&mut self, plan: &Nat64Plan) {
        if let Some(worker) = &mut self.worker {
            return worker.follow(plan);
        }
        if self.retry.is_some_and(|retry| retry > Instant::now()) {
            return;
        }
        let opened = Tun::open(NAT64_DEVICE).map_err(|error| (error.to_string(), error.mend()));
        let started = opened.and_then(|tun| {
            Worker::start(tun, plan.clone(), self.outlets.clone(), &self.places)
                .map_err(|error| (error.to_string(), "raise the limit of threads".to_owned()))
        });
        match started {
            Ok(worker) => {
                tracing::info!("translating on {NAT64_DEVICE}");
                if let Some(ruleset) = &self.ruleset {
                    worker.judge(ruleset);
                }
                worker.admit(&self.sources);
                if let Some(admission) = &self.admission {
                    worker.revoke(Arc::clone(admission));
                }
                self.worker = Some(worker);
                self.retry = None;
                self.outlets.slice.send_modify(|slice| slice.findings.clear());
            }
            Err((cause, mend)) => self.failed(plan, format!("translation is off: {cause}"), mend),
        }
    }

    /// Once other rules are in force, sessions that the old ones have admitted have to pass them.
    fn rules_changed(&mut self, ruleset: Option<Arc<Ruleset>>, admission: Option<Arc<Admission>>) {
        if self.ruleset != ruleset {
            self.ruleset = ruleset;
            if let (Some(worker), Some(ruleset)) = (&self.worker, &self.ruleset) {
                worker.judge(ruleset);
            }
        }
        if self.admission != admission {
            self.admission = admission;
            if let (Some(worker), Some(admission)) = (&self.worker, &self.admission) {
                worker.revoke(Arc::clone(admission));
            }
        }
    }

    /// Returns when the thread has ended by itself or when it is time to try again.
    async fn news(&mut self) {
        match (&mut self.worker, self.retry) {
            (Some(worker), _) => {
                let cause = worker.ended().await;
                let plan = worker.plan().clone();
                self.worker = None;
                self.backoff.succeeded();
                let text = format!("the device {NAT64_DEVICE} was lost: {cause}");
                self.failed(&plan, text, "nothing to do if this is short: it is made again".to_owned());
            }
            (None, Some(retry)) => sleep_until(retry).await,
            (None, None) => std::future::pending().await,
        }
    }

    fn failed(&mut self, plan: &Nat64Plan, text: String, mend: String) {
        self.retry = Some(Instant::now() + self.backoff.failed());
        let finding = Finding::new(Severity::Error, "nat64-not-running", NAT64_DEVICE, text, mend);
        let (pref64, obstacle) = (Some(plan.pref64), Some(Obstacle::NoDevice));
        let further_pref64 = plan.further_pref64.clone();
        let status = status::Nat64 { pref64, further_pref64, obstacle, ..status::Nat64::default() };
        self.outlets.slice.send_replace(Slice { status: Some(status), findings: vec![finding] });
    }

    /// The device stays, and with it every session.
    async fn leave(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.leave().await;
        }
    }

    /// The device goes, and with it every session.
    async fn end(&mut self) {
        self.retry = None;
        if let Some(worker) = self.worker.take() {
            worker.remove().await;
        }
        self.outlets.slice.send_if_modified(|slice| std::mem::take(slice) != Slice::default());
    }
}

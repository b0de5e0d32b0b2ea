//! Tells bindings and sessions to the journal or to a syslog server. Whoever does not take them keeps only this task
//! waiting: the translator's events wait in the translator, and what finds no room there is counted.
use std::time::Duration;

use sixgate_engine::config::LogTo;
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::nat64::event::Event;
use sixgate_engine::plan::LogPlan;
use sixgate_engine::status;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::wiring::Desired;

mod record;
mod sink;

pub use sink::{Line, Sink, open as open_sink};

/// How long a server may take to accept a connection, or to take a record.
const PATIENCE: Duration = Duration::from_secs(5);

/// This task's ends of the channels.
pub struct Ends {
    /// The plan.
    pub desired: watch::Receiver<Desired>,
    /// What has happened, in batches.
    pub events: mpsc::Receiver<Vec<Event>>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// The log; absent when switched off.
    pub status: Option<status::EventLog>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Runs until nobody sends events any more.
pub async fn run(mut ends: Ends) {
    let mut log = Log { plan: None, sink: None, retry: None, backoff: Backoff::default(), slice: ends.slice };
    // What the sink has not taken yet.
    let mut batch = Vec::new().into_iter();
    loop {
        let desired = ends.desired.borrow_and_update().clone();
        // Before the first plan a restarted daemon does not know better.
        if desired != Desired::Unknown {
            log.follow(desired.plan().and_then(|plan| plan.nat64.as_ref()?.log.as_ref()));
        }
        let is_ready = log.open().await;
        if is_ready && batch.as_slice().is_empty() {
            tokio::select! {
                changed = ends.desired.changed() => if changed.is_err() { return },
                events = ends.events.recv() => match events {
                    Some(events) => batch = events.into_iter(),
                    None => return,
                },
                error = log.lost() => log.failed(&error),
            }
        }
        if is_ready {
            log.tell(&mut batch).await;
            continue;
        }
        tokio::select! {
            changed = ends.desired.changed() => if changed.is_err() { return },
            () = log.wait() => {}
        }
    }
}

/// Where it goes, and how that is going.
struct Log {
    plan: Option<LogPlan>,
    sink: Option<Sink>,
    /// When the sink is tried again.
    retry: Option<Instant>,
    backoff: Backoff,
    slice: watch::Sender<Slice>,
}

impl Log {
    fn follow(&mut self, plan: Option<&LogPlan>) {
        if self.plan.as_ref() == plan {
            return;
        }
        self.plan = plan.cloned();
        (self.sink, self.retry, self.backoff) = (None, None, Backoff::default());
        let log = plan.map(|plan| status::EventLog { to: plan.to.to_string(), ..status::EventLog::default() });
        self.slice.send_replace(Slice { status: log, findings: Vec::new() });
    }

    /// Whether events can be told. While the log is off they are taken and forgotten.
    async fn open(&mut self) -> bool {
        let Some(plan) = &self.plan else { return true };
        if self.sink.is_some() {
            return true;
        }
        if self.retry.is_some_and(|retry| retry > Instant::now()) {
            return false;
        }
        match sink::open(plan.to, PATIENCE).await {
            Ok(sink) => {
                self.sink = Some(sink);
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    /// Tells all of a batch, or up to where the sink fails; the rest stays in it.
    async fn tell(&mut self, batch: &mut std::vec::IntoIter<Event>) {
        let (Some(plan), Some(sink)) = (&self.plan, &mut self.sink) else { return *batch = Vec::new().into_iter() };
        let (began, mut written) = (record::Clock::now(), 0);
        let failed = loop {
            let Some(event) = batch.as_slice().first() else { break None };
            if let Err(error) = sink.tell(event, plan, &began, PATIENCE).await {
                break Some(error);
            }
            batch.next();
            written += 1;
        };
        if written > 0 {
            self.backoff.succeeded();
            self.slice.send_modify(|slice| {
                slice.findings.clear();
                slice.status.iter_mut().for_each(|log| log.written += written);
            });
        }
        if let Some(error) = failed {
            self.failed(&error);
        }
    }

    fn failed(&mut self, error: &std::io::Error) {
        let Some(plan) = &self.plan else { return };
        self.sink = None;
        self.retry = Some(Instant::now() + self.backoff.failed());
        let mend = match plan.to {
            LogTo::Journal => "see whether systemd-journald runs",
            LogTo::Udp(_) | LogTo::Tcp(_) => {
                "see whether the server listens there and can be reached; it is tried again"
            }
        };
        let text = format!("bindings are not told to {}: {error}", plan.to);
        let finding = Finding::new(Severity::Warning, "nat64-log-not-written", "nat64.log", text, mend);
        self.slice.send_modify(|slice| {
            slice.status.iter_mut().for_each(|log| log.failures += 1);
            slice.findings = vec![finding];
        });
    }

    /// Returns when the other end has gone.
    async fn lost(&self) -> std::io::Error {
        match &self.sink {
            Some(sink) => sink.lost().await,
            None => std::future::pending().await,
        }
    }

    async fn wait(&self) {
        match self.retry {
            Some(retry) => sleep_until(retry).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests;

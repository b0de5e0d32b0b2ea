//! What something else has changed in the kernel and was put right: counted, named, and told for a while.
use std::time::{Duration, Instant, SystemTime};

use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::status;
use sixgate_linux::network::Repair;

/// How many are remembered by name.
const LATEST: usize = 20;
/// For how long it is a finding that something was put right.
const SHOWN: Duration = Duration::from_secs(300);

/// All of them since the daemon began.
#[derive(Debug, Default)]
pub(super) struct Journal {
    status: status::Repairs,
    last: Option<Instant>,
}

impl Journal {
    /// Adds what was put right just now.
    pub(super) fn note(&mut self, repairs: Vec<Repair>) {
        for Repair { kind, item } in repairs {
            tracing::warn!("something else has changed the {kind} {item}; it was put right");
            *self.status.counts.entry(kind.to_owned()).or_default() += 1;
            let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            self.status.latest.push(status::Repair { at, kind: kind.to_owned(), item });
            self.last = Some(Instant::now());
        }
        let surplus = self.status.latest.len().saturating_sub(LATEST);
        self.status.latest.drain(..surplus);
    }

    pub(super) fn status(&self) -> &status::Repairs {
        &self.status
    }

    /// What an operator should know.
    pub(super) fn finding(&self) -> Option<Finding> {
        let repair = self.status.latest.last().filter(|_| self.last.is_some_and(|last| last.elapsed() < SHOWN))?;
        let total: u64 = self.status.counts.values().sum();
        Some(Finding::new(
            Severity::Note,
            "kernel-changed",
            repair.kind.as_str(),
            format!("something else on this machine changes what sixgate has set: {total} times, last {}", repair.item),
            "find the program that does it (a network manager, a script) and have it leave these links alone",
        ))
    }
}

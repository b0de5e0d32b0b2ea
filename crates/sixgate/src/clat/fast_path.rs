//! The CLAT's fast path: it follows the plan while the kernel has it, and says so where it has not.
use sixgate_engine::clat::plan::{ClatPlan, DEVICE};
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::status::Traffic;
use sixgate_engine::xlat::siit::Translated;
use sixgate_linux::clat::{ClatPath, discard};
use sixgate_linux::fastpath::FastPathError;

/// The programs in the kernel, loaded when they are needed first.
pub(super) struct FastPath {
    path: Option<ClatPath>,
    refused: Option<Finding>,
}

impl FastPath {
    /// Nothing runs, not even what a killed process has left.
    pub(super) fn new() -> Self {
        discard();
        Self { path: None, refused: None }
    }

    /// Plain packets are translated by this plan, if it says so.
    pub(super) fn follow(&mut self, plan: &ClatPlan, identifier: u16) {
        if !plan.active || !plan.fast_path {
            self.rest();
            return;
        }
        let path = match self.path.take() {
            Some(path) => Ok(path),
            None => ClatPath::open(),
        };
        let followed = path.and_then(|path| {
            let path = self.path.insert(path);
            path.follow(plan, identifier)
        });
        let refused = followed.err().map(|error| finding(&error));
        if let Some(finding) = refused.as_ref().filter(|finding| self.refused.as_ref() != Some(finding)) {
            tracing::warn!("{}: {}", finding.text, finding.mend);
        }
        self.refused = refused;
    }

    /// All packets cross the device.
    pub(super) fn rest(&mut self) {
        self.path.iter_mut().for_each(ClatPath::rest);
        self.refused = None;
    }

    /// Why it is not there though it should be.
    pub(super) fn finding(&self) -> Option<&Finding> {
        self.refused.as_ref()
    }

    /// Where in the kernel it runs.
    pub(super) fn hook(&self) -> Option<&'static str> {
        self.path.as_ref()?.hook().map(|hook| hook.name())
    }

    pub(super) fn translated(&self) -> Translated {
        self.path.as_ref().map(ClatPath::translated).unwrap_or_default()
    }

    /// Packets that were lost in the middle of the translation.
    pub(super) fn failed(&self) -> u64 {
        self.path.as_ref().map_or(0, ClatPath::failed)
    }
}

/// What both have translated.
pub(super) fn sum(one: Translated, other: Translated) -> Translated {
    Translated { v4_to_v6: add(one.v4_to_v6, other.v4_to_v6), v6_to_v4: add(one.v6_to_v4, other.v6_to_v4) }
}

pub(super) fn add(one: Traffic, other: Traffic) -> Traffic {
    Traffic { packets: one.packets + other.packets, bytes: one.bytes + other.bytes }
}

fn finding(error: &FastPathError) -> Finding {
    let text = format!("the kernel does not translate by itself: {error}; all packets cross the device");
    let mend = "give sixgate CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN on a kernel from 6.1 on with BPF and its JIT compiler, or start it with --fast-path never";
    Finding::new(Severity::Note, "clat-no-fast-path", DEVICE, text, mend)
}

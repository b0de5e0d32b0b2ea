//! Prefix translation in the kernel, as the plan wants it.
use std::path::{Path, PathBuf};

use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::npt::NptPlan;
use sixgate_engine::status;
use sixgate_linux::npt::{self, Npt};

/// What was told to the kernel.
#[derive(Debug)]
pub(super) struct Translation {
    bpffs: PathBuf,
    kernel: Option<Npt>,
    plan: Option<NptPlan>,
    /// What a former daemon left was looked at.
    is_clean: bool,
}

impl Translation {
    pub(super) fn new(bpffs: &Path) -> Self {
        Self { bpffs: bpffs.to_owned(), kernel: None, plan: None, is_clean: false }
    }

    /// Makes the plan true; without one, nothing is translated and nothing is left.
    pub(super) fn apply(&mut self, plan: Option<&NptPlan>) -> Vec<Finding> {
        self.plan = plan.cloned();
        let Some(plan) = plan else {
            self.end();
            return Vec::new();
        };
        let kernel = match self.kernel.take() {
            Some(kernel) => kernel,
            None => match Npt::open(&self.bpffs) {
                Ok(kernel) => kernel,
                Err(error) => return vec![not_running("npt", &error)],
            },
        };
        let kernel = self.kernel.insert(kernel);
        self.is_clean = false;
        kernel
            .apply(plan)
            .iter()
            .map(|(link, error)| not_running(if link.is_empty() { "npt" } else { link }, error))
            .collect()
    }

    /// Nothing is translated any more.
    pub(super) fn end(&mut self) {
        match self.kernel.take() {
            Some(kernel) => kernel.end(),
            None if !self.is_clean => npt::discard(&self.bpffs),
            None => {}
        }
        self.is_clean = true;
    }

    /// What the console shows.
    pub(super) fn status(&self) -> Option<status::Npt> {
        let plan = self.plan.as_ref()?;
        let kernel = self.kernel.as_ref();
        let packets = kernel.map(Npt::counters).unwrap_or_default();
        Some(status::Npt {
            hook: kernel.and_then(Npt::hook).map(|hook| hook.name().to_owned()),
            prefixes: plan.pairs.iter().map(|pair| (pair.inside, pair.outside)).collect(),
            packets: packets.into_iter().map(|(verdict, count)| (verdict.name().to_owned(), count)).collect(),
        })
    }
}

fn not_running(subject: &str, error: &sixgate_linux::fastpath::FastPathError) -> Finding {
    Finding::new(
        Severity::Error,
        "npt-not-running",
        subject,
        format!("prefixes are not translated, and their packets leave with addresses that nobody can answer: {error}"),
        "run sixgate as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, on a kernel from 6.1 on; or remove [[npt]]",
    )
}

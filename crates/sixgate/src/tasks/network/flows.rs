//! Established flows past rules and routing, as the plan wants it.
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::plan::flow::FlowPlan;
use sixgate_engine::status::{FlowOffload, Traffic};
use sixgate_linux::fastpath::FastPathError;
use sixgate_linux::flow::{self, Flows, Reason};
use sixgate_linux::system::Machine;

/// Directions of flows that a large machine knows; a small one has one for so many bytes of its memory.
const MOST: u64 = 65_536;
const LEAST: u64 = 4_096;
const MEMORY_EACH: u64 = 16_384;

/// What was told to the kernel.
#[derive(Debug, Default)]
pub(super) struct Offload {
    kernel: Option<Flows>,
    /// What a former daemon left was looked at.
    is_clean: bool,
}

impl Offload {
    /// Makes the plan true; without one, every packet passes rules and routing.
    pub(super) fn apply(&mut self, plan: Option<&FlowPlan>) -> Vec<Finding> {
        let Some(plan) = plan else {
            self.end();
            return Vec::new();
        };
        let begun = match self.kernel.take() {
            Some(kernel) => Ok(kernel),
            None => Flows::open(capacity()).and_then(|mut kernel| kernel.begin_epoch().map(|()| kernel)),
        };
        let kernel = match begun {
            Ok(kernel) => self.kernel.insert(kernel),
            Err(error) => return vec![off("firewall", &error)],
        };
        let failed = kernel.attach(&plan.links);
        failed.iter().map(|(link, error)| off(if link.is_empty() { "firewall" } else { link }, error)).collect()
    }

    /// What was admitted may not be any more: rules, connections or senders have changed.
    pub(super) fn judge(&mut self) {
        let Some(kernel) = &mut self.kernel else { return };
        if let Err(error) = kernel.begin_epoch() {
            tracing::warn!("established flows pass rules and routing from now on: {error}");
            self.end();
        }
    }

    /// Every packet passes rules and routing.
    pub(super) fn end(&mut self) {
        match self.kernel.take() {
            Some(kernel) => kernel.end(),
            None if !self.is_clean => flow::discard(),
            None => {}
        }
        self.is_clean = true;
    }

    /// What the console shows.
    pub(super) fn status(&self) -> Option<FlowOffload> {
        let kernel = self.kernel.as_ref()?;
        let counters = kernel.counters();
        let reasons = Reason::ALL.iter().zip(counters.reasons).filter(|(_, count)| *count > 0);
        Some(FlowOffload {
            hook: kernel.hook().map(|hook| hook.name().to_owned()),
            capacity: kernel.capacity().into(),
            learnt: counters.learnt,
            past: Traffic { packets: counters.packets, bytes: counters.bytes },
            reasons: reasons.map(|(reason, count)| (reason.name().to_owned(), count)).collect(),
        })
    }
}

fn capacity() -> u32 {
    let room = (Machine::read().memory_total / MEMORY_EACH).clamp(LEAST, MOST);
    u32::try_from(room).unwrap_or(u32::MAX)
}

fn off(subject: &str, error: &FastPathError) -> Finding {
    let mend = match error.cause().raw_os_error() {
        Some(1 | 13) => "run sixgate as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
        _ => "use a kernel from 6.1 on with BPF and its JIT compiler",
    };
    Finding::new(
        Severity::Warning,
        "flow-offload-off",
        subject,
        format!("established flows pass all rules, which costs the processor several times as much: {error}"),
        format!("{mend}; or set [policy] flow_offload = false"),
    )
}

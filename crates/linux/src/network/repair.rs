//! What was missing although it had been put there: something else has removed or replaced it.
use sixgate_engine::plan::{LinkPlan, NetworkPlan, Sysctl};

/// What had been put there before, and what of it had to be put there again.
#[derive(Clone, Debug, Default)]
pub struct Repairs {
    before: NetworkPlan,
    found: Vec<Repair>,
}

/// Something that was put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// "address", "route", "rule", "link" or "sysctl".
    pub kind: &'static str,
    /// What it is, e.g. `route ::/0 via fe80::1 dev eth0`.
    pub item: String,
}

impl Repairs {
    /// After a plan was made true as a whole.
    pub fn after(plan: &NetworkPlan) -> Self {
        Self { before: plan.clone(), found: Vec::new() }
    }

    /// What was put right; it is told once.
    pub fn take(&mut self) -> Vec<Repair> {
        std::mem::take(&mut self.found)
    }

    /// A value of `/proc/sys` that was written.
    pub fn note_sysctl(&mut self, sysctl: &Sysctl) {
        let was_there = self.before.sysctls.contains(sysctl);
        self.note(was_there, "sysctl", || format!("{} = {}", sysctl.path, sysctl.value));
    }

    pub(super) fn note_link(&mut self, plan: &LinkPlan) {
        let was_there = self.before.links.contains(plan);
        self.note(was_there, "link", || plan.name.clone());
    }

    pub(super) fn had<T: PartialEq>(&self, list: impl Fn(&NetworkPlan) -> &[T], item: &T) -> bool {
        list(&self.before).contains(item)
    }

    pub(super) fn note(&mut self, was_there: bool, kind: &'static str, item: impl FnOnce() -> String) {
        if was_there {
            self.found.push(Repair { kind, item: item() });
        }
    }

    /// What a look takes away itself is no repair.
    pub(super) fn forget(&mut self) {
        self.before = NetworkPlan::default();
    }
}

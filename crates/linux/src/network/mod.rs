//! Makes a [`NetworkPlan`] true with rtnetlink, as a whole and idempotently; touches only what is marked as ours.
mod address;
pub mod channels;
mod link;
mod repair;
mod route;
mod rule;

use std::io;

use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::plan::NetworkPlan;

use crate::netlink::{Netlink, NetlinkError};

pub use repair::{Repair, Repairs};
pub use route::Gateway;

#[cfg(test)]
mod tests;

/// How often [`Netlink::apply`] looks at most. Removing one thing may take others along (the last address of a link its
/// routes, a primary IPv4 address its secondaries): the next look puts them back.
const LOOKS: usize = 3;

/// One item of the plan that could not be made true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{item}: cannot {action}: {cause}")]
pub struct ApplyError {
    /// What it is about, e.g. `route ::/0 via fe80::1 dev eth0`.
    pub item: String,
    /// What was tried, e.g. `add`.
    pub action: String,
    /// The kernel's answer.
    pub cause: String,
    /// The kernel's error number, when it gave one.
    pub errno: Option<i32>,
    /// What to do about it, one sentence.
    pub mend: String,
}

impl ApplyError {
    pub(crate) fn io(item: String, action: String, error: &io::Error) -> Self {
        let errno = error.raw_os_error();
        Self { mend: mend(&item, errno), item, action, cause: error.to_string(), errno }
    }

    fn netlink(item: String, action: &str, error: &NetlinkError) -> Self {
        let errno = error.errno;
        Self { mend: mend(&item, errno), item, action: action.to_owned(), cause: error.to_string(), errno }
    }

    /// The same as a finding for the console.
    pub fn finding(&self) -> Finding {
        Finding::new(
            Severity::Error,
            "apply-failed",
            self.item.as_str(),
            format!("cannot {} {}: {}", self.action, self.item, self.cause),
            self.mend.as_str(),
        )
    }
}

fn mend(item: &str, errno: Option<i32>) -> String {
    let sentence = match errno {
        Some(libc::EPERM | libc::EACCES) => "Run sixgate as root, or with the capability CAP_NET_ADMIN.",
        Some(libc::EROFS) => "/proc/sys is read-only here; give the container a writable one.",
        Some(libc::ENODEV | libc::ENXIO) => "The interface is gone; this is applied again when it comes back.",
        Some(libc::ENETDOWN) => "The interface is down; check that nothing else switches it off.",
        Some(libc::EEXIST) => "Something else on this machine has put its own there: stop that program or remove it.",
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => {
            "The next hop cannot be reached on that link: check the gateway and the address on that interface."
        }
        Some(libc::ENOENT) if item.starts_with("sysctl") => "This kernel does not have it; use Linux 6.1 or later.",
        Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT) => "This kernel lacks the feature; use Linux 6.1 or later.",
        Some(libc::EINVAL) => "The kernel does not take this value; check it in the configuration.",
        _ => "Look at the kernel's log, mend the cause and reload.",
    };
    sentence.to_owned()
}

impl Netlink {
    /// Makes links, addresses, routes and rules what the plan says. What is new is added before what is gone is
    /// removed; what is there already stays untouched; what others have put there is left alone.
    ///
    /// One failing item does not stop the rest. Sysctls are written by [`crate::sysctl::apply_sysctls`].
    pub async fn apply(&self, plan: &NetworkPlan) -> Vec<ApplyError> {
        self.repair(plan, &mut Repairs::default()).await
    }

    /// As [`Self::apply`], and tells what was put there before and had gone. A stranger's route that has taken the place of
    /// one of those is replaced.
    pub async fn repair(&self, plan: &NetworkPlan, repairs: &mut Repairs) -> Vec<ApplyError> {
        let mut errors = Vec::new();
        for _ in 0..LOOKS {
            errors.clear();
            if self.apply_once(plan, repairs, &mut errors).await == Removed::Nothing {
                break;
            }
            repairs.forget();
        }
        errors
    }

    /// Removes everything that is ours: addresses, routes, rules; the local table's rule goes back to preference 0.
    pub async fn withdraw(&self) -> Vec<ApplyError> {
        self.apply(&NetworkPlan::default()).await
    }

    async fn apply_once(&self, plan: &NetworkPlan, repairs: &mut Repairs, errors: &mut Vec<ApplyError>) -> Removed {
        self.apply_links(&plan.links, repairs, errors).await;
        let names = self.link_names().await;
        let stale_addresses = self.add_addresses(&plan.addresses, &names, repairs, errors).await;
        let stale_routes = self.add_routes(&plan.routes, &names, repairs, errors).await;
        let stale_rules = self.add_rules(&plan.rules, repairs, errors).await;
        let mut removed = Removed::Nothing;
        removed |= self.remove_rules(stale_rules, errors).await;
        removed |= self.remove_routes(stale_routes, &names, errors).await;
        removed |= self.remove_addresses(stale_addresses, &names, errors).await;
        removed
    }
}

/// Whether a look at the kernel ended in the removal of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removed {
    Nothing,
    Something,
}

impl std::ops::BitOrAssign for Removed {
    fn bitor_assign(&mut self, other: Self) {
        if other == Self::Something {
            *self = other;
        }
    }
}

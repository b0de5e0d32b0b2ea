//! Makes the plan true in the kernel, in one order: the ruleset first, forwarding last.
//!
//! Firewall and network share this task so that nothing can come between them: forwarding is switched on by the code
//! that has just loaded the ruleset.
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::firewall::admission::Admission;
use sixgate_engine::firewall::shortcut::Shortcut;
use sixgate_engine::firewall::{self, NEIGHBOURS, TABLE, ruleset::Ruleset};
use sixgate_engine::plan::{Plan, Stage};
use sixgate_engine::savi::Sources;
use sixgate_engine::status;
use sixgate_linux::netlink::Netlink;
use sixgate_linux::network::{ApplyError, Repair, Repairs};
use sixgate_linux::nft::{NftError, Reached};
use sixgate_linux::{conntrack, nft, sysctl};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::wiring::{Desired, KernelChange, Reach, Withdraw};

/// How long a host counts as heard of, as in the set that rules fill.
const REMEMBERED: Duration = Duration::from_secs(86_400);

mod flows;
mod npt;
mod repairs;

/// How often everything is compared with the plan though nothing was announced.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often values below `/proc/sys` are read: most are announced by nobody.
const READ_EVERY: Duration = Duration::from_millis(500);

/// How often counters are read.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// This task's ends of the channels.
pub struct Ends {
    /// The plan.
    pub desired: watch::Receiver<Desired>,
    /// Links, addresses, routes or rules have changed; what is missing is put back.
    pub kernel: watch::Receiver<KernelChange>,
    /// Who may send from where on the LANs.
    pub sources: watch::Receiver<Arc<Vec<Sources>>>,
    /// Asks for everything to be taken back.
    pub withdraw: mpsc::Receiver<Withdraw>,
    /// Addresses of names that somebody may reach.
    pub reached: mpsc::Receiver<Reach>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
    /// Established flows past rules and routing; absent where they pass them.
    pub flows: watch::Sender<Option<status::FlowOffload>>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// The ruleset in force; absent while none of ours is.
    pub ruleset: Option<Arc<Ruleset>>,
    /// Who may begin a conversation with whom, by that ruleset.
    pub admission: Option<Arc<Admission>>,
    /// Raised by one whenever a ruleset is loaded: what was admitted before may not be any more.
    pub generation: u64,
    /// Connections that ended because they were not admitted any more.
    pub ended: u64,
    /// Prefix translation; absent where none is configured.
    pub npt: Option<status::Npt>,
    /// What was put right.
    pub repairs: status::Repairs,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Runs until it has withdrawn, and then stays without doing anything.
pub async fn run(mut ends: Ends, bpffs: &Path) {
    let mut kernel = Kernel::new(bpffs);
    let mut backoff = Backoff::default();
    let mut watch = None;
    loop {
        ends.kernel.borrow_and_update();
        listen(&mut watch);
        let desired = ends.desired.borrow_and_update().clone();
        let mut findings = kernel.apply(&desired, &ends.slice).await;
        let is_done = findings.is_empty();
        kernel.remember(&desired, is_done);
        if desired.plan().is_some() {
            let sources = ends.sources.borrow_and_update().clone();
            findings.extend(kernel.validate(&sources).await);
        }
        let next = if findings.is_empty() {
            backoff.succeeded();
            LOOK_EVERY
        } else {
            backoff.failed()
        };
        publish(&ends.slice, &kernel, findings);
        let again = sleep(next);
        tokio::pin!(again);
        loop {
            tokio::select! {
                changed = ends.desired.changed() => if changed.is_err() { return },
                changed = ends.kernel.changed() => if changed.is_err() { return },
                changed = ends.sources.changed() => if changed.is_err() { return },
                () = &mut again => {}
                () = rules_changed(&mut watch) => {}
                () = values_differ(&desired) => {}
                () = count(&ends.flows, &kernel.flows) => {}
                Some((reached, done)) = ends.reached.recv() => {
                    kernel.reach(reached).await;
                    // Nobody waits any more when it took too long.
                    let _ = done.send(());
                    continue;
                }
                done = ends.withdraw.recv() => {
                    let Some(done) = done else { return };
                    let findings = kernel.withdraw().await;
                    publish(&ends.slice, &kernel, findings);
                    let _ = done.send(());
                    return std::future::pending().await;
                }
            }
            break;
        }
    }
}

/// What was announced up to now is looked at next. Without a socket, looking every now and then has to do.
fn listen(watch: &mut Option<nft::Watch>) {
    match watch {
        Some(watch) => watch.drain(),
        None => *watch = nft::Watch::open().inspect_err(|error| tracing::debug!("nftables: {error}")).ok(),
    }
}

/// Somebody who flushes all rules must not leave the router open until the next look.
async fn rules_changed(watch: &mut Option<nft::Watch>) {
    let Some(listening) = watch else { return std::future::pending().await };
    if let Err(error) = listening.changed().await {
        tracing::debug!("nftables announces nothing any more: {error}");
        *watch = None;
        std::future::pending::<()>().await;
    }
}

/// Somebody who writes a value below `/proc/sys` announces it to nobody. What cannot be written is a finding already.
async fn values_differ(desired: &Desired) {
    let Some(plan) = desired.plan() else { return std::future::pending().await };
    let differing = || sysctl::differing(&plan.network.sysctls).collect::<Vec<_>>();
    let before = differing();
    loop {
        sleep(READ_EVERY).await;
        if differing().iter().any(|sysctl| !before.contains(sysctl)) {
            return;
        }
    }
}

/// Tells of what the programs count.
async fn count(told: &watch::Sender<Option<status::FlowOffload>>, flows: &flows::Offload) {
    loop {
        told.send_replace(flows.status());
        sleep(COUNT_EVERY).await;
    }
}

fn publish(slice: &watch::Sender<Slice>, kernel: &Kernel, mut findings: Vec<Finding>) {
    findings.extend(kernel.journal.finding());
    let new = Slice {
        ruleset: kernel.ruleset.clone(),
        admission: kernel.admission.clone(),
        generation: kernel.generation,
        ended: kernel.ended,
        npt: kernel.npt.status(),
        repairs: kernel.journal.status().clone(),
        findings,
    };
    slice.send_if_modified(|old| {
        let changed = *old != new;
        if changed {
            *old = new;
        }
        changed
    });
}

/// What was told to the kernel.
struct Kernel {
    netlink: Option<Netlink>,
    /// The ruleset in force; loading it anew would reset its counters.
    ruleset: Option<Arc<Ruleset>>,
    /// The shortcuts in force.
    shortcut: Option<Shortcut>,
    /// Who may send from where, as it is in force.
    sources: Option<Arc<Vec<Sources>>>,
    /// How often a ruleset was loaded.
    generation: u64,
    /// What connections were judged by.
    admission: Option<Arc<Admission>>,
    /// Connections that were ended.
    ended: u64,
    /// Of those, how many were remembered when they were looked at last; they may go on when an entry comes back.
    marked: usize,
    /// Addresses of names, and until when somebody may reach them.
    reached: HashMap<(String, Ipv6Addr), Instant>,
    /// Prefix translation.
    npt: npt::Translation,
    /// Established flows past rules and routing.
    flows: flows::Offload,
    /// What was put there, and what of it had gone.
    repairs: Repairs,
    journal: repairs::Journal,
}

impl Kernel {
    fn new(bpffs: &Path) -> Self {
        Self {
            netlink: None,
            ruleset: None,
            shortcut: None,
            sources: None,
            generation: 0,
            admission: None,
            ended: 0,
            marked: 0,
            reached: HashMap::new(),
            npt: npt::Translation::new(bpffs),
            flows: flows::Offload::default(),
            repairs: Repairs::default(),
            journal: repairs::Journal::default(),
        }
    }

    /// What is found missing the next time was changed by something else, where all of it was there this time.
    fn remember(&mut self, desired: &Desired, is_done: bool) {
        self.journal.note(self.repairs.take());
        self.repairs = match desired.plan() {
            Some(plan) if is_done => Repairs::after(&plan.network),
            Some(_) | None => Repairs::default(),
        };
    }

    async fn apply(&mut self, desired: &Desired, slice: &watch::Sender<Slice>) -> Vec<Finding> {
        match desired {
            Desired::Unknown => self.deny_first().await,
            Desired::Closed => self.close().await,
            Desired::Open(plan) => self.open(plan, slice).await,
        }
    }

    /// Early sysctls, ruleset, links, addresses, routes, rules, and forwarding only behind the ruleset.
    async fn open(&mut self, plan: &Plan, slice: &watch::Sender<Slice>) -> Vec<Finding> {
        sysctl::differing(&plan.network.sysctls).for_each(|sysctl| self.repairs.note_sysctl(sysctl));
        let mut errors = sysctl::apply_sysctls(&plan.network.sysctls, Stage::Early);
        let mut findings = self.enforce(&plan.firewall).await;
        if self.ruleset.as_deref() == Some(&plan.firewall) {
            findings.extend(self.judge_connections(&plan.admission).await);
            // Whoever has changed an entry waits for nothing else.
            self.announce(slice);
        }
        findings.extend(self.npt.apply(plan.npt.as_ref()));
        let mut repairs = std::mem::take(&mut self.repairs);
        match self.netlink() {
            Ok(netlink) => {
                let refused = netlink.repair(&plan.network, &mut repairs).await;
                if !refused.is_empty() {
                    // The connection itself may be what is broken.
                    self.netlink = None;
                }
                errors.extend(refused);
            }
            Err(finding) => findings.push(finding),
        }
        self.repairs = repairs;
        // Behind the ruleset, whose twin it is.
        self.shorten(plan.shortcut.as_ref().filter(|_| self.ruleset.is_some())).await;
        if self.ruleset.is_some() {
            errors.extend(sysctl::apply_sysctls(&plan.network.sysctls, Stage::Forwarding));
            // Behind prefix translation, and behind what connection tracking is told of it.
            findings.extend(self.flows.apply(plan.flows.as_ref()));
        } else {
            self.flows.end();
            errors.extend(sysctl::stop_forwarding());
        }
        findings.extend(errors.iter().map(ApplyError::finding));
        findings
    }

    /// Tells of the ruleset alone.
    fn announce(&self, slice: &watch::Sender<Slice>) {
        slice.send_if_modified(|slice| {
            let is_new = slice.ruleset != self.ruleset;
            if is_new {
                slice.ruleset.clone_from(&self.ruleset);
                slice.admission.clone_from(&self.admission);
                (slice.generation, slice.ended) = (self.generation, self.ended);
            }
            is_new
        });
    }

    /// Before there is a plan: a machine without a ruleset of ours is closed at once, since forwarding may be on from
    /// elsewhere. A ruleset that a former daemon left stays until the plan's takes its place.
    async fn deny_first(&mut self) -> Vec<Finding> {
        let closed = firewall::closed();
        match nft::loaded(&closed.table).await {
            Ok(true) => Vec::new(),
            Ok(false) | Err(_) => self.enforce(&closed).await,
        }
    }

    /// Without a valid configuration: nothing is forwarded, nothing is let in; what a former daemon put there stays.
    async fn close(&mut self) -> Vec<Finding> {
        self.flows.end();
        self.shorten(None).await;
        self.sources = None;
        if let Err(error) = nft::sources::unload().await {
            tracing::warn!("source address validation stays: {error}");
        }
        let mut findings = self.enforce(&firewall::closed()).await;
        findings.extend(sysctl::stop_forwarding().iter().map(ApplyError::finding));
        findings
    }

    /// For `stop`: forwarding goes first, then the firewall closes, then everything else goes.
    async fn withdraw(&mut self) -> Vec<Finding> {
        let mut findings = self.close().await;
        self.npt.end();
        match self.netlink() {
            Ok(netlink) => findings.extend(netlink.withdraw().await.iter().map(ApplyError::finding)),
            Err(finding) => findings.push(finding),
        }
        findings
    }

    /// What a removed entry had admitted ends; once for each change.
    async fn judge_connections(&mut self, admission: &Admission) -> Option<Finding> {
        if self.admission.as_deref() == Some(admission) {
            return None;
        }
        // Nobody's connection ends by an entry more, and there may be very many to look at.
        let is_wider = self.admission.as_ref().is_some_and(|held| admission.only_adds_to(held));
        if is_wider && self.marked == 0 {
            self.admission = Some(Arc::new(admission.clone()));
            return None;
        }
        match conntrack::judge(admission).await {
            Ok(judged) => {
                self.marked = judged.marked;
                self.ended += judged.ended as u64;
                if judged.ended > 0 {
                    tracing::info!("{} connections end: they are not admitted any more", judged.ended);
                }
            }
            Err(error) => {
                return Some(Finding::new(
                    Severity::Warning,
                    "connections-not-judged",
                    "firewall",
                    format!("connections that are not admitted any more may go on: {error}"),
                    "load the kernel module nf_conntrack_netlink; run sixgate as root, or with CAP_NET_ADMIN",
                ));
            }
        }
        self.flows.judge();
        self.admission = Some(Arc::new(admission.clone()));
        None
    }

    /// Lets restricted hosts reach what they are about to be told of.
    async fn reach(&mut self, reached: Vec<Reached>) {
        let now = Instant::now();
        self.reached.retain(|_, until| *until > now);
        let is_new = |one: &Reached| {
            let until = self.reached.get(&(one.set.clone(), one.address));
            until.is_none_or(|until| *until < now + one.lasts / 2)
        };
        let new: Vec<Reached> = reached.into_iter().filter(is_new).collect();
        if new.is_empty() {
            return;
        }
        match nft::reach(TABLE, &new).await {
            Ok(()) => {
                self.reached.extend(new.into_iter().map(|one| ((one.set, one.address), now + one.lasts)));
            }
            // The ruleset without the entry is in force, or none: it is asked for again.
            Err(error) => tracing::debug!("addresses of a name: {error}"),
        }
    }

    /// What a former daemon has learnt of names is in its ruleset still.
    async fn recall(&mut self, ruleset: &Ruleset) {
        let now = Instant::now();
        let names: Vec<String> = ruleset.timed.iter().filter(|set| !ruleset.remembers(set)).cloned().collect();
        for one in nft::held(&ruleset.table, &names).await {
            self.reached.entry((one.set, one.address)).or_insert(now + one.lasts);
        }
    }

    /// What the sets of a new ruleset begin with.
    fn known(&self) -> Vec<Reached> {
        let now = Instant::now();
        let left = self.reached.iter().filter(|(_, until)| **until > now);
        left.map(|((set, address), until)| Reached { set: set.clone(), address: *address, lasts: *until - now })
            .collect()
    }

    /// Whom the rules remember, and who is in the kernel's neighbour cache.
    async fn heard_of(ruleset: &Ruleset) -> Vec<Reached> {
        let of = |address, lasts| Reached { set: NEIGHBOURS.to_owned(), address, lasts };
        let mut heard: BTreeMap<Ipv6Addr, Duration> = BTreeMap::new();
        let neighbours = match Netlink::connect() {
            Ok(netlink) => netlink.neighbours().await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        for known in neighbours {
            if let (IpAddr::V6(address), true) = (known.address, known.seen) {
                heard.insert(address, REMEMBERED);
            }
        }
        for one in nft::held(&ruleset.table, &[NEIGHBOURS.to_owned()]).await {
            heard.insert(one.address, one.lasts);
        }
        heard.into_iter().map(|(address, lasts)| of(address, lasts)).collect()
    }

    /// By as little as possible, so that counters go on; else as a whole.
    async fn replace(&self, ruleset: &Ruleset) -> Result<(), NftError> {
        if let Some(held) = &self.ruleset {
            match nft::change(held, ruleset).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => tracing::warn!("the ruleset is loaded as a whole: {error}"),
            }
        }
        let mut known = self.known();
        known.extend(Self::heard_of(ruleset).await);
        nft::load(ruleset, &known).await
    }

    /// Loads the ruleset unless it is in force already.
    async fn enforce(&mut self, ruleset: &Ruleset) -> Vec<Finding> {
        let seen = nft::loaded(&ruleset.table).await;
        if is_lost(&seen) && self.ruleset.take().is_some() {
            self.journal.note(vec![Repair { kind: "ruleset", item: ruleset.table.clone() }]);
        }
        if self.ruleset.as_deref() == Some(ruleset) {
            return seen.err().map(|error| unseen(ruleset, &error)).into_iter().collect();
        }
        if self.ruleset.is_none() {
            self.recall(ruleset).await;
        }
        match self.replace(ruleset).await {
            Ok(()) => {
                self.ruleset = Some(Arc::new(ruleset.clone()));
                self.generation += 1;
                self.flows.judge();
                Vec::new()
            }
            // A ruleset of this daemon that is in force stays in force: it denies what it denied.
            Err(error) => vec![Finding::new(
                Severity::Error,
                "firewall-not-loaded",
                format!("nftables table {}", ruleset.table),
                format!("the ruleset could not be loaded: {error}"),
                error.mend(),
            )],
        }
    }

    /// Loads the shortcuts, or removes those of this or a former daemon. Without them packets take the kernel's way.
    async fn shorten(&mut self, wanted: Option<&Shortcut>) {
        let held = nft::shortcut::loaded(TABLE).await;
        let Some(wanted) = wanted else {
            self.shortcut = None;
            if let Ok(true) = held
                && let Err(error) = nft::shortcut::unload(TABLE).await
            {
                tracing::warn!("the translator's shortcuts stay: {error}");
            }
            return;
        };
        if self.shortcut.as_ref() == Some(wanted) && !is_lost(&held) {
            return;
        }
        match nft::shortcut::load(wanted).await {
            Ok(()) => self.shortcut = Some(wanted.clone()),
            // What is in force may be wider than what the new ruleset admits.
            Err(error) => {
                tracing::info!("the translator's packets take the kernel's way: {error}");
                self.shortcut = None;
                let _ = nft::shortcut::unload(TABLE).await;
            }
        }
    }

    /// Admits hosts on the LANs by what discovery shows. What a former daemon has left stays until there is something to
    /// take its place.
    async fn validate(&mut self, wanted: &Arc<Vec<Sources>>) -> Option<Finding> {
        let held = nft::sources::loaded().await;
        if is_lost(&held) {
            self.sources = None;
        }
        if self.sources.as_ref() == Some(wanted) || (wanted.is_empty() && is_lost(&held)) {
            return None;
        }
        let done = match &self.sources {
            _ if wanted.is_empty() && self.sources.is_none() => return None,
            _ if wanted.is_empty() => nft::sources::unload().await,
            Some(old) => match nft::sources::change(old, wanted).await {
                Ok(true) => Ok(()),
                Ok(false) | Err(_) => nft::sources::load(wanted).await,
            },
            None => nft::sources::load(wanted).await,
        };
        match done {
            Ok(()) => {
                self.sources = Some(Arc::clone(wanted));
                self.flows.judge();
                None
            }
            Err(error) => {
                self.sources = None;
                Some(Finding::new(
                    Severity::Error,
                    "sources-not-validated",
                    "anti-spoofing",
                    format!("hosts on the LANs can send from one another's addresses: {error}"),
                    error.mend(),
                ))
            }
        }
    }

    fn netlink(&mut self) -> Result<&Netlink, Finding> {
        let connected = match self.netlink.take() {
            Some(connected) => connected,
            None => Netlink::connect().map_err(|error| {
                Finding::new(
                    Severity::Error,
                    "netlink-unavailable",
                    "network",
                    format!("addresses and routes cannot be set: {error}"),
                    "run sixgate as root, or with the capability CAP_NET_ADMIN; raise the limit of open files",
                )
            })?,
        };
        Ok(self.netlink.insert(connected))
    }
}

/// Whether a look at the kernel says that the table has gone. One that could not be taken says nothing: a lack of file
/// descriptors must not end in forwarding being switched off behind a ruleset that is in force.
fn is_lost<E>(seen: &Result<bool, E>) -> bool {
    matches!(seen, Ok(false))
}

fn unseen(ruleset: &Ruleset, error: &NftError) -> Finding {
    Finding::new(
        Severity::Warning,
        "firewall-not-seen",
        format!("nftables table {}", ruleset.table),
        format!("whether the ruleset is still in force cannot be told: {error}"),
        error.mend(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_fails_does_not_say_that_the_ruleset_has_gone() {
        assert!(is_lost::<()>(&Ok(false)));
        assert!(!is_lost::<()>(&Ok(true)));
        assert!(!is_lost(&Err("Too many open files")));
    }
}

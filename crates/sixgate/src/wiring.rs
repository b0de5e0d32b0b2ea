//! Every channel of the daemon is created, and drawn, here.
//!
//! ```text
//!  file ──> configuration ──Configured──┐
//!             ^ ConfigurationCommand    v
//!             │                      planner ──Desired──┬──────────┬─────────┬─────────┐
//!             │                         ^               v          v         v         v
//!  rtnetlink ──> facts ─────Facts───────┘            network      ra       dns64     nat64 (own thread)
//!                  ├─> uplink ──Learnt──┘               ^          │         │         │
//!                  └──KernelChange──────────────────────┤          │         │         │
//!                                                       │          │         │         │
//!   configuration, planner, network, ra, dns64, nat64, control: a slice of Status each │
//!                                 │                                                    │
//!                                 v                                                    │
//!   scrapers ─> metrics ──Ask──┐                                                       │
//!   clients ──> control ──Ask──┴> status                                               │
//!                  ├──ConfigurationCommand──> configuration, ──Flush──> dns64          │
//!                  ├──Restarts──> uplink, ra, dns64 or nat64                           │
//!                  └──Ending──> lifecycle ──Withdraw──> 1. ra  2. nat64 ───────────────┘  3. network
//!  signals ────────────────────────^  └──Withdraw──> or, before a restart, nat64 alone: it saves its sessions
//! ```
//!
//! control asks appliance for what concerns the machine: updates, reset, restart; it asks status whether the router is healthy.
//! resume tells uplink, ra and time that the machine goes on from another time. time takes configuration and Learnt.
//! host asks status for what hypervisor and provider may have done.
//! ndp_proxy, stateless, savi, metrics, ddns and vm_prefixes take Desired as ra does, and each has a slice of Status. savi tells network who may
//! send from where, and planner what discovery shows of the VMs.
//! denials takes Desired and Facts, hears of packets by NFLOG, and answers control.
//! What is logged goes to log, too, which keeps the last of it; control asks it.
//! nat64's thread sends what happens to bindings, in batches, to nat64_log; control asks it for sessions.
//!
//! State travels in `watch` channels, the newest value wins; commands travel in bounded `mpsc` channels.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv6Net;
use sixgate_engine::config::Config;
use sixgate_engine::facts::Facts;
use sixgate_engine::finding::Finding;
use sixgate_engine::plan::Plan;
use sixgate_engine::prefix::Learnt;
use sixgate_engine::status::{SessionPage, Status};
use sixgate_engine::why::Step;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::control::{Event, PastConfiguration, Session};
use crate::lifecycle::{self, Ending};
use crate::tasks::{
    appliance, configuration, connections, control, ddns, denials, dns64, facts, host, log, metrics, nat64, nat64_log,
    ndp_proxy, network, planner, ra, resume, savi, stateless, status, time, uplink, vm_prefixes,
};

/// Commands that may wait in a channel; a sender that finds it full is told so.
const COMMANDS: usize = 16;

/// What the configuration task holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configured {
    /// The file has been looked at.
    pub attempted: bool,
    /// The last valid configuration.
    pub config: Option<Arc<Config>>,
    /// What is wrong with the file as it stands, and what is on trial.
    pub findings: Vec<Finding>,
    /// When the configuration in force goes by itself unless it is confirmed.
    pub trial_until: Option<tokio::time::Instant>,
}

/// What the tasks are to make true.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Desired {
    /// Nothing is known yet: what a former daemon left behind stays.
    #[default]
    Unknown,
    /// There is no valid configuration: everything is denied, nothing is forwarded.
    Closed,
    /// The plan.
    Open(Arc<Plan>),
}

impl Desired {
    /// The plan, where there is one.
    pub fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Unknown | Self::Closed => None,
            Self::Open(plan) => Some(plan),
        }
    }
}

/// Raised by one whenever the kernel's links, addresses, routes or rules change.
pub type KernelChange = u64;
/// Raised by one whenever the machine goes on from another time: put back to a snapshot, copied, asleep.
pub type Resumed = u64;
/// What is answered when it is done, or why it was not.
pub type Answer<T> = oneshot::Sender<Result<T, String>>;

/// What the configuration task can be asked for.
#[derive(Debug)]
pub enum ConfigurationCommand {
    /// Read the file again.
    Reload(Answer<()>),
    /// Put a configuration into force and keep it, or try it for a time.
    Apply {
        /// Its text.
        text: String,
        /// How long it is tried; absent where it is to last at once.
        trial: Option<Duration>,
        /// The session that asks: it must not be cut without a trial.
        session: Option<Session>,
        /// Once it is in force.
        answer: Answer<()>,
    },
    /// Keep what is on trial.
    Confirm(Answer<()>),
    /// Go back.
    Revert {
        /// Number of the earlier configuration; absent for what is on trial, or for the one before.
        to: Option<u64>,
        /// As for `Apply`.
        trial: Option<Duration>,
        /// The session that asks: it must not be cut without a trial.
        session: Option<Session>,
        /// Once it is in force.
        answer: Answer<()>,
    },
    /// What becomes of a conversation.
    Why {
        /// Who begins it.
        from: String,
        /// With whom.
        to: String,
        /// About what.
        service: String,
        /// The way, step by step.
        answer: Answer<Vec<Step>>,
    },
    /// The text of the configuration in force.
    Text(Answer<String>),
    /// Whether a password is the configuration's.
    Unlock {
        /// What was typed.
        password: String,
        /// Nothing, or why not.
        answer: Answer<()>,
    },
    /// What is kept, newest first.
    History(Answer<Vec<PastConfiguration>>),
}

/// The whole state, please.
pub type Ask = oneshot::Sender<Status>;
/// A part of the translator's sessions, please; nothing while it does not run.
#[derive(Debug)]
pub struct ListSessions {
    /// Where in the table the part begins.
    pub from: u32,
    /// Of whom; of all where there is none.
    pub clients: Option<Ipv6Net>,
    /// The answer.
    pub answer: oneshot::Sender<SessionPage>,
}

/// What was logged after an event, please.
#[derive(Debug)]
pub struct ListEvents {
    /// The event's number.
    pub after: u64,
    /// The answer.
    pub answer: oneshot::Sender<Vec<Event>>,
}

/// Addresses that the resolver is about to tell of, and who waits until the firewall knows them.
pub type Reach = (Vec<sixgate_linux::nft::Reached>, oneshot::Sender<()>);
/// Forget the resolver's answers about that name, or all; the answer is what is wrong with the name.
pub type Flush = (Option<String>, oneshot::Sender<Result<(), String>>);
/// Take back from the network what this task put there; the answer is that it is done.
pub type Withdraw = oneshot::Sender<()>;

/// Asks services to start anew, one by one.
#[derive(Clone, Debug)]
pub struct Restarts {
    /// The clients on the uplink.
    pub uplink: mpsc::Sender<Withdraw>,
    /// The advertisers.
    pub ra: mpsc::Sender<Withdraw>,
    /// The resolver.
    pub dns64: mpsc::Sender<Withdraw>,
    /// The translator.
    pub nat64: mpsc::Sender<Withdraw>,
}

/// Where things outlive the daemon.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// Leases and identifiers.
    pub state: &'a Path,
    /// The BPF file system, for the fast path.
    pub bpffs: &'a Path,
}

/// Every task's end of the channels.
pub struct Wiring {
    configuration: configuration::Ends,
    facts: facts::Ends,
    uplink: uplink::Ends,
    planner: planner::Ends,
    network: network::Ends,
    ra: ra::Ends,
    denials: denials::Ends,
    dns64: dns64::Ends,
    nat64: nat64::Ends,
    nat64_log: nat64_log::Ends,
    metrics: metrics::Ends,
    ndp_proxy: ndp_proxy::Ends,
    stateless: stateless::Ends,
    ddns: ddns::Ends,
    vm_prefixes: vm_prefixes::Ends,
    savi: savi::Ends,
    status: status::Ends,
    control: control::Ends,
    log: log::Ends,
    appliance: appliance::Ends,
    resume: resume::Ends,
    host: host::Ends,
    connections: connections::Ends,
    time: time::Ends,
    lifecycle: lifecycle::Ends,
}

impl Wiring {
    /// Creates the channels; `events` is what is logged.
    pub fn new(events: mpsc::Receiver<Event>) -> Self {
        let (configured, configured_seen) = watch::channel(Configured::default());
        let (facts, facts_seen) = watch::channel(None::<Arc<Facts>>);
        let (kernel, kernel_seen) = watch::channel(KernelChange::default());
        let (desired, desired_seen) = watch::channel(Desired::default());

        let (learnt, learnt_seen) = watch::channel(None::<Arc<Learnt>>);

        let (uplink_slice, uplink_slice_seen) = watch::channel(uplink::Slice::default());
        let (facts_slice, facts_slice_seen) = watch::channel(facts::Slice::default());
        let (network_slice, network_slice_seen) = watch::channel(network::Slice::default());
        let (flows, flows_seen) = watch::channel(None);
        let (ra_slice, ra_slice_seen) = watch::channel(ra::Slice::default());
        let (denials_slice, denials_slice_seen) = watch::channel(denials::Slice::default());
        let (dns64_slice, dns64_slice_seen) = watch::channel(dns64::Slice::default());
        let (nat64_log_slice, nat64_log_slice_seen) = watch::channel(nat64_log::Slice::default());
        let (nat64_slice, nat64_slice_seen) = watch::channel(nat64::Slice::default());
        let (ndp_proxy_slice, ndp_proxy_slice_seen) = watch::channel(ndp_proxy::Slice::default());
        let (stateless_slice, stateless_slice_seen) = watch::channel(stateless::Slice::default());
        let (ddns_slice, ddns_slice_seen) = watch::channel(ddns::Slice::default());
        let (vm_prefixes_slice, vm_prefixes_slice_seen) = watch::channel(vm_prefixes::Slice::default());
        let (savi_slice, savi_slice_seen) = watch::channel(savi::Slice::default());
        let (sources, sources_seen) = watch::channel(Arc::default());
        let (discovered, discovered_seen) = watch::channel(Vec::new());
        let (metrics_slice, metrics_slice_seen) = watch::channel(metrics::Slice::default());
        let (appliance_slice, appliance_slice_seen) = watch::channel(appliance::Slice::default());
        let (resumed, resumed_seen) = watch::channel(Resumed::default());
        let (connections_slice, connections_seen) = watch::channel(connections::Slice::default());
        let (host_slice, host_slice_seen) = watch::channel(host::Slice::default());
        let (time_slice, time_slice_seen) = watch::channel(time::Slice::default());
        let (order, orders) = mpsc::channel::<appliance::Order>(1);
        let (control_slice, control_slice_seen) = watch::channel(control::Slice::default());

        let (command, commands) = mpsc::channel::<ConfigurationCommand>(COMMANDS);
        let (ask, asked) = mpsc::channel::<Ask>(COMMANDS);
        let (reach, reached) = mpsc::channel::<Reach>(COMMANDS);
        let (flush, flushes) = mpsc::channel::<Flush>(COMMANDS);
        let (list_events, events_wanted) = mpsc::channel::<ListEvents>(COMMANDS);
        let (ending, endings) = mpsc::channel::<Ending>(COMMANDS);
        let (nat64_events, nat64_told) = mpsc::channel(COMMANDS);
        let (ask_denials, denials_asked) = mpsc::channel::<denials::Ask>(COMMANDS);
        let (list_sessions, sessions_wanted) = mpsc::channel::<ListSessions>(COMMANDS);
        let (restart_uplink, uplink_restart) = mpsc::channel::<Withdraw>(1);
        let (restart_ra, ra_restart) = mpsc::channel::<Withdraw>(1);
        let (restart_dns64, dns64_restart) = mpsc::channel::<Withdraw>(1);
        let (restart_nat64, nat64_restart) = mpsc::channel::<Withdraw>(1);
        let restarts = Restarts { uplink: restart_uplink, ra: restart_ra, dns64: restart_dns64, nat64: restart_nat64 };
        let (withdraw_ra, ra_withdrawn) = mpsc::channel::<Withdraw>(1);
        let (withdraw_nat64, nat64_withdrawn) = mpsc::channel::<Withdraw>(1);
        let (leave_nat64, nat64_left) = mpsc::channel::<Withdraw>(1);
        let (withdraw_network, network_withdrawn) = mpsc::channel::<Withdraw>(1);

        Self {
            configuration: configuration::Ends {
                commands,
                configured,
                facts: facts_seen.clone(),
                learnt: learnt_seen.clone(),
                network: network_slice_seen.clone(),
                sessions: list_sessions.clone(),
                nat64: nat64_slice_seen.clone(),
            },
            facts: facts::Ends { facts, kernel, slice: facts_slice },
            uplink: uplink::Ends {
                configured: configured_seen.clone(),
                facts: facts_seen.clone(),
                restart: uplink_restart,
                resumed: resumed_seen.clone(),
                learnt,
                slice: uplink_slice,
            },
            planner: planner::Ends {
                configured: configured_seen.clone(),
                facts: facts_seen.clone(),
                learnt: learnt_seen.clone(),
                discovered: discovered_seen.clone(),
                desired,
            },
            network: network::Ends {
                desired: desired_seen.clone(),
                kernel: kernel_seen,
                sources: sources_seen.clone(),
                withdraw: network_withdrawn,
                reached,
                slice: network_slice,
                flows,
            },
            denials: denials::Ends {
                desired: desired_seen.clone(),
                facts: facts_seen.clone(),
                asked: denials_asked,
                slice: denials_slice,
            },
            ra: ra::Ends {
                desired: desired_seen.clone(),
                withdraw: ra_withdrawn,
                restart: ra_restart,
                resumed: resumed_seen.clone(),
                slice: ra_slice,
            },
            time: time::Ends {
                configured: configured_seen.clone(),
                learnt: learnt_seen.clone(),
                resumed: resumed_seen,
                slice: time_slice,
            },
            resume: resume::Ends { resumed },
            host: host::Ends { ask: ask.clone(), slice: host_slice },
            connections: connections::Ends { slice: connections_slice },
            dns64: dns64::Ends {
                desired: desired_seen.clone(),
                network: network_slice_seen.clone(),
                sources: sources_seen.clone(),
                flushes,
                restart: dns64_restart,
                reach,
                slice: dns64_slice,
            },
            nat64: nat64::Ends {
                desired: desired_seen.clone(),
                withdraw: nat64_withdrawn,
                leave: nat64_left,
                restart: nat64_restart,
                list: sessions_wanted,
                network: network_slice_seen.clone(),
                sources: sources_seen,
                events: nat64_events,
                slice: nat64_slice,
            },
            nat64_log: nat64_log::Ends { desired: desired_seen.clone(), events: nat64_told, slice: nat64_log_slice },
            ndp_proxy: ndp_proxy::Ends { desired: desired_seen.clone(), slice: ndp_proxy_slice },
            stateless: stateless::Ends { desired: desired_seen.clone(), slice: stateless_slice },
            ddns: ddns::Ends { desired: desired_seen.clone(), slice: ddns_slice },
            vm_prefixes: vm_prefixes::Ends {
                desired: desired_seen.clone(),
                network: network_slice_seen.clone(),
                slice: vm_prefixes_slice,
            },
            savi: savi::Ends { desired: desired_seen.clone(), sources, discovered, slice: savi_slice },
            metrics: metrics::Ends {
                desired: desired_seen.clone(),
                network: network_slice_seen.clone(),
                ask: ask.clone(),
                slice: metrics_slice,
            },
            status: status::Ends {
                asked,
                configured: configured_seen.clone(),
                facts: facts_seen.clone(),
                learnt: learnt_seen,
                desired: desired_seen,
                uplink: uplink_slice_seen,
                facts_slice: facts_slice_seen,
                network: network_slice_seen.clone(),
                flows: flows_seen,
                denials: denials_slice_seen,
                ra: ra_slice_seen.clone(),
                dns64: dns64_slice_seen,
                nat64: nat64_slice_seen,
                nat64_log: nat64_log_slice_seen,
                ndp_proxy: ndp_proxy_slice_seen,
                stateless: stateless_slice_seen,
                ddns: ddns_slice_seen,
                vm_prefixes: vm_prefixes_slice_seen,
                savi: savi_slice_seen,
                discovered: discovered_seen,
                metrics: metrics_slice_seen,
                appliance: appliance_slice_seen,
                time: time_slice_seen,
                host: host_slice_seen,
                connections: connections_seen,
                control: control_slice_seen,
            },
            appliance: appliance::Ends {
                configured: configured_seen,
                network: network_slice_seen,
                ra: ra_slice_seen,
                facts: facts_seen,
                ask: ask.clone(),
                orders,
                ending: ending.clone(),
                slice: appliance_slice,
            },
            log: log::Ends { events, list: events_wanted },
            control: control::Ends {
                ask,
                command: command.clone(),
                flush,
                denials: ask_denials,
                sessions: list_sessions,
                restarts,
                ending,
                order,
                log: list_events,
                slice: control_slice,
            },
            lifecycle: lifecycle::Ends { endings, command, withdraw_ra, withdraw_nat64, leave_nat64, withdraw_network },
        }
    }

    /// Starts every task and stays until the daemon ends. A task that ends by itself ends the daemon.
    pub async fn run(self, file: &Path, socket: &Path, kept: Kept<'_>, starts: u32) -> Ending {
        let mut tasks = JoinSet::new();
        let (file, socket, state) = (file.to_owned(), socket.to_owned(), kept.state.to_owned());
        let (saved, bpffs) = (socket.with_file_name("nat64.sessions"), kept.bpffs.to_owned());
        tasks.spawn(named("configuration", configuration::run(self.configuration, file)));
        tasks.spawn(named("facts", facts::run(self.facts)));
        tasks.spawn(named("uplink", uplink::run(self.uplink, state)));
        tasks.spawn(named("planner", planner::run(self.planner)));
        let pins = bpffs.clone();
        tasks.spawn(named("network", async move { network::run(self.network, &pins).await }));
        tasks.spawn(named("ra", ra::run(self.ra, kept.state.to_owned())));
        tasks.spawn(named("denials", denials::run(self.denials)));
        tasks.spawn(named("dns64", dns64::run(self.dns64)));
        tasks.spawn(named("nat64", nat64::run(self.nat64, nat64::Places { saved, bpffs })));
        tasks.spawn(named("ndp_proxy", ndp_proxy::run(self.ndp_proxy)));
        tasks.spawn(named("stateless", stateless::run(self.stateless)));
        tasks.spawn(named("ddns", ddns::run(self.ddns, kept.state.to_owned())));
        tasks.spawn(named("vm_prefixes", vm_prefixes::run(self.vm_prefixes)));
        tasks.spawn(named("savi", savi::run(self.savi)));
        tasks.spawn(named("metrics", metrics::run(self.metrics)));
        tasks.spawn(named("nat64-log", nat64_log::run(self.nat64_log)));
        tasks.spawn(named("log", log::run(self.log)));
        tasks.spawn(named("status", status::run(self.status, starts)));
        tasks.spawn(named("appliance", appliance::run(self.appliance)));
        tasks.spawn(named("resume", resume::run(self.resume)));
        tasks.spawn(named("host", host::run(self.host)));
        tasks.spawn(named("connections", connections::run(self.connections)));
        tasks.spawn(named("time", time::run(self.time)));
        tasks.spawn(named("control", control::run(self.control, socket, kept.state.to_owned())));
        lifecycle::run(self.lifecycle, tasks).await
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

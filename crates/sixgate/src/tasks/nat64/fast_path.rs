//! Carries the engine's orders to the fast path in the kernel, and back what that says of sessions.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::nat64::Nat64;
use sixgate_engine::nat64::fast_path::{HandOver, Order, Usage};
use sixgate_engine::nat64::tuple::{Protocol, TransportV4, TransportV6, TupleV4};
use sixgate_engine::plan::{FastPathPlan, NAT64_DEVICE, Nat64Plan};
use sixgate_engine::savi::Sources;
use sixgate_engine::status::{self, Traffic};
use sixgate_engine::time::Instant;
use sixgate_linux::fastpath::{self, FastPath, FastPathError, InsertError, Reason, Session, layout};
use sixgate_linux::system::Machine;

use super::senders::{Sender, Senders};

/// Without a daemon, sessions are translated for this long. A restart takes a second.
const ATTENDED: Duration = Duration::from_secs(300);
/// How often the program is told that somebody is there.
const BEAT_EVERY: Duration = Duration::from_secs(20);
/// A map that was full is left alone for this long.
const FULL_FOR: Duration = Duration::from_secs(1);
/// For how long it is shown that the map was full.
const SHOWN: Duration = Duration::from_secs(60);
/// The part of the machine's memory that maps may take: one of so many.
const PART: u64 = 8;

/// The fast path as the translator's thread sees it.
#[derive(Debug)]
pub(super) struct Offloading {
    bpffs: PathBuf,
    kernel: Option<FastPath>,
    plan: Option<FastPathPlan>,
    settings: fastpath::Settings,
    /// By which rules sessions were admitted.
    rules: u32,
    /// Sessions may be there that are not the engine's yet.
    is_unadopted: bool,
    beat_at: Instant,
    full_until: Instant,
    refused: u64,
    /// When it was last refused for want of room.
    full_at: Option<Instant>,
    /// From which hardware address clients send.
    senders: Senders,
    sources: Arc<Vec<Sources>>,
    /// Why it does not run, or not everywhere.
    failed: Option<Finding>,
}

impl Offloading {
    /// Nothing is loaded yet.
    pub(super) fn new(bpffs: &Path) -> Self {
        Self {
            bpffs: bpffs.to_owned(),
            kernel: None,
            plan: None,
            settings: fastpath::Settings::default(),
            rules: 0,
            is_unadopted: false,
            beat_at: Instant::ZERO,
            full_until: Instant::ZERO,
            refused: 0,
            full_at: None,
            senders: Senders::default(),
            sources: Arc::default(),
            failed: None,
        }
    }

    /// Follows a plan that the engine follows already. Sessions that a former daemon has left become the engine's as
    /// soon as there is an address to which they can belong.
    pub(super) fn follow(&mut self, engine: &mut Nat64, plan: &Nat64Plan, now: Instant) {
        self.failed = None;
        let Some(wanted) = &plan.fast_path else { return self.end(engine, plan) };
        let capacity = capacity(plan, wanted);
        if let Err(error) = self.open(engine, capacity) {
            return self.failed = Some(off(&error));
        }
        self.plan = Some(wanted.clone());
        self.compare_senders(engine);
        if self.is_unadopted && !plan.pool4.is_empty() {
            self.is_unadopted = false;
            self.adopt(engine, now);
        }
        if !self.is_unadopted && self.kernel.as_ref().is_some_and(|kernel| !fits(kernel.capacity(), capacity)) {
            // What is there goes on in the engine, and comes again by itself.
            engine.withdraw_clients(|_| true);
            self.carry_out(engine, now);
            engine.end_fast_path();
            self.remove();
            (self.full_at, self.full_until) = (None, now);
            if let Err(error) = self.open(engine, capacity) {
                return self.failed = Some(off(&error));
            }
        }
        self.carry_out(engine, now);
        match fastpath::interface(NAT64_DEVICE) {
            Ok(tun) => self.settings = fastpath::settings(plan, tun),
            Err(error) => return self.failed = Some(off(&error)),
        }
        self.beat(engine, now);
        let Some(kernel) = &mut self.kernel else { return };
        let interfaces: Vec<_> = [&wanted.uplink].into_iter().chain(&wanted.lans).cloned().collect();
        for (name, error) in kernel.attach(&interfaces) {
            self.failed = Some(off_on(&name, &error));
        }
    }

    /// Loads it, where it is not loaded yet.
    fn open(&mut self, engine: &mut Nat64, capacity: u32) -> Result<(), FastPathError> {
        if self.kernel.is_some() {
            return Ok(());
        }
        let kernel = FastPath::open(&self.bpffs, capacity)?;
        tracing::info!("the fast path holds {} sessions", kernel.capacity());
        let (epoch, rules) = kernel.epoch_and_rules();
        engine.begin_fast_path(epoch.max(engine.epoch()));
        if epoch != 0 {
            self.rules = rules;
        }
        self.is_unadopted = true;
        self.kernel = Some(kernel);
        Ok(())
    }

    /// Rules are in force. Where they are others than those that have admitted the sessions, these are judged again.
    pub(super) fn judge(&mut self, rules: u32, engine: &mut Nat64, now: Instant) {
        if std::mem::replace(&mut self.rules, rules) != rules {
            engine.judge_again();
            self.beat(engine, now);
        }
    }

    /// Takes who may send from where now.
    pub(super) fn admit(&mut self, sources: Arc<Vec<Sources>>, engine: &mut Nat64, now: Instant) {
        self.sources = sources;
        self.compare_senders(engine);
        self.carry_out(engine, now);
    }

    /// Sessions of hosts that are admitted no more go.
    fn compare_senders(&mut self, engine: &mut Nat64) {
        let Some(plan) = &self.plan else { return };
        let changed = self.senders.follow(plan, &self.sources);
        if !changed.is_empty() {
            engine.withdraw_clients(|client| changed.contains(client));
        }
    }

    /// Does what the engine has ordered.
    pub(super) fn carry_out(&mut self, engine: &mut Nat64, now: Instant) {
        let Some(kernel) = &mut self.kernel else { return };
        while let Some(order) = engine.poll_order() {
            match order {
                Order::Insert(hand_over) => {
                    let client_mac = match self.senders.of(hand_over.lan, hand_over.client.address) {
                        Sender::Anybody => None,
                        Sender::Host(mac) => Some(mac),
                        // It shows itself again.
                        Sender::Unknown => {
                            engine.handle_refusal(&hand_over);
                            continue;
                        }
                    };
                    let inserted = match &self.plan {
                        Some(plan) if self.full_until <= now => {
                            let session = Session { client_mac, ..session(&hand_over, plan.uplink.0) };
                            kernel.insert(&session, engine.epoch(), now.as_nanos(), hand_over.mapped.port)
                        }
                        _ => Err(InsertError::Full),
                    };
                    let Err(error) = inserted else { continue };
                    match error {
                        InsertError::Full => {
                            if self.full_until <= now {
                                self.full_until = now + FULL_FOR;
                            }
                            self.full_at = Some(now);
                        }
                        InsertError::Other(error) => tracing::debug!("a session cannot be handed over: {error}"),
                    }
                    self.refused += 1;
                    engine.handle_refusal(&hand_over);
                }
                Order::Remove(tuple) => engine.handle_usage(&tuple, kernel.remove(&key(&tuple)).map(usage), now),
                Order::Report(tuple) => engine.handle_usage(&tuple, kernel.usage(&key(&tuple)).map(usage), now),
            }
        }
    }

    /// When [`Self::beat`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.kernel.is_some().then_some(self.beat_at)
    }

    /// Tells the program that somebody is there, and by which epoch to go.
    pub(super) fn beat(&mut self, engine: &Nat64, now: Instant) {
        let Some(kernel) = &mut self.kernel else { return };
        self.beat_at = now + BEAT_EVERY;
        self.settings.epoch = engine.epoch();
        self.settings.rules = self.rules;
        self.settings.attended_until = (now + ATTENDED).as_nanos();
        if let Err(error) = kernel.configure(&self.settings) {
            self.failed = Some(off(&error));
        }
    }

    /// Adds what was translated in the kernel.
    pub(super) fn report(&mut self, engine: &Nat64, status: &mut status::Nat64) {
        let Some(kernel) = &mut self.kernel else { return };
        let fastpath::About { instructions, compiled, runs, nanoseconds } = kernel.about();
        let counters = kernel.counters();
        let [v6_to_v4, v4_to_v6] = [counters.v6_to_v4, counters.v4_to_v6].map(traffic);
        status.v6_to_v4.add(v6_to_v4);
        status.v4_to_v6.add(v4_to_v6);
        let reasons = Reason::ALL.iter().zip(counters.reasons).filter(|(_, count)| *count > 0);
        status.fast_path = Some(status::FastPath {
            hook: kernel.hook().map(|hook| hook.name().to_owned()),
            pinned: kernel.is_pinned(),
            capacity: kernel.capacity().into(),
            sessions: engine.handed_over(),
            refused: self.refused,
            v6_to_v4,
            v4_to_v6,
            reasons: reasons.map(|(reason, count)| (reason.name().to_owned(), count)).collect(),
            memory: kernel.memory(),
            program: status::Program { instructions, compiled, runs, nanoseconds },
        });
    }

    /// What an operator should know.
    pub(super) fn findings(&self, now: Instant) -> impl Iterator<Item = Finding> {
        let full = self.full_at.filter(|at| *at + SHOWN > now).zip(self.kernel.as_ref()).map(|(_, kernel)| {
            Finding::new(
                Severity::Note,
                "nat64-fast-path-full",
                "nat64",
                format!("{} sessions are in the fast path, and there is no room for more", kernel.capacity()),
                "raise [nat64] fast_path_sessions, at 416 bytes of memory each; the others are translated all the same, more slowly",
            )
        });
        self.failed.clone().into_iter().chain(full)
    }

    /// Nothing is translated in the kernel any more, and nothing is left there.
    pub(super) fn remove(&mut self) {
        if let Some(kernel) = self.kernel.take() {
            kernel.end();
        }
    }

    fn end(&mut self, engine: &mut Nat64, plan: &Nat64Plan) {
        if self.kernel.is_some() {
            self.carry_out(engine, Instant::ZERO);
            engine.end_fast_path();
            self.remove();
        } else if self.plan.is_none() && plan.obstacle.is_none() {
            fastpath::discard(&self.bpffs);
        }
    }

    fn adopt(&mut self, engine: &mut Nat64, now: Instant) {
        let Some(kernel) = &mut self.kernel else { return };
        let found = kernel.sessions();
        if found.is_empty() {
            return;
        }
        let mut removed = kernel.remove_orphans();
        let mut kept = 0;
        for (session, used, epoch) in found {
            if hand_over(&session).is_some_and(|found| engine.adopt(&found, epoch, &usage(used), now)) {
                kept += 1;
                self.senders.inherit(session.lan, session.client.0, session.client_mac);
            } else {
                kernel.remove(&session.key_v4());
                removed += 1;
            }
        }
        tracing::info!("{kept} sessions in the fast path go on, {removed} were removed");
    }
}

/// How many sessions the maps are made for.
fn capacity(plan: &Nat64Plan, wanted: &FastPathPlan) -> u32 {
    let room = Machine::read().memory_total / PART / layout::SESSION_BYTES;
    let room = wanted.sessions.unwrap_or_else(|| u32::try_from(room).unwrap_or(u32::MAX));
    plan.max_sessions.min(room).max(16)
}

/// Whether maps of this size will do: what the machine tells of its memory varies a little.
const fn fits(capacity: u32, wanted: u32) -> bool {
    capacity.abs_diff(wanted) <= wanted / 8
}

fn off(error: &FastPathError) -> Finding {
    let text = format!("the fast path is off, everything is translated by the daemon: {error}");
    Finding::new(Severity::Warning, "nat64-fast-path-off", "nat64", text, error.mend())
}

fn off_on(interface: &str, error: &FastPathError) -> Finding {
    let text = format!("the fast path does not run on {interface}: {error}");
    Finding::new(Severity::Warning, "nat64-fast-path-off", interface, text, error.mend())
}

const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Icmp => 1,
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

fn key(tuple: &TupleV4) -> [u8; layout::KEY_V4] {
    let TupleV4 { protocol, mapped, server } = *tuple;
    layout::key_v4(number(protocol), (mapped.address, mapped.port), (server.address, server.port))
}

fn session(hand_over: &HandOver, uplink: u32) -> Session {
    let HandOver { protocol, client, server_v6, mapped, server, lan } = *hand_over;
    Session {
        protocol: number(protocol),
        client: (client.address, client.port),
        client_mac: None,
        server_v6,
        mapped: (mapped.address, mapped.port),
        server: (server.address, server.port),
        lan,
        uplink,
    }
}

fn hand_over(session: &Session) -> Option<HandOver> {
    let protocol = [Protocol::Icmp, Protocol::Tcp, Protocol::Udp].into_iter();
    Some(HandOver {
        protocol: protocol.into_iter().find(|protocol| number(*protocol) == session.protocol)?,
        client: TransportV6 { address: session.client.0, port: session.client.1 },
        server_v6: session.server_v6,
        mapped: TransportV4 { address: session.mapped.0, port: session.mapped.1 },
        server: TransportV4 { address: session.server.0, port: session.server.1 },
        lan: session.lan,
    })
}

fn usage(directions: [fastpath::Usage; 2]) -> Usage {
    let last_used = directions.iter().map(|usage| usage.last_used).max().unwrap_or_default();
    Usage { last_used: Instant::from_nanos(last_used), traffic: directions.map(|usage| traffic(usage.traffic)) }
}

const fn traffic(traffic: layout::Traffic) -> Traffic {
    Traffic { packets: traffic.packets, bytes: traffic.bytes }
}

//! Makes the host what the CLAT's plan says, follows what the kernel and the network tell, and answers for its state.
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use ipnet::{IpNet, Ipv6Net};
use sixgate_engine::clat::plan::{ClatPlan, DEVICE, TABLE};
use sixgate_engine::clat::status::Status;
use sixgate_engine::clat::{Clat, Settings, Source, Surroundings, Transmit, Uplink};
use sixgate_engine::facts::{AddressState, Facts, MacAddr};
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::plan::Family;
use sixgate_engine::time::Instant;
use sixgate_engine::xlat::siit::Translated;
use sixgate_linux::events::Events;
use sixgate_linux::icmpv6::{ALL_ROUTERS, RaSocket};
use sixgate_linux::netlink::Netlink;
use sixgate_linux::network::ApplyError;
use sixgate_linux::nft;
use sixgate_linux::packet_socket::{Kind, PacketSocket};
use sixgate_linux::sysctl;
use sixgate_linux::tun::Tun;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::fast_path::{self, FastPath};
use super::forwarding::Forwarding;
use super::lookup;
use super::worker::{Report, Worker};
use crate::clock::{now, seed, sleep_until};

/// Announcements come in bursts; one reading answers all that come within this time.
const SETTLE: Duration = Duration::from_millis(50);
/// How long what an earlier process left stays in place before it is removed for want of a plan: long enough to make one.
const ADOPT: Duration = Duration::from_secs(10);
/// When a device or a socket that could not be had is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a client may take to read the status.
const PATIENCE: Duration = Duration::from_secs(2);
/// Neighbor Discovery messages are far shorter.
const LONGEST: usize = 1500;
/// RFC 4193.
const UNIQUE_LOCAL: Ipv6Net = Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7);

/// Translates until SIGTERM or SIGINT, and then removes everything.
pub(super) async fn run(settings: Settings, folder: &Path) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("no signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signals")?;
    let listener = listen(folder)?;
    let mut host = Host::new(settings, folder)?;
    host.observe().await;
    loop {
        host.act().await;
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                tokio::spawn(tell(stream, host.status()));
            },
            () = host.hear() => {}
        }
    }
    tracing::info!("ending, and removing everything");
    host.leave().await;
    // A socket that answers nobody is only confusing.
    let _ = std::fs::remove_file(super::status_socket(folder));
    Ok(ExitCode::SUCCESS)
}

/// Removes what an earlier process left.
pub(super) async fn remove(folder: &Path) -> anyhow::Result<()> {
    let netlink = Netlink::connect().context("rtnetlink")?;
    for error in netlink.withdraw().await {
        tracing::warn!("{error}");
    }
    sixgate_linux::clat::discard();
    nft::unload(TABLE).await?;
    Forwarding::new(folder).put_back();
    Ok(())
}

fn listen(folder: &Path) -> anyhow::Result<UnixListener> {
    let path = super::status_socket(folder);
    // An earlier process may have left one; whoever runs now holds the lock.
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(&path).with_context(|| format!("{} cannot be opened", path.display()))
}

async fn tell(mut stream: UnixStream, status: Status) {
    let Ok(bytes) = serde_json::to_vec(&status) else { return };
    // Whoever went away meanwhile does not want to know.
    let _ = timeout(PATIENCE, stream.write_all(&bytes)).await;
}

/// Sockets on the uplink.
#[derive(Default)]
struct Sockets {
    link: u32,
    routers: Option<RaSocket>,
    solicitations: Option<PacketSocket>,
    advertisements: Option<PacketSocket>,
}

/// What was made of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Applied {
    /// Nothing yet: what an earlier process left may be there.
    Leftover,
    Nothing,
    Plan(ClatPlan),
}

/// The host with everything that the CLAT works with.
struct Host {
    settings: Settings,
    clat: Clat,
    netlink: Netlink,
    events: Events,
    rules: Option<nft::Watch>,
    sockets: Sockets,
    worker: Option<Worker>,
    answers: (mpsc::Sender<sixgate_engine::clat::check::Answer>, mpsc::Receiver<sixgate_engine::clat::check::Answer>),
    report: watch::Receiver<Report>,
    lookups:
        (mpsc::Sender<sixgate_engine::clat::prefixes::Lookup>, mpsc::Receiver<sixgate_engine::clat::prefixes::Lookup>),
    forwarding: Forwarding,
    fast_path: FastPath,
    applied: Applied,
    started: Instant,
    /// When the kernel is looked at, and what could not be had is tried again.
    again: Option<Instant>,
    /// Somebody has changed the kernel's ruleset since.
    rules_changed: bool,
    findings: Vec<Finding>,
}

impl Host {
    fn new(settings: Settings, folder: &Path) -> anyhow::Result<Self> {
        let started = now();
        let secret = std::fs::read("/etc/machine-id").unwrap_or_default();
        Ok(Self {
            clat: Clat::new(settings.clone(), secret, seed() as u16, started),
            settings,
            netlink: Netlink::connect().context("rtnetlink")?,
            events: Events::connect().context("rtnetlink")?,
            rules: nft::Watch::open().inspect_err(|error| tracing::debug!("nftables: {error}")).ok(),
            sockets: Sockets::default(),
            worker: None,
            answers: mpsc::channel(16),
            report: watch::channel(Report::default()).1,
            lookups: mpsc::channel(1),
            forwarding: Forwarding::new(folder),
            fast_path: FastPath::new(),
            applied: Applied::Leftover,
            started,
            again: None,
            rules_changed: false,
            findings: Vec::new(),
        })
    }

    /// The kernel is looked at then, unless that is due before.
    fn look_within(&mut self, time: Duration) {
        let at = now() + time;
        self.again = Some(self.again.map_or(at, |again| again.min(at)));
    }

    /// Waits for whatever comes first, and takes it in. Whoever asks for the status ends the wait, so that nothing that
    /// takes time is done in here.
    async fn hear(&mut self) {
        let mut buffers = [[0; LONGEST]; 3];
        let [routers, solicitations, advertisements] = &mut buffers;
        let due = self.clat.poll_timeout().into_iter().chain(self.again).chain(self.adopt_until()).min();
        tokio::select! {
            changed = self.events.changed() => match changed {
                Ok(_) => self.look_within(SETTLE),
                Err(_) => match Events::connect() {
                    Ok(events) => {
                        self.events = events;
                        self.look_within(SETTLE);
                    }
                    Err(error) => {
                        tracing::warn!("rtnetlink: {error}");
                        self.look_within(AGAIN);
                        sleep(AGAIN).await;
                    }
                },
            },
            () = ruleset_changed(self.rules.as_ref()) => {
                self.rules_changed = true;
                self.look_within(SETTLE);
            }
            received = message(self.sockets.routers.as_ref(), routers) => match received {
                Ok((length, source, hop_limit)) => {
                    let message = routers.get(..length).unwrap_or_default();
                    self.clat.handle_advertisement(message, source, hop_limit, now());
                }
                Err(error) => self.lost(&error),
            },
            received = packet(self.sockets.solicitations.as_ref(), solicitations) => match received {
                Ok((length, from)) => {
                    self.clat.handle_neighbour(solicitations.get(..length).unwrap_or_default(), from, now());
                }
                Err(error) => self.lost(&error),
            },
            received = packet(self.sockets.advertisements.as_ref(), advertisements) => match received {
                Ok((length, from)) => {
                    self.clat.handle_neighbour(advertisements.get(..length).unwrap_or_default(), from, now());
                }
                Err(error) => self.lost(&error),
            },
            Some(answer) = self.answers.1.recv() => self.clat.handle_answer(answer, now()),
            Some(lookup) = self.lookups.1.recv() => self.clat.handle_lookup(lookup, now()),
            Ok(()) = self.report.changed() => {
                let failure = self.report.borrow_and_update().failure.clone();
                if let Some(cause) = failure {
                    tracing::error!("the device {DEVICE} was lost: {cause}");
                    self.worker = None;
                    self.look_within(Duration::ZERO);
                }
            }
            () = sleep_until(due) => {}
        }
    }

    /// Does what is due, sends what is to be sent, and makes the host what it has to be.
    async fn act(&mut self) {
        if self.again.is_some_and(|again| again <= now()) {
            self.again = None;
            if std::mem::take(&mut self.rules_changed) {
                self.restore_table().await;
            }
            self.observe().await;
        }
        self.clat.handle_traffic(self.translated());
        self.clat.handle_timeout(now());
        if self.clat.take_lookup(now()) {
            let answer = self.lookups.0.clone();
            tokio::spawn(async move { answer.send(lookup::look_up().await).await });
        }
        self.apply().await;
        while let Some(transmit) = self.clat.poll_transmit() {
            self.send(transmit).await;
        }
    }

    async fn send(&mut self, transmit: Transmit) {
        let sent = match transmit {
            Transmit::Solicitation(source, message) => match &self.sockets.routers {
                Some(socket) => socket.send(source, ALL_ROUTERS, &message).await,
                None => Ok(()),
            },
            Transmit::Neighbour(to, packet) => match &self.sockets.solicitations {
                Some(socket) => socket.send(to, &packet).await,
                None => Ok(()),
            },
            Transmit::Request(packet) => {
                if let Some(worker) = &self.worker {
                    worker.write(packet);
                }
                Ok(())
            }
        };
        if let Err(error) = sent {
            // What matters is repeated.
            tracing::debug!("uplink: {error}");
        }
    }

    /// Reads what the kernel holds, and opens what is missing.
    async fn observe(&mut self) {
        if self.worker.is_none() {
            self.open_device();
        }
        match self.surroundings().await {
            Ok(surroundings) => {
                self.follow_link(surroundings.uplink.as_ref());
                self.clat.observe(surroundings, now());
            }
            Err(error) => {
                tracing::warn!("the kernel cannot be asked: {error:#}");
                self.look_within(AGAIN);
            }
        }
    }

    fn open_device(&mut self) {
        let (report, receiver) = watch::channel(Report::default());
        let opened = Tun::open_for_process(DEVICE).map_err(|error| format!("{error}: {}", error.mend()));
        let started = opened.and_then(|tun| {
            Worker::start(tun, self.clat.identifier(), self.answers.0.clone(), report)
                .map_err(|error| error.to_string())
        });
        match started {
            Ok(worker) => {
                // A new device has none of the routes.
                if let Applied::Plan(_) = self.applied {
                    self.applied = Applied::Leftover;
                }
                (self.worker, self.report) = (Some(worker), receiver);
            }
            Err(cause) => {
                tracing::warn!("{cause}");
                self.look_within(AGAIN);
            }
        }
    }

    async fn surroundings(&self) -> anyhow::Result<Surroundings> {
        let facts = self.netlink.read_facts().await?;
        let device = facts.link(DEVICE).map(|link| link.index).filter(|_| self.worker.is_some());
        let name = |index: u32| facts.links.iter().find(|link| link.index == index).map(|link| link.name.clone());
        let others = |links: Vec<u32>| links.into_iter().find(|link| Some(*link) != device);
        let native = others(self.netlink.default_links(Family::V4).await?).and_then(name);
        let link = match &self.settings.interface {
            Some(interface) => facts.link(interface).map(|link| link.index),
            None => others(self.netlink.default_links(Family::V6).await?),
        };
        let uplink = link.and_then(|link| uplink(&facts, link));
        // Where nobody can tell, it may be so.
        let foreign_rules = nft::foreign(TABLE).await.unwrap_or(true);
        let foreign_v6_rules = foreign_rules && nft::foreign_to_ipv6(TABLE).await.unwrap_or(true);
        Ok(Surroundings { uplink, native_ipv4: native, device, foreign_rules, foreign_v6_rules })
    }

    /// Sockets on the uplink, as far as they are needed.
    fn follow_link(&mut self, uplink: Option<&Uplink>) {
        let Some(uplink) = uplink else {
            self.sockets = Sockets::default();
            return;
        };
        if self.sockets.link != uplink.link {
            self.sockets = Sockets { link: uplink.link, ..Sockets::default() };
        }
        let wants_routers = self.settings.pref64.is_none();
        let wants_neighbours = self.settings.source == Source::Dedicated && uplink.mac.is_some();
        let sockets = &mut self.sockets;
        let mut opened = Ok(());
        if wants_routers && sockets.routers.is_none() {
            opened = RaSocket::open(&uplink.interface, uplink.link).map(|socket| sockets.routers = Some(socket));
        }
        for (place, kind) in [
            (&mut sockets.solicitations, Kind::NeighborSolicitation),
            (&mut sockets.advertisements, Kind::NeighborAdvertisement),
        ] {
            if wants_neighbours && place.is_none() {
                let socket = PacketSocket::open(uplink.link, kind).map(|socket| *place = Some(socket));
                opened = opened.and(socket);
            }
        }
        if let Err(error) = opened {
            self.lost(&error);
        }
    }

    /// A socket has failed, often since its link went down.
    fn lost(&mut self, error: &io::Error) {
        tracing::debug!("uplink: {error}");
        self.sockets = Sockets::default();
        self.look_within(AGAIN);
    }

    /// When what an earlier process left is removed.
    fn adopt_until(&self) -> Option<Instant> {
        (self.applied == Applied::Leftover).then(|| self.started + ADOPT)
    }

    /// Makes the host what the plan says. Packets are translated before they are routed, and for as long.
    async fn apply(&mut self) {
        let plan = self.clat.plan();
        match (&self.applied, plan) {
            (Applied::Plan(applied), Some(plan)) if *applied == plan => {}
            (_, Some(plan)) => self.make(plan).await,
            (Applied::Nothing, None) => {}
            (Applied::Leftover, None) if self.started + ADOPT > now() => {}
            (Applied::Leftover | Applied::Plan(_), None) => self.withdraw().await,
        }
    }

    async fn make(&mut self, plan: ClatPlan) {
        let was_active = matches!(&self.applied, Applied::Plan(applied) if applied.active);
        if plan.active != was_active {
            let what = if plan.active { "translated" } else { "not translated" };
            tracing::info!("IPv4 is {what}, by {} with {}", plan.pref64, plan.address);
        }
        let forwarded = self.forwarding.forwarded();
        let mut findings = Vec::new();
        // Without the route nothing waits for the rules, and without the rules strangers would be forwarded.
        match nft::load(&plan.ruleset(forwarded), &[]).await {
            Ok(()) => {
                findings.extend(self.forwarding.switch_on().iter().map(ApplyError::finding));
            }
            Err(error) => {
                let (text, mend) = (format!("the clat's rules are not in force: {error}"), error.mend());
                findings.push(Finding::new(Severity::Error, "firewall-not-loaded", TABLE, text, mend));
            }
        }
        if let Some(worker) = &self.worker {
            worker.follow(Some(&plan));
        }
        // What is not forwarded must not be routed into the device.
        let network = ClatPlan { active: plan.active && findings.is_empty(), ..plan.clone() }.network();
        let errors = self.netlink.apply(&network).await;
        findings.extend(errors.iter().map(ApplyError::finding));
        self.fast_path
            .follow(&ClatPlan { active: plan.active && findings.is_empty(), ..plan.clone() }, self.clat.identifier());
        self.applied = if findings.is_empty() { Applied::Plan(plan) } else { Applied::Leftover };
        self.note(findings);
        self.drain_rules();
    }

    /// Nothing of the CLAT is left in the host but its device.
    async fn withdraw(&mut self) {
        if self.applied != Applied::Leftover {
            tracing::info!("IPv4 stays as it is");
        }
        self.fast_path.rest();
        let mut findings: Vec<Finding> = self.netlink.withdraw().await.iter().map(ApplyError::finding).collect();
        if let Some(worker) = &self.worker {
            worker.follow(None);
        }
        if let Err(error) = nft::unload(TABLE).await {
            findings.push(Finding::new(Severity::Error, "firewall-not-loaded", TABLE, error.to_string(), error.mend()));
        }
        self.forwarding.put_back();
        self.applied = Applied::Nothing;
        self.note(findings);
        self.drain_rules();
    }

    /// What could not be done is tried again.
    fn note(&mut self, findings: Vec<Finding>) {
        for finding in findings.iter().filter(|finding| !self.findings.contains(finding)) {
            tracing::error!("{}: {}", finding.text, finding.mend);
        }
        if !findings.is_empty() {
            self.look_within(AGAIN);
        }
        self.findings = findings;
    }

    async fn leave(mut self) {
        self.withdraw().await;
    }

    /// Somebody has changed a ruleset; flushing all of them takes ours along.
    async fn restore_table(&mut self) {
        let Applied::Plan(plan) = &self.applied else { return };
        if nft::loaded(TABLE).await.is_ok_and(|loaded| !loaded) {
            tracing::warn!("somebody has removed the table {TABLE}; it is loaded again");
            self.make(plan.clone()).await;
        }
    }

    /// What we have changed ourselves is no news.
    fn drain_rules(&self) {
        if let Some(rules) = &self.rules {
            rules.drain();
        }
    }

    fn status(&self) -> Status {
        let mut status = self.clat.status();
        status.sixgate = env!("CARGO_PKG_VERSION").to_owned();
        status.dropped.clone_from(&self.report.borrow().dropped);
        if self.fast_path.failed() > 0 {
            status.dropped.insert("fast-path-failed".to_owned(), self.fast_path.failed());
        }
        let Translated { v4_to_v6, v6_to_v4 } = self.translated();
        (status.v4_to_v6, status.v6_to_v4) = (v4_to_v6, v6_to_v4);
        let by_kernel = self.fast_path.translated();
        status.by_fast_path = fast_path::add(by_kernel.v4_to_v6, by_kernel.v6_to_v4);
        status.fast_path = self.fast_path.hook().map(str::to_owned);
        status.findings.extend(self.findings.iter().chain(self.fast_path.finding()).cloned());
        status
    }

    /// By the device's thread and by the kernel.
    fn translated(&self) -> Translated {
        fast_path::sum(self.report.borrow().translated, self.fast_path.translated())
    }
}

/// The link, if it has an address with which the world can be reached.
fn uplink(facts: &Facts, link: u32) -> Option<Uplink> {
    let held = facts.links.iter().find(|held| held.index == link && held.up)?;
    let ready = facts.addresses.iter().filter(|address| address.link == link && address.state == AddressState::Ready);
    let mut addresses: Vec<Ipv6Net> = ready
        .filter_map(|address| match address.net {
            IpNet::V6(net) if !net.addr().is_unicast_link_local() => Some(net),
            IpNet::V6(_) | IpNet::V4(_) => None,
        })
        .collect();
    // Unique local addresses reach a NAT64 only within a site.
    addresses.sort_by_key(|net| (UNIQUE_LOCAL.contains(net), *net));
    if addresses.is_empty() {
        return None;
    }
    // A router may announce less than the link carries.
    let announced = sysctl::read(&format!("net/ipv6/conf/{}/mtu", held.name)).ok().and_then(|mtu| mtu.parse().ok());
    Some(Uplink {
        link,
        interface: held.name.clone(),
        mac: held.mac,
        mtu: announced.unwrap_or(held.mtu),
        link_local: facts.link_local(link),
        addresses,
    })
}

async fn ruleset_changed(rules: Option<&nft::Watch>) {
    match rules {
        Some(rules) if rules.changed().await.is_ok() => {}
        Some(_) | None => std::future::pending().await,
    }
}

async fn message(socket: Option<&RaSocket>, buffer: &mut [u8]) -> io::Result<(usize, std::net::Ipv6Addr, u8)> {
    match socket {
        Some(socket) => socket.receive(buffer).await.map(|got| (got.length, got.source, got.hop_limit)),
        None => std::future::pending().await,
    }
}

async fn packet(socket: Option<&PacketSocket>, buffer: &mut [u8]) -> io::Result<(usize, MacAddr)> {
    match socket {
        Some(socket) => socket.receive(buffer).await,
        None => std::future::pending().await,
    }
}

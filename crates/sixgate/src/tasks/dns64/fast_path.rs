//! Has what is asked for often answered in the kernel, and takes what was counted there.
use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sixgate_engine::dns64::{Answer, Transport};
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::plan::Dns64Plan;
use sixgate_engine::savi::Sources;
use sixgate_engine::status::Answering;
use sixgate_engine::time::Instant;
use sixgate_linux::dns_answers::{self, Client, Counters, DnsAnswers, Place, Question, Settings, name_of, place};
use sixgate_linux::fastpath::FastPathError;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::Slice;
use super::asked::Asked;
use super::worker::Tally;
use crate::clock::now;
use crate::tasks::nat64::senders::{Sender, Senders};

/// The port that the program looks for.
const PORT: u16 = 53;
/// Answers in the kernel, at about 800 bytes each while they are there.
const ANSWERS: u32 = 4096;
/// Clients that it answers.
const CLIENTS: u32 = 4096;
/// Offers of the workers that may wait; one that finds no room is made again.
const OFFERS: usize = 1024;
/// Without a daemon, or with one that stands still, it answers no longer than this.
const ATTENDED: Duration = Duration::from_millis(2500);
/// How often the program is told that somebody is there.
const BEAT_EVERY: Duration = Duration::from_millis(500);
/// Beats from one look at all answers and clients to the next.
const LOOK_EVERY: u32 = 4;
/// Looks that find an answer not asked for, until it goes.
const IDLE: u8 = 30;
/// A client is known for so long, and longer while it asks.
const KNOWN: Duration = Duration::from_secs(60);

/// What a worker has to offer.
#[derive(Debug)]
pub(super) enum Offer {
    /// An answer that is asked for often.
    Answer {
        answer: Answer,
        /// By which rules it was found out.
        generation: u64,
        /// How often everything had been forgotten by then.
        emptied: u64,
    },
    /// Somebody who was answered.
    Client(SocketAddr),
}

/// The way to make offers.
#[derive(Clone, Debug)]
pub(super) struct Offers {
    sender: mpsc::Sender<Offer>,
    emptied: Arc<AtomicU64>,
    wanted: Arc<AtomicBool>,
}

impl Offers {
    /// The way, and its end.
    pub(super) fn new() -> (Self, mpsc::Receiver<Offer>) {
        let (sender, offers) = mpsc::channel(OFFERS);
        (Self { sender, emptied: Arc::default(), wanted: Arc::default() }, offers)
    }

    /// Whether there is a program in the kernel.
    pub(super) fn are_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    pub(super) fn answer(&self, answer: Answer, generation: u64) {
        let emptied = self.emptied.load(Ordering::Acquire);
        drop(self.sender.try_send(Offer::Answer { answer, generation, emptied }));
    }

    pub(super) fn client(&self, client: SocketAddr) {
        drop(self.sender.try_send(Offer::Client(client)));
    }
}

/// The program in the kernel, and what it was given.
#[derive(Clone)]
pub(super) struct FastPath(Arc<Mutex<Given>>);

struct Given {
    kernel: Option<DnsAnswers>,
    plan: Arc<Dns64Plan>,
    generation: u64,
    settings: Settings,
    answers: HashMap<Question, Held>,
    clients: HashMap<Place, Known>,
    places: BTreeSet<Place>,
    senders: Senders,
    sources: Arc<Vec<Sources>>,
    emptied: Arc<AtomicU64>,
    wanted: Arc<AtomicBool>,
    asked: Asked,
    counted: Counters,
    beats: u32,
    slice: watch::Sender<Slice>,
}

/// An answer in the kernel.
#[derive(Default)]
struct Held {
    /// How often it was given, as far as that is counted.
    given: u64,
    idle: u8,
    /// In seconds.
    until: u32,
}

/// A client in the kernel.
struct Known {
    address: SocketAddr,
    asked: u64,
    until: Instant,
}

impl FastPath {
    /// Nothing is in the kernel yet.
    pub(super) fn new(offers: &Offers, slice: watch::Sender<Slice>) -> Self {
        Self(Arc::new(Mutex::new(Given {
            kernel: None,
            plan: Arc::default(),
            generation: 0,
            settings: Settings { epoch: 1, ..Settings::default() },
            answers: HashMap::new(),
            clients: HashMap::new(),
            places: BTreeSet::new(),
            senders: Senders::default(),
            sources: Arc::default(),
            emptied: offers.emptied.clone(),
            wanted: offers.wanted.clone(),
            asked: Asked::new(),
            counted: Counters::default(),
            beats: 0,
            slice,
        })))
    }

    /// Follows a plan; what was found out under another generation is given no more.
    pub(super) fn follow(&self, plan: &Arc<Dns64Plan>, generation: u64) {
        self.given().follow(plan, generation);
    }

    /// Forgets all answers and clients, at once.
    pub(super) fn empty(&self) {
        self.given().empty();
    }

    /// Takes who may send from where now.
    pub(super) fn admit(&self, sources: Arc<Vec<Sources>>) {
        let mut given = self.given();
        given.sources = sources;
        given.compare_senders();
    }

    /// Is asked where the resolver listens, and nowhere else.
    pub(super) fn listen(&self) {
        self.given().listen();
    }

    /// Takes offers, and keeps the program informed, until the workers are gone.
    pub(super) async fn hear(self, mut offers: mpsc::Receiver<Offer>) {
        let mut beat = interval(BEAT_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Vec::new();
        loop {
            tokio::select! {
                _ = beat.tick() => self.given().beat(now()),
                count = offers.recv_many(&mut heard, OFFERS) => {
                    if count == 0 {
                        return;
                    }
                    let mut given = self.given();
                    for offer in heard.drain(..) {
                        match offer {
                            Offer::Answer { answer, generation, emptied } => given.put(&answer, generation, emptied),
                            Offer::Client(client) => given.meet(client, now()),
                        }
                    }
                }
            }
        }
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Given {
    fn follow(&mut self, plan: &Arc<Dns64Plan>, generation: u64) {
        let before = std::mem::replace(&mut self.plan, plan.clone());
        if std::mem::replace(&mut self.generation, generation) != generation || before.fast_path != plan.fast_path {
            self.empty();
        }
        let mut failed = None;
        match &plan.fast_path {
            Some(wanted) => {
                if self.kernel.is_none() {
                    match DnsAnswers::open(ANSWERS, CLIENTS) {
                        Ok(kernel) => {
                            self.counted = kernel.counters();
                            self.kernel = Some(kernel);
                        }
                        Err(error) => failed = Some(off("dns64", &error)),
                    }
                }
                if let Some(kernel) = &mut self.kernel {
                    for (name, error) in kernel.attach(&wanted.lans) {
                        failed = Some(off(&name, &error));
                    }
                }
                self.settings.interval = 1_000_000_000_u64.checked_div(plan.rate.into()).unwrap_or_default();
                self.compare_senders();
                self.listen();
                self.beat(now());
            }
            None => self.end(),
        }
        self.wanted.store(self.kernel.is_some(), Ordering::Relaxed);
        self.slice.send_if_modified(|slice| {
            let changes = slice.fast_path_failed != failed;
            slice.fast_path_failed = failed;
            changes
        });
    }

    fn end(&mut self) {
        self.places.clear();
        if self.kernel.take().is_none() {
            dns_answers::discard();
        }
        self.slice.send_if_modified(|slice| slice.fast_path.take().is_some());
    }

    fn empty(&mut self) {
        self.emptied.fetch_add(1, Ordering::AcqRel);
        self.settings.epoch = self.settings.epoch.wrapping_add(1).max(1);
        self.configure();
        let (answers, clients) = (std::mem::take(&mut self.answers), std::mem::take(&mut self.clients));
        let Some(kernel) = &mut self.kernel else { return };
        answers.keys().for_each(|question| kernel.take(question));
        clients.keys().for_each(|client| kernel.dismiss(client));
    }

    fn configure(&mut self) {
        let Some(kernel) = &mut self.kernel else { return };
        if let Err(error) = kernel.configure(&self.settings) {
            // It answers no longer than it was told before.
            tracing::warn!("the program that answers in the kernel cannot be told anything: {error}");
        }
    }

    fn listen(&mut self) {
        let (Some(kernel), Some(plan)) = (&mut self.kernel, &self.plan.fast_path) else { return };
        let mut places = BTreeSet::new();
        for (address, transport) in &self.slice.borrow().listening {
            let SocketAddr::V6(address) = address else { continue };
            if *transport != Transport::Udp || address.port() != PORT {
                continue;
            }
            let links = plan.lans.iter().map(|(link, _)| *link);
            let here = links.filter(|link| [0, *link].contains(&address.scope_id()));
            places.extend(here.map(|link| place(*address.ip(), link)));
        }
        if places != self.places {
            match kernel.listen(&places) {
                Ok(()) => self.places = places,
                Err(error) => tracing::warn!("the program that answers in the kernel is not told where: {error}"),
            }
        }
    }

    fn compare_senders(&mut self) {
        let Some(plan) = &self.plan.fast_path else { return };
        let changed = self.senders.follow(plan, &self.sources);
        if changed.is_empty() {
            return;
        }
        let Some(kernel) = &mut self.kernel else { return };
        self.clients.retain(|client, known| {
            let stays = !matches!(known.address, SocketAddr::V6(address) if changed.contains(*address.ip()));
            if !stays {
                kernel.dismiss(client);
            }
            stays
        });
    }

    fn put(&mut self, answer: &Answer, generation: u64, emptied: u64) {
        if generation != self.generation || emptied != self.emptied.load(Ordering::Acquire) {
            return;
        }
        let (Some(kernel), Some(finished)) = (&mut self.kernel, answer.finished()) else { return };
        // One whose time is nearly over is asked for anew first.
        if finished.until <= finished.stored + 1 {
            return;
        }
        // How often the former one was given is told with the next look, or never: it is a matter of two seconds.
        if let Some(question) = kernel.put(&finished, self.settings.epoch) {
            self.answers.insert(question, Held { until: finished.until, ..Held::default() });
        }
    }

    /// A client was answered by the sockets: the ruleset admits it.
    fn meet(&mut self, client: SocketAddr, now: Instant) {
        let Some(link) = self.link(client) else { return };
        let (SocketAddr::V6(address), Some(kernel)) = (client, &mut self.kernel) else { return };
        let mac = match self.senders.of(link, *address.ip()) {
            Sender::Anybody => None,
            Sender::Host(mac) => Some(mac.0),
            // It shows itself.
            Sender::Unknown => return,
        };
        let until = now + KNOWN;
        let view = self.plan.view(client).number();
        let admitted = Client { until: until.as_nanos(), even_at: 0, epoch: self.settings.epoch, mac, view };
        let place = place(*address.ip(), link);
        if kernel.admit(&place, &admitted).is_ok() {
            let asked = self.clients.get(&place).map_or(0, |known| known.asked);
            self.clients.insert(place, Known { address: client, asked, until });
        }
    }

    /// On which LAN it is.
    fn link(&self, client: SocketAddr) -> Option<u32> {
        let (SocketAddr::V6(client), Some(plan)) = (client, &self.plan.fast_path) else { return None };
        let address: Ipv6Addr = *client.ip();
        let link = if address.is_unicast_link_local() {
            client.scope_id()
        } else {
            let nets = plan.clients.iter().filter(|(net, _)| net.contains(&address));
            nets.max_by_key(|(net, _)| net.prefix_len())?.1
        };
        plan.lans.iter().any(|(lan, _)| *lan == link).then_some(link)
    }

    fn beat(&mut self, now: Instant) {
        if self.kernel.is_none() {
            return;
        }
        self.settings.attended_until = (now + ATTENDED).as_nanos();
        self.configure();
        self.listen();
        self.beats = self.beats.wrapping_add(1);
        if self.beats.is_multiple_of(LOOK_EVERY) {
            self.look(now);
        }
        let Some(kernel) = &self.kernel else { return };
        let counted = kernel.counters();
        let before = std::mem::replace(&mut self.counted, counted);
        let status = Answering {
            hook: kernel.hook().map(|hook| hook.name().to_owned()),
            answers: self.answers.len() as u64,
            clients: self.clients.len() as u64,
            answered: counted.answered,
            refused: counted.refused,
            failed: counted.failed,
        };
        let mut tally = Tally {
            hits: counted.answered.saturating_sub(before.answered),
            synthesized: counted.synthesized.saturating_sub(before.synthesized),
            ..Tally::default()
        };
        let refused = counted.refused.saturating_sub(before.refused);
        if refused > 0 {
            tally.refused.insert("dns-rate", refused);
        }
        self.slice.send_if_modified(|slice| {
            let changes = slice.fast_path.as_ref() != Some(&status);
            slice.fast_path = Some(status);
            slice.take_tally(tally);
            changes
        });
    }

    /// Looks at what was asked since the last time: what is not asked for any more goes, who asks stays known.
    fn look(&mut self, now: Instant) {
        let seconds = u32::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX);
        let Some(kernel) = &mut self.kernel else { return };
        let asked = &mut self.asked;
        let mut changes = false;
        self.answers.retain(|question, held| {
            let given = kernel.given(question).unwrap_or_default();
            let since = given.saturating_sub(held.given);
            held.given = given;
            held.idle = if since > 0 { 0 } else { held.idle.saturating_add(1) };
            if since > 0 {
                asked.count_name(name_of(question), since, now);
                changes = true;
            }
            let stays = seconds < held.until && held.idle < IDLE;
            if !stays {
                kernel.take(question);
            }
            stays
        });
        let mut renewed = Vec::new();
        self.clients.retain(|client, known| {
            let times = kernel.asked(client).unwrap_or_default();
            let since = times.saturating_sub(known.asked);
            known.asked = times;
            if since > 0 {
                asked.count_client(known.address.ip(), since, now);
                renewed.push(known.address);
            }
            let stays = now < known.until;
            if !stays {
                kernel.dismiss(client);
            }
            stays
        });
        for client in renewed {
            self.meet(client, now);
        }
        if changes {
            let most = self.asked.most();
            self.slice.send_modify(|slice| drop(slice.asked.insert(usize::MAX, most)));
        }
    }
}

fn off(about: &str, error: &FastPathError) -> Finding {
    let text = format!("what is asked for often is not answered in the kernel, but by the daemon: {error}");
    let mend = "use a kernel from 6.1 on with BPF and its JIT compiler, with root or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; or set [dns64] \
                fast_path = false";
    Finding::new(Severity::Warning, "dns64-fast-path-off", about, text, mend)
}

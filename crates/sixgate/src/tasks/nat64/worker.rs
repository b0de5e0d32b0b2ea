//! The translator's thread: packets from the device through the engine and back, in batches.
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{self as std_mpsc, TryRecvError};
use std::time::Duration;

use sixgate_engine::firewall::admission::Admission;
use sixgate_engine::firewall::ruleset::Ruleset;
use sixgate_engine::nat64::{Nat64, Transmit};
use sixgate_engine::plan::Nat64Plan;
use sixgate_engine::savi::Sources;
use sixgate_engine::time::Instant;
use sixgate_linux::clock::seed;
use sixgate_linux::shortcut::Shortcut;
use sixgate_linux::tun::{BUFFER_LENGTH, Ready, Received, Tun, Waker};
use tokio::sync::oneshot;

use super::fast_path::Offloading;
use super::saved::Saved;
use super::shortage::Shortage;
use super::{Outlets, Places};
use crate::clock::now;
use crate::wiring::ListSessions;

/// Packets that are read before timers and orders are looked at again.
const BATCH: usize = 64;
/// How often the status is brought up to date while packets flow.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Events that are handed over at a time.
const EVENTS: usize = 4096;
/// When it is tried again after the log had no room for events.
const TELL_AGAIN: Duration = Duration::from_millis(50);
/// Sessions in a part of the list.
const PAGE: usize = 256;

enum Order {
    Follow(Box<Nat64Plan>),
    List(ListSessions),
    /// These rules are in force: what others have admitted is judged again.
    Judge(u32),
    /// These may send from where; so have the LANs been told.
    Admit(Arc<Vec<Sources>>),
    /// This is admitted, and what else there is ends.
    Revoke(Arc<Admission>),
    /// Save the sessions and end; the device stays.
    Leave,
    Remove,
}

/// How the thread ends when nothing fails.
enum End {
    Left,
    Removed,
}

/// The thread's handle.
pub(super) struct Worker {
    plan: Nat64Plan,
    orders: std_mpsc::Sender<Order>,
    waker: Waker,
    ended: oneshot::Receiver<io::Error>,
}

impl Worker {
    /// Starts the thread.
    pub(super) fn start(tun: Tun, plan: Nat64Plan, outlets: Outlets, places: &Places) -> io::Result<Self> {
        let (orders, receiver) = std_mpsc::channel();
        let (ending, ended) = oneshot::channel();
        let waker = tun.waker();
        let mut desk = Desk::new(tun, &plan, outlets, places)?;
        let work = move || {
            match desk.work(&receiver) {
                // Nobody listens while the daemon ends.
                Err(error) => drop(ending.send(error)),
                Ok(End::Left) => desk.saved.save(&desk.engine),
                Ok(End::Removed) => {
                    desk.offloading.remove();
                    desk.saved.discard();
                    if let Err(error) = desk.tun.remove() {
                        tracing::warn!("the device could not be removed: {error}");
                    }
                }
            }
        };
        std::thread::Builder::new().name("nat64".to_owned()).spawn(work)?;
        Ok(Self { plan, orders, waker, ended })
    }

    /// Takes a new plan; sessions that fit it stay.
    pub(super) fn follow(&mut self, plan: &Nat64Plan) {
        if self.plan != *plan {
            self.plan = plan.clone();
            self.order(Order::Follow(Box::new(plan.clone())));
        }
    }

    /// Answers with a part of the sessions.
    pub(super) fn list(&self, wanted: ListSessions) {
        self.order(Order::List(wanted));
    }

    /// A ruleset is in force.
    pub(super) fn judge(&self, ruleset: &Ruleset) {
        let mut hasher = DefaultHasher::new();
        ruleset.hash(&mut hasher);
        self.order(Order::Judge(hasher.finish() as u32 | 1));
    }

    /// Other hosts may send than before, or from elsewhere.
    pub(super) fn admit(&self, sources: &Arc<Vec<Sources>>) {
        self.order(Order::Admit(Arc::clone(sources)));
    }

    /// Other entries are in force.
    pub(super) fn revoke(&self, admission: Arc<Admission>) {
        self.order(Order::Revoke(admission));
    }

    /// The plan that the thread follows.
    pub(super) fn plan(&self) -> &Nat64Plan {
        &self.plan
    }

    /// Waits until the thread has failed.
    pub(super) async fn ended(&mut self) -> io::Error {
        (&mut self.ended).await.unwrap_or_else(|_| io::Error::other("the translator's thread panicked"))
    }

    /// Ends the thread, saves its sessions and leaves the device to the next daemon.
    pub(super) async fn leave(self) {
        self.end(Order::Leave).await;
    }

    /// Ends the thread and removes the device, and what was saved.
    pub(super) async fn remove(self) {
        self.end(Order::Remove).await;
    }

    async fn end(mut self, order: Order) {
        self.order(order);
        // Either it has failed before, or the channel closes when it is done.
        let _ = (&mut self.ended).await;
    }

    fn order(&self, order: Order) {
        // A thread that has failed takes no orders; `ended` tells.
        let _ = self.orders.send(order);
        self.waker.wake();
    }
}

/// What the thread works with.
struct Desk {
    tun: Tun,
    engine: Nat64,
    outlets: Outlets,
    shortage: Shortage,
    saved: Saved,
    offloading: Offloading,
    /// When the status is brought up to date; nothing while it is.
    report_at: Option<Instant>,
    incoming: Vec<u8>,
    transmit: Transmit,
    /// Past the kernel's routing, where the plan allows it.
    shortcut: Option<Shortcut>,
    /// Packets that the device, or a link, did not take.
    unwritten: u64,
}

impl Desk {
    fn new(tun: Tun, plan: &Nat64Plan, outlets: Outlets, places: &Places) -> io::Result<Self> {
        let mut engine = Nat64::new(plan, seed()?);
        let mut saved = Saved::new(&places.saved, now());
        saved.restore(&mut engine, plan, now());
        let mut offloading = Offloading::new(&places.bpffs);
        offloading.follow(&mut engine, plan, now());
        Ok(Self {
            tun,
            engine,
            outlets,
            shortage: Shortage::default(),
            saved,
            offloading,
            report_at: Some(now()),
            incoming: vec![0; BUFFER_LENGTH],
            transmit: Transmit::new(),
            shortcut: shortcut(plan),
            unwritten: 0,
        })
    }

    /// Until the device fails, or its removal is ordered.
    fn work(&mut self, orders: &std_mpsc::Receiver<Order>) -> io::Result<End> {
        let mut is_busy = false;
        loop {
            // A full batch was seldom all that waits: nobody is asked, and orders are looked for each time.
            let ready = if is_busy { Ready { packet: true, woken: true } } else { self.wait()? };
            if ready.woken {
                match self.obey(orders) {
                    ControlFlow::Continue(()) => {}
                    ControlFlow::Break(end) => return Ok(end),
                }
            }
            if ready.packet {
                is_busy = self.translate_batch()? == BATCH;
                self.offloading.carry_out(&mut self.engine, now());
            }
            let now = now();
            if self.engine.poll_timeout().is_some_and(|due| due <= now) {
                self.engine.handle_timeout(now, &mut self.transmit);
                self.send(now);
                self.flush();
                self.offloading.carry_out(&mut self.engine, now);
                self.report_at.get_or_insert(now + REPORT_EVERY);
            }
            if self.offloading.due().is_some_and(|due| due <= now) {
                self.offloading.beat(&self.engine, now);
            }
            self.tell();
            self.saved.save_if_due(&self.engine, now);
            if self.report_at.is_some_and(|at| at <= now) {
                self.report();
            }
        }
    }

    /// Until there is something to do.
    fn wait(&self) -> io::Result<Ready> {
        let due = self.engine.poll_timeout().into_iter().chain(self.report_at).chain([self.saved.due()]).min();
        let told = self.engine.has_event().then(|| now() + TELL_AGAIN);
        let due = due.into_iter().chain(told).chain(self.offloading.due()).min();
        self.tun.wait(due.map(|due| due.saturating_since(now())))
    }

    fn obey(&mut self, orders: &std_mpsc::Receiver<Order>) -> ControlFlow<End> {
        loop {
            match orders.try_recv() {
                Ok(Order::Follow(plan)) => {
                    self.engine.reconfigure(&plan, now());
                    self.saved.begin_anew(now());
                    self.lose();
                    self.shortcut = shortcut(&plan);
                    self.saved.restore(&mut self.engine, &plan, now());
                    self.offloading.follow(&mut self.engine, &plan, now());
                    self.report();
                }
                Ok(Order::Judge(rules)) => self.offloading.judge(rules, &mut self.engine, now()),
                Ok(Order::Admit(sources)) => self.offloading.admit(sources, &mut self.engine, now()),
                Ok(Order::Revoke(admission)) => {
                    let ended = self.engine.end_refused(&admission, now());
                    if ended > 0 {
                        tracing::info!("{ended} translated sessions end: they are not admitted any more");
                        self.report();
                    }
                }
                Ok(Order::List(ListSessions { from, clients, answer })) => {
                    // Whoever asked may have gone away meanwhile.
                    let _ = answer.send(self.engine.list(from, PAGE, clients, now()));
                }
                Err(TryRecvError::Empty) => return ControlFlow::Continue(()),
                Ok(Order::Remove) => return ControlFlow::Break(End::Removed),
                // Whoever gives the orders is gone with the daemon.
                Ok(Order::Leave) | Err(TryRecvError::Disconnected) => return ControlFlow::Break(End::Left),
            }
        }
    }

    /// Translates what waits, but no more than [`BATCH`] packets; gives their number.
    fn translate_batch(&mut self) -> io::Result<usize> {
        let now = now();
        let mut packets = 0;
        while packets < BATCH {
            let Some(Received { packet, offload }) = self.tun.read(&mut self.incoming)? else { break };
            packets += 1;
            let verdict = self.engine.handle_offloaded(packet, offload, &mut self.transmit, now);
            tracing::trace!(?verdict, length = packet.len(), "packet");
            self.send(now);
        }
        self.flush();
        self.report_at.get_or_insert(now + REPORT_EVERY);
        Ok(packets)
    }

    /// Packets leave in order, whichever way they take.
    fn send(&mut self, now: Instant) {
        for (packet, offload) in self.transmit.packets() {
            if let Some(shortcut) = &mut self.shortcut {
                if shortcut.take(packet, offload, now) {
                    continue;
                }
                shortcut.flush();
            }
            if let Err(error) = self.tun.write(packet, offload) {
                tracing::trace!("the device refused a packet: {error}");
                self.unwritten += 1;
            }
        }
        self.transmit.clear();
    }

    /// Hands events over while the log has room for them; after that they wait, and are counted when there are too many.
    fn tell(&mut self) {
        while self.engine.has_event() {
            let Ok(permit) = self.outlets.events.try_reserve() else { return };
            permit.send(std::iter::from_fn(|| self.engine.poll_event()).take(EVENTS).collect());
        }
    }

    fn flush(&mut self) {
        if let Some(shortcut) = &mut self.shortcut {
            shortcut.flush();
        }
    }

    /// What no link took is remembered beyond the shortcut.
    fn lose(&mut self) {
        self.unwritten += self.shortcut.take().map_or(0, |shortcut| shortcut.lost());
    }

    fn report(&mut self) {
        self.report_at = None;
        let mut status = self.engine.status();
        let unwritten = self.unwritten + self.shortcut.as_ref().map_or(0, Shortcut::lost);
        if unwritten > 0 {
            status.reasons.insert("device-refused".to_owned(), unwritten);
        }
        let now = now();
        self.engine.sample();
        self.offloading.carry_out(&mut self.engine, now);
        self.offloading.report(&self.engine, &mut status);
        let findings = self.shortage.observe(&status.reasons, now).into_iter().chain(self.offloading.findings(now));
        let findings = findings.collect();
        // What is in the fast path moves without this thread.
        let moving = (self.engine.handed_over() > 0).then(|| now + 2 * REPORT_EVERY);
        self.report_at = self.shortage.over_at().into_iter().chain(moving).min();
        self.outlets.slice.send_modify(|slice| {
            slice.status = Some(status);
            slice.findings = findings;
        });
    }
}

/// Without it packets take the kernel's way.
fn shortcut(plan: &Nat64Plan) -> Option<Shortcut> {
    Shortcut::open(plan)
        .inspect_err(|error| tracing::info!("no shortcut for translated packets: {error}"))
        .ok()
        .flatten()
}

//! The CLAT's thread: packets from the device through the translator and back, in batches.
use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{self as std_mpsc, TryRecvError};
use std::time::Duration;

use sixgate_engine::clat::check::Answer;
use sixgate_engine::clat::plan::ClatPlan;
use sixgate_engine::clat::translator::Translator;
use sixgate_engine::time::Instant;
use sixgate_engine::xlat::siit::Translated;
use sixgate_engine::xlat::transmit::{Offload, Transmit};
use sixgate_linux::clock::seed;
use sixgate_linux::tun::{BUFFER_LENGTH, Received, Tun, Waker};
use tokio::sync::{mpsc, watch};

use crate::clock::now;

/// Packets that are read before orders are looked at again.
const BATCH: usize = 64;
/// How often what was translated is told while packets flow.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// What the thread has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Translated, in both directions.
    pub(super) translated: Translated,
    /// Not translated, by reason.
    pub(super) dropped: BTreeMap<String, u64>,
    /// Why it ended.
    pub(super) failure: Option<String>,
}

enum Order {
    /// Translate by this plan, or nothing at all.
    Follow(Option<Box<ClatPlan>>),
    /// Write this packet into the device.
    Write(Vec<u8>),
}

/// The thread's handle. The thread ends, and the device goes, when it is dropped.
pub(super) struct Worker {
    orders: Option<std_mpsc::Sender<Order>>,
    waker: Waker,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread. `identifier` is that of the check's requests.
    pub(super) fn start(
        tun: Tun,
        identifier: u16,
        answers: mpsc::Sender<Answer>,
        report: watch::Sender<Report>,
    ) -> io::Result<Self> {
        let (orders, receiver) = std_mpsc::channel();
        let waker = tun.waker();
        let mut desk = Desk {
            tun,
            translator: None,
            identifier,
            seed: seed()?,
            answers,
            report,
            report_at: None,
            incoming: vec![0; BUFFER_LENGTH],
            transmit: Transmit::new(),
            unwritten: 0,
        };
        let work = move || {
            if let Err(error) = desk.work(&receiver) {
                desk.report.send_modify(|report| report.failure = Some(error.to_string()));
            }
        };
        let thread = Some(std::thread::Builder::new().name("clat".to_owned()).spawn(work)?);
        Ok(Self { orders: Some(orders), waker, thread })
    }

    pub(super) fn follow(&self, plan: Option<&ClatPlan>) {
        self.order(Order::Follow(plan.cloned().map(Box::new)));
    }

    pub(super) fn write(&self, packet: Vec<u8>) {
        self.order(Order::Write(packet));
    }

    fn order(&self, order: Order) {
        // A thread that has failed takes no orders; its report tells.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
        self.waker.wake();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.orders = None;
        self.waker.wake();
        // It ends at once: nobody gives orders any more.
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// What the thread works with.
struct Desk {
    tun: Tun,
    translator: Option<Translator>,
    identifier: u16,
    seed: [u8; 32],
    answers: mpsc::Sender<Answer>,
    report: watch::Sender<Report>,
    report_at: Option<Instant>,
    incoming: Vec<u8>,
    transmit: Transmit,
    /// Packets that the device did not take.
    unwritten: u64,
}

impl Desk {
    /// Until the device fails, or nobody gives orders any more.
    fn work(&mut self, orders: &std_mpsc::Receiver<Order>) -> io::Result<()> {
        loop {
            let ready = self.tun.wait(self.report_at.map(|at| at.saturating_since(now())))?;
            if ready.woken && !self.obey(orders) {
                return Ok(());
            }
            if ready.packet {
                self.translate_batch()?;
            }
            if self.report_at.is_some_and(|at| at <= now()) {
                self.tell();
            }
        }
    }

    /// Whether there may be more.
    fn obey(&mut self, orders: &std_mpsc::Receiver<Order>) -> bool {
        loop {
            match orders.try_recv() {
                Ok(Order::Follow(plan)) => match (&mut self.translator, plan) {
                    (_, None) => self.translator = None,
                    (Some(translator), Some(plan)) => translator.reconfigure(&plan),
                    (None, Some(plan)) => {
                        self.translator = Some(Translator::new(&plan, self.identifier, self.seed));
                    }
                },
                Ok(Order::Write(packet)) => self.write(&packet, Offload::NONE),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn translate_batch(&mut self) -> io::Result<()> {
        let now = now();
        for _ in 0..BATCH {
            let Some(Received { packet, offload }) = self.tun.read(&mut self.incoming)? else { break };
            let Some(translator) = &mut self.translator else { continue };
            let verdict = translator.handle_offloaded(packet, offload, &mut self.transmit, now);
            tracing::trace!(?verdict, length = packet.len(), "packet");
            while let Some(answer) = translator.poll_answer() {
                // One of several is enough.
                let _ = self.answers.try_send(answer);
            }
            for (packet, offload) in self.transmit.packets() {
                if let Err(error) = self.tun.write(packet, offload) {
                    tracing::trace!("the device refused a packet: {error}");
                    self.unwritten += 1;
                }
            }
        }
        self.report_at.get_or_insert(now + REPORT_EVERY);
        Ok(())
    }

    fn write(&mut self, packet: &[u8], offload: Offload) {
        if let Err(error) = self.tun.write(packet, offload) {
            tracing::debug!("the device refused a packet: {error}");
            self.unwritten += 1;
        }
    }

    fn tell(&mut self) {
        self.report_at = None;
        let Some(translator) = &self.translator else { return };
        let mut dropped: BTreeMap<String, u64> =
            translator.dropped().map(|(name, count)| (name.to_owned(), count)).collect();
        if self.unwritten > 0 {
            dropped.insert("device-refused".to_owned(), self.unwritten);
        }
        let translated = translator.translated();
        self.report.send_modify(|report| (report.translated, report.dropped) = (translated, dropped));
    }
}

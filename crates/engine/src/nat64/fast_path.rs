//! Which sessions the fast path may translate, and what it tells of their use. Sessions stay the engine's: the fast path
//! is a cache, and emptying it costs speed alone.
//!
//! Packets of a session cross the firewall on both sides of the translator. That one side has answered the other twice
//! shows that the rules have admitted packets both ways, all the way: only then is the session handed over. Whatever may
//! change a rule's mind begins another epoch, and each session has to show it again.
use core::net::Ipv6Addr;
use std::collections::{HashMap, VecDeque};

use super::Nat64;
use super::keyed::Keyed;
use super::session::{Session, Sessions};
use super::snapshot::Record;
use super::tables::{Passage, Tables};
use super::tcp::State;
use super::tuple::{Protocol, TransportV4, TransportV6, TupleV4, TupleV6};
use super::verdict::Direction;
use crate::plan::Nat64Plan;
use crate::status::Traffic;
use crate::time::Instant;

/// Sessions whose traffic is accounted for while they are in the fast path; that of others is when they leave it.
const METERED: usize = 65_536;
/// Sessions that one [`Nat64::sample`] asks about, and places that it looks at for them.
const SAMPLE: usize = 64;
const SAMPLE_PLACES: u32 = 8192;

/// A session for the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// TCP, UDP or ICMP queries.
    pub protocol: Protocol,
    /// The host inside.
    pub client: TransportV6,
    /// The server's address as the client knows it.
    pub server_v6: Ipv6Addr,
    /// The address and port that stand for the client.
    pub mapped: TransportV4,
    /// The server.
    pub server: TransportV4,
    /// Interface index of the client's LAN.
    pub lan: u32,
}

/// What the fast path is to do. Each is answered before any other of the engine's verbs is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take this session, in the epoch of [`Nat64::epoch`]; where that fails, [`Nat64::handle_refusal`].
    Insert(HandOver),
    /// Give it back: [`Nat64::handle_usage`].
    Remove(TupleV4),
    /// Tell of its use: [`Nat64::handle_usage`].
    Report(TupleV4),
}

/// What the fast path says of a session, from the time when it took it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// When a packet came last, from either side.
    pub last_used: Instant,
    /// From IPv6 and from IPv4.
    pub traffic: [Traffic; 2],
}

/// What is known of each session, in the bits of a byte.
mod mark {
    /// A packet has passed in this epoch.
    pub(super) const SEEN: u8 = 1;
    /// The last one came from IPv4.
    pub(super) const FROM_V4: u8 = 2;
    /// The other side has answered once.
    pub(super) const ANSWERED: u8 = 4;
    /// It waits to be handed over.
    pub(super) const WANTED: u8 = 8;
    /// It is in the fast path.
    pub(super) const HELD: u8 = 16;
    /// And that in this epoch.
    pub(super) const CURRENT: u8 = 32;
    /// It was asked back.
    pub(super) const LEAVING: u8 = 64;
    /// Its lifetime is over unless the fast path knows better.
    pub(super) const PARKED: u8 = 128;
}
use mark::{ANSWERED, CURRENT, FROM_V4, HELD, LEAVING, PARKED, SEEN, WANTED};

/// What the fast path holds, as far as the engine knows.
#[derive(Debug)]
pub(super) struct FastPath {
    is_on: bool,
    epoch: u32,
    /// By the places of the sessions' table; empty while there is no fast path.
    marks: Vec<u8>,
    wanted: VecDeque<u32>,
    orders: VecDeque<Order>,
    /// What is accounted for already.
    metered: HashMap<u32, [Traffic; 2], Keyed>,
    held: u64,
    /// The place that the next sample begins at.
    sampled: u32,
}

impl FastPath {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self {
            is_on: false,
            epoch: 0,
            marks: Vec::new(),
            wanted: VecDeque::new(),
            orders: VecDeque::new(),
            metered: HashMap::with_hasher(keyed),
            held: 0,
            sampled: 0,
        }
    }

    fn mark(&self, index: u32) -> u8 {
        self.marks.get(index as usize).copied().unwrap_or_default()
    }

    /// A place has another session.
    pub(super) fn opened(&mut self, index: u32) {
        if self.is_on {
            self.marks.resize(self.marks.len().max(index as usize + 1), 0);
            self.marks[index as usize] = 0;
        }
    }

    /// A packet of a session has been translated.
    pub(super) fn passed(&mut self, index: u32, direction: Direction) {
        let Some(mark) = self.marks.get_mut(index as usize).filter(|mark| **mark & (CURRENT | WANTED) == 0) else {
            return;
        };
        let side = if direction == Direction::V4ToV6 { FROM_V4 } else { 0 };
        if *mark & SEEN == 0 {
            *mark |= SEEN | side;
        } else if *mark & FROM_V4 != side {
            *mark ^= FROM_V4;
            if *mark & ANSWERED == 0 {
                *mark |= ANSWERED;
            } else {
                *mark |= WANTED;
                self.wanted.push_back(index);
            }
        }
    }

    /// A session ends, or what its state allows has to be seen: it is asked back.
    pub(super) fn withdraw(&mut self, index: u32, session: &Session) {
        let Some(mark) = self.marks.get_mut(index as usize) else { return };
        if *mark & HELD != 0 {
            *mark |= LEAVING;
            self.held -= 1;
            self.orders.push_back(Order::Remove(tuple_v4(session)));
        }
        *mark &= LEAVING | PARKED;
    }

    /// Forgets a place whose session has ended.
    pub(super) fn closed(&mut self, index: u32) {
        if let Some(mark) = self.marks.get_mut(index as usize) {
            *mark = 0;
            self.metered.remove(&index);
        }
    }

    /// Asks whether a session whose lifetime is over was used in the fast path; false if it is not there.
    pub(super) fn ask(&mut self, index: u32, session: &Session) -> bool {
        let Some(mark) = self.marks.get_mut(index as usize).filter(|mark| **mark & HELD != 0) else { return false };
        *mark |= PARKED;
        self.orders.push_back(Order::Report(tuple_v4(session)));
        true
    }

    fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1).max(1);
        self.wanted.clear();
        self.marks.iter_mut().for_each(|mark| *mark &= HELD | LEAVING | PARKED);
    }

    /// What has passed since it was accounted for, if there is room to remember that it is.
    fn unmetered(&mut self, index: u32, usage: &Usage, is_last: bool) -> [Traffic; 2] {
        if !is_last && self.metered.len() >= METERED && !self.metered.contains_key(&index) {
            return [Traffic::default(); 2];
        }
        let before = match is_last {
            true => self.metered.remove(&index),
            false => self.metered.insert(index, usage.traffic),
        };
        let before = before.unwrap_or_default();
        let since = |at: usize| Traffic {
            packets: usage.traffic[at].packets.saturating_sub(before[at].packets),
            bytes: usage.traffic[at].bytes.saturating_sub(before[at].bytes),
        };
        [since(0), since(1)]
    }
}

impl State {
    /// Whether the fast path may translate what the state machine has nothing to say about.
    pub(super) const fn suits_the_fast_path(self) -> bool {
        match self {
            Self::Established | Self::V4FinRcv | Self::V6FinRcv => true,
            Self::V4Init | Self::V6Init | Self::V6FinV4FinRcv | Self::Trans => false,
        }
    }
}

impl Nat64 {
    /// There is a fast path from now on. Epochs go on from the one in which it was found.
    pub fn begin_fast_path(&mut self, epoch: u32) {
        let places = self.tables.sessions.places();
        let fast_path = &mut self.tables.sessions.fast_path;
        fast_path.is_on = true;
        fast_path.epoch = epoch.max(1);
        fast_path.marks.resize(places as usize, 0);
    }

    /// There is no fast path any more, and nothing is in it.
    pub fn end_fast_path(&mut self) {
        let Tables { sessions, .. } = &mut self.tables;
        for index in 0..sessions.places() {
            if sessions.fast_path.mark(index) & PARKED != 0 {
                sessions.unpark(index);
            }
        }
        let fast_path = &mut sessions.fast_path;
        let epoch = fast_path.epoch;
        fast_path.is_on = false;
        fast_path.marks = Vec::new();
        fast_path.wanted = VecDeque::new();
        fast_path.orders = VecDeque::new();
        fast_path.metered.clear();
        (fast_path.held, fast_path.epoch) = (0, epoch);
    }

    /// The epoch; entries of another one are stale.
    pub const fn epoch(&self) -> u32 {
        self.tables.sessions.fast_path.epoch
    }

    /// Rules have changed: every session has to cross them again.
    pub fn judge_again(&mut self) {
        self.tables.sessions.fast_path.begin_epoch();
    }

    /// As [`Self::judge_again`], unless this plan differs only in what admits nobody and changes no packet.
    pub(super) fn judge_by(&mut self, plan: &Nat64Plan) {
        let before = &self.admitted_by;
        let same = Nat64Plan {
            router_v6: before.router_v6,
            icmp_errors_per_second: before.icmp_errors_per_second,
            vms: before.vms.clone(),
            events: before.events,
            timers: before.timers,
            obstacle: before.obstacle,
            ..plan.clone()
        };
        if same != *before {
            self.judge_again();
        }
        self.admitted_by = plan.clone();
    }

    /// Sessions in the fast path.
    pub const fn handed_over(&self) -> u64 {
        self.tables.sessions.fast_path.held
    }

    /// What the fast path is to do next.
    pub fn poll_order(&mut self) -> Option<Order> {
        loop {
            if let Some(order) = self.tables.sessions.fast_path.orders.pop_front() {
                return Some(order);
            }
            let index = self.tables.sessions.fast_path.wanted.pop_front()?;
            if self.tables.sessions.fast_path.mark(index) & WANTED == 0 {
                continue;
            }
            let session = self.tables.sessions[index];
            let fast_path = &mut self.tables.sessions.fast_path;
            if fast_path.mark(index) & HELD != 0 {
                // What it was handed over with before is out of date; what it has counted is not lost.
                fast_path.withdraw(index, &session);
                fast_path.marks[index as usize] |= WANTED;
                fast_path.wanted.push_front(index);
                continue;
            }
            let Some(hand_over) = self.hand_over(index, &session) else {
                // It stays as it is until the next epoch.
                self.tables.sessions.fast_path.marks[index as usize] |= CURRENT;
                self.tables.sessions.fast_path.marks[index as usize] &= !WANTED;
                continue;
            };
            let fast_path = &mut self.tables.sessions.fast_path;
            let mark = &mut fast_path.marks[index as usize];
            *mark = *mark & (LEAVING | PARKED) | HELD | CURRENT;
            fast_path.held += 1;
            return Some(Order::Insert(hand_over));
        }
    }

    /// Takes back the sessions of these clients: by whom their packets may be sent has changed.
    pub fn withdraw_clients(&mut self, is_meant: impl Fn(Ipv6Addr) -> bool) {
        let Sessions { fast_path, .. } = &self.tables.sessions;
        let held = (0..fast_path.marks.len() as u32).filter(|index| fast_path.mark(*index) & HELD != 0);
        let meant: Vec<u32> = held.filter(|index| is_meant(self.tables.sessions[*index].client.address)).collect();
        for index in meant {
            let session = self.tables.sessions[index];
            self.tables.sessions.fast_path.withdraw(index, &session);
        }
    }

    fn hand_over(&self, index: u32, session: &Session) -> Option<HandOver> {
        let Session { protocol, client, mapped, server, .. } = *session;
        // What turns back is translated twice.
        if !session.state.suits_the_fast_path() || self.tables.pool.contains(server.address) {
            return None;
        }
        let pref64 = self.prefixes.get(self.tables.sessions.prefix(index))?;
        let lans = self.lans.iter().filter(|(net, _)| net.contains(&client.address));
        let (_, lan) = *lans.max_by_key(|(net, _)| net.prefix_len())?;
        Some(HandOver { protocol, client, server_v6: pref64.embed(server.address), mapped, server, lan })
    }

    /// The fast path could not take the session.
    pub fn handle_refusal(&mut self, hand_over: &HandOver) {
        let HandOver { protocol, mapped, server, .. } = *hand_over;
        let Some(index) = self.tables.sessions.find_v4(&TupleV4 { protocol, mapped, server }) else { return };
        let fast_path = &mut self.tables.sessions.fast_path;
        if fast_path.mark(index) & HELD != 0 {
            fast_path.held -= 1;
            fast_path.marks[index as usize] &= LEAVING | PARKED;
        }
    }

    /// What the fast path says about a session that it was asked about, or that it gives back. Nothing means that it
    /// does not have it.
    pub fn handle_usage(&mut self, tuple: &TupleV4, usage: Option<Usage>, now: Instant) {
        let Some(index) = self.tables.sessions.find_v4(tuple) else { return };
        let mark = self.tables.sessions.fast_path.mark(index);
        if mark & (HELD | LEAVING) == 0 {
            return;
        }
        let is_last = mark & LEAVING != 0 || usage.is_none();
        let usage = usage.unwrap_or_default();
        let traffic = self.tables.sessions.fast_path.unmetered(index, &usage, is_last);
        let passage = self.tables.passage(index);
        for (direction, traffic) in [Direction::V6ToV4, Direction::V4ToV6].into_iter().zip(traffic) {
            self.tables.account(&passage, direction, traffic);
        }
        let Sessions { fast_path, .. } = &mut self.tables.sessions;
        if is_last {
            if mark & HELD != 0 {
                fast_path.held -= 1;
            }
            fast_path.marks[index as usize] &= WANTED;
        } else {
            fast_path.marks[index as usize] &= !PARKED;
        }
        let sessions = &mut self.tables.sessions;
        let last_used = usage.last_used.min(now);
        if last_used > sessions.since(index) {
            sessions.used(index, last_used);
        } else if mark & PARKED != 0 {
            if !is_last {
                // It is over: the fast path gives it back, and what came meanwhile is heard of.
                let session = sessions[index];
                sessions.fast_path.withdraw(index, &session);
            }
            sessions.unpark(index);
        }
    }

    /// Asks about some of the sessions in the fast path, so that accounts follow. Others come next time.
    pub fn sample(&mut self) {
        let Sessions { fast_path, .. } = &self.tables.sessions;
        if fast_path.held == 0 {
            return;
        }
        let places = fast_path.marks.len() as u32;
        let mut found = Vec::new();
        let mut next = fast_path.sampled;
        for _ in 0..places.min(SAMPLE_PLACES) {
            next = if next >= places { 0 } else { next };
            if fast_path.mark(next) & HELD != 0 {
                found.push(tuple_v4(&self.tables.sessions[next]));
            }
            next += 1;
            if found.len() == SAMPLE {
                break;
            }
        }
        let fast_path = &mut self.tables.sessions.fast_path;
        fast_path.sampled = next;
        fast_path.orders.extend(found.into_iter().map(Order::Report));
    }

    /// A session that was found in the fast path, from before this engine was. It becomes one of ours, or is one
    /// already; false if it cannot be, and has to go.
    pub fn adopt(&mut self, found: &HandOver, epoch: u32, usage: &Usage, now: Instant) -> bool {
        let HandOver { protocol, client, server_v6, mapped, server, .. } = *found;
        let Some((embedded, _, prefix)) = self.prefixes.find(server_v6) else { return false };
        if embedded != server.address || !self.tables.pool.contains(mapped.address) {
            return false;
        }
        let since = usage.last_used.min(now);
        if since + self.tables.lifetime(protocol) <= now {
            return false;
        }
        self.tables.events.now = now;
        let tuple = TupleV4 { protocol, mapped, server };
        let index = match self.tables.sessions.find_v4(&tuple) {
            Some(index) => index,
            None => {
                let state = State::Established;
                let record = Record { protocol, state, client, mapped, server, prefix, since };
                if !self.tables.take_over(&record) {
                    return false;
                }
                let Some(index) = self.tables.sessions.find_v6(&TupleV6 { protocol, client, server }) else {
                    return false;
                };
                index
            }
        };
        let session = self.tables.sessions[index];
        if session.client != client
            || self.tables.sessions.prefix(index) != prefix
            || !session.state.suits_the_fast_path()
        {
            return false;
        }
        if since > self.tables.sessions.since(index) {
            self.tables.sessions.used(index, since);
        }
        let fast_path = &mut self.tables.sessions.fast_path;
        if fast_path.metered.len() < METERED {
            // What it has counted until now was a former engine's.
            fast_path.metered.insert(index, usage.traffic);
        }
        fast_path.marks[index as usize] = if epoch == fast_path.epoch { HELD | CURRENT } else { HELD };
        fast_path.held += 1;
        true
    }
}

impl Tables {
    /// A packet of a session has been translated and left.
    pub(super) fn passed(&mut self, passage: &Passage, direction: Direction) {
        if let Some(index) = passage.session {
            self.sessions.fast_path.passed(index, direction);
        }
    }
}

fn tuple_v4(session: &Session) -> TupleV4 {
    TupleV4 { protocol: session.protocol, mapped: session.mapped, server: session.server }
}

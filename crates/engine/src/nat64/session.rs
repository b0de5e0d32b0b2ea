//! The session tables: RFC 6146 section 3.1.
use core::net::Ipv4Addr;
use std::collections::HashMap;

use hashbrown::HashTable;
use slab::Slab;

use super::account::Meter;
use super::expiry::{Expiry, TimerClass};
use super::fast_path::FastPath;
use super::keyed::Keyed;
use super::prefixes::Position;
use super::tcp::State;
use super::tuple::{Protocol, TransportV4, TransportV6, TupleV4, TupleV6};
use super::verdict::Direction;
use crate::config::Nat64Timers;
use crate::status::Traffic;
use crate::time::Instant;

/// A session table entry. Y' of the RFC is the prefix with the server's address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) protocol: Protocol,
    /// State of a TCP connection; other sessions are `Established`.
    pub(super) state: State,
    /// Index of its binding.
    pub(super) binding: u32,
    /// (X',x)
    pub(super) client: TransportV6,
    /// (T,t)
    pub(super) mapped: TransportV4,
    /// (Z,z)
    pub(super) server: TransportV4,
    /// What has passed from IPv6 and from IPv4, but for what was carried over.
    pub(super) meters: [Meter; 2],
}

/// How many sessions a binding has with one address, whatever the port: what address-dependent filtering asks.
#[derive(Clone, Copy, Debug)]
struct Peer {
    binding: u32,
    address: Ipv4Addr,
    sessions: u32,
}

#[cfg(test)]
pub(super) const PEER_SIZE: usize = size_of::<Peer>();

/// The three session tables.
#[derive(Debug)]
pub(super) struct Sessions {
    keyed: Keyed,
    sessions: Slab<Session>,
    /// Which prefix the client represents Z by; the first, where the list is shorter. It is empty while there is one.
    prefixes: Vec<Position>,
    by_v6: HashTable<u32>,
    by_v4: HashTable<u32>,
    peers: HashTable<Peer>,
    expiry: Expiry,
    counts: [u64; 3],
    /// What the meters of a few sessions were too small for.
    carried: HashMap<u32, [Traffic; 2], Keyed>,
    pub(super) fast_path: FastPath,
}

impl Sessions {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self {
            keyed,
            sessions: Slab::new(),
            prefixes: Vec::new(),
            by_v6: HashTable::new(),
            by_v4: HashTable::new(),
            peers: HashTable::new(),
            expiry: Expiry::new(),
            counts: [0; 3],
            carried: HashMap::with_hasher(keyed),
            fast_path: FastPath::new(keyed),
        }
    }

    /// Makes room for so many, so that the tables need not grow step by step.
    pub(super) fn reserve(&mut self, count: usize) {
        let Self { keyed, sessions, by_v6, by_v4, peers, expiry, .. } = self;
        sessions.reserve(count);
        let hash_v6 = |session: &Session| keyed.session_v6(session.protocol, session.client, session.server);
        let hash_v4 = |session: &Session| keyed.session_v4(session.protocol, session.mapped, session.server);
        by_v6.reserve(count, |index| hash_v6(&sessions[*index as usize]));
        by_v4.reserve(count, |index| hash_v4(&sessions[*index as usize]));
        peers.reserve(count, |peer| keyed.peer(peer.binding, peer.address));
        expiry.reserve(count);
    }

    /// The session of a packet from IPv6.
    pub(super) fn find_v6(&self, tuple: &TupleV6) -> Option<u32> {
        let hash = self.keyed.session_v6(tuple.protocol, tuple.client, tuple.server);
        let is_it = |index: &u32| {
            let session = &self[*index];
            session.protocol == tuple.protocol && session.client == tuple.client && session.server == tuple.server
        };
        self.by_v6.find(hash, is_it).copied()
    }

    /// The session of a packet from IPv4.
    pub(super) fn find_v4(&self, tuple: &TupleV4) -> Option<u32> {
        let hash = self.keyed.session_v4(tuple.protocol, tuple.mapped, tuple.server);
        let is_it = |index: &u32| {
            let session = &self[*index];
            session.protocol == tuple.protocol && session.mapped == tuple.mapped && session.server == tuple.server
        };
        self.by_v4.find(hash, is_it).copied()
    }

    /// Whether a binding has a session with that address.
    pub(super) fn has_peer(&self, binding: u32, address: Ipv4Addr) -> bool {
        let hash = self.keyed.peer(binding, address);
        self.peers.find(hash, |peer| peer.binding == binding && peer.address == address).is_some()
    }

    /// Adds a session that is not there yet and starts its lifetime.
    pub(super) fn insert(&mut self, session: Session, class: TimerClass, now: Instant) -> u32 {
        let Self { keyed, sessions, prefixes, by_v6, by_v4, peers, expiry, counts, fast_path, .. } = self;
        let index = sessions.insert(session) as u32;
        if let Some(prefix) = prefixes.get_mut(index as usize) {
            *prefix = 0;
        }
        let hash_v6 = |session: &Session| keyed.session_v6(session.protocol, session.client, session.server);
        let hash_v4 = |session: &Session| keyed.session_v4(session.protocol, session.mapped, session.server);
        by_v6.insert_unique(hash_v6(&session), index, |index| hash_v6(&sessions[*index as usize]));
        by_v4.insert_unique(hash_v4(&session), index, |index| hash_v4(&sessions[*index as usize]));
        let (binding, address) = (session.binding, session.server.address);
        let is_it = |peer: &Peer| peer.binding == binding && peer.address == address;
        match peers.find_mut(keyed.peer(binding, address), is_it) {
            Some(peer) => peer.sessions += 1,
            None => {
                let peer = Peer { binding, address, sessions: 1 };
                peers.insert_unique(keyed.peer(binding, address), peer, |peer| keyed.peer(peer.binding, peer.address));
            }
        }
        expiry.insert(index, class, now);
        fast_path.opened(index);
        counts[session.protocol as usize] += 1;
        index
    }

    /// Sets the state and starts the lifetime anew.
    pub(super) fn update(&mut self, index: u32, state: State, class: Option<TimerClass>, now: Instant) {
        let session = &mut self.sessions[index as usize];
        session.state = state;
        if !state.suits_the_fast_path() {
            self.fast_path.withdraw(index, session);
        }
        if let Some(class) = class {
            self.expiry.restart(index, class, now);
        }
    }

    /// The fast path had a packet, which is heard of only now.
    pub(super) fn used(&mut self, index: u32, since: Instant) {
        self.expiry.used(index, since);
    }

    /// Whether the fast path has to be asked before this session ends; it does not end until that has answered.
    pub(super) fn ask_fast_path(&mut self, index: u32) -> bool {
        let asked = self.fast_path.ask(index, &self.sessions[index as usize]);
        if asked {
            self.expiry.park(index);
        }
        asked
    }

    /// The fast path has nothing to say: the lifetime is what it was.
    pub(super) fn unpark(&mut self, index: u32) {
        self.expiry.unpark(index);
    }

    /// A packet has passed.
    pub(super) fn meter(&mut self, index: u32, direction: Direction, wire: Traffic) {
        let meter = &mut self.sessions[index as usize].meters[direction as usize];
        if let Some(carried) = meter.add(wire) {
            self.carried.entry(index).or_default()[direction as usize].add(carried);
        }
    }

    /// What has passed, from IPv6 and from IPv4.
    pub(super) fn traffic(&self, index: u32) -> [Traffic; 2] {
        let mut traffic = self[index].meters.map(Meter::traffic);
        if let Some(carried) = self.carried.get(&index) {
            traffic.iter_mut().zip(carried).for_each(|(traffic, carried)| traffic.add(*carried));
        }
        traffic
    }

    /// Notes which prefix the client uses, so that it is answered by the same.
    pub(super) fn remember(&mut self, tuple: &TupleV6, prefix: Position) {
        let Some(index) = self.find_v6(tuple).map(|index| index as usize) else { return };
        if self.prefixes.len() <= index {
            self.prefixes.resize(index + 1, 0);
        }
        if std::mem::replace(&mut self.prefixes[index], prefix) != prefix {
            // The fast path would answer by the other one still.
            self.fast_path.withdraw(index as u32, &self.sessions[index]);
        }
    }

    /// The prefix that the client uses.
    pub(super) fn prefix(&self, index: u32) -> Position {
        self.prefixes.get(index as usize).copied().unwrap_or_default()
    }

    /// Follows a new list of prefixes, in which those of the sessions have other positions.
    pub(super) fn renumber(&mut self, positions: &[Option<Position>]) {
        let moved = |index: usize| {
            let old = usize::from(self.prefixes.get(index).copied().unwrap_or_default());
            positions.get(old).copied().flatten().unwrap_or_default()
        };
        let last = self.sessions.iter().map(|(index, _)| index + 1).max().unwrap_or_default();
        self.prefixes = if positions.first() == Some(&Some(0)) && self.prefixes.is_empty() {
            Vec::new()
        } else {
            (0..last).map(moved).collect()
        };
    }

    /// Takes a session away.
    pub(super) fn remove(&mut self, index: u32) -> Session {
        let session = self.sessions.remove(index as usize);
        self.expiry.remove(index);
        self.fast_path.withdraw(index, &session);
        self.fast_path.closed(index);
        if !self.carried.is_empty() {
            self.carried.remove(&index);
        }
        let hash = self.keyed.session_v6(session.protocol, session.client, session.server);
        if let Ok(entry) = self.by_v6.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
        let hash = self.keyed.session_v4(session.protocol, session.mapped, session.server);
        if let Ok(entry) = self.by_v4.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
        let (binding, address) = (session.binding, session.server.address);
        let hash = self.keyed.peer(binding, address);
        let is_it = |peer: &Peer| peer.binding == binding && peer.address == address;
        if let Ok(mut entry) = self.peers.find_entry(hash, is_it) {
            entry.get_mut().sessions -= 1;
            if entry.get().sessions == 0 {
                entry.remove();
            }
        }
        self.counts[session.protocol as usize] -= 1;
        session
    }

    /// A session whose lifetime is over.
    pub(super) fn expired(&self, timers: &Nat64Timers, now: Instant) -> Option<u32> {
        self.expiry.expired(timers, now)
    }

    /// When the next session's lifetime is over.
    pub(super) fn next_expiry(&self, timers: &Nat64Timers) -> Option<Instant> {
        self.expiry.next(timers)
    }

    /// When a session's last packet came.
    pub(super) fn since(&self, index: u32) -> Instant {
        self.expiry.since(index)
    }

    /// All sessions.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Session)> {
        self.sessions.iter().map(|(index, session)| (index as u32, session))
    }

    /// The sessions in some of the places.
    pub(super) fn range(&self, places: core::ops::Range<u32>) -> impl Iterator<Item = (u32, &Session)> {
        places.filter_map(|index| Some((index, self.sessions.get(index as usize)?)))
    }

    /// How many places there are; sessions keep theirs as long as they live.
    pub(super) fn places(&self) -> u32 {
        self.expiry.places()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// How many there are of a protocol.
    pub(super) const fn count(&self, protocol: Protocol) -> u64 {
        self.counts[protocol as usize]
    }
}

impl core::ops::Index<u32> for Sessions {
    type Output = Session;
    fn index(&self, index: u32) -> &Session {
        &self.sessions[index as usize]
    }
}

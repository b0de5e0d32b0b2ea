//! Ports that nobody gets for a while after they were given back: RFC 6888 REQ-8.
//!
//! Packets for whoever had them may still be on their way. TCP's are free at once, as REQ-8 A allows: its state machine has
//! seen the end, and `TCP_TRANS` has passed since.
use core::net::Ipv4Addr;
use std::collections::VecDeque;

use super::tuple::Protocol;
use crate::time::{Duration, Instant};

/// Ports of an address that are held back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) address: Ipv4Addr,
    /// Whose tables; none where it is a block, which is for all of them.
    pub(super) protocol: Option<Protocol>,
    /// The first.
    pub(super) port: u16,
    /// How many.
    pub(super) count: u16,
}

/// What is held back, the longest first.
#[derive(Debug, Default)]
pub(super) struct Hold {
    time: Duration,
    most: u64,
    ports: u64,
    waiting: VecDeque<(Instant, Held)>,
}

impl Hold {
    /// Takes over for how long, and how many ports at most: REQ-8 wants both to be configurable.
    pub(super) const fn set(&mut self, time: Duration, most: u32) {
        self.time = time;
        self.most = most as u64;
    }

    /// Whether ports of that protocol are held back.
    pub(super) fn applies(&self, protocol: Protocol) -> bool {
        protocol != Protocol::Tcp && !self.time.is_zero() && self.most > 0
    }

    /// Holds ports back from now on.
    pub(super) fn push(&mut self, held: Held, now: Instant) {
        self.ports += u64::from(held.count);
        self.waiting.push_back((now, held));
    }

    /// What is to be free again: its time is over, or there is too much that is held back.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Held> {
        let (since, _) = self.waiting.front()?;
        if *since + self.time > now && self.ports <= self.most {
            return None;
        }
        let (_, held) = self.waiting.pop_front()?;
        self.ports -= u64::from(held.count);
        Some(held)
    }

    /// Forgets what is no longer ours.
    pub(super) fn retain(&mut self, is_ours: impl Fn(&Held) -> bool) {
        self.waiting.retain(|(_, held)| is_ours(held));
        self.ports = self.waiting.iter().map(|(_, held)| u64::from(held.count)).sum();
    }

    /// All of it, and since when.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Instant, Held)> {
        self.waiting.iter()
    }

    /// How many ports that are.
    pub(super) const fn ports(&self) -> u64 {
        self.ports
    }
}

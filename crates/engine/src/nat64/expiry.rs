//! When sessions end: one FIFO per timer class, since all of a class live equally long after their last packet.
use std::collections::BTreeSet;

use crate::config::Nat64Timers;
use crate::time::{Duration, Instant};

/// RFC 6146 section 4: the timers that sessions are under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerClass {
    /// UDP_DEFAULT.
    UdpDefault,
    /// TCP_EST.
    TcpEst,
    /// TCP_TRANS.
    TcpTrans,
    /// ICMP_DEFAULT.
    IcmpDefault,
}

impl TimerClass {
    /// TCP_EST comes last: what is over there may have to wait for a probe.
    const ALL: [Self; 4] = [Self::UdpDefault, Self::TcpTrans, Self::IcmpDefault, Self::TcpEst];

    pub(super) const fn lifetime(self, timers: &Nat64Timers) -> Duration {
        match self {
            Self::UdpDefault => timers.udp_default,
            Self::TcpEst => timers.tcp_est,
            Self::TcpTrans => timers.tcp_trans,
            Self::IcmpDefault => timers.icmp_default,
        }
    }
}

/// No session.
const NONE: u32 = u32::MAX;
/// In the place of a predecessor: the session is in no queue.
const PARKED: u32 = u32::MAX - 1;
/// In the place of a predecessor: the session is among those that are sorted.
const SORTED: u32 = u32::MAX - 2;

/// The class takes the two lowest bits of a time that would reach for centuries.
const CLASS_BITS: u32 = 2;

#[derive(Clone, Copy, Debug)]
struct Node {
    previous: u32,
    next: u32,
    since_and_class: u64,
}

impl Node {
    fn new(class: TimerClass, since: Instant) -> Self {
        Self { previous: NONE, next: NONE, since_and_class: since.as_nanos() << CLASS_BITS | class as u64 }
    }

    const fn class(&self) -> usize {
        (self.since_and_class & ((1 << CLASS_BITS) - 1)) as usize
    }

    const fn since(&self) -> Instant {
        Instant::from_nanos(self.since_and_class >> CLASS_BITS)
    }

    const fn set_since(&mut self, since: Instant) {
        self.since_and_class = since.as_nanos() << CLASS_BITS | self.class() as u64;
    }
}

#[cfg(test)]
pub(super) const NODE_SIZE: usize = size_of::<Node>();

#[derive(Clone, Copy, Debug)]
struct Queue {
    head: u32,
    tail: u32,
}

/// The queues. Sessions are named by the index that their table gives them.
#[derive(Debug)]
pub(super) struct Expiry {
    nodes: Vec<Node>,
    queues: [Queue; TimerClass::ALL.len()],
    /// Sessions whose last packet was heard of late, when others had come behind it in the queue.
    sorted: [BTreeSet<(Instant, u32)>; TimerClass::ALL.len()],
}

impl Expiry {
    pub(super) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            queues: [Queue { head: NONE, tail: NONE }; TimerClass::ALL.len()],
            sorted: [const { BTreeSet::new() }; TimerClass::ALL.len()],
        }
    }

    /// Makes room for so many sessions.
    pub(super) fn reserve(&mut self, count: usize) {
        self.nodes.reserve(count);
    }

    /// Puts a session that is in no queue at the end of one.
    pub(super) fn insert(&mut self, index: u32, class: TimerClass, now: Instant) {
        let node = Node::new(class, now);
        if let Some(slot) = self.nodes.get_mut(index as usize) {
            *slot = node;
        } else {
            // The table gives out the lowest free index first.
            self.nodes.resize(index as usize + 1, node);
        }
        self.link(index);
    }

    /// Starts a session's lifetime anew.
    pub(super) fn restart(&mut self, index: u32, class: TimerClass, now: Instant) {
        self.remove(index);
        self.nodes[index as usize] = Node::new(class, now);
        self.link(index);
    }

    /// Takes a session out of its queue until it is [put back](Self::unpark) or starts anew.
    pub(super) fn park(&mut self, index: u32) {
        self.remove(index);
        self.nodes[index as usize].previous = PARKED;
    }

    /// Puts a session back with the lifetime that it had.
    pub(super) fn unpark(&mut self, index: u32) {
        self.used(index, self.since(index));
    }

    /// Its lifetime began with a packet that is heard of only now.
    pub(super) fn used(&mut self, index: u32, since: Instant) {
        self.remove(index);
        let node = &mut self.nodes[index as usize];
        node.set_since(since);
        let class = node.class();
        let is_last = self.nodes.get(self.queues[class].tail as usize).is_none_or(|tail| tail.since() <= since);
        if is_last {
            self.link(index);
        } else {
            self.nodes[index as usize].previous = SORTED;
            self.sorted[class].insert((since, index));
        }
    }

    /// Takes a session out of its queue.
    pub(super) fn remove(&mut self, index: u32) {
        let node = self.nodes[index as usize];
        let (Node { previous, next, .. }, class) = (node, node.class());
        match previous {
            PARKED => return,
            SORTED => {
                self.sorted[class].remove(&(node.since(), index));
                return;
            }
            _ => {}
        }
        match self.nodes.get_mut(previous as usize) {
            Some(node) => node.next = next,
            None => self.queues[class].head = next,
        }
        match self.nodes.get_mut(next as usize) {
            Some(node) => node.previous = previous,
            None => self.queues[class].tail = previous,
        }
    }

    /// How many sessions there have been at most.
    pub(super) fn places(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// When a session's lifetime began.
    pub(super) fn since(&self, index: u32) -> Instant {
        self.nodes[index as usize].since()
    }

    /// A session whose lifetime is over.
    pub(super) fn expired(&self, timers: &Nat64Timers, now: Instant) -> Option<u32> {
        let over = |class: &TimerClass| self.deadline(*class, timers).filter(|(_, deadline)| *deadline <= now);
        TimerClass::ALL.iter().find_map(over).map(|(index, _)| index)
    }

    /// When the next session's lifetime is over.
    pub(super) fn next(&self, timers: &Nat64Timers) -> Option<Instant> {
        TimerClass::ALL.iter().filter_map(|class| self.deadline(*class, timers)).map(|(_, deadline)| deadline).min()
    }

    fn deadline(&self, class: TimerClass, timers: &Nat64Timers) -> Option<(u32, Instant)> {
        let head = self.queues[class as usize].head;
        let queued = self.nodes.get(head as usize).map(|node| (node.since(), head));
        let first = queued.into_iter().chain(self.sorted[class as usize].first().copied()).min();
        first.map(|(since, index)| (index, since + class.lifetime(timers)))
    }

    fn link(&mut self, index: u32) {
        let queue = &mut self.queues[self.nodes[index as usize].class()];
        let tail = core::mem::replace(&mut queue.tail, index);
        if tail == NONE {
            queue.head = index;
        }
        let node = &mut self.nodes[index as usize];
        (node.previous, node.next) = (tail, NONE);
        if let Some(tail) = self.nodes.get_mut(tail as usize) {
            tail.next = index;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sessions_end_in_the_order_of_their_last_packet() {
        let timers = Nat64Timers::default();
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let mut expiry = Expiry::new();
        for index in 0..3 {
            expiry.insert(index, TimerClass::UdpDefault, at(u64::from(index)));
        }
        expiry.restart(0, TimerClass::UdpDefault, at(10));
        expiry.restart(1, TimerClass::IcmpDefault, at(10));
        assert_eq!(expiry.next(&timers), Some(at(70)), "ICMP_DEFAULT is the shortest");
        assert_eq!(expiry.expired(&timers, at(69)), None);
        assert_eq!(expiry.expired(&timers, at(70)), Some(1));
        expiry.remove(1);
        assert_eq!(expiry.next(&timers), Some(at(302)));
        expiry.remove(2);
        assert_eq!(expiry.expired(&timers, at(310)), Some(0));
        expiry.remove(0);
        assert_eq!(expiry.next(&timers), None);
    }

    proptest! {
        #[test]
        fn queues_agree_with_a_sorted_list(steps: Vec<(u8, u8, u8)>) {
            let timers = Nat64Timers::default();
            let (mut expiry, mut twin) = (Expiry::new(), std::collections::BTreeMap::new());
            for (second, (index, class, what)) in steps.into_iter().enumerate() {
                let (index, class) = (u32::from(index % 8), TimerClass::ALL[usize::from(class) % 4]);
                let now = Instant::ZERO + Duration::from_secs(second as u64);
                match (twin.remove(&index), what % 4) {
                    (Some(_), 0) => expiry.remove(index),
                    (Some(_), 1) => {
                        expiry.restart(index, class, now);
                        twin.insert(index, (class, now));
                    }
                    (Some((class, since)), 2) => {
                        expiry.park(index);
                        expiry.unpark(index);
                        twin.insert(index, (class, since));
                    }
                    (Some((class, since)), _) => {
                        // Heard of late.
                        let used = Instant::from_nanos(u64::midpoint(since.as_nanos(), now.as_nanos()));
                        expiry.used(index, used);
                        twin.insert(index, (class, used));
                    }
                    (None, _) => {
                        expiry.insert(index, class, now);
                        twin.insert(index, (class, now));
                    }
                }
                let first = twin.values().map(|(class, since)| *since + class.lifetime(&timers)).min();
                prop_assert_eq!(expiry.next(&timers), first);
            }
        }
    }
}

//! The cache of finished answers (RFC 2308, RFC 8767), bounded in bytes.
//!
//! Who is asked for once does not displace who is asked for often: a new answer waits in a short queue, and only what is
//! asked for again there moves on to the long one. In both, an answer that was asked for gets another round. What left the
//! short queue unasked is remembered for a while, and comes into the long one when it returns (the S3-FIFO algorithm).
use core::hash::Hasher as _;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use slab::Slab;

use super::answer::{Answer, seconds};
use super::plain::{Key, Plain};
use crate::time::Instant;

/// What an answer takes beside its own bytes: its slot, its place in the table, the head of its allocation.
const OVERHEAD: usize = 128;
/// The part of the bytes that the short queue has, as a divisor.
const SHORT: usize = 10;
/// How often an answer that is asked for may go round again.
const MAX_ROUNDS: u8 = 3;
/// From how many questions on a name is worth asking for again before it expires.
const POPULAR: u8 = 2;
/// From how many questions on an answer is worth being given below the sockets, and how often that is said, in seconds.
const OFTEN: u8 = 3;
const OFFERED_EVERY: u32 = 2;
/// One remembered answer for so many bytes.
const GHOST: usize = 512;

const NONE: u32 = u32::MAX;

/// Answers by question. It has one owner: nothing in it locks, and a hit allocates nothing.
#[derive(Debug)]
pub struct Cache {
    keyed: Keyed,
    table: HashTable<u32>,
    slots: Slab<Slot>,
    queues: [Queue; 2],
    /// Fingerprints of answers that left the short queue unasked.
    ghosts: Vec<u32>,
    capacity: usize,
}

/// Hashes that nobody can aim at.
#[derive(Clone, Copy, Debug)]
struct Keyed((u64, u64));

impl Keyed {
    fn hash(self, question: &[u8], tag: u8) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.0.0, self.0.1);
        hasher.write(question);
        hasher.write_u8(tag);
        hasher.finish()
    }
}

#[derive(Debug)]
struct Slot {
    answer: Answer,
    newer: u32,
    older: u32,
    queue: Line,
    /// Questions, as far as they count.
    asked: u8,
    /// It is being asked for again.
    refreshing: bool,
    /// When it was last said that it is asked for often, in seconds.
    offered: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Short,
    Long,
}

/// Slots in the order in which they came.
#[derive(Debug)]
struct Queue {
    newest: u32,
    oldest: u32,
    bytes: usize,
}

/// How a question fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The response is written.
    Hit {
        /// Addresses in it were synthesized.
        synthesized: bool,
        /// The name is popular and its time nearly over: it is worth asking for again now. Said once.
        refresh: bool,
        /// The name is asked for often, and its answer may be given below the sockets. Said now and then: who hears of it again
        /// has it no more.
        offer: bool,
    },
    /// There is no answer, or its time has passed.
    Miss,
}

/// What a cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Answers.
    pub answers: usize,
    /// Bytes that they take.
    pub bytes: usize,
}

impl Cache {
    /// An empty cache for so many bytes. The key must not be guessable: clients choose what is kept.
    pub fn new(capacity: usize, key: (u64, u64)) -> Self {
        let empty = || Queue { newest: NONE, oldest: NONE, bytes: 0 };
        Self {
            keyed: Keyed(key),
            table: HashTable::new(),
            slots: Slab::new(),
            queues: [empty(), empty()],
            ghosts: vec![0; (capacity / GHOST).next_power_of_two()],
            capacity,
        }
    }

    /// Answers a query into `out`.
    pub fn answer(&mut self, key: &Key, query: &Plain<'_>, now: Instant, out: &mut Vec<u8>) -> Lookup {
        let Some(slot) =
            self.find(key.question(), key.tag.to_byte()).and_then(|index| self.slots.get_mut(index as usize))
        else {
            return Lookup::Miss;
        };
        if !slot.answer.is_fresh(now) {
            return Lookup::Miss;
        }
        slot.answer.write(query, now, out);
        slot.asked = slot.asked.saturating_add(1);
        let refresh = !slot.refreshing && slot.asked >= POPULAR && slot.answer.is_old(now);
        slot.refreshing |= refresh;
        let now = seconds(now);
        let offer = slot.asked >= OFTEN && now >= slot.offered.saturating_add(OFFERED_EVERY);
        if offer {
            slot.offered = now;
        }
        Lookup::Hit { synthesized: slot.answer.is_synthesized(), refresh, offer }
    }

    /// The answer to a question, fresh or not; nothing where it is of no use any more.
    pub fn peek(&self, key: &Key, now: Instant) -> Option<&Answer> {
        let answer = &self.slots.get(self.find(key.question(), key.tag.to_byte())? as usize)?.answer;
        answer.is_alive(now).then_some(answer)
    }

    /// Keeps an answer, in place of an older one to the same question. One whose time has passed already is not kept.
    pub fn insert(&mut self, answer: Answer, now: Instant) {
        if !answer.is_fresh(now) || cost(&answer) > self.capacity / SHORT {
            return;
        }
        let hash = self.keyed.hash(answer.question(), answer.tag);
        if let Some(index) = self.find(answer.question(), answer.tag) {
            if let Some(slot) = self.slots.get_mut(index as usize) {
                let (old, new) = (cost(&slot.answer), cost(&answer));
                (slot.answer, slot.refreshing) = (answer, false);
                let bytes = &mut self.queues[slot.queue as usize].bytes;
                *bytes = *bytes - old + new;
            }
        } else {
            let queue = if self.is_remembered(hash) { Line::Long } else { Line::Short };
            let index = self.slots.insert(Slot {
                answer,
                newer: NONE,
                older: NONE,
                queue,
                asked: 0,
                refreshing: false,
                offered: 0,
            });
            let Ok(index) = u32::try_from(index) else { return };
            self.link(index, queue);
            let (keyed, slots) = (self.keyed, &self.slots);
            self.table.insert_unique(hash, index, |index| hash_of(keyed, slots, *index));
        }
        while self.holding().bytes > self.capacity && self.evict() {}
    }

    /// Removes the answers about a name and all names below it; everything for the root. Gives their number.
    pub fn flush(&mut self, name: &[u8]) -> usize {
        let below = |question: &[u8]| {
            let name_end = question.len().saturating_sub(2);
            let mut at = 0;
            while let Some(rest) = question.get(at..name_end).filter(|rest| rest.len() >= name.len()) {
                if rest == name {
                    return true;
                }
                at += 1 + usize::from(question.get(at).copied().unwrap_or_default());
            }
            false
        };
        let found: Vec<u32> = self
            .slots
            .iter()
            .filter(|(_, slot)| name == [0] || below(slot.answer.question()))
            .filter_map(|(index, _)| u32::try_from(index).ok())
            .collect();
        for index in &found {
            self.remove(*index);
        }
        found.len()
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.table.clear();
        self.slots.clear();
        for queue in &mut self.queues {
            *queue = Queue { newest: NONE, oldest: NONE, bytes: 0 };
        }
        self.ghosts.fill(0);
    }

    /// What it holds now.
    pub fn holding(&self) -> Holding {
        Holding { answers: self.slots.len(), bytes: self.queues.iter().map(|queue| queue.bytes).sum() }
    }

    fn find(&self, question: &[u8], tag: u8) -> Option<u32> {
        let is_it = |index: &u32| {
            self.slots
                .get(*index as usize)
                .is_some_and(|slot| slot.answer.tag == tag && slot.answer.question() == question)
        };
        self.table.find(self.keyed.hash(question, tag), is_it).copied()
    }

    /// Lets one answer go, or gives one another round. False where there is none.
    fn evict(&mut self) -> bool {
        let [short, long] = &self.queues;
        let line = if short.bytes > self.capacity / SHORT || long.oldest == NONE { Line::Short } else { Line::Long };
        let index = self.queues[line as usize].oldest;
        let Some(slot) = self.slots.get_mut(index as usize) else { return false };
        match line {
            Line::Short if slot.asked > 0 => {
                slot.asked = 0;
                self.unlink(index);
                self.link(index, Line::Long);
            }
            Line::Short => {
                let hash = hash_of(self.keyed, &self.slots, index);
                self.remember(hash);
                self.remove(index);
            }
            Line::Long if slot.asked > 0 => {
                slot.asked = slot.asked.min(MAX_ROUNDS) - 1;
                self.unlink(index);
                self.link(index, Line::Long);
            }
            Line::Long => self.remove(index),
        }
        true
    }

    fn remove(&mut self, index: u32) {
        if !self.slots.contains(index as usize) {
            return;
        }
        let hash = hash_of(self.keyed, &self.slots, index);
        if let Ok(entry) = self.table.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
        self.unlink(index);
        self.slots.remove(index as usize);
    }

    fn link(&mut self, index: u32, line: Line) {
        let queue = &mut self.queues[line as usize];
        let newest = core::mem::replace(&mut queue.newest, index);
        if newest == NONE {
            queue.oldest = index;
        }
        if let Some(slot) = self.slots.get_mut(index as usize) {
            (slot.queue, slot.newer, slot.older) = (line, NONE, newest);
            queue.bytes += cost(&slot.answer);
        }
        if let Some(neighbour) = self.slots.get_mut(newest as usize) {
            neighbour.newer = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some(slot) = self.slots.get(index as usize) else { return };
        let (newer, older, queue) = (slot.newer, slot.older, &mut self.queues[slot.queue as usize]);
        queue.bytes -= cost(&slot.answer);
        if queue.newest == index {
            queue.newest = older;
        }
        if queue.oldest == index {
            queue.oldest = newer;
        }
        if let Some(neighbour) = self.slots.get_mut(newer as usize) {
            neighbour.older = older;
        }
        if let Some(neighbour) = self.slots.get_mut(older as usize) {
            neighbour.newer = newer;
        }
    }

    fn ghost(&mut self, hash: u64) -> Option<(&mut u32, u32)> {
        let index = usize::try_from(hash).ok()? & (self.ghosts.len() - 1);
        // Zero means nothing.
        let fingerprint = u32::try_from(hash >> 32).ok()? | 1;
        Some((self.ghosts.get_mut(index)?, fingerprint))
    }

    fn remember(&mut self, hash: u64) {
        if let Some((ghost, fingerprint)) = self.ghost(hash) {
            *ghost = fingerprint;
        }
    }

    fn is_remembered(&mut self, hash: u64) -> bool {
        self.ghost(hash).is_some_and(|(ghost, fingerprint)| *ghost == fingerprint)
    }
}

fn cost(answer: &Answer) -> usize {
    answer.length() + OVERHEAD
}

fn hash_of(keyed: Keyed, slots: &Slab<Slot>, index: u32) -> u64 {
    slots.get(index as usize).map_or(0, |slot| keyed.hash(slot.answer.question(), slot.answer.tag))
}

#[cfg(test)]
mod tests;

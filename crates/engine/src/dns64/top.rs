//! What comes up most often, in little memory however many different things there are.
//!
//! Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data Streams, 2005 ("space saving").
//! Counts are halved now and then, so that what is told is of the last minutes.
use core::hash::Hasher;
use core::time::Duration;

use siphasher::sip::SipHasher13;

use crate::time::Instant;

/// Things that are counted at a time: more than are ever told, so that rare ones do not push out frequent ones.
const KEPT: usize = 96;
/// How often counts are halved.
const HALVED_EVERY: Duration = Duration::from_secs(120);

/// Counts of byte strings. After the first [`KEPT`] of them it allocates only where one is longer than those before it.
#[derive(Debug)]
pub struct Top {
    key: (u64, u64),
    hashes: Vec<u64>,
    counts: Vec<u64>,
    things: Vec<Vec<u8>>,
    halved: Instant,
}

impl Top {
    /// Counts nothing yet. The key is to be secret: clients choose what is counted.
    pub fn new(key: (u64, u64)) -> Self {
        Self {
            key,
            hashes: Vec::with_capacity(KEPT),
            counts: Vec::with_capacity(KEPT),
            things: Vec::with_capacity(KEPT),
            halved: Instant::ZERO,
        }
    }

    /// Counts a thing so many times.
    pub fn count(&mut self, thing: &[u8], times: u64, now: Instant) {
        if now.saturating_since(self.halved) >= HALVED_EVERY {
            self.halved = now;
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(thing);
        let hash = hasher.finish();
        if let Some(at) = self.hashes.iter().position(|known| *known == hash) {
            self.counts[at] += times;
        } else if self.hashes.len() < KEPT {
            self.hashes.push(hash);
            self.counts.push(times);
            self.things.push(thing.to_vec());
        } else if let Some((at, least)) = self.counts.iter_mut().enumerate().min_by_key(|(_, count)| **count) {
            // It may have come up as often as the one whose place it takes: counts are too high rather than too low.
            *least += times;
            self.hashes[at] = hash;
            self.things[at].clear();
            self.things[at].extend_from_slice(thing);
        }
    }

    /// The most frequent ones with their counts, the first of them first.
    pub fn most(&self, number: usize) -> Vec<(Vec<u8>, u64)> {
        let mut order: Vec<usize> = (0..self.counts.len()).filter(|at| self.counts[*at] > 0).collect();
        order.sort_by(|one, other| {
            self.counts[*other].cmp(&self.counts[*one]).then_with(|| self.things[*one].cmp(&self.things[*other]))
        });
        order.into_iter().take(number).map(|at| (self.things[at].clone(), self.counts[at])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_frequent_is_found_among_any_number_of_rare_things() {
        let mut top = Top::new((1, 2));
        for round in 0..20_000_u32 {
            top.count(b"often", 1, Instant::ZERO);
            top.count(format!("once {round}").as_bytes(), 1, Instant::ZERO);
            if round % 4 == 0 {
                top.count(b"now and then", 1, Instant::ZERO);
            }
        }
        let most = top.most(2);
        assert_eq!(
            most.iter().map(|(thing, _)| thing.as_slice()).collect::<Vec<_>>(),
            [&b"often"[..], b"now and then"]
        );
        assert!((20_000..=20_000 + 40_000 / KEPT as u64).contains(&most[0].1), "{most:?}");
        assert_eq!(top.things.len(), KEPT);
    }

    #[test]
    fn what_was_asked_for_long_ago_counts_for_less() {
        let mut top = Top::new((1, 2));
        let after = |times: u32| Instant::ZERO + HALVED_EVERY * times;
        top.count(b"before", 100, after(1));
        top.count(b"now", 40, after(2));
        top.count(b"now", 1, after(3));
        assert_eq!(top.most(9), [(b"before".to_vec(), 25), (b"now".to_vec(), 21)]);
        for round in 4..12 {
            top.count(b"now", 1, after(round));
        }
        assert_eq!(top.most(9).len(), 1, "what is never asked for again is told no more");
    }
}

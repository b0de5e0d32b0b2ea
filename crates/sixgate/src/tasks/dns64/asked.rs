//! What is asked for, and who asks: the most frequent names and clients of the last minutes.
use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::BinDecodable;
use sixgate_engine::dns64::Top;
use sixgate_engine::status::Frequent;
use sixgate_engine::time::Instant;

use crate::clock::seed;

/// Names and clients that are told.
const TOLD: usize = 10;
/// While many queries come, one of so many is counted.
const SAMPLE: u64 = 16;

/// What one thread has heard.
#[derive(Debug)]
pub(super) struct Asked {
    names: Top,
    clients: Top,
    queries: u64,
    /// Many queries come.
    pub(super) is_busy: bool,
}

/// What it has to tell of that: names as they stand in messages, clients as the octets of their addresses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Most {
    names: Vec<(Vec<u8>, u64)>,
    clients: Vec<(Vec<u8>, u64)>,
}

impl Asked {
    pub(super) fn new() -> Self {
        let top = || Top::new((seed(), seed()));
        Self { names: top(), clients: top(), queries: 0, is_busy: false }
    }

    /// Counts a question.
    pub(super) fn count(&mut self, name: &[u8], client: IpAddr, now: Instant) {
        self.queries = self.queries.wrapping_add(1);
        if self.is_busy && !self.queries.is_multiple_of(SAMPLE) {
            return;
        }
        let times = if self.is_busy { SAMPLE } else { 1 };
        self.count_name(name, times, now);
        self.count_client(client, times, now);
    }

    /// Counts a name so many times.
    pub(super) fn count_name(&mut self, name: &[u8], times: u64, now: Instant) {
        self.names.count(name, times, now);
    }

    /// Counts a client so many times.
    pub(super) fn count_client(&mut self, client: IpAddr, times: u64, now: Instant) {
        match client {
            IpAddr::V6(address) => self.clients.count(&address.octets(), times, now),
            IpAddr::V4(address) => self.clients.count(&address.octets(), times, now),
        }
    }

    pub(super) fn most(&self) -> Most {
        Most { names: self.names.most(TOLD), clients: self.clients.most(TOLD) }
    }
}

/// All threads' together, for the console: names, and clients.
pub(super) fn together<'a>(all: impl Iterator<Item = &'a Most>) -> (Vec<Frequent>, Vec<Frequent>) {
    let (mut names, mut clients) = (BTreeMap::new(), BTreeMap::new());
    for most in all {
        for (sums, counted) in [(&mut names, &most.names), (&mut clients, &most.clients)] {
            for (thing, count) in counted {
                *sums.entry(thing.as_slice()).or_insert(0) += count;
            }
        }
    }
    (told(names, name), told(clients, address))
}

fn told(sums: BTreeMap<&[u8], u64>, word: fn(&[u8]) -> Option<String>) -> Vec<Frequent> {
    let frequent = |(thing, count): (&[u8], u64)| Some(Frequent { name: word(thing)?, count });
    let mut all: Vec<Frequent> = sums.into_iter().filter_map(frequent).collect();
    all.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.name.cmp(&other.name)));
    all.truncate(TOLD);
    all
}

fn name(bytes: &[u8]) -> Option<String> {
    Name::from_bytes(bytes).ok().map(|name| name.to_ascii())
}

fn address(bytes: &[u8]) -> Option<String> {
    let v6 = <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    v6.or_else(|| <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from)).map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_clients_of_all_threads_are_told_as_people_write_them() {
        let (mut one, mut other) = (Asked::new(), Asked::new());
        let (v6, v4) = ("2001:db8::7".parse().unwrap(), "192.0.2.7".parse().unwrap());
        for _ in 0..3 {
            one.count(b"\x03www\x07example\x03com\0", v6, Instant::ZERO);
            other.count(b"\x03www\x07example\x03com\0", v4, Instant::ZERO);
        }
        other.count(b"\x07example\x03com\0", v4, Instant::ZERO);
        let (names, clients) = together([one.most(), other.most()].iter());
        let words = |all: Vec<Frequent>| all.into_iter().map(|one| (one.name, one.count)).collect::<Vec<_>>();
        assert_eq!(words(names), [("www.example.com.".to_owned(), 6), ("example.com.".to_owned(), 1)]);
        assert_eq!(words(clients), [("192.0.2.7".to_owned(), 4), ("2001:db8::7".to_owned(), 3)]);
    }

    #[test]
    fn one_of_many_stands_for_the_others() {
        let mut asked = Asked::new();
        asked.is_busy = true;
        for _ in 0..1_600 {
            asked.count(b"\x03com\0", "2001:db8::7".parse().unwrap(), Instant::ZERO);
        }
        assert_eq!(asked.most().names, [(b"\x03com\0".to_vec(), 1_600)]);
    }
}

//! The SNTP client: RFC 4330 with the checks of RFC 5905 section 8. It asks a few servers at once and says by how much the clock is wrong.
use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sixgate_wire::ntp::{LENGTH, Reply, request};

use crate::time::Instant;

/// Servers that are asked, of all that are known.
const MOST_SERVERS: usize = 4;
/// How long answers are waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// RFC 4330 section 10: pauses grow while nobody answers.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(64);
/// RFC 5905: MINPOLL and MAXPOLL as exponents would be 6 and 10.
const SHORTEST_POLL: Duration = Duration::from_secs(64);
const LONGEST_POLL: Duration = Duration::from_secs(1024);
/// RFC 5905 section 11.1: a server that may be off by more than a second and a half tells nothing.
const MOST_ROOT_DISTANCE: i64 = 1_500_000_000;
/// An offset below this is as good as SNTP gets: the clock is asked for less often.
const SMALL: i64 = 20_000_000;

/// A question that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    server: IpAddr,
    nonce: u64,
    /// On both clocks: the one that is judged may be set meanwhile.
    sent: Instant,
    sent_wall: i64,
    sample: Option<Sample>,
}

/// What an answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    offset: i64,
    delay: i64,
    stratum: u8,
}

/// By how much the clock is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correction {
    /// Nanoseconds to add to the clock.
    pub offset: i64,
    /// Who says so.
    pub server: IpAddr,
    /// How far that server is from a reference clock.
    pub stratum: u8,
    /// Servers that agree with it, itself included.
    pub agreeing: usize,
}

/// The client.
#[derive(Debug)]
pub struct Client {
    servers: Vec<IpAddr>,
    rng: ChaCha8Rng,
    asked: Vec<Asked>,
    outgoing: VecDeque<(IpAddr, [u8; LENGTH])>,
    /// When the next round begins, or, while questions are out, ends.
    timer: Option<Instant>,
    retry: Duration,
    poll: Duration,
    corrections: VecDeque<Correction>,
    silent: u32,
}

impl Client {
    /// A client that knows no server yet.
    pub fn new(seed: u64) -> Self {
        Self {
            servers: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            asked: Vec::new(),
            outgoing: VecDeque::new(),
            timer: None,
            retry: FIRST_RETRY,
            poll: SHORTEST_POLL,
            corrections: VecDeque::new(),
            silent: 0,
        }
    }

    /// Takes the servers to ask, the preferred ones first. Other servers are asked at once.
    pub fn reconfigure(&mut self, servers: &[IpAddr], now: Instant) {
        let mut wanted: Vec<IpAddr> = Vec::new();
        for server in servers {
            if !wanted.contains(server) && wanted.len() < MOST_SERVERS {
                wanted.push(*server);
            }
        }
        if wanted != self.servers {
            self.servers = wanted;
            self.ask_again(now);
        }
    }

    /// Whatever was known may be wrong: the machine was asleep, moved, or put back in time. The servers are asked at once.
    pub fn ask_again(&mut self, now: Instant) {
        self.asked.clear();
        self.outgoing.clear();
        self.retry = FIRST_RETRY;
        self.poll = SHORTEST_POLL;
        self.silent = 0;
        self.timer = (!self.servers.is_empty()).then_some(now);
    }

    /// Who is asked.
    pub fn servers(&self) -> &[IpAddr] {
        &self.servers
    }

    /// Rounds in a row that nobody has answered.
    pub fn silent_rounds(&self) -> u32 {
        self.silent
    }

    /// When [`Client::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timer
    }

    /// A question for a server.
    pub fn poll_transmit(&mut self) -> Option<(IpAddr, [u8; LENGTH])> {
        self.outgoing.pop_front()
    }

    /// What a round has led to.
    pub fn poll_event(&mut self) -> Option<Correction> {
        self.corrections.pop_front()
    }

    /// Begins or ends a round. `wall` is the clock that is judged, in nanoseconds since 1970.
    pub fn handle_timeout(&mut self, now: Instant, wall: i64) {
        if self.timer.is_none_or(|timer| now < timer) {
            return;
        }
        if !self.asked.is_empty() {
            return self.conclude(now);
        }
        for server in self.servers.clone() {
            let nonce = self.rng.next_u64();
            self.asked.push(Asked { server, nonce, sent: now, sent_wall: wall, sample: None });
            self.outgoing.push_back((server, request(nonce)));
        }
        self.timer = Some(now + PATIENCE);
    }

    /// Takes a datagram.
    pub fn handle_input(&mut self, from: IpAddr, bytes: &[u8], now: Instant) {
        let Some(reply) = Reply::parse(bytes) else { return };
        // RFC 4330 section 5: what does not repeat the nonce answers another question, or nobody's.
        let matching = |asked: &&mut Asked| asked.server == from && asked.nonce == reply.origin();
        let Some(asked) = self.asked.iter_mut().find(matching) else { return };
        let usable = !reply.is_unsynchronised()
            && (1..=15).contains(&reply.stratum())
            && reply.root_distance() <= MOST_ROOT_DISTANCE;
        let Some(transmitted) = reply.transmitted().filter(|_| usable) else { return };
        let elapsed = i64::try_from(now.saturating_since(asked.sent).as_nanos()).unwrap_or(i64::MAX);
        let arrived = asked.sent_wall.saturating_add(elapsed);
        let forth = reply.received().saturating_sub(asked.sent_wall);
        let back = transmitted.saturating_sub(arrived);
        let delay = elapsed.saturating_sub(transmitted.saturating_sub(reply.received()));
        let offset = forth / 2 + back / 2;
        asked.sample.get_or_insert(Sample { offset, delay, stratum: reply.stratum() });
        if self.asked.iter().all(|asked| asked.sample.is_some()) {
            self.conclude(now);
        }
    }

    /// The end of a round: the servers vote.
    fn conclude(&mut self, now: Instant) {
        let asked = core::mem::take(&mut self.asked);
        let mut samples: Vec<(Sample, IpAddr)> =
            asked.iter().filter_map(|asked| Some((asked.sample?, asked.server))).collect();
        samples.sort_by_key(|(sample, _)| sample.offset);
        let Some(correction) = vote(&samples) else {
            self.silent = self.silent.saturating_add(1);
            self.timer = Some(now + self.retry);
            self.retry = (self.retry * 2).min(LONGEST_RETRY);
            return;
        };
        self.silent = 0;
        self.retry = FIRST_RETRY;
        self.poll = if correction.offset.abs() < SMALL { (self.poll * 2).min(LONGEST_POLL) } else { SHORTEST_POLL };
        self.timer = Some(now + self.poll);
        self.corrections.push_back(correction);
    }
}

/// The largest group of servers that agree, each within what its way there and back allows for; of that the one that is
/// nearest. Of two that do not agree nobody knows which is right, and the one that is preferred counts.
fn vote(sorted: &[(Sample, IpAddr)]) -> Option<Correction> {
    let agree = |one: &Sample, other: &Sample| {
        one.offset.saturating_sub(other.offset).saturating_abs() <= (one.delay + other.delay) / 2 + SMALL
    };
    let group = |sample: &Sample| sorted.iter().filter(|(other, _)| agree(sample, other)).count();
    let (sample, server) =
        sorted.iter().max_by_key(|(sample, _)| (group(sample), core::cmp::Reverse((sample.delay, sample.stratum))))?;
    Some(Correction { offset: sample.offset, server: *server, stratum: sample.stratum, agreeing: group(sample) })
}

#[cfg(test)]
mod tests;

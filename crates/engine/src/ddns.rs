//! Dynamic DNS: names outside follow addresses inside, by RFC 2136 or by HTTP, and only when they change.
use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use hickory_proto::rr::Name;

pub mod http;
pub mod tsig;
pub mod update;

use crate::time::Instant;
use http::HttpPlan;
use update::UpdatePlan;

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure that may pass: how long at first, doubled from then on, and how long at most.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);
/// After a refusal somebody has to do something: it is looked again twice a day, or once the address or the file changes.
const REFUSED_RETRY: Duration = Duration::from_secs(12 * 3600);

/// A name with the address that it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The name.
    pub name: Name,
    /// Its address; absent while there is none, and then nothing is told.
    pub address: Option<IpAddr>,
    /// Whether it is an A record.
    pub is_ipv4: bool,
    /// How to tell.
    pub how: How,
}

/// How a server is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// RFC 2136.
    Update(UpdatePlan),
    /// A request to a provider's web server.
    Http(HttpPlan),
}

impl How {
    /// Who is told, as the console names it. It has no secrets.
    pub fn server(&self) -> String {
        match self {
            Self::Update(update) => update.server.to_string(),
            Self::Http(http) => http.host.clone(),
        }
    }
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has it now, or had it before.
    Done(String),
    /// It may be otherwise later.
    Failed(String),
    /// It will be the same until somebody does something.
    Refused(String),
}

/// A record is what its key and type say.
type Key = (Name, bool);

/// What is known of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// What a server has, as far as is known, and which one.
    pub published: Option<(IpAddr, String)>,
    /// The last outcome.
    pub last: Option<Outcome>,
    /// When that was, in seconds since 1970.
    pub at: u64,
    /// Failures in a row.
    pub failures: u32,
    /// When the next attempt is due, unless the address changes before.
    due: Option<Instant>,
    /// The address of the last attempt.
    tried: Option<IpAddr>,
    /// An attempt is under way.
    busy: bool,
}

/// All records.
#[derive(Debug, Default)]
pub struct Updater {
    records: Vec<Record>,
    states: BTreeMap<Key, State>,
}

impl Updater {
    /// With what a former process has published: a restart tells nobody anything.
    pub fn new(published: impl IntoIterator<Item = (Name, IpAddr, String)>) -> Self {
        let state = |(name, address, server): (Name, IpAddr, String)| {
            ((name.to_lowercase(), address.is_ipv4()), State { published: Some((address, server)), ..State::default() })
        };
        Self { records: Vec::new(), states: published.into_iter().map(state).collect() }
    }

    /// Follows other records. What is told otherwise than before is told anew.
    pub fn reconfigure(&mut self, records: &[Record]) {
        for record in records {
            let before = self.records.iter().find(|other| key(other) == key(record));
            let state = self.states.entry(key(record)).or_default();
            if before.is_some_and(|before| before.how != record.how) {
                *state = State { busy: state.busy, ..State::default() };
            }
        }
        self.states.retain(|held, _| records.iter().any(|record| key(record) == *held));
        self.records = records.to_vec();
    }

    /// The next record that is to be told; [`Self::handle_outcome`] ends the attempt.
    pub fn poll_attempt(&mut self, now: Instant) -> Option<Record> {
        let due = |record: &&Record| self.due(record).is_some_and(|due| due <= now);
        let record = self.records.iter().find(due)?.clone();
        let state = self.states.entry(key(&record)).or_default();
        state.busy = true;
        state.tried = record.address;
        Some(record)
    }

    /// When the next attempt is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.records.iter().filter_map(|record| self.due(record)).min()
    }

    fn due(&self, record: &Record) -> Option<Instant> {
        let state = self.states.get(&key(record))?;
        let address = record.address?;
        let is_told =
            state.published.as_ref().is_some_and(|(held, server)| *held == address && *server == record.how.server());
        if state.busy || is_told {
            return None;
        }
        // What was refused or failed for one address may go for another.
        let is_new = state.tried != Some(address);
        Some(state.due.filter(|_| !is_new || state.failures > 1).unwrap_or(Instant::ZERO))
    }

    /// What came of an attempt.
    pub fn handle_outcome(&mut self, attempted: &Record, outcome: Outcome, now: Instant, at: u64) {
        let Some(state) = self.states.get_mut(&key(attempted)) else { return };
        state.busy = false;
        state.at = at;
        match &outcome {
            Outcome::Done(_) => {
                state.published = attempted.address.map(|address| (address, attempted.how.server()));
                state.failures = 0;
                state.due = None;
            }
            Outcome::Failed(_) => {
                let wait = FIRST_RETRY.saturating_mul(1 << state.failures.min(16)).min(LONGEST_RETRY);
                state.failures += 1;
                state.due = Some(now + wait);
            }
            Outcome::Refused(_) => {
                state.failures += 1;
                state.due = Some(now + REFUSED_RETRY);
            }
        }
        state.last = Some(outcome);
    }

    /// Records with what is known of them.
    pub fn records(&self) -> impl Iterator<Item = (&Record, &State)> {
        self.records.iter().filter_map(|record| Some((record, self.states.get(&key(record))?)))
    }
}

fn key(record: &Record) -> Key {
    (record.name.to_lowercase(), record.is_ipv4)
}

#[cfg(test)]
mod tests;

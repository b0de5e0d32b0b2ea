//! Answers below the resolver's sockets: the program at tc ingress of the LANs, the answers that it gives, to whom, at which
//! addresses.
//!
//! Nothing outlives the process: where the kernel's hook does, the program knows that nobody is there.
use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use aya::programs::SchedClassifier;
use sixgate_engine::dns64::Finished;
use sixgate_fastpath::dns::{self, ANSWER, CLIENT, COUNTED, OBJECT, PLACE, QUESTION};
pub use sixgate_fastpath::dns::{Client, Counters, Settings, name_of};

use crate::fastpath::hook::{Hook, Hooks, Order, Point, detach_classic};
use crate::fastpath::load::load;
use crate::fastpath::{FastPathError, missing, refused_map, refused_program};

#[cfg(test)]
mod tests;

const POINT: Point =
    Point { program: dns::PROGRAM, pin: "dns", direction: aya::programs::TcAttachType::Ingress, order: Order::Middle };
/// BPF_ANY: in place of what is there.
const ANY: u64 = 0;

/// By what an answer is found.
pub type Question = [u8; QUESTION];
/// By what a client is found.
pub type Place = [u8; PLACE];

/// The program, its maps and its hooks.
pub struct DnsAnswers {
    program: Ebpf,
    answers: HashMap<MapData, Question, [u8; ANSWER]>,
    clients: HashMap<MapData, Place, [u8; CLIENT]>,
    places: HashMap<MapData, Place, u32>,
    settings: Array<MapData, [u8; 24]>,
    counters: PerCpuArray<MapData, [u64; COUNTED]>,
    hooks: Hooks,
}

impl std::fmt::Debug for DnsAnswers {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("DnsAnswers").field("hooks", &self.hooks).finish_non_exhaustive()
    }
}

/// The key of a client, or of one of the resolver's addresses, on a link.
pub fn place(address: Ipv6Addr, link: u32) -> Place {
    dns::place(address, link)
}

impl DnsAnswers {
    /// Loads the program. It answers nothing until it is told to.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open(answers: u32, clients: u32) -> Result<Self, FastPathError> {
        let mut program = load(&OBJECT.0, |loader| {
            loader.map_max_entries(dns::ANSWERS, answers).map_max_entries(dns::CLIENTS, clients);
        })?;
        let loaded = classifier(&mut program)?.load();
        loaded.map_err(|error| refused_program("the program is not accepted", &error))?;
        let mut map = |name| program.take_map(name).ok_or_else(|| missing(name));
        let wrong = |error| refused_map("the maps are others", &error);
        let answers = HashMap::try_from(map(dns::ANSWERS)?).map_err(wrong)?;
        let clients = HashMap::try_from(map(dns::CLIENTS)?).map_err(wrong)?;
        let places = HashMap::try_from(map(dns::PLACES)?).map_err(wrong)?;
        let settings = Array::try_from(map(dns::SETTINGS)?).map_err(wrong)?;
        let counters = PerCpuArray::try_from(map(dns::COUNTERS)?).map_err(wrong)?;
        Ok(Self { program, answers, clients, places, settings, counters, hooks: Hooks::at(POINT) })
    }

    /// Has the program run on packets that come in by these interfaces, and no others. What cannot be done comes back.
    pub fn attach(&mut self, interfaces: &[(u32, String)]) -> Vec<(String, FastPathError)> {
        match classifier(&mut self.program) {
            Ok(program) => self.hooks.attach(program, interfaces, None),
            Err(error) => vec![(String::new(), error)],
        }
    }

    /// On which hook the program runs; none while it runs nowhere.
    pub fn hook(&self) -> Option<Hook> {
        self.hooks.kind()
    }

    /// Tells the program what to go by.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn configure(&mut self, settings: &Settings) -> Result<(), FastPathError> {
        self.settings.set(0, settings.emit(), 0).map_err(|error| refused_map("settings cannot be written", &error))
    }

    /// The resolver is asked at these addresses, and no others.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn listen(&mut self, places: &BTreeSet<Place>) -> Result<(), FastPathError> {
        let others: Vec<Place> =
            self.places.keys().filter_map(Result::ok).filter(|key| !places.contains(key)).collect();
        let changed = others.iter().try_for_each(|key| self.places.remove(key));
        let changed = changed.and_then(|()| places.iter().try_for_each(|key| self.places.insert(key, 1, ANY)));
        changed.map_err(|error| refused_map("addresses cannot be told", &error))
    }

    /// Has an answer given; the key by which it is found. Nothing where it cannot be: it is too long, or there is no room.
    pub fn put(&mut self, finished: &Finished<'_>, epoch: u32) -> Option<Question> {
        let answer = dns::Answer {
            name: finished.name,
            kind: finished.kind,
            view: finished.view,
            header: finished.header,
            records: finished.records,
            ttls: finished.ttls,
            opt: finished.opt(),
            is_synthesized: finished.is_synthesized,
            stored: finished.stored,
            until: finished.until,
        };
        let (key, value) = (answer.key()?, answer.value(epoch)?);
        self.answers.insert(key, value, ANY).ok()?;
        Some(key)
    }

    /// How often an answer was given since it was put there; nothing if it is not there.
    pub fn given(&self, question: &Question) -> Option<u64> {
        self.answers.get(question, 0).ok().map(|value| dns::times(&value))
    }

    /// Takes an answer back.
    pub fn take(&mut self, question: &Question) {
        let _ = self.answers.remove(question);
    }

    /// Has a client answered. Its account and the number of its answers stay.
    ///
    /// # Errors
    /// The kernel refused, mostly for want of room.
    pub fn admit(&mut self, place: &Place, client: &Client) -> Result<(), FastPathError> {
        let former = self.clients.get(place, 0).ok();
        let answered = former.as_ref().map_or(0, |value| dns::times(value));
        let even_at = former.as_ref().map_or(client.even_at, Client::even_at);
        let client = Client { even_at, ..*client };
        let done = self.clients.insert(place, client.emit(answered), ANY);
        done.map_err(|error: MapError| refused_map("a client cannot be told", &error))
    }

    /// How often a client was answered since it was admitted; nothing if it is not.
    pub fn asked(&self, place: &Place) -> Option<u64> {
        self.clients.get(place, 0).ok().map(|value| dns::times(&value))
    }

    /// A client is no longer answered.
    pub fn dismiss(&mut self, place: &Place) {
        let _ = self.clients.remove(place);
    }

    /// What the program has counted.
    pub fn counters(&self) -> Counters {
        self.counters.get(&0, 0).map_or_else(|_| Counters::default(), |values| Counters::sum(values.iter()))
    }
}

impl Drop for DnsAnswers {
    /// The program runs nowhere any more.
    fn drop(&mut self) {
        self.hooks.detach_all();
    }
}

/// Takes hooks away that a process which was killed has left, where the kernel's hooks outlive processes.
pub fn discard() {
    if Hook::best() == Hook::Clsact {
        detach_classic(POINT);
    }
}

fn classifier(program: &mut Ebpf) -> Result<&mut SchedClassifier, FastPathError> {
    let program = program.program_mut(dns::PROGRAM).ok_or_else(|| missing(dns::PROGRAM))?;
    program.try_into().map_err(|error| refused_program("the program is of another kind", &error))
}

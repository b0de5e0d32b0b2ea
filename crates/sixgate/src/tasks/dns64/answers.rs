//! All answers, and the questions that are being asked: equal ones are asked once.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sixgate_engine::dns64::{Answer, Cache, Holding, Key, RateLimit};
use sixgate_engine::plan::Dns64Plan;
use sixgate_engine::time::Instant;

use super::answer::Client;
use crate::clock::seed;
use crate::wiring::Reach;
use tokio::sync::mpsc;

/// What is answered by, and its number: what was found out under one is not kept under another.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) generation: u64,
    pub(super) plan: Arc<Dns64Plan>,
    pub(super) rate: Arc<RateLimit>,
    /// Who lets restricted hosts reach what they are told of.
    pub(super) reach: Option<mpsc::Sender<Reach>>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { generation: 0, plan: Arc::default(), rate: Arc::new(RateLimit::new(0, (0, 0))), reach: None }
    }
}

/// When an answer was found out. What is of another era is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Era {
    /// The number of the rules.
    pub(super) rules: u64,
    /// How often answers had been forgotten by order.
    pub(super) forgotten: u64,
}

/// The answers of all fronts, and who waits for which. The workers keep their own copies of what they are asked for.
#[derive(Clone)]
pub(super) struct Answers(Arc<Mutex<Kept>>);

struct Kept {
    cache: Cache,
    era: Era,
    /// By when it was asked, and the question.
    waiting: HashMap<(Era, Vec<u8>), Vec<Client>>,
}

/// What there is to say to a question at once.
pub(super) enum Found {
    /// The answer, and whoever asked.
    Answer(Answer, Client, Era),
    /// Others have asked; the answer will come to the client.
    Waiting,
    /// Nobody has asked: do so, and [`Answers::settle`].
    Ask {
        /// It serves as long as there is no newer one.
        former: Option<Answer>,
        /// What it is found out in.
        era: Era,
    },
}

impl Answers {
    /// `capacity` is in bytes.
    pub(super) fn new(capacity: usize) -> Self {
        let cache = Cache::new(capacity, (seed(), seed()));
        Self(Arc::new(Mutex::new(Kept { cache, era: Era::default(), waiting: HashMap::new() })))
    }

    /// Forgets everything, for new rules.
    pub(super) fn follow(&self, rules: &Rules) {
        let mut kept = self.kept();
        kept.cache.clear();
        kept.era.rules = rules.generation;
    }

    /// Forgets a name and all names below it, and what is being asked is not kept either. The number of answers
    /// forgotten, and the era that begins.
    pub(super) fn flush(&self, name: &[u8]) -> (usize, Era) {
        let mut kept = self.kept();
        kept.era.forgotten += 1;
        (kept.cache.flush(name), kept.era)
    }

    /// Looks for an answer; a client that asks anew waits for the next one.
    pub(super) fn find(&self, key: &Key, client: Client, now: Instant) -> Found {
        let mut kept = self.kept();
        let era = kept.era;
        let former = kept.cache.peek(key, now).cloned();
        let former = match former {
            Some(answer) if answer.is_fresh(now) && !client.asks_anew() => return Found::Answer(answer, client, era),
            former => former,
        };
        let question = (era, key.to_bytes());
        if let Some(waiting) = kept.waiting.get_mut(&question) {
            waiting.push(client);
            return Found::Waiting;
        }
        kept.waiting.insert(question, vec![client]);
        Found::Ask { former, era }
    }

    /// Who waits for a question, to be told something meanwhile.
    pub(super) fn take_waiting(&self, key: &Key, era: Era) -> Vec<Client> {
        self.kept().waiting.get_mut(&(era, key.to_bytes())).map(std::mem::take).unwrap_or_default()
    }

    /// Ends a question: keeps its answer, if it is of the present era, and gives who waits.
    pub(super) fn settle(&self, key: &Key, answer: Option<Answer>, era: Era, now: Instant) -> Vec<Client> {
        let mut kept = self.kept();
        if let Some(answer) = answer.filter(|_| era == kept.era) {
            kept.cache.insert(answer, now);
        }
        kept.waiting.remove(&(era, key.to_bytes())).unwrap_or_default()
    }

    pub(super) fn holding(&self) -> Holding {
        self.kept().cache.holding()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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

/// The answers of all fronts, and who waits for which. The workers keep their own copies of what they are asked for.
#[derive(Clone)]
pub(super) struct Answers(Arc<Mutex<Kept>>);

struct Kept {
    cache: Cache,
    generation: u64,
    /// By the rules that held when it was asked, and the question.
    waiting: HashMap<(u64, Vec<u8>), Vec<Client>>,
}

/// What there is to say to a question at once.
pub(super) enum Found {
    /// The answer, and whoever asked.
    Answer(Answer, Client),
    /// Others have asked; the answer will come to the client.
    Waiting,
    /// Nobody has asked: do so, and [`Answers::settle`].
    Ask {
        /// It serves as long as there is no newer one.
        former: Option<Answer>,
        /// What rules hold now.
        generation: u64,
    },
}

impl Answers {
    /// `capacity` is in bytes.
    pub(super) fn new(capacity: usize) -> Self {
        let cache = Cache::new(capacity, (seed(), seed()));
        Self(Arc::new(Mutex::new(Kept { cache, generation: 0, waiting: HashMap::new() })))
    }

    /// Forgets everything, for new rules.
    pub(super) fn follow(&self, rules: &Rules) {
        let mut kept = self.kept();
        kept.cache.clear();
        kept.generation = rules.generation;
    }

    /// Forgets a name and all names below it.
    pub(super) fn flush(&self, name: &[u8]) -> usize {
        self.kept().cache.flush(name)
    }

    /// Looks for an answer; a client that asks anew waits for the next one.
    pub(super) fn find(&self, key: &Key, client: Client, now: Instant) -> Found {
        let mut kept = self.kept();
        let former = kept.cache.peek(key, now).cloned();
        let former = match former {
            Some(answer) if answer.is_fresh(now) && !client.asks_anew() => return Found::Answer(answer, client),
            former => former,
        };
        let question = (kept.generation, key.to_bytes());
        if let Some(waiting) = kept.waiting.get_mut(&question) {
            waiting.push(client);
            return Found::Waiting;
        }
        let generation = kept.generation;
        kept.waiting.insert(question, vec![client]);
        Found::Ask { former, generation }
    }

    /// Who waits for a question, to be told something meanwhile.
    pub(super) fn take_waiting(&self, key: &Key, generation: u64) -> Vec<Client> {
        self.kept().waiting.get_mut(&(generation, key.to_bytes())).map(std::mem::take).unwrap_or_default()
    }

    /// Ends a question: keeps its answer, if it was found out under the rules that hold now, and gives who waits.
    pub(super) fn settle(&self, key: &Key, answer: Option<Answer>, generation: u64, now: Instant) -> Vec<Client> {
        let mut kept = self.kept();
        if let Some(answer) = answer.filter(|_| generation == kept.generation) {
            kept.cache.insert(answer, now);
        }
        kept.waiting.remove(&(generation, key.to_bytes())).unwrap_or_default()
    }

    pub(super) fn holding(&self) -> Holding {
        self.kept().cache.holding()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

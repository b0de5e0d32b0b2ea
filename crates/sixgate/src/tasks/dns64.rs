//! Runs the resolver: a listener for each address and transport, one front behind all of them.
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::BinEncodable;
use sixgate_engine::dns64::{Counters, Holding, RateLimit, Transport};
use sixgate_engine::finding::Finding;
use sixgate_engine::plan::Dns64Plan;
use sixgate_engine::savi::Sources;
use sixgate_engine::status;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::clock::seed;
use crate::tasks::network;
use crate::wiring::{Desired, Flush, Reach, Withdraw};

mod answer;
mod answers;
mod asked;
mod dialogue;
mod encrypted;
mod fast_path;
mod framed;
mod front;
mod http;
mod identity;
mod listener;
mod reach;
mod streams;
mod turns;
mod validator;
mod worker;

use answers::{Answers, Rules};
use asked::Most;
use fast_path::{FastPath, Offers};
use front::Front;
use listener::Place;
use worker::{Order, Tally, Worker};

/// Queries without an answer that may wait for the front; the next one is dropped.
const MISSED: usize = 1024;

/// This task's ends of the channels.
pub struct Ends {
    /// The plan.
    pub desired: watch::Receiver<Desired>,
    /// Whether a ruleset is in force.
    pub network: watch::Receiver<network::Slice>,
    /// Who may send from where on the LANs.
    pub sources: watch::Receiver<Arc<Vec<Sources>>>,
    /// Tells the firewall of addresses that somebody may reach.
    pub reach: mpsc::Sender<Reach>,
    /// Asks for answers to be forgotten.
    pub flushes: mpsc::Receiver<Flush>,
    /// Asks for a new start.
    pub restart: mpsc::Receiver<Withdraw>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    plan: Option<Arc<Dns64Plan>>,
    counters: Counters,
    /// Queries that the engine did not see, by reason.
    refused: BTreeMap<&'static str, u64>,
    /// What is asked most, as the front (number 0) and the workers have it.
    asked: BTreeMap<usize, Most>,
    /// What the caches hold: all answers under number 0, then the workers' copies.
    holdings: BTreeMap<usize, Holding>,
    listening: BTreeSet<Place>,
    problems: BTreeMap<Place, Finding>,
    /// What is wrong with the certificate that clients are shown.
    identity: Option<Finding>,
    /// Why upstreams over TLS are not asked.
    encryption: BTreeMap<SocketAddr, Finding>,
    /// What keeps answers from being validated.
    validation: Option<Finding>,
    /// What is answered in the kernel.
    fast_path: Option<status::Answering>,
    /// Why nothing is.
    fast_path_failed: Option<Finding>,
}

impl Slice {
    /// What an operator sees; nothing when the resolver is switched off.
    pub fn status(&self) -> Option<status::Dns64> {
        let plan = self.plan.as_ref()?;
        let both =
            |address| [Transport::Udp, Transport::Tcp].map(|transport| self.listening.contains(&(address, transport)));
        let over_tls = plan.listen_tls.iter().copied().filter(|address| both(*address)[1]);
        let plain = plan.listen.iter().copied().filter(|address| both(*address) == [true, true]);
        let listening: Vec<_> = plain.chain(over_tls).collect();
        let mut status = self.counters.status(plan, &listening);
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        status.cache_answers = self.holdings.get(&0).map_or(0, |all| count(all.answers));
        status.cache_bytes = self.holdings.values().map(|holding| count(holding.bytes)).sum();
        status.fast_path.clone_from(&self.fast_path);
        (status.top_names, status.top_clients) = asked::together(self.asked.values());
        status.dropped.extend(self.refused.iter().map(|(reason, count)| ((*reason).to_owned(), *count)));
        Some(status)
    }

    /// Takes what a worker has counted.
    fn take_tally(&mut self, tally: Tally) {
        self.counters.asked(tally.hits);
        self.counters.found(tally.hits, tally.synthesized);
        for (reason, count) in tally.refused {
            *self.refused.entry(reason).or_default() += count;
        }
    }

    /// What is wrong.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        let validates = self.plan.as_ref().is_some_and(|plan| plan.validate);
        self.problems
            .values()
            .chain(&self.identity)
            .chain(self.encryption.values())
            .chain(&self.fast_path_failed)
            .chain(self.validation.as_ref().filter(|_| validates))
    }
}

/// Runs until the plan's sender is gone. Without a ruleset in force it listens nowhere: the resolver is for the LANs, and
/// only the ruleset keeps the uplink from it.
pub async fn run(mut ends: Ends) {
    let mut office: Option<Office> = None;
    let mut tasks = JoinSet::new();
    let mut places: BTreeMap<Place, AbortHandle> = BTreeMap::new();
    let (offers, offered) = Offers::new();
    let fast_path = FastPath::new(&offers, ends.slice.clone());
    tasks.spawn(fast_path.clone().hear(offered));
    fast_path.admit(Arc::clone(&ends.sources.borrow_and_update()));
    let mut ruleset = None;
    loop {
        let desired = ends.desired.borrow_and_update().clone();
        if desired != Desired::Unknown {
            let wanted = desired.plan().map(|plan| plan.dns64.clone()).unwrap_or_default();
            let in_force = ends.network.borrow_and_update().ruleset.clone();
            let guarded = in_force.is_some();
            if ruleset != in_force {
                // Who was admitted is to be admitted again.
                fast_path.empty();
                ruleset = in_force;
            }
            let addresses = if guarded { wanted.listen.as_slice() } else { &[] };
            if office.as_ref().is_some_and(|office| !office.suits(&wanted)) {
                // Sockets are bound once for each worker.
                leave_all_but(&BTreeSet::new(), &mut places, &ends.slice);
                office = None;
                fast_path.empty();
            }
            let by_both =
                |address: &SocketAddr| [Transport::Udp, Transport::Tcp].map(|transport| (*address, transport));
            let over_tls = if guarded { wanted.listen_tls.as_slice() } else { &[] };
            let over_tls = over_tls.iter().map(|address| (*address, Transport::Tcp));
            let wanted_places = addresses.iter().flat_map(by_both).chain(over_tls).collect();
            leave_all_but(&wanted_places, &mut places, &ends.slice);
            fast_path.listen();
            if office.is_none() && !wanted.listen.is_empty() {
                office = match Office::open(&wanted, &mut tasks, (&offers, &fast_path), &ends.slice) {
                    Ok(office) => Some(office),
                    Err(error) => return tracing::error!("the resolver's threads cannot be started: {error}"),
                };
            }
            let listens = !wanted.listen.is_empty();
            let plan = Arc::new(wanted);
            if let Some(office) = &mut office {
                office.adopt(&plan, &ends.reach);
                for place in wanted_places {
                    let listen = || listener::listen(place, office.front.clone(), ends.slice.clone());
                    places.entry(place).or_insert_with(|| tasks.spawn(listen()));
                }
            }
            if !listens {
                fast_path.follow(&Arc::default(), 0);
            }
            let plan = listens.then_some(plan);
            if ends.slice.borrow().plan != plan {
                ends.slice.send_modify(|slice| slice.plan = plan);
            }
        }
        tokio::select! {
            changed = ends.desired.changed() => if changed.is_err() { return },
            changed = ends.network.changed() => if changed.is_err() { return },
            changed = ends.sources.changed() => {
                if changed.is_err() { return }
                fast_path.admit(Arc::clone(&ends.sources.borrow_and_update()));
            }
            Some((name, done)) = ends.flushes.recv() => {
                // Whoever asked may have given up.
                let outcome = match &office {
                    Some(office) => office.flush(name.as_deref()).await,
                    None => Ok(()),
                };
                drop(done.send(outcome));
            }
            Some(done) = ends.restart.recv() => {
                leave_all_but(&BTreeSet::new(), &mut places, &ends.slice);
                fast_path.listen();
                office = None;
                fast_path.empty();
                tracing::info!("the resolver starts anew");
                let _ = done.send(());
            }
            Some(ended) = tasks.join_next() => match ended {
                Err(error) if error.is_panic() => return tracing::error!("a listener ended: {error}"),
                Ok(()) | Err(_) => {}
            },
        }
    }
}

/// Addresses that stay keep their sockets and connections.
fn leave_all_but(wanted: &BTreeSet<Place>, places: &mut BTreeMap<Place, AbortHandle>, slice: &watch::Sender<Slice>) {
    places.retain(|place, listener| {
        let stays = wanted.contains(place);
        if !stays {
            listener.abort();
            slice.send_modify(|slice| {
                slice.listening.remove(place);
                slice.problems.remove(place);
            });
        }
        stays
    });
}

/// The front, and the workers before it.
struct Office {
    front: Front,
    workers: Arc<Vec<Worker>>,
    answers: Answers,
    rules: watch::Sender<Rules>,
    fast_path: FastPath,
    /// What it was opened for.
    cache: usize,
}

impl Office {
    fn open(
        plan: &Dns64Plan,
        tasks: &mut JoinSet<()>,
        (offers, fast_path): (&Offers, &FastPath),
        slice: &watch::Sender<Slice>,
    ) -> std::io::Result<Self> {
        let (rules, rules_seen) = watch::channel(Rules::default());
        let (missed, missed_seen) = mpsc::channel(MISSED);
        // One half for all answers, the other for the copies of them that the workers have at hand.
        let (all, each) = (plan.cache / 2, plan.cache / 2 / plan.workers.max(1));
        let workers = (0..plan.workers.max(1))
            .map(|number| Worker::start(number, each, missed.clone(), offers.clone(), slice.clone()))
            .collect::<std::io::Result<Vec<Worker>>>()?;
        let (workers, answers) = (Arc::new(workers), Answers::new(all));
        let front = Front::new(rules_seen, answers.clone(), workers.clone(), slice.clone());
        tasks.spawn(front.clone().hear(missed_seen));
        front.open_validator();
        Ok(Self { front, workers, answers, rules, fast_path: fast_path.clone(), cache: plan.cache })
    }

    fn suits(&self, plan: &Dns64Plan) -> bool {
        self.cache == plan.cache && self.workers.len() == plan.workers.max(1) && !plan.listen.is_empty()
    }

    /// New rules for the next query. What was answered by other ones is forgotten; an address more or less changes no answer.
    fn adopt(&self, plan: &Arc<Dns64Plan>, reach: &mpsc::Sender<Reach>) {
        let before = self.rules.borrow().clone();
        if before.plan == *plan {
            return;
        }
        let with_their_addresses = Dns64Plan {
            listen: plan.listen.clone(),
            listen_tls: plan.listen_tls.clone(),
            identity: plan.identity.clone(),
            fast_path: plan.fast_path.clone(),
            ..Dns64Plan::clone(&before.plan)
        };
        let generation = before.generation + u64::from(with_their_addresses != **plan);
        let rate = if before.plan.rate == plan.rate {
            before.rate
        } else {
            Arc::new(RateLimit::new(plan.rate, (seed(), seed())))
        };
        let rules = Rules { generation, plan: plan.clone(), rate, reach: Some(reach.clone()) };
        if before.plan.identity != plan.identity {
            self.front.identify(plan);
        }
        if generation != before.generation {
            self.front.encryption().follow(plan);
            self.answers.follow(&rules);
            for worker in &*self.workers {
                worker.order(Order::Follow(rules.clone()));
            }
        }
        self.fast_path.follow(plan, generation);
        self.rules.send_replace(rules);
    }
}

impl Office {
    /// Forgets a name and all names below it, or everything; afterwards nobody answers from memory.
    /// An error says what is wrong with the name.
    async fn flush(&self, name: Option<&str>) -> Result<(), String> {
        let mut name = Name::from_ascii(name.unwrap_or(".")).map_err(|error| error.to_string())?.to_lowercase();
        name.set_fqdn(true);
        let name: Arc<[u8]> = name.to_bytes().map_err(|error| error.to_string())?.into();
        let (count, era) = self.answers.flush(&name);
        let (done, mut ends) = mpsc::channel(1);
        for worker in &*self.workers {
            worker.order(Order::Flush(name.clone(), era, done.clone()));
        }
        drop(done);
        // Nothing is ever sent: this is the end of the last sender.
        let _ = ends.recv().await;
        self.fast_path.empty();
        tracing::info!("{count} answers forgotten");
        Ok(())
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.front.close_validator();
        for worker in &*self.workers {
            worker.order(Order::End);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sixgate_engine::facts::Facts;
    use sixgate_engine::plan::{Plan, plan};
    use sixgate_engine::{config, firewall};
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_resolver_listens_only_while_a_ruleset_is_in_force() {
        let dns64 = Dns64Plan { listen: vec!["[::1]:0".parse().unwrap()], ..Dns64Plan::default() };
        let config = config::parse("[wan]\ninterface = \"wan0\"\n", "test.toml").unwrap();
        let plan = Plan { dns64, ..plan(&config, &Facts::default()) };
        let (_desired, desired) = watch::channel(Desired::Open(Arc::new(plan)));
        let (network, network_seen) = watch::channel(network::Slice::default());
        let (slice, mut seen) = watch::channel(Slice::default());
        let (_flush, flushes) = mpsc::channel(1);
        let (again, restart) = mpsc::channel(1);
        let (reach, _) = mpsc::channel(1);
        let (_sources, sources) = watch::channel(Arc::default());
        let task = tokio::spawn(run(Ends { desired, network: network_seen, sources, reach, flushes, restart, slice }));

        seen.wait_for(|slice| slice.plan.is_some()).await.unwrap();
        for _ in 0..32 {
            yield_now().await;
        }
        assert!(seen.borrow().listening.is_empty());

        network.send_modify(|slice| slice.ruleset = Some(Arc::new(firewall::closed())));
        timeout(DEADLINE, seen.wait_for(|slice| slice.listening.len() == 2)).await.unwrap().unwrap();

        let (done, anew) = tokio::sync::oneshot::channel();
        again.send(done).await.unwrap();
        timeout(DEADLINE, anew).await.unwrap().unwrap();
        timeout(DEADLINE, seen.wait_for(|slice| slice.listening.len() == 2)).await.unwrap().unwrap();
        network.send_modify(|slice| slice.ruleset = None);
        timeout(DEADLINE, seen.wait_for(|slice| slice.listening.is_empty())).await.unwrap().unwrap();
        task.abort();
    }
}

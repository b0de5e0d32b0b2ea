//! Runs the resolver: a listener for each address and transport, one front behind all of them.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sixgate_engine::dns64::{Counters, Transport};
use sixgate_engine::finding::Finding;
use sixgate_engine::plan::Dns64Plan;
use sixgate_engine::status;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::tasks::network;
use crate::wiring::Desired;

mod answer;
mod datagrams;
mod dialogue;
mod front;
mod listener;
mod streams;
mod turns;

use front::Front;
use listener::Place;

/// This task's ends of the channels.
pub struct Ends {
    /// The plan.
    pub desired: watch::Receiver<Desired>,
    /// Whether a ruleset is in force.
    pub network: watch::Receiver<network::Slice>,
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
    listening: BTreeSet<Place>,
    problems: BTreeMap<Place, Finding>,
}

impl Slice {
    /// What an operator sees; nothing when the resolver is switched off.
    pub fn status(&self) -> Option<status::Dns64> {
        let plan = self.plan.as_ref()?;
        let both =
            |address| [Transport::Udp, Transport::Tcp].map(|transport| self.listening.contains(&(address, transport)));
        let listening: Vec<_> = plan.listen.iter().copied().filter(|address| both(*address) == [true, true]).collect();
        let mut status = self.counters.status(plan, &listening);
        status.dropped.extend(self.refused.iter().map(|(reason, count)| ((*reason).to_owned(), *count)));
        Some(status)
    }

    /// What is wrong.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.problems.values()
    }
}

/// Runs until the plan's sender is gone. Without a ruleset in force it listens nowhere: the resolver is for the LANs, and
/// only the ruleset keeps the uplink from it.
pub async fn run(mut ends: Ends) {
    let (plan, plan_seen) = watch::channel(Arc::default());
    let front = Front::new(plan_seen, ends.slice.clone());
    let mut listeners = JoinSet::new();
    let mut places: BTreeMap<Place, AbortHandle> = BTreeMap::new();
    loop {
        let desired = ends.desired.borrow_and_update().clone();
        if desired != Desired::Unknown {
            let wanted = desired.plan().map(|plan| plan.dns64.clone()).unwrap_or_default();
            adopt(&plan, &ends.slice, wanted);
            let guarded = ends.network.borrow_and_update().ruleset.is_some();
            let addresses = if guarded { plan.borrow().listen.clone() } else { Vec::new() };
            listen_at(&addresses, &mut places, &ends.slice, |place| {
                listeners.spawn(listener::listen(place, front.clone(), ends.slice.clone()))
            });
        }
        tokio::select! {
            changed = ends.desired.changed() => if changed.is_err() { return },
            changed = ends.network.changed() => if changed.is_err() { return },
            Some(ended) = listeners.join_next() => match ended {
                Err(error) if error.is_panic() => return tracing::error!("a listener ended: {error}"),
                Ok(()) | Err(_) => {}
            },
        }
    }
}

/// Listeners see the new plan with their next query.
fn adopt(plan: &watch::Sender<Arc<Dns64Plan>>, slice: &watch::Sender<Slice>, wanted: Dns64Plan) {
    if **plan.borrow() == wanted && slice.borrow().plan.is_some() {
        return;
    }
    let wanted = Arc::new(wanted);
    plan.send_replace(wanted.clone());
    slice.send_modify(|slice| slice.plan = (!wanted.listen.is_empty()).then_some(wanted));
}

/// Addresses that stay keep their sockets and connections.
fn listen_at(
    addresses: &[std::net::SocketAddr],
    places: &mut BTreeMap<Place, AbortHandle>,
    slice: &watch::Sender<Slice>,
    mut start: impl FnMut(Place) -> AbortHandle,
) {
    let wanted: BTreeSet<Place> =
        addresses.iter().flat_map(|address| [(*address, Transport::Udp), (*address, Transport::Tcp)]).collect();
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
    for place in wanted {
        places.entry(place).or_insert_with(|| start(place));
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
        let task = tokio::spawn(run(Ends { desired, network: network_seen, slice }));

        seen.wait_for(|slice| slice.plan.is_some()).await.unwrap();
        for _ in 0..32 {
            yield_now().await;
        }
        assert!(seen.borrow().listening.is_empty());

        network.send_modify(|slice| slice.ruleset = Some(Arc::new(firewall::closed())));
        timeout(DEADLINE, seen.wait_for(|slice| slice.listening.len() == 2)).await.unwrap().unwrap();
        network.send_modify(|slice| slice.ruleset = None);
        timeout(DEADLINE, seen.wait_for(|slice| slice.listening.is_empty())).await.unwrap().unwrap();
        task.abort();
    }
}

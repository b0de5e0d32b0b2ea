//! Advertises the router: one advertiser, with a socket of its own, for each link.
use std::collections::BTreeMap;

use sixgate_engine::finding::Finding;
use sixgate_engine::plan::RaPlan;
use sixgate_engine::status::Advertised;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::wiring::{Desired, Withdraw};

mod station;

/// This task's ends of the channels.
pub struct Ends {
    /// The plan.
    pub desired: watch::Receiver<Desired>,
    /// Asks for the final advertisements.
    pub withdraw: mpsc::Receiver<Withdraw>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// What is advertised, by the LAN's name.
    pub advertised: BTreeMap<String, Advertised>,
    /// What is wrong, by interface.
    pub problems: BTreeMap<String, Finding>,
}

/// What a station is to do.
#[derive(Clone, Debug, PartialEq)]
enum Order {
    /// Advertise this.
    Advertise(Box<RaPlan>),
    /// The link is no longer advertised on: say so three times, then end.
    Cease,
    /// The router stops: say so once, then end.
    Leave,
}

/// Runs until nobody can ask it to withdraw.
pub async fn run(mut ends: Ends) {
    let mut stations = JoinSet::new();
    let mut orders: BTreeMap<(String, u32), watch::Sender<Order>> = BTreeMap::new();
    loop {
        let desired = ends.desired.borrow_and_update().clone();
        if desired != Desired::Unknown {
            let plans = desired.plan().map(|plan| plan.ra.as_slice()).unwrap_or_default();
            instruct(plans, &mut orders, |order| {
                stations.spawn(station::run(order, ends.slice.clone()));
            });
        }
        tokio::select! {
            changed = ends.desired.changed() => if changed.is_err() { return },
            Some(ended) = stations.join_next() => if let Err(error) = ended {
                // A station that panicked would leave its link silent.
                return tracing::error!("a station ended: {error}");
            },
            done = ends.withdraw.recv() => {
                let Some(done) = done else { return };
                for order in orders.values() {
                    order.send_replace(Order::Leave);
                }
                while stations.join_next().await.is_some() {}
                // Nobody waits any more when it took too long.
                let _ = done.send(());
                return std::future::pending().await;
            }
        }
    }
}

/// Starts, reconfigures and ends stations, so that there is one for each plan.
fn instruct(
    plans: &[RaPlan],
    orders: &mut BTreeMap<(String, u32), watch::Sender<Order>>,
    mut start: impl FnMut(watch::Receiver<Order>),
) {
    orders.retain(|(lan, link), order| {
        let wanted = plans.iter().any(|plan| plan.lan == *lan && plan.link == *link);
        if !wanted {
            order.send_replace(Order::Cease);
        }
        wanted
    });
    for plan in plans {
        let order = Order::Advertise(Box::new(plan.clone()));
        match orders.get(&(plan.lan.clone(), plan.link)) {
            Some(known) => {
                known.send_if_modified(|old| {
                    let changed = *old != order;
                    if changed {
                        *old = order;
                    }
                    changed
                });
            }
            None => {
                let (sender, receiver) = watch::channel(order);
                orders.insert((plan.lan.clone(), plan.link), sender);
                start(receiver);
            }
        }
    }
}

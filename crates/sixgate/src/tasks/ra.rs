//! Advertises the router: one advertiser, with a socket of its own, for each link.
use std::collections::BTreeMap;
use std::path::PathBuf;

use sixgate_engine::finding::Finding;
use sixgate_engine::plan::RaPlan;
use sixgate_engine::status::Advertised;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::wiring::{Desired, Resumed, Withdraw};

mod station;
mod told;

/// This task's ends of the channels.
pub struct Ends {
    /// The plan.
    pub desired: watch::Receiver<Desired>,
    /// Asks for the final advertisements.
    pub withdraw: mpsc::Receiver<Withdraw>,
    /// Asks for a new start, without a farewell.
    pub restart: mpsc::Receiver<Withdraw>,
    /// The machine goes on from another time.
    pub resumed: watch::Receiver<Resumed>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// What is advertised, by the LAN's name.
    pub advertised: BTreeMap<String, Advertised>,
    /// What is wrong, by interface.
    pub problems: BTreeMap<String, Vec<Finding>>,
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

/// Runs until nobody can ask it to withdraw. What hosts were told is kept in the folder `state`.
pub async fn run(mut ends: Ends, state: PathBuf) {
    let mut stations = JoinSet::new();
    let mut orders: BTreeMap<(String, u32), watch::Sender<Order>> = BTreeMap::new();
    loop {
        let desired = ends.desired.borrow_and_update().clone();
        if desired != Desired::Unknown {
            let plans = desired.plan().map(|plan| plan.ra.as_slice()).unwrap_or_default();
            instruct(plans, &mut orders, |order| {
                stations.spawn(station::run(order, ends.resumed.clone(), ends.slice.clone(), state.clone()));
            });
        }
        tokio::select! {
            changed = ends.desired.changed() => if changed.is_err() { return },
            Some(ended) = stations.join_next() => if let Err(error) = ended {
                // A station that panicked would leave its link silent.
                return tracing::error!("a station ended: {error}");
            },
            Some(done) = ends.restart.recv() => {
                orders.clear();
                stations.shutdown().await;
                tracing::info!("advertising starts anew");
                let _ = done.send(());
            }
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

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use sixgate_engine::config;
    use sixgate_engine::ra::AdvertisementPlan;

    use super::*;

    fn plan(lan: &str, link: u32, rdnss: &[Ipv6Addr]) -> RaPlan {
        let text = format!(
            "[wan]\ninterface = \"w\"\n[[lan]]\nname = \"{lan}\"\ninterface = \"l\"\naddresses = [\"2001:db8::1/64\"]\n"
        );
        let variables = config::parse(&text, "test").unwrap().lans[0].advertise.clone().unwrap();
        let advertisement = AdvertisementPlan {
            variables,
            prefixes: Vec::new(),
            rdnss: rdnss.to_vec(),
            dnssl: Vec::new(),
            pref64: None,
            mtu: None,
            source_link_layer: None,
        };
        let source = "fe80::1".parse().unwrap();
        RaPlan { lan: lan.to_owned(), link, interface: format!("eth{link}"), source, carrier: true, advertisement }
    }

    #[test]
    fn stations_follow_the_plan() {
        let mut orders = BTreeMap::new();
        let mut started = Vec::new();
        instruct(&[plan("a", 2, &[]), plan("b", 3, &[])], &mut orders, |order| started.push(order));
        assert_eq!(started.len(), 2);

        let mut none = |_| unreachable!("no station is new");
        instruct(&[plan("a", 2, &[]), plan("b", 3, &[])], &mut orders, &mut none);
        assert!(!started[0].has_changed().unwrap(), "an equal plan is no news");

        let changed = plan("a", 2, &["2001:db8::53".parse().unwrap()]);
        instruct(std::slice::from_ref(&changed), &mut orders, &mut none);
        assert_eq!(*started[0].borrow(), Order::Advertise(Box::new(changed)));
        assert_eq!(*started[1].borrow(), Order::Cease);
    }

    #[test]
    fn an_interface_that_came_back_with_another_index_gets_a_new_station() {
        let mut orders = BTreeMap::new();
        let mut started = Vec::new();
        instruct(&[plan("a", 2, &[])], &mut orders, |order| started.push(order));
        instruct(&[plan("a", 7, &[])], &mut orders, |order| started.push(order));
        assert_eq!(*started[0].borrow(), Order::Cease);
        assert!(matches!(&*started[1].borrow(), Order::Advertise(plan) if plan.link == 7));
    }
}

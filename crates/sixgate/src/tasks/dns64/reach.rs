//! Names that restricted hosts may reach: their addresses are in the firewall's sets before anybody is told of them.
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use sixgate_engine::firewall::outbound::LEAST;
use sixgate_engine::plan::Dns64Plan;
use sixgate_linux::nft::Reached;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::wiring::Reach;

/// How long a client waits for the firewall at most; its first packets wait for nobody.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells the firewall what a response says of names that somebody may reach.
pub(super) async fn tell(to: Option<&mpsc::Sender<Reach>>, plan: &Dns64Plan, response: Option<&Message>) {
    let (Some(to), Some(response)) = (to, response) else { return };
    let reached = reached(plan, response);
    if reached.is_empty() {
        return;
    }
    let (done, known) = oneshot::channel();
    let told = async {
        // Where the firewall's task has ended the daemon ends, too.
        drop(to.send((reached, done)).await);
        known.await
    };
    if timeout(PATIENCE, told).await.is_err() {
        tracing::debug!("the firewall does not take the addresses of a name in time");
    }
}

fn reached(plan: &Dns64Plan, response: &Message) -> Vec<Reached> {
    let Some(question) = response.queries.first() else { return Vec::new() };
    let name = question.name().to_lowercase();
    let sets: Vec<&String> = plan.reach.iter().filter(|reach| reach.is_meant(&name)).map(|reach| &reach.set).collect();
    let mut reached = Vec::new();
    for record in &response.answers {
        let RData::AAAA(address) = &record.data else { continue };
        let lasts = Duration::from_secs(u64::from(record.ttl) + u64::from(plan.serve_stale)).max(LEAST);
        reached.extend(sets.iter().map(|set| Reached { set: (*set).clone(), address: address.0, lasts }));
    }
    reached
}

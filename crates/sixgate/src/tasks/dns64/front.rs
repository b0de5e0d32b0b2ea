//! hickory-server's handler: takes each query through a transaction of the engine.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Header, HeaderCounts, Message, Metadata};
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use sixgate_engine::dns64::{Event, Transport};
use sixgate_engine::plan::Dns64Plan;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::{Slice, dialogue};

/// Queries at a time, over all addresses and transports.
const MAX_QUERIES: usize = 1024;
/// An upstream that failed is asked last for this long.
const REST: Duration = Duration::from_secs(20);

/// What every listener answers with.
#[derive(Clone)]
pub(super) struct Front {
    plan: watch::Receiver<Arc<Dns64Plan>>,
    turns: Arc<Semaphore>,
    resting: watch::Sender<BTreeMap<SocketAddr, Instant>>,
    slice: watch::Sender<Slice>,
}

impl Front {
    pub(super) fn new(plan: watch::Receiver<Arc<Dns64Plan>>, slice: watch::Sender<Slice>) -> Self {
        let turns = Arc::new(Semaphore::new(MAX_QUERIES));
        Self { plan, turns, resting: watch::Sender::default(), slice }
    }

    /// The right to resolve a query, held until it is answered; nothing while too many are under way.
    pub(super) fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let turn = self.turns.clone().try_acquire_owned().ok();
        if turn.is_none() {
            self.refuse("dns-overload");
        }
        turn
    }

    /// Counts a query that is dropped before the engine sees it.
    pub(super) fn refuse(&self, reason: &'static str) {
        self.slice.send_modify(|slice| *slice.refused.entry(reason).or_default() += 1);
    }

    /// The response to a query, or nothing where it is dropped in silence.
    pub(super) async fn resolve(&self, query: &[u8], protocol: Protocol) -> Option<Message> {
        let transport = match protocol {
            Protocol::Udp => Transport::Udp,
            _ => Transport::Tcp,
        };
        dialogue::resolve(query, transport, self.ordered_plan(), |event| self.count(event)).await
    }

    /// The plan with the upstreams that failed lately at the end.
    fn ordered_plan(&self) -> Arc<Dns64Plan> {
        let plan = self.plan.borrow().clone();
        let now = Instant::now();
        let resting = self.resting.borrow();
        let rests = |upstream: &SocketAddr| resting.get(upstream).is_some_and(|until| *until > now);
        if !plan.upstream.iter().any(rests) {
            return plan;
        }
        let mut plan = Dns64Plan::clone(&plan);
        plan.upstream.sort_by_key(rests);
        Arc::new(plan)
    }

    fn count(&self, event: &Event) {
        match event {
            Event::UpstreamFailed(upstream) => {
                self.resting.send_modify(|resting| {
                    resting.insert(*upstream, Instant::now() + REST);
                });
            }
            Event::UpstreamAnswered(upstream) => {
                self.resting.send_if_modified(|resting| resting.remove(upstream).is_some());
            }
            Event::Mismatch | Event::Finished(_) => {}
        }
        self.slice.send_modify(|slice| slice.counters.count(event));
    }
}

#[async_trait::async_trait]
impl RequestHandler for Front {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut reply: R) -> ResponseInfo {
        let silence = || {
            let metadata = Metadata::response_from_request(&request.metadata);
            ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
        };
        let Some(response) = self.resolve(request.as_slice(), request.protocol()).await else { return silence() };
        let message = MessageResponseBuilder::new(&request.queries, response.edns.as_ref()).build(
            response.metadata,
            &response.answers,
            &response.authorities,
            [],
            &response.additionals,
        );
        reply.send_response(message).await.unwrap_or_else(|error| {
            tracing::trace!("a response could not be sent: {error}");
            silence()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_failed_comes_last_for_a_while() {
        let [first, second]: [SocketAddr; 2] = ["[::1]:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
        let plan = Dns64Plan { upstream: vec![first, second], ..Dns64Plan::default() };
        let (_plan, receiver) = watch::channel(Arc::new(plan));
        let front = Front::new(receiver, watch::Sender::default());
        assert_eq!(front.ordered_plan().upstream, [first, second]);
        front.count(&Event::UpstreamFailed(first));
        assert_eq!(front.ordered_plan().upstream, [second, first]);
        tokio::time::advance(REST).await;
        assert_eq!(front.ordered_plan().upstream, [first, second]);
        front.count(&Event::UpstreamFailed(first));
        front.count(&Event::UpstreamAnswered(first));
        assert_eq!(front.ordered_plan().upstream, [first, second]);
    }
}

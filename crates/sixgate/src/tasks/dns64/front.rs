//! hickory-server's handler: takes each query through a transaction, and bounds how many there are.
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
use tokio::sync::{Semaphore, watch};
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

    async fn answer(&self, request: &Request) -> Option<Message> {
        let Ok(_turn) = self.turns.try_acquire() else {
            self.slice.send_modify(|slice| slice.overload += 1);
            return None;
        };
        let transport = match request.protocol() {
            Protocol::Udp => Transport::Udp,
            _ => Transport::Tcp,
        };
        dialogue::resolve(request.as_slice(), transport, self.ordered_plan(), |event| self.count(event)).await
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
        let Some(response) = self.answer(request).await else { return silence() };
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

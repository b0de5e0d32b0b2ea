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
use tokio::sync::watch;
use tokio::time::Instant;

use super::listener::Place;
use super::turns::{Refusal, Turn, Turns};
use super::{Slice, dialogue};

/// An upstream that failed is asked last for this long.
const REST: Duration = Duration::from_secs(20);

/// What every listener answers with.
#[derive(Clone)]
pub(super) struct Front {
    plan: watch::Receiver<Arc<Dns64Plan>>,
    turns: Turns,
    /// Whose front this is.
    place: Option<Place>,
    resting: watch::Sender<BTreeMap<SocketAddr, Instant>>,
    slice: watch::Sender<Slice>,
}

impl Front {
    pub(super) fn new(plan: watch::Receiver<Arc<Dns64Plan>>, slice: watch::Sender<Slice>) -> Self {
        Self { plan, turns: Turns::default(), place: None, resting: watch::Sender::default(), slice }
    }

    /// The front of one listener: all of them share the turns.
    pub(super) fn at(&self, place: Place) -> Self {
        Self { place: Some(place), ..self.clone() }
    }

    /// The right to resolve a query, held until it is answered; nothing while too many are under way.
    pub(super) fn turn(&self, peer: SocketAddr) -> Option<Turn> {
        let turn = self.turns.take(peer, self.place);
        turn.inspect_err(|refusal| match refusal {
            Refusal::Client => self.refuse("dns-client-overload"),
            Refusal::Place => self.refuse("dns-overload"),
        })
        .ok()
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

    #[test]
    fn a_client_that_asks_too_much_at_a_time_is_counted_as_such_and_others_are_heard() {
        let (_plan, plan) = watch::channel(Arc::default());
        let (slice, seen) = watch::channel(Slice::default());
        let front = Front::new(plan, slice).at(("[2001:db8::53]:53".parse().unwrap(), Transport::Udp));
        let held: Vec<Turn> =
            (1..).map_while(|port| front.turn(([0xfd00, 0, 0, 0, 0, 0, 0, 1], port).into())).collect();
        assert_eq!(held.len(), 64);
        assert_eq!(seen.borrow().refused, BTreeMap::from([("dns-client-overload", 1)]));
        assert!(front.turn("[fd00::2]:1".parse().unwrap()).is_some());
        assert_eq!(seen.borrow().refused.len(), 1);
    }
}

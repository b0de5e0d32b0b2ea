//! The front behind all listeners: what is known is answered, what is not is asked once for all who want to know, and
//! hickory-server's handler has the rest.
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Header, HeaderCounts, Message, Metadata};
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use sixgate_engine::dns64::{Answer, Event, Key, Outcome, Plain, Transport, Upstreams, View};
use sixgate_engine::finding::Finding;
use sixgate_engine::plan::Dns64Plan;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::answer::{Client, Reply, answer};
use super::answers::{Answers, Era, Found, Rules};
use super::asked::Asked;
use super::dialogue::Ways;
use super::encrypted::Encryption;
use super::identity::Acceptor;
use super::listener::Place;
use super::turns::{Refusal, Turn, Turns};
use super::validator::Validator;
use super::worker::{Missed, Worker};
use super::{Slice, dialogue, reach};
use crate::clock::now;

/// RFC 8767 section 5: how long a client waits for news before it gets what is stale.
const CLIENT_RESPONSE_TIMER: Duration = Duration::from_millis(1800);
/// Missed queries that are taken at a time.
const MISSED: usize = 64;

/// What every listener answers with.
#[derive(Clone)]
pub(super) struct Front {
    rules: watch::Receiver<Rules>,
    answers: Answers,
    workers: Arc<Vec<Worker>>,
    turns: Turns,
    upstreams: Arc<Mutex<Upstreams>>,
    validator: Validator,
    encryption: Encryption,
    /// What came by connections; the workers count what came to them.
    asked: Arc<Mutex<Asked>>,
    acceptor: Acceptor,
    slice: watch::Sender<Slice>,
}

impl Front {
    pub(super) fn new(
        rules: watch::Receiver<Rules>,
        answers: Answers,
        workers: Arc<Vec<Worker>>,
        slice: watch::Sender<Slice>,
    ) -> Self {
        Self {
            rules,
            answers,
            workers,
            turns: Turns::default(),
            upstreams: Arc::default(),
            validator: Validator::default(),
            encryption: Encryption::new(slice.clone()),
            asked: Arc::new(Mutex::new(Asked::new())),
            acceptor: Acceptor::default(),
            slice,
        }
    }

    pub(super) fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Shows the plan's certificate to clients that ask over TLS.
    pub(super) fn identify(&self, plan: &Dns64Plan) {
        let finding = self.acceptor.follow(plan.identity.as_ref());
        self.slice.send_modify(|slice| slice.identity = finding);
    }

    pub(super) fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    pub(super) fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    /// Takes what the workers have no answers to, until they are gone.
    pub(super) async fn hear(self, mut missed: mpsc::Receiver<Missed>) {
        let mut queries = Vec::with_capacity(MISSED);
        while missed.recv_many(&mut queries, MISSED).await > 0 {
            for Missed { query, peer, place, socket, worker } in queries.drain(..) {
                let (reply, turn) = match socket {
                    Some(socket) => match self.turn(peer, place) {
                        Some(turn) => (Reply::Datagram(socket, peer), Some(turn)),
                        None => continue,
                    },
                    None => (Reply::Nobody, None),
                };
                self.take(Client { query, peer, reply, worker: Some(worker), turn });
            }
        }
    }

    /// Whether clients speak TLS there.
    pub(super) fn is_over_tls(&self, (address, _): Place) -> bool {
        self.rules.borrow().plan.listen_tls.contains(&address)
    }

    /// The right to resolve a query, held until it is answered; nothing while too many are under way.
    pub(super) fn turn(&self, peer: SocketAddr, place: Place) -> Option<Turn> {
        let turn = self.turns.take(peer, Some(place));
        turn.inspect_err(|refusal| match refusal {
            Refusal::Client => self.refuse("dns-client-overload"),
            Refusal::Place => self.refuse("dns-overload"),
        })
        .ok()
    }

    /// From now on there is validation, by this front.
    pub(super) fn open_validator(&self) {
        self.validator.open(Some(self.clone()));
    }

    /// Nothing more is asked by this front.
    pub(super) fn close_validator(&self) {
        self.validator.open(None);
    }

    /// What keeps answers from being validated, or that nothing does.
    pub(super) fn found(&self, finding: Option<Finding>) {
        self.slice.send_if_modified(|slice| {
            let changes = slice.validation != finding;
            slice.validation = finding;
            changes
        });
    }

    /// Returns when the client may ask.
    pub(super) async fn wait_for(&self, peer: SocketAddr) {
        loop {
            let wait = self.rules.borrow().rate.wait(peer, now());
            if wait.is_zero() {
                return;
            }
            sleep(wait).await;
        }
    }

    /// Counts a query that is dropped before the engine sees it.
    pub(super) fn refuse(&self, reason: &'static str) {
        self.slice.send_modify(|slice| *slice.refused.entry(reason).or_default() += 1);
    }

    /// Answers a client, now or when the answer is there.
    pub(super) fn take(&self, client: Client) {
        let Some(key) = self.key(&client) else {
            let front = self.clone();
            self.slice.send_modify(|slice| slice.counters.asked(1));
            tokio::spawn(async move { answer(&front, client).await });
            return;
        };
        if client.is_of_the_network() {
            self.slice.send_modify(|slice| slice.counters.asked(1));
        }
        if client.worker.is_none() && client.is_of_the_network() {
            let most = {
                let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                asked.count(key.name(), client.peer.ip(), now());
                asked.most()
            };
            self.slice.send_modify(|slice| drop(slice.asked.insert(0, most)));
        }
        let query = client.query.clone();
        match self.answers.find(&key, client, now()) {
            Found::Answer(answer, client, era) => {
                if client.is_of_the_network() {
                    self.slice.send_modify(|slice| slice.counters.found(1, u64::from(answer.is_synthesized())));
                }
                self.share(era, &answer, &[&client]);
                client.deliver(&answer, now());
            }
            Found::Waiting => {}
            Found::Ask { former, era } => {
                let front = self.clone();
                tokio::spawn(async move { front.ask(&key, query, former, era).await });
            }
        }
    }

    fn key(&self, client: &Client) -> Option<Key> {
        let view = self.rules.borrow().plan.view(client.peer);
        Some(Plain::parse(&client.query, client.reply.transport())?.key(view))
    }

    /// Finds out the answer to a question for all who wait for it.
    async fn ask(&self, key: &Key, query: Vec<u8>, former: Option<Answer>, era: Era) {
        let (plan, stale) = (self.arranged_plan(), self.rules.borrow().plan.serve_stale);
        let outcome =
            dialogue::resolve(&query, Transport::Udp, (plan, key.view()), self.ways(), |event| self.count(event));
        let mut outcome = std::pin::pin!(outcome);
        let outcome = tokio::select! {
            outcome = &mut outcome => outcome,
            () = sleep(CLIENT_RESPONSE_TIMER), if former.is_some() => {
                // RFC 8767 section 5: who waits is told what was true before; whoever comes later waits anew.
                if let Some(stale) = former.as_ref().and_then(|former| former.stale(now())) {
                    for client in self.answers.take_waiting(key, era) {
                        self.slice.send_modify(|slice| slice.counters.stale());
                        client.deliver(&stale, now());
                    }
                }
                outcome.await
            }
        };
        let Outcome { response, reason, .. } = outcome;
        self.reach(response.as_ref()).await;
        let answer = response.and_then(|response| Answer::build(key, response, reason, stale, now()));
        let answer = match answer {
            Some(answer) if !answer.is_failure() => Some(answer),
            failure => match former.and_then(|former| former.stale(now())) {
                Some(stale) => {
                    self.slice.send_modify(|slice| slice.counters.stale());
                    Some(stale)
                }
                None => failure,
            },
        };
        let waiting = self.answers.settle(key, answer.clone(), era, now());
        let holding = self.answers.holding();
        self.slice.send_modify(|slice| {
            slice.holdings.insert(0, holding);
        });
        let Some(answer) = answer else { return };
        self.share(era, &answer, &waiting.iter().collect::<Vec<_>>());
        for client in waiting {
            client.deliver(&answer, now());
        }
    }

    /// Tells the workers that were asked.
    fn share(&self, era: Era, answer: &Answer, clients: &[&Client]) {
        for (number, worker) in self.workers.iter().enumerate() {
            if clients.iter().any(|client| client.worker == Some(number)) {
                worker.keep(era, answer.clone());
            }
        }
    }

    /// The response to a query that is not plain, or nothing where it is dropped in silence.
    pub(super) async fn resolve(&self, query: &[u8], peer: SocketAddr, protocol: Protocol) -> Option<Message> {
        let transport = match protocol {
            Protocol::Udp => Transport::Udp,
            _ => Transport::Tcp,
        };
        let view = self.view(peer);
        let outcome =
            dialogue::resolve(query, transport, (self.arranged_plan(), view), self.ways(), |event| self.count(event))
                .await;
        self.reach(outcome.response.as_ref()).await;
        outcome.cut()
    }

    /// Before anybody is told of an address, the firewall knows who may reach it.
    async fn reach(&self, response: Option<&Message>) {
        let rules = self.rules.borrow().clone();
        reach::tell(rules.reach.as_ref(), &rules.plan, response).await;
    }

    fn ways(&self) -> Ways<'_> {
        Ways { validator: &self.validator, encryption: &self.encryption }
    }

    fn view(&self, client: SocketAddr) -> View {
        self.rules.borrow().plan.view(client)
    }

    /// The plan with the upstreams that answer quickest at the beginning.
    fn arranged_plan(&self) -> Arc<Dns64Plan> {
        let plan = self.rules.borrow().plan.clone();
        self.upstreams().arrange(&plan, now())
    }

    fn upstreams(&self) -> MutexGuard<'_, Upstreams> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, event: &Event) {
        match event {
            Event::UpstreamFailed(upstream) => self.upstreams().failed(*upstream, now()),
            Event::UpstreamAnswered(upstream, after) => self.upstreams().answered(*upstream, *after),
            Event::Mismatch | Event::Rebinding | Event::Validated(_) | Event::Bogus | Event::Finished(_) => {}
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
        let resolved = self.resolve(request.as_slice(), request.src(), request.protocol()).await;
        let Some(response) = resolved else { return silence() };
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
mod tests;

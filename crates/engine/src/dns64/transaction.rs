//! One query from its bytes to its response, along the steps of RFC 6147 section 5.1.
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sixgate_wire::rfc6052::Pref64;

use super::exchange::{Exchange, Progress, Transmit};
use super::request::{Refusal, Request, Transport, asks_aaaa};
use super::synthesis::{Synthesis, embed, negative_ttl, synthesize};
use super::view::View;
use super::{Reason, exclusion, hints, ipv4only, local, rebinding, response, reverse};
use crate::plan::Dns64Plan;
use crate::time::Instant;

/// How long a client is kept waiting at most: stub resolvers ask again after five seconds.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_millis(4500);

/// How often upstreams are asked for AAAA records, which leaves time to ask for A records (RFC 6147 section 5.1.3).
const AAAA_ATTEMPTS: usize = 2;
/// How often upstreams are asked anything else.
const ATTEMPTS: usize = 3;

/// Something to be counted or acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An upstream answered a question, after so long.
    UpstreamAnswered(SocketAddr, Duration),
    /// An upstream did not answer, or with an error.
    UpstreamFailed(SocketAddr),
    /// A message came that does not answer the outstanding question.
    Mismatch,
    /// Private addresses of a stranger's name were taken out of an answer.
    Rebinding,
    /// The end; nothing comes after it.
    Finished(Outcome),
}

/// How a query ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why it ended like this.
    pub reason: Reason,
    /// The whole response; nothing where the query is dropped in silence.
    pub response: Option<Message>,
    /// Most bytes that the client takes.
    limit: usize,
}

impl Outcome {
    #[cfg(test)]
    pub(super) fn new(reason: Reason, response: Option<Message>) -> Self {
        Self { reason, response, limit: usize::from(u16::MAX) }
    }

    /// What goes to the client: with the extended error, cut to its payload size.
    pub fn cut(self) -> Option<Message> {
        self.response.map(|response| response::fit(response, self.limit, self.reason.extended_error()))
    }
}

/// One query on its way to a response.
#[derive(Debug)]
pub struct Transaction {
    plan: Arc<Dns64Plan>,
    view: View,
    rng: ChaCha8Rng,
    step: Step,
    /// When the client is told that nobody answered.
    deadline: Instant,
    /// The upstream that answered last is asked first.
    preferred: Option<SocketAddr>,
    /// Private addresses were taken out of an answer.
    rebinding: bool,
    events: VecDeque<Event>,
}

/// Where the query stands.
#[derive(Debug)]
enum Step {
    /// The question is passed on, and so will be the answer.
    Forward(Pending),
    /// RFC 6147 section 5.1: AAAA records are asked for.
    Aaaa(Pending, Pref64),
    /// RFC 6147 section 5.1.6: there are none, and A records are asked for.
    A {
        pending: Pending,
        pref64: Pref64,
        /// How long "no AAAA" holds, in seconds.
        negative_ttl: u32,
        /// AAAA records that the configuration sets aside, for want of something better.
        set_aside: Option<Box<Message>>,
    },
    /// RFC 6147 section 5.3.1: the name of a synthesized address is asked for, by that of the IPv4 address.
    Reverse(Pending, Ipv4Addr),
    /// The response is out.
    Finished,
}

/// A query with the question that is outstanding for it.
#[derive(Debug)]
struct Pending {
    request: Request,
    question: Query,
    exchange: Exchange,
}

impl Transaction {
    /// Takes a client's query. `seed` must not be guessable by others.
    pub fn new(query: &[u8], transport: Transport, plan: Arc<Dns64Plan>, view: View, seed: u64, now: Instant) -> Self {
        let mut transaction = Self {
            view,
            plan,
            rng: ChaCha8Rng::seed_from_u64(seed),
            step: Step::Finished,
            deadline: now + TRANSACTION_TIMEOUT,
            preferred: None,
            rebinding: false,
            events: VecDeque::new(),
        };
        match Request::parse(query, transport) {
            Ok(request) => transaction.begin(request, now),
            Err(Refusal::Drop(reason)) => transaction.drop_silently(reason),
            Err(Refusal::Refuse(request, code, reason)) => {
                transaction.finish(&request, response::empty(&request, code), reason);
            }
        }
        transaction
    }

    fn begin(&mut self, request: Request, now: Instant) {
        let Some(question) = request.question.clone() else { return self.drop_silently(Reason::QuestionCount) };
        let pref64 = self.pref64();
        // Without a prefix of our own, the upstream's translator may be the one that hosts are to find.
        if self.plan.pref64.is_some()
            && let Some(response) = ipv4only::answer(&request, &question, pref64)
        {
            return self.finish(&request, response, Reason::Ipv4Only);
        }
        if let Some((address, question)) = self.reverse(&question) {
            return self.begin_reverse(request, address, question, now);
        }
        if let Some(response) = self.local(&request, &question) {
            return self.finish(&request, response, Reason::Local);
        }
        // RFC 6147 section 5.5: a client that validates by itself synthesizes by itself.
        let never = self.plan.never.iter().any(|domain| domain.zone_of(&question.name));
        let pref64 = pref64.filter(|_| asks_aaaa(&question) && !request.validates_itself() && !never);
        let attempts = if pref64.is_some() { AAAA_ATTEMPTS } else { ATTEMPTS };
        let Some(exchange) = self.ask(&request, &question, attempts, now) else {
            let response = response::empty(&request, ResponseCode::ServFail);
            return self.finish(&request, response, Reason::NoUpstream);
        };
        let pending = Pending { request, question, exchange };
        self.step = match pref64 {
            Some(pref64) => Step::Aaaa(pending, pref64),
            None => Step::Forward(pending),
        };
    }

    /// The IPv4 address whose name is asked for by that of a synthesized one, and the question for it.
    fn reverse(&self, question: &Query) -> Option<(Ipv4Addr, Query)> {
        let plan = &self.plan;
        let further = plan.further_pref64.iter().chain(plan.prefixes.iter().map(|(_, prefix)| prefix));
        let prefixes = [plan.pref64].into_iter().chain(further.map(|net| Some(*net)));
        let address = reverse::embedded(&question.name, prefixes.filter_map(pref64))?;
        (question.query_type == RecordType::PTR).then(|| (address, Query::query(Name::from(address), RecordType::PTR)))
    }

    fn begin_reverse(&mut self, request: Request, address: Ipv4Addr, question: Query, now: Instant) {
        let known = ipv4only::answer(&request, &question, None).or_else(|| self.local(&request, &question));
        if let Some(response) = known {
            return self.finish_reverse(&request, address, response);
        }
        match self.ask(&request, &question, ATTEMPTS, now) {
            Some(exchange) => self.step = Step::Reverse(Pending { request, question, exchange }, address),
            None => self.finish(&request, response::empty(&request, ResponseCode::ServFail), Reason::NoUpstream),
        }
    }

    fn finish_reverse(&mut self, request: &Request, address: Ipv4Addr, mut response: Message) {
        let Some(question) = &request.question else { return self.unanswered(request) };
        reverse::put_alias(&question.name, address, &mut response);
        self.finish(request, response, Reason::Reverse);
    }

    /// What is known of the name here, where it is nobody else's.
    fn local(&self, request: &Request, question: &Query) -> Option<Message> {
        let forwarded = self.plan.forward.iter().any(|(domain, _)| domain.zone_of(&question.name));
        let pref64 = self.pref64().filter(|_| !request.validates_itself());
        local::answer(request, question, &self.plan.local, forwarded, |address| {
            pref64
                .filter(|_| exclusion::is_translatable(address, &self.plan))
                .map(|pref64| embed(address, pref64, &self.plan))
        })
    }

    /// The prefix for this client, where there is one.
    fn pref64(&self) -> Option<Pref64> {
        pref64(self.plan.synthesis).filter(|_| self.view == View::Translated)
    }

    fn ask(&mut self, request: &Request, question: &Query, attempts: usize, now: Instant) -> Option<Exchange> {
        let [id_high, id_low, ..] = self.rng.next_u32().to_be_bytes();
        let id = u16::from_be_bytes([id_high, id_low]);
        let spelling = self.rng.next_u64();
        let mut upstreams = self.plan.upstreams_for(&question.name).to_vec();
        // A stable sort: the rest stays in the configuration's order.
        upstreams.sort_by_key(|upstream| Some(*upstream) != self.preferred);
        let order: Vec<SocketAddr> = upstreams.iter().cycle().take(attempts).copied().collect();
        Exchange::new(question.clone(), (id, spelling), request.checking_disabled, request.dnssec_ok, &order, now)
    }

    /// The question to send now. It replaces the one before, whose socket is of no more use.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.step.exchange()?.poll_transmit()
    }

    /// What happened; [`Event::Finished`] comes last.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Transaction::handle_timeout`] wants to be called; nothing when finished.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.step {
            Step::Forward(pending) | Step::Aaaa(pending, _) | Step::A { pending, .. } | Step::Reverse(pending, _) => {
                Some(pending.exchange.deadline().min(self.deadline))
            }
            Step::Finished => None,
        }
    }

    /// Takes a message from the upstream that was asked last.
    pub fn handle_input(&mut self, message: &[u8], now: Instant) {
        let Some(exchange) = self.step.exchange() else { return };
        let progress = exchange.handle_input(message, now);
        self.advance(progress, now);
    }

    /// The upstream that was asked last cannot be reached, or its stream ended.
    pub fn handle_failure(&mut self, now: Instant) {
        let Some(exchange) = self.step.exchange() else { return };
        let progress = exchange.handle_failure(now);
        self.advance(progress, now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        let expired = now >= self.deadline;
        let Some(exchange) = self.step.exchange() else { return };
        let progress = exchange.handle_timeout(now);
        if !expired {
            return self.advance(progress, now);
        }
        if let Progress::Next(upstream) | Progress::Exhausted(upstream, _) = progress {
            self.events.push_back(Event::UpstreamFailed(upstream));
        }
        match core::mem::replace(&mut self.step, Step::Finished) {
            Step::Forward(pending) | Step::Aaaa(pending, _) | Step::A { pending, .. } | Step::Reverse(pending, _) => {
                self.unanswered(&pending.request);
            }
            Step::Finished => {}
        }
    }

    fn advance(&mut self, progress: Progress, now: Instant) {
        let waited = self.step.exchange().map(|exchange| exchange.waited(now)).unwrap_or_default();
        let answer = match progress {
            Progress::Mismatch => return self.events.push_back(Event::Mismatch),
            Progress::Again => return,
            Progress::Next(upstream) => return self.events.push_back(Event::UpstreamFailed(upstream)),
            Progress::Answered(upstream, message) => {
                self.events.push_back(Event::UpstreamAnswered(upstream, waited));
                self.preferred = Some(upstream);
                let mut message = *message;
                let name = message.queries.first().map(|question| question.name.clone());
                if name.is_some_and(|name| rebinding::remove_private(&name, &mut message, &self.plan)) {
                    self.rebinding = true;
                    self.events.push_back(Event::Rebinding);
                }
                Some(message)
            }
            Progress::Exhausted(upstream, error) => {
                self.events.push_back(Event::UpstreamFailed(upstream));
                error.map(|message| *message)
            }
        };
        match core::mem::replace(&mut self.step, Step::Finished) {
            Step::Forward(pending) => self.forward(&pending.request, answer),
            Step::Aaaa(pending, pref64) => self.handle_aaaa(pending, pref64, answer, now),
            Step::A { pending, pref64, negative_ttl, set_aside } => {
                self.handle_a(&pending.request, (pref64, negative_ttl), set_aside, answer);
            }
            Step::Reverse(pending, address) => match answer {
                Some(answer) => {
                    let response = response::pass_on(&pending.request, answer);
                    self.finish_reverse(&pending.request, address, response);
                }
                None => self.unanswered(&pending.request),
            },
            Step::Finished => {}
        }
    }

    fn forward(&mut self, request: &Request, answer: Option<Message>) {
        match answer {
            Some(answer) => {
                let mut response = response::pass_on(request, answer);
                let hinted = match self.pref64().filter(|_| !request.validates_itself()) {
                    Some(pref64) => hints::synthesize_hints(&mut response, pref64, &self.plan),
                    None => false,
                };
                self.finish(request, response, if hinted { Reason::Synthesized } else { Reason::Forwarded });
            }
            None => self.unanswered(request),
        }
    }

    fn handle_aaaa(&mut self, pending: Pending, pref64: Pref64, mut answer: Option<Message>, now: Instant) {
        let Pending { request, question, .. } = pending;
        if let Some(message) = &mut answer {
            exclusion::remove_excluded(message, &self.plan.excluded);
        }
        let always = self.plan.always.iter().any(|domain| domain.zone_of(&question.name));
        // RFC 6147 section 5.1.1: AAAA records are passed on. Section 5.1.2: and so is a name error.
        let is_final = answer.as_ref().is_some_and(|message| match message.metadata.response_code {
            ResponseCode::NXDomain => true,
            ResponseCode::NoError => exclusion::has_aaaa(&message.answers) && !always,
            _ => false,
        });
        if is_final {
            return self.forward(&request, answer);
        }
        // RFC 6147 sections 5.1.2 to 5.1.4: other errors, silence and excluded addresses read as "no AAAA".
        let negative_ttl = negative_ttl(answer.as_ref());
        let set_aside = answer.filter(|message| exclusion::has_aaaa(&message.answers)).map(Box::new);
        let question = Query::query(question.name, RecordType::A);
        match self.ask(&request, &question, ATTEMPTS, now) {
            Some(exchange) => {
                self.step =
                    Step::A { pending: Pending { request, question, exchange }, pref64, negative_ttl, set_aside };
            }
            None => self.unanswered(&request),
        }
    }

    fn handle_a(
        &mut self,
        request: &Request,
        (pref64, negative_ttl): (Pref64, u32),
        set_aside: Option<Box<Message>>,
        answer: Option<Message>,
    ) {
        // RFC 6147 section 5.1.6: an error or an empty answer to this question is the answer to the client's.
        let Some(answer) = answer else {
            return match set_aside {
                Some(set_aside) => self.forward(request, Some(*set_aside)),
                None => self.unanswered(request),
            };
        };
        let mut response = response::pass_on(request, answer);
        let reason = if response.metadata.response_code == ResponseCode::NoError {
            match synthesize(&mut response.answers, pref64, &self.plan, negative_ttl) {
                Synthesis::Made => Reason::Synthesized,
                Synthesis::NotTranslatable => Reason::NotTranslatable,
                Synthesis::NoAddress => Reason::NoAddress,
            }
        } else {
            Reason::NoAddress
        };
        match set_aside {
            Some(set_aside) if reason != Reason::Synthesized => self.forward(request, Some(*set_aside)),
            _ => self.finish(request, response, reason),
        }
    }

    fn unanswered(&mut self, request: &Request) {
        self.finish(request, response::empty(request, ResponseCode::ServFail), Reason::Unanswered);
    }

    fn finish(&mut self, request: &Request, response: Message, reason: Reason) {
        // RFC 8914 section 4.16: where nothing is left, the client is told why.
        let reason = if self.rebinding && response.answers.is_empty() { Reason::Rebinding } else { reason };
        let outcome = Outcome { reason, response: Some(response), limit: request.limit };
        self.events.push_back(Event::Finished(outcome));
    }

    fn drop_silently(&mut self, reason: Reason) {
        self.events.push_back(Event::Finished(Outcome { reason, response: None, limit: 0 }));
    }
}

impl Step {
    fn exchange(&mut self) -> Option<&mut Exchange> {
        match self {
            Self::Forward(pending) | Self::Aaaa(pending, _) | Self::A { pending, .. } | Self::Reverse(pending, _) => {
                Some(&mut pending.exchange)
            }
            Self::Finished => None,
        }
    }
}

/// The plan's prefix, if it can hold IPv4 addresses.
fn pref64(net: Option<ipnet::Ipv6Net>) -> Option<Pref64> {
    net.and_then(|net| Pref64::new(net.network(), net.prefix_len()).ok())
}

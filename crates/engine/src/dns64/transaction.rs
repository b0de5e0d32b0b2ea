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
use super::validation::{Flaw, Verdict};
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
    /// An answer was validated; true where it is proven, false where it is not signed.
    Validated(bool),
    /// An answer is bogus.
    Bogus,
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
    /// Whether the client wants to know that it is proven.
    wants_proof: bool,
}

impl Outcome {
    #[cfg(test)]
    pub(super) fn new(reason: Reason, response: Option<Message>) -> Self {
        Self { reason, response, limit: usize::from(u16::MAX), wants_proof: false }
    }

    /// What goes to the client: with the extended error, cut to its payload size.
    pub fn cut(self) -> Option<Message> {
        self.response.map(|mut response| {
            // RFC 6840 section 5.7: AD is for who asks for it by AD or DO.
            response.metadata.authentic_data &= self.wants_proof;
            response::fit(response, self.limit, self.reason.extended_error())
        })
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
    /// An answer on its way to and from whoever validates it.
    validation: Validation,
    /// Whether what was validated is proven; nothing where nothing was validated.
    secure: Option<bool>,
    /// What was wrong with a bogus answer.
    flaw: Option<Flaw>,
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

/// Where the validation of an answer stands.
#[derive(Debug)]
enum Validation {
    None,
    /// It is to be validated.
    Due(Box<Message>),
    /// It is being validated.
    UnderWay,
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
            validation: Validation::None,
            secure: None,
            flaw: None,
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
        // RFC 6840 section 5.9: whoever validates by himself wants all there is.
        let validates = self.plan.validates(&question.name);
        let bits = (request.checking_disabled || validates, request.dnssec_ok || validates);
        let exchange = Exchange::new(question.clone(), (id, spelling), bits, &order, now)?;
        Some(exchange.with_encrypted(|upstream| self.plan.encrypted(upstream).is_some()))
    }

    /// The question to send now. It replaces the one before, whose socket is of no more use.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.step.exchange()?.poll_transmit()
    }

    /// An answer to be validated; [`Transaction::handle_verdict`] wants to know what came of it.
    pub fn poll_validation(&mut self) -> Option<Message> {
        match core::mem::replace(&mut self.validation, Validation::UnderWay) {
            Validation::Due(message) => Some(*message),
            other => {
                self.validation = other;
                None
            }
        }
    }

    /// Takes what came of validating the answer.
    pub fn handle_verdict(&mut self, verdict: Verdict, now: Instant) {
        if matches!(core::mem::replace(&mut self.validation, Validation::None), Validation::None) {
            return;
        }
        let Some(exchange) = self.step.exchange() else { return };
        let (message, secure) = match verdict {
            Verdict::Secure(message) => (*message, true),
            Verdict::Insecure(message) => (*message, false),
            // Another upstream may pass on what this one leaves out.
            Verdict::Bogus(flaw) => {
                self.flaw = Some(flaw);
                self.events.push_back(Event::Bogus);
                let progress = exchange.handle_failure(now);
                return self.advance(progress, now);
            }
            Verdict::Unknown => {
                let progress = exchange.handle_failure(now);
                return self.advance(progress, now);
            }
        };
        self.flaw = None;
        self.events.push_back(Event::Validated(secure));
        self.secure = Some(self.secure.unwrap_or(true) && secure);
        self.accept(Some(message), now);
    }

    /// What happened; [`Event::Finished`] comes last.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Transaction::handle_timeout`] wants to be called; nothing when finished.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.step {
            Step::Forward(pending) | Step::Aaaa(pending, _) | Step::A { pending, .. } | Step::Reverse(pending, _) => {
                match self.validation {
                    Validation::None => Some(pending.exchange.deadline().min(self.deadline)),
                    Validation::Due(_) | Validation::UnderWay => Some(self.deadline),
                }
            }
            Step::Finished => None,
        }
    }

    /// Takes a message from the upstream that was asked last.
    pub fn handle_input(&mut self, message: &[u8], now: Instant) {
        if !matches!(self.validation, Validation::None) {
            return;
        }
        let Some(exchange) = self.step.exchange() else { return };
        let progress = exchange.handle_input(message, now);
        self.advance(progress, now);
    }

    /// The upstream that was asked last cannot be reached, or its stream ended.
    pub fn handle_failure(&mut self, now: Instant) {
        if !matches!(self.validation, Validation::None) {
            return;
        }
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
        if expired {
            self.validation = Validation::None;
        }
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
                if self.step.is_to_be_validated(&self.plan) {
                    self.validation = Validation::Due(message);
                    return;
                }
                Some(*message)
            }
            Progress::Exhausted(upstream, error) => {
                self.events.push_back(Event::UpstreamFailed(upstream));
                error.map(|message| *message)
            }
        };
        self.accept(answer, now);
    }

    /// Goes on with an answer, or without one.
    fn accept(&mut self, mut answer: Option<Message>, now: Instant) {
        if self.flaw.is_some() {
            // What came beside a bogus answer is not worth more than that.
            answer = None;
        }
        if let Some(message) = &mut answer
            && let Some(name) = message.queries.first().map(|question| question.name.clone())
            && rebinding::remove_private(&name, message, &self.plan)
        {
            self.rebinding = true;
            self.events.push_back(Event::Rebinding);
        }
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
        // RFC 6147 section 5.5: without proof that there are no AAAA records, there is no synthesis.
        if self.flaw.is_some() {
            return self.unanswered(&request);
        }
        // What follows from an error or from silence is not proven.
        if self.plan.validates(&question.name) && self.secure.is_none() && !request.checking_disabled {
            self.secure = Some(false);
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
        // RFC 4035 section 5.5: bogus data is worse than none.
        let reason = match self.flaw {
            None => Reason::Unanswered,
            Some(Flaw::Signature) => Reason::Bogus,
            Some(Flaw::Expired) => Reason::BogusExpired,
            Some(Flaw::NotYetValid) => Reason::BogusEarly,
            Some(Flaw::Unsigned) => Reason::BogusUnsigned,
        };
        self.secure = None;
        self.finish(request, response::empty(request, ResponseCode::ServFail), reason);
    }

    fn finish(&mut self, request: &Request, mut response: Message, reason: Reason) {
        // RFC 8914 section 4.16: where nothing is left, the client is told why.
        let reason = if self.rebinding && response.answers.is_empty() { Reason::Rebinding } else { reason };
        if let Some(secure) = self.secure {
            // RFC 6147 section 5.5: what is synthesized of proven records counts as proven; an alias of ours does not.
            response.metadata.authentic_data = secure && !self.rebinding && reason != Reason::Reverse;
            if !request.dnssec_ok {
                response::remove_proof(&mut response);
            }
        }
        let wants_proof = request.dnssec_ok || request.authentic_data;
        let outcome = Outcome { reason, response: Some(response), limit: request.limit, wants_proof };
        self.events.push_back(Event::Finished(outcome));
    }

    fn drop_silently(&mut self, reason: Reason) {
        self.events.push_back(Event::Finished(Outcome { reason, response: None, limit: 0, wants_proof: false }));
    }
}

impl Step {
    /// Whether an answer to the outstanding question is to be validated.
    fn is_to_be_validated(&self, plan: &Dns64Plan) -> bool {
        match self {
            Self::Forward(pending) | Self::Aaaa(pending, _) | Self::A { pending, .. } | Self::Reverse(pending, _) => {
                !pending.request.checking_disabled && plan.validates(pending.exchange.name())
            }
            Self::Finished => false,
        }
    }

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

//! One question to the upstreams: asked of one after the other, until one answers.
use core::net::SocketAddr;
use core::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};

use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::BinEncodable as _;

use super::request::{MAX_UDP_PAYLOAD, Transport};
use crate::time::Instant;

/// How long one upstream is waited for.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);

/// RFC 8467 section 4.1: questions are as long as a multiple of this where nobody shall know them by their length.
const PADDING_BLOCK: usize = 128;
/// RFC 7830 section 3.
const PADDING: u16 = 12;

/// A question to be sent, over a socket of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub upstream: SocketAddr,
    /// How, where it is not [`crate::plan::Dns64Plan::encrypted`].
    pub transport: Transport,
    /// The DNS message.
    pub message: Vec<u8>,
}

/// What an input or a timeout led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing; the message does not belong to the question.
    Mismatch,
    /// The upstream failed or refused; the next one is asked.
    Next(SocketAddr),
    /// The upstream's answer came truncated; it is asked again by TCP.
    Again,
    /// The answer of this upstream.
    Answered(SocketAddr, Box<Message>),
    /// This upstream failed, and there is none left. The best that came is an error, if anything came.
    Exhausted(SocketAddr, Option<Box<Message>>),
}

/// A question that is being asked.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    question: Query,
    /// The question as it is sent: what a stranger cannot see, he cannot repeat.
    spelled: Query,
    id: u16,
    checking_disabled: bool,
    dnssec_ok: bool,
    upstream: SocketAddr,
    /// Who is asked over TLS.
    encrypted: Vec<SocketAddr>,
    transport: Transport,
    /// Who is asked next, in order.
    remaining: Vec<SocketAddr>,
    deadline: Instant,
    transmit: bool,
    /// An error that an upstream answered with.
    error: Option<Box<Message>>,
}

impl Exchange {
    /// Asks `order[0]` first; nothing for an empty order.
    pub(super) fn new(
        question: Query,
        (id, spelling): (u16, u64),
        (checking_disabled, dnssec_ok): (bool, bool),
        order: &[SocketAddr],
        now: Instant,
    ) -> Option<Self> {
        let (&upstream, remaining) = order.split_first()?;
        Some(Self {
            spelled: spell(&question, spelling),
            question,
            id,
            checking_disabled,
            dnssec_ok,
            upstream,
            encrypted: Vec::new(),
            transport: Transport::Udp,
            remaining: remaining.to_vec(),
            deadline: now + ATTEMPT_TIMEOUT,
            transmit: true,
            error: None,
        })
    }

    /// The same, with those who are asked over TLS.
    pub(super) fn with_encrypted(mut self, encrypted: impl Fn(SocketAddr) -> bool) -> Self {
        let all = [self.upstream].into_iter().chain(self.remaining.iter().copied());
        self.encrypted = all.filter(|upstream| encrypted(*upstream)).collect();
        self.transport = self.transport_to(self.upstream);
        self
    }

    /// There is no datagram over TLS.
    fn transport_to(&self, upstream: SocketAddr) -> Transport {
        if self.encrypted.contains(&upstream) { Transport::Tcp } else { Transport::Udp }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is asked for.
    pub(super) fn name(&self) -> &Name {
        &self.question.name
    }

    /// How long the upstream that is asked now has been waited for.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        (now + ATTEMPT_TIMEOUT).saturating_since(self.deadline)
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        if !self.transmit {
            return None;
        }
        self.transmit = false;
        let mut message = self.message();
        if self.encrypted.contains(&self.upstream) {
            pad(&mut message);
        }
        let message = message.to_vec().ok()?;
        Some(Transmit { upstream: self.upstream, transport: self.transport, message })
    }

    fn message(&self) -> Message {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.queries.push(self.spelled.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP_PAYLOAD);
        edns.set_dnssec_ok(self.dnssec_ok);
        message.edns = Some(edns);
        message
    }

    pub(super) fn handle_input(&mut self, bytes: &[u8], now: Instant) -> Progress {
        if !self.matches_header(bytes) {
            return Progress::Mismatch;
        }
        let Ok(mut message) = Message::from_vec(bytes) else {
            return self.next(now, Repeat::Never);
        };
        let code = message.metadata.response_code;
        // RFC 5452 section 9.1: the question must be ours. Some servers leave it out of an error.
        if message.queries != [self.question.clone()] && !(message.queries.is_empty() && is_error(code)) {
            return Progress::Mismatch;
        }
        let same = message.queries.iter().all(|query| query.name.eq_case(&self.spelled.name));
        // RFC 7766 section 5: a truncated answer is asked for again by TCP.
        // Another spelling of the name (draft-vixie-dnsext-dns0x20) is a guess, or a server's that does not repeat it; by TCP
        // nobody guesses.
        if message.metadata.truncation || (!same && self.transport == Transport::Udp) {
            return match self.transport {
                Transport::Udp => {
                    self.transport = Transport::Tcp;
                    self.deadline = now + ATTEMPT_TIMEOUT;
                    self.transmit = true;
                    Progress::Again
                }
                Transport::Tcp => self.next(now, Repeat::Never),
            };
        }
        if is_error(code) {
            self.respell(&mut message);
            self.error = Some(Box::new(message));
            return self.next(now, Repeat::Never);
        }
        self.respell(&mut message);
        Progress::Answered(self.upstream, Box::new(message))
    }

    /// The attempt failed without an answer, e.g. by an ICMP error.
    pub(super) fn handle_failure(&mut self, now: Instant) -> Progress {
        self.next(now, Repeat::Never)
    }

    /// The deadline has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Progress {
        self.next(now, Repeat::Allowed)
    }

    /// RFC 5452 section 9.1: identifier and direction first; the rest of a stranger's message is not even read.
    fn matches_header(&self, bytes: &[u8]) -> bool {
        matches!(bytes.first_chunk(), Some(&[high, low, flags])
            if [high, low] == self.id.to_be_bytes() && flags & 0x80 != 0 && flags >> 3 & 0xf == 0)
    }

    /// The names in an answer as whoever asked writes them.
    fn respell(&self, message: &mut Message) {
        let name = &self.question.name;
        let mut made = None;
        if message.answers.iter().any(|record| record.record_type() == RecordType::DNAME) {
            // RFC 6672 section 2.2: the alias that a DNAME record makes begins with labels of the question.
            for record in message.answers.iter_mut().filter(|record| record.name == *name) {
                if let RData::CNAME(target) = &mut record.data {
                    target.0 = unspell(&target.0, &self.spelled.name, name);
                    made = Some(target.0.clone());
                }
            }
        }
        let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
        for record in sections.into_iter().flatten() {
            if record.name == *name {
                record.name = name.clone();
            } else if let Some(made) = made.as_ref().filter(|made| record.name == **made) {
                record.name = made.clone();
            }
        }
    }

    fn next(&mut self, now: Instant, repeat: Repeat) -> Progress {
        let failed = self.upstream;
        match repeat {
            Repeat::Allowed => {}
            // It would only say so again.
            Repeat::Never => self.remaining.retain(|upstream| *upstream != failed),
        }
        if self.remaining.is_empty() {
            return Progress::Exhausted(failed, self.error.take());
        }
        self.upstream = self.remaining.remove(0);
        self.transport = self.transport_to(self.upstream);
        self.deadline = now + ATTEMPT_TIMEOUT;
        self.transmit = true;
        Progress::Next(failed)
    }
}

/// Makes a question longer, up to a multiple of the block.
fn pad(message: &mut Message) {
    let length = message.to_bytes().map_or(0, |bytes| bytes.len()) + 4;
    let Some(edns) = &mut message.edns else { return };
    let missing = length.next_multiple_of(PADDING_BLOCK) - length;
    edns.options_mut().insert(EdnsOption::Unknown(PADDING, vec![0; missing]));
}

/// The question with each letter in upper or lower case, by the bits of `spelling`.
fn spell(question: &Query, spelling: u64) -> Query {
    let mut bits = (0..64).cycle().map(|bit| spelling >> bit & 1 == 1);
    let mut letter = |letter: &u8| match bits.next() {
        Some(true) => letter.to_ascii_uppercase(),
        _ => letter.to_ascii_lowercase(),
    };
    let labels: Vec<Vec<u8>> = question.name.iter().map(|label| label.iter().map(&mut letter).collect()).collect();
    let mut spelled = question.clone();
    if let Ok(name) = Name::from_labels(labels.iter().map(Vec::as_slice)) {
        spelled.set_name(name);
    }
    spelled
}

/// A name that begins with labels as they were sent, with those as they were asked for.
fn unspell(name: &Name, sent: &Name, asked: &Name) -> Name {
    let same = name.iter().zip(sent.iter()).take_while(|(label, sent)| label == sent).count();
    let labels: Vec<&[u8]> = asked.iter().take(same).chain(name.iter().skip(same)).collect();
    Name::from_labels(labels).unwrap_or_else(|_| name.clone())
}

/// Whether an upstream that failed may be asked once more.
#[derive(Clone, Copy, Debug)]
enum Repeat {
    Allowed,
    Never,
}

/// Whether another upstream may know better. NXDOMAIN is an answer, not a failure.
fn is_error(code: ResponseCode) -> bool {
    !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, CNAME, NULL};

    use super::*;

    fn question(name: &str) -> Query {
        Query::query(Name::from_ascii(name).unwrap(), RecordType::A)
    }

    fn exchange(upstreams: &[&str]) -> Exchange {
        let order: Vec<SocketAddr> = upstreams.iter().map(|text| text.parse().unwrap()).collect();
        Exchange::new(question("www.example.com."), (0x1234, 0), (false, false), &order, Instant::ZERO).unwrap()
    }

    fn answer(id: u16, question: Option<Query>, code: ResponseCode) -> Vec<u8> {
        let mut message = Message::error_msg(id, OpCode::Query, code);
        message.queries.extend(question);
        message.to_vec().unwrap()
    }

    #[test]
    fn only_the_answer_to_our_question_counts() {
        let mut exchange = exchange(&["192.0.2.1:53"]);
        let ours = Some(question("www.example.com."));
        let mut query = answer(0x1234, ours.clone(), ResponseCode::NoError);
        query[2] &= 0x7f;
        let strangers = [
            answer(0x1235, ours, ResponseCode::NoError),
            answer(0x1234, Some(question("evil.example.com.")), ResponseCode::NoError),
            answer(0x1234, None, ResponseCode::NoError),
            query,
            vec![0x12, 0x34],
        ];
        for message in strangers {
            assert_eq!(exchange.handle_input(&message, Instant::ZERO), Progress::Mismatch, "{message:02x?}");
        }
        let message = answer(0x1234, Some(question("www.example.com.")), ResponseCode::NXDomain);
        assert!(matches!(exchange.handle_input(&message, Instant::ZERO), Progress::Answered(..)));
    }

    #[test]
    fn an_answer_with_another_spelling_is_asked_for_again_by_tcp_where_nobody_guesses() {
        let order = ["192.0.2.1:53".parse().unwrap()];
        let asked = question("www.example.com.");
        let mut exchange =
            Exchange::new(asked.clone(), (0x1234, 0b0101_1010), (false, false), &order, Instant::ZERO).unwrap();
        let sent = Message::from_vec(&exchange.poll_transmit().unwrap().message).unwrap();
        assert!(sent.queries[0].name.eq_case(&Name::from_ascii("wWw.EXaMple.com.").unwrap()));
        let plain = answer(0x1234, Some(asked), ResponseCode::NoError);
        assert_eq!(exchange.handle_input(&plain, Instant::ZERO), Progress::Again);
        assert_eq!(exchange.poll_transmit().unwrap().transport, Transport::Tcp);
        assert!(matches!(exchange.handle_input(&plain, Instant::ZERO), Progress::Answered(..)));
    }

    #[test]
    fn what_a_dname_makes_of_our_spelling_is_spelled_as_it_was_asked_for() {
        let order = ["192.0.2.1:53".parse().unwrap()];
        let asked = question("www.old.example.");
        let mut exchange = Exchange::new(asked, (7, u64::MAX), (false, false), &order, Instant::ZERO).unwrap();
        let spelled = question("WWW.OLD.EXAMPLE.");
        let mut message = Message::response(7, OpCode::Query);
        let target = Name::from_ascii("WWW.new.Example.").unwrap();
        message.answers = vec![
            Record::from_rdata(
                Name::from_ascii("old.example.").unwrap(),
                60,
                RData::Unknown { code: RecordType::DNAME, rdata: NULL::with(b"\x03new\x07Example\0".to_vec()) },
            ),
            Record::from_rdata(spelled.name.clone(), 60, RData::CNAME(CNAME(target.clone()))),
            Record::from_rdata(target, 60, RData::A(A::new(192, 0, 2, 7))),
        ];
        message.queries.push(spelled);
        let Progress::Answered(_, answer) = exchange.handle_input(&message.to_vec().unwrap(), Instant::ZERO) else {
            panic!("it is the answer")
        };
        let names: Vec<String> = answer.answers.iter().map(|record| record.name.to_string()).collect();
        assert_eq!(names, ["old.example.", "www.old.example.", "www.new.Example."]);
        assert_eq!(answer.answers[1].data, RData::CNAME(CNAME(Name::from_ascii("www.new.Example.").unwrap())));
    }

    #[test]
    fn over_tls_a_question_is_padded_and_never_asked_by_datagrams() {
        let tls: SocketAddr = "192.0.2.1:853".parse().unwrap();
        let mut exchange = exchange(&["192.0.2.1:853", "192.0.2.2:53", "192.0.2.1:853"]).with_encrypted(|to| to == tls);
        let transmit = exchange.poll_transmit().unwrap();
        assert_eq!((transmit.transport, transmit.message.len() % PADDING_BLOCK), (Transport::Tcp, 0));
        let plain = answer(0x1234, Some(question("WWW.example.com.")), ResponseCode::NoError);
        assert!(
            matches!(exchange.clone().handle_input(&plain, Instant::ZERO), Progress::Answered(..)),
            "nobody guesses"
        );
        assert_eq!(exchange.handle_timeout(exchange.deadline()), Progress::Next(tls));
        let transmit = exchange.poll_transmit().unwrap();
        assert_eq!(transmit.transport, Transport::Udp);
        assert!(transmit.message.len() < PADDING_BLOCK);
        exchange.handle_timeout(exchange.deadline());
        assert_eq!(exchange.poll_transmit().unwrap().transport, Transport::Tcp);
    }

    #[test]
    fn an_error_without_a_question_is_ours_by_its_identifier() {
        let mut exchange = exchange(&["192.0.2.1:53", "192.0.2.2:53", "192.0.2.1:53"]);
        exchange.poll_transmit().unwrap();
        let message = answer(0x1234, None, ResponseCode::FormErr);
        let first = "192.0.2.1:53".parse().unwrap();
        assert_eq!(exchange.handle_input(&message, Instant::ZERO), Progress::Next(first));
        let transmit = exchange.poll_transmit().unwrap();
        assert_eq!((transmit.upstream, transmit.transport), ("192.0.2.2:53".parse().unwrap(), Transport::Udp));
        let failed = exchange.handle_failure(Instant::ZERO);
        assert!(matches!(failed, Progress::Exhausted(_, Some(_))), "the first is not asked again: {failed:?}");
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_a_failure_of_its_upstream() {
        let mut exchange = exchange(&["192.0.2.1:53"]);
        let mut message = answer(0x1234, Some(question("www.example.com.")), ResponseCode::NoError);
        message[7] = 9;
        let upstream = "192.0.2.1:53".parse().unwrap();
        assert_eq!(exchange.handle_input(&message, Instant::ZERO), Progress::Exhausted(upstream, None));
    }

    #[test]
    fn each_attempt_has_its_own_time() {
        let mut exchange = exchange(&["192.0.2.1:53", "192.0.2.1:53"]);
        let later = exchange.deadline();
        assert_eq!(later, Instant::ZERO + ATTEMPT_TIMEOUT);
        let upstream = "192.0.2.1:53".parse().unwrap();
        assert_eq!(exchange.handle_timeout(later), Progress::Next(upstream));
        assert_eq!(exchange.deadline(), later + ATTEMPT_TIMEOUT);
        assert_eq!(exchange.handle_timeout(exchange.deadline()), Progress::Exhausted(upstream, None));
    }
}

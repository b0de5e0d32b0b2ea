//! Validation of what upstreams say (RFC 4035 section 5), by hickory's validator.
//!
//! It is given an answer link by link: each alias by itself, then the records or the proof that there are none, because
//! it proves absence for the name in the question only, and knows no DNAME. Keys and delegations it asks for by the same
//! way as everybody, so they are remembered, and asked for once.
use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, Stream, StreamExt};
use hickory_net::dnssec::DnssecDnsHandle;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::{DnsError, DnsHandle, NetError};
use hickory_proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_proto::dnssec::{Proof, TrustAnchors};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};
use sixgate_engine::dns64::{Flaw, Link, Verdict, chain};
use sixgate_engine::finding::{Finding, Severity};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answer::{Client, Reply};
use super::front::Front;

/// RFC 9276: more than that is not hashed.
const MAX_NSEC3_ITERATIONS: u16 = 100;
/// How often it is looked into why nothing can be validated.
const EXAMINE_EVERY: Duration = Duration::from_secs(30);

/// Answers that are being validated, by identifier and question.
type Held = Arc<Mutex<HashMap<(u16, Name, RecordType), Message>>>;
/// Whom to ask; nobody before the resolver is open, and after it is closed.
type Way = Arc<Mutex<Option<Front>>>;

/// Validates by the trust anchors of the plan.
#[derive(Clone, Default)]
pub(super) struct Validator {
    way: Way,
    held: Held,
    next: Arc<AtomicU16>,
    trust: Arc<Mutex<Option<Trust>>>,
    examined: Arc<Mutex<Option<Instant>>>,
}

/// What is trusted, and the validator that remembers what it has proven by it.
#[derive(Clone)]
struct Trust {
    texts: Vec<String>,
    anchors: Arc<TrustAnchors>,
    handle: DnssecDnsHandle<Asker>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Validator {
    /// Lets it ask by this front, or no longer.
    pub(super) fn open(&self, front: Option<Front>) {
        *locked(&self.way) = front;
    }

    /// What there is to say of an upstream's answer. Boxed, because to find it out questions are asked like any other.
    pub(super) fn validate(
        &self,
        message: Message,
        anchors: &[String],
    ) -> Pin<Box<dyn Future<Output = Verdict> + Send>> {
        let (validator, trust) = (self.clone(), self.trust(anchors));
        Box::pin(async move { validator.judge(message, &trust).await })
    }

    fn trust(&self, texts: &[String]) -> Trust {
        let mut current = locked(&self.trust);
        if let Some(trust) = current.as_ref().filter(|trust| trust.texts == texts) {
            return trust.clone();
        }
        // Both of the root's keys are in the binary; the configuration was checked when it was read.
        let mut anchors = TrustAnchors::default();
        for given in texts.iter().filter_map(|text| TrustAnchors::from_str(text).ok()) {
            for key in (0..given.len()).filter_map(|index| given.get(index)) {
                anchors.insert(key);
            }
        }
        let anchors = Arc::new(anchors);
        let asker = Asker { way: self.way.clone(), held: self.held.clone() };
        let handle = DnssecDnsHandle::with_trust_anchor(asker, anchors.clone())
            .nsec3_iteration_limits(Some(MAX_NSEC3_ITERATIONS), None);
        let trust = Trust { texts: texts.to_vec(), anchors, handle };
        *current = Some(trust.clone());
        trust
    }

    async fn judge(&self, mut message: Message, trust: &Trust) -> Verdict {
        let Some(links) = chain(&message) else { return Verdict::Bogus(Flaw::Signature) };
        let (mut secure, mut ttl) = (true, u32::MAX);
        let (mut answers, mut authorities) = (Vec::new(), Vec::new());
        for Link { question, records, implied, proof, code } in links {
            let mut part = Message::response(0, OpCode::Query);
            part.metadata.response_code = code;
            (part.answers, part.authorities) = (records.clone(), proof.clone());
            part.queries.push(question.clone());
            match self.prove(part, trust).await {
                Proven::Secure(lifetime) => ttl = ttl.min(lifetime),
                Proven::Insecure => secure = false,
                Proven::Bogus => {
                    self.examine(trust).await;
                    let signatures = records.iter().chain(&proof).filter_map(signature);
                    let flaw = flaw(signatures, unix_time());
                    tracing::debug!("the answer about {question} is bogus: {flaw:?}");
                    return Verdict::Bogus(flaw);
                }
                Proven::Unknown => {
                    self.examine(trust).await;
                    return Verdict::Unknown;
                }
            }
            answers.extend(records.into_iter().chain(implied));
            authorities.extend(proof);
        }
        if !secure {
            return Verdict::Insecure(Box::new(message));
        }
        if let Some(front) = locked(&self.way).as_ref() {
            front.found(None);
        }
        // RFC 4035 section 5.3.3: no longer than the signatures hold. Section 3.2.3: with AD, nothing that is not proven.
        for record in answers.iter_mut().chain(&mut authorities) {
            record.ttl = record.ttl.min(ttl);
        }
        (message.answers, message.authorities) = (answers, authorities);
        message.additionals.clear();
        Verdict::Secure(Box::new(message))
    }

    async fn prove(&self, part: Message, trust: &Trust) -> Proven {
        let Some(question) = part.queries.first().cloned() else { return Proven::Unknown };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let key = (id, question.name.clone(), question.query_type);
        locked(&self.held).insert(key.clone(), part);
        let mut ask = Message::query();
        ask.metadata.id = id;
        ask.queries.push(question);
        let mut options = DnsRequestOptions::default();
        options.use_edns = true;
        options.edns_set_dnssec_ok = true;
        options.case_randomization = false;
        let result = trust.handle.send(DnsRequest::new(ask, options)).next().await;
        locked(&self.held).remove(&key);
        match result {
            Some(Ok(response)) => {
                let records =
                    || response.answers.iter().chain(&response.authorities).filter(|record| !is_signature(record));
                let any = |proof: Proof| records().any(|record| record.proof == proof);
                if any(Proof::Bogus) || any(Proof::Indeterminate) {
                    Proven::Bogus
                } else if any(Proof::Insecure) || records().next().is_none() {
                    Proven::Insecure
                } else {
                    Proven::Secure(records().map(|record| record.ttl).min().unwrap_or_default())
                }
            }
            Some(Err(NetError::Dns(DnsError::Nsec { proof, .. }))) if proof.is_insecure() => Proven::Insecure,
            Some(Err(NetError::Dns(DnsError::Nsec { .. }))) => Proven::Bogus,
            Some(Err(error)) => {
                tracing::debug!("nothing can be proven: {error}");
                Proven::Unknown
            }
            None => Proven::Unknown,
        }
    }

    /// Finds out whether it is the root itself that cannot be validated, which then is a finding.
    async fn examine(&self, trust: &Trust) {
        {
            let mut examined = locked(&self.examined);
            if examined.is_some_and(|examined| examined.elapsed() < EXAMINE_EVERY) {
                return;
            }
            *examined = Some(Instant::now());
        }
        let asker = Asker { way: self.way.clone(), held: self.held.clone() };
        let Ok(keys) = asker.lookup(&Query::query(Name::root(), RecordType::DNSKEY)).await else { return };
        let finding = examine_root(&keys, &trust.anchors, unix_time());
        if let Some(front) = locked(&self.way).as_ref() {
            front.found(finding);
        }
    }
}

/// What came of one link.
enum Proven {
    /// For so many seconds.
    Secure(u32),
    /// It is proven that nothing is signed there.
    Insecure,
    Bogus,
    /// What it takes to find out could not be had.
    Unknown,
}

/// Seconds since 1970, as signatures count them.
fn unix_time() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // RFC 4034 section 3.1.5: the lower 32 bits.
    since.as_secs() as u32
}

fn is_signature(record: &Record) -> bool {
    record.record_type() == RecordType::RRSIG
}

fn signature(record: &Record) -> Option<&RRSIG> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => Some(signature),
        _ => None,
    }
}

/// Whether a moment comes after another one: RFC 4034 section 3.1.5, serial number arithmetic.
fn is_after(moment: u32, other: u32) -> bool {
    moment.wrapping_sub(other).cast_signed() > 0
}

/// What is wrong with signatures that prove nothing.
fn flaw<'a>(signatures: impl Iterator<Item = &'a RRSIG>, now: u32) -> Flaw {
    let times: Vec<(u32, u32)> = signatures
        .map(|signature| (signature.input().sig_inception.get(), signature.input().sig_expiration.get()))
        .collect();
    if times.is_empty() {
        Flaw::Unsigned
    } else if times.iter().all(|(_, expiration)| is_after(now, *expiration)) {
        Flaw::Expired
    } else if times.iter().all(|(inception, _)| is_after(*inception, now)) {
        Flaw::NotYetValid
    } else {
        Flaw::Signature
    }
}

/// Why the root's keys cannot be believed; nothing where they can.
fn examine_root(keys: &Message, anchors: &TrustAnchors, now: u32) -> Option<Finding> {
    let finding = |code, text: String, mend| Some(Finding::new(Severity::Error, code, "dns64", text, mend));
    let root = LowerName::from(Name::root());
    let trusted = keys.answers.iter().any(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::DNSKEY(key)) => anchors.contains_with_name(key.public_key(), &root),
        _ => false,
    });
    let signatures = || keys.answers.iter().filter_map(signature);
    if signatures().next().is_none() {
        return finding(
            "dnssec-stripped",
            "the upstreams leave signatures out of their answers: nothing can be validated, and nothing is answered"
                .to_owned(),
            "name upstreams that pass DNSSEC on, or set `dnssec` to false in [dns64]",
        );
    }
    match flaw(signatures(), now) {
        Flaw::Expired => finding(
            "dnssec-clock",
            "by this machine's clock, the root zone's signatures have expired: the clock is fast, or an old answer is replayed".to_owned(),
            "set the clock",
        ),
        Flaw::NotYetValid => finding(
            "dnssec-clock",
            "by this machine's clock, the root zone's signatures do not hold yet: the clock is slow".to_owned(),
            "set the clock",
        ),
        Flaw::Signature | Flaw::Unsigned if !trusted => finding(
            "dnssec-trust-anchor",
            "none of the root zone's keys is one that is trusted: they were changed, or somebody answers in the root's name".to_owned(),
            "update sixgate, or name the new key in `trust_anchor` if you know it to be the root's",
        ),
        Flaw::Signature | Flaw::Unsigned => None,
    }
}

/// Asks for keys and delegations, and hands out what is to be validated.
#[derive(Clone)]
struct Asker {
    way: Way,
    held: Held,
}

impl Asker {
    async fn ask(self, request: DnsRequest) -> Result<DnsResponse, NetError> {
        let Some(question) = request.queries.first() else { return Err(NetError::from("no question")) };
        let key = (request.metadata.id, question.name.clone(), question.query_type);
        let held = locked(&self.held).remove(&key);
        let message = match held {
            Some(message) => message,
            None => self.lookup(question).await?,
        };
        DnsResponse::from_message(message).map_err(|error| NetError::from(error.to_string()))
    }

    async fn lookup(&self, question: &Query) -> Result<Message, NetError> {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        // Nothing of what helps to validate is validated on the way here.
        query.metadata.checking_disabled = true;
        query.queries.push(question.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(4096).set_dnssec_ok(true);
        query.edns = Some(edns);
        let query = query.to_vec().map_err(|error| NetError::from(error.to_string()))?;
        let (reply, response) = oneshot::channel();
        match locked(&self.way).as_ref() {
            Some(front) => front.take(Client {
                query,
                peer: SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
                reply: Reply::Validator(reply),
                worker: None,
                turn: None,
            }),
            None => return Err(NetError::from("the resolver is closed")),
        }
        let response = response.await.map_err(|_| NetError::from("no answer"))?;
        let mut message = Message::from_vec(&response).map_err(|error| NetError::from(error.to_string()))?;
        match message.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => return Err(NetError::from(format!("{question}: {code}"))),
        }
        message.additionals.clear();
        Ok(message)
    }
}

impl DnsHandle for Asker {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        Box::pin(stream::once(self.clone().ask(request)))
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::dnssec::crypto::Ed25519SigningKey;
    use hickory_proto::dnssec::rdata::DNSKEY;
    use hickory_proto::dnssec::{DnssecSigner, SigningKey as _};
    use hickory_proto::rr::{DNSClass, RecordSet};

    use super::*;

    #[test]
    fn moments_are_compared_around_the_end_of_the_count() {
        assert!(is_after(5, u32::MAX) && !is_after(u32::MAX, 5));
        assert!(!is_after(7, 7));
    }

    #[test]
    fn without_signatures_it_is_the_upstreams_fault_and_the_finding_says_so() {
        let keys = Message::response(0, OpCode::Query);
        let finding = examine_root(&keys, &TrustAnchors::default(), 0).unwrap();
        assert_eq!(finding.code, "dnssec-stripped");
        assert_eq!(flaw(std::iter::empty(), 0), Flaw::Unsigned);
    }

    /// The root zone's keys as an upstream gives them, signed so long ago, and what trusts them.
    fn signed_keys(age: Duration) -> (Message, TrustAnchors) {
        let key = Ed25519SigningKey::from_pkcs8(&Ed25519SigningKey::generate_pkcs8().unwrap()).unwrap();
        let public = key.to_public_key().unwrap();
        let mut anchors = TrustAnchors::empty();
        anchors.insert(&public);
        let day = Duration::from_secs(86_400);
        let signer = DnssecSigner::new(DNSKEY::from_key(&public), Box::new(key), Name::root(), day);
        let record = Record::from_rdata(Name::root(), 60, RData::DNSSEC(DNSSECRData::DNSKEY(signer.to_dnskey())));
        let mut set = RecordSet::with_ttl(Name::root(), RecordType::DNSKEY, 60);
        set.insert(record.clone(), 0);
        let made = time::OffsetDateTime::now_utc() - age;
        let signature = RRSIG::from_rrset(&set, DNSClass::IN, made, &signer).unwrap();
        let mut keys = Message::response(0, OpCode::Query);
        keys.answers = vec![record, Record::from_rdata(Name::root(), 60, RData::DNSSEC(DNSSECRData::RRSIG(signature)))];
        (keys, anchors)
    }

    #[test]
    fn a_clock_that_is_wrong_is_told_from_keys_that_are_not_trusted() {
        let (keys, anchors) = signed_keys(Duration::from_secs(3600));
        let now = unix_time();
        let found = |anchors: &TrustAnchors, now: u32| examine_root(&keys, anchors, now);
        assert_eq!(found(&anchors, now), None);
        for (clock, word) in [(now - 40 * 86_400, "slow"), (now + 40 * 86_400, "fast")] {
            let finding = found(&anchors, clock).unwrap();
            assert_eq!(finding.code, "dnssec-clock");
            assert!(finding.text.contains(word), "{finding:?}");
        }
        assert_eq!(found(&TrustAnchors::empty(), now).unwrap().code, "dnssec-trust-anchor");
    }

    #[test]
    fn both_keys_of_the_root_are_in_the_binary() {
        assert_eq!(Validator::default().trust(&[]).anchors.len(), 2);
    }
}

//! Replays the dialogues in `tests/vectors/dns64`: what a client asks, what upstreams say, what comes back.
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use serde::Deserialize;
use sixgate_engine::dns64::{Event, Flaw, Outcome, Transaction, Transmit, Transport, Verdict, View};
use sixgate_engine::plan::{Dns64Plan, LocalNames};
use sixgate_engine::time::{Duration, Instant};

const ID: u16 = 0x1234;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    dialogue: Vec<Dialogue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dialogue {
    says: String,
    #[serde(default)]
    policy: Policy,
    query: Ask,
    #[serde(default)]
    upstream: Vec<Turn>,
    response: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Policy {
    synthesis: String,
    pref64: String,
    translate_non_global: Vec<ipnet::Ipv4Net>,
    upstreams: Vec<SocketAddr>,
    untranslated: bool,
    exclude_ipv4: Vec<ipnet::Ipv4Net>,
    never: Vec<String>,
    always: Vec<String>,
    forward: BTreeMap<String, SocketAddr>,
    rebinding_protection: bool,
    validate: bool,
    private_domains: Vec<String>,
    map: BTreeMap<ipnet::Ipv4Net, ipnet::Ipv6Net>,
    hosts: BTreeMap<String, Vec<IpAddr>>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            synthesis: "2001:db8:64::/96".to_owned(),
            pref64: "2001:db8:64::/96".to_owned(),
            translate_non_global: Vec::new(),
            upstreams: vec!["192.0.2.53:53".parse().unwrap()],
            untranslated: false,
            exclude_ipv4: Vec::new(),
            never: Vec::new(),
            always: Vec::new(),
            forward: BTreeMap::new(),
            rebinding_protection: false,
            validate: false,
            private_domains: Vec::new(),
            map: BTreeMap::new(),
            hosts: BTreeMap::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    ask: Option<String>,
    raw: Option<String>,
    #[serde(default)]
    transport: By,
    edns: Option<u16>,
    #[serde(default)]
    edns_version: u8,
    #[serde(default = "yes")]
    recursion: bool,
    #[serde(default)]
    checking_disabled: bool,
    #[serde(default)]
    authentic_data: bool,
    #[serde(default)]
    dnssec_ok: bool,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    #[default]
    Udp,
    Tcp,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Failure {
    Silence,
    Unreachable,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Judgement {
    Secure,
    Insecure,
    Bogus,
    Expired,
    Unknown,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    asked: String,
    at: Option<SocketAddr>,
    #[serde(default)]
    by: By,
    fails: Option<Failure>,
    verdict: Option<Judgement>,
    code: Option<String>,
    #[serde(default)]
    answer: Vec<String>,
    #[serde(default)]
    authority: Vec<String>,
    #[serde(default)]
    additional: Vec<String>,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    reason: String,
    code: Option<String>,
    #[serde(default)]
    answer: Vec<String>,
    #[serde(default)]
    authority: Vec<String>,
    #[serde(default)]
    additional: Vec<String>,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    authoritative: bool,
    #[serde(default)]
    authentic: bool,
    #[serde(default)]
    dropped: bool,
}

#[test]
fn every_dialogue_ends_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/dns64");
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let file: File = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for dialogue in &file.dialogue {
            replay(dialogue);
            replayed += 1;
        }
    }
    assert!(replayed >= 40, "only {replayed} dialogues in {}", folder.display());
}

fn replay(dialogue: &Dialogue) {
    let says = &dialogue.says;
    let query = client_query(&dialogue.query);
    let transport = match dialogue.query.transport {
        By::Udp => Transport::Udp,
        By::Tcp => Transport::Tcp,
    };
    let start = Instant::ZERO + Duration::from_secs(1000);
    let mut now = start;
    let view = if dialogue.policy.untranslated { View::Untranslated } else { View::Translated };
    let mut transaction = Transaction::new(&query, transport, plan(&dialogue.policy), view, 42, now);
    for turn in &dialogue.upstream {
        let transmit = transaction.poll_transmit().unwrap_or_else(|| panic!("{says}: {} is not asked", turn.asked));
        assert_eq!(transaction.poll_transmit(), None, "{says}: one question at a time");
        let question = check_question(dialogue, turn, &transmit);
        now = now + Duration::from_millis(20);
        match turn.fails {
            Some(Failure::Silence) => {
                now = transaction.poll_timeout().unwrap();
                transaction.handle_timeout(now);
            }
            Some(Failure::Unreachable) => transaction.handle_failure(now),
            None => {
                // A stranger's message in between changes nothing.
                let before = transaction.poll_timeout();
                let mut stranger = question.clone();
                stranger.metadata.message_type = MessageType::Response;
                stranger.metadata.id ^= 1;
                transaction.handle_input(&stranger.to_vec().unwrap(), now);
                assert_eq!(transaction.poll_timeout(), before, "{says}");
                transaction.handle_input(&upstream_answer(turn, &question), now);
                let due = transaction.poll_validation();
                assert_eq!(due.is_some(), turn.verdict.is_some(), "{says}: what is validated");
                if let (Some(message), Some(judgement)) = (due, turn.verdict) {
                    assert!(transaction.poll_timeout().is_some(), "{says}: the client does not wait for ever");
                    transaction.handle_verdict(verdict(judgement, message), now);
                }
            }
        }
    }
    assert_eq!(transaction.poll_transmit(), None, "{says}: nothing else is asked");
    assert_eq!(transaction.poll_timeout(), None, "{says}: it is over");
    assert!(now.saturating_since(start) < Duration::from_secs(5), "{says}: the client still waits");
    let events: Vec<Event> = std::iter::from_fn(|| transaction.poll_event()).collect();
    let Some((Event::Finished(outcome), before)) = events.split_last() else { panic!("{says}: no end") };
    let strangers = before.iter().filter(|event| **event == Event::Mismatch).count();
    let answers = dialogue.upstream.iter().filter(|turn| turn.fails.is_none()).count();
    assert_eq!(strangers, answers, "{says}: strangers are counted");
    check_response(dialogue, &query, outcome);
}

fn verdict(judgement: Judgement, message: Message) -> Verdict {
    match judgement {
        Judgement::Secure => Verdict::Secure(Box::new(message)),
        Judgement::Insecure => Verdict::Insecure(Box::new(message)),
        Judgement::Bogus => Verdict::Bogus(Flaw::Signature),
        Judgement::Expired => Verdict::Bogus(Flaw::Expired),
        Judgement::Unknown => Verdict::Unknown,
    }
}

fn check_question(dialogue: &Dialogue, turn: &Turn, transmit: &Transmit) -> Message {
    let says = &dialogue.says;
    let question = Message::from_vec(&transmit.message).unwrap();
    let at = turn.at.or_else(|| dialogue.policy.upstreams.first().copied()).unwrap();
    assert_eq!(transmit.upstream, at, "{says}");
    assert_eq!(matches!(transmit.transport, Transport::Tcp), matches!(turn.by, By::Tcp), "{says}");
    assert_eq!(question.queries.len(), 1, "{says}");
    let asked = parse_question(&turn.asked);
    assert_eq!(question.queries[0], asked, "{says}");
    assert!(question.metadata.recursion_desired, "{says}");
    // RFC 6840 section 5.9: whoever validates wants all there is.
    let validates = turn.verdict.is_some();
    assert_eq!(question.metadata.checking_disabled, dialogue.query.checking_disabled || validates, "{says}");
    let edns = question.edns.as_ref().unwrap();
    assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1232, dialogue.query.dnssec_ok || validates), "{says}");
    question
}

fn check_response(dialogue: &Dialogue, query: &[u8], outcome: &Outcome) {
    let (says, expected) = (&dialogue.says, &dialogue.response);
    assert_eq!(outcome.reason.name(), expected.reason, "{says}");
    let Some(response) = outcome.clone().cut() else {
        assert!(expected.dropped, "{says}: no response");
        return;
    };
    assert!(!expected.dropped, "{says}: a response came");
    let bytes = response.to_vec().unwrap();
    let limit = match dialogue.query.transport {
        By::Udp => usize::from(dialogue.query.edns.unwrap_or(512).min(1232)),
        By::Tcp => 65_535,
    };
    assert!(bytes.len() <= limit, "{says}: {} bytes for a client that takes {limit}", bytes.len());
    // From here on, what a client reads.
    let response = Message::from_vec(&bytes).unwrap();
    let expected_code = code(expected.code.as_deref());
    assert_eq!(u16::from(response.metadata.response_code), u16::from(expected_code), "{says}");
    assert_eq!(response.metadata.truncation, expected.truncated, "{says}");
    assert_eq!(rows(&response.answers), rows(&parse_records(&expected.answer)), "{says}: answer");
    assert_eq!(rows(&response.authorities), rows(&parse_records(&expected.authority)), "{says}: authority");
    assert_eq!(rows(&response.additionals), rows(&parse_records(&expected.additional)), "{says}: additional");
    assert_eq!((response.metadata.id, response.metadata.message_type), (ID, MessageType::Response), "{says}");
    assert_eq!(response.metadata.op_code, OpCode::from_u8(query[2] >> 3 & 0xf), "{says}");
    assert_eq!(response.metadata.recursion_desired, dialogue.query.recursion && query[2] & 1 != 0, "{says}");
    assert!(response.metadata.recursion_available, "{says}");
    assert_eq!(response.metadata.authentic_data, expected.authentic, "{says}");
    assert_eq!(
        response.metadata.authoritative,
        matches!(expected.reason.as_str(), "dns-ipv4only" | "dns-local") || expected.authoritative,
        "{says}"
    );
    assert_eq!(response.metadata.checking_disabled, dialogue.query.checking_disabled, "{says}");
    assert_eq!(response.edns.is_some(), dialogue.query.edns.is_some(), "{says}");
    if let Some(edns) = &response.edns {
        assert_eq!((edns.version(), edns.max_payload()), (0, 1232), "{says}");
        assert_eq!(edns.flags().dnssec_ok, dialogue.query.dnssec_ok, "{says}");
    }
    if let Some(ask) = &dialogue.query.ask {
        let asked = parse_question(ask);
        assert!(response.queries == [asked.clone()] && response.queries[0].name.eq_case(&asked.name), "{says}");
    }
}

fn plan(policy: &Policy) -> Arc<Dns64Plan> {
    let prefix = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    Arc::new(Dns64Plan {
        listen: Vec::new(),
        upstream: policy.upstreams.clone(),
        synthesis: prefix(&policy.synthesis),
        translate_non_global: policy.translate_non_global.clone(),
        pref64: prefix(&policy.pref64),
        excluded: vec!["::ffff:0:0/96".parse().unwrap()],
        untranslated_ipv4: policy.exclude_ipv4.clone(),
        never: names(&policy.never),
        always: names(&policy.always),
        forward: policy.forward.iter().map(|(domain, upstream)| (name(domain), vec![*upstream])).collect(),
        validate: policy.validate,
        refuse_private: policy.rebinding_protection,
        private_domains: names(&policy.private_domains),
        prefixes: policy.map.iter().map(|(net, prefix)| (*net, *prefix)).collect(),
        local: LocalNames {
            domain: Some(name("lan.")),
            hosts: policy.hosts.iter().map(|(host, addresses)| (name(host), addresses.clone())).collect(),
        },
        ..Dns64Plan::default()
    })
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn names(texts: &[String]) -> Vec<Name> {
    texts.iter().map(|text| name(text)).collect()
}

fn client_query(ask: &Ask) -> Vec<u8> {
    if let Some(raw) = &ask.raw {
        return hex(raw);
    }
    let mut message = Message::new(ID, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = ask.recursion;
    message.metadata.checking_disabled = ask.checking_disabled;
    message.metadata.authentic_data = ask.authentic_data;
    message.queries.push(parse_question(ask.ask.as_deref().unwrap()));
    if let Some(payload) = ask.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload).set_version(ask.edns_version).set_dnssec_ok(ask.dnssec_ok);
        message.edns = Some(edns);
    }
    message.to_vec().unwrap()
}

fn upstream_answer(turn: &Turn, question: &Message) -> Vec<u8> {
    let mut message = question.clone();
    message.metadata.message_type = MessageType::Response;
    message.metadata.recursion_available = true;
    // What must not reach the client.
    message.metadata.authentic_data = true;
    message.metadata.authoritative = true;
    message.metadata.truncation = turn.truncated;
    message.metadata.response_code = code(turn.code.as_deref());
    message.answers = parse_records(&turn.answer);
    message.authorities = parse_records(&turn.authority);
    message.additionals = parse_records(&turn.additional);
    message.to_vec().unwrap()
}

/// By the name that `dig` shows.
fn code(name: Option<&str>) -> ResponseCode {
    match name {
        None => ResponseCode::NoError,
        Some("FORMERR") => ResponseCode::FormErr,
        Some("SERVFAIL") => ResponseCode::ServFail,
        Some("NXDOMAIN") => ResponseCode::NXDomain,
        Some("NOTIMP") => ResponseCode::NotImp,
        Some("REFUSED") => ResponseCode::Refused,
        Some("BADVERS") => ResponseCode::BADVERS,
        Some(other) => panic!("no such code: {other}"),
    }
}

fn parse_question(text: &str) -> Query {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut query = Query::query(Name::from_str(words[0]).unwrap(), RecordType::from_str(words[1]).unwrap());
    if words.get(2) == Some(&"CH") {
        query.set_query_class(DNSClass::CH);
    }
    query
}

fn parse_records(texts: &[String]) -> Vec<Record> {
    texts.iter().map(|text| parse_record(text)).collect()
}

fn parse_record(text: &str) -> Record {
    let [name, ttl, kind, data] = text.splitn(4, ' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
    let kind = RecordType::from_str(kind).unwrap();
    let data = match data.strip_prefix("\\# ") {
        Some(raw) => RData::Unknown { code: kind, rdata: NULL::with(hex(raw)) },
        None => RData::try_from_str(kind, data).unwrap_or_else(|error| panic!("{text}: {error}")),
    };
    Record::from_rdata(Name::from_str(name).unwrap(), ttl.parse().unwrap(), data)
}

/// Records in a form that shows every difference, TTL and case included.
fn rows(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| {
            // The same record may have been read or made.
            let mut data = Vec::new();
            record.data.emit(&mut BinEncoder::new(&mut data)).unwrap();
            let (kind, text) = (record.record_type(), String::from_utf8_lossy(&data));
            format!("{} {} {} {kind} {data:02x?} {text:?}", record.name, record.ttl, record.dns_class)
        })
        .collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap()).collect()
}

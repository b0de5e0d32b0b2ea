//! What the resolver's threads answer from memory: questions of any bytes, answers of any records, and time that passes. What
//! is written can be read, is the question's, fits, and says no more and for no longer than what was kept.
use std::collections::HashMap;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, TXT};
use hickory_proto::rr::{Name, RData, Record};
use sixgate_engine::dns64::{Answer, Cache, Key, Lookup, MAX_UDP_PAYLOAD, Plain, Reason, Transport, View};
use sixgate_engine::time::Instant;

use crate::script::Script;

/// Bytes of the cache: a few answers, so that they displace one another.
const CAPACITY: usize = 16 << 10;
const QUESTIONS: [&[u8]; 3] = [
    b"\0\x07\x01\0\0\x01\0\0\0\0\0\x01\x03www\x07example\x03com\0\0\x1c\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0",
    b"\0\x08\x01\0\0\x01\0\0\0\0\0\0\x03WWW\x07example\x03com\0\0\x1c\0\x01",
    b"\0\x09\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01",
];

pub(crate) fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut cache = Cache::new(CAPACITY, (1, 2));
    let mut kept: HashMap<Vec<u8>, (Message, Instant)> = HashMap::new();
    let mut now = Instant::ZERO;
    let mut out = Vec::new();
    for _ in 0..200 {
        if script.is_over() {
            return;
        }
        let query = question(&mut script);
        let transport = if script.byte() & 1 == 0 { Transport::Udp } else { Transport::Tcp };
        now = now + Duration::from_secs(script.byte().into());
        let Some(plain) = Plain::parse(&query, transport) else { continue };
        let read = Message::from_vec(&query).expect("a plain query is a message");
        let view = if script.byte() & 1 == 0 { View::Translated } else { View::Untranslated };
        let key = plain.key(view);
        match cache.answer(&key, &plain, now, &mut out) {
            Lookup::Hit { .. } => {
                let (whole, since) = kept.get(&key.to_bytes()).expect("it was kept");
                check(&read, &out, whole, now.saturating_since(*since), transport);
            }
            Lookup::Miss => {
                let message = answer(&read, &mut script);
                if let Some(answer) = Answer::build(&key, message.clone(), Reason::Forwarded, 0, now) {
                    remember(&mut kept, &key, message, now);
                    cache.insert(answer, now);
                }
            }
        }
        plain.write_truncated(&mut out);
        assert!(out.len() <= query.len(), "amplified");
        if script.byte() == 0 {
            cache.flush(b"\x07example\x03com\0");
        }
    }
}

fn remember(kept: &mut HashMap<Vec<u8>, (Message, Instant)>, key: &Key, message: Message, now: Instant) {
    kept.insert(key.to_bytes(), (message, now));
}

/// A question, with some bytes of something else.
fn question(script: &mut Script<'_>) -> Vec<u8> {
    let which = script.byte();
    let Some(question) = QUESTIONS.get(usize::from(which & 3)) else { return script.piece().to_vec() };
    let mut question = question.to_vec();
    for _ in 0..which >> 6 {
        let (at, to) = (usize::from(script.byte()) % question.len(), script.byte());
        question[at] = to;
    }
    question
}

fn answer(query: &Message, script: &mut Script<'_>) -> Message {
    let mut message = Message::response(query.metadata.id, OpCode::Query);
    message.metadata.response_code =
        if script.byte() & 7 == 7 { ResponseCode::ServFail } else { ResponseCode::NoError };
    message.metadata.authentic_data = script.byte() & 1 == 1;
    message.queries.clone_from(&query.queries);
    let mut name = query.queries.first().map(|question| question.name().clone()).unwrap_or_default();
    for _ in 0..script.byte() & 0x1f {
        let ttl = u32::from(script.word());
        let data = match script.byte() & 3 {
            0 => RData::A(A::new(192, 0, 2, script.byte())),
            1 => RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, script.word())),
            2 => RData::TXT(TXT::new(vec![String::from_utf8_lossy(script.piece()).chars().take(60).collect()])),
            _ => {
                name = Name::from_ascii("other.example.").expect("a name");
                continue;
            }
        };
        let record = Record::from_rdata(name.clone(), ttl, data);
        match script.byte() & 7 {
            0 => message.authorities.push(record),
            1 => message.additionals.push(record),
            _ => message.answers.push(record),
        }
    }
    message
}

fn check(query: &Message, out: &[u8], whole: &Message, age: Duration, transport: Transport) {
    let response = Message::from_vec(out).expect("what can be read");
    let metadata = &response.metadata;
    assert_eq!((metadata.id, metadata.message_type), (query.metadata.id, MessageType::Response));
    assert_eq!(metadata.response_code, whole.metadata.response_code);
    assert_eq!(metadata.checking_disabled, query.metadata.checking_disabled);
    assert_eq!(response.edns.is_some(), query.edns.is_some());
    let [asked, said] = [&query.queries, &response.queries];
    assert!(asked.len() == 1 && asked == said && asked[0].name().eq_case(said[0].name()), "the client's own spelling");
    let dnssec_ok = query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
    let wanted = dnssec_ok || query.metadata.authentic_data;
    assert_eq!(metadata.authentic_data, whole.metadata.authentic_data && wanted);
    let most = query.edns.as_ref().map_or(512, |edns| edns.max_payload().clamp(512, MAX_UDP_PAYLOAD));
    assert!(transport == Transport::Tcp || out.len() <= most.into(), "{} bytes for {most}", out.len());
    let age = u32::try_from(age.as_secs()).expect("a short while");
    let sections = [
        (&response.answers, &whole.answers),
        (&response.authorities, &whole.authorities),
        (&response.additionals, &whole.additionals),
    ];
    for (index, (said, kept)) in sections.into_iter().enumerate() {
        let may_lack = metadata.truncation || (index == 2 && transport == Transport::Udp);
        assert!(said.len() == kept.len() || (said.is_empty() && may_lack), "{index}: {said:?} of {kept:?}");
        for (said, kept) in said.iter().zip(kept) {
            assert_eq!((&said.name, &said.data), (&kept.name, &kept.data));
            assert!(said.ttl <= kept.ttl.saturating_sub(age) + 1, "{} of {} after {age} s", said.ttl, kept.ttl);
        }
    }
}

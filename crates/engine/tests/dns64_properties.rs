//! Whatever a client or an upstream sends: nothing panics, everything ends, responses fit and can be read.
use std::str::FromStr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use proptest::collection::vec;
use proptest::prelude::*;
use sixgate_engine::dns64::{Event, Outcome, Transaction, Transport, View};
use sixgate_engine::plan::Dns64Plan;
use sixgate_engine::time::Instant;

/// What the network does to an outstanding question.
#[derive(Clone, Debug)]
enum Fate {
    /// An answer with our identifier and question, and this after the question; the three counts come first.
    Answer(u16, [u8; 3], Vec<u8>),
    /// Bytes.
    Garbage(Vec<u8>),
    Unreachable,
    Silence,
}

fn fate() -> impl Strategy<Value = Fate> {
    // Answer sections that are nearly right: owner by pointer, a type, class IN, a TTL, a length, and data.
    let record = (any::<bool>(), prop_oneof![Just(1u16), Just(28), Just(5), Just(6), Just(41), Just(46), any::<u16>()]);
    let record = (record, any::<u32>(), vec(any::<u8>(), 0..24), any::<bool>());
    let records = vec(record, 0..4).prop_map(|records| {
        let mut bytes = Vec::new();
        for ((pointer, kind), ttl, data, honest) in records {
            bytes.extend(if pointer { vec![0xc0, 12] } else { vec![0] });
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1]);
            bytes.extend(ttl.to_be_bytes());
            let data = match (kind, honest) {
                (1, true) => vec![8, 8, 8, 8],
                (28, true) => vec![0x20; 16],
                (5, true) => vec![0xc0, 12],
                (_, _) => data,
            };
            bytes.extend((data.len() as u16).to_be_bytes());
            bytes.extend(data);
        }
        bytes
    });
    prop_oneof![
        4 => (any::<u16>(), [0u8..4, 0u8..2, 0u8..2], records).prop_map(|(flags, counts, rest)| Fate::Answer(flags, counts, rest)),
        1 => (any::<u16>(), [0u8..4, 0u8..2, 0u8..2], vec(any::<u8>(), 0..600)).prop_map(|(flags, counts, rest)| Fate::Answer(flags, counts, rest)),
        1 => vec(any::<u8>(), 0..80).prop_map(Fate::Garbage),
        1 => Just(Fate::Unreachable),
        1 => Just(Fate::Silence),
    ]
}

fn plan() -> Arc<Dns64Plan> {
    Arc::new(Dns64Plan {
        listen: Vec::new(),
        upstream: vec!["192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap()],
        synthesis: Some("2001:db8:64::/96".parse().unwrap()),
        translate_non_global: Vec::new(),
        pref64: Some("2001:db8:64::/96".parse().unwrap()),
        ..Dns64Plan::default()
    })
}

/// Lets the fates happen in turn, then silence, and returns how it ended.
fn run(query: &[u8], transport: Transport, fates: &[Fate]) -> Outcome {
    let mut now = Instant::ZERO;
    let mut transaction = Transaction::new(query, transport, plan(), View::Translated, 1, now);
    let mut fates = fates.iter();
    let mut question = Vec::new();
    for _ in 0..100 {
        while let Some(event) = transaction.poll_event() {
            if let Event::Finished(outcome) = event {
                assert_eq!(transaction.poll_event(), None);
                assert_eq!(transaction.poll_timeout(), None);
                assert_eq!(transaction.poll_transmit(), None);
                return outcome;
            }
        }
        if let Some(transmit) = transaction.poll_transmit() {
            question = transmit.message;
        }
        match fates.next().unwrap_or(&Fate::Silence) {
            Fate::Answer(flags, counts, rest) => {
                transaction.handle_input(&answer(&question, *flags, *counts, rest), now);
            }
            Fate::Garbage(bytes) => transaction.handle_input(bytes, now),
            Fate::Unreachable => transaction.handle_failure(now),
            Fate::Silence => {
                now = transaction.poll_timeout().unwrap();
                transaction.handle_timeout(now);
            }
        }
    }
    panic!("the query never ends");
}

fn answer(question: &[u8], flags: u16, [answers, authorities, additionals]: [u8; 3], rest: &[u8]) -> Vec<u8> {
    // Our questions end with eleven bytes of OPT record.
    let mut bytes = question[..question.len() - 11].to_vec();
    bytes[2..4].copy_from_slice(&(flags & 0x87ff | 0x8000).to_be_bytes());
    bytes[6..12].copy_from_slice(&[0, answers, 0, authorities, 0, additionals]);
    bytes.extend(rest);
    bytes
}

fn query(kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(Name::from_str("www.example.com.").unwrap(), kind));
    message.edns = edns.map(|payload| {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        edns
    });
    message.to_vec().unwrap()
}

fn check(outcome: &Outcome, limit: usize) {
    if let Some(response) = outcome.clone().cut() {
        let bytes = response.to_vec().unwrap();
        assert!(bytes.len() <= limit, "{} bytes", bytes.len());
        let read = Message::from_vec(&bytes).unwrap();
        assert_eq!(read.metadata.message_type, MessageType::Response);
    }
}

proptest! {
    #[test]
    fn a_client_may_send_anything(bytes in vec(any::<u8>(), 0..120), fates in vec(fate(), 0..4)) {
        check(&run(&bytes, Transport::Udp, &fates), 1232);
    }

    #[test]
    fn a_client_may_send_nearly_a_query(
        at in 0usize..40,
        to: u8,
        cut in 0usize..60,
        fates in vec(fate(), 0..4),
    ) {
        let mut bytes = query(RecordType::AAAA, Some(4096));
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        bytes.truncate(bytes.len().min(60 - cut));
        check(&run(&bytes, Transport::Udp, &fates), 1232);
    }

    #[test]
    fn an_upstream_may_answer_anything(fates in vec(fate(), 0..8), plain: bool, aaaa: bool) {
        let kind = if aaaa { RecordType::AAAA } else { RecordType::TXT };
        let outcome = run(&query(kind, (!plain).then_some(1400)), Transport::Udp, &fates);
        prop_assert!(outcome.response.is_some(), "a proper query is never dropped");
        check(&outcome, if plain { 512 } else { 1232 });
        let outcome = run(&query(kind, None), Transport::Tcp, &fates);
        check(&outcome, 65_535);
    }
}

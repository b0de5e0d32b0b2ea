//! A client's question and what upstreams make of it, all of it any bytes: it ends, and the response fits and can be read.
use std::sync::{Arc, LazyLock};

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::DNSClass;
use sixgate_engine::config;
use sixgate_engine::dns64::{Event, Flaw, Transaction, Transport, Verdict, View, chain};
use sixgate_engine::plan::{Dns64Plan, plan as planned, preview_facts};
use sixgate_engine::time::Instant;

use crate::script::Script;

const CONFIG: &str = "[wan]\ninterface = \"eth0\"\nipv4 = { address = \"198.51.100.1/24\" }\n[nat64]\n\
                      [dns64]\nupstream = [\"192.0.2.1\", \"192.0.2.2\"]\n";
/// A question of www.example.com for its AAAA records, with EDNS.
const QUESTION: &[u8] =
    b"\0\x07\x01\0\0\x01\0\0\0\0\0\x01\x03www\x07example\x03com\0\0\x1c\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";

pub(crate) fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut query = QUESTION.to_vec();
    match script.byte() & 3 {
        // Anything, or a question with a byte or two of something else.
        0 => query = script.piece().to_vec(),
        changes => {
            for _ in 1..changes {
                let (at, to) = (usize::from(script.byte()) % query.len(), script.byte());
                query[at] = to;
            }
        }
    }
    let transport = if script.byte() & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    let mut now = Instant::ZERO;
    let mut transaction = Transaction::new(&query, transport, Arc::clone(&PLAN), View::Translated, 1, now);
    let mut question = Vec::new();
    for _ in 0..1000 {
        while let Some(event) = transaction.poll_event() {
            let Event::Finished(outcome) = event else { continue };
            if let Some(response) = &outcome.response {
                let bytes = response.to_vec().expect("a response");
                assert!(bytes.len() <= if matches!(transport, Transport::Udp) { 4096 } else { 65_535 });
                let read = Message::from_vec(&bytes).expect("what can be read");
                assert_eq!(read.metadata.message_type, MessageType::Response);
            }
            return;
        }
        if let Some(transmit) = transaction.poll_transmit() {
            question = transmit.message;
        }
        if let Some(message) = transaction.poll_validation() {
            if let Some(links) = chain(&message) {
                assert!(links.iter().all(|link| link.question.query_class == DNSClass::IN));
            }
            let verdict = match if script.is_over() { 0 } else { script.byte() & 3 } {
                0 => Verdict::Secure(Box::new(message)),
                1 => Verdict::Insecure(Box::new(message)),
                2 => Verdict::Bogus(Flaw::Signature),
                _ => Verdict::Unknown,
            };
            transaction.handle_verdict(verdict, now);
            continue;
        }
        match if script.is_over() { 3 } else { script.byte() & 3 } {
            0 => transaction.handle_input(script.piece(), now),
            1 => transaction.handle_input(&answer(&question, &mut script), now),
            2 => transaction.handle_failure(now),
            _ => {
                now = transaction.poll_timeout().expect("a time-out");
                transaction.handle_timeout(now);
            }
        }
    }
    panic!("the question never ends");
}

/// Our own question back, with other flags and counts and anything behind it.
fn answer(question: &[u8], script: &mut Script<'_>) -> Vec<u8> {
    // Our questions end with eleven bytes of OPT record.
    let mut bytes = question[..question.len().saturating_sub(11)].to_vec();
    if bytes.len() >= 12 {
        let flags = script.word() & 0x87ff | 0x8000;
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        let counts = script.byte();
        bytes[6..12].copy_from_slice(&[0, counts & 7, 0, counts >> 3 & 3, 0, counts >> 5 & 1]);
    }
    bytes.extend(script.piece());
    bytes
}

static PLAN: LazyLock<Arc<Dns64Plan>> = LazyLock::new(plan);

fn plan() -> Arc<Dns64Plan> {
    let config = config::parse(CONFIG, "harness").unwrap_or_else(|errors| panic!("{errors}"));
    Arc::new(planned(&config, &preview_facts(&config)).dns64)
}

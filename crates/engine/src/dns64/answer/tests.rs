//! What is copied, and what is written over it.
use core::time::Duration;

use hickory_proto::op::{OpCode, Query};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_proto::rr::{Name, Record, RecordType};

use super::super::request::Transport;
use super::super::view::View;
use super::*;

const START: Instant = Instant::from_nanos(1_000_000_000_000);

fn query(name: &str, flags: u8, opt: Option<(u16, u8)>) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd, 1, flags, 0, 1, 0, 0, 0, 0, 0, u8::from(opt.is_some())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 28, 0, 1]);
    if let Some((size, flags)) = opt {
        let [high, low] = size.to_be_bytes();
        bytes.extend([0, 0, 41, high, low, 0, 0, flags, 0, 0, 0]);
    }
    bytes
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn response(code: ResponseCode, answers: Vec<Record>, authorities: Vec<Record>) -> Message {
    let mut message = Message::response(7, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.queries.push(Query::query(name("www.Example.com."), RecordType::AAAA));
    message.answers = answers;
    message.authorities = authorities;
    message
}

fn aaaa(owner: &str, ttl: u32) -> Record {
    Record::from_rdata(name(owner), ttl, RData::AAAA(AAAA("2001:db8::1".parse().unwrap())))
}

fn soa(ttl: u32, minimum: u32) -> Record {
    let data = SOA::new(name("ns.example.com."), name("mail.example.com."), 1, 2, 3, 4, minimum);
    Record::from_rdata(name("example.com."), ttl, RData::SOA(data))
}

fn build(message: Message, reason: Reason) -> Answer {
    let query = query("www.example.com", 0, None);
    let key = Plain::parse(&query, Transport::Udp).unwrap().key(View::Translated);
    Answer::build(&key, message, reason, 3600, START).unwrap()
}

fn write(answer: &Answer, query: &[u8], now: Instant) -> Message {
    let mut out = vec![1, 2, 3];
    answer.write(&Plain::parse(query, Transport::Udp).unwrap(), now, &mut out);
    Message::from_vec(&out).unwrap()
}

fn after(seconds: u64) -> Instant {
    START + Duration::from_secs(seconds)
}

#[test]
fn identifier_spelling_flags_and_ttls_are_the_clients() {
    let alias = Record::from_rdata(name("WWW.example.com."), 90, RData::CNAME(CNAME(name("edge.example.net."))));
    let mut message = response(ResponseCode::NoError, vec![alias, aaaa("edge.example.net.", 60)], vec![]);
    message.metadata.authentic_data = true;
    message.additionals.push(Record::from_rdata(name("ns.example.com."), 30, RData::A(A::new(192, 0, 2, 1))));
    let answer = build(message, Reason::Forwarded);

    let plain = write(&answer, &query("wWw.eXample.COM", 0x10, None), after(40));
    assert_eq!(plain.metadata.id, 0xabcd);
    assert!(plain.queries[0].name().eq_case(&name("wWw.eXample.COM.")));
    assert!(plain.answers[0].name.eq_case(&name("wWw.eXample.COM.")), "the owner points to the question");
    assert!(plain.metadata.checking_disabled && !plain.metadata.authentic_data && plain.edns.is_none());
    let ttls = |message: &Message| message.all_sections().map(|record| record.ttl).collect::<Vec<_>>();
    assert_eq!(ttls(&plain), [50, 20, 0]);
    assert_eq!(plain.answers[1].data, aaaa("edge.example.net.", 0).data);

    let secure = write(&answer, &query("www.example.com", 0x20, Some((1232, 0))), START);
    assert!(secure.metadata.authentic_data && !secure.metadata.checking_disabled);
    assert_eq!(ttls(&secure), [90, 60, 30]);
    assert_eq!(secure.edns.unwrap().max_payload(), 1232);
    assert!(answer.is_fresh(after(59)) && !answer.is_fresh(after(60)));
}

#[test]
fn the_smaller_of_soa_ttl_and_minimum_is_how_long_nothing_is_remembered() {
    for (code, answers, authorities, expected) in [
        (ResponseCode::NXDomain, vec![], vec![soa(300, 60)], 60),
        (ResponseCode::NoError, vec![], vec![soa(40, 60)], 40),
        (ResponseCode::NXDomain, vec![], vec![soa(u32::MAX, 60)], 0),
        (ResponseCode::NoError, vec![], vec![soa(900_000, 900_000)], 3 * 3600),
        (ResponseCode::NXDomain, vec![], vec![], 0),
        (ResponseCode::NoError, vec![aaaa("www.example.com.", 900_000)], vec![], 86_400),
        (ResponseCode::NoError, vec![aaaa("www.example.com.", 9), aaaa("www.example.com.", 8)], vec![], 8),
        (ResponseCode::ServFail, vec![], vec![], 5),
        (ResponseCode::Refused, vec![], vec![soa(60, 60)], 5),
    ] {
        let answer = build(response(code, answers, authorities), Reason::Forwarded);
        assert_eq!(answer.lifetime, expected, "{code}");
    }
}

#[test]
fn what_does_not_fit_is_left_out_or_tc_is_set() {
    let long = (0..60).map(|_| aaaa("www.example.com.", 60)).collect();
    let mut message = response(ResponseCode::NoError, long, vec![]);
    message.additionals.push(soa(60, 60));
    let answer = build(message, Reason::Synthesized);
    let cut = write(&answer, &query("www.example.com", 0, Some((512, 0x80))), START);
    assert!(cut.metadata.truncation && cut.answers.is_empty() && cut.edns.is_some());

    let few = (0..14).map(|_| aaaa("www.example.com.", 60)).collect();
    let mut message = response(ResponseCode::NoError, few, vec![]);
    message.additionals.extend((0..3).map(|_| soa(60, 60)));
    let answer = build(message, Reason::Synthesized);
    let cut = write(&answer, &query("www.example.com", 0, Some((512, 0))), START);
    assert!(!cut.metadata.truncation && cut.answers.len() == 14 && cut.additionals.is_empty(), "{cut:?}");
    let whole = write(&answer, &query("www.example.com", 0, Some((1232, 0))), START);
    assert_eq!((whole.answers.len(), whole.additionals.len()), (14, 3));
    assert!(whole.edns.is_some());
}

#[test]
fn a_stale_answer_says_so_and_is_of_use_for_its_time_only() {
    let answer = build(response(ResponseCode::NoError, vec![aaaa("www.example.com.", 60)], vec![]), Reason::Forwarded);
    assert!(answer.is_alive(after(60 + 3599)) && !answer.is_alive(after(60 + 3600)));
    let stale = answer.stale(after(100)).unwrap();
    assert!(stale.is_fresh(after(129)) && !stale.is_fresh(after(130)));
    let mut out = Vec::new();
    let bytes = query("www.example.com", 0, Some((1232, 0)));
    stale.write(&Plain::parse(&bytes, Transport::Udp).unwrap(), after(120), &mut out);
    assert!(out.ends_with(&[0, 15, 0, 2, 0, 3]), "{out:02x?}");
    assert_eq!(Message::from_vec(&out).unwrap().answers[0].ttl, 30);
    assert!(stale.stale(after(60 + 3600)).is_none());
    let failure = build(response(ResponseCode::ServFail, vec![], vec![]), Reason::Unanswered);
    assert!(failure.is_failure() && failure.stale(after(6)).is_none(), "a failure is not worth being repeated");
}

#[test]
fn a_synthesized_answer_says_so_to_who_understands_it() {
    let answer =
        build(response(ResponseCode::NoError, vec![aaaa("www.example.com.", 60)], vec![]), Reason::Synthesized);
    let mut out = Vec::new();
    let bytes = query("www.example.com", 0, Some((1232, 0)));
    answer.write(&Plain::parse(&bytes, Transport::Udp).unwrap(), START, &mut out);
    assert!(out.ends_with(&[0, 15, 0, 2, 0, 29]), "{out:02x?}");
    Message::from_vec(&out).unwrap();
}

//! What is kept, for how long, and what makes room for it.
use core::time::Duration;
use std::str::FromStr;

use hickory_proto::op::{Message, OpCode, Query};
use hickory_proto::rr::rdata::AAAA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;

use super::super::request::Transport;
use super::super::view::View;
use super::super::{Lookup, Reason};
use super::*;

const START: Instant = Instant::from_nanos(1_000_000_000_000);

fn after(seconds: u64) -> Instant {
    START + Duration::from_secs(seconds)
}

fn query(host: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(Name::from_str(host).unwrap(), RecordType::AAAA));
    message.to_vec().unwrap()
}

fn key(query: &[u8], view: View) -> Key {
    Plain::parse(query, Transport::Udp).unwrap().key(view)
}

fn answer(host: &str, ttl: u32, view: View, now: Instant) -> Answer {
    let key = key(&query(host), view);
    let mut message = Message::response(7, OpCode::Query);
    let name = Name::from_str(host).unwrap();
    message.queries.push(Query::query(name.clone(), RecordType::AAAA));
    message.answers.push(Record::from_rdata(name, ttl, RData::AAAA(AAAA("2001:db8::1".parse().unwrap()))));
    Answer::build(&key, message, Reason::Forwarded, 3600, now).unwrap()
}

fn insert(cache: &mut Cache, host: &str, ttl: u32, now: Instant) {
    let answer = answer(host, ttl, View::Translated, now);
    cache.insert(answer, now);
}

fn ask(cache: &mut Cache, host: &str, now: Instant) -> Lookup {
    let query = query(host);
    let plain = Plain::parse(&query, Transport::Udp).unwrap();
    cache.answer(&plain.key(View::Translated), &plain, now, &mut Vec::new())
}

fn hits(cache: &mut Cache, host: &str, now: Instant) -> bool {
    ask(cache, host, now) != Lookup::Miss
}

#[test]
fn an_answer_is_found_by_any_spelling_until_its_time_has_passed() {
    let mut cache = Cache::new(1 << 20, (1, 2));
    insert(&mut cache, "www.example.com.", 60, START);
    assert!(hits(&mut cache, "WWW.example.COM.", after(59)));
    assert!(!hits(&mut cache, "www.example.com.", after(60)));
    let key = key(&query("www.example.com."), View::Translated);
    assert!(cache.peek(&key, after(60)).is_some(), "stale, and still of use");
    assert!(cache.peek(&key, after(60 + 3600)).is_none());
    insert(&mut cache, "www.example.com.", 60, after(61));
    assert!(hits(&mut cache, "www.example.com.", after(62)));
    assert_eq!(cache.holding().answers, 1);
}

#[test]
fn a_client_of_another_view_does_not_get_it() {
    let mut cache = Cache::new(1 << 20, (1, 2));
    let answer = answer("www.example.com.", 60, View::Untranslated, START);
    cache.insert(answer, START);
    assert!(!hits(&mut cache, "www.example.com.", START));
}

#[test]
fn a_popular_name_is_worth_asking_again_once_before_it_expires() {
    let mut cache = Cache::new(1 << 20, (1, 2));
    insert(&mut cache, "www.example.com.", 100, START);
    insert(&mut cache, "once.example.com.", 100, START);
    let refresh = |lookup| matches!(lookup, Lookup::Hit { refresh: true, .. });
    assert!(!refresh(ask(&mut cache, "www.example.com.", after(10))));
    assert!(!refresh(ask(&mut cache, "www.example.com.", after(89))));
    assert!(refresh(ask(&mut cache, "www.example.com.", after(90))));
    assert!(!refresh(ask(&mut cache, "www.example.com.", after(91))));
    assert!(!refresh(ask(&mut cache, "once.example.com.", after(91))));
}

#[test]
fn names_asked_for_once_do_not_displace_those_asked_for_often() {
    let mut cache = Cache::new(64 << 10, (1, 2));
    let popular: Vec<String> = (0..50).map(|host| format!("popular{host}.example.com.")).collect();
    for host in &popular {
        insert(&mut cache, host, 3600, START);
        assert!(hits(&mut cache, host, START));
    }
    for host in 0..20_000 {
        insert(&mut cache, &format!("random{host}.example.org."), 3600, START);
        assert!(cache.holding().bytes <= 64 << 10);
        if host % 500 == 0 {
            for host in &popular {
                assert!(hits(&mut cache, host, START), "{host}");
            }
        }
    }
}

#[test]
fn what_left_unasked_and_returns_is_kept_longer() {
    let mut cache = Cache::new(64 << 10, (1, 2));
    insert(&mut cache, "www.example.com.", 3600, START);
    for host in 0..500 {
        insert(&mut cache, &format!("random{host}.example.org."), 3600, START);
    }
    assert!(!hits(&mut cache, "www.example.com.", START));
    insert(&mut cache, "www.example.com.", 3600, START);
    for host in 500..560 {
        insert(&mut cache, &format!("random{host}.example.org."), 3600, START);
    }
    assert!(hits(&mut cache, "www.example.com.", START));
}

#[test]
fn a_name_is_flushed_with_what_is_below_it_and_nothing_else() {
    let mut cache = Cache::new(1 << 20, (1, 2));
    for host in ["example.com.", "www.example.com.", "www.notexample.com.", "example.com.invalid."] {
        insert(&mut cache, host, 60, START);
    }
    assert_eq!(cache.flush(b"\x07example\x03com\0"), 2);
    assert!(!hits(&mut cache, "www.example.com.", START) && !hits(&mut cache, "example.com.", START));
    assert!(hits(&mut cache, "www.notexample.com.", START) && hits(&mut cache, "example.com.invalid.", START));
    assert_eq!(cache.flush(b"\0"), 2);
    assert_eq!(cache.holding(), Holding::default());
    insert(&mut cache, "example.com.", 60, START);
    cache.clear();
    assert_eq!(cache.holding(), Holding::default());
    assert!(!hits(&mut cache, "example.com.", START));
}

/// The cache against a map that forgets nothing: what it says is what was put in last.
#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u8),
    Ask(u8),
    Flush(u8),
    Wait(u8),
}

proptest! {
    #[test]
    fn whatever_happens_a_hit_is_what_was_put_in_last(steps in proptest::collection::vec(prop_oneof![
        4 => (any::<u8>(), 1u8..60).prop_map(|(host, ttl)| Step::Insert(host % 64, ttl)),
        4 => any::<u8>().prop_map(|host| Step::Ask(host % 64)),
        1 => any::<u8>().prop_map(|host| Step::Flush(host % 64)),
        1 => (0u8..20).prop_map(Step::Wait),
    ], 0..300)) {
        let capacity = 8 << 10;
        let mut cache = Cache::new(capacity, (3, 4));
        let mut model = std::collections::BTreeMap::new();
        let mut now = 0;
        let name = |host: u8| format!("h{host}.example.");
        for step in steps {
            match step {
                Step::Insert(host, ttl) => {
                    insert(&mut cache, &name(host), ttl.into(), after(now));
                    model.insert(host, now + u64::from(ttl));
                }
                Step::Ask(host) => if hits(&mut cache, &name(host), after(now)) {
                    prop_assert!(model.get(&host).is_some_and(|until| now < *until));
                },
                Step::Flush(host) => {
                    let text = format!("h{host}");
                    let wire = [&[u8::try_from(text.len()).unwrap()], text.as_bytes(), b"\x07example\0"].concat();
                    cache.flush(&wire);
                    model.remove(&host);
                    prop_assert!(!hits(&mut cache, &name(host), after(now)));
                }
                Step::Wait(seconds) => now += u64::from(seconds),
            }
            let holding = cache.holding();
            prop_assert!(holding.bytes <= capacity);
            prop_assert_eq!(holding.answers, cache.table.len());
            prop_assert_eq!(holding.bytes, cache.slots.iter().map(|(_, slot)| cost(&slot.answer)).sum::<usize>());
        }
    }
}

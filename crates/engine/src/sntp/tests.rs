//! The client against servers made of a few bytes.
use core::net::Ipv4Addr;

use super::*;

const MILLI: i64 = 1_000_000;
/// 2026-01-01 on the clock that is judged.
const WALL: i64 = 1_767_225_600_000_000_000;

fn at(millis: u64) -> Instant {
    Instant::from_nanos(1_000_000_000 + millis * 1_000_000)
}

fn server(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))
}

fn stamp(nanos: i64) -> [u8; 8] {
    let seconds = (nanos / 1_000_000_000 + 2_208_988_800) as u64;
    let fraction = (((nanos % 1_000_000_000) as u64) << 32) / 1_000_000_000;
    (seconds << 32 | fraction).to_be_bytes()
}

/// What a server says whose clock shows `time` when the question comes and when the answer goes.
fn answer(question: &[u8; LENGTH], time: i64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[0] = 0x24;
    bytes[1] = 2;
    bytes[24..32].copy_from_slice(&question[40..]);
    bytes[32..40].copy_from_slice(&stamp(time));
    bytes[40..].copy_from_slice(&stamp(time));
    bytes
}

fn client(servers: &[IpAddr]) -> (Client, Vec<(IpAddr, [u8; LENGTH])>) {
    let mut client = Client::new(7);
    client.reconfigure(servers, at(0));
    client.handle_timeout(at(0), WALL);
    let questions = std::iter::from_fn(|| client.poll_transmit()).collect();
    (client, questions)
}

fn near(found: i64, expected: i64) -> bool {
    (found - expected).abs() < MILLI
}

#[test]
fn the_offset_is_what_lies_between_the_clocks_whatever_the_way_takes() {
    let (mut client, questions) = client(&[server(1)]);
    // 20 ms there, 20 ms back, the server an hour ahead.
    client.handle_input(server(1), &answer(&questions[0].1, WALL + 3600 * 1000 * MILLI + 20 * MILLI), at(40));
    let correction = client.poll_event().unwrap();
    assert!(near(correction.offset, 3600 * 1000 * MILLI), "{correction:?}");
    assert_eq!((correction.server, correction.stratum, correction.agreeing), (server(1), 2, 1));
    assert_eq!(client.poll_timeout(), Some(at(40) + SHORTEST_POLL));
}

#[test]
fn one_liar_among_three_is_outvoted() {
    let (mut client, questions) = client(&[server(1), server(2), server(3)]);
    for (index, offset) in [(0_u8, -86_400_000), (1, 50), (2, 53)] {
        let (from, question) = &questions[usize::from(index)];
        client.handle_input(*from, &answer(question, WALL + offset * MILLI + 5 * MILLI), at(10));
    }
    let correction = client.poll_event().unwrap();
    assert!(near(correction.offset, 50 * MILLI) || near(correction.offset, 53 * MILLI), "{correction:?}");
    assert_eq!(correction.agreeing, 2);
}

#[test]
fn what_does_not_answer_the_question_counts_for_nothing() {
    let (mut client, questions) = client(&[server(1)]);
    let good = answer(&questions[0].1, WALL);
    let changed = |at: usize, byte: u8| {
        let mut bad = good;
        bad[at] = byte;
        bad
    };
    let (kiss, far, adrift) = (changed(1, 0), changed(1, 16), changed(0, 0xe4));
    let (lost, wrong) = (changed(9, 2), changed(31, good[31] ^ 1));
    for bad in [kiss, far, adrift, lost, wrong] {
        client.handle_input(server(1), &bad, at(5));
    }
    client.handle_input(server(2), &good, at(5));
    client.handle_input(server(1), &good[..20], at(5));
    assert_eq!(client.poll_event(), None);
    client.handle_input(server(1), &good, at(6));
    assert!(client.poll_event().is_some());
}

#[test]
fn servers_that_are_silent_are_asked_less_and_less_often() {
    let (mut client, _) = client(&[server(1)]);
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        now = now + PATIENCE;
        client.handle_timeout(now, WALL);
        let next = client.poll_timeout().unwrap();
        pauses.push(next.saturating_since(now).as_secs());
        now = next;
        client.handle_timeout(now, WALL);
        assert!(client.poll_transmit().is_some());
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 64, 64]);
    assert_eq!(client.silent_rounds(), 8);
    client.ask_again(now);
    assert_eq!(client.poll_timeout(), Some(now));
}

#[test]
fn a_clock_that_is_right_is_looked_at_every_seventeen_minutes() {
    let (mut client, mut questions) = client(&[server(1)]);
    let mut now = at(0);
    for _ in 0..6 {
        let elapsed = i64::try_from(now.saturating_since(at(0)).as_nanos()).unwrap();
        client.handle_input(server(1), &answer(&questions[0].1, WALL + elapsed), now);
        assert!(client.poll_event().is_some());
        now = client.poll_timeout().unwrap();
        client.handle_timeout(now, WALL + i64::try_from(now.saturating_since(at(0)).as_nanos()).unwrap());
        questions = std::iter::from_fn(|| client.poll_transmit()).collect();
    }
    assert_eq!(client.poll, LONGEST_POLL);
}

#[test]
fn a_clock_that_is_set_while_an_answer_is_under_way_does_not_disturb_it() {
    let (mut client, questions) = client(&[server(1)]);
    // The way back is measured by the other clock, so that whatever happened to this one changes nothing.
    client.handle_input(server(1), &answer(&questions[0].1, WALL + 1000 * MILLI + 10 * MILLI), at(20));
    assert!(near(client.poll_event().unwrap().offset, 1000 * MILLI));
}

#[test]
fn without_a_server_nothing_is_due() {
    let (client, questions) = client(&[]);
    assert!(questions.is_empty() && client.poll_timeout().is_none());
}

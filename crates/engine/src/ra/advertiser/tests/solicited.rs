//! Answers to those who solicit: alone (RFC 7772), or where nothing is multicast.
use super::*;

#[test]
fn who_solicits_is_answered_alone_and_moves_no_interval() {
    let (mut advertiser, last) = settled();
    let before = advertiser.poll_timeout().unwrap();
    let now = last + Duration::from_millis(10);
    assert_eq!(advertiser.handle_input(&SOLICITATION, HOST, 255, now), Verdict::Solicited);
    let due = advertiser.poll_timeout().unwrap();
    assert!(due.saturating_since(now) <= MAX_RA_DELAY_TIME, "no multicast, so MIN_DELAY_BETWEEN_RAS does not count");
    assert_eq!(advertiser.handle_input(&SOLICITATION, HOST, 255, now), Verdict::Solicited, "one answer is under way");
    advertiser.handle_timeout(due);
    let transmit = advertiser.poll_transmit().unwrap();
    assert_eq!((transmit.destination, transmit.message), (HOST, ADVERTISEMENT.to_vec()));
    assert_eq!(advertiser.poll_transmit(), None);
    assert_eq!(advertiser.poll_timeout(), Some(before));
    assert_eq!((advertiser.status().unicast, advertiser.status().sent), (1, 4));
}

#[test]
fn one_host_is_answered_three_times_at_once_and_then_every_three_seconds_while_others_are_answered() {
    let (mut advertiser, last) = settled();
    let mut now = last + Duration::from_secs(20);
    let mut answers = 0;
    for _ in 0..40 {
        advertiser.handle_input(&SOLICITATION, HOST, 255, now);
        now = now + MAX_RA_DELAY_TIME;
        advertiser.handle_timeout(now);
        answers += destinations(&mut advertiser).len();
    }
    assert!((8..=10).contains(&answers), "20 s make 3 + 6 or so: {answers}");
    let dropped = advertiser.status().dropped["ra-solicited-too-often"];
    assert_eq!(dropped, 40 - answers as u64);
    assert_eq!(advertiser.handle_input(&SOLICITATION, host(7), 255, now), Verdict::Solicited);
}

#[test]
fn a_flood_of_invented_hosts_is_answered_by_one_multicast() {
    let (mut advertiser, last) = settled();
    let now = last + Duration::from_secs(20);
    for number in 0..2000 {
        assert_eq!(advertiser.handle_input(&SOLICITATION, host(number), 255, now), Verdict::Solicited);
    }
    let mut answered = Vec::new();
    for _ in 0..400 {
        advertiser.handle_timeout(now + MAX_RA_DELAY_TIME);
        answered.extend(destinations(&mut advertiser));
    }
    assert!(answered.len() <= 257, "{}", answered.len());
    assert_eq!(answered.iter().filter(|to| **to == ALL_NODES).count(), 1);
}

#[test]
fn unicast_answers_can_be_switched_off() {
    let mut plan = plan();
    plan.advertisement.variables.unicast_answers = false;
    let mut advertiser = Advertiser::new(&plan, 7, at(0));
    wake(&mut advertiser);
    transmit(&mut advertiser).unwrap();
    advertiser.handle_input(&SOLICITATION, HOST, 255, at(5000));
    wake(&mut advertiser);
    assert_eq!(destinations(&mut advertiser), [ALL_NODES]);
}

#[test]
fn where_nothing_is_multicast_hosts_that_have_solicited_hear_of_changes_and_of_the_end() {
    let mut plan = plan();
    plan.advertisement.variables.unicast_only = true;
    let mut advertiser = Advertiser::new(&plan, 7, at(0));
    wake(&mut advertiser);
    assert_eq!(destinations(&mut advertiser), [] as [Ipv6Addr; 0], "nobody has asked yet");
    let nobody = advertiser.handle_input(&SOLICITATION, NOBODY, 255, at(1000));
    assert_eq!(nobody, Verdict::Dropped(Reason::NobodyToAnswer));
    for number in [1, 2] {
        assert_eq!(advertiser.handle_input(&SOLICITATION, host(number), 255, at(1000)), Verdict::Solicited);
    }
    advertiser.handle_timeout(at(1500));
    assert_eq!(destinations(&mut advertiser), [host(1), host(2)]);
    plan.advertisement.rdnss.clear();
    advertiser.reconfigure(&plan, at(20_000));
    advertiser.handle_timeout(at(20_000));
    assert_eq!(destinations(&mut advertiser), [host(1), host(2)]);
    advertiser.cease(at(2_000_000));
    advertiser.handle_timeout(at(2_000_000));
    assert_eq!(destinations(&mut advertiser), [] as [Ipv6Addr; 0], "they were not heard for longer than 1,800 s");
}

//! Advertisements byte for byte, and their times.
use proptest::prelude::*;
use sixgate_wire::mac::MacAddr;
use sixgate_wire::ndp::{ParseError, Preference};

use super::*;
use crate::config::{Advertise, AdvertisedRoute, EncryptedResolver};
use crate::ra::{AdvertisementPlan, PrefixPlan};

mod solicited;
mod withdrawn;

const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x20);
const NOBODY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];

fn plan() -> RaPlan {
    let variables = Advertise {
        max_rtr_adv_interval: Duration::from_secs(600),
        min_rtr_adv_interval: Duration::from_secs(198),
        adv_default_lifetime: Duration::from_secs(1800),
        adv_valid_lifetime: Duration::from_secs(86_400),
        adv_preferred_lifetime: Duration::from_secs(14_400),
        ..Advertise::default()
    };
    let prefix = PrefixPlan {
        prefix: "2001:db8:1:2::/64".parse().unwrap(),
        on_link: false,
        autonomous: true,
        pd_preferred: false,
        valid: variables.adv_valid_lifetime,
        preferred: variables.adv_preferred_lifetime,
        ends: None,
    };
    RaPlan {
        lan: "vms".to_owned(),
        link: 3,
        interface: "eth1".to_owned(),
        source: "fe80::1".parse().unwrap(),
        carrier: true,
        advertisement: AdvertisementPlan {
            variables,
            prefixes: vec![prefix],
            rdnss: vec!["2001:db8:1:2::1".parse().unwrap()],
            dnssl: vec!["lab.test".to_owned()],
            pref64: Some(("64:ff9b:1::/96".parse().unwrap(), true)),
            mtu: Some(1500),
            source_link_layer: Some(MacAddr([0x52, 0x54, 0, 1, 2, 3])),
        },
    }
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

/// The message to all that is due now.
fn transmit(advertiser: &mut Advertiser) -> Option<Vec<u8>> {
    advertiser.poll_transmit().map(|transmit| {
        assert_eq!((transmit.source, transmit.destination), (advertiser.plan().source, ALL_NODES));
        transmit.message
    })
}

/// Sleeps until the next timeout and tells when it was.
fn wake(advertiser: &mut Advertiser) -> Instant {
    let now = advertiser.poll_timeout().unwrap();
    advertiser.handle_timeout(now);
    now
}

/// An advertiser that has sent everything of its start at short intervals, and when it sent the last of it.
fn settled() -> (Advertiser, Instant) {
    let mut advertiser = Advertiser::new(&plan(), 7, at(1000));
    let mut now = at(1000);
    for _ in 0..MAX_INITIAL_RTR_ADVERTISEMENTS {
        now = wake(&mut advertiser);
        transmit(&mut advertiser).unwrap();
    }
    (advertiser, now)
}

#[rustfmt::skip]
const ADVERTISEMENT: [u8; 128] = [
    134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0,
    // SLLA
    1, 1, 0x52, 0x54, 0, 1, 2, 3,
    // MTU
    5, 1, 0, 0, 0, 0, 0x05, 0xdc,
    // PIO: /64, A without L, valid a day, preferred four hours
    3, 4, 64, 0x40, 0x00, 0x01, 0x51, 0x80, 0x00, 0x00, 0x38, 0x40, 0, 0, 0, 0,
    0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0,
    // RDNSS, 1,800 s
    25, 3, 0, 0, 0, 0, 0x07, 0x08, 0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1,
    // PREF64, 1,800 s, /96
    38, 2, 0x07, 0x08, 0, 0x64, 0xff, 0x9b, 0, 1, 0, 0, 0, 0, 0, 0,
    // DNSSL, 1,800 s
    31, 3, 0, 0, 0, 0, 0x07, 0x08, 3, b'l', b'a', b'b', 4, b't', b'e', b's', b't', 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn a_delegated_prefix_is_told_in_real_time_within_the_limits_of_rfc_9096() {
    let mut plan = plan();
    let ends = |preferred, valid, retired| {
        Some(crate::ra::Ends { preferred: Some(at(preferred)), valid: Some(at(valid)), retired })
    };
    plan.advertisement.prefixes[0].ends = ends(2_000_000, 10_000_000, false);
    let mut advertiser = Advertiser::new(&plan, 7, at(1000));
    let lifetimes = |message: &[u8]| {
        let at = message.windows(3).position(|window| window == [3, 4, 64]).unwrap();
        let word = |from: usize| u32::from_be_bytes(message[at + from..at + from + 4].try_into().unwrap());
        (word(4), word(8))
    };
    wake(&mut advertiser);
    let first = transmit(&mut advertiser).unwrap();
    assert_eq!(lifetimes(&first), (5400, 1999));
    let now = wake(&mut advertiser);
    let second = transmit(&mut advertiser).unwrap();
    assert_eq!(
        lifetimes(&second).1,
        2000 - u32::try_from(now.saturating_since(at(0)).as_millis().div_ceil(1000)).unwrap()
    );
    let due = advertiser.poll_timeout();

    plan.advertisement.prefixes[0].ends = ends(9_000_000, 20_000_000, false);
    advertiser.reconfigure(&plan, now);
    assert_eq!(advertiser.poll_timeout(), due, "a renewal is no news");
    plan.advertisement.prefixes[0].ends = ends(9_000_000, 6_000_000, true);
    advertiser.reconfigure(&plan, now);
    assert_eq!(advertiser.poll_timeout(), Some(now + MIN_DELAY_BETWEEN_RAS), "hosts hear of it as soon as may be");
    wake(&mut advertiser);
    assert_eq!(lifetimes(&transmit(&mut advertiser).unwrap()).1, 0);
}

#[test]
fn the_advertisement_says_what_the_plan_says_byte_for_byte() {
    let mut advertiser = Advertiser::new(&plan(), 1, at(0));
    assert_eq!(transmit(&mut advertiser), None);
    advertiser.handle_timeout(at(0));
    assert_eq!(transmit(&mut advertiser).unwrap(), ADVERTISEMENT);
    assert_eq!(transmit(&mut advertiser), None);
    let status = advertiser.status();
    assert_eq!((status.sent, status.router_lifetime, status.solicitations), (1, 1800, 0));
    assert!(status.dropped.is_empty());
}

#[test]
fn a_translator_that_does_not_work_is_advertised_with_lifetime_zero() {
    let mut plan = plan();
    plan.advertisement.pref64 = plan.advertisement.pref64.map(|(prefix, _)| (prefix, false));
    let mut advertiser = Advertiser::new(&plan, 1, at(0));
    advertiser.handle_timeout(at(0));
    let mut expected = ADVERTISEMENT.to_vec();
    expected[90] = 0;
    expected[91] = 0;
    assert_eq!(transmit(&mut advertiser).unwrap(), expected);
}

#[test]
fn the_final_advertisement_withdraws_router_resolver_and_translator_but_no_prefix() {
    let (mut advertiser, now) = settled();
    advertiser.cease(now);
    assert_eq!(advertiser.poll_timeout(), Some(now), "the first is not kept waiting");
    advertiser.handle_timeout(now);
    #[rustfmt::skip]
    let expected = [
        134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        1, 1, 0x52, 0x54, 0, 1, 2, 3,
        5, 1, 0, 0, 0, 0, 0x05, 0xdc,
        25, 3, 0, 0, 0, 0, 0, 0, 0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1,
        38, 2, 0, 0, 0, 0x64, 0xff, 0x9b, 0, 1, 0, 0, 0, 0, 0, 0,
        31, 3, 0, 0, 0, 0, 0, 0, 3, b'l', b'a', b'b', 4, b't', b'e', b's', b't', 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(transmit(&mut advertiser).unwrap(), expected);
    assert_eq!(advertiser.status().router_lifetime, 0);
    assert!(!advertiser.is_finished());
    assert_eq!(wake(&mut advertiser), now + MIN_DELAY_BETWEEN_RAS);
    assert_eq!(transmit(&mut advertiser).unwrap(), expected);
    wake(&mut advertiser);
    assert_eq!(transmit(&mut advertiser).unwrap(), expected);
    assert!(advertiser.is_finished());
    assert_eq!(advertiser.poll_timeout(), None);
    let verdict = advertiser.handle_input(&SOLICITATION, HOST, 255, now);
    assert_eq!(verdict, Verdict::Dropped(Reason::Ceased));
    assert_eq!(advertiser.poll_timeout(), None);
}

#[test]
fn three_initial_advertisements_come_at_most_sixteen_seconds_apart_and_later_ones_between_the_bounds() {
    for seed in 0..50 {
        let mut advertiser = Advertiser::new(&plan(), seed, at(1000));
        let mut last = wake(&mut advertiser);
        assert_eq!(last, at(1000));
        for _ in 1..MAX_INITIAL_RTR_ADVERTISEMENTS {
            let now = wake(&mut advertiser);
            assert!(now.saturating_since(last) <= MAX_INITIAL_RTR_ADVERT_INTERVAL);
            last = now;
        }
        for _ in 0..20 {
            let now = wake(&mut advertiser);
            let interval = now.saturating_since(last);
            assert!((Duration::from_secs(198)..=Duration::from_secs(600)).contains(&interval), "{interval:?}");
            last = now;
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_times_and_another_one_others() {
    let times = |seed| {
        let mut advertiser = Advertiser::new(&plan(), seed, at(0));
        (0..8).map(|_| wake(&mut advertiser)).collect::<Vec<_>>()
    };
    assert_eq!(times(3), times(3));
    assert_ne!(times(3), times(4));
}

#[test]
fn a_solicitation_is_answered_within_half_a_second_and_once_for_all_who_ask() {
    let (mut advertiser, last) = settled();
    let now = last + Duration::from_secs(100);
    assert_eq!(advertiser.handle_input(&SOLICITATION, NOBODY, 255, now), Verdict::Solicited);
    let due = advertiser.poll_timeout().unwrap();
    assert!(due.saturating_since(now) <= MAX_RA_DELAY_TIME);
    assert_eq!(advertiser.handle_input(&SOLICITATION, Ipv6Addr::UNSPECIFIED, 255, now), Verdict::Solicited);
    assert_eq!(advertiser.poll_timeout(), Some(due), "the second does not move the answer");
    advertiser.handle_timeout(due);
    assert!(transmit(&mut advertiser).is_some());
    assert_eq!(transmit(&mut advertiser), None);
    assert!(advertiser.poll_timeout().unwrap().saturating_since(due) >= Duration::from_secs(198));
    assert_eq!(advertiser.status().solicitations, 2);
}

#[test]
fn a_solicitation_right_after_an_advertisement_waits_for_min_delay_between_ras() {
    let (mut advertiser, last) = settled();
    advertiser.handle_input(&SOLICITATION, NOBODY, 255, last + Duration::from_millis(10));
    let due = advertiser.poll_timeout().unwrap().saturating_since(last);
    assert!((MIN_DELAY_BETWEEN_RAS..=MIN_DELAY_BETWEEN_RAS + MAX_RA_DELAY_TIME).contains(&due), "{due:?}");
}

#[test]
fn an_unsolicited_advertisement_that_comes_first_is_the_answer() {
    let (mut advertiser, _) = settled();
    let due = advertiser.poll_timeout().unwrap();
    advertiser.handle_input(&SOLICITATION, HOST, 255, due - Duration::from_nanos(1));
    assert_eq!(wake(&mut advertiser), due);
    assert!(transmit(&mut advertiser).is_some());
    assert!(advertiser.poll_timeout().unwrap().saturating_since(due) >= Duration::from_secs(198));
}

#[test]
fn lifetimes_keep_to_what_the_rfcs_say_of_one_another() {
    let mut plan = plan();
    plan.advertisement.variables.adv_default_lifetime = Duration::from_secs(9000);
    plan.advertisement.prefixes[0].valid = Duration::from_secs(60);
    let mut advertiser = Advertiser::new(&plan, 1, at(0));
    advertiser.handle_timeout(at(0));
    let message = transmit(&mut advertiser).unwrap();
    assert_eq!(
        message[36..44],
        [0, 0, 0, 60, 0, 0, 0, 60],
        "preferred is not longer than valid (RFC 4861 section 6.2.1)"
    );
    assert_eq!(message[90..92], 9000u16.to_be_bytes(), "PREF64 is not shorter than the router (RFC 8781 section 4.1)");
}

#[test]
fn nothing_is_sent_before_it_is_due() {
    let (mut advertiser, last) = settled();
    advertiser.handle_timeout(last + Duration::from_secs(1));
    assert_eq!(transmit(&mut advertiser), None);
}

#[test]
fn a_changed_plan_is_advertised_promptly_but_not_within_min_delay_between_ras() {
    let (mut advertiser, last) = settled();
    let before = advertiser.poll_timeout();
    advertiser.reconfigure(&plan(), last + Duration::from_secs(1));
    assert_eq!(advertiser.poll_timeout(), before, "an equal plan changes nothing");
    let mut changed = plan();
    changed.advertisement.rdnss.clear();
    changed.advertisement.dnssl.clear();
    advertiser.reconfigure(&changed, last + Duration::from_secs(1));
    assert_eq!(wake(&mut advertiser), last + MIN_DELAY_BETWEEN_RAS);
    assert_eq!(transmit(&mut advertiser).unwrap().len(), 16 + 8 + 8 + 32 + 16 + 24 + 24, "both with lifetime 0");
    let again = advertiser.poll_timeout().unwrap().saturating_since(last + MIN_DELAY_BETWEEN_RAS);
    assert!(again <= MAX_INITIAL_RTR_ADVERT_INTERVAL, "a change is repeated like a start");
    let much_later = last + Duration::from_secs(60);
    advertiser.reconfigure(&plan(), much_later);
    assert_eq!(advertiser.poll_timeout(), Some(much_later));
}

#[test]
fn a_machine_that_goes_on_from_another_time_advertises_as_after_a_start() {
    let (mut advertiser, last) = settled();
    let later = last + Duration::from_secs(60);
    advertiser.handle_resume(later);
    assert_eq!(advertiser.poll_timeout(), Some(later));
    advertiser.cease(later);
    let end = advertiser.poll_timeout();
    advertiser.handle_resume(later);
    assert_eq!(advertiser.poll_timeout(), end, "a router that leaves does not come back by that");
}

#[test]
fn a_plan_after_ceasing_advertises_again() {
    let (mut advertiser, last) = settled();
    advertiser.cease(last);
    wake(&mut advertiser);
    transmit(&mut advertiser);
    advertiser.reconfigure(&plan(), last + Duration::from_secs(1));
    wake(&mut advertiser);
    assert_eq!(transmit(&mut advertiser).unwrap(), ADVERTISEMENT);
}

#[test]
fn each_dropped_message_is_counted_by_its_reason_and_moves_no_timer() {
    let (mut advertiser, now) = settled();
    let before = advertiser.poll_timeout();
    let advertisement = &ADVERTISEMENT;
    let own = plan().source;
    let cases: [(&[u8], Ipv6Addr, u8, Verdict); 6] = [
        (&SOLICITATION, HOST, 64, Verdict::Dropped(Reason::Invalid(ParseError::HopLimit))),
        (&SOLICITATION[..6], HOST, 255, Verdict::Dropped(Reason::Invalid(ParseError::Length))),
        (&[128, 0, 0, 0, 0, 0, 0, 0], HOST, 255, Verdict::Dropped(Reason::Invalid(ParseError::Type))),
        (&[136; 0], HOST, 255, Verdict::Dropped(Reason::Invalid(ParseError::Length))),
        (advertisement, own, 255, Verdict::Dropped(Reason::Own)),
        (advertisement, HOST, 255, Verdict::OtherRouter),
    ];
    for (message, source, hop_limit, verdict) in cases {
        assert_eq!(advertiser.handle_input(message, source, hop_limit, now), verdict);
    }
    let mut neighbor = [0; 24];
    neighbor[0] = 135;
    neighbor[8] = 0xfe;
    let verdict = advertiser.handle_input(&neighbor, HOST, 255, now);
    assert_eq!(verdict, Verdict::Dropped(Reason::NotRouterDiscovery));
    assert_eq!(advertiser.poll_timeout(), before);
    let status = advertiser.status();
    assert_eq!(status.solicitations, 0);
    let counted: Vec<(&str, u64)> = status.dropped.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    let expected = [
        ("ndp-hop-limit", 1),
        ("ndp-length", 2),
        ("ndp-type", 1),
        ("ra-not-router-discovery", 1),
        ("ra-other-router", 1),
        ("ra-own", 1),
    ];
    assert_eq!(counted, expected);
}

#[test]
fn what_one_packet_cannot_hold_goes_into_several_each_complete_in_itself() {
    let mut plan = plan();
    let prefix = plan.advertisement.prefixes[0].clone();
    plan.advertisement.prefixes = vec![prefix; 40];
    let mut advertiser = Advertiser::new(&plan, 1, at(0));
    advertiser.handle_timeout(at(0));
    let messages: Vec<Vec<u8>> = std::iter::from_fn(|| transmit(&mut advertiser)).collect();
    assert_eq!(messages.len(), 2);
    let pios = |message: &Vec<u8>| message.windows(4).filter(|window| *window == [3, 4, 64, 0x40]).count();
    assert_eq!(messages.iter().map(pios).collect::<Vec<_>>(), [37, 3]);
    for message in &messages {
        assert!(message.len() <= 1240, "RFC 6980 section 5");
        assert_eq!(message[..24], ADVERTISEMENT[..24], "header and SLLA");
    }
    let status = advertiser.status();
    assert_eq!((status.sent, status.packets), (1, 2), "one advertisement in two packets");
    assert!(!status.dropped.contains_key("ra-option-omitted"));
}

#[test]
fn an_option_that_no_packet_holds_is_left_out_and_shown() {
    let mut plan = plan();
    plan.advertisement.rdnss = vec![HOST; 100];
    let mut advertiser = Advertiser::new(&plan, 1, at(0));
    advertiser.handle_timeout(at(0));
    let lengths: Vec<usize> = std::iter::from_fn(|| transmit(&mut advertiser)).map(|message| message.len()).collect();
    assert_eq!(lengths, [16 + 8 + 8 + 32, 16 + 8 + 16 + 24]);
    assert_eq!(advertiser.status().dropped["ra-option-omitted"], 1);
}

fn host(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, number)
}

/// What is sent now, and where to.
fn destinations(advertiser: &mut Advertiser) -> Vec<Ipv6Addr> {
    std::iter::from_fn(|| advertiser.poll_transmit()).map(|transmit| transmit.destination).collect()
}

#[test]
fn a_link_without_carrier_is_silent_and_advertised_on_like_new_when_it_comes_back() {
    let (mut advertiser, last) = settled();
    let without = RaPlan { carrier: false, ..plan() };
    advertiser.reconfigure(&without, last + Duration::from_secs(10));
    assert_eq!(advertiser.poll_timeout(), None);
    advertiser.handle_timeout(last + Duration::from_secs(1000));
    assert_eq!(transmit(&mut advertiser), None);
    let now = last + Duration::from_secs(2000);
    advertiser.reconfigure(&plan(), now);
    for _ in 0..MAX_INITIAL_RTR_ADVERTISEMENTS {
        let at = wake(&mut advertiser);
        assert!(at.saturating_since(now) <= MAX_INITIAL_RTR_ADVERT_INTERVAL * 2);
        assert_eq!(transmit(&mut advertiser).unwrap(), ADVERTISEMENT);
    }
}

#[test]
fn a_new_link_local_address_takes_leave_of_the_old_one() {
    let (mut advertiser, last) = settled();
    let moved = RaPlan { source: "fe80::2".parse().unwrap(), ..plan() };
    advertiser.reconfigure(&moved, last + Duration::from_secs(10));
    let leave = advertiser.poll_transmit().unwrap();
    assert_eq!((leave.source, leave.destination), (plan().source, ALL_NODES));
    assert_eq!(leave.message, [134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "RFC 4861 section 6.2.8");
    wake(&mut advertiser);
    assert_eq!(transmit(&mut advertiser).unwrap(), ADVERTISEMENT);
}

#[test]
fn routes_preference_portal_and_encrypted_dns_are_told_byte_for_byte_and_withdrawn_at_the_end() {
    let mut plan = plan();
    let variables = &mut plan.advertisement.variables;
    variables.default_router_preference = Preference::High;
    variables.routes = vec![AdvertisedRoute {
        prefix: "2001:db8:77::/48".parse().unwrap(),
        preference: Preference::Low,
        lifetime: None,
    }];
    variables.captive_portal = Some("https://p.test/a".to_owned());
    let addresses = vec!["2001:db8::53".parse().unwrap()];
    let parameters = vec![0, 1, 0, 4, 3, b'd', b'o', b't'];
    let resolver = EncryptedResolver { name: "dns.test".to_owned(), addresses, priority: 1, parameters };
    variables.encrypted_dns = vec![resolver];
    let mut advertiser = Advertiser::new(&plan, 1, at(0));
    advertiser.handle_timeout(at(0));
    let message = transmit(&mut advertiser).unwrap();
    assert_eq!(message[5], 0x08, "Prf 01: high");
    #[rustfmt::skip]
    let route = [24, 2, 48, 0x18, 0, 0, 0x07, 0x08, 0x20, 0x01, 0x0d, 0xb8, 0, 0x77, 0, 0];
    assert_eq!(message[104..120], route);
    #[rustfmt::skip]
    let encrypted = [
        144, 6, 0, 1, 0, 0, 0x07, 0x08,
        0, 10, 3, b'd', b'n', b's', 4, b't', b'e', b's', b't', 0,
        0, 16, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53,
        0, 8, 0, 1, 0, 4, 3, b'd', b'o', b't',
    ];
    assert_eq!(message[144..192], encrypted);
    assert_eq!(&message[192..], b"\x25\x03https://p.test/a\0\0\0\0\0\0");

    advertiser.cease(at(1000));
    advertiser.handle_timeout(at(1000));
    let message = transmit(&mut advertiser).unwrap();
    assert_eq!(message[5..8], [0, 0, 0], "RFC 4191 section 2.2: no preference without a lifetime");
    assert_eq!(message[72..80], [24, 2, 48, 0x18, 0, 0, 0, 0]);
    assert_eq!(message[112..120], [144, 6, 0, 1, 0, 0, 0, 0]);
    assert_eq!(message.len(), 160, "a portal has no lifetime");
}

#[test]
fn another_router_is_told_of_with_what_it_contradicts_and_forgotten() {
    let (mut advertiser, now) = settled();
    let mut theirs = ADVERTISEMENT.to_vec();
    theirs[4] = 32;
    theirs[5] = 0x80;
    theirs[30..32].copy_from_slice(&1400_u16.to_be_bytes());
    theirs[36..40].copy_from_slice(&60_u32.to_be_bytes());
    assert_eq!(advertiser.handle_input(&theirs, HOST, 255, now), Verdict::OtherRouter);
    let status = advertiser.status();
    let [router] = &status.other_routers[..] else { panic!() };
    assert_eq!((router.address, router.router_lifetime, router.expected), (HOST, 1800, false));
    assert_eq!(router.mac.as_deref(), Some("52:54:00:01:02:03"));
    assert_eq!(
        router.contradicts,
        [
            "AdvCurHopLimit 32 against 64",
            "AdvManagedFlag true against false",
            "AdvLinkMTU 1400 against 1500",
            "AdvValidLifetime of 2001:db8:1:2::/64 60 against 86400"
        ]
    );
    let codes: Vec<String> = status.findings("vms").into_iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["lan-other-router", "lan-router-contradicts"]);
    advertiser.handle_timeout(now + Duration::from_secs(1801));
    assert!(advertiser.status().other_routers.is_empty());
}

#[test]
fn a_router_that_is_meant_to_be_there_and_says_the_same_is_no_finding() {
    let mut plan = plan();
    plan.advertisement.variables.other_routers = vec![HOST];
    let mut advertiser = Advertiser::new(&plan, 1, at(0));
    advertiser.handle_input(&ADVERTISEMENT, HOST, 255, at(0));
    let status = advertiser.status();
    assert!(status.other_routers[0].expected);
    assert_eq!(status.findings("vms"), []);
    for number in 0..100 {
        advertiser.handle_input(&ADVERTISEMENT, host(number), 255, at(0));
    }
    assert_eq!(advertiser.status().other_routers.len(), 16, "invented routers cost no more");
}

#[test]
fn absurd_intervals_neither_panic_nor_flood() {
    let mut plan = plan();
    plan.advertisement.variables.min_rtr_adv_interval = Duration::MAX;
    plan.advertisement.variables.max_rtr_adv_interval = Duration::ZERO;
    plan.advertisement.variables.adv_default_lifetime = Duration::MAX;
    let mut advertiser = Advertiser::new(&plan, 1, at(0));
    let first = wake(&mut advertiser);
    transmit(&mut advertiser).unwrap();
    assert!(advertiser.poll_timeout().unwrap().saturating_since(first) >= MIN_DELAY_BETWEEN_RAS);
    plan.advertisement.variables.min_rtr_adv_interval = Duration::ZERO;
    plan.advertisement.variables.max_rtr_adv_interval = Duration::MAX;
    advertiser.reconfigure(&plan, first);
    wake(&mut advertiser);
    transmit(&mut advertiser).unwrap();
}

proptest! {
    #[test]
    fn a_link_may_send_anything(
        messages in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..60), any::<u128>(), 0u64..5000), 0..20),
    ) {
        let mut advertiser = Advertiser::new(&plan(), 1, at(0));
        let (mut now, mut last) = (at(0), None::<Instant>);
        for (mut message, source, pause) in messages {
            if let Some(kind) = message.first_mut() {
                *kind = 133 + *kind % 4;
            }
            now = now + Duration::from_millis(pause);
            advertiser.handle_input(&message, source.into(), 255, now);
            advertiser.handle_input(&SOLICITATION, HOST, 255, now);
            advertiser.handle_timeout(now);
            if std::iter::from_fn(|| advertiser.poll_transmit()).any(|transmit| transmit.destination == ALL_NODES) {
                prop_assert!(last.is_none_or(|last| now.saturating_since(last) >= MIN_DELAY_BETWEEN_RAS));
                last = Some(now);
            }
        }
    }
}

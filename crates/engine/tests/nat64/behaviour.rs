//! Bindings, sessions, timers, filtering, hairpins and limits: RFC 6146 section 3.5 and following.
use sixgate_engine::nat64::tuple::Protocol;
use sixgate_engine::nat64::verdict::{Direction, Reason, Verdict};

use crate::packet::{ACK, FIN, RST, SYN, icmpv4, icmpv6, is_intact, seal, sum, tcp, udp, v4, v6};
use crate::router::{CLIENT, OTHER_CLIENT, POOL, POOL_V6, ROUTER, Router, SERVER, SERVER_V6, STRANGER, plan};

const TO_V4: Verdict = Verdict::Translated(Direction::V6ToV4);
const TO_V6: Verdict = Verdict::Translated(Direction::V4ToV6);

fn ask(router: &mut Router, client: &str, port: u16) -> u16 {
    router.pass(&v6(client, SERVER_V6, 64, udp(port, 53, b"question")));
    router.mapped(Protocol::Udp, client, port).unwrap()
}

fn connect(router: &mut Router) -> u16 {
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, SYN, &[])));
    let port = router.mapped(Protocol::Tcp, CLIENT, 5000).unwrap();
    router.pass(&v4(SERVER, POOL, 64, tcp(80, port, SYN | ACK, &[])));
    port
}

#[test]
fn udp_goes_out_and_comes_back() {
    let mut router = Router::new();
    let question = router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    assert!((40_960..=65_535).contains(&port));
    assert_eq!(question[12..20], [198, 51, 100, 1, 1, 2, 3, 4]);
    assert_eq!(question[20..24], [port.to_be_bytes(), 53u16.to_be_bytes()].concat());
    assert_eq!(question[8], 63);
    assert!(is_intact(&question));
    let answer = router.pass(&v4(SERVER, POOL, 64, udp(53, port, b"answer")));
    assert_eq!(answer, v6(SERVER_V6, CLIENT, 63, udp(53, 5000, b"answer")));
    assert_eq!(router.tables(), ([0, 1, 0], [0, 1, 0]));
    let status = router.nat64.status();
    assert_eq!((status.v6_to_v4.packets, status.v6_to_v4.bytes), (1, 56));
    assert_eq!((status.v4_to_v6.packets, status.v4_to_v6.bytes), (1, 34));
    assert!(status.reasons.is_empty());
}

/// RFC 6146 section 3.5.1, RFC 4787 REQ-1: endpoint-independent mapping.
#[test]
fn one_binding_serves_all_servers() {
    let mut router = Router::new();
    let port = ask(&mut router, CLIENT, 5000);
    let other = router.pass(&v6(CLIENT, "64:ff9b::5.6.7.8", 64, udp(5000, 123, b"time")));
    assert_eq!(other[20..22], port.to_be_bytes());
    assert_eq!(router.tables(), ([0, 2, 0], [0, 1, 0]));
    assert_ne!(ask(&mut router, OTHER_CLIENT, 5000), port);
    assert_eq!(router.tables(), ([0, 3, 0], [0, 2, 0]));
}

/// RFC 6146 section 3.5.1: address-dependent filtering.
#[test]
fn strangers_are_refused_and_known_addresses_may_use_other_ports() {
    let mut router = Router::new();
    let port = ask(&mut router, CLIENT, 5000);
    let (verdict, packets) = router.send(&v4(STRANGER, POOL, 64, udp(53, port, b"hello")));
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::Filtered), 0));
    let (verdict, packets) = router.send(&v4(STRANGER, POOL, 64, udp(53, port ^ 1, b"hello")));
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::NoBinding), 0));
    assert_eq!(router.tables(), ([0, 1, 0], [0, 1, 0]));
    assert_eq!(router.send(&v4(SERVER, POOL, 64, udp(99, port, b"hello"))).0, TO_V6);
    assert_eq!(router.tables(), ([0, 2, 0], [0, 1, 0]));
    assert_eq!((router.count("filtered"), router.count("no-binding")), (1, 1));
}

/// RFC 6146 section 4: UDP_DEFAULT and ICMP_DEFAULT.
#[test]
fn sessions_live_on_while_they_are_used_and_end_by_themselves() {
    let mut router = Router::new();
    let port = ask(&mut router, CLIENT, 5000);
    router.pass(&v6(CLIENT, SERVER_V6, 64, icmpv6(128, 0, 0x0001_0001, b"ping")));
    assert_eq!(router.tables(), ([0, 1, 1], [0, 1, 1]));
    router.wait(60);
    assert_eq!(router.tables(), ([0, 1, 0], [0, 1, 0]));
    router.wait(239);
    router.pass(&v4(SERVER, POOL, 64, udp(53, port, b"answer")));
    router.wait(299);
    assert_eq!(router.tables(), ([0, 1, 0], [0, 1, 0]));
    router.wait(1);
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
    assert_eq!(router.nat64.poll_timeout(), None);
    let (verdict, _) = router.send(&v4(SERVER, POOL, 64, udp(53, port, b"late")));
    assert_eq!(verdict, Verdict::Dropped(Reason::NoBinding));
}

#[test]
fn a_session_that_is_over_is_not_used_even_if_nobody_called_the_timer() {
    let mut router = Router::new();
    let port = ask(&mut router, CLIENT, 5000);
    let due = router.nat64.poll_timeout().unwrap();
    router.now = due;
    let (verdict, _) = router.send(&v4(SERVER, POOL, 64, udp(53, port, b"late")));
    assert_eq!(verdict, Verdict::Dropped(Reason::NoBinding));
}

/// RFC 6146 section 3.5.2.2 and section 4: TCP_TRANS, TCP_EST.
#[test]
fn a_connection_opens_lives_two_hours_and_closes_within_four_minutes() {
    let mut router = Router::new();
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, SYN, &[])));
    router.wait(239);
    assert_eq!(router.tables().0, [1, 0, 0]);
    router.wait(1);
    assert_eq!(router.tables().0, [0, 0, 0], "TCP_TRANS without an answer");
    let port = connect(&mut router);
    router.wait(7439);
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, ACK, b"still here")));
    router.wait(7439);
    router.pass(&v4(SERVER, POOL, 64, tcp(80, port, FIN | ACK, &[])));
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, FIN | ACK, &[])));
    router.wait(100);
    router.pass(&v4(SERVER, POOL, 64, tcp(80, port, ACK, &[])));
    router.wait(139);
    assert_eq!(router.tables().0, [1, 0, 0]);
    router.wait(1);
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
}

#[test]
fn a_reset_shortens_a_connection_unless_it_goes_on() {
    let mut router = Router::new();
    let port = connect(&mut router);
    router.pass(&v4(SERVER, POOL, 64, tcp(80, port, RST, &[])));
    router.wait(239);
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, ACK, b"forged?")));
    router.wait(7439);
    assert_eq!(router.tables().0, [1, 0, 0]);
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, RST, &[])));
    router.wait(240);
    assert_eq!(router.tables().0, [0, 0, 0]);
}

/// RFC 6146 section 3.5.2.2, CLOSED.
#[test]
fn segments_without_a_connection_are_refused() {
    let mut router = Router::new();
    let (verdict, packets) = router.send(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, ACK, b"lost")));
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::NoSession), 0));
    let (verdict, packets) = router.send(&v4(SERVER, POOL, 64, tcp(80, 50_000, ACK, &[])));
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::NoBinding), 0));
    let port = connect(&mut router);
    let (verdict, _) = router.send(&v4(STRANGER, POOL, 64, tcp(80, port, RST, &[])));
    assert_eq!(verdict, Verdict::Dropped(Reason::Filtered));
    let (verdict, _) = router.send(&v4(SERVER, POOL, 64, tcp(81, port, ACK, &[])));
    assert_eq!(verdict, Verdict::Dropped(Reason::NoSession));
    assert_eq!(router.send(&v4(SERVER, POOL, 64, tcp(81, port, SYN, &[]))).0, TO_V6, "an address it talks to");
    // RFC 6146 section 3.5.2.2: with a binding, segments from inside SHOULD pass, and make no session.
    let sessions = router.tables();
    let (verdict, _) = router.send(&v6(CLIENT, "64:ff9b::5.6.7.8", 64, tcp(5000, 80, RST, &[])));
    assert_eq!((verdict, router.tables()), (TO_V4, sessions));
}

#[test]
fn echoes_keep_identifiers_apart() {
    let mut router = Router::new();
    let request = router.pass(&v6(CLIENT, SERVER_V6, 64, icmpv6(128, 0, 0x0007_0001, b"ping")));
    router.pass(&v6(OTHER_CLIENT, SERVER_V6, 64, icmpv6(128, 0, 0x0007_0001, b"ping")));
    let ours = router.mapped(Protocol::Icmp, CLIENT, 7).unwrap();
    let theirs = router.mapped(Protocol::Icmp, OTHER_CLIENT, 7).unwrap();
    assert_ne!(ours, theirs);
    assert_eq!((request[20], &request[24..26]), (8, &ours.to_be_bytes()[..]));
    assert!(is_intact(&request));
    let reply = v4(SERVER, POOL, 64, icmpv4(0, 0, u32::from(ours) << 16 | 1, b"ping"));
    assert_eq!(router.pass(&reply), v6(SERVER_V6, CLIENT, 63, icmpv6(129, 0, 0x0007_0001, b"ping")));
    let (verdict, _) = router.send(&v4(SERVER, POOL, 64, icmpv4(0, 0, 0x1234_0001, b"not ours")));
    assert_eq!(verdict, Verdict::Dropped(Reason::NoBinding), "such as the router's own pings");
}

/// RFC 6146 section 3.8.
#[test]
fn clients_reach_each_other_by_their_mapped_addresses() {
    let mut router = Router::new();
    let port = ask(&mut router, CLIENT, 5000);
    // The client must have sent to our address: filtering holds for hairpins as well.
    let (verdict, _) = router.send(&v6(OTHER_CLIENT, POOL_V6, 64, udp(6001, port, b"knock")));
    assert_eq!(verdict, Verdict::Dropped(Reason::Filtered));
    let theirs = router.mapped(Protocol::Udp, OTHER_CLIENT, 6001).unwrap();
    let (verdict, packets) = router.send(&v6(CLIENT, POOL_V6, 64, udp(5000, theirs, b"hello")));
    assert_eq!(verdict, Verdict::Hairpinned);
    assert_eq!(packets, [v6(POOL_V6, OTHER_CLIENT, 62, udp(port, 6001, b"hello"))]);
    let (verdict, packets) = router.send(&v6(OTHER_CLIENT, POOL_V6, 64, udp(6001, port, b"hi")));
    assert_eq!(verdict, Verdict::Hairpinned);
    assert_eq!(packets, [v6(POOL_V6, CLIENT, 62, udp(theirs, 5000, b"hi"))]);
    // And an error about it finds its way.
    let error = v6(CLIENT, POOL_V6, 64, icmpv6(1, 4, 0, &packets[0]));
    let (verdict, packets) = router.send(&error);
    assert_eq!(verdict, Verdict::Hairpinned);
    let quoted = v6(OTHER_CLIENT, POOL_V6, 62, udp(6001, port, b"hi"));
    assert_eq!(packets, [v6(POOL_V6, OTHER_CLIENT, 62, icmpv6(1, 4, 0, &quoted))]);
}

/// RFC 6146 section 3.8, large packets: two translations make no difference to what fits.
#[test]
fn a_hairpin_that_does_not_fit_is_answered_in_ipv6() {
    let mut wide = plan(40_960..=65_535);
    wide.mtu_v6 = 1280;
    let mut router = Router::with(&wide);
    let port = ask(&mut router, CLIENT, 5000);
    router.send(&v6(OTHER_CLIENT, POOL_V6, 64, udp(6001, port, b"knock")));
    let theirs = router.mapped(Protocol::Udp, OTHER_CLIENT, 6001).unwrap();
    let large = v6(CLIENT, POOL_V6, 64, udp(5000, theirs, &[0; 1300]));
    let (verdict, packets) = router.send(&large);
    assert_eq!(verdict, Verdict::Dropped(Reason::TooBig));
    assert_eq!(packets, [v6(ROUTER, CLIENT, 64, icmpv6(2, 0, 1280, &large[..1232]))]);
}

#[test]
fn the_routers_own_ports_are_not_reached_from_inside() {
    let mut router = Router::new();
    let (verdict, packets) = router.send(&v6(CLIENT, POOL_V6, 64, tcp(5000, 22, SYN, &[])));
    assert_eq!(verdict, Verdict::Dropped(Reason::OwnAddress));
    assert_eq!(packets[0][40..42], [1, 1], "administratively prohibited");
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
}

/// RFC 6146 section 3.5: no loops.
#[test]
fn sources_inside_the_prefix_and_sources_that_are_ours_are_refused() {
    let mut router = Router::new();
    let (verdict, packets) = router.send(&v6(SERVER_V6, "64:ff9b::5.6.7.8", 64, udp(5000, 53, b"loop")));
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::SourceInPref64), 0));
    let (verdict, packets) = router.send(&v4(POOL, POOL, 64, udp(50_000, 50_000, b"loop")));
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::InvalidSource), 0));
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
}

#[test]
fn what_is_not_for_the_translator_is_refused() {
    let mut router = Router::new();
    let (verdict, packets) = router.send(&v6(CLIENT, "2001:db8::9", 64, udp(5000, 53, b"?")));
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::NotForUs), 0));
    let (verdict, packets) = router.send(&v4(SERVER, "198.51.100.2", 64, udp(53, 50_000, b"?")));
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::NotForUs), 0));
    assert_eq!(router.send(&[]).0, Verdict::Dropped(Reason::Malformed));
    assert_eq!(router.send(&[0x50; 60]).0, Verdict::Dropped(Reason::Malformed));
    let mut damaged = v4(SERVER, POOL, 64, udp(53, 50_000, b"?"));
    damaged[8] ^= 1;
    assert_eq!(router.send(&damaged).0, Verdict::Dropped(Reason::BadChecksum));
}

/// RFC 6052 section 3.1.
#[test]
fn private_addresses_are_translated_only_if_exempted() {
    let mut exempting = plan(40_960..=65_535);
    exempting.translate_non_global = vec!["10.0.0.0/8".parse().unwrap()];
    let packet = v6(CLIENT, "64:ff9b::10.1.2.3", 64, udp(5000, 53, b"question"));
    let (verdict, packets) = Router::new().send(&packet);
    assert_eq!(verdict, Verdict::Dropped(Reason::NonGlobalDestination));
    assert_eq!(packets, [v6(ROUTER, CLIENT, 64, icmpv6(1, 1, 0, &packet))]);
    let well_known = Router::with(&exempting).send(&packet).0;
    assert_eq!(well_known, Verdict::Dropped(Reason::NonGlobalDestination), "RFC 6052 section 3.1");
    exempting.pref64 = "64:ff9b:1::/96".parse().unwrap();
    let packet = v6(CLIENT, "64:ff9b:1::10.1.2.3", 64, udp(5000, 53, b"question"));
    assert_eq!(Router::with(&exempting).send(&packet).0, TO_V4);
}

/// RFC 6146 section 3.5.1: the ceiling is answered, and costs nobody a session.
#[test]
fn the_ceiling_on_sessions_refuses_new_ones_alone() {
    let mut small = plan(40_960..=65_535);
    small.max_sessions = 2;
    let mut router = Router::with(&small);
    ask(&mut router, CLIENT, 5000);
    ask(&mut router, CLIENT, 5001);
    let packet = v6(CLIENT, SERVER_V6, 64, udp(5002, 53, b"question"));
    let (verdict, packets) = router.send(&packet);
    assert_eq!(verdict, Verdict::Dropped(Reason::SessionLimit));
    assert_eq!(packets, [v6(ROUTER, CLIENT, 64, icmpv6(1, 3, 0, &packet))]);
    assert_eq!(router.tables(), ([0, 2, 0], [0, 2, 0]));
    ask(&mut router, CLIENT, 5000);
}

#[test]
fn an_exhausted_pool_refuses_and_recovers() {
    let mut router = Router::with(&plan(40_000..=40_001));
    ask(&mut router, CLIENT, 5000);
    ask(&mut router, CLIENT, 5001);
    let packet = v6(CLIENT, SERVER_V6, 64, udp(5002, 53, b"question"));
    let (verdict, packets) = router.send(&packet);
    assert_eq!(verdict, Verdict::Dropped(Reason::PoolExhausted));
    assert_eq!(packets, [v6(ROUTER, CLIENT, 64, icmpv6(1, 3, 0, &packet))]);
    assert_eq!(router.tables(), ([0, 2, 0], [0, 2, 0]));
    router.wait(300);
    // RFC 6888 REQ-8: nobody has these ports any more, and nobody gets them yet.
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
    router.wait(119);
    assert_eq!(router.send(&packet).0, Verdict::Dropped(Reason::PoolExhausted));
    router.wait(1);
    ask(&mut router, CLIENT, 5002);
}

#[test]
fn without_an_ipv4_uplink_clients_are_told() {
    let mut offline = plan(40_960..=65_535);
    offline.pool4.clear();
    let mut router = Router::with(&offline);
    let packet = v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, SYN, &[]));
    let (verdict, packets) = router.send(&packet);
    assert_eq!(verdict, Verdict::Dropped(Reason::NotOperational));
    assert_eq!(packets, [v6(ROUTER, CLIENT, 64, icmpv6(1, 0, 0, &packet))]);
}

#[test]
fn a_new_address_ends_the_sessions_of_the_old_one_and_no_others() {
    let mut two = plan(40_960..=65_535);
    two.pool4.push("198.51.100.2".parse().unwrap());
    let mut router = Router::with(&two);
    // The first client of a fresh pool may get either address, the second one the other.
    ask(&mut router, CLIENT, 5000);
    ask(&mut router, "2001:db8:2::2", 5000);
    assert_eq!(router.tables(), ([0, 2, 0], [0, 2, 0]));
    let one = plan(40_960..=65_535);
    router.nat64.reconfigure(&one, router.now);
    assert_eq!(router.tables(), ([0, 1, 0], [0, 1, 0]));
    router.nat64.reconfigure(&one, router.now);
    assert_eq!(router.tables(), ([0, 1, 0], [0, 1, 0]), "the same plan again changes nothing");
    let mut other = one.clone();
    other.ports = 1024..=1024;
    router.nat64.reconfigure(&other, router.now);
    assert_eq!(router.tables(), ([0; 3], [0; 3]), "outside of the share");
    ask(&mut router, CLIENT, 5000);
    other.pref64 = "2001:db8:64::/96".parse().unwrap();
    router.nat64.reconfigure(&other, router.now);
    assert_eq!(router.tables(), ([0; 3], [0; 3]), "another prefix");
}

/// RFC 7915 section 5.1: TTL; the errors' sources.
#[test]
fn used_up_hop_limits_are_answered_and_make_no_session() {
    let mut router = Router::new();
    // The kernel would drop what leaves with a TTL of one, and its error would reach nobody.
    for hop_limit in [1, 2] {
        let packet = v6(CLIENT, SERVER_V6, hop_limit, udp(5000, 33434, b"traceroute"));
        let (verdict, packets) = router.send(&packet);
        assert_eq!(verdict, Verdict::Dropped(Reason::HopLimitExceeded));
        assert_eq!(packets, [v6(ROUTER, CLIENT, 64, icmpv6(3, 0, 0, &packet))]);
    }
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
    let port = ask(&mut router, CLIENT, 5000);
    let packet = v4(SERVER, POOL, 1, udp(53, port, b"answer"));
    let (verdict, packets) = router.send(&packet);
    assert_eq!(verdict, Verdict::Dropped(Reason::HopLimitExceeded));
    assert_eq!((&packets[0][12..22], packets[0].len()), (&[198, 51, 100, 1, 1, 2, 3, 4, 11, 0][..], 28 + packet.len()));
    assert!(is_intact(&packets[0]));
}

/// RFC 4443 section 2.4 (f).
#[test]
fn errors_are_limited_and_counted_all_the_same() {
    let mut router = Router::new();
    let packet = v6(CLIENT, SERVER_V6, 1, udp(5000, 53, b""));
    let answered = (0..500).filter(|_| !router.send(&packet).1.is_empty()).count();
    assert_eq!((answered, router.count("hop-limit-exceeded")), (80, 500));
    let other = v6("2001:db8:2::2", SERVER_V6, 1, udp(5000, 53, b""));
    assert_eq!(router.send(&other).1.len(), 0, "the other side's are left");
    let packet = v4(SERVER, POOL, 1, udp(53, 50_000, b""));
    assert_eq!(router.send(&packet).1.len(), 1);
}

/// RFC 4443 section 2.4 (e.1): no errors about errors.
#[test]
fn errors_are_not_answered() {
    let mut router = Router::new();
    let error = v6(CLIENT, SERVER_V6, 1, icmpv6(1, 4, 0, &v6(SERVER_V6, CLIENT, 1, udp(53, 5000, b""))));
    let (verdict, packets) = router.send(&error);
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::HopLimitExceeded), 0));
}

/// RFC 7915 section 5.1: what was damaged arrives damaged.
#[test]
fn damage_is_not_repaired() {
    let mut router = Router::new();
    let port = ask(&mut router, CLIENT, 5000);
    let mut packet = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question"));
    packet[50] ^= 0x10;
    assert!(!is_intact(&router.pass(&packet)));
    let mut packet = v4(SERVER, POOL, 64, udp(53, port, b"answer"));
    packet[30] ^= 0x10;
    assert!(!is_intact(&router.pass(&packet)));
}

/// RFC 7915 section 4.5.
#[test]
fn a_datagram_without_checksum_gets_one() {
    let mut router = Router::new();
    let port = ask(&mut router, CLIENT, 5000);
    let mut packet = v4(SERVER, POOL, 64, udp(53, port, b"answer"));
    packet[26..28].fill(0);
    assert_eq!(router.pass(&packet), v6(SERVER_V6, CLIENT, 63, udp(53, 5000, b"answer")));
    let mut packet = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question"));
    packet[46..48].fill(0);
    assert_eq!(router.send(&packet).0, Verdict::Dropped(Reason::UdpWithoutChecksum));
}

/// RFC 7915 section 5.1: a Routing header with segments left.
#[test]
fn segments_left_are_answered_with_a_pointer() {
    let mut router = Router::new();
    let (_, upper) = udp(5000, 53, b"question");
    let packet = v6(CLIENT, SERVER_V6, 64, (43, [&[17, 0, 4, 1, 0, 0, 0, 0], &upper[..]].concat()));
    let (verdict, packets) = router.send(&packet);
    assert_eq!(verdict, Verdict::Dropped(Reason::RoutingHeader));
    assert_eq!(packets, [v6(ROUTER, CLIENT, 64, icmpv6(4, 0, 43, &packet))]);
}

/// RFC 7915 section 4.1: an unexpired source route.
#[test]
fn a_source_route_is_answered() {
    let mut router = Router::new();
    let port = ask(&mut router, CLIENT, 5000);
    let mut packet = v4(SERVER, POOL, 64, udp(53, port, b"answer"));
    packet.splice(20..20, [131, 7, 4, 192, 0, 2, 1, 0]);
    packet[0] = 0x47;
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[10..12].fill(0);
    let checksum = !sum(&packet[..28]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    let (verdict, packets) = router.send(&packet);
    assert_eq!(verdict, Verdict::Dropped(Reason::SourceRoute));
    assert_eq!(packets[0][20..22], [3, 5]);
}

/// RFC 6146 section 3.4.
#[test]
fn other_protocols_are_answered_from_both_sides() {
    let mut router = Router::new();
    let packet = v6(CLIENT, SERVER_V6, 64, (132, vec![0; 16]));
    let (verdict, packets) = router.send(&packet);
    assert_eq!(verdict, Verdict::Dropped(Reason::UnknownProtocol));
    assert_eq!(packets, [v6(ROUTER, CLIENT, 64, icmpv6(1, 4, 0, &packet))]);
    let (verdict, packets) = router.send(&v4(SERVER, POOL, 64, (132, vec![0; 16])));
    assert_eq!((verdict, &packets[0][20..22]), (Verdict::Dropped(Reason::UnknownProtocol), &[3, 2][..]));
}

#[test]
fn traffic_class_and_tos_are_copied() {
    let mut router = Router::new();
    let mut packet = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question"));
    packet[..2].copy_from_slice(&[0x6b, 0x95]);
    let out = router.pass(&packet);
    assert_eq!(out[1], 0xb9);
    let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    let mut packet = v4(SERVER, POOL, 64, udp(53, port, b"answer"));
    packet[1] = 0x2e;
    assert_eq!(router.pass(&seal(packet))[..4], [0x62, 0xe0, 0, 0]);
}

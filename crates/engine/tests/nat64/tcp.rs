//! RFC 6146 section 3.5.2: connections from outside, simultaneous open, and the probe of an idle connection.
use sixgate_engine::config::Filtering;
use sixgate_engine::nat64::tuple::Protocol;
use sixgate_engine::nat64::verdict::{Direction, Reason, Verdict};

use crate::packet::{ACK, FIN, RST, SYN, icmpv4, icmpv6, is_intact, tcp, udp, v4, v6};
use crate::router::{CLIENT, OTHER_CLIENT, POOL, POOL_V6, Router, SERVER, SERVER_V6, STRANGER, plan};

const TO_V6: Verdict = Verdict::Translated(Direction::V4ToV6);
const STRANGER_V6: &str = "64:ff9b::5.6.7.8";

/// A connection attempt of the client's; returns its mapped port.
fn syn(router: &mut Router, server: &str, port: u16) -> u16 {
    router.pass(&v6(CLIENT, server, 64, tcp(5000, port, SYN, &[])));
    router.mapped(Protocol::Tcp, CLIENT, 5000).unwrap()
}

fn connect(router: &mut Router) -> u16 {
    let port = syn(router, SERVER_V6, 80);
    router.pass(&v4(SERVER, POOL, 64, tcp(80, port, SYN | ACK, &[])));
    port
}

#[test]
fn a_simultaneous_open_is_established_when_the_second_syn_leaves() {
    let mut router = Router::new();
    let port = syn(&mut router, STRANGER_V6, 80);
    let from_outside = v4(SERVER, POOL, 64, tcp(9000, port, SYN, &[]));
    assert_eq!(router.send(&from_outside), (Verdict::Held, Vec::new()));
    assert_eq!(router.tables(), ([1, 0, 0], [1, 0, 0]), "it makes no session");
    syn(&mut router, SERVER_V6, 9000);
    assert!(router.rest(6).is_empty(), "RFC 5382 REQ-4: the stored SYN is dropped silently");
    assert_eq!(router.send(&v4(SERVER, POOL, 64, tcp(9000, port, SYN | ACK, &[]))).0, TO_V6);
    router.wait(7439);
    assert_eq!(router.tables().0, [1, 0, 0], "TCP_EST, not TCP_TRANS");
    assert_eq!((router.count("filtered"), router.count("no-binding")), (0, 0));
}

#[test]
fn incoming_syn_without_binding_waits_six_seconds_then_errors() {
    let mut router = Router::new();
    let syn = v4(SERVER, POOL, 64, tcp(9000, 50_000, SYN, &[]));
    assert_eq!(router.send(&syn), (Verdict::Held, Vec::new()));
    assert_eq!(router.nat64.poll_timeout(), Some(router.now + core::time::Duration::from_secs(6)));
    assert!(router.rest(5).is_empty());
    assert_eq!(router.send(&syn), (Verdict::Held, Vec::new()), "repeated");
    let answers = router.rest(1);
    assert_eq!(answers.len(), 1);
    assert!(is_intact(&answers[0]));
    assert_eq!(answers[0][12..22], [198, 51, 100, 1, 1, 2, 3, 4, 3, 3]);
    assert_eq!(answers[0][28..], syn);
    assert_eq!((router.count("no-binding"), router.nat64.poll_timeout()), (1, None));
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
}

#[test]
fn a_syn_is_answered_even_if_packets_come_before_the_timer() {
    let mut router = Router::new();
    router.send(&v4(SERVER, POOL, 64, tcp(9000, 50_000, SYN, &[])));
    router.now = router.now + core::time::Duration::from_secs(7);
    let question = router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    assert_eq!(question[9], 17, "what a packet becomes is not mixed with what is due");
    assert!(router.nat64.poll_timeout().is_some_and(|due| due <= router.now));
    assert_eq!(router.rest(0).len(), 1);
}

/// RFC 6146 section 5.3.
#[test]
fn stored_syns_are_bounded_and_one_sender_leaves_room_for_others() {
    let mut router = Router::new();
    let refused = (0..100u16)
        .filter(|port| router.send(&v4(SERVER, POOL, 64, tcp(*port, 50_000, SYN, &[]))).0 != Verdict::Held)
        .count();
    assert_eq!((refused as u64, router.count("incoming-syn-limit")), (68, 68));
    assert_eq!(router.send(&v4(STRANGER, POOL, 64, tcp(9000, 50_000, SYN, &[]))).0, Verdict::Held);
    assert_eq!(router.rest(6).len(), 33);
    assert_eq!(router.send(&v4(SERVER, POOL, 64, tcp(1, 50_000, SYN, &[]))).0, Verdict::Held);
}

#[test]
fn a_new_address_forgets_the_syns_to_the_old_one() {
    let mut router = Router::new();
    router.send(&v4(SERVER, POOL, 64, tcp(9000, 50_000, SYN, &[])));
    let mut other = plan(40_960..=65_535);
    other.pool4 = vec!["198.51.100.2".parse().unwrap()];
    router.nat64.reconfigure(&other, router.now);
    assert!(router.rest(6).is_empty());
}

#[test]
fn endpoint_independent_filtering_lets_anybody_use_a_port_in_use() {
    let mut open = plan(40_960..=65_535);
    open.filtering = Filtering::EndpointIndependent;
    let mut router = Router::with(&open);
    let port = connect(&mut router);
    assert_eq!(router.send(&v4(STRANGER, POOL, 64, tcp(9000, port, SYN, &[]))).0, TO_V6);
    assert_eq!(router.send(&v4(STRANGER, POOL, 64, tcp(9000, port ^ 1, SYN, &[]))).0, Verdict::Held, "not in use");
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    assert_eq!(router.send(&v4(STRANGER, POOL, 64, udp(9000, port, b"hello"))).0, TO_V6);
    router.pass(&v6(CLIENT, SERVER_V6, 64, icmpv6(128, 0, 7 << 16, b"ping")));
    let identifier = router.mapped(Protocol::Icmp, CLIENT, 7).unwrap();
    let ping = v4(STRANGER, POOL, 64, icmpv4(8, 0, u32::from(identifier) << 16, b"ping"));
    assert_eq!(router.send(&ping).0, TO_V6);
    router.nat64.reconfigure(&plan(40_960..=65_535), router.now);
    let (verdict, _) = router.send(&v4("9.9.9.9", POOL, 64, udp(9000, port, b"hello")));
    assert_eq!(verdict, Verdict::Dropped(Reason::Filtered), "and it can be taken back");
}

#[test]
fn an_idle_connection_is_probed_before_it_is_given_up() {
    let mut router = Router::new();
    connect(&mut router);
    let probe = v6(SERVER_V6, CLIENT, 64, {
        let (protocol, mut segment) = tcp(80, 5000, ACK, &[]);
        segment[14] = 0;
        (protocol, segment)
    });
    assert_eq!(router.rest(7440), std::slice::from_ref(&probe));
    assert_eq!(router.tables().0, [1, 0, 0]);
    router.wait(239);
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, ACK, &[])));
    assert_eq!(router.rest(7440), [probe], "the host answered: ESTABLISHED");
    // This time it says that there is no such connection.
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, RST, &[])));
    assert!(router.rest(240).is_empty());
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
}

#[test]
fn a_half_closed_connection_ends_without_a_probe() {
    let mut router = Router::new();
    let port = connect(&mut router);
    router.pass(&v4(SERVER, POOL, 64, tcp(80, port, FIN | ACK, &[])));
    assert!(router.rest(7440).is_empty());
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
}

#[test]
fn many_probes_leave_in_portions_and_none_is_forgotten() {
    let mut router = Router::new();
    for port in 0..600 {
        router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(port, 80, SYN, &[])));
        let mapped = router.mapped(Protocol::Tcp, CLIENT, port).unwrap();
        router.pass(&v4(SERVER, POOL, 64, tcp(80, mapped, SYN | ACK, &[])));
    }
    assert_eq!(router.rest(7440).len(), 256);
    assert!(router.nat64.poll_timeout().is_some_and(|due| due <= router.now));
    assert_eq!((router.rest(0).len(), router.rest(0).len(), router.rest(0).len()), (256, 88, 0));
    assert_eq!(router.tables().0, [600, 0, 0]);
    router.wait(240);
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
}

/// RFC 6146 section 3.8: both ends may be inside.
#[test]
fn a_simultaneous_open_works_through_a_hairpin_and_a_lonely_syn_is_answered_in_ipv6() {
    let mut router = Router::new();
    let port = syn(&mut router, SERVER_V6, 80);
    router.pass(&v6(OTHER_CLIENT, SERVER_V6, 64, tcp(6000, 80, SYN, &[])));
    let theirs = router.mapped(Protocol::Tcp, OTHER_CLIENT, 6000).unwrap();
    let knock = v6(OTHER_CLIENT, POOL_V6, 64, tcp(6000, port, SYN, &[]));
    assert_eq!(router.send(&knock), (Verdict::Held, Vec::new()));
    let (verdict, packets) = router.send(&v6(CLIENT, POOL_V6, 64, tcp(5000, theirs, SYN, &[])));
    assert_eq!((verdict, packets.len()), (Verdict::Hairpinned, 1));
    assert!(router.rest(6).is_empty());
    let knock = v6(OTHER_CLIENT, POOL_V6, 64, tcp(6000, port ^ 1, SYN, &[]));
    assert_eq!(router.send(&knock), (Verdict::Held, Vec::new()));
    let answers = router.rest(6);
    assert_eq!(answers.len(), 1);
    let quoted = v6(OTHER_CLIENT, POOL_V6, 63, tcp(6000, port ^ 1, SYN, &[]));
    let mut expected = v6(POOL_V6, OTHER_CLIENT, 63, icmpv6(1, 4, 0, &quoted));
    expected[0] = 0x6c;
    assert_eq!(answers[0], expected, "internetwork control, as RFC 1812 section 4.3.2.5 has it");
}

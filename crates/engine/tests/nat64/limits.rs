//! What one client may have, and that the others keep theirs: RFC 6888 REQ-4, RFC 6146 section 5.3.
use sixgate_engine::config::Filtering;
use sixgate_engine::nat64::tuple::Protocol;
use sixgate_engine::nat64::verdict::{Reason, Verdict};
use sixgate_engine::plan::ClientPrefix;

use crate::packet::{SYN, icmpv6, tcp, udp, v4, v6};
use crate::router::{CLIENT, POOL, ROUTER, Router, SERVER_V6, plan};

const MODEST: &str = "2001:db8:2::2";

fn ask(router: &mut Router, client: &str, port: u16) -> Verdict {
    router.send(&v6(client, SERVER_V6, 64, udp(port, 53, b"question"))).0
}

fn is_refused(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Dropped(_))
}

/// One greedy client never costs another a session.
#[test]
fn a_client_that_opens_all_it_can_costs_nobody_a_session() {
    let mut small = plan(40_960..=65_535);
    small.max_sessions = 500;
    let mut router = Router::with(&small);
    ask(&mut router, MODEST, 5000);
    let refused = (0..2000).filter(|port| is_refused(ask(&mut router, CLIENT, *port))).count();
    assert_eq!((2000 - refused, router.count("client-session-limit")), (400, refused as u64));
    for port in 5000..5040 {
        assert!(!is_refused(ask(&mut router, MODEST, port)), "old and new ones");
    }
    assert!(!is_refused(ask(&mut router, CLIENT, 0)), "and the greedy one keeps what it has");
    assert_eq!(router.count("session-limit"), 0);
}

#[test]
fn a_client_does_not_get_the_whole_pool() {
    let mut router = Router::with(&plan(40_000..=40_099));
    let packet = |port| v6(CLIENT, SERVER_V6, 64, udp(port, 53, b"question"));
    let refused = (0..200).filter(|port| is_refused(router.send(&packet(*port)).0)).count();
    assert_eq!((refused, router.count("client-binding-limit")), (120, 120));
    router.wait(1);
    let (_, packets) = router.send(&packet(999));
    assert_eq!(packets, [v6(ROUTER, CLIENT, 64, icmpv6(1, 3, 0, &packet(999)))], "RFC 6146: address unreachable");
    assert!(!is_refused(ask(&mut router, MODEST, 5000)));
    assert!(router.mapped(Protocol::Udp, MODEST, 5000).is_some());
    router.wait(300);
    assert!(!is_refused(router.send(&packet(999)).0), "it gets others when these are over");
}

#[test]
fn the_numbers_in_the_configuration_hold_and_can_be_changed() {
    let mut strict = plan(40_960..=65_535);
    (strict.limits.sessions, strict.limits.bindings) = (30, 20);
    let mut router = Router::with(&strict);
    let refused = (0..40).filter(|port| is_refused(ask(&mut router, CLIENT, *port))).count();
    assert_eq!((refused, router.count("client-binding-limit")), (20, 20));
    let elsewhere = |server: u16| v6(CLIENT, &format!("64:ff9b::5.6.7.{server}"), 64, udp(0, 53, b"question"));
    let refused = (0..20).filter(|server| is_refused(router.send(&elsewhere(*server)).0)).count();
    assert_eq!((refused, router.count("client-session-limit")), (10, 10));
    assert_eq!(router.tables(), ([0, 30, 0], [0, 20, 0]));
    strict.limits.sessions = 31;
    router.nat64.reconfigure(&strict, router.now);
    assert!(!is_refused(router.send(&elsewhere(100)).0), "what it has was counted again");
    assert!(is_refused(router.send(&elsewhere(101)).0));
}

#[test]
fn new_sessions_are_limited_in_a_second_and_old_ones_are_not() {
    let mut slow = plan(40_960..=65_535);
    slow.limits.new_sessions_per_second = 10;
    let mut router = Router::with(&slow);
    let refused = (0..40).filter(|port| is_refused(ask(&mut router, CLIENT, *port))).count();
    assert_eq!((refused, router.count("client-rate-limit")), (30, 30));
    assert!((0..100).all(|_| !is_refused(ask(&mut router, CLIENT, 0))));
    assert!(!is_refused(ask(&mut router, MODEST, 0)));
    router.wait(1);
    assert!(!is_refused(ask(&mut router, CLIENT, 39)));
}

#[test]
fn each_container_is_a_client_and_all_of_a_vm_are_no_more_than_one() {
    let mut nested = plan(40_960..=65_535);
    nested.max_sessions = 500;
    nested.limits.bindings = 16;
    nested.clients = vec![ClientPrefix { net: "2001:db8:1:0:21::/80".parse().unwrap(), each: 128 }];
    let mut router = Router::with(&nested);
    let ports =
        |router: &mut Router, client: &str| (0..20).filter(|port| !is_refused(ask(router, client, *port))).count();
    assert_eq!(ports(&mut router, "2001:db8:1:0:21::1"), 16);
    assert_eq!(ports(&mut router, "2001:db8:1:0:21::2"), 16, "another container");
    for container in 3..100 {
        ports(&mut router, &format!("2001:db8:1:0:21::{container:x}"));
    }
    assert_eq!(router.tables().0, [0, 400, 0]);
    assert_eq!(ports(&mut router, CLIENT), 16, "the VM's neighbour");
}

/// Who outside makes sessions on a client's port takes from that client, and not all.
#[test]
fn strangers_leave_a_client_half_of_its_sessions() {
    let mut open = plan(40_960..=65_535);
    open.filtering = Filtering::EndpointIndependent;
    open.limits.sessions = 40;
    let mut router = Router::with(&open);
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, SYN, &[])));
    let port = router.mapped(Protocol::Tcp, CLIENT, 5000).unwrap();
    for stranger in 0..100 {
        router.send(&v4(&format!("9.9.9.{stranger}"), POOL, 64, tcp(80, port, SYN, &[])));
    }
    assert_eq!((router.tables().0, router.count("client-session-limit")), ([20, 0, 0], 81));
    assert!((0..20).all(|port| !is_refused(ask(&mut router, CLIENT, port))));
    assert_eq!(ask(&mut router, CLIENT, 20), Verdict::Dropped(Reason::ClientSessionLimit));
}

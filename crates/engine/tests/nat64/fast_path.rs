//! Which sessions are handed to the fast path, and how its word about them counts.
use core::time::Duration;

use sixgate_engine::nat64::fast_path::{HandOver, Order, Usage};
use sixgate_engine::nat64::tuple::TupleV4;
use sixgate_engine::plan::{FastPathPlan, Nat64Plan};
use sixgate_engine::status::Traffic;

use crate::packet::{ACK, FIN, RST, SYN, icmpv4, icmpv6, tcp, udp, v4, v6};
use crate::router::{CLIENT, OTHER_CLIENT, POOL, POOL_V6, Router, SERVER, SERVER_V6, plan};

const LAN: u32 = 7;

fn fast_plan() -> Nat64Plan {
    let clients = vec![("2001:db8:1::/64".parse().unwrap(), LAN), ("2001:db8::/32".parse().unwrap(), 8)];
    let (uplink, lans) = ((2, "eth0".to_owned()), vec![(LAN, "eth1".to_owned())]);
    let fast_path = FastPathPlan { uplink, lans, clients, validated: Vec::new(), sessions: None };
    Nat64Plan { fast_path: Some(fast_path), ports: 40_000..=40_000, ..plan(40_000..=40_000) }
}

fn router() -> Router {
    let mut router = Router::with(&fast_plan());
    router.nat64.begin_fast_path(0);
    router
}

fn from_client() -> Vec<u8> {
    v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question"))
}

fn from_server() -> Vec<u8> {
    v4(SERVER, POOL, 64, udp(53, 40_000, b"answer"))
}

fn orders(router: &mut Router) -> Vec<Order> {
    std::iter::from_fn(|| router.nat64.poll_order()).collect()
}

/// A UDP session that has just been handed over.
fn handed_over(router: &mut Router) -> HandOver {
    for packet in [from_client(), from_server(), from_client()] {
        router.pass(&packet);
    }
    let orders = orders(router);
    let [Order::Insert(hand_over)] = orders[..] else { panic!("{orders:?}") };
    assert_eq!(router.nat64.handed_over(), 1);
    hand_over
}

fn tuple(hand_over: &HandOver) -> TupleV4 {
    TupleV4 { protocol: hand_over.protocol, mapped: hand_over.mapped, server: hand_over.server }
}

fn usage(router: &Router, ago: u64, packets: u64) -> Usage {
    let last_used = sixgate_engine::time::Instant::from_nanos(router.now.as_nanos() - ago * 1_000_000_000);
    let traffic = Traffic { packets, bytes: 100 * packets };
    Usage { last_used, traffic: [traffic, Traffic::default()] }
}

#[test]
fn a_session_is_handed_over_once_each_side_has_answered_the_other() {
    let mut router = router();
    for packet in [from_client(), from_client(), from_server(), from_server()] {
        router.pass(&packet);
        assert_eq!(orders(&mut router), []);
    }
    router.pass(&from_client());
    let orders_of_third = orders(&mut router);
    let [Order::Insert(hand_over)] = orders_of_third[..] else { panic!("{orders_of_third:?}") };
    assert_eq!(hand_over.server_v6.to_string(), "64:ff9b::102:304");
    assert_eq!((hand_over.lan, hand_over.mapped.port, hand_over.client.port), (LAN, 40_000, 5000));
    router.pass(&from_server());
    router.pass(&from_client());
    assert_eq!(orders(&mut router), [], "it is there already");
}

#[test]
fn without_a_fast_path_nothing_is_ordered() {
    let mut router = Router::with(&fast_plan());
    for packet in [from_client(), from_server(), from_client(), from_server()] {
        router.pass(&packet);
    }
    assert_eq!(router.nat64.poll_order(), None);
}

#[test]
fn errors_are_no_answers_and_hairpins_stay_in_the_translator() {
    let mut router = router();
    router.pass(&from_client());
    let quoted = v4(POOL, SERVER, 60, udp(40_000, 53, b"question"));
    for _ in 0..2 {
        router.pass(&v4("5.6.7.8", POOL, 60, icmpv4(3, 3, 0, &quoted)));
        router.pass(&from_client());
    }
    assert_eq!(orders(&mut router), []);

    let mut router = Router::with(&Nat64Plan { ports: 40_000..=40_010, ..fast_plan() });
    router.nat64.begin_fast_path(0);
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"x")));
    let mapped = router.mapped(sixgate_engine::nat64::tuple::Protocol::Udp, CLIENT, 5000).unwrap();
    router.pass(&v6(OTHER_CLIENT, SERVER_V6, 64, udp(6000, 53, b"x")));
    let other = router.mapped(sixgate_engine::nat64::tuple::Protocol::Udp, OTHER_CLIENT, 6000).unwrap();
    for _ in 0..3 {
        router.send(&v6(CLIENT, POOL_V6, 64, udp(5000, other, b"x")));
        router.send(&v6(OTHER_CLIENT, POOL_V6, 64, udp(6000, mapped, b"x")));
    }
    assert_eq!(orders(&mut router), []);
}

#[test]
fn a_connection_is_handed_over_at_its_third_packet_and_asked_back_when_it_closes() {
    let (client, server) = (
        |flags| v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, flags, &[])),
        |flags| v4(SERVER, POOL, 64, tcp(80, 40_000, flags, &[])),
    );
    let open = |router: &mut Router| {
        for packet in [client(SYN), server(SYN | ACK), client(ACK)] {
            router.pass(&packet);
        }
        let orders = orders(router);
        let [Order::Insert(hand_over)] = orders[..] else { panic!("{orders:?}") };
        tuple(&hand_over)
    };
    let mut closed = router();
    let session = open(&mut closed);
    closed.pass(&client(FIN | ACK));
    assert_eq!(orders(&mut closed), [], "the other half goes on");
    closed.pass(&server(FIN | ACK));
    assert_eq!(orders(&mut closed), [Order::Remove(session)]);

    let mut reset = router();
    let session = open(&mut reset);
    reset.pass(&server(RST));
    assert_eq!(orders(&mut reset), [Order::Remove(session)]);
    let last = usage(&reset, 0, 9);
    reset.nat64.handle_usage(&session, Some(last), reset.now);
    assert_eq!(reset.nat64.handed_over(), 0);
    reset.wait(241);
    assert_eq!(reset.tables().0, [0, 0, 0], "TCP_TRANS is over");
}

#[test]
fn a_session_that_the_fast_path_has_used_lives_on_from_then() {
    let mut router = router();
    let session = tuple(&handed_over(&mut router));
    router.wait(301);
    assert_eq!(orders(&mut router), [Order::Report(session)]);
    let used = usage(&router, 100, 5);
    router.nat64.handle_usage(&session, Some(used), router.now);
    assert_eq!(orders(&mut router), []);
    router.wait(199);
    assert_eq!(orders(&mut router), [], "199 s and 100 s");
    router.wait(1);
    assert_eq!(orders(&mut router), [Order::Report(session)]);
    let used = usage(&router, 300, 5);
    router.nat64.handle_usage(&session, Some(used), router.now);
    assert_eq!(orders(&mut router), [Order::Remove(session)]);
    router.nat64.handle_usage(&session, Some(used), router.now);
    assert_eq!(router.tables().0, [0, 1, 0], "it is over, but not before its timer is looked at");
    router.wait(0);
    assert_eq!((router.tables(), orders(&mut router)), (([0; 3], [0; 3]), Vec::new()));
}

#[test]
fn an_idle_connection_in_the_fast_path_is_probed() {
    let mut router = router();
    for packet in [
        v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, SYN, &[])),
        v4(SERVER, POOL, 64, tcp(80, 40_000, SYN | ACK, &[])),
        v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, ACK, &[])),
    ] {
        router.pass(&packet);
    }
    let handed = orders(&mut router);
    let [Order::Insert(hand_over)] = handed[..] else { panic!("{handed:?}") };
    let session = tuple(&hand_over);
    assert!(router.rest(7441).is_empty(), "it may have been used");
    assert_eq!(orders(&mut router), [Order::Report(session)]);
    let unused = usage(&router, 7441, 0);
    router.nat64.handle_usage(&session, Some(unused), router.now);
    assert_eq!(orders(&mut router), [Order::Remove(session)]);
    router.nat64.handle_usage(&session, Some(unused), router.now);
    assert_eq!(router.rest(0).len(), 1, "RFC 6146 section 3.5.2.2: a probe");
}

#[test]
fn another_epoch_takes_it_back_first_and_counts_what_it_did() {
    let mut router = router();
    let session = tuple(&handed_over(&mut router));
    let epoch = router.nat64.epoch();
    router.nat64.reconfigure(&fast_plan(), router.now);
    assert_eq!(router.nat64.epoch(), epoch, "the plan is the same");
    router.nat64.reconfigure(&Nat64Plan { mtu_v4: 1400, ..fast_plan() }, router.now);
    assert_ne!(router.nat64.epoch(), epoch);
    for packet in [from_client(), from_server()] {
        router.pass(&packet);
        assert_eq!(orders(&mut router), []);
    }
    router.pass(&from_client());
    assert_eq!(router.nat64.poll_order(), Some(Order::Remove(session)));
    let used = usage(&router, 0, 50);
    router.nat64.handle_usage(&session, Some(used), router.now);
    assert!(matches!(router.nat64.poll_order(), Some(Order::Insert(hand_over)) if tuple(&hand_over) == session));
    assert_eq!((router.nat64.poll_order(), router.nat64.handed_over()), (None, 1));
    assert_eq!(router.nat64.status().clients[0].v6_to_v4.packets, 3 + 1 + 50);
}

#[test]
fn a_sample_charges_the_client_for_what_is_new() {
    let mut router = router();
    let session = tuple(&handed_over(&mut router));
    for packets in [10, 25] {
        router.nat64.sample();
        assert_eq!(orders(&mut router), [Order::Report(session)]);
        let used = usage(&router, 0, packets);
        router.nat64.handle_usage(&session, Some(used), router.now);
        assert_eq!(router.nat64.status().clients[0].v6_to_v4.packets, 2 + packets);
    }
}

#[test]
fn who_was_refused_comes_again_after_two_more_answers() {
    let mut router = router();
    let hand_over = handed_over(&mut router);
    router.nat64.handle_refusal(&hand_over);
    assert_eq!(router.nat64.handed_over(), 0);
    for packet in [from_server(), from_client()] {
        router.pass(&packet);
        assert_eq!(orders(&mut router), []);
    }
    router.pass(&from_server());
    assert_eq!(orders(&mut router), [Order::Insert(hand_over)]);
}

#[test]
fn the_next_daemon_adopts_what_can_be_its_own() {
    let mut before = router();
    let hand_over = handed_over(&mut before);
    let mut after = Router::with(&fast_plan());
    after.now = before.now + Duration::from_secs(10);
    after.nat64.begin_fast_path(9);
    let used = usage(&after, 1, 1000);
    let foreign = HandOver { server_v6: "64:ff9b:2::102:304".parse().unwrap(), ..hand_over };
    let mut other_client = hand_over;
    other_client.client.port += 1;
    let elsewhere = HandOver { mapped: hand_over.server, ..hand_over };
    let late = Usage { last_used: before.now, ..used };
    after.now = after.now + Duration::from_secs(300);
    assert!(!after.nat64.adopt(&hand_over, 9, &late, after.now), "its lifetime is over");
    let used = Usage { last_used: after.now, ..used };
    for stranger in [foreign, elsewhere] {
        assert!(!after.nat64.adopt(&stranger, 9, &used, after.now));
    }
    assert_eq!(after.tables().0, [0, 0, 0]);
    assert!(after.nat64.adopt(&hand_over, 9, &used, after.now));
    assert_eq!((after.tables().0, after.nat64.handed_over()), ([0, 1, 0], 1));
    assert!(!after.nat64.adopt(&other_client, 9, &used, after.now));
    // What the former daemon has counted is not counted again.
    after.nat64.sample();
    let session = tuple(&hand_over);
    assert_eq!(orders(&mut after), [Order::Report(session)]);
    let more = usage(&after, 0, 1007);
    after.nat64.handle_usage(&session, Some(more), after.now);
    assert_eq!(after.nat64.status().clients[0].v6_to_v4.packets, 7);
    after.pass(&from_server());
    after.pass(&from_client());
    after.pass(&from_server());
    assert_eq!(orders(&mut after), [], "it is there already, in this epoch");
}

#[test]
fn pings_are_handed_over_by_their_identifier() {
    let mut router = router();
    let question = v6(CLIENT, SERVER_V6, 64, icmpv6(128, 0, 0x1234_0001, b"ping"));
    let answer = v4(SERVER, POOL, 64, icmpv4(0, 0, 40_000 << 16 | 1, b"ping"));
    for packet in [&question, &answer, &question] {
        router.pass(packet);
    }
    let handed = orders(&mut router);
    let [Order::Insert(hand_over)] = handed[..] else { panic!("{handed:?}") };
    assert_eq!((hand_over.client.port, hand_over.mapped.port, hand_over.server.port), (0x1234, 40_000, 0));
}

#[test]
fn sessions_of_clients_that_have_changed_are_taken_back_and_handed_over_again() {
    let mut router = router();
    let session = tuple(&handed_over(&mut router));
    router.nat64.withdraw_clients(|client| client == OTHER_CLIENT.parse::<core::net::Ipv6Addr>().unwrap());
    assert_eq!(orders(&mut router), []);
    router.nat64.withdraw_clients(|client| client == CLIENT.parse::<core::net::Ipv6Addr>().unwrap());
    assert_eq!(orders(&mut router), [Order::Remove(session)]);
    let last = usage(&router, 0, 9);
    router.nat64.handle_usage(&session, Some(last), router.now);
    assert_eq!(router.nat64.handed_over(), 0);
    handed_over(&mut router);
}

#[test]
fn a_client_that_goes_over_to_another_prefix_is_answered_by_that_one() {
    let other = "2001:db8:64::/96".parse().unwrap();
    let mut router = Router::with(&Nat64Plan { further_pref64: vec![other], ..fast_plan() });
    router.nat64.begin_fast_path(0);
    let session = tuple(&handed_over(&mut router));
    router.pass(&v6(CLIENT, "2001:db8:64::102:304", 64, udp(5000, 53, b"question")));
    assert_eq!(orders(&mut router), [Order::Remove(session)]);
    let last = usage(&router, 0, 9);
    router.nat64.handle_usage(&session, Some(last), router.now);
    for packet in [from_server(), v6(CLIENT, "2001:db8:64::102:304", 64, udp(5000, 53, b"question"))] {
        router.pass(&packet);
    }
    router.pass(&from_server());
    let orders = orders(&mut router);
    let [Order::Insert(hand_over)] = orders[..] else { panic!("{orders:?}") };
    assert_eq!(hand_over.server_v6.to_string(), "2001:db8:64::102:304");
}

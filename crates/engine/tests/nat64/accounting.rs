//! What is told of bindings and sessions, and what is counted for each of them.
use sixgate_engine::nat64::event::{BoundTo, Cause, EventKind, Wanted};
use sixgate_engine::nat64::tuple::{Protocol, TransportV4, TransportV6};
use sixgate_engine::nat64::verdict::{Reason, Verdict};
use sixgate_engine::plan::{Nat64Plan, VmNets};
use sixgate_engine::status::Traffic;
use sixgate_engine::xlat::{ChecksumZero, Policy};

use crate::packet::{ACK, FIN, RST, SYN, icmpv6, tcp, udp, v4, v6};
use crate::router::{CLIENT, POOL, POOL_V6, Router, SERVER, SERVER_V6, plan};

fn wanting(events: Wanted) -> Nat64Plan {
    let vms = vec![VmNets { name: "vm1".to_owned(), nets: vec![format!("{CLIENT}/128").parse().unwrap()] }];
    Nat64Plan { events, vms, ..plan(40_960..=65_535) }
}

fn told(router: &mut Router) -> Vec<EventKind> {
    std::iter::from_fn(|| router.nat64.poll_event()).map(|event| event.kind).collect()
}

fn names(router: &mut Router) -> Vec<&'static str> {
    told(router).iter().map(EventKind::name).collect()
}

/// RFC 8158 sections 5.6.4 and 5.6.6: what a log needs to say who had which port when.
#[test]
fn bindings_and_sessions_are_told_with_both_ends_and_the_cause() {
    let mut router = Router::with(&wanting(Wanted::Sessions));
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    let bound = BoundTo {
        protocol: Protocol::Udp,
        client: TransportV6 { address: CLIENT.parse().unwrap(), port: 5000 },
        mapped: TransportV4 { address: POOL.parse().unwrap(), port },
    };
    let server = |port| TransportV4 { address: SERVER.parse().unwrap(), port };
    let expected =
        [EventKind::BindingCreated(bound, Cause::Inside), EventKind::SessionCreated(bound, server(53), Cause::Inside)];
    let begin = router.now;
    let event = router.nat64.poll_event().unwrap();
    assert_eq!((event.at, event.kind), (begin, expected[0]));
    assert_eq!(told(&mut router), expected[1..]);
    router.pass(&v4(SERVER, POOL, 64, udp(53, port, b"an answer")));
    router.pass(&v4(SERVER, POOL, 64, udp(54, port, b"from another port")));
    assert_eq!(told(&mut router), [EventKind::SessionCreated(bound, server(54), Cause::Outside)]);
    router.wait(300);
    let [sent, received, unasked] =
        [(1, 40 + 16), (1, 20 + 17), (1, 20 + 25)].map(|(packets, bytes)| Traffic { packets, bytes });
    assert_eq!(
        told(&mut router),
        [
            EventKind::SessionRemoved(bound, server(53), Cause::Expired, [sent, received]),
            EventKind::SessionRemoved(bound, server(54), Cause::Expired, [Traffic::default(), unasked]),
            EventKind::BindingRemoved(bound, Cause::Expired),
        ]
    );
}

/// RFC 6888 REQ-12: no destination unless it is asked for; and nothing at all by default.
#[test]
fn nobody_is_told_whom_a_client_talks_to_unless_that_is_wanted() {
    for (wanted, expected) in [
        (Wanted::Nothing, &[][..]),
        (Wanted::Bindings, &["binding-created", "binding-removed"]),
        (Wanted::Sessions, &["binding-created", "session-created", "session-removed", "binding-removed"]),
    ] {
        let mut router = Router::with(&wanting(wanted));
        router.pass(&v6(CLIENT, SERVER_V6, 64, icmpv6(128, 0, 5000 << 16, b"ping")));
        router.wait(60);
        assert_eq!(names(&mut router), expected, "{wanted:?}");
    }
}

#[test]
fn the_end_of_a_connection_says_how_it_came() {
    let closed: &[(bool, u8)] = &[(true, FIN | ACK), (false, FIN | ACK)];
    let aborted: &[(bool, u8)] = &[(false, RST)];
    for (last, cause, wait) in [(closed, Cause::Closed, 240), (aborted, Cause::Aborted, 240)] {
        let mut router = Router::with(&wanting(Wanted::Bindings));
        router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, SYN, &[])));
        let port = router.mapped(Protocol::Tcp, CLIENT, 5000).unwrap();
        router.pass(&v4(SERVER, POOL, 64, tcp(80, port, SYN | ACK, &[])));
        for (from_inside, flags) in last {
            router.pass(&match from_inside {
                true => v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, *flags, &[])),
                false => v4(SERVER, POOL, 64, tcp(80, port, *flags, &[])),
            });
        }
        router.wait(wait);
        let end = told(&mut router).pop();
        assert!(matches!(end, Some(EventKind::BindingRemoved(_, it)) if it == cause), "{end:?}");
    }
}

#[test]
fn a_lost_address_ends_bindings_and_a_restart_tells_them_again() {
    let mut router = Router::with(&wanting(Wanted::Bindings));
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    let events = router.nat64.save();
    router.nat64 = sixgate_engine::nat64::Nat64::new(&wanting(Wanted::Bindings), [8; 32]);
    router.nat64.restore(&events, router.now).unwrap();
    assert!(matches!(told(&mut router)[..], [EventKind::BindingCreated(_, Cause::Restored)]));
    let offline = Nat64Plan { pool4: Vec::new(), ..wanting(Wanted::Bindings) };
    router.nat64.reconfigure(&offline, router.now);
    assert!(matches!(told(&mut router)[..], [EventKind::BindingRemoved(_, Cause::Gone)]));
}

/// RFC 8158: natEvent 12 and 13.
#[test]
fn that_nothing_is_left_is_told_once_a_second() {
    let small = Nat64Plan { ports: 40_960..=40_961, ..wanting(Wanted::Bindings) };
    let mut router = Router::with(&small);
    let ask = |port| v6(CLIENT, SERVER_V6, 64, udp(port, 53, b"question"));
    for port in 0..100 {
        router.send(&ask(port));
    }
    let refused = |kind: &EventKind| match kind {
        EventKind::Refused(protocol, client, reason) => Some((*protocol, client.port, *reason)),
        _ => None,
    };
    let all: Vec<_> = told(&mut router).iter().filter_map(refused).collect();
    assert_eq!(all, [(Protocol::Udp, 2, Reason::PoolExhausted)]);
    assert!(matches!(router.send(&ask(200)).0, Verdict::Dropped(Reason::PoolExhausted)));
    assert_eq!(told(&mut router), []);
    router.wait(1);
    router.send(&ask(200));
    assert_eq!(told(&mut router).iter().map(EventKind::nat_event).collect::<Vec<_>>(), [Some(12)]);
}

/// RFC 7915 section 4.5: a management event that names addresses and ports; a flood of such is told once a second.
#[test]
fn datagrams_that_are_dropped_for_their_checksum_are_told_once_a_second() {
    let policy = Policy { udp_checksum_zero: ChecksumZero::Drop, ..Policy::DEFAULT };
    let mut router = Router::with(&Nat64Plan { policy, ..wanting(Wanted::Bindings) });
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    told(&mut router);
    let mut unchecked = v4(SERVER, POOL, 64, udp(53, port, b"an answer"));
    unchecked[26..28].fill(0);
    for _ in 0..100 {
        assert_eq!(router.send(&unchecked).0, Verdict::Dropped(Reason::UdpWithoutChecksum));
    }
    let [from, to] = [(SERVER, 53), (POOL, port)].map(|(it, port)| TransportV4 { address: it.parse().unwrap(), port });
    assert_eq!(told(&mut router), [EventKind::Unchecked(from, to)]);
    router.wait(1);
    router.send(&unchecked);
    assert_eq!(told(&mut router), [EventKind::Unchecked(from, to)]);
    router.pass(&v4(SERVER, POOL, 64, udp(53, port, b"an answer")));
}

#[test]
fn each_session_client_and_vm_has_its_own_count() {
    const OTHER: &str = "2001:db8:9::9";
    let mut router = Router::with(&wanting(Wanted::Nothing));
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5001, 53, b"question")));
    router.pass(&v6(OTHER, SERVER_V6, 64, udp(5000, 53, b"question")));
    // What does not pass is not counted.
    router.send(&v6(CLIENT, SERVER_V6, 1, udp(5000, 53, b"question")));
    let status = router.nat64.status();
    let sent = |packets| Traffic { packets, bytes: packets * 56 };
    let vms: Vec<_> = status.vms.iter().map(|vm| (vm.name.as_str(), vm.v6_to_v4)).collect();
    assert_eq!(vms, [("vm1", sent(2))]);
    let clients: Vec<_> = status.clients.iter().map(|it| (it.address.unwrap(), it.v6_to_v4, it.v4_to_v6)).collect();
    let none = Traffic::default();
    assert_eq!(clients, [(CLIENT.parse().unwrap(), sent(2), none), (OTHER.parse().unwrap(), sent(1), none)]);
    let page = router.nat64.list(0, 2, None, router.now);
    assert_eq!((page.sessions.len(), page.next), (2, Some(2)));
    let page = router.nat64.list(2, 2, None, router.now);
    assert_eq!((page.sessions.len(), page.next), (1, None));
    let page = router.nat64.list(0, 100, Some("2001:db8:9::/48".parse().unwrap()), router.now);
    assert_eq!(
        page.sessions.iter().map(|it| (it.client.to_string(), it.v6_to_v4)).collect::<Vec<_>>(),
        [("[2001:db8:9::9]:5000".to_owned(), sent(1))]
    );
}

#[test]
fn a_hairpin_is_counted_for_both_ends() {
    const OTHER: &str = "2001:db8:9::9";
    let mut router = Router::with(&wanting(Wanted::Nothing));
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    router.pass(&v6(OTHER, SERVER_V6, 64, udp(6000, 53, b"question")));
    let port = |client, port| router.mapped(Protocol::Udp, client, port).unwrap();
    let (one, two) = (port(CLIENT, 5000), port(OTHER, 6000));
    router.send(&v6(CLIENT, POOL_V6, 64, udp(5000, two, b"hello")));
    router.pass(&v6(OTHER, POOL_V6, 64, udp(6000, one, b"hello")));
    let vm = &router.nat64.status().vms[0];
    assert_eq!((vm.v6_to_v4.packets, vm.v4_to_v6.packets), (1, 1), "what the filter keeps out is nobody's");
}

/// The part that is taken down later may hold what came meanwhile.
#[test]
fn sessions_that_come_and_go_while_they_are_saved_do_no_harm() {
    let mut router = Router::new();
    let open = |router: &mut Router, port| router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(port, 80, SYN, &[])));
    for port in 0..100 {
        open(&mut router, port);
    }
    let mut saving = router.nat64.begin_save();
    assert!(!router.nat64.save_some(&mut saving, 50));
    router.wait(240);
    for port in 50..150 {
        open(&mut router, port);
    }
    while !router.nat64.save_some(&mut saving, 7) {}
    router.nat64 = sixgate_engine::nat64::Nat64::new(&plan(40_960..=65_535), [8; 32]);
    let restored = router.nat64.restore(&saving.seal(), router.now).unwrap();
    assert_eq!(restored.sessions + restored.left_out, 100);
    assert!(restored.sessions >= 50, "{restored:?}");
    router.wait(0);
    let (sessions, bindings) = router.tables();
    assert_eq!((sessions[0], bindings[0]), (50, 50), "those from before are over, and those of the second half go on");
}

//! The pool behind the translator: which address and port a client gets, and what a change of the pool does to whom.
use std::net::Ipv4Addr;

use sixgate_engine::nat64::event::{EventKind, PortBlock, Wanted};
use sixgate_engine::nat64::tuple::{Protocol, TransportV4, TransportV6};
use sixgate_engine::nat64::verdict::{Reason, Verdict};
use sixgate_engine::plan::{ClientPrefix, Nat64Plan, PublishedEcho, StaticBinding};

use crate::packet::{SYN, icmpv6, tcp, udp, v6};
use crate::router::{CLIENT, OTHER_CLIENT, POOL, ROUTER, Router, SERVER_V6, plan};

/// The shared address and three further ones, each with ten ports.
fn four() -> Nat64Plan {
    let further_pool4 = (2..=4).map(|host| Ipv4Addr::new(198, 51, 100, host)).collect();
    Nat64Plan { further_pool4, further_ports: 2000..=2009, ..plan(40_000..=40_009) }
}

/// Sends a datagram; the mapped address and port, or why there is none.
fn ask(router: &mut Router, client: &str, port: u16) -> Result<(Ipv4Addr, u16), Reason> {
    let (verdict, packets) = router.send(&v6(client, SERVER_V6, 64, udp(port, 53, b"question")));
    match verdict {
        Verdict::Translated(_) => {
            let bytes = &packets[0];
            let address = Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]);
            Ok((address, u16::from_be_bytes([bytes[20], bytes[21]])))
        }
        Verdict::Dropped(reason) => Err(reason),
        Verdict::Hairpinned | Verdict::Held => panic!("{verdict:?}"),
    }
}

fn client(number: u16) -> String {
    format!("2001:db8:{number:x}::2")
}

/// RFC 4787 REQ-2, RFC 6888 REQ-2.
#[test]
fn a_client_keeps_its_address_while_that_has_ports_and_others_come_or_go() {
    let mut router = Router::with(&four());
    let (home, port) = ask(&mut router, CLIENT, 5000).unwrap();
    assert_eq!(port >= 40_000, home == POOL.parse::<Ipv4Addr>().unwrap(), "each address has its own share");
    let mut more = four();
    more.further_pool4.extend((10..=20).map(|host| Ipv4Addr::new(198, 51, 100, host)));
    router.nat64.reconfigure(&more, router.now);
    for port in 5001..5010 {
        assert_eq!(ask(&mut router, CLIENT, port).unwrap().0, home);
    }
    let (other, _) = ask(&mut router, CLIENT, 5010).unwrap();
    assert_ne!(other, home, "its own is full");
    // Not for whoever shares its /64: a LAN of hosts is spread like any others.
    let neighbours: std::collections::BTreeSet<_> =
        (0x10..0x40).map(|host| ask(&mut router, &format!("2001:db8:1::{host:x}"), 5000).unwrap().0).collect();
    assert!(neighbours.len() > 10, "{neighbours:?}");
    let used: std::collections::BTreeSet<_> =
        (10..60).map(|number| ask(&mut router, &client(number), 5000).unwrap().0).collect();
    assert!(used.len() > 10, "clients are spread: {used:?}");
    router.wait(430);
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
    assert!(ask(&mut router, CLIENT, 5000).is_ok());
}

/// RFC 4787 REQ-2: and it is reached at the address that it sends from.
#[test]
fn a_published_host_sends_from_the_address_that_it_is_reached_at() {
    let mut published = four();
    let home = Ipv4Addr::new(198, 51, 100, 3);
    published.static_bindings = vec![StaticBinding {
        protocol: Protocol::Tcp,
        mapped: TransportV4 { address: home, port: 25 },
        client: TransportV6 { address: CLIENT.parse().unwrap(), port: 25 },
        ports: 1,
        line: 7,
    }];
    let echo = Ipv4Addr::new(198, 51, 100, 4);
    published.published_echo = vec![PublishedEcho { mapped: echo, client: OTHER_CLIENT.parse().unwrap(), line: 9 }];
    for _ in 0..2 {
        let mut router = Router::with(&published);
        assert_eq!(ask(&mut router, CLIENT, 5000).unwrap().0, home);
        assert_eq!(ask(&mut router, OTHER_CLIENT, 5000).unwrap().0, echo);
    }
    let mut router = Router::with(&published);
    router.send(&v6(CLIENT, SERVER_V6, 64, tcp(25, 80, SYN, &[])));
    let shown = router.nat64.status().published;
    let lines: Vec<(u32, Option<u64>)> = shown.iter().map(|it| (it.line, it.sessions)).collect();
    assert_eq!(lines, [(7, Some(1)), (9, None)]);
}

#[test]
fn what_is_said_of_the_pool_follows_ports_that_come_and_go() {
    let mut router = Router::with(&four());
    let free = |router: &Router| {
        let pool = router.nat64.status().pool;
        (pool.addresses, pool.free.udp, pool.free.tcp, pool.held)
    };
    assert_eq!(free(&router), (4, 40, 40, 0));
    ask(&mut router, CLIENT, 5000).unwrap();
    assert_eq!(free(&router), (4, 39, 40, 0));
    router.wait(300);
    assert_eq!(free(&router), (4, 39, 40, 1));
    router.wait(120);
    assert_eq!(free(&router), (4, 40, 40, 0));
}

/// RFC 6888 REQ-6.
#[test]
fn nothing_is_translated_to_what_the_operator_excludes() {
    let mut excluding = plan(40_000..=40_009);
    excluding.never_translate = vec!["1.2.3.0/24".parse().unwrap()];
    let mut router = Router::with(&excluding);
    let packet = v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, SYN, &[]));
    let (verdict, packets) = router.send(&packet);
    assert_eq!(verdict, Verdict::Dropped(Reason::ExcludedDestination));
    assert_eq!(packets, [v6(ROUTER, CLIENT, 64, icmpv6(1, 1, 0, &packet))]);
    router.pass(&v6(CLIENT, "64:ff9b::1.2.4.4", 64, tcp(5000, 80, SYN, &[])));
    assert_eq!(router.tables(), ([1, 0, 0], [1, 0, 0]));
}

/// Four blocks of 64 ports; the events of a log.
fn in_blocks() -> Nat64Plan {
    Nat64Plan { port_block: 64, events: Wanted::Blocks, ..plan(40_000..=40_255) }
}

fn told(router: &mut Router) -> Vec<EventKind> {
    std::iter::from_fn(|| router.nat64.poll_event()).map(|event| event.kind).collect()
}

/// RFC 6888 REQ-14: a log that names blocks has a line for each of them and none for each port.
#[test]
fn blocks_are_told_once_and_belong_to_a_vm_with_its_containers() {
    let mut plan = in_blocks();
    let net = |text: &str| text.parse().unwrap();
    plan.clients = vec![ClientPrefix { net: net("2001:db8:1:21::/80"), each: 128 }];
    let mut router = Router::with(&plan);
    let (address, first) = ask(&mut router, "2001:db8:1:21::5", 5000).unwrap();
    let block = PortBlock { client: net("2001:db8:1:21::/80"), address, port: first / 64 * 64, count: 64 };
    let block = PortBlock { port: 40_000 + (first - 40_000) / 64 * 64, ..block };
    assert_eq!(told(&mut router), [EventKind::BlockAssigned(block)]);
    for container in 6..40 {
        let (_, port) = ask(&mut router, &format!("2001:db8:1:21::{container}"), 5000).unwrap();
        assert!((block.port..block.port + 64).contains(&port));
    }
    assert_eq!(told(&mut router), []);
    let (_, port) = ask(&mut router, CLIENT, 5000).unwrap();
    assert!(!(block.port..block.port + 64).contains(&port), "another client has another block");
    assert!(matches!(told(&mut router)[..], [EventKind::BlockAssigned(other)] if other.port != block.port));
    assert_eq!(router.nat64.status().pool.blocks, (2, 2));
    router.wait(300);
    let released = told(&mut router);
    assert_eq!(released.len(), 2);
    assert!(released.contains(&EventKind::BlockReleased(block)), "{released:?}");
    assert_eq!(router.nat64.status().pool.blocks, (0, 2), "both are held back");
    router.wait(120);
    assert_eq!(router.nat64.status().pool.blocks, (0, 4));
}

/// One greedy client never costs another a session.
#[test]
fn a_client_that_takes_all_the_blocks_it_can_leaves_one_for_others() {
    let mut router = Router::with(&in_blocks());
    let got = (0..300).filter(|port| ask(&mut router, CLIENT, 5000 + port).is_ok()).count();
    assert!((64..=192).contains(&got), "{got}");
    for port in 0..10 {
        assert!(ask(&mut router, "2001:db8:2::2", 5000 + port).is_ok());
    }
    assert!(ask(&mut router, CLIENT, 5000).is_ok(), "and keeps what it has");
}

#[test]
fn blocks_survive_a_restart_and_a_change_of_what_does_not_concern_them() {
    let plan = in_blocks();
    let mut router = Router::with(&plan);
    let (_, port) = ask(&mut router, CLIENT, 5000).unwrap();
    let assigned = told(&mut router);
    let restored = router.restart(&plan);
    assert_eq!((restored.sessions, told(&mut router)), (1, assigned), "a log that begins anew knows it");
    let mut changed = plan.clone();
    changed.limits.sessions = 100;
    router.nat64.reconfigure(&changed, router.now);
    assert_eq!(told(&mut router), []);
    assert_eq!(ask(&mut router, CLIENT, 5000), Ok((POOL.parse().unwrap(), port)));
    let (_, second) = ask(&mut router, CLIENT, 5001).unwrap();
    assert_eq!((second - 40_000) / 64, (port - 40_000) / 64);
    // Blocks of another size: whoever is alone in one keeps its sessions.
    changed.port_block = 128;
    router.nat64.reconfigure(&changed, router.now);
    assert_eq!(router.tables(), ([0, 2, 0], [0, 2, 0]));
    assert!(
        matches!(told(&mut router)[..], [EventKind::BlockReleased(_), EventKind::BlockAssigned(it)] if it.count == 128)
    );
    changed.port_block = 0;
    router.nat64.reconfigure(&changed, router.now);
    assert_eq!(router.tables(), ([0, 2, 0], [0, 2, 0]));
}

/// What `docs/reference.toml` promises: parts of a block have the same owner.
#[test]
fn blocks_that_are_divided_end_nothing() {
    let mut plan = Nat64Plan { port_block: 256, ..plan(40_000..=41_023) };
    plan.limits.prefix_length = 128;
    let mut router = Router::with(&plan);
    for port in 0..70 {
        for host in 0..3 {
            ask(&mut router, &client(host), 5000 + port).unwrap();
        }
    }
    for size in [128, 64, 0] {
        plan.port_block = size;
        router.nat64.reconfigure(&plan, router.now);
        assert_eq!(router.tables(), ([0, 210, 0], [0, 210, 0]), "{size}");
    }
}

#[test]
fn of_two_clients_that_come_to_share_a_block_the_second_ends() {
    let mut scattered = plan(40_000..=40_127);
    scattered.events = Wanted::Blocks;
    let mut router = Router::with(&scattered);
    for port in 0..20 {
        ask(&mut router, CLIENT, 5000 + port).unwrap();
        ask(&mut router, "2001:db8:2::2", 5000 + port).unwrap();
    }
    let in_one = Nat64Plan { port_block: 128, ..scattered };
    router.nat64.reconfigure(&in_one, router.now);
    assert_eq!(router.tables(), ([0, 20, 0], [0, 20, 0]));
    assert_eq!(router.nat64.status().pool.blocks, (1, 0));
    router.wait(300);
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
    router.wait(120);
    assert_eq!(router.nat64.status().pool.blocks, (0, 1), "every port was counted once");
    assert_eq!(router.nat64.status().pool.free.udp, 128);
}

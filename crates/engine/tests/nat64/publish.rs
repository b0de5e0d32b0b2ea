//! Static bindings: RFC 6146 section 3.1.
use sixgate_engine::nat64::tuple::{Protocol, TransportV4, TransportV6};
use sixgate_engine::nat64::verdict::{Direction, Reason, Verdict};
use sixgate_engine::plan::{Nat64Plan, StaticBinding};

use crate::packet::{ACK, SYN, tcp, udp, v4, v6};
use crate::router::{CLIENT, OTHER_CLIENT, POOL, POOL_V6, Router, SERVER, SERVER_V6, STRANGER, plan};

const TO_V6: Verdict = Verdict::Translated(Direction::V4ToV6);

/// TCP ports 8443 to 8445 lead to the client's ports 443 to 445.
fn published() -> Nat64Plan {
    let mut plan = plan(40_000..=40_009);
    plan.static_bindings = vec![StaticBinding {
        protocol: Protocol::Tcp,
        mapped: TransportV4 { address: POOL.parse().unwrap(), port: 8443 },
        client: TransportV6 { address: CLIENT.parse().unwrap(), port: 443 },
        ports: 3,
    }];
    plan
}

#[test]
fn anybody_reaches_a_published_port_and_the_server_sees_who_it_is() {
    let mut router = Router::with(&published());
    assert_eq!(router.tables(), ([0; 3], [3, 0, 0]), "it needs no session");
    let (verdict, packets) = router.send(&v4(SERVER, POOL, 64, tcp(5000, 8443, SYN, &[])));
    assert_eq!((verdict, &packets[0][8..24]), (TO_V6, &v6(SERVER_V6, CLIENT, 63, tcp(1, 1, 0, &[]))[8..24]));
    assert_eq!(packets[0][40..44], [5000u16.to_be_bytes(), 443u16.to_be_bytes()].concat());
    let answer = router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(443, 5000, SYN | ACK, &[])));
    assert_eq!(answer[20..24], [8443u16.to_be_bytes(), 5000u16.to_be_bytes()].concat());
    assert_eq!(router.send(&v4(STRANGER, POOL, 64, tcp(5000, 8445, SYN, &[]))).0, TO_V6, "the whole range");
    let (verdict, _) = router.send(&v4(STRANGER, POOL, 64, udp(5000, 8443, b"hello")));
    assert_eq!(verdict, Verdict::Dropped(Reason::NoBinding), "another protocol");
    router.wait(7440);
    router.wait(240);
    assert_eq!(router.tables(), ([0; 3], [3, 0, 0]), "it outlives its sessions");
}

/// RFC 6146 section 3.8.
#[test]
fn a_published_port_is_reached_from_inside_too() {
    let mut router = Router::with(&published());
    let (verdict, packets) = router.send(&v6(OTHER_CLIENT, POOL_V6, 64, tcp(6000, 8443, SYN, &[])));
    assert_eq!((verdict, &packets[0][42..44]), (Verdict::Hairpinned, &443u16.to_be_bytes()[..]));
    let theirs = router.mapped(Protocol::Tcp, OTHER_CLIENT, 6000).unwrap();
    let (verdict, packets) = router.send(&v6(CLIENT, POOL_V6, 64, tcp(443, theirs, SYN | ACK, &[])));
    assert_eq!(verdict, Verdict::Hairpinned);
    assert_eq!(packets, [v6(POOL_V6, OTHER_CLIENT, 62, tcp(8443, 6000, SYN | ACK, &[]))]);
    let (verdict, _) = router.send(&v6(OTHER_CLIENT, POOL_V6, 64, tcp(6000, 22, SYN, &[])));
    assert_eq!(verdict, Verdict::Dropped(Reason::OwnAddress), "and nothing else of the router's");
}

#[test]
fn a_published_port_inside_the_share_is_given_to_nobody_and_taken_from_whoever_has_it() {
    let mut router = Router::with(&plan(40_000..=40_000));
    router.pass(&v6(OTHER_CLIENT, SERVER_V6, 64, tcp(6000, 80, SYN, &[])));
    let mut taken = plan(40_000..=40_000);
    taken.static_bindings = published().static_bindings;
    (taken.static_bindings[0].mapped.port, taken.static_bindings[0].ports) = (40_000, 1);
    router.nat64.reconfigure(&taken, router.now);
    assert_eq!(router.tables(), ([0; 3], [1, 0, 0]));
    assert_eq!(router.send(&v4(STRANGER, POOL, 64, tcp(5000, 40_000, SYN, &[]))).0, TO_V6);
    let (verdict, _) = router.send(&v6(OTHER_CLIENT, SERVER_V6, 64, tcp(6000, 80, SYN, &[])));
    assert_eq!(verdict, Verdict::Dropped(Reason::PoolExhausted));
}

#[test]
fn what_is_no_longer_published_ends_and_the_rest_goes_on() {
    let mut router = Router::with(&published());
    router.pass(&v4(STRANGER, POOL, 64, tcp(5000, 8443, SYN, &[])));
    router.pass(&v4(STRANGER, POOL, 64, tcp(5000, 8445, SYN, &[])));
    let mut fewer = published();
    fewer.static_bindings[0].ports = 1;
    router.nat64.reconfigure(&fewer, router.now);
    assert_eq!(router.tables(), ([1, 0, 0], [1, 0, 0]));
    assert_eq!(router.send(&v4(STRANGER, POOL, 64, tcp(5000, 8445, ACK, &[]))).0, Verdict::Dropped(Reason::NoBinding));
    let restored = router.restart(&fewer);
    assert_eq!((restored.sessions, router.tables()), (1, ([1, 0, 0], [1, 0, 0])), "sessions on it survive a restart");
    router.nat64.reconfigure(&plan(40_000..=40_009), router.now);
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
}

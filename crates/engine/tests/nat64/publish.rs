//! Static bindings: RFC 6146 section 3.1.
use sixgate_engine::nat64::tuple::{Protocol, TransportV4, TransportV6};
use sixgate_engine::nat64::verdict::{Direction, Reason, Verdict};
use sixgate_engine::plan::{Nat64Plan, PublishedEcho, StaticBinding};

use crate::packet::{ACK, SYN, icmpv4, icmpv6, tcp, udp, v4, v6};
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
        line: 1,
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

/// Pings of the pool's address are the client's to answer.
fn echoing() -> Nat64Plan {
    let mut plan = plan(40_000..=40_009);
    plan.published_echo =
        vec![PublishedEcho { mapped: POOL.parse().unwrap(), client: CLIENT.parse().unwrap(), line: 1 }];
    plan
}

const REQUEST_V4: (u8, u8) = (8, 0);
const REPLY_V4: (u8, u8) = (0, 0);

fn ping_v4(from: &str, to: &str, ttl: u8, (kind, code): (u8, u8), identifier: u16) -> Vec<u8> {
    v4(from, to, ttl, icmpv4(kind, code, u32::from(identifier) << 16 | 1, b"ping"))
}

fn ping_v6(from: &str, to: &str, hop_limit: u8, kind: u8, identifier: u16) -> Vec<u8> {
    v6(from, to, hop_limit, icmpv6(kind, 0, u32::from(identifier) << 16 | 1, b"ping"))
}

#[test]
fn published_echo_answers_any_identifier_from_anybody_and_takes_no_session() {
    let mut router = Router::with(&echoing());
    for identifier in [0, 7, 40_001, 65_535] {
        let request = router.pass(&ping_v4(STRANGER, POOL, 64, REQUEST_V4, identifier));
        assert_eq!(request, ping_v6("64:ff9b::5.6.7.8", CLIENT, 63, 128, identifier));
        let reply = router.pass(&ping_v6(CLIENT, "64:ff9b::5.6.7.8", 64, 129, identifier));
        assert_eq!(reply[20..], ping_v4(POOL, STRANGER, 63, REPLY_V4, identifier)[20..]);
        assert_eq!(reply[12..20], ping_v4(POOL, STRANGER, 63, REPLY_V4, identifier)[12..20]);
    }
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
    // A reply that nobody asked for, of a host that answers for no address.
    let (verdict, _) = router.send(&ping_v4(STRANGER, POOL, 64, REPLY_V4, 7));
    assert_eq!(verdict, Verdict::Dropped(Reason::NoBinding));
    router.nat64.reconfigure(&plan(40_000..=40_009), router.now);
    let (verdict, _) = router.send(&ping_v4(STRANGER, POOL, 64, REQUEST_V4, 7));
    assert_eq!(verdict, Verdict::Dropped(Reason::NoBinding), "it ends at once");
}

#[test]
fn the_hosts_own_pings_are_told_from_the_published_ones() {
    let mut router = Router::with(&echoing());
    let request = router.pass(&ping_v6(CLIENT, SERVER_V6, 64, 128, 7));
    let ours = u16::from_be_bytes([request[24], request[25]]);
    // The server pings back with the identifiers of both sides.
    for identifier in [7, ours] {
        assert_eq!(
            router.pass(&ping_v4(SERVER, POOL, 64, REQUEST_V4, identifier))[40..],
            ping_v6(SERVER_V6, CLIENT, 63, 128, identifier)[40..]
        );
        let reply = router.pass(&ping_v6(CLIENT, SERVER_V6, 64, 129, identifier));
        assert_eq!(reply[20..], ping_v4(POOL, SERVER, 63, REPLY_V4, identifier)[20..]);
    }
    assert_eq!(router.pass(&ping_v4(SERVER, POOL, 64, REPLY_V4, ours)), ping_v6(SERVER_V6, CLIENT, 63, 129, 7));
    assert_eq!(router.tables(), ([0, 0, 1], [0, 0, 1]));
}

#[test]
fn published_echo_is_reached_from_inside_and_errors_about_it_arrive() {
    let mut router = Router::with(&echoing());
    let request = router.pass(&ping_v6(OTHER_CLIENT, POOL_V6, 64, 128, 9));
    let theirs = u16::from_be_bytes([request[44], request[45]]);
    assert_eq!(request, ping_v6(POOL_V6, CLIENT, 62, 128, theirs));
    let reply = router.pass(&ping_v6(CLIENT, POOL_V6, 64, 129, theirs));
    assert_eq!(reply, ping_v6(POOL_V6, OTHER_CLIENT, 62, 129, 9));
    // Somebody on the way of a reply, and the host itself about a request.
    let quoted = ping_v4(POOL, STRANGER, 1, REPLY_V4, 5);
    let error = router.pass(&v4(SERVER, POOL, 64, icmpv4(11, 0, 0, &quoted)));
    assert_eq!((error[6], &error[8..40]), (58, &ping_v6(SERVER_V6, CLIENT, 63, 3, 0)[8..40]));
    assert_eq!((error[40], &error[48 + 8..48 + 24]), (3, &ping_v6(CLIENT, SERVER_V6, 1, 0, 0)[8..24]));
    let quoted = ping_v6("64:ff9b::5.6.7.8", CLIENT, 64, 128, 5);
    let error = router.pass(&v6(CLIENT, "64:ff9b::5.6.7.8", 64, icmpv6(1, 4, 0, &quoted)));
    assert_eq!((error[20], &error[12..20]), (3, &ping_v4(POOL, STRANGER, 63, REPLY_V4, 5)[12..20]));
    let quoted = ping_v6("64:ff9b::5.6.7.8", OTHER_CLIENT, 64, 128, 5);
    let (verdict, _) = router.send(&v6(OTHER_CLIENT, "64:ff9b::5.6.7.8", 64, icmpv6(1, 4, 0, &quoted)));
    assert_eq!(verdict, Verdict::Dropped(Reason::IcmpErrorWithoutSession), "nobody else speaks for the host");
}

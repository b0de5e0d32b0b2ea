//! Prefixes of every length, alone and several at once: RFC 6052 section 2.2, RFC 6146 section 3.5.4.
use std::net::Ipv6Addr;

use sixgate_engine::nat64::tuple::Protocol;
use sixgate_engine::nat64::verdict::{Direction, Reason, Verdict};

use crate::packet::{ACK, SYN, icmpv4, icmpv6, is_intact, tcp, udp, v4, v6};
use crate::router::{OTHER_CLIENT, POOL, ROUTER, Router, SERVER, plan};

/// A client outside of all the prefixes.
const CLIENT: &str = "fd00:1::2";

/// RFC 6052 section 2.4 with 1.2.3.4: prefix, and the address that represents the server.
const LENGTHS: [(&str, &str); 6] = [
    ("2001:db8::/32", "2001:db8:102:304::"),
    ("2001:db8:100::/40", "2001:db8:101:203:4::"),
    ("2001:db8:122::/48", "2001:db8:122:102:3:400::"),
    ("2001:db8:122:300::/56", "2001:db8:122:301:2:304::"),
    ("2001:db8:122:344::/64", "2001:db8:122:344:1:203:400::"),
    ("2001:db8:122:344::/96", "2001:db8:122:344::1.2.3.4"),
];

fn router(prefixes: &[&str]) -> Router {
    let mut plan = plan(40_960..=65_535);
    let mut nets = prefixes.iter().map(|prefix| prefix.parse().unwrap());
    plan.pref64 = nets.next().unwrap();
    plan.further_pref64 = nets.collect();
    Router::with(&plan)
}

/// All three protocols there and back, and an error about each.
fn assert_translates(router: &mut Router, server: &str, ports: u16) {
    let query = u32::from(ports) << 16;
    for (protocol, there, back) in [
        (Protocol::Tcp, tcp(ports, 80, SYN, b""), tcp(80, ports, SYN | ACK, b"")),
        (Protocol::Udp, udp(ports, 53, b"question"), udp(53, ports, b"answer")),
        (Protocol::Icmp, icmpv6(128, 0, query, b"ping"), icmpv6(129, 0, query, b"ping")),
    ] {
        let sent = router.pass(&v6(CLIENT, server, 64, there.clone()));
        assert!(is_intact(&sent));
        let mapped = router.mapped(protocol, CLIENT, ports).unwrap();
        let answer = match protocol {
            Protocol::Tcp => tcp(80, mapped, SYN | ACK, b""),
            Protocol::Udp => udp(53, mapped, b"answer"),
            Protocol::Icmp => icmpv4(0, 0, u32::from(mapped) << 16, b"ping"),
        };
        assert_eq!(router.pass(&v4(SERVER, POOL, 64, answer)), v6(server, CLIENT, 63, back), "{protocol:?}");
        let error = router.pass(&v4(SERVER, POOL, 64, icmpv4(3, 1, 0, &sent)));
        assert_eq!(error, v6(server, CLIENT, 63, icmpv6(1, 0, 0, &v6(CLIENT, server, 63, there))), "{protocol:?}");
    }
}

#[test]
fn every_length_is_translated_both_ways_with_errors() {
    for (prefix, server) in LENGTHS {
        assert_translates(&mut router(&[prefix]), server, 5000);
    }
}

/// The suffix of a received address does not matter, and what is sent has none.
#[test]
fn suffixes_are_ignored_and_the_u_octet_is_not_looked_at() {
    let mut router = router(&["2001:db8:122::/48"]);
    let noisy: Ipv6Addr = "2001:db8:122:102:a503:4a5:a5a5:a5a5".parse().unwrap();
    let sent = router.pass(&v6(CLIENT, &noisy.to_string(), 64, udp(5000, 53, b"question")));
    assert_eq!(sent[16..20], [1, 2, 3, 4]);
    let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    let received = router.pass(&v4(SERVER, POOL, 64, udp(53, port, b"answer")));
    assert_eq!(received, v6("2001:db8:122:102:3:400::", CLIENT, 63, udp(53, 5000, b"answer")));
}

#[test]
fn all_prefixes_are_in_use_at_once_and_each_session_is_answered_by_its_own() {
    let mut router = router(&["64:ff9b::/96", "2001:db8:100::/40", "2001:db8:f122:344::/64"]);
    let servers = ["64:ff9b::1.2.3.4", "2001:db8:101:203:4::", "2001:db8:f122:344:1:203:400::"];
    for (ports, server) in (5000..).zip(servers) {
        assert_translates(&mut router, server, ports);
    }
    assert_eq!(router.tables().0, [3, 3, 3]);
    for (ports, server) in (5000..).zip(servers) {
        assert_translates(&mut router, server, ports);
    }
    assert_eq!(router.tables().0, [3, 3, 3]);
}

/// One transport address of a client cannot know the same server by two names in IPv4: the latest counts.
#[test]
fn a_client_that_changes_the_prefix_is_answered_by_the_new_one() {
    let mut router = router(&["64:ff9b::/96", "2001:db8:100::/40"]);
    assert_translates(&mut router, "64:ff9b::1.2.3.4", 5000);
    assert_translates(&mut router, "2001:db8:101:203:4::", 5000);
    assert_eq!(router.tables(), ([1, 1, 1], [1, 1, 1]));
}

#[test]
fn a_prefix_that_stays_keeps_its_sessions_and_one_that_goes_ends_them() {
    let mut router = router(&["64:ff9b::/96", "2001:db8:100::/40"]);
    assert_translates(&mut router, "64:ff9b::1.2.3.4", 5000);
    assert_translates(&mut router, "2001:db8:101:203:4::", 6000);
    let port = router.mapped(Protocol::Udp, CLIENT, 6000).unwrap();
    let mut next = plan(40_960..=65_535);
    next.pref64 = "2001:db8:100::/40".parse().unwrap();
    router.nat64.reconfigure(&next, router.now);
    assert_eq!(router.tables().0, [1, 1, 1]);
    let received = router.pass(&v4(SERVER, POOL, 64, udp(53, port, b"answer")));
    assert_eq!(received, v6("2001:db8:101:203:4::", CLIENT, 63, udp(53, 6000, b"answer")));
    let (verdict, _) = router.send(&v6(CLIENT, "64:ff9b::1.2.3.4", 64, udp(5000, 53, b"question")));
    assert_eq!(verdict, Verdict::Dropped(Reason::NotForUs));
}

/// RFC 6052 section 3.1: an exemption for a prefix of our own does not hold for the Well-Known Prefix beside it.
#[test]
fn exemptions_do_not_reach_the_well_known_prefix() {
    let mut plan = plan(40_960..=65_535);
    plan.further_pref64 = vec!["2001:db8:64::/96".parse().unwrap()];
    plan.translate_non_global = vec!["10.0.0.0/8".parse().unwrap()];
    let mut router = Router::with(&plan);
    let packet = v6(CLIENT, "64:ff9b::10.1.1.1", 64, udp(5000, 53, b"question"));
    let (verdict, packets) = router.send(&packet);
    assert_eq!(verdict, Verdict::Dropped(Reason::NonGlobalDestination));
    assert_eq!(packets, [v6(ROUTER, CLIENT, 64, icmpv6(1, 1, 0, &packet))]);
    let (verdict, _) = router.send(&v6(CLIENT, "2001:db8:64::10.1.1.1", 64, udp(5000, 53, b"question")));
    assert_eq!(verdict, Verdict::Translated(Direction::V6ToV4));
}

#[test]
fn sources_inside_any_prefix_are_refused_and_hairpins_may_cross_prefixes() {
    let mut router = router(&["64:ff9b::/96", "2001:db8:64::/96"]);
    for source in ["64:ff9b::1.2.3.4", "2001:db8:64::1.2.3.4"] {
        let (verdict, _) = router.send(&v6(source, "64:ff9b::1.2.3.4", 64, udp(1, 2, b"")));
        assert_eq!(verdict, Verdict::Dropped(Reason::SourceInPref64), "{source}");
    }
    router.pass(&v6(CLIENT, "64:ff9b::1.2.3.4", 64, udp(5000, 53, b"question")));
    let mine = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    router.send(&v6(OTHER_CLIENT, "2001:db8:64::198.51.100.1", 64, udp(6000, mine, b"knock")));
    let theirs = router.mapped(Protocol::Udp, OTHER_CLIENT, 6000).unwrap();
    let (verdict, packets) = router.send(&v6(CLIENT, "64:ff9b::198.51.100.1", 64, udp(5000, theirs, b"hello")));
    assert_eq!(verdict, Verdict::Hairpinned);
    assert_eq!(packets, [v6("2001:db8:64::198.51.100.1", OTHER_CLIENT, 62, udp(mine, 6000, b"hello"))]);
    let (verdict, packets) = router.send(&v6(OTHER_CLIENT, "2001:db8:64::198.51.100.1", 64, udp(6000, mine, b"hi")));
    assert_eq!(verdict, Verdict::Hairpinned);
    assert_eq!(packets, [v6("64:ff9b::198.51.100.1", CLIENT, 62, udp(theirs, 5000, b"hi"))]);
}

/// RFC 6146 section 3.5.2.2: the probe comes from the address that the client knows.
#[test]
fn an_idle_connection_is_probed_by_its_own_prefix() {
    let mut router = router(&["64:ff9b::/96", "2001:db8:100::/40"]);
    assert_translates(&mut router, "2001:db8:101:203:4::", 5000);
    let probes = router.rest(7440);
    assert_eq!(probes.len(), 1);
    assert_eq!(probes[0][8..24], "2001:db8:101:203:4::".parse::<Ipv6Addr>().unwrap().octets());
}

#[test]
fn saved_sessions_keep_their_prefix() {
    let prefixes = ["64:ff9b::/96", "2001:db8:100::/40"];
    let mut old = router(&prefixes);
    assert_translates(&mut old, "2001:db8:101:203:4::", 5000);
    let port = old.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    let mut new = router(&prefixes);
    assert_eq!(new.nat64.restore(&old.nat64.save(), old.now).unwrap().sessions, 3);
    let received = new.pass(&v4(SERVER, POOL, 64, udp(53, port, b"answer")));
    assert_eq!(received, v6("2001:db8:101:203:4::", CLIENT, 63, udp(53, 5000, b"answer")));
    let mut other = router(&["2001:db8:100::/40", "64:ff9b::/96"]);
    assert!(other.nat64.restore(&old.nat64.save(), old.now).is_err(), "positions are not what they were");
}

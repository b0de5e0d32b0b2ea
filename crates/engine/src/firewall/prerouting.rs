//! Before routing: spoofed sources, no tracking for the translator's packets, the mark of its share of the address.
use super::icmp::{ECHO_REPLY_V4, ERRORS_V4, ICMP, ICMPV6, TCP, UDP, WITHOUT_ADDRESS};
use super::ruleset::{ConntrackState, Match, Rule, Statement, host6};
use super::{Scene, hosts, input_tun, publish, rule};
use crate::plan::npt::outside;
use crate::plan::{Family, NAT64_MARK, NAT64_MARK_MASK};
use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;

use ipnet::{Ipv4Net, Ipv6Net};

/// RFC 4291 section 2.4.
pub(super) const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// RFC 4291 sections 2.5.2, 2.5.3, 2.5.5.2 and 2.7: unspecified and loopback, IPv4-mapped, multicast.
const IMPOSSIBLE: [Ipv6Net; 3] = [
    Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 127),
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

pub(super) const MARK: Statement = Statement::SetMark { value: NAT64_MARK, mask: NAT64_MARK_MASK };

/// Before connection tracking.
pub(super) fn raw(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    // Before what is published, which is admitted here.
    let mut rules = super::bogon::rules(scene);
    rules.push(source_routed(scene));
    rules.extend(translator(scene));
    rules.extend(impossible(scene));
    rules.extend(spoofed(scene));
    rules.extend(foreign(scene));
    rules
}

/// Both legs of NAT64 are untracked: the translator's sessions are their state.
fn translator(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let Some(nat64) = scene.nat64 else { return Vec::new() };
    let share = |addresses: &[Ipv4Addr], ports: &RangeInclusive<u16>, comment: &str| {
        rule(
            vec![
                scene.input_wan(),
                Match::Destination4(Ipv4Net::aggregate(&hosts(addresses))),
                Match::Protocol(vec![TCP, UDP]),
                Match::DestinationPort(vec![ports.clone()]),
            ],
            &[Statement::Notrack, MARK],
            comment,
        )
    };
    let mut rules = vec![
        rule(vec![input_tun()], &[Statement::Notrack, Statement::Accept], "nat64: the translator is the state"),
        rule(
            vec![scene.input_lans(), Match::Destination6(nat64.prefixes().collect())],
            &[Statement::Notrack],
            "nat64: towards pref64, the translator is the state",
        ),
    ];
    rules.extend(publish::rules(scene, nat64));
    rules.push(share(&nat64.pool4, &nat64.ports, "nat64: its share of the uplink's ports"));
    rules.push(share(&nat64.further_pool4, &nat64.further_ports, "nat64: its share of the further addresses' ports"));
    rules
}

/// RFC 5095: nobody acts on it, and nobody sends it in good faith. Of IPv4 the kernel drops the like.
fn source_routed(scene: &Scene<'_>) -> Option<Rule> {
    let end = [Statement::Counter, Statement::Drop];
    rule(vec![scene.input_any(), Match::SourceRouted], &end, "drop: source routed")
}

/// Nobody has these addresses, and nobody could be answered there. Who has no address yet may look for one.
fn impossible(scene: &Scene<'_>) -> [Option<Rule>; 2] {
    let links = Match::InputInterface([&scene.wan[..], &scene.lans].concat());
    [
        rule(
            vec![
                links.clone(),
                Match::Source6(vec![host6(Ipv6Addr::UNSPECIFIED)]),
                Match::Protocol(vec![ICMPV6]),
                Match::Icmpv6Type(WITHOUT_ADDRESS.to_vec()),
            ],
            &[Statement::Accept],
            "duplicate address detection and reports before there is an address",
        ),
        rule(
            vec![links, Match::Source6(IMPOSSIBLE.to_vec())],
            &[Statement::Counter, Statement::Drop],
            "drop: impossible source",
        ),
    ]
}

/// BCP 38: a LAN brings packets from the prefixes behind the router, and link-local ones. Without this, a VM could have
/// the router's resolver and echo answer strangers, or pretend to be the resolver that the router asks.
///
/// IPv4 is no matter of the LANs; the kernel's reverse path filter keeps out what claims to come from elsewhere.
fn foreign(scene: &Scene<'_>) -> [Option<Rule>; 3] {
    let mut own = vec![LINK_LOCAL];
    own.extend(&scene.inside);
    let own = Ipv6Net::aggregate(&own);
    let questions = vec![
        scene.input_lans(),
        Match::Source6(own.clone()),
        Match::Destination6(scene.resolver.clone()),
        Match::Protocol(vec![UDP]),
        Match::DestinationPort(vec![53..=53]),
    ];
    [
        // Each stands for itself: they shall not fill the table of connections, nor wait for it.
        rule(questions, &[Statement::Notrack, Statement::Accept], "dns64: no connections"),
        rule(vec![scene.input_lans(), Match::Source6(own)], &[Statement::Accept], "source of this network"),
        rule(
            vec![scene.input_lans(), Match::Family(Family::V6)],
            &[Statement::Counter, Statement::Drop],
            "drop: source is not of this network",
        ),
    ]
}

/// RFC 6052 section 5.1: what claims to come from Pref64::/n and was not translated here is spoofed.
fn pref64(scene: &Scene<'_>) -> Option<Rule> {
    let prefixes = scene.nat64.into_iter().flat_map(|nat64| nat64.prefixes()).collect();
    rule(
        vec![scene.input_wan(), Match::Source6(prefixes)],
        &[Statement::Counter, Statement::Drop],
        "drop: source in pref64 came in by the uplink",
    )
}

/// BCP 38: the uplink brings no packet from a prefix behind the router. Where the uplink's own prefix lies inside such
/// a prefix, the longer one decides.
fn spoofed(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    // What stands for this network outside is its own as well.
    let inside: Vec<Ipv6Net> = scene.inside.iter().copied().chain(outside(scene.topology)).collect();
    let drop = |nets: &Vec<Ipv6Net>| {
        rule(
            vec![scene.input_wan(), Match::Source6(Ipv6Net::aggregate(nets))],
            &[Statement::Counter, Statement::Drop],
            "drop: source from behind the router came in by the uplink",
        )
    };
    let ipv6 = scene.topology.config.wan.ipv6.as_ref();
    if let Some(shared) = ipv6.and_then(|ipv6| ipv6.shared.first()) {
        return self::shared(scene, *shared, inside);
    }
    let uplink = ipv6.into_iter().flat_map(|ipv6| &ipv6.addresses).map(Ipv6Net::trunc);
    let Some(own) = uplink.into_iter().find(|own| inside.iter().any(|net| net.contains(own))) else {
        return vec![pref64(scene), drop(&inside)];
    };
    let (longer, others): (Vec<Ipv6Net>, Vec<Ipv6Net>) = inside.iter().partition(|net| own.contains(*net));
    let accept = rule(
        vec![scene.input_wan(), Match::Source6(vec![own])],
        &[Statement::Accept],
        "source in the uplink's own prefix",
    );
    vec![pref64(scene), drop(&longer), accept, drop(&others)]
}

/// As [`spoofed`], where a prefix lies on both sides: its hosts may be anywhere, but the router is here, and so is what is
/// carved out of it.
fn shared(scene: &Scene<'_>, shared: Ipv6Net, inside: Vec<Ipv6Net>) -> Vec<Option<Rule>> {
    let topology = scene.topology;
    let uplink = topology.config.wan.ipv6.iter().flat_map(|ipv6| &ipv6.addresses);
    let own = topology.lans.iter().flat_map(|lan| lan.addresses()).chain(uplink.copied());
    let own: Vec<Ipv6Net> = own.map(|net| Ipv6Net::from(net.addr())).collect();
    let (longer, others): (Vec<Ipv6Net>, Vec<Ipv6Net>) =
        inside.into_iter().filter(|net| *net != shared).partition(|net| shared.contains(net));
    let drop = |nets: Vec<Ipv6Net>| {
        rule(
            vec![scene.input_wan(), Match::Source6(Ipv6Net::aggregate(&nets))],
            &[Statement::Counter, Statement::Drop],
            "drop: source from behind the router came in by the uplink",
        )
    };
    let accept = rule(
        vec![scene.input_wan(), Match::Source6(vec![shared])],
        &[Statement::Accept],
        "source in the prefix of the uplink and a lan",
    );
    let own = own.into_iter().filter(|net| !net.addr().is_unicast_link_local());
    vec![pref64(scene), drop(longer.into_iter().chain(own).collect()), accept, drop(others)]
}

/// After connection tracking: ICMP identifiers cannot be reserved, so conntrack tells the router's own pings and the
/// errors about its own flows from the translator's.
pub(super) fn mangle(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    if scene.nat64.is_none() {
        return Vec::new();
    }
    let ours =
        |more: Match| vec![scene.input_wan(), Match::Destination4(scene.pool4()), Match::Protocol(vec![ICMP]), more];
    let types: Vec<u8> = [ECHO_REPLY_V4].into_iter().chain(ERRORS_V4).collect();
    vec![
        rule(
            ours(Match::ConntrackState(vec![ConntrackState::Established, ConntrackState::Related])),
            &[Statement::Accept],
            "icmp about the router's own flows",
        ),
        rule(ours(Match::IcmpType(types)), &[MARK], "nat64: echo replies and errors that are not the router's own"),
    ]
}

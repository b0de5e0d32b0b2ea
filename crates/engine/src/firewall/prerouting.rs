//! Before routing: spoofed sources, no tracking for the translator's packets, the mark of its share of the address.
use super::header_bits::{destination_near, next_header, source_in, source_near};
use super::icmp::{ECHO_REPLY_V4, ERRORS_V4, ICMP, ICMPV6, TCP, UDP, WITHOUT_ADDRESS};
use super::ruleset::{Chain, ConntrackState, Match, Rule, Statement, host6};
use super::{Scene, bogon, hosts, input_tun, nat, publish, rule};
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

/// What comes in by the uplink; of that IPv4, and what its source says could be forged.
const UPLINK: &str = "from-uplink";
const UPLINK_V4: &str = "from-uplink-ipv4";
const DOUBTFUL: &str = "from-uplink-doubtful";
/// What comes in by the LANs, and whose it is.
const LANS: &str = "from-lans";
const LAN_SOURCES: &str = "from-lans-sources";

const BEHIND: &str = "drop: source from behind the router came in by the uplink";

const DROP: [Statement; 2] = [Statement::Counter, Statement::Drop];

/// Before connection tracking, for each packet: it passes the rules about its own link alone.
pub(super) fn raw(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let goto = |link, chain: &str| rule(vec![link], &[Statement::Goto(chain.to_owned())], "");
    let untracked = [Statement::Notrack, Statement::Accept];
    let translator =
        scene.nat64.and_then(|_| rule(vec![input_tun()], &untracked, "nat64: the translator is the state"));
    vec![goto(scene.input_wan(), UPLINK), goto(scene.input_lans(), LANS), translator]
}

/// The chains that it leads to, each behind those that lead to it.
pub(super) fn by_link(scene: &Scene<'_>) -> Vec<Chain> {
    let chain = |name: &str, rules: Vec<Rule>| Chain { name: name.to_owned(), hook: None, rules };
    let some = |rules: Vec<Option<Rule>>| rules.into_iter().flatten().collect::<Vec<Rule>>();
    let mut chains = Vec::new();
    if !scene.wan.is_empty() {
        let [ipv4, doubtful] = [uplink_v4(scene), doubtful(scene)].map(some);
        chains.push(chain(UPLINK, some(from_uplink(&ipv4, &doubtful))));
        chains.extend([chain(UPLINK_V4, ipv4), chain(DOUBTFUL, doubtful)]);
    }
    if !scene.lans.is_empty() {
        chains.push(chain(LANS, some(from_lans(scene))));
        chains.push(chain(LAN_SOURCES, some(lan_sources(scene))));
    }
    chains
}

/// Most packets have a source that is near to nothing that could be forged, and no extension header: they are compared a
/// few times and looked up nowhere.
fn from_uplink(ipv4: &[Rule], doubtful: &[Rule]) -> Vec<Option<Rule>> {
    let to_ipv4 = if ipv4.is_empty() { Statement::Accept } else { Statement::Goto(UPLINK_V4.to_owned()) };
    let dropped = doubtful.iter().filter(|rule| rule.statements.last() == Some(&Statement::Drop));
    let sources: Vec<Ipv6Net> = dropped.flat_map(|rule| &rule.matches).filter_map(sources).flatten().copied().collect();
    let near = source_near(&sources).into_iter();
    let look = [Statement::Jump(DOUBTFUL.to_owned())];
    let comment = if ipv4.is_empty() { "ipv4: nothing to be forged" } else { "" };
    let mut rules = vec![rule(vec![Match::Family(Family::V4)], &[to_ipv4], comment)];
    rules.extend(near.map(|matches| rule(matches, &look, "near to what could be forged: looked at closely")));
    rules.extend(
        [TCP, UDP].map(|protocol| rule(vec![next_header(protocol)], &[Statement::Accept], "no extension headers")),
    );
    rules.push(source_routed());
    rules
}

fn sources(condition: &Match) -> Option<&Vec<Ipv6Net>> {
    match condition {
        Match::Source6(nets) => Some(nets),
        _ => None,
    }
}

/// Bogons and sources of this network come before what is published, which is admitted here.
fn uplink_v4(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let own = rule(vec![Match::Source4(nat::lans_v4(scene))], &DROP, BEHIND);
    bogon::rules_v4(scene).into_iter().chain([own]).chain(shares(scene)).collect()
}

fn doubtful(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let [without_address, impossible] = impossible();
    let mut rules = vec![source_routed()];
    rules.extend(bogon::rules_v6(scene));
    rules.extend([without_address, impossible]);
    rules.extend(spoofed(scene));
    rules
}

/// BCP 38: a LAN brings packets from the prefixes behind the router, and link-local ones. Without this, a VM could have
/// the router's resolver and echo answer strangers, or pretend to be the resolver that the router asks.
///
/// IPv4 is no matter of the LANs; the kernel's reverse path filter keeps out what claims to come from elsewhere.
fn from_lans(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let mut rules =
        vec![rule(vec![Match::Family(Family::V4)], &[Statement::Accept], "ipv4: by the reverse path filter")];
    for prefix in scene.nat64.into_iter().flat_map(|nat64| nat64.prefixes()) {
        // Both legs of NAT64 are untracked: the translator's sessions are their state.
        let mut matches = destination_near(prefix);
        matches.push(Match::Destination6(vec![prefix]));
        rules.push(rule(matches, &[Statement::Notrack], "nat64: towards pref64, the translator is the state"));
    }
    let questions = vec![
        next_header(UDP),
        Match::Protocol(vec![UDP]),
        Match::DestinationPort(vec![53..=53]),
        Match::Source6(own(scene)),
        Match::Destination6(scene.resolver.clone()),
    ];
    let to_sources = [Statement::Goto(LAN_SOURCES.to_owned())];
    // Each stands for itself: they shall not fill the table of connections, nor wait for it.
    rules.push(rule(questions, &[Statement::Notrack, Statement::Accept], "dns64: no connections"));
    rules.extend([TCP, UDP].map(|protocol| rule(vec![next_header(protocol)], &to_sources, "")));
    rules.push(source_routed());
    rules.push(rule(Vec::new(), &to_sources, ""));
    rules
}

/// A few prefixes are compared with one after the other.
fn lan_sources(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    const FEW: usize = 4;
    let own = own(scene);
    let accept = |matches| rule(matches, &[Statement::Accept], "source of this network");
    let mut rules = match own.len() {
        0..=FEW => own.iter().map(|net| accept(source_in(*net))).collect(),
        _ => vec![accept(vec![Match::Source6(own)])],
    };
    rules.extend(impossible());
    rules.push(rule(Vec::new(), &DROP, "drop: source is not of this network"));
    rules
}

/// Whose packets LANs bring, the most frequent first.
fn own(scene: &Scene<'_>) -> Vec<Ipv6Net> {
    let mut own = Ipv6Net::aggregate(&scene.inside);
    own.push(LINK_LOCAL);
    own
}

/// What is published, and the translator's shares of its addresses.
fn shares(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let Some(nat64) = scene.nat64 else { return Vec::new() };
    let share = |addresses: &[Ipv4Addr], ports: &RangeInclusive<u16>, comment: &str| {
        rule(
            vec![
                Match::Destination4(Ipv4Net::aggregate(&hosts(addresses))),
                Match::Protocol(vec![TCP, UDP]),
                Match::DestinationPort(vec![ports.clone()]),
            ],
            &[Statement::Notrack, MARK],
            comment,
        )
    };
    let mut rules = publish::rules(scene, nat64);
    rules.push(share(&nat64.pool4, &nat64.ports, "nat64: its share of the uplink's ports"));
    rules.push(share(&nat64.further_pool4, &nat64.further_ports, "nat64: its share of the further addresses' ports"));
    rules
}

/// RFC 5095: nobody acts on it, and nobody sends it in good faith. Of IPv4 the kernel drops the like.
fn source_routed() -> Option<Rule> {
    rule(vec![Match::SourceRouted], &DROP, "drop: source routed")
}

/// Nobody has these addresses, and nobody could be answered there. Who has no address yet may look for one.
fn impossible() -> [Option<Rule>; 2] {
    [
        rule(
            vec![
                Match::Source6(vec![host6(Ipv6Addr::UNSPECIFIED)]),
                Match::Protocol(vec![ICMPV6]),
                Match::Icmpv6Type(WITHOUT_ADDRESS.to_vec()),
            ],
            &[Statement::Accept],
            "duplicate address detection and reports before there is an address",
        ),
        rule(vec![Match::Source6(IMPOSSIBLE.to_vec())], &DROP, "drop: impossible source"),
    ]
}

/// RFC 6052 section 5.1: what claims to come from Pref64::/n and was not translated here is spoofed.
fn pref64(scene: &Scene<'_>) -> Option<Rule> {
    let prefixes = scene.nat64.into_iter().flat_map(|nat64| nat64.prefixes()).collect();
    rule(vec![Match::Source6(prefixes)], &DROP, "drop: source in pref64 came in by the uplink")
}

/// BCP 38: the uplink brings no packet from a prefix behind the router. Where the uplink's own prefix lies inside such
/// a prefix, the longer one decides.
fn spoofed(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    // What stands for this network outside is its own as well.
    let inside: Vec<Ipv6Net> = scene.inside.iter().copied().chain(outside(scene.topology)).collect();
    let drop = |nets: &Vec<Ipv6Net>| {
        let nets = Ipv6Net::aggregate(nets);
        rule(vec![Match::Source6(nets)], &DROP, BEHIND)
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
    let accept = rule(vec![Match::Source6(vec![own])], &[Statement::Return], "source in the uplink's own prefix");
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
        let nets = Ipv6Net::aggregate(&nets);
        rule(vec![Match::Source6(nets)], &DROP, BEHIND)
    };
    let accept =
        rule(vec![Match::Source6(vec![shared])], &[Statement::Return], "source in the prefix of the uplink and a lan");
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
        |more: Match| vec![Match::Protocol(vec![ICMP]), scene.input_wan(), Match::Destination4(scene.pool4()), more];
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

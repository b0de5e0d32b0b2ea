//! RFC 6583: what is admitted to an address of a LAN that nobody has been heard with makes the router ask for it. How often is
//! limited, so that whoever scans a prefix fills neither the neighbour cache nor the link; hosts that were heard of do not
//! notice.
//!
//! Rules that admit to the LANs end in this chain; established flows and the translator's packets never come here.
use ipnet::{IpNet, Ipv6Net};

use super::icmp::{ICMPV6, NEIGHBOR};
use super::ruleset::{Chain, Match, Rule, Statement, host6};
use super::{Scene, rule};
use crate::plan::Family;

/// The chain, and the set of addresses that were heard of.
pub const NEIGHBOURS: &str = "neighbours";
/// Flows to unknown addresses that are admitted in a second, and how many at once.
const UNKNOWN: Match = Match::RateUnder { per_second: 50, burst: 100 };

/// What rules that admit to a LAN do.
pub(super) fn admit() -> Statement {
    Statement::Goto(NEIGHBOURS.to_owned())
}

/// Hosts that ask for others, or answer, are heard of.
pub(super) fn heard(scene: &Scene<'_>) -> Option<Rule> {
    let matches = vec![
        scene.input_lans(),
        Match::Family(Family::V6),
        Match::Protocol(vec![ICMPV6]),
        Match::Icmpv6Type(NEIGHBOR.to_vec()),
        Match::HopLimit(255),
    ];
    rule(matches, &[Statement::Remember(NEIGHBOURS.to_owned())], "neighbours that were heard of, RFC 6583")
}

/// The chain.
pub(super) fn chain(scene: &Scene<'_>) -> Chain {
    let config = scene.topology.config;
    let on_link: Vec<Ipv6Net> = on_link(scene);
    // A more specific route leads to its next hop, whatever is behind that; and what the file names is no invention.
    let routed = config.vms.iter().flat_map(|vm| vm.containers.iter().copied().chain(vm.address.map(host6)));
    let routed = routed.chain(config.routes.iter().filter_map(|route| match route.to {
        IpNet::V6(net) => Some(net),
        IpNet::V4(_) => None,
    }));
    let routed: Vec<Ipv6Net> = routed.filter(|net| on_link.iter().any(|wider| wider.contains(net))).collect();
    let unknown = || Match::Destination6(on_link.clone());
    let rules = vec![
        rule(vec![Match::InTimedSet(NEIGHBOURS.to_owned())], &[Statement::Accept], "a neighbour that was heard of"),
        rule(
            vec![Match::Destination6(Ipv6Net::aggregate(&routed))],
            &[Statement::Accept],
            "routed on, or a vm's address",
        ),
        rule(vec![unknown(), UNKNOWN], &[Statement::Accept], "somebody unknown, who is asked for"),
        rule(vec![unknown()], &[Statement::Counter, Statement::Drop], "drop: too many unknown neighbours"),
        rule(Vec::new(), &[Statement::Accept], "not for a link of ours"),
    ];
    Chain { name: NEIGHBOURS.to_owned(), hook: None, rules: rules.into_iter().flatten().collect() }
}

/// Prefixes whose addresses the router asks for on a LAN.
fn on_link(scene: &Scene<'_>) -> Vec<Ipv6Net> {
    let nets = scene.topology.lans.iter().flat_map(|lan| lan.addresses());
    let nets = nets.filter(|net| !net.addr().is_unicast_link_local() && net.prefix_len() < 128);
    Ipv6Net::aggregate(&nets.map(|net| net.trunc()).collect())
}

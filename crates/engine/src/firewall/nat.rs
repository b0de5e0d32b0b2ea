//! Address translation by the kernel: IPv4 hosts and unique local addresses leave by the uplink's own addresses, and published
//! ports of these lead inside.
//!
//! What is published is admitted in `forward` by the translation that brought it there, and by nothing else: the host's own
//! address and port stay closed. Whoever comes from inside is given the router's address, so that answers come back by it.
use core::net::IpAddr;
use core::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::allow::{describe, destinations};
use super::icmp::{ICMP, TCP, UDP};
use super::ruleset::{Match, Rule, Statement};
use super::{Scene, neighbours, rule};
use crate::config::{Forward, Inside, Ipv6Source};
use crate::plan::{Family, NAT44_PORTS};

/// RFC 4193.
const UNIQUE_LOCAL: Ipv6Net = Ipv6Net::new_assert(core::net::Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7);

/// Whether anything is translated.
pub(super) fn is_wanted(scene: &Scene<'_>) -> bool {
    let config = scene.topology.config;
    !config.forwards.is_empty() || !lans_v4(scene).is_empty() || !unique_local(scene).is_empty()
}

/// Published ports, before routing.
pub(super) fn prerouting(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let mut rules = Vec::new();
    for (forward, host) in hosts(scene) {
        for (protocol, ports, first) in forward.services() {
            let at = |ports: RangeInclusive<u16>| {
                let from = source(forward);
                let there = [outside(scene, forward.family), Match::Protocol(vec![protocol])];
                [scene.input_any()].into_iter().chain(from).chain(there).chain([Match::DestinationPort(vec![ports])])
            };
            let comment = format!("publish line {}, to {}", forward.line, name(forward));
            if *ports.start() == first {
                rules.push(rule(at(ports).collect(), &[Statement::Destination(host, None)], comment));
                continue;
            }
            for (port, inside) in ports.zip(first..) {
                let to = Statement::Destination(host, Some(inside));
                rules.push(rule(at(port..=port).collect(), &[to], comment.clone()));
            }
        }
    }
    rules
}

/// What leaves by the uplink, and what goes back to where it came from.
pub(super) fn postrouting(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let v4 = lans_v4(scene);
    let ours = vec![scene.output_wan(), Match::Source4(v4.clone())];
    let with_ports = ours.iter().cloned().chain([Match::Protocol(vec![TCP, UDP, ICMP])]).collect();
    let unique_local = vec![scene.output_wan(), Match::Source6(unique_local(scene))];
    let mapped = scene.topology.config.npt.iter().map(|npt| npt.inside).collect();
    let mapped = vec![scene.output_wan(), Match::Source6(mapped)];
    let hairpin =
        |net: Match| rule(vec![scene.output_lans(), net, Match::Translated], &[Statement::Masquerade(None)], "hairpin");
    vec![
        // The other ports of the address are NAT64's and the router's.
        rule(with_ports, &[Statement::Masquerade(Some(NAT44_PORTS))], "nat44"),
        rule(ours, &[Statement::Masquerade(None)], "nat44: other protocols"),
        rule(mapped, &[Statement::Accept], "npt: it has a prefix outside of its own"),
        rule(unique_local, &[Statement::Masquerade(None)], "nat66: unique local addresses"),
        hairpin(Match::Source4(v4)),
        hairpin(scene.source_inside()),
    ]
}

/// Exactly what is published is admitted.
pub(super) fn forward(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let mut rules = Vec::new();
    for (forward, host) in hosts(scene) {
        for (protocol, ports, first) in forward.services() {
            let last = first.saturating_add(ports.end() - ports.start());
            let mut matches = vec![scene.input_any(), scene.output_lans(), destination(host)];
            matches.extend([Match::Protocol(vec![protocol]), Match::DestinationPort(vec![first..=last])]);
            matches.extend(source(forward));
            matches.push(Match::Translated);
            let word = if protocol == TCP { "tcp" } else { "udp" };
            let comment = format!("publish line {}: {word} to {}", forward.line, name(forward));
            rules.push(rule(matches, &[Statement::Counter, neighbours::admit()], comment));
        }
    }
    rules
}

/// Prefixes of the LANs that have IPv4.
pub(super) fn lans_v4(scene: &Scene<'_>) -> Vec<Ipv4Net> {
    Ipv4Net::aggregate(&scene.topology.lans.iter().filter_map(|lan| lan.lan.ipv4).map(|net| net.trunc()).collect())
}

/// Prefixes that nobody outside could answer to.
fn unique_local(scene: &Scene<'_>) -> Vec<Ipv6Net> {
    let wan = &scene.topology.config.wan;
    let has_ipv6 =
        wan.ipv6.as_ref().is_some_and(|ipv6| ipv6.gateway.is_some()) || wan.ipv6_source != Ipv6Source::Static;
    if !has_ipv6 || !wan.masquerade_ula {
        return Vec::new();
    }
    Ipv6Net::aggregate(&scene.inside.iter().copied().filter(|net| UNIQUE_LOCAL.contains(net)).collect())
}

/// Entries with the address that they lead to; without one they lead nowhere.
pub(super) fn hosts<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = (&'a Forward, IpAddr)> {
    let config = scene.topology.config;
    config.forwards.iter().filter_map(|forward| Some((forward, address(config, forward)?)))
}

pub(super) fn address(config: &crate::config::Config, forward: &Forward) -> Option<IpAddr> {
    match &forward.to {
        Inside::V4(address) => Some(IpAddr::V4(*address)),
        Inside::V6(target) => destinations(config, target).first().map(|net| IpAddr::V6(net.addr())),
    }
}

fn name(forward: &Forward) -> String {
    match &forward.to {
        Inside::V4(address) => address.to_string(),
        Inside::V6(target) => describe(target),
    }
}

fn outside(scene: &Scene<'_>, family: Family) -> Match {
    let wan = &scene.topology.config.wan;
    match family {
        Family::V4 => Match::Destination4(wan.ipv4.iter().map(|ipv4| ipv4.address.addr().into()).collect()),
        Family::V6 => {
            let held = wan.ipv6.iter().flat_map(|ipv6| &ipv6.addresses);
            Match::Destination6(held.map(|net| net.addr().into()).collect())
        }
    }
}

fn destination(host: IpAddr) -> Match {
    match host {
        IpAddr::V4(host) => Match::Destination4(vec![host.into()]),
        IpAddr::V6(host) => Match::Destination6(vec![host.into()]),
    }
}

fn source(forward: &Forward) -> Option<Match> {
    if forward.from.is_empty() {
        return None;
    }
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for net in &forward.from {
        match net {
            IpNet::V4(net) => v4.push(*net),
            IpNet::V6(net) => v6.push(*net),
        }
    }
    Some(match forward.family {
        Family::V4 => Match::Source4(Ipv4Net::aggregate(&v4)),
        Family::V6 => Match::Source6(Ipv6Net::aggregate(&v6)),
    })
}

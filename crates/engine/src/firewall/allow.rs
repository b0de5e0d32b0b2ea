//! Entries of the allowlist to rules: names and suffixes become full addresses.
use core::net::Ipv6Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::icmp::{ECHO_REQUEST_V4, ECHO_REQUEST_V6, ICMP, ICMPV6, TCP, UDP};
use super::ruleset::{Match, Rule, Statement};
use super::{Scene, rule};
use crate::config::{Allow, Config, Target};

/// Most connections of an entry that are told in a second, and how many at once.
const TOLD: Match = Match::RateUnder { per_second: 10, burst: 30 };

/// Rules of entries whose target is the router itself.
pub(super) fn router(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let entries = scene.topology.config.allow.iter().filter(|allow| allow.to == Target::Router);
    entries.flat_map(|allow| compile(scene.topology.config, allow, &[], &Statement::Accept)).collect()
}

/// One rule for each protocol and family of sources.
pub(super) fn compile(config: &Config, allow: &Allow, to: &[Match], admit: &Statement) -> Vec<Option<Rule>> {
    let mut protocols: Vec<(Vec<Match>, String)> = Vec::new();
    for (number, name, ports) in [(TCP, "tcp", &allow.tcp), (UDP, "udp", &allow.udp)] {
        if !ports.is_empty() {
            let matches = vec![Match::Protocol(vec![number]), Match::DestinationPort(ports.clone())];
            protocols.push((matches, format!("allow line {}: {} {name}", allow.line, describe(&allow.to))));
        }
    }
    if allow.icmp {
        let comment = format!("allow line {}: {} echo", allow.line, describe(&allow.to));
        protocols
            .push((vec![Match::Protocol(vec![ICMPV6]), Match::Icmpv6Type(vec![ECHO_REQUEST_V6])], comment.clone()));
        // The router itself is reached by IPv4 as well.
        if to.is_empty() {
            protocols.push((vec![Match::Protocol(vec![ICMP]), Match::IcmpType(vec![ECHO_REQUEST_V4])], comment));
        }
    }
    if !allow.protocols.is_empty() {
        let comment = format!("allow line {}: {} protocol", allow.line, describe(&allow.to));
        protocols.push((vec![Match::Protocol(allow.protocols.clone())], comment));
    }
    let sources = sources(config, allow);
    // A rate is counted for what would pass otherwise.
    let limits = allow.until.map(Match::Before).into_iter().chain(
        allow.new_per_second.map(|rate| Match::RateUnder { per_second: rate.into(), burst: rate.clamp(5, 10_000) }),
    );
    let limits: Vec<Match> = limits.chain(allow.connections.map(Match::ConnectionsUnder)).collect();
    let mut rules = Vec::new();
    for (matches, comment) in protocols {
        for source in &sources {
            if contradicts(source.as_ref(), &matches) {
                continue;
            }
            let conditions: Vec<Match> = to.iter().chain(source).chain(&matches).chain(&limits).cloned().collect();
            rules.push(rule(conditions.clone(), &[Statement::Counter, admit.clone()], comment.clone()));
            if allow.log {
                // Before the rule that admits, so that both see the packet.
                let told = conditions
                    .iter()
                    .filter(|it| !matches!(it, Match::RateUnder { .. } | Match::ConnectionsUnder(_)))
                    .cloned();
                let told = told.chain([TOLD]).collect();
                let at = rules.len() - 1;
                rules.insert(at, rule(told, &[Statement::Log(comment.clone())], ""));
            }
        }
    }
    rules
}

/// An IPv4 source sends no ICMPv6, an IPv6 source no ICMP.
fn contradicts(source: Option<&Match>, matches: &[Match]) -> bool {
    match source {
        Some(Match::Source4(_)) => matches.contains(&Match::Protocol(vec![ICMPV6])),
        Some(Match::Source6(_)) => matches.contains(&Match::Protocol(vec![ICMP])),
        Some(_) | None => false,
    }
}

/// Conditions on the source, one a family; none at all where anybody may. Names that stand for nothing admit nobody.
fn sources(config: &Config, allow: &Allow) -> Vec<Option<Match>> {
    let mut v4: Vec<Ipv4Net> = Vec::new();
    let mut v6: Vec<Ipv6Net> = allow.from_inside.iter().flat_map(|target| destinations(config, target)).collect();
    for net in &allow.from {
        match net {
            IpNet::V4(net) => v4.push(*net),
            IpNet::V6(net) => v6.push(*net),
        }
    }
    let mut sources = Vec::new();
    if allow.from.is_empty() && allow.from_inside.is_empty() {
        sources.push(None);
    }
    if !v6.is_empty() {
        sources.push(Some(Match::Source6(Ipv6Net::aggregate(&v6))));
    }
    if !v4.is_empty() {
        sources.push(Some(Match::Source4(Ipv4Net::aggregate(&v4))));
    }
    sources
}

/// The full addresses behind a name.
pub(crate) fn destinations(config: &Config, target: &Target) -> Vec<Ipv6Net> {
    let vm = |name: &String| config.vms.iter().find(|vm| vm.name == *name);
    match target {
        Target::Router => Vec::new(),
        Target::Vm(name) => vm(name).and_then(|vm| vm.address).map(Ipv6Net::from).into_iter().collect(),
        Target::Containers(name, None) => vm(name).map_or_else(Vec::new, |vm| vm.containers.clone()),
        Target::Containers(name, Some(suffix)) => {
            let first = vm(name).and_then(|vm| vm.containers.first());
            first.map(|net| join(*net, *suffix)).into_iter().collect()
        }
        Target::Lan(name, suffix) => {
            let own = config.lans.iter().filter(|lan| lan.name == *name).flat_map(|lan| lan.addresses.iter().copied());
            let own = own.filter(|net| !net.addr().is_unicast_link_local());
            match suffix {
                Some(suffix) => own.map(|net| join(net, *suffix)).collect(),
                None => {
                    let gateways = config.vms.iter().filter(|vm| vm.lan == *name).filter_map(|vm| vm.gateway);
                    own.chain(gateways).map(|net| net.trunc()).collect()
                }
            }
        }
        Target::Prefix(net) => vec![*net],
    }
}

/// A suffix inside a prefix.
fn join(net: Ipv6Net, suffix: Ipv6Addr) -> Ipv6Net {
    Ipv6Net::from(Ipv6Addr::from(u128::from(net.network()) | u128::from(suffix)))
}

/// How messages and comments name it.
pub(crate) fn describe(target: &Target) -> String {
    match target {
        Target::Router => "router".to_owned(),
        Target::Vm(name) | Target::Lan(name, None) => name.clone(),
        Target::Containers(name, None) => format!("{name}/containers"),
        Target::Containers(name, Some(suffix)) => format!("{name}/containers{suffix}"),
        Target::Lan(name, Some(suffix)) => format!("{name}{suffix}"),
        Target::Prefix(net) => net.to_string(),
    }
}

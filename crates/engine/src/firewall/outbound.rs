//! What restricted hosts may reach outside: by prefix, and by the addresses that our resolver has just given for a name.
//!
//! NAT64's packets keep no state in the kernel, so each is judged again; addresses of a name stay for longer than the
//! translator keeps an idle connection.
use core::net::Ipv6Addr;
use core::ops::RangeInclusive;
use core::time::Duration;

use hickory_proto::rr::Name;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sixgate_wire::rfc6052::Pref64;

use super::allow::destinations;
use super::icmp::{ECHO_REQUEST_V4, ECHO_REQUEST_V6, ERRORS_V4, ERRORS_V6, ICMP, ICMPV6, TCP, UDP};
use super::ruleset::{ConntrackState, Match, Rule, Statement};
use super::{Scene, rule};
use crate::config::{Below, Config, Outbound, Service, Target};
use crate::plan::NAT64_DEVICE;

/// The chain that restricted hosts' packets pass.
pub(super) const CHAIN: &str = "outbound";
/// How long an address of a name is admitted at least: an idle TCP session of the translator may take 2 hours 4 minutes
/// until its next packet (RFC 5382 REQ-5).
pub const LEAST: Duration = Duration::from_secs(7500);

/// Where restricted hosts are sent to the chain; before anything is admitted.
pub(super) fn jump(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let (v6, v4) = restricted(scene.topology.config);
    let outside = [&scene.wan[..], &[NAT64_DEVICE.to_owned()]].concat();
    let jump = |source: Match| {
        let matches = vec![scene.input_lans(), Match::OutputInterface(outside.clone()), source];
        rule(matches, &[Statement::Jump(CHAIN.to_owned())], "outbound entries decide")
    };
    vec![jump(Match::Source6(v6)), jump(Match::Source4(v4))]
}

/// The chain; nothing where nobody is restricted.
pub(super) fn rules(scene: &Scene<'_>) -> Option<Vec<Option<Rule>>> {
    let config = scene.topology.config;
    if config.outbound.is_empty() {
        return None;
    }
    let states = Match::ConntrackState(vec![ConntrackState::Established, ConntrackState::Related]);
    let errors = |protocol, types: Match| {
        rule(vec![Match::Protocol(vec![protocol]), types], &[Statement::Return], "errors about what came in")
    };
    let mut rules = vec![
        rule(vec![states], &[Statement::Return], "established flows"),
        errors(ICMPV6, Match::Icmpv6Type(ERRORS_V6.to_vec())),
        errors(ICMP, Match::IcmpType(ERRORS_V4.to_vec())),
    ];
    rules.extend(answers(config));
    for entry in &config.outbound {
        let (v6, v4) = sources(config, entry);
        let (to6, to4) = nets(config, entry);
        let mut ways = vec![
            (Match::Source6(v6.clone()), Match::Destination6(to6)),
            (Match::Source4(v4), Match::Destination4(to4)),
        ];
        ways.extend(entry.names.iter().map(|name| (Match::Source6(v6.clone()), Match::InTimedSet(set(name)))));
        for (source, destination) in ways {
            for service in services(entry, &source) {
                let matches = [source.clone(), destination.clone()].into_iter().chain(service).collect();
                let comment = format!("outbound line {}", entry.line);
                rules.push(rule(matches, &[Statement::Counter, Statement::Return], comment));
            }
        }
    }
    // Of a connection that an entry had admitted, through the translator: its end is told, as conntrack's are.
    let rest =
        vec![Match::OutputInterface(vec![NAT64_DEVICE.to_owned()]), Match::Protocol(vec![TCP]), Match::OpensNothing];
    rules.push(rule(rest, &[Statement::Counter, Statement::Reset], "drop: outbound, no outbound entry"));
    rules.push(super::refused(scene, &[], "drop: outbound, no outbound entry"));
    Some(rules)
}

/// What a host answers through the translator by a port that is published: no state in the kernel knows it. A segment that
/// opens a connection is no answer; a datagram does not tell.
fn answers(config: &Config) -> Vec<Option<Rule>> {
    let mut rules = Vec::new();
    for publish in &config.publish {
        let host = Match::Destination6(destinations(config, &publish.to));
        let Match::Destination6(host) = host else { continue };
        for listen in &publish.listen {
            let (protocol, ports) = match (&listen.service, publish.port) {
                (Service::Tcp(ports), Some(first)) => (TCP, moved(ports, first)),
                (Service::Udp(ports), Some(first)) => (UDP, moved(ports, first)),
                (Service::Echo, _) | (_, None) => continue,
            };
            let mut matches = vec![
                Match::OutputInterface(vec![NAT64_DEVICE.to_owned()]),
                Match::Source6(host.clone()),
                Match::Protocol(vec![protocol]),
                Match::SourcePort(vec![ports]),
            ];
            if protocol == TCP {
                matches.push(Match::OpensNothing);
            }
            rules.push(rule(matches, &[Statement::Return], format!("answers of publish line {}", publish.line)));
        }
    }
    rules
}

fn moved(ports: &RangeInclusive<u16>, first: u16) -> RangeInclusive<u16> {
    first..=first.saturating_add(ports.end() - ports.start())
}

fn services(entry: &Outbound, source: &Match) -> Vec<Vec<Match>> {
    if entry.is_any() {
        return vec![Vec::new()];
    }
    let mut services = Vec::new();
    for (protocol, ports) in [(TCP, &entry.tcp), (UDP, &entry.udp)] {
        if !ports.is_empty() {
            services.push(vec![Match::Protocol(vec![protocol]), Match::DestinationPort(ports.clone())]);
        }
    }
    if entry.icmp {
        services.push(match source {
            Match::Source4(_) => vec![Match::Protocol(vec![ICMP]), Match::IcmpType(vec![ECHO_REQUEST_V4])],
            _ => vec![Match::Protocol(vec![ICMPV6]), Match::Icmpv6Type(vec![ECHO_REQUEST_V6])],
        });
    }
    services
}

/// The name of the set with a name's addresses. It goes with the name.
pub(crate) fn set((name, below): &(Name, Below)) -> String {
    let name = name.to_ascii();
    let name = name.trim_end_matches('.');
    match below {
        Below::Not => format!("name-{name}"),
        Below::Only => format!("below-{name}"),
    }
}

/// The sets that the resolver fills.
pub(super) fn timed(config: &Config) -> Vec<String> {
    let mut sets: Vec<String> = config.outbound.iter().flat_map(|entry| &entry.names).map(set).collect();
    sets.sort();
    sets.dedup();
    sets
}

/// Everybody who is restricted, of both families.
pub(super) fn restricted(config: &Config) -> (Vec<Ipv6Net>, Vec<Ipv4Net>) {
    let (v6, v4): (Vec<_>, Vec<_>) = config.outbound.iter().map(|entry| sources(config, entry)).unzip();
    (Ipv6Net::aggregate(&v6.concat()), Ipv4Net::aggregate(&v4.concat()))
}

/// Who an entry is about.
pub(super) fn sources(config: &Config, entry: &Outbound) -> (Vec<Ipv6Net>, Vec<Ipv4Net>) {
    let ipv4 = |name: Option<&String>| {
        let lans = config.lans.iter().filter(move |lan| name.is_none_or(|name| lan.name == *name));
        lans.filter_map(|lan| lan.ipv4).map(|net| net.trunc()).collect::<Vec<Ipv4Net>>()
    };
    if entry.from.is_empty() {
        return (vec![Ipv6Net::default()], ipv4(None));
    }
    let v6: Vec<Ipv6Net> = entry.from.iter().flat_map(|target| destinations(config, target)).collect();
    let v4 = entry.from.iter().flat_map(|target| match target {
        Target::Lan(name, None) => ipv4(Some(name)),
        _ => Vec::new(),
    });
    (Ipv6Net::aggregate(&v6), v4.collect())
}

/// The prefixes of an entry: those of IPv4 are reached by NAT44, and inside the NAT64 prefixes.
pub(super) fn nets(config: &Config, entry: &Outbound) -> (Vec<Ipv6Net>, Vec<Ipv4Net>) {
    let prefixes =
        config.nat64.iter().flat_map(|nat64| core::iter::once(nat64.prefix).chain(nat64.further_prefixes.clone()));
    let prefixes: Vec<Ipv6Net> = prefixes.collect();
    let (mut v6, mut v4) = (Vec::new(), Vec::new());
    for net in &entry.to {
        match net {
            IpNet::V6(net) => v6.push(*net),
            IpNet::V4(net) => {
                v4.push(*net);
                v6.extend(prefixes.iter().filter_map(|prefix| embed(*prefix, *net)));
            }
        }
    }
    (Ipv6Net::aggregate(&v6), Ipv4Net::aggregate(&v4))
}

/// An IPv4 prefix inside Pref64::/n: RFC 6052 section 2.2 leaves bits 64 to 71 out.
fn embed(prefix: Ipv6Net, net: Ipv4Net) -> Option<Ipv6Net> {
    let pref64 = Pref64::new(prefix.addr(), prefix.prefix_len()).ok()?;
    let bits = prefix.prefix_len() + net.prefix_len();
    let over = prefix.prefix_len() <= 64 && bits > 64;
    let address: Ipv6Addr = pref64.embed(net.network());
    Some(Ipv6Net::new(address, if over { bits + 8 } else { bits }).ok()?.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_prefix_covers_exactly_its_addresses_in_every_pref64() {
        for prefix in [
            "2001:db8::/32",
            "2001:db8:100::/40",
            "2001:db8:122::/48",
            "2001:db8:122:300::/56",
            "2001:db8:122:344::/64",
            "2001:db8:122:344::/96",
        ] {
            let prefix: Ipv6Net = prefix.parse().unwrap();
            let pref64 = Pref64::new(prefix.addr(), prefix.prefix_len()).unwrap();
            for net in
                ["0.0.0.0/0", "128.0.0.0/1", "198.0.0.0/7", "198.51.0.0/16", "198.51.100.0/23", "198.51.100.8/32"]
            {
                let net: Ipv4Net = net.parse().unwrap();
                let embedded = embed(prefix, net).unwrap();
                for address in ["0.0.0.0", "127.9.9.9", "198.51.100.8", "198.51.101.255", "198.51.102.0", "199.0.0.1"] {
                    let address = address.parse().unwrap();
                    assert_eq!(
                        embedded.contains(&pref64.embed(address)),
                        net.contains(&address),
                        "{prefix} {net} {address}"
                    );
                }
            }
        }
    }
}

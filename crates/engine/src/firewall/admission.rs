//! Who may begin a conversation with whom: the configuration read entry by entry, without any rules.
//!
//! It judges flows that were admitted under an earlier configuration, and sessions that a change would cut. Tests hold it
//! against the kernel's real ruleset.
use core::net::{IpAddr, Ipv6Addr};
use core::ops::RangeInclusive;
use std::collections::HashMap;
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};

use super::allow::{describe, destinations};
use super::bogon::Bogons;
use super::icmp::{ECHO_REQUEST_V4, ECHO_REQUEST_V6, ERRORS_V4, ERRORS_V6, ICMP, ICMPV6, TCP, UDP};
use super::{nat, outbound};
use crate::config::{Allow, Between, Config, Forward, Outbound, Publish, Service, Target};
use crate::plan::topology::Topology;

/// Why a source that is nobody's on the Internet is refused.
pub const NOBODYS: &str = "source is nobody's on the Internet";

/// A conversation, by its first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who began it.
    pub source: IpAddr,
    /// With whom, after any translation of the destination.
    pub destination: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Destination port of TCP and UDP, type of ICMP, 0 otherwise.
    pub port: u16,
}

/// What becomes of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It passes; by which entry or rule.
    Admitted(String),
    /// It does not; why.
    Refused(&'static str),
    /// It is none of this network's.
    Foreign,
}

/// Everything that decides about flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// The router's own addresses.
    router: Vec<IpAddr>,
    /// Prefixes behind the router.
    inside: Vec<Ipv6Net>,
    /// What is admitted between them; absent where nothing is configured.
    between: Option<Between>,
    entries: Entries,
    /// Prefixes of LANs with IPv4.
    inside_v4: Vec<ipnet::Ipv4Net>,
    /// What is published by the kernel.
    published: Vec<Published>,
    /// What is published by the translator, by the hosts' own ports.
    translated: Vec<Published>,
    /// What restricted hosts may reach.
    outbound: Vec<Reachable>,
    /// Blocks that nobody outside sends from.
    bogons: Bogons,
    /// Ports of the router for the LANs.
    services: Vec<(u8, u16, &'static str)>,
}

/// What some hosts may reach outside.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reachable {
    from: Vec<IpNet>,
    to: Vec<IpNet>,
    entry: Outbound,
}

/// A port of the uplink's address that leads to a host inside.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Published {
    outside: Vec<IpAddr>,
    protocol: u8,
    ports: RangeInclusive<u16>,
    host: IpAddr,
    port: u16,
    from: Vec<IpNet>,
    line: usize,
}

/// Entries in the file's order. Most are about single hosts: what is asked of one is not asked of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entries {
    list: Vec<Entry>,
    /// Places in the list, by the only address of their targets.
    by_host: HashMap<Ipv6Addr, Vec<usize>>,
    /// Places of those whose targets are prefixes, or the router.
    others: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    allow: Arc<Allow>,
    to: Vec<Ipv6Net>,
    from: Vec<IpNet>,
    anybody: bool,
}

impl Admission {
    /// That of a configuration on a machine.
    pub(crate) fn of(topology: &Topology<'_>) -> Self {
        let config = topology.config;
        let links: Vec<u32> = topology.links().map(|link| link.index).collect();
        let held = topology.facts.addresses.iter().filter(|held| links.contains(&held.link) && !held.ours);
        let own = topology.lans.iter().flat_map(|lan| lan.addresses().map(|net| IpAddr::V6(net.addr())));
        let own = own.chain(config.lans.iter().filter_map(|lan| lan.ipv4).map(|net| IpAddr::V4(net.addr())));
        let uplink = crate::plan::topology::wan_nets(config).map(|net| net.addr());
        let mut services = Vec::new();
        if config.dns64.enabled {
            services.extend([(TCP, 53, "dns64 for the lans"), (UDP, 53, "dns64 for the lans")]);
        }
        if config.lans.iter().any(|lan| lan.dhcpv6.is_some()) {
            services.push((UDP, sixgate_wire::dhcpv6::SERVER_PORT, "DHCPv6 for the lans"));
        }
        if config.dns64.enabled && config.dns64.identity.is_some() {
            services.push((TCP, 853, "dns64 over tls for the lans"));
        }
        if let Some(vms) = &config.vm_prefixes {
            services.push((TCP, vms.port, "prefixes for the vms"));
        }
        if let Some(metrics) = &config.metrics {
            services.push((TCP, metrics.port, "metrics"));
        }
        Self {
            router: held.map(|held| held.net.addr()).chain(own).chain(uplink).collect(),
            inside: topology.inside(),
            inside_v4: config.lans.iter().filter_map(|lan| lan.ipv4).map(|net| net.trunc()).collect(),
            published: config.forwards.iter().flat_map(|forward| Published::of(config, forward)).collect(),
            translated: config.publish.iter().flat_map(|publish| Published::through_nat64(config, publish)).collect(),
            between: Some(config.policy.between),
            entries: Entries::of(config),
            outbound: config.outbound.iter().map(|entry| Reachable::of(config, entry)).collect(),
            bogons: Bogons::of(topology),
            services,
        }
    }

    /// What becomes of a flow. Time limits and rates are taken to be kept.
    pub fn judge(&self, flow: &Flow) -> Judgement {
        if !is_routable(flow.source) || !is_routable(flow.destination) {
            return Judgement::Foreign;
        }
        if self.router.contains(&flow.source) {
            return Judgement::Admitted("from the router".to_owned());
        }
        let (from_inside, to_inside) = (self.is_inside(flow.source), self.is_inside(flow.destination));
        let reaches = to_inside || self.router.contains(&flow.destination);
        if !from_inside && reaches && !is_error(flow) && self.bogons.block(flow.source).is_some() {
            return Judgement::Refused(NOBODYS);
        }
        if self.router.contains(&flow.destination) {
            return self.judge_input(flow, from_inside);
        }
        if is_error(flow) && (from_inside || to_inside) {
            return Judgement::Admitted("errors, RFC 4890 section 4.3.1".to_owned());
        }
        match (from_inside, to_inside) {
            (false, false) => Judgement::Foreign,
            (true, false) => self.judge_outbound(flow),
            _ if to_inside && let Some(line) = self.leads_inside(flow) => {
                Judgement::Admitted(format!("publish line {line}"))
            }
            (false, true) => self.by_entry(flow, |entry| entry.allow.to != Target::Router),
            (true, true) => match self.between {
                Some(Between::Allowed) => Judgement::Admitted("between vms, their containers and lans".to_owned()),
                Some(Between::ByAllow) => self.by_entry(flow, |entry| entry.allow.to != Target::Router),
                Some(Between::Denied) | None => Judgement::Refused("between vms and lans, denied by policy"),
            },
        }
    }

    /// Where a name leads to is the resolver's knowledge: whoever may reach some names is taken to have asked for one.
    fn judge_outbound(&self, flow: &Flow) -> Judgement {
        let mut about = self.outbound.iter().filter(|held| contains(&held.from, flow.source)).peekable();
        if about.peek().is_none() {
            return Judgement::Admitted("outbound".to_owned());
        }
        let admits = |held: &&Reachable| {
            held.meets(flow) && (contains(&held.to, flow.destination) || !held.entry.names.is_empty())
        };
        match about.find(admits) {
            Some(held) if contains(&held.to, flow.destination) => {
                Judgement::Admitted(format!("outbound line {}", held.entry.line))
            }
            Some(held) => {
                Judgement::Admitted(format!("outbound line {}, if one of its names leads there", held.entry.line))
            }
            None => Judgement::Refused("no outbound entry"),
        }
    }

    /// Whether a published port of a host inside lets an IPv4 source in through the translator; nothing where that port is not
    /// published.
    pub fn lets_in(&self, protocol: u8, host: IpAddr, port: u16, source: IpAddr) -> Option<bool> {
        let published = self
            .translated
            .iter()
            .filter(|held| (held.host, held.protocol) == (host, protocol) && held.ports.contains(&port));
        published.map(|held| held.admits(source)).reduce(|one, other| one || other)
    }

    /// Whether it is another one with some entries more: whatever that admits is admitted still.
    pub fn only_adds_to(&self, other: &Self) -> bool {
        let Self { router, inside, between, entries, inside_v4, published, translated, outbound, bogons, services } =
            self;
        let is_same = (router, inside, between, inside_v4)
            == (&other.router, &other.inside, &other.between, &other.inside_v4)
            && (published, translated, outbound) == (&other.published, &other.translated, &other.outbound)
            && (bogons, services) == (&other.bogons, &other.services);
        is_same && entries.contain(&other.entries)
    }

    /// Whether a flow that passed once is to end.
    pub fn ends(&self, flow: &Flow) -> bool {
        matches!(self.judge(flow), Judgement::Refused(_))
    }

    fn judge_input(&self, flow: &Flow, from_inside: bool) -> Judgement {
        let echo = (flow.protocol, flow.port) == (ICMPV6, u16::from(ECHO_REQUEST_V6))
            || (flow.protocol, flow.port) == (ICMP, u16::from(ECHO_REQUEST_V4));
        if echo || is_error(flow) {
            return Judgement::Admitted("echo and errors".to_owned());
        }
        let service = self.services.iter().find(|(protocol, port, _)| (flow.protocol, flow.port) == (*protocol, *port));
        if let Some((.., name)) = service.filter(|_| from_inside) {
            return Judgement::Admitted((*name).to_owned());
        }
        self.by_entry(flow, |entry| entry.allow.to == Target::Router)
    }

    fn by_entry(&self, flow: &Flow, about: impl Fn(&Entry) -> bool) -> Judgement {
        match self.entries.about(flow.destination).find(|entry| about(entry) && entry.admits(flow)) {
            Some(entry) => {
                Judgement::Admitted(format!("allow line {}: {}", entry.allow.line, describe(&entry.allow.to)))
            }
            None => Judgement::Refused("no allow entry"),
        }
    }

    pub(crate) fn is_inside(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V6(address) => self.inside.iter().any(|net| net.contains(&address)),
            IpAddr::V4(address) => self.inside_v4.iter().any(|net| net.contains(&address)),
        }
    }

    /// The line of the entry that has led a flow to its host.
    fn leads_inside(&self, flow: &Flow) -> Option<usize> {
        let held = self.published.iter().find(|held| {
            let last = held.port.saturating_add(held.ports.end() - held.ports.start());
            (held.host, held.protocol) == (flow.destination, flow.protocol)
                && (held.port..=last).contains(&flow.port)
                && held.admits(flow.source)
        });
        held.map(|held| held.line)
    }

    /// Where a flow to a published port of the uplink's address leads.
    pub fn published(&self, flow: &Flow) -> Option<(IpAddr, u16)> {
        let held = self.published.iter().find(|held| {
            held.outside.contains(&flow.destination)
                && held.protocol == flow.protocol
                && held.ports.contains(&flow.port)
                && held.admits(flow.source)
        })?;
        Some((held.host, held.port.saturating_add(flow.port - held.ports.start())))
    }
}

impl Reachable {
    fn of(config: &Config, entry: &Outbound) -> Self {
        let both = |(v6, v4): (Vec<Ipv6Net>, Vec<ipnet::Ipv4Net>)| {
            v6.into_iter().map(IpNet::V6).chain(v4.into_iter().map(IpNet::V4)).collect()
        };
        let (from, to) = (both(outbound::sources(config, entry)), both(outbound::nets(config, entry)));
        Self { from, to, entry: entry.clone() }
    }

    fn meets(&self, flow: &Flow) -> bool {
        let entry = &self.entry;
        entry.is_any()
            || match flow.protocol {
                TCP => entry.tcp.iter().any(|ports| ports.contains(&flow.port)),
                UDP => entry.udp.iter().any(|ports| ports.contains(&flow.port)),
                ICMPV6 => entry.icmp && flow.port == u16::from(ECHO_REQUEST_V6),
                ICMP => entry.icmp && flow.port == u16::from(ECHO_REQUEST_V4),
                _ => false,
            }
    }
}

fn contains(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

impl Published {
    fn of(config: &Config, forward: &Forward) -> Vec<Self> {
        let Some(host) = nat::address(config, forward) else { return Vec::new() };
        let own = crate::plan::topology::wan_nets(config).map(|net| net.addr());
        let outside: Vec<IpAddr> = own.filter(|own| own.is_ipv4() == host.is_ipv4()).collect();
        let services = forward.services();
        let published = services.map(|(protocol, ports, port)| Self {
            outside: outside.clone(),
            protocol,
            ports,
            host,
            port,
            from: forward.from.clone(),
            line: forward.line,
        });
        published.collect()
    }

    /// The host's own ports stand in `ports`, too.
    fn through_nat64(config: &Config, publish: &Publish) -> Vec<Self> {
        let Some(host) = destinations(config, &publish.to).first().map(|net| net.addr()) else { return Vec::new() };
        let services = publish.listen.iter().filter_map(|listen| {
            let (protocol, ports) = match &listen.service {
                Service::Tcp(ports) => (TCP, ports),
                Service::Udp(ports) => (UDP, ports),
                Service::Echo => return None,
            };
            let port = publish.port?;
            let ports = port..=port.saturating_add(ports.end() - ports.start());
            let (outside, from) = (Vec::new(), publish.from.clone());
            Some(Self { outside, protocol, ports, host: host.into(), port, from, line: publish.line })
        });
        services.collect()
    }

    fn admits(&self, source: IpAddr) -> bool {
        self.from.is_empty() || self.from.iter().any(|net| net.contains(&source))
    }
}

impl Entries {
    fn of(config: &Config) -> Self {
        let list = config.allow.iter().map(|allow| Entry::of(config, allow)).collect();
        let mut entries = Self { list, ..Self::default() };
        for (place, entry) in entries.list.iter().enumerate() {
            match entry.to[..] {
                [net] if net.prefix_len() == 128 => entries.by_host.entry(net.addr()).or_default().push(place),
                _ => entries.others.push(place),
            }
        }
        entries
    }

    /// Those that can be about a destination, in order.
    fn about(&self, destination: IpAddr) -> impl Iterator<Item = &Entry> {
        let own = match destination {
            IpAddr::V6(destination) => self.by_host.get(&destination).map_or(&[][..], Vec::as_slice),
            IpAddr::V4(_) => &[],
        };
        let (mut own, mut others) = (own.iter().peekable(), self.others.iter().peekable());
        let places = core::iter::from_fn(move || match (own.peek(), others.peek()) {
            (Some(one), Some(other)) if one > other => others.next(),
            (Some(_), _) => own.next(),
            (None, _) => others.next(),
        });
        places.filter_map(|place| self.list.get(*place))
    }

    /// Whether all of the others are here, wherever the file has them.
    fn contain(&self, others: &Self) -> bool {
        let mut held = self.list.iter();
        others.list.iter().all(|other| held.any(|entry| entry.is_like(other)))
    }
}

impl Entry {
    /// Whether it admits the same; the line is for people.
    fn is_like(&self, other: &Self) -> bool {
        let Self { allow, to, from, anybody } = self;
        let same = (to, from, anybody) == (&other.to, &other.from, &other.anybody);
        same && allow.is_like(&other.allow)
    }

    fn of(config: &Config, allow: &Arc<Allow>) -> Self {
        let named = allow.from_inside.iter().flat_map(|target| destinations(config, target)).map(IpNet::V6);
        Self {
            to: destinations(config, &allow.to),
            from: allow.from.iter().copied().chain(named).collect(),
            anybody: allow.from.is_empty() && allow.from_inside.is_empty(),
            allow: Arc::clone(allow),
        }
    }

    fn admits(&self, flow: &Flow) -> bool {
        let to = self.allow.to == Target::Router
            || matches!(flow.destination, IpAddr::V6(address) if self.to.iter().any(|net| net.contains(&address)));
        let from = self.anybody || self.from.iter().any(|net| net.contains(&flow.source));
        let service = match flow.protocol {
            TCP => self.allow.tcp.iter().any(|ports| ports.contains(&flow.port)),
            UDP => self.allow.udp.iter().any(|ports| ports.contains(&flow.port)),
            ICMPV6 => self.allow.icmp && flow.port == u16::from(ECHO_REQUEST_V6),
            ICMP => self.allow.icmp && flow.port == u16::from(ECHO_REQUEST_V4),
            other => self.allow.protocols.contains(&other),
        };
        to && from && service
    }
}

fn is_error(flow: &Flow) -> bool {
    match flow.protocol {
        ICMP => ERRORS_V4.iter().any(|kind| u16::from(*kind) == flow.port),
        ICMPV6 => ERRORS_V6.iter().any(|kind| u16::from(*kind) == flow.port),
        _ => false,
    }
}

/// What stays on its link is a matter of neighbor discovery and of the DHCP clients.
fn is_routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_link_local() && !address.is_multicast() && !address.is_broadcast(),
        IpAddr::V6(address) => {
            !address.is_unicast_link_local() && !address.is_multicast() && address != Ipv6Addr::UNSPECIFIED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{plan, preview_facts};

    const FILE: &str = r#"
        [wan]
        interface = "w"
        ipv6 = { address = "2001:db8:1:1::2/64", gateway = "fe80::1" }
        [[lan]]
        name = "vms"
        interface = "l"
        addresses = ["2001:db8:1:2::1/64"]
        [[vm]]
        name = "vm1"
        lan = "vms"
        address = "2001:db8:1:2::11"
        containers = "2001:db8:1:2:21::/80"
        [[vm]]
        name = "vm2"
        lan = "vms"
        address = "2001:db8:1:2::12"
        containers = "2001:db8:1:2:31::/80"
        [dns64]
        upstream = ["2001:db8:53::53"]
        [groups]
        web = ["vm1/containers::5", "more"]
        more = ["vm2/containers::5"]
        office = "2001:db8:7::/48"
        https = [443, "8000-8010"]
        [policy]
        between = "by-allow"
        [[allow]]
        to = "web"
        tcp = "https"
        [[allow]]
        to = "vm2/containers"
        from = ["office", "vm1"]
        udp = 53
        icmp = true
        protocol = "esp"
        [[allow]]
        to = "router"
        from = "2001:db8:7::1"
        tcp = 22
    "#;

    fn admission(file: &str) -> Admission {
        let config = crate::config::parse(file, "test").unwrap_or_else(|errors| panic!("{errors}"));
        plan(&config, &preview_facts(&config)).admission
    }

    fn flow(source: &str, destination: &str, protocol: u8, port: u16) -> Flow {
        Flow { source: source.parse().unwrap(), destination: destination.parse().unwrap(), protocol, port }
    }

    const OUTSIDE: &str = "2001:db8:ffff::1";

    #[test]
    fn groups_of_targets_sources_and_ports_admit_what_their_members_do() {
        let admission = admission(FILE);
        for (source, destination, protocol, port, admitted) in [
            (OUTSIDE, "2001:db8:1:2:21::5", TCP, 443, true),
            (OUTSIDE, "2001:db8:1:2:31::5", TCP, 8010, true),
            (OUTSIDE, "2001:db8:1:2:31::5", TCP, 8011, false),
            (OUTSIDE, "2001:db8:1:2:31::6", TCP, 443, false),
            (OUTSIDE, "2001:db8:1:2:31::5", UDP, 443, false),
            ("2001:db8:7::9", "2001:db8:1:2:31::9", UDP, 53, true),
            ("2001:db8:7::9", "2001:db8:1:2:31::9", 50, 0, true),
            ("2001:db8:7::9", "2001:db8:1:2:31::9", ICMPV6, 128, true),
            ("2001:db8:1:2::11", "2001:db8:1:2:31::9", UDP, 53, true),
            ("2001:db8:1:2::12", "2001:db8:1:2:31::9", UDP, 53, false),
            (OUTSIDE, "2001:db8:1:2:31::9", UDP, 53, false),
            ("2001:db8:7::1", "2001:db8:1:2::1", TCP, 22, true),
            ("2001:db8:7::2", "2001:db8:1:2::1", TCP, 22, false),
            ("2001:db8:1:2::11", "2001:db8:1:2::1", UDP, 53, true),
            (OUTSIDE, "2001:db8:1:1::2", UDP, 53, false),
            ("2001:db8:1:2::11", OUTSIDE, TCP, 1, true),
        ] {
            let judged = admission.judge(&flow(source, destination, protocol, port));
            let expected = matches!(judged, Judgement::Admitted(_));
            assert_eq!(expected, admitted, "{source} to {destination} {protocol}/{port}: {judged:?}");
        }
    }

    #[test]
    fn what_is_not_of_this_network_never_ends() {
        let admission = admission(FILE);
        for (source, destination) in [
            (OUTSIDE, "2001:db8:eeee::1"),
            ("fe80::1", "2001:db8:1:1::2"),
            ("2001:db8:1:1::2", OUTSIDE),
            ("192.0.2.1", "198.51.100.1"),
        ] {
            assert!(!admission.ends(&flow(source, destination, TCP, 443)), "{source} to {destination}");
        }
        assert!(admission.ends(&flow(OUTSIDE, "2001:db8:1:2:21::5", TCP, 80)));
    }

    #[test]
    fn the_first_entry_decides_whether_it_names_a_host_or_a_prefix() {
        let entry = |to: &str, port: u16| format!("[[allow]]\nto = \"{to}\"\ntcp = {port}\n");
        let entries = [("vm1", 1), ("vms", 2), ("vm1", 3), ("vms", 3), ("vm1", 2)].map(|(to, port)| entry(to, port));
        let admission = admission(
            &FILE.replace("[[allow]]\n        to = \"web\"", &(entries.concat() + "[[allow]]\nto = \"web\"")),
        );
        let by = |destination: &str, port| match admission.judge(&flow(OUTSIDE, destination, TCP, port)) {
            Judgement::Admitted(by) => by.split(": ").last().unwrap().to_owned(),
            other => panic!("{other:?}"),
        };
        for (destination, port, name) in [
            ("2001:db8:1:2::11", 1, "vm1"),
            ("2001:db8:1:2::11", 2, "vms"),
            ("2001:db8:1:2::11", 3, "vm1"),
            ("2001:db8:1:2::12", 3, "vms"),
        ] {
            assert_eq!(by(destination, port), name, "{destination} {port}");
        }
    }

    #[test]
    fn an_entry_more_is_told_from_a_change() {
        let more = "[[allow]]\nto = \"vm1\"\ntcp = 22\n";
        let (before, [first, last]) =
            (admission(FILE), [FILE.replacen("[[allow]]", &format!("{more}[[allow]]"), 1), format!("{FILE}\n{more}")]);
        assert!([&first, &last].iter().all(|file| admission(file).only_adds_to(&before)), "wherever it stands");
        assert!(before.only_adds_to(&before) && !before.only_adds_to(&admission(&last)), "one less is none");
        for (old, new) in [("udp = 53", "udp = 54"), ("by-allow", "denied"), ("2001:db8:7::/48", "2001:db8:6::/47")] {
            let other = admission(&FILE.replace(old, new));
            assert!(!other.only_adds_to(&before), "{new}");
        }
    }

    #[test]
    fn between_vms_the_policy_decides() {
        let (from, to) = ("2001:db8:1:2::11", "2001:db8:1:2:31::5");
        for (word, https, ssh) in [("allowed", true, true), ("by-allow", true, false), ("denied", false, false)] {
            let admission = admission(&FILE.replace("\"by-allow\"", &format!("\"{word}\"")));
            let passes = |port| matches!(admission.judge(&flow(from, to, TCP, port)), Judgement::Admitted(_));
            assert_eq!((passes(443), passes(22)), (https, ssh), "{word}");
        }
    }
}

//! Entries of the allowlist to sets: however many there are, a packet is looked up in each set once.
//!
//! What a set cannot hold becomes a rule of its own: entries with a rate or an end, and elements that overlap others.
use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv6Net};

use super::allow::{compile, describe, destinations};
use super::icmp::{ECHO_REQUEST_V6, ICMPV6, TCP, UDP};
use super::ruleset::{Chain, Element, Holds, Match, NamedSet, Part, Rule, SetField, Statement};
use super::{Scene, neighbours, rule, short};
use crate::config::{Allow, Target};

/// An entry that stands for more elements is a rule.
const MOST_ELEMENTS: usize = 1024;

/// The chain that a packet on its way into the network is judged by.
const CHAIN: &str = "allowed";

/// Sets, and the chains whose rules look into them or stand beside them.
pub(super) struct Allowed {
    pub(super) sets: Vec<NamedSet>,
    pub(super) chains: Vec<Chain>,
}

/// One key of an entry by which it is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Tcp,
    Udp,
    Echo,
    Protocol,
}

const SERVICES: [Service; 4] = [Service::Tcp, Service::Udp, Service::Echo, Service::Protocol];

/// Single addresses and ports first: they are found at once.
const KINDS: [(Holds, bool); 4] =
    [(Holds::Single, false), (Holds::Single, true), (Holds::Ranges, false), (Holds::Ranges, true)];

/// Where a flow into the network begins.
pub(super) fn jump(scene: &Scene<'_>) -> Option<Rule> {
    let jump = [Statement::Jump(CHAIN.to_owned())];
    rule(vec![scene.input_any(), scene.output_lans()], &jump, "into the network: by allow entries")
}

/// Entries whose target lies behind the router.
pub(super) fn forwarded(scene: &Scene<'_>) -> Allowed {
    let config = scene.topology.config;
    let mut sets: Vec<Filling> =
        SERVICES.iter().flat_map(|service| KINDS.map(|(holds, from)| Filling::new(*service, holds, from))).collect();
    let mut others = Vec::new();
    for allow in config.allow.iter().filter(|allow| allow.to != Target::Router) {
        let nets = aggregate(destinations(config, &allow.to));
        let sources = sources(scene, allow);
        for (service, sets) in SERVICES.into_iter().zip(sets.chunks_mut(KINDS.len())) {
            let (singles, ranges): (Vec<Element>, Vec<Element>) =
                elements(service, allow, &nets, sources.as_deref()).into_iter().partition(is_single);
            let plain = allow.until.is_none()
                && allow.new_per_second.is_none()
                && allow.connections.is_none()
                && !allow.log
                && singles.len() + ranges.len() <= MOST_ELEMENTS;
            let from = usize::from(sources.is_some());
            let is_empty = singles.is_empty() && ranges.is_empty();
            if is_empty || (plain && Filling::take_both(sets, [from, 2 + from], [singles, ranges])) {
                continue;
            }
            others.extend(compile(
                config,
                &service.alone(allow),
                &[Match::Destination6(nets.clone())],
                &neighbours::admit(),
            ));
        }
    }
    let mut chains = Vec::new();
    let mut rules = Vec::new();
    for (service, sets) in SERVICES.into_iter().zip(sets.chunks(KINDS.len())) {
        let name = format!("{CHAIN}-{}", service.word());
        rules.push(rule(service.asked(), &[Statement::Jump(name.clone())], format!("by {}", service.word())));
        chains.push(Chain { name, hook: None, rules: sets.iter().filter_map(Filling::rule).collect() });
    }
    rules.extend(others);
    chains.push(Chain { name: CHAIN.to_owned(), hook: None, rules: rules.into_iter().flatten().collect() });
    Allowed { sets: sets.into_iter().map(|set| set.set).collect(), chains }
}

/// Whether an element is found by its values as they are.
fn is_single(element: &Element) -> bool {
    element.parts.iter().all(|part| match part {
        Part::Net(net) => net.prefix_len() == 128,
        Part::Ports(ports) => ports.start() == ports.end(),
        Part::Protocol(_) => true,
    })
}

/// Most entries are about one address.
fn aggregate(nets: Vec<Ipv6Net>) -> Vec<Ipv6Net> {
    if nets.len() < 2 { nets } else { Ipv6Net::aggregate(&nets) }
}

/// Prefixes of those who may; nothing where anybody may.
fn sources(scene: &Scene<'_>, allow: &Allow) -> Option<Vec<Ipv6Net>> {
    if allow.from.is_empty() && allow.from_inside.is_empty() {
        return None;
    }
    let named = allow.from_inside.iter().flat_map(|target| destinations(scene.topology.config, target));
    let literal = allow.from.iter().filter_map(|net| match net {
        IpNet::V6(net) => Some(*net),
        IpNet::V4(_) => None,
    });
    Some(Ipv6Net::aggregate(&named.chain(literal).collect::<Vec<_>>()))
}

fn elements(service: Service, allow: &Allow, nets: &[Ipv6Net], sources: Option<&[Ipv6Net]>) -> Vec<Element> {
    let values: Vec<Part> = match service {
        Service::Tcp => allow.tcp.iter().cloned().map(Part::Ports).collect(),
        Service::Udp => allow.udp.iter().cloned().map(Part::Ports).collect(),
        Service::Echo => allow.icmp.then_some(Part::Protocol(ICMPV6)).into_iter().collect(),
        Service::Protocol => allow.protocols.iter().copied().map(Part::Protocol).collect(),
    };
    if values.is_empty() {
        return Vec::new();
    }
    let comment = short(format!("allow line {}: {} {}", allow.line, describe(&allow.to), service.word()));
    let mut elements = Vec::new();
    for net in nets {
        for value in &values {
            match sources {
                None => elements.push(vec![Part::Net(*net), value.clone()]),
                Some(sources) => {
                    let parts = sources.iter().map(|source| vec![Part::Net(*source), Part::Net(*net), value.clone()]);
                    elements.extend(parts);
                }
            }
        }
    }
    elements.into_iter().map(|parts| Element { parts, comment: comment.clone() }).collect()
}

impl Service {
    const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Echo => "echo",
            Self::Protocol => "protocol",
        }
    }

    /// What packets are looked up for it.
    fn asked(self) -> Vec<Match> {
        match self {
            Self::Tcp => vec![Match::Protocol(vec![TCP])],
            Self::Udp => vec![Match::Protocol(vec![UDP])],
            Self::Echo => vec![Match::Protocol(vec![ICMPV6]), Match::Icmpv6Type(vec![ECHO_REQUEST_V6])],
            Self::Protocol => Vec::new(),
        }
    }

    /// The entry as if it named nothing else.
    fn alone(self, allow: &Allow) -> Allow {
        let mut only = Allow { tcp: Vec::new(), udp: Vec::new(), icmp: false, protocols: Vec::new(), ..allow.clone() };
        match self {
            Self::Tcp => only.tcp.clone_from(&allow.tcp),
            Self::Udp => only.udp.clone_from(&allow.udp),
            Self::Echo => only.icmp = allow.icmp,
            Self::Protocol => only.protocols.clone_from(&allow.protocols),
        }
        only
    }
}

/// A set that is being filled: the kernel refuses elements that overlap.
struct Filling {
    service: Service,
    set: NamedSet,
    /// Elements by the first address and the length of their destination.
    by_destination: BTreeMap<(u128, u8), Vec<usize>>,
    lengths: BTreeSet<u8>,
}

impl Filling {
    fn new(service: Service, holds: Holds, from: bool) -> Self {
        let value = match service {
            Service::Tcp => SetField::TcpPort,
            Service::Udp => SetField::UdpPort,
            Service::Echo | Service::Protocol => SetField::Protocol,
        };
        let (fields, from) = if from {
            (vec![SetField::Source6, SetField::Destination6, value], "_from")
        } else {
            (vec![SetField::Destination6, value], "")
        };
        let ranges = match holds {
            Holds::Single => "",
            Holds::Ranges => "_ranges",
        };
        let name = format!("allowed_{}{from}{ranges}", service.word());
        let set = NamedSet { name, fields, holds, elements: Vec::new() };
        Self { service, set, by_destination: BTreeMap::new(), lengths: BTreeSet::new() }
    }

    fn rule(&self) -> Option<Rule> {
        let matches = vec![Match::InSet { set: self.set.name.clone(), fields: self.set.fields.clone() }];
        let from = if self.set.fields.len() == 3 { " from somebody" } else { "" };
        rule(matches, &[neighbours::admit()], format!("allowed: {}{from}", self.service.word()))
    }

    /// Takes all of the elements into two of the sets, or none.
    fn take_both(sets: &mut [Self], places: [usize; 2], elements: [Vec<Element>; 2]) -> bool {
        let overlaps = |(place, elements): (usize, &Vec<Element>)| {
            sets.get(place).is_none_or(|set| elements.iter().any(|element| set.overlaps(element)))
        };
        if places.into_iter().zip(&elements).any(overlaps) {
            return false;
        }
        for (place, elements) in places.into_iter().zip(elements) {
            if let Some(set) = sets.get_mut(place) {
                set.add(elements);
            }
        }
        true
    }

    fn add(&mut self, elements: Vec<Element>) {
        for element in elements {
            let net = destination(&element);
            self.lengths.insert(net.prefix_len());
            let key = (net.network().to_bits(), net.prefix_len());
            self.by_destination.entry(key).or_default().push(self.set.elements.len());
            self.set.elements.push(element);
        }
    }

    fn overlaps(&self, element: &Element) -> bool {
        let net = destination(element);
        let meets = |held: &Vec<usize>| {
            held.iter().filter_map(|index| self.set.elements.get(*index)).any(|held| meet(held, element))
        };
        let wider = self.lengths.range(..=net.prefix_len()).filter_map(|length| {
            let wide = Ipv6Net::new(net.addr(), *length).ok()?.network();
            self.by_destination.get(&(wide.to_bits(), *length))
        });
        let inside = (net.network().to_bits(), 0)..=(net.broadcast().to_bits(), 128);
        wider.chain(self.by_destination.range(inside).map(|(_, held)| held)).any(meets)
    }
}

/// The destination is the last but one of the parts.
fn destination(element: &Element) -> Ipv6Net {
    match element.parts.iter().rev().nth(1) {
        Some(Part::Net(net)) => *net,
        Some(Part::Ports(_) | Part::Protocol(_)) | None => Ipv6Net::default(),
    }
}

/// Whether a packet can be found by both.
fn meet(one: &Element, other: &Element) -> bool {
    one.parts.iter().zip(&other.parts).all(|parts| match parts {
        (Part::Net(one), Part::Net(other)) => one.contains(other) || other.contains(one),
        (Part::Ports(one), Part::Ports(other)) => one.start() <= other.end() && other.start() <= one.end(),
        (Part::Protocol(one), Part::Protocol(other)) => one == other,
        (Part::Net(_) | Part::Ports(_) | Part::Protocol(_), _) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(net: &str, port: u16) -> Element {
        let parts = vec![Part::Net(net.parse().unwrap()), Part::Ports(port..=port)];
        Element { parts, comment: String::new() }
    }

    #[test]
    fn sets_take_what_does_not_overlap() {
        let mut sets = KINDS.map(|(holds, from)| Filling::new(Service::Tcp, holds, from));
        let mut take = |list: &[(&str, u16)]| {
            let list = list.iter().map(|(net, port)| element(net, *port));
            let (singles, ranges) = list.partition(is_single);
            Filling::take_both(&mut sets, [0, 2], [singles, ranges])
        };
        assert!(take(&[("2001:db8::/64", 443), ("2001:db8:1::/64", 443)]));
        assert!(take(&[("2001:db8::/64", 444)]));
        assert!(take(&[("2001:db8::5/128", 80), ("2001:db8:7::/64", 80)]));
        for (net, port) in [("2001:db8::/64", 443), ("2001:db8::5/128", 80), ("2001:db8::/32", 443), ("::/0", 444)] {
            assert!(!take(&[("2001:db8:2::/64", 1), ("2001:db8::6/128", 1), (net, port)]), "{net} {port}");
        }
        assert!(take(&[("2001:db8::7/128", 443)]), "single addresses are looked for first");
        assert_eq!(sets.map(|set| set.set.elements.len()), [2, 0, 4, 0], "all or none");
    }
}

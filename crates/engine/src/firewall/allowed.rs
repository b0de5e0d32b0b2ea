//! Entries of the allowlist to sets: however many there are, a packet is looked up in each set once.
//!
//! What a set cannot hold becomes a rule of its own: entries with a rate or an end, and elements that overlap others.
use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv6Net};

use super::allow::{compile, describe, destinations};
use super::icmp::{ECHO_REQUEST_V6, ICMPV6};
use super::ruleset::{Element, Match, NamedSet, Part, Rule, SetField, Statement};
use super::{Scene, rule, short};
use crate::config::{Allow, Target};

/// An entry that stands for more elements is a rule.
const MOST_ELEMENTS: usize = 1024;

/// Sets, and the rules that look into them or stand beside them.
pub(super) struct Allowed {
    pub(super) sets: Vec<NamedSet>,
    pub(super) rules: Vec<Option<Rule>>,
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

/// Entries whose target lies behind the router.
pub(super) fn forwarded(scene: &Scene<'_>) -> Allowed {
    let config = scene.topology.config;
    let mut sets: Vec<Filling> =
        SERVICES.iter().flat_map(|service| [false, true].map(|from| Filling::new(*service, from))).collect();
    let links = [scene.input_any(), scene.output_lans()];
    let mut others = Vec::new();
    for allow in config.allow.iter().filter(|allow| allow.to != Target::Router) {
        let nets = Ipv6Net::aggregate(&destinations(config, &allow.to));
        let sources = sources(scene, allow);
        for (position, service) in SERVICES.into_iter().enumerate() {
            let only = service.alone(allow);
            let elements = elements(service, &only, &nets, sources.as_deref());
            let set = sets.get_mut(2 * position + usize::from(sources.is_some()));
            let plain = allow.until.is_none()
                && allow.new_per_second.is_none()
                && allow.connections.is_none()
                && !allow.log
                && elements.len() <= MOST_ELEMENTS;
            if elements.is_empty() || (plain && set.is_some_and(|set| set.take(elements))) {
                continue;
            }
            let to: Vec<Match> = links.iter().cloned().chain([Match::Destination6(nets.clone())]).collect();
            others.extend(compile(config, &only, &to, false));
        }
    }
    let mut rules: Vec<Option<Rule>> = sets.iter().map(|set| set.rule(&links)).collect();
    rules.extend(others);
    Allowed { sets: sets.into_iter().map(|set| set.set).collect(), rules }
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
    fn new(service: Service, from: bool) -> Self {
        let value = match service {
            Service::Tcp => SetField::TcpPort,
            Service::Udp => SetField::UdpPort,
            Service::Echo | Service::Protocol => SetField::Protocol,
        };
        let (fields, suffix) = if from {
            (vec![SetField::Source6, SetField::Destination6, value], "_from")
        } else {
            (vec![SetField::Destination6, value], "")
        };
        let set = NamedSet { name: format!("allowed_{}{suffix}", service.word()), fields, elements: Vec::new() };
        Self { service, set, by_destination: BTreeMap::new(), lengths: BTreeSet::new() }
    }

    fn rule(&self, links: &[Match]) -> Option<Rule> {
        let mut matches = links.to_vec();
        if self.service == Service::Echo {
            matches.extend([Match::Protocol(vec![ICMPV6]), Match::Icmpv6Type(vec![ECHO_REQUEST_V6])]);
        }
        matches.push(Match::InSet { set: self.set.name.clone(), fields: self.set.fields.clone() });
        let from = if self.set.fields.len() == 3 { " from somebody" } else { "" };
        rule(matches, &[Statement::Accept], format!("allowed: {}{from}", self.service.word()))
    }

    /// Takes all of the elements, or none where one overlaps what is there.
    fn take(&mut self, elements: Vec<Element>) -> bool {
        if elements.iter().any(|element| self.overlaps(element)) {
            return false;
        }
        for element in elements {
            let net = destination(&element);
            self.lengths.insert(net.prefix_len());
            let key = (net.network().to_bits(), net.prefix_len());
            self.by_destination.entry(key).or_default().push(self.set.elements.len());
            self.set.elements.push(element);
        }
        true
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
    fn a_set_takes_what_does_not_overlap() {
        let mut set = Filling::new(Service::Tcp, false);
        assert!(set.take(vec![element("2001:db8::/64", 443), element("2001:db8:1::/64", 443)]));
        assert!(set.take(vec![element("2001:db8::/64", 444)]));
        assert!(set.take(vec![element("2001:db8::5/128", 80)]));
        for (net, port) in [("2001:db8::/64", 443), ("2001:db8::7/128", 443), ("2001:db8::/32", 80), ("::/0", 444)] {
            assert!(!set.take(vec![element("2001:db8:2::/64", 1), element(net, port)]), "{net} {port}");
        }
        assert_eq!(set.set.elements.len(), 4, "all or none");
    }
}

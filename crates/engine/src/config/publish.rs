//! `[[publish]]`: ports of the outside that lead inside.
use core::net::{IpAddr, Ipv4Addr};
use core::ops::{Range, RangeInclusive};
use std::sync::Arc;

use ipnet::IpNet;
use toml::Spanned;

use super::allow::{self, Names};
use super::door::Errors;
use super::keys;
use super::raw;
use super::scalar::{self, At, Placed};
use super::{Config, Listen, Outside, Publish, Service, Target};
use crate::plan::{NAT44_PORTS, ROUTER_PORTS};

const LISTEN: At = At("publish", "listen");
const TO: At = At("publish", "to");

/// An entry, with the places of its parts.
pub(super) struct Placement {
    publish: Publish,
    listen: Vec<Range<usize>>,
    to: Range<usize>,
}

/// Checks an entry by itself. `line` is its place in the file, for comments.
pub(super) fn validate(
    raw: Spanned<raw::Publish>,
    line: usize,
    names: Names<'_>,
    errors: &mut Errors,
) -> Option<Placement> {
    let table = raw.span();
    let raw = raw.into_inner();
    let items = scalar::items(raw.listen);
    if items.is_empty() {
        errors.missing(table.clone(), LISTEN.0, LISTEN.1);
    }
    let wanted = items.len();
    let listen: Vec<Placed<Listen>> =
        items.into_iter().filter_map(|(text, span)| Some((listen(&text, &span, errors)?, span))).collect();
    let from = sources(raw.from, errors);
    let to = scalar::required(TO, &raw.to, &table, errors)?;
    if listen.is_empty() || listen.len() != wanted {
        return None;
    }
    let ports = listen.iter().filter_map(|(listen, _)| listen.service.ports()).map(|ports| ports.len()).max();
    let (target, port) = match ports {
        None => (to.0, None),
        Some(count) => {
            let (target, port) = inside(to.0, count, &to.1, errors)?;
            (target, Some(port))
        }
    };
    let bare = target.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(target);
    let target = allow::target(TO, bare, &to.1, names, errors)?;
    if !is_host(&target) {
        errors.note(to.1, format!("\"{}\" is no single host", to.0), keys::describe(TO.0, TO.1));
        return None;
    }
    let (listen, places) = listen.into_iter().unzip();
    Some(Placement { publish: Publish { listen, to: target, port, from, line }, listen: places, to: to.1 })
}

/// Checks the entries against the addresses and ports of the router, and against each other.
pub(super) fn check(config: &mut Config, placed: Vec<Placement>, errors: &mut Errors) {
    for entry in placed {
        let Placement { mut publish, listen, to } = entry;
        for (listen, span) in publish.listen.iter_mut().zip(&listen) {
            address(config, listen, span, errors);
            ports(config, listen, span, errors);
            for other in &config.publish {
                if other.listen.iter().any(|other| overlap(other, listen)) {
                    errors.note(
                        span.clone(),
                        format!("this is published in line {} already", other.line),
                        "leave one of them out, or choose other ports",
                    );
                }
            }
        }
        for (position, (one, span)) in publish.listen.iter().zip(&listen).enumerate() {
            if publish.listen[..position].iter().any(|other| overlap(other, one)) {
                errors.note(span.clone(), "this is listed twice", "leave one of them out, or choose other ports");
            }
        }
        twice_inside(config, &publish, &to, errors);
        config.publish.push(publish);
    }
}

/// `wan:tcp/443`.
fn listen(text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<Listen> {
    let parsed = text.split_once(':').and_then(|(at, service)| {
        let at = match at {
            "wan" => Outside::UplinkV4,
            address => Outside::PoolV4(address.parse().ok()?),
        };
        Some(Listen { at, service: service_of(service)? })
    });
    if parsed.is_none() {
        errors.note(span.clone(), format!("`listen` cannot be \"{text}\""), keys::describe(LISTEN.0, LISTEN.1));
    }
    parsed
}

pub(super) fn service_of(text: &str) -> Option<Service> {
    match text.split_once('/') {
        None => (text == "icmp").then_some(Service::Echo),
        Some(("tcp", ports)) => range(ports).map(Service::Tcp),
        Some(("udp", ports)) => range(ports).map(Service::Udp),
        Some(_) => None,
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range: RangeInclusive<u16> = first.parse().ok()?..=last.parse().ok()?;
    (*range.start() > 0 && !range.is_empty()).then_some(range)
}

/// What stands before the last colon, and the port behind it.
pub(super) fn inside<'a>(
    text: &'a str,
    count: usize,
    span: &Range<usize>,
    errors: &mut Errors,
) -> Option<(&'a str, u16)> {
    let parsed = text.rsplit_once(':').and_then(|(target, port)| Some((target, port.parse::<u16>().ok()?)));
    // A single colon left at the end was the first of two: the port of "vms::5" is missing.
    let Some((target, port)) = parsed.filter(|(target, port)| *port > 0 && !target.ends_with(':')) else {
        errors.note(span.clone(), format!("\"{text}\" has no port at its end"), keys::describe(TO.0, TO.1));
        return None;
    };
    if usize::from(port) + count > 1 << 16 {
        errors.note(
            span.clone(),
            format!("{count} ports from {port} on reach beyond 65535"),
            "choose a lower first port, or publish fewer",
        );
        return None;
    }
    Some((target, port))
}

fn sources(list: raw::Key<raw::OneOrMany<String>>, errors: &mut Errors) -> Vec<IpNet> {
    let mut from = Vec::new();
    for (text, span) in scalar::items(list) {
        match scalar::prefix_or_address(At("publish", "from"), &text, &span, errors) {
            Some(IpNet::V6(net)) => errors.note(
                span,
                format!("{net} is IPv6, and what is published on an IPv4 address is reached by IPv4 alone"),
                keys::describe("publish", "from"),
            ),
            net => from.extend(net),
        }
    }
    from
}

pub(super) fn is_host(target: &Target) -> bool {
    match target {
        Target::Router | Target::Containers(_, None) | Target::Lan(_, None) => false,
        Target::Vm(_) | Target::Containers(_, Some(_)) | Target::Lan(_, Some(_)) => true,
        Target::Prefix(net) => net.prefix_len() == 128,
    }
}

/// Whether the address is one of the translator's; the uplink's own is known as such.
fn address(config: &Config, listen: &mut Listen, span: &Range<usize>, errors: &mut Errors) {
    let Some(nat64) = &config.nat64 else {
        errors.note(
            span.clone(),
            "an IPv4 port leads to an IPv6 host by the translator, and that is off",
            "add [nat64], or set enabled = true there",
        );
        return;
    };
    let Outside::PoolV4(address) = listen.at else { return };
    if uplink(config) == Some(address) {
        listen.at = Outside::UplinkV4;
    } else if !nat64.pool.contains(&address) {
        errors.note(
            span.clone(),
            format!("{address} is no address of the translator"),
            "write wan for the uplink's own address, or list the address in nat64.pool",
        );
    }
}

fn uplink(config: &Config) -> Option<Ipv4Addr> {
    config.wan.ipv4.as_ref().map(|ipv4| ipv4.address.addr())
}

/// On the shared address the router keeps what it uses itself.
fn ports(config: &Config, listen: &Listen, span: &Range<usize>, errors: &mut Errors) {
    let Some(ports) = listen.service.ports().filter(|_| listen.at == Outside::UplinkV4) else { return };
    for (theirs, whose) in [(ROUTER_PORTS, "the router's own traffic"), (NAT44_PORTS, "NAT44")] {
        if meet(ports, &theirs) {
            errors.note(
                span.clone(),
                format!("ports {} to {} of the uplink's address belong to {whose}", theirs.start(), theirs.end()),
                "choose other ports, or an address out of nat64.pool",
            );
        }
    }
    let admits = |allow: &&Arc<super::Allow>| {
        let own = match &listen.service {
            Service::Tcp(_) => &allow.tcp,
            Service::Udp(_) => &allow.udp,
            Service::Echo => return false,
        };
        let by_ipv4 = allow.from.is_empty() || allow.from.iter().any(|net| matches!(net, IpNet::V4(_)));
        allow.to == Target::Router && by_ipv4 && own.iter().any(|own| meet(own, ports))
    };
    if let Some(allow) = config.allow.iter().find(admits) {
        errors.note(
            span.clone(),
            format!("line {} admits this port to the router itself", allow.line),
            "choose another port, or let that entry admit IPv6 alone, by from = \"::/0\"",
        );
    }
}

/// RFC 6146 section 3.1: a transport address inside has one binding.
fn twice_inside(config: &Config, publish: &Publish, place: &Range<usize>, errors: &mut Errors) {
    let mine: Vec<Service> = publish.inside().collect();
    for other in config.publish.iter().filter(|other| other.to == publish.to) {
        if other.inside().any(|theirs| mine.iter().any(|mine| same(mine, &theirs))) {
            errors.note(
                place.clone(),
                format!("the host's port is published in line {} already", other.line),
                "a port of a host has one address and port outside (RFC 6146 section 3.1): let the host listen on another",
            );
            return;
        }
    }
    let again = |position: usize| mine[..position].iter().any(|other| same(other, &mine[position]));
    if (0..mine.len()).any(again) {
        errors.note(
            place.clone(),
            "the host's port is published twice here",
            "a port of a host has one address and port outside (RFC 6146 section 3.1): write a [[publish]] for each port",
        );
    }
}

fn overlap(one: &Listen, other: &Listen) -> bool {
    one.at == other.at && same(&one.service, &other.service)
}

pub(super) fn same(one: &Service, other: &Service) -> bool {
    match (one, other) {
        (Service::Tcp(one), Service::Tcp(other)) | (Service::Udp(one), Service::Udp(other)) => meet(one, other),
        (Service::Echo, Service::Echo) => true,
        (Service::Tcp(_) | Service::Udp(_) | Service::Echo, _) => false,
    }
}

pub(super) fn meet(one: &RangeInclusive<u16>, other: &RangeInclusive<u16>) -> bool {
    one.start() <= other.end() && other.start() <= one.end()
}

impl Service {
    /// The ports; echo has none.
    pub const fn ports(&self) -> Option<&RangeInclusive<u16>> {
        match self {
            Self::Tcp(ports) | Self::Udp(ports) => Some(ports),
            Self::Echo => None,
        }
    }
}

impl Publish {
    /// What of the host is published, in the order of `listen`.
    fn inside(&self) -> impl Iterator<Item = Service> {
        self.listen.iter().map(|listen| {
            let moved = |ports: &RangeInclusive<u16>| {
                let first = self.port.unwrap_or(*ports.start());
                first..=first.saturating_add(ports.end() - ports.start())
            };
            match &listen.service {
                Service::Tcp(ports) => Service::Tcp(moved(ports)),
                Service::Udp(ports) => Service::Udp(moved(ports)),
                Service::Echo => Service::Echo,
            }
        })
    }
}

impl core::fmt::Display for Listen {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.at {
            Outside::UplinkV4 => out.write_str("wan"),
            Outside::PoolV4(address) => write!(out, "{}", IpAddr::V4(address)),
        }?;
        let (name, ports) = match &self.service {
            Service::Echo => return out.write_str(":icmp"),
            Service::Tcp(ports) => ("tcp", ports),
            Service::Udp(ports) => ("udp", ports),
        };
        write!(out, ":{name}/{}", ports.start())?;
        if ports.start() == ports.end() { Ok(()) } else { write!(out, "-{}", ports.end()) }
    }
}

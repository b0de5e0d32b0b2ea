//! `[[publish]]` by the kernel: a port of the uplink's IPv4 address that leads to an IPv4 host, one of its IPv6 address that
//! leads to any host.
use core::net::Ipv4Addr;
use core::ops::{Range, RangeInclusive};
use std::sync::Arc;

use ipnet::IpNet;
use toml::Spanned;

use super::allow::{self, Names};
use super::door::Errors;
use super::keys;
use super::publish::{inside, is_host, meet, same, service_of};
use super::raw::{self, OneOrMany};
use super::scalar::{self, At, Placed};
use super::{Config, Outside, Service, Target};
use crate::plan::{Family, NAT44_PORTS, ROUTER_PORTS};

const TO: At = At("publish", "to");
/// What listens at the uplink's IPv6 address.
const WAN6: &str = "wan6:";
/// Ports that are moved get a rule each.
const MOST_MOVED: usize = 64;

/// Ports of the uplink's address that lead inside without translation between the families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Of which of its addresses.
    pub family: Family,
    /// TCP or UDP ports.
    pub listen: Vec<Service>,
    /// The host inside.
    pub to: Inside,
    /// Its first port.
    pub port: u16,
    /// Who outside may reach it; anybody when empty.
    pub from: Vec<IpNet>,
    /// Line in the file, for comments and the console.
    pub line: usize,
}

/// A host inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// In a LAN's IPv4 prefix.
    V4(Ipv4Addr),
    /// As an `allow` names it.
    V6(Target),
}

/// An entry, with the places of its parts.
pub(super) struct Placement {
    forward: Forward,
    places: Vec<Range<usize>>,
    to: Range<usize>,
}

/// Whether an entry is of this kind.
pub(super) fn is_meant(raw: &raw::Publish) -> bool {
    let listens = |text: &str| text.starts_with(WAN6);
    let by_listen = raw.listen.as_ref().is_some_and(|key| match key.get_ref() {
        OneOrMany::One(text) => listens(text),
        OneOrMany::Many(texts) => texts.iter().any(|text| listens(text.get_ref())),
    });
    by_listen || raw.to.as_ref().is_some_and(|key| v4_host(key.get_ref()).is_some())
}

fn v4_host(text: &str) -> Option<Ipv4Addr> {
    text.split_once(':').map_or(text, |(host, _)| host).parse().ok()
}

/// Checks an entry by itself.
pub(super) fn validate(
    raw: Spanned<raw::Publish>,
    line: usize,
    names: Names<'_>,
    errors: &mut Errors,
) -> Option<Placement> {
    let table = raw.span();
    let raw = raw.into_inner();
    let to = scalar::required(TO, &raw.to, &table, errors)?;
    let v4 = v4_host(to.0);
    let (family, prefix) = if v4.is_some() { (Family::V4, "wan:") } else { (Family::V6, WAN6) };
    let (mut listen, mut places) = (Vec::new(), Vec::new());
    for (text, span) in scalar::items(raw.listen) {
        match text.strip_prefix(prefix).and_then(service_of).filter(|service| service.ports().is_some()) {
            Some(service) => {
                listen.push(service);
                places.push(span);
            }
            None => errors.note(
                span,
                format!("\"{text}\" cannot lead to {}", to.0),
                "an IPv4 host is published on wan:tcp/PORTS or wan:udp/PORTS, any other on wan6:tcp/PORTS or wan6:udp/PORTS",
            ),
        }
    }
    let count = listen.iter().filter_map(Service::ports).map(|ports| ports.len()).max()?;
    let (host, port) = inside(to.0, count, &to.1, errors)?;
    let to_inside = match v4 {
        Some(address) => Inside::V4(address),
        None => {
            let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
            let target = allow::target(TO, bare, &to.1, names, errors)?;
            if !is_host(&target) {
                errors.note(to.1, format!("\"{}\" is no single host", to.0), keys::describe(TO.0, TO.1));
                return None;
            }
            Inside::V6(target)
        }
    };
    for (service, span) in listen.iter().zip(&places) {
        let ports = service.ports().cloned().unwrap_or(0..=0);
        if *ports.start() != port && ports.len() > MOST_MOVED {
            errors.note(
                span.clone(),
                format!("{} ports are moved", ports.len()),
                format!("let the host use the same ports, or publish {MOST_MOVED} of them at a time"),
            );
        }
    }
    let from = sources(raw.from, family, errors);
    let forward = Forward { family, listen, to: to_inside, port, from, line };
    Some(Placement { forward, places, to: to.1 })
}

fn sources(list: raw::Key<OneOrMany<String>>, family: Family, errors: &mut Errors) -> Vec<IpNet> {
    let at = At("publish", "from");
    let mut from = Vec::new();
    for (text, span) in scalar::items(list) {
        let Some(net) = scalar::prefix_or_address(at, &text, &span, errors) else { continue };
        if net.addr().is_ipv4() == (family == Family::V4) {
            from.push(net);
        } else {
            errors.note(span, format!("{net} is of the other family"), "name those who come by this address");
        }
    }
    from
}

/// Checks the entries against the router's own ports, the translator's, and each other.
pub(super) fn check(config: &mut Config, placed: Vec<Placement>, errors: &mut Errors) {
    for Placement { forward, places, to } in placed {
        if let Inside::V4(host) = forward.to
            && !config.lans.iter().any(|lan| lan.ipv4.is_some_and(|net| net.contains(&host) && net.addr() != host))
        {
            errors.note(to, format!("{host} is no host of a lan with IPv4"), "give its lan `ipv4`");
        }
        for (service, span) in forward.listen.iter().zip(&places) {
            own_ports(config, &forward, service, span, errors);
            let others = config.forwards.iter().filter(|other| other.family == forward.family);
            let twice = others.filter(|other| other.listen.iter().any(|other| same(other, service)));
            let by_nat64 = config.publish.iter().filter(|publish| {
                let meets = |listen: &super::Listen| listen.at == Outside::UplinkV4 && same(&listen.service, service);
                forward.family == Family::V4 && publish.listen.iter().any(meets)
            });
            for line in twice.map(|other| other.line).chain(by_nat64.map(|publish| publish.line)) {
                errors.note(
                    span.clone(),
                    format!("this is published in line {line} already"),
                    "leave one of them out, or choose other ports",
                );
            }
        }
        config.forwards.push(forward);
    }
}

fn own_ports(config: &Config, forward: &Forward, service: &Service, span: &Range<usize>, errors: &mut Errors) {
    let Some(ports) = service.ports() else { return };
    let nat64 = config.nat64.as_ref().filter(|_| forward.family == Family::V4).map(|nat64| nat64.ports.clone());
    let taken: [(Option<RangeInclusive<u16>>, &str); 3] = [
        (Some(ROUTER_PORTS), "the router's own traffic"),
        (Some(NAT44_PORTS).filter(|_| forward.family == Family::V4), "NAT44"),
        (nat64, "NAT64"),
    ];
    for (theirs, whose) in taken {
        if let Some(theirs) = theirs.filter(|theirs| meet(ports, theirs)) {
            errors.note(
                span.clone(),
                format!("ports {} to {} of the uplink's address belong to {whose}", theirs.start(), theirs.end()),
                "choose other ports",
            );
        }
    }
    let admits = |allow: &&Arc<super::Allow>| {
        let own = match service {
            Service::Tcp(_) => &allow.tcp,
            Service::Udp(_) => &allow.udp,
            Service::Echo => return false,
        };
        let family = |net: &IpNet| net.addr().is_ipv4() == (forward.family == Family::V4);
        let anybody = allow.from.is_empty() && allow.from_inside.is_empty();
        allow.to == Target::Router
            && (anybody || allow.from.iter().any(family))
            && own.iter().any(|own| meet(own, ports))
    };
    if let Some(allow) = config.allow.iter().find(admits) {
        errors.note(
            span.clone(),
            format!("line {} admits this port to the router itself", allow.line),
            "choose another port",
        );
    }
}

impl Forward {
    /// What of the host is published: protocol, ports outside, first port inside.
    pub(crate) fn services(&self) -> impl Iterator<Item = (u8, RangeInclusive<u16>, u16)> {
        self.listen.iter().filter_map(|service| match service {
            Service::Tcp(ports) => Some((6, ports.clone(), self.port)),
            Service::Udp(ports) => Some((17, ports.clone(), self.port)),
            Service::Echo => None,
        })
    }
}

/// The LAN prefix of IPv4, beside those of other links.
pub(super) fn lan_ipv4(
    key: &raw::Key<String>,
    owner: &str,
    claims: &mut super::claim::Claims,
    errors: &mut Errors,
) -> Option<ipnet::Ipv4Net> {
    let (text, span): Placed<String> = scalar::spanned(key.clone())?;
    let net = scalar::interface4(At("lan", "ipv4"), &text, &span, errors)?;
    let holder = super::claim::Holder::Router(owner.to_owned());
    claims.address(net.addr().into(), owner, holder, span.clone(), errors);
    claims.on_link(IpNet::V4(net), owner, span);
    Some(net)
}

#[cfg(test)]
mod tests {
    use crate::config;

    fn errors(more: &str) -> String {
        let file = format!(
            r#"
            [wan]
            interface = "w"
            ipv4 = {{ address = "203.0.113.2/24", gateway = "203.0.113.1" }}
            ipv6 = {{ address = "2001:db8:1::2/64", gateway = "fe80::1" }}
            [[lan]]
            name = "lan"
            interface = "l"
            addresses = ["fd00:1::1/64"]
            ipv4 = "10.0.0.1/24"
            [nat64]
            {more}
            "#
        );
        config::parse(&file, "test").map_or_else(|errors| errors.to_string(), |_| String::new())
    }

    fn publish(listen: &str, to: &str) -> String {
        errors(&format!("[[publish]]\nlisten = {listen}\nto = \"{to}\"\n"))
    }

    #[test]
    fn hosts_of_both_families_are_published_by_the_kernel() {
        assert_eq!(publish("[\"wan:tcp/443\", \"wan:udp/53-55\"]", "10.0.0.5:443"), "");
        assert_eq!(publish("\"wan6:tcp/443\"", "lan::5:8443"), "");
        assert_eq!(publish("\"wan6:udp/5000-6000\"", "[fd00:1::7]:5000"), "");
        assert_eq!(errors("[[publish]]\nlisten = \"wan:tcp/1\"\nto = \"10.0.0.5:1\"\nfrom = \"192.0.2.0/24\""), "");
    }

    #[test]
    fn ports_of_others_and_impossible_hosts_are_refused() {
        for (listen, to, why) in [
            ("\"wan:tcp/33000\"", "10.0.0.5:443", "the router's own traffic"),
            ("\"wan:tcp/37000\"", "10.0.0.5:443", "belong to NAT44"),
            ("\"wan:tcp/50000\"", "10.0.0.5:443", "belong to NAT64"),
            ("\"wan:tcp/443\"", "10.0.1.5:443", "no host of a lan with IPv4"),
            ("\"wan:tcp/443\"", "10.0.0.1:443", "no host of a lan with IPv4"),
            ("\"wan:icmp\"", "10.0.0.5:443", "cannot lead to"),
            ("\"wan6:tcp/443\"", "10.0.0.5:443", "cannot lead to"),
            ("\"wan6:tcp/443\"", "lan:443", "no single host"),
            ("\"wan6:tcp/5000-6000\"", "lan::5:443", "1001 ports are moved"),
            ("[\"wan6:tcp/443\", \"wan:tcp/443\"]", "lan::5:443", "cannot lead to"),
        ] {
            let told = publish(listen, to);
            assert!(told.contains(why), "{listen} to {to}: {told}");
        }
        let entry = "[[publish]]\nlisten = \"wan:tcp/443\"\nto = \"10.0.0.5:443\"\n";
        assert!(errors(&format!("{entry}{entry}")).contains("published in line"));
        assert!(errors(&format!("[[allow]]\nto = \"router\"\ntcp = 443\n{entry}")).contains("to the router itself"));
        assert!(errors(&format!("{entry}from = \"2001:db8::/32\"")).contains("other family"));
    }
}

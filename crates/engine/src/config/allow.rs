//! `[[allow]]`: entries of the allowlist.
use core::net::{IpAddr, Ipv6Addr};
use core::ops::{Range, RangeInclusive};

use ipnet::{IpNet, Ipv6Net};
use toml::Spanned;

use super::claim::Claims;
use super::door::Errors;
use super::keys;
use super::raw::{self, Key, OneOrMany, Port};
use super::scalar::{self, At};
use super::{Allow, Lan, Target, Vm};

/// What an entry can name.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) lans: &'a [Lan],
    pub(super) vms: &'a [Vm],
    pub(super) claims: &'a Claims,
}

/// Checks an entry. `line` is its place in the file, for comments.
pub(super) fn validate(raw: Spanned<raw::Allow>, line: usize, names: Names<'_>, errors: &mut Errors) -> Option<Allow> {
    let table = raw.span();
    let raw = raw.into_inner();
    let to = scalar::required(At("allow", "to"), &raw.to, &table, errors)
        .and_then(|(text, span)| target(At("allow", "to"), text, &span, names, errors));

    let mut from = Vec::new();
    for (text, span) in scalar::items(raw.from) {
        let Some(net) = scalar::prefix_or_address(At("allow", "from"), &text, &span, errors) else { continue };
        if matches!((&to, net), (Some(target), IpNet::V4(_)) if *target != Target::Router) {
            errors.note(
                span,
                format!("{net} is IPv4, and what this entry admits to has IPv6 only"),
                "give IPv6 prefixes; what IPv4 may reach is said by [[publish]]",
            );
            continue;
        }
        from.push(net);
    }
    let left_out = ["tcp", "udp", "icmp"].iter().any(|key| errors.has_left_out(&table, key));
    let none = raw.tcp.is_none() && raw.udp.is_none() && !raw.icmp.as_ref().is_some_and(|key| *key.get_ref());
    if none && !left_out {
        errors.note(
            table,
            "this entry admits nothing: it names no protocol",
            "add tcp = [PORTS], udp = [PORTS] or icmp = true",
        );
    }
    let tcp = ports("tcp", raw.tcp, errors);
    let udp = ports("udp", raw.udp, errors);
    let icmp = raw.icmp.is_some_and(|key| *key.get_ref());
    Some(Allow { to: to?, from, tcp, udp, icmp, line })
}

/// What a name, a suffix or a prefix means.
pub(super) fn target(at: At, text: &str, span: &Range<usize>, names: Names<'_>, errors: &mut Errors) -> Option<Target> {
    if text == "router" {
        return Some(Target::Router);
    }
    let vm = |name: &str| names.vms.iter().find(|vm| vm.name == name);
    let lan = |name: &str| names.lans.iter().find(|lan| lan.name == name);
    // Names come before literals: a lan called "cafe" is meant by "cafe::5".
    if let Some((name, rest)) = text.split_once("/containers") {
        if let Some(vm) = vm(name) {
            return containers(at, vm, rest, span, errors);
        }
    } else if let Some(vm) = vm(text) {
        return vm_address(vm, span, errors);
    } else if let Some(lan) = lan(text) {
        return whole_lan(lan, names.vms, span, errors);
    } else if let Some((name, suffix)) = text.split_once("::")
        && let Some(lan) = lan(name)
    {
        let mut nets: Vec<Ipv6Net> = routable(&lan.addresses);
        nets.extend(lan.prefixes.iter().filter_map(|prefix| Ipv6Net::new(prefix.router, prefix.length).ok()));
        let suffix = inside(at, &format!("::{suffix}"), &nets, text, span, errors)?;
        return Some(Target::Lan(lan.name.clone(), Some(suffix)));
    }
    if text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok() {
        return literal(at, text, span, names.claims, errors);
    }
    let known: Vec<&str> =
        names.vms.iter().map(|vm| vm.name.as_str()).chain(names.lans.iter().map(|lan| lan.name.as_str())).collect();
    errors.note(
        span.clone(),
        format!("\"{text}\" names nothing in this file"),
        format!("{}; known names: {}", keys::describe(at.0, at.1), known.join(", ")),
    );
    None
}

fn vm_address(vm: &Vm, span: &Range<usize>, errors: &mut Errors) -> Option<Target> {
    if vm.relative.address.is_none() && vm.address.is_none_or(|address| address.is_unicast_link_local()) {
        errors.note(
            span.clone(),
            format!("{} has no address that can be reached from outside", vm.name),
            format!("give {} a global `address`, or name its containers", vm.name),
        );
        return None;
    }
    Some(Target::Vm(vm.name.clone()))
}

fn containers(at: At, vm: &Vm, rest: &str, span: &Range<usize>, errors: &mut Errors) -> Option<Target> {
    let Some(first) = vm.containers.first().or(vm.relative.containers.first()) else {
        errors.note(
            span.clone(),
            format!("{} has no container prefix", vm.name),
            format!("give {} `containers`, or name the vm itself", vm.name),
        );
        return None;
    };
    if rest.is_empty() {
        return Some(Target::Containers(vm.name.clone(), None));
    }
    let text = format!("{}/containers{rest}", vm.name);
    let suffix = inside(at, rest, &[*first], &text, span, errors)?;
    Some(Target::Containers(vm.name.clone(), Some(suffix)))
}

fn whole_lan(lan: &Lan, vms: &[Vm], span: &Range<usize>, errors: &mut Errors) -> Option<Target> {
    let gateways = vms.iter().any(|vm| vm.lan == lan.name && vm.gateway.is_some());
    if routable(&lan.addresses).is_empty() && lan.prefixes.is_empty() && !gateways {
        errors.note(
            span.clone(),
            format!("{} has no prefix that can be reached from outside", lan.name),
            format!("give {} `addresses`", lan.name),
        );
        return None;
    }
    Some(Target::Lan(lan.name.clone(), None))
}

/// A suffix such as `::5` that leaves every one of the prefixes' own bits alone.
fn inside(
    at: At,
    suffix: &str,
    nets: &[Ipv6Net],
    text: &str,
    span: &Range<usize>,
    errors: &mut Errors,
) -> Option<Ipv6Addr> {
    let parsed = suffix.starts_with("::").then(|| suffix.parse::<Ipv6Addr>().ok()).flatten();
    let Some(suffix) = parsed else {
        errors.note(span.clone(), format!("\"{text}\" has no valid suffix"), keys::describe(at.0, at.1));
        return None;
    };
    if nets.is_empty() {
        errors.note(
            span.clone(),
            format!("\"{text}\": there is no prefix to put the suffix into"),
            "give the lan `addresses`",
        );
        return None;
    }
    if let Some(net) = nets.iter().find(|net| u128::from(suffix) & u128::from(net.netmask()) != 0) {
        errors.note(
            span.clone(),
            format!("the suffix {suffix} reaches into the prefix {}", net.trunc()),
            format!("only the last {} bits are the suffix's", 128 - net.prefix_len()),
        );
        return None;
    }
    Some(suffix)
}

fn literal(at: At, text: &str, span: &Range<usize>, claims: &Claims, errors: &mut Errors) -> Option<Target> {
    let net = match scalar::prefix_or_address(at, text, span, errors)? {
        IpNet::V6(net) => net,
        IpNet::V4(net) => {
            errors.note(
                span.clone(),
                format!("{net} is IPv4, and what lies behind this router has IPv6 only"),
                "name a host with IPv6; [[publish]] makes it reachable by IPv4",
            );
            return None;
        }
    };
    if net.prefix_len() == 128 && claims.is_router(net.addr().into()) {
        errors.note(span.clone(), format!("{} is the router itself", net.addr()), "write to = \"router\"");
        return None;
    }
    if !claims.is_inside(net) {
        errors.note(
            span.clone(),
            format!("{net} lies in no prefix of this network"),
            "name a lan, a vm, its containers, or something inside their prefixes",
        );
        return None;
    }
    Some(Target::Prefix(net))
}

fn routable(nets: &[Ipv6Net]) -> Vec<Ipv6Net> {
    nets.iter().copied().filter(|net| !net.addr().is_unicast_link_local()).collect()
}

fn ports(key: &'static str, list: Key<OneOrMany<Port>>, errors: &mut Errors) -> Vec<RangeInclusive<u16>> {
    let given = list.as_ref().map(Spanned::span);
    let mut ports: Vec<RangeInclusive<u16>> = Vec::new();
    let items = scalar::items(list);
    if let (true, Some(span)) = (items.is_empty(), given) {
        errors.note(span, format!("`{key}` is an empty list"), keys::describe("allow", key));
    }
    for (port, span) in items {
        let range = match &port {
            Port::Number(number) => u16::try_from(*number).ok().map(|port| port..=port),
            Port::Range(text) => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                first.trim().parse().ok().zip(last.trim().parse().ok()).map(|(first, last)| first..=last)
            }
        };
        match range.filter(|range| *range.start() > 0 && !range.is_empty()) {
            Some(range) => ports.push(range),
            None => match port {
                Port::Number(number) => errors.range(span, "allow", key, number),
                Port::Range(text) => errors.range(span, "allow", key, format_args!("\"{text}\"")),
            },
        }
    }
    merge(ports)
}

/// Sorted, and without overlaps: nftables refuses overlapping intervals in one set.
fn merge(mut ports: Vec<RangeInclusive<u16>>) -> Vec<RangeInclusive<u16>> {
    ports.sort_by_key(|range| (*range.start(), *range.end()));
    let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
    for range in ports {
        match merged.last_mut() {
            Some(last) if u32::from(*range.start()) <= u32::from(*last.end()) + 1 => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            Some(_) | None => merged.push(range),
        }
    }
    merged
}

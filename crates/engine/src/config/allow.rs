//! `[[allow]]`: entries of the allowlist.
use core::net::{IpAddr, Ipv6Addr};
use core::ops::{Range, RangeInclusive};

use ipnet::{IpNet, Ipv6Net};
use toml::Spanned;

use super::claim::Claims;
use super::door::Errors;
use super::groups::Groups;
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
    pub(super) groups: &'a Groups,
}

const TO: At = At("allow", "to");
const FROM: At = At("allow", "from");

/// Checks an entry; one for each target comes back. `line` is its place in the file, for comments.
pub(super) fn validate(raw: Spanned<raw::Allow>, line: usize, names: Names<'_>, errors: &mut Errors) -> Vec<Allow> {
    let table = raw.span();
    let raw = raw.into_inner();
    if raw.to.is_none() {
        errors.missing(table.clone(), TO.0, TO.1);
    }
    let to = names.groups.texts(scalar::items(raw.to), errors);
    let targets: Vec<Target> =
        to.into_iter().filter_map(|(text, span)| target(TO, &text, &span, names, errors)).collect();

    let (mut from, mut from_inside) = (Vec::new(), Vec::new());
    for (text, span) in names.groups.texts(scalar::items(raw.from), errors) {
        if is_name(&text) {
            match target(FROM, &text, &span, names, errors) {
                Some(Target::Router) => {
                    errors.note(span, "what the router sends needs no entry", keys::describe(FROM.0, FROM.1));
                }
                named => from_inside.extend(named),
            }
            continue;
        }
        let Some(net) = scalar::prefix_or_address(FROM, &text, &span, errors) else { continue };
        if matches!(net, IpNet::V4(_)) && targets.iter().any(|target| *target != Target::Router) {
            errors.note(
                span,
                format!("{net} is IPv4, and what this entry admits to has IPv6 only"),
                "give IPv6 prefixes; what IPv4 may reach is said by [[publish]]",
            );
            continue;
        }
        from.push(net);
    }
    let left_out = ["tcp", "udp", "icmp", "protocol"].iter().any(|key| errors.has_left_out(&table, key));
    let none = raw.tcp.is_none()
        && raw.udp.is_none()
        && raw.protocol.is_none()
        && !raw.icmp.as_ref().is_some_and(|key| *key.get_ref());
    if none && !left_out {
        errors.note(
            table,
            "this entry admits nothing: it names no protocol",
            "add tcp = [PORTS], udp = [PORTS], icmp = true or protocol = [NUMBERS]",
        );
    }
    let tcp = ports("tcp", raw.tcp, names, errors);
    let udp = ports("udp", raw.udp, names, errors);
    let icmp = raw.icmp.is_some_and(|key| *key.get_ref());
    let protocols = protocols(raw.protocol, errors);
    let until = raw.until.as_ref().and_then(|key| {
        let day = day(key.get_ref());
        if day.is_none() {
            scalar::unknown(At("allow", "until"), key.get_ref(), key.span(), errors);
        }
        day.map(|day| day * 86_400)
    });
    let new_per_second = scalar::number(At("allow", "new_per_second"), &raw.new_per_second, 1..=1_000_000, errors);
    let connections = scalar::number(At("allow", "connections"), &raw.connections, 1..=65_535, errors);
    let log = raw.log.is_some_and(|key| *key.get_ref());
    let entry = |to| Allow {
        to,
        from: from.clone(),
        tcp: tcp.clone(),
        udp: udp.clone(),
        icmp,
        protocols: protocols.clone(),
        from_inside: from_inside.clone(),
        until,
        new_per_second,
        connections,
        log,
        line,
    };
    targets.into_iter().map(entry).collect()
}

/// Whether a source is meant by a name of this file.
pub(super) fn is_name(text: &str) -> bool {
    text.parse::<IpAddr>().is_err() && text.parse::<IpNet>().is_err()
}

/// Other protocols by number or name.
fn protocols(list: Key<OneOrMany<Port>>, errors: &mut Errors) -> Vec<u8> {
    let at = At("allow", "protocol");
    let mut protocols = Vec::new();
    for (item, span) in scalar::items(list) {
        let number = match &item {
            Port::Number(number) => u8::try_from(*number).ok(),
            Port::Range(name) => match name.as_str() {
                "gre" => Some(47),
                "esp" => Some(50),
                "ah" => Some(51),
                "sctp" => Some(132),
                _ => None,
            },
        };
        // Those with keys of their own are admitted by port or type only.
        match number.filter(|number| ![1, 6, 17, 58].contains(number)) {
            Some(number) => protocols.push(number),
            None => match item {
                Port::Number(number) => errors.range(span, at.0, at.1, number),
                Port::Range(text) => errors.range(span, at.0, at.1, format_args!("\"{text}\"")),
            },
        }
    }
    protocols.sort_unstable();
    protocols.dedup();
    protocols
}

/// `YYYY-MM-DD` in the Gregorian calendar as days since 1970-01-01.
fn day(text: &str) -> Option<u64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let (year, month, day): (u64, u64, u64) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if year < 1970 || day == 0 || day > length {
        return None;
    }
    let before = year - 1;
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let days_before_year = (year - 1970) * 365 + leaps(before) - leaps(1969);
    let days_before_month: u64 = lengths.iter().take(usize::try_from(month).ok()? - 1).sum();
    Some(days_before_year + days_before_month + day - 1)
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
    let known: Vec<&str> = names
        .vms
        .iter()
        .map(|vm| vm.name.as_str())
        .chain(names.lans.iter().map(|lan| lan.name.as_str()))
        .chain(names.groups.names())
        .collect();
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

pub(super) fn ports(
    key: &'static str,
    list: Key<OneOrMany<Port>>,
    names: Names<'_>,
    errors: &mut Errors,
) -> Vec<RangeInclusive<u16>> {
    let given = list.as_ref().map(Spanned::span);
    let mut ports: Vec<RangeInclusive<u16>> = Vec::new();
    let items = scalar::items(list);
    if let (true, Some(span)) = (items.is_empty(), given) {
        errors.note(span, format!("`{key}` is an empty list"), keys::describe("allow", key));
    }
    for (port, span) in names.groups.ports(items, errors) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_in_leap_years_and_impossible_ones_are_none() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("1970-12-31", 364),
            ("2000-02-29", 11_016),
            ("2000-03-01", 11_017),
            ("2024-03-01", 19_783),
            ("2027-01-01", 20_819),
            ("2100-03-01", 47_541),
        ] {
            assert_eq!(day(text), Some(days), "{text}");
        }
        for text in [
            "",
            "2027",
            "2027-13-01",
            "2027-00-01",
            "2026-02-29",
            "2100-02-29",
            "1969-12-31",
            "2027-1-1",
            "2027-01-01-1",
        ] {
            assert_eq!(day(text), None, "{text}");
        }
    }
}

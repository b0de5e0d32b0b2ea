//! `[nat64]`: the translator.
use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::{Range, RangeInclusive};
use core::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use toml::Spanned;

use super::claim::Claims;
use super::door::Errors;
use super::keys;
use super::raw;
use super::scalar::{self, At, Placed};
use super::{Filtering, Nat64, Nat64Limits, Nat64Timers, pool};
use crate::nat64::SESSION_BYTES;
use crate::xlat::{ChecksumZero, Policy};

/// RFC 6052 section 2.1: the Well-Known Prefix.
pub(super) const WELL_KNOWN_PREFIX: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// Prefixes that may be in use at once.
const MAX_PREFIXES: usize = 8;
/// RFC 6052 section 2.2: the lengths that Pref64::/n may have.
const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];
/// Shares of the uplink address's ports that NAT64 may have: what is left by the router and NAT44.
const SHARES: [RangeInclusive<u16>; 2] = [1024..=32_767, 40_960..=65_535];
/// NAT64's share unless told otherwise.
const DEFAULT_SHARE: RangeInclusive<u16> = 40_960..=65_535;
/// Nothing but the translator uses further addresses; what lies below is kept for what is published.
const DEFAULT_POOL_SHARE: RangeInclusive<u16> = 1024..=65_535;
/// Never an address of a server: this network, loopback, multicast and reserved (RFC 6890).
const NEVER: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// Checks the translator; nothing when it is switched off. The prefixes come back with their places.
pub(super) fn validate(
    raw: Spanned<raw::Nat64>,
    claims: &mut Claims,
    errors: &mut Errors,
) -> Option<(Nat64, Vec<Placed<Ipv6Net>>)> {
    let table = raw.span();
    let raw = raw.into_inner();
    let policy = policy(&raw, errors);
    let max_sessions = max_sessions(&raw, errors);
    let enabled = raw.enabled.as_ref().is_none_or(|key| *key.get_ref());
    let fast_path = raw.fast_path.as_ref().is_none_or(|key| *key.get_ref());
    let most = scalar::number(At("nat64", "fast_path_sessions"), &raw.fast_path_sessions, 16..=4_000_000u32, errors);
    let prefixes = prefixes(raw.prefix, table, errors);
    let ports = share("ports", &raw.ports, &SHARES, errors).unwrap_or(DEFAULT_SHARE);
    let pool_ports = share("pool_ports", &raw.pool_ports, &[1..=u16::MAX], errors).unwrap_or(DEFAULT_POOL_SHARE);
    let pool = pool::addresses(raw.pool, claims, errors);
    let port_block = block(&raw.port_block, [&ports, &pool_ports], errors);
    let never_translate = scalar::items(raw.never_translate)
        .iter()
        .filter_map(|(text, span)| scalar::prefix4(At("nat64", "never_translate"), text, span, errors))
        .collect();
    let exempt_span = raw.translate_non_global.as_ref().map(Spanned::span);
    let translate_non_global: Vec<Ipv4Net> = scalar::items(raw.translate_non_global)
        .iter()
        .filter_map(|(text, span)| exemption(text, span, errors))
        .collect();
    // RFC 6052 section 3.1: the Well-Known Prefix represents global IPv4 addresses only.
    let is_well_known = !prefixes.is_empty() && prefixes.iter().all(|(prefix, _)| *prefix == WELL_KNOWN_PREFIX);
    if let (true, false, Some(span)) = (is_well_known, translate_non_global.is_empty(), exempt_span) {
        errors.note(
            span,
            "`translate_non_global` cannot be used with the Well-Known Prefix 64:ff9b::/96 (RFC 6052 section 3.1)",
            "choose a prefix of your own, or one out of 64:ff9b:1::/48 (RFC 8215), as in prefix = \"64:ff9b:1::/96\"",
        );
    }
    let icmp_errors_per_second =
        scalar::number(At("nat64", "icmp_errors_per_second"), &raw.icmp_errors_per_second, 0..=100_000, errors);
    let filtering = filtering(raw.filtering.as_ref(), errors);
    let limits = raw.limits.map_or_else(Nat64Limits::default, |limits| limits_of(limits.get_ref(), errors));
    let timers = raw.timers.map_or_else(Nat64Timers::default, |timers| timers_of(timers.get_ref(), errors));
    let log = raw.log.and_then(|log| super::nat64_log::validate(log, errors));
    let mut nets = prefixes.iter().map(|(prefix, _)| *prefix);
    let nat64 = Nat64 {
        prefix: nets.next()?,
        further_prefixes: nets.collect(),
        ports,
        pool,
        pool_ports,
        port_block,
        never_translate,
        translate_non_global,
        policy,
        icmp_errors_per_second: icmp_errors_per_second.unwrap_or(100),
        shortcut: raw.shortcut.is_none_or(|key| *key.get_ref()),
        filtering,
        limits,
        timers,
        max_sessions,
        fast_path,
        fast_path_sessions: most,
        log,
    };
    enabled.then_some((nat64, prefixes))
}

/// All prefixes; the Well-Known Prefix where the file names none.
fn prefixes(raw: raw::Key<raw::OneOrMany<String>>, table: Range<usize>, errors: &mut Errors) -> Vec<Placed<Ipv6Net>> {
    let Some(span) = raw.as_ref().map(Spanned::span) else { return vec![(WELL_KNOWN_PREFIX, table)] };
    let items = scalar::items(raw);
    if items.is_empty() || items.len() > MAX_PREFIXES {
        errors.range(span, "nat64", "prefix", format_args!("a list of {}", items.len()));
    }
    let mut prefixes: Vec<Placed<Ipv6Net>> = Vec::new();
    for (text, span) in items {
        let Some(net) = prefix(At("nat64", "prefix"), &text, &span, errors) else { continue };
        if prefixes.iter().any(|(other, _)| *other == net) {
            errors.note(span, format!("{net} is there already"), "leave one of them out");
        } else {
            prefixes.push((net, span));
        }
    }
    prefixes
}

/// A prefix that IPv4 addresses can be embedded in.
pub(super) fn prefix(at: At, text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<Ipv6Net> {
    let net = scalar::prefix6(at, text, span, errors)?;
    if !LENGTHS.contains(&net.prefix_len()) {
        errors.note(
            span.clone(),
            format!("Pref64::/n cannot have the length {}", net.prefix_len()),
            keys::describe(at.0, at.1),
        );
        return None;
    }
    // RFC 6052 section 2.2: bits 64 to 71 are zero, also in a /96.
    if net.addr().octets()[8] != 0 {
        errors.note(span.clone(), format!("bits 64 to 71 of {net} are not zero"), keys::describe(at.0, at.1));
        return None;
    }
    // ::/96 and its like hold the loopback and IPv4-mapped addresses.
    let first = net.addr().octets()[0];
    if first == 0xff || net.addr().is_unicast_link_local() || net.contains(&Ipv6Addr::LOCALHOST) || mapped(net) {
        errors.note(span.clone(), format!("{net} cannot be routed to a translator"), keys::describe(at.0, at.1));
        return None;
    }
    Some(net)
}

/// RFC 4291 section 2.5.5.2: ::ffff:0:0/96.
fn mapped(net: Ipv6Net) -> bool {
    net.addr() == Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)
}

fn share(
    name: &'static str,
    key: &raw::Key<String>,
    shares: &[RangeInclusive<u16>],
    errors: &mut Errors,
) -> Option<RangeInclusive<u16>> {
    let key = key.as_ref()?;
    let range = key.get_ref().split_once('-').and_then(|(first, last)| {
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let fits = |share: &RangeInclusive<u16>| share.contains(&first) && share.contains(&last);
        (first <= last && shares.iter().any(fits)).then_some(first..=last)
    });
    if range.is_none() {
        errors.range(key.span(), "nat64", name, format_args!("\"{}\"", key.get_ref()));
    }
    range
}

/// Ports of a block, which fits every share.
fn block(key: &raw::Key<i64>, shares: [&RangeInclusive<u16>; 2], errors: &mut Errors) -> u16 {
    let Some(key) = key else { return 0 };
    let smallest = shares.map(ExactSizeIterator::len).into_iter().min().unwrap_or_default();
    match u16::try_from(*key.get_ref()) {
        Ok(size @ (0 | 64..=8192)) if usize::from(size) <= smallest => size,
        Ok(_) | Err(_) => {
            errors.range(key.span(), "nat64", "port_block", key.get_ref());
            0
        }
    }
}

fn exemption(text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<Ipv4Net> {
    let net = scalar::prefix4(At("nat64", "translate_non_global"), text, span, errors)?;
    if let Some(never) = NEVER.iter().find(|never| never.contains(&net) || net.contains(*never)) {
        errors.note(
            span.clone(),
            format!("{net} overlaps {never}, where no server can be"),
            "name the private prefixes that you need, as in [\"10.0.0.0/8\"]",
        );
        return None;
    }
    Some(net)
}

/// What the memory for sessions allows, or less.
fn max_sessions(raw: &raw::Nat64, errors: &mut Errors) -> u32 {
    let memory = scalar::number(At("nat64", "memory"), &raw.memory, 1..=1600, errors).unwrap_or(32);
    let allowed = memory * (1 << 20) / SESSION_BYTES;
    let Some(wanted) = scalar::number(At("nat64", "max_sessions"), &raw.max_sessions, 16..=4_000_000u32, errors) else {
        return allowed;
    };
    if wanted > allowed
        && let Some(key) = &raw.max_sessions
    {
        let needed = (u64::from(wanted) * u64::from(SESSION_BYTES)).div_ceil(1 << 20);
        errors.note(
            key.span(),
            format!("{wanted} sessions do not fit {memory} MiB, which hold {allowed}"),
            format!("write memory = {needed}, or fewer sessions"),
        );
    }
    wanted
}

fn limits_of(raw: &raw::Limits, errors: &mut Errors) -> Nat64Limits {
    let at = |key| At("nat64.limits", key);
    let default = Nat64Limits::default();
    Nat64Limits {
        prefix_length: scalar::number(at("prefix_length"), &raw.prefix_length, 32..=128, errors)
            .unwrap_or(default.prefix_length),
        sessions: scalar::number(at("sessions"), &raw.sessions, 16..=4_000_000, errors).unwrap_or(default.sessions),
        bindings: scalar::number(at("bindings"), &raw.bindings, 16..=65_536, errors).unwrap_or(default.bindings),
        new_sessions_per_second: scalar::number(
            at("new_sessions_per_second"),
            &raw.new_sessions_per_second,
            1..=1_000_000,
            errors,
        )
        .unwrap_or(default.new_sessions_per_second),
        held_ports: scalar::number(at("held_ports"), &raw.held_ports, 0..=1_000_000, errors)
            .unwrap_or(default.held_ports),
    }
}

/// RFC 4787 REQ-8.
fn filtering(raw: Option<&Spanned<String>>, errors: &mut Errors) -> Filtering {
    match raw.map(|key| (key.get_ref().as_str(), key.span())) {
        None | Some(("address-dependent", _)) => Filtering::AddressDependent,
        Some(("endpoint-independent", _)) => Filtering::EndpointIndependent,
        Some((text, span)) => {
            errors.range(span, "nat64", "filtering", format_args!("\"{text}\""));
            Filtering::default()
        }
    }
}

/// RFC 7915's configuration functions.
fn policy(raw: &raw::Nat64, errors: &mut Errors) -> Policy {
    let default = Policy::DEFAULT;
    let udp_checksum_zero = match raw.udp_checksum_zero.as_ref().map(|key| (key.get_ref().as_str(), key.span())) {
        None | Some(("calculate", _)) => ChecksumZero::Calculate,
        Some(("drop", _)) => ChecksumZero::Drop,
        Some((text, span)) => {
            errors.range(span, "nat64", "udp_checksum_zero", format_args!("\"{text}\""));
            default.udp_checksum_zero
        }
    };
    Policy {
        tos: scalar::number(At("nat64", "tos"), &raw.tos, 0..=u8::MAX, errors),
        traffic_class: scalar::number(At("nat64", "traffic_class"), &raw.traffic_class, 0..=u8::MAX, errors),
        lowest_ipv6_mtu: scalar::mtu(At("nat64", "lowest_ipv6_mtu"), &raw.lowest_ipv6_mtu, errors)
            .unwrap_or(default.lowest_ipv6_mtu),
        udp_checksum_zero,
        clamp_mss: raw.clamp_mss.as_ref().map_or(default.clamp_mss, |key| *key.get_ref()),
    }
}

fn timers_of(raw: &raw::Timers, errors: &mut Errors) -> Nat64Timers {
    let defaults = Nat64Timers::default();
    let mut read = |key, raw: &raw::Key<i64>, range: RangeInclusive<u64>, default: Duration| {
        scalar::number(At("nat64.timers", key), raw, range, errors).map_or(default, Duration::from_secs)
    };
    Nat64Timers {
        udp_default: read("udp_default", &raw.udp_default, 120..=86_400, defaults.udp_default),
        tcp_est: read("tcp_est", &raw.tcp_est, 7440..=864_000, defaults.tcp_est),
        tcp_trans: read("tcp_trans", &raw.tcp_trans, 240..=3600, defaults.tcp_trans),
        tcp_incoming_syn: read("tcp_incoming_syn", &raw.tcp_incoming_syn, 6..=60, defaults.tcp_incoming_syn),
        icmp_default: read("icmp_default", &raw.icmp_default, 60..=3600, defaults.icmp_default),
        fragment_min: read("fragment_min", &raw.fragment_min, 2..=60, defaults.fragment_min),
        port_hold: read("port_hold", &raw.port_hold, 0..=3600, defaults.port_hold),
    }
}

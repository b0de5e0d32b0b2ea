//! `[[lan]]`: a link with clients.
use core::net::Ipv6Addr;
use core::ops::Range;

use ipnet::IpNet;
use toml::Spanned;

use super::claim::{Claims, Holder};
use super::door::Errors;
use super::raw::{self, SwitchOr};
use super::scalar::{self, At, Placed};
use super::{Advertise, Dhcpv6Service, Interface, Lan, LanPrefix, PrefixOrigin, advertise, forward, keys};

/// Checks a LAN. One with errors comes back as far as it could be read, so that references to it are not errors too.
pub(super) fn validate(
    raw: Spanned<raw::Lan>,
    uplink: (Delegates, Shares),
    claims: &mut Claims,
    errors: &mut Errors,
) -> Option<(Lan, Vec<Placed<LanPrefix>>)> {
    let table = raw.span();
    let raw = raw.into_inner();
    let at = At("lan", "name");
    let name = scalar::required(at, &raw.name, &table, errors).and_then(|(text, span)| {
        let name = scalar::name(at, text, &span, errors)?;
        claims.name("lan", &name, span, errors);
        Some(name)
    });
    let owner = name.as_deref().unwrap_or("?").to_owned();
    let interface = scalar::interface("lan", &raw.interface, &raw.mac, &table, errors).map(|(interface, span)| {
        claims.interface(&interface, &owner, span, errors);
        interface
    });
    let mtu = scalar::mtu(At("lan", "mtu"), &raw.mtu, errors);
    let mut addresses = Vec::new();
    for (text, span) in scalar::items(raw.addresses) {
        if let Some(address) = scalar::interface6(At("lan", "addresses"), &text, &span, errors) {
            claims.address(address.addr().into(), &owner, Holder::Router(owner.clone()), span.clone(), errors);
            claims.on_link(IpNet::V6(address), &owner, span);
            addresses.push(address);
        }
    }
    let dhcpv6 = raw.dhcpv6.as_ref().and_then(|key| match key.get_ref().as_str() {
        "stateless" => Some(Dhcpv6Service::Stateless),
        other => {
            scalar::unknown(At("lan", "dhcpv6"), other, key.span(), errors);
            None
        }
    });
    let ipv4 = forward::lan_ipv4(&raw.ipv4, &owner, claims, errors);
    let placed: Vec<Placed<LanPrefix>> = scalar::spanned(raw.prefix)
        .map(|(tables, whole)| {
            let tables = tables.0.into_iter().map(|table| match table.span() {
                span if span.is_empty() => (table.into_inner(), whole.clone()),
                span => (table.into_inner(), span),
            });
            tables.filter_map(|(table, span)| Some((prefix(&table, &span, uplink, errors)?, span))).collect()
        })
        .unwrap_or_default();
    let advertise = match scalar::spanned(raw.advertise) {
        None | Some((SwitchOr::Switch(true), _)) => Some(Advertise::default()),
        Some((SwitchOr::Switch(false), _)) => None,
        Some((SwitchOr::Table(table), span)) => {
            let prefixes: Vec<_> = addresses.iter().map(ipnet::Ipv6Net::trunc).collect();
            advertise::validate(table, &span, mtu, &prefixes, errors)
        }
    };
    let lan = Lan {
        name: name?,
        interface: interface.unwrap_or(Interface::Name(String::new())),
        addresses,
        prefixes: placed.iter().map(|(prefix, _)| *prefix).collect(),
        lifetimes: Vec::new(),
        ipv4,
        advertise,
        mtu,
        dhcpv6,
        anti_spoofing: raw.anti_spoofing.as_ref().is_none_or(|key| *key.get_ref()),
    };
    Some((lan, placed))
}

/// Whether prefixes are delegated to the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delegates {
    Yes,
    No,
}

/// Whether a prefix of the uplink can be a LAN's as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shares {
    Yes,
    NothingLearnt,
    WithoutProxy,
}

/// One table of `prefix`.
fn prefix(
    raw: &raw::LanPrefix,
    span: &Range<usize>,
    (delegates, shares): (Delegates, Shares),
    errors: &mut Errors,
) -> Option<LanPrefix> {
    let ula = raw.ula.as_ref().is_some_and(|key| *key.get_ref());
    if let (Some(key), None, false) = (&raw.learnt, &raw.delegated, ula) {
        return learnt(raw, key, shares, errors);
    }
    let origin = match (&raw.delegated, ula) {
        (Some(_), _) | (_, true) if raw.learnt.is_some() => {
            errors.note(span.clone(), "a prefix has one origin", "write one of delegated, learnt and ula");
            return None;
        }
        (Some(key), false) if key.get_ref() == "wan" => {
            if delegates == Delegates::No {
                errors.note(key.span(), "nothing is delegated to the uplink", "write ipv6 = \"dhcpv6-pd\" in [wan]");
            }
            PrefixOrigin::Delegated
        }
        (Some(key), false) => {
            errors.note(
                key.span(),
                format!("prefixes are not delegated to \"{}\"", key.get_ref()),
                keys::describe("lan.prefix", "delegated"),
            );
            return None;
        }
        (None, true) => PrefixOrigin::Ula,
        (Some(_), true) | (None, false) => {
            errors.note(
                span.clone(),
                "a prefix is delegated, learnt or unique local",
                "write { delegated = \"wan\", subnet = 1 }, { learnt = \"wan\" } or { ula = true, subnet = 1 }",
            );
            return None;
        }
    };
    carved(raw, origin, Ipv6Addr::LOCALHOST, errors)
}

/// RFC 4389's case: the /64 of the uplink is the LAN's as well. Its `::1` is the uplink's router more often than not.
fn learnt(raw: &raw::LanPrefix, key: &Spanned<String>, shares: Shares, errors: &mut Errors) -> Option<LanPrefix> {
    const SHARED: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0x64, 0, 0, 1);
    if key.get_ref() != "wan" {
        scalar::unknown(At("lan.prefix", "learnt"), key.get_ref(), key.span(), errors);
    }
    match shares {
        Shares::Yes => {}
        Shares::NothingLearnt => {
            errors.note(key.span(), "nothing is learnt on the uplink", "write ipv6 = \"ra\" in [wan]");
        }
        Shares::WithoutProxy => errors.note(
            key.span(),
            "whoever is on the uplink looks for every address of its prefix there",
            "write ndp_proxy = true in [wan]",
        ),
    }
    let whole = raw.length.as_ref().is_none_or(|key| *key.get_ref() == 64);
    carved(raw, PrefixOrigin::Learnt, if whole { SHARED } else { Ipv6Addr::LOCALHOST }, errors)
}

fn carved(raw: &raw::LanPrefix, origin: PrefixOrigin, default: Ipv6Addr, errors: &mut Errors) -> Option<LanPrefix> {
    let at = |key| At("lan.prefix", key);
    let length = scalar::number(at("length"), &raw.length, 48..=120, errors).unwrap_or(64);
    let subnet = scalar::number(at("subnet"), &raw.subnet, 0..=0xffff_u32, errors).unwrap_or(0);
    let mut router = default;
    if let Some(key) = &raw.router {
        router = scalar::read(at("router"), key.get_ref(), &key.span(), errors)?;
        let outside = u128::from(router).leading_zeros() < length.into();
        if router.is_unspecified() || outside {
            errors.range(key.span(), "lan.prefix", "router", router);
        }
    }
    Some(LanPrefix { origin, subnet, length, router })
}

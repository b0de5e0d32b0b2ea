//! `[wan]`: the uplink.
use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::Range;

use ipnet::IpNet;
use toml::Spanned;

use super::claim::{Claims, Holder};
use super::door::Errors;
use super::raw::{self, Key, WordOr};
use super::scalar::{self, At};
use super::{Ipv4Source, Ipv6Source, Wan, WanIpv4, WanIpv6};

/// Checks the uplink.
pub(super) fn validate(raw: Spanned<raw::Wan>, claims: &mut Claims, errors: &mut Errors) -> Option<Wan> {
    let table = raw.span();
    let raw = raw.into_inner();
    let present_mac = raw.present_mac.as_ref().and_then(|key| {
        let mac = scalar::read(At("wan", "present_mac"), key.get_ref(), &key.span(), errors)?;
        if raw.mac.is_some() {
            errors.note(
                key.span(),
                "the uplink cannot be found by a hardware address that it does not keep",
                "name the uplink by `interface`",
            );
        }
        scalar::unicast_mac(mac, &key.span(), errors).then_some(mac)
    });
    let ndp_proxy = raw.ndp_proxy.as_ref().is_some_and(|key| *key.get_ref());
    let bogons = raw.bogons.as_ref().is_none_or(|key| *key.get_ref());
    let masquerade_ula = raw.masquerade_ula.as_ref().is_none_or(|key| *key.get_ref());
    let interface = scalar::interface("wan", &raw.interface, &raw.mac, &table, errors).map(|(interface, span)| {
        claims.interface(&interface, "wan", span, errors);
        interface
    });
    let mtu = scalar::mtu(At("wan", "mtu"), &raw.mtu, errors);
    let ipv4_source = match word(&raw.ipv4) {
        Some("dhcp") => Ipv4Source::Dhcp,
        Some(_) | None => Ipv4Source::Static,
    };
    let ipv6_source = match word(&raw.ipv6) {
        Some("ra") => Ipv6Source::Ra,
        Some("dhcpv6-pd") => Ipv6Source::Dhcpv6Pd,
        Some(_) | None => Ipv6Source::Static,
    };
    let prefix_hint = scalar::number(At("wan", "prefix_hint"), &raw.prefix_hint, 16..=64, errors);
    let ipv4 = uplink(raw.ipv4, "wan.ipv4", errors).and_then(|(uplink, span)| ipv4(&uplink, &span, claims, errors));
    let ipv6 = uplink(raw.ipv6, "wan.ipv6", errors).and_then(|(uplink, span)| ipv6(&uplink, &span, claims, errors));
    Some(Wan {
        interface: interface?,
        ipv4_source,
        ipv4,
        ipv6_source,
        ipv6,
        present_mac,
        ndp_proxy,
        prefix_hint,
        mtu,
        masquerade_ula,
        bogons,
    })
}

fn word(key: &Key<WordOr<raw::Uplink>>) -> Option<&str> {
    match key.as_ref()?.get_ref() {
        WordOr::Word(word) => Some(word),
        WordOr::Table(_) => None,
    }
}

/// The table, where one is given.
fn uplink(key: Key<WordOr<raw::Uplink>>, section: &str, errors: &mut Errors) -> Option<(raw::Uplink, Range<usize>)> {
    let (value, span) = scalar::spanned(key)?;
    match value {
        WordOr::Table(uplink) => Some((uplink, span)),
        WordOr::Word(word) if section == "wan.ipv4" && word == "dhcp" => None,
        WordOr::Word(word) if section == "wan.ipv6" && matches!(word.as_str(), "ra" | "dhcpv6-pd") => None,
        WordOr::Word(word) => {
            errors.note(
                span,
                format!("{section} cannot be \"{word}\""),
                match section {
                    "wan.ipv4" => "write \"dhcp\", or { address = \"ADDRESS/LENGTH\", gateway = \"ADDRESS\" }",
                    _ => "write \"ra\", \"dhcpv6-pd\", or { address = \"ADDRESS/LENGTH\", gateway = \"ADDRESS\" }",
                },
            );
            None
        }
    }
}

fn ipv4(raw: &raw::Uplink, table: &Range<usize>, claims: &mut Claims, errors: &mut Errors) -> Option<WanIpv4> {
    let at = At("wan.ipv4", "address");
    let address = scalar::required(at, &raw.address, table, errors)
        .and_then(|(text, span)| Some((scalar::interface4(at, text, &span, errors)?, span)));
    if let Some((address, span)) = &address {
        claims.address(address.addr().into(), "wan", Holder::Router("wan".to_owned()), span.clone(), errors);
        claims.on_link(IpNet::V4(*address), "wan", span.clone());
    }
    let at = At("wan.ipv4", "gateway");
    let gateway = raw.gateway.as_ref().and_then(|key| {
        let gateway: Ipv4Addr = scalar::read(at, key.get_ref(), &key.span(), errors)?;
        scalar::usable4(at, gateway, &key.span(), errors).then(|| {
            claims.address(gateway.into(), "wan", Holder::Other("the uplink's gateway".to_owned()), key.span(), errors);
            gateway
        })
    });
    Some(WanIpv4 { address: address?.0, gateway, routes: Vec::new() })
}

fn ipv6(raw: &raw::Uplink, table: &Range<usize>, claims: &mut Claims, errors: &mut Errors) -> Option<WanIpv6> {
    let at = At("wan.ipv6", "address");
    let address = scalar::required(at, &raw.address, table, errors)
        .and_then(|(text, span)| Some((scalar::interface6(at, text, &span, errors)?, span)));
    if let Some((address, span)) = &address {
        claims.address(address.addr().into(), "wan", Holder::Router("wan".to_owned()), span.clone(), errors);
        claims.on_link(IpNet::V6(*address), "wan", span.clone());
    }
    let at = At("wan.ipv6", "gateway");
    let gateway = raw.gateway.as_ref().and_then(|key| {
        let gateway: Ipv6Addr = scalar::read(at, key.get_ref(), &key.span(), errors)?;
        scalar::usable6(at, gateway, &key.span(), errors).then(|| {
            claims.address(gateway.into(), "wan", Holder::Other("the uplink's gateway".to_owned()), key.span(), errors);
            gateway
        })
    });
    Some(WanIpv6 { addresses: vec![address?.0], gateway, ..WanIpv6::default() })
}

//! `[[route]]`: a static route.
use core::net::{IpAddr, Ipv6Addr};
use core::ops::Range;

use ipnet::IpNet;
use toml::Spanned;

use super::claim::Claims;
use super::door::Errors;
use super::keys;
use super::raw;
use super::scalar::{self, At};
use super::{Route, Via};

/// Checks a route. The links' prefixes are claimed already: a next hop has to lie in one of them.
pub(super) fn validate(raw: &Spanned<raw::Route>, claims: &mut Claims, errors: &mut Errors) -> Option<Route> {
    let table = raw.span();
    let raw = raw.get_ref();
    let at = At("route", "to");
    let to = scalar::required(at, &raw.to, &table, errors).and_then(|(text, span)| {
        let to = scalar::prefix(at, text, &span, errors)?;
        let local = matches!(to.addr(), IpAddr::V6(a) if a.is_unicast_link_local() || a.is_multicast())
            || matches!(to.addr(), IpAddr::V4(a) if a.is_multicast() || a.is_loopback());
        if local {
            errors.note(span, format!("{to} is not routed between links"), keys::describe("route", "to"));
            return None;
        }
        claims.route(to, span);
        Some(to)
    });
    let via = scalar::required(At("route", "via"), &raw.via, &table, errors)
        .and_then(|(text, span)| Some((via(text, &span, claims, errors)?, span)));
    let (to, (via, span)) = (to?, via?);
    if let Via::Gateway(gateway, _) = &via
        && gateway.is_ipv4() != matches!(to, IpNet::V4(_))
    {
        errors.note(
            span,
            format!("{to} cannot be reached via {gateway}: one is IPv6, the other IPv4"),
            "give a next hop of the destination's family",
        );
        return None;
    }
    Some(Route { to, via })
}

fn via(text: &str, span: &Range<usize>, claims: &Claims, errors: &mut Errors) -> Option<Via> {
    let at = At("route", "via");
    if text == "unreachable" {
        return Some(Via::Unreachable);
    }
    let (address, interface) = match text.split_once('%') {
        Some((address, interface)) => (address, Some(interface)),
        None => (text, None),
    };
    let gateway: IpAddr = scalar::read(at, address, span, errors)?;
    let usable = match gateway {
        IpAddr::V4(gateway) => scalar::usable4(at, gateway, span, errors),
        IpAddr::V6(gateway) => scalar::usable6(at, gateway, span, errors),
    };
    if !usable {
        return None;
    }
    if let Some(interface) = interface {
        if !claims.knows_interface(interface) {
            errors.note(
                span.clone(),
                format!("\"{interface}\" is neither an interface of this file, nor \"wan\", nor a lan"),
                keys::describe("route", "via"),
            );
            return None;
        }
        return Some(Via::Gateway(gateway, Some(interface.to_owned())));
    }
    if matches!(gateway, IpAddr::V6(gateway) if Ipv6Addr::is_unicast_link_local(&gateway)) {
        // RFC 4007 section 6: a link-local address means nothing without its zone.
        errors.note(
            span.clone(),
            format!("the link-local next hop {gateway} does not say on which link"),
            format!("write \"{gateway}%\" and the interface behind it, as in \"{gateway}%wan\""),
        );
        return None;
    }
    if !claims.is_on_link(gateway) {
        errors.note(
            span.clone(),
            format!("the next hop {gateway} lies in no prefix of wan, lan or vm"),
            format!("write \"{gateway}%\" and the interface behind it, where it is on that link all the same"),
        );
        return None;
    }
    if claims.is_router(gateway) {
        errors.note(
            span.clone(),
            format!("the next hop {gateway} is the router itself"),
            "give the address of the next router",
        );
        return None;
    }
    Some(Via::Gateway(gateway, None))
}

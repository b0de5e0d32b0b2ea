//! `[[npt]]`: a prefix inside that has another one outside.
use ipnet::Ipv6Net;
use toml::Spanned;

use super::claim::Claims;
use super::door::Errors;
use super::lan::Delegates;
use super::scalar::{self, At};
use super::{Npt, keys, raw};
use crate::npt::LONGEST;

/// RFC 4291 section 2.5.4: global prefixes are shorter nowhere.
const SHORTEST: u8 = 16;

/// Checks a prefix against the others, which come before it. What lies in this network is claimed already.
pub(super) fn validate(
    raw: &Spanned<raw::Npt>,
    others: &[Npt],
    delegates: Delegates,
    claims: &Claims,
    errors: &mut Errors,
) -> Option<Npt> {
    let table = raw.span();
    let raw = raw.get_ref();
    let at = |key| At("npt", key);
    let net = |key, text: &str, span: &core::ops::Range<usize>, errors: &mut Errors| {
        let net = scalar::prefix6(at(key), text, span, errors)?;
        let usable = (SHORTEST..=LONGEST).contains(&net.prefix_len())
            && !net.addr().is_unicast_link_local()
            && !net.addr().is_multicast();
        if !usable {
            errors.range(span.clone(), "npt", key, net);
        }
        usable.then_some(net)
    };
    let inside = scalar::required(at("inside"), &raw.inside, &table, errors)
        .and_then(|(text, span)| Some((net("inside", text, &span, errors)?, span)));
    if let Some((inside, span)) = &inside
        && !claims.is_inside(*inside)
    {
        errors.note(
            span.clone(),
            format!("{inside} lies in no prefix of this network"),
            "route it to a vm by `containers`, give it to a lan, or write a [[route]] for it",
        );
    }
    let overlap = |one: Ipv6Net, other: Ipv6Net| one.contains(&other) || other.contains(&one);
    if let Some((inside, span)) = &inside
        && let Some(other) = others.iter().find(|other| overlap(other.inside, *inside))
    {
        errors.note(span.clone(), format!("{inside} overlaps {}", other.inside), keys::describe("npt", "inside"));
    }
    let (mut outside, mut subnet) = (None, None);
    match (&raw.outside, &raw.delegated) {
        (Some(key), None) => {
            outside = net("outside", key.get_ref(), &key.span(), errors);
            if let Some((outside, (inside, _))) = outside.zip(inside.as_ref()) {
                if outside.prefix_len() != inside.prefix_len() {
                    errors.note(
                        key.span(),
                        format!("{outside} and {inside} differ in length"),
                        keys::describe("npt", "outside"),
                    );
                }
                let taken = others.iter().filter_map(|other| other.outside).chain([*inside]);
                if let Some(other) = taken.into_iter().find(|other| overlap(*other, outside)) {
                    errors.note(
                        key.span(),
                        format!("{outside} overlaps {other}"),
                        "give each prefix inside one of its own outside",
                    );
                }
            }
        }
        (None, Some(key)) => {
            if key.get_ref() != "wan" {
                scalar::unknown(at("delegated"), key.get_ref(), key.span(), errors);
            } else if delegates == Delegates::No {
                errors.note(key.span(), "nothing is delegated to the uplink", "write ipv6 = \"dhcpv6-pd\" in [wan]");
            }
            let number = scalar::number(at("subnet"), &raw.subnet, 0..=u32::MAX, errors).unwrap_or(0);
            let length = inside.as_ref().map(|(inside, _)| inside.prefix_len());
            if others.iter().any(|other| other.subnet == Some(number) && Some(other.inside.prefix_len()) == length) {
                errors.note(table.clone(), format!("subnet {number} is taken twice"), keys::describe("npt", "subnet"));
            }
            subnet = Some(number);
        }
        (Some(_), Some(_)) | (None, None) => {
            errors.note(
                table,
                "the prefix outside is either given or delegated",
                "write outside = \"2001:db8:1:2:31::/80\", or delegated = \"wan\" and subnet = 1",
            );
            return None;
        }
    }
    if let (Some(key), None) = (&raw.subnet, &raw.delegated) {
        errors.note(key.span(), "`subnet` is for what is delegated", keys::describe("npt", "subnet"));
    }
    Some(Npt { inside: inside?.0, outside, subnet })
}

//! `[dns64]`: the resolver.
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use toml::Spanned;

use super::claim::Claims;
use super::door::Errors;
use super::keys;
use super::raw;
use super::scalar::{self, At};
use super::{Clients, Dns64, Lan};

/// The resolver's switch and its table's absence are one thing: off.
impl Default for Dns64 {
    fn default() -> Self {
        Self {
            enabled: false,
            upstream: Vec::new(),
            search: Vec::new(),
            untranslated: Vec::new(),
            cache: 64,
            serve_stale: 86_400,
            workers: 2,
        }
    }
}

/// Checks the resolver.
pub(super) fn validate(raw: Spanned<raw::Dns64>, lans: &[Lan], claims: &Claims, errors: &mut Errors) -> Dns64 {
    let table = raw.span();
    let raw = raw.into_inner();
    let enabled = raw.enabled.as_ref().is_none_or(|key| *key.get_ref());
    let given = raw.upstream.is_some();
    let items = scalar::items(raw.upstream);
    if enabled && items.is_empty() && !errors.has_left_out(&table, "upstream") {
        let message = if given { "`upstream` is empty in [dns64]" } else { "`upstream` is missing in [dns64]" };
        errors.note(table, message, keys::describe("dns64", "upstream"));
    }
    let upstream = items.iter().filter_map(|(text, span)| upstream(text, span, claims, errors)).collect();
    let search = scalar::items(raw.search).iter().filter_map(|(text, span)| domain(text, span, errors)).collect();
    let untranslated =
        scalar::items(raw.untranslated).iter().filter_map(|(text, span)| clients(text, span, lans, errors)).collect();
    let default = Dns64::default();
    Dns64 {
        enabled,
        upstream,
        search,
        untranslated,
        cache: scalar::number(At("dns64", "cache"), &raw.cache, 1..=4096, errors).unwrap_or(default.cache),
        serve_stale: scalar::number(At("dns64", "serve_stale"), &raw.serve_stale, 0..=604_800, errors)
            .unwrap_or(default.serve_stale),
        workers: scalar::number(At("dns64", "workers"), &raw.workers, 1..=64, errors).unwrap_or(default.workers),
    }
}

/// A LAN's name, or a prefix.
fn clients(text: &str, span: &Range<usize>, lans: &[Lan], errors: &mut Errors) -> Option<Clients> {
    if lans.iter().any(|lan| lan.name == text) {
        return Some(Clients::Lan(text.to_owned()));
    }
    let at = At("dns64", "untranslated");
    if !text.contains(':') {
        let message = format!("there is no [[lan]] of the name \"{text}\"");
        errors.note(span.clone(), message, keys::describe(at.0, at.1));
        return None;
    }
    scalar::prefix6(at, text, span, errors).map(Clients::Prefix)
}

fn upstream(text: &str, span: &Range<usize>, claims: &Claims, errors: &mut Errors) -> Option<SocketAddr> {
    let at = At("dns64", "upstream");
    if text.contains("://") {
        errors.note(
            span.clone(),
            format!("`upstream` = \"{text}\" comes with a later version; only plain DNS over UDP and TCP now"),
            keys::describe(at.0, at.1),
        );
        return None;
    }
    let address = match text.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, 53),
        Err(_) => scalar::read(at, text, span, errors)?,
    };
    if address.port() == 0 {
        errors.range(span.clone(), at.0, at.1, text);
        return None;
    }
    // A resolver on the machine itself, at a loopback address, is a normal upstream.
    let usable = address.ip().is_loopback()
        || match address.ip() {
            IpAddr::V4(address) => scalar::usable4(at, address, span, errors),
            IpAddr::V6(address) => scalar::usable6(at, address, span, errors),
        };
    if !usable {
        return None;
    }
    if matches!(address.ip(), IpAddr::V6(address) if address.is_unicast_link_local()) {
        errors.note(
            span.clone(),
            format!("the link-local upstream {} does not say on which link", address.ip()),
            "give a global address of the resolver",
        );
        return None;
    }
    if address.port() == 53 && claims.is_router(address.ip()) {
        errors.note(
            span.clone(),
            format!("the upstream {} is the router itself: questions would go round in circles", address.ip()),
            "give the address of another resolver",
        );
        return None;
    }
    Some(address)
}

/// RFC 1035 section 2.3.4: labels of 1 to 63 octets, 255 in all with their lengths.
fn domain(text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let valid = name.len() <= 253 && name.split('.').all(is_label);
    if !valid {
        errors.note(
            span.clone(),
            format!("\"{text}\" cannot be a search domain"),
            "labels of 1 to 63 letters, digits and hyphens with dots between, 253 characters in all (RFC 1035 section 2.3.4)",
        );
    }
    valid.then_some(name)
}

/// RFC 1123 section 2.1: letters, digits and hyphens, no hyphen at either end.
pub(super) fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

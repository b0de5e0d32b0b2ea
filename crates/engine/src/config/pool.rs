//! `nat64.pool`: further IPv4 addresses of the translator, as addresses, ranges and prefixes.
use core::net::Ipv4Addr;
use core::ops::{Range, RangeInclusive};

use ipnet::Ipv4Net;

use super::claim::{Claims, Holder};
use super::door::Errors;
use super::keys;
use super::raw::{Key, OneOrMany};
use super::scalar::{self, At};

const AT: At = At("nat64", "pool");
/// The router takes each of them on the uplink, and each has its own bit for every port.
const MOST: usize = 1024;

/// All addresses of the list, in its order.
pub(super) fn addresses(list: Key<OneOrMany<String>>, claims: &mut Claims, errors: &mut Errors) -> Vec<Ipv4Addr> {
    let mut all = Vec::new();
    for (text, span) in scalar::items(list) {
        let Some(range) = range(&text) else {
            errors.note(span, format!("`pool` cannot be \"{text}\""), keys::describe(AT.0, AT.1));
            continue;
        };
        let (first, last) = (range.start().to_bits(), range.end().to_bits());
        if (last - first) as usize >= MOST - all.len() {
            errors.range(span, AT.0, AT.1, format_args!("\"{text}\", with {} before it,", all.len()));
            return all;
        }
        for address in (first..=last).map(Ipv4Addr::from) {
            if take(address, &span, claims, errors) {
                all.push(address);
            }
        }
    }
    all
}

fn take(address: Ipv4Addr, span: &Range<usize>, claims: &mut Claims, errors: &mut Errors) -> bool {
    let usable = scalar::usable4(AT, address, span, errors);
    if usable {
        let holder = Holder::Router("nat64.pool".to_owned());
        claims.address(address.into(), "wan", holder, span.clone(), errors);
    }
    usable
}

/// All addresses of a prefix are the translator's, the first and the last too.
fn range(text: &str) -> Option<RangeInclusive<Ipv4Addr>> {
    if let Some((first, last)) = text.split_once('-') {
        let (first, last): (Ipv4Addr, Ipv4Addr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        return (first <= last).then_some(first..=last);
    }
    if let Ok(net) = text.parse::<Ipv4Net>() {
        return (net.addr() == net.network()).then_some(net.network()..=net.broadcast());
    }
    let address = text.parse().ok()?;
    Some(address..=address)
}

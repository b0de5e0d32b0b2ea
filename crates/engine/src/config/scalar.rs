//! Single values: addresses, prefixes, names, numbers in a range.
use core::fmt::Display;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::{Range, RangeInclusive};
use core::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sixgate_wire::mac::MacAddr;
use toml::Spanned;

use super::Interface;
use super::door::Errors;
use super::keys;
use super::raw::{Key, OneOrMany};

/// RFC 8200 section 5: every link carries 1,280 octets.
const IPV6_MIN_MTU: u32 = 1280;

/// A key's place in the file: the table's name, the key's name.
#[derive(Clone, Copy, Debug)]
pub(super) struct At(pub(super) &'static str, pub(super) &'static str);

/// A value with its place.
pub(super) type Placed<T> = (T, Range<usize>);

/// The items of a key that takes a value or a list; nothing when it is absent.
pub(super) fn items<T>(key: Key<OneOrMany<T>>) -> Vec<Placed<T>> {
    let Some(key) = key else { return Vec::new() };
    let span = key.span();
    match key.into_inner() {
        OneOrMany::One(value) => vec![(value, span)],
        OneOrMany::Many(list) => list
            .into_iter()
            .map(|item| {
                let span = item.span();
                (item.into_inner(), span)
            })
            .collect(),
    }
}

/// Text to a value of type `T`; an error names what the key takes.
pub(super) fn read<T: FromStr>(at: At, text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<T> {
    let value = text.parse().ok();
    if value.is_none() {
        errors.note(span.clone(), format!("`{}` cannot be \"{text}\"", at.1), keys::describe(at.0, at.1));
    }
    value
}

/// A number within a range.
pub(super) fn number<T: TryFrom<i64> + PartialOrd>(
    at: At,
    key: &Key<i64>,
    range: RangeInclusive<T>,
    errors: &mut Errors,
) -> Option<T> {
    let key = key.as_ref()?;
    match T::try_from(*key.get_ref()) {
        Ok(value) if range.contains(&value) => Some(value),
        Ok(_) | Err(_) => {
            errors.range(key.span(), at.0, at.1, key.get_ref());
            None
        }
    }
}

/// An MTU.
pub(super) fn mtu(at: At, key: &Key<i64>, errors: &mut Errors) -> Option<u32> {
    number(at, key, IPV6_MIN_MTU..=65_535, errors)
}

/// A required key's text.
pub(super) fn required<'a>(
    at: At,
    key: &'a Key<String>,
    table: &Range<usize>,
    errors: &mut Errors,
) -> Option<(&'a str, Range<usize>)> {
    if key.is_none() {
        errors.missing(table.clone(), at.0, at.1);
    }
    key.as_ref().map(|key| (key.get_ref().as_str(), key.span()))
}

/// `interface` or `mac`, exactly one of them.
pub(super) fn interface(
    section: &'static str,
    name: &Key<String>,
    mac: &Key<String>,
    table: &Range<usize>,
    errors: &mut Errors,
) -> Option<Placed<Interface>> {
    match (name, mac) {
        (Some(name), None) => {
            let (text, span) = (name.get_ref(), name.span());
            // The kernel's dev_valid_name(): IFNAMSIZ is 16 with the final zero.
            let valid = (1..=15).contains(&text.len())
                && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '"' | '\\' | '*' | '%'))
                && !matches!(text.as_str(), "." | ".." | "lo" | "all" | "default")
                && text != crate::plan::NAT64_DEVICE;
            if !valid {
                errors.note(
                    span.clone(),
                    format!("\"{text}\" cannot be the name of an interface here"),
                    keys::describe(section, "interface"),
                );
            }
            valid.then(|| (Interface::Name(text.clone()), span))
        }
        (None, Some(mac)) => {
            let address: MacAddr = read(At(section, "mac"), mac.get_ref(), &mac.span(), errors)?;
            unicast_mac(address, &mac.span(), errors).then(|| (Interface::Mac(address), mac.span()))
        }
        (Some(_), Some(mac)) => {
            errors.note(mac.span(), "both `interface` and `mac` are given", "keep one of them");
            None
        }
        (None, None) => {
            errors.missing(table.clone(), section, "interface");
            None
        }
    }
}

/// Whether a hardware address can belong to one interface.
pub(super) fn unicast_mac(mac: MacAddr, span: &Range<usize>, errors: &mut Errors) -> bool {
    let unicast = mac.0[0] & 1 == 0 && mac.0 != [0; 6];
    if !unicast {
        errors.note(
            span.clone(),
            format!("{mac} is not a unicast hardware address"),
            "the lowest bit of the first octet is 0 in an interface's address, and not all octets are 0",
        );
    }
    unicast
}

/// A name that rules and the console use.
pub(super) fn name(at: At, text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<String> {
    let valid = (1..=32).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        && !matches!(text, "wan" | "router" | "unreachable");
    if !valid {
        errors.note(span.clone(), format!("\"{text}\" cannot be a name"), keys::describe(at.0, at.1));
    }
    valid.then(|| text.to_owned())
}

/// An address with prefix length that an interface holds, IPv6.
pub(super) fn interface6(at: At, text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<Ipv6Net> {
    let net: Ipv6Net = with_length(at, text, span, errors)?;
    if !usable6(at, net.addr(), span, errors) {
        return None;
    }
    // RFC 4291 section 2.6.1: the address with all host bits zero is the subnet-router anycast address.
    if net.prefix_len() < 127 && net.addr() == net.network() {
        errors.note(
            span.clone(),
            format!("{net} is a prefix, not an address in it"),
            format!("write the router's own address there, as in {}/{}", next(net.network()), net.prefix_len()),
        );
        return None;
    }
    let length_fits = net.prefix_len() >= 1 && (!net.addr().is_unicast_link_local() || net.prefix_len() >= 10);
    if !length_fits {
        errors.range(span.clone(), at.0, at.1, net);
    }
    length_fits.then_some(net)
}

/// An address with prefix length that an interface holds, IPv4.
pub(super) fn interface4(at: At, text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<Ipv4Net> {
    let net: Ipv4Net = with_length(at, text, span, errors)?;
    if !usable4(at, net.addr(), span, errors) {
        return None;
    }
    // RFC 3021: only /31 and /32 have neither a network nor a broadcast address.
    if net.prefix_len() < 31 && (net.addr() == net.network() || net.addr() == net.broadcast()) {
        errors.note(
            span.clone(),
            format!("{net} is the network's or the broadcast address of its prefix"),
            "write the router's own address",
        );
        return None;
    }
    if net.prefix_len() == 0 {
        errors.range(span.clone(), at.0, at.1, net);
        return None;
    }
    Some(net)
}

/// A prefix without host bits.
pub(super) fn prefix(at: At, text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<IpNet> {
    let net: IpNet = with_length(at, text, span, errors)?;
    if net.addr() == net.network() {
        return Some(net);
    }
    errors.note(
        span.clone(),
        format!("{net} has host bits set behind its prefix length"),
        format!("write {}", net.trunc()),
    );
    None
}

/// An IPv6 prefix without host bits.
pub(super) fn prefix6(at: At, text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<Ipv6Net> {
    match prefix(at, text, span, errors)? {
        IpNet::V6(net) => Some(net),
        IpNet::V4(net) => {
            wrong_family(at, "IPv6", net, span, errors);
            None
        }
    }
}

/// An IPv4 prefix without host bits.
pub(super) fn prefix4(at: At, text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<Ipv4Net> {
    match prefix(at, text, span, errors)? {
        IpNet::V4(net) => Some(net),
        IpNet::V6(net) => {
            wrong_family(at, "IPv4", net, span, errors);
            None
        }
    }
}

/// A prefix without host bits, or an address, which stands for itself alone.
pub(super) fn prefix_or_address(at: At, text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => prefix(at, text, span, errors),
    }
}

/// Whether an IPv6 address can be an interface's; an error is noted if not.
pub(super) fn usable6(at: At, address: Ipv6Addr, span: &Range<usize>, errors: &mut Errors) -> bool {
    let why = if address.is_multicast() {
        "a multicast address"
    } else if address.is_unspecified() {
        "the unspecified address"
    } else if address.is_loopback() {
        "the loopback address"
    } else if address.to_ipv4_mapped().is_some() {
        "an IPv4-mapped address"
    } else {
        return true;
    };
    not_unicast(at, address, why, span, errors);
    false
}

/// Whether an IPv4 address can be an interface's; an error is noted if not.
pub(super) fn usable4(at: At, address: Ipv4Addr, span: &Range<usize>, errors: &mut Errors) -> bool {
    let why = if address.is_multicast() {
        "a multicast address"
    } else if address.is_loopback() {
        "a loopback address"
    } else if address.octets()[0] == 0 || address.octets()[0] >= 240 {
        "a reserved address (RFC 6890)"
    } else {
        return true;
    };
    not_unicast(at, address, why, span, errors);
    false
}

fn not_unicast(at: At, address: impl Display, why: &str, span: &Range<usize>, errors: &mut Errors) {
    errors.note(
        span.clone(),
        format!("`{}`: {address} is {why}, no interface can hold it", at.1),
        keys::describe(at.0, at.1),
    );
}

fn wrong_family(at: At, wanted: &str, net: impl Display, span: &Range<usize>, errors: &mut Errors) {
    errors.note(span.clone(), format!("`{}`: {net} is not an {wanted} prefix", at.1), keys::describe(at.0, at.1));
}

/// A net from text; text without a length gets an error of its own.
fn with_length<N: FromStr>(at: At, text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<N> {
    if text.parse::<IpAddr>().is_ok() {
        errors.note(span.clone(), format!("`{}`: {text} has no prefix length", at.1), keys::describe(at.0, at.1));
        return None;
    }
    read(at, text, span, errors)
}

/// The address after this one, for an example.
fn next(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(address).saturating_add(1))
}

/// Notes that a word is none of those that a key takes.
pub(super) fn unknown(at: At, text: &str, span: Range<usize>, errors: &mut Errors) {
    errors.note(span, format!("`{}` cannot be \"{text}\"", at.1), keys::describe(at.0, at.1));
}

/// The table of a key that may also be a word, or nothing.
pub(super) fn spanned<T>(key: Key<T>) -> Option<Placed<T>> {
    let key: Spanned<T> = key?;
    let span = key.span();
    Some((key.into_inner(), span))
}

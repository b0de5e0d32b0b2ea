//! `[dns64]`: the resolver.
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;
use core::str::FromStr;

use hickory_proto::dnssec::TrustAnchors;
use hickory_proto::rr::Name;
use ipnet::{Ipv4Net, Ipv6Net};
use toml::Spanned;

use super::allow::{self, Names};
use super::claim::Claims;
use super::door::Errors;
use super::encrypted::{self, Encrypted, Identity};
use super::keys;
use super::nat64;
use super::raw;
use super::scalar::{self, At};
use super::{Lan, Target};

/// RFC 6147 section 5.1.4 and RFC 4291 section 2.5.5.2: IPv4-mapped addresses.
const MAPPED: Ipv6Net = Ipv6Net::new_assert(core::net::Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);

/// The word for what the uplink teaches.
const LEARNT: &str = "learnt";

/// The resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns64 {
    /// Whether the resolver runs and is advertised.
    pub enabled: bool,
    /// Where questions are forwarded to, in order of preference; port 53 unless given.
    pub upstream: Vec<SocketAddr>,
    /// Those of all upstreams that are asked over TLS only.
    pub encrypted: Vec<Encrypted>,
    /// Certificates in DER of who may vouch for them beside the public authorities.
    pub authorities: Vec<Vec<u8>>,
    /// What the resolver shows to clients that ask over TLS.
    pub identity: Option<Identity>,
    /// Whether those that are learnt on the uplink are asked as well.
    pub learn_upstream: bool,
    /// DNSSL search domains (RFC 8106).
    pub search: Vec<String>,
    /// Who is given no synthesized addresses.
    pub untranslated: Vec<Clients>,
    /// RFC 6147 section 5.1.4: AAAA records that do not count.
    pub exclude: Vec<Ipv6Net>,
    /// IPv4 addresses that are not synthesized.
    pub exclude_ipv4: Vec<Ipv4Net>,
    /// Domains in which nothing is synthesized.
    pub never: Vec<Name>,
    /// Domains in which addresses are synthesized although there are AAAA records.
    pub always: Vec<Name>,
    /// Domains with upstreams of their own.
    pub forward: Vec<(Name, Vec<SocketAddr>)>,
    /// IPv4 prefixes that another prefix stands for.
    pub prefixes: Vec<(Ipv4Net, Ipv6Net)>,
    /// Whether private addresses are taken out of upstreams' answers.
    pub rebinding_protection: bool,
    /// Domains whose names may have private addresses.
    pub private_domains: Vec<Name>,
    /// Queries that one client may ask by UDP in a second; 0 for no limit.
    pub rate: u32,
    /// Whether answers are validated.
    pub dnssec: bool,
    /// Keys of the root zone that are trusted beside the two that are built in, as text.
    pub trust_anchors: Vec<String>,
    /// Domains in which nothing is validated.
    pub insecure_domains: Vec<Name>,
    /// The domain of the network's own names.
    pub domain: Option<Name>,
    /// Hosts that are known by name.
    pub hosts: Vec<DnsHost>,
    /// MiB that answers may take.
    pub cache: u32,
    /// For how many seconds answers may be of use after they have expired (RFC 8767).
    pub serve_stale: u32,
    /// Threads that answer by UDP.
    pub workers: u16,
    /// Whether what is asked for often is answered in the kernel.
    pub fast_path: bool,
}

/// A host that the resolver knows by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsHost {
    /// Its whole name.
    pub name: Name,
    /// Addresses inside this network, which follow its prefixes.
    pub targets: Vec<Target>,
    /// Other addresses.
    pub addresses: Vec<IpAddr>,
}

/// Clients of the resolver, by where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// All of a LAN, with the containers behind its VMs.
    Lan(String),
    /// Addresses in this prefix.
    Prefix(Ipv6Net),
}

/// The resolver's switch and its table's absence are one thing: off.
impl Default for Dns64 {
    fn default() -> Self {
        Self {
            enabled: false,
            upstream: Vec::new(),
            encrypted: Vec::new(),
            authorities: Vec::new(),
            identity: None,
            learn_upstream: false,
            search: Vec::new(),
            untranslated: Vec::new(),
            exclude: vec![MAPPED],
            exclude_ipv4: Vec::new(),
            never: Vec::new(),
            always: Vec::new(),
            forward: Vec::new(),
            prefixes: Vec::new(),
            rebinding_protection: true,
            private_domains: Vec::new(),
            rate: 1000,
            dnssec: true,
            trust_anchors: Vec::new(),
            insecure_domains: Vec::new(),
            domain: Name::from_ascii("lan.").ok(),
            hosts: Vec::new(),
            cache: 64,
            serve_stale: 86_400,
            workers: 2,
            fast_path: true,
        }
    }
}

/// Checks the resolver.
pub(super) fn validate(raw: Spanned<raw::Dns64>, names: Names<'_>, errors: &mut Errors) -> Dns64 {
    let table = raw.span();
    let raw = raw.into_inner();
    let enabled = raw.enabled.as_ref().is_none_or(|key| *key.get_ref());
    let given = raw.upstream.is_some();
    let mut items = scalar::items(raw.upstream);
    let all = items.len();
    items.retain(|(text, _)| text != LEARNT);
    let learn_upstream = items.len() < all;
    if enabled && !learn_upstream && items.is_empty() && !errors.has_left_out(&table, "upstream") {
        let message = if given { "`upstream` is empty in [dns64]" } else { "`upstream` is missing in [dns64]" };
        errors.note(table, message, keys::describe("dns64", "upstream"));
    }
    let mut encrypted = Vec::new();
    let upstream =
        items.iter().filter_map(|(text, span)| upstream(text, span, names.claims, &mut encrypted, errors)).collect();
    let authorities = scalar::items(raw.upstream_authority)
        .iter()
        .flat_map(|(text, span)| encrypted::certificates(At("dns64", "upstream_authority"), text, span, errors))
        .collect();
    let identity = encrypted::identity(scalar::spanned(raw.certificate), scalar::spanned(raw.key), errors);
    let search = scalar::items(raw.search).iter().filter_map(|(text, span)| domain(text, span, errors)).collect();
    let untranslated = scalar::items(raw.untranslated)
        .iter()
        .filter_map(|(text, span)| clients(text, span, names.lans, errors))
        .collect();
    let default = Dns64::default();
    let exclude = match raw.exclude {
        None => default.exclude,
        some => scalar::items(some)
            .iter()
            .filter_map(|(text, span)| scalar::prefix6(At("dns64", "exclude"), text, span, errors))
            .collect(),
    };
    let exclude_ipv4 = scalar::items(raw.exclude_ipv4)
        .iter()
        .filter_map(|(text, span)| scalar::prefix4(At("dns64", "exclude_ipv4"), text, span, errors))
        .collect();
    let domain = match scalar::spanned(raw.domain) {
        None => default.domain,
        Some((text, _)) if text.is_empty() => None,
        Some((text, span)) => name(&text, &span, errors),
    };
    let hosts = tables(raw.host).into_iter().filter_map(|raw| host(raw, domain.as_ref(), names, errors)).collect();
    let prefixes = tables(raw.map).into_iter().filter_map(|raw| mapped(raw, errors)).collect();
    let forward =
        tables(raw.forward).into_iter().filter_map(|raw| forward(raw, names.claims, &mut encrypted, errors)).collect();
    Dns64 {
        enabled,
        upstream,
        encrypted,
        authorities,
        identity,
        learn_upstream,
        search,
        untranslated,
        exclude,
        exclude_ipv4,
        never: domains(raw.never, errors),
        always: domains(raw.always, errors),
        forward,
        prefixes,
        rebinding_protection: raw.rebinding_protection.as_ref().is_none_or(|key| *key.get_ref()),
        private_domains: domains(raw.private_domains, errors),
        rate: scalar::number(At("dns64", "rate"), &raw.rate, 0..=1_000_000, errors).unwrap_or(default.rate),
        dnssec: raw.dnssec.as_ref().is_none_or(|key| *key.get_ref()),
        trust_anchors: scalar::items(raw.trust_anchor)
            .into_iter()
            .filter_map(|(text, span)| trust_anchor(text, &span, errors))
            .collect(),
        insecure_domains: domains(raw.insecure_domains, errors),
        domain,
        hosts,
        cache: scalar::number(At("dns64", "cache"), &raw.cache, 1..=4096, errors).unwrap_or(default.cache),
        serve_stale: scalar::number(At("dns64", "serve_stale"), &raw.serve_stale, 0..=604_800, errors)
            .unwrap_or(default.serve_stale),
        workers: scalar::number(At("dns64", "workers"), &raw.workers, 1..=64, errors).unwrap_or(default.workers),
        fast_path: raw.fast_path.as_ref().is_none_or(|key| *key.get_ref()),
    }
}

fn tables<T>(raw: raw::Key<Vec<Spanned<T>>>) -> Vec<Spanned<T>> {
    raw.map(Spanned::into_inner).unwrap_or_default()
}

fn domains(raw: raw::Key<raw::OneOrMany<String>>, errors: &mut Errors) -> Vec<Name> {
    scalar::items(raw).iter().filter_map(|(text, span)| name(text, span, errors)).collect()
}

/// RFC 1035 section 2.3.4, also with underscores.
fn name(text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok().filter(|name| !name.is_root() && !text.is_empty());
    if let Some(name) = &mut name {
        name.set_fqdn(true);
    } else {
        errors.note(
            span.clone(),
            format!("\"{text}\" cannot be a name"),
            "labels of 1 to 63 letters, digits, hyphens and underscores with dots between (RFC 1035 section 2.3.4)",
        );
    }
    name.map(|name| name.to_lowercase())
}

fn forward(
    raw: Spanned<raw::Forward>,
    claims: &Claims,
    encrypted: &mut Vec<Encrypted>,
    errors: &mut Errors,
) -> Option<(Name, Vec<SocketAddr>)> {
    let table = raw.span();
    let raw = raw.into_inner();
    let domain = scalar::required(At("dns64.forward", "domain"), &raw.domain, &table, errors)
        .and_then(|(text, span)| name(text, &span, errors));
    let upstream: Vec<SocketAddr> = scalar::items(raw.upstream)
        .iter()
        .filter_map(|(text, span)| upstream(text, span, claims, encrypted, errors))
        .collect();
    if upstream.is_empty() && errors.is_empty() {
        errors.missing(table, "dns64.forward", "upstream");
    }
    Some((domain?, upstream))
}

/// One DNSKEY record of the root zone.
fn trust_anchor(text: String, span: &Range<usize>, errors: &mut Errors) -> Option<String> {
    if TrustAnchors::from_str(&text).is_ok_and(|anchors| anchors.len() == 1) {
        return Some(text);
    }
    errors.note(span.clone(), "this is no DNSKEY record of the root zone", keys::describe("dns64", "trust_anchor"));
    None
}

fn mapped(raw: Spanned<raw::PrefixMap>, errors: &mut Errors) -> Option<(Ipv4Net, Ipv6Net)> {
    let table = raw.span();
    let raw = raw.into_inner();
    let [ipv4, prefix] = [At("dns64.map", "ipv4"), At("dns64.map", "prefix")];
    let from = scalar::required(ipv4, &raw.ipv4, &table, errors)
        .and_then(|(text, span)| scalar::prefix4(ipv4, text, &span, errors));
    let to = scalar::required(prefix, &raw.prefix, &table, errors)
        .and_then(|(text, span)| nat64::prefix(prefix, text, &span, errors));
    Some((from?, to?))
}

fn host(raw: Spanned<raw::DnsHost>, domain: Option<&Name>, names: Names<'_>, errors: &mut Errors) -> Option<DnsHost> {
    let table = raw.span();
    let raw = raw.into_inner();
    let at = At("dns64.host", "name");
    let own = scalar::required(at, &raw.name, &table, errors).and_then(|(text, span)| match domain {
        Some(domain) if !text.contains('.') => name(&format!("{text}.{domain}"), &span, errors),
        _ => name(text, &span, errors),
    });
    let (mut targets, mut addresses) = (Vec::new(), Vec::new());
    let items = scalar::items(raw.address);
    if items.is_empty() {
        errors.missing(table, "dns64.host", "address");
    }
    for (text, span) in items {
        let at = At("dns64.host", "address");
        if let Ok(address) = text.parse::<IpAddr>() {
            addresses.push(address);
            continue;
        }
        match allow::target(at, &text, &span, names, errors) {
            Some(target @ (Target::Vm(_) | Target::Containers(_, Some(_)) | Target::Lan(_, Some(_)))) => {
                targets.push(target);
            }
            Some(Target::Router | Target::Containers(_, None) | Target::Lan(_, None) | Target::Prefix(_)) => {
                errors.note(span, format!("\"{text}\" is not one address"), keys::describe(at.0, at.1));
            }
            None => {}
        }
    }
    Some(DnsHost { name: own?, targets, addresses })
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

fn upstream(
    text: &str,
    span: &Range<usize>,
    claims: &Claims,
    encrypted: &mut Vec<Encrypted>,
    errors: &mut Errors,
) -> Option<SocketAddr> {
    let at = At("dns64", "upstream");
    if !text.contains("://") {
        let address = match text.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, 53),
            Err(_) => scalar::read(at, text, span, errors)?,
        };
        let address = reachable(address, text, span, claims, errors)?;
        return agreed(None, address, encrypted, span, errors);
    }
    let wanted = encrypted::parse(at, text, span, errors)?;
    let address = reachable(wanted.address, text, span, claims, errors)?;
    agreed(Some(wanted), address, encrypted, span, errors)
}

/// One address and port is asked in one way.
fn agreed(
    wanted: Option<Encrypted>,
    address: SocketAddr,
    encrypted: &mut Vec<Encrypted>,
    span: &Range<usize>,
    errors: &mut Errors,
) -> Option<SocketAddr> {
    let known = encrypted.iter().find(|known| known.address == address);
    if known.is_some_and(|known| wanted.as_ref() != Some(known)) {
        let message = format!("the upstream {address} is named twice, and is to be asked in different ways");
        errors.note(span.clone(), message, "one way for each address and port");
        return None;
    }
    if known.is_none() {
        encrypted.extend(wanted);
    }
    Some(address)
}

/// An address that an upstream can have.
fn reachable(
    address: SocketAddr,
    text: &str,
    span: &Range<usize>,
    claims: &Claims,
    errors: &mut Errors,
) -> Option<SocketAddr> {
    let at = At("dns64", "upstream");
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

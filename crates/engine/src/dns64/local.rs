//! Names that never leave this network: the hosts of the configuration, special names (RFC 6761, 7686, 8375, 9462), and the
//! reverse zones of addresses that mean nothing elsewhere (RFC 6303, 7793).
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::request::Request;
use super::response;
use crate::plan::LocalNames;

/// Seconds that an answer is remembered; short, so that a host that moves is found soon.
const TTL: u32 = 60;
/// RFC 6303 section 3: for an empty zone, which does not change.
const EMPTY_TTL: u32 = 10_800;

/// What is known here of a name.
pub(super) enum Known {
    /// The records of that name, of any type.
    Records(Vec<RData>),
    /// There is no such name.
    Nothing,
}

/// The response, if the question is about a name of this network or one that means nothing outside of it.
///
/// A name whose domain is `forwarded` to servers of its own is theirs, unless a host of this network has it.
/// `synthesize` makes an IPv6 address for a host that has IPv4 only.
pub(super) fn answer(
    request: &Request,
    question: &Query,
    names: &LocalNames,
    forwarded: bool,
    synthesize: impl Fn(Ipv4Addr) -> Option<Ipv6Addr>,
) -> Option<Message> {
    let name = &question.name;
    let (zone, ttl, known) = match own(name, names) {
        Some((zone, known)) => (zone, TTL, known),
        None if forwarded => return None,
        None => {
            let (zone, known) = special(name).or_else(|| reverse(name))?;
            (zone, EMPTY_TTL, known)
        }
    };
    let mut response = response::empty(request, ResponseCode::NoError);
    response.metadata.authoritative = true;
    match known {
        Known::Nothing => response.metadata.response_code = ResponseCode::NXDomain,
        Known::Records(mut records) => {
            if !records.iter().any(|data| data.record_type() == RecordType::AAAA) {
                let made = records.iter().filter_map(|data| match data {
                    RData::A(address) => synthesize(address.0).map(|address| RData::AAAA(AAAA(address))),
                    _ => None,
                });
                let made: Vec<RData> = made.collect();
                records.extend(made);
            }
            records.retain(|data| data.record_type() == question.query_type);
            response.answers.extend(records.into_iter().map(|data| Record::from_rdata(name.clone(), ttl, data)));
        }
    }
    if response.answers.is_empty() {
        // RFC 2308 section 3: the SOA record says how long that holds.
        let mailbox = Name::from_ascii("nobody.invalid.").ok()?;
        let soa = SOA::new(zone.clone(), mailbox, 1, 3600, 1200, 604_800, ttl);
        response.authorities.push(Record::from_rdata(zone, ttl, RData::SOA(soa)));
    }
    Some(response)
}

/// Hosts by name and by address, and the rest of the local domain, which is empty.
fn own(name: &Name, names: &LocalNames) -> Option<(Name, Known)> {
    let zone = || names.domain.clone().unwrap_or_else(|| name.clone());
    let addresses: Vec<RData> = names
        .hosts
        .iter()
        .filter(|(host, _)| host == name)
        .flat_map(|(_, addresses)| addresses)
        .map(|address| match address {
            IpAddr::V4(address) => RData::A(A(*address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
        })
        .collect();
    if !addresses.is_empty() {
        return Some((zone(), Known::Records(addresses)));
    }
    if let Some(address) = host_of(name) {
        let named = names.hosts.iter().find(|(_, addresses)| addresses.contains(&address));
        if let Some((host, _)) = named {
            return Some((name.clone(), Known::Records(vec![RData::PTR(PTR(host.clone()))])));
        }
    }
    let domain = names.domain.as_ref().filter(|domain| domain.zone_of(name))?;
    // RFC 8020: a name with names below it exists, and so does the domain itself.
    let exists = domain == name || names.hosts.iter().any(|(host, _)| name.zone_of(host));
    Some((domain.clone(), if exists { Known::Records(Vec::new()) } else { Known::Nothing }))
}

/// RFC 6761 and its like. `test` is left to whoever tests with it, `example` to its servers.
fn special(name: &Name) -> Option<(Name, Known)> {
    let top = |text: &str| Name::from_ascii(text).ok().filter(|zone| zone.zone_of(name));
    if let Some(zone) = top("localhost.") {
        let loopback = [RData::A(A(Ipv4Addr::LOCALHOST)), RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))];
        return Some((zone, Known::Records(loopback.to_vec())));
    }
    // RFC 6761 section 6.4, RFC 7686 section 2, RFC 6762 section 22.1, RFC 8375 section 4, RFC 9462 section 8.2.
    let empty = ["invalid.", "onion.", "local.", "home.arpa.", "resolver.arpa."];
    let zone = empty.into_iter().find_map(top)?;
    let known = if zone == *name { Known::Records(Vec::new()) } else { Known::Nothing };
    Some((zone, known))
}

/// RFC 6303 section 4 and RFC 7793: nobody outside knows who has these addresses.
fn reverse(name: &Name) -> Option<(Name, Known)> {
    let mut fqdn = name.clone();
    fqdn.set_fqdn(true);
    let net = fqdn.parse_arpa_name().ok()?;
    let labels = match net {
        IpNet::V4(net) => EMPTY_V4.iter().find(|zone| zone.contains(&net))?.prefix_len().div_ceil(8) + 2,
        IpNet::V6(net) => EMPTY_V6.iter().find(|zone| zone.contains(&net))?.prefix_len().div_ceil(4) + 2,
    };
    let zone = fqdn.trim_to(labels.into());
    let known = if zone == fqdn { Known::Records(Vec::new()) } else { Known::Nothing };
    Some((zone, known))
}

/// The address that a reverse name is about, if it is a whole one.
pub(super) fn host_of(name: &Name) -> Option<IpAddr> {
    let mut fqdn = name.clone();
    fqdn.set_fqdn(true);
    let net = fqdn.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

const fn v4(a: u8, b: u8, c: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), length)
}

const fn v6(first: u16, second: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), length)
}

const EMPTY_V4: [Ipv4Net; 10] = [
    v4(0, 0, 0, 8),
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    v4(169, 254, 0, 16),
    v4(172, 16, 0, 12),
    v4(192, 0, 2, 24),
    v4(192, 168, 0, 16),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
];

const EMPTY_V6: [Ipv6Net; 5] = [
    Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128),
    Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128),
    v6(0xfd00, 0, 8),
    v6(0xfe80, 0, 10),
    v6(0x2001, 0xdb8, 32),
];

//! Reverse names of synthesized addresses (RFC 6147 section 5.3.1): an alias of the IPv4 address's own.
use core::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record};
use sixgate_wire::rfc6052::Pref64;

use super::local;

/// Seconds that the alias holds at most; it goes with the prefix.
const TTL: u32 = 600;

/// The IPv4 address behind a name below ip6.arpa, if the address is a synthesized one.
pub(super) fn embedded(name: &Name, mut prefixes: impl Iterator<Item = Pref64>) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = local::host_of(name)? else { return None };
    prefixes.find_map(|pref64| pref64.extract(address))
}

/// Puts the alias before the answer about the IPv4 address.
pub(super) fn put_alias(name: &Name, address: Ipv4Addr, response: &mut Message) {
    let ttl = response.answers.iter().map(|record| record.ttl).min().unwrap_or(TTL).min(TTL);
    let alias = RData::CNAME(CNAME(Name::from(address)));
    response.answers.insert(0, Record::from_rdata(name.clone(), ttl, alias));
}

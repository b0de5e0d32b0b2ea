//! `ipv4only.arpa` (RFC 7050, RFC 8880): the name by which hosts find the NAT64 prefix, answered here.
use core::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use sixgate_wire::rfc6052::Pref64;

use super::request::Request;
use super::{local, response};

/// RFC 7050 section 8.2: the well-known IPv4 addresses.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// Seconds that an answer is remembered; a prefix that changes is noticed by then.
const TTL: u32 = 600;
/// Seconds that "no prefix" is remembered; short, so that translation is found soon after it comes to life.
const NEGATIVE_TTL: u32 = 60;

/// The response, if the question is for the name or one below it.
///
/// RFC 8880 section 7.1: the resolver answers by itself, also a client that validates: the zone is not signed.
pub(super) fn answer(request: &Request, question: &Query, pref64: Option<Pref64>) -> Option<Message> {
    let zone = zone()?;
    if let Some(IpAddr::V4(address)) = local::host_of(&question.name)
        && ADDRESSES.contains(&address)
    {
        return reverse(request, question, zone);
    }
    if !zone.zone_of(&question.name) {
        return None;
    }
    let mut code = ResponseCode::NoError;
    let mut answers = Vec::new();
    // RFC 8880 section 7.1: there are no names below.
    if question.name.num_labels() > zone.num_labels() || question.name.is_wildcard() {
        code = ResponseCode::NXDomain;
    } else {
        match question.query_type {
            RecordType::A => answers.extend(ADDRESSES.map(|address| RData::A(A(address)))),
            RecordType::AAAA => {
                if let Some(pref64) = pref64 {
                    answers.extend(ADDRESSES.map(|address| RData::AAAA(AAAA(pref64.embed(address)))));
                }
            }
            RecordType::SOA => answers.extend(soa(&zone)),
            _ => {}
        }
    }
    let mut response = response::empty(request, code);
    response.metadata.authoritative = true;
    if answers.is_empty() {
        // RFC 2308 section 3: the SOA record says how long that holds.
        response.authorities.extend(soa(&zone).map(|data| Record::from_rdata(zone.clone(), NEGATIVE_TTL, data)));
    }
    let name = &question.name;
    response.answers.extend(answers.into_iter().map(|data| Record::from_rdata(name.clone(), TTL, data)));
    Some(response)
}

/// RFC 8880 section 7.2: the well-known addresses' names are answered here as well.
fn reverse(request: &Request, question: &Query, zone: Name) -> Option<Message> {
    let mut response = response::empty(request, ResponseCode::NoError);
    response.metadata.authoritative = true;
    let name = &question.name;
    match question.query_type {
        RecordType::PTR => response.answers.push(Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(zone)))),
        RecordType::SOA => response.answers.push(Record::from_rdata(name.clone(), TTL, soa(name)?)),
        _ => response.authorities.push(Record::from_rdata(name.clone(), NEGATIVE_TTL, soa(name)?)),
    }
    Some(response)
}

fn zone() -> Option<Name> {
    Name::from_ascii("ipv4only.arpa.").ok()
}

/// As for a zone that resolvers serve by themselves (RFC 6303 section 3).
fn soa(zone: &Name) -> Option<RData> {
    let mailbox = Name::from_ascii("nobody.invalid.").ok()?;
    Some(RData::SOA(SOA::new(zone.clone(), mailbox, 1, 3600, 1200, 604_800, NEGATIVE_TTL)))
}

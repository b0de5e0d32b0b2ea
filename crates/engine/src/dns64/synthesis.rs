//! RFC 6147 section 5.1.7: AAAA records out of A records.
use core::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::AAAA;
use hickory_proto::rr::{RData, Record, RecordType};
use sixgate_wire::rfc6052::Pref64;

use super::exclusion::is_translatable;
use super::response::is_signature_over;
use crate::plan::Dns64Plan;

/// RFC 6147 section 5.1.7: the longest TTL in seconds where no SOA record says how long "no AAAA" holds.
const TTL_WITHOUT_SOA: u32 = 600;

/// How long the absence of AAAA records may be remembered, in seconds (RFC 2308 section 5).
pub(super) fn negative_ttl(aaaa: Option<&Message>) -> u32 {
    let soa = aaaa.into_iter().flat_map(|message| &message.authorities).find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    soa.unwrap_or(TTL_WITHOUT_SOA)
}

/// The IPv6 address that stands for an IPv4 address: by the rule that fits it best, or else by the common prefix.
pub(super) fn embed(address: Ipv4Addr, pref64: Pref64, plan: &Dns64Plan) -> Ipv6Addr {
    let fitting = plan.prefixes.iter().filter(|(net, _)| net.contains(&address));
    let rule = fitting.max_by_key(|(net, _)| net.prefix_len());
    let prefix = rule.and_then(|(_, prefix)| Pref64::new(prefix.network(), prefix.prefix_len()).ok());
    prefix.unwrap_or(pref64).embed(address)
}

/// What became of the A records of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Synthesis {
    /// At least one AAAA record was made.
    Made,
    /// There are A records, and none may be translated.
    NotTranslatable,
    /// There are no A records.
    NoAddress,
}

/// Replaces the A records of an answer section; aliases before them are kept (RFC 6147 section 5.1.5).
///
/// An A record that may not be translated is left out, and so are signatures over A records.
pub(super) fn synthesize(answers: &mut Vec<Record>, pref64: Pref64, plan: &Dns64Plan, negative_ttl: u32) -> Synthesis {
    let mut synthesis = Synthesis::NoAddress;
    answers.retain_mut(|record| {
        let RData::A(address) = record.data else { return !is_signature_over(record, RecordType::A) };
        if !is_translatable(address.0, plan) {
            if synthesis == Synthesis::NoAddress {
                synthesis = Synthesis::NotTranslatable;
            }
            return false;
        }
        record.data = RData::AAAA(AAAA(embed(address.0, pref64, plan)));
        record.ttl = record.ttl.min(negative_ttl);
        synthesis = Synthesis::Made;
        true
    });
    synthesis
}

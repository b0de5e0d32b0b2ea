//! What does not count: AAAA records of the exclusion set, and IPv4 addresses that are not to be translated.
use core::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record, RecordType};
use ipnet::Ipv4Net;
use sixgate_wire::rfc6890;

use super::response::is_signature_over;

/// RFC 6147 section 5.1.4: an address that no host can reach over IPv6. `::ffff:0:0/96` is the set's default.
fn is_excluded(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

/// Takes the excluded AAAA records out of the answer, and the signatures that no longer hold.
pub(super) fn remove_excluded(message: &mut Message) {
    let before = message.answers.len();
    message.answers.retain(|record| !matches!(record.data, RData::AAAA(address) if is_excluded(address.0)));
    if message.answers.len() < before {
        message.answers.retain(|record| !is_signature_over(record, RecordType::AAAA));
    }
}

/// Whether the answer holds an AAAA record.
pub(super) fn has_aaaa(answers: &[Record]) -> bool {
    answers.iter().any(|record| record.record_type() == RecordType::AAAA)
}

/// RFC 6052 section 3.1: addresses that mean something else elsewhere are not translated, unless the configuration says
/// that they are meant.
pub(super) fn is_translatable(address: Ipv4Addr, translate_non_global: &[Ipv4Net]) -> bool {
    rfc6890::is_global_v4(address) || translate_non_global.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mapped_addresses_are_excluded() {
        assert!(is_excluded("::ffff:192.0.2.1".parse().unwrap()));
        assert!(!is_excluded("::192.0.2.1".parse().unwrap()));
        assert!(!is_excluded("64:ff9b::192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn private_addresses_are_translated_only_where_the_configuration_says_so() {
        let lab: Ipv4Net = "10.0.0.0/8".parse().unwrap();
        for address in [[10, 1, 2, 3], [192, 168, 0, 1], [127, 0, 0, 1], [0, 0, 0, 0], [224, 0, 0, 1], [169, 254, 1, 1]]
        {
            assert!(!is_translatable(address.into(), &[]), "{address:?}");
        }
        assert!(is_translatable([10, 1, 2, 3].into(), &[lab]));
        assert!(!is_translatable([192, 168, 0, 1].into(), &[lab]));
        assert!(is_translatable([8, 8, 8, 8].into(), &[]));
    }
}

//! What does not count: AAAA records of the exclusion set, and IPv4 addresses that are not to be translated.
use core::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record, RecordType};
use ipnet::{Ipv4Net, Ipv6Net};
use sixgate_wire::rfc6052::Pref64;
use sixgate_wire::rfc6890;

use super::response::is_signature_over;
use crate::plan::Dns64Plan;

/// RFC 6147 section 5.1.4: an address that is not counted as one, `::ffff:0:0/96` unless configured otherwise.
fn is_excluded(address: Ipv6Addr, excluded: &[Ipv6Net]) -> bool {
    excluded.iter().any(|net| net.contains(&address))
}

/// Takes the excluded AAAA records out of the answer, and the signatures that no longer hold.
pub(super) fn remove_excluded(message: &mut Message, excluded: &[Ipv6Net]) {
    let before = message.answers.len();
    message.answers.retain(|record| !matches!(record.data, RData::AAAA(address) if is_excluded(address.0, excluded)));
    if message.answers.len() < before {
        message.answers.retain(|record| !is_signature_over(record, RecordType::AAAA));
    }
}

/// Whether the answer holds an AAAA record.
pub(super) fn has_aaaa(answers: &[Record]) -> bool {
    answers.iter().any(|record| record.record_type() == RecordType::AAAA)
}

/// RFC 6052 section 3.1: addresses that mean something else elsewhere are not translated, unless the configuration says
/// that they are meant; and it may name others that are not.
pub(super) fn is_translatable(address: Ipv4Addr, plan: &Dns64Plan) -> bool {
    let among = |nets: &[Ipv4Net]| nets.iter().any(|net| net.contains(&address));
    // A rule with a prefix of its own says that its addresses are meant.
    let ruled =
        |(net, prefix): &(Ipv4Net, Ipv6Net)| net.contains(&address) && prefix.network() != Pref64::WELL_KNOWN.prefix();
    !among(&plan.untranslated_ipv4)
        && (rfc6890::is_global_v4(address) || among(&plan.translate_non_global) || plan.prefixes.iter().any(ruled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_set_are_excluded() {
        let set = ["::ffff:0:0/96".parse().unwrap(), "2001:db8:bad::/48".parse().unwrap()];
        assert!(is_excluded("::ffff:192.0.2.1".parse().unwrap(), &set));
        assert!(is_excluded("2001:db8:bad::1".parse().unwrap(), &set));
        assert!(!is_excluded("::192.0.2.1".parse().unwrap(), &set));
        assert!(!is_excluded("64:ff9b::192.0.2.1".parse().unwrap(), &set));
    }

    #[test]
    fn private_addresses_are_translated_only_where_the_configuration_says_so() {
        let none = Dns64Plan::default();
        let lab = Dns64Plan { translate_non_global: vec!["10.0.0.0/8".parse().unwrap()], ..Dns64Plan::default() };
        for address in [[10, 1, 2, 3], [192, 168, 0, 1], [127, 0, 0, 1], [0, 0, 0, 0], [224, 0, 0, 1], [169, 254, 1, 1]]
        {
            assert!(!is_translatable(address.into(), &none), "{address:?}");
        }
        assert!(is_translatable([10, 1, 2, 3].into(), &lab));
        assert!(!is_translatable([192, 168, 0, 1].into(), &lab));
        assert!(is_translatable([8, 8, 8, 8].into(), &none));
        let but = Dns64Plan { untranslated_ipv4: vec!["8.8.0.0/16".parse().unwrap()], ..Dns64Plan::default() };
        assert!(!is_translatable([8, 8, 8, 8].into(), &but) && is_translatable([8, 9, 8, 8].into(), &but));
    }
}

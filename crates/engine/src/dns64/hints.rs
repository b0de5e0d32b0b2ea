//! Address hints of SVCB and HTTPS records (RFC 9460 section 7.3): a host without IPv4 gets synthesized ones, lest a browser
//! find no hint that it can use and fall back, or bypass the translator.
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::AAAA;
use hickory_proto::rr::rdata::svcb::{IpHint, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::{RData, Record, RecordType};
use sixgate_wire::rfc6052::Pref64;

use super::exclusion::is_translatable;
use super::response::is_signature_over;
use super::synthesis::embed;
use crate::plan::Dns64Plan;

/// Adds an `ipv6hint` to each record that has an `ipv4hint` only. True where there was one, and the signatures over such
/// records, which no longer hold, are gone.
pub(super) fn synthesize_hints(message: &mut Message, pref64: Pref64, plan: &Dns64Plan) -> bool {
    let mut changed = Vec::new();
    for record in &mut message.answers {
        let kind = record.record_type();
        let made = match &mut record.data {
            RData::SVCB(service) => add_hint(service, pref64, plan),
            RData::HTTPS(service) => add_hint(&mut service.0, pref64, plan),
            _ => false,
        };
        if made {
            changed.push(kind);
        }
    }
    let signed = |record: &Record| changed.iter().any(|covered: &RecordType| is_signature_over(record, *covered));
    message.answers.retain(|record| !signed(record));
    !changed.is_empty()
}

fn add_hint(service: &mut SVCB, pref64: Pref64, plan: &Dns64Plan) -> bool {
    let params = &mut service.svc_params;
    if params.iter().any(|(key, _)| *key == SvcParamKey::Ipv6Hint) {
        return false;
    }
    let hints: Vec<AAAA> = params
        .iter()
        .filter_map(|(_, value)| match value {
            SvcParamValue::Ipv4Hint(IpHint(hints)) => Some(hints),
            _ => None,
        })
        .flatten()
        .filter(|hint| is_translatable(hint.0, plan))
        .map(|hint| AAAA(embed(hint.0, pref64, plan)))
        .collect();
    if hints.is_empty() {
        return false;
    }
    // RFC 9460 section 2.2: keys stand in increasing order.
    let place = params.iter().position(|(key, _)| *key > SvcParamKey::Ipv6Hint).unwrap_or(params.len());
    params.insert(place, (SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(hints))));
    true
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::svcb::Alpn;
    use hickory_proto::rr::rdata::{A, HTTPS, NULL};

    use super::*;

    fn message(kind: fn(SVCB) -> RData, hints: &[&str], further: Option<(SvcParamKey, SvcParamValue)>) -> Message {
        let hints = hints.iter().map(|text| A(text.parse().unwrap())).collect();
        let mut params = vec![
            (SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(vec!["h2".to_owned()]))),
            (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(hints))),
        ];
        params.extend(further);
        let mut message = Message::response(1, OpCode::Query);
        let (name, root) = (Name::from_ascii("www.example.com.").unwrap(), Name::root());
        message.answers.push(Record::from_rdata(name.clone(), 60, kind(SVCB::new(1, root, params))));
        let covered = u16::from(message.answers[0].record_type()).to_be_bytes();
        let signature = NULL::with([&covered[..], &[0; 20]].concat());
        let data = RData::Unknown { code: RecordType::RRSIG, rdata: signature };
        message.answers.push(Record::from_rdata(name, 60, data));
        message
    }

    fn hints(message: &Message) -> Vec<String> {
        let read = Message::from_vec(&message.to_vec().unwrap()).unwrap();
        let (RData::SVCB(service) | RData::HTTPS(HTTPS(service))) = &read.answers[0].data else { panic!("{read:?}") };
        let hint = |value: &SvcParamValue| match value {
            SvcParamValue::Ipv6Hint(IpHint(hints)) => hints.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        service.svc_params.iter().flat_map(|(_, value)| hint(value)).collect()
    }

    #[test]
    fn a_record_with_ipv4_hints_only_gets_ipv6_hints_and_loses_its_signature() {
        for kind in [RData::SVCB, |service| RData::HTTPS(HTTPS(service))] {
            let port =
                (SvcParamKey::Unknown(99), SvcParamValue::Unknown(hickory_proto::rr::rdata::svcb::Unknown(vec![1])));
            let mut message = message(kind, &["8.8.8.8", "10.0.0.1"], Some(port));
            assert!(synthesize_hints(&mut message, Pref64::WELL_KNOWN, &Dns64Plan::default()));
            assert_eq!(hints(&message), ["64:ff9b::808:808"], "a private address is left out");
            assert_eq!(message.answers.len(), 1, "the signature does not hold any more");
        }
    }

    #[test]
    fn what_has_ipv6_hints_or_nothing_to_translate_stays_as_it_is() {
        let own = SvcParamValue::Ipv6Hint(IpHint(vec![AAAA("2001:db8::1".parse().unwrap())]));
        let mut with = message(RData::SVCB, &["8.8.8.8"], Some((SvcParamKey::Ipv6Hint, own)));
        let mut private = message(RData::SVCB, &["10.0.0.1"], None);
        for message in [&mut with, &mut private] {
            let before = message.clone();
            assert!(!synthesize_hints(message, Pref64::WELL_KNOWN, &Dns64Plan::default()));
            assert_eq!(*message, before);
        }
    }
}

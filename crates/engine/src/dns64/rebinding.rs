//! Protection from DNS rebinding: a stranger's name that has an address of this network lets a web page of his talk to
//! hosts behind the router. Synthesized addresses count by the IPv4 address in them.
use core::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::svcb::{IpHint, SVCB, SvcParamValue};
use hickory_proto::rr::{Name, RData, RecordType};
use ipnet::{Ipv4Net, Ipv6Net};
use sixgate_wire::rfc6052::Pref64;

use super::response::is_signature_over;
use crate::plan::Dns64Plan;

const fn v4(a: u8, b: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), length)
}

/// RFC 1918, 1122, 6598, 3927: addresses that are somebody's own.
const PRIVATE_V4: [Ipv4Net; 7] =
    [v4(0, 0, 8), v4(10, 0, 8), v4(100, 64, 10), v4(127, 0, 8), v4(169, 254, 16), v4(172, 16, 12), v4(192, 168, 16)];

/// RFC 4291, 4193: the same in IPv6.
const PRIVATE_V6: [Ipv6Net; 4] = [
    Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128),
    Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128),
    Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
];

/// Takes private addresses out of an upstream's answer about a name for which nobody has allowed them. True where there
/// were some.
pub(super) fn remove_private(name: &Name, message: &mut Message, plan: &Dns64Plan) -> bool {
    let forwarded = plan.forward.iter().map(|(domain, _)| domain);
    if !plan.refuse_private || plan.private_domains.iter().chain(forwarded).any(|domain| domain.zone_of(name)) {
        return false;
    }
    let prefixes: Vec<Pref64> = plan
        .pref64
        .iter()
        .chain(&plan.further_pref64)
        .chain(plan.prefixes.iter().map(|(_, prefix)| prefix))
        .filter_map(|net| Pref64::new(net.network(), net.prefix_len()).ok())
        .chain([Pref64::WELL_KNOWN])
        .collect();
    let mut removed = Vec::new();
    for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
        section.retain_mut(|record| {
            let kind = record.record_type();
            let private = match &mut record.data {
                RData::A(address) => is_private_v4(address.0),
                RData::AAAA(address) => is_private_v6(address.0, &prefixes),
                RData::SVCB(service) => return keep_hints(service, &prefixes, || removed.push(kind)),
                RData::HTTPS(service) => return keep_hints(&mut service.0, &prefixes, || removed.push(kind)),
                _ => false,
            };
            if private {
                removed.push(kind);
            }
            !private
        });
    }
    if removed.is_empty() {
        return false;
    }
    // A signature over what is no longer whole proves nothing.
    for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
        section.retain(|record| !removed.iter().any(|kind: &RecordType| is_signature_over(record, *kind)));
    }
    true
}

/// A service without an address hint is still a service.
fn keep_hints(service: &mut SVCB, prefixes: &[Pref64], changed: impl FnOnce()) -> bool {
    let hints = |params: &[_]| {
        let count = |(_, value): &(_, SvcParamValue)| match value {
            SvcParamValue::Ipv4Hint(IpHint(hints)) => hints.len(),
            SvcParamValue::Ipv6Hint(IpHint(hints)) => hints.len(),
            _ => 0,
        };
        params.iter().map(count).sum::<usize>()
    };
    let before = hints(&service.svc_params);
    service.svc_params.retain_mut(|(_, value)| match value {
        SvcParamValue::Ipv4Hint(IpHint(hints)) => {
            hints.retain(|hint| !is_private_v4(hint.0));
            !hints.is_empty()
        }
        SvcParamValue::Ipv6Hint(IpHint(hints)) => {
            hints.retain(|hint| !is_private_v6(hint.0, prefixes));
            !hints.is_empty()
        }
        _ => true,
    });
    if hints(&service.svc_params) < before {
        changed();
    }
    true
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    PRIVATE_V4.iter().any(|net| net.contains(&address))
}

fn is_private_v6(address: Ipv6Addr, prefixes: &[Pref64]) -> bool {
    let embedded = prefixes.iter().find_map(|pref64| pref64.extract(address)).or_else(|| address.to_ipv4_mapped());
    PRIVATE_V6.iter().any(|net| net.contains(&address)) || embedded.is_some_and(is_private_v4)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::svcb::SvcParamKey;
    use hickory_proto::rr::rdata::{A, AAAA, HTTPS};

    use super::*;

    fn plan() -> Dns64Plan {
        Dns64Plan {
            refuse_private: true,
            pref64: Some("2001:db8:64::/96".parse().unwrap()),
            private_domains: vec![Name::from_ascii("home.example.").unwrap()],
            ..Dns64Plan::default()
        }
    }

    fn message(name: &str, data: Vec<RData>) -> (Name, Message) {
        let name = Name::from_ascii(name).unwrap();
        let mut message = Message::response(1, OpCode::Query);
        message.answers.extend(data.into_iter().map(|data| Record::from_rdata(name.clone(), 60, data)));
        (name, message)
    }

    fn address(text: &str) -> RData {
        match text.parse().unwrap() {
            core::net::IpAddr::V4(address) => RData::A(A(address)),
            core::net::IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        }
    }

    #[test]
    fn private_addresses_are_taken_out_also_where_they_are_embedded() {
        for text in [
            "10.1.2.3",
            "192.168.1.1",
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "fd00::1",
            "fe80::1",
            "::1",
            "::",
            "2001:db8:64::192.168.1.1",
            "64:ff9b::10.0.0.1",
            "::ffff:10.0.0.1",
        ] {
            let (name, mut message) = message("www.example.com.", vec![address(text), address("8.8.8.8")]);
            assert!(remove_private(&name, &mut message, &plan()), "{text}");
            assert_eq!(message.answers.len(), 1, "{text}: the others stay");
        }
    }

    #[test]
    fn public_addresses_and_names_that_may_have_private_ones_stay_as_they_are() {
        for (name, text) in [
            ("www.example.com.", "8.8.8.8"),
            ("www.example.com.", "2001:db8:64::8.8.8.8"),
            ("www.example.com.", "2001:db8::1"),
            ("nas.home.example.", "192.168.1.1"),
        ] {
            let (name, mut message) = message(name, vec![address(text)]);
            let before = message.clone();
            assert!(!remove_private(&name, &mut message, &plan()));
            assert_eq!(message, before);
        }
    }

    #[test]
    fn a_private_hint_goes_and_its_record_stays() {
        let hint = IpHint(vec![A(Ipv4Addr::new(10, 0, 0, 1)), A(Ipv4Addr::new(8, 8, 8, 8))]);
        let params = vec![(SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(hint))];
        let service = RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), params)));
        let (name, mut message) = message("www.example.com.", vec![service]);
        assert!(remove_private(&name, &mut message, &plan()));
        let RData::HTTPS(service) = &message.answers[0].data else { panic!("{message:?}") };
        let left = SvcParamValue::Ipv4Hint(IpHint(vec![A(Ipv4Addr::new(8, 8, 8, 8))]));
        assert_eq!(service.0.svc_params, [(SvcParamKey::Ipv4Hint, left)]);
    }
}

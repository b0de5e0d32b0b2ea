//! Which packets are looked at: addresses that a router forwards, and destinations that it may translate to.
use core::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;
use sixgate_wire::icmpv4::{self, Icmpv4Message};
use sixgate_wire::icmpv6;
use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::rfc6052::Pref64;
use sixgate_wire::rfc6890::is_global_v4;

use super::pool::Pool;
use super::prefixes::Prefixes;
use super::verdict::{Reason, Refused};
use crate::xlat::originate::Error;

/// RFC 7915 section 5.1 and RFC 6146 section 3.5: a source that packets may come from.
pub(super) fn source_v6(source: Ipv6Addr, prefixes: &Prefixes) -> Result<(), Reason> {
    // RFC 6146 section 3.5: what claims to have been translated already would loop.
    if prefixes.find(source).is_some() {
        return Err(Reason::SourceInPref64);
    }
    let invalid = source.is_unspecified()
        || source.is_loopback()
        || source.is_multicast()
        || source.is_unicast_link_local()
        || source.to_ipv4_mapped().is_some();
    if invalid { Err(Reason::InvalidSource) } else { Ok(()) }
}

/// RFC 7915 section 4.1: a source that packets may come from.
pub(super) fn source_v4(packet: &Ipv4Packet<'_>) -> Result<(), Reason> {
    let message = Icmpv4Message::parse(packet.upper()).filter(|_| packet.protocol() == icmpv4::PROTOCOL);
    // RFC 7915 section 4.1: who sends an error is of use whatever the address.
    if is_unicast(packet.source()) || message.is_some_and(|message| message.is_error()) {
        Ok(())
    } else {
        Err(Reason::InvalidSource)
    }
}

/// RFC 6052 section 3.1: an embedded address that may be translated to.
pub(super) fn destination_v4(destination: Ipv4Addr, pref64: Pref64, exempted: &[Ipv4Net]) -> Result<(), Refused> {
    // The Well-Known Prefix knows no exemptions.
    let exempted = if pref64 == Pref64::WELL_KNOWN { &[] } else { exempted };
    if is_unicast(destination) && (is_global_v4(destination) || exempted.iter().any(|net| net.contains(&destination))) {
        return Ok(());
    }
    // A client that is told so tries its next address at once.
    let answer = Error { kind: icmpv6::DESTINATION_UNREACHABLE, code: icmpv6::PROHIBITED, word: 0 };
    Err(Refused { reason: Reason::NonGlobalDestination, answer: Some(answer) })
}

/// RFC 6888 REQ-6: what the operator wants no translation to.
pub(super) fn excluded(destination: Ipv4Addr, excluded: &[Ipv4Net]) -> Result<(), Refused> {
    if !excluded.iter().any(|net| net.contains(&destination)) {
        return Ok(());
    }
    let answer = Error { kind: icmpv6::DESTINATION_UNREACHABLE, code: icmpv6::PROHIBITED, word: 0 };
    Err(Refused { reason: Reason::ExcludedDestination, answer: Some(answer) })
}

/// The address that stands for the sender of an ICMPv4 error. RFC 6052 section 3.1: with the Well-Known Prefix none
/// stands for a router whose address is not global, and the translator speaks for it (RFC 6791). Our own addresses are
/// what clients know each other by, whatever they are.
pub(super) fn error_source(source: Ipv4Addr, pref64: Pref64, pool: &Pool, router: Option<Ipv6Addr>) -> Ipv6Addr {
    let embedded = pref64.embed(source);
    if pref64 != Pref64::WELL_KNOWN || is_global_v4(source) || pool.contains(source) {
        return embedded;
    }
    router.unwrap_or(embedded)
}

fn is_unicast(address: Ipv4Addr) -> bool {
    !matches!(address.octets()[0], 0 | 127 | 224..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat64::keyed::Keyed;

    #[test]
    fn sources_that_nobody_forwards_are_refused() {
        let prefixes = Prefixes::of(&["64:ff9b::/96", "2001:db8:64::/96"]);
        for text in ["::", "::1", "ff02::1", "fe80::1", "::ffff:192.0.2.1"] {
            assert_eq!(source_v6(text.parse().unwrap(), &prefixes), Err(Reason::InvalidSource), "{text}");
        }
        for text in ["64:ff9b::1", "2001:db8:64::1"] {
            assert_eq!(source_v6(text.parse().unwrap(), &prefixes), Err(Reason::SourceInPref64), "{text}");
        }
        assert_eq!(source_v6("fd00::1".parse().unwrap(), &prefixes), Ok(()));
    }

    /// RFC 6052 section 3.1: MUST NOT be used to represent non-global IPv4 addresses.
    #[test]
    fn non_global_destinations_need_an_exemption_and_some_have_none() {
        let own = Pref64::new("2001:db8:64::".parse().unwrap(), 96).unwrap();
        let exempted = ["10.0.0.0/8".parse().unwrap(), "0.0.0.0/0".parse().unwrap()];
        let destination = |text: &str, exempted: &[Ipv4Net]| destination_v4(text.parse().unwrap(), own, exempted);
        assert!(destination("1.1.1.1", &[]).is_ok());
        assert!(destination("10.1.1.1", &[]).is_err());
        assert!(destination("10.1.1.1", &exempted).is_ok());
        assert!(destination_v4(Ipv4Addr::new(10, 1, 1, 1), Pref64::WELL_KNOWN, &exempted).is_err());
        for text in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"] {
            let refused = destination(text, &exempted).unwrap_err();
            assert_eq!(refused.reason, Reason::NonGlobalDestination, "{text}");
        }
    }

    #[test]
    fn private_routers_are_spoken_for_under_the_well_known_prefix_alone() {
        let router = "2001:db8::1".parse().unwrap();
        let own = Pref64::new("2001:db8:64::".parse().unwrap(), 96).unwrap();
        let [private, ours, public] = [[10, 0, 0, 1], [10, 0, 0, 2], [1, 1, 1, 1]].map(Ipv4Addr::from);
        let mut pool = Pool::new(Keyed::new((1, 2)));
        pool.replace([(ours, 1..=9)].into_iter(), 0);
        let source = |address, pref64| error_source(address, pref64, &pool, Some(router));
        assert_eq!(source(private, Pref64::WELL_KNOWN), router);
        assert_eq!(source(private, own), own.embed(private));
        assert_eq!(source(public, Pref64::WELL_KNOWN), Pref64::WELL_KNOWN.embed(public));
        assert_eq!(source(ours, Pref64::WELL_KNOWN), Pref64::WELL_KNOWN.embed(ours));
    }
}

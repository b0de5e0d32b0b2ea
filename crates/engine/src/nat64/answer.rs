//! What the sender of a refused packet is told: the ICMP errors of RFC 7915 sections 4 and 5 and RFC 6146 section 3.
use sixgate_wire::icmpv6;

use super::verdict::{Reason, Refused};
use crate::xlat::Refusal;
use crate::xlat::originate::{self, Error};

/// What a sender in IPv6 is told of what the stateless translator refused.
pub(super) fn refused_v6(refusal: Refusal) -> Refused {
    Refused { reason: refusal.into(), answer: originate::answer_v6(refusal) }
}

/// What a sender in IPv4 is told of what the stateless translator refused.
pub(super) fn refused_v4(refusal: Refusal) -> Refused {
    Refused { reason: refusal.into(), answer: originate::answer_v4(refusal) }
}

/// RFC 6146 sections 3.5.1 to 3.5.3: a client that cannot get a session is told that the address is unreachable.
pub(super) fn refused_session_v6(reason: Reason) -> Refused {
    let unreachable = Error { kind: icmpv6::DESTINATION_UNREACHABLE, code: icmpv6::ADDRESS_UNREACHABLE, word: 0 };
    let is_short = matches!(
        reason,
        Reason::SessionLimit
            | Reason::PoolExhausted
            | Reason::ClientSessionLimit
            | Reason::ClientBindingLimit
            | Reason::ClientRateLimit
    );
    let answer = is_short.then_some(unreachable);
    Refused { reason, answer }
}

/// What is wrong while there is nothing to translate to.
pub(super) const NOT_OPERATIONAL: Refused = Refused {
    reason: Reason::NotOperational,
    answer: Some(Error { kind: icmpv6::DESTINATION_UNREACHABLE, code: icmpv6::NO_ROUTE, word: 0 }),
};

/// What a client is told that tries one of our addresses outside of our share of ports.
pub(super) const OWN_ADDRESS: Refused = Refused {
    reason: Reason::OwnAddress,
    answer: Some(Error { kind: icmpv6::DESTINATION_UNREACHABLE, code: icmpv6::PROHIBITED, word: 0 }),
};

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed => Reason::Malformed,
            Refusal::Address => Reason::NotForUs,
            Refusal::Checksum => Reason::BadChecksum,
            Refusal::HopLimit => Reason::HopLimitExceeded,
            Refusal::TooBig { .. } => Reason::TooBig,
            Refusal::SegmentsLeft { .. } => Reason::RoutingHeader,
            Refusal::SourceRoute => Reason::SourceRoute,
            Refusal::IcmpType => Reason::IcmpType,
            Refusal::UdpChecksum => Reason::UdpWithoutChecksum,
            Refusal::FragmentedIcmp | Refusal::FragmentedExtension => Reason::FragmentInvalid,
        }
    }
}

//! What became of a packet, and why: each reason is counted and has a name that the documentation explains.
use crate::xlat::originate::Error;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It left, translated.
    Translated(Direction),
    /// It left towards another IPv6 host, translated twice (RFC 6146 section 3.8).
    Hairpinned,
    /// It is a fragment that waits for the others, or a SYN that waits for that of the other side.
    Held,
    /// It ended here. An ICMP error may have been written in its place.
    Dropped(Reason),
}

/// From which side a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// IPv6 to IPv4.
    V6ToV4,
    /// IPv4 to IPv6.
    V4ToV6,
}

macro_rules! reasons {
    ($($variant:ident $name:literal $text:literal)*) => {
        /// Why a packet ended here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $(#[doc = $text] $variant,)* }

        impl Reason {
            /// All reasons, in the order of their declaration.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The stable kebab-case name, as in `status` and in the documentation.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for the documentation and the console.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    Malformed "malformed" "The packet's headers do not fit its bytes, or it is neither IPv4 nor IPv6."
    BadChecksum "bad-checksum" "The checksum of the IPv4 header or of an ICMP error is wrong."
    NotForUs "not-for-us" "The destination is neither in the NAT64 prefix nor one of the pool's addresses."
    NotOperational "not-operational" "There is no IPv4 address to translate to."
    InvalidSource "invalid-source" "The source address cannot be that of a packet that a router forwards (RFC 7915 section 5.1)."
    SourceInPref64 "source-in-pref64" "The source address lies in the NAT64 prefix: the packet would loop (RFC 6146 section 3.5)."
    NonGlobalDestination "non-global-destination" "The embedded IPv4 address is not global and is not exempted (RFC 6052 section 3.1)."
    ExcludedDestination "excluded-destination" "The embedded IPv4 address is one that `never_translate` names."
    OwnAddress "own-address" "The embedded IPv4 address is the router's own, outside of NAT64's share of ports."
    UnknownProtocol "unknown-protocol" "The protocol is neither TCP, UDP nor ICMP (RFC 6146 section 3.4)."
    IcmpType "icmp-type" "The ICMP type or code has no counterpart (RFC 7915 sections 4.2 and 5.2)."
    HopLimitExceeded "hop-limit-exceeded" "The hop limit or TTL is used up; answered with Time Exceeded."
    TooBig "too-big" "The packet does not fit the other side's MTU and must not be fragmented; answered with the MTU."
    RoutingHeader "routing-header" "A Routing header has segments left (RFC 7915 section 5.1); answered with Parameter Problem."
    SourceRoute "source-route" "An IPv4 source route is not used up (RFC 7915 section 4.1); answered with Source Route Failed."
    UdpWithoutChecksum "udp-without-checksum" "The UDP checksum is zero: IPv6 demands one (RFC 8200 section 8.1), and `udp_checksum_zero` may say so of IPv4."
    NoBinding "no-binding" "Nobody inside uses the mapped address and port or identifier (RFC 6146 section 3.5)."
    Filtered "filtered" "Somebody uses the mapped port, but has not sent to that address (address-dependent filtering)."
    NoSession "no-session" "A TCP segment other than SYN belongs to no connection (RFC 6146 section 3.5.2.2)."
    IncomingSynLimit "incoming-syn-limit" "Too many SYNs from IPv4 are waiting for one from the other side (RFC 6146 section 5.3)."
    IcmpErrorWithoutSession "icmp-error-without-session" "An ICMP error quotes a packet that belongs to no session."
    SessionLimit "session-limit" "The ceiling on sessions is reached."
    ClientSessionLimit "client-session-limit" "The client, or the VM whose container it is, has as many sessions as one may have (RFC 6888 REQ-4)."
    ClientBindingLimit "client-binding-limit" "The client, or the VM whose container it is, has as many ports or identifiers as one may have (RFC 6888 REQ-4)."
    ClientRateLimit "client-rate-limit" "The client opens more sessions in a second than one may open."
    PoolExhausted "pool-exhausted" "All ports or identifiers of the share are in use."
    FragmentInvalid "fragment-invalid" "A fragment overlaps another (RFC 5722), lies beyond 65,535 bytes, or continues with an extension header (RFC 7915 section 5.1.1)."
    FragmentLimit "fragment-limit" "Too many fragments are waiting for their others."
    FragmentTimeout "fragment-timeout" "A fragmented packet stayed incomplete until FRAGMENT_MIN was over."
}

/// A reason, and the ICMP error that goes back to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Why.
    pub(super) reason: Reason,
    /// What the sender is told, if anything.
    pub(super) answer: Option<Error>,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { reason, answer: None }
    }
}

/// How often each reason occurred.
#[derive(Clone, Debug)]
pub(super) struct Counters([u64; Reason::ALL.len()]);

impl Counters {
    pub(super) const fn new() -> Self {
        Self([0; Reason::ALL.len()])
    }

    pub(super) fn count(&mut self, reason: Reason) {
        self.add(reason, 1);
    }

    pub(super) fn add(&mut self, reason: Reason, times: u64) {
        self.0[reason as usize] += times;
    }

    /// Name and count of the reasons that occurred.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason.name(), self.0[reason as usize])).filter(|(_, count)| *count != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_name_in_kebab_case_and_a_sentence() {
        let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(
                reason.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte.is_ascii_digit())
            );
            assert!(reason.text().ends_with('.'), "{}", reason.name());
        }
    }
}

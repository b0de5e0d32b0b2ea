//! The stateless translator: RFC 7915 headers and ICMP, used by NAT64 and later by the CLAT.
//!
//! Addresses and identifiers of the translated packet are values that the caller has decided ([`Flow`]); what is
//! decided here is everything else in a packet. Checksums of TCP, UDP and echoes are updated incrementally, so a
//! damaged packet arrives damaged.
pub mod eam;
pub mod icmp;
pub(crate) mod identification;
pub(crate) mod limiter;
mod mss;
pub mod offload;
pub mod originate;
mod policy;
pub(crate) mod segment;
pub mod siit;
mod split;
pub mod transmit;
mod transport;
pub(crate) mod unfinished;
pub mod v4_to_v6;
pub mod v6_to_v4;

use sixgate_wire::ipv6;

pub use self::policy::{ChecksumZero, Policy};

/// The IPv6 header is longer than the IPv4 header by this much.
pub const GROWTH: u32 = 20;
/// RFC 7915 section 5.1: up to this length a translated IPv4 packet leaves without DF, since its sender may not be
/// told of a path that is narrower than IPv6's minimum.
pub const FRAGMENTABLE_V4: usize = ipv6::MINIMUM_MTU as usize - GROWTH as usize;

/// Addresses and identifiers of a translated packet, decided by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Ports or identifier.
    pub identifiers: Identifiers,
}

/// What tells flows between the same two addresses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identifiers {
    /// As they are: the stateless translator.
    Same,
    /// Ports of TCP and UDP.
    Ports {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// Identifier of an ICMP query.
    Query(u16),
}

/// What the links on both sides carry, in bytes of IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtus {
    /// Towards IPv6, at least 1,280.
    pub v6: u32,
    /// Towards IPv4, at least 68.
    pub v4: u32,
}

impl Mtus {
    /// What an IPv6 sender may send so that it fits on both sides: RFC 7915 section 4.2. Never less than 1,280.
    pub(crate) fn for_v6_sender(self) -> u32 {
        self.v6.min(self.v4.saturating_add(GROWTH)).max(ipv6::MINIMUM_MTU)
    }

    /// What an IPv4 sender may send so that it fits on both sides: RFC 7915 section 5.2.
    pub(crate) fn for_v4_sender(self) -> u32 {
        self.v4.min(self.v6.saturating_sub(GROWTH))
    }

    /// RFC 7915 section 4: without DF the sender does not learn the path's MTU, so the lowest is assumed.
    fn without_df(self, policy: &Policy) -> u32 {
        self.v6.min(policy.lowest_ipv6_mtu).max(ipv6::MINIMUM_MTU)
    }
}

/// Why a packet was not translated; nothing was written then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A header does not fit its bytes.
    Malformed,
    /// The checksum of an ICMP error is wrong; what it says cannot be trusted.
    Checksum,
    /// RFC 7915 sections 4.1 and 5.1: the hop limit or TTL is used up.
    HopLimit,
    /// It may not be fragmented and does not fit; the MTU that its sender is to be told.
    TooBig {
        /// In the sender's protocol version.
        mtu: u32,
    },
    /// RFC 7915 section 5.1: a Routing header with segments left, and where that field lies.
    SegmentsLeft {
        /// Offset from the beginning of the packet.
        pointer: u32,
    },
    /// RFC 7915 section 4.1: a source route that is not used up.
    SourceRoute,
    /// RFC 7915 sections 4.2 and 5.2: an ICMP type or code without a counterpart.
    IcmpType,
    /// RFC 7915 section 4.5: a UDP checksum of zero where none can be computed, or where none is allowed.
    UdpChecksum,
    /// ICMP in fragments: its checksum covers the whole in IPv6, and nothing of the kind in IPv4.
    FragmentedIcmp,
    /// RFC 7757 section 3.3: an address has neither an explicit mapping nor one by the prefix.
    Address,
    /// RFC 7915 section 5.1.1: an extension header lies behind the Fragment header, where IPv4 has no place for it.
    FragmentedExtension,
}

/// RFC 7915 sections 4.1 and 5.1: the translator is a router and counts as a hop.
fn decrement(hop_limit: u8) -> Result<u8, Refusal> {
    if hop_limit <= 1 { Err(Refusal::HopLimit) } else { Ok(hop_limit - 1) }
}

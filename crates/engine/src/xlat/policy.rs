//! What an operator decides about translation: the configuration functions that RFC 7915 asks for.
use sixgate_wire::ipv6;

/// Decisions that leave addresses alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// RFC 7915 section 5.1: the TOS octet of what leaves for IPv4; as the Traffic Class says, if none.
    pub tos: Option<u8>,
    /// RFC 7915 section 4.1: the Traffic Class of what leaves for IPv6; as the TOS octet says, if none.
    pub traffic_class: Option<u8>,
    /// RFC 7915 section 4: packets without DF leave for IPv6 in fragments that are not longer. At least 1,280.
    pub lowest_ipv6_mtu: u32,
    /// RFC 7915 section 4.5: what becomes of a datagram from IPv4 that has no checksum.
    pub udp_checksum_zero: ChecksumZero,
    /// Whether the MSS of TCP connections is lowered to what both sides carry.
    pub clamp_mss: bool,
}

/// RFC 7915 section 4.5: the two things to do about a UDP datagram without a checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumZero {
    /// IPv6's checksum is computed; the packet is forwarded.
    #[default]
    Calculate,
    /// The packet is dropped and counted.
    Drop,
}

impl Policy {
    /// What RFC 7915 does unless it is told otherwise.
    pub const DEFAULT: Self = Self {
        tos: None,
        traffic_class: None,
        lowest_ipv6_mtu: ipv6::MINIMUM_MTU,
        udp_checksum_zero: ChecksumZero::Calculate,
        clamp_mss: true,
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

//! Neighbor Discovery messages (RFC 4861): validated once at the door, then read without failing.
//!
//! The ICMPv6 checksum is not looked at: what a raw ICMPv6 socket delivers has passed the kernel's check (RFC 3542
//! section 3.1), and what is sent through one gets its checksum there.
mod emit;
mod option;

use core::fmt;
use core::net::Ipv6Addr;

pub use emit::{EmitError, Writer};
pub use option::{
    Addresses, DomainName, DomainNames, EncryptedDns, Labels, NdpOption, Options, Pref64, PrefixInformation,
    RouteInformation,
};

/// ICMPv6 type of a Router Solicitation.
pub const ROUTER_SOLICITATION: u8 = 133;
/// ICMPv6 type of a Router Advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// ICMPv6 type of a Neighbor Solicitation.
pub const NEIGHBOR_SOLICITATION: u8 = 135;
/// ICMPv6 type of a Neighbor Advertisement.
pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// The only hop limit that a valid message arrives with; a router in between would have lowered it.
pub const HOP_LIMIT: u8 = 255;
/// The all-nodes multicast address on a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The all-routers multicast address on a link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// A valid message with its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A host asks for advertisements (section 4.1).
    RouterSolicitation {
        /// Options.
        options: Options<'a>,
    },
    /// A router advertises itself (section 4.2).
    RouterAdvertisement {
        /// The fixed part.
        header: RouterAdvertisement,
        /// Options.
        options: Options<'a>,
    },
    /// A node asks for a link-layer address (section 4.3).
    NeighborSolicitation {
        /// The address asked for.
        target: Ipv6Addr,
        /// Options.
        options: Options<'a>,
    },
    /// A node answers for an address (section 4.4).
    NeighborAdvertisement {
        /// The fixed part.
        header: NeighborAdvertisement,
        /// Options.
        options: Options<'a>,
    },
}

/// The fixed part of a Router Advertisement (RFC 4861 section 4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterAdvertisement {
    /// Cur Hop Limit; 0 says nothing about it.
    pub cur_hop_limit: u8,
    /// M flag: addresses by DHCPv6.
    pub managed: bool,
    /// O flag: other configuration by DHCPv6.
    pub other: bool,
    /// Default router preference.
    pub preference: Preference,
    /// Router Lifetime in seconds; 0 says "not a default router".
    pub router_lifetime: u16,
    /// Reachable Time in milliseconds; 0 says nothing about it.
    pub reachable_time: u32,
    /// Retrans Timer in milliseconds; 0 says nothing about it.
    pub retrans_timer: u32,
}

/// The fixed part of a Neighbor Advertisement (RFC 4861 section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborAdvertisement {
    /// R flag: the sender is a router.
    pub router: bool,
    /// S flag: sent in response to a solicitation.
    pub solicited: bool,
    /// O flag: an existing cache entry is to be overridden.
    pub overriding: bool,
    /// The address that is answered for.
    pub target: Ipv6Addr,
}

/// Router and route preference (RFC 4191 section 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// 01.
    High,
    /// 00.
    #[default]
    Medium,
    /// 11.
    Low,
}

impl Preference {
    /// From the two bits at 0x18 of a flags byte.
    fn parse(flags: u8) -> Option<Self> {
        match flags >> 3 & 3 {
            0b01 => Some(Self::High),
            0b00 => Some(Self::Medium),
            0b11 => Some(Self::Low),
            _ => None,
        }
    }

    /// The two bits at 0x18 of a flags byte.
    fn bits(self) -> u8 {
        match self {
            Self::High => 0b01 << 3,
            Self::Medium => 0,
            Self::Low => 0b11 << 3,
        }
    }
}

/// How a message arrived, which decides on its validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// IPv6 source address.
    pub source: Ipv6Addr,
    /// IPv6 destination address.
    pub destination: Ipv6Addr,
    /// IPv6 hop limit.
    pub hop_limit: u8,
}

/// Why a message is dropped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParseError {
    /// The hop limit is not 255.
    HopLimit,
    /// The ICMPv6 type is none of Neighbor Discovery's four.
    Type,
    /// The ICMPv6 code is not 0.
    Code,
    /// The message is shorter than its fixed part.
    Length,
    /// An option has length 0 or goes beyond the end.
    OptionLength,
    /// The source address is not one that may send this.
    Source,
    /// The target is a multicast address.
    Target,
    /// An unspecified source carries a link-layer address, or sends to an address that is not solicited-node multicast.
    Unspecified,
    /// A multicast advertisement claims to be solicited.
    Solicited,
}

impl ParseError {
    /// Stable kebab-case name, for counters and the console.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HopLimit => "ndp-hop-limit",
            Self::Type => "ndp-type",
            Self::Code => "ndp-code",
            Self::Length => "ndp-length",
            Self::OptionLength => "ndp-option-length",
            Self::Source => "ndp-source",
            Self::Target => "ndp-target",
            Self::Unspecified => "ndp-unspecified-source",
            Self::Solicited => "ndp-solicited-flag",
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::HopLimit => "the hop limit is not 255, so the message did not come from this link",
            Self::Type => "the ICMPv6 type does not belong to Neighbor Discovery",
            Self::Code => "the ICMPv6 code is not 0",
            Self::Length => "the message is shorter than its fixed part",
            Self::OptionLength => "an option has length 0 or goes beyond the end",
            Self::Source => "the source address is not one that may send this",
            Self::Target => "the target is a multicast address",
            Self::Unspecified => "the source address is unspecified where that is not allowed",
            Self::Solicited => "a multicast advertisement claims to be solicited",
        })
    }
}

impl core::error::Error for ParseError {}

impl<'a> Message<'a> {
    /// Parses an ICMPv6 message, `bytes` beginning with its type.
    ///
    /// # Errors
    /// The first validity check of RFC 4861 sections 6.1.1, 6.1.2, 7.1.1 or 7.1.2 that fails.
    pub fn parse(bytes: &'a [u8], delivery: &Delivery) -> Result<Self, ParseError> {
        let (&[kind, code, _, _], body) = bytes.split_first_chunk::<4>().ok_or(ParseError::Length)?;
        if !(ROUTER_SOLICITATION..=NEIGHBOR_ADVERTISEMENT).contains(&kind) {
            return Err(ParseError::Type);
        }
        if delivery.hop_limit != HOP_LIMIT {
            return Err(ParseError::HopLimit);
        }
        if code != 0 {
            return Err(ParseError::Code);
        }
        match kind {
            ROUTER_SOLICITATION => router_solicitation(body, delivery),
            ROUTER_ADVERTISEMENT => router_advertisement(body, delivery),
            NEIGHBOR_SOLICITATION => neighbor_solicitation(body, delivery),
            _ => neighbor_advertisement(body, delivery),
        }
    }

    /// The options.
    pub fn options(&self) -> Options<'a> {
        match *self {
            Self::RouterSolicitation { options }
            | Self::RouterAdvertisement { options, .. }
            | Self::NeighborSolicitation { options, .. }
            | Self::NeighborAdvertisement { options, .. } => options,
        }
    }
}

fn router_solicitation<'a>(body: &'a [u8], delivery: &Delivery) -> Result<Message<'a>, ParseError> {
    let (_reserved, options) = body.split_first_chunk::<4>().ok_or(ParseError::Length)?;
    let options = Options::parse(options)?;
    // RFC 4861 section 6.1.1: without a source address there is nobody the link-layer address could belong to.
    if delivery.source.is_unspecified() && options.has_source_link_layer() {
        return Err(ParseError::Unspecified);
    }
    Ok(Message::RouterSolicitation { options })
}

fn router_advertisement<'a>(body: &'a [u8], delivery: &Delivery) -> Result<Message<'a>, ParseError> {
    let (&fixed, options) = body.split_first_chunk::<12>().ok_or(ParseError::Length)?;
    // RFC 4861 section 6.1.2: routers use their link-local address, so that hosts can tell them apart.
    if !delivery.source.is_unicast_link_local() {
        return Err(ParseError::Source);
    }
    let [cur_hop_limit, flags, lifetime_high, lifetime_low, r0, r1, r2, r3, t0, t1, t2, t3] = fixed;
    let router_lifetime = u16::from_be_bytes([lifetime_high, lifetime_low]);
    let header = RouterAdvertisement {
        cur_hop_limit,
        managed: flags & 0x80 != 0,
        other: flags & 0x40 != 0,
        // RFC 4191 section 2.2: the reserved value is treated as medium.
        preference: Preference::parse(flags).unwrap_or_default(),
        router_lifetime,
        reachable_time: u32::from_be_bytes([r0, r1, r2, r3]),
        retrans_timer: u32::from_be_bytes([t0, t1, t2, t3]),
    };
    Ok(Message::RouterAdvertisement { header, options: Options::parse(options)? })
}

fn neighbor_solicitation<'a>(body: &'a [u8], delivery: &Delivery) -> Result<Message<'a>, ParseError> {
    let (_reserved, rest) = body.split_first_chunk::<4>().ok_or(ParseError::Length)?;
    let (target, options) = parse_target(rest)?;
    let options = Options::parse(options)?;
    // RFC 4861 section 7.1.1: duplicate address detection names nobody and asks the solicited-node group.
    if delivery.source.is_unspecified() && (options.has_source_link_layer() || !is_solicited_node(delivery.destination))
    {
        return Err(ParseError::Unspecified);
    }
    Ok(Message::NeighborSolicitation { target, options })
}

fn neighbor_advertisement<'a>(body: &'a [u8], delivery: &Delivery) -> Result<Message<'a>, ParseError> {
    let (&[flags, _, _, _], rest) = body.split_first_chunk::<4>().ok_or(ParseError::Length)?;
    let (target, options) = parse_target(rest)?;
    let header = NeighborAdvertisement {
        router: flags & 0x80 != 0,
        solicited: flags & 0x40 != 0,
        overriding: flags & 0x20 != 0,
        target,
    };
    // RFC 4861 section 7.1.2: an answer to one asker is sent to that asker.
    if delivery.destination.is_multicast() && header.solicited {
        return Err(ParseError::Solicited);
    }
    Ok(Message::NeighborAdvertisement { header, options: Options::parse(options)? })
}

fn parse_target(rest: &[u8]) -> Result<(Ipv6Addr, &[u8]), ParseError> {
    let (target, options) = rest.split_first_chunk::<16>().ok_or(ParseError::Length)?;
    let target = Ipv6Addr::from(*target);
    if target.is_multicast() { Err(ParseError::Target) } else { Ok((target, options)) }
}

/// RFC 4291 section 2.7.1: the multicast group that an owner of `address` has joined.
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

fn is_solicited_node(address: Ipv6Addr) -> bool {
    solicited_node(address) == address
}

#[cfg(test)]
mod tests;

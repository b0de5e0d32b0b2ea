//! What the uplink has told, as a value: the plan is computed from it like from the kernel's facts.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::time::Instant;

/// Everything that is learnt or generated rather than configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    /// The uplink's IPv4 address by DHCPv4.
    pub ipv4: Option<Lease4>,
    /// IPv6 on the uplink itself.
    pub ipv6: Uplink6,
    /// Prefixes for the LANs by delegation, those in use before those that are retired.
    pub delegated: Vec<LearntPrefix>,
    /// RFC 4193: the site's own /48.
    pub ula: Option<Ipv6Net>,
    /// Resolvers that the uplink names, IPv6 first.
    pub resolvers: Vec<IpAddr>,
    /// Time servers that the uplink names.
    pub time_servers: Vec<IpAddr>,
}

/// An address by DHCPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease4 {
    /// Address with prefix length, host bits kept.
    pub address: Ipv4Net,
    /// Next hop of the default route.
    pub gateway: Option<Ipv4Addr>,
    /// RFC 3442: further routes; without a next hop the destination is on the link.
    pub routes: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
}

/// IPv6 on the uplink: from router advertisements and DHCPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplink6 {
    /// The default router, a link-local address.
    pub router: Option<Ipv6Addr>,
    /// Addresses that the router has made or was given.
    pub addresses: Vec<LearntAddress>,
    /// On-link prefixes, and RFC 4191's routes with their next hop.
    pub routes: Vec<(Ipv6Net, Option<Ipv6Addr>)>,
    /// MTU of the link.
    pub mtu: Option<u32>,
    /// Prefixes for SLAAC there, where a LAN is to have them as well; those in use before those that are deprecated.
    pub prefixes: Vec<LearntPrefix>,
}

/// An address on the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearntAddress {
    /// Address with prefix length; 128 where the prefix is not on-link.
    pub net: Ipv6Net,
    /// RFC 4862 section 5.5.4: it is valid, and no new communication begins with it.
    pub deprecated: bool,
}

/// A prefix with its lifetimes. A lifetime that is infinite has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LearntPrefix {
    /// The prefix.
    pub prefix: Ipv6Net,
    /// When hosts stop to prefer it.
    pub preferred_until: Option<Instant>,
    /// When it ends.
    pub valid_until: Option<Instant>,
    /// RFC 9096: it is told to hosts as deprecated until it ends.
    pub retired: bool,
}

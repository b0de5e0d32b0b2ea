//! What is validated, and where.
use core::net::Ipv6Addr;

use ipnet::Ipv6Net;
use sixgate_wire::mac::MacAddr;

/// What is validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaviPlan {
    /// The links.
    pub links: Vec<SaviLink>,
}

/// A link whose hosts are told apart by their hardware addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaviLink {
    /// Name of the LAN.
    pub lan: String,
    /// Kernel interface index.
    pub link: u32,
    /// Kernel interface name.
    pub interface: String,
    /// The router's link-local address there: source of solicitations.
    pub source: Ipv6Addr,
    /// The router's hardware address there.
    pub mac: MacAddr,
    /// The router's own addresses there; nobody else has them.
    pub own: Vec<Ipv6Addr>,
    /// Prefixes of hosts on the link, each of which has to be discovered.
    pub on_link: Vec<Ipv6Net>,
    /// Prefixes behind a host on the link.
    pub routed: Vec<Routed>,
    /// VMs that are known by name.
    pub vms: Vec<Watched>,
}

/// A prefix that one host sends from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The prefix.
    pub net: Ipv6Net,
    /// Whose it is.
    pub by: By,
}

/// A host on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The one with this hardware address.
    Mac(MacAddr),
    /// The one that has this address.
    Address(Ipv6Addr),
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its name.
    pub name: String,
    /// Its hardware address, where that is configured.
    pub mac: Option<MacAddr>,
    /// Its own address, where that is configured.
    pub address: Option<Ipv6Addr>,
}

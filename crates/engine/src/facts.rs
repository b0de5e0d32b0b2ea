//! What the kernel says about itself, read whole (an event only means "read again"), and what the uplink has told.
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
pub use sixgate_wire::mac::MacAddr;

/// Everything that [`crate::plan::plan`] needs to know about the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// All links, sorted by index.
    pub links: Vec<Link>,
    /// All addresses on them, sorted.
    pub addresses: Vec<Address>,
    /// Whether somebody else's netfilter rules look at packets on their way through the router.
    pub foreign_rules: bool,
    /// Bytes of memory in the machine.
    pub memory: u64,
    /// Whether it is for this network namespace to say how many connections are tracked: the machine's first one says so.
    pub sizes_conntrack: bool,
    /// What discovery shows of VMs that are configured by their hardware address.
    pub discovered: Vec<Discovered>,
    /// What the uplink has told.
    pub learnt: crate::prefix::Learnt,
}

/// A link-local address that a host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// Kernel interface index.
    pub link: u32,
    /// Hardware address of the host.
    pub mac: MacAddr,
    /// Its address.
    pub address: core::net::Ipv6Addr,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel interface index.
    pub index: u32,
    /// Kernel name, e.g. `eth0`.
    pub name: String,
    /// Hardware address, absent on a TUN device.
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up (IFF_UP).
    pub up: bool,
    /// Carrier present (IFF_LOWER_UP).
    pub carrier: bool,
}

/// An address as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Index of the link that holds it.
    pub link: u32,
    /// Address with its prefix length; host bits are kept.
    pub net: IpNet,
    /// Duplicate address detection state.
    pub state: AddressState,
    /// Whether sixgate put it there (IFA_PROTO is [`crate::plan::ROUTE_PROTOCOL`]).
    pub ours: bool,
}

/// RFC 4862 section 2: where an address stands in duplicate address detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressState {
    /// Usable.
    Ready,
    /// Duplicate address detection is under way.
    Tentative,
    /// Somebody else has it.
    Duplicate,
}

impl Facts {
    /// The link of that name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The link's IPv6 link-local address, if it has one.
    pub fn link_local(&self, link: u32) -> Option<core::net::Ipv6Addr> {
        self.addresses.iter().find_map(|address| match address.net {
            IpNet::V6(net) if address.link == link && net.addr().is_unicast_link_local() => Some(net.addr()),
            IpNet::V6(_) | IpNet::V4(_) => None,
        })
    }
}

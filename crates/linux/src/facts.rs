//! Reads what the kernel holds: links, addresses, gateways, neighbours, counters.
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use sixgate_engine::facts::{Address, AddressState, Facts, Link, MacAddr};
use sixgate_engine::plan::ROUTE_PROTOCOL;
use sixgate_engine::status::Traffic;

use crate::netlink::{Netlink, NetlinkError};

/// Ticks of a second in what the kernel tells of neighbours; the same on every machine.
const USER_HZ: u64 = 100;

/// Packets and bytes of one link, since it came into being.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Received.
    pub received: Traffic,
    /// Sent.
    pub sent: Traffic,
}

/// An entry of the neighbour cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// Kernel interface index.
    pub link: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address, once resolved.
    pub mac: Option<MacAddr>,
    /// Whether the cache holds it as reachable, stale, delay, probe or permanent.
    pub seen: bool,
    /// Seconds since it was last confirmed that it is there; absent where that is not asked.
    pub confirmed: Option<u64>,
}

impl Netlink {
    /// Reads links and addresses whole, sorted.
    ///
    /// # Errors
    /// The kernel refused a dump, or the connection is gone.
    pub async fn read_facts(&self) -> Result<Facts, NetlinkError> {
        let mut links: Vec<Link> = self.link_messages().await?.iter().map(link).collect();
        links.sort_by_key(|link| link.index);
        let mut addresses: Vec<Address> = self.address_messages().await?.iter().filter_map(address).collect();
        addresses.sort();
        let memory = crate::system::memory();
        let sizes_conntrack = crate::conntrack::is_sized_here();
        Ok(Facts { links, addresses, memory, sizes_conntrack, ..Facts::default() })
    }

    /// Packets and bytes of every link, by kernel interface index.
    ///
    /// # Errors
    /// The kernel refused the dump, or the connection is gone.
    pub async fn interface_counters(&self) -> Result<BTreeMap<u32, Counters>, NetlinkError> {
        let counters = |message: &LinkMessage| {
            message.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Stats64(stats) => Some(Counters {
                    received: Traffic { packets: stats.rx_packets, bytes: stats.rx_bytes },
                    sent: Traffic { packets: stats.tx_packets, bytes: stats.tx_bytes },
                }),
                _ => None,
            })
        };
        let messages = self.link_messages().await?;
        Ok(messages.iter().filter_map(|message| Some((message.header.index, counters(message)?))).collect())
    }

    /// The neighbour cache, sorted.
    ///
    /// # Errors
    /// The kernel refused the dump, or the connection is gone.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, NetlinkError> {
        let messages = self.dump(|handle| handle.neighbours().get().execute()).await?;
        let mut neighbours: Vec<Neighbour> = messages.iter().filter_map(neighbour).collect();
        neighbours.sort();
        Ok(neighbours)
    }

    pub(crate) async fn link_messages(&self) -> Result<Vec<LinkMessage>, NetlinkError> {
        self.dump(|handle| handle.link().get().execute()).await
    }

    pub(crate) async fn address_messages(&self) -> Result<Vec<AddressMessage>, NetlinkError> {
        self.dump(|handle| handle.address().get().execute()).await
    }
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) if message.header.link_layer_type == LinkLayerType::Ether => {
                link.mac = mac(bytes);
            }
            _ => {}
        }
    }
    link
}

fn mac(bytes: &[u8]) -> Option<MacAddr> {
    bytes.try_into().ok().map(MacAddr)
}

/// The address with its prefix length. IFA_ADDRESS is the peer's on a point-to-point IPv4 link, IFA_LOCAL is ours.
pub(crate) fn address_net(message: &AddressMessage) -> Option<IpNet> {
    let mut local = None;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    IpNet::new(local.or(address)?, message.header.prefix_len).ok()
}

pub(crate) fn address_is_ours(message: &AddressMessage) -> bool {
    message.attributes.contains(&AddressAttribute::Protocol(AddressProtocol::Other(ROUTE_PROTOCOL)))
}

fn address(message: &AddressMessage) -> Option<Address> {
    let flags = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Flags(flags) => Some(*flags),
            _ => None,
        })
        .unwrap_or_else(|| AddressFlags::from_bits_retain(message.header.flags.bits().into()));
    let state = if flags.contains(AddressFlags::Dadfailed) {
        AddressState::Duplicate
    } else if flags.contains(AddressFlags::Tentative) {
        AddressState::Tentative
    } else {
        AddressState::Ready
    };
    Some(Address { link: message.header.index, net: address_net(message)?, state, ours: address_is_ours(message) })
}

fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    if !matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let mut address = None;
    let mut hardware = None;
    let mut confirmed = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::CacheInfo(info) => confirmed = Some(u64::from(info.confirmed) / USER_HZ),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::V4(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::V6(*ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => hardware = mac(bytes),
            _ => {}
        }
    }
    // Entries for groups are made by whoever sends to them: nobody has such an address.
    if hardware.is_some_and(|MacAddr(mac)| mac[0] & 1 == 1) {
        return None;
    }
    let seen = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    // An entry that nobody has answered for counts from its making.
    let confirmed = confirmed.filter(|_| seen && message.header.state != NeighbourState::Permanent);
    Some(Neighbour { link: message.header.ifindex, address: address?, mac: hardware, seen, confirmed })
}

//! Where the router's own services listen: on its addresses on the LANs, never on the uplink.
use core::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::topology::{LanLink, Topology};
use crate::facts::AddressState;

/// Where metrics are served; nowhere unless configured.
pub(super) fn metrics(topology: &Topology<'_>) -> Vec<SocketAddr> {
    let Some(metrics) = &topology.config.metrics else { return Vec::new() };
    let lan = topology.lans.iter().find(|lan| lan.lan.name == metrics.lan);
    lan.map_or_else(Vec::new, |lan| addresses(topology, lan, metrics.port))
}

/// All of the router's addresses on a LAN, the link-local ones with their scope; never those of the uplink.
pub(crate) fn addresses(topology: &Topology<'_>, lan: &LanLink<'_>, port: u16) -> Vec<SocketAddr> {
    let link = lan.link.index;
    let held = topology.facts.addresses.iter().filter(|held| held.link == link);
    let kernel = held.filter_map(|held| match held.net.addr() {
        IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
        IpAddr::V6(_) | IpAddr::V4(_) => None,
    });
    let mut addresses: Vec<Ipv6Addr> = lan.addresses().map(|net| net.addr()).chain(kernel).collect();
    addresses.sort();
    addresses.dedup();
    addresses
        .into_iter()
        .filter(|address| topology.state(link, (*address).into()) != Some(AddressState::Duplicate))
        .map(|address| {
            let scope = if address.is_unicast_link_local() { link } else { 0 };
            SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope))
        })
        .collect()
}

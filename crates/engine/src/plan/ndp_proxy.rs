//! What the NDP proxy answers for on the uplink: derived from what lies behind the router, with no second list to keep.
use core::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::topology::Topology;
use crate::facts::AddressState;
use crate::ndp_proxy::{Behind, Downstream, NdpProxyPlan};

/// The proxy's part of the plan; nothing where it is switched off or the uplink has no usable link-local address yet.
pub(super) fn plan(topology: &Topology<'_>) -> Option<NdpProxyPlan> {
    let config = topology.config;
    let link = topology.wan.filter(|_| config.wan.ndp_proxy)?;
    // Of prefixes with one length the last one decides: where the same prefix lies on both sides, LANs are asked.
    let uplink = config.wan.ipv6.iter().flat_map(|ipv6| &ipv6.addresses);
    let mut prefixes: Vec<(Ipv6Net, Behind)> = uplink.map(|net| (net.trunc(), Behind::Uplink)).collect();
    let behind: Vec<(Ipv6Net, Behind)> = topology
        .lans
        .iter()
        .flat_map(|lan| {
            let here = Behind::Link(lan.link.index);
            let on_link = lan.addresses().map(move |net| (net.trunc(), here));
            let own = lan.addresses().map(|net| (Ipv6Net::from(net.addr()), Behind::Router));
            let hosts = lan.vms.iter().filter_map(|vm| vm.address).map(move |address| (address.into(), here));
            let routed = lan.vms.iter().flat_map(|vm| vm.containers.iter().map(|net| (*net, Behind::Routed)));
            on_link.chain(hosts).chain(routed).chain(own)
        })
        .filter(|(net, _)| !net.addr().is_unicast_link_local())
        .collect();
    // Static routes into the network; what the links themselves hold is known better.
    let routed = topology.inside().into_iter().filter(|net| !behind.iter().any(|(known, _)| known == net));
    prefixes.extend(routed.map(|net| (net, Behind::Routed)));
    prefixes.extend(behind);
    prefixes.extend(super::npt::outside(topology).map(|net| (net, Behind::Routed)));
    Some(NdpProxyPlan {
        link: link.index,
        interface: link.name.clone(),
        mac: config.wan.present_mac.or(link.mac)?,
        source: link_local(topology, link.index)?,
        prefixes,
        downstream: topology
            .lans
            .iter()
            .filter_map(|lan| {
                Some(Downstream {
                    link: lan.link.index,
                    interface: lan.link.name.clone(),
                    source: link_local(topology, lan.link.index)?,
                    mac: lan.link.mac?,
                })
            })
            .collect(),
    })
}

fn link_local(topology: &Topology<'_>, link: u32) -> Option<Ipv6Addr> {
    let ready = |held: &&crate::facts::Address| held.link == link && held.state == AddressState::Ready;
    topology.facts.addresses.iter().filter(ready).find_map(|held| match held.net.addr() {
        core::net::IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
        core::net::IpAddr::V6(_) | core::net::IpAddr::V4(_) => None,
    })
}

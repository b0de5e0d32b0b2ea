//! Which addresses hosts on the LANs may have, and what is routed to them: source address validation follows the plan of
//! routes, with no second list to keep.
use core::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::topology::{LanLink, Topology};
use crate::config::Via;
use crate::facts::AddressState;
use crate::savi::{By, Routed, SaviLink, SaviPlan, Watched};

/// The links on which sources are validated: those with anti-spoofing that have a usable link-local address.
pub(super) fn plan(topology: &Topology<'_>) -> SaviPlan {
    let lans = topology.lans.iter().filter(|lan| lan.lan.anti_spoofing);
    SaviPlan { links: lans.filter_map(|lan| link(topology, lan)).collect() }
}

fn link(topology: &Topology<'_>, lan: &LanLink<'_>) -> Option<SaviLink> {
    let held = topology.facts.addresses.iter().filter(|held| held.link == lan.link.index);
    let ready = held.filter(|held| held.state == AddressState::Ready).filter_map(|held| match held.net.addr() {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    });
    let source = ready.clone().find(Ipv6Addr::is_unicast_link_local)?;
    let mut own: Vec<Ipv6Addr> = ready.chain(lan.addresses().map(|net| net.addr())).collect();
    own.sort();
    own.dedup();
    let hosts = lan.vms.iter().filter_map(|vm| vm.address).filter(|address| !address.is_unicast_link_local());
    let on_link = lan.addresses().filter(|net| !net.addr().is_unicast_link_local()).map(|net| net.trunc());
    Some(SaviLink {
        lan: lan.lan.name.clone(),
        link: lan.link.index,
        interface: lan.link.name.clone(),
        source,
        mac: lan.link.mac?,
        own,
        on_link: on_link.chain(hosts.map(Ipv6Net::from)).collect(),
        routed: routed(topology, lan),
        vms: lan.vms.iter().map(|vm| Watched { name: vm.name.clone(), mac: vm.mac, address: vm.address }).collect(),
    })
}

/// Containers of the link's VMs, and static routes by a host there.
fn routed(topology: &Topology<'_>, lan: &LanLink<'_>) -> Vec<Routed> {
    let containers = lan.vms.iter().filter_map(|vm| {
        let by = vm.mac.map(By::Mac).or(vm.address.map(By::Address))?;
        Some(vm.containers.iter().map(move |net| Routed { net: *net, by }))
    });
    let routes = topology.config.routes.iter().filter_map(|route| {
        let inside = topology.link_inside(route).is_some_and(|link| link.index == lan.link.index);
        match (route.to, &route.via) {
            (IpNet::V6(net), Via::Gateway(IpAddr::V6(via), _)) if inside => Some(Routed { net, by: By::Address(*via) }),
            _ => None,
        }
    });
    containers.flatten().chain(routes).collect()
}

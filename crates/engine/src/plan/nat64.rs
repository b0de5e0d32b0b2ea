//! The translator's part of the plan, and whether it can work now.
use core::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::topology::Topology;
use super::{ClientPrefix, FastPathPlan, LogPlan, NAT64_DEVICE, Nat64Plan, Obstacle, ShortcutLinks, VmNets, published};
use crate::facts::Link;
use crate::nat64::event::Wanted;

/// What the translator does; nothing when it is switched off.
pub(super) fn plan(topology: &Topology<'_>) -> Option<Nat64Plan> {
    let nat64 = topology.config.nat64.as_ref()?;
    let wan = topology.wan;
    let ipv4 = topology.config.wan.ipv4.as_ref().map(|ipv4| ipv4.address.addr());
    // A link that is still to be brought up says nothing about its carrier.
    let uplink = wan.filter(|link| link.carrier || !link.up).and(ipv4);
    let obstacle = if uplink.is_none() {
        Some(Obstacle::NoIpv4Uplink)
    } else if topology.facts.link(NAT64_DEVICE).is_none() {
        Some(Obstacle::NoDevice)
    } else {
        None
    };
    let mtu_v4 = wan.map_or(1500, |link| topology.config.wan.mtu.unwrap_or(link.mtu));
    let pool4: Vec<Ipv4Addr> = uplink.into_iter().collect();
    // Without the uplink's address there is no way out for the others either.
    let further_pool4 = if pool4.is_empty() { Vec::new() } else { nat64.pool.clone() };
    let (static_bindings, published_echo) = published::plan(topology.config, uplink);
    Some(Nat64Plan {
        pref64: nat64.prefix,
        further_pref64: nat64.further_prefixes.clone(),
        pool4,
        ports: nat64.ports.clone(),
        further_pool4,
        further_ports: nat64.pool_ports.clone(),
        port_block: nat64.port_block,
        never_translate: nat64.never_translate.clone(),
        translate_non_global: nat64.translate_non_global.clone(),
        router_v6: router_v6(topology),
        mtu_v6: topology.lans.iter().map(|lan| lan.mtu()).min().unwrap_or(mtu_v4),
        mtu_v4,
        policy: nat64.policy,
        icmp_errors_per_second: nat64.icmp_errors_per_second,
        filtering: nat64.filtering,
        limits: nat64.limits,
        static_bindings,
        published_echo,
        clients: clients(topology, nat64.limits.prefix_length),
        vms: vms(topology),
        events: match &nat64.log {
            None => Wanted::Nothing,
            Some(log) if log.sessions => Wanted::Sessions,
            Some(_) if nat64.port_block > 0 => Wanted::Blocks,
            Some(_) => Wanted::Bindings,
        },
        log: nat64.log.map(|log| LogPlan { to: log.to, hostname: topology.config.hostname.clone() }),
        timers: nat64.timers,
        max_sessions: nat64.max_sessions,
        shortcut: shortcut(topology).filter(|_| nat64.shortcut && obstacle.is_none()),
        obstacle,
        fast_path: fast_path(topology).filter(|_| nat64.fast_path && !topology.facts.foreign_rules),
    })
}

/// Nothing goes past rules that somebody else wants the packets to meet.
fn shortcut(topology: &Topology<'_>) -> Option<ShortcutLinks> {
    if topology.facts.foreign_rules {
        return None;
    }
    let (device, uplink) = (topology.facts.link(NAT64_DEVICE)?.index, topology.wan?.index);
    Some(ShortcutLinks { device, uplink, lans: topology.lans.iter().map(|lan| lan.link.index).collect() })
}

/// On every LAN and on the uplink. Links without hardware addresses carry no Ethernet frames.
pub(super) fn fast_path(topology: &Topology<'_>) -> Option<FastPathPlan> {
    let is_ethernet = |link: &&Link| link.mac.is_some();
    let uplink = topology.wan.filter(is_ethernet).map(|link| (link.index, link.name.clone()))?;
    let lans = topology.lans.iter().filter(|lan| is_ethernet(&lan.link));
    let clients = lans.clone().flat_map(|lan| {
        let vms = lan.vms.iter().flat_map(|vm| vm.address.map(Ipv6Net::from).into_iter().chain(vm.containers.clone()));
        let on_link = lan.addresses().map(|net| net.trunc());
        on_link.chain(vms).map(|net| (net, lan.link.index)).collect::<Vec<_>>()
    });
    let routed = topology.config.routes.iter().filter_map(|route| match route.to {
        IpNet::V6(net) => Some((net, topology.link_inside(route)?.index)),
        IpNet::V4(_) => None,
    });
    let clients = clients.chain(routed).filter(|(net, _)| !net.addr().is_unicast_link_local()).collect();
    let validated = lans.clone().filter(|lan| lan.lan.anti_spoofing).map(|lan| lan.link.index).collect();
    let lans = lans.map(|lan| (lan.link.index, lan.link.name.clone())).collect();
    let sessions = topology.config.nat64.as_ref().and_then(|nat64| nat64.fast_path_sessions);
    Some(FastPathPlan { uplink, lans, clients, validated, sessions })
}

/// VMs that have an address or a prefix of their own are clients of their own, and so are their containers.
fn clients(topology: &Topology<'_>, prefix_length: u8) -> Vec<ClientPrefix> {
    let vms = &topology.config.vms;
    let addresses = vms.iter().filter_map(|vm| vm.address).map(Ipv6Net::from);
    let gateways = vms.iter().filter_map(|vm| vm.gateway).map(|net| net.trunc());
    let own = addresses.chain(gateways).filter(|net| net.prefix_len() > prefix_length);
    let own = own.map(|net| ClientPrefix { net, each: net.prefix_len() });
    let containers = vms.iter().flat_map(|vm| &vm.containers).map(|net| ClientPrefix { net: *net, each: 128 });
    let mut clients: Vec<ClientPrefix> = own.chain(containers).collect();
    clients.sort_by_key(|client| client.net);
    clients.dedup();
    clients
}

/// VMs of which something is known that no other has.
fn vms(topology: &Topology<'_>) -> Vec<VmNets> {
    let vms = topology.config.vms.iter().map(|vm| {
        let own = vm.address.map(Ipv6Net::from).into_iter().chain(vm.gateway.map(|net| net.trunc()));
        VmNets { name: vm.name.clone(), nets: own.chain(vm.containers.iter().copied()).collect() }
    });
    vms.filter(|vm| !vm.nets.is_empty()).collect()
}

/// A routable address of the router: on a LAN, as some VM's gateway, else on the uplink.
fn router_v6(topology: &Topology<'_>) -> Option<Ipv6Addr> {
    let lans = topology.lans.iter().flat_map(|lan| lan.addresses());
    let wan = topology.wan.and(topology.config.wan.ipv6.as_ref()).into_iter().flat_map(|ipv6| &ipv6.addresses).copied();
    lans.chain(wan).map(|net| net.addr()).find(|address| !address.is_unicast_link_local())
}

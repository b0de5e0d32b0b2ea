//! Links, addresses, rules: what rtnetlink is to make true.
use core::net::IpAddr;

use ipnet::IpNet;

use super::topology::{LanLink, Topology, wan_nets};
use super::{
    AddressPlan, Family, LOCAL_RULE_PREFERENCE, LOCAL_TABLE, LinkPlan, NAT64_DEVICE, NAT64_MARK, NAT64_MARK_MASK,
    NAT64_RULE_PREFERENCE, NAT64_TABLE, Nat64Plan, NetworkPlan, RulePlan, routes, sysctl,
};

/// The network's part of the plan.
pub(super) fn plan(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> NetworkPlan {
    NetworkPlan {
        links: links(topology, nat64),
        addresses: addresses(topology, nat64),
        routes: routes::plan(topology, nat64),
        rules: nat64.map_or_else(Vec::new, |_| rules()),
        sysctls: sysctl::plan(topology, nat64),
    }
}

fn links(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Vec<LinkPlan> {
    let wan = topology.wan.map(|link| (link, topology.config.wan.mtu));
    let lans = topology.lans.iter().map(|lan| (lan.link, lan.lan.mtu));
    let mut links: Vec<LinkPlan> = wan
        .into_iter()
        .chain(lans)
        .map(|(link, mtu)| LinkPlan { index: link.index, name: link.name.clone(), mtu, mac: None })
        .collect();
    if let (Some(_), Some(first)) = (topology.wan, links.first_mut()) {
        first.mac = topology.config.wan.present_mac;
    }
    if let (Some(_), Some(tun)) = (nat64, topology.facts.link(NAT64_DEVICE)) {
        // Everything that comes in by a link fits; what does not fit on the other side is the translator's to answer.
        let wan = topology.wan.map(|link| topology.config.wan.mtu.unwrap_or(link.mtu));
        let widest = topology.lans.iter().map(|lan| lan.mtu()).chain(wan).max().unwrap_or(1500).clamp(1500, 65_535);
        links.push(LinkPlan { index: tun.index, name: tun.name.clone(), mtu: Some(widest), mac: None });
    }
    links
}

fn addresses(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Vec<AddressPlan> {
    let wan = topology.wan.into_iter().flat_map(|link| wan_nets(topology.config).map(move |net| (link.index, net)));
    // Each alone: the translator's further addresses need neighbors that ask for them, but make nothing on-link.
    let pool = nat64.iter().flat_map(|nat64| &nat64.further_pool4).map(|address| IpNet::from(IpAddr::V4(*address)));
    let pool = topology.wan.into_iter().flat_map(|link| pool.clone().map(move |net| (link.index, net)));
    let lans = topology.lans.iter().flat_map(|lan| lan.addresses().map(move |net| (lan.link.index, IpNet::V6(net))));
    let ipv4 = |lan: &LanLink<'_>| Some((lan.link.index, IpNet::V4(lan.lan.ipv4?)));
    let lans = lans.chain(topology.lans.iter().filter_map(ipv4));
    let retired = topology.config.lans.iter().flat_map(|lan| &lan.lifetimes).filter(|lifetime| lifetime.retired);
    let retired: Vec<_> = retired.map(|lifetime| lifetime.prefix).collect();
    let wan_deprecated = topology.config.wan.ipv6.iter().flat_map(|ipv6| &ipv6.deprecated);
    let deprecated: Vec<IpNet> = wan_deprecated.map(|net| IpNet::V6(*net)).collect();
    let is_deprecated =
        |net: &IpNet| deprecated.contains(net) || matches!(net, IpNet::V6(net) if retired.contains(&net.trunc()));
    wan.chain(pool).chain(lans).map(|(link, net)| AddressPlan { link, net, deprecated: is_deprecated(&net) }).collect()
}

/// NAT64's share of the uplink's address goes to the translator before the local table claims it.
fn rules() -> Vec<RulePlan> {
    vec![
        RulePlan {
            family: Family::V4,
            preference: NAT64_RULE_PREFERENCE,
            fwmark: Some((NAT64_MARK, NAT64_MARK_MASK)),
            table: NAT64_TABLE,
        },
        RulePlan { family: Family::V4, preference: LOCAL_RULE_PREFERENCE, fwmark: None, table: LOCAL_TABLE },
    ]
}

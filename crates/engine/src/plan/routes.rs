//! Routes: default routes, container prefixes, static routes, the translator, and what is unreachable behind them.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::topology::{LanLink, Topology, next_hop};
use super::{MAIN_TABLE, NAT64_DEVICE, NAT64_TABLE, Nat64Plan, NextHop, ROUTE_METRIC, RoutePlan, UNREACHABLE_METRIC};
use crate::config::{Route, Via};

const DEFAULT_V4: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
const DEFAULT_V6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));

/// All routes. A host route stands before the routes that use its address as next hop.
pub(super) fn plan(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Vec<RoutePlan> {
    let mut routes = defaults(topology);
    for lan in &topology.lans {
        routes.extend(hosts(lan));
        routes.extend(containers(topology, lan));
    }
    routes.extend(topology.config.routes.iter().filter_map(|route| fixed(topology, route)));
    routes.extend(translator(topology, nat64));
    routes.extend(fallbacks(topology, nat64));
    own_source(topology, nat64, &mut routes);
    routes
}

/// Where the uplink holds further addresses of the translator, the router's own traffic keeps to the address on which it
/// has ports of its own.
fn own_source(topology: &Topology<'_>, nat64: Option<&Nat64Plan>, routes: &mut [RoutePlan]) {
    let shared = nat64.filter(|nat64| !nat64.further_pool4.is_empty()).and_then(|nat64| nat64.pool4.first());
    let (Some(shared), Some(wan)) = (shared, topology.wan) else { return };
    for route in routes.iter_mut().filter(|route| route.to.addr().is_ipv4() && route.table == MAIN_TABLE) {
        let by = match route.next {
            NextHop::Gateway { link, .. } | NextHop::Link { link } => Some(link),
            NextHop::Unreachable => None,
        };
        if by == Some(wan.index) {
            route.source = Some(IpAddr::V4(*shared));
        }
    }
}

fn main_route(to: IpNet, next: NextHop) -> RoutePlan {
    RoutePlan { to, next, table: MAIN_TABLE, metric: ROUTE_METRIC, source: None, mtu: None }
}

/// Default routes by the uplink. The gateway may be link-local or lie outside the prefix: providers do both.
fn defaults(topology: &Topology<'_>) -> Vec<RoutePlan> {
    let Some(link) = topology.wan.map(|link| link.index) else { return Vec::new() };
    let wan = &topology.config.wan;
    let ipv4 = wan.ipv4.as_ref().and_then(|ipv4| {
        let via = ipv4.gateway?;
        Some((DEFAULT_V4, NextHop::Gateway { link, via: via.into(), onlink: !ipv4.address.contains(&via) }))
    });
    let learnt = wan.ipv4.iter().flat_map(|ipv4| {
        ipv4.routes.iter().map(move |(to, via)| {
            let next = via.map_or(NextHop::Link { link }, |via| NextHop::Gateway {
                link,
                via: via.into(),
                onlink: !ipv4.address.contains(&via),
            });
            (IpNet::V4(*to), next)
        })
    });
    let ipv6 = wan.ipv6.as_ref().and_then(|ipv6| {
        let via = ipv6.gateway?;
        let onlink = !via.is_unicast_link_local() && !ipv6.addresses.iter().any(|net| net.contains(&via));
        Some((DEFAULT_V6, NextHop::Gateway { link, via: via.into(), onlink }))
    });
    // The kernel has the on-link route of each address already.
    let learnt6 = wan.ipv6.iter().flat_map(|ipv6| {
        let held = |to: &Ipv6Net| ipv6.addresses.iter().any(|net| net.trunc() == *to);
        ipv6.routes.iter().filter(move |(to, via)| via.is_some() || !held(to)).map(move |(to, via)| {
            let gateway = |via: Ipv6Addr| NextHop::Gateway { link, via: via.into(), onlink: false };
            (IpNet::V6(*to), via.map_or(NextHop::Link { link }, gateway))
        })
    });
    ipv4.into_iter().chain(learnt).chain(ipv6).chain(learnt6).map(|(to, next)| main_route(to, next)).collect()
}

/// A VM whose address lies in no prefix of its link gets a host route.
fn hosts(lan: &LanLink<'_>) -> Vec<RoutePlan> {
    lan.vms
        .iter()
        .filter_map(|vm| vm.address)
        .filter(|address| !address.is_unicast_link_local())
        .filter(|address| !lan.addresses().any(|net| net.contains(address)))
        .map(|address| main_route(IpNet::from(IpAddr::V6(address)), NextHop::Link { link: lan.link.index }))
        .collect()
}

fn containers(topology: &Topology<'_>, lan: &LanLink<'_>) -> Vec<RoutePlan> {
    let discovered = &topology.facts.discovered;
    let routed = lan.vms.iter().filter_map(|vm| Some((vm, next_hop(vm, lan.link.index, discovered)?)));
    routed
        .flat_map(|(vm, via)| {
            let next = NextHop::Gateway { link: lan.link.index, via: via.into(), onlink: false };
            vm.containers.iter().map(move |net| main_route(IpNet::V6(*net), next.clone()))
        })
        .collect()
}

/// A static route; nothing while its link is missing.
fn fixed(topology: &Topology<'_>, route: &Route) -> Option<RoutePlan> {
    let next = match &route.via {
        Via::Unreachable => NextHop::Unreachable,
        Via::Gateway(via, word) => {
            let towards = topology.link_to(*via);
            let link = match word {
                Some(word) => topology.link_named(word)?,
                None => towards?,
            };
            let link_local = matches!(via, IpAddr::V6(via) if via.is_unicast_link_local());
            let onlink = !link_local && towards.is_none_or(|towards| towards.index != link.index);
            NextHop::Gateway { link: link.index, via: *via, onlink }
        }
    };
    Some(main_route(route.to, next))
}

/// Pref64::/n and NAT64's share of the IPv4 address go to the TUN device, once it is there and can work.
fn translator(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Vec<RoutePlan> {
    let Some(nat64) = nat64.filter(|nat64| nat64.obstacle.is_none()) else { return Vec::new() };
    let Some(tun) = topology.facts.link(NAT64_DEVICE) else { return Vec::new() };
    let next = NextHop::Link { link: tun.index };
    let share = RoutePlan {
        to: DEFAULT_V4,
        next: next.clone(),
        table: NAT64_TABLE,
        metric: ROUTE_METRIC,
        source: None,
        mtu: None,
    };
    nat64.prefixes().map(|pref64| main_route(IpNet::V6(pref64), next.clone())).chain([share]).collect()
}

/// Unreachable routes behind the translator, the containers, the LANs and all that is delegated to this site, used or not (RFC
/// 7084 WPD-5): once the real route is gone, packets are
/// answered with an error and do not wander back to the uplink.
fn fallbacks(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Vec<RoutePlan> {
    let config = topology.config;
    let lans = config.lans.iter().flat_map(|lan| lan.addresses.iter().copied());
    let mut nets: Vec<Ipv6Net> = lans
        .chain(config.vms.iter().filter_map(|vm| vm.gateway))
        .chain(config.vms.iter().flat_map(|vm| vm.containers.iter().copied()))
        .filter(|net| !net.addr().is_unicast_link_local())
        .map(|net| net.trunc())
        .chain(super::npt::outside(topology))
        .chain(nat64.into_iter().flat_map(Nat64Plan::prefixes))
        .chain(topology.facts.learnt.delegated.iter().map(|delegated| delegated.prefix))
        .chain(topology.facts.learnt.ula)
        .collect();
    nets.sort();
    nets.dedup();
    nets.into_iter()
        .map(|net| RoutePlan {
            to: IpNet::V6(net),
            next: NextHop::Unreachable,
            table: MAIN_TABLE,
            metric: UNREACHABLE_METRIC,
            source: None,
            mtu: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::prefix::{Learnt, LearntPrefix};

    const FILE: &str = r#"
        [wan]
        interface = "w"
        ipv6 = "dhcpv6-pd"
        [[lan]]
        name = "lan"
        interface = "l"
        prefix = { delegated = "wan", subnet = 2 }
    "#;

    #[test]
    fn what_is_delegated_and_not_used_ends_here() {
        let config = crate::config::parse(FILE, "file").unwrap();
        let prefix = "2001:db8:1::/56".parse().unwrap();
        let delegated = LearntPrefix { prefix, preferred_until: None, valid_until: None, retired: false };
        let mut facts = crate::plan::preview_facts(&config);
        facts.learnt = Learnt { delegated: vec![delegated], ..Learnt::default() };
        let routes = crate::plan::plan(&config, &facts).network.routes;
        let unreachable = |net: &str| {
            let to = net.parse().unwrap();
            routes.iter().any(|route| route.to == to && route.next == super::NextHop::Unreachable)
        };
        assert!(unreachable("2001:db8:1::/56"), "all of it (RFC 7084 WPD-5)");
        assert!(unreachable("2001:db8:1:2::/64"), "what is used, for when its link is gone");
    }
}

//! What hosts on LANs are told by DHCPv6: the same as by advertisements, and time servers.
use core::net::{IpAddr, Ipv6Addr};

use sixgate_wire::rfc6052::Pref64;

use super::topology::{LanLink, Topology};
use super::{Nat64Plan, ra};
use crate::config::Dhcpv6Service;
use crate::dhcp::stateless::StatelessPlan;

/// The LANs that are served and have a usable link-local address.
pub(super) fn plan(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Vec<StatelessPlan> {
    let served = topology.lans.iter().filter(|lan| lan.lan.dhcpv6 == Some(Dhcpv6Service::Stateless));
    served.filter_map(|lan| link(topology, lan, nat64)).collect()
}

fn link(topology: &Topology<'_>, lan: &LanLink<'_>, nat64: Option<&Nat64Plan>) -> Option<StatelessPlan> {
    let source = ra::source(topology, lan)?;
    let dns = &topology.config.dns64;
    Some(StatelessPlan {
        lan: lan.lan.name.clone(),
        link: lan.link.index,
        interface: lan.link.name.clone(),
        mac: lan.link.mac?,
        resolvers: ra::rdnss(topology, lan, source),
        domains: if dns.enabled { dns.search.clone() } else { Vec::new() },
        time_servers: time_servers(topology, nat64),
    })
}

/// Those of the file, else those that the uplink names; what has IPv4 only is reached by the translator.
fn time_servers(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Vec<Ipv6Addr> {
    let given = topology.config.time.iter().flat_map(|time| time.servers.iter().copied());
    let mut servers: Vec<IpAddr> = given.collect();
    if servers.is_empty() {
        servers.clone_from(&topology.facts.learnt.time_servers);
    }
    let pref64 = nat64.filter(|nat64| nat64.obstacle.is_none());
    let pref64 = pref64.and_then(|nat64| Pref64::new(nat64.pref64.network(), nat64.pref64.prefix_len()).ok());
    let reached = |server| match server {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(address) => pref64.map(|pref64| pref64.embed(address)),
    };
    servers.into_iter().filter_map(reached).collect()
}

//! The resolver's part of the plan.
use core::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use sixgate_wire::rfc6052::Pref64;

use super::topology::{LanLink, Topology};
use super::{Dns64Plan, Nat64Plan};
use crate::facts::AddressState;

const PORT: u16 = 53;

/// What the resolver does; the default, which listens nowhere, when it is switched off.
pub(super) fn plan(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Dns64Plan {
    let config = &topology.config.dns64;
    if !config.enabled {
        return Dns64Plan::default();
    }
    Dns64Plan {
        listen: topology.lans.iter().flat_map(|lan| listen(topology, lan)).collect(),
        upstream: config.upstream.clone(),
        synthesis: nat64.filter(|nat64| nat64.obstacle.is_none()).map(|nat64| nat64.pref64),
        // RFC 6052 section 3.1: the Well-Known Prefix knows no exemptions, whatever prefixes there are beside it.
        translate_non_global: nat64
            .filter(|nat64| Pref64::WELL_KNOWN.prefix() != nat64.pref64.addr())
            .map_or_else(Vec::new, |nat64| nat64.translate_non_global.clone()),
        pref64: nat64.map(|nat64| nat64.pref64),
    }
}

/// All of the router's addresses on a LAN, the link-local ones with their scope; never those of the uplink.
fn listen(topology: &Topology<'_>, lan: &LanLink<'_>) -> Vec<SocketAddr> {
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
            SocketAddr::V6(SocketAddrV6::new(address, PORT, 0, scope))
        })
        .collect()
}

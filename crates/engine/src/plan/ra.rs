//! What is advertised on a LAN: RFC 4861 section 6.2.3 with the addressing facts of container prefixes.
use core::net::Ipv6Addr;

use super::topology::{LanLink, Topology};
use super::{Nat64Plan, RaPlan};
use crate::config::{Advertise, PrefixVariables};
use crate::facts::AddressState;
use crate::ra::{AdvertisementPlan, Ends, PrefixPlan};

/// RFC 4862 section 5.5.3 d: SLAAC needs prefix and 64-bit interface identifier to fill the address.
const SLAAC_LENGTH: u8 = 64;

/// The advertisement of a LAN; nothing when it is switched off or the link has no usable link-local address yet.
pub(super) fn plan(topology: &Topology<'_>, lan: &LanLink<'_>, nat64: Option<&Nat64Plan>) -> Option<RaPlan> {
    let mut variables = lan.lan.advertise.clone()?;
    // RFC 4861 section 4.2: other configuration is to be had by DHCPv6.
    variables.adv_other_config_flag |= lan.lan.dhcpv6.is_some();
    let source = source(topology, lan)?;
    let dns = &topology.config.dns64;
    let rdnss = rdnss(topology, lan, source);
    let mtu = match variables.adv_link_mtu {
        Some(0) => None,
        // RFC 4861 section 4.6.4: nothing larger than the link carries.
        Some(mtu) => Some(mtu.min(lan.mtu())),
        None => Some(lan.mtu()),
    };
    Some(RaPlan {
        lan: lan.lan.name.clone(),
        link: lan.link.index,
        interface: lan.link.name.clone(),
        source,
        carrier: lan.link.carrier,
        advertisement: AdvertisementPlan {
            prefixes: prefixes(topology, lan, &variables),
            rdnss,
            dnssl: if dns.enabled { dns.search.clone() } else { Vec::new() },
            pref64: nat64.map(|nat64| (nat64.pref64, nat64.obstacle.is_none())),
            mtu,
            source_link_layer: lan.link.mac,
            variables,
        },
    })
}

/// RFC 4861 section 6.1.2: the source is link-local. A configured one comes first, so that it stays the same gateway.
pub(super) fn source(topology: &Topology<'_>, lan: &LanLink<'_>) -> Option<Ipv6Addr> {
    let ready: Vec<Ipv6Addr> = topology
        .facts
        .addresses
        .iter()
        .filter(|held| held.link == lan.link.index && held.state == AddressState::Ready)
        .filter_map(|held| match held.net.addr() {
            core::net::IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            core::net::IpAddr::V6(_) | core::net::IpAddr::V4(_) => None,
        })
        .collect();
    let configured = lan.lan.addresses.iter().map(|net| net.addr()).find(|address| ready.contains(address));
    configured.or_else(|| ready.first().copied())
}

/// The resolvers that hosts are told.
pub(super) fn rdnss(topology: &Topology<'_>, lan: &LanLink<'_>, source: Ipv6Addr) -> Vec<Ipv6Addr> {
    let enabled = topology.config.dns64.enabled;
    if enabled { vec![resolver(topology, lan).unwrap_or(source)] } else { Vec::new() }
}

/// The resolver's address for RDNSS: the link's first routable one that nobody else has, the LAN's own before a gateway's.
/// Stub resolvers without scopes cannot use a link-local one; every host on the link reaches another VM's gateway too.
fn resolver(topology: &Topology<'_>, lan: &LanLink<'_>) -> Option<Ipv6Addr> {
    lan.addresses()
        .map(|net| net.addr())
        .filter(|address| !address.is_unicast_link_local())
        .find(|address| topology.state(lan.link.index, (*address).into()) != Some(AddressState::Duplicate))
}

fn prefixes(topology: &Topology<'_>, lan: &LanLink<'_>, variables: &Advertise) -> Vec<PrefixPlan> {
    let mut prefixes: Vec<PrefixPlan> = Vec::new();
    for net in lan.lan.addresses.iter().filter(|net| !net.addr().is_unicast_link_local()) {
        let prefix = net.trunc();
        let own = variables.adv_prefix_list.iter().find(|own| own.prefix == prefix);
        let flag = |of: fn(&PrefixVariables) -> Option<bool>| own.and_then(of);
        // Hosts would take what is carved out for on-link and solicit for it in vain (RFC 4861 section 5.2).
        let on_link = flag(|own| own.adv_on_link_flag)
            .or(variables.adv_on_link_flag)
            .unwrap_or_else(|| !topology.is_carved(prefix));
        let autonomous = flag(|own| own.adv_autonomous_flag).or(variables.adv_autonomous_flag).unwrap_or(true);
        let autonomous = prefix.prefix_len() == SLAAC_LENGTH && autonomous;
        let pd_preferred = flag(|own| own.adv_pd_preferred_flag).unwrap_or(variables.adv_pd_preferred_flag);
        // A prefix without a flag tells a host nothing (RFC 4861 section 6.3.4).
        let told = on_link || autonomous || pd_preferred;
        if told && !prefixes.iter().any(|known| known.prefix == prefix) {
            prefixes.push(PrefixPlan {
                prefix,
                on_link,
                autonomous,
                pd_preferred,
                valid: own.and_then(|own| own.adv_valid_lifetime).unwrap_or(variables.adv_valid_lifetime),
                preferred: own.and_then(|own| own.adv_preferred_lifetime).unwrap_or(variables.adv_preferred_lifetime),
                ends: lan.lan.lifetimes.iter().find(|lifetime| lifetime.prefix == prefix).map(|lifetime| Ends {
                    preferred: lifetime.preferred_until,
                    valid: lifetime.valid_until,
                    retired: lifetime.retired,
                }),
            });
        }
    }
    prefixes
}

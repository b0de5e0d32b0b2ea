//! The resolver's part of the plan.
use ipnet::Ipv6Net;
use sixgate_wire::rfc6052::Pref64;

use super::topology::Topology;
use super::{Dns64Plan, Nat64Plan, listen};
use crate::config::Clients;

const PORT: u16 = 53;

/// What the resolver does; the default, which listens nowhere, when it is switched off.
pub(super) fn plan(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Dns64Plan {
    let config = &topology.config.dns64;
    if !config.enabled {
        return Dns64Plan::default();
    }
    Dns64Plan {
        listen: topology.lans.iter().flat_map(|lan| listen::addresses(topology, lan, PORT)).collect(),
        upstream: config.upstream.clone(),
        synthesis: nat64.filter(|nat64| nat64.obstacle.is_none()).map(|nat64| nat64.pref64),
        // RFC 6052 section 3.1: the Well-Known Prefix knows no exemptions, whatever prefixes there are beside it.
        translate_non_global: nat64
            .filter(|nat64| Pref64::WELL_KNOWN.prefix() != nat64.pref64.addr())
            .map_or_else(Vec::new, |nat64| nat64.translate_non_global.clone()),
        pref64: nat64.map(|nat64| nat64.pref64),
        untranslated: untranslated(topology),
        untranslated_links: topology
            .lans
            .iter()
            .filter(|lan| config.untranslated.contains(&Clients::Lan(lan.lan.name.clone())))
            .map(|lan| lan.link.index)
            .collect(),
        serve_stale: config.serve_stale,
        cache: usize::try_from(config.cache).unwrap_or(usize::MAX).saturating_mul(1 << 20),
        workers: config.workers.into(),
    }
}

/// The prefixes of whoever is given no synthesized addresses.
fn untranslated(topology: &Topology<'_>) -> Vec<Ipv6Net> {
    let of_lan = |name: &str| -> Vec<Ipv6Net> {
        let Some(lan) = topology.lan(name) else { return Vec::new() };
        let containers = lan.vms.iter().flat_map(|vm| vm.containers.iter().copied());
        lan.addresses().map(|net| net.trunc()).chain(containers).collect()
    };
    let clients = topology.config.dns64.untranslated.iter();
    clients
        .flat_map(|clients| match clients {
            Clients::Lan(name) => of_lan(name),
            Clients::Prefix(net) => vec![*net],
        })
        .collect()
}

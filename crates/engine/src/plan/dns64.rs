//! The resolver's part of the plan.
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use hickory_proto::rr::Name;
use ipnet::Ipv6Net;
use sixgate_wire::rfc6052::Pref64;

use super::topology::{LanLink, Topology};
use super::{Dns64Plan, LocalNames, Nat64Plan, Reach, listen, nat64};
use crate::config::Clients;
use crate::firewall::{destinations, outbound};

const PORT: u16 = 53;
/// RFC 7858 section 3.1.
const PORT_TLS: u16 = 853;

/// What the resolver does; the default, which listens nowhere, when it is switched off.
pub(super) fn plan(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Dns64Plan {
    let config = &topology.config.dns64;
    if !config.enabled {
        return Dns64Plan::default();
    }
    let of_lans = |port| topology.lans.iter().flat_map(move |lan| listen::addresses(topology, lan, port));
    let listen: Vec<SocketAddr> = of_lans(PORT).collect();
    Dns64Plan {
        upstream: upstream(topology, &listen),
        listen_tls: config.identity.iter().flat_map(|_| of_lans(PORT_TLS)).collect(),
        identity: config.identity.clone(),
        listen,
        encrypted: config.encrypted.clone(),
        authorities: config.authorities.clone(),
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
        further_pref64: nat64.map_or_else(Vec::new, |nat64| nat64.further_pref64.clone()),
        excluded: config.exclude.clone(),
        untranslated_ipv4: config.exclude_ipv4.clone(),
        never: config.never.clone(),
        always: config.always.clone(),
        forward: config.forward.clone(),
        prefixes: config.prefixes.clone(),
        refuse_private: config.rebinding_protection,
        private_domains: config.private_domains.clone(),
        rate: config.rate,
        validate: config.dnssec,
        trust_anchors: config.trust_anchors.clone(),
        insecure_domains: config.insecure_domains.clone(),
        local: local_names(topology),
        reach: topology
            .config
            .outbound
            .iter()
            .flat_map(|entry| &entry.names)
            .map(|name| Reach { set: outbound::set(name), name: name.0.clone(), below: name.1 })
            .collect(),
        serve_stale: config.serve_stale,
        cache: usize::try_from(config.cache).unwrap_or(usize::MAX).saturating_mul(1 << 20),
        workers: config.workers.into(),
        // Nothing goes past rules that somebody else wants the packets to meet.
        fast_path: nat64::fast_path(topology).filter(|_| config.fast_path && !topology.facts.foreign_rules),
    }
}

/// What the file names, then what is learnt on the uplink, but for the router itself.
fn upstream(topology: &Topology<'_>, listen: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut upstream = topology.config.dns64.upstream.clone();
    if topology.config.dns64.learn_upstream {
        let learnt = topology.facts.learnt.resolvers.iter().map(|address| SocketAddr::new(*address, PORT));
        upstream.extend(learnt.filter(|address| !listen.contains(address)));
    }
    upstream
}

/// The router, the VMs and the hosts of the file, as far as their addresses are known.
fn local_names(topology: &Topology<'_>) -> LocalNames {
    let (config, domain) = (topology.config, topology.config.dns64.domain.clone());
    let mut hosts: Vec<(Name, Vec<IpAddr>)> = Vec::new();
    if let Some(domain) = &domain {
        let mut put = |host: &str, addresses: Vec<Ipv6Addr>| {
            let name = Name::from_ascii(host).and_then(|host| host.append_domain(domain));
            if let (Ok(name), false) = (name, addresses.is_empty()) {
                hosts.push((name.to_lowercase(), addresses.into_iter().map(IpAddr::V6).collect()));
            }
        };
        let routed = |net: &Ipv6Net| !net.addr().is_unicast_link_local();
        let own = topology.lans.iter().flat_map(LanLink::addresses).filter(routed);
        put(&config.hostname, own.map(|net| net.addr()).collect());
        for vm in &config.vms {
            let addresses = match (vm.address, vm.mac, topology.lan(&vm.lan)) {
                (Some(address), ..) => {
                    Some(address).filter(|address| !address.is_unicast_link_local()).into_iter().collect()
                }
                // RFC 4862 section 5.5.3 and RFC 4291 appendix A: what the kernel forms out of a /64 and its hardware address.
                (None, Some(mac), Some(lan)) => {
                    let nets = lan.lan.addresses.iter().filter(|net| net.prefix_len() == 64 && routed(net));
                    let host = u128::from(mac.link_local()) & u128::from(u64::MAX);
                    nets.map(|net| Ipv6Addr::from(u128::from(net.network()) | host)).collect()
                }
                (None, None, _) | (None, Some(_), None) => Vec::new(),
            };
            put(&vm.name, addresses);
        }
    }
    for host in &config.dns64.hosts {
        let targets = host.targets.iter().flat_map(|target| destinations(config, target)).map(|net| net.addr().into());
        let addresses: Vec<IpAddr> = targets.chain(host.addresses.iter().copied()).collect();
        if !addresses.is_empty() {
            hosts.push((host.name.clone(), addresses));
        }
    }
    LocalNames { domain, hosts }
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

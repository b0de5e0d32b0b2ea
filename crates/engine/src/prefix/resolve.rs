//! The configuration with everything filled in that is learnt: whoever reads the result need not know where an address
//! comes from.
use core::net::IpAddr;
use std::borrow::Cow;

use ipnet::Ipv6Net;

use super::{Learnt, LearntPrefix, carve, place};
use crate::config::{
    Config, Ipv4Source, Ipv6Source, Lan, LanPrefix, PrefixLifetime, PrefixOrigin, Vm, Wan, WanIpv4, WanIpv6,
};
use crate::finding::{Finding, Severity};

/// Fills in what is learnt. A configuration that asks for nothing of that kind comes back as it is.
pub fn resolve<'a>(config: &'a Config, learnt: &Learnt, findings: &mut Vec<Finding>) -> Cow<'a, Config> {
    let fixed = config.wan.ipv4_source == Ipv4Source::Static
        && config.wan.ipv6_source == Ipv6Source::Static
        && config.lans.iter().all(|lan| lan.prefixes.is_empty())
        && config.vms.iter().all(|vm| vm.relative.is_empty())
        && config.npt.iter().all(|npt| npt.subnet.is_none());
    if fixed {
        return Cow::Borrowed(config);
    }
    let mut resolved = config.clone();
    uplink(&mut resolved.wan, learnt);
    share(&mut resolved, learnt, findings);
    for index in 0..resolved.lans.len() {
        let taken: Vec<(String, Ipv6Net)> = owners(&resolved, index);
        if let Some(lan) = resolved.lans.get_mut(index) {
            carve_lan(lan, learnt, &taken, findings);
        }
    }
    let Config { lans, vms, .. } = &mut resolved;
    for vm in vms {
        if let Some(lan) = lans.iter().find(|lan| lan.name == vm.lan) {
            place_vm(vm, lan);
        }
    }
    outside(&mut resolved, learnt, findings);
    Cow::Owned(resolved)
}

/// What stands outside for prefixes inside, out of the first delegation that is in use. A longer prefix inside a LAN's is
/// carved out of that; a LAN's own is not given away.
fn outside(config: &mut Config, learnt: &Learnt, findings: &mut Vec<Finding>) {
    let owners = owners(config, config.lans.len());
    let Some(source) = learnt.delegated.first() else { return };
    for npt in &mut config.npt {
        let Some(subnet) = npt.subnet else { continue };
        match carve(source.prefix, subnet, npt.inside.prefix_len()) {
            Ok(prefix) => match owners.iter().find(|(_, net)| prefix.contains(net)) {
                Some((owner, net)) => findings.push(Finding::new(
                    Severity::Error,
                    "prefix-overlaps",
                    npt.inside.to_string(),
                    format!("{} does not become {prefix} outside: it overlaps {net} of {owner}", npt.inside),
                    "give it a `subnet` of its own that no address of a lan lies in",
                )),
                None => npt.outside = Some(prefix),
            },
            Err(no_room) => findings.push(Finding::new(
                Severity::Error,
                "prefix-too-small",
                npt.inside.to_string(),
                format!(
                    "{} has no prefix outside: subnet {subnet} with its length does not fit into {}, which has {} of them",
                    npt.inside, source.prefix, no_room.subnets
                ),
                "choose a smaller `subnet`, or ask for a shorter prefix by wan.prefix_hint",
            )),
        }
    }
}

/// The same prefix on both sides: the LAN has its on-link route, and the uplink the addresses alone. The resolvers that the
/// uplink names are beyond its router then, like everybody else.
fn share(config: &mut Config, learnt: &Learnt, findings: &mut Vec<Finding>) {
    let carved = |wanted: &LanPrefix, source: &LearntPrefix| carve(source.prefix, wanted.subnet, wanted.length).ok();
    let mut held: Vec<(String, Ipv6Net)> = Vec::new();
    for lan in &config.lans {
        let wanted = lan.prefixes.iter().filter(|wanted| wanted.origin == PrefixOrigin::Learnt);
        let prefixes =
            wanted.flat_map(|wanted| learnt.ipv6.prefixes.iter().filter_map(|source| carved(wanted, source)));
        held.extend(prefixes.chain(lan.addresses.iter().map(Ipv6Net::trunc)).map(|net| (lan.name.clone(), net)));
    }
    let proxied = config.wan.ndp_proxy;
    let learns = config.wan.ipv6_source != Ipv6Source::Static;
    let Some(ipv6) = config.wan.ipv6.as_mut().filter(|_| learns) else { return };
    let on_link = ipv6.addresses.iter().map(Ipv6Net::trunc);
    let on_link: Vec<Ipv6Net> =
        on_link.chain(ipv6.routes.iter().filter(|(_, via)| via.is_none()).map(|(to, _)| *to)).collect();
    for (lan, net) in held {
        if !on_link.contains(&net) || net.prefix_len() == 128 {
            continue;
        }
        for address in ipv6.addresses.iter_mut().chain(&mut ipv6.deprecated).filter(|held| held.trunc() == net) {
            *address = Ipv6Net::from(address.addr());
        }
        ipv6.routes.retain(|(to, via)| via.is_some() || *to != net);
        if let Some(router) = ipv6.gateway {
            let resolvers = learnt.resolvers.iter().filter_map(|address| match address {
                IpAddr::V6(address) if net.contains(address) => Some(Ipv6Net::from(*address)),
                IpAddr::V6(_) | IpAddr::V4(_) => None,
            });
            ipv6.routes.extend(resolvers.map(|resolver| (resolver, Some(router))));
        }
        ipv6.shared.push(net);
        if !proxied {
            findings.push(Finding::new(
                Severity::Warning,
                "prefix-on-both-sides",
                lan.as_str(),
                format!(
                    "{net} lies on the uplink and on {lan}: whoever is on the uplink looks for hosts of {lan} in vain"
                ),
                "write ndp_proxy = true in [wan], or give the lan another prefix",
            ));
        }
    }
}

fn uplink(wan: &mut Wan, learnt: &Learnt) {
    match wan.ipv4_source {
        Ipv4Source::Static => {}
        Ipv4Source::Dhcp => {
            wan.ipv4 = learnt.ipv4.as_ref().map(|lease| WanIpv4 {
                address: lease.address,
                gateway: lease.gateway,
                routes: lease.routes.clone(),
            });
        }
    }
    match wan.ipv6_source {
        Ipv6Source::Static => {}
        Ipv6Source::Ra | Ipv6Source::Dhcpv6Pd => {
            let uplink = &learnt.ipv6;
            wan.ipv6 = Some(WanIpv6 {
                addresses: uplink.addresses.iter().map(|address| address.net).collect(),
                deprecated: uplink.addresses.iter().filter(|held| held.deprecated).map(|held| held.net).collect(),
                gateway: uplink.router,
                routes: uplink.routes.clone(),
                mtu: uplink.mtu,
                shared: Vec::new(),
            });
        }
    }
}

/// What others hold already: prefixes of the LANs before this one and of the uplink, with their owners.
fn owners(config: &Config, index: usize) -> Vec<(String, Ipv6Net)> {
    let before = config.lans.iter().take(index).flat_map(|lan| {
        lan.addresses
            .iter()
            .filter(|net| !net.addr().is_unicast_link_local())
            .map(|net| (lan.name.clone(), net.trunc()))
    });
    let wan = config.wan.ipv6.iter().flat_map(|ipv6| ipv6.addresses.iter().map(|net| ("wan".to_owned(), net.trunc())));
    before.chain(wan.filter(|(_, net)| net.prefix_len() < 128)).collect()
}

fn carve_lan(lan: &mut Lan, learnt: &Learnt, taken: &[(String, Ipv6Net)], findings: &mut Vec<Finding>) {
    for wanted in lan.prefixes.clone() {
        let ula =
            learnt.ula.map(|prefix| LearntPrefix { prefix, preferred_until: None, valid_until: None, retired: false });
        let sources: Vec<LearntPrefix> = match wanted.origin {
            PrefixOrigin::Delegated => learnt.delegated.clone(),
            PrefixOrigin::Learnt => learnt.ipv6.prefixes.clone(),
            PrefixOrigin::Ula => ula.into_iter().collect(),
        };
        for source in sources {
            match carve(source.prefix, wanted.subnet, wanted.length) {
                Ok(prefix) => match taken.iter().find(|(owner, net)| {
                    // What is learnt lies in the uplink's own prefix, and is that.
                    (wanted.origin != PrefixOrigin::Learnt || owner != "wan")
                        && (net.contains(&prefix) || prefix.contains(net))
                }) {
                    Some((owner, net)) => findings.push(overlap(lan, prefix, owner, *net)),
                    None => hold(lan, prefix, &wanted, &source),
                },
                // A prefix that is on its way out is no news.
                Err(_) if source.retired => {}
                Err(no_room) => findings.push(Finding::new(
                    Severity::Error,
                    "prefix-too-small",
                    lan.name.as_str(),
                    format!(
                        "{} has no prefix: subnet {} with length {} does not fit into {}, which has {} of that length",
                        lan.name, wanted.subnet, wanted.length, source.prefix, no_room.subnets
                    ),
                    "choose a smaller `subnet`, or ask for a shorter prefix by wan.prefix_hint",
                )),
            }
        }
    }
}

fn hold(lan: &mut Lan, prefix: Ipv6Net, wanted: &LanPrefix, source: &LearntPrefix) {
    let Ok(net) = Ipv6Net::new(place(prefix, wanted.router), wanted.length) else { return };
    if lan.addresses.contains(&net) {
        return;
    }
    lan.addresses.push(net);
    match wanted.origin {
        PrefixOrigin::Delegated | PrefixOrigin::Learnt => lan.lifetimes.push(PrefixLifetime {
            prefix,
            preferred_until: source.preferred_until,
            valid_until: source.valid_until,
            retired: source.retired,
        }),
        // It is ours as long as it is configured.
        PrefixOrigin::Ula => {}
    }
}

fn overlap(lan: &Lan, prefix: Ipv6Net, owner: &str, net: Ipv6Net) -> Finding {
    Finding::new(
        Severity::Error,
        "prefix-overlaps",
        lan.name.as_str(),
        format!("{} does not get {prefix}: it overlaps {net} of {owner}", lan.name),
        "give each lan a `subnet` of its own that no other address of the file lies in",
    )
}

/// What a VM has by its suffix, once for each of its LAN's prefixes, those in use first.
fn place_vm(vm: &mut Vm, lan: &Lan) {
    let mut nets: Vec<Ipv6Net> =
        lan.addresses.iter().filter(|net| !net.addr().is_unicast_link_local()).map(Ipv6Net::trunc).collect();
    nets.retain(|net| net.prefix_len() <= 64);
    nets.dedup();
    let within = |suffix: &Ipv6Net, net: Ipv6Net| Ipv6Net::new(place(net, suffix.addr()), suffix.prefix_len()).ok();
    for net in &nets {
        vm.containers.extend(vm.relative.containers.iter().filter_map(|suffix| within(suffix, *net)));
    }
    let Some(first) = nets.first() else { return };
    vm.gateway = vm.gateway.or_else(|| vm.relative.gateway.as_ref().and_then(|suffix| within(suffix, *first)));
    vm.address = vm.address.or_else(|| vm.relative.address.map(|suffix| place(*first, suffix)));
}

#[cfg(test)]
mod tests;

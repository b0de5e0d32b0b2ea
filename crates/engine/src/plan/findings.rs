//! What does not fit between configuration and facts, with the mend. Codes are listed in [`crate::finding::CODES`].
use core::net::IpAddr;

use ipnet::IpNet;

use super::topology::{LanLink, Topology, wan_nets};
use super::{Dns64Plan, NAT64_DEVICE, Nat64Plan, Obstacle};
use crate::config::{Between, Ipv4Source, Ipv6Source, Lan, PrefixOrigin, Target, Via};
use crate::facts::AddressState;
use crate::finding::{Finding, Severity};

/// Adds everything worth knowing, then sorts: the worst comes first.
pub(super) fn check(
    topology: &Topology<'_>,
    nat64: Option<&Nat64Plan>,
    dns64: &Dns64Plan,
    findings: &mut Vec<Finding>,
) {
    uplink(topology, findings);
    for lan in &topology.lans {
        link(topology, lan, findings);
        advertisement(topology, lan, findings);
        shared_link(topology, lan, findings);
    }
    duplicates(topology, findings);
    vms(topology, findings);
    routes(topology, findings);
    translator(topology, nat64, findings);
    published(topology, nat64, findings);
    if topology.config.connections.entries.is_some() && !topology.facts.sizes_conntrack {
        findings.push(Finding::new(
            Severity::Warning,
            "connections-not-sized",
            "connections",
            "how many connections are tracked is not for this network namespace to say: `entries` has no effect",
            "set net.netfilter.nf_conntrack_max on the machine itself, or leave `entries` out",
        ));
    }
    let config = &topology.config.dns64;
    if config.enabled && config.fast_path && topology.facts.foreign_rules && !dns64.listen.is_empty() {
        findings.push(Finding::new(
            Severity::Note,
            "dns64-fast-path-off",
            "dns64",
            "somebody else's firewall rules want to see every packet, so that every question is answered by the daemon",
            "remove the other rules if they are not needed, or set [dns64] fast_path = false",
        ));
    }
    if topology.config.dns64.enabled && dns64.listen.is_empty() {
        findings.push(Finding::new(
            Severity::Warning,
            "dns64-no-address",
            "dns64",
            "the resolver has no address on any LAN to listen on",
            "give a lan `addresses`, or mend the missing interfaces",
        ));
    }
    if topology.config.dns64.enabled && !dns64.listen.is_empty() && dns64.upstream.is_empty() {
        findings.push(Finding::new(
            Severity::Warning,
            "dns64-no-upstream",
            "dns64",
            "the resolver has nobody to ask: no resolver is learnt on the uplink",
            "see that DHCP or the advertisements there name resolvers, or name some in `upstream` beside \"learnt\"",
        ));
    }
    findings.sort_by(|a, b| (b.severity, &a.code, &a.subject).cmp(&(a.severity, &b.code, &b.subject)));
}

fn uplink(topology: &Topology<'_>, findings: &mut Vec<Finding>) {
    let Some(link) = topology.wan else { return };
    if link.up && !link.carrier {
        findings.push(Finding::new(
            Severity::Error,
            "wan-no-carrier",
            link.name.as_str(),
            format!("the uplink {} has no carrier", link.name),
            "plug in the cable, or attach the NIC to a bridge",
        ));
    }
    let routed = |v4: bool| {
        topology.config.routes.iter().any(|route| route.to.prefix_len() == 0 && route.to.addr().is_ipv4() == v4)
    };
    let learns = topology.config.wan.ipv6_source != Ipv6Source::Static;
    if learns && topology.config.wan.ipv6.as_ref().is_none_or(|ipv6| ipv6.gateway.is_none()) {
        findings.push(Finding::new(
            Severity::Warning,
            "uplink-without-router",
            "wan",
            "no router advertises itself on the uplink: there is no IPv6 default route",
            "see that the provider's router sends advertisements on that link; it is solicited again and again",
        ));
    }
    let wants = |lan: &&Lan| lan.prefixes.iter().any(|prefix| prefix.origin == PrefixOrigin::Delegated);
    if let Some(lan) = topology.config.lans.iter().find(wants)
        && topology.facts.learnt.delegated.iter().all(|prefix| prefix.retired)
    {
        findings.push(Finding::new(
            Severity::Warning,
            "no-prefix-delegated",
            lan.name.as_str(),
            format!("{} waits for a prefix: nothing is delegated to the uplink, or no longer", lan.name),
            "see that a DHCPv6 server answers on the uplink and delegates prefixes; it is asked again and again",
        ));
    }
    let shares = |lan: &&Lan| lan.prefixes.iter().any(|prefix| prefix.origin == PrefixOrigin::Learnt);
    if let Some(lan) = topology.config.lans.iter().find(shares)
        && topology.facts.learnt.ipv6.prefixes.iter().all(|prefix| prefix.retired)
    {
        findings.push(Finding::new(
            Severity::Warning,
            "no-prefix-learnt",
            lan.name.as_str(),
            format!("{} waits for a prefix: no router advertises one for SLAAC on the uplink, or no longer", lan.name),
            "see that the provider's router advertises a /64 with the A flag on that link; it is solicited again and again",
        ));
    }
    if !learns && topology.config.wan.ipv6.as_ref().is_none_or(|ipv6| ipv6.gateway.is_none()) && !routed(false) {
        findings.push(Finding::new(
            Severity::Note,
            "wan-no-ipv6",
            "wan",
            "the uplink has no IPv6 default route: hosts reach IPv4 servers by NAT64 and nothing else",
            "give [wan] ipv6 = { address = \"..\", gateway = \"..\" }",
        ));
    }
    if topology.config.wan.ipv4_source == Ipv4Source::Dhcp && topology.config.wan.ipv4.is_none() {
        findings.push(Finding::new(
            Severity::Warning,
            "dhcp4-no-lease",
            "wan",
            "the uplink has no IPv4 address: no DHCP server has leased one yet",
            "see that a DHCP server answers on that link; it is asked again and again",
        ));
    }
    if topology.config.wan.ipv4.as_ref().is_some_and(|ipv4| ipv4.gateway.is_none()) && !routed(true) {
        findings.push(Finding::new(
            Severity::Note,
            "wan-no-ipv4-gateway",
            "wan",
            "the uplink has no IPv4 default route: hosts reach IPv4 servers on the uplink itself and nothing beyond",
            "give [wan] ipv4 = { address = \"..\", gateway = \"..\" }, or a [[route]]",
        ));
    }
}

fn link(topology: &Topology<'_>, lan: &LanLink<'_>, findings: &mut Vec<Finding>) {
    let link = lan.link;
    if !link.up {
        return;
    }
    if !link.carrier {
        findings.push(Finding::new(
            Severity::Warning,
            "lan-no-carrier",
            lan.lan.name.as_str(),
            format!("{} of {} has no carrier", link.name, lan.lan.name),
            "plug in the cable, or attach the NIC to a bridge",
        ));
    } else if topology.facts.link_local(link.index).is_none() {
        findings.push(Finding::new(
            Severity::Warning,
            "lan-link-local-missing",
            lan.lan.name.as_str(),
            format!("{} has no link-local address: nothing can be advertised on it", link.name),
            format!(
                "see whether IPv6 or addr_gen_mode is switched off on {}, or add \"fe80::1/64\" to `addresses`",
                link.name
            ),
        ));
    }
}

fn advertisement(topology: &Topology<'_>, lan: &LanLink<'_>, findings: &mut Vec<Finding>) {
    let Some(variables) = &lan.lan.advertise else { return };
    let prefixes: Vec<_> = lan.lan.addresses.iter().filter(|net| !net.addr().is_unicast_link_local()).collect();
    if !prefixes.iter().any(|net| net.prefix_len() == 64) {
        findings.push(Finding::new(
            Severity::Note,
            "lan-without-slaac",
            lan.lan.name.as_str(),
            format!(
                "{} has no /64: its hosts get router, DNS and MTU by advertisement, but no address (RFC 4862)",
                lan.lan.name
            ),
            "configure the hosts' addresses on them, or give the lan a /64",
        ));
    }
    for net in prefixes.iter().filter(|net| variables.adv_on_link_flag == Some(true) && topology.is_carved(***net)) {
        findings.push(Finding::new(
            Severity::Warning,
            "on-link-flag-with-carved-prefixes",
            lan.lan.name.as_str(),
            format!(
                "{} is advertised as on-link, but other prefixes are carved out of it: hosts solicit for those in vain",
                net.trunc()
            ),
            "remove adv_on_link_flag = true",
        ));
    }
}

/// DESIGN: a policy between VMs of one bridge holds only if the hypervisor isolates its ports.
fn shared_link(topology: &Topology<'_>, lan: &LanLink<'_>, findings: &mut Vec<Finding>) {
    let on_this_lan = |name: &String| lan.vms.iter().any(|vm| vm.name == *name);
    let is_named = || {
        topology.config.allow.iter().any(|allow| match &allow.to {
            Target::Router => false,
            Target::Vm(name) | Target::Containers(name, _) => on_this_lan(name),
            Target::Lan(name, _) => *name == lan.lan.name,
            Target::Prefix(prefix) => lan.addresses().any(|net| net.contains(prefix)),
        })
    };
    let policed = topology.config.policy.between != Between::Allowed;
    if lan.vms.len() < 2 || !(policed || is_named()) {
        return;
    }
    findings.push(Finding::new(
        Severity::Note,
        "vms-share-a-link",
        lan.lan.name.as_str(),
        format!(
            "the VMs on {} reach each other without the router, whatever the allowlist and [policy] say",
            lan.lan.name
        ),
        "isolate the bridge's ports at the hypervisor, or give each VM a link of its own",
    ));
}

fn duplicates(topology: &Topology<'_>, findings: &mut Vec<Finding>) {
    let wan = topology.wan.into_iter().flat_map(|link| wan_nets(topology.config).map(move |net| (link, net)));
    let lans = topology.lans.iter().flat_map(|lan| lan.addresses().map(|net| (lan.link, IpNet::V6(net))));
    let planned: Vec<(u32, IpAddr)> = wan.chain(lans).map(|(link, net)| (link.index, net.addr())).collect();
    for held in topology.facts.addresses.iter().filter(|held| held.state == AddressState::Duplicate) {
        let Some(link) = topology.links().find(|link| link.index == held.link) else { continue };
        let link_local = matches!(held.net.addr(), IpAddr::V6(address) if address.is_unicast_link_local());
        if link_local || planned.contains(&(held.link, held.net.addr())) {
            findings.push(Finding::new(
                Severity::Error,
                "address-duplicate",
                held.net.addr().to_string(),
                format!("somebody else on {} has the address {} (RFC 4862 section 5.4)", link.name, held.net.addr()),
                "find the other holder by its hardware address, or choose another address",
            ));
        }
    }
}

fn vms(topology: &Topology<'_>, findings: &mut Vec<Finding>) {
    for vm in &topology.config.vms {
        if topology.lan(&vm.lan).is_none() {
            findings.push(Finding::new(
                Severity::Warning,
                "vm-lan-missing",
                vm.name.as_str(),
                format!("{} cannot be reached: the interface of {} is missing", vm.name, vm.lan),
                format!("mend the interface of {}", vm.lan),
            ));
        }
        if vm.address.is_none() && vm.mac.is_none() {
            let severity = if vm.containers.is_empty() { Severity::Note } else { Severity::Warning };
            findings.push(Finding::new(
                severity,
                "vm-next-hop-unknown",
                vm.name.as_str(),
                format!("{} has neither `address` nor `mac`: nothing can be routed to it", vm.name),
                format!("give {} an `address` or its `mac`", vm.name),
            ));
        }
    }
}

fn routes(topology: &Topology<'_>, findings: &mut Vec<Finding>) {
    for route in &topology.config.routes {
        let Via::Gateway(via, word) = &route.via else { continue };
        let link = word.as_ref().map_or_else(|| topology.link_to(*via), |word| topology.link_named(word));
        if link.is_none() {
            findings.push(Finding::new(
                Severity::Warning,
                "route-not-applied",
                route.to.to_string(),
                format!("the route to {} is not in force: the link to its next hop {via} is missing", route.to),
                "mend the missing interface",
            ));
        }
    }
}

fn translator(topology: &Topology<'_>, nat64: Option<&Nat64Plan>, findings: &mut Vec<Finding>) {
    if nat64.is_some() && topology.facts.foreign_rules && topology.config.nat64.as_ref().is_some_and(|it| it.fast_path)
    {
        findings.push(Finding::new(
            Severity::Note,
            "nat64-fast-path-off",
            "nat64",
            "somebody else's firewall rules want to see every packet, so that everything is translated by the daemon",
            "remove the other rules if they are not needed, or set [nat64] fast_path = false",
        ));
    }
    let Some(obstacle) = nat64.and_then(|nat64| nat64.obstacle) else { return };
    findings.push(match obstacle {
        Obstacle::NoIpv4Uplink if topology.config.wan.ipv4_source == Ipv4Source::Dhcp => Finding::new(
            Severity::Error,
            "nat64-no-ipv4-uplink",
            "nat64",
            "translation is off: the uplink has no IPv4 address, or no carrier",
            "mend the uplink; translation comes back with a lease",
        ),
        Obstacle::NoIpv4Uplink if topology.config.wan.ipv4.is_none() => Finding::new(
            Severity::Error,
            "nat64-no-ipv4-uplink",
            "nat64",
            "translation is off: the uplink has no IPv4 address",
            "give [wan] ipv4 = { address = \"..\", gateway = \"..\" }, or set enabled = false in [nat64]",
        ),
        Obstacle::NoIpv4Uplink => Finding::new(
            Severity::Error,
            "nat64-no-ipv4-uplink",
            "nat64",
            "translation is off: the uplink is missing or has no carrier",
            "mend the uplink; translation comes back with it",
        ),
        // The translator makes the device once it has its plan, and says so itself when it cannot.
        Obstacle::NoDevice => Finding::new(
            Severity::Note,
            "nat64-no-device",
            "nat64",
            format!("translation waits for the TUN device \"{NAT64_DEVICE}\", which is made right after the start"),
            "where it stays away, see that /dev/net/tun exists (modprobe tun) and that sixgate may open it (CAP_NET_ADMIN)",
        ),
    });
}

/// Entries of `[[publish]]` that lead nowhere now.
fn published(topology: &Topology<'_>, nat64: Option<&Nat64Plan>, findings: &mut Vec<Finding>) {
    let Some(nat64) = nat64 else { return };
    let lines: Vec<u32> = nat64.static_bindings.iter().map(|it| it.line).collect();
    let echo: Vec<u32> = nat64.published_echo.iter().map(|it| it.line).collect();
    for publish in &topology.config.publish {
        let is_here = |line: &u32| usize::try_from(*line) == Ok(publish.line);
        if lines.iter().chain(&echo).any(is_here) {
            continue;
        }
        let listen: Vec<String> = publish.listen.iter().map(ToString::to_string).collect();
        let host = crate::firewall::describe(&publish.to);
        let (why, mend) = if nat64.pool4.is_empty() {
            ("the uplink has no IPv4 address now".to_owned(), "mend the uplink; the entry comes back with its address")
        } else {
            (
                format!("{host} has no address now"),
                "give the vm an `address`, or see why the prefix of its lan is missing",
            )
        };
        findings.push(Finding::new(
            Severity::Warning,
            "publish-not-in-force",
            listen.join(" "),
            format!("line {} publishes {} to {host}, which is not in force: {why}", publish.line, listen.join(" and ")),
            mend,
        ));
    }
}

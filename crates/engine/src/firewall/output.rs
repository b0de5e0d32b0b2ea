//! From the router: everything, but no redirects to the uplink and where prefixes are carved out of a LAN's.
use super::icmp::{ICMPV6, REDIRECT, UDP};
use super::ruleset::{Match, Rule, Statement};
use super::{Scene, rule};

/// The chain of a configuration.
pub(super) fn rules(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    // A redirect would send hosts straight to a container that answers no solicitation, and past the firewall. Linux has
    // no switch for IPv6 redirects.
    let carved = scene
        .topology
        .lans
        .iter()
        .filter(|lan| {
            let routed = lan.vms.iter().any(|vm| !vm.containers.is_empty() || vm.gateway.is_some());
            routed || lan.addresses().any(|net| scene.topology.is_carved(net))
        })
        .map(|lan| lan.link.name.clone())
        .collect();
    vec![
        redirect(Match::OutputInterface(carved), "drop: redirect where prefixes are carved out"),
        // What comes in by the uplink never leaves by it: no host out there needs to hear of a better first hop (RFC 4861
        // section 8.2), and whoever provokes redirects could have the router send them to others on that link.
        redirect(scene.output_wan(), "drop: redirect to the uplink"),
    ]
}

/// Before connection tracking: the resolver's answers belong to no connection, as the questions do not.
pub(super) fn raw(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let answers = vec![
        scene.output_lans(),
        Match::Source6(scene.resolver.clone()),
        Match::Protocol(vec![UDP]),
        Match::SourcePort(vec![53..=53]),
    ];
    vec![rule(answers, &[Statement::Notrack], "dns64: no connections")]
}

fn redirect(link: Match, comment: &str) -> Option<Rule> {
    rule(
        vec![link, Match::Protocol(vec![ICMPV6]), Match::Icmpv6Type(vec![REDIRECT])],
        &[Statement::Counter, Statement::Drop],
        comment,
    )
}

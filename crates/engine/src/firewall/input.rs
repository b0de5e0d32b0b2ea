//! To the router itself: RFC 4890 section 4.4, DNS for the LANs, and what `router` entries admit.
use super::icmp::{
    ECHO_REPLY_V6, ECHO_REQUEST_V4, ECHO_REQUEST_V6, ERRORS_V4, ERRORS_V6, ICMP, ICMPV6, MULTICAST_LISTENER, NEIGHBOR,
    NEIGHBOR_DISCOVERY, TCP, UDP,
};
use super::prerouting::LINK_LOCAL;
use super::ruleset::{ConntrackState, Match, Rule, Statement};
use super::{NOT_ENDED, Scene, allow, connections, ended, neighbours, refused, rule};
use crate::config::Ipv6Source;
use sixgate_wire::dhcpv6::{CLIENT_PORT, SERVER_PORT};

const DROP: [Statement; 2] = [Statement::Counter, Statement::Drop];

/// What closed input admits beyond neighbor discovery: RFC 4443 errors and echo replies.
const CLOSED_ECHO_AND_ERRORS: [u8; 5] = [1, 2, 3, 4, ECHO_REPLY_V6];

/// The chain of a configuration.
pub(super) fn rules(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let mut rules = vec![
        loopback(),
        neighbours::heard(scene),
        // RFC 4861 sections 6.1 and 7.1: a hop limit of 255 proves that the packet comes from this link.
        icmpv6(&NEIGHBOR_DISCOVERY, vec![Match::HopLimit(255)], "neighbor discovery, RFC 4890 section 4.4.1"),
        icmpv6(&MULTICAST_LISTENER, Vec::new(), "multicast listeners, RFC 4890 section 4.4.1"),
        rule(
            vec![Match::ConntrackState(vec![ConntrackState::Established, ConntrackState::Related]), NOT_ENDED],
            &[Statement::Accept],
            "replies to the router",
        ),
    ];
    rules.extend(ended("drop: to the router, not admitted any more"));
    rules.extend([
        icmpv6(&ERRORS_V6, Vec::new(), "errors, RFC 4890 section 4.4.1"),
        rule(
            vec![Match::ConntrackState(vec![ConntrackState::Invalid])],
            &DROP,
            "drop: to the router, invalid for connection tracking",
        ),
        icmpv6(&[ECHO_REQUEST_V6, ECHO_REPLY_V6], Vec::new(), "echo, RFC 4890 section 4.4.1"),
        icmpv4(),
    ]);
    rules.extend(connections::rules(scene, "input"));
    if scene.topology.config.dns64.enabled {
        rules.push(rule(
            vec![scene.input_lans(), Match::Protocol(vec![TCP, UDP]), Match::DestinationPort(vec![53..=53])],
            &[Statement::Accept],
            "dns64 for the lans",
        ));
    }
    rules.push(dhcpv6(scene));
    if scene.topology.config.dns64.enabled && scene.topology.config.dns64.identity.is_some() {
        rules.push(rule(
            vec![scene.input_lans(), Match::Protocol(vec![TCP]), Match::DestinationPort(vec![853..=853])],
            &[Statement::Accept],
            "dns64 over tls for the lans",
        ));
    }
    rules.extend(metrics(scene));
    rules.extend(vm_prefixes(scene));
    if scene.topology.config.wan.ipv6_source != Ipv6Source::Static {
        // RFC 8415 section 18.2: what is asked goes to a multicast address, so the answer is no reply for conntrack.
        rules.push(rule(
            vec![
                scene.input_wan(),
                Match::Source6(vec![LINK_LOCAL]),
                Match::Protocol(vec![UDP]),
                Match::DestinationPort(vec![CLIENT_PORT..=CLIENT_PORT]),
            ],
            &[Statement::Accept],
            "answers to the DHCPv6 client, RFC 8415",
        ));
    }
    rules.extend(allow::router(scene));
    rules.push(refused(scene, &[scene.input_wan()], "drop: to the router from the uplink, no allow entry"));
    rules.push(refused(scene, &[], "drop: to the router, no allow entry"));
    rules
}

/// Hosts on LANs that are served ask by DHCPv6.
fn dhcpv6(scene: &Scene<'_>) -> Option<Rule> {
    let served = scene.topology.lans.iter().filter(|lan| lan.lan.dhcpv6.is_some());
    let links: Vec<String> = served.map(|lan| lan.link.name.clone()).collect();
    let matches = vec![
        Match::InputInterface(links),
        Match::Source6(vec![LINK_LOCAL]),
        Match::Protocol(vec![UDP]),
        Match::DestinationPort(vec![SERVER_PORT..=SERVER_PORT]),
    ];
    rule(matches, &[Statement::Accept], "DHCPv6 for the lans")
}

/// VMs of one LAN ask for their prefixes.
fn vm_prefixes(scene: &Scene<'_>) -> Option<Option<Rule>> {
    let vms = scene.topology.config.vm_prefixes.as_ref()?;
    let lan = scene.topology.lans.iter().find(|lan| lan.lan.name == vms.lan)?;
    let matches = vec![
        Match::InputInterface(vec![lan.link.name.clone()]),
        Match::Protocol(vec![TCP]),
        Match::DestinationPort(vec![vms.port..=vms.port]),
    ];
    Some(rule(matches, &[Statement::Accept], format!("prefixes for the vms on {}", vms.lan)))
}

/// Metrics are for their LAN, at the addresses that the router has there.
fn metrics(scene: &Scene<'_>) -> Option<Option<Rule>> {
    let metrics = scene.topology.config.metrics.as_ref()?;
    let lan = scene.topology.lans.iter().find(|lan| lan.lan.name == metrics.lan)?;
    let matches = vec![
        Match::InputInterface(vec![lan.link.name.clone()]),
        Match::Protocol(vec![TCP]),
        Match::DestinationPort(vec![metrics.port..=metrics.port]),
    ];
    Some(rule(matches, &[Statement::Accept], format!("metrics for lan {}", metrics.lan)))
}

/// The chain without a configuration.
pub(super) fn closed() -> Vec<Option<Rule>> {
    vec![
        loopback(),
        icmpv6(&NEIGHBOR, vec![Match::HopLimit(255)], "neighbor discovery, RFC 4890 section 4.4.1"),
        icmpv6(&MULTICAST_LISTENER, Vec::new(), "multicast listeners, RFC 4890 section 4.4.1"),
        // Not all of what is established: flows that an `allow` entry once admitted end here.
        icmpv6(&CLOSED_ECHO_AND_ERRORS, Vec::new(), "errors and replies to the router's own pings"),
        rule(Vec::new(), &DROP, "drop: to the router, sixgate is closed"),
    ]
}

fn loopback() -> Option<Rule> {
    rule(vec![Match::InputInterface(vec!["lo".to_owned()])], &[Statement::Accept], "loopback")
}

fn icmpv6(types: &[u8], more: Vec<Match>, comment: &str) -> Option<Rule> {
    let mut matches = vec![Match::Protocol(vec![ICMPV6]), Match::Icmpv6Type(types.to_vec())];
    matches.extend(more);
    rule(matches, &[Statement::Accept], comment)
}

fn icmpv4() -> Option<Rule> {
    let types = [ECHO_REQUEST_V4].into_iter().chain(ERRORS_V4).collect();
    rule(vec![Match::Protocol(vec![ICMP]), Match::IcmpType(types)], &[Statement::Accept], "icmp echo and errors")
}

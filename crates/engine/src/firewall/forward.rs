//! Through the router: the translator's legs, what goes out, RFC 4890 section 4.3, and what the allowlist admits.
use super::icmp::{ERRORS_V6, ICMPV6};
use super::ruleset::{Chain, ConntrackState, Match, Rule, Statement, host6};
use super::{
    NOT_ENDED, Scene, allowed, connections, ended, input_tun, nat, neighbours, outbound, output_tun, refused, rule,
};
use crate::config::Between;
use crate::plan::flow::{self, FLOW_MARK};
use crate::plan::{NAT64_MARK, NAT64_MARK_MASK};

const DROP: [Statement; 2] = [Statement::Counter, Statement::Drop];

/// The chain of what belongs to something that is known: it begins nothing.
const KNOWN: &str = "no-beginning";

/// The chain of a configuration.
pub(super) fn rules(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    // Most packets: they pay for nothing that is looked at when a flow begins.
    let marked = [Statement::SetMark { value: FLOW_MARK, mask: NAT64_MARK_MASK }, Statement::Accept];
    let mut rules = vec![rule(
        vec![Match::ConntrackState(vec![ConntrackState::Established]), NOT_ENDED],
        if flow::is_wanted(scene.topology) { &marked } else { &marked[1..] },
        "established flows",
    )];
    rules.extend(outbound::jump(scene));
    // Errors and the translator's packets have no state of their own.
    let states = [ConntrackState::Untracked, ConntrackState::Invalid, ConntrackState::Related];
    let states = states.into_iter().chain([ConntrackState::Established]).collect();
    let jump = [Statement::Jump(KNOWN.to_owned())];
    rules.push(rule(vec![Match::ConntrackState(states)], &jump, "no beginning of a flow"));
    rules.extend(returned(scene));
    rules.extend(connections::rules(scene, "forward"));
    rules.push(rule(
        vec![scene.input_lans(), scene.output_wan(), scene.source_inside()],
        &[Statement::Accept],
        "outbound",
    ));
    rules.push(rule(
        vec![scene.input_lans(), scene.output_wan(), Match::Source4(nat::lans_v4(scene))],
        &[Statement::Accept],
        "outbound, by nat44",
    ));
    rules.extend(nat::forward(scene));
    // On one bridge hosts need no router: this holds where the hypervisor isolates them, and between links.
    let between = vec![scene.input_lans(), scene.output_lans(), scene.source_inside()];
    match scene.topology.config.policy.between {
        Between::Allowed => {
            rules.push(rule(between, &[neighbours::admit()], "between vms, their containers and lans"));
            let ipv4 = vec![scene.input_lans(), scene.output_lans(), Match::Source4(nat::lans_v4(scene))];
            rules.push(rule(ipv4, &[Statement::Accept], "between lans with ipv4"));
        }
        Between::Denied => {
            let between = [scene.input_lans(), scene.output_lans()];
            rules.push(refused(scene, &between, "drop: between vms and lans, denied by policy"));
        }
        Between::ByAllow => {}
    }
    rules.push(allowed::jump(scene));
    rules.push(towards_pref64(scene));
    rules.push(refused(scene, &[scene.input_wan()], "drop: inbound, no allow entry"));
    rules.push(refused(scene, &[], "drop: through the router, not admitted"));
    rules
}

/// Packets that belong to no flow which begins now.
pub(super) fn known(scene: &Scene<'_>) -> Chain {
    let mut rules = translator(scene);
    rules.extend(returned(scene));
    rules.push(rule(
        vec![Match::ConntrackState(vec![ConntrackState::Related]), NOT_ENDED],
        &[Statement::Accept],
        "related to established flows",
    ));
    rules.extend(ended("drop: through the router, not admitted any more"));
    let errors = || vec![Match::Protocol(vec![ICMPV6]), Match::Icmpv6Type(ERRORS_V6.to_vec())];
    let ways = [vec![scene.input_wan(), scene.output_lans()], vec![scene.input_lans()]];
    rules.extend(
        ways.map(|way| rule([errors(), way].concat(), &[neighbours::admit()], "errors, RFC 4890 section 4.3.1")),
    );
    let invalid = vec![Match::ConntrackState(vec![ConntrackState::Invalid])];
    rules.push(rule(invalid, &DROP, "drop: through the router, invalid for connection tracking"));
    Chain { name: KNOWN.to_owned(), hook: None, rules: rules.into_iter().flatten().collect() }
}

/// What a VM sends to its own containers' prefixes and does not know itself would come back to it, and so on until its hops are
/// used up.
fn returned(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let lans = scene.topology.lans.iter().flat_map(|lan| lan.vms.iter().map(move |vm| (lan, vm)));
    lans.map(|(lan, vm)| {
        // The address that SLAAC makes of a hardware address (RFC 4291 appendix A) in each /64 of the link.
        let suffix = vm.mac.map(|mac| u128::from(mac.link_local()) & u128::from(u64::MAX));
        let slaac = suffix.into_iter().flat_map(|suffix| {
            let nets = lan.addresses().filter(|net| net.prefix_len() == 64 && !net.addr().is_unicast_link_local());
            nets.map(move |net| host6((u128::from(net.network()) | suffix).into()))
        });
        let own = slaac.chain(vm.address.map(host6)).chain(vm.containers.iter().copied()).collect();
        let link = || vec![lan.link.name.clone()];
        let matches = vec![
            Match::InputInterface(link()),
            Match::OutputInterface(link()),
            Match::Destination6(vm.containers.clone()),
            Match::Source6(own),
        ];
        rule(matches, &DROP, "drop: back to the vm it came from")
    })
    .collect()
}

/// The translator's packets are untracked: these rules alone admit them.
fn translator(scene: &Scene<'_>) -> Vec<Option<Rule>> {
    let Some(nat64) = scene.nat64 else { return Vec::new() };
    let pool4 = scene.pool4();
    let router = nat64.router_v6.map(host6).into_iter().collect();
    vec![
        rule(
            vec![
                scene.input_lans(),
                output_tun(),
                scene.source_inside(),
                Match::Destination6(nat64.prefixes().collect()),
            ],
            &[Statement::Accept],
            "nat64: from the lans to the translator",
        ),
        rule(
            vec![input_tun(), scene.output_lans(), Match::Source6(nat64.prefixes().collect())],
            &[Statement::Accept],
            "nat64: from the translator to the lans",
        ),
        rule(
            vec![
                input_tun(),
                scene.output_lans(),
                Match::Source6(router),
                Match::Protocol(vec![ICMPV6]),
                Match::Icmpv6Type(ERRORS_V6.to_vec()),
            ],
            &[Statement::Accept],
            "nat64: the translator's own errors",
        ),
        rule(
            vec![input_tun(), scene.output_wan(), Match::Source4(pool4)],
            &[Statement::Accept],
            "nat64: from the translator to the uplink",
        ),
        rule(
            vec![scene.input_wan(), output_tun(), Match::Mark { value: NAT64_MARK, mask: NAT64_MARK_MASK }],
            &[Statement::Accept],
            "nat64: from the uplink to the translator",
        ),
        towards_pref64(scene),
    ]
}

/// The translator is for the LANs alone.
fn towards_pref64(scene: &Scene<'_>) -> Option<Rule> {
    let prefixes = scene.nat64.into_iter().flat_map(|nat64| nat64.prefixes()).collect();
    rule(vec![scene.input_wan(), Match::Destination6(prefixes)], &DROP, "drop: from the uplink towards pref64")
}

/// The chain without a configuration.
pub(super) fn closed() -> Vec<Option<Rule>> {
    vec![rule(Vec::new(), &DROP, "drop: through the router, sixgate is closed")]
}

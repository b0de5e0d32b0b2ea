//! What holds for every plan, whatever the configuration and the machine look like.
use std::fmt::Write;

use proptest::prelude::*;
use sixgate_engine::config::{self, Config};
use sixgate_engine::facts::{Address, AddressState, Facts};
use sixgate_engine::firewall::NEIGHBOURS;
use sixgate_engine::firewall::ruleset::{Match, Policy, Rule, Statement};
use sixgate_engine::plan::{NextHop, Plan, plan, preview, preview_facts};

/// A LAN: a /64 or a longer prefix, with VMs that have an address, a hardware address or neither.
#[derive(Clone, Debug)]
struct LanShape {
    length: u8,
    advertise: bool,
    vms: Vec<VmShape>,
}

#[derive(Clone, Debug)]
struct VmShape {
    next_hop: u8,
    gateway: bool,
    containers: u8,
    allowed: bool,
}

fn vm() -> impl Strategy<Value = VmShape> {
    (0u8..3, any::<bool>(), 0u8..3, any::<bool>()).prop_map(|(next_hop, gateway, containers, allowed)| VmShape {
        next_hop,
        gateway,
        containers,
        allowed,
    })
}

fn lan() -> impl Strategy<Value = LanShape> {
    (prop::sample::select(vec![0u8, 64, 76, 96]), any::<bool>(), prop::collection::vec(vm(), 0..3))
        .prop_map(|(length, advertise, vms)| LanShape { length, advertise, vms })
}

fn text(wan: u8, lans: &[LanShape], nat64: bool, dns64: bool) -> String {
    let mut text = "[wan]\ninterface = \"eth0\"\n".to_owned();
    if wan & 1 != 0 {
        text += "ipv4 = { address = \"203.0.113.2/24\", gateway = \"198.51.100.1\" }\n";
    }
    if wan & 2 != 0 {
        text += "ipv6 = { address = \"2001:db8:f::2/64\", gateway = \"fe80::1\" }\n";
    }
    if wan & 4 != 0 {
        text += "mtu = 1400\n";
    }
    let mut allow = String::new();
    for (l, lan) in lans.iter().enumerate() {
        writeln!(text, "[[lan]]\nname = \"lan{l}\"\ninterface = \"lan{l}\"\nadvertise = {}", lan.advertise).unwrap();
        if lan.length > 0 {
            writeln!(text, "addresses = [\"2001:db8:{l}::1/{}\"]", lan.length).unwrap();
        }
        for (v, vm) in lan.vms.iter().enumerate() {
            writeln!(allow, "[[vm]]\nname = \"vm{l}-{v}\"\nlan = \"lan{l}\"").unwrap();
            match vm.next_hop {
                0 => {}
                1 => writeln!(allow, "address = \"2001:db8:{l}::{v}:a\"").unwrap(),
                _ => writeln!(allow, "mac = \"52:54:00:00:{l:02}:{v:02}\"").unwrap(),
            }
            if vm.gateway {
                writeln!(allow, "gateway = \"2001:db8:{l}:0:{v}8::1/76\"").unwrap();
            }
            let nets: Vec<String> = (0..vm.containers).map(|c| format!("\"2001:db8:{l}:0:1{v}{c}::/80\"")).collect();
            writeln!(allow, "containers = [{}]", nets.join(", ")).unwrap();
        }
    }
    text += &allow;
    for (l, lan) in lans.iter().enumerate() {
        for (v, vm) in lan.vms.iter().enumerate().filter(|(_, vm)| vm.allowed) {
            if vm.next_hop == 1 {
                writeln!(text, "[[allow]]\nto = \"vm{l}-{v}\"\ntcp = [22, \"80-90\"]").unwrap();
            }
            if vm.containers > 0 {
                writeln!(text, "[[allow]]\nto = \"vm{l}-{v}/containers\"\nudp = 53\nicmp = true").unwrap();
            }
        }
    }
    if nat64 {
        text += "[nat64]\n";
    }
    if dns64 {
        text += "[dns64]\nupstream = \"2001:db8:f::53\"\n";
    }
    text
}

/// A machine on which some links are missing, down or without an address.
fn damage(facts: &mut Facts, bits: u32) {
    let missing = |index: u32| bits >> (index * 3) & 7 == 7;
    facts.links.retain(|link| !missing(link.index));
    facts.addresses.retain(|held| !missing(held.link));
    for link in &mut facts.links {
        link.carrier = bits >> (link.index * 3) & 7 != 6;
        link.up = bits >> (link.index * 3) & 7 != 5;
    }
    for held in &mut facts.addresses {
        match bits >> (held.link * 3) & 7 {
            3 => held.state = AddressState::Duplicate,
            4 => held.state = AddressState::Tentative,
            _ => {}
        }
    }
}

prop_compose! {
    fn scene()(
        wan in 0u8..8,
        lans in prop::collection::vec(lan(), 0..4),
        nat64 in any::<bool>(),
        dns64 in any::<bool>(),
        bits in any::<u32>(),
    ) -> (Config, Facts) {
        let text = text(wan, &lans, nat64, dns64);
        let config = config::parse(&text, "scene.toml").unwrap_or_else(|errors| panic!("{text}\n{errors}"));
        let mut facts = preview_facts(&config);
        damage(&mut facts, bits);
        (config, facts)
    }
}

fn rules(plan: &Plan) -> impl Iterator<Item = &Rule> {
    plan.firewall.chains.iter().flat_map(|chain| &chain.rules)
}

fn interfaces(rule: &Rule) -> impl Iterator<Item = &String> {
    rule.matches.iter().flat_map(|condition| match condition {
        Match::InputInterface(names) | Match::OutputInterface(names) => names.as_slice(),
        _ => &[],
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn default_deny_stands_whatever_is_missing((config, facts) in scene()) {
        let plan = plan(&config, &facts);
        for name in ["input", "forward"] {
            let chain = plan.firewall.chains.iter().find(|chain| chain.name == name).unwrap();
            prop_assert_eq!(chain.hook.as_ref().unwrap().policy, Policy::Drop);
            let last = chain.rules.last().unwrap();
            let [Statement::Goto(end)] = &last.statements[..] else { panic!("{last}") };
            let end = plan.firewall.chains.iter().find(|chain| chain.name == *end).unwrap().rules.last().unwrap();
            prop_assert!(last.matches.is_empty() && end.matches.is_empty());
            prop_assert!(end.statements == [Statement::Counter, Statement::Drop]);
        }
        for rule in rules(&plan) {
            // A chain's name or the log's words say it otherwise; the chain of neighbours is where all that is admitted goes.
            let silent = match rule.statements.last() {
                Some(Statement::Goto(chain)) => chain != NEIGHBOURS,
                last => matches!(last, Some(Statement::Log(_))),
            };
            prop_assert!(rule.comment.is_ascii() && rule.comment.len() <= 127, "{}", rule);
            prop_assert_eq!(silent, rule.comment.is_empty(), "{}", rule);
            let refusals = [Statement::Drop, Statement::Reject, Statement::Reset];
            let refuses = rule.statements.iter().any(|statement| refusals.contains(statement));
            prop_assert_eq!(refuses, rule.comment.starts_with("drop: "), "{}", rule);
            prop_assert!(!rule.statements.contains(&Statement::Drop) || rule.statements.contains(&Statement::Counter));
        }
    }

    #[test]
    fn nothing_refers_to_a_link_that_does_not_exist((config, facts) in scene()) {
        let plan = plan(&config, &facts);
        let exists = |index: u32| facts.links.iter().any(|link| link.index == index);
        prop_assert!(plan.network.links.iter().all(|link| exists(link.index)));
        prop_assert!(plan.network.addresses.iter().all(|address| exists(address.link)));
        prop_assert!(plan.ra.iter().all(|ra| exists(ra.link)));
        for route in &plan.network.routes {
            match &route.next {
                NextHop::Gateway { link, .. } | NextHop::Link { link } => prop_assert!(exists(*link), "{:?}", route),
                NextHop::Unreachable => {}
            }
        }
        for name in rules(&plan).flat_map(interfaces) {
            prop_assert!(name == "lo" || name == "nat64" || facts.link(name).is_some(), "{}", name);
        }
    }

    #[test]
    fn advertised_prefixes_keep_to_the_addressing_facts((config, facts) in scene()) {
        for ra in plan(&config, &facts).ra {
            for prefix in &ra.advertisement.prefixes {
                prop_assert!(!prefix.autonomous || prefix.prefix.prefix_len() == 64);
                let carved = config.vms.iter().flat_map(|vm| &vm.containers).any(|net| prefix.prefix.contains(net));
                prop_assert!(!(prefix.on_link && carved), "{}", prefix.prefix);
            }
        }
    }

    #[test]
    fn pref64_works_everywhere_or_nowhere((config, facts) in scene()) {
        let plan = plan(&config, &facts);
        let works = plan.nat64.as_ref().is_some_and(|nat64| nat64.obstacle.is_none());
        prop_assert!(plan.ra.iter().all(|ra| ra.advertisement.pref64.is_none_or(|(_, usable)| usable == works)));
        prop_assert_eq!(plan.dns64.synthesis.is_some(), works && config.dns64.enabled);
        let routed = plan.network.routes.iter().any(|route| route.table == sixgate_engine::plan::NAT64_TABLE);
        prop_assert_eq!(routed, works);
        for prefix in plan.nat64.iter().flat_map(|nat64| nat64.prefixes()) {
            let routes = plan.network.routes.iter().filter(|route| route.to == prefix.into());
            prop_assert_eq!(routes.filter(|route| route.next != NextHop::Unreachable).count(), usize::from(works));
        }
    }

    #[test]
    fn applying_a_plan_does_not_change_it((config, mut facts) in scene()) {
        let first = plan(&config, &facts);
        for address in &first.network.addresses {
            if !facts.addresses.iter().any(|held| held.link == address.link && held.net == address.net) {
                facts.addresses.push(Address { link: address.link, net: address.net, state: AddressState::Ready, ours: true });
            }
        }
        facts.addresses.sort();
        let second = plan(&config, &facts);
        prop_assert_eq!(first.network, second.network);
        prop_assert_eq!(first.firewall, second.firewall);
    }

    #[test]
    fn a_preview_has_no_missing_links((config, _) in scene()) {
        let text = preview(&config);
        prop_assert!(!text.contains("-missing]"), "{}", text);
    }
}

//! A configuration with what is learnt filled in.
use core::time::Duration;

use super::*;
use crate::config::parse;
use crate::prefix::{LearntAddress, Lease4, Uplink6};
use crate::time::Instant;

const FILE: &str = r#"
    [wan]
    interface = "eth0"
    ipv4 = "dhcp"
    ipv6 = "dhcpv6-pd"
    [[lan]]
    name = "vms"
    interface = "eth1"
    addresses = "fe80::1/64"
    prefix = [{ delegated = "wan", subnet = 1, router = "::a" }, { ula = true, subnet = 2 }]
    [[lan]]
    name = "guests"
    interface = "eth2"
    prefix = { delegated = "wan", subnet = 2 }
    [[vm]]
    name = "vm1"
    lan = "vms"
    gateway = "::20:0:0:1/76"
    address = "::20:0:0:2"
    containers = ["::21:0:0:0/80", "2001:db8:77:1::/64"]
"#;

fn given(prefix: &str, retired: bool) -> LearntPrefix {
    let end = Some(Instant::ZERO + Duration::from_secs(900));
    LearntPrefix { prefix: prefix.parse().unwrap(), preferred_until: end, valid_until: end, retired }
}

fn learnt() -> Learnt {
    Learnt {
        ipv4: Some(Lease4 { address: "192.0.2.7/24".parse().unwrap(), gateway: None, routes: Vec::new() }),
        ipv6: Uplink6 {
            addresses: vec![LearntAddress { net: "2001:db8:f::9/64".parse().unwrap(), deprecated: true }],
            router: Some("fe80::1".parse().unwrap()),
            ..Uplink6::default()
        },
        delegated: vec![given("2001:db8:9::/56", false), given("2001:db8:1::/56", true)],
        ula: Some("fd12:3456:789a::/48".parse().unwrap()),
        resolvers: Vec::new(),
        time_servers: Vec::new(),
    }
}

fn resolved(file: &str, learnt: &Learnt) -> (Config, Vec<String>) {
    let config = parse(file, "test").unwrap();
    let mut findings = Vec::new();
    let resolved = resolve(&config, learnt, &mut findings).into_owned();
    (resolved, findings.into_iter().map(|finding| format!("{}: {}", finding.code, finding.subject)).collect())
}

fn text(nets: &[Ipv6Net]) -> Vec<String> {
    nets.iter().map(ToString::to_string).collect()
}

#[test]
fn lans_and_vms_lie_in_every_prefix_that_there_is_the_newest_first() {
    let (config, findings) = resolved(FILE, &learnt());
    assert_eq!(findings, [""; 0]);
    let expected = ["fe80::1/64", "2001:db8:9:1::a/64", "2001:db8:1:1::a/64", "fd12:3456:789a:2::1/64"];
    assert_eq!(text(&config.lans[0].addresses), expected);
    let lifetimes: Vec<_> =
        config.lans[0].lifetimes.iter().map(|lifetime| (lifetime.prefix.to_string(), lifetime.retired)).collect();
    assert_eq!(lifetimes, [("2001:db8:9:1::/64".to_owned(), false), ("2001:db8:1:1::/64".to_owned(), true)]);
    assert_eq!(text(&config.lans[1].addresses), ["2001:db8:9:2::1/64", "2001:db8:1:2::1/64"]);
    let vm = &config.vms[0];
    assert_eq!(vm.gateway.unwrap().to_string(), "2001:db8:9:1:20::1/76");
    assert_eq!(vm.address.unwrap().to_string(), "2001:db8:9:1:20::2");
    let expected = ["2001:db8:77:1::/64", "2001:db8:9:1:21::/80", "2001:db8:1:1:21::/80", "fd12:3456:789a:2:21::/80"];
    assert_eq!(text(&vm.containers), expected);
    assert_eq!(config.wan.ipv4.unwrap().address.to_string(), "192.0.2.7/24");
    let ipv6 = config.wan.ipv6.unwrap();
    assert_eq!((ipv6.addresses.clone(), ipv6.gateway), (ipv6.deprecated, "fe80::1".parse().ok()));
}

#[test]
fn a_static_configuration_comes_back_as_it_is() {
    let file = "[wan]\ninterface = \"eth0\"\nipv4 = { address = \"192.0.2.9/24\" }\n";
    let config = parse(file, "test").unwrap();
    assert!(matches!(resolve(&config, &learnt(), &mut Vec::new()), Cow::Borrowed(_)));
}

#[test]
fn what_does_not_fit_or_overlaps_is_left_out_with_a_finding() {
    let narrow = Learnt { delegated: vec![given("2001:db8:9::/64", false)], ..learnt() };
    let (config, findings) = resolved(FILE, &narrow);
    assert_eq!(findings, ["prefix-too-small: vms", "prefix-too-small: guests"]);
    assert!(config.lans[1].addresses.is_empty());
    let beside = FILE.replace("addresses = \"fe80::1/64\"", "addresses = \"2001:db8:9:2::5/64\"");
    let (config, findings) = resolved(&beside, &learnt());
    assert_eq!(findings, ["prefix-overlaps: guests"]);
    assert_eq!(text(&config.lans[1].addresses), ["2001:db8:1:2::1/64"]);
}

#[test]
fn suffixes_and_subnets_have_one_owner_each() {
    let vm2 = "[[vm]]\nname = \"vm2\"\nlan = \"vms\"\nmac = \"52:54:00:00:00:02\"\n";
    for (more, expected) in [
        (format!("{vm2}containers = \"::21:8000:0:0/96\"\n"), "overlaps ::21:0:0:0/80 of vm1"),
        (format!("{vm2}address = \"::21:0:0:7\"\n"), "overlaps ::21:0:0:0/80 of vm1"),
        (format!("{vm2}address = \"::a\"\n"), "overlaps ::a/128 of the router (vms)"),
        (
            "[[lan]]\nname = \"third\"\ninterface = \"eth3\"\nprefix = { delegated = \"wan\", subnet = 1 }\n".to_owned(),
            "has two owners",
        ),
        (
            "[[lan]]\nname = \"third\"\ninterface = \"eth3\"\n[[vm]]\nname = \"v\"\nlan = \"third\"\ncontainers = \"::5:0:0:0/80\"\n"
                .to_owned(),
            "no prefix to put it into",
        ),
    ] {
        let error = parse(&format!("{FILE}{more}"), "test").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = parse(&FILE.replace("\"dhcpv6-pd\"", "\"ra\""), "test").unwrap_err().to_string();
    assert!(error.contains("nothing is delegated to the uplink"), "{error}");
}

const SHARED: &str = r#"
    [wan]
    interface = "eth0"
    ipv6 = "ra"
    ndp_proxy = true
    [[lan]]
    name = "vms"
    interface = "eth1"
    prefix = { learnt = "wan" }
    [[vm]]
    name = "vm1"
    lan = "vms"
    mac = "52:54:00:00:00:01"
    containers = "::21:0:0:0/80"
"#;

fn on_the_uplink() -> Learnt {
    let net: Ipv6Net = "2001:db8:f::9/64".parse().unwrap();
    Learnt {
        ipv6: Uplink6 {
            addresses: vec![LearntAddress { net, deprecated: false }],
            router: Some("fe80::1".parse().unwrap()),
            routes: vec![(net.trunc(), None), ("2001:db8:e::/64".parse().unwrap(), None)],
            prefixes: vec![given("2001:db8:f::/64", false)],
            ..Uplink6::default()
        },
        resolvers: vec!["2001:db8:f::53".parse().unwrap(), "2001:db8:ffff::53".parse().unwrap()],
        ..Learnt::default()
    }
}

#[test]
fn the_uplinks_own_prefix_is_the_lans_as_well_and_on_link_there() {
    let (config, findings) = resolved(SHARED, &on_the_uplink());
    assert_eq!(findings, [""; 0]);
    assert_eq!(text(&config.lans[0].addresses), ["2001:db8:f:0:64::1/64"]);
    assert_eq!(config.lans[0].lifetimes.len(), 1);
    assert_eq!(text(&config.vms[0].containers), ["2001:db8:f:0:21::/80"]);
    let wan = config.wan.ipv6.unwrap();
    assert_eq!(
        (text(&wan.addresses), text(&wan.shared)),
        (vec!["2001:db8:f::9/128".to_owned()], vec!["2001:db8:f::/64".to_owned()])
    );
    let routes: Vec<String> = wan.routes.iter().map(|(to, via)| format!("{to} {via:?}")).collect();
    assert_eq!(routes, ["2001:db8:e::/64 None", "2001:db8:f::53/128 Some(fe80::1)"]);
}

#[test]
fn a_part_of_the_uplinks_prefix_leaves_the_rest_on_the_uplink() {
    let file = SHARED.replace("{ learnt = \"wan\" }", "{ learnt = \"wan\", subnet = 5, length = 80 }");
    let (config, findings) = resolved(&file.replace("containers = \"::21:0:0:0/80\"", ""), &on_the_uplink());
    assert_eq!(findings, [""; 0]);
    assert_eq!(text(&config.lans[0].addresses), ["2001:db8:f:0:5::1/80"]);
    let wan = config.wan.ipv6.unwrap();
    assert_eq!((text(&wan.addresses), wan.shared), (vec!["2001:db8:f::9/64".to_owned()], Vec::new()));
}

#[test]
fn a_prefix_of_the_file_that_the_uplink_has_too_is_proxied_or_a_finding() {
    let fixed = SHARED.replace("prefix = { learnt = \"wan\" }", "addresses = \"2001:db8:f::1/64\"");
    let (config, findings) = resolved(&fixed, &on_the_uplink());
    assert_eq!(findings, [""; 0]);
    assert_eq!(text(&config.wan.ipv6.unwrap().addresses), ["2001:db8:f::9/128"]);
    let (_, findings) = resolved(&fixed.replace("ndp_proxy = true", ""), &on_the_uplink());
    assert_eq!(findings, ["prefix-on-both-sides: vms"]);
}

#[test]
fn a_prefix_is_shared_where_it_is_learnt_and_proxied_only() {
    for (from, to, expected) in [
        ("ndp_proxy = true", "", "looks for every address of its prefix there"),
        ("ipv6 = \"ra\"", "", "nothing is learnt on the uplink"),
        ("learnt = \"wan\"", "learnt = \"wan\", ula = true", "a prefix has one origin"),
        ("learnt = \"wan\"", "learnt = \"vms\"", "learnt"),
    ] {
        let error = parse(&SHARED.replace(from, to), "test").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

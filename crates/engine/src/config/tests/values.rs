//! What a right file means.
use core::net::Ipv6Addr;
use core::time::Duration;

use super::{BASE, valid};
use crate::config::{Interface, Nat64Timers, Outside, Service, Target, Via};

#[test]
fn the_smallest_file_has_everything_optional_off() {
    let config = valid("[wan]\ninterface = \"eth0\"\n");
    assert_eq!(config.hostname, "sixgate");
    assert_eq!(config.wan.interface, Interface::Name("eth0".to_owned()));
    assert!(config.wan.ipv4.is_none() && config.wan.ipv6.is_none());
    assert!(config.lans.is_empty() && config.vms.is_empty() && config.allow.is_empty());
    assert!(!config.dns64.enabled);
    assert_eq!(config.nat64, None);
}

#[test]
fn router_variables_follow_the_interval_where_they_are_left_out() {
    let config = valid(
        "[wan]\ninterface = \"eth0\"\n[[lan]]\nname = \"a\"\ninterface = \"eth1\"\nadvertise = { max_rtr_adv_interval = 4 }\n",
    );
    let variables = config.lans[0].advertise.as_ref().unwrap();
    assert_eq!(variables.min_rtr_adv_interval, Duration::from_secs(3));
    assert_eq!(variables.adv_default_lifetime, Duration::from_secs(12));
    assert_eq!(variables.adv_cur_hop_limit, 64);
}

#[test]
fn advertise_false_is_no_advertisement_and_absent_is_true() {
    let lan = |more: &str| {
        let text = format!("[wan]\ninterface = \"eth0\"\n[[lan]]\nname = \"a\"\ninterface = \"eth1\"\n{more}");
        valid(&text).lans.remove(0).advertise
    };
    assert_eq!(lan("advertise = false\n"), None);
    assert_eq!(lan("advertise = true\n"), lan(""));
    assert!(lan("").is_some());
}

#[test]
fn upstreams_take_port_53_unless_told_otherwise() {
    let text =
        format!("{BASE}[dns64]\nupstream = [\"2620:fe::fe\", \"9.9.9.9:5353\", \"[2620:fe::9]:853\", \"127.0.0.1\"]\n");
    let learnt = valid(&format!("{BASE}[dns64]\nupstream = \"learnt\"\n")).dns64;
    assert!(learnt.learn_upstream && learnt.upstream.is_empty());
    let upstream: Vec<String> = valid(&text).dns64.upstream.iter().map(ToString::to_string).collect();
    assert_eq!(upstream, ["[2620:fe::fe]:53", "9.9.9.9:5353", "[2620:fe::9]:853", "127.0.0.1:53"]);
    let text = r#"upstream = ["tls://9.9.9.9", "tls://[2620:fe::9]:8853#dns.Quad9.net", "https://[2620:fe::fe]#dns.quad9.net", "https://1.1.1.1:4443/q#one.one", "192.0.2.1"]"#;
    let dns64 = valid(&format!("{BASE}[dns64]\n{text}\n")).dns64;
    let encrypted: Vec<String> = dns64.encrypted.iter().map(ToString::to_string).collect();
    let expected = [
        "tls://9.9.9.9:853#9.9.9.9",
        "tls://[2620:fe::9]:8853#dns.quad9.net",
        "https://[2620:fe::fe]:443/dns-query#dns.quad9.net",
        "https://1.1.1.1:4443/q#one.one",
    ];
    assert_eq!(encrypted, expected);
    assert_eq!(dns64.upstream.len(), 5);
}

#[test]
fn a_switched_off_translator_is_none_but_still_checked() {
    assert_eq!(valid(&format!("{BASE}[nat64]\nenabled = false\n")).nat64, None);
    let error = super::error_of("[nat64]\nenabled = false\nprefix = \"64:ff9b::/95\"\n");
    assert!(error.starts_with("3:10 "), "{error}");
}

#[test]
fn allow_entries_know_their_targets_and_their_line() {
    let text = format!(
        "{BASE}[[allow]]\nto = \"vm1/containers::5\"\ntcp = [443, \"1000-2000\", \"1500-3000\"]\n\
         [[allow]]\nto = \"vms::7\"\nudp = 53\n[[allow]]\nto = \"vm1\"\nicmp = true\n[[allow]]\nto = \"2001:db8:1:2:8000::/66\"\ntcp = 1\n"
    );
    let config = valid(&text);
    let suffix = |text: &str| Some(text.parse::<Ipv6Addr>().unwrap());
    let targets: Vec<&Target> = config.allow.iter().map(|allow| &allow.to).collect();
    assert_eq!(
        targets,
        [
            &Target::Containers("vm1".to_owned(), suffix("::5")),
            &Target::Lan("vms".to_owned(), suffix("::7")),
            &Target::Vm("vm1".to_owned()),
            &Target::Prefix("2001:db8:1:2:8000::/66".parse().unwrap()),
        ]
    );
    assert_eq!(config.allow[0].tcp, [443..=443, 1000..=3000]);
    let lines = BASE.lines().count();
    let at: Vec<usize> = config.allow.iter().map(|allow| allow.line - lines).collect();
    assert_eq!(at, [1, 4, 7, 10]);
}

#[test]
fn a_name_comes_before_an_address_that_it_could_be() {
    let text = "[wan]\ninterface = \"eth0\"\n[[lan]]\nname = \"cafe\"\ninterface = \"eth1\"\naddresses = [\"2001:db8::1/64\"]\n\
                [[allow]]\nto = \"cafe::5\"\ntcp = 1\n";
    assert_eq!(valid(text).allow[0].to, Target::Lan("cafe".to_owned(), Some("::5".parse().unwrap())));
}

#[test]
fn more_specific_prefixes_inside_wider_ones_are_normal() {
    let config = valid(
        "[wan]\ninterface = \"eth0\"\nipv6 = { address = \"2001:db8:1:2:10::1/76\", gateway = \"fe80::1\" }\n\
         [[lan]]\nname = \"vms\"\ninterface = \"eth1\"\naddresses = [\"2001:db8:1:2::1/64\", \"fe80::1/64\"]\n\
         [[lan]]\nname = \"more\"\ninterface = \"eth2\"\naddresses = [\"fe80::1/64\"]\n\
         [[vm]]\nname = \"vm1\"\nlan = \"vms\"\ngateway = \"2001:db8:1:2:20::1/76\"\naddress = \"2001:db8:1:2:20::2\"\n\
         containers = [\"2001:db8:1:2:21::/80\", \"2001:db8:1:2:22::/80\"]\n\
         [[route]]\nto = \"2001:db8:1::/48\"\nvia = \"unreachable\"\n[[route]]\nto = \"2001:db8:9::/48\"\nvia = \"fe80::9%vms\"\n",
    );
    assert_eq!(config.vms[0].containers.len(), 2);
    assert_eq!(config.routes[0].via, Via::Unreachable);
    assert_eq!(config.routes[1].via, Via::Gateway("fe80::9".parse().unwrap(), Some("vms".to_owned())));
}

/// RFC 6146 section 4.
#[test]
fn timers_have_the_defaults_of_rfc_6146_and_can_be_set() {
    let timers = |text: &str| valid(&format!("{BASE}{text}")).nat64.unwrap().timers;
    let seconds = |timers: Nat64Timers| {
        [
            timers.udp_default,
            timers.tcp_est,
            timers.tcp_trans,
            timers.tcp_incoming_syn,
            timers.icmp_default,
            timers.fragment_min,
        ]
        .map(|timer| timer.as_secs())
    };
    assert_eq!(seconds(timers("[nat64]\n")), [5 * 60, 2 * 3600 + 4 * 60, 4 * 60, 6, 60, 2]);
    let set = "[nat64.timers]\nudp_default = 121\ntcp_est = 7441\ntcp_trans = 241\ntcp_incoming_syn = 7\n\
               icmp_default = 61\nfragment_min = 3\n";
    assert_eq!(seconds(timers(set)), [121, 7441, 241, 7, 61, 3]);
}

#[test]
fn published_ports_know_their_address_their_host_and_who_may_come() {
    let text = format!(
        "{}[nat64]\npool = [\"203.0.113.140\", \"198.51.100.0/30\"]\n\
         [[publish]]\nlisten = [\"wan:tcp/8000-8010\", \"203.0.113.136:udp/53\"]\nto = \"vm1/containers::1:5:443\"\n\
         [[publish]]\nlisten = \"198.51.100.3:icmp\"\nto = \"2001:db8:1:2::2\"\nfrom = \"192.0.2.1\"\n",
        BASE.replacen("[wan]\n", "[wan]\nipv4 = { address = \"203.0.113.136/26\" }\n", 1)
    );
    let config = valid(&text);
    let [ports, echo] = config.publish.as_slice() else { panic!("{:?}", config.publish) };
    let listen: Vec<String> = ports.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["wan:tcp/8000-8010", "wan:udp/53"], "the uplink's own address is known as such");
    assert_eq!(ports.to, Target::Containers("vm1".to_owned(), Some("::1:5".parse().unwrap())));
    assert_eq!(ports.port, Some(443));
    assert_eq!(
        (echo.listen[0].at, &echo.listen[0].service),
        (Outside::PoolV4([198, 51, 100, 3].into()), &Service::Echo)
    );
    assert_eq!((&echo.to, echo.port), (&Target::Prefix("2001:db8:1:2::2/128".parse().unwrap()), None));
    assert_eq!(echo.from, ["192.0.2.1/32".parse().unwrap()]);
    let pool = &config.nat64.as_ref().unwrap().pool;
    assert_eq!((pool.len(), config.nat64.as_ref().unwrap().pool_ports.clone()), (5, 1024..=65_535));
}

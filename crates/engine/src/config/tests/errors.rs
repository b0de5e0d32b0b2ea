//! What a wrong file is told: place, what is wrong, and the mend.
use super::{BASE, error_of, errors, valid};
use crate::config::parse;

/// The error of BASE and `more` lies at `place` and says all of `words`.
#[track_caller]
fn says(more: &str, place: &str, words: &[&str]) {
    let error = error_of(more);
    assert!(error.starts_with(&format!("{place} ")), "expected {place}: {error}");
    for word in words {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_table_and_the_known_ones() {
    says("[nat64]\nprefx = \"64:ff9b::/96\"\n", "2:1", &["unknown key `prefx` in [nat64]", "`prefix`"]);
    says("[nat65]\n", "1:2", &["unknown key `nat65`", "nat64"]);
    says("[nat64]\ntimers = { tcp = 1 }\n", "2:12", &["unknown key `tcp` in [nat64.timers]", "`tcp_est`"]);
}

#[test]
fn a_wrong_type_names_what_the_key_takes() {
    says("[nat64]\nmax_sessions = \"many\"\n", "2:16", &["max_sessions", "integer, 16 to 4000000"]);
    says("[nat64]\nenabled = 1\n", "2:11", &["enabled", "true or false"]);
    says("[[allow]]\nto = \"vm1\"\ntcp = [true]\n", "3:8", &["tcp", "1 to 65535"]);
    says("[vm2]\nname = \"x\"\n", "1:2", &["unknown key `vm2`"]);
    says("[route]\nto = \"::/0\"\n", "1:1", &["not a list of tables", "[[route]]"]);
}

#[test]
fn the_translators_policy_names_what_it_takes() {
    for (text, place, parts) in [
        ("[nat64]\ntos = 256\n", "2:7", ["tos", "RFC 7915 section 5.1"]),
        ("[nat64]\ntraffic_class = -1\n", "2:17", ["traffic_class", "RFC 7915 section 4.1"]),
        ("[nat64]\nlowest_ipv6_mtu = 1279\n", "2:19", ["lowest_ipv6_mtu", "RFC 7915 section 4"]),
        ("[nat64]\nudp_checksum_zero = \"pass\"\n", "2:21", ["\"calculate\" or \"drop\"", "RFC 7915 section 4.5"]),
        ("[nat64]\nclamp_mss = 1\n", "2:13", ["clamp_mss", "true or false"]),
        ("[nat64]\nmax_sessions = 1000000\n", "2:16", ["do not fit 32 MiB", "memory = 397"]),
        ("[nat64.limits]\nprefix_length = 129\n", "2:17", ["32 to 128", "a prefix of this length"]),
        ("[nat64.limits]\nsessions = 1\n", "2:12", ["16 to 4000000", "RFC 6888 REQ-4"]),
        ("[nat64]\nfiltering = \"none\"\n", "2:13", ["\"address-dependent\" or", "RFC 4787 REQ-8"]),
        ("[nat64]\nicmp_errors_per_second = 100001\n", "2:26", ["0 (none) to 100000", "RFC 4443"]),
    ] {
        says(text, place, &parts);
    }
}

#[test]
fn a_value_out_of_range_names_the_rfc_and_the_range() {
    let lan = "[[lan]]\nname = \"b\"\ninterface = \"eth2\"\n";
    let words: [(&str, &str, &[&str]); 17] = [
        ("mtu = 1279\n", "4:7", &["mtu", "1280", "RFC 8200 section 5"]),
        (
            "advertise = { max_rtr_adv_interval = 3 }\n",
            "4:38",
            &["MaxRtrAdvInterval", "4 to 65535", "RFC 4861 section 6.2.1"],
        ),
        ("advertise = { min_rtr_adv_interval = 451 }\n", "4:38", &["MinRtrAdvInterval", "0.75 * MaxRtrAdvInterval"]),
        (
            "advertise = { adv_default_lifetime = 599 }\n",
            "4:38",
            &["AdvDefaultLifetime", "0 or MaxRtrAdvInterval to 65535"],
        ),
        ("advertise = { adv_cur_hop_limit = 256 }\n", "4:35", &["AdvCurHopLimit", "0 to 255"]),
        ("advertise = { adv_reachable_time = 3600001 }\n", "4:36", &["AdvReachableTime", "3600000"]),
        (
            "advertise = { adv_preferred_lifetime = 2592001 }\n",
            "4:40",
            &["AdvPreferredLifetime", "0 to AdvValidLifetime"],
        ),
        ("advertise = { adv_link_mtu = 1279 }\n", "4:30", &["AdvLinkMTU", "1280"]),
        ("advertise = { adv_retrans_timer = -1 }\n", "4:35", &["AdvRetransTimer", "4294967295"]),
        ("advertise = { default_router_preference = \"best\" }\n", "4:43", &["Default Router Preference", "\"low\""]),
        ("advertise = { captive_portal = \"http://p.test\" }\n", "4:32", &["https://", "RFC 8910"]),
        ("advertise = { other_routers = \"2001:db8::2\" }\n", "4:31", &["link-local"]),
        ("advertise = { route = [{ prefix = \"2001:db8::1/48\" }] }\n", "4:35", &["host bits"]),
        ("advertise = { route = [{ prefix = \"::/0\", lifetime = -1 }] }\n", "4:54", &["Route Lifetime"]),
        (
            "advertise = { encrypted_dns = [{ name = \"d.test\", alpn = \"dot\" }] }\n",
            "4:32",
            &["`addresses` is missing"],
        ),
        (
            "advertise = { adv_prefix_list = [{ prefix = \"2001:db8:9::/64\" }] }\n",
            "4:45",
            &["not a prefix of this lan"],
        ),
        (
            "addresses = [\"2001:db8::1/64\"]\nadvertise = { adv_prefix_list = [{ prefix = \"2001:db8::/64\", adv_valid_lifetime = 5, adv_preferred_lifetime = 6 }] }\n",
            "5:111",
            &["AdvPreferredLifetime", "0 to AdvValidLifetime"],
        ),
    ];
    for (more, place, words) in words {
        says(&format!("{lan}{more}"), place, words);
    }
    says("[nat64.timers]\ntcp_est = 7439\n", "2:11", &["TCP_EST", "7440", "RFC 5382 REQ-5"]);
    says("[nat64.timers]\nudp_default = 119\n", "2:15", &["UDP_DEFAULT", "UDP_MIN"]);
}

#[test]
fn two_links_with_the_same_prefix_have_two_owners() {
    let lan = "[[lan]]\nname = \"b\"\ninterface = \"eth2\"\naddresses = [\"2001:db8:1:2::9/64\"]\n";
    says(lan, "4:14", &["2001:db8:1:2::/64 has two owners: vms and b"]);
}

#[test]
fn overlapping_container_prefixes_are_errors_at_the_later_one() {
    let vm = |containers: &str| {
        format!("[[vm]]\nname = \"vm2\"\nlan = \"vms\"\naddress = \"2001:db8:1:2::3\"\ncontainers = {containers}\n")
    };
    says(
        &vm("\"2001:db8:1:2:21::/80\""),
        "5:14",
        &["2001:db8:1:2:21::/80 of vm2 overlaps 2001:db8:1:2:21::/80 of vm1"],
    );
    says(&vm("\"2001:db8:1:2:20::/76\""), "5:14", &["of vm2 overlaps"]);
    says(&vm("\"2001:db8:1:2:21:8000::/81\""), "5:14", &["of vm2 overlaps"]);
    says(&vm("[\"2001:db8:9::/80\", \"2001:db8:9::/81\"]"), "5:34", &["of vm2 overlaps 2001:db8:9::/80 of vm2"]);
}

#[test]
fn the_same_address_twice_is_an_error() {
    let vm = |more: &str| format!("[[vm]]\nname = \"vm2\"\nlan = \"vms\"\n{more}\n");
    says(&vm("address = \"2001:db8:1:2::2\""), "4:11", &["2001:db8:1:2::2 is given twice", "vm1 has it already"]);
    says(
        &vm("gateway = \"2001:db8:1:2::1/64\""),
        "4:11",
        &["2001:db8:1:2::1 is given twice", "leave the vm's `gateway` out"],
    );
}

#[test]
fn a_container_prefix_holds_neither_its_next_hop_nor_the_router() {
    let vm = |address: &str, net: &str| {
        format!("[[vm]]\nname = \"b\"\nlan = \"vms\"\naddress = \"{address}\"\ncontainers = \"{net}\"\n")
    };
    says(&vm("2001:db8:9::5", "2001:db8:9::/80"), "5:14", &["contains 2001:db8:9::5, the address of b", "next hop"]);
    says(
        &vm("2001:db8:1:2:8::5", "2001:db8:1:2::/80"),
        "5:14",
        &["contains 2001:db8:1:2::1, the address of the router"],
    );
}

#[test]
fn a_prefix_is_on_link_or_routed_but_not_both() {
    let vm = "[[vm]]\nname = \"b\"\nlan = \"vms\"\ngateway = \"2001:db8:5::1/64\"\naddress = \"2001:db8:5::2\"\n";
    let found = errors(&format!("{BASE}{vm}containers = \"2001:db8:5::/64\"\n"));
    assert!(
        found.iter().any(|error| error.message.contains("has two owners: on-link at vms, and containers of b")),
        "{found:#?}"
    );
    says(
        "[[route]]\nto = \"2001:db8:1:2:21::/80\"\nvia = \"unreachable\"\n",
        "2:6",
        &["two owners", "it is routed to vm1"],
    );
    says("[[route]]\nto = \"2001:db8:1:2::/64\"\nvia = \"unreachable\"\n", "2:6", &["two owners", "on-link at vms"]);
}

#[test]
fn a_link_named_twice_is_an_error() {
    says("[[lan]]\nname = \"b\"\ninterface = \"eth1\"\n", "3:13", &["named twice", "vms has it already"]);
    says("[[lan]]\nname = \"b\"\ninterface = \"eth0\"\n", "3:13", &["named twice", "wan has it already"]);
    says(
        "[[lan]]\nname = \"b\"\ninterface = \"eth2\"\nmac = \"52:54:00:00:00:01\"\n",
        "4:7",
        &["both `interface` and `mac`"],
    );
    says("[[lan]]\nname = \"b\"\n", "1:1", &["`interface` is missing in [lan]"]);
}

#[test]
fn a_name_is_given_once_and_is_a_name() {
    says("[[vm]]\nname = \"vms\"\nlan = \"vms\"\n", "2:8", &["\"vms\" is given twice", "there is a lan of that name"]);
    says("[[vm]]\nname = \"router\"\nlan = \"vms\"\n", "2:8", &["\"router\" cannot be a name"]);
    says("[[vm]]\nname = \"v m\"\nlan = \"vms\"\n", "2:8", &["1 to 32 letters"]);
    says("[[vm]]\nlan = \"vms\"\n", "1:1", &["`name` is missing in [vm]"]);
}

#[test]
fn a_reference_to_nothing_lists_what_there_is() {
    says("[[vm]]\nname = \"b\"\nlan = \"vmz\"\n", "3:7", &["there is no lan \"vmz\"", "known lans: vms"]);
    says("[[allow]]\nto = \"vm9\"\ntcp = 1\n", "2:6", &["\"vm9\" names nothing", "known names: vm1, vms"]);
    says("[[allow]]\nto = \"vm9/containers\"\ntcp = 1\n", "2:6", &["names nothing"]);
    says("[[allow]]\nto = \"2001:db8:99::1\"\ntcp = 1\n", "2:6", &["lies in no prefix of this network"]);
    says("[[allow]]\nto = \"2001:db8:1:2::1\"\ntcp = 1\n", "2:6", &["is the router itself", "to = \"router\""]);
    says("[[route]]\nto = \"2001:db8:9::/48\"\nvia = \"fe80::1%eth7\"\n", "3:7", &["\"eth7\" is neither an interface"]);
}

#[test]
fn an_entry_of_the_allowlist_that_cannot_work_is_an_error() {
    says("[[allow]]\nto = \"vm1\"\n", "1:1", &["admits nothing"]);
    says("[[allow]]\nto = \"vm1\"\ntcp = []\n", "3:7", &["empty list"]);
    says("[[allow]]\nto = \"vm1\"\ntcp = 0\n", "3:7", &["1 to 65535"]);
    says("[[allow]]\nto = \"vm1\"\nudp = \"9-8\"\n", "3:7", &["out of range"]);
    says("[[allow]]\nto = \"vm1\"\ntcp = 1\nfrom = \"192.0.2.0/24\"\n", "4:8", &["IPv4", "[[publish]]"]);
    says(
        "[[allow]]\nto = \"vm1/containers::1:0:0:0:5\"\ntcp = 1\n",
        "2:6",
        &["reaches into the prefix", "last 48 bits"],
    );
    says("[[allow]]\nto = \"vms5\"\ntcp = 1\n", "2:6", &["names nothing"]);
}

#[test]
fn host_bits_and_missing_lengths_are_errors_with_the_mend() {
    says(
        "[[route]]\nto = \"2001:db8:77::1/48\"\nvia = \"unreachable\"\n",
        "2:6",
        &["host bits", "write 2001:db8:77::/48"],
    );
    says("[[vm]]\nname = \"b\"\nlan = \"vms\"\ncontainers = \"2001:db8:9::\"\n", "4:14", &["no prefix length"]);
    says(
        "[[vm]]\nname = \"b\"\nlan = \"vms\"\ngateway = \"2001:db8:9::/64\"\n",
        "4:11",
        &["is a prefix, not an address", "2001:db8:9::1/64"],
    );
    says("[[vm]]\nname = \"b\"\nlan = \"vms\"\naddress = \"ff02::1\"\n", "4:11", &["multicast"]);
    says(
        "[[vm]]\nname = \"b\"\nlan = \"vms\"\ngateway = \"fe80::1/64\"\n",
        "4:11",
        &["link-local", "leave `gateway` out"],
    );
}

#[test]
fn the_nat64_prefix_is_one_of_rfc_6052() {
    says("[nat64]\nprefix = \"2001:db8:64::/97\"\n", "2:10", &["length 97", "32, 40, 48, 56, 64 or 96", "RFC 6052"]);
    says("[nat64]\nprefix = \"2001:db8:64:0:100::/96\"\n", "2:10", &["bits 64 to 71", "RFC 6052 section 2.2"]);
    says("[nat64]\nprefix = \"2001:db8:1:2::/96\"\n", "2:10", &["overlaps 2001:db8:1:2::/64 of vms"]);
    says(
        "[nat64]\ntranslate_non_global = [\"10.0.0.0/8\"]\n",
        "2:24",
        &["64:ff9b::/96", "RFC 6052 section 3.1", "RFC 8215"],
    );
    says(
        "[nat64]\nprefix = \"64:ff9b:1::/96\"\ntranslate_non_global = [\"0.0.0.0/0\"]\n",
        "3:25",
        &["overlaps 0.0.0.0/8"],
    );
    says(
        "[nat64]\nports = \"36864-65535\"\n",
        "2:9",
        &["out of range", "40960-65535", "36864-40959 are kept for NAT44"],
    );
}

#[test]
fn each_of_several_nat64_prefixes_is_checked() {
    says("[nat64]\nprefix = [\"64:ff9b::/96\", \"2001:db8:64::/97\"]\n", "2:27", &["length 97"]);
    says("[nat64]\nprefix = [\"64:ff9b::/96\", \"2001:db8:1:2::/96\"]\n", "2:27", &["overlaps 2001:db8:1:2::/64"]);
    says("[nat64]\nprefix = [\"64:ff9b::/96\", \"64:ff9b::/96\"]\n", "2:27", &["there already"]);
    says("[nat64]\nprefix = []\n", "2:10", &["a list of up to 8"]);
    let config = valid(&format!(
        "{BASE}[nat64]\nprefix = [\"64:ff9b::/96\", \"2001:db8:64::/64\"]\ntranslate_non_global = \"10.0.0.0/8\"\n"
    ));
    let nat64 = config.nat64.unwrap();
    assert_eq!((nat64.prefix.to_string(), nat64.further_prefixes.len()), ("64:ff9b::/96".to_owned(), 1));
}

/// RFC 4787 REQ-5, RFC 5382 REQ-5, RFC 5508 REQ-2, RFC 6146 section 4.
#[test]
fn no_timer_goes_below_what_its_rfc_allows() {
    for (timer, least) in [
        ("udp_default", 120),
        ("tcp_est", 7440),
        ("tcp_trans", 240),
        ("tcp_incoming_syn", 6),
        ("icmp_default", 60),
        ("fragment_min", 2),
    ] {
        let place = format!("2:{}", timer.len() + 4);
        says(&format!("[nat64.timers]\n{timer} = {}\n", least - 1), &place, &[timer, &least.to_string(), "RFC"]);
    }
}

#[test]
fn next_hops_lie_on_a_link() {
    says(
        "[[route]]\nto = \"2001:db8:9::/48\"\nvia = \"fe80::1\"\n",
        "3:7",
        &["does not say on which link", "fe80::1%wan"],
    );
    says("[[route]]\nto = \"2001:db8:9::/48\"\nvia = \"2001:db8:8::1\"\n", "3:7", &["lies in no prefix"]);
    says("[[route]]\nto = \"2001:db8:9::/48\"\nvia = \"2001:db8:1:2::1\"\n", "3:7", &["is the router itself"]);
    says("[[route]]\nto = \"192.0.2.0/24\"\nvia = \"2001:db8:1:2::9\"\n", "3:7", &["one is IPv6, the other IPv4"]);
}

#[test]
fn the_resolver_needs_somebody_else_to_ask() {
    says("[dns64]\n", "1:1", &["`upstream` is missing in [dns64]"]);
    says("[dns64]\nupstream = \"2001:db8:1:2::1\"\n", "2:12", &["is the router itself"]);
    for wrong in ["tls://dns.example", "tls://9.9.9.9/a", "https://9.9.9.9#-", "quic://9.9.9.9", "tls://9.9.9.9:0"] {
        says(
            &format!("[dns64]\nupstream = \"{wrong}\"\n"),
            "2:12",
            &["is no upstream", "tls://192.0.2.53#dns.example"],
        );
    }
    let twice = "[dns64]\nupstream = [\"tls://9.9.9.9#a.example\", \"tls://9.9.9.9#b.example\"]\n";
    says(twice, "2:40", &["named twice"]);
    says("[dns64]\nupstream = \"9.9.9.9\"\nkey = \"a\"\n", "3:7", &["without `certificate`"]);
    says("[dns64]\nupstream = \"9.9.9.9\"\ncertificate = \"a\"\n", "3:15", &["without `key`"]);
    says(
        "[dns64]\nupstream = \"9.9.9.9\"\ncertificate = \"a\"\nkey = \"-----BEGIN PRIVATE KEY-----\"\n",
        "3:15",
        &["PEM"],
    );
    says("[dns64]\nupstream = \"9.9.9.9\"\nupstream_authority = \"MIIB\"\n", "3:22", &["no certificate in PEM"]);
    says("[dns64]\nupstream = \"9.9.9.9\"\ntrust_anchor = \". 257 3 8 A\"\n", "3:16", &["DNSKEY"]);
    says("[dns64]\nupstream = \"9.9.9.9\"\nrate = -1\n", "3:8", &["1000000"]);
    says("[dns64]\nupstream = \"9.9.9.9\"\nprivate_domains = \".\"\n", "3:19", &["RFC 1035"]);
    says(
        "[dns64]\nupstream = \"9.9.9.9\"\nmap = [{ ipv4 = \"10.0.0.0/8\" }]\n",
        "3:8",
        &["`prefix` is missing in [dns64.map]"],
    );
    says(
        "[dns64]\nupstream = \"9.9.9.9\"\nmap = [{ ipv4 = \"10.0.0.0/8\", prefix = \"2001:db8::/72\" }]\n",
        "3:40",
        &["Pref64::/n"],
    );
    says("[dns64]\nupstream = \"9.9.9.9\"\nsearch = \"a..b\"\n", "3:10", &["RFC 1035"]);
}

#[test]
fn an_uplink_that_presents_another_hardware_address_is_named() {
    let by_name = "[wan]\ninterface = \"eth0\"\nndp_proxy = true\npresent_mac = \"00:50:56:00:aa:bb\"\n";
    let wan = parse(by_name, "test").unwrap().wan;
    assert!(wan.ndp_proxy && wan.present_mac == "00:50:56:00:aa:bb".parse().ok());
    let by_mac = by_name.replace("interface = \"eth0\"", "mac = \"52:54:00:00:00:01\"");
    assert!(errors(&by_mac)[0].message.contains("does not keep"));
    let multicast = by_name.replace("00:50", "01:50");
    assert!(errors(&multicast)[0].message.contains("not a unicast hardware address"));
}

#[test]
fn all_errors_are_found_at_once_and_in_the_files_order() {
    let found = errors(
        "hostname = \"-\"\n[wan]\ninterfaces = \"eth0\"\nmtu = 12\nipv4 = 7\n[[lan]]\nname = \"a b\"\nfoo = 1\n[nat64]\nports = \"1-2\"\nbar = 1\n",
    );
    let places: Vec<(usize, usize)> = found.iter().map(|error| (error.line, error.column)).collect();
    assert_eq!(
        places,
        [(1, 12), (2, 1), (3, 1), (4, 7), (5, 8), (6, 1), (7, 8), (8, 1), (10, 9), (11, 1)],
        "{found:#?}"
    );
}

#[test]
fn syntax_errors_end_the_search_early_and_have_their_place() {
    let found = errors("[wan\ninterface = \"eth0\"\nmtu = 1\n");
    assert_eq!((found[0].line, found[0].column), (1, 5));
    assert!(found.iter().all(|error| !error.message.contains("out of range")));
    let twice = errors("[wan]\ninterface = \"eth0\"\ninterface = \"eth1\"\n");
    assert_eq!((twice[0].line, twice[0].column), (3, 1), "{twice:?}");
}

#[test]
fn an_error_displays_as_an_excerpt_with_a_caret_and_the_mend() {
    let text = "hostname = \"é\"\n[wan]\ninterface = \"eth0\"\nmtu = 12 # ü\n";
    let shown = parse(text, "sixgate.toml").unwrap_err().to_string();
    let expected = "\
error: `mtu` = 12 is out of range
 --> sixgate.toml:4:7
  |
4 | mtu = 12 # ü
  |       ^^
  |
  = help: mtu: integer, 1280 (RFC 8200 section 5) to 65535; default: as the link has it";
    assert!(shown.contains(expected), "{shown}");
    assert!(shown.ends_with("sixgate.toml: 2 errors"), "{shown}");
}

const NAT64: &str = "[nat64]\npool = \"203.0.113.140-203.0.113.141\"\n";

#[test]
fn what_cannot_be_published_is_an_error_that_names_the_mend() {
    let entry = |listen: &str, to: &str| format!("{NAT64}[[publish]]\nlisten = {listen}\nto = \"{to}\"\n");
    for (listen, to, place, words) in [
        ("\"wan:sctp/1\"", "vm1:1", "4:10", ["`listen` cannot be", "ADDRESS:icmp"]),
        ("\"wan:tcp/0\"", "vm1:1", "4:10", ["`listen` cannot be", "8000-8010"]),
        ("\"wan:tcp/9-8\"", "vm1:1", "4:10", ["`listen` cannot be", "8000-8010"]),
        ("\"wan:tcp/443\"", "vm1", "5:6", ["has no port at its end", "vm1:443"]),
        ("\"wan:tcp/443\"", "vm1/containers::5", "5:6", ["has no port at its end", "vm1/containers::5:443"]),
        ("\"wan:tcp/443\"", "vm9:443", "5:6", ["names nothing", "known names: vm1, vms"]),
        ("\"wan:tcp/443\"", "vms:443", "5:6", ["is no single host", "vms::5:443"]),
        ("\"wan:tcp/443\"", "router:443", "5:6", ["is no single host", "vm1:443"]),
        ("\"wan:tcp/443\"", "[2001:db8:99::1]:443", "5:6", ["lies in no prefix of this network", "name a lan"]),
        ("\"wan:tcp/443-445\"", "vm1:65534", "5:6", ["beyond 65535", "lower first port"]),
        ("\"wan:tcp/36000\"", "vm1:1", "4:10", ["32768 to 36863", "the router's own traffic"]),
        ("\"wan:udp/40000-41000\"", "vm1:1", "4:10", ["36864 to 40959", "NAT44"]),
        ("\"203.0.113.142:tcp/1\"", "vm1:1", "4:10", ["no address of the translator", "nat64.pool"]),
        ("[\"wan:tcp/1\", \"wan:tcp/1\"]", "vm1:1", "4:24", ["listed twice", "other ports"]),
        ("[\"wan:tcp/1\", \"203.0.113.140:tcp/1\"]", "vm1:1", "5:6", ["twice here", "RFC 6146 section 3.1"]),
    ] {
        let found = errors(&format!("{BASE}{}", entry(listen, to)));
        let lines = BASE.lines().count();
        let [error, ..] = found.as_slice() else { panic!("no error") };
        let said = format!("{}:{} {} | {}", error.line - lines, error.column, error.message, error.mend);
        assert!(said.starts_with(place), "expected {place}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} in {said}");
    }
}

#[test]
fn what_is_published_stands_in_nobodys_way() {
    let two =
        |more: &str| format!("{NAT64}[[publish]]\nlisten = \"wan:tcp/443\"\nto = \"vm1:443\"\n[[publish]]\n{more}");
    says(&two("listen = \"wan:tcp/440-450\"\nto = \"vm1:500\"\n"), "7:10", &["published in line 16 already"]);
    says(&two("listen = \"wan:tcp/444\"\nto = \"vm1:443\"\n"), "8:6", &["the host's port is published in line 16"]);
    says(&two("listen = \"wan:tcp/444\"\nto = \"vm1:444\"\nfrom = \"2001:db8::/32\"\n"), "9:8", &["is IPv6"]);
    let router = "[[allow]]\nto = \"router\"\ntcp = [22, 80]\n";
    let publish = "[[publish]]\nlisten = \"wan:tcp/22\"\nto = \"vm1:22\"\n";
    says(&format!("{NAT64}{router}{publish}"), "7:10", &["admits this port to the router itself", "from = \"::/0\""]);
    valid(&format!("{BASE}{NAT64}{}from = \"::/0\"\n{publish}", router));
    says(publish, "2:10", &["by the translator, and that is off", "[nat64]"]);
}

#[test]
fn a_pool_is_of_unicast_addresses_each_once_and_of_1024_at_most() {
    for (pool, words) in [
        ("\"203.0.113.140-203.0.113.130\"", ["cannot be", "at most 1024"]),
        ("\"203.0.113.1/26\"", ["cannot be", "a range or a prefix"]),
        ("\"10.0.0.0/21\"", ["out of range", "at most 1024"]),
        ("\"224.0.0.1\"", ["a multicast address", "at most 1024"]),
        ("[\"203.0.113.1\", \"203.0.113.0/31\"]", ["203.0.113.1 is given twice", "its own"]),
    ] {
        let error = error_of(&format!("[nat64]\npool = {pool}\n"));
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
    }
    says("[nat64]\npool_ports = \"0-1\"\n", "2:14", &["within 1-65535"]);
    says("[nat64]\nport_block = 63\n", "2:14", &["out of range", "64 to 8192"]);
    says("[nat64]\nport_block = 256\nports = \"2000-2100\"\n", "2:14", &["no more than a share holds"]);
    says("[nat64]\nnever_translate = \"192.0.2.1/24\"\n", "2:19", &["host bits"]);
    says("[nat64.limits]\nheld_ports = -1\n", "2:14", &["0 to 1000000", "RFC 6888 REQ-8"]);
    says("[nat64.timers]\nport_hold = 3601\n", "2:13", &["0 to 3600", "RFC 6888 REQ-8"]);
}

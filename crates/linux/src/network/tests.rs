//! Plans applied in a namespace, and read back with the kernel's own tools.
use sixgate_engine::plan::{AddressPlan, Family, LOCAL_RULE_PREFERENCE, LinkPlan, NextHop, RoutePlan, RulePlan};

use super::*;
use crate::testing::{in_namespace, run, wait_for, wire};

fn address(link: u32, net: &str) -> AddressPlan {
    AddressPlan { link, net: net.parse().unwrap(), deprecated: false }
}

fn route(to: &str, next: NextHop) -> RoutePlan {
    RoutePlan { to: to.parse().unwrap(), next, table: 254, metric: 0, source: None, mtu: None }
}

fn via(link: u32, via: &str, onlink: bool) -> NextHop {
    NextHop::Gateway { link, via: via.parse().unwrap(), onlink }
}

fn full(wan: u32) -> NetworkPlan {
    let rules = [Family::V4, Family::V6].into_iter().flat_map(|family| {
        [
            RulePlan { family, preference: 64, fwmark: Some((0x0064_0000, 0x00ff_0000)), table: 6464 },
            RulePlan { family, preference: LOCAL_RULE_PREFERENCE, fwmark: None, table: 255 },
        ]
    });
    NetworkPlan {
        links: vec![LinkPlan { index: wan, name: "wan".to_owned(), mtu: Some(1400), mac: None }],
        addresses: vec![address(wan, "192.0.2.5/24"), address(wan, "2001:db8:1::1/76")],
        routes: vec![
            route("0.0.0.0/0", via(wan, "198.51.100.1", true)),
            route("::/0", via(wan, "fe80::1", false)),
            route("2001:db8:2::/48", via(wan, "2001:db8:ffff::1", true)),
            route("2001:db8:3::/80", NextHop::Unreachable),
            route("203.0.113.0/24", NextHop::Unreachable),
            RoutePlan { table: 6464, ..route("0.0.0.0/0", NextHop::Link { link: wan }) },
            RoutePlan { mtu: Some(1380), ..route("198.18.0.0/15", NextHop::Link { link: wan }) },
        ],
        rules: rules.collect(),
        sysctls: Vec::new(),
    }
}

fn everything() -> String {
    ["ip -4 addr", "ip -6 addr", "ip -4 route show table all", "ip -6 route show table all", "ip -4 rule", "ip -6 rule"]
        .map(|command| run(command).replace(" tentative", ""))
        .join("\n")
}

#[test]
fn default_routes_of_others_are_told_best_first() {
    in_namespace(|| async {
        let [one, two] = wire(["one", "two"]);
        let netlink = Netlink::connect().unwrap();
        run("ip addr add 192.0.2.1/24 dev one");
        run("ip route add default via 192.0.2.2 dev one metric 200");
        run("ip route add default dev two metric 100");
        run("ip -6 route add default via fe80::1 dev two");
        assert_eq!(netlink.default_links(Family::V4).await.unwrap(), [two, one]);
        assert_eq!(netlink.default_links(Family::V6).await.unwrap(), [two]);
        let ours = RoutePlan { metric: 50, ..route("0.0.0.0/0", NextHop::Link { link: one }) };
        let plan = NetworkPlan { routes: vec![ours], ..NetworkPlan::default() };
        assert_eq!(netlink.apply(&plan).await, []);
        assert_eq!(netlink.default_links(Family::V4).await.unwrap(), [two, one], "ours is nobody else's");
    });
}

/// The kernel puts an IPv6 address to use in the background; its last step is the local route.
fn in_use(address: &str) {
    let local = format!("local {address} ");
    wait_for("a local route", || run("ip -6 route show table local").contains(&local).then_some(()));
}

/// And gives it up there, too.
fn becomes_again(before: &str) {
    let mut now = String::new();
    wait_for("the state from before", || {
        let looked = everything();
        let same = looked == before;
        if looked != now {
            eprintln!("{looked}");
            now = looked;
        }
        same.then_some(())
    });
}

#[test]
fn a_plan_comes_true_and_withdraw_leaves_the_kernel_as_it_was() {
    in_namespace(|| async {
        let netlink = Netlink::connect().unwrap();
        let [wan, _] = wire(["wan", "far"]);
        let before = everything();

        assert_eq!(netlink.apply(&full(wan)).await, []);
        let v4 = run("ip -4 route show table all");
        let v6 = run("ip -6 route show table all");
        assert!(v4.contains("default via 198.51.100.1 dev wan proto 164 onlink"), "{v4}");
        assert!(v4.contains("unreachable 203.0.113.0/24 proto 164"), "{v4}");
        assert!(v4.contains("default dev wan table 6464 proto 164 scope link"), "{v4}");
        assert!(v6.contains("default via fe80::1 dev wan proto 164 metric 1024"), "{v6}");
        assert!(v6.contains("2001:db8:2::/48 via 2001:db8:ffff::1 dev wan proto 164 metric 1024 onlink"), "{v6}");
        assert!(v6.contains("unreachable 2001:db8:3::/80 dev lo proto 164"), "{v6}");
        let addresses = run("ip addr show dev wan");
        assert!(addresses.contains("192.0.2.5/24") && addresses.contains("2001:db8:1::1/76"), "{addresses}");
        assert!(addresses.contains("mtu 1400"), "{addresses}");
        for family in ["-4", "-6"] {
            let rules = run(&format!("ip {family} rule"));
            assert!(!rules.contains("0:\tfrom all lookup local\n0:"), "{rules}");
            assert!(rules.starts_with("64:\tfrom all fwmark 0x640000/0xff0000 lookup 6464"), "{rules}");
            assert!(rules.contains("\n100:\tfrom all lookup local"), "{rules}");
        }
        let facts = netlink.read_facts().await.unwrap();
        assert_eq!(facts.addresses.iter().filter(|address| address.ours).count(), 2);
        assert_eq!(
            netlink.default_gateways().await.unwrap().iter().map(|g| g.address.to_string()).collect::<Vec<_>>(),
            ["198.51.100.1", "fe80::1"]
        );

        assert_eq!(netlink.withdraw().await, []);
        run("ip link set wan mtu 1500");
        becomes_again(&before);
    });
}

#[test]
fn applying_twice_changes_nothing_the_second_time() {
    in_namespace(|| async {
        let netlink = Netlink::connect().unwrap();
        let [wan, _] = wire(["wan", "far"]);
        assert_eq!(netlink.apply(&full(wan)).await, []);
        let mut errors = Vec::new();
        in_use("2001:db8:1::1");
        let once = everything();
        let mut events = crate::events::Events::connect().unwrap();
        assert_eq!(netlink.apply_once(&full(wan), &mut Repairs::default(), &mut errors).await, Removed::Nothing);
        assert_eq!(errors, []);
        assert_eq!(everything(), once);
        // Whatever the kernel had to say about it would come before this.
        run("ip link add last type veth peer name tsal");
        assert!(events.changed().await.unwrap().network);
    });
}

#[test]
fn strangers_addresses_routes_and_rules_stay() {
    in_namespace(|| async {
        let netlink = Netlink::connect().unwrap();
        let [wan, _] = wire(["wan", "far"]);
        run("ip addr add 2001:db8:9::1/64 dev wan");
        in_use("2001:db8:9::1");
        run("ip addr add 192.0.2.77/24 dev wan");
        run("ip route add default via 192.0.2.1 dev wan");
        run("ip -6 rule add pref 50 fwmark 7 lookup 77");
        let before = everything();

        let errors = netlink.apply(&full(wan)).await;
        let [error] = &errors[..] else { panic!("{errors:?}") };
        assert_eq!(error.errno, Some(libc::EEXIST));
        assert!(error.item.starts_with("route 0.0.0.0/0"), "{error}");
        assert!(error.mend.contains("stop that program"), "{error:?}");
        assert!(run("ip route").contains("default via 192.0.2.1 dev wan"));
        assert!(run("ip -6 route").contains("default via fe80::1"), "one failure must not stop the rest");

        assert_eq!(netlink.withdraw().await, []);
        run("ip link set wan mtu 1500");
        becomes_again(&before);
    });
}

#[test]
fn a_changed_plan_replaces_next_hops_and_prefix_lengths() {
    in_namespace(|| async {
        let netlink = Netlink::connect().unwrap();
        let [wan, _] = wire(["wan", "far"]);
        let mut plan = full(wan);
        assert_eq!(netlink.apply(&plan).await, []);
        plan.addresses = vec![address(wan, "192.0.2.6/24"), address(wan, "2001:db8:1::1/64")];
        plan.routes = vec![
            route("0.0.0.0/0", via(wan, "192.0.2.1", false)),
            route("::/0", via(wan, "fe80::2", true)),
            route("2001:db8:2::/48", NextHop::Unreachable),
            route("2001:db8:3::/80", via(wan, "2001:db8:1::9", false)),
        ];
        assert_eq!(netlink.apply(&plan).await, []);
        let addresses = run("ip addr show dev wan");
        assert!(addresses.contains("192.0.2.6/24") && addresses.contains("2001:db8:1::1/64"), "{addresses}");
        let facts = netlink.read_facts().await.unwrap();
        assert_eq!(facts.addresses.iter().filter(|address| address.ours).count(), 2, "{addresses}");
        let v6 = run("ip -6 route show proto 164");
        assert_eq!(v6.matches("default").count(), 1, "{v6}");
        assert!(v6.contains("default via fe80::2 dev wan metric 1024 onlink"), "{v6}");
        assert!(v6.contains("unreachable 2001:db8:2::/48"), "{v6}");
        assert!(v6.contains("2001:db8:3::/80 via 2001:db8:1::9"), "{v6}");
        assert_eq!(run("ip -4 route show proto 164").trim(), "default via 192.0.2.1 dev wan");
    });
}

#[test]
fn an_interface_that_is_not_there_is_named_and_the_rest_is_done() {
    in_namespace(|| async {
        let netlink = Netlink::connect().unwrap();
        let [wan, _] = wire(["wan", "far"]);
        let mut plan = full(wan);
        plan.links.push(LinkPlan { index: 4242, name: "eth7".to_owned(), mtu: None, mac: None });
        plan.addresses.insert(0, address(4242, "2001:db8:7::1/64"));
        let errors = netlink.apply(&plan).await;
        assert_eq!(
            errors.iter().map(|error| error.item.as_str()).collect::<Vec<_>>(),
            ["interface eth7", "address 2001:db8:7::1/64 dev interface 4242"]
        );
        assert!(errors.iter().all(|error| error.errno == Some(libc::ENODEV)), "{errors:?}");
        assert!(run("ip addr show dev wan").contains("2001:db8:1::1/76"));
    });
}

#[test]
fn an_address_on_the_wire_is_an_event_and_a_fact() {
    in_namespace(|| async {
        let netlink = Netlink::connect().unwrap();
        wire(["wan", "far"]);
        let mut events = crate::events::Events::connect().unwrap();
        run("ip addr add 2001:db8:5::1/64 dev far");
        while !events.changed().await.unwrap().network {}
        let facts = netlink.read_facts().await.unwrap();
        let far = facts.link("far").unwrap();
        assert!(far.up && far.carrier && far.mac.is_some(), "{far:?}");
        assert!(facts.link("lo").unwrap().mac.is_none());
        let address = facts.addresses.iter().find(|a| a.net.to_string() == "2001:db8:5::1/64").unwrap();
        assert_eq!((address.link, address.ours), (far.index, false));
        run("ip neigh replace 2001:db8:5::9 lladdr 52:54:00:00:00:09 dev far");
        while !events.changed().await.unwrap().neighbours {}
        let neighbours = netlink.neighbours().await.unwrap();
        let neighbour = neighbours.iter().find(|n| n.address.to_string() == "2001:db8:5::9").unwrap();
        assert!(neighbour.seen && neighbour.mac.unwrap().to_string() == "52:54:00:00:00:09");
        assert!(netlink.interface_counters().await.unwrap()[&far.index].sent.packets > 0);
    });
}

#[test]
fn a_whole_configuration_comes_true_and_goes() {
    use crate::sysctl::{apply_sysctls, forwarding, stop_forwarding};
    use sixgate_engine::plan::{NAT64_DEVICE, Stage};

    in_namespace(|| async {
        let netlink = Netlink::connect().unwrap();
        wire(["eth0", "provider"]);
        wire(["eth1", "vm"]);
        let tun = crate::tun::Tun::open(NAT64_DEVICE).unwrap();
        let text = include_str!("../../../../tests/vectors/plan/slash76/config.toml");
        let config = sixgate_engine::config::parse(text, "config.toml").unwrap();
        let plan = sixgate_engine::plan::plan(&config, &netlink.read_facts().await.unwrap());

        assert_eq!(apply_sysctls(&plan.network.sysctls, Stage::Early), []);
        crate::nft::load(&plan.firewall, &[]).await.unwrap();
        assert_eq!(netlink.apply(&plan.network).await, []);
        assert!(!forwarding());
        assert_eq!(apply_sysctls(&plan.network.sysctls, Stage::Forwarding), []);
        assert!(forwarding());
        let table = run("ip -4 route show table 6464");
        assert!(table.starts_with(&format!("default dev {NAT64_DEVICE} proto 164 scope link")), "{table}");
        let mut errors = Vec::new();
        assert_eq!(
            (netlink.apply_once(&plan.network, &mut Repairs::default(), &mut errors).await, errors),
            (Removed::Nothing, Vec::new())
        );
        // The plan is the same when the kernel already holds it.
        let again = sixgate_engine::plan::plan(&config, &netlink.read_facts().await.unwrap());
        assert_eq!(again.network, plan.network);

        assert_eq!(stop_forwarding(), []);
        assert!(!forwarding());
        assert_eq!(netlink.withdraw().await, []);
        assert_eq!(run("ip route show table all proto 164") + &run("ip -6 route show table all proto 164"), "");
        assert!(netlink.read_facts().await.unwrap().addresses.iter().all(|address| !address.ours));
        tun.remove().unwrap();
    });
}

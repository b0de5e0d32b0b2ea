//! States of a router: at work, overloaded, with a wrong configuration.
use core::net::Ipv6Addr;
use std::collections::BTreeMap;

use sixgate_engine::facts::AddressState;
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::status::{
    self, Advertised, AdvertisedPrefix, Appliance, Client, Connections, Contest, Dns64, Frequent, Interface, Lan,
    Milestone, Nat64, Sessions, Status, Traffic, Upstream, Vm,
};

pub(super) fn traffic(packets: u64, bytes: u64) -> Traffic {
    Traffic { packets, bytes }
}

fn reasons<const N: usize>(reasons: [(&str, u64); N]) -> BTreeMap<String, u64> {
    reasons.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect()
}

fn drops<const N: usize>(reasons: [(&str, u64); N]) -> BTreeMap<String, Traffic> {
    reasons.into_iter().map(|(reason, packets)| (reason.to_owned(), traffic(packets, packets * 80))).collect()
}

fn frequent<const N: usize>(all: [(&str, u64); N]) -> Vec<Frequent> {
    all.map(|(name, count)| Frequent { name: name.to_owned(), count }).to_vec()
}

fn interface(name: &str, addresses: &[&str]) -> Interface {
    Interface {
        name: name.to_owned(),
        present: true,
        carrier: true,
        mtu: 1500,
        addresses: addresses
            .iter()
            .map(|address| (address.parse().expect("an address"), AddressState::Ready))
            .collect(),
        ..Interface::default()
    }
}

fn vm(number: u16, seen: Option<bool>) -> Vm {
    let base = 0x20 + 0x10_u16.wrapping_mul(number - 1);
    let address = |group: u16, last: u16| Ipv6Addr::new(0x2001, 0xdb8, 1, 2, group, 0, 0, last);
    Vm {
        name: format!("vm{number}"),
        lan: "vms".to_owned(),
        gateway: Some(format!("{}/76", address(base, 1)).parse().expect("a prefix")),
        next_hop: Some(address(base, 2)),
        containers: vec![format!("{}/80", address(base + 1, 0)).parse().expect("a prefix")],
        seen,
        last_seen: seen.map(|seen| if seen { 12 } else { 7_300 }),
    }
}

fn client(mac: &str, vm: Option<&str>, addresses: &[&str], seen: bool) -> Client {
    Client {
        mac: mac.to_owned(),
        vm: vm.map(str::to_owned),
        addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
        seen,
        last_seen: Some(if seen { 12 } else { 7_300 }),
    }
}

fn finding(severity: Severity, subject: &str, text: &str, mend: &str) -> Finding {
    Finding {
        severity,
        code: "some-code".to_owned(),
        subject: subject.to_owned(),
        text: text.to_owned(),
        mend: mend.to_owned(),
    }
}

/// What a counter has come to when its rate swings between nothing and `most` every minute.
fn swinging(second: u64, most: u64) -> u64 {
    let rate = |second: u64| most * (second % 60).min(60 - second % 60) / 30;
    (0..second).map(rate).sum()
}

/// A router of the plainest kind, so many seconds after its daemon started.
pub(super) fn normal(second: u64) -> Status {
    let mut status = Status { version: status::VERSION, ..Status::default() };
    let system = &mut status.system;
    system.hostname = "gw1".to_owned();
    system.sixgate = "0.1.0".to_owned();
    system.kernel = "6.12.117-cloud-amd64".to_owned();
    system.daemon_uptime = 273_600 + second;
    system.machine_uptime = 273_612 + second;
    system.memory_total = 128 << 20;
    system.memory_available = 67 << 20;
    system.daemon_resident = 14 << 20;
    system.load = 0.12;
    system.starts = 1;
    status.wan = interface("eth0", &["fe80::5054:ff:fe12:3456/64", "2001:db8:1:2:10::1/76", "203.0.113.136/26"]);
    status.wan.gateways = ["fe80::1", "203.0.113.129"].map(|via| via.parse().expect("an address")).to_vec();
    status.wan.received = traffic(1_000_000 + 812 * second, 900_000_000 + swinging(second, 150_000));
    status.wan.sent = traffic(800_000 + 640 * second, 300_000_000 + 80_000 * second);
    let mut lan = interface("eth1", &["2001:db8:1:2::1/64", "fe80::1/64"]);
    lan.received = traffic(1_000_000 + 600 * second, 300_000_000 + 78_000 * second);
    lan.sent = traffic(1_000_000 + 790 * second, 900_000_000 + 149_000 * second);
    status.lans = vec![Lan {
        name: "vms".to_owned(),
        interface: lan,
        advertised: Some(Advertised {
            prefixes: vec![AdvertisedPrefix {
                prefix: "2001:db8:1:2::/64".parse().expect("a prefix"),
                on_link: false,
                autonomous: true,
            }],
            rdnss: vec!["2001:db8:1:2::1".parse().expect("an address")],
            pref64: Some(("64:ff9b::/96".parse().expect("a prefix"), true)),
            router_lifetime: 1800,
            sent: 1_204,
            solicitations: 12,
            dropped: BTreeMap::new(),
            ..Advertised::default()
        }),
        dhcpv6: BTreeMap::new(),
        clients: vec![
            client("52:54:00:12:34:58", Some("vm1"), &["2001:db8:1:2:20::2", "fe80::5054:ff:fe12:3458"], true),
            client("52:54:00:12:34:59", None, &["fe80::5054:ff:fe12:3459"], false),
        ],
        contests: Vec::new(),
    }];
    status.vms = vec![vm(1, Some(true)), vm(2, Some(false))];
    status.nat64 = Some(Nat64 {
        pref64: Some("64:ff9b::/96".parse().expect("a prefix")),
        further_pref64: Vec::new(),
        obstacle: None,
        sessions: Sessions { tcp: 1_204, udp: 331, icmp: 4 },
        bindings: Sessions { tcp: 1_100, udp: 210, icmp: 4 },
        v6_to_v4: traffic(12_300_000 + 500 * second, 4_500_000_000 + 60_000 * second),
        v4_to_v6: traffic(15_800_000 + 700 * second, 21_000_000_000 + 110_000 * second),
        reasons: reasons([("no-session", 120 + 2 * second), ("hop-limit-exceeded", 3)]),
        ..Nat64::default()
    });
    status.dns64 = Some(Dns64 {
        listening: vec!["[2001:db8:1:2::1]:53".parse().expect("an address")],
        upstreams: vec![
            Upstream {
                address: "[2620:fe::fe]:53".parse().expect("an address"),
                answers: 119_800 + 2 * second,
                failures: 3,
                latency_us: 9_400,
                encrypted: None,
            },
            Upstream {
                address: "9.9.9.9:53".parse().expect("an address"),
                answers: 511,
                failures: 0,
                latency_us: 21_000,
                encrypted: None,
            },
        ],
        synthesizing: true,
        queries: 120_311 + swinging(second, 40),
        cached: 90_211 + swinging(second, 30),
        stale: 3,
        cache_answers: 4_120,
        cache_bytes: 3_400_000,
        validating: true,
        validated: 30_100,
        top_names: frequent([("deb.debian.org.", 812), ("registry.example.com.", 340), ("pool.ntp.org.", 96)]),
        top_clients: frequent([("2001:db8:1:2:20::2", 1_020), ("2001:db8:1:2:21::5", 228)]),
        synthesized: 88_012 + 9 * second,
        failures: 12,
        dropped: BTreeMap::new(),
        ..Dns64::default()
    });
    let milestone = |(name, seconds): (&str, f64)| Milestone { name: name.to_owned(), seconds };
    let reached = [("init", 2.91), ("modules", 3.52), ("state", 3.6), ("daemon", 4.1), ("first advertisement", 4.78)];
    status.appliance = Some(Appliance {
        slot: Some("a".to_owned()),
        healthy: true,
        state: true,
        configuration: "as it was kept".to_owned(),
        locked: true,
        timeline: reached.map(milestone).to_vec(),
        ..Appliance::default()
    });
    status.firewall.loaded = true;
    status.firewall.connections = Some(Connections { held: 1_204 + second, most: 65_536, refused: 0, evicted: 0 });
    status.firewall.forwarding = true;
    status.firewall.dropped = drops([
        ("to the router from the uplink, no allow entry", 9_100 + 3 * second),
        ("through the router, not admitted", 3_245),
        ("to the router, invalid for connection tracking", 0),
    ]);
    status.firewall.allowed = drops([("allow line 31: vm1 tcp", 4_410 + second)]);
    status
}

/// A router that is on its knees.
pub(super) fn overloaded(second: u64) -> Status {
    let mut status = normal(second);
    status.firewall.connections = Some(Connections { held: 65_530, most: 65_536, refused: 812_000, evicted: 4_077 });
    status.system.memory_available = 1 << 20;
    status.system.load = 17.31;
    status.system.starts = 9;
    status.vms = (1..=500).map(|number| vm(number, [Some(true), Some(false), None][usize::from(number % 3)])).collect();
    status.lans.push(Lan { name: "guests".to_owned(), ..Lan::default() });
    status.lans[0].contests = [(7, true), (1, false)]
        .map(|(times, detection)| Contest {
            address: format!("2001:db8:1:2:20::{times}"),
            holder: "52:54:00:12:34:58".to_owned(),
            claimant: "52:54:00:12:34:59".to_owned(),
            detection,
            times,
            at: 1_795_500_000,
        })
        .to_vec();
    status.wan.received = traffic(u64::MAX / 2 + 1_450_000 * second, u64::MAX / 2 + 1_180_000_000 * second);
    status.wan.addresses.push(("2001:db8:1:2:10::99/76".parse().expect("an address"), AddressState::Duplicate));
    if let Some(nat64) = &mut status.nat64 {
        nat64.sessions = Sessions { tcp: 65_000, udp: 34_990, icmp: 10 };
        nat64.reasons = [
            "no-port-left",
            "session-limit",
            "no-session",
            "hop-limit-exceeded",
            "bad-checksum",
            "not-global",
            "fragment-timeout",
            "hairpin-loop",
        ]
        .into_iter()
        .zip(1_u64..)
        .map(|(reason, weight)| (reason.to_owned(), weight * 123_456 + weight * 1_000 * second))
        .collect();
    }
    if let Some(dns64) = &mut status.dns64 {
        dns64.failures += 40 * second;
        dns64.dropped = reasons([("malformed", 1_000 * second)]);
        dns64.upstreams[0].answers = 119_800;
        dns64.upstreams[0].failures += 3 * second;
        dns64.upstreams[1].latency_us = 1_240_000;
        dns64.bogus = 7;
    }
    status.findings = vec![
        finding(
            Severity::Note,
            "lan vms",
            "Hosts on this link reach one another without the router.",
            "Isolate the ports on the hypervisor's bridge if a policy between them is to hold.",
        ),
        finding(
            Severity::Warning,
            "lan guests",
            "The interface eth2 of LAN guests does not exist.",
            "Attach a network card, or name the one that is there; it is picked up when it appears.",
        ),
        finding(
            Severity::Error,
            "nat64",
            "All 99,999 sessions are in use; new ones are refused.",
            "Raise nat64.max_sessions, or find the client that opens so many.",
        ),
        finding(
            Severity::Error,
            "eth0",
            "2001:db8:1:2:10::99 is in use by somebody else on the link.",
            "Give one of the two another address.",
        ),
        finding(Severity::Warning, "upstream 9.9.9.9", "No answer since 40 s.", "Check the route to it."),
    ];
    status
}

/// What the daemon serves when it could not read its configuration.
pub(super) fn configuration_error() -> Status {
    let mut status = Status { version: status::VERSION, ..Status::default() };
    status.system = normal(0).system;
    status.system.daemon_uptime = 4;
    status.system.machine_uptime = 12;
    status.firewall.loaded = true;
    let text = "\
error: the prefix 64:ff9b::/96 cannot be used with private IPv4 addresses (RFC 6052 section 3.1)
  --> /etc/sixgate/sixgate.toml:24:27
   |
22 | [nat64]
23 | prefix = \"64:ff9b::/96\"
24 | translate_non_global = [\"10.0.0.0/8\"]
   |                         ^^^^^^^^^^^^ not translated under the well-known prefix
   |
error: unknown key `adress`
  --> /etc/sixgate/sixgate.toml:11:1
   |
11 | adress = \"2001:db8:1:2:20::2\"
   | ^^^^^^ expected one of name, lan, gateway, address, mac, containers";
    status.findings = vec![finding(
        Severity::Error,
        "/etc/sixgate/sixgate.toml",
        text,
        "Correct the file, then reload: everything stays closed until then.",
    )];
    status
}

//! The overview: uplink, LANs, VMs, translator, resolver, firewall and machine on one page.
use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;

use ipnet::IpNet;
use ratatui::text::Line;
use sixgate_engine::facts::AddressState;
use sixgate_engine::plan::Obstacle;
use sixgate_engine::status::{Dns64, Interface, Lan, Nat64, Sessions, Status, Traffic, Vm};

use super::findings;
use super::format::{bit_rate, bytes, count, duration, packet_rate, per_second};
use super::page::{Item, beside, harmless, labelled, rule, table};
use super::rates::{History, messages, packets};
use super::theme::{Role, Theme};

/// From this width on the page has two columns.
const TWO_COLUMNS: usize = 160;
/// Reasons that are named; the rest is summed up.
const REASONS: usize = 3;

/// The page, `columns` wide; `rows` are on the screen at once.
pub(super) fn page(theme: Theme, columns: usize, rows: usize, history: &History) -> Vec<Line<'static>> {
    let Some(status) = history.last() else {
        return Vec::new();
    };
    let mut lines = findings::urgent(theme, columns, rows / 2, status);
    let sheet = |columns| Sheet { theme, columns, status, history };
    if columns < TWO_COLUMNS {
        let sheet = sheet(columns);
        lines.extend(sheet.network());
        lines.extend(sheet.services());
    } else {
        let half = (columns - 2) / 2;
        lines.extend(beside(sheet(half).network(), sheet(columns - 2 - half).services(), half));
    }
    lines.extend(findings::notes(theme, columns, status));
    lines
}

/// What every section needs.
struct Sheet<'a> {
    theme: Theme,
    columns: usize,
    status: &'a Status,
    history: &'a History,
}

impl Sheet<'_> {
    fn network(&self) -> Vec<Line<'static>> {
        let mut lines = self.uplink();
        for (index, lan) in self.status.lans.iter().enumerate() {
            lines.extend(self.lan(index, lan));
        }
        lines.extend(self.vms());
        lines
    }

    fn services(&self) -> Vec<Line<'static>> {
        let mut lines = self.nat64();
        lines.extend(self.dns64());
        lines.extend(self.firewall());
        lines.extend(self.machine());
        lines
    }

    fn rule(&self, title: &str, state: &[Item]) -> Line<'static> {
        rule(self.theme, self.columns, title, state)
    }

    fn labelled(&self, label: &str, items: &[Item]) -> Vec<Line<'static>> {
        labelled(self.theme, self.columns, label, items)
    }

    fn uplink(&self) -> Vec<Line<'static>> {
        let wan = &self.status.wan;
        let mut lines = vec![self.rule("Uplink", &interface(wan))];
        for (label, v6) in [("IPv6", true), ("IPv4", false)] {
            let mut items = addresses(wan, v6);
            if items.is_empty() {
                items.push(Item::new(Role::Warning, "none"));
            }
            items.extend(
                wan.gateways.iter().filter(|via| via.is_ipv6() == v6).map(|via| Item::plain(format!("via {via}"))),
            );
            lines.extend(self.labelled(label, &items));
        }
        lines.extend(self.traffic(wan, |status| Some(&status.wan)));
        lines
    }

    fn lan(&self, index: usize, lan: &Lan) -> Vec<Line<'static>> {
        let mut state = interface(&lan.interface);
        if let Some(advertised) = &lan.advertised {
            state.push(Item::plain(format!("RA {}", count(advertised.sent))));
            state.push(Item::plain(format!("RS {}", count(advertised.solicitations))));
        }
        let mut lines = vec![self.rule(&format!("LAN {}", harmless(&lan.name)), &state)];
        let mut items = addresses(&lan.interface, true);
        items.extend(addresses(&lan.interface, false));
        if items.is_empty() {
            items.push(Item::new(Role::Warning, "none"));
        }
        lines.extend(self.labelled("addresses", &items));
        lines.extend(self.labelled("advertises", &advertised(lan)));
        lines.extend(self.traffic(&lan.interface, |status| status.lans.get(index).map(|lan| &lan.interface)));
        lines
    }

    fn traffic(
        &self,
        interface: &Interface,
        same: impl for<'s> Fn(&'s Status) -> Option<&'s Interface>,
    ) -> Vec<Line<'static>> {
        if !interface.present {
            return Vec::new();
        }
        let received = self.flow(|status| same(status).map(|interface| interface.received));
        let sent = self.flow(|status| same(status).map(|interface| interface.sent));
        self.labelled("traffic", &[Item::plain(format!("in {received}")), Item::plain(format!("out {sent}"))])
    }

    /// A rate of traffic in bits and packets, with blanks that keep what follows in its place.
    fn flow(&self, traffic: impl Fn(&Status) -> Option<Traffic>) -> String {
        let bits = self.history.rate(|status| traffic(status).map(|traffic| traffic.bytes));
        let packets = self.history.rate(|status| traffic(status).map(|traffic| traffic.packets));
        let bits = bits.map_or_else(|| "-".to_owned(), bit_rate);
        let packets = packets.map_or_else(|| "-".to_owned(), packet_rate);
        format!("{bits:>11} {packets:>16}")
    }

    fn vms(&self) -> Vec<Line<'static>> {
        if self.status.vms.is_empty() {
            return Vec::new();
        }
        let seen = self.status.vms.iter().filter(|vm| vm.seen == Some(true)).count();
        let state = Item::plain(format!("{seen} of {} seen", self.status.vms.len()));
        let mut lines = vec![self.rule("VMs", &[state])];
        let rows = self.status.vms.iter().map(|vm| (harmless(&vm.name), vm_items(vm))).collect();
        lines.extend(table(self.theme, self.columns, rows));
        lines
    }

    fn nat64(&self) -> Vec<Line<'static>> {
        let Some(nat64) = &self.status.nat64 else {
            return vec![self.rule("NAT64", &[Item::plain("off")])];
        };
        let mut state: Vec<_> =
            nat64.pref64.iter().chain(&nat64.further_pref64).map(|prefix| Item::plain(prefix.to_string())).collect();
        state.push(match nat64.obstacle {
            None => Item::new(Role::Good, "works"),
            Some(Obstacle::NoIpv4Uplink) => Item::new(Role::Bad, "NO IPv4 UPLINK"),
            Some(Obstacle::NoDevice) => Item::new(Role::Bad, "NO TUN DEVICE"),
        });
        let mut lines = vec![self.rule("NAT64", &state)];
        let mut items = sessions(nat64.sessions);
        items.push(Item::plain(format!("bindings {}", count(total(nat64.bindings)))));
        lines.extend(self.labelled("sessions", &items));
        lines.extend(self.direction("v6 to v4", nat64, |nat64| nat64.v6_to_v4));
        lines.extend(self.direction("v4 to v6", nat64, |nat64| nat64.v4_to_v6));
        let rate = self.history.rate(|status| status.nat64.as_ref().map(|nat64| messages(&nat64.reasons)));
        lines.extend(self.reasons("not passed", rate, &nat64.reasons));
        lines
    }

    /// What was translated in one direction: now, and in all.
    fn direction(&self, label: &str, nat64: &Nat64, traffic: fn(&Nat64) -> Traffic) -> Vec<Line<'static>> {
        let flow = self.flow(|status| status.nat64.as_ref().map(traffic));
        let sum = traffic(nat64);
        let sum = format!("{} packets, {}", count(sum.packets), bytes(sum.bytes));
        self.labelled(label, &[Item::plain(flow), Item::plain(sum)])
    }

    fn dns64(&self) -> Vec<Line<'static>> {
        let Some(dns64) = &self.status.dns64 else {
            return vec![self.rule("DNS64", &[Item::plain("off")])];
        };
        let synthesis = if dns64.synthesizing {
            Item::new(Role::Good, "synthesizes")
        } else {
            Item::new(Role::Warning, "NO SYNTHESIS")
        };
        let listening = if dns64.listening.is_empty() {
            Item::new(Role::Bad, "LISTENS NOWHERE")
        } else {
            Item::new(Role::Good, "listens")
        };
        let mut lines = vec![self.rule("DNS64", &[listening, synthesis])];
        let rate = |counter: fn(&Dns64) -> u64| self.history.rate(|status| status.dns64.as_ref().map(counter));
        let mut items = vec![
            speed(rate(|dns64| dns64.queries)),
            Item::plain(format!("{} in all", count(dns64.queries))),
            Item::plain(format!("{} synthesized", count(dns64.synthesized))),
            tally(dns64.failures, "failed", rate(|dns64| dns64.failures)),
        ];
        let dropped = messages(&dns64.dropped);
        if dropped > 0 {
            items.push(tally(dropped, "dropped", rate(|dns64| messages(&dns64.dropped))));
        }
        lines.extend(self.labelled("queries", &items));
        let upstreams: Vec<_> = dns64
            .upstreams
            .iter()
            .map(|upstream| {
                let (answers, failures) = (upstream.answers, upstream.failures);
                let role = if failures > answers { Role::Warning } else { Role::Plain };
                let failed = if failures > 0 { format!(", {} failed", count(failures)) } else { String::new() };
                Item::new(role, format!("{} {} answers{failed}", endpoint(upstream.address), count(answers)))
            })
            .collect();
        if upstreams.is_empty() {
            lines.extend(self.labelled("upstream", &[Item::new(Role::Warning, "none")]));
        } else {
            lines.extend(self.labelled("upstream", &upstreams));
        }
        lines
    }

    fn firewall(&self) -> Vec<Line<'static>> {
        let firewall = &self.status.firewall;
        let loaded =
            if firewall.loaded { Item::new(Role::Good, "in force") } else { Item::new(Role::Bad, "NOT LOADED") };
        let forwarding = match (firewall.forwarding, firewall.loaded) {
            (true, true) => Item::new(Role::Good, "forwarding"),
            (true, false) => Item::new(Role::Bad, "FORWARDING WITHOUT RULES"),
            (false, _) => Item::new(Role::Warning, "NOT FORWARDING"),
        };
        let mut lines = vec![self.rule("Firewall", &[loaded, forwarding])];
        for (label, reasons, rate) in [
            ("dropped", &firewall.dropped, self.history.rate(|status| Some(packets(&status.firewall.dropped)))),
            ("admitted", &firewall.allowed, self.history.rate(|status| Some(packets(&status.firewall.allowed)))),
        ] {
            let reasons = reasons.iter().map(|(reason, traffic)| (reason.clone(), traffic.packets)).collect();
            lines.extend(self.reasons(label, rate, &reasons));
        }
        lines
    }

    fn machine(&self) -> Vec<Line<'static>> {
        let system = &self.status.system;
        let kernel = Item::plain(format!("Linux {}", harmless(&system.kernel)));
        let mut lines = vec![self.rule("Machine", &[kernel])];
        let used = system.memory_total.saturating_sub(system.memory_available);
        let mut items = vec![
            Item::plain(gauge(used, system.memory_total)),
            Item::plain(format!("{} of {}", bytes(used), bytes(system.memory_total))),
            Item::plain(format!("sixgate {}", bytes(system.daemon_resident))),
        ];
        items.push(Item::plain(format!("load {:.2}", system.load)));
        lines.extend(self.labelled("memory", &items));
        let starts = system.starts;
        let mut items = vec![
            Item::plain(format!("machine {}", duration(system.machine_uptime))),
            Item::plain(format!("sixgate {}", duration(system.daemon_uptime))),
        ];
        if starts > 1 {
            items.push(Item::plain(format!("started {starts} times since boot")));
        }
        lines.extend(self.labelled("up", &items));
        lines
    }

    /// A rate, a sum and the reasons behind it, most frequent first.
    fn reasons(&self, label: &str, rate: Option<f64>, reasons: &BTreeMap<String, u64>) -> Vec<Line<'static>> {
        let mut named: Vec<_> = reasons.iter().filter(|(_, count)| **count > 0).collect();
        named.sort_by(|one, other| other.1.cmp(one.1).then_with(|| one.0.cmp(other.0)));
        let mut items = vec![speed(rate), Item::plain(format!("{} in all", count(messages(reasons))))];
        items.extend(named.iter().take(REASONS).map(|(reason, sum)| {
            let reason = harmless(reason).replace('\n', " ");
            Item::plain(format!("{} {reason}", count(**sum)))
        }));
        if named.len() > REASONS {
            items.push(Item::plain(format!("and {} more", named.len() - REASONS)));
        }
        self.labelled(label, &items)
    }
}

/// A rate in a fixed width, so that what follows keeps its place.
fn speed(rate: Option<f64>) -> Item {
    Item::plain(format!("{:>7}", rate.map_or_else(|| "-".to_owned(), per_second)))
}

/// A count of something bad: it stands out while it grows.
fn tally(sum: u64, what: &str, rate: Option<f64>) -> Item {
    let role = if rate.is_some_and(|rate| rate > 0.0) { Role::Warning } else { Role::Plain };
    Item::new(role, format!("{} {what}", count(sum)))
}

/// Name, state and MTU.
fn interface(interface: &Interface) -> Vec<Item> {
    if !interface.present {
        return vec![Item::new(Role::Bad, "MISSING")];
    }
    let state = if interface.carrier { Item::new(Role::Good, "up") } else { Item::new(Role::Bad, "NO CARRIER") };
    vec![Item::plain(harmless(&interface.name)), state, Item::plain(format!("MTU {}", interface.mtu))]
}

/// Addresses of one family, global ones first.
fn addresses(interface: &Interface, v6: bool) -> Vec<Item> {
    let mut addresses: Vec<_> =
        interface.addresses.iter().filter(|(net, _)| matches!(net, IpNet::V6(_)) == v6).collect();
    addresses.sort_by_key(|(net, _)| match net.addr() {
        IpAddr::V6(address) => address.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    });
    addresses
        .into_iter()
        .map(|(net, state)| match state {
            AddressState::Ready => Item::plain(net.to_string()),
            AddressState::Tentative => Item::new(Role::Warning, format!("{net} (tentative)")),
            AddressState::Duplicate => Item::new(Role::Bad, format!("{net} (DUPLICATE)")),
        })
        .collect()
}

/// What hosts on the LAN are told.
fn advertised(lan: &Lan) -> Vec<Item> {
    let Some(advertised) = &lan.advertised else {
        return vec![Item::plain("nothing")];
    };
    let mut items = Vec::new();
    for prefix in &advertised.prefixes {
        let flags = match (prefix.on_link, prefix.autonomous) {
            (true, true) => " (L A)",
            (true, false) => " (L)",
            (false, true) => " (A)",
            (false, false) => "",
        };
        items.push(Item::plain(format!("{}{flags}", prefix.prefix)));
    }
    items.extend(advertised.rdnss.iter().map(|resolver| Item::plain(format!("DNS {resolver}"))));
    if let Some((prefix, usable)) = advertised.pref64 {
        items.push(if usable {
            Item::plain(format!("PREF64 {prefix}"))
        } else {
            Item::new(Role::Warning, format!("PREF64 {prefix} (WITHDRAWN)"))
        });
    }
    // RFC 4861 section 6.2.3: with a router lifetime of 0 hosts do not route through it.
    if advertised.router_lifetime == 0 {
        items.push(Item::new(Role::Warning, "NOT A DEFAULT ROUTER"));
    }
    let dropped = messages(&advertised.dropped);
    if dropped > 0 {
        items.push(Item::plain(format!("dropped {}", count(dropped))));
    }
    items
}

/// Whether it was seen, where it is, what is routed to it.
fn vm_items(vm: &Vm) -> Vec<Item> {
    let mut items = vec![match vm.seen {
        Some(true) => Item::new(Role::Good, "seen"),
        Some(false) => Item::new(Role::Warning, "silent"),
        None => Item::plain("-"),
    }];
    items.push(Item::plain(harmless(&vm.lan)));
    items.push(vm.next_hop.map_or_else(|| Item::plain("-"), |address| Item::plain(address.to_string())));
    items.extend(vm.containers.iter().map(|prefix| Item::plain(format!("► {prefix}"))));
    items
}

fn total(sessions: Sessions) -> u64 {
    sessions.tcp.saturating_add(sessions.udp).saturating_add(sessions.icmp)
}

fn sessions(sessions: Sessions) -> Vec<Item> {
    [("TCP", sessions.tcp), ("UDP", sessions.udp), ("ICMP", sessions.icmp)]
        .map(|(protocol, sum)| Item::plain(format!("{} {protocol}", count(sum))))
        .to_vec()
}

/// An address, with its port unless that is DNS's own.
fn endpoint(address: SocketAddr) -> String {
    if address.port() == 53 { address.ip().to_string() } else { address.to_string() }
}

/// A bar of ten columns.
fn gauge(part: u64, whole: u64) -> String {
    let filled = part.saturating_mul(10).checked_div(whole).unwrap_or(0).min(10);
    let filled = usize::try_from(filled).unwrap_or(0);
    format!("{}{}", "█".repeat(filled), "░".repeat(10 - filled))
}

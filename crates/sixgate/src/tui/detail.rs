//! The services one by one: what each does, in full.
use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;

use ipnet::IpNet;
use ratatui::text::{Line, Span};
use sixgate_engine::facts::AddressState;
use sixgate_engine::firewall::denial::Denial;
use sixgate_engine::plan::Obstacle;
use sixgate_engine::status::{
    Accounted, Client, Dns64, FastPath, Interface, Lan, Nat64, Sessions, Status, Traffic, Vm,
};

use super::format::{bit_rate, bytes, count, duration, packet_rate, per_second};
use super::graph::graph;
use super::page::{Item, harmless, labelled, rule, table};
use super::rates::{History, Trend, messages, packets, total};
use super::theme::{Role, Theme};

/// Reasons that are named beside the others; the pages name all.
const REASONS: usize = 3;
/// Rows of a page's graph.
const GRAPH: usize = 4;

/// Uplink and LANs.
pub(super) fn network(sheet: &Sheet<'_>) -> Vec<Line<'static>> {
    let mut lines = sheet.graph("received", GRAPH, Trend::Received, bit_rate);
    lines.extend(sheet.graph("sent", GRAPH, Trend::Sent, bit_rate));
    lines.extend(sheet.uplink());
    for (index, lan) in sheet.status.lans.iter().enumerate() {
        lines.extend(sheet.lan(index, lan));
        lines.extend(sheet.clients(lan));
    }
    lines
}

/// VMs and their containers, with what they move through the translator.
pub(super) fn vms(sheet: &Sheet<'_>) -> Vec<Line<'static>> {
    let mut lines = sheet.vms();
    if lines.is_empty() {
        return vec![sheet.rule("VMs", &[Item::plain("none in the configuration")])];
    }
    if let Some(nat64) = sheet.status.nat64.as_ref().filter(|nat64| !nat64.vms.is_empty()) {
        lines.push(sheet.rule("Through NAT64, by VM", &[]));
        let row = |who: &Accounted| (harmless(&who.name), moved(who));
        lines.extend(sheet.rows(nat64.vms.iter().map(row).collect()));
    }
    lines
}

/// What somebody has moved through the translator.
fn moved(who: &Accounted) -> Vec<Item> {
    let told = |way: &str, traffic: Traffic| {
        Item::plain(format!("{way} {} packets, {}", count(traffic.packets), bytes(traffic.bytes)))
    };
    vec![told("sent", who.v6_to_v4), told("received", who.v4_to_v6)]
}

/// The translator.
pub(super) fn translator(sheet: &Sheet<'_>) -> Vec<Line<'static>> {
    let mut lines = sheet.nat64();
    if let Some(nat64) = &sheet.status.nat64 {
        lines.extend(sheet.graph("packets", GRAPH, Trend::Translated, per_second));
        lines.extend(sheet.graph("sessions", GRAPH, Trend::Sessions, level));
        if !nat64.clients.is_empty() {
            lines.push(sheet.rule("Clients with the most bytes", &[]));
            let row = |who: &Accounted| {
                let address = who.address.map_or_else(String::new, |address| address.to_string());
                (harmless(&who.name), std::iter::once(Item::plain(address)).chain(moved(who)).collect())
            };
            lines.extend(sheet.rows(nat64.clients.iter().map(row).collect()));
        }
        lines.extend(sheet.all_reasons("Not translated, by reason", &nat64.reasons));
    }
    lines
}

/// The resolver.
pub(super) fn resolver(sheet: &Sheet<'_>) -> Vec<Line<'static>> {
    let mut lines = sheet.dns64();
    if let Some(dns64) = &sheet.status.dns64 {
        lines.extend(sheet.graph("queries", GRAPH, Trend::Queries, per_second));
        lines.extend(sheet.all_reasons("Dropped or refused, by reason", &dns64.dropped));
    }
    lines
}

/// The firewall, rule by rule.
pub(super) fn firewall(sheet: &Sheet<'_>, denials: Option<&[Denial]>) -> Vec<Line<'static>> {
    let firewall = &sheet.status.firewall;
    let mut lines = sheet.firewall();
    lines.extend(sheet.graph("dropped", GRAPH, Trend::Dropped, per_second));
    lines.extend(sheet.denials(denials));
    lines.extend(sheet.all_rules("Dropped, by rule", &firewall.dropped));
    lines.extend(sheet.all_rules("Admitted, by entry", &firewall.allowed));
    lines
}

/// The machine and the daemon.
pub(super) fn system(sheet: &Sheet<'_>) -> Vec<Line<'static>> {
    let mut lines = sheet.machine();
    let control = &sheet.status.control;
    lines.push(sheet.rule("Control socket", &[Item::plain(format!("{} requests", count(control.requests)))]));
    lines.extend(sheet.counts(&control.refused, "nothing refused"));
    lines
}

/// What every section needs.
pub(super) struct Sheet<'a> {
    /// The look.
    pub(super) theme: Theme,
    /// Columns of the page.
    pub(super) columns: usize,
    /// The newest state.
    pub(super) status: &'a Status,
    /// The states before it.
    pub(super) history: &'a History,
    /// What rows of tables have to contain; everything when empty.
    pub(super) filter: &'a str,
}

impl Sheet<'_> {
    pub(super) fn rule(&self, title: &str, state: &[Item]) -> Line<'static> {
        rule(self.theme, self.columns, title, state)
    }

    /// A graph of a trend.
    pub(super) fn graph(&self, label: &str, rows: usize, trend: Trend, unit: fn(f64) -> String) -> Vec<Line<'static>> {
        graph(self.theme, self.columns, rows, label, &self.history.trend(trend), unit)
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

    /// Hosts on a LAN; a VM goes by its name.
    fn clients(&self, lan: &Lan) -> Vec<Line<'static>> {
        if lan.clients.is_empty() {
            return Vec::new();
        }
        let seen = lan.clients.iter().filter(|client| client.seen).count();
        let state = Item::plain(format!("{seen} of {} seen", lan.clients.len()));
        let mut lines = vec![self.rule(&format!("Hosts on {}", harmless(&lan.name)), &[state])];
        let row = |client: &Client| {
            let name = client.vm.as_deref().map_or_else(|| "-".to_owned(), harmless);
            let mut items = vec![Item::plain(client.mac.clone()), sighting(Some(client.seen))];
            items.extend(client.addresses.iter().map(|address| Item::plain(address.to_string())));
            (name, items)
        };
        lines.extend(self.rows(lan.clients.iter().map(row).collect()));
        lines
    }

    fn vms(&self) -> Vec<Line<'static>> {
        if self.status.vms.is_empty() {
            return Vec::new();
        }
        let seen = self.status.vms.iter().filter(|vm| vm.seen == Some(true)).count();
        let state = Item::plain(format!("{seen} of {} seen", self.status.vms.len()));
        let mut lines = vec![self.rule("VMs", &[state])];
        lines.extend(self.rows(self.status.vms.iter().map(|vm| (harmless(&vm.name), vm_items(vm))).collect()));
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
        if let Some(fast_path) = &nat64.fast_path {
            lines.extend(self.fast_path(nat64, fast_path));
        }
        lines
    }

    /// What is translated in the kernel, and why the rest is not.
    fn fast_path(&self, nat64: &Nat64, fast_path: &FastPath) -> Vec<Line<'static>> {
        let hook = match &fast_path.hook {
            Some(hook) => Item::new(Role::Good, harmless(hook)),
            None => Item::new(Role::Bad, "ON NO INTERFACE"),
        };
        let share = |fast: Traffic, all: Traffic| 100 * fast.packets / all.packets.max(1);
        let (to_v4, to_v6) = (share(fast_path.v6_to_v4, nat64.v6_to_v4), share(fast_path.v4_to_v6, nat64.v4_to_v6));
        let items = [
            hook,
            Item::plain(format!("{} of {} sessions", count(fast_path.sessions), count(fast_path.capacity))),
            Item::plain(format!("{to_v4}% to IPv4, {to_v6}% to IPv6")),
            Item::plain(bytes(fast_path.memory)),
        ];
        let mut lines = self.labelled("fast path", &items);
        let left = |status: &Status| Some(messages(&status.nat64.as_ref()?.fast_path.as_ref()?.reasons));
        lines.extend(self.reasons("left", self.history.rate(left), &fast_path.reasons));
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
        let daemon = system.machine_uptime.saturating_sub(system.daemon_uptime);
        let mut boot = vec![Item::plain(format!("this sixgate started {} after the kernel", duration(daemon)))];
        if let Some(appliance) = &self.status.appliance {
            boot.push(if appliance.healthy {
                Item::new(Role::Good, "proven healthy")
            } else {
                Item::plain("not proven yet")
            });
            let slot = appliance.slot.as_deref().map_or_else(|| "none".to_owned(), harmless);
            let mut items = vec![Item::plain(format!("slot {slot}"))];
            items.extend(appliance.trial.then(|| Item::new(Role::Warning, "ON TRIAL")));
            items.push(if appliance.state {
                Item::plain("state is kept")
            } else {
                Item::new(Role::Warning, "NOTHING IS KEPT")
            });
            items.push(Item::plain(format!("configuration: {}", harmless(&appliance.configuration))));
            lines.extend(self.labelled("system", &items));
        }
        lines.extend(self.labelled("boot", &boot));
        lines.extend(self.labelled("version", &[Item::plain(format!("sixgate {}", harmless(&system.sixgate)))]));
        lines
    }

    /// A table of what the filter leaves.
    pub(super) fn rows(&self, mut rows: Vec<(String, Vec<Item>)>) -> Vec<Line<'static>> {
        let all = rows.len();
        let filter = self.filter.to_lowercase();
        rows.retain(|(label, items)| {
            label.to_lowercase().contains(&filter) || items.iter().any(|item| item.contains(&filter))
        });
        let left_out = all - rows.len();
        let mut lines = table(self.theme, self.columns, rows);
        if left_out > 0 {
            let text = format!(" {left_out} of {all} not shown: no \"{}\" in them", harmless(self.filter));
            lines.push(Line::from(Span::styled(text, self.theme.style(Role::Label))));
        }
        lines
    }

    /// What was refused lately, with the number by which an entry can be proposed.
    fn denials(&self, denials: Option<&[Denial]>) -> Vec<Line<'static>> {
        let Some(denials) = denials else { return Vec::new() };
        let state = Item::plain(if denials.is_empty() { "none" } else { "latest first; a, then P proposes an entry" });
        let mut lines = vec![self.rule("Refused lately", &[state])];
        let row = |denial: &Denial| {
            let ends = format!("{} ► {}", harmless(&denial.from), harmless(&denial.to));
            let items = vec![
                Item::plain(ends),
                Item::plain(harmless(&denial.service)),
                Item::plain(format!("{} packets", count(denial.packets))),
                Item::new(Role::Label, harmless(&denial.reason)),
            ];
            (denial.number.to_string(), items)
        };
        lines.extend(self.rows(denials.iter().map(row).collect()));
        lines
    }

    /// Every reason with its count, most frequent first.
    fn all_reasons(&self, title: &str, reasons: &BTreeMap<String, u64>) -> Vec<Line<'static>> {
        let mut lines = vec![self.rule(title, &[Item::plain(count(messages(reasons)))])];
        lines.extend(self.counts(reasons, "none"));
        lines
    }

    fn counts(&self, reasons: &BTreeMap<String, u64>, nothing: &str) -> Vec<Line<'static>> {
        let mut named: Vec<_> = reasons.iter().filter(|(_, count)| **count > 0).collect();
        if named.is_empty() {
            return vec![Line::from(format!(" {nothing}"))];
        }
        named.sort_by(|one, other| other.1.cmp(one.1).then_with(|| one.0.cmp(other.0)));
        let row =
            |(reason, sum): (&String, &u64)| (count(*sum), vec![Item::plain(harmless(reason).replace('\n', " "))]);
        self.rows(named.into_iter().map(row).collect())
    }

    /// Every rule with what it counted, in the order of the ruleset's names.
    fn all_rules(&self, title: &str, rules: &BTreeMap<String, Traffic>) -> Vec<Line<'static>> {
        let sum = packets(rules);
        let mut lines = vec![self.rule(title, &[Item::plain(format!("{} packets", count(sum)))])];
        if rules.is_empty() {
            lines.push(Line::from(" none"));
        }
        let row = |(rule, traffic): (&String, &Traffic)| {
            let name = harmless(rule).replace('\n', " ");
            (count(traffic.packets), vec![Item::plain(bytes(traffic.bytes)), Item::plain(name)])
        };
        lines.extend(self.rows(rules.iter().map(row).collect()));
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

/// A level as a number.
pub(super) fn level(value: f64) -> String {
    count(value as u64)
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

/// Whether a host was seen.
fn sighting(seen: Option<bool>) -> Item {
    match seen {
        Some(true) => Item::new(Role::Good, "seen"),
        Some(false) => Item::new(Role::Warning, "silent"),
        None => Item::plain("-"),
    }
}

/// Whether it was seen, where it is, what is routed to it.
fn vm_items(vm: &Vm) -> Vec<Item> {
    let mut items = vec![sighting(vm.seen)];
    items.push(Item::plain(harmless(&vm.lan)));
    items.push(vm.next_hop.map_or_else(|| Item::plain("-"), |address| Item::plain(address.to_string())));
    items.extend(vm.containers.iter().map(|prefix| Item::plain(format!("► {prefix}"))));
    items
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

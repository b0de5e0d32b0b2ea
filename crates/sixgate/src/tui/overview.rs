//! The overview: what hurts, a line of health for each service, and what moves, drawn.
use ipnet::IpNet;
use ratatui::text::Line;
use sixgate_engine::plan::Obstacle;
use sixgate_engine::status::{Dns64, Interface, Nat64, Status};

use super::findings;
use super::format::{bit_rate, bytes, count, duration, per_second};
use super::page::{Item, beside, harmless, labelled};
use super::rates::{Trend, messages, packets, total};
use super::sheet::{Sheet, TWO_COLUMNS, level};
use super::theme::Role;

/// Rows of a graph at least and at most.
const GRAPH_ROWS: core::ops::RangeInclusive<usize> = 2..=6;

/// The page; `rows` are on the screen at once.
pub(super) fn page(sheet: &Sheet<'_>, rows: usize) -> Vec<Line<'static>> {
    let mut lines = findings::urgent(sheet.theme, sheet.columns, rows / 2, sheet.status);
    lines.push(sheet.rule("Services", &[]));
    lines.extend(health(sheet));
    lines.push(sheet.rule("Now", &[]));
    lines.extend(graphs(sheet, rows.saturating_sub(lines.len())));
    lines.extend(findings::notes(sheet.theme, sheet.columns, sheet.status));
    lines
}

/// A line for each service: its name, its state in a word, and the few numbers that matter.
fn health(sheet: &Sheet<'_>) -> Vec<Line<'static>> {
    let status = sheet.status;
    let mut services = vec![("Uplink".to_owned(), uplink(sheet))];
    services.extend(status.lans.iter().map(|lan| (format!("LAN {}", harmless(&lan.name)), lan_items(lan))));
    if !status.vms.is_empty() {
        services.push(("VMs".to_owned(), vms(status)));
    }
    services.push(("NAT64".to_owned(), status.nat64.as_ref().map_or_else(off, nat64)));
    services.push(("DNS64".to_owned(), status.dns64.as_ref().map_or_else(off, |dns64| resolver(sheet, dns64))));
    services.push(("Firewall".to_owned(), firewall(status)));
    services.push(("Machine".to_owned(), machine(status)));
    services.iter().flat_map(|(name, items)| labelled(sheet.theme, sheet.columns, name, items)).collect()
}

/// What moves; as tall as the screen has room for.
fn graphs(sheet: &Sheet<'_>, room: usize) -> Vec<Line<'static>> {
    type Drawn = (&'static str, Trend, fn(f64) -> String);
    const LEFT: [Drawn; 2] = [("received", Trend::Received, bit_rate), ("sent", Trend::Sent, bit_rate)];
    const RIGHT: [Drawn; 2] = [("translated", Trend::Translated, per_second), ("queries", Trend::Queries, per_second)];
    const FURTHER: [Drawn; 2] = [("sessions", Trend::Sessions, level), ("dropped", Trend::Dropped, per_second)];
    let column = |sheet: &Sheet<'_>, drawn: &[Drawn], height: usize| -> Vec<Line<'static>> {
        drawn.iter().flat_map(|(label, trend, unit)| sheet.graph(label, height, *trend, *unit)).collect()
    };
    let wide = sheet.columns >= TWO_COLUMNS;
    let stacked = if wide { 3 } else { 4 };
    let height = (room / stacked).clamp(*GRAPH_ROWS.start(), *GRAPH_ROWS.end());
    if !wide {
        return column(sheet, &[LEFT, RIGHT].concat(), height);
    }
    let half = (sheet.columns - 2) / 2;
    let (left, right) = (Sheet { columns: half, ..*sheet }, Sheet { columns: sheet.columns - 2 - half, ..*sheet });
    let pairs = |side: usize| [LEFT[side], RIGHT[side], FURTHER[side]];
    beside(column(&left, &pairs(0), height), column(&right, &pairs(1), height), half)
}

fn off() -> Vec<Item> {
    vec![Item::plain("off")]
}

/// Whether a link is there and carries.
fn link(interface: &Interface) -> Item {
    match (interface.present, interface.carrier) {
        (false, _) => Item::new(Role::Bad, "MISSING"),
        (true, false) => Item::new(Role::Bad, "NO CARRIER"),
        (true, true) => Item::new(Role::Good, "up"),
    }
}

/// The addresses that others know.
fn global(interface: &Interface) -> impl Iterator<Item = Item> {
    let addresses = interface.addresses.iter().filter(|(net, _)| match net {
        IpNet::V6(net) => !net.addr().is_unicast_link_local(),
        IpNet::V4(_) => true,
    });
    addresses.map(|(net, _)| Item::plain(net.to_string()))
}

fn uplink(sheet: &Sheet<'_>) -> Vec<Item> {
    let wan = &sheet.status.wan;
    let mut items = vec![link(wan)];
    items.extend(global(wan));
    if wan.present && !wan.gateways.iter().any(core::net::IpAddr::is_ipv6) {
        items.push(Item::new(Role::Warning, "NO IPv6 GATEWAY"));
    }
    items
}

fn lan_items(lan: &sixgate_engine::status::Lan) -> Vec<Item> {
    let mut items = vec![link(&lan.interface)];
    match &lan.advertised {
        Some(advertised) => {
            items.extend(advertised.prefixes.iter().map(|prefix| Item::plain(prefix.prefix.to_string())));
            items.push(Item::plain(format!("RA {}", count(advertised.sent))));
            if advertised.pref64.is_some_and(|(_, usable)| !usable) {
                items.push(Item::new(Role::Warning, "PREF64 WITHDRAWN"));
            }
            // RFC 4861 section 6.2.3: with a router lifetime of 0 hosts do not route through it.
            if advertised.router_lifetime == 0 {
                items.push(Item::new(Role::Warning, "NOT A DEFAULT ROUTER"));
            }
        }
        None => items.push(Item::plain("not advertised")),
    }
    items
}

fn vms(status: &Status) -> Vec<Item> {
    let seen = status.vms.iter().filter(|vm| vm.seen == Some(true)).count();
    let silent = status.vms.iter().filter(|vm| vm.seen == Some(false)).count();
    let mut items = vec![Item::plain(format!("{seen} of {} seen", status.vms.len()))];
    if silent > 0 {
        items.push(Item::new(Role::Warning, format!("{silent} silent")));
    }
    items
}

fn nat64(nat64: &Nat64) -> Vec<Item> {
    let mut items = vec![match nat64.obstacle {
        None => Item::new(Role::Good, "works"),
        Some(Obstacle::NoIpv4Uplink) => Item::new(Role::Bad, "NO IPv4 UPLINK"),
        Some(Obstacle::NoDevice) => Item::new(Role::Bad, "NO TUN DEVICE"),
    }];
    items.extend(nat64.pref64.map(|prefix| Item::plain(prefix.to_string())));
    items.push(Item::plain(format!("{} sessions", count(total(nat64.sessions)))));
    items.push(Item::plain(format!("{} not passed", count(messages(&nat64.reasons)))));
    items
}

fn resolver(sheet: &Sheet<'_>, dns64: &Dns64) -> Vec<Item> {
    let mut items = Vec::new();
    if dns64.listening.is_empty() {
        items.push(Item::new(Role::Bad, "LISTENS NOWHERE"));
    }
    items.push(if dns64.synthesizing {
        Item::new(Role::Good, "synthesizes")
    } else {
        Item::new(Role::Warning, "NO SYNTHESIS")
    });
    items.push(Item::plain(format!("{} queries", count(dns64.queries))));
    let failing = sheet.history.rate(|status| status.dns64.as_ref().map(|dns64| dns64.failures));
    let role = if failing.is_some_and(|rate| rate > 0.0) { Role::Warning } else { Role::Plain };
    items.push(Item::new(role, format!("{} failed", count(dns64.failures))));
    items
}

fn firewall(status: &Status) -> Vec<Item> {
    let firewall = &status.firewall;
    let mut items = vec![match (firewall.loaded, firewall.forwarding) {
        (true, true) => Item::new(Role::Good, "in force"),
        (true, false) => Item::new(Role::Warning, "NOT FORWARDING"),
        (false, true) => Item::new(Role::Bad, "FORWARDING WITHOUT RULES"),
        (false, false) => Item::new(Role::Bad, "NOT LOADED"),
    }];
    items.push(Item::plain(format!("{} dropped", count(packets(&firewall.dropped)))));
    items.push(Item::plain(format!("{} admitted", count(packets(&firewall.allowed)))));
    items
}

fn machine(status: &Status) -> Vec<Item> {
    let system = &status.system;
    let used = system.memory_total.saturating_sub(system.memory_available);
    let mut items = vec![
        Item::plain(format!("up {}", duration(system.machine_uptime))),
        Item::plain(format!("memory {} of {}", bytes(used), bytes(system.memory_total))),
        Item::plain(format!("load {:.2}", system.load)),
    ];
    if system.starts > 1 {
        items.push(Item::new(Role::Warning, format!("daemon started {} times", system.starts)));
    }
    items
}

//! The pages of what was: the log, the configurations, the uplink's prefixes over time.
use ratatui::text::Line;
use sixgate_engine::status::Uplink;

use super::format::{clock_time, count, duration};
use super::page::{Item, harmless, labelled};
use super::sheet::Sheet;
use super::theme::Role;
use crate::change::utc;
use crate::control::{Event, PastConfiguration};

/// From this width on there is room for the part of the daemon that says it.
const SOURCE_FROM: usize = 100;

/// What the daemon has logged, the newest first.
pub(super) fn log<'a>(sheet: &Sheet<'_>, events: impl DoubleEndedIterator<Item = &'a Event>) -> Vec<Line<'static>> {
    let rows: Vec<_> = events.rev().map(|event| row(event, sheet.columns)).collect();
    let mut lines =
        vec![sheet.rule("Log", &[Item::plain(format!("{} events", rows.len())), Item::plain("newest first")])];
    lines.extend(sheet.rows(rows));
    lines
}

fn row(event: &Event, columns: usize) -> (String, Vec<Item>) {
    let (role, level) = match event.level.as_str() {
        "error" => (Role::Bad, "ERROR"),
        "warn" => (Role::Warning, "WARN"),
        _ => (Role::Plain, ""),
    };
    let time = clock_time(event.at / 1_000);
    let source = (columns >= SOURCE_FROM).then(|| Item::new(Role::Label, format!("{:<13}", harmless(&event.source))));
    let text = harmless(&event.text).replace('\n', " ");
    let text = if level.is_empty() { text } else { format!("{level} {text}") };
    (time, source.into_iter().chain([Item::new(role, text)]).collect())
}

/// The configurations that are kept.
pub(super) fn configurations(sheet: &Sheet<'_>, past: Option<&[PastConfiguration]>) -> Vec<Line<'static>> {
    let Some(past) = past else { return vec![sheet.rule("Configurations", &[Item::plain("asking")])] };
    let mut lines = vec![sheet.rule("Configurations", &[Item::plain("a, then v goes back"), Item::plain("e edits")])];
    if past.is_empty() {
        lines.push(Line::from(" None is kept: nothing was applied yet."));
    }
    let row = |entry: &PastConfiguration| {
        let mut items = vec![
            Item::plain(utc(entry.time)),
            Item::plain(harmless(&entry.origin)),
            Item::plain(format!("+{} -{}", count(entry.added as u64), count(entry.removed as u64))),
        ];
        items.extend(entry.in_force.then(|| Item::new(Role::Good, "in force")));
        (entry.number.to_string(), items)
    };
    lines.extend(sheet.rows(past.iter().map(row).collect()));
    if let Some(newest) = past.first() {
        lines.push(sheet.rule(&format!("What came with {}", newest.number), &[]));
        lines.extend(newest.difference.lines().map(|line| Line::from(format!(" {}", harmless(line)))));
    }
    lines
}

/// What the uplink has lent, and what has changed.
pub(super) fn prefixes(sheet: &Sheet<'_>) -> Vec<Line<'static>> {
    let uplink = &sheet.status.uplink;
    let mut lines = vec![sheet.rule("Lent by the uplink", &[])];
    lines.extend(
        lent(uplink).into_iter().flat_map(|(label, items)| labelled(sheet.theme, sheet.columns, label, &items)),
    );
    if lines.len() == 1 {
        lines.push(Line::from(" Nothing: addresses and prefixes are the configuration's."));
    }
    lines.push(sheet.rule("Prefixes on the LANs", &[]));
    let advertised = |lan: &sixgate_engine::status::Lan| {
        let prefixes = lan.advertised.iter().flat_map(|advertised| &advertised.prefixes);
        (harmless(&lan.name), prefixes.map(|prefix| Item::plain(prefix.prefix.to_string())).collect::<Vec<_>>())
    };
    lines.extend(sheet.rows(sheet.status.lans.iter().map(advertised).collect()));
    let changes = uplink.changes.len();
    lines.push(sheet.rule("Time line", &[Item::plain(format!("{changes} changes")), Item::plain("newest first")]));
    let changes = uplink.changes.iter().rev().map(|change| {
        let gone = change.gone.iter().map(|item| Item::new(Role::Warning, format!("- {}", harmless(item))));
        let new = change.new.iter().map(|item| Item::new(Role::Good, format!("+ {}", harmless(item))));
        let time = Item::plain(utc(change.at));
        (String::new(), std::iter::once(time).chain(gone).chain(new).collect::<Vec<_>>())
    });
    lines.extend(sheet.rows(changes.collect()));
    lines
}

fn lent(uplink: &Uplink) -> Vec<(&'static str, Vec<Item>)> {
    let ends = |seconds: Option<u64>| seconds.map(|seconds| Item::plain(format!("ends in {}", duration(seconds))));
    let mut rows = Vec::new();
    if let Some(dhcp) = &uplink.dhcp4 {
        let mut items = vec![Item::plain(harmless(&dhcp.state))];
        items.extend(dhcp.address.map(|address| Item::plain(address.to_string())));
        items.extend(dhcp.server.map(|server| Item::plain(format!("by {server}"))));
        items.extend(ends(dhcp.remaining));
        rows.push(("DHCPv4", items));
    }
    if let Some(dhcp) = &uplink.dhcp6 {
        rows.push(("DHCPv6", vec![Item::plain(harmless(&dhcp.state))]));
    }
    if let Some(discovery) = &uplink.discovery {
        let router = discovery.router.map_or_else(|| "none".to_owned(), |router| router.to_string());
        rows.push(("router", vec![Item::plain(router)]));
    }
    for prefix in &uplink.delegated {
        let mut items = vec![Item::plain(prefix.prefix.to_string())];
        items.extend(ends(prefix.valid));
        items.extend(prefix.retired.then(|| Item::new(Role::Warning, "RETIRED")));
        rows.push(("delegated", items));
    }
    rows.extend(uplink.unique_local.map(|prefix| ("site", vec![Item::plain(prefix.to_string())])));
    rows
}

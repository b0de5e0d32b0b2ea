//! What the pages are made from: the newest state, those before it, and how tables and reasons are drawn.
use std::collections::BTreeMap;

use ratatui::text::{Line, Span};
use sixgate_engine::status::{Accounted, Status, Traffic};

use super::format::{bit_rate, bytes, count, duration, packet_rate, per_second};
use super::graph::graph;
use super::page::{Item, harmless, labelled, rule, table};
use super::rates::{History, Trend, messages};
use super::theme::{Role, Theme};

/// Reasons that are named beside the others; the pages name all.
const REASONS: usize = 3;
/// From this width on things stand side by side.
pub(super) const TWO_COLUMNS: usize = 120;
/// Rows of a page's graph.
pub(super) const GRAPH: usize = 4;

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

    pub(super) fn labelled(&self, label: &str, items: &[Item]) -> Vec<Line<'static>> {
        labelled(self.theme, self.columns, label, items)
    }

    /// A rate of traffic in bits and packets, with blanks that keep what follows in its place.
    pub(super) fn flow(&self, traffic: impl Fn(&Status) -> Option<Traffic>) -> String {
        let bits = self.history.rate(|status| traffic(status).map(|traffic| traffic.bytes));
        let packets = self.history.rate(|status| traffic(status).map(|traffic| traffic.packets));
        let bits = bits.map_or_else(|| "-".to_owned(), bit_rate);
        let packets = packets.map_or_else(|| "-".to_owned(), packet_rate);
        format!("{bits:>11} {packets:>16}")
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

    /// Every reason with its count, most frequent first.
    pub(super) fn all_reasons(&self, title: &str, reasons: &BTreeMap<String, u64>) -> Vec<Line<'static>> {
        let mut lines = vec![self.rule(title, &[Item::plain(count(messages(reasons)))])];
        lines.extend(self.counts(reasons, "none"));
        lines
    }

    pub(super) fn counts(&self, reasons: &BTreeMap<String, u64>, nothing: &str) -> Vec<Line<'static>> {
        let mut named: Vec<_> = reasons.iter().filter(|(_, count)| **count > 0).collect();
        if named.is_empty() {
            return vec![Line::from(format!(" {nothing}"))];
        }
        named.sort_by(|one, other| other.1.cmp(one.1).then_with(|| one.0.cmp(other.0)));
        let row =
            |(reason, sum): (&String, &u64)| (count(*sum), vec![Item::plain(harmless(reason).replace('\n', " "))]);
        self.rows(named.into_iter().map(row).collect())
    }

    /// A rate, a sum and the reasons behind it, most frequent first.
    pub(super) fn reasons(
        &self,
        label: &str,
        rate: Option<f64>,
        reasons: &BTreeMap<String, u64>,
    ) -> Vec<Line<'static>> {
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
pub(super) fn speed(rate: Option<f64>) -> Item {
    Item::plain(format!("{:>7}", rate.map_or_else(|| "-".to_owned(), per_second)))
}

/// A count of something bad: it stands out while it grows.
pub(super) fn tally(sum: u64, what: &str, rate: Option<f64>) -> Item {
    let role = if rate.is_some_and(|rate| rate > 0.0) { Role::Warning } else { Role::Plain };
    Item::new(role, format!("{} {what}", count(sum)))
}

/// What somebody has moved through the translator.
pub(super) fn moved(who: &Accounted) -> Vec<Item> {
    let told = |way: &str, traffic: Traffic| {
        Item::plain(format!("{way} {} packets, {}", count(traffic.packets), bytes(traffic.bytes)))
    };
    vec![told("sent", who.v6_to_v4), told("received", who.v4_to_v6)]
}

/// Whether a host was seen, and how long ago that was.
pub(super) fn sighting(seen: Option<bool>, last_seen: Option<u64>) -> Item {
    let ago = last_seen.map(|seconds| format!(" {}", duration(seconds))).unwrap_or_default();
    match seen {
        Some(true) => Item::new(Role::Good, format!("seen{ago}")),
        Some(false) => Item::new(Role::Warning, format!("silent{ago}")),
        None => Item::plain("-"),
    }
}

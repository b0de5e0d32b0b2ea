//! The page of the firewall: rules with what they counted, and what was refused lately.
use std::collections::BTreeMap;

use ratatui::text::Line;
use sixgate_engine::firewall::denial::Denial;
use sixgate_engine::status::{Connections, Traffic};

use super::format::{bytes, count, per_second};
use super::page::{Item, harmless};
use super::rates::{Trend, packets};
use super::sheet::{GRAPH, Sheet};
use super::theme::Role;

/// The firewall, rule by rule.
pub(super) fn page(sheet: &Sheet<'_>, denials: Option<&[Denial]>) -> Vec<Line<'static>> {
    let firewall = &sheet.status.firewall;
    let mut lines = sheet.firewall();
    lines.extend(sheet.graph("dropped", GRAPH, Trend::Dropped, per_second));
    lines.extend(sheet.denials(denials));
    lines.extend(sheet.all_rules("Dropped, by rule", &firewall.dropped));
    lines.extend(sheet.all_rules("Admitted, by entry", &firewall.allowed));
    lines
}

impl Sheet<'_> {
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
        if let Some(Connections { held, most, refused, evicted }) = &firewall.connections {
            // From there on a finding says what to do.
            let role = if held.saturating_mul(20) >= most.saturating_mul(19) { Role::Warning } else { Role::Plain };
            let mut items = vec![Item::new(role, format!("{} of {}", count(*held), count(*most)))];
            for (lost, how) in [(refused, "refused"), (evicted, "evicted")] {
                if *lost > 0 {
                    items.push(Item::new(Role::Warning, format!("{} {how}", count(*lost))));
                }
            }
            lines.extend(self.labelled("connections", &items));
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
}

//! The page of the machine and the daemon: memory, versions, slots, and how it started.
use ratatui::text::Line;
use sixgate_engine::status::Milestone;

use super::format::{bytes, count, duration};
use super::page::{Item, harmless, table};
use super::sheet::Sheet;
use super::theme::Role;

/// The machine and the daemon.
pub(super) fn page(sheet: &Sheet<'_>) -> Vec<Line<'static>> {
    let mut lines = sheet.machine();
    if let Some(appliance) = &sheet.status.appliance {
        lines.extend(sheet.start(&appliance.timeline));
    }
    let control = &sheet.status.control;
    lines.push(sheet.rule("Control socket", &[Item::plain(format!("{} requests", count(control.requests)))]));
    lines.extend(sheet.counts(&control.refused, "nothing refused"));
    lines
}

impl Sheet<'_> {
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

    /// What the start took, step by step: each begins where the one before it ended.
    fn start(&self, timeline: &[Milestone]) -> Vec<Line<'static>> {
        let Some(last) = timeline.last() else { return Vec::new() };
        let mut lines = vec![self.rule("Start", &[Item::plain(format!("{:.1} s from the kernel on", last.seconds))])];
        let mut before = 0.0;
        let row = |milestone: &Milestone| {
            let (from, to) = (before, milestone.seconds.max(before));
            before = to;
            let items = vec![
                Item::plain(format!("+{:.2} s", to - from)),
                Item::plain(span(from / last.seconds, to / last.seconds)),
                Item::plain(harmless(&milestone.name)),
            ];
            (format!("{:.2} s", milestone.seconds), items)
        };
        let rows = timeline.iter().map(row).collect();
        lines.extend(table(self.theme, self.columns, rows));
        lines
    }
}

/// Columns of a time line.
const SPAN: usize = 32;

/// A part of a time line, from one fraction of it to another; whatever took any time can be seen.
fn span(from: f64, to: f64) -> String {
    let column = |fraction: f64| ((fraction * SPAN as f64).round() as usize).min(SPAN);
    let first = column(from).min(SPAN - 1);
    let filled = column(to).saturating_sub(first).max(1);
    format!("{}{}{}", "░".repeat(first), "█".repeat(filled), "░".repeat(SPAN - first - filled))
}

/// A bar of ten columns.
fn gauge(part: u64, whole: u64) -> String {
    let filled = part.saturating_mul(10).checked_div(whole).unwrap_or(0).min(10);
    let filled = usize::try_from(filled).unwrap_or(0);
    format!("{}{}", "█".repeat(filled), "░".repeat(10 - filled))
}

//! The page of the translator: sessions, directions, the fast path, who moves most, and why packets do not pass.
use ratatui::text::Line;
use sixgate_engine::plan::Obstacle;
use sixgate_engine::status::{Accounted, FastPath, Nat64, Sessions, Status, Traffic};

use super::format::{bytes, count, per_second};
use super::page::{Item, harmless};
use super::rates::{Trend, messages, total};
use super::sheet::{GRAPH, Sheet, level, moved};
use super::theme::Role;

/// The translator.
pub(super) fn page(sheet: &Sheet<'_>) -> Vec<Line<'static>> {
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

impl Sheet<'_> {
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
}

fn sessions(sessions: Sessions) -> Vec<Item> {
    [("TCP", sessions.tcp), ("UDP", sessions.udp), ("ICMP", sessions.icmp)]
        .map(|(protocol, sum)| Item::plain(format!("{} {protocol}", count(sum))))
        .to_vec()
}

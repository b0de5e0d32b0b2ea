//! The page of the resolver: what is asked, what is known already, and who is asked in turn.
use core::net::SocketAddr;

use ratatui::text::Line;
use sixgate_engine::status::{Dns64, Frequent, Upstream};

use super::format::{bytes, count, millis, per_second, plural, share};
use super::page::{Item, beside, harmless};
use super::rates::{Trend, messages};
use super::sheet::{GRAPH, Sheet, TWO_COLUMNS, speed, tally};
use super::theme::Role;

/// The resolver.
pub(super) fn page(sheet: &Sheet<'_>) -> Vec<Line<'static>> {
    let mut lines = sheet.dns64();
    if let Some(dns64) = &sheet.status.dns64 {
        lines.extend(sheet.upstreams(dns64));
        lines.extend(sheet.graph("queries", GRAPH, Trend::Queries, per_second));
        lines.extend(sheet.asked(dns64));
        lines.extend(sheet.all_reasons("Dropped or refused, by reason", &dns64.dropped));
    }
    lines
}

impl Sheet<'_> {
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
        let mut items = vec![
            speed(self.dns_rate(|dns64| dns64.queries)),
            Item::plain(format!("{} in all", count(dns64.queries))),
            Item::plain(format!("{} synthesized", count(dns64.synthesized))),
            tally(dns64.failures, "failed", self.dns_rate(|dns64| dns64.failures)),
        ];
        let dropped = messages(&dns64.dropped);
        if dropped > 0 {
            items.push(tally(dropped, "dropped", self.dns_rate(|dns64| messages(&dns64.dropped))));
        }
        lines.extend(self.labelled("queries", &items));
        lines.extend(self.labelled("cache", &self.cache(dns64)));
        lines.extend(self.labelled("DNSSEC", &[validation(dns64)]));
        lines
    }

    /// How much of what is asked is known already: of the last seconds, and of all.
    fn cache(&self, dns64: &Dns64) -> Vec<Item> {
        let now = match (self.dns_rate(|dns64| dns64.cached), self.dns_rate(|dns64| dns64.queries)) {
            (Some(cached), Some(queries)) if queries > 0.0 => format!("{:>3.0}%", 100.0 * (cached / queries).min(1.0)),
            _ => "   -".to_owned(),
        };
        vec![
            Item::plain(format!("{now} answered from it")),
            Item::plain(format!("{}% in all", share(dns64.cached, dns64.queries))),
            Item::plain(format!("{} answers", count(dns64.cache_answers))),
            Item::plain(bytes(dns64.cache_bytes)),
            tally(dns64.stale, "stale", self.dns_rate(|dns64| dns64.stale)),
        ]
    }

    /// Those who are asked: whether they answer, and how quickly.
    fn upstreams(&self, dns64: &Dns64) -> Vec<Line<'static>> {
        let row = |(index, upstream): (usize, &Upstream)| {
            let rate = |counter: fn(&Upstream) -> u64| {
                let of = |dns64: &Dns64| dns64.upstreams.get(index).map(counter);
                self.history.rate(|status| status.dns64.as_ref().and_then(of))
            };
            let (answers, failures) = (rate(|upstream| upstream.answers), rate(|upstream| upstream.failures));
            let fails = failures.is_some_and(|rate| rate > 0.0);
            let state = match (fails, answers.is_some_and(|rate| rate > 0.0)) {
                (true, false) => Item::new(Role::Bad, "FAILING"),
                (true, true) => Item::new(Role::Warning, "LOSES SOME"),
                (false, _) if upstream.answers > 0 => Item::new(Role::Good, "answers"),
                (false, _) if upstream.failures > 0 => Item::new(Role::Bad, "NEVER ANSWERED"),
                (false, _) => Item::plain("not asked yet"),
            };
            let latency = if upstream.latency_us > 0 { millis(upstream.latency_us) } else { "-".to_owned() };
            let items = vec![
                state,
                Item::plain(format!("{latency:>9}")),
                speed(answers),
                Item::plain(format!("{} answers", count(upstream.answers))),
                Item::plain(format!("{} failed", count(upstream.failures))),
                Item::plain(upstream.encrypted.as_deref().map_or_else(|| endpoint(upstream.address), harmless)),
            ];
            (format!("{}", index + 1), items)
        };
        let rows: Vec<_> = dns64.upstreams.iter().enumerate().map(row).collect();
        let state = match rows.len() {
            0 => Item::new(Role::Warning, "none"),
            number => Item::plain(plural(number, "server")),
        };
        let mut lines = vec![self.rule("Upstream", &[state])];
        lines.extend(self.rows(rows));
        lines
    }

    /// Names and clients of the last minutes, the most frequent first: side by side where there is room.
    fn asked(&self, dns64: &Dns64) -> Vec<Line<'static>> {
        let column = |sheet: &Sheet<'_>, title: &str, all: &[Frequent]| {
            let state = Item::plain(if all.is_empty() { "none yet" } else { "about, in the last minutes" });
            let mut lines = vec![sheet.rule(title, &[state])];
            let row = |one: &Frequent| (count(one.count), vec![Item::plain(harmless(&one.name))]);
            lines.extend(sheet.rows(all.iter().map(row).collect()));
            lines
        };
        if self.columns < TWO_COLUMNS {
            let mut lines = column(self, "Names", &dns64.top_names);
            lines.extend(column(self, "Clients", &dns64.top_clients));
            return lines;
        }
        let half = (self.columns - 2) / 2;
        let (left, right) = (Sheet { columns: half, ..*self }, Sheet { columns: self.columns - 2 - half, ..*self });
        let (names, clients) =
            (column(&left, "Names", &dns64.top_names), column(&right, "Clients", &dns64.top_clients));
        beside(names, clients, half)
    }

    fn dns_rate(&self, counter: fn(&Dns64) -> u64) -> Option<f64> {
        self.history.rate(|status| status.dns64.as_ref().map(counter))
    }
}

fn validation(dns64: &Dns64) -> Item {
    match (dns64.validating, dns64.bogus) {
        (false, _) => Item::plain("off"),
        (true, 0) => Item::plain(format!("{} answers proven, none bogus", count(dns64.validated))),
        (true, bogus) => {
            Item::new(Role::Warning, format!("{} answers proven, {} BOGUS", count(dns64.validated), count(bogus)))
        }
    }
}

/// An address, with its port unless that is DNS's own.
fn endpoint(address: SocketAddr) -> String {
    if address.port() == 53 { address.ip().to_string() } else { address.to_string() }
}

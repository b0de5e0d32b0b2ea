//! The state as metrics: names and units by Prometheus' conventions, as many series as the configuration is long.
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::status::{Dns64, Firewall, Interface, Lan, Nat64, Sessions, Status, System, Traffic, Vm};

/// Series of one metric; what comes after them is one sum, labelled "other".
const MOST_SERIES: usize = 256;
/// Label of what has no series of its own.
const OTHER: &str = "other";

/// What a scraper understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Prometheus,
}

impl Format {
    /// By the request's `Accept` header.
    pub(super) fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The answer's `Content-Type` header.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// All metrics of a state, as a scraper reads them.
pub(super) fn emit(status: &Status, format: Format) -> Result<String, fmt::Error> {
    let mut sheet = Sheet(Registry::with_prefix("sixgate"));
    system(&mut sheet, &status.system);
    interfaces(&mut sheet, &status.wan, &status.lans);
    advertisements(&mut sheet, &status.lans);
    vms(&mut sheet, &status.vms);
    if let Some(nat64) = &status.nat64 {
        translator(&mut sheet, nat64);
    }
    if let Some(dns64) = &status.dns64 {
        resolver(&mut sheet, dns64);
    }
    firewall(&mut sheet, &status.firewall);
    findings(&mut sheet, &status.findings);
    let mut out = String::new();
    match format {
        Format::OpenMetrics => text::encode(&mut out, &sheet.0)?,
        Format::Prometheus => prometheus_text::encode(&mut out, &sheet.0)?,
    }
    Ok(out)
}

type Labels = Vec<(&'static str, String)>;

/// Metrics of one answer.
struct Sheet(Registry);

impl Sheet {
    fn counter(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in series {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn gauge(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in series {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }
}

fn system(sheet: &mut Sheet, system: &System) {
    let build = vec![("version", system.sixgate.clone()), ("kernel", system.kernel.clone())];
    sheet.gauge("build_info", "Version of sixgate and of the kernel", [(build, 1.0)]);
    let alone = |value: u64| [(Vec::new(), float(value))];
    sheet.gauge("uptime_seconds", "Time since the daemon started", alone(system.daemon_uptime));
    sheet.gauge("machine_uptime_seconds", "Time since the machine started", alone(system.machine_uptime));
    sheet.gauge("starts", "How often the daemon was started since the machine started", alone(system.starts.into()));
    sheet.gauge("resident_memory_bytes", "Resident set of the daemon", alone(system.daemon_resident));
    sheet.gauge("machine_memory_bytes", "Memory of the machine", alone(system.memory_total));
    sheet.gauge("machine_memory_available_bytes", "Memory available on the machine", alone(system.memory_available));
    sheet.gauge("load1", "Load average over one minute", [(Vec::new(), f64::from(system.load))]);
}

fn interfaces(sheet: &mut Sheet, wan: &Interface, lans: &[Lan]) {
    let links: Vec<(&str, &Interface)> = std::iter::once(("wan", wan))
        .chain(lans.iter().map(|lan| (lan.name.as_str(), &lan.interface)))
        .take(MOST_SERIES)
        .collect();
    let labels =
        |link: &str, interface: &Interface| vec![("link", link.to_owned()), ("interface", interface.name.clone())];
    let up =
        links.iter().map(|(link, interface)| (labels(link, interface), flag(interface.present && interface.carrier)));
    sheet.gauge("link_up", "Whether the link exists and has carrier", up);
    let received: fn(&Interface) -> Traffic = |interface| interface.received;
    let sent: fn(&Interface) -> Traffic = |interface| interface.sent;
    let ways = [("receive", "received", received), ("transmit", "sent", sent)];
    for (way, word, traffic) in ways {
        let series = |value: fn(Traffic) -> u64| {
            let links = links.iter();
            links.map(move |(link, interface)| (labels(link, interface), value(traffic(interface)))).collect::<Vec<_>>()
        };
        sheet.counter(
            &format!("link_{way}_bytes"),
            &format!("Bytes {word} on the link"),
            series(|traffic| traffic.bytes),
        );
        let packets = series(|traffic| traffic.packets);
        sheet.counter(&format!("link_{way}_packets"), &format!("Packets {word} on the link"), packets);
    }
}

fn advertisements(sheet: &mut Sheet, lans: &[Lan]) {
    let advertised: Vec<_> =
        lans.iter().filter_map(|lan| lan.advertised.as_ref().map(|advertised| (&lan.name, advertised))).collect();
    let label = |lan: &String| vec![("lan", lan.clone())];
    let sent = advertised.iter().map(|(lan, advertised)| (label(lan), advertised.sent));
    sheet.counter("ra_sent", "Router advertisements sent", sent);
    let heard = advertised.iter().map(|(lan, advertised)| (label(lan), advertised.solicitations));
    sheet.counter("ra_solicitations", "Router solicitations received", heard);
    let dropped = advertised.iter().flat_map(|(lan, advertised)| {
        let reasons = advertised.dropped.iter();
        reasons.map(|(reason, count)| (vec![("lan", (*lan).clone()), ("reason", reason.clone())], *count))
    });
    sheet.counter("ra_dropped", "Neighbor discovery messages dropped, by reason", dropped);
}

fn vms(sheet: &mut Sheet, vms: &[Vm]) {
    let seen = vms.iter().take(MOST_SERIES).filter_map(|vm| {
        let labels = vec![("vm", vm.name.clone()), ("lan", vm.lan.clone())];
        vm.seen.map(|seen| (labels, flag(seen)))
    });
    sheet.gauge("vm_seen", "Whether the neighbour cache knows the VM", seen);
}

fn translator(sheet: &mut Sheet, nat64: &Nat64) {
    let works = flag(nat64.obstacle.is_none());
    sheet.gauge("nat64_working", "Whether translation can work", [(Vec::new(), works)]);
    sheet.gauge("nat64_sessions", "Sessions, by protocol", protocols(nat64.sessions));
    sheet.gauge("nat64_bindings", "Bindings (BIB entries), by protocol", protocols(nat64.bindings));
    let ways = [("v6_to_v4", nat64.v6_to_v4), ("v4_to_v6", nat64.v4_to_v6)];
    let label = |way: &str| vec![("direction", way.to_owned())];
    sheet.counter("nat64_packets", "Packets translated", ways.map(|(way, traffic)| (label(way), traffic.packets)));
    sheet.counter("nat64_bytes", "Bytes translated", ways.map(|(way, traffic)| (label(way), traffic.bytes)));
    sheet.counter("nat64_refused_packets", "Packets not translated, by reason", labelled("reason", &nat64.reasons));
    let Some(fast) = &nat64.fast_path else { return };
    sheet.gauge("nat64_fast_path_sessions", "Sessions in the fast path", [(Vec::new(), fast.sessions as f64)]);
    sheet.gauge(
        "nat64_fast_path_capacity",
        "Sessions that the fast path has room for",
        [(Vec::new(), fast.capacity as f64)],
    );
    sheet.gauge("nat64_fast_path_memory_bytes", "Memory of the fast path's maps", [(Vec::new(), fast.memory as f64)]);
    sheet.counter("nat64_fast_path_refused", "Sessions that found no room in it", [(Vec::new(), fast.refused)]);
    let ways = [("v6_to_v4", fast.v6_to_v4), ("v4_to_v6", fast.v4_to_v6)];
    let packets = ways.map(|(way, traffic)| (label(way), traffic.packets));
    sheet.counter("nat64_fast_path_packets", "Packets translated in the kernel", packets);
    let left = labelled("reason", &fast.reasons);
    sheet.counter("nat64_fast_path_left_packets", "Packets left to the translator, by reason", left);
}

fn protocols(sessions: Sessions) -> [(Labels, f64); 3] {
    [("tcp", sessions.tcp), ("udp", sessions.udp), ("icmp", sessions.icmp)]
        .map(|(protocol, count)| (vec![("protocol", protocol.to_owned())], float(count)))
}

fn resolver(sheet: &mut Sheet, dns64: &Dns64) {
    let gauge = |value: f64| [(Vec::new(), value)];
    let counter = |value: u64| [(Vec::new(), value)];
    sheet.gauge("dns64_synthesizing", "Whether AAAA records are synthesized", gauge(flag(dns64.synthesizing)));
    sheet.gauge(
        "dns64_listeners",
        "Addresses that the resolver listens on",
        gauge(float(dns64.listening.len() as u64)),
    );
    sheet.counter("dns64_queries", "Questions received", counter(dns64.queries));
    sheet.counter("dns64_synthesized", "Answers with synthesized records", counter(dns64.synthesized));
    sheet.counter("dns64_failures", "Questions that ended in SERVFAIL", counter(dns64.failures));
    if let Some(fast) = &dns64.fast_path {
        sheet.counter("dns64_fast_path_answers", "Questions answered in the kernel", counter(fast.answered));
    }
    sheet.counter("dns64_dropped", "Messages dropped or refused, by reason", labelled("reason", &dns64.dropped));
    let upstream = |value: fn(&sixgate_engine::status::Upstream) -> u64| {
        let upstreams = dns64.upstreams.iter().take(MOST_SERIES);
        upstreams
            .map(|upstream| (vec![("upstream", upstream.address.to_string())], value(upstream)))
            .collect::<Vec<_>>()
    };
    sheet.counter("dns64_upstream_answers", "Answers of an upstream", upstream(|upstream| upstream.answers));
    sheet.counter(
        "dns64_upstream_failures",
        "Time-outs and errors of an upstream",
        upstream(|upstream| upstream.failures),
    );
}

fn firewall(sheet: &mut Sheet, firewall: &Firewall) {
    let alone = |value| [(Vec::new(), flag(value))];
    sheet.gauge("firewall_loaded", "Whether the ruleset is in force", alone(firewall.loaded));
    sheet.gauge("firewall_forwarding", "Whether packets are forwarded", alone(firewall.forwarding));
    if let Some(offload) = &firewall.flow_offload {
        let counter = |value: u64| [(Vec::new(), value)];
        sheet.counter(
            "firewall_offloaded_packets",
            "Packets of established flows past rules",
            counter(offload.past.packets),
        );
        sheet.counter("firewall_offloaded_bytes", "Bytes of established flows past rules", counter(offload.past.bytes));
        sheet.counter("firewall_offload_learnt", "Directions of flows that were learnt", counter(offload.learnt));
        let reasons = labelled("reason", &offload.reasons.clone().into_iter().collect());
        sheet.counter("firewall_offload_left", "IPv6 packets that passed rules and routing, by reason", reasons);
    }
    if let Some(held) = &firewall.connections {
        let gauge = |value: u64| [(Vec::new(), float(value))];
        let counter = |value: u64| [(Vec::new(), value)];
        sheet.gauge("firewall_connections", "Connections that are tracked", gauge(held.held));
        sheet.gauge("firewall_connections_most", "Most connections that can be tracked", gauge(held.most));
        sheet.counter("firewall_connections_refused", "Packets dropped for want of room", counter(held.refused));
        sheet.counter("firewall_connections_evicted", "Connections that made room for others", counter(held.evicted));
    }
    for (name, word, rules) in
        [("dropped", "dropped", &firewall.dropped), ("allowed", "admitted by `allow`", &firewall.allowed)]
    {
        let part =
            |value: fn(&Traffic) -> u64| rules.iter().map(|(rule, traffic)| (rule.clone(), value(traffic))).collect();
        let packets = labelled("rule", &part(|traffic| traffic.packets));
        sheet.counter(&format!("firewall_{name}_packets"), &format!("Packets {word}, by rule"), packets);
        let bytes = labelled("rule", &part(|traffic| traffic.bytes));
        sheet.counter(&format!("firewall_{name}_bytes"), &format!("Bytes {word}, by rule"), bytes);
    }
}

fn findings(sheet: &mut Sheet, findings: &[Finding]) {
    let severities = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
    let counts = severities.map(|(severity, word)| {
        let count = findings.iter().filter(|finding| finding.severity == severity).count();
        (vec![("severity", word.to_owned())], float(count as u64))
    });
    sheet.gauge("findings", "Findings, by severity", counts);
    let codes = findings.iter().fold(BTreeMap::<String, u64>::new(), |mut codes, finding| {
        *codes.entry(finding.code.clone()).or_default() += 1;
        codes
    });
    let codes = labelled("code", &codes).into_iter().map(|(labels, count)| (labels, float(count)));
    sheet.gauge("finding", "Findings, by code; docs/findings.md explains each", codes);
}

/// A series for each entry, up to [`MOST_SERIES`].
fn labelled(label: &'static str, entries: &BTreeMap<String, u64>) -> Vec<(Labels, u64)> {
    entries
        .iter()
        .enumerate()
        .map(|(index, (name, count))| {
            let name = if index < MOST_SERIES { name.as_str() } else { OTHER };
            (vec![(label, name.to_owned())], *count)
        })
        .collect()
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

/// Exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "Prometheus' values are floats")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sixgate_engine::status::{Advertised, Answering, Connections, FastPath, FlowOffload, Upstream};

    use super::*;

    fn status() -> Status {
        let rules = [("drop: \"odd\"\nname".to_owned(), Traffic { packets: 3, bytes: 180 })];
        let firewall = Firewall { loaded: true, dropped: BTreeMap::from(rules), ..Firewall::default() };
        let nat64 = Nat64 {
            sessions: Sessions { tcp: 2, udp: 1, icmp: 0 },
            v6_to_v4: Traffic { packets: 10, bytes: 1000 },
            reasons: BTreeMap::from([("no-session".to_owned(), 7)]),
            ..Nat64::default()
        };
        Status { firewall, nat64: Some(nat64), ..Status::default() }
    }

    #[test]
    fn values_stand_under_their_names_in_both_formats() {
        for format in [Format::OpenMetrics, Format::Prometheus] {
            let text = emit(&status(), format).unwrap();
            for line in [
                "sixgate_nat64_sessions{protocol=\"tcp\"} 2",
                "sixgate_nat64_packets_total{direction=\"v6_to_v4\"} 10",
                "sixgate_nat64_refused_packets_total{reason=\"no-session\"} 7",
                "sixgate_firewall_dropped_bytes_total{rule=\"drop: \\\"odd\\\"\\nname\"} 180",
                "sixgate_findings{severity=\"error\"} 0",
            ] {
                assert!(
                    text.lines().any(|found| found == line || found == format!("{line}.0")),
                    "no {line} in:\n{text}"
                );
            }
            assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics);
        }
    }

    #[test]
    fn ten_thousand_rules_are_at_most_as_many_series_as_one_metric_may_have() {
        let mut status = status();
        let one = Traffic { packets: 1, bytes: 60 };
        status.firewall.allowed = (0..10_000).map(|line| (format!("allow line {line:05}"), one)).collect();
        let text = emit(&status, Format::Prometheus).unwrap();
        let series: Vec<_> =
            text.lines().filter(|line| line.starts_with("sixgate_firewall_allowed_packets_total{")).collect();
        assert_eq!(series.len(), MOST_SERIES + 1);
        assert!(series.contains(&"sixgate_firewall_allowed_packets_total{rule=\"other\"} 9744"));
    }

    #[test]
    fn openmetrics_is_told_to_those_who_accept_it() {
        let accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5";
        assert_eq!(Format::accepted(accept), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Prometheus);
    }

    /// Names of metrics in a text: what begins with `sixgate_` and is not part of a longer word.
    fn names(text: &str) -> BTreeSet<&str> {
        let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        text.split(|letter| !word(letter)).filter(|name| name.starts_with("sixgate_")).collect()
    }

    #[test]
    fn the_documents_name_every_metric_and_no_other() {
        let mut status = status();
        // A metric without a series is not told.
        let dropped = BTreeMap::from([("malformed".to_owned(), 1)]);
        let advertised = Advertised { dropped: dropped.clone(), ..Advertised::default() };
        status.lans = vec![Lan { advertised: Some(advertised), ..Lan::default() }];
        status.vms = vec![Vm { seen: Some(true), ..Vm::default() }];
        let upstreams = vec![Upstream {
            address: "[2001:db8::53]:53".parse().unwrap(),
            answers: 1,
            failures: 0,
            latency_us: 0,
            encrypted: None,
        }];
        let offload = FlowOffload { reasons: dropped.clone(), ..FlowOffload::default() };
        status.firewall.flow_offload = Some(offload);
        let left = FastPath { reasons: dropped.clone(), ..FastPath::default() };
        status.nat64 = status.nat64.map(|nat64| Nat64 { fast_path: Some(left), ..nat64 });
        let fast_path = Some(Answering::default());
        status.dns64 = Some(Dns64 { dropped, upstreams, fast_path, ..Dns64::default() });
        status.firewall.allowed = status.firewall.dropped.clone();
        status.firewall.connections = Some(Connections::default());
        status.findings = vec![Finding::new(Severity::Note, "metrics-not-listening", "it", "is so", "leave it")];
        let text = emit(&status, Format::Prometheus).unwrap();
        let told: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert_eq!(names(include_str!("../../../../../docs/metrics.md")), told);
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../../../../docs/grafana.json")).unwrap();
        assert!(dashboard["panels"].as_array().is_some_and(|panels| !panels.is_empty()));
        for document in
            [include_str!("../../../../../docs/grafana.json"), include_str!("../../../../../docs/alerts.yml")]
        {
            let unknown: Vec<_> = names(document).difference(&told).copied().collect();
            assert!(unknown.is_empty(), "{unknown:?}");
        }
    }
}

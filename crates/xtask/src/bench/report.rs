//! What the benchmark says, for the terminal and for the document.
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::engine::Engine;
use super::generator::{FLOWS, PAYLOAD};
use super::nat64::Row;
use super::series::Series;
use super::track::{Contestant, Measure};
use crate::command::output;

/// What the issue demands, and what was found.
const TCP_TARGET: f64 = 8.0;
const UDP_TARGET: f64 = 2.0;

/// Where and how it was measured.
pub(super) struct Surroundings {
    processor: String,
    processors: usize,
    kernel: String,
    load: f64,
    tayga: String,
    iperf3: String,
    seconds: u32,
    rounds: u32,
}

impl Surroundings {
    /// Looks at the machine before anything runs.
    pub(super) fn look(seconds: u32, rounds: u32) -> Self {
        let first_line = |command: &mut Command| {
            output(command).ok().and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_default()
        };
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let version =
            |package| first_line(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", package]));
        Self {
            processor: model.map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned()),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: first_line(Command::new("uname").args(["--kernel-name", "--kernel-release", "--machine"])),
            load: load.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
            tayga: version("tayga"),
            iperf3: version("iperf3"),
            seconds,
            rounds,
        }
    }

    /// A machine with a load of its own gives less; the ratios hold, because the contestants take turns.
    fn is_shared(&self) -> bool {
        self.load > 0.5
    }
}

/// What a row is called.
pub(super) fn title(measure: Measure) -> String {
    match measure {
        Measure::Tcp { streams, towards_client } => {
            let direction = if towards_client { "IPv4 to IPv6" } else { "IPv6 to IPv4" };
            format!("TCP, {streams} stream{}, {direction}", if streams == 1 { "" } else { "s" })
        }
        Measure::Udp => format!("UDP, {PAYLOAD} bytes, {FLOWS} flows"),
    }
}

/// A line of the progress.
pub(super) fn amount(measure: Measure, value: f64, contestant: Contestant) -> String {
    format!("{:>8} {}", contestant.name(), quantity(measure, value))
}

fn quantity(measure: Measure, value: f64) -> String {
    match measure {
        Measure::Tcp { .. } => format!("{:.2} Gbit/s", value / 1e9),
        Measure::Udp => format!("{:.0} kpps", value / 1e3),
    }
}

fn with_spread(measure: Measure, series: &Series) -> String {
    let (least, most) = series.spread();
    let bare = |value: f64| match measure {
        Measure::Tcp { .. } => format!("{:.2}", value / 1e9),
        Measure::Udp => format!("{:.0}", value / 1e3),
    };
    format!("{} ({} – {})", quantity(measure, series.median()), bare(least), bare(most))
}

/// The contestants' table.
pub(super) fn path(rows: &[Row]) -> String {
    let mut text = String::from(
        "| | kernel, IPv6 forwarding | sixgate, userspace | Tayga | sixgate : kernel | sixgate : Tayga | target |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let [kernel, sixgate, tayga] = &row.results;
        let target = match row.measure {
            Measure::Tcp { .. } => TCP_TARGET,
            Measure::Udp => UDP_TARGET,
        };
        let ratio = sixgate.median() / tayga.median();
        let verdict = if ratio >= target { "met" } else { "missed" };
        let cells = [kernel, sixgate, tayga].map(|series| with_spread(row.measure, series)).join(" | ");
        let title = title(row.measure);
        let of_kernel = sixgate.median() / kernel.median();
        let _ = writeln!(text, "| {title} | {cells} | {of_kernel:.2} | {ratio:.1} | {target:.0}: {verdict} |");
    }
    for row in rows.iter().filter(|row| row.measure == Measure::Udp) {
        let offered = row.offered.each_ref().map(|series| format!("{:.0}", series.median() / 1e3)).join(", ");
        let _ = write!(
            text,
            "\nThe generator offered {offered} kpps to the three, medians as above: where that is more than what arrived, the generator \
             is not the bottleneck. It has a processor to itself, and what the links' ingress costs is done there too.\n"
        );
        let [_, sixgate, tayga] = row.of_processor.each_ref().map(Series::median);
        let machine = row.of_machine.each_ref().map(|series| format!("{:.0}", series.median() / 1e3)).join(", ");
        let _ = write!(
            text,
            "\nFor each second of the translator's own processor time, which does not depend on who else runs, {:.0} thousand \
             packets arrived through sixgate and {:.0} thousand through Tayga: {:.1} to 1. For each second that any processor was busy, \
             generating, routing, translating or receiving, {machine} thousand packets arrived through the three.\n",
            sixgate / 1e3,
            tayga / 1e3,
            sixgate / tayga
        );
    }
    text
}

/// The engine's table.
pub(super) fn engine(engine: &Engine) -> String {
    let mut text = String::from("| | median (spread) | target |\n|---|---|---|\n");
    let thousands = |series: &Series| {
        let (least, most) = series.spread();
        format!("{:.0} k/s ({:.0} – {:.0})", series.median() / 1e3, least / 1e3, most / 1e3)
    };
    let verdict = |met: bool| if met { "met" } else { "missed" };
    for (name, series) in [("new TCP sessions", &engine.new_tcp), ("new UDP sessions", &engine.new_udp)] {
        let met = verdict(series.median() >= 100_000.0);
        let _ = writeln!(text, "| {name}, each with a binding of its own | {} | 100 k/s: {met} |", thousands(series));
    }
    let mebibytes = engine.mebibytes.median();
    let met = verdict(mebibytes <= 400.0);
    let _ = writeln!(
        text,
        "| resident memory for 1,000,000 sessions and as many bindings | {mebibytes:.0} MiB | 400 MiB: {met} |"
    );
    for (name, series) in [("IPv6 to IPv4", &engine.v6_to_v4), ("IPv4 to IPv6", &engine.v4_to_v6)] {
        let _ = writeln!(text, "| packets, 64 bytes of UDP in 10,000 sessions, {name} | {} | |", thousands(series));
    }
    text
}

/// The whole document.
pub(super) fn document(surroundings: &Surroundings, path: &str, engine: &str) -> String {
    let Surroundings { processor, processors, kernel, load, tayga, iperf3, seconds, rounds } = surroundings;
    let shared = if surroundings.is_shared() {
        " Other work ran on the machine at the same time, so that absolute numbers are low; the ratios are between \
         contestants that took turns."
    } else {
        ""
    };
    format!(
        "# NAT64: the userspace path\n\n\
         Made by `cargo xtask bench nat64`; do not edit.\n\n\
         {processors} × {processor}, {kernel}. Load average at the beginning: {load:.1}.{shared}\n\
         Tayga {tayga}, iperf3 {iperf3}. {rounds} rounds of {seconds} s each; medians, in parentheses the least and the greatest.\n\n\
         ## Side by side\n\n\
         Client, router and server are network namespaces joined by veth links with their usual offloads, and share the processors. \
         Each contestant has namespaces of its own; they take turns within a round, and another one begins each round. The \
         kernel forwards IPv6 to IPv6 without a firewall, sixgate translates with its firewall and without a fast path, Tayga translates \
         statelessly without a firewall. TCP is what iperf3's receiver got. UDP is what arrived at the server's link, addressed \
         to nobody there, while a generator wrote ready-made frames into the router's TAP device as fast as one processor could; \
         the translators, sixgate as well as Tayga, were kept to the other one. What was tried to make the path faster, and where its floor \
         is, is told in [userspace-path.md](userspace-path.md).\n\n\
         {path}\n\
         ## The engine by itself\n\n\
         One thread, no device: `cargo bench -p sixgate-engine`.\n\n\
         {engine}"
    )
}

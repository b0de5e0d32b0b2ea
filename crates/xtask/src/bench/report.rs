//! What the benchmark says, for the terminal and for the document.
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::engine::Engine;
use super::generator::PAYLOAD;
use super::nat64::{Load, Row};
use super::series::Series;
use super::track::{Contestant, Measure, Measured, ProgramRun};
use crate::command::output;

/// Where and how it was measured.
pub(super) struct Surroundings {
    processor: String,
    processors: usize,
    kernel: String,
    has_flowtable: bool,
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
            has_flowtable: has_flowtable(),
            load: load.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
            tayga: version("tayga"),
            iperf3: version("iperf3"),
            seconds,
            rounds,
        }
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        let Self { processor, processors, kernel, load, tayga, iperf3, seconds, rounds, .. } = self;
        let shared = if self.is_shared() {
            " Other work ran on the machine at the same time, so that absolute numbers are low; the ratios are between \
             contestants that took turns."
        } else {
            ""
        };
        format!(
            "{processors} × {processor}, {kernel}. Load average at the beginning: {load:.1}.{shared}\n\
             Tayga {tayga}, iperf3 {iperf3}. {rounds} rounds of {seconds} s each; medians, in parentheses the least and the greatest.\n"
        )
    }

    /// A machine with a load of its own gives less; the ratios hold, because the contestants take turns.
    fn is_shared(&self) -> bool {
        self.load > 0.5
    }
}

/// Whether the kernel was built with flowtables.
pub(super) fn has_flowtable() -> bool {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    symbols.contains("nf_flow_table_init") || symbols.contains("nf_flow_offload_ip_hook")
}

/// What a row is called.
pub(super) fn title(measure: Measure) -> String {
    match measure {
        Measure::Tcp { streams, towards_client } => {
            let direction = if towards_client { "IPv4 to IPv6" } else { "IPv6 to IPv4" };
            format!("TCP, {streams} stream{}, {direction}", if streams == 1 { "" } else { "s" })
        }
        Measure::Udp => format!("UDP, {PAYLOAD} bytes, 1024 flows, unanswered"),
        Measure::Cost { flows: 1 } => format!("processor time a packet, {PAYLOAD} bytes, 1 flow"),
        Measure::Cost { flows } => format!("processor time a packet, {PAYLOAD} bytes, {flows} flows"),
        Measure::RoundTrip => format!("round trip, {PAYLOAD} bytes, median"),
    }
}

/// A value with its unit.
pub(super) fn quantity(measure: Measure, value: f64) -> String {
    format!("{} {}", bare(measure, value), unit(measure))
}

const fn unit(measure: Measure) -> &'static str {
    match measure {
        Measure::Tcp { .. } => "Gbit/s",
        Measure::Udp => "kpps",
        Measure::Cost { .. } => "ns",
        Measure::RoundTrip => "us",
    }
}

fn bare(measure: Measure, value: f64) -> String {
    match measure {
        Measure::Tcp { .. } => format!("{:.2}", value / 1e9),
        Measure::Udp => format!("{:.0}", value / 1e3),
        Measure::Cost { .. } => format!("{value:.0}"),
        Measure::RoundTrip => format!("{:.1}", value / 1e3),
    }
}

fn with_spread(measure: Measure, series: &Series) -> String {
    if series.is_empty() {
        return String::new();
    }
    let (least, most) = series.spread();
    format!("{} ({} – {})", bare(measure, series.median()), bare(measure, least), bare(measure, most))
}

/// What the issues demand of a ratio: at least, or at most.
struct Target {
    of: [Contestant; 2],
    bound: f64,
    is_least: bool,
}

const fn at_least(of: [Contestant; 2], bound: f64) -> Target {
    Target { of, bound, is_least: true }
}

const fn at_most(of: [Contestant; 2], bound: f64) -> Target {
    Target { of, bound, is_least: false }
}

fn targets(measure: Measure) -> Vec<Target> {
    use Contestant::{Fast, Kernel, Slow, Tayga};
    match measure {
        Measure::Tcp { .. } => {
            vec![at_least([Fast, Kernel], 0.95), at_least([Fast, Tayga], 15.0), at_least([Slow, Tayga], 8.0)]
        }
        Measure::Udp => vec![at_least([Slow, Tayga], 2.0)],
        Measure::Cost { .. } => vec![at_most([Fast, Kernel], 1.0)],
        Measure::RoundTrip => vec![at_most([Fast, Kernel], 1.05)],
    }
}

/// All tables but the engine's.
pub(super) fn tables(rows: &[Row], loads: &[Load]) -> String {
    let mut text = format!("{}\n{}", amounts(rows), ratios(rows));
    for row in rows {
        match row.measure {
            Measure::Cost { .. } => offers(&mut text, row),
            Measure::Udp => throughput(&mut text, row),
            Measure::RoundTrip => late(&mut text, row),
            Measure::Tcp { .. } => {}
        }
    }
    if !loads.is_empty() {
        let _ = write!(text, "\n{}", program(loads));
    }
    text
}

fn amounts(rows: &[Row]) -> String {
    let mut text = String::from(
        "| | kernel, IPv6 forwarding | kernel, NAT44 masquerade | sixgate, fast path | sixgate, userspace | Tayga |\n\
         |---|---|---|---|---|---|\n",
    );
    for row in rows {
        let cells = Contestant::ALL.map(|one| with_spread(row.measure, &row.value(one))).join(" | ");
        let _ = writeln!(text, "| {}, {} | {cells} |", title(row.measure), unit(row.measure));
    }
    text
}

fn ratios(rows: &[Row]) -> String {
    let mut text = String::from("| | ratio | target |\n|---|---|---|\n");
    for row in rows {
        for Target { of: [ours, theirs], bound, is_least } in targets(row.measure) {
            let ratio = row.value(ours).median() / row.value(theirs).median();
            let bare = |value: f64| if bound < 2.0 { format!("{value:.2}") } else { format!("{value:.1}") };
            let met = if is_least { ratio >= bound } else { ratio <= bound };
            let side = if is_least { "at least" } else { "at most" };
            let (title, ours, theirs) = (title(row.measure), ours.title(), theirs.title());
            let (ratio, bound, verdict) = (bare(ratio), bare(bound), verdict(met));
            let _ = writeln!(text, "| {title}, {ours} : {theirs} | {ratio} | {side} {bound}: {verdict} |");
        }
    }
    text
}

const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// Whether the generator was the bottleneck.
fn offers(text: &mut String, row: &Row) {
    let contestants = Contestant::ALL.into_iter().filter(|one| one.enters(row.measure));
    let contestants: Vec<_> = contestants.collect();
    let list = |field: fn(&Measured) -> f64| {
        let values = contestants.iter().map(|one| format!("{:.0}", row.series(*one, field).median() / 1e3));
        values.collect::<Vec<_>>().join(", ")
    };
    let (offered, arrived) = (list(|measured| measured.offered), list(|measured| measured.arrived));
    let names = contestants.iter().map(|one| one.title()).collect::<Vec<_>>().join(", ");
    let title = title(row.measure);
    let _ = writeln!(text, "\n{title}: the generator offered {offered} kpps to {names}; {arrived} kpps arrived.");
}

fn late(text: &mut String, row: &Row) {
    let cells = Contestant::ALL.map(|one| with_spread(row.measure, &row.series(one, |measured| measured.late)));
    let _ = writeln!(
        text,
        "\nThe round trips' 99th percentiles of the five, with their spread, in us: {}.",
        cells.join(", ")
    );
}

fn throughput(text: &mut String, row: &Row) {
    use Contestant::{Kernel, Slow, Tayga};
    let three = [Kernel, Slow, Tayga];
    let list = |field: fn(&Measured) -> f64| {
        three.map(|one| format!("{:.0}", row.series(one, field).median() / 1e3)).join(", ")
    };
    let (offered, machine) = (list(|measured| measured.offered), list(|measured| measured.of_machine));
    let [_, sixgate, tayga] = three.map(|one| row.series(one, |measured| measured.of_processor).median());
    let _ = write!(
        text,
        "\nUnanswered UDP: the generator offered {offered} kpps to kernel, userspace path and Tayga. Where that is more than what \
         arrived, the generator is not the bottleneck. It has a processor to itself, and what the links' ingress costs is done there too.\n\
         For each second of the translator's own processor time, which does not depend on who else runs, {:.0} thousand \
         packets arrived through sixgate and {:.0} thousand through Tayga: {:.1} to 1. For each second that any processor was busy, \
         generating, routing, translating or receiving, {machine} thousand packets arrived through the three.\n",
        sixgate / 1e3,
        tayga / 1e3,
        sixgate / tayga
    );
}

/// The program's table.
fn program(loads: &[Load]) -> String {
    let mut text = String::from(
        "| sessions | flows in turn | a run of the program, ns | processor time a packet, ns | the maps' memory, MiB |\n\
         |---|---|---|---|---|\n",
    );
    let series = |load: &Load, field: fn(&ProgramRun) -> f64| Series::new(load.runs.iter().map(field).collect());
    for load in loads {
        let with_spread = |series: Series| {
            let (least, most) = series.spread();
            format!("{:.0} ({least:.0} – {most:.0})", series.median())
        };
        let nanoseconds = with_spread(series(load, |run| run.nanoseconds));
        let cost = with_spread(series(load, |run| run.cost));
        let memory = series(load, |run| run.memory).median() / f64::from(1 << 20);
        let Load { sessions, flows, .. } = load;
        let _ = writeln!(text, "| {sessions} | {flows} | {nanoseconds} | {cost} | {memory:.1} |");
    }
    if let [_, few, same, all] = loads {
        let of = |load: &Load| series(load, |run| run.nanoseconds).median();
        let (ratio, all) = (of(same) / of(few), of(all) / of(few));
        let _ = writeln!(
            text,
            "\nWith 1,000,000 sessions instead of 1,000, a run with 1,000 flows in turn takes {ratio:.2} times as long (at most 1.2: {}), and \
             {all:.2} times as long where all million flows have their turn, each of which has left the processor's caches since its last packet.",
            verdict(ratio <= 1.2)
        );
    }
    if let Some([instructions, bytes]) = loads.iter().flat_map(|load| &load.runs).map(|run| run.size).next() {
        let _ = writeln!(text, "\nThe program has {instructions} BPF instructions, compiled to {bytes} bytes.");
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
pub(super) fn document(surroundings: &Surroundings, tables: &str, engine: &str) -> String {
    let flowtable = if surroundings.has_flowtable { "has" } else { "does not have" };
    let surroundings = surroundings.text();
    format!(
        "# NAT64\n\n\
         Made by `cargo xtask bench nat64`; do not edit.\n\n\
         {surroundings}\n\
         ## Side by side\n\n\
         Client, router and server are network namespaces joined by veth links with their usual offloads, and share the processors. \
         Each contestant has namespaces of its own; they take turns within a round, and another one begins each round. The \
         kernel forwards IPv6 to IPv6 without a firewall, and masquerades IPv4 by one rule, without a flowtable, which this kernel {flowtable}; \
         sixgate translates with its firewall, and with anti-spoofing where hosts answer Neighbor Discovery, which the generator does not; Tayga translates statelessly without a firewall.\n\n\
         - TCP is what iperf3's receiver got, with the two ends kept to a processor each.\n\
         - Processor time a packet is what one processor was busy with for each packet that arrived at the server's link: a generator, \
         kept to the other processor, writes ready-made frames into the router's TAP device, and receive packet steering hands them to the \
         first one, where all of the router's work is done, interrupts and program, and the server's link drops them, addressed to nobody there. \
         How busy it was is seen by a thread of the lowest class on it, which gets what the others leave: the kernel's own figures are samples, and miss \
         what interrupts do on an idle processor. \
         Each flow was answered before, so that it is established; sixgate's own counters show that all packets took the fast path.\n\
         - Round trips are a client's questions to a server that sends them back, one after the other.\n\
         - Unanswered UDP is what arrived at the server's link while the generator's processor did the work of the links' ingress as well, and \
         the translators, sixgate as well as Tayga, were kept to the other one.\n\n\
         What was tried, and what gave nothing, is told in [fast-path.md](fast-path.md) and [userspace-path.md](userspace-path.md).\n\n\
         {tables}\n\
         ## The engine by itself\n\n\
         One thread, no device: `cargo bench -p sixgate-engine`.\n\n\
         {engine}"
    )
}

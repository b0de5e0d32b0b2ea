//! What the DNS64 benchmark says, for the terminal and for the document.
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::dns64::{Columns, Row};
use super::resolver::{Figures, Load};
use super::series::Series;
use crate::command::output;

/// Where and how it was measured.
pub(super) struct Surroundings {
    machine: String,
    versions: String,
    seconds: u32,
    rounds: u32,
}

impl Surroundings {
    /// Looks at the machine before anything runs.
    pub(super) fn look(seconds: u32, rounds: u32) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("unknown processor", |(_, model)| model);
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        let line = |command: &mut Command| output(command).unwrap_or_default().trim().to_owned();
        let kernel = line(Command::new("uname").args(["--kernel-name", "--kernel-release", "--machine"]));
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().next().unwrap_or("unknown");
        let version = |package| line(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", package]));
        let versions = ["unbound", "bind9", "nsd", "dnsperf"].map(|package| format!("{package} {}", version(package)));
        Self {
            machine: format!("{processors} × {model}, {kernel}. Load average at the beginning: {load}."),
            versions: versions.join(", "),
            seconds,
            rounds,
        }
    }
}

/// What a load is called.
pub(super) const fn title(load: Load) -> &'static str {
    match load {
        Load::Synthesized => "cached AAAA, synthesized, dnsperf",
        Load::Native => "cached AAAA, native, dnsperf",
        Load::Generator => "cached AAAA, synthesized, own generator",
        Load::Half => "latency at half of the saturating load",
        Load::Uncached => "uncached AAAA, synthesized, dnsperf",
        Load::Memory => "memory with 100,000 names cached",
    }
}

/// A line of the progress.
pub(super) fn line(figures: &Figures) -> String {
    let Figures { rate, processor, own, latency, memory } = figures;
    let mut text = String::new();
    for (value, unit) in [(rate, "q/s"), (processor, "µs of processor a query"), (own, "µs own"), (latency, "µs 99th")]
    {
        if let Some(value) = value {
            let _ = write!(text, "{value:.1} {unit}  ");
        }
    }
    if let Some(memory) = memory {
        let _ = write!(text, "{:.1} MiB", memory / 1_048_576.0);
    }
    text
}

/// A figure of the table: which series, in which unit, and what it has to reach against unbound.
struct Figure {
    name: &'static str,
    of: fn(&Columns) -> &Series,
    unit: f64,
    /// The ratio to unbound that is demanded, and whether more is better.
    target: Option<(f64, Better)>,
}

#[derive(Clone, Copy)]
enum Better {
    More,
    Less,
}

fn figures(load: Load, workers: u32) -> Vec<Figure> {
    let rate = |target| Figure {
        name: "thousand queries a second",
        of: |columns| &columns.rate,
        unit: 1e3,
        target: Some((target, Better::More)),
    };
    // Where the generator has part of the processors, no part of theirs is the server's alone.
    let (name, target) = match workers {
        1 => ("µs of its core's time a query, the kernel's part included", Some((0.5, Better::Less))),
        _ => ("µs of all processors' time a query, the generator's included", None),
    };
    let processor = Figure { name, of: |columns| &columns.processor, unit: 1.0, target };
    let own = Figure {
        name: "µs of the server's own processor time a query",
        of: |columns| &columns.own,
        unit: 1.0,
        target: Some((0.5, Better::Less)),
    };
    match load {
        Load::Synthesized | Load::Native => vec![processor, own, rate(1.5)],
        Load::Generator => vec![processor, own, rate(2.0)],
        Load::Half => vec![Figure {
            name: "µs, 99th percentile",
            of: |columns| &columns.latency,
            unit: 1.0,
            target: Some((1.0, Better::Less)),
        }],
        Load::Uncached => vec![rate(1.0)],
        Load::Memory => vec![Figure {
            name: "MiB resident",
            of: |columns| &columns.memory,
            unit: 1_048_576.0,
            target: Some((1.0, Better::Less)),
        }],
    }
}

fn table(rows: &[Row], workers: u32) -> String {
    let mut text =
        String::from("| | | sixgate | unbound | BIND | sixgate : unbound | target |\n|---|---|---|---|---|---|---|\n");
    for row in rows.iter().filter(|row| row.workers == workers) {
        for Figure { name, of, unit, target } in figures(row.load, workers) {
            let series = row.contestants.each_ref().map(of);
            let cells = series.map(|series| {
                let (least, most) = series.spread();
                format!("{:.1} ({:.1} – {:.1})", series.median() / unit, least / unit, most / unit)
            });
            let ratio = series[0].median() / series[1].median();
            let verdict = target.map(|(target, better)| {
                let (met, words) = match better {
                    Better::More => (ratio >= target, "at least"),
                    Better::Less => (ratio <= target, "at most"),
                };
                format!("{words} {target}: {}", if met { "met" } else { "missed" })
            });
            let _ = writeln!(
                text,
                "| {} | {name} | {} | {ratio:.2} | {} |",
                title(row.load),
                cells.join(" | "),
                verdict.unwrap_or_default()
            );
        }
    }
    text
}

/// The whole document.
pub(super) fn document(surroundings: &Surroundings, rows: &[Row]) -> String {
    let Surroundings { machine, versions, seconds, rounds } = surroundings;
    let mut text = format!(
        "# DNS64\n\n\
         Made by `cargo xtask bench dns64`; do not edit.\n\n\
         {machine}\n{versions}. {rounds} rounds of {seconds} s each; medians, in parentheses the least and the greatest.\n\n\
         Client, resolver and authoritative server (NSD) are network namespaces joined by veth links and share the processors. Each \
         contestant has namespaces of its own and is started anew in each round; they take turns, and another one begins each \
         round. All forward to NSD, have room for all names, synthesize and do not validate; sixgate runs with its firewall, the others \
         without one. dnsperf acts for 32 clients with 60 queries under way; the own generator sends many queries to a system call. \
         With one worker, resolver and generator are pinned to a core each; with two, nothing is pinned and the generator competes for \
         the cores. With one worker, what comes in at the resolver's links is its core's work and what comes in at the client's the other \
         one's (RPS), as where each has a card of its own. Processor time is what a thread of the idle class does not get: interrupts and all that \
         the kernel does for a query are in it, wherever that is answered; the server's own is that of its threads alone, user and \
         system. Names that are asked for often sixgate answers in the kernel (`[dns64] fast_path`); its maps are in its memory.\n"
    );
    for workers in [1, 2] {
        if rows.iter().any(|row| row.workers == workers) {
            let plural = if workers == 1 { "" } else { "s" };
            let _ = write!(text, "\n## {workers} worker{plural}\n\n{}", table(rows, workers));
        }
    }
    text
}

//! What the firewall's benchmark says, for the terminal and for the document.
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::firewall::{Results, SIZES};
use super::firewall_track::{BYTES, Contestant, Kind, Load, Measure};
use super::report::has_flowtable;
use super::series::Series;
use crate::command::output;

/// Where and how it was measured.
pub(super) struct Surroundings {
    processor: String,
    kernel: String,
    load: String,
    versions: String,
    seconds: f64,
    rounds: u32,
}

impl Surroundings {
    /// Looks at the machine before anything runs.
    pub(super) fn look(seconds: f64, rounds: u32) -> Self {
        let line = |command: &mut Command| output(command).unwrap_or_default().trim().to_owned();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let version = |package: &str| {
            let show = ["--show", "--showformat=${Package} ${Version}", package];
            line(Command::new("dpkg-query").args(show))
        };
        Self {
            processor: format!("{processors} × {}", model.map_or("unknown", |(_, model)| model)),
            kernel: line(Command::new("uname").args(["--kernel-name", "--kernel-release", "--machine"])),
            load: load.split_whitespace().next().unwrap_or_default().to_owned(),
            versions: ["nftables", "ufw", "iperf3"].map(version).join(", "),
            seconds,
            rounds,
        }
    }
}

fn value(results: &[Results], kind: Kind, entries: usize, measure: Measure) -> Option<Series> {
    let contestant = Contestant { kind, entries };
    let found = results.iter().find(|results| results.contestant == contestant)?;
    Some(found.series(measure, |load| load.value)).filter(|series| !series.is_empty())
}

fn cell(measure: Measure, series: &Series) -> String {
    let bare = |value: f64| match measure {
        Measure::Tcp => format!("{:.1}", value / 1e9),
        Measure::Established | Measure::New => format!("{value:.0}"),
        Measure::Apply | Measure::Change if value < 100.0 => format!("{value:.1}"),
        Measure::Apply | Measure::Change => format!("{value:.0}"),
    };
    let (least, most) = series.spread();
    format!("{} ({} – {})", bare(series.median()), bare(least), bare(most))
}

/// All tables.
pub(super) fn tables(results: &[Results]) -> String {
    let mut text = String::new();
    for measure in Measure::ALL {
        let has_any = results.iter().any(|results| !results.series(measure, |load| load.value).is_empty());
        if has_any {
            table(&mut text, results, measure);
        }
    }
    text + &demands(results)
}

fn table(text: &mut String, results: &[Results], measure: Measure) {
    let heading = match measure {
        Measure::Established => "Established flows: processor time a packet, ns",
        Measure::New => "New flows: processor time a packet, ns",
        Measure::Tcp => "Throughput of one TCP connection, Gbit/s",
        Measure::Apply => "All entries put into force where there were none, ms",
        Measure::Change => "One entry more, ms",
    };
    let _ = writeln!(text, "### {heading}\n\n| | 10 entries | 1,000 entries | 10,000 entries |\n|---|---|---|---|");
    if let Some(series) = value(results, Kind::Kernel, 0, measure) {
        let _ = writeln!(text, "| no firewall | {} | | |", cell(measure, &series));
    }
    let named = [
        (Kind::Nft, "by hand, with a set"),
        (Kind::Sixgate, "sixgate"),
        (Kind::Rules, "sixgate by its rules"),
        (Kind::Ufw, "ufw"),
    ];
    for (kind, name) in named {
        if SIZES.iter().all(|entries| value(results, kind, *entries, measure).is_none()) {
            continue;
        }
        let cells = SIZES.map(|entries| {
            value(results, kind, entries, measure).map_or_else(String::new, |series| cell(measure, &series))
        });
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    if matches!(measure, Measure::Established | Measure::New) {
        let list = |field: fn(&Load) -> f64| {
            let each = results.iter().map(|results| {
                let title = results.contestant.title();
                format!("{title}: {:.0}", results.series(measure, field).median() / 1e3)
            });
            each.collect::<Vec<_>>().join("; ")
        };
        let _ = write!(
            text,
            "\nThousands of packets a second that one processor forwarded: {}. The generator offered: {}.\n",
            list(|load| load.arrived),
            list(|load| load.offered)
        );
    }
    text.push('\n');
}

/// Round by round: the spread is that of the ratios.
fn ratio(results: &[Results], measure: Measure, ours: (Kind, usize), theirs: (Kind, usize)) -> Option<(f64, String)> {
    let ours = value(results, ours.0, ours.1, measure)?;
    let theirs = value(results, theirs.0, theirs.1, measure)?;
    let ratios = ours.over(&theirs);
    let (least, most) = ratios.spread();
    Some((ratios.median(), format!("{:.2} ({least:.2} – {most:.2})", ratios.median())))
}

fn demands(results: &[Results]) -> String {
    use Kind::{Kernel, Nft, Rules, Sixgate, Ufw};
    let mut text = String::from("### Ratios\n\n| | ratio | demanded |\n|---|---|---|\n");
    let mut line = |title: &str, ratio: Option<(f64, String)>, most: Option<f64>| {
        let Some((median, shown)) = ratio else { return };
        let demanded = most.map_or_else(String::new, |most| {
            format!("at most {most:.2}: {}", if median <= most { "met" } else { "missed" })
        });
        let _ = writeln!(text, "| {title} | {shown} | {demanded} |");
    };
    let established = Measure::Established;
    for entries in [10, 10_000] {
        let ours = (Sixgate, entries);
        line(
            &format!("established flows, sixgate with {entries} entries : no firewall"),
            ratio(results, established, ours, (Kernel, 0)),
            Some(1.0),
        );
        line(
            &format!("established flows, sixgate by its rules with {entries} entries : no firewall"),
            ratio(results, established, (Rules, entries), (Kernel, 0)),
            Some(1.25),
        );
        line(
            &format!("established flows, sixgate by its rules : by hand, {entries} entries"),
            ratio(results, established, (Rules, entries), (Nft, entries)),
            None,
        );
        line(
            &format!("established flows, sixgate : by hand, {entries} entries"),
            ratio(results, established, ours, (Nft, entries)),
            None,
        );
        line(
            &format!("new flows, sixgate : by hand, {entries} entries"),
            ratio(results, Measure::New, ours, (Nft, entries)),
            None,
        );
        line(
            &format!("new flows, sixgate : ufw, {entries} entries"),
            ratio(results, Measure::New, ours, (Ufw, entries)),
            None,
        );
    }
    line(
        "new flows, sixgate, 10,000 : 10 entries",
        ratio(results, Measure::New, (Sixgate, 10_000), (Sixgate, 10)),
        Some(1.05),
    );
    line("new flows, by hand, 10,000 : 10 entries", ratio(results, Measure::New, (Nft, 10_000), (Nft, 10)), None);
    if let Some(series) = value(results, Sixgate, 10_000, Measure::Change) {
        let verdict = if series.median() <= 50.0 { "met" } else { "missed" };
        let _ = writeln!(
            text,
            "\nA change of one entry at 10,000 takes {:.1} ms; at most 50 ms is demanded: {verdict}.",
            series.median()
        );
    }
    text
}

/// The whole document.
pub(super) fn document(surroundings: &Surroundings, tables: &str) -> String {
    let Surroundings { processor, kernel, load, versions, seconds, rounds } = surroundings;
    let flowtable = if has_flowtable() { "has" } else { "does not have" };
    format!(
        "# Firewall\n\n\
         Made by `cargo xtask bench firewall`; do not edit.\n\n\
         {processor}, {kernel}. Load average at the beginning: {load}. {versions}. {rounds} rounds, {seconds} s for each measurement of \
         established flows; medians, in parentheses the least and the greatest.\n\n\
         Each contestant has a router of its own in a network namespace, between a generator on its uplink and a VM with a prefix of \
         containers; they take turns within a round, and another one begins each round. All have the same allowlist: so many addresses \
         of containers, with one UDP port each, and one with a TCP port. By hand that is a ruleset for nftables as a person would write it, with the addresses \
         in a set of addresses and ports, established flows first, and sources that come in by the wrong side dropped. ufw's own files have \
         a `route:allow` for each address. Nobody uses a flowtable, which this kernel {flowtable}. sixgate has established flows go past its rules \
         (`flow_offload`); by its rules means without that.\n\n\
         - Processor time a packet is what one processor was busy with for each datagram of {BYTES} bytes that arrived at the VM's link: the generator, \
         kept to the other processor, writes ready-made frames into the uplink's TAP device, and receive packet steering hands them to the first one. \
         The VM's link drops them, addressed to nobody there.\n\
         - Established flows are a thousand that were answered before. New flows are 200,000, one datagram each, spread over all \
         entries; conntrack is emptied in between, three times over. ufw with 1,000 and 10,000 entries, whose rules are looked at one after the other, gets as \
         many as it can take, in one round.\n\
         - TCP is what iperf3's receiver got of one connection from another LAN, both ends kept to a processor each.\n\
         - Apply and change count from the start of `sixgate apply`, `nft -f` or `ufw` to its end. `nft get element` has to find \
         sixgate's new entry right after that; where it does not, the time goes on until it does.\n\n\
         {tables}"
    )
}

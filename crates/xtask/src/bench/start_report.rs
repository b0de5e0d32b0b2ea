//! What the benchmark of the start says, for the terminal and for the document.
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::Result;

use super::series::Series;
use super::start::{Kind, Track};
use crate::command::{output, root};

/// The last point of a start.
pub(super) const LAST: &str = "first advertisement";
/// From when on nothing but duplicate address detection can be missing, and its end.
const DETECTION: (&str, &str) = ("rules in force", "address usable");
/// Seconds that may pass, beyond those of an init that does nothing and without duplicate address detection.
const ALLOWED: f64 = 2.5;

/// Where and how it was measured.
pub(super) struct Surroundings {
    machine: String,
    rounds: u32,
}

impl Surroundings {
    /// Looks at the machine before anything runs.
    pub(super) fn look(rounds: u32) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("unknown processor", |(_, model)| model);
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        let line = |command: &mut Command| output(command).unwrap_or_default().trim().to_owned();
        let kernel = line(Command::new("uname").args(["--kernel-name", "--kernel-release", "--machine"]));
        let qemu = line(Command::new("qemu-system-x86_64").arg("--version"));
        let qemu = qemu.lines().next().unwrap_or_default().to_owned();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().next().unwrap_or("unknown");
        Self {
            machine: format!("{processors} × {model}, {kernel}, {qemu}. Load average at the beginning: {load}."),
            rounds,
        }
    }
}

/// A line of the progress.
pub(super) fn line(timeline: &[(String, f64)]) -> String {
    timeline.iter().map(|(name, seconds)| format!("{name} {seconds:.2}")).collect::<Vec<_>>().join(", ")
}

/// Prints, and writes the document unless it is to stay.
pub(super) fn publish(tracks: &[(Kind, Track)], surroundings: &Surroundings, dry: bool) -> Result<()> {
    let text = document(tracks, surroundings);
    println!("{text}");
    if !dry {
        fs::write(root().join("docs/benchmarks/start.md"), text)?;
    }
    Ok(())
}

fn document(tracks: &[(Kind, Track)], surroundings: &Surroundings) -> String {
    let mut text = format!(
        "# How long a start takes\n\n\
         Written by `cargo xtask bench start`: medians of {} rounds, least and greatest in brackets, in seconds from the kernel's first moment, under software\n\
         emulation with one processor of the oldest kind and 128 MiB. {}\n",
        surroundings.rounds, surroundings.machine
    );
    let of = |wanted: Kind| tracks.iter().find(|(kind, _)| *kind == wanted).and_then(|(_, track)| track.point("init"));
    for (kind, track) in tracks {
        let _ = write!(text, "\n## {}\n\n| Point | seconds |\n|---|---|\n", capital(kind.title()));
        for (name, series) in &track.points {
            let _ = writeln!(text, "| {name} | {} |", cell(series));
        }
        if let Some(sentence) = of(kind.empty()).and_then(|empty| verdict(empty, track)) {
            let _ = write!(text, "\n{sentence}\n");
        }
    }
    text.push_str(
        "\nAn init that does nothing is the demo's client, a static program of 2 MB that tells the time and switches the machine off. Cards are raised as soon as their\n\
         drivers are loaded, so duplicate address detection, a second and up to another one at random, runs beside the rest. What is not counted is the time\n\
         between `rules in force`, when all that the configuration asks for was in the kernel, and `address usable`, when the LAN's link-local address was free to use.\n",
    );
    text
}

/// The seconds until the advertisement without those in which nothing but duplicate address detection was waited for, and those.
pub(super) fn without_detection(timeline: &[(String, f64)]) -> Option<(f64, f64)> {
    let point = |name: &str| timeline.iter().find(|(known, _)| known == name).map(|(_, seconds)| *seconds);
    let waited = (point(DETECTION.1)? - point(DETECTION.0)?).max(0.0);
    Some((point(LAST)? - waited, waited))
}

/// What lies between an init that does nothing and the advertisement.
fn verdict(empty: &Series, track: &Track) -> Option<String> {
    let beyond = track.point(LAST)?.median() - empty.median();
    if track.own.is_empty() {
        return None;
    }
    let own = track.own.median() - empty.median();
    let word = if own <= ALLOWED { "allowed" } else { "allowed, and not kept to" };
    Some(format!(
        "Beyond an init that does nothing: {beyond:.2} s; {:.2} s of each start were a wait for duplicate address detection alone; without them \
         **{own:.2} s** ({ALLOWED} are {word}).",
        track.waited.median()
    ))
}

fn cell(series: &Series) -> String {
    let (least, greatest) = series.spread();
    format!("{:.2} ({least:.2} to {greatest:.2})", series.median())
}

fn capital(title: &str) -> String {
    let mut characters = title.chars();
    characters.next().map(|first| first.to_uppercase().collect::<String>() + characters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_detection_alone_does_not_count() {
        let timeline = |rules| {
            [("init", 3.0), ("rules in force", rules), ("address usable", 5.5), (LAST, 7.0)]
                .map(|(name, seconds): (&str, f64)| (name.to_owned(), seconds))
        };
        assert_eq!(without_detection(&timeline(4.5)), Some((6.0, 1.0)));
        assert_eq!(without_detection(&timeline(6.0)), Some((7.0, 0.0)));
        assert_eq!(without_detection(&timeline(4.5)[..3]), None);
    }
}

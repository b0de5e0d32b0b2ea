//! NAT64: contestants take turns, so that whatever else happens on the machine happens to all.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::series::Series;
use super::track::{Contestant, Measure, Measured, ProgramRun, Track};
use super::{engine, report, track};
use crate::command::{root, target};
use crate::setup;

/// What the benchmark can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// How often each is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// The sixgate binary; else that of SIXGATE_BIN, and else the image's is built.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Only print: leave the document as it is.
    #[arg(long)]
    dry: bool,
    /// Only the side-by-side measurements whose title contains this word, or `program`; nothing is written then.
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
}

const MEASURES: [Measure; 8] = [
    Measure::Tcp { streams: 1, towards_client: false },
    Measure::Tcp { streams: 1, towards_client: true },
    Measure::Tcp { streams: 8, towards_client: false },
    Measure::Tcp { streams: 8, towards_client: true },
    Measure::Cost { flows: 1 },
    Measure::Cost { flows: 10_000 },
    Measure::RoundTrip,
    Measure::Udp,
];

/// All measurements of one kind.
pub(super) struct Row {
    pub(super) measure: Measure,
    /// In the order of [`Contestant::ALL`], as everything here.
    values: [Vec<Measured>; Contestant::ALL.len()],
}

impl Row {
    /// One field of what a contestant has given.
    pub(super) fn series(&self, contestant: Contestant, field: fn(&Measured) -> f64) -> Series {
        let index = Contestant::ALL.iter().position(|one| *one == contestant).unwrap_or_default();
        Series::new(self.values[index].iter().map(field).collect())
    }

    /// What is in the table.
    pub(super) fn value(&self, contestant: Contestant) -> Series {
        self.series(contestant, |measured| measured.value)
    }
}

/// Measures, prints and writes.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(setup::Purpose::Bench)?;
    let binary = super::subject(options.binary.as_deref())?;
    let surroundings = report::Surroundings::look(options.seconds, options.rounds);
    let folder = target().join("bench");
    fs::create_dir_all(&folder)?;
    let build = |one: &Contestant| Track::build(*one, one.name(), &binary, &folder);
    let tracks = Contestant::ALL.iter().map(build).collect::<Result<Vec<_>>>()?;
    let fast = tracks.iter().find(|track| track.contestant == Contestant::Fast);
    // Before the others, while it has few sessions.
    let loads = match fast {
        Some(fast) if wanted(options, "program") => program(options, fast, &binary, &folder)?,
        _ => Vec::new(),
    };
    let rows = race(options, &tracks)?;
    drop(tracks);
    let tables = report::tables(&rows, &loads);
    println!("\n{tables}");
    if options.only.is_some() {
        return Ok(());
    }
    let engine = report::engine(&engine::run()?);
    println!("\n{engine}");
    if !options.dry {
        let file = root().join("docs/benchmarks/nat64.md");
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(&file, report::document(&surroundings, &tables, &engine))?;
        println!("written to {}", file.display());
    }
    Ok(())
}

fn wanted(options: &Options, title: &str) -> bool {
    options.only.as_ref().is_none_or(|word| title.contains(word))
}

fn race(options: &Options, tracks: &[Track]) -> Result<Vec<Row>> {
    let measures = MEASURES.into_iter().filter(|measure| wanted(options, &report::title(*measure)));
    let mut rows: Vec<Row> = measures.map(|measure| Row { measure, values: Default::default() }).collect();
    for round in 0..options.rounds as usize {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for row in &mut rows {
            for turn in 0..tracks.len() {
                // Each is the first once in a while.
                let index = (turn + round) % tracks.len();
                let track = &tracks[index];
                if !track.contestant.enters(row.measure) {
                    continue;
                }
                let measured = track.measure(row.measure, options.seconds.into())?;
                row.values[index].push(measured);
                let (title, name) = (report::title(row.measure), track.contestant.name());
                eprintln!("  {title} {name:>8} {}", report::quantity(row.measure, measured.value));
            }
        }
    }
    Ok(rows)
}

/// The program by itself, with so many flows in turn, of so many sessions.
pub(super) struct Load {
    pub(super) flows: usize,
    pub(super) sessions: usize,
    pub(super) runs: Vec<ProgramRun>,
}

/// Sessions that are many.
const MANY: usize = 1_000_000;

fn program(options: &Options, few: &Track, binary: &Path, folder: &Path) -> Result<Vec<Load>> {
    eprintln!("the fast path's program with {MANY} sessions");
    let many = Track::build(Contestant::Fast, track::MANY, binary, folder)?;
    many.establish(MANY)?;
    let mut loads: Vec<Load> = [(1, 1000), (1000, 1000), (1000, MANY), (MANY, MANY)]
        .map(|(flows, sessions)| Load { flows, sessions, runs: Vec::new() })
        .into();
    few.establish(1000)?;
    for _ in 0..options.rounds.min(3) {
        for load in &mut loads {
            let track = if load.sessions == MANY { &many } else { few };
            let run = track.run_program(load.flows, options.seconds.into())?;
            eprintln!("  {} of {} sessions: {:.0} ns a run", load.flows, load.sessions, run.nanoseconds);
            load.runs.push(run);
        }
    }
    Ok(loads)
}

//! DNS64 side by side with unbound and BIND: contestants take turns, so that whatever else happens on the machine happens
//! to all.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::dns64_report as report;
use super::resolver::{Contestant, Figures, Load, Track};
use super::series::Series;
use crate::command::{root, target};
use crate::setup;

/// What the benchmark can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// How often each is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Threads of each contestant; both 1 and 2 unless given.
    #[arg(long)]
    workers: Option<u32>,
    /// The sixgate binary; else that of SIXGATE_BIN, and else the image's is built.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Only print: leave the document as it is.
    #[arg(long)]
    dry: bool,
    /// Only the measurements whose title contains this word; nothing is written then.
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
}

/// All measurements of one load with so many workers, by contestant in the order of [`Contestant::ALL`].
pub(super) struct Row {
    pub(super) workers: u32,
    pub(super) load: Load,
    pub(super) contestants: [Columns; 3],
}

/// What one contestant showed.
#[derive(Default)]
pub(super) struct Columns {
    /// Answers a second.
    pub(super) rate: Series,
    /// Microseconds of processor time for each answer.
    pub(super) processor: Series,
    /// Microseconds of the server's own processor time for each answer.
    pub(super) own: Series,
    /// Microseconds, the 99th percentile.
    pub(super) latency: Series,
    /// Bytes of resident memory.
    pub(super) memory: Series,
}

impl Columns {
    fn push(&mut self, figures: &Figures) {
        let Figures { rate, processor, own, latency, memory } = *figures;
        for (series, value) in [
            (&mut self.rate, rate),
            (&mut self.processor, processor),
            (&mut self.own, own),
            (&mut self.latency, latency),
            (&mut self.memory, memory),
        ] {
            if let Some(value) = value {
                series.push(value);
            }
        }
    }
}

/// Measures, prints and writes.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(setup::Purpose::BenchDns)?;
    let binary = super::subject(options.binary.as_deref())?;
    let surroundings = report::Surroundings::look(options.seconds, options.rounds);
    let mut rows = Vec::new();
    for workers in options.workers.map_or_else(|| vec![1, 2], |workers| vec![workers]) {
        rows.extend(race(options, workers, &binary)?);
    }
    let document = report::document(&surroundings, &rows);
    println!("\n{document}");
    if !options.dry && options.only.is_none() && options.workers.is_none() {
        let file = root().join("docs/benchmarks/dns64.md");
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(&file, document)?;
        println!("written to {}", file.display());
    }
    Ok(())
}

fn race(options: &Options, workers: u32, binary: &Path) -> Result<Vec<Row>> {
    let folder = target().join("bench/dns64");
    fs::create_dir_all(&folder)?;
    let wanted = |load: &Load| options.only.as_ref().is_none_or(|word| report::title(*load).contains(word));
    let mut rows: Vec<Row> = Load::ALL
        .into_iter()
        .filter(wanted)
        .map(|load| Row { workers, load, contestants: Default::default() })
        .collect();
    for round in 0..options.rounds {
        eprintln!("{workers} workers, round {} of {}", round + 1, options.rounds);
        // Afresh each round: a cache that has been filled once stays so.
        let tracks = Contestant::ALL
            .iter()
            .map(|one| Track::build(*one, workers, binary, &folder))
            .collect::<Result<Vec<_>>>()?;
        let mut saturation = [0.0; 3];
        for row in &mut rows {
            for turn in 0..tracks.len() {
                // Each is the first once in a while.
                let index = (turn + round as usize) % tracks.len();
                let figures = tracks[index].measure(row.load, options.seconds, saturation[index])?;
                if row.load == Load::Synthesized {
                    saturation[index] = figures.rate.unwrap_or_default();
                }
                eprintln!(
                    "  {} {:>8} {}",
                    report::title(row.load),
                    tracks[index].contestant.name(),
                    report::line(&figures)
                );
                row.contestants[index].push(&figures);
            }
        }
    }
    Ok(rows)
}

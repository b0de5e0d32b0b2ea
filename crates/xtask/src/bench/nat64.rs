//! NAT64's userspace path: contestants take turns, so that whatever else happens on the machine happens to all.
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::series::Series;
use super::track::{Contestant, Measure, Track};
use super::{engine, report};
use crate::command::{root, target};
use crate::{image, setup};

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
    /// Only the side-by-side measurements whose title contains this word; nothing is written then.
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
}

const MEASURES: [Measure; 5] = [
    Measure::Tcp { streams: 1, towards_client: false },
    Measure::Tcp { streams: 1, towards_client: true },
    Measure::Tcp { streams: 8, towards_client: false },
    Measure::Tcp { streams: 8, towards_client: true },
    Measure::Udp,
];

/// All measurements of one kind.
pub(super) struct Row {
    pub(super) measure: Measure,
    /// In the order of [`Contestant::ALL`].
    pub(super) results: [Series; 3],
    /// What the generator offered.
    pub(super) offered: [Series; 3],
    /// Packets for each second of the translator's processor time.
    pub(super) of_processor: [Series; 3],
    /// Packets for each second of any processor's time.
    pub(super) of_machine: [Series; 3],
}

/// Measures, prints and writes.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(setup::Purpose::Bench)?;
    if !setup::is_root() {
        bail!("the benchmark makes network namespaces: run it as root");
    }
    let named = options.binary.clone().or_else(|| std::env::var_os("SIXGATE_BIN").map(PathBuf::from));
    let binary = match &named {
        Some(binary) => binary.canonicalize().with_context(|| binary.display().to_string())?,
        None => image::sixgate()?,
    };
    let surroundings = report::Surroundings::look(options.seconds, options.rounds);
    let rows = race(options, &binary)?;
    let path = report::path(&rows);
    println!("\n{path}");
    if options.only.is_some() {
        return Ok(());
    }
    let engine = report::engine(&engine::run()?);
    println!("\n{engine}");
    if !options.dry {
        let file = root().join("docs/benchmarks/nat64.md");
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(&file, report::document(&surroundings, &path, &engine))?;
        println!("written to {}", file.display());
    }
    Ok(())
}

fn race(options: &Options, binary: &std::path::Path) -> Result<Vec<Row>> {
    let folder = target().join("bench");
    fs::create_dir_all(&folder)?;
    let tracks = Contestant::ALL.iter().map(|one| Track::build(*one, binary, &folder)).collect::<Result<Vec<_>>>()?;
    let wanted = |measure: &Measure| options.only.as_ref().is_none_or(|word| report::title(*measure).contains(word));
    let mut rows: Vec<Row> = MEASURES
        .into_iter()
        .filter(wanted)
        .map(|measure| Row {
            measure,
            results: Default::default(),
            offered: Default::default(),
            of_processor: Default::default(),
            of_machine: Default::default(),
        })
        .collect();
    for round in 0..options.rounds as usize {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for row in &mut rows {
            for turn in 0..tracks.len() {
                // Each is the first once in a while.
                let index = (turn + round) % tracks.len();
                let measured = tracks[index].measure(row.measure, options.seconds)?;
                row.results[index].push(measured.rate);
                row.offered[index].push(measured.offered);
                row.of_processor[index].push(measured.of_processor);
                row.of_machine[index].push(measured.of_machine);
                eprintln!(
                    "  {} {}",
                    report::title(row.measure),
                    report::amount(row.measure, measured.rate, tracks[index].contestant)
                );
            }
        }
    }
    Ok(rows)
}

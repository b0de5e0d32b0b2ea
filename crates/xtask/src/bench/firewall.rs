//! The firewall: contestants take turns, each with 10, 1,000 and 10,000 entries in its allowlist.
use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::firewall_report::{self as report, Surroundings};
use super::firewall_track::{Contestant, Kind, Load, Measure, Track};
use super::series::Series;
use crate::command::{root, target};
use crate::setup;

/// What the benchmark can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds of each measurement of established flows.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How often each is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// The sixgate binary; else that of SIXGATE_BIN, and else the image's is built.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Only print: leave the document as it is.
    #[arg(long)]
    dry: bool,
    /// Only the measurements whose title contains this word; nothing is written then.
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// Only these numbers of entries; nothing is written then.
    #[arg(long, value_name = "ENTRIES", value_delimiter = ',')]
    entries: Vec<usize>,
    /// Without ufw; nothing is written then.
    #[arg(long)]
    without_ufw: bool,
}

/// How many entries an allowlist has.
pub(super) const SIZES: [usize; 3] = [10, 1000, 10_000];

/// All that one contestant has given.
pub(super) struct Results {
    pub(super) contestant: Contestant,
    /// In the order of [`Measure::ALL`].
    values: Vec<Vec<Load>>,
}

impl Results {
    /// One field of what was measured.
    pub(super) fn series(&self, measure: Measure, field: fn(&Load) -> f64) -> Series {
        let index = Measure::ALL.iter().position(|one| *one == measure).unwrap_or_default();
        Series::new(self.values.get(index).into_iter().flatten().map(field).collect())
    }
}

/// Measures, prints and writes.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(setup::Purpose::BenchFirewall)?;
    let binary = super::subject(options.binary.as_deref())?;
    let surroundings = Surroundings::look(options.seconds, options.rounds);
    let folder = target().join("bench/firewall");
    fs::create_dir_all(&folder)?;
    let mut tracks = vec![Track::build(Contestant { kind: Kind::Kernel, entries: 0 }, &binary, &folder)?];
    let kinds = [Kind::Nft, Kind::Sixgate, Kind::Ufw];
    for kind in kinds.into_iter().filter(|kind| *kind != Kind::Ufw || !options.without_ufw) {
        for entries in SIZES.into_iter().filter(|size| options.entries.is_empty() || options.entries.contains(size)) {
            tracks.push(Track::build(Contestant { kind, entries }, &binary, &folder)?);
        }
    }
    for entries in [SIZES[0], SIZES[2]] {
        tracks.push(Track::build(Contestant { kind: Kind::Rules, entries }, &binary, &folder)?);
    }
    let results = race(options, &tracks)?;
    drop(tracks);
    let tables = report::tables(&results);
    println!("\n{tables}");
    let is_whole = options.only.is_none() && options.entries.is_empty() && !options.without_ufw;
    if !options.dry && is_whole {
        let file = root().join("docs/benchmarks/firewall.md");
        fs::write(&file, report::document(&surroundings, &tables))?;
        println!("written to {}", file.display());
    }
    Ok(())
}

fn race(options: &Options, tracks: &[Track]) -> Result<Vec<Results>> {
    let empty = || Measure::ALL.map(|_| Vec::new()).into();
    let mut results: Vec<Results> =
        tracks.iter().map(|track| Results { contestant: track.contestant, values: empty() }).collect();
    for round in 0..options.rounds as usize {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for (index, measure) in Measure::ALL.into_iter().enumerate() {
            if options.only.as_ref().is_some_and(|word| !measure.title().contains(word.as_str())) {
                continue;
            }
            for turn in 0..tracks.len() {
                // Each is the first once in a while.
                let turn = (turn + round) % tracks.len();
                let track = &tracks[turn];
                if !track.contestant.enters(measure, round) {
                    continue;
                }
                let load = track.measure(measure, options.seconds, round)?;
                eprintln!("  {} {:>14} {}", measure.title(), track.contestant.title(), measure.quantity(load.value));
                results[turn].values[index].push(load);
            }
        }
    }
    Ok(results)
}

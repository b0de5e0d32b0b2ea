//! `cargo xtask fuzz`: runs the fuzzers of `tests/fuzz` for a while, and keeps what they found if that is wanted.
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::command::{root, run, target};
use crate::setup;

/// Version of cargo-fuzz that the targets are laid out for.
const CARGO_FUZZ: &str = "0.13.1";
/// Where the fuzzers and their corpora lie, from the repository's root.
const HOME: &str = "tests/fuzz";

/// What can be told to the fuzzers.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these targets; all of them when none is named.
    targets: Vec<String>,
    /// How long each runs.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u32,
    /// Add to the committed corpus what covers more than it does.
    #[arg(long)]
    keep: bool,
}

/// Runs them one after the other. A crash ends it; the input lies in `tests/fuzz/artifacts` then.
pub(crate) fn fuzz(options: &Options) -> Result<()> {
    let tool = setup::cargo_tool("cargo-fuzz", CARGO_FUZZ)?;
    let home = root().join(HOME);
    let all = names(&home.join("fuzz_targets"))?;
    if let Some(unknown) = options.targets.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzz target {unknown}, but {}", all.join(", "));
    }
    let targets = if options.targets.is_empty() { &all } else { &options.targets };
    for name in targets {
        let (corpus, found) = (home.join("corpus").join(name), target().join("fuzz").join(name));
        fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
        let fuzzer = |arguments: &[&str], folders: [&Path; 2]| {
            let mut command = std::process::Command::new(&tool);
            // The sanitizers' flags are nightly's; the toolchain is the stable one that everything is built with.
            command.current_dir(root()).env("RUSTC_BOOTSTRAP", "1");
            command.args(["run", "--fuzz-dir", HOME, name]).args(folders).arg("--").args(arguments);
            run(&mut command)
        };
        let seconds = format!("-max_total_time={}", options.seconds);
        fuzzer(&[&seconds, "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"], [&found, &corpus])?;
        if options.keep {
            fuzzer(&["-set_cover_merge=1"], [&corpus, &found])?;
        }
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

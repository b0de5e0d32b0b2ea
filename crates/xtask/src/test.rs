//! `cargo xtask test`: every check and test there is, in phases, each with the time it took.
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::command::{cargo, run};
use crate::{image, setup, tidy};

/// Version of cargo-deny that the rules in `deny.toml` are written for.
const CARGO_DENY: &str = "0.20.2";
/// Version of cargo-machete, which finds dependencies that nothing uses.
const CARGO_MACHETE: &str = "0.9.2";

/// What can be told to the tests.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these phases, in the given order; all of them when none is named.
    phases: Vec<Phase>,
}

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// Formatting, by rustfmt.
    Format,
    /// The house rules.
    Tidy,
    /// Lints, by clippy with warnings denied.
    Lint,
    /// Unit and property tests, vectors, goldens.
    Unit,
    /// Licences, bans and sources of all dependencies.
    Deny,
    /// Dependencies that nothing uses.
    Unused,
    /// The appliance's image, with the static binary that the lab uses too.
    Image,
    /// Scenarios on network namespaces.
    Namespaces,
    /// Scenarios on the image in QEMU.
    Machine,
    /// Real Docker behind the router, in a namespace and as the image.
    Docker,
    /// The disk, booted by its firmware.
    Disk,
    /// The disk on every combination of firmware, chipset, controller and network card. Not part of a whole run.
    Matrix,
    /// The demo, without a terminal.
    Demo,
}

/// All phases, the quick ones first.
const ALL: &[Phase] = &[
    Phase::Format,
    Phase::Tidy,
    Phase::Lint,
    Phase::Unit,
    Phase::Deny,
    Phase::Unused,
    Phase::Image,
    Phase::Namespaces,
    Phase::Machine,
    Phase::Docker,
    Phase::Disk,
    Phase::Demo,
];

/// Runs the phases; a failing one does not keep the later ones from running.
pub(crate) fn test(options: &Options) -> Result<()> {
    setup::ensure(setup::Purpose::Test)?;
    setup::unpack(setup::Purpose::Test)?;
    setup::ensure_components()?;
    let phases = if options.phases.is_empty() { ALL } else { &options.phases };
    let mut results: Vec<(Phase, Duration, Result<()>)> = Vec::new();
    for &phase in phases {
        eprintln!("\n== {} ==", name(phase));
        let begin = Instant::now();
        let result = run_phase(phase);
        let took = begin.elapsed();
        match &result {
            Ok(()) => eprintln!("== {}: passed in {:.1} s ==", name(phase), took.as_secs_f64()),
            Err(error) => eprintln!("== {}: FAILED in {:.1} s: {error:#} ==", name(phase), took.as_secs_f64()),
        }
        results.push((phase, took, result));
    }
    summary(&results)
}

fn run_phase(phase: Phase) -> Result<()> {
    match phase {
        Phase::Format => run(cargo().args(["fmt", "--all", "--check"])),
        Phase::Tidy => tidy::tidy(),
        Phase::Lint => run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])),
        Phase::Unit => run(cargo().args(["test", "--workspace", "--exclude", "sixgate-lab", "--no-fail-fast"])),
        Phase::Deny => {
            let deny = setup::cargo_tool("cargo-deny", CARGO_DENY)?;
            run(std::process::Command::new(deny).current_dir(crate::command::root()).args([
                "--workspace",
                "check",
                "bans",
                "licenses",
                "sources",
            ]))
        }
        Phase::Unused => {
            let machete = setup::cargo_tool("cargo-machete", CARGO_MACHETE)?;
            run(std::process::Command::new(machete).current_dir(crate::command::root()).arg("--with-metadata"))
        }
        Phase::Image => image::build_for_tests().map(|image| image.report()),
        Phase::Namespaces => lab("namespaces"),
        Phase::Machine => lab("machine"),
        Phase::Docker => lab("docker"),
        Phase::Disk => lab("disk"),
        Phase::Matrix => run(lab_command("disk").env("LAB_MATRIX", "1").args(["--", "matrix"])),
        Phase::Demo => run(cargo().args(["xtask", "run", "--headless"])),
    }
}

/// The lab's own tests find the binary and the image under the target folder.
fn lab(test: &str) -> Result<()> {
    run(&mut lab_command(test))
}

fn lab_command(test: &str) -> std::process::Command {
    let mut command = cargo();
    command.args(["test", "--package", "sixgate-lab", "--test", test, "--no-fail-fast"]);
    command
}

fn summary(results: &[(Phase, Duration, Result<()>)]) -> Result<()> {
    eprintln!();
    for (phase, took, result) in results {
        let verdict = if result.is_ok() { "passed" } else { "FAILED" };
        eprintln!("{:>12}  {verdict}  {:>7.1} s", name(*phase), took.as_secs_f64());
    }
    let total: Duration = results.iter().map(|(_, took, _)| *took).sum();
    eprintln!("{:>12}  {:>15.1} s", "total", total.as_secs_f64());
    let failed: Vec<_> =
        results.iter().filter(|(_, _, result)| result.is_err()).map(|(phase, ..)| name(*phase)).collect();
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

fn name(phase: Phase) -> String {
    phase.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

//! The project's own commands: `cargo xtask run | test | bench | kernels | fuzz | image | tidy | compliance`.
#![forbid(unsafe_code)]

mod bench;
mod command;
mod compliance;
mod fuzz;
mod guest;
mod image;
mod kernels;
mod run;
mod setup;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs and tests sixgate", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Boots the router and an IPv6-only demo client in QEMU; the terminal shows the router's console.
    Run(run::Options),
    /// Checks and tests everything, or the phases that are named.
    Test(test::Options),
    /// Measures side by side with the peers.
    Bench(bench::Options),
    /// Runs the fast path's tests inside other kernels of Debian's.
    Kernels(kernels::Options),
    /// Runs the fuzzers for a while.
    Fuzz(fuzz::Options),
    /// Builds the appliance into target/image: kernel and initramfs, disk images, update bundle.
    Image(image::Options),
    /// Writes docs/rfc-compliance.md out of its cases.
    Compliance,
    /// Checks the house rules: dependency edges, file sizes, first lines, trailing blanks, documentation.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Run(options) => run::run(&options),
        Verb::Test(options) => test::test(&options),
        Verb::Image(options) => setup::ensure(setup::Purpose::Image).and_then(|()| image::run(&options)),
        Verb::Compliance => compliance::write(),
        Verb::Fuzz(options) => fuzz::fuzz(&options),
        Verb::Kernels(options) => kernels::run(&options),
        Verb::Bench(options) => bench::bench(&options),
        Verb::Tidy => tidy::tidy(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

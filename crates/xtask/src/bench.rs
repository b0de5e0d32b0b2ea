//! `cargo xtask bench`: side by side with the peers, in one run, as ratios.
mod asker;
mod clat;
mod dns64;
mod dns64_report;
mod engine;
mod firewall;
mod firewall_report;
mod firewall_track;
mod generator;
mod guest;
mod host;
mod nat64;
mod report;
mod resolver;
mod responder;
mod series;
mod soak;
mod start;
mod start_report;
mod track;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;

use crate::{image, setup};

/// What the benchmarks can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Subcommand)]
enum Subject {
    /// NAT64 with and without its fast path against plain forwarding, NAT44 and Tayga, and the engine by itself;
    /// writes docs/benchmarks/nat64.md.
    Nat64(nat64::Options),
    /// The CLAT with and without its fast path against plain forwarding and Tayga; writes docs/benchmarks/clat.md.
    Clat(clat::Options),
    /// The resolver against unbound and BIND; writes docs/benchmarks/dns64.md.
    Dns64(dns64::Options),
    /// The firewall against rules by hand, ufw and no firewall at all; writes docs/benchmarks/firewall.md.
    Firewall(firewall::Options),
    /// How long the image takes from the kernel's first moment to the first advertisement, beside an init that does nothing;
    /// writes docs/benchmarks/start.md.
    Start(start::Options),
    /// The fast path beside Jool and a flowtable, in instructions, in a machine under emulation; writes docs/benchmarks/guest.md.
    Guest(guest::Options),
    /// Sends datagrams as fast as it can, inside a namespace of the benchmark.
    #[command(hide = true)]
    Generate(generator::Options),
    /// Sends datagrams back, inside a namespace of the benchmark.
    #[command(hide = true)]
    Respond(responder::Respond),
    /// Measures how long answers take, inside a namespace of the benchmark.
    #[command(hide = true)]
    AskBack(responder::AskBack),
    /// Asks a resolver as fast as it answers, inside a namespace of the benchmark.
    #[command(hide = true)]
    Ask(asker::Options),
}

/// The binary that is measured: what was named, else SIXGATE_BIN, else the image's, which is built.
fn subject(named: Option<&Path>) -> Result<PathBuf> {
    if !setup::is_root() {
        bail!("the benchmark makes network namespaces: run it as root");
    }
    match named.map(Path::to_owned).or_else(|| std::env::var_os("SIXGATE_BIN").map(PathBuf::from)) {
        Some(binary) => binary.canonicalize().with_context(|| binary.display().to_string()),
        None => image::sixgate(),
    }
}

/// Runs one.
pub(crate) fn bench(options: &Options) -> Result<()> {
    match &options.subject {
        Subject::Nat64(options) => nat64::run(options),
        Subject::Clat(options) => clat::run(options),
        Subject::Dns64(options) => dns64::run(options),
        Subject::Firewall(options) => firewall::run(options),
        Subject::Start(options) => start::run(options),
        Subject::Guest(options) => guest::run_in_guest(options),
        Subject::Generate(options) => generator::run(options),
        Subject::Respond(options) => responder::respond(options),
        Subject::AskBack(options) => responder::ask_back(options),
        Subject::Ask(options) => asker::run(options),
    }
}

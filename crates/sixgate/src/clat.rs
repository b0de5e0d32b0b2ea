//! `sixgate clat`: the other end of 464XLAT on a host, its status, and the removal of what it left.
mod fast_path;
mod forwarding;
mod host;
mod lookup;
pub(crate) mod report;
mod worker;

use std::fs::DirBuilder;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use ipnet::Ipv6Net;
use sixgate_engine::clat::{FastPath, Pref64, Settings, Source};
use sixgate_linux::confine;
use tokio::runtime::Builder;

use crate::change;
use crate::cli::failure;
use crate::instance::Instance;

/// Servers of the DNS root: by their IPv4 addresses is looked whether the PLAT answers.
const CHECK: [&str; 3] = ["198.41.0.4", "193.0.14.129", "199.7.83.42"];

/// What else than translating is asked for.
#[derive(Subcommand)]
pub enum Action {
    /// Show how far the CLAT is, what it does, and what is missing.
    Status {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
        /// Folder of the running CLAT.
        #[arg(long, value_name = "FOLDER", default_value = FOLDER)]
        folder: PathBuf,
    },
    /// Remove what a CLAT that was killed has left: routes, rules, sysctls.
    Remove {
        /// Print whether it was done as JSON.
        #[arg(long)]
        json: bool,
        /// Its folder.
        #[arg(long, value_name = "FOLDER", default_value = FOLDER)]
        folder: PathBuf,
    },
}

/// Where status and former sysctls are kept while it runs.
const FOLDER: &str = "/run/sixgate-clat";

/// How it translates.
#[derive(Args)]
pub struct Options {
    /// The link to the world; that of the IPv6 default route without it.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// The NAT64's prefix; without it routers (PREF64) and then ipv4only.arpa are asked.
    #[arg(long, value_name = "PREFIX", value_parser = pref64)]
    prefix: Option<Pref64>,
    /// Translate to an address out of this prefix, which is routed to the host, such as a container /80.
    #[arg(long, value_name = "PREFIX", conflicts_with = "shared")]
    within: Option<Ipv6Net>,
    /// Translate to the host's own address, with ports 61000 to 65535 of it.
    #[arg(long)]
    shared: bool,
    /// IPv4 address by which is looked whether the NAT64 answers pings; several may be given.
    #[arg(long, value_name = "ADDRESS", default_values = CHECK)]
    check: Vec<Ipv4Addr>,
    /// Take the IPv4 default route without looking whether the NAT64 answers.
    #[arg(long, conflicts_with = "check")]
    no_check: bool,
    /// When plain packets are translated by eBPF programs, past other programs' netfilter rules for IPv6.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto)]
    fast_path: When,
    /// Folder for its status, and for the sysctls from before.
    #[arg(long, value_name = "FOLDER", default_value = FOLDER)]
    folder: PathBuf,
}

/// When the fast path is used.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// While no such rules look at forwarded packets.
    Auto,
    /// Whatever rules there are.
    Always,
    /// Never: all packets cross the TUN device.
    Never,
}

/// Runs what is asked for.
pub fn main(action: Option<Action>, options: Options) -> anyhow::Result<ExitCode> {
    match action {
        None => run(options),
        Some(Action::Status { json, folder }) => Ok(failure::told(report::report(&folder, json), json)),
        Some(Action::Remove { json, folder }) => Ok(failure::told(remove(&folder, json), json)),
    }
}

/// Translates until it is told to end, and then removes everything.
fn run(options: Options) -> anyhow::Result<ExitCode> {
    let folder = options.folder.clone();
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&folder)
        .with_context(|| format!("{} cannot be created; are you root?", folder.display()))?;
    refuse_beside_a_router()?;
    let _instance = Instance::claim(&status_socket(&folder))?;
    if let Err(error) = confine::refuse_what_nobody_needs() {
        tracing::warn!("the clat may do more than it needs: {error}");
    }
    let runtime = Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(host::run(options.into(), &folder))
}

/// Removes what is left in the host.
fn remove(folder: &Path, json: bool) -> anyhow::Result<ExitCode> {
    refuse_beside_a_router()?;
    let _instance = Instance::claim(&status_socket(folder))?;
    let runtime = Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(host::remove(folder))?;
    change::accepted("nothing of a clat is left", json);
    Ok(ExitCode::SUCCESS)
}

/// Routes and rules of both carry the same mark: each would remove the other's.
fn refuse_beside_a_router() -> anyhow::Result<()> {
    let socket = Path::new(crate::control::DEFAULT_SOCKET);
    let router = crate::control::Client::connect(socket).and_then(|mut client| client.status());
    anyhow::ensure!(router.is_err(), "this host runs `sixgate run`, whose NAT64 is the other end of a clat");
    Ok(())
}

fn status_socket(folder: &Path) -> PathBuf {
    folder.join("status.sock")
}

impl From<Options> for Settings {
    fn from(options: Options) -> Self {
        let source = match (options.within, options.shared) {
            (Some(within), _) => Source::Within(within),
            (None, true) => Source::Shared,
            (None, false) => Source::Dedicated,
        };
        let check = if options.no_check { Vec::new() } else { options.check };
        let fast_path = match options.fast_path {
            When::Auto => FastPath::Auto,
            When::Always => FastPath::Always,
            When::Never => FastPath::Never,
        };
        Self { interface: options.interface, pref64: options.prefix, source, check, fast_path }
    }
}

fn pref64(text: &str) -> Result<Pref64, String> {
    let net: Ipv6Net = text.parse().map_err(|_| "no IPv6 prefix, such as 64:ff9b::/96".to_owned())?;
    Pref64::new(net.addr(), net.prefix_len()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn settings(line: &str) -> Result<Settings, String> {
        let words = std::iter::once("clat").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.options.into()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_becomes_settings() {
        let default = settings("").unwrap();
        assert_eq!((default.source, default.check.len(), default.pref64), (Source::Dedicated, 3, None));
        let all =
            settings("--interface eth0 --prefix 2001:db8:64::/64 --within 2001:db8:1::/80 --check 192.0.2.1").unwrap();
        assert_eq!(all.check, [Ipv4Addr::new(192, 0, 2, 1)]);
        assert_eq!(
            (all.source, all.pref64.unwrap().length()),
            (Source::Within("2001:db8:1::/80".parse().unwrap()), 64)
        );
        assert!(settings("--no-check --shared").unwrap().check.is_empty());
        assert_eq!(
            (default.fast_path, settings("--fast-path never").unwrap().fast_path),
            (FastPath::Auto, FastPath::Never)
        );
        let error = settings("--prefix 2001:db8::/72").unwrap_err();
        assert!(error.contains("32, 40, 48, 56, 64 or 96"), "{error}");
        assert!(settings("--shared --within 2001:db8:1::/80").is_err());
    }
}

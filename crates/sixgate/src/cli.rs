//! The command line.
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::wiring::Kept;
use crate::{agent, clat, control, init, recorder, schema, tui};

mod ask;
pub(crate) mod failure;

use ask::Ask;

/// A router for IPv6-only virtual machines and containers.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_STATUS)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What the exit status says, for people and for `docs/cli.md`.
const EXIT_STATUS: &str =
    "Exit status: 0 done, and what was asked about is so; 1 refused, not reached or not so; 2 wrong arguments.";

#[derive(Subcommand)]
enum Command {
    /// Run as PID 1 of the image.
    Init,
    /// Prepare the image's state and first configuration; PID 1 runs this before the router.
    Prepare,
    /// Answer QEMU's questions on the guest agent's port; PID 1 runs this where there is one.
    Agent,
    /// Run the router.
    Run {
        /// Configuration file.
        #[arg(long, value_name = "FILE", default_value = "/etc/sixgate/sixgate.toml")]
        config: PathBuf,
        /// Control socket to listen on.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
        /// Folder for what is to outlive a restart: leases, identifiers.
        #[arg(long, value_name = "FOLDER", default_value = "/var/lib/sixgate")]
        state: PathBuf,
        /// BPF file system, in which the fast path outlives a restart.
        #[arg(long, value_name = "FOLDER", default_value = "/sys/fs/bpf")]
        bpffs: PathBuf,
    },
    /// Validate a configuration file and print the plan for this machine.
    Check {
        /// Configuration file.
        file: PathBuf,
        /// Print whether it is right, and what is wrong or what it leads to, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run the other end of 464XLAT on a host whose network has IPv6 and a NAT64 only, for itself and its containers.
    #[command(args_conflicts_with_subcommands = true)]
    Clat {
        #[command(subcommand)]
        action: Option<clat::Action>,
        #[command(flatten)]
        options: clat::Options,
    },
    #[command(flatten)]
    Ask(Ask),
    /// Show the console.
    Tui {
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
        /// This is the appliance's own console: there is nothing to quit to.
        #[arg(long)]
        console: bool,
    },
    /// Print a shell's completions for these commands.
    Completions {
        /// Whose: `sixgate completions bash > /etc/bash_completion.d/sixgate`.
        shell: Shell,
    },
    /// Print the JSON Schema of what a command prints with `--json`.
    Schema {
        /// Which: a command, or `request` and `reply` for the lines of the control protocol.
        #[arg(value_parser = schema::names())]
        command: String,
    },
    /// Write the manual pages into a folder.
    Man {
        /// The folder, as in `/usr/local/share/man/man1`.
        folder: PathBuf,
    },
}

/// Runs what the command line says. Called as `init` or `modprobe`, the process is PID 1's program: the kernel starts
/// it under these names, with arguments of its own.
pub fn main() -> ExitCode {
    let called_as = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let called_as = called_as.file_name().unwrap_or_default();
    if called_as == "init" || called_as == "modprobe" {
        log_to_stderr();
        return init::run();
    }
    let arguments = Arguments::parse();
    let events = log_to_stderr();
    let ended = match arguments.command {
        Command::Init => return init::run(),
        Command::Prepare => return init::prepare::run(),
        Command::Agent => agent::run(),
        Command::Run { config, control, state, bpffs } => {
            crate::run::run(&config, &control, Kept { state: &state, bpffs: &bpffs }, events)
        }
        Command::Clat { action, options } => clat::main(action, options),
        Command::Check { file, json } => return crate::check::check(&file, json),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "sixgate", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Schema { command } => schema::print(&command),
        Command::Man { folder } => manual(&folder),
        Command::Tui { control, console } => tui::run(&control, console).map(|()| ExitCode::SUCCESS),
        Command::Ask(request) => return request.run(),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("sixgate: {error:#}");
        ExitCode::FAILURE
    })
}

/// One page for sixgate and one for each command.
fn manual(folder: &Path) -> anyhow::Result<ExitCode> {
    clap_mangen::generate_to(Arguments::command(), folder)
        .with_context(|| format!("the manual pages cannot be written into {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// What is logged unless RUST_LOG says otherwise. hickory logs every query and every odd packet.
const LOG_FILTER: &str = "info,hickory_server=error,hickory_net=error,hickory_proto=error";

/// Log lines go to stderr, and to whoever takes them from the channel; RUST_LOG chooses.
fn log_to_stderr() -> mpsc::Receiver<control::Event> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG_FILTER));
    let colors = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colors);
    let (recorder, events) = recorder::recorder();
    if tracing_subscriber::registry().with(filter).with(lines).with(recorder).try_init().is_err() {
        eprintln!("sixgate: another logger is in place");
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_manual_page_and_completions() {
        let folder = tempfile::tempdir().unwrap();
        manual(folder.path()).unwrap();
        let mut completions = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Arguments::command(), "sixgate", &mut completions);
        let completions = String::from_utf8(completions).unwrap();
        for command in Arguments::command().get_subcommands() {
            let name = command.get_name();
            let page = std::fs::read_to_string(folder.path().join(format!("sixgate-{name}.1"))).unwrap();
            assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{page}");
            assert!(completions.contains(name), "{name}");
        }
        assert!(manual(Path::new("/nonexistent/man1")).is_err());
    }
}

//! The command line.
use std::io::IsTerminal;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use ipnet::Ipv6Net;
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::control::{MachineAction, Request};
use crate::wiring::Kept;
use crate::{agent, backup, change, control, init, recorder, tui};

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
    /// Show the state of the running router.
    Status {
        /// Print the whole state as JSON.
        #[arg(long)]
        json: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Show the translator's sessions, with packets and bytes.
    Sessions {
        /// Only those of this client, an address or a prefix.
        #[arg(long, value_name = "PREFIX", value_parser = prefix)]
        client: Option<Ipv6Net>,
        /// Print each as JSON, one a line.
        #[arg(long)]
        json: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Put a configuration into force, all of it or nothing, and keep it.
    Apply {
        /// Configuration file.
        file: PathBuf,
        /// Take it back by itself unless `sixgate confirm` follows in this time, also over a reboot.
        #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = change::DEFAULT_TRIAL, value_parser = change::parse_length)]
        confirm: Option<Duration>,
        /// Even where that cuts the session that this command runs in.
        #[arg(long)]
        force: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Write configuration, leases and identifiers into one file.
    Backup {
        /// The file; - for standard output.
        file: PathBuf,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Put a backup's configuration into force; its leases and identifiers count from the next start.
    Restore {
        /// The file.
        file: PathBuf,
        /// Take the configuration back by itself unless `sixgate confirm` follows in this time.
        #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = change::DEFAULT_TRIAL, value_parser = change::parse_length)]
        confirm: Option<Duration>,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Show what is wrong, and the mends.
    Findings {
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Keep the configuration that is on trial.
    Confirm {
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Show the hosts on the LANs.
    Neighbours {
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Show what was refused lately, or the entry that would admit one of it.
    Denials {
        /// Number of a denial: print the `[[allow]]` entry that would admit it.
        number: Option<u64>,
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Go back: from a trial, to the configuration before, or to an earlier one.
    Revert {
        /// Number of the earlier configuration, see `sixgate history`.
        number: Option<u64>,
        /// Take that back by itself unless `sixgate confirm` follows in this time.
        #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = change::DEFAULT_TRIAL, value_parser = change::parse_length)]
        confirm: Option<Duration>,
        /// Even where that cuts the session that this command runs in.
        #[arg(long)]
        force: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Tell what becomes of a conversation, and the first thing that stops it.
    Why {
        /// Who begins it: an address, or a name such as vm1 or vm1/containers::5.
        from: String,
        /// With whom.
        to: String,
        /// About what: tcp/443, udp/53, icmp, or a protocol's number.
        service: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// List the last configurations, or show what one of them changed.
    History {
        /// Number of a configuration.
        number: Option<u64>,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Have the resolver forget a name and all names below it, or everything.
    FlushDns {
        /// The name, as in `example.com`; without one, everything is forgotten.
        name: Option<String>,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Capture packets into a pcapng file, or show them line by line.
    Capture {
        /// Only those of a VM, an address or a prefix.
        #[arg(long, value_name = "WHO")]
        of: Option<String>,
        /// Only on this interface; otherwise on the uplink and all LANs. `nat64` is the translator's device.
        #[arg(long, value_name = "NAME")]
        interface: Option<String>,
        /// The file; `-` for standard output, as in `sixgate capture -w - | wireshark -k -i -`.
        #[arg(short, long, value_name = "FILE")]
        write: Option<PathBuf>,
        /// End after so many packets.
        #[arg(long, value_name = "NUMBER")]
        packets: Option<u64>,
        /// End after that time.
        #[arg(long, value_name = "TIME", value_parser = change::parse_length)]
        time: Option<Duration>,
        /// Keep so many bytes of each packet.
        #[arg(long, value_name = "BYTES")]
        snap: Option<u32>,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Send echo requests from the router.
    Ping {
        /// To whom: an address, a VM, or a name that the resolver knows.
        to: String,
        /// How many, one a second.
        #[arg(short, long, value_name = "NUMBER", default_value_t = 4)]
        count: u16,
        /// Print each as JSON, one a line.
        #[arg(long)]
        json: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Find the routers on the way to a host.
    Trace {
        /// The host: an address, a VM, or a name that the resolver knows.
        to: String,
        /// Print each as JSON, one a line.
        #[arg(long)]
        json: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Ask the router's resolver for a name's addresses, as a host on a LAN would.
    Resolve {
        /// The name.
        name: String,
        /// As it is, without synthesized addresses.
        #[arg(long)]
        no_synthesis: bool,
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Show what the daemon has logged lately.
    Log {
        /// Go on with what it logs from now on.
        #[arg(short, long)]
        follow: bool,
        /// Print each event as JSON, one a line.
        #[arg(long)]
        json: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Show what the uplink has lent: addresses and prefixes, from whom and how long.
    Leases {
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Install the update bundle on an attached drive and start the machine anew to try it; the image only.
    Update {
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Start the machine anew with the system from before the last update; the image only.
    Rollback {
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Withdraw from the networks and start the machine anew; the image only.
    Reboot {
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Withdraw from the networks and power the machine off; the image only.
    PowerOff {
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Restart the daemon; the network stays as it is.
    Restart {
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Read the configuration file again.
    Reload {
        /// Control socket of the router.
        #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
        control: PathBuf,
    },
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
        Command::Check { file, json } => return crate::check::check(&file, json),
        Command::Status { json, control } => crate::report::report(&control, json),
        Command::Findings { json, control } => crate::report::findings(&control, json),
        Command::Neighbours { json, control } => crate::report::neighbours(&control, json),
        Command::FlushDns { name, control } => control::Client::connect(&control)
            .and_then(|mut client| client.command(&Request::FlushDns { name }))
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "sixgate", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { folder } => manual(&folder),
        Command::Sessions { client, json, control } => crate::sessions::sessions(&control, client, json),
        Command::Apply { file, confirm, force, control } => change::apply(&control, &file, confirm, force),
        Command::Denials { number: Some(number), control, .. } => crate::denials::propose(&control, number),
        Command::Denials { number: None, json, control } => crate::denials::list(&control, json),
        Command::Backup { file, control } => backup::backup(&control, &file),
        Command::Restore { file, confirm, control } => backup::restore(&control, &file, confirm),
        Command::Confirm { control } => change::confirm(&control),
        Command::Revert { number, confirm, force, control } => change::revert(&control, number, confirm, force),
        Command::Why { from, to, service, json, control } => change::why(&control, from, to, service, json),
        Command::History { number, json, control } => change::history(&control, number, json),
        Command::Capture { of, interface, write, packets, time, snap, control } => {
            let seconds = time.map(|time| time.as_secs());
            crate::look::capture(&control, control::Capture { interface, of, packets, seconds, snap }, write.as_deref())
        }
        Command::Ping { to, count, json, control } => crate::look::probe(&control, &Request::Ping { to, count }, json),
        Command::Trace { to, json, control } => crate::look::probe(&control, &Request::Trace { to }, json),
        Command::Resolve { name, no_synthesis, json, control } => {
            crate::look::resolve(&control, name, !no_synthesis, json)
        }
        Command::Log { follow, json, control } => crate::look::log(&control, follow, json),
        Command::Leases { json, control } => crate::report::leases(&control, json),
        Command::Update { control } => change::machine(&control, &Request::Machine(MachineAction::Update)),
        Command::Rollback { control } => change::machine(&control, &Request::Machine(MachineAction::Rollback)),
        Command::Reboot { control } => change::machine(&control, &Request::Machine(MachineAction::Reboot)),
        Command::PowerOff { control } => change::machine(&control, &Request::PowerOff),
        Command::Restart { control } => change::machine(&control, &Request::Restart),
        Command::Reload { control } => change::machine(&control, &Request::Reload),
        Command::Tui { control, console } => tui::run(&control, console).map(|()| ExitCode::SUCCESS),
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

/// A prefix, or an address as one.
fn prefix(text: &str) -> Result<Ipv6Net, String> {
    let address = || text.parse::<Ipv6Addr>().map(Ipv6Net::from);
    text.parse().or_else(|_| address()).map_err(|_| "no IPv6 address or prefix".to_owned())
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

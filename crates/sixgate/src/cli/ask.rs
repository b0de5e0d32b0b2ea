//! Commands that ask something of the daemon: what they ask, and how the answer is told.
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use ipnet::Ipv6Net;

use super::failure;
use crate::control::{self, MachineAction, Request, Service};
use crate::{backup, change, denials, look, report, sessions};

/// Whom to ask, and how the answer is told.
#[derive(Clone, Args)]
pub(super) struct Daemon {
    /// Print JSON; `sixgate schema` describes it.
    #[arg(long)]
    json: bool,
    /// Control socket of the router.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
    control: PathBuf,
}

/// How a configuration is tried before it stays.
#[derive(Args)]
pub(super) struct Trial {
    /// Take it back by itself unless `sixgate confirm` follows in this time, also over a reboot.
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = change::DEFAULT_TRIAL, value_parser = change::parse_length)]
    confirm: Option<Duration>,
}

/// What is asked.
#[derive(Subcommand)]
pub(super) enum Ask {
    /// Show the state of the running router.
    Status {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show the translator's sessions, with packets and bytes.
    Sessions {
        /// Only those of this client, an address or a prefix.
        #[arg(long, value_name = "PREFIX", value_parser = prefix)]
        client: Option<Ipv6Net>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Put a configuration into force, all of it or nothing, and keep it.
    Apply {
        /// Configuration file.
        file: PathBuf,
        #[command(flatten)]
        trial: Trial,
        /// Even where that cuts the session that this command runs in.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Write configuration, leases and identifiers into one file.
    Backup {
        /// The file; - for standard output.
        file: PathBuf,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Put a backup's configuration into force; its leases and identifiers count from the next start.
    Restore {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        trial: Trial,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show what is wrong, and the mends.
    Findings {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Keep the configuration that is on trial.
    Confirm {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show the hosts on the LANs.
    Neighbours {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show what was refused lately, or the entry that would admit one of it.
    Denials {
        /// Number of a denial: print the `[[allow]]` entry that would admit it.
        number: Option<u64>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Go back: from a trial, to the configuration before, or to an earlier one.
    Revert {
        /// Number of the earlier configuration, see `sixgate history`.
        number: Option<u64>,
        #[command(flatten)]
        trial: Trial,
        /// Even where that cuts the session that this command runs in.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Tell what becomes of a conversation, and the first thing that stops it.
    Why {
        /// Who begins it: an address, or a name such as vm1 or vm1/containers::5.
        from: String,
        /// With whom.
        to: String,
        /// About what: tcp/443, udp/53, icmp, or a protocol's number.
        service: String,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// List the last configurations, or show what one of them changed.
    History {
        /// Number of a configuration.
        number: Option<u64>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Have the resolver forget a name and all names below it, or everything.
    FlushDns {
        /// The name, as in `example.com`; without one, everything is forgotten.
        name: Option<String>,
        #[command(flatten)]
        daemon: Daemon,
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
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Send echo requests from the router.
    Ping {
        /// To whom: an address, a VM, or a name that the resolver knows.
        to: String,
        /// How many, one a second.
        #[arg(short, long, value_name = "NUMBER", default_value_t = 4)]
        count: u16,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Find the routers on the way to a host.
    Trace {
        /// The host: an address, a VM, or a name that the resolver knows.
        to: String,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Ask the router's resolver for a name's addresses, as a host on a LAN would.
    Resolve {
        /// The name.
        name: String,
        /// As it is, without synthesized addresses.
        #[arg(long)]
        no_synthesis: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show what the daemon has logged lately.
    Log {
        /// Go on with what it logs from now on.
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show what the uplink has lent: addresses and prefixes, from whom and how long.
    Leases {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Install the update bundle on an attached drive and start the machine anew to try it; the image only.
    Update {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Start the machine anew with the system from before the last update; the image only.
    Rollback {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Withdraw from the networks and start the machine anew; the image only.
    Reboot {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Withdraw from the networks and power the machine off; the image only.
    PowerOff {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Restart the daemon, or one of its services; the network stays as it is.
    Restart {
        /// Which service alone; all of the daemon without one.
        service: Option<Service>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Read the configuration file again.
    Reload {
        #[command(flatten)]
        daemon: Daemon,
    },
}

impl Ask {
    /// Asks and tells. With `--json` a failure is told by the same object that the control protocol tells it by.
    pub(super) fn run(self) -> ExitCode {
        let json = self.daemon().json;
        failure::told(self.outcome(), json)
    }

    fn daemon(&self) -> &Daemon {
        match self {
            Self::Status { daemon, .. }
            | Self::Sessions { daemon, .. }
            | Self::Apply { daemon, .. }
            | Self::Backup { daemon, .. }
            | Self::Restore { daemon, .. }
            | Self::Findings { daemon, .. }
            | Self::Confirm { daemon, .. }
            | Self::Neighbours { daemon, .. }
            | Self::Denials { daemon, .. }
            | Self::Revert { daemon, .. }
            | Self::Why { daemon, .. }
            | Self::History { daemon, .. }
            | Self::FlushDns { daemon, .. }
            | Self::Capture { daemon, .. }
            | Self::Ping { daemon, .. }
            | Self::Trace { daemon, .. }
            | Self::Resolve { daemon, .. }
            | Self::Log { daemon, .. }
            | Self::Leases { daemon, .. }
            | Self::Update { daemon, .. }
            | Self::Rollback { daemon, .. }
            | Self::Reboot { daemon, .. }
            | Self::PowerOff { daemon, .. }
            | Self::Restart { daemon, .. }
            | Self::Reload { daemon, .. } => daemon,
        }
    }

    fn outcome(self) -> anyhow::Result<ExitCode> {
        let Daemon { json, control } = self.daemon().clone();
        let control = &control;
        match self {
            Self::Status { .. } => report::report(control, json),
            Self::Findings { .. } => report::findings(control, json),
            Self::Neighbours { .. } => report::neighbours(control, json),
            Self::Leases { .. } => report::leases(control, json),
            Self::Sessions { client, .. } => sessions::sessions(control, client, json),
            Self::Denials { number: Some(number), .. } => denials::propose(control, number, json),
            Self::Denials { number: None, .. } => denials::list(control, json),
            Self::Why { from, to, service, .. } => change::why(control, from, to, service, json),
            Self::History { number, .. } => change::history(control, number, json),
            Self::Apply { file, trial, force, .. } => change::apply(control, &file, trial.confirm, force, json),
            Self::Confirm { .. } => change::confirm(control, json),
            Self::Revert { number, trial, force, .. } => change::revert(control, number, trial.confirm, force, json),
            Self::Backup { file, .. } => backup::backup(control, &file, json),
            Self::Restore { file, trial, .. } => backup::restore(control, &file, trial.confirm, json),
            Self::FlushDns { name, .. } => {
                change::ask(control, &Request::FlushDns { name }, "what it knew is forgotten", json)
            }
            Self::Capture { of, interface, write, packets, time, snap, .. } => {
                let seconds = time.map(|time| time.as_secs());
                let capture = control::Capture { interface, of, packets, seconds, snap };
                look::capture(control, capture, write.as_deref(), json)
            }
            Self::Ping { to, count, .. } => look::probe(control, &Request::Ping { to, count }, json),
            Self::Trace { to, .. } => look::probe(control, &Request::Trace { to }, json),
            Self::Resolve { name, no_synthesis, .. } => look::resolve(control, name, !no_synthesis, json),
            Self::Log { follow, .. } => look::log(control, follow, json),
            Self::Update { .. } => change::machine(control, &Request::Machine(MachineAction::Update), json),
            Self::Rollback { .. } => change::machine(control, &Request::Machine(MachineAction::Rollback), json),
            Self::Reboot { .. } => change::machine(control, &Request::Machine(MachineAction::Reboot), json),
            Self::PowerOff { .. } => change::machine(control, &Request::PowerOff, json),
            Self::Restart { service: None, .. } => change::machine(control, &Request::Restart, json),
            Self::Restart { service: Some(service), .. } => {
                change::ask(control, &Request::RestartService(service), "it has started anew", json)
            }
            Self::Reload { .. } => change::machine(control, &Request::Reload, json),
        }
    }
}

/// A prefix, or an address as one.
fn prefix(text: &str) -> Result<Ipv6Net, String> {
    let address = || text.parse::<Ipv6Addr>().map(Ipv6Net::from);
    text.parse().or_else(|_| address()).map_err(|_| "no IPv6 address or prefix".to_owned())
}

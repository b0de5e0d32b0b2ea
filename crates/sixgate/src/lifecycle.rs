//! How `sixgate run` ends, and what its exit status tells the supervisor.
use std::process::ExitCode;

/// Set to `init` by `sixgate init` in the environment of `sixgate run`; only then is a power-off request served.
pub const SUPERVISOR_VARIABLE: &str = "SIXGATE_SUPERVISOR";

/// Exit status that asks `sixgate init` to power the machine off. The router has been stopped properly before.
pub const EXIT_POWER_OFF: u8 = 90;

/// Why the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM, SIGINT or a `stop` request: everything is withdrawn, the firewall stays closed.
    Stop,
    /// SIGUSR1 or a `restart` request: everything stays in place for the next daemon to adopt.
    Restart,
    /// A `power-off` request: as [`Ending::Stop`], then PID 1 powers the machine off.
    PowerOff,
    /// A task ended or panicked: everything stays in place, the supervisor starts the daemon anew.
    Failure,
}

impl Ending {
    /// What the supervisor sees.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Stop | Self::Restart => ExitCode::SUCCESS,
            Self::PowerOff => ExitCode::from(EXIT_POWER_OFF),
            Self::Failure => ExitCode::FAILURE,
        }
    }
}

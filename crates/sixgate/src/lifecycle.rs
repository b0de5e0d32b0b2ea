//! How `sixgate run` ends, and what its exit status tells the supervisor.
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use crate::wiring::{ConfigurationCommand, Withdraw};

/// Set to `init` by `sixgate init` in the environment of `sixgate run`; only then is a power-off request served.
pub const SUPERVISOR_VARIABLE: &str = "SIXGATE_SUPERVISOR";

/// Exit status that asks `sixgate init` to power the machine off. The router has been stopped properly before.
pub const EXIT_POWER_OFF: u8 = 90;

/// Exit status that asks `sixgate init` to start the machine anew. The router has been stopped properly before.
pub const EXIT_REBOOT: u8 = 92;

/// Exit status after a `stop` request: a supervisor that restarts whatever ends leaves this daemon stopped
/// (`RestartPreventExitStatus=` in `docs/sixgate.service`). `sixgate init` starts it again, for nobody else could.
pub const EXIT_STOPPED: u8 = 91;

/// A stop takes no longer than this, whatever hangs.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Sessions that are not saved by then are those of the last half minute.
const SAVE_WITHIN: Duration = Duration::from_secs(2);

/// Why the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM or SIGINT: everything is withdrawn, the firewall stays closed.
    Stop,
    /// A `stop` request: as [`Ending::Stop`], and the supervisor is told that this is meant to last.
    StopForGood,
    /// SIGUSR1 or a `restart` request: everything stays in place for the next daemon to adopt.
    Restart,
    /// A `power-off` request: as [`Ending::Stop`], then PID 1 powers the machine off.
    PowerOff,
    /// A `reboot` request, or an update that is to be tried: as [`Ending::Stop`], then PID 1 starts the machine anew.
    Reboot,
    /// A task ended or panicked: everything stays in place, the supervisor starts the daemon anew.
    Failure,
}

impl Ending {
    /// What the supervisor sees.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Stop | Self::Restart => ExitCode::SUCCESS,
            Self::StopForGood => ExitCode::from(EXIT_STOPPED),
            Self::PowerOff => ExitCode::from(EXIT_POWER_OFF),
            Self::Reboot => ExitCode::from(EXIT_REBOOT),
            Self::Failure => ExitCode::FAILURE,
        }
    }
}

/// The lifecycle's ends of the channels.
pub struct Ends {
    /// Requests to end.
    pub endings: mpsc::Receiver<Ending>,
    /// Asks the configuration task to read the file again.
    pub command: mpsc::Sender<ConfigurationCommand>,
    /// Asks the advertisers to say good-bye.
    pub withdraw_ra: mpsc::Sender<Withdraw>,
    /// Asks the translator to give up its device.
    pub withdraw_nat64: mpsc::Sender<Withdraw>,
    /// Asks the translator to save its sessions and to leave its device to the next daemon.
    pub leave_nat64: mpsc::Sender<Withdraw>,
    /// Asks for forwarding off, the closed ruleset, and addresses, routes and rules gone.
    pub withdraw_network: mpsc::Sender<Withdraw>,
}

/// Waits for the reason to end, then ends in order.
pub async fn run(mut ends: Ends, mut tasks: JoinSet<&'static str>) -> Ending {
    let ending = match Signals::listen() {
        Ok(signals) => reason(&mut ends, &mut tasks, signals).await,
        Err(error) => {
            tracing::error!("no signal can be received: {error}");
            Ending::Failure
        }
    };
    match ending {
        Ending::Stop | Ending::StopForGood | Ending::PowerOff | Ending::Reboot => stop(&ends).await,
        Ending::Restart => {
            withdraw("sessions", &ends.leave_nat64, Instant::now() + SAVE_WITHIN).await;
            tracing::info!("ending, everything stays in place for the next start");
        }
        Ending::Failure => tracing::error!("ending by failure, everything stays in place for the next start"),
    }
    ending
}

async fn reason(ends: &mut Ends, tasks: &mut JoinSet<&'static str>, mut signals: Signals) -> Ending {
    loop {
        tokio::select! {
            Some(ending) = ends.endings.recv() => return ending,
            Some(ended) = tasks.join_next() => return failure(ended),
            _ = signals.terminate.recv() => return Ending::Stop,
            _ = signals.interrupt.recv() => return Ending::Stop,
            _ = signals.leave.recv() => return Ending::Restart,
            _ = signals.reload.recv() => reload(&ends.command),
        }
    }
}

fn failure(ended: Result<&'static str, JoinError>) -> Ending {
    match ended {
        Ok(name) => tracing::error!("task {name} ended"),
        Err(error) => tracing::error!("a task panicked: {error}"),
    }
    Ending::Failure
}

fn reload(commands: &mpsc::Sender<ConfigurationCommand>) {
    // The configuration task logs the outcome; nobody waits for it here.
    if commands.try_send(ConfigurationCommand::Reload(oneshot::channel().0)).is_err() {
        tracing::warn!("a reload is already waiting");
    }
}

/// First the hosts are told, then translation ends, then the network is taken down behind a closed firewall.
async fn stop(ends: &Ends) {
    tracing::info!("stopping");
    let deadline = Instant::now() + STOP_WITHIN;
    withdraw("final advertisements", &ends.withdraw_ra, deadline - STOP_WITHIN / 5 * 3).await;
    withdraw("translation", &ends.withdraw_nat64, deadline - STOP_WITHIN / 5 * 2).await;
    withdraw("network", &ends.withdraw_network, deadline).await;
    tracing::info!("stopped");
}

async fn withdraw(what: &str, task: &mpsc::Sender<Withdraw>, deadline: Instant) {
    let (done, confirmed) = oneshot::channel();
    let withdrawn = async {
        task.send(done).await.map_err(|_| "its task is gone")?;
        confirmed.await.map_err(|_| "its task gave up")
    };
    match timeout_at(deadline, withdrawn).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::warn!("{what} could not be withdrawn: {why}"),
        Err(_) => tracing::warn!("{what} could not be withdrawn in time"),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
    leave: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
            leave: signal(SignalKind::user_defined1())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tasks {
        endings: mpsc::Sender<Ending>,
        commands: mpsc::Receiver<ConfigurationCommand>,
        withdrawals: [mpsc::Receiver<Withdraw>; 3],
        leaves: mpsc::Receiver<Withdraw>,
    }

    fn wired() -> (Ends, Tasks) {
        let (ending, endings) = mpsc::channel(1);
        let (command, commands) = mpsc::channel(1);
        let (withdraw_ra, ra) = mpsc::channel(1);
        let (withdraw_nat64, nat64) = mpsc::channel(1);
        let (withdraw_network, network) = mpsc::channel(1);
        let (leave_nat64, leaves) = mpsc::channel(1);
        let ends = Ends { endings, command, withdraw_ra, withdraw_nat64, leave_nat64, withdraw_network };
        (ends, Tasks { endings: ending, commands, withdrawals: [ra, nat64, network], leaves })
    }

    #[tokio::test]
    async fn a_stop_withdraws_one_after_the_other() {
        let (ends, Tasks { endings, withdrawals: [mut ra, mut nat64, mut network], .. }) = wired();
        endings.send(Ending::Stop).await.unwrap();
        let daemon = tokio::spawn(run(ends, JoinSet::new()));
        let said_goodbye = ra.recv().await.unwrap();
        assert!(nat64.try_recv().is_err() && network.try_recv().is_err());
        said_goodbye.send(()).unwrap();
        let translation_ended = nat64.recv().await.unwrap();
        assert!(network.try_recv().is_err());
        translation_ended.send(()).unwrap();
        network.recv().await.unwrap().send(()).unwrap();
        assert_eq!(daemon.await.unwrap(), Ending::Stop);
    }

    #[test]
    fn only_a_supervisor_that_should_do_something_else_than_usual_sees_a_status_of_its_own() {
        let statuses = [Ending::Stop, Ending::Restart, Ending::StopForGood, Ending::PowerOff, Ending::Failure]
            .map(|ending| format!("{:?}", ending.exit_code()));
        let expected = [0, 0, EXIT_STOPPED, EXIT_POWER_OFF, 1].map(|code| format!("{:?}", ExitCode::from(code)));
        assert_eq!(statuses, expected);
        let unit = include_str!("../../../docs/sixgate.service");
        for key in ["SuccessExitStatus", "RestartPreventExitStatus"] {
            assert!(unit.contains(&format!("\n{key}={EXIT_STOPPED}\n")), "{key}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_hangs_does_not_keep_the_network_from_being_withdrawn() {
        let (ends, Tasks { endings, withdrawals: [mut ra, nat64, mut network], .. }) = wired();
        drop(nat64);
        endings.send(Ending::PowerOff).await.unwrap();
        let began = Instant::now();
        let daemon = tokio::spawn(run(ends, JoinSet::new()));
        let _never_answered = ra.recv().await.unwrap();
        let _never_answered_either = network.recv().await.unwrap();
        assert_eq!(daemon.await.unwrap(), Ending::PowerOff);
        assert!(began.elapsed() <= STOP_WITHIN + Duration::from_millis(10), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_restart_saves_the_sessions_and_withdraws_nothing() {
        let (ends, Tasks { endings, mut withdrawals, mut leaves, .. }) = wired();
        endings.send(Ending::Restart).await.unwrap();
        let daemon = tokio::spawn(run(ends, JoinSet::new()));
        leaves.recv().await.unwrap().send(()).unwrap();
        assert_eq!(daemon.await.unwrap(), Ending::Restart);
        for withdrawal in &mut withdrawals {
            assert!(withdrawal.try_recv().is_err());
        }
    }

    #[tokio::test]
    async fn a_task_that_ends_or_panics_ends_the_daemon_and_withdraws_nothing() {
        for panics in [false, true] {
            let (ends, Tasks { endings: _open, mut withdrawals, commands: _commands, .. }) = wired();
            let mut tasks = JoinSet::new();
            tasks.spawn(async move {
                assert!(!panics, "as this test wants it");
                "short"
            });
            assert_eq!(run(ends, tasks).await, Ending::Failure);
            for withdrawal in &mut withdrawals {
                assert!(withdrawal.try_recv().is_err());
            }
        }
    }
}

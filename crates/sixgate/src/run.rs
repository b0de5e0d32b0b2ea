//! `sixgate run`: the daemon.
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sixgate_linux::confine;
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use crate::control::Event;
use crate::instance::Instance;
use crate::lifecycle::{Ending, SUPERVISOR_VARIABLE};
use crate::wiring::{Kept, Wiring};

/// What still runs after the tasks were told to end is abandoned after this time.
const ABANDON_AFTER: Duration = Duration::from_millis(200);

/// Runs the router until it is told to end. `events` is what it logs.
///
/// # Errors
/// Another daemon serves the same control socket, or there is no runtime. Everything else is a finding.
pub fn run(config: &Path, control: &Path, kept: Kept<'_>, events: mpsc::Receiver<Event>) -> anyhow::Result<ExitCode> {
    let instance = Instance::claim(control)?;
    raise_open_files();
    confine();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().context("no runtime")?;
    tracing::info!("sixgate {} starts, start {} since boot", env!("CARGO_PKG_VERSION"), instance.starts);
    let ending = runtime.block_on(Wiring::new(events).run(config, control, kept, instance.starts));
    match ending {
        // A socket that answers nobody is only confusing; after a crash or a restart the next daemon replaces it.
        Ending::Stop | Ending::StopForGood | Ending::PowerOff | Ending::Reboot => drop(std::fs::remove_file(control)),
        Ending::Restart | Ending::Failure => {}
    }
    runtime.shutdown_timeout(ABANDON_AFTER);
    Ok(ending.exit_code())
}

/// Before there is a second thread, so that all of them inherit it. On a host capabilities are its service manager's to choose.
fn confine() {
    let in_image = std::env::var_os(SUPERVISOR_VARIABLE).is_some_and(|name| name == "init");
    let dropped = if in_image { confine::keep_capabilities(confine::ROUTER) } else { Ok(()) };
    if let Err(error) = dropped.and_then(|()| confine::refuse_what_nobody_needs()) {
        tracing::warn!("the daemon may do more than it needs: {error}");
    }
}

/// As many descriptors as the process may have: a soft limit of 1,024 is for programs that use `select`, and clients of the
/// resolver must not take those that firewall and network need.
fn raise_open_files() {
    let held = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: held.maximum, ..held }) {
        tracing::debug!("the limit of open files stays: {error}");
    }
}

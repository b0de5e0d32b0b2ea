//! `sixgate init`: process 1 of the image. It mounts, loads modules, owns the power button and keeps `sixgate run` and the consoles running.
//!
//! The kernel's command line may hold `sixgate.consoles=log`, which prints the log on the console instead of drawing
//! there, and `sixgate.log=FILTER`, which becomes the router's RUST_LOG.
mod boot;
mod cloud_init;
pub(crate) mod entropy;
pub(crate) mod loader;
pub(crate) mod partition;
pub(crate) mod prepare;
mod seed;
mod service;
pub(crate) mod starter;
pub(crate) mod state;
mod supervisor;
pub(crate) mod timeline;
pub(crate) mod update;
mod voice;

pub(crate) use state::HOME as STATE_HOME;
pub(crate) use supervisor::CONFIG;

use std::path::Path;
use std::process::ExitCode;

use sixgate_linux::pid1;
use sixgate_linux::pid1::modules::Modules;

use voice::Voice;

/// Runs as process 1, or as the `modprobe` that the kernel calls; returns only when it is neither.
pub fn run() -> ExitCode {
    let mut words = std::env::args();
    let called_as = words.next().unwrap_or_default();
    if Path::new(&called_as).file_name().is_some_and(|name| name == "modprobe") {
        return modprobe(words);
    }
    if !pid1::is_first_process() {
        eprintln!("sixgate init is process 1 of the image and does nothing elsewhere; `sixgate run` starts the router");
        return ExitCode::FAILURE;
    }
    let mut voice = Voice::new();
    boot::boot(&mut voice);
    supervisor::supervise(&mut voice)
}

/// The kernel asks for a module by its name or an alias: `modprobe -q -- NAME`.
fn modprobe(words: impl Iterator<Item = String>) -> ExitCode {
    let mut modules = Modules::open();
    let mut outcome = ExitCode::SUCCESS;
    for name in words.filter(|word| !word.starts_with('-')) {
        if modules.load(&name).is_err() {
            outcome = ExitCode::FAILURE;
        }
    }
    outcome
}

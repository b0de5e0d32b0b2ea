//! The binary in a network namespace of its own.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::namespace::Namespace;
use crate::network::{ROUTER_LAN_MAC, ROUTER_WAN_MAC};
use crate::program::Daemon;
use crate::world::{Segment, World, target_folder};

/// How long the daemon may take to end.
const END: Duration = Duration::from_secs(15);

/// The binary in a network namespace, with `eth0` on the WAN and `eth1` on the LAN.
#[derive(Debug)]
pub struct NamespaceRouter {
    daemon: Option<Daemon>,
    namespace: Namespace,
    binary: PathBuf,
    launcher: Option<PathBuf>,
    config: PathBuf,
    control: PathBuf,
    bpffs: PathBuf,
    log: PathBuf,
}

/// The binary under test: `SIXGATE_BIN`, or what was built in this workspace.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SIXGATE_BIN") {
        return Ok(path.into());
    }
    let target = target_folder();
    let built = ["x86_64-unknown-linux-gnu/release/sixgate", "debug/sixgate"].map(|path| target.join(path));
    // The newest one: an old release must not shadow what was just built.
    let newest = built.into_iter().filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path))).max();
    newest
        .map(|(_, path)| path)
        .context("there is no sixgate binary: `cargo xtask image` or `cargo build -p sixgate` builds one, SIXGATE_BIN names another")
}

impl NamespaceRouter {
    pub(super) fn create(world: &World) -> Result<Self> {
        let namespace = world.host("router")?;
        world.plug(&namespace, "eth0", ROUTER_WAN_MAC, Segment::Wan)?;
        world.plug(&namespace, "eth1", ROUTER_LAN_MAC, Segment::Lan)?;
        Ok(Self {
            daemon: None,
            namespace,
            binary: binary()?,
            launcher: None,
            config: world.folder().join("sixgate.toml"),
            control: world.runtime().join("control.sock"),
            bpffs: world.bpffs(),
            log: world.folder().join("router.log"),
        })
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Path of the control socket.
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// Path of the configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Path of the binary under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Lets a shell script prepare the daemon's surroundings. `ip netns exec` gives it mounts of its own.
    pub fn prepare(&mut self, script: &str) -> Result<()> {
        let launcher = self.config.with_file_name("launcher.sh");
        fs::write(&launcher, format!("set -eu\n{script}\nexec \"$@\"\n"))?;
        self.launcher = Some(launcher);
        Ok(())
    }

    /// Writes the configuration file.
    pub fn write_config(&self, text: &str) -> Result<()> {
        fs::write(&self.config, text).with_context(|| self.config.display().to_string())
    }

    /// Writes the configuration and starts the daemon.
    pub(super) fn start(&mut self, config: &str) -> Result<()> {
        self.write_config(config)?;
        self.start_again()
    }

    /// Starts the daemon with the configuration as it is.
    pub fn start_again(&mut self) -> Result<()> {
        let (binary, config, control) = (self.binary.display(), self.config.display(), self.control.display());
        let state = self.control.with_file_name("state");
        let (state, bpffs) = (state.display(), self.bpffs.display());
        let launcher = self.launcher.as_ref().map_or_else(String::new, |script| format!("sh {} ", script.display()));
        let places = format!("--control {control} --state {state} --bpffs {bpffs}");
        let line = format!("{launcher}{binary} run --config {config} {places}");
        self.daemon = Some(Daemon::start(self.namespace.command_line(&line), &self.log)?);
        Ok(())
    }

    /// The running daemon.
    pub fn daemon(&mut self) -> Result<&mut Daemon> {
        self.daemon.as_mut().context("the router has not been started")
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.daemon()?.signal(signal)
    }

    /// Sends a signal that ends the daemon, and waits for the end.
    pub fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        self.daemon()?.wait(END)
    }

    pub(super) fn leave_artefacts(&self, folder: &Path) {
        for (file, line) in [
            ("ruleset.nft", "nft list ruleset"),
            ("address.txt", "ip -details address"),
            ("route4.txt", "ip -4 route show table all"),
            ("route6.txt", "ip -6 route show table all"),
            ("rule.txt", "ip rule"),
            ("neighbours.txt", "ip -6 neighbour"),
            ("statistics.txt", "nstat -az"),
        ] {
            let text =
                self.namespace.run(line).map_or_else(|error| format!("{error:#}"), |outcome| outcome.to_string());
            let _ = fs::write(folder.join(file), text);
        }
    }
}

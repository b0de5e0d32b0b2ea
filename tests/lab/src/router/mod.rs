//! The router under test: the binary in a namespace, or the image in QEMU. Scenarios see one value.
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

mod machine;
mod namespace;

pub use machine::{MachineRouter, boot};
pub use namespace::{NamespaceRouter, binary};

use crate::world::World;

/// How long the router may take over a reply. A machine's daemon that restarts never sees what it was asked before.
const REPLY: Duration = Duration::from_secs(5);

/// Where a scenario can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackEnd {
    /// The binary in a network namespace.
    Namespace,
    /// The image in QEMU.
    Machine,
}

/// The router under test.
#[derive(Debug)]
pub enum Router {
    /// The binary in a network namespace.
    Namespace(NamespaceRouter),
    /// The image in QEMU.
    Machine(MachineRouter),
}

impl Router {
    /// A router with its interfaces plugged into both segments, not yet started.
    pub fn create(back_end: BackEnd, world: &World) -> Result<Self> {
        match back_end {
            BackEnd::Namespace => NamespaceRouter::create(world).map(Self::Namespace),
            BackEnd::Machine => MachineRouter::create(world).map(Self::Machine),
        }
    }

    /// Which keys name the uplink and the LAN in its configuration.
    pub fn interfaces(&self) -> (String, String) {
        match self {
            Self::Namespace(_) => ("interface = \"eth0\"".to_owned(), "interface = \"eth1\"".to_owned()),
            Self::Machine(_) => {
                let mac = |mac| format!("mac = \"{mac}\"");
                (mac(crate::network::ROUTER_WAN_MAC), mac(crate::network::ROUTER_LAN_MAC))
            }
        }
    }

    /// Starts it with a configuration.
    pub fn start(&mut self, config: &str) -> Result<()> {
        match self {
            Self::Namespace(router) => router.start(config),
            Self::Machine(router) => router.start(config),
        }
    }

    /// Fails once the daemon or the machine has ended.
    pub fn ensure_alive(&mut self) -> Result<()> {
        match self {
            Self::Namespace(router) => {
                let daemon = router.daemon()?;
                ensure!(daemon.runs(), "the daemon has ended:\n{}", daemon.log());
            }
            Self::Machine(router) => ensure!(router.running()?.is_running(), "the machine has ended"),
        }
        Ok(())
    }

    /// Sends a request of the control protocol and returns the reply.
    pub fn request(&mut self, request: &str) -> Result<Value> {
        match self {
            Self::Namespace(router) => exchange(UnixStream::connect(router.control())?, request),
            Self::Machine(router) => exchange(router.control()?, request),
        }
    }

    /// The router's whole status.
    pub fn status(&mut self) -> Result<Value> {
        let mut reply = self.request("status")?;
        let status = reply["status"].take();
        ensure!(status.is_object(), "the reply to `status` was {reply}");
        Ok(status)
    }

    /// The router in a namespace, for what only the host's tools can see or do.
    pub fn in_namespace(&mut self) -> Result<&mut NamespaceRouter> {
        match self {
            Self::Namespace(router) => Ok(router),
            Self::Machine(_) => bail!("this scenario is not made for a machine"),
        }
    }

    /// The router in QEMU, for what only a machine has.
    pub fn in_machine(&mut self) -> Result<&mut MachineRouter> {
        match self {
            Self::Machine(router) => Ok(router),
            Self::Namespace(_) => bail!("this scenario is not made for a namespace"),
        }
    }

    /// Leaves what explains a failure in a folder. Nothing here may fail: it runs after a failure.
    pub fn leave_artefacts(&mut self, folder: &Path) {
        let status = self.status().map_or_else(|error| format!("{error:#}"), |status| format!("{status:#}"));
        let _ = std::fs::write(folder.join("status.json"), status);
        match self {
            Self::Namespace(router) => router.leave_artefacts(folder),
            // Console and QEMU's messages are written there while it runs.
            Self::Machine(_) => {}
        }
    }
}

/// One line there, one line back.
fn exchange(mut stream: UnixStream, request: &str) -> Result<Value> {
    stream.set_read_timeout(Some(REPLY))?;
    stream.set_write_timeout(Some(REPLY))?;
    // A word, or an object with arguments.
    let request: Value = serde_json::from_str(request).unwrap_or_else(|_| request.into());
    // One write: formatting straight into the stream would send the line in pieces.
    let line = format!("{}\n", json!({ "version": 1, "request": request }));
    stream.write_all(line.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("no reply on the control socket")?;
    serde_json::from_str(&line).with_context(|| format!("the control socket said {line:?}"))
}

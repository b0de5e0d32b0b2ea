//! The image in QEMU: its network cards are TAP devices in the lab's switch.
use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sixgate_qemu::{Boot, CONTROL_PORT, Link, Machine, Nic, Running};
use sixgate_wire::mac::MacAddr;

use crate::network::{ROUTER_LAN_MAC, ROUTER_WAN_MAC};
use crate::world::{Segment, World, target_folder};

/// How long the machine may take to power itself off.
const POWER_OFF: Duration = Duration::from_secs(60);

/// The image in QEMU.
pub struct MachineRouter {
    running: Option<Running>,
    boot: Boot,
    nics: Vec<Nic>,
    folder: PathBuf,
}

impl fmt::Debug for MachineRouter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("MachineRouter").field("boot", &self.boot).finish_non_exhaustive()
    }
}

/// Kernel and initramfs under test: `SIXGATE_KERNEL` and `SIXGATE_INITRD`, or what was built in this workspace.
pub fn boot() -> Result<Boot> {
    let built = target_folder().join("image");
    let path = |variable, name| std::env::var_os(variable).map_or_else(|| built.join(name), PathBuf::from);
    // The image's builder unpacks the kernel where it can, because that boots faster under emulation.
    let kernel = if built.join("vmlinux").exists() { "vmlinux" } else { "vmlinuz" };
    let boot = Boot { kernel: path("SIXGATE_KERNEL", kernel), initrd: path("SIXGATE_INITRD", "initrd.img") };
    for file in [&boot.kernel, &boot.initrd] {
        file.metadata().with_context(|| format!("{}: `cargo xtask image` builds the image", file.display()))?;
    }
    Ok(boot)
}

impl MachineRouter {
    pub(super) fn create(world: &World) -> Result<Self> {
        let nic = |port, mac: &str, segment| -> Result<Nic> {
            let link = Link::Tap(world.tap(port, segment)?);
            let MacAddr(mac) = mac.parse().map_err(anyhow::Error::msg)?;
            Ok(Nic { mac, link })
        };
        let nics =
            vec![nic("router-eth0", ROUTER_WAN_MAC, Segment::Wan)?, nic("router-eth1", ROUTER_LAN_MAC, Segment::Lan)?];
        Ok(Self { running: None, boot: boot()?, nics, folder: world.folder().to_owned() })
    }

    pub(super) fn start(&mut self, config: &str) -> Result<()> {
        let nics = std::mem::take(&mut self.nics);
        let machine = Machine::new("router", &self.boot).config(config).port(CONTROL_PORT).artefacts(&self.folder);
        self.running = Some(nics.into_iter().fold(machine, Machine::nic).start()?);
        Ok(())
    }

    /// The running machine.
    pub fn running(&mut self) -> Result<&mut Running> {
        self.running.as_mut().context("the machine has not been started")
    }

    pub(super) fn control(&mut self) -> Result<UnixStream> {
        self.running()?.port(CONTROL_PORT)
    }

    /// Waits until the machine has powered itself off. A kernel that panics ends QEMU as well, but says so first.
    pub fn await_power_off(&mut self) -> Result<()> {
        let running = self.running()?;
        let status = running.wait(Instant::now() + POWER_OFF)?;
        ensure!(status.success(), "QEMU ended with {status}");
        ensure!(!running.console().text().contains("Kernel panic"), "the kernel panicked; see the console's log");
        Ok(())
    }
}

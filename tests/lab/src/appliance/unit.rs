//! One appliance: its disk, which outlives its boots, and the machine while it runs.
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sixgate_qemu::{CONTROL_PORT, Hardware, Link, Machine, Model, Nic, Running, cable};

use crate::namespace::Namespace;
use crate::wait;
use crate::world::target_folder;

/// How long firmware, loader and system may take to answer, on a machine that others share.
pub(super) const BOOT: Duration = Duration::from_secs(240);
const REPLY: Duration = Duration::from_secs(120);
const END: Duration = Duration::from_secs(90);

/// An appliance.
pub struct Unit {
    folder: PathBuf,
    disk: PathBuf,
    boots: u32,
    /// The machine, while it runs.
    pub running: Option<Running>,
    /// Far ends of its network cables.
    pub cables: Vec<Link>,
    /// MiB of memory.
    pub memory: u32,
    /// Its network cards.
    pub model: Model,
    /// How many.
    pub nics: u8,
    /// TAP devices that the cards are plugged into at the next start, one each; cables where there are none.
    pub plugs: Vec<OwnedFd>,
    /// Where the machine's cards are TAP devices `tap1`, `tap2`, .. with two pairs of queues; cables without it.
    pub taps: Option<Namespace>,
}

/// A file of the built image, by its ending.
pub(super) fn image(ending: &str) -> Result<PathBuf> {
    let folder = target_folder().join("image");
    let path = folder.join(format!("sixgate-{}.{ending}", env!("CARGO_PKG_VERSION")));
    ensure!(path.is_file(), "{}: `cargo xtask image` builds the image", path.display());
    Ok(path)
}

impl Unit {
    /// A new disk.
    pub fn new(name: &str) -> Result<Self> {
        let name: String =
            name.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '-' }).collect();
        let folder = target_folder().join("lab").join(format!("disk-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let disk = folder.join("disk.raw");
        copy_sparse(&image("raw")?, &disk).context("cannot copy the image")?;
        Ok(Self {
            folder,
            disk,
            boots: 0,
            running: None,
            cables: Vec::new(),
            memory: 128,
            model: Model::Virtio,
            nics: 2,
            plugs: Vec::new(),
            taps: None,
        })
    }

    /// Changes the disk of a machine that is off: a partition's bytes from an offset on.
    pub fn overwrite(&mut self, partition: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        ensure!(self.running.is_none(), "the machine runs");
        let file = OpenOptions::new().read(true).write(true).open(&self.disk)?;
        let at = start_of(&file, partition)?;
        Ok(file.write_all_at(bytes, at + offset)?)
    }

    /// What a partition holds, of a machine that is off.
    pub fn read(&self, partition: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
        let file = File::open(&self.disk)?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, start_of(&file, partition)? + offset)?;
        Ok(bytes)
    }

    /// Where its traces are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The hardware that Proxmox gives a machine unless told otherwise, with firmware from beside the image.
    pub fn hardware() -> Hardware {
        Hardware { firmware_folder: target_folder().join("image/firmware"), ..Hardware::default() }
    }

    /// Switches it on.
    pub fn boot(&mut self, hardware: Hardware) -> Result<()> {
        self.boots += 1;
        let name = format!("boot-{}", self.boots);
        let mut machine = Machine::from_disk(&name, &self.disk, hardware)
            .memory(self.memory)
            .model(self.model)
            .port(CONTROL_PORT)
            .port(AGENT_PORT)
            .artefacts(&self.folder)
            .capture();
        self.cables.clear();
        let mut plugs = std::mem::take(&mut self.plugs).into_iter();
        for number in 1..=self.nics {
            let link = if let Some(plug) = plugs.next() {
                Link::Tap(plug)
            } else if self.taps.is_some() {
                Link::Queues(format!("tap{number}"), 2)
            } else {
                let (near, far) = cable()?;
                self.cables.push(far);
                near
            };
            machine = machine.nic(Nic { mac: [0xbc, 0x24, 0x11, 0, 0, number], link });
        }
        let started = match &self.taps {
            Some(namespace) => namespace.inside(|| machine.start()),
            None => machine.start(),
        };
        self.running = Some(started?);
        Ok(())
    }

    /// The running machine.
    pub fn machine(&mut self) -> Result<&mut Running> {
        self.running.as_mut().context("the machine is off")
    }

    /// Asks over the control port.
    pub fn request(&mut self, request: &Value) -> Result<Value> {
        let port = self.machine()?.port(CONTROL_PORT)?;
        port.set_read_timeout(Some(REPLY))?;
        let line = format!("{}\n", json!({ "version": 1, "request": request }));
        (&port).write_all(line.as_bytes())?;
        let mut reply = String::new();
        BufReader::new(port).read_line(&mut reply).context("no reply on the control port")?;
        serde_json::from_str(&reply).with_context(|| format!("the control port said {reply:?}"))
    }

    /// The status, once the machine answers and the status fits.
    pub fn status_with(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until_ok(what, BOOT, || {
            if !self.machine()?.is_running() {
                bail!("the machine has ended");
            }
            let mut reply = self.request(&json!("status"))?;
            let status = reply["status"].take();
            ensure!(fits(&status), "the status is {status}");
            Ok(status)
        })
    }

    /// Presses the power button and waits for the end; returns how long that took.
    pub fn power_off(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        self.machine()?.power_button()?;
        self.await_end()?;
        Ok(begin.elapsed())
    }

    /// Waits until the machine has ended by itself.
    pub fn await_end(&mut self) -> Result<()> {
        let mut running = self.running.take().context("the machine is off")?;
        let status = running.wait(Instant::now() + END)?;
        ensure!(status.success(), "QEMU ended with {status}");
        ensure!(!running.console().text().contains("Kernel panic"), "the kernel panicked");
        Ok(())
    }

    /// Waits until the kernel has panicked and has ended the machine.
    pub fn await_panic(&mut self) -> Result<()> {
        let mut running = self.running.take().context("the machine is off")?;
        running.wait(Instant::now() + BOOT)?;
        ensure!(running.console().text().contains("Kernel panic"), "the kernel did not panic");
        Ok(())
    }

    /// Pulls the plug.
    pub fn kill(&mut self) -> Result<()> {
        self.running.take().map_or(Ok(()), |mut running| running.kill())
    }

    /// Leaves what explains a failure.
    pub fn leave_artefacts(&mut self) {
        let status =
            self.request(&json!("status")).map_or_else(|error| format!("{error:#}"), |status| format!("{status:#}"));
        let _ = fs::write(self.folder.join("status.json"), status);
        let _ = fs::remove_file(&self.disk);
    }
}

/// Where a partition begins, by the table at the disk's start.
fn start_of(disk: &File, partition: &str) -> Result<u64> {
    const TABLE: u64 = 1024;
    const ENTRY: usize = 128;
    const ENTRIES: usize = 128;
    let mut table = vec![0; ENTRY * ENTRIES];
    disk.read_exact_at(&mut table, TABLE)?;
    let name: Vec<u8> = partition.encode_utf16().flat_map(u16::to_le_bytes).chain([0, 0]).collect();
    let entry = table.chunks(ENTRY).find(|entry| entry[56..].starts_with(&name));
    let first = entry.and_then(|entry| entry[32..40].try_into().ok()).map(u64::from_le_bytes);
    Ok(first.with_context(|| format!("the disk has no partition {partition}"))? * 512)
}

fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from)?;
    let target = File::create(to)?;
    let mut piece = vec![0; 64 << 10];
    let mut at = 0;
    loop {
        let length = source.read(&mut piece)?;
        if length == 0 {
            return Ok(target.set_len(at)?);
        }
        if piece[..length].iter().any(|byte| *byte != 0) {
            target.write_all_at(&piece[..length], at)?;
        }
        at += length as u64;
    }
}

/// Name of the guest agent's port.
pub(super) const AGENT_PORT: &str = "org.qemu.guest_agent.0";

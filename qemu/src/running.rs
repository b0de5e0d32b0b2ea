//! A running machine: its QEMU process, console, monitor and ports. Dropping it kills it.
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;
use tempfile::TempDir;

use crate::console::Console;
use crate::link::{Link, Nic};
use crate::machine::Machine;
use crate::qmp::Qmp;

const QEMU: &str = "qemu-system-x86_64";

/// Machines start one after the other, so that none inherits another's descriptors and keeps its lines open.
static STARTING: Mutex<()> = Mutex::new(());

/// A running machine.
pub struct Running {
    name: String,
    console: Console,
    process: OwnedFd,
    ended: Receiver<ExitStatus>,
    status: Option<ExitStatus>,
    messages: PathBuf,
    folder: TempDir,
}

impl Running {
    pub(crate) fn start(machine: Machine) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sixgate-").tempdir()?;
        let artefacts = machine.artefacts.clone().unwrap_or_else(|| folder.path().to_owned());
        fs::create_dir_all(&artefacts).with_context(|| format!("cannot make the folder {}", artefacts.display()))?;
        let messages = artefacts.join(format!("{}.qemu.log", machine.name));

        let _turn = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let (line, console) = UnixStream::pair()?;
        let mut inherited = vec![inheritable(&OwnedFd::from(line))?];
        let mut command = Command::new("setpriv");
        // QEMU ends with us, also when we are killed: the machine outlives no test.
        command.args(["--pdeathsig", "KILL", "--", QEMU]).args(machine.arguments(folder.path())?);
        command.args(["-chardev", &format!("socket,id=serial,fd={}", inherited[0].as_raw_fd())]);
        if machine.has_serial() {
            command.args(["-serial", "chardev:serial"]);
        }
        command.args(["-qmp", &format!("unix:{},server=on,wait=off", folder.path().join("qmp").display())]);
        if !machine.ports.is_empty() {
            command.args(["-device", "virtio-serial-pci"]);
        }
        for (index, name) in machine.ports.iter().enumerate() {
            let path = folder.path().join(name);
            command.args(["-chardev", &format!("socket,id=p{index},path={},server=on,wait=off", path.display())]);
            command.args(["-device", &format!("virtserialport,chardev=p{index},name={name}")]);
        }
        for (index, nic) in machine.nics.iter().enumerate() {
            let descriptor = nic.descriptor().map(inheritable).transpose()?;
            command.args(nic.arguments(machine.model, index, descriptor.as_ref().map(AsRawFd::as_raw_fd)));
            inherited.extend(descriptor);
            // QEMU captures on cards with one pair of queues alone.
            if machine.captures && !matches!(nic.link, Link::Queues(..)) {
                command.args(Nic::capture(index, &artefacts, &machine.name));
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&messages)?);

        let console = Console::open(console, &artefacts.join(format!("{}.console.log", machine.name)))?;
        let (process, ended) = supervise(command, inherited)?;
        Ok(Self { name: machine.name, console, process, ended, status: None, messages, folder })
    }

    /// The serial console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Connects to a virtio-serial port of this machine.
    pub fn port(&mut self, name: &str) -> Result<UnixStream> {
        let path = self.folder.path().join(name);
        self.connect(&path).with_context(|| format!("cannot reach the port {name} of {}", self.name))
    }

    /// Where a virtio-serial port of this machine listens.
    pub fn port_path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Connects to the monitor.
    pub fn monitor(&mut self) -> Result<Qmp> {
        let path = self.folder.path().join("qmp");
        Qmp::open(self.connect(&path).with_context(|| format!("cannot reach the monitor of {}", self.name))?)
    }

    /// Presses the ACPI power button.
    pub fn power_button(&mut self) -> Result<()> {
        self.monitor()?.execute("system_powerdown", &json!({})).map(drop)
    }

    /// Pulls the plug.
    pub fn kill(&mut self) -> Result<()> {
        // Failing means that it has ended already.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        self.wait(Instant::now() + Duration::from_secs(10)).map(drop)
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.status = self.status.or_else(|| self.ended.try_recv().ok());
        self.status.is_none()
    }

    /// Waits until it powers itself off.
    pub fn wait(&mut self, deadline: Instant) -> Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match self.ended.recv_timeout(left) {
            Ok(status) => {
                self.status = Some(status);
                Ok(status)
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} is still running; its console is in {}", self.name, self.console.log().display())
            }
            Err(RecvTimeoutError::Disconnected) => bail!("nobody watches {} any more", self.name),
        }
    }

    /// QEMU makes its sockets before the guest starts, but a moment after its process does.
    fn connect(&mut self, path: &Path) -> Result<UnixStream> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return Ok(stream),
                Err(_) if self.is_running() && Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
                Err(error) => {
                    let messages = fs::read_to_string(&self.messages).unwrap_or_default();
                    return Err(anyhow!(error).context(format!("QEMU said: {}", messages.trim())));
                }
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What remains is a process that ignores SIGKILL, and nothing helps against that.
        let _ = self.kill();
    }
}

/// A copy of a descriptor that a child inherits; it is closed here once the child has it.
fn inheritable(descriptor: &OwnedFd) -> Result<OwnedFd> {
    Ok(rustix::io::dup(descriptor)?)
}

/// Starts the process from a thread that lives as long as it does: the death signal is bound to the thread that forks.
fn supervise(mut command: Command, inherited: Vec<OwnedFd>) -> Result<(OwnedFd, Receiver<ExitStatus>)> {
    let (started, start) = mpsc::channel();
    let (sender, ended) = mpsc::channel();
    thread::Builder::new().name("qemu".into()).spawn(move || {
        let child = command.spawn().with_context(|| format!("cannot start {QEMU}; is qemu-system-x86 installed?"));
        drop(inherited);
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return drop(started.send(Err(error))),
        };
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a child's number is positive");
        let _ = started.send(pidfd_open(pid, PidfdFlags::empty()).context("cannot watch QEMU"));
        if let Ok(status) = child.wait() {
            let _ = sender.send(status);
        }
    })?;
    let process = start.recv().context("the thread that starts QEMU ended")??;
    Ok((process, ended))
}

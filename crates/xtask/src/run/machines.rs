//! The demo's two machines, the cable between them, and its servers.
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use sixgate_qemu::{Boot, CONTROL_PORT, Link, Machine, Nic, Running, cable};

use super::client::{History, Report};
use super::{name_server, web_server};
use crate::command::{root, target};

/// What the host is called in QEMU's user-mode network.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const CLIENT_PORT: &str = "org.sixgate.client";

/// How long a machine may take to power itself off.
const POWER_OFF: Duration = Duration::from_secs(30);

/// The demo while it runs.
pub(crate) struct Machines {
    /// The router.
    pub(crate) router: Running,
    client: Running,
    client_port: UnixStream,
    reports: Receiver<Report>,
    /// What the client has reported.
    pub(crate) history: History,
    began: Instant,
    artefacts: PathBuf,
}

impl Machines {
    /// Starts the servers, then the machines.
    pub(crate) fn start(router: &Boot, client: &Boot) -> Result<Self> {
        let dns = name_server::start(HOST)?;
        let web = web_server::start()?;
        let template = fs::read_to_string(root().join("image/demo.toml")).context("cannot read image/demo.toml")?;
        let config = template.replace("@DNS@", &dns.to_string());
        let artefacts = target().join("demo");
        let (near, far) = cable()?;
        let mac = |last| [0x52, 0x54, 0, 0x64, 0, last];
        let began = Instant::now();
        let router = Machine::new("router", router)
            .config(&config)
            .nic(Nic { mac: mac(1), link: Link::User })
            .nic(Nic { mac: mac(2), link: near })
            .port(CONTROL_PORT)
            .append("quiet")
            .artefacts(&artefacts)
            .start()?;
        let mut client = Machine::new("client", client)
            .memory(96)
            .nic(Nic { mac: mac(3), link: far })
            .port(CLIENT_PORT)
            .append("quiet")
            .append(&format!("client.name={}", name_server::NAME))
            .append(&format!("client.port={web}"))
            .artefacts(&artefacts)
            .start()?;
        let client_port = client.port(CLIENT_PORT)?;
        let (sender, reports) = mpsc::channel();
        let lines = client_port.try_clone()?;
        thread::Builder::new().name("client".into()).spawn(move || listen(lines, &sender))?;
        Ok(Self { router, client, client_port, reports, history: History::default(), began, artefacts })
    }

    /// Reads what the client has reported meanwhile; returns whether its first success is among it.
    pub(crate) fn read_reports(&mut self) -> bool {
        let mut first = false;
        while let Ok(report) = self.reports.try_recv() {
            first |= self.history.take(report);
        }
        if !self.client.is_running() {
            self.history.end();
        }
        first
    }

    /// Whether both machines run.
    pub(crate) fn check(&mut self) -> Result<()> {
        for machine in [&mut self.router, &mut self.client] {
            if !machine.is_running() {
                bail!("a machine ended by itself; its console is in {}", machine.console().log().display());
            }
        }
        Ok(())
    }

    /// Asks the router by its control port to power off.
    pub(crate) fn request_power_off(&mut self) -> Result<()> {
        let port = self.router.port(CONTROL_PORT)?;
        port.set_read_timeout(Some(Duration::from_secs(10)))?;
        writeln!(&port, "{}", json!({ "version": 1, "request": "power-off" }))?;
        let mut reply = String::new();
        BufReader::new(&port).read_line(&mut reply).context("the router does not answer on its control port")?;
        let reply: serde_json::Value = serde_json::from_str(&reply).context("the router's answer is no JSON")?;
        if reply["reply"] != "accepted" {
            bail!("the router refuses to power off: {reply}");
        }
        Ok(())
    }

    /// Waits until the router has powered off, then ends the client.
    pub(crate) fn end(&mut self) -> Result<()> {
        let status = self.router.wait(Instant::now() + POWER_OFF)?;
        if !status.success() {
            bail!("QEMU ended with {status}");
        }
        self.read_reports();
        writeln!(self.client_port, "power-off").context("the client is gone already")?;
        self.client.wait(Instant::now() + POWER_OFF).map(drop)
    }

    /// Whether the client has got a page.
    pub(crate) fn client_has_succeeded(&self) -> bool {
        self.history.has_succeeded()
    }

    /// Prints what happened.
    pub(crate) fn summary(&self) {
        println!("\n{}", self.history.summary());
        println!(
            "The demo ran for {:.0} s. Consoles: {}",
            self.began.elapsed().as_secs_f64(),
            self.artefacts.display()
        );
    }
}

/// Passes on what the client says. A line that cannot be read is cut by its start or end, and another one follows.
fn listen(port: UnixStream, reports: &Sender<Report>) {
    for line in BufReader::new(port).lines() {
        let Ok(line) = line else { return };
        if let Ok(report) = serde_json::from_str(&line)
            && reports.send(report).is_err()
        {
            return;
        }
    }
}

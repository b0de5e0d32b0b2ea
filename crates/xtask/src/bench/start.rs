//! How long a start takes, from the kernel's first moment to the first advertisement, beside an init that does nothing.
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use sixgate_qemu::{Boot, Bus, CONTROL_PORT, Firmware, Hardware, Link, Machine, Model, Nic, Running, cable};

use super::series::Series;
use super::start_report as report;
use crate::command::run as run_command;
use crate::image::Built;
use crate::{image, setup};

/// What the benchmark can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often each start is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Only print: leave the document as it is.
    #[arg(long)]
    dry: bool,
    /// Only the starts whose title contains this word; nothing is written then.
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// Measure what was built last.
    #[arg(long)]
    as_built: bool,
}

/// How long a machine may take, whatever else runs.
const PATIENCE: Duration = Duration::from_secs(120);

const CONFIG: &str = "hostname = \"start\"

[wan]
mac = \"52:54:00:64:00:01\"
ipv4 = { address = \"192.0.2.2/24\", gateway = \"192.0.2.1\" }
ipv6 = { address = \"2001:db8::2/64\", gateway = \"fe80::1\" }

[[lan]]
name = \"vms\"
mac = \"52:54:00:64:00:02\"
addresses = [\"2001:db8:1::1/64\"]

[dns64]
upstream = [\"192.0.2.53\"]

[nat64]
prefix = \"64:ff9b::/96\"
";

/// What is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Kernel and an init that only tells the time, loaded by QEMU.
    Empty,
    /// The same on the machine that has the disk.
    EmptyBesideDisk,
    /// Kernel and router, which is given its configuration, an entropy source beside.
    Direct,
    /// The disk as it is built, without an entropy source.
    First,
    /// The same disk once more.
    Second,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Empty, Self::Direct, Self::EmptyBesideDisk, Self::First, Self::Second];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Empty => "an init that does nothing, kernel loaded by QEMU",
            Self::EmptyBesideDisk => "an init that does nothing, on the machine with the disk",
            Self::Direct => "kernel loaded by QEMU, with an entropy source",
            Self::First => "first start of a new disk, SeaBIOS, no entropy source",
            Self::Second => "second start of that disk",
        }
    }

    /// What it is compared with.
    pub(super) const fn empty(self) -> Self {
        match self {
            Self::Empty | Self::Direct => Self::Empty,
            Self::EmptyBesideDisk | Self::First | Self::Second => Self::EmptyBesideDisk,
        }
    }
}

/// What one kind of start showed: seconds from the kernel's first moment to each point, in the order in which they came.
#[derive(Default)]
pub(super) struct Track {
    pub(super) points: Vec<(String, Series)>,
    /// Seconds of each start without those in which nothing but duplicate address detection was waited for, and those.
    pub(super) own: Series,
    pub(super) waited: Series,
}

impl Track {
    fn push(&mut self, timeline: &[(String, f64)]) {
        for (name, seconds) in timeline {
            match self.points.iter_mut().find(|(known, _)| known == name) {
                Some((_, series)) => series.push(*seconds),
                None => self.points.push((name.clone(), Series::new(vec![*seconds]))),
            }
        }
        if let Some((own, waited)) = report::without_detection(timeline) {
            self.own.push(own);
            self.waited.push(waited);
        }
    }

    pub(super) fn point(&self, name: &str) -> Option<&Series> {
        self.points.iter().find(|(known, _)| known == name).map(|(_, series)| series)
    }
}

/// Measures, prints and writes.
pub(super) fn run(options: &Options) -> Result<()> {
    setup::ensure(setup::Purpose::Run)?;
    if !options.as_built {
        image::build_disk()?;
        image::build_client()?;
    }
    let built = image::as_built()?;
    let surroundings = report::Surroundings::look(options.rounds);
    let folder = std::env::temp_dir().join(format!("sixgate-start-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let wanted = |kind: Kind| options.only.as_ref().is_none_or(|word| kind.title().contains(word.as_str()));
    let mut tracks: Vec<(Kind, Track)> =
        Kind::ALL.into_iter().filter(|kind| wanted(*kind)).map(|kind| (kind, Track::default())).collect();
    for round in 1..=options.rounds {
        for (kind, track) in &mut tracks {
            let timeline = start(*kind, &built, &folder).with_context(|| format!("{}, round {round}", kind.title()))?;
            println!("{round}  {:<56} {}", kind.title(), report::line(&timeline));
            track.push(&timeline);
        }
    }
    fs::remove_dir_all(&folder)?;
    report::publish(&tracks, &surroundings, options.dry || options.only.is_some())
}

fn start(kind: Kind, built: &Built, folder: &Path) -> Result<Vec<(String, f64)>> {
    let own = folder.join("disk.raw");
    let machine = match kind {
        Kind::Empty => Machine::new("start", &built.client).append("client.only=clock"),
        Kind::EmptyBesideDisk => {
            copy(&built.raw, &own)?;
            let boot = Boot { kernel: built.packed_kernel.clone(), initrd: built.client.initrd.clone() };
            Machine::from_disk("start", &own, hardware()).load(&boot).append("client.only=clock")
        }
        Kind::Direct => Machine::new("start", &built.router).config(CONFIG),
        Kind::First => {
            copy(&built.raw, &own)?;
            Machine::from_disk("start", &own, hardware())
        }
        Kind::Second => Machine::from_disk("start", &own, hardware()),
    };
    let (wan, _wan_end) = cable()?;
    let (lan, lan_end) = cable()?;
    let mac = |last| [0x52, 0x54, 0, 0x64, 0, last];
    // As the loader has it: the kernel's words on the serial line take time.
    let machine = machine.append("loglevel=4").artefacts(folder).port(CONTROL_PORT).model(Model::Virtio);
    let mut running = machine.nic(Nic { mac: mac(1), link: wan }).nic(Nic { mac: mac(2), link: lan }).start()?;
    let deadline = Instant::now() + PATIENCE;
    if kind == kind.empty() {
        running.console().wait_for(" s\r\n", deadline)?;
        let text = running.console().text();
        let seconds = text.split("here after ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        running.wait(deadline)?;
        return Ok(vec![("init".to_owned(), seconds.context("the client did not tell the time")?)]);
    }

    // Nothing is asked of the machine before it is done.
    let Link::Cable(lan_end) = lan_end else { bail!("a cable has two ends") };
    await_advertisement(&lan_end, deadline)?;
    let timeline = ask(&mut running, deadline)?;
    running.power_button()?;
    running.wait(deadline)?;
    Ok(timeline)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    run_command(Command::new("cp").arg("--sparse=always").arg(from).arg(to))
}

/// As Proxmox makes it unless told otherwise, but with the oldest processor.
fn hardware() -> Hardware {
    Hardware { firmware: Firmware::SeaBios, bus: Bus::VirtioScsiSingle, ..Hardware::default() }
}

/// Waits for the first router advertisement.
fn await_advertisement(cable: &OwnedFd, deadline: Instant) -> Result<()> {
    let mut frame = [0; 2048];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: i64::try_from(left.as_secs())?, tv_nsec: i64::from(left.subsec_nanos()) };
        if poll(&mut [PollFd::new(cable, PollFlags::IN)], Some(&left))? == 0 {
            bail!("no advertisement came");
        }
        let length = rustix::io::read(cable, &mut frame)?;
        if is_advertisement(&frame[..length]) {
            return Ok(());
        }
    }
}

/// Ethernet, IPv6, ICMPv6 type 134.
fn is_advertisement(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(20) == Some(&58) && frame.get(54) == Some(&134)
}

/// The timeline, once it is complete.
fn ask(running: &mut Running, deadline: Instant) -> Result<Vec<(String, f64)>> {
    let port = running.port(CONTROL_PORT)?;
    port.set_read_timeout(Some(PATIENCE))?;
    loop {
        writeln!(&port, "{}", serde_json::json!({ "version": 1, "request": "status" }))?;
        let mut line = String::new();
        BufReader::new(&port).read_line(&mut line)?;
        let reply: Value = serde_json::from_str(&line).with_context(|| format!("the control port said {line:?}"))?;
        let points = reply["status"]["appliance"]["timeline"].as_array().cloned().unwrap_or_default();
        let timeline: Vec<(String, f64)> = points
            .iter()
            .filter_map(|point| Some((point["name"].as_str()?.to_owned(), point["seconds"].as_f64()?)))
            .collect();
        if timeline.iter().any(|(name, _)| name == report::LAST) {
            return Ok(timeline);
        }
        if Instant::now() >= deadline {
            bail!("the timeline is not complete: {}", report::line(&timeline));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

//! The world of one scenario: namespaces, Ethernet segments between them, captures, and a folder for artefacts.
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tun::Layer;

use crate::namespace::Namespace;
use crate::program::{self, Daemon};

/// Every namespace of the lab is called `sg-PROCESS-WORLD-ROLE`.
const PREFIX: &str = "sg";
/// Where the BPF file system is mounted below the folder for sockets.
const BPFFS: &str = "bpf";

/// Two bridges in a namespace of their own, and a folder below `target/lab` for what a failure leaves.
///
/// Fields are dropped in order: captures end before the segments that they listen on.
#[derive(Debug)]
pub struct World {
    captures: Vec<Daemon>,
    switch: Namespace,
    prefix: String,
    folder: PathBuf,
    runtime: PathBuf,
}

/// An Ethernet segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Between the router and the Internet.
    Wan,
    /// Between the router and its clients.
    Lan,
}

impl Segment {
    /// Name of the segment's bridge in the switch namespace.
    pub const fn bridge(self) -> &'static str {
        match self {
            Self::Wan => "wan",
            Self::Lan => "lan",
        }
    }
}

impl World {
    /// Makes the segments. `name` becomes the folder `target/lab/NAME`.
    pub fn create(name: &str) -> Result<Self> {
        static WORLDS: AtomicU32 = AtomicU32::new(1);
        let prefix = format!("{PREFIX}-{}-{}", process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let folder = target_folder().join("lab").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        // A path of a Unix socket has at most 107 bytes, so sockets cannot live below the target folder.
        let runtime = PathBuf::from("/run").join(&prefix);
        fs::create_dir_all(&runtime).with_context(|| runtime.display().to_string())?;

        // What is pinned there goes with the world. `ip netns exec` hides the usual place behind a /sys of its own.
        let bpffs = runtime.join(BPFFS);
        fs::create_dir_all(&bpffs)?;
        program::tool(&format!("mount -t bpf bpf {}", bpffs.display()))?;

        let switch = Namespace::create(&format!("{prefix}-switch"))?;
        // A switch has no addresses and no opinion about multicast.
        switch.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        for segment in [Segment::Wan, Segment::Lan] {
            let bridge = segment.bridge();
            switch.ip(&format!("link add {bridge} type bridge stp_state 0 mcast_snooping 0"))?;
            switch.ip(&format!("link set {bridge} up"))?;
        }
        Ok(Self { captures: Vec::new(), switch, prefix, folder, runtime })
    }

    /// Folder of this scenario's artefacts.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Folder for sockets; it goes with the world.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// A BPF file system; it goes with the world.
    pub fn bpffs(&self) -> PathBuf {
        self.runtime.join(BPFFS)
    }

    /// The namespace that holds the segments; a QEMU machine's TAP devices live there.
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// Makes a host without any link but `lo`.
    pub fn host(&self, role: &str) -> Result<Namespace> {
        Namespace::create(&format!("{}-{role}", self.prefix))
    }

    /// Plugs a host's new interface into a segment. The interface is left down, for its owner to bring up.
    pub fn plug(&self, host: &Namespace, link: &str, mac: &str, segment: Segment) -> Result<()> {
        let role = host.name().rsplit('-').next().unwrap_or_default();
        let port = format!("{role}-{link}");
        self.switch.ip(&format!("link add {port} type veth peer name {link} address {mac} netns {}", host.name()))?;
        self.admit(&port, segment)
    }

    /// Makes a link of the switch namespace a port of a segment.
    pub fn admit(&self, port: &str, segment: Segment) -> Result<()> {
        self.switch.ip(&format!("link set {port} master {} up", segment.bridge())).map(drop)
    }

    /// Opens a TAP device that is a port of a segment. A machine outside holds the descriptor; the device goes with it.
    pub fn tap(&self, port: &str, segment: Segment) -> Result<OwnedFd> {
        let device = self.switch.inside(|| {
            let mut config = tun::Configuration::default();
            config.layer(Layer::L2).tun_name(port);
            tun::create(&config)
        });
        let device = device.with_context(|| format!("the TAP device {port}"))?;
        // The `tun` crate hands out a number only; the kernel turns it into a descriptor of our own.
        let this = pidfd_open(getpid(), PidfdFlags::empty())?;
        let descriptor = pidfd_getfd(this, device.as_raw_fd(), PidfdGetfdFlags::empty());
        let descriptor = descriptor.context("a descriptor of this process")?;
        self.admit(port, segment)?;
        Ok(descriptor)
    }

    /// A cable between two hosts, with both ends up.
    pub fn cable(&self, (left, left_link): (&Namespace, &str), (right, right_link): (&Namespace, &str)) -> Result<()> {
        let peer = format!("peer name {right_link} netns {}", right.name());
        left.ip(&format!("link add {left_link} type veth {peer}"))?;
        left.ip(&format!("link set {left_link} up"))?;
        right.ip(&format!("link set {right_link} up")).map(drop)
    }

    /// Records a segment's packets in `SEGMENT.pcap`.
    pub fn capture(&mut self, segment: Segment) -> Result<()> {
        let file = self.folder.join(format!("{}.pcap", segment.bridge()));
        let line = format!("tcpdump -U -s 256 -i {} -w {}", segment.bridge(), file.display());
        let log = self.folder.join("tcpdump.log");
        self.captures.push(Daemon::start(self.switch.command_line(&line), &log)?);
        Ok(())
    }

    /// Removes what runs of the lab left behind that were killed: their process ids are in the names.
    pub fn sweep() -> Result<()> {
        for line in fs::read_to_string("/proc/mounts")?.lines() {
            let Some(folder) = line.split(' ').nth(1).filter(|folder| folder.ends_with(BPFFS)) else { continue };
            let mut parts = folder.trim_start_matches("/run/").split('-');
            if let (Some(PREFIX), Some(process)) = (parts.next(), parts.next())
                && !Path::new("/proc").join(process).exists()
            {
                program::tool(&format!("umount {folder}"))?;
            }
        }
        for line in program::tool("ip netns list")?.lines() {
            let Some(name) = line.split_whitespace().next() else { continue };
            let mut parts = name.split('-');
            let (Some(PREFIX), Some(process)) = (parts.next(), parts.next()) else { continue };
            if process.parse::<u32>().is_err() || Path::new("/proc").join(process).exists() {
                continue;
            }
            for pid in program::tool(&format!("ip netns pids {name}"))?.split_whitespace() {
                program::tool(&format!("kill -KILL {pid}"))?;
            }
            program::tool(&format!("ip netns delete {name}"))?;
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.captures.clear();
        let _ = program::tool(&format!("umount {}", self.bpffs().display()));
        let _ = fs::remove_dir_all(&self.runtime);
    }
}

/// The workspace's target folder.
pub fn target_folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}

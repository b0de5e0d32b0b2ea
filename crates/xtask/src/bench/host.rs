//! A host of a benchmark: a network namespace, and programs that run inside and end with it.
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::output;

/// A network namespace, removed when dropped.
pub(super) struct Host {
    name: String,
}

impl Host {
    /// Makes one; the name carries this process's number, so that nothing else is touched.
    pub(super) fn create(track: &str, role: &str) -> Result<Self> {
        let this = Self { name: format!("sgbench-{}-{track}-{role}", std::process::id()) };
        output(Command::new("ip").args(["netns", "add", &this.name]))?;
        this.ip("link set lo up")?;
        Ok(this)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` inside; words are separated by blanks.
    pub(super) fn ip(&self, arguments: &str) -> Result<String> {
        output(Command::new("ip").args(["-netns", &self.name]).args(arguments.split_whitespace()))
    }

    /// A command that runs inside.
    pub(super) fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(words);
        command
    }

    /// Runs a program inside to its end, which it has to reach in that time, and gives what it printed.
    pub(super) fn run(&self, seconds: u64, line: &str) -> Result<String> {
        let seconds = seconds.to_string();
        let words = ["timeout", "--kill-after=1", &seconds].into_iter().chain(line.split_whitespace());
        output(&mut self.command(words))
    }

    pub(super) fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        self.write(&format!("/proc/sys/{path}"), value)
    }

    /// Writes to a file that shows the namespace.
    pub(super) fn write(&self, path: &str, value: &str) -> Result<()> {
        output(&mut self.command(["sh", "-c", &format!("echo {value} > {path}")])).map(drop)
    }

    /// Packets that a link has received.
    pub(super) fn received(&self, link: &str) -> Result<u64> {
        let text = self.run(5, &format!("cat /sys/class/net/{link}/statistics/rx_packets"))?;
        text.trim().parse().with_context(|| format!("{text:?} packets"))
    }

    /// A link's hardware address.
    pub(super) fn mac(&self, link: &str) -> Result<String> {
        Ok(self.run(5, &format!("cat /sys/class/net/{link}/address"))?.trim().to_owned())
    }

    /// Starts a program that runs on; what it says goes to a file.
    pub(super) fn start(&self, line: &str, log: &Path) -> Result<Program> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        let mut command = self.command(line.split_whitespace());
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Program(command.spawn().with_context(|| format!("cannot start `{line}`"))?))
    }

    /// Waits until an address answers a ping.
    pub(super) fn await_answer(&self, address: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.run(3, &format!("ping -n -c 1 -W 1 {address}")).is_err() {
            if Instant::now() > deadline {
                bail!("{address} does not answer {} within 30 s", self.name);
            }
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = output(Command::new("ip").args(["netns", "delete", &self.name]));
    }
}

/// A running program, ended when dropped. `ip netns exec` becomes the program, so that its number is the child's.
pub(super) struct Program(Child);

impl Program {
    /// Lets its threads run on these processors only; `taskset` words.
    pub(super) fn keep_to(&self, processors: &str) -> Result<()> {
        let number = self.0.id().to_string();
        output(Command::new("taskset").args(["--all-tasks", "--cpu-list", "--pid", processors, &number])).map(drop)
    }

    /// Processor time of all its threads so far.
    pub(super) fn processor_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += text.split_whitespace().next().map_or(Ok(0), str::parse::<u64>)?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Bytes of memory that it takes.
    pub(super) fn resident(&self) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes: f64 = line.and_then(|rest| rest.trim().strip_suffix(" kB")).context("VmRSS")?.parse()?;
        Ok(kibibytes * 1024.0)
    }
}

impl Program {
    /// Bytes of memory that its eBPF maps take.
    pub(super) fn maps(&self) -> Result<f64> {
        let mut bytes = 0.0;
        for file in std::fs::read_dir(format!("/proc/{}/fdinfo", self.0.id()))? {
            // Files come and go.
            let text = std::fs::read_to_string(file?.path()).unwrap_or_default();
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            if field("map_type:").is_some() {
                bytes += field("memlock:").unwrap_or_default();
            }
        }
        Ok(bytes)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A veth link between two hosts, up on both sides.
pub(super) fn cable((left, left_link): (&Host, &str), (right, right_link): (&Host, &str)) -> Result<()> {
    let peer = format!("peer name {right_link} netns {}", right.name());
    left.ip(&format!("link add {left_link} type veth {peer}"))?;
    left.ip(&format!("link set {left_link} up"))?;
    right.ip(&format!("link set {right_link} up")).map(drop)
}

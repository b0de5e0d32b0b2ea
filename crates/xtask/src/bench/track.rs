//! One contestant between a client and a server, in namespaces of its own.
//!
//! ```text
//! client ──── veth ──── router ──── veth ──── server
//! IPv6 only             contestant            IPv4 (IPv6 for plain forwarding)
//! generator ─ TAP ─────────┘
//! ```
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::generator::Sent;
use super::host::{Host, Program, cable};

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contestant {
    /// The kernel, IPv6 to IPv6, without a firewall.
    Kernel,
    /// The binary under test, with its firewall.
    Sixgate,
    /// Debian's Tayga, without a firewall.
    Tayga,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Bits a second of so many TCP connections, from the client or to it.
    Tcp { streams: u32, towards_client: bool },
    /// Small datagrams a second that arrive at the server.
    Udp,
}

impl Contestant {
    pub(super) const ALL: [Self; 3] = [Self::Kernel, Self::Sixgate, Self::Tayga];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Sixgate => "sixgate",
            Self::Tayga => "tayga",
        }
    }

    /// Where the client finds the server.
    const fn server(self) -> &'static str {
        match self {
            Self::Kernel => "2001:db8:2::1",
            Self::Sixgate | Self::Tayga => "2001:db8:64::203.0.113.1",
        }
    }

    /// An address that the server drops without a word.
    const fn sink(self) -> &'static str {
        match self {
            Self::Kernel => "2001:db8:3::dead",
            Self::Sixgate | Self::Tayga => "2001:db8:64::198.51.100.200",
        }
    }
}

/// What one measurement gave, per second.
pub(super) struct Measured {
    /// Bits or packets that arrived.
    pub(super) rate: f64,
    /// Packets that the generator offered; zero where there was none.
    pub(super) offered: f64,
    /// Packets that arrived for each second of the translator's own processor time; zero where there is none.
    pub(super) of_processor: f64,
    /// Packets that arrived for each second that any processor was busy, with whatever it was.
    pub(super) of_machine: f64,
}

/// Fields are dropped in order: programs end before their hosts.
pub(super) struct Track {
    pub(super) contestant: Contestant,
    /// The translator, if it is a program.
    translator: Option<Program>,
    _receiver: Program,
    client: Host,
    server: Host,
    router: Host,
}

impl Track {
    /// Builds it and waits until the client reaches the server.
    pub(super) fn build(contestant: Contestant, sixgate: &Path, folder: &Path) -> Result<Self> {
        let host = |role| Host::create(contestant.name(), role);
        let (client, router, server) = (host("client")?, host("router")?, host("server")?);
        cable((&client, "eth0"), (&router, "eth1"))?;
        cable((&router, "eth0"), (&server, "eth0"))?;
        client.ip(&format!("address add {CLIENT}/64 dev eth0 nodad"))?;
        client.ip("route add default via 2001:db8:1::1")?;
        server.ip("address add 203.0.113.1/24 dev eth0")?;
        server.ip("address add 2001:db8:2::1/64 dev eth0 nodad")?;
        server.ip("route add default via 2001:db8:2::2")?;
        router.ip("tuntap add eth2 mode tap")?;
        router.ip("link set eth2 up")?;
        let log = |name: &str| folder.join(format!("{}-{name}.log", contestant.name()));
        let receiver = server.start("iperf3 --server", &log("server"))?;
        let translator = match contestant {
            Contestant::Kernel => {
                forward(&router)?;
                None
            }
            Contestant::Sixgate => {
                let (config, control) = (folder.join("sixgate.toml"), folder.join("control.sock"));
                fs::write(&config, SIXGATE).with_context(|| config.display().to_string())?;
                let (binary, config, control) = (sixgate.display(), config.display(), control.display());
                let line = format!("{binary} run --config {config} --control {control}");
                Some(router.start(&line, &log("router"))?)
            }
            Contestant::Tayga => {
                forward(&router)?;
                let config = folder.join("tayga.conf");
                fs::write(&config, TAYGA).with_context(|| config.display().to_string())?;
                let config = config.display();
                router.run(10, &format!("tayga --mktun --config {config}"))?;
                router.ip("link set nat64 up")?;
                router.ip("route add 192.0.2.0/24 dev nat64")?;
                router.ip("route add 2001:db8:64::/96 dev nat64")?;
                server.ip("route add 192.0.2.0/24 via 203.0.113.2")?;
                Some(router.start(&format!("tayga --nodetach --config {config}"), &log("router"))?)
            }
        };
        sink(&router)?;
        client.await_answer(contestant.server()).with_context(|| format!("{} does not forward", contestant.name()))?;
        Ok(Self { contestant, translator, _receiver: receiver, client, server, router })
    }

    fn processor_time(&self) -> Result<Duration> {
        self.translator.as_ref().map_or(Ok(Duration::ZERO), Program::processor_time)
    }

    fn keep_to(&self, processors: &str) -> Result<()> {
        self.translator.as_ref().map_or(Ok(()), |translator| translator.keep_to(processors))
    }

    /// Measures once.
    pub(super) fn measure(&self, measure: Measure, seconds: u32) -> Result<Measured> {
        match measure {
            Measure::Tcp { streams, towards_client } => {
                let reverse = if towards_client { "--reverse" } else { "" };
                let target = self.contestant.server();
                let line = format!("iperf3 --json --client {target} --time {seconds} --parallel {streams} {reverse}");
                let text = self.client.run(u64::from(seconds) + 15, &line)?;
                let result: Value = serde_json::from_str(&text).context("iperf3's JSON")?;
                let rate = result["end"]["sum_received"]["bits_per_second"].as_f64();
                let rate = rate.with_context(|| format!("iperf3: {}", result["error"]))?;
                Ok(Measured { rate, offered: 0.0, of_processor: 0.0, of_machine: 0.0 })
            }
            Measure::Udp => {
                let myself = std::env::current_exe().context("this program")?;
                let (sink, mac) = (self.contestant.sink(), self.router.mac("eth2")?);
                // Everything else on one processor would leave the generator's share to chance.
                let generator = format!("taskset --cpu-list 0 {}", myself.display());
                let line = format!("{generator} bench generate eth2 {mac} {GENERATOR} {sink} {seconds}");
                self.keep_to("1")?;
                let busy = busy()?;
                let begin = self.processor_time()?;
                let before = self.server.received("eth0")?;
                let sent: Sent = serde_json::from_str(&self.router.run(u64::from(seconds) + 15, &line)?)?;
                let arrived = self.server.received("eth0")? - before;
                let spent = (self.processor_time()? - begin).as_secs_f64();
                let busy = (self::busy()? - busy).as_secs_f64();
                self.keep_to(&format!("0-{}", std::thread::available_parallelism()?.get() - 1))?;
                Ok(Measured {
                    rate: arrived as f64 / sent.seconds,
                    offered: sent.packets as f64 / sent.seconds,
                    of_processor: if spent > 0.0 { arrived as f64 / spent } else { 0.0 },
                    of_machine: if busy > 0.0 { arrived as f64 / busy } else { 0.0 },
                })
            }
        }
    }
}

/// What is sent to the sink is addressed to nobody on the server's link: it arrives there, and is dropped before it costs those
/// more who forward on the processor that the server happens to share.
fn sink(router: &Host) -> Result<()> {
    // A translator that is a router itself sets its own addresses; they are waited for.
    let deadline = Instant::now() + Duration::from_secs(30);
    while !router.ip("address show dev eth0")?.contains("203.0.113.2/24") {
        if Instant::now() > deadline {
            bail!("the router has no address on its uplink");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    router.ip("neighbor replace 203.0.113.9 lladdr 02:00:00:00:de:ad nud permanent dev eth0")?;
    router.ip("route add 198.51.100.200/32 via 203.0.113.9 dev eth0")?;
    router.ip("-6 neighbor replace fe80::9 lladdr 02:00:00:00:de:ad nud permanent dev eth0")?;
    router.ip("route add 2001:db8:3::dead/128 via fe80::9 dev eth0").map(drop)
}

/// Time that all processors together have been busy.
fn busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("no line in /proc/stat")?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    // user, nice, system, then idle and iowait, then irq and softirq, in hundredths of a second.
    let busy = ticks.iter().take(3).chain(ticks.iter().skip(5).take(2)).sum::<u64>();
    Ok(Duration::from_millis(busy * 10))
}

/// The kernel's own forwarding between the two links.
fn forward(router: &Host) -> Result<()> {
    router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    router.sysctl("net/ipv4/conf/all/forwarding", "1")?;
    router.ip("address add 2001:db8:1::1/64 dev eth1 nodad")?;
    router.ip("address add 2001:db8:4::1/64 dev eth2 nodad")?;
    router.ip("address add 2001:db8:2::2/64 dev eth0 nodad")?;
    router.ip("address add 203.0.113.2/24 dev eth0")?;
    router.ip("route add default via 203.0.113.1")?;
    router.ip("route add default via 2001:db8:2::1").map(drop)
}

/// The generator's address, on a link of its own.
const GENERATOR: &str = "2001:db8:4::2";

/// The client's address.
const CLIENT: &str = "2001:db8:1::2";

const SIXGATE: &str = r#"hostname = "bench"

[wan]
interface = "eth0"
ipv4 = { address = "203.0.113.2/24", gateway = "203.0.113.1" }

[[lan]]
name = "lan"
interface = "eth1"
addresses = ["2001:db8:1::1/64"]

[[lan]]
name = "generator"
interface = "eth2"
addresses = ["2001:db8:4::1/64"]

[dns64]
enabled = false

[nat64]
fast_path = false
prefix = "2001:db8:64::/96"
translate_non_global = ["203.0.113.0/24", "198.51.100.0/24"]
"#;

const TAYGA: &str = "tun-device nat64
ipv4-addr 192.0.2.1
ipv6-addr 2001:db8:1:ffff::1
prefix 2001:db8:64::/96
map 192.0.2.77 2001:db8:1::2
map 192.0.2.78 2001:db8:4::2
";

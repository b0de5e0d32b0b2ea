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

use super::generator::{GENERATOR_MAC, Sent};
use super::host::{Host, Program, cable};
use super::responder::RoundTrips;
use super::soak::Soak;

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contestant {
    /// The kernel, IPv6 to IPv6, without a firewall.
    Kernel,
    /// The kernel, IPv4 to IPv4, masquerading.
    Nat44,
    /// The binary under test, with its firewall and its fast path.
    Fast,
    /// The same without the fast path.
    Slow,
    /// Debian's Tayga, without a firewall.
    Tayga,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Bits a second of so many TCP connections, from the client or to it.
    Tcp { streams: u32, towards_client: bool },
    /// Small datagrams a second that arrive at the server; nobody answers them.
    Udp,
    /// Processor time of the router for a small datagram of so many established flows.
    Cost { flows: usize },
    /// From a question of the client until the server's answer.
    RoundTrip,
}

impl Contestant {
    pub(super) const ALL: [Self; 5] = [Self::Kernel, Self::Nat44, Self::Fast, Self::Slow, Self::Tayga];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Nat44 => "nat44",
            Self::Fast => "fast",
            Self::Slow => "slow",
            Self::Tayga => "tayga",
        }
    }

    /// As ratios call it.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Nat44 => "NAT44",
            Self::Fast => "fast path",
            Self::Slow => "userspace",
            Self::Tayga => "Tayga",
        }
    }

    /// Whether it takes part: datagrams that nobody answers never reach the fast path, and translators outside of the kernel
    /// starve on a processor that receives more than it can.
    pub(super) const fn enters(self, measure: Measure) -> bool {
        match measure {
            Measure::Tcp { .. } | Measure::RoundTrip => true,
            Measure::Udp => !matches!(self, Self::Nat44 | Self::Fast),
            Measure::Cost { .. } => !matches!(self, Self::Slow | Self::Tayga),
        }
    }

    /// Where the client finds the server.
    const fn server(self) -> &'static str {
        match self {
            Self::Kernel => "2001:db8:2::1",
            Self::Nat44 => "203.0.113.1",
            Self::Fast | Self::Slow | Self::Tayga => "2001:db8:64::203.0.113.1",
        }
    }

    /// An address behind a next hop of its own: the server, or nobody.
    const fn sink(self) -> &'static str {
        match self {
            Self::Kernel => "2001:db8:3::dead",
            Self::Nat44 => "198.51.100.200",
            Self::Fast | Self::Slow | Self::Tayga => "2001:db8:64::198.51.100.200",
        }
    }

    const fn generator(self) -> &'static str {
        if matches!(self, Self::Nat44) { GENERATOR_V4 } else { GENERATOR }
    }
}

/// What one measurement gave.
#[derive(Clone, Copy, Default)]
pub(super) struct Measured {
    /// Bits or packets a second that arrived, nanoseconds a packet, or the median's nanoseconds.
    pub(super) value: f64,
    /// Packets a second that the generator offered.
    pub(super) offered: f64,
    /// Packets a second that arrived.
    pub(super) arrived: f64,
    /// Packets that arrived for each second of the translator's own processor time.
    pub(super) of_processor: f64,
    /// Packets that arrived for each second that any processor was busy, with whatever it was.
    pub(super) of_machine: f64,
    /// The 99th percentile's nanoseconds.
    pub(super) late: f64,
}

/// The fast path's program by itself.
#[derive(Clone, Copy)]
pub(super) struct ProgramRun {
    /// Nanoseconds that a run took.
    pub(super) nanoseconds: f64,
    /// Processor time of the router for a packet.
    pub(super) cost: f64,
    /// Bytes that the maps take.
    pub(super) memory: f64,
    /// BPF instructions, and the bytes that they are compiled to.
    pub(super) size: [u64; 2],
}

/// Fields are dropped in order: programs end before their hosts.
pub(super) struct Track {
    pub(super) contestant: Contestant,
    /// The translator, if it is a program.
    translator: Option<Program>,
    _servers: [Program; 2],
    /// Asks sixgate for its status.
    status: String,
    client: Host,
    server: Host,
    router: Host,
}

impl Track {
    /// Builds it and waits until the client reaches the server. Two of the same contestant need names.
    pub(super) fn build(contestant: Contestant, name: &str, sixgate: &Path, folder: &Path) -> Result<Self> {
        let host = |role| Host::create(name, role);
        let (client, router, server) = (host("client")?, host("router")?, host("server")?);
        cable((&client, "eth0"), (&router, "eth1"))?;
        cable((&router, "eth0"), (&server, "eth0"))?;
        client.ip(&format!("address add {CLIENT}/64 dev eth0 nodad"))?;
        client.ip("route add default via 2001:db8:1::1")?;
        if contestant == Contestant::Nat44 {
            client.ip("address add 192.0.2.2/25 dev eth0")?;
            client.ip("route add default via 192.0.2.1")?;
        }
        for address in SERVERS {
            server
                .ip(&format!("address add {address} dev eth0 {}", if address.contains(':') { "nodad" } else { "" }))?;
        }
        server.ip("route add default via 2001:db8:2::2")?;
        router.ip("tuntap add eth2 mode tap")?;
        router.ip("link set eth2 up")?;
        let log = |role: &str| folder.join(format!("{name}-{role}.log"));
        let addresses = SERVERS.map(|address| address.split('/').next().unwrap_or_default()).join(" ");
        let servers = [
            server.start("iperf3 --server", &log("server"))?,
            server.start(&format!("{} bench respond {addresses}", myself()?), &log("responder"))?,
        ];
        let control = folder.join(format!("{name}.sock"));
        let translator = match contestant {
            Contestant::Kernel => {
                forward(&router)?;
                None
            }
            Contestant::Nat44 => {
                forward(&router)?;
                router.ip("address add 192.0.2.1/25 dev eth1")?;
                router.ip("address add 192.0.2.129/25 dev eth2")?;
                router.run(10, &format!("nft {MASQUERADE}"))?;
                None
            }
            Contestant::Fast | Contestant::Slow => {
                let config = folder.join(format!("{name}.toml"));
                let text = SIXGATE.replace("FAST_PATH", &(contestant == Contestant::Fast).to_string());
                let text = text.replace("MEMORY", if name == MANY { "600" } else { "32" });
                fs::write(&config, text).with_context(|| config.display().to_string())?;
                let (binary, config, control) = (sixgate.display(), config.display(), control.display());
                // No contestant begins with the sessions of another one, or of an earlier run.
                let state = folder.join(format!("{name}.state"));
                let _ = fs::remove_dir_all(&state);
                fs::create_dir_all(&state).with_context(|| state.display().to_string())?;
                let line = format!("{binary} run --config {config} --control {control} --state {}", state.display());
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
        let status = format!("{} status --json --control {}", sixgate.display(), control.display());
        let this = Self { contestant, translator, _servers: servers, status, client, server, router };
        this.prepare_sink()?;
        let reached = this.client.await_answer(contestant.server());
        reached.with_context(|| format!("{name} does not forward"))?;
        Ok(this)
    }

    /// What is sent to the sink usually belongs to nobody on the server's link: it arrives there, and is dropped before it
    /// costs those more who forward on the processor that the server happens to share.
    fn prepare_sink(&self) -> Result<()> {
        let router = &self.router;
        // A translator that is a router itself sets its own addresses; they are waited for.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !router.ip("address show dev eth0")?.contains("203.0.113.2/24") {
            if Instant::now() > deadline {
                bail!("the router has no address on its uplink");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.lead_sink_to("02:00:00:00:de:ad")?;
        router.ip("route add 198.51.100.200/32 via 203.0.113.9 dev eth0")?;
        router.ip("route add 2001:db8:3::dead/128 via fe80::9 dev eth0")?;
        for address in [GENERATOR, GENERATOR_V4] {
            router.ip(&format!("neighbor replace {address} lladdr {GENERATOR_MAC} nud permanent dev eth2"))?;
        }
        Ok(())
    }

    fn lead_sink_to(&self, mac: &str) -> Result<()> {
        self.router.ip(&format!("neighbor replace 203.0.113.9 lladdr {mac} nud permanent dev eth0"))?;
        self.router.ip(&format!("neighbor replace fe80::9 lladdr {mac} nud permanent dev eth0")).map(drop)
    }

    fn processor_time(&self) -> Result<Duration> {
        self.translator.as_ref().map_or(Ok(Duration::ZERO), Program::processor_time)
    }

    /// The translator runs on these processors, and packets of the generator's link are received there: all, or the
    /// second.
    fn keep_to_second(&self, is_kept: bool) -> Result<()> {
        let all = format!("0-{}", std::thread::available_parallelism()?.get() - 1);
        let translator = self.translator.as_ref();
        translator.map_or(Ok(()), |translator| translator.keep_to(if is_kept { "1" } else { &all }))
    }

    /// Measures once.
    pub(super) fn measure(&self, measure: Measure, seconds: f64) -> Result<Measured> {
        match measure {
            Measure::Tcp { streams, towards_client } => {
                let reverse = if towards_client { "--reverse" } else { "" };
                let target = self.contestant.server();
                // Each on a processor of its own: where the scheduler puts both decides more than who forwards.
                let line = format!(
                    "iperf3 --json --affinity 0,1 --client {target} --time {seconds:.0} --parallel {streams} {reverse}"
                );
                let text = self.client.run(seconds as u64 + 15, &line)?;
                let result: Value = serde_json::from_str(&text).context("iperf3's JSON")?;
                let rate = result["end"]["sum_received"]["bits_per_second"].as_f64();
                let value = rate.with_context(|| format!("iperf3: {}", result["error"]))?;
                Ok(Measured { value, ..Measured::default() })
            }
            Measure::Udp => self.flood(1024, seconds),
            Measure::Cost { flows } => {
                self.establish(flows)?;
                // The generator's processor takes frames no further than to the other one's backlog.
                self.router.write("/sys/class/net/eth2/queues/rx-0/rps_cpus", "2")?;
                let before = self.translated()?;
                let measured = self.cost(flows, seconds);
                self.router.write("/sys/class/net/eth2/queues/rx-0/rps_cpus", "0")?;
                let measured = measured?;
                if self.contestant == Contestant::Fast {
                    let most = measured.arrived * seconds * 0.98;
                    self.await_status("the fast path's counter", |status| counted(status) - before > most)?;
                }
                Ok(measured)
            }
            Measure::RoundTrip => {
                let target = self.contestant.server();
                let line = format!("{} bench ask-back {target} {seconds}", myself()?);
                let times: RoundTrips = serde_json::from_str(&self.client.run(seconds as u64 + 15, &line)?)?;
                Ok(Measured { value: times.median, late: times.late, ..Measured::default() })
            }
        }
    }

    /// Sees what a flood leaves of the second processor.
    fn cost(&self, flows: usize, seconds: f64) -> Result<Measured> {
        let soak = Soak::start(1)?;
        // The middle counts, without the programs that begin and end it.
        let taken = || {
            std::thread::sleep(MARGIN / 2);
            let (begin, before) = (Instant::now(), soak.left());
            std::thread::sleep(Duration::from_secs_f64(seconds));
            let passed = begin.elapsed().as_secs_f64();
            1.0 - (soak.left() - before).as_secs_f64() / passed
        };
        std::thread::scope(|scope| {
            let taken = scope.spawn(taken);
            let measured = self.flood(flows, seconds + MARGIN.as_secs_f64())?;
            let taken = taken.join().map_err(|_| anyhow::anyhow!("the measuring thread panicked"))?;
            Ok(Measured { value: taken * 1e9 / measured.arrived.max(1.0), ..measured })
        })
    }

    /// Offers small datagrams as fast as the first processor can.
    fn flood(&self, flows: usize, seconds: f64) -> Result<Measured> {
        let line = self.generate(flows, &format!("--seconds {seconds}"))?;
        self.keep_to_second(true)?;
        let busy = busy()?;
        let begin = self.processor_time()?;
        let before = self.server.received("eth0")?;
        let sent: Sent = serde_json::from_str(&self.router.run(seconds as u64 + 60, &line)?)?;
        let arrived = (self.server.received("eth0")? - before) as f64;
        let spent = (self.processor_time()? - begin).as_secs_f64();
        let busy = (self::busy()? - busy).as_secs_f64();
        self.keep_to_second(false)?;
        Ok(Measured {
            value: arrived / sent.seconds,
            offered: sent.packets as f64 / sent.seconds,
            arrived: arrived / sent.seconds,
            of_processor: if spent > 0.0 { arrived / spent } else { 0.0 },
            of_machine: if busy > 0.0 { arrived / busy } else { 0.0 },
            late: 0.0,
        })
    }

    fn generate(&self, flows: usize, how: &str) -> Result<String> {
        let (mac, sink) = (self.router.mac("eth2")?, self.contestant.sink());
        let (source, myself) = (self.contestant.generator(), myself()?);
        // Everything else on one processor would leave the generator's share to chance.
        Ok(format!("taskset --cpu-list 0 {myself} bench generate eth2 {mac} {source} {sink} --flows {flows} {how}"))
    }

    /// Has the server answer so many flows until they are established wherever that counts.
    pub(super) fn establish(&self, flows: usize) -> Result<()> {
        let is_fast = self.contestant == Contestant::Fast;
        let held = || Ok::<_, anyhow::Error>(self.status()?["sessions"].as_u64().unwrap_or_default());
        if is_fast && held()? >= flows as u64 {
            return Ok(());
        }
        self.lead_sink_to(&self.server.mac("eth0")?)?;
        let deadline = Instant::now() + Duration::from_secs(120);
        let line = self.generate(flows, "--passes 3 --pace 60000")?;
        self.router.run(120, &line)?;
        while is_fast && held()? < flows as u64 {
            if Instant::now() > deadline {
                bail!("{} of {flows} sessions came into the fast path", held()?);
            }
            self.router.run(120, &self.generate(flows, "--passes 1 --pace 60000")?)?;
        }
        self.lead_sink_to("02:00:00:00:de:ad")
    }

    /// What sixgate says of its fast path.
    fn status(&self) -> Result<Value> {
        let status: Value = serde_json::from_str(&self.router.run(10, &self.status)?)?;
        Ok(status["nat64"]["fast_path"].clone())
    }

    fn await_status(&self, what: &str, is_right: impl Fn(&Value) -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let status = self.status()?;
            if is_right(&status) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{what}: {status}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn translated(&self) -> Result<f64> {
        if self.contestant == Contestant::Fast { Ok(counted(&self.status()?)) } else { Ok(0.0) }
    }

    /// What a run of the fast path's program takes with so many flows in turn, whatever else is in its maps.
    pub(super) fn run_program(&self, flows: usize, seconds: f64) -> Result<ProgramRun> {
        let cost = self.measure(Measure::Cost { flows }, seconds)?.value;
        let runs = |status: &Value| [&status["program"]["runs"], &status["program"]["nanoseconds"]].map(number);
        let settle = || {
            // The status follows within a second or two.
            std::thread::sleep(Duration::from_millis(2500));
            self.status()
        };
        let before = settle()?;
        fs::write(STATISTICS, "1").context(STATISTICS)?;
        let measured = self.measure(Measure::Cost { flows }, seconds);
        fs::write(STATISTICS, "0").context(STATISTICS)?;
        measured?;
        let after = settle()?;
        let ([count_before, time_before], [count, time]) = (runs(&before), runs(&after));
        Ok(ProgramRun {
            nanoseconds: (time - time_before) / (count - count_before).max(1.0),
            cost,
            memory: number(&after["memory"]),
            size: [&after["program"]["instructions"], &after["program"]["compiled"]]
                .map(|value| value.as_u64().unwrap_or_default()),
        })
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn counted(status: &Value) -> f64 {
    number(&status["v6_to_v4"]["packets"])
}

pub(super) fn myself() -> Result<String> {
    Ok(std::env::current_exe().context("this program")?.display().to_string())
}

/// Time that all processors together have been busy.
fn busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().find(|line| line.split_whitespace().next() == Some("cpu"));
    let line = line.context("no cpu in /proc/stat")?;
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

/// The name of one with room for a million sessions; the others have as much as by default.
pub(super) const MANY: &str = "many";

/// By how much datagrams are sent for longer than is measured.
const MARGIN: Duration = Duration::from_secs(1);

/// The kernel measures runs of BPF programs while this is 1.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The generator's addresses, on a link of its own.
const GENERATOR: &str = "2001:db8:4::2";
const GENERATOR_V4: &str = "192.0.2.130";

/// The client's address.
const CLIENT: &str = "2001:db8:1::2";

/// The server's addresses; the last of each kind is the sink.
const SERVERS: [&str; 4] = ["203.0.113.1/24", "198.51.100.200/32", "2001:db8:2::1/64", "2001:db8:3::dead/128"];

const MASQUERADE: &str = "add table ip nat; add chain ip nat post { type nat hook postrouting priority srcnat; }; \
                          add rule ip nat post oifname eth0 masquerade";

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
anti_spoofing = false

[dns64]
enabled = false

[nat64]
fast_path = FAST_PATH
prefix = "2001:db8:64::/96"
translate_non_global = ["203.0.113.0/24", "198.51.100.0/24"]
memory = MEMORY

[nat64.limits]
sessions = 4000000
new_sessions_per_second = 1000000
"#;

const TAYGA: &str = "tun-device nat64
ipv4-addr 192.0.2.1
ipv6-addr 2001:db8:1:ffff::1
prefix 2001:db8:64::/96
map 192.0.2.77 2001:db8:1::2
map 192.0.2.78 2001:db8:4::2
";

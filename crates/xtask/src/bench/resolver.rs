//! One resolver between a client and an authoritative server, in namespaces of its own.
//!
//! ```text
//! client ──── veth ──── resolver ──── veth ──── NSD, with the zone bench.test
//! ```
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::asker::Answers;
use super::host::{Host, Program, cable};
use super::soak::Soak;

/// Where the client finds the resolver.
const RESOLVER: &str = "2001:db8:1::1";
/// Names that are asked for again and again.
const NAMES: usize = 1000;
/// Names that fill a cache.
const MANY_NAMES: usize = 100_000;
/// MiB of cache that everybody may have.
const CACHE: u32 = 128;

/// Who resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contestant {
    /// The binary under test.
    Sixgate,
    /// Debian's unbound with its module dns64.
    Unbound,
    /// Debian's BIND with `dns64`.
    Bind,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// AAAA of names that have A records only, by dnsperf.
    Synthesized,
    /// AAAA of names that have AAAA records, by dnsperf.
    Native,
    /// As [`Load::Synthesized`], by a generator that takes less for a query.
    Generator,
    /// As [`Load::Synthesized`], at half of what saturates the resolver, for the latency.
    Half,
    /// AAAA of names that nobody has asked for.
    Uncached,
    /// AAAA of many names, for the memory.
    Memory,
}

impl Load {
    /// The latency needs the rate that comes before it.
    pub(super) const ALL: [Self; 6] =
        [Self::Synthesized, Self::Native, Self::Generator, Self::Half, Self::Uncached, Self::Memory];
}

/// What one measurement showed.
pub(super) struct Figures {
    /// Answers a second.
    pub(super) rate: Option<f64>,
    /// Microseconds of processor time for each answer: all that its core did where it has one of its own, interrupts and the kernel's
    /// part included, and all that both did where it has not.
    pub(super) processor: Option<f64>,
    /// Microseconds of the server's own processor time, user and system.
    pub(super) own: Option<f64>,
    /// Microseconds, the 99th percentile.
    pub(super) latency: Option<f64>,
    /// Bytes of resident memory.
    pub(super) memory: Option<f64>,
}

impl Contestant {
    pub(super) const ALL: [Self; 3] = [Self::Sixgate, Self::Unbound, Self::Bind];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sixgate => "sixgate",
            Self::Unbound => "unbound",
            Self::Bind => "bind",
        }
    }
}

/// Fields are dropped in order: programs end before their hosts.
pub(super) struct Track {
    pub(super) contestant: Contestant,
    workers: u32,
    resolver: Program,
    _authority: Program,
    client: Host,
    _router: Host,
    _server: Host,
    folder: PathBuf,
    /// How many names nobody has asked for were asked for.
    fresh: std::cell::Cell<usize>,
}

impl Track {
    /// Builds it and waits until the client is answered.
    pub(super) fn build(contestant: Contestant, workers: u32, sixgate: &Path, folder: &Path) -> Result<Self> {
        let name = contestant.name();
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let host = |role| Host::create(&format!("dns-{name}"), role);
        let (client, router, server) = (host("client")?, host("router")?, host("server")?);
        cable((&client, "eth0"), (&router, "eth1"))?;
        cable((&router, "eth0"), (&server, "eth0"))?;
        client.ip("address add 2001:db8:1::2/64 dev eth0 nodad")?;
        router.ip(&format!("address add {RESOLVER}/64 dev eth1 nodad"))?;
        router.ip("address add 203.0.113.2/24 dev eth0")?;
        server.ip("address add 203.0.113.1/24 dev eth0")?;
        let log = |role: &str| folder.join(format!("{role}.log"));
        let file = |name: &str, text: String| -> Result<String> {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())?;
            Ok(path.display().to_string())
        };
        file("bench.test.zone", zone())?;
        let nsd = file("nsd.conf", nsd(&folder))?;
        let authority = server.start(&format!("nsd -d -c {nsd}"), &log("nsd"))?;
        let line = match contestant {
            Contestant::Sixgate => {
                let config = file("sixgate.toml", sixgate_toml(workers))?;
                let (binary, folder) = (sixgate.display(), folder.display());
                format!("{binary} run --config {config} --control {folder}/control.sock --state {folder}")
            }
            Contestant::Unbound => {
                let config = file("unbound.conf", unbound_conf(workers))?;
                format!("unbound -d -c {config}")
            }
            Contestant::Bind => {
                let config = file("named.conf", named_conf(&folder))?;
                format!("named -f -n {workers} -c {config}")
            }
        };
        if workers == 1 {
            // As where each has a card of its own: what comes in at the resolver is its core's work, and likewise the client's.
            router.write("/sys/class/net/eth1/queues/rx-0/rps_cpus", "1")?;
            router.write("/sys/class/net/eth0/queues/rx-0/rps_cpus", "1")?;
            client.write("/sys/class/net/eth0/queues/rx-0/rps_cpus", "2")?;
        }
        // Where each has a core, the generator has the other one.
        let line = if workers == 1 { format!("taskset --cpu-list 0 {line}") } else { line };
        let resolver = router.start(&line, &log("resolver"))?;
        let (fresh, _router, _server) = (std::cell::Cell::new(0), router, server);
        let track =
            Self { contestant, workers, resolver, _authority: authority, client, _router, _server, folder, fresh };
        track.await_answer()?;
        Ok(track)
    }

    fn await_answer(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let line = format!("dig +short +time=1 +tries=1 @{RESOLVER} AAAA h1.bench.test");
        while !self.client.run(5, &line).is_ok_and(|text| text.trim() == "64:ff9b::808:1") {
            if Instant::now() > deadline {
                bail!("{} does not answer within 30 s; see {}", self.contestant.name(), self.folder.display());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Measures once; `saturation` is the rate that it reached.
    pub(super) fn measure(&self, load: Load, seconds: u32, saturation: f64) -> Result<Figures> {
        let hot = |kind: char| (0..NAMES).map(move |index| format!("{kind}{index}.bench.test"));
        match load {
            Load::Synthesized => self.dnsperf(&self.queries("hot", hot('h'))?, &format!("-l {seconds}"), true),
            Load::Native => self.dnsperf(&self.queries("native", hot('n'))?, &format!("-l {seconds}"), true),
            Load::Generator => self.asker(&format!("{seconds} 0")),
            Load::Half => {
                let figures = self.asker(&format!("{seconds} {}", (saturation / 2.0).max(1000.0)))?;
                Ok(Figures { rate: None, processor: None, own: None, ..figures })
            }
            Load::Uncached => {
                let begin = self.fresh.get();
                let count = 4000 * seconds as usize;
                self.fresh.set(begin + count);
                let names = (begin..begin + count).map(|index| format!("u{index}.w.bench.test"));
                self.dnsperf(&self.queries("fresh", names)?, "-n 1", false)
            }
            Load::Memory => {
                let names = (0..MANY_NAMES).map(|index| format!("h{index}.bench.test"));
                self.dnsperf(&self.queries("many", names)?, "-n 1", false)?;
                let memory = self.resolver.resident()? + self.resolver.maps()?;
                Ok(Figures { rate: None, processor: None, own: None, latency: None, memory: Some(memory) })
            }
        }
    }

    fn queries(&self, name: &str, names: impl Iterator<Item = String>) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.queries"));
        let mut text = String::new();
        for name in names {
            let _ = writeln!(text, "{name} AAAA");
        }
        fs::write(&path, text)?;
        Ok(path)
    }

    /// What is done meanwhile, the processor time that it took, and that which was the server's own.
    fn metered<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Duration, Duration)> {
        let processors = if self.workers == 1 { 0..1 } else { 0..2 };
        let soaks = processors.map(Soak::start).collect::<Result<Vec<_>>>()?;
        let left = || soaks.iter().map(Soak::left).sum::<Duration>();
        let (begin, left_before, own_before) = (Instant::now(), left(), self.resolver.processor_time()?);
        let done = work()?;
        let own = self.resolver.processor_time()?.saturating_sub(own_before);
        let passed = begin.elapsed() * u32::try_from(soaks.len())?;
        Ok((done, passed.saturating_sub(left() - left_before), own))
    }

    /// A second run counts where the first one filled the cache.
    fn dnsperf(&self, queries: &Path, extent: &str, warm: bool) -> Result<Figures> {
        let queries = queries.display();
        let run = |extent: &str| {
            let pinned = if self.workers == 1 { "taskset --cpu-list 1 " } else { "" };
            let line = format!("{pinned}dnsperf -f inet6 -s {RESOLVER} -d {queries} -c 32 -T 1 -q 60 -t 3 {extent}");
            self.client.run(150, &line)
        };
        if warm {
            // And everybody has seen that these are asked for often.
            run("-n 5")?;
        }
        let (text, spent, own) = self.metered(|| run(extent))?;
        let field = |name: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
            let word = line.and_then(|rest| rest.split_whitespace().next());
            word.and_then(|word| word.parse().ok()).with_context(|| format!("dnsperf says no {name}: {text}"))
        };
        let (completed, rate) = (field("Queries completed:")?, field("Queries per second:")?);
        Ok(Figures {
            rate: Some(rate),
            processor: Some(spent.as_secs_f64() * 1e6 / completed.max(1.0)),
            own: Some(own.as_secs_f64() * 1e6 / completed.max(1.0)),
            latency: None,
            memory: None,
        })
    }

    fn asker(&self, arguments: &str) -> Result<Figures> {
        let myself = std::env::current_exe()?;
        let pinned = if self.workers == 1 { "taskset --cpu-list 1 " } else { "" };
        let line = format!("{pinned}{} bench ask {RESOLVER} {NAMES} {arguments}", myself.display());
        let (text, spent, own) = self.metered(|| self.client.run(90, &line))?;
        let answers: Answers = serde_json::from_str(&text)?;
        Ok(Figures {
            rate: Some(answers.count as f64 / answers.seconds),
            processor: Some(spent.as_secs_f64() * 1e6 / (answers.count.max(1) as f64)),
            own: Some(own.as_secs_f64() * 1e6 / (answers.count.max(1) as f64)),
            latency: Some(answers.latency_99),
            memory: None,
        })
    }
}

/// Hosts h0 to h99999 with IPv4 only, n0 to n999 with IPv6, and any host below w with IPv4.
fn zone() -> String {
    let mut text = String::from(
        "$ORIGIN bench.test.\n$TTL 3600\n@ SOA ns hostmaster 1 7200 900 1209600 3600\n@ NS ns\nns A 203.0.113.1\n*.w A 8.8.8.8\n",
    );
    for index in 0..MANY_NAMES {
        let _ = writeln!(text, "h{index} A 8.8.{}.{}", index / 256 % 256, index % 256);
    }
    for index in 0..NAMES {
        let _ = writeln!(text, "n{index} AAAA 2001:db8:77::{index:x}");
    }
    text
}

fn nsd(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "server:\n ip-address: 203.0.113.1\n username: \"\"\n chroot: \"\"\n zonesdir: \"{folder}\"\n database: \"\"\n \
         pidfile: \"{folder}/nsd.pid\"\n xfrdfile: \"{folder}/xfrd.state\"\n zonelistfile: \"{folder}/zone.list\"\n \
         xfrdir: \"{folder}\"\n server-count: 1\n rrl-ratelimit: 0\nremote-control:\n control-enable: no\nzone:\n name: bench.test\n \
         zonefile: bench.test.zone\n"
    )
}

fn sixgate_toml(workers: u32) -> String {
    format!(
        r#"hostname = "bench"

[wan]
interface = "eth0"
ipv4 = {{ address = "203.0.113.2/24", gateway = "203.0.113.1" }}

[[lan]]
name = "lan"
interface = "eth1"
addresses = ["{RESOLVER}/64"]

[dns64]
upstream = "203.0.113.1"
workers = {workers}
cache = {CACHE}
rate = 0
dnssec = false

[nat64]
prefix = "64:ff9b::/96"
"#
    )
}

fn unbound_conf(workers: u32) -> String {
    let half = CACHE / 2;
    format!(
        "server:\n interface: {RESOLVER}\n access-control: ::/0 allow\n num-threads: {workers}\n so-reuseport: yes\n username: \"\"\n \
         chroot: \"\"\n directory: \"\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n module-config: \"dns64 iterator\"\n \
         dns64-prefix: 64:ff9b::/96\n msg-cache-size: {half}m\n rrset-cache-size: {half}m\n prefetch: yes\n \
         outgoing-range: 4096\n num-queries-per-thread: 2048\n local-zone: \"test.\" transparent\nremote-control:\n control-enable: no\n\
         forward-zone:\n name: \".\"\n forward-addr: 203.0.113.1\n"
    )
}

fn named_conf(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "options {{\n directory \"{folder}\";\n pid-file none;\n session-keyfile none;\n listen-on {{ none; }};\n \
         listen-on-v6 {{ {RESOLVER}; }};\n allow-query {{ any; }};\n allow-recursion {{ any; }};\n recursion yes;\n \
         forwarders {{ 203.0.113.1; }};\n forward only;\n dnssec-validation no;\n max-cache-size {CACHE}m;\n \
         dns64 64:ff9b::/96 {{ clients {{ any; }}; }};\n}};\ncontrols {{ }};\nlogging {{ category default {{ null; }}; }};\n"
    )
}

//! The CLAT: on a host between an IPv4-only client and a server that is reached by a NAT64's prefix, side by side with Tayga
//! and with plain forwarding.
//!
//! ```text
//! client ──── veth ──── host ──── veth ──── server
//! IPv4 (IPv6 for        contestant          IPv6, at the address that stands for an IPv4 server
//! plain forwarding)
//! ```
//! The server stands in for the NAT64 as well, lest that be what is measured.
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::host::{Host, Program, cable};
use super::report::Surroundings;
use super::series::Series;
use crate::command::{root, target};
use crate::setup;

/// What the benchmark can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// How often each is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// The sixgate binary; else that of SIXGATE_BIN, and else the image's is built.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Only print: leave the document as it is.
    #[arg(long)]
    dry: bool,
}

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contestant {
    /// The kernel, IPv6 to IPv6.
    Kernel,
    /// `sixgate clat` with its fast path.
    Fast,
    /// The same with all packets crossing its TUN device.
    Tun,
    /// Debian's Tayga, set up as clatd does, behind the same masquerade.
    Tayga,
}

impl Contestant {
    const ALL: [Self; 4] = [Self::Kernel, Self::Fast, Self::Tun, Self::Tayga];

    const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Fast => "fast",
            Self::Tun => "tun",
            Self::Tayga => "tayga",
        }
    }

    /// As the tables call it.
    const fn title(self) -> &'static str {
        match self {
            Self::Kernel => "kernel, IPv6 forwarding",
            Self::Fast => "fast path",
            Self::Tun => "TUN",
            Self::Tayga => "Tayga",
        }
    }

    /// Where the client finds the server.
    const fn server(self) -> &'static str {
        match self {
            Self::Kernel => SERVER_V6,
            Self::Fast | Self::Tun | Self::Tayga => SERVER_V4,
        }
    }
}

/// So many TCP connections, from the client or to it.
#[derive(Clone, Copy)]
struct Measure {
    streams: u32,
    towards_client: bool,
}

impl Measure {
    const ALL: [Self; 4] = [
        Self { streams: 1, towards_client: false },
        Self { streams: 1, towards_client: true },
        Self { streams: 8, towards_client: false },
        Self { streams: 8, towards_client: true },
    ];

    fn title(self) -> String {
        let direction = if self.towards_client { "to the client" } else { "from the client" };
        format!("TCP, {} stream{}, {direction}", self.streams, if self.streams == 1 { "" } else { "s" })
    }
}

/// What the issue demands: of whom, over whom, at least.
const TARGETS: [(Contestant, Contestant, Option<f64>); 3] = [
    (Contestant::Tun, Contestant::Tayga, Some(8.0)),
    (Contestant::Fast, Contestant::Kernel, Some(0.9)),
    (Contestant::Fast, Contestant::Tayga, None),
];

const SERVER_V4: &str = "203.0.113.1";
const SERVER_V6: &str = "2001:db8:64::203.0.113.1";

/// Fields are dropped in order: programs end before their hosts.
struct Track {
    contestant: Contestant,
    _translator: Option<Program>,
    _server: Program,
    client: Host,
    host: Host,
    _hosts: [Host; 1],
    /// Asks sixgate for its status.
    status: String,
}

impl Track {
    fn build(contestant: Contestant, sixgate: &Path, folder: &Path) -> Result<Self> {
        let name = format!("clat-{}", contestant.name());
        let [client, host, server] = ["client", "host", "server"].map(|role| Host::create(&name, role));
        let (client, host, server) = (client?, host?, server?);
        cable((&client, "eth0"), (&host, "eth1"))?;
        cable((&host, "eth0"), (&server, "eth0"))?;
        for arguments in [
            "address add 10.7.0.2/24 dev eth0",
            "address add 2001:db8:7::2/64 dev eth0 nodad",
            "route add default via 10.7.0.1",
            "route add default via 2001:db8:7::1",
        ] {
            client.ip(arguments)?;
        }
        for arguments in [
            "address add 10.7.0.1/24 dev eth1",
            "address add 2001:db8:7::1/64 dev eth1 nodad",
            "address add 2001:db8:1::2/64 dev eth0 nodad",
            "route add default via 2001:db8:1::1",
        ] {
            host.ip(arguments)?;
        }
        server.ip("address add 2001:db8:1::1/64 dev eth0 nodad")?;
        server.ip(&format!("address add {SERVER_V6}/128 dev eth0 nodad"))?;
        server.ip("route add 2001:db8:7::/64 via 2001:db8:1::2")?;
        host.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        host.sysctl("net/ipv4/conf/all/forwarding", "1")?;
        let log = |role: &str| folder.join(format!("{name}-{role}.log"));
        let iperf3 = server.start("iperf3 --server", &log("server"))?;
        let state = folder.join(&name);
        let translator = match contestant {
            Contestant::Kernel => None,
            Contestant::Fast | Contestant::Tun => {
                let when = if contestant == Contestant::Fast { "always" } else { "never" };
                let line = format!(
                    "{} clat --prefix 2001:db8:64::/96 --check {SERVER_V4} --fast-path {when} --folder {}",
                    sixgate.display(),
                    state.display()
                );
                Some(host.start(&line, &log("clat"))?)
            }
            Contestant::Tayga => Some(start_tayga(&host, folder, &log("tayga"))?),
        };
        let status = format!("{} clat status --json --folder {}", sixgate.display(), state.display());
        let hosts = [server];
        let track = Self { contestant, _translator: translator, _server: iperf3, client, host, _hosts: hosts, status };
        track.client.await_answer(contestant.server()).with_context(|| format!("{name} does not forward"))?;
        track.await_path()?;
        Ok(track)
    }

    /// Packets take the way that is measured.
    fn await_path(&self) -> Result<()> {
        let wanted = match self.contestant {
            Contestant::Fast => true,
            Contestant::Tun => false,
            Contestant::Kernel | Contestant::Tayga => return Ok(()),
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let status: Value = serde_json::from_str(&self.host.run(10, &self.status)?)?;
            if status["stage"] == "translating" && status["fast_path"].is_string() == wanted {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the clat does not translate as it should: {status:#}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Bits a second that arrived.
    fn measure(&self, Measure { streams, towards_client }: Measure, seconds: u32) -> Result<f64> {
        let reverse = if towards_client { "--reverse" } else { "" };
        let target = self.contestant.server();
        // Each on a processor of its own: where the scheduler puts both decides more than who forwards.
        let line =
            format!("iperf3 --json --affinity 0,1 --client {target} --time {seconds} --parallel {streams} {reverse}");
        let text = self.client.run(u64::from(seconds) + 15, &line)?;
        let result: Value = serde_json::from_str(&text).context("iperf3's JSON")?;
        let rate = result["end"]["sum_received"]["bits_per_second"].as_f64();
        rate.with_context(|| format!("iperf3: {}", result["error"]))
    }
}

/// As clatd does it.
fn start_tayga(host: &Host, folder: &Path, log: &Path) -> Result<Program> {
    let config = folder.join("tayga-clat.conf");
    fs::write(&config, TAYGA).with_context(|| config.display().to_string())?;
    let config = config.display();
    host.run(10, &format!("tayga --mktun --config {config}"))?;
    for arguments in [
        "link set clat up",
        "address add 192.0.0.1/32 dev clat",
        "route add 2001:db8:1::c1a7/128 dev clat",
        "route add default dev clat mtu 1480",
        "neighbor add proxy 2001:db8:1::c1a7 dev eth0",
    ] {
        host.ip(arguments)?;
    }
    host.sysctl("net/ipv6/conf/eth0/proxy_ndp", "1")?;
    host.run(10, &format!("nft {MASQUERADE}"))?;
    host.start(&format!("tayga --nodetach --config {config}"), log)
}

/// Measures, prints and writes.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(setup::Purpose::Bench)?;
    let binary = super::subject(options.binary.as_deref())?;
    let surroundings = Surroundings::look(options.seconds, options.rounds);
    let folder = target().join("bench");
    fs::create_dir_all(&folder)?;
    let build = |one: &Contestant| Track::build(*one, &binary, &folder);
    let tracks = Contestant::ALL.iter().map(build).collect::<Result<Vec<_>>>()?;
    let mut rows: Vec<[Series; Contestant::ALL.len()]> = Measure::ALL.map(|_| Default::default()).into();
    for round in 0..options.rounds as usize {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for (measure, row) in Measure::ALL.into_iter().zip(&mut rows) {
            for turn in 0..tracks.len() {
                // Each is the first once in a while.
                let index = (turn + round) % tracks.len();
                let rate = tracks[index].measure(measure, options.seconds)?;
                row[index].push(rate);
                eprintln!("  {} {:>8} {:.2} Gbit/s", measure.title(), Contestant::ALL[index].name(), rate / 1e9);
            }
        }
    }
    drop(tracks);
    let tables = tables(&rows);
    println!("\n{tables}");
    if !options.dry {
        let file = root().join("docs/benchmarks/clat.md");
        fs::write(&file, document(&surroundings, &tables))?;
        println!("written to {}", file.display());
    }
    Ok(())
}

fn tables(rows: &[[Series; Contestant::ALL.len()]]) -> String {
    let titles = Contestant::ALL.map(Contestant::title).join(" | ");
    let mut text = format!("| Gbit/s | {titles} |\n|---|---|---|---|---|\n");
    for (measure, row) in Measure::ALL.into_iter().zip(rows) {
        let cell = |series: &Series| {
            let (least, most) = series.spread();
            format!("{:.2} ({:.2} – {:.2})", series.median() / 1e9, least / 1e9, most / 1e9)
        };
        let cells = row.iter().map(cell).collect::<Vec<_>>().join(" | ");
        // Writing into a string does not fail.
        let _ = writeln!(text, "| {} | {cells} |", measure.title());
    }
    text += "\nRatios are of what was measured in the same round, one after the other.\n\n";
    text += "| | ratio | target |\n|---|---|---|\n";
    for (of, over, target) in TARGETS {
        for (measure, row) in Measure::ALL.into_iter().zip(rows) {
            let series = |one| &row[Contestant::ALL.iter().position(|other| *other == one).unwrap_or_default()];
            let ratio = series(of).over(series(over));
            let (least, most) = ratio.spread();
            let verdict = target.map_or_else(String::new, |target| {
                format!("at least {target:.1}: {}", if ratio.median() >= target { "met" } else { "missed" })
            });
            let (of, over) = (of.title(), over.title());
            let _ = writeln!(
                text,
                "| {}: {of} over {over} | {:.2} ({least:.2} – {most:.2}) | {verdict} |",
                measure.title(),
                ratio.median()
            );
        }
    }
    text
}

fn document(surroundings: &Surroundings, tables: &str) -> String {
    let surroundings = surroundings.text();
    format!("# CLAT\n\nMade by `cargo xtask bench clat`; do not edit.\n\n{surroundings}\n{EXPLANATION}\n{tables}")
}

const EXPLANATION: &str = "\
An IPv4-only client, the host with the CLAT and a server are network namespaces joined by veth links with their usual offloads, and share the
processors. The server has the address that stands for it under the NAT64's prefix, so that no NAT64 is measured along. The kernel forwards IPv6 to
IPv6 without a firewall; both of sixgate's contestants and Tayga, which is set up as clatd does, forward, masquerade and track IPv4 as well.
Contestants take turns within a round, and another one begins each round. TCP is what iperf3's receiver got, with the two ends kept to a processor each.
";

const MASQUERADE: &str = "add table ip nat; add chain ip nat post { type nat hook postrouting priority srcnat; }; \
                          add rule ip nat post oifname clat masquerade";

const TAYGA: &str = "tun-device clat
ipv4-addr 192.0.0.2
ipv6-addr 2001:db8:1::c1a8
prefix 2001:db8:64::/96
map 192.0.0.1 2001:db8:1::c1a7
";

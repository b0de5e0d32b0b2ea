//! One firewall between a generator outside and a VM's containers, in namespaces of its own.
//!
//! ```text
//! generator ─ TAP eth0 ── router ──── veth eth1 ──── server, with a prefix of containers
//!                         contestant ─ veth eth2 ─── client
//! ```
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::generator::{FIRST_DESTINATION, GENERATOR_MAC, PAYLOAD, Sent, further};
use super::host::{Host, Program, cable};
use super::soak::Soak;
use super::track::myself;

/// Who filters, by how many entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contestant {
    pub(super) kind: Kind,
    pub(super) entries: usize,
}

/// Who filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The kernel forwards, and nobody filters.
    Kernel,
    /// The same policy written by hand, with sets.
    Nft,
    /// The binary under test.
    Sixgate,
    /// The same, with every packet by its rules.
    Rules,
    /// Debian's ufw.
    Ufw,
}

impl Kind {
    const fn is_sixgate(self) -> bool {
        matches!(self, Self::Sixgate | Self::Rules)
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Small datagrams of a thousand flows that were answered before.
    Established,
    /// Small datagrams, each of which begins a flow.
    New,
    /// One TCP connection from a LAN to the containers.
    Tcp,
    /// All entries, where there was none.
    Apply,
    /// One entry more.
    Change,
}

impl Measure {
    pub(super) const ALL: [Self; 5] = [Self::Established, Self::New, Self::Tcp, Self::Change, Self::Apply];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Established => "established flows",
            Self::New => "new flows",
            Self::Tcp => "TCP",
            Self::Apply => "apply",
            Self::Change => "change of one entry",
        }
    }

    /// With its unit.
    pub(super) fn quantity(self, value: f64) -> String {
        match self {
            Self::Established | Self::New => format!("{value:.0} ns"),
            Self::Tcp => format!("{:.2} Gbit/s", value / 1e9),
            Self::Apply | Self::Change => format!("{value:.0} ms"),
        }
    }
}

impl Contestant {
    pub(super) fn title(self) -> String {
        let name = match self.kind {
            Kind::Kernel => return "no firewall".to_owned(),
            Kind::Nft => "by hand",
            Kind::Sixgate => "sixgate",
            Kind::Rules => "sixgate by its rules",
            Kind::Ufw => "ufw",
        };
        format!("{name}, {}", self.entries)
    }

    /// What takes long is measured in the first rounds alone.
    pub(super) const fn enters(self, measure: Measure, round: usize) -> bool {
        match (measure, self.kind) {
            (Measure::Apply | Measure::Change, Kind::Kernel) => false,
            (measure, Kind::Rules) => matches!(measure, Measure::Established | Measure::Tcp),
            (Measure::Apply | Measure::Change, Kind::Ufw) => round == 0,
            (Measure::New, Kind::Ufw) if self.entries > 10 => round == 0,
            (Measure::Apply, _) => round < 3,
            _ => true,
        }
    }

    fn name(self) -> String {
        let kind = match self.kind {
            Kind::Kernel => "none",
            Kind::Nft => "nft",
            Kind::Sixgate => "six",
            Kind::Rules => "rules",
            Kind::Ufw => "ufw",
        };
        format!("{kind}{}", self.entries)
    }
}

/// What one measurement gave.
#[derive(Clone, Copy, Default)]
pub(super) struct Load {
    /// Nanoseconds a packet, bits a second, or milliseconds.
    pub(super) value: f64,
    /// Packets a second that arrived.
    pub(super) arrived: f64,
    /// Packets a second that were offered.
    pub(super) offered: f64,
}

/// Fields are dropped in order: programs end before their hosts.
pub(super) struct Track {
    pub(super) contestant: Contestant,
    _router_program: Option<Program>,
    _servers: [Program; 2],
    sixgate: PathBuf,
    folder: PathBuf,
    client: Host,
    server: Host,
    router: Host,
}

impl Track {
    /// Builds it and waits until the client reaches the server.
    pub(super) fn build(contestant: Contestant, sixgate: &Path, folder: &Path) -> Result<Self> {
        let name = contestant.name();
        let folder = folder.join(&name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let host = |role| Host::create(&name, role);
        let (client, router, server) = (host("client")?, host("router")?, host("server")?);
        cable((&server, "eth0"), (&router, "eth1"))?;
        cable((&client, "eth0"), (&router, "eth2"))?;
        router.ip("tuntap add eth0 mode tap")?;
        router.ip("link set eth0 up")?;
        server.ip("address add 2001:db8:2::2/64 dev eth0 nodad")?;
        server.ip("route add default via 2001:db8:2::1")?;
        server.ip("route add local 2001:db8:3::/64 dev lo")?;
        server.sysctl("net/ipv6/ip_nonlocal_bind", "1")?;
        client.ip("address add 2001:db8:4::2/64 dev eth0 nodad")?;
        client.ip("route add default via 2001:db8:4::1")?;
        let answering = (0..10).map(|later| Ok(further(FIRST_TARGET.parse()?, later)?.to_string()));
        let answering = answering.collect::<Result<Vec<_>>>()?.join(" ");
        let log = |role: &str| folder.join(format!("{role}.log"));
        let servers = [
            server.start("iperf3 --server", &log("server"))?,
            server.start(&format!("{} bench respond --ports 1 {answering}", myself()?), &log("responder"))?,
        ];
        let mut this = Self {
            contestant,
            _router_program: None,
            _servers: servers,
            sixgate: sixgate.to_owned(),
            folder: folder.clone(),
            client,
            server,
            router,
        };
        if contestant.kind.is_sixgate() {
            fs::write(this.file("config.toml"), this.sixgate_file(contestant.entries, 0)?)?;
            let (binary, folder) = (sixgate.display(), folder.display());
            let line =
                format!("{binary} run --config {folder}/config.toml --control {folder}/control --state {folder}");
            this._router_program = Some(this.router.start(&line, &log("router"))?);
        } else {
            this.forward()?;
            this.apply(contestant.entries)?;
        }
        this.client.await_answer("2001:db8:2::2").with_context(|| format!("{name} does not forward"))?;
        this.router.ip(&format!("neighbor replace {GENERATOR} lladdr {GENERATOR_MAC} nud permanent dev eth0"))?;
        this.server_is("02:00:00:00:de:ad")?;
        Ok(this)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn forward(&self) -> Result<()> {
        self.router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        for (address, link) in [("2001:db8:1::1", "eth0"), ("2001:db8:2::1", "eth1"), ("2001:db8:4::1", "eth2")] {
            self.router.ip(&format!("address add {address}/64 dev {link} nodad"))?;
        }
        self.router.ip("route add 2001:db8:3::/64 via 2001:db8:2::2").map(drop)
    }

    /// What is addressed to nobody on the server's link arrives there and is dropped, which costs less than an answer.
    fn server_is(&self, mac: &str) -> Result<()> {
        self.router.ip(&format!("neighbor replace 2001:db8:2::2 lladdr {mac} nud permanent dev eth1")).map(drop)
    }

    /// Puts so many entries into force; the contestant begins anew.
    fn apply(&self, entries: usize) -> Result<()> {
        let folder = self.folder.display();
        match self.contestant.kind {
            Kind::Kernel => Ok(()),
            Kind::Nft => {
                fs::write(self.file("rules.nft"), nft_file(entries)?)?;
                self.router.run(60, &format!("nft -f {folder}/rules.nft")).map(drop)
            }
            Kind::Ufw => {
                self.prepare_ufw(entries)?;
                self.ufw("--force enable").map(drop)
            }
            Kind::Sixgate | Kind::Rules => self.sixgate_apply(&self.sixgate_file(entries, 0)?),
        }
    }

    fn sixgate_file(&self, entries: usize, one_more: usize) -> Result<String> {
        let text = sixgate_file(entries, one_more)?;
        Ok(match self.contestant.kind {
            Kind::Rules => text.replace("[policy]\n", "[policy]\nflow_offload = false\n"),
            Kind::Kernel | Kind::Nft | Kind::Sixgate | Kind::Ufw => text,
        })
    }

    fn sixgate_apply(&self, text: &str) -> Result<()> {
        let file = self.file("next.toml");
        fs::write(&file, text)?;
        let (binary, file, control) = (self.sixgate.display(), file.display(), self.file("control"));
        self.router.run(60, &format!("{binary} apply --force {file} --control {}", control.display())).map(drop)
    }

    /// Milliseconds until an entry is in the set, which it is to be once it is said to be in force. Looking takes `nft` longer
    /// the more there are, so that counts only where the first look was in vain.
    fn until_element(&self, later: usize, begin: Instant) -> Result<Load> {
        let target = further(FIRST_TARGET.parse()?, later)?;
        let script = self.file("get.nft");
        fs::write(&script, format!("get element inet sixgate allowed_udp {{ {target} . {FIRST_DESTINATION} }}\n"))?;
        let mut reached = milliseconds(begin);
        while self.router.run(10, &format!("nft -f {}", script.display())).is_err() {
            reached = milliseconds(begin);
            if begin.elapsed() > Duration::from_secs(60) {
                bail!("{target} is not admitted");
            }
        }
        Ok(reached)
    }

    /// Its folders, of its own: what the machine has is left alone.
    fn prepare_ufw(&self, entries: usize) -> Result<()> {
        let own = self.file("ufw");
        let _ = fs::remove_dir_all(&own);
        self.router.run(10, &format!("cp --archive /etc/ufw {}", own.display()))?;
        fs::write(own.join("user6.rules"), ufw_rules(entries)?)?;
        let default = fs::read_to_string("/etc/default/ufw").context("/etc/default/ufw")?;
        fs::write(self.file("ufw.default"), default.replace("FORWARD_POLICY=\"ACCEPT\"", "FORWARD_POLICY=\"DROP\""))?;
        Ok(())
    }

    fn ufw(&self, words: &str) -> Result<String> {
        let folder = self.folder.display();
        let script = self.file("ufw.sh");
        fs::write(
            &script,
            format!(
                "set -e\nmount --bind {folder}/ufw /etc/ufw\nmount --bind {folder}/ufw.default /etc/default/ufw\nufw {words}\n"
            ),
        )?;
        // `ip netns exec` gives each program a mount namespace of its own.
        self.router.run(300, &format!("sh {}", script.display()))
    }

    /// Measures once.
    pub(super) fn measure(&self, measure: Measure, seconds: f64, round: usize) -> Result<Load> {
        match measure {
            Measure::Established => {
                self.establish()?;
                self.flood(&format!("--flows 1000 --targets 10 --seconds {seconds}"))
            }
            Measure::New => self.begin_flows(),
            Measure::Tcp => {
                let server = self.server.mac("eth0")?;
                self.server_is(&server)?;
                let line = format!("iperf3 --json --affinity 0,1 --client {FIRST_TARGET} --time 1");
                let text = self.client.run(20, &line)?;
                self.server_is("02:00:00:00:de:ad")?;
                let result: Value = serde_json::from_str(&text).context("iperf3's JSON")?;
                let rate = result["end"]["sum_received"]["bits_per_second"].as_f64();
                Ok(Load { value: rate.with_context(|| format!("iperf3: {}", result["error"]))?, ..Load::default() })
            }
            Measure::Apply => {
                let entries = self.contestant.entries;
                self.clear()?;
                let begin = Instant::now();
                self.apply(entries)?;
                match self.contestant.kind {
                    Kind::Sixgate | Kind::Rules => self.until_element(entries - 1, begin),
                    Kind::Kernel | Kind::Nft | Kind::Ufw => Ok(milliseconds(begin)),
                }
            }
            Measure::Change => self.change(round),
        }
    }

    /// Back to no entries.
    fn clear(&self) -> Result<()> {
        match self.contestant.kind {
            Kind::Kernel => Ok(()),
            Kind::Nft => self.router.run(10, "nft flush ruleset").map(drop),
            Kind::Ufw => self.ufw("--force disable").map(drop),
            Kind::Sixgate | Kind::Rules => {
                self.sixgate_apply(&self.sixgate_file(0, 0)?)?;
                let script = self.file("list.nft");
                fs::write(&script, "list set inet sixgate allowed_udp\n")?;
                let deadline = Instant::now() + Duration::from_secs(60);
                while self.router.run(10, &format!("nft -f {}", script.display()))?.contains("elements") {
                    if Instant::now() > deadline {
                        bail!("entries stay");
                    }
                }
                Ok(())
            }
        }
    }

    /// One entry more, an address beyond all others.
    fn change(&self, round: usize) -> Result<Load> {
        let later = self.contestant.entries + 100 + round;
        let target = further(FIRST_TARGET.parse()?, later)?;
        let begin = match self.contestant.kind {
            Kind::Kernel => Instant::now(),
            Kind::Nft => {
                let script = self.file("add.nft");
                let added = format!("add element inet filter allowed {{ {target} . {FIRST_DESTINATION} }}\n");
                fs::write(&script, added)?;
                let begin = Instant::now();
                self.router.run(10, &format!("nft -f {}", script.display()))?;
                begin
            }
            Kind::Ufw => {
                let begin = Instant::now();
                self.ufw(&format!("route allow proto udp to {target} port {FIRST_DESTINATION}"))?;
                begin
            }
            Kind::Sixgate | Kind::Rules => {
                let text = self.sixgate_file(self.contestant.entries, later)?;
                let begin = Instant::now();
                self.sixgate_apply(&text)?;
                return self.until_element(later, begin);
            }
        };
        Ok(milliseconds(begin))
    }

    fn generate(&self, how: &str) -> Result<String> {
        let (mac, myself) = (self.router.mac("eth0")?, myself()?);
        Ok(format!("taskset --cpu-list 0 {myself} bench generate eth0 {mac} {GENERATOR} {FIRST_TARGET} {how}"))
    }

    /// Has the server answer a thousand flows.
    fn establish(&self) -> Result<()> {
        self.forget_flows()?;
        let server = self.server.mac("eth0")?;
        self.server_is(&server)?;
        self.router.run(60, &self.generate("--flows 1000 --targets 10 --passes 4 --pace 40000")?)?;
        self.server_is("02:00:00:00:de:ad")
    }

    fn forget_flows(&self) -> Result<()> {
        // It says how many there were, and fails where there is no table.
        let _ = self.router.run(30, "conntrack --flush");
        Ok(())
    }

    /// Flows of which each has one packet, again and again.
    fn begin_flows(&self) -> Result<Load> {
        let (mut spent, mut arrived, mut sent, mut seconds) = (0.0, 0.0, 0.0, 0.0);
        let targets = self.contestant.entries.max(10);
        // A rule for each entry takes too long for many flows.
        let (flows, pace) = match self.contestant {
            Contestant { kind: Kind::Ufw, entries: 1000 } => (20_000, "--pace 5000"),
            Contestant { kind: Kind::Ufw, entries: 10_000 } => (10_000, "--pace 800"),
            _ => (NEW_FLOWS, ""),
        };
        for _ in 0..if pace.is_empty() { 3 } else { 1 } {
            self.forget_flows()?;
            let load = self.flood(&format!("--flows {flows} --targets {targets} --passes 1 {pace}"))?;
            let lasted = flows as f64 / load.offered.max(1.0);
            spent += load.value * load.arrived * lasted;
            arrived += load.arrived * lasted;
            sent += load.offered * lasted;
            seconds += lasted;
        }
        self.forget_flows()?;
        Ok(Load { value: spent / f64::max(arrived, 1.0), arrived: arrived / seconds, offered: sent / seconds })
    }

    /// The generator on the first processor, everything else on the second.
    fn flood(&self, how: &str) -> Result<Load> {
        let line = self.generate(how)?;
        self.router.write("/sys/class/net/eth0/queues/rx-0/rps_cpus", "2")?;
        let soak = Soak::start(1)?;
        let (begin, left) = (Instant::now(), soak.left());
        let before = self.server.received("eth0")?;
        let sent: Sent = serde_json::from_str(&self.router.run(120, &line)?)?;
        let arrived = (self.server.received("eth0")? - before) as f64;
        let spent = begin.elapsed().saturating_sub(soak.left() - left).as_secs_f64();
        self.router.write("/sys/class/net/eth0/queues/rx-0/rps_cpus", "0")?;
        if arrived < sent.packets as f64 / 200.0 {
            bail!("{}: {arrived} of {} packets arrived", self.contestant.title(), sent.packets);
        }
        Ok(Load {
            value: spent * 1e9 / arrived,
            arrived: arrived / sent.seconds,
            offered: sent.packets as f64 / sent.seconds,
        })
    }
}

fn milliseconds(begin: Instant) -> Load {
    Load { value: begin.elapsed().as_secs_f64() * 1e3, ..Load::default() }
}

/// Flows of one pass; what conntrack holds by default on a machine with 4 GiB or more.
const NEW_FLOWS: usize = 200_000;

/// The generator's address.
const GENERATOR: &str = "2001:db8:9::2";
/// The first container that an entry names; the others follow.
const FIRST_TARGET: &str = "2001:db8:3::1000";

/// Bytes of payload, for the document.
pub(super) const BYTES: usize = PAYLOAD;

fn targets(entries: usize) -> Result<Vec<String>> {
    (0..entries).map(|later| Ok(further(FIRST_TARGET.parse()?, later)?.to_string())).collect()
}

/// The policy by hand: a person would write these rules, and this set.
fn nft_file(entries: usize) -> Result<String> {
    let elements: Vec<String> =
        targets(entries)?.iter().map(|target| format!("{target} . {FIRST_DESTINATION}")).collect();
    Ok(format!(
        r#"flush ruleset
table inet filter {{
    set allowed {{
        type ipv6_addr . inet_service
        elements = {{ {} }}
    }}
    chain prerouting {{
        type filter hook prerouting priority raw; policy accept;
        iifname "eth0" ip6 saddr {{ 2001:db8:2::/64, 2001:db8:3::/64, 2001:db8:4::/64 }} drop
        iifname {{ "eth1", "eth2" }} ip6 saddr != {{ fe80::/10, 2001:db8:2::/64, 2001:db8:3::/64, 2001:db8:4::/64 }} drop
    }}
    chain input {{
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        ct state established,related accept
        icmpv6 type {{ nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, echo-request }} accept
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct state invalid drop
        iifname {{ "eth1", "eth2" }} oifname "eth0" accept
        meta l4proto ipv6-icmp accept
        ip6 daddr . udp dport @allowed counter accept
        ip6 daddr {FIRST_TARGET} tcp dport 5201 counter accept
    }}
}}
"#,
        elements.join(", ")
    ))
}

fn ufw_rules(entries: usize) -> Result<String> {
    let mut text = String::from("*filter\n");
    for chain in ["input", "output", "forward"] {
        let _ = writeln!(text, ":ufw6-user-{chain} - [0:0]");
        for part in ["before", "after"] {
            let _ = writeln!(text, ":ufw6-{part}-logging-{chain} - [0:0]");
        }
        let _ = writeln!(text, ":ufw6-user-logging-{chain} - [0:0]");
    }
    text += ":ufw6-user-limit - [0:0]\n:ufw6-user-limit-accept - [0:0]\n### RULES ###\n";
    let udp = targets(entries)?.into_iter().map(|target| ("udp", target, FIRST_DESTINATION));
    for (protocol, target, port) in udp.chain([("tcp", FIRST_TARGET.to_owned(), 5201)]) {
        let _ = writeln!(text, "\n### tuple ### route:allow {protocol} {port} {target} any ::/0 in");
        let _ = writeln!(text, "-A ufw6-user-forward -p {protocol} -d {target} --dport {port} -j ACCEPT");
    }
    text += "\n### END RULES ###\nCOMMIT\n";
    Ok(text)
}

fn sixgate_file(entries: usize, one_more: usize) -> Result<String> {
    let mut text = SIXGATE.to_owned();
    let more = if one_more == 0 { None } else { Some(further(FIRST_TARGET.parse()?, one_more)?.to_string()) };
    for target in targets(entries)?.into_iter().chain(more) {
        let _ = write!(text, "\n[[allow]]\nto = \"{target}\"\nudp = {FIRST_DESTINATION}\n");
    }
    Ok(text)
}

const SIXGATE: &str = r#"hostname = "bench"

[wan]
interface = "eth0"
ipv6 = { address = "2001:db8:1::1/64", gateway = "fe80::2" }

[[lan]]
name = "servers"
interface = "eth1"
addresses = ["2001:db8:2::1/64"]
anti_spoofing = false

[[lan]]
name = "clients"
interface = "eth2"
addresses = ["2001:db8:4::1/64"]

[[vm]]
name = "server"
lan = "servers"
address = "2001:db8:2::2"
containers = "2001:db8:3::/64"

[[route]]
to = "2001:db8:9::/64"
via = "fe80::2%eth0"

[dns64]
enabled = false

[policy]
between = "by-allow"

[[allow]]
to = "server"
icmp = true

[[allow]]
to = "2001:db8:3::1000"
tcp = 5201
"#;

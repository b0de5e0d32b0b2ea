//! Status: what every task reports of itself; the console, the command line and the control socket show it.
mod advertised;
mod fast_path;
mod machine;
mod prefixes;
mod uplink;

use core::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

pub use advertised::{Advertised, AdvertisedPrefix, AntiSpoofing, OtherRouter};
pub use fast_path::{Answering, FastPath, Program};
pub use machine::{Appliance, Card, Clock, Milestone};
pub use prefixes::{Ddns, VmHook};
pub use uplink::{DelegatedPrefix, Dhcp4, Dhcp6, Discovery, Uplink, UplinkChange};

use crate::facts::AddressState;
use crate::finding::Finding;
use crate::plan::Obstacle;

/// Version of this structure; raised when a field changes its meaning or goes.
pub const VERSION: u32 = 1;

/// The whole state as an operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// The machine and the daemon.
    pub system: System,
    /// The uplink.
    pub wan: Interface,
    /// What the uplink was told by others.
    #[serde(default)]
    pub uplink: Uplink,
    /// LANs in the configuration's order.
    pub lans: Vec<Lan>,
    /// VMs in the configuration's order.
    pub vms: Vec<Vm>,
    /// The translator; absent when switched off.
    pub nat64: Option<Nat64>,
    /// The resolver; absent when switched off.
    pub dns64: Option<Dns64>,
    /// The firewall.
    pub firewall: Firewall,
    /// The NDP proxy; absent when switched off.
    #[serde(default)]
    pub ndp_proxy: Option<NdpProxy>,
    /// Prefixes that are translated to others on the uplink; absent where none are.
    #[serde(default)]
    pub npt: Option<Npt>,
    /// Names outside that follow addresses inside.
    #[serde(default)]
    pub ddns: Vec<Ddns>,
    /// VMs that have asked for their prefixes, by name.
    #[serde(default)]
    pub vm_hooks: BTreeMap<String, VmHook>,
    /// What something else has changed in the kernel, and was put right.
    #[serde(default)]
    pub repairs: Repairs,
    /// Which hosts have which addresses on the LANs.
    #[serde(default)]
    pub anti_spoofing: AntiSpoofing,
    /// The control socket.
    #[serde(default)]
    pub control: Control,
    /// The image's machine; absent on a host.
    #[serde(default)]
    pub appliance: Option<Appliance>,
    /// The machine's clock; absent where nobody looks at it.
    #[serde(default)]
    pub clock: Option<Clock>,
    /// The network cards that the machine has, used or not, in the order in which it has them.
    #[serde(default)]
    pub cards: Vec<Card>,
    /// What an operator should know, worst first.
    pub findings: Vec<Finding>,
}

/// The machine and the daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Configured name.
    pub hostname: String,
    /// Version of sixgate.
    pub sixgate: String,
    /// Kernel release.
    pub kernel: String,
    /// Seconds since the daemon started.
    pub daemon_uptime: u64,
    /// Seconds since the machine started.
    pub machine_uptime: u64,
    /// Bytes of memory in the machine.
    pub memory_total: u64,
    /// Bytes of memory available.
    pub memory_available: u64,
    /// Resident set of the daemon in bytes.
    pub daemon_resident: u64,
    /// Load average over one minute.
    pub load: f32,
    /// How often the daemon was started since boot (1 = never restarted).
    pub starts: u32,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Kernel name; empty while it is missing.
    pub name: String,
    /// Whether it exists.
    pub present: bool,
    /// Whether it has carrier.
    pub carrier: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Addresses with their DAD state.
    pub addresses: Vec<(IpNet, AddressState)>,
    /// Default gateways in force.
    pub gateways: Vec<IpAddr>,
    /// Packets and bytes received since the link came into being.
    pub received: Traffic,
    /// Packets and bytes sent.
    pub sent: Traffic,
}

/// The NDP proxy on the uplink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NdpProxy {
    /// The hardware address that answers carry.
    pub mac: String,
    /// Prefixes and addresses that are told apart.
    pub prefixes: usize,
    /// Hosts on LANs that are known to be there.
    pub alive: usize,
    /// Hosts on LANs that are remembered at all, alive or not.
    pub remembered: usize,
    /// Solicitations by what became of them.
    pub messages: BTreeMap<String, u64>,
}

/// Prefix translation on the uplink (RFC 6296).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Npt {
    /// The kernel's hook, `tcx` or `clsact`; absent while it does not run.
    pub hook: Option<String>,
    /// Prefixes inside, each with what stands for it outside.
    pub prefixes: Vec<(Ipv6Net, Option<Ipv6Net>)>,
    /// Packets by what became of them.
    pub packets: BTreeMap<String, u64>,
}

/// What something else has changed in the kernel, and was put right.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Repairs {
    /// How often, by kind: address, route, rule, link, sysctl, ruleset.
    pub counts: BTreeMap<String, u64>,
    /// The latest, the newest last.
    pub latest: Vec<Repair>,
}

/// Something that was put right.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Repair {
    /// Seconds since 1970.
    pub at: u64,
    /// What kind of thing it is.
    pub kind: String,
    /// What it is.
    pub item: String,
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Traffic {
    /// Adds to it.
    pub const fn add(&mut self, more: Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

/// A LAN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lan {
    /// Configured name.
    pub name: String,
    /// Its interface.
    pub interface: Interface,
    /// What is advertised; absent while nothing is.
    pub advertised: Option<Advertised>,
    /// Messages by what became of them, where hosts are answered by DHCPv6.
    #[serde(default)]
    pub dhcpv6: BTreeMap<String, u64>,
    /// Hosts that the kernel's neighbour cache knows there, by hardware address; the first of them where they are many.
    #[serde(default)]
    pub clients: Vec<Client>,
    /// Addresses that two hosts wanted lately, the latest first; known where anti-spoofing is on.
    #[serde(default)]
    pub contests: Vec<Contest>,
}

/// An address that two hosts wanted: one of them fails in duplicate address detection, or takes what is another's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contest {
    /// The address.
    pub address: String,
    /// The hardware address of who had it.
    pub holder: String,
    /// The hardware address of who wanted it.
    pub claimant: String,
    /// Whether that one asked first whether somebody has it (RFC 4862 section 5.4), and has gone without it by now.
    pub detection: bool,
    /// How often.
    pub times: u64,
    /// When that was last, in seconds since 1970.
    pub at: u64,
}

/// A host on a LAN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// Its hardware address.
    pub mac: String,
    /// Name of the VM that it is.
    pub vm: Option<String>,
    /// Its addresses; the first of them where they are many.
    pub addresses: Vec<IpAddr>,
    /// Whether one of them is reachable, stale, delay, probe or permanent.
    pub seen: bool,
    /// Seconds since it last showed that it is there; absent where it never did while somebody looked.
    #[serde(default)]
    pub last_seen: Option<u64>,
}

/// A VM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vm {
    /// Configured name.
    pub name: String,
    /// LAN it lives on.
    pub lan: String,
    /// The router's address that is its gateway.
    pub gateway: Option<Ipv6Net>,
    /// Next hop towards it.
    pub next_hop: Option<Ipv6Addr>,
    /// Prefixes routed to it.
    pub containers: Vec<Ipv6Net>,
    /// Whether the kernel's neighbour cache holds it as reachable, stale, delay, probe or permanent.
    pub seen: Option<bool>,
    /// Seconds since its next hop last showed that it is there; absent where it never did while somebody looked.
    #[serde(default)]
    pub last_seen: Option<u64>,
}

/// The translator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Nat64 {
    /// Pref64::/n.
    pub pref64: Option<Ipv6Net>,
    /// Prefixes that are translated as well.
    #[serde(default)]
    pub further_pref64: Vec<Ipv6Net>,
    /// Why it does not work, when it does not.
    pub obstacle: Option<Obstacle>,
    /// Sessions by protocol.
    pub sessions: Sessions,
    /// Bindings (BIB entries) by protocol.
    pub bindings: Sessions,
    /// Translated from IPv6 to IPv4.
    pub v6_to_v4: Traffic,
    /// Translated from IPv4 to IPv6.
    pub v4_to_v6: Traffic,
    /// Packets by reason of their verdict, without those translated.
    pub reasons: BTreeMap<String, u64>,
    /// The fast path; absent when switched off or not loaded.
    #[serde(default)]
    pub fast_path: Option<FastPath>,
    /// What each VM that has a prefix or an address of its own has sent and received.
    #[serde(default)]
    pub vms: Vec<Accounted>,
    /// The clients with the most bytes.
    #[serde(default)]
    pub clients: Vec<Accounted>,
    /// Where bindings are told; absent when they are not.
    #[serde(default)]
    pub log: Option<EventLog>,
    /// Events for the log that found no room in the translator.
    #[serde(default)]
    pub events_lost: u64,
    /// The addresses that it translates to.
    #[serde(default)]
    pub pool: Nat64Pool,
    /// What is published, in the configuration's order.
    #[serde(default)]
    pub published: Vec<Published>,
}

/// The addresses that the translator translates to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat64Pool {
    /// How many there are.
    pub addresses: u64,
    /// Ports and identifiers that are left.
    pub free: Sessions,
    /// Ports and identifiers that are held back after use.
    pub held: u64,
    /// Ports of a block, where they are given out in blocks; else zero.
    pub block: u16,
    /// Blocks that somebody has, and those that are left.
    pub blocks: (u64, u64),
}

/// What of an address leads inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Line of the configuration that it comes from.
    pub line: u32,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// The address and first port outside.
    pub listen: SocketAddr,
    /// The host inside and its first port.
    pub to: SocketAddr,
    /// How many ports in a row; none for echo.
    pub ports: u16,
    /// Sessions at the moment; absent for echo, which has none, and where there are too many ports to count them.
    pub sessions: Option<u64>,
}

/// The log of the translator's bindings and sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLog {
    /// Where it goes, as in the configuration.
    pub to: String,
    /// Events told.
    pub written: u64,
    /// Times that the journal or the server did not take them; they are told when it does.
    pub failures: u64,
}

/// A part of the translator's sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// Where the next part begins; absent after the last one.
    pub next: Option<u32>,
}

/// A session of the translator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// "tcp", "udp" or "icmp".
    pub protocol: String,
    /// TCP's state, as in RFC 6146 section 3.5.2.2; absent for others.
    pub state: Option<String>,
    /// The host inside, and its port or identifier.
    pub client: SocketAddrV6,
    /// What stands for it outside.
    pub mapped: SocketAddrV4,
    /// The host outside.
    pub server: SocketAddrV4,
    /// Seconds since its last packet that counts for its lifetime.
    pub idle: u64,
    /// Translated from IPv6 to IPv4.
    pub v6_to_v4: Traffic,
    /// Translated from IPv4 to IPv6.
    pub v4_to_v6: Traffic,
}

/// What somebody has sent and received through the translator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accounted {
    /// The VM's name; empty for a client that belongs to none.
    pub name: String,
    /// The client's address; absent for a whole VM.
    pub address: Option<Ipv6Addr>,
    /// Translated from IPv6 to IPv4.
    pub v6_to_v4: Traffic,
    /// Translated from IPv4 to IPv6.
    pub v4_to_v6: Traffic,
}

/// A count per protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// TCP.
    pub tcp: u64,
    /// UDP.
    pub udp: u64,
    /// ICMP queries.
    pub icmp: u64,
}

/// The resolver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dns64 {
    /// Addresses on which it really listens.
    pub listening: Vec<SocketAddr>,
    /// Upstreams with answers and failures.
    pub upstreams: Vec<Upstream>,
    /// Whether synthesis is on.
    pub synthesizing: bool,
    /// Questions received.
    pub queries: u64,
    /// Questions answered from the cache.
    #[serde(default)]
    pub cached: u64,
    /// Answers given after they had expired, because no upstream answered (RFC 8767).
    #[serde(default)]
    pub stale: u64,
    /// Answers kept.
    #[serde(default)]
    pub cache_answers: u64,
    /// Bytes that they take, the workers' copies included.
    #[serde(default)]
    pub cache_bytes: u64,
    /// Answers with synthesized records.
    pub synthesized: u64,
    /// Questions that ended in SERVFAIL.
    pub failures: u64,
    /// Whether answers are validated.
    #[serde(default)]
    pub validating: bool,
    /// Upstreams' answers that are proven.
    #[serde(default)]
    pub validated: u64,
    /// Upstreams' answers that are bogus.
    #[serde(default)]
    pub bogus: u64,
    /// Messages dropped or refused, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// What is answered in the kernel; absent where nothing is.
    #[serde(default)]
    pub fast_path: Option<Answering>,
    /// Names that were asked for the most in the last minutes, and about how often.
    #[serde(default)]
    pub top_names: Vec<Frequent>,
    /// Clients that asked the most in the last minutes, and about how often.
    #[serde(default)]
    pub top_clients: Vec<Frequent>,
}

/// Something that came up often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frequent {
    /// What.
    pub name: String,
    /// About how often in the last minutes; what is old counts for less.
    pub count: u64,
}

/// An upstream resolver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its address.
    pub address: SocketAddr,
    /// Answers received.
    pub answers: u64,
    /// Time-outs and errors.
    pub failures: u64,
    /// The time that an answer takes, smoothed, in microseconds; 0 while there was none.
    #[serde(default)]
    pub latency_us: u64,
    /// How it is asked, where that is over TLS: `tls://` or `https://` with its address and name.
    #[serde(default)]
    pub encrypted: Option<String>,
}

/// The firewall.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Firewall {
    /// Whether sixgate's ruleset is in force.
    pub loaded: bool,
    /// Whether packets are forwarded.
    pub forwarding: bool,
    /// Packets dropped at the end of a chain or by a deny rule, by the rule's comment.
    pub dropped: BTreeMap<String, Traffic>,
    /// Packets admitted by `allow` and `publish` entries, by the rule's comment.
    pub allowed: BTreeMap<String, Traffic>,
    /// Raised by one whenever a ruleset is loaded.
    #[serde(default)]
    pub generation: u64,
    /// Connections that ended because they were not admitted any more.
    #[serde(default)]
    pub ended: u64,
    /// Connections that the kernel tracks; absent while it tracks none.
    #[serde(default)]
    pub connections: Option<Connections>,
    /// Denials that `sixgate denials` shows.
    #[serde(default)]
    pub denials: u64,
    /// Lines that were written to `policy.log`.
    #[serde(default)]
    pub logged: u64,
    /// Established flows past rules and routing; absent where they pass them.
    #[serde(default)]
    pub flow_offload: Option<FlowOffload>,
}

/// Established flows past rules and routing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowOffload {
    /// The kernel's hook, `tcx` or `clsact`; absent while it runs on no interface.
    pub hook: Option<String>,
    /// Directions of flows that it can know.
    pub capacity: u64,
    /// How often one was learnt.
    pub learnt: u64,
    /// What went past rules and routing.
    pub past: Traffic,
    /// IPv6 packets that went by rules and routing, by reason.
    pub reasons: BTreeMap<String, u64>,
}

/// Connections that the kernel tracks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// How many there are.
    pub held: u64,
    /// Most that there can be.
    pub most: u64,
    /// Packets that began one and were dropped because there was no room.
    pub refused: u64,
    /// Unanswered ones that made room for others.
    pub evicted: u64,
}

/// The control socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Requests served.
    pub requests: u64,
    /// Lines refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// The console asks for a password before it changes anything.
    #[serde(default)]
    pub password: bool,
}

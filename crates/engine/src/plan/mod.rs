//! The plan: the whole desired state, computed by a pure function from configuration and facts.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::rr::Name;
use ipnet::{IpNet, Ipv6Net};

use crate::config::{Config, LogTo};
use crate::dns64::View;
use crate::facts::Facts;
use crate::finding::Finding;
use crate::firewall;
use crate::firewall::ruleset::Ruleset;
use crate::nat64::event::Wanted;
use crate::nat64::tuple::{Protocol, TransportV4, TransportV6};
use crate::prefix;

mod ddns;
mod dns64;
mod findings;
pub mod flow;
pub(crate) mod listen;
mod nat64;
mod ndp_proxy;
mod network;
pub(crate) mod npt;
mod preview;
mod published;
mod ra;
mod render;
mod routes;
mod savi;
mod stateless;
mod sysctl;
pub(crate) mod topology;
mod vm_prefixes;

pub use preview::{preview, preview_facts};
use topology::Topology;
pub use topology::{next_hop, uplink_link};

/// Protocol number that marks routes (RTPROT) and addresses (IFA_PROTO) as sixgate's own.
pub const ROUTE_PROTOCOL: u8 = 164;
/// Name of the TUN device of the translator.
pub const NAT64_DEVICE: &str = "nat64";
/// Routing table that sends NAT64's share of the IPv4 address to the TUN device.
pub const NAT64_TABLE: u32 = 6464;
/// Firewall mark of packets for that table.
pub const NAT64_MARK: u32 = 0x0064_0000;
/// Preference of the routing rule that looks at the mark; it comes before [`LOCAL_RULE_PREFERENCE`].
pub const NAT64_RULE_PREFERENCE: u32 = 64;
/// Preference that the local table's rule is moved to from 0.
pub const LOCAL_RULE_PREFERENCE: u32 = 100;

/// Mask of the bits that [`NAT64_MARK`] occupies in a packet's mark.
pub const NAT64_MARK_MASK: u32 = 0x00ff_0000;
/// The kernel's main routing table.
pub const MAIN_TABLE: u32 = 254;
/// The kernel's local routing table.
pub const LOCAL_TABLE: u32 = 255;
/// Metric of sixgate's routes.
pub const ROUTE_METRIC: u32 = 100;
/// Metric of the unreachable routes behind what sixgate routes: they count once the real route is gone.
pub const UNREACHABLE_METRIC: u32 = 1_000_000;
/// Ports of the router's own traffic over the shared IPv4 address (`net.ipv4.ip_local_port_range`).
pub const ROUTER_PORTS: core::ops::RangeInclusive<u16> = 32_768..=36_863;
/// Ports of that address that are kept for NAT44.
pub const NAT44_PORTS: core::ops::RangeInclusive<u16> = 36_864..=40_959;

/// The whole desired state. Each task applies its part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Links, addresses, routes, rules and sysctls.
    pub network: NetworkPlan,
    /// The nftables ruleset.
    pub firewall: Ruleset,
    /// Past it, for what is the translator's anyway; absent without a translator.
    pub shortcut: Option<firewall::shortcut::Shortcut>,
    /// What is answered for on the uplink; absent when switched off.
    pub ndp_proxy: Option<crate::ndp_proxy::NdpProxyPlan>,
    /// What hosts are told by DHCPv6, by LAN.
    pub stateless: Vec<crate::dhcp::stateless::StatelessPlan>,
    /// Prefixes that are translated to others on the uplink; absent where none are.
    pub npt: Option<crate::npt::NptPlan>,
    /// Where established flows pass neither rules nor routing; absent where they do.
    pub flows: Option<flow::FlowPlan>,
    /// Names outside, and the addresses that they are to have.
    pub ddns: Vec<crate::ddns::Record>,
    /// What VMs are told of their prefixes; absent where they cannot ask.
    pub vm_prefixes: Option<crate::vm_prefixes::VmPrefixesPlan>,
    /// Which hosts may have which addresses on the LANs.
    pub savi: crate::savi::SaviPlan,
    /// Who may begin a conversation with whom.
    pub admission: firewall::admission::Admission,
    /// What addresses are called, for those who tell of packets.
    pub names: firewall::denial::Names,
    /// Where denials are logged, and by whom.
    pub denial_log: Option<LogPlan>,
    /// One entry per link that is advertised on and present.
    pub ra: Vec<RaPlan>,
    /// The resolver.
    pub dns64: Dns64Plan,
    /// The translator; absent when switched off.
    pub nat64: Option<Nat64Plan>,
    /// Addresses on which metrics are served. Link-local ones carry their scope.
    pub metrics: Vec<SocketAddr>,
    /// What does not fit, with the mend.
    pub findings: Vec<Finding>,
}

/// What rtnetlink and sysctl are to make true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Links to bring up.
    pub links: Vec<LinkPlan>,
    /// Addresses to hold.
    pub addresses: Vec<AddressPlan>,
    /// Routes to hold.
    pub routes: Vec<RoutePlan>,
    /// Routing rules to hold.
    pub rules: Vec<RulePlan>,
    /// Values to write, in order, with the path below `/proc/sys`.
    pub sysctls: Vec<Sysctl>,
}

/// A link to bring up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPlan {
    /// Kernel interface index.
    pub index: u32,
    /// Kernel name.
    pub name: String,
    /// MTU to set, if configured.
    pub mtu: Option<u32>,
    /// Hardware address to set, if configured.
    pub mac: Option<crate::facts::MacAddr>,
}

/// An address to hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressPlan {
    /// Kernel interface index.
    pub link: u32,
    /// Address with prefix length, host bits kept.
    pub net: IpNet,
    /// RFC 4862 section 5.5.4: the kernel begins nothing new with it.
    pub deprecated: bool,
}

/// A route to hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoutePlan {
    /// Destination; `::/0` or `0.0.0.0/0` for a default route.
    pub to: IpNet,
    /// Where it leads.
    pub next: NextHop,
    /// Routing table; 254 is main.
    pub table: u32,
    /// Metric; lower wins.
    pub metric: u32,
    /// Source of what the router itself sends by it, where the kernel might choose another.
    pub source: Option<IpAddr>,
    /// MTU of what goes by it, where that is less than the link's.
    pub mtu: Option<u32>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHop {
    /// A gateway on a link; `onlink` where the gateway lies outside the link's prefixes.
    Gateway {
        /// Kernel interface index.
        link: u32,
        /// Next hop.
        via: IpAddr,
        /// RTNH_F_ONLINK.
        onlink: bool,
    },
    /// Straight onto the link.
    Link {
        /// Kernel interface index.
        link: u32,
    },
    /// Answered with an ICMP error.
    Unreachable,
}

/// A routing rule to hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RulePlan {
    /// Address family.
    pub family: Family,
    /// Order; lower comes first.
    pub preference: u32,
    /// Match on this mark with this mask.
    pub fwmark: Option<(u32, u32)>,
    /// Table to look up.
    pub table: u32,
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A value below `/proc/sys`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sysctl {
    /// Path below `/proc/sys` with slashes, e.g. `net/ipv6/conf/all/forwarding`.
    pub path: String,
    /// Value without a newline.
    pub value: String,
    /// When it is written: `forwarding` is switched on only after the firewall is loaded.
    pub stage: Stage,
}

/// When a sysctl is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Before addresses and routes.
    Early,
    /// After the ruleset is in force.
    Forwarding,
}

/// What is advertised on one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaPlan {
    /// Name of the LAN.
    pub lan: String,
    /// Kernel interface index.
    pub link: u32,
    /// Kernel interface name.
    pub interface: String,
    /// Source address, link-local.
    pub source: Ipv6Addr,
    /// Whether the link has carrier; without, nothing is said.
    pub carrier: bool,
    /// What the advertisement says; timing variables included.
    pub advertisement: crate::ra::AdvertisementPlan,
}

/// What the resolver does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns64Plan {
    /// Addresses to listen on, port included. Link-local ones carry their scope.
    pub listen: Vec<SocketAddr>,
    /// Addresses to listen on over TLS.
    pub listen_tls: Vec<SocketAddr>,
    /// What is shown there.
    pub identity: Option<crate::config::Identity>,
    /// Where questions go.
    pub upstream: Vec<SocketAddr>,
    /// Those of all upstreams that are asked over TLS only.
    pub encrypted: Vec<crate::config::Encrypted>,
    /// Certificates in DER of who may vouch for them beside the public authorities.
    pub authorities: Vec<Vec<u8>>,
    /// Prefix for synthesis; absent while translation cannot work.
    pub synthesis: Option<Ipv6Net>,
    /// Non-global IPv4 prefixes that may be synthesized all the same.
    pub translate_non_global: Vec<ipnet::Ipv4Net>,
    /// Pref64 as configured, also while synthesis is off.
    pub pref64: Option<Ipv6Net>,
    /// Clients that are given no synthesized addresses.
    pub untranslated: Vec<Ipv6Net>,
    /// Links whose link-local clients are given none, by kernel interface index.
    pub untranslated_links: Vec<u32>,
    /// Prefixes that are translated as well; the names of addresses in them are known, too.
    pub further_pref64: Vec<Ipv6Net>,
    /// RFC 6147 section 5.1.4: AAAA records that do not count.
    pub excluded: Vec<Ipv6Net>,
    /// IPv4 addresses that are not synthesized.
    pub untranslated_ipv4: Vec<ipnet::Ipv4Net>,
    /// Domains in which nothing is synthesized.
    pub never: Vec<Name>,
    /// Domains in which addresses are synthesized although there are AAAA records.
    pub always: Vec<Name>,
    /// Domains with upstreams of their own.
    pub forward: Vec<(Name, Vec<SocketAddr>)>,
    /// IPv4 prefixes that another prefix stands for.
    pub prefixes: Vec<(ipnet::Ipv4Net, Ipv6Net)>,
    /// Whether private addresses are taken out of upstreams' answers.
    pub refuse_private: bool,
    /// Domains whose names may have private addresses all the same.
    pub private_domains: Vec<Name>,
    /// Queries that one client may ask by UDP in a second; 0 for no limit.
    pub rate: u32,
    /// Whether answers are validated.
    pub validate: bool,
    /// Keys of the root zone that are trusted beside the two that are built in, as text.
    pub trust_anchors: Vec<String>,
    /// Domains in which nothing is validated.
    pub insecure_domains: Vec<Name>,
    /// Names of this network.
    pub local: LocalNames,
    /// Names whose addresses the firewall is told before anybody else.
    pub reach: Vec<Reach>,
    /// For how many seconds answers may be of use after they have expired (RFC 8767); 0 for never.
    pub serve_stale: u32,
    /// Bytes that answers may take in all.
    pub cache: usize,
    /// Threads that answer by UDP.
    pub workers: usize,
    /// Where what is asked for often is answered in the kernel, and whom; absent where it is not.
    pub fast_path: Option<FastPathPlan>,
}

/// A name that restricted hosts may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The firewall's set for its addresses.
    pub set: String,
    /// The name.
    pub name: Name,
    /// Whether those below it are meant instead.
    pub below: crate::config::Below,
}

impl Reach {
    /// Whether this name in lower case is meant.
    pub fn is_meant(&self, name: &Name) -> bool {
        match self.below {
            crate::config::Below::Not => self.name == *name,
            crate::config::Below::Only => self.name.zone_of(name) && self.name != *name,
        }
    }
}

/// Names that are answered here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalNames {
    /// The domain that is this network's own.
    pub domain: Option<Name>,
    /// Hosts with their addresses.
    pub hosts: Vec<(Name, Vec<IpAddr>)>,
}

impl Dns64Plan {
    /// Whom a question about this name goes to: the longest domain decides.
    pub fn upstreams_for(&self, name: &Name) -> &[SocketAddr] {
        let domains = self.forward.iter().filter(|(domain, _)| domain.zone_of(name));
        domains.max_by_key(|(domain, _)| domain.num_labels()).map_or(&self.upstream, |(_, upstream)| upstream)
    }

    /// How this upstream is asked, where that is over TLS.
    pub fn encrypted(&self, upstream: SocketAddr) -> Option<&crate::config::Encrypted> {
        self.encrypted.iter().find(|encrypted| encrypted.address == upstream)
    }

    /// Whether answers about this name are validated. What a domain's own servers say of it, nobody outside has signed.
    pub fn validates(&self, name: &Name) -> bool {
        let forwarded = self.forward.iter().map(|(domain, _)| domain);
        self.validate && !self.insecure_domains.iter().chain(forwarded).any(|domain| domain.zone_of(name))
    }

    /// What a client gets to see.
    pub fn view(&self, client: SocketAddr) -> View {
        let SocketAddr::V6(client) = client else { return View::Translated };
        let untranslated = if client.ip().is_unicast_link_local() {
            self.untranslated_links.contains(&client.scope_id())
        } else {
            self.untranslated.iter().any(|net| net.contains(client.ip()))
        };
        if untranslated { View::Untranslated } else { View::Translated }
    }
}

/// What the translator does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat64Plan {
    /// Pref64::/n: what is advertised and synthesized.
    pub pref64: Ipv6Net,
    /// Prefixes that are translated as well.
    pub further_pref64: Vec<Ipv6Net>,
    /// Addresses to translate to; empty while there is no IPv4 uplink.
    pub pool4: Vec<Ipv4Addr>,
    /// Share of ports and identifiers of those addresses.
    pub ports: core::ops::RangeInclusive<u16>,
    /// Further addresses to translate to.
    pub further_pool4: Vec<Ipv4Addr>,
    /// Share of ports and identifiers of the further addresses.
    pub further_ports: core::ops::RangeInclusive<u16>,
    /// Ports of a block, where clients get their ports in blocks; else zero.
    pub port_block: u16,
    /// IPv4 prefixes that nothing is translated to.
    pub never_translate: Vec<ipnet::Ipv4Net>,
    /// Non-global IPv4 prefixes that may be translated all the same.
    pub translate_non_global: Vec<ipnet::Ipv4Net>,
    /// Source of ICMPv6 errors that the translator itself sends: a LAN address of the router.
    pub router_v6: Option<Ipv6Addr>,
    /// MTU towards IPv6 (the smallest LAN MTU).
    pub mtu_v6: u32,
    /// MTU towards IPv4 (the uplink's).
    pub mtu_v4: u32,
    /// What the operator decided about translation.
    pub policy: crate::xlat::Policy,
    /// Most ICMP errors of its own that the translator sends.
    pub icmp_errors_per_second: u32,
    /// Who outside may send through a binding.
    pub filtering: crate::config::Filtering,
    /// What one client may have.
    pub limits: crate::config::Nat64Limits,
    /// Ports of the pool's addresses that lead inside, whoever asks.
    pub static_bindings: Vec<StaticBinding>,
    /// Addresses of the pool whose echo requests lead inside.
    pub published_echo: Vec<PublishedEcho>,
    /// Who is one client, where more is known than a prefix length.
    pub clients: Vec<ClientPrefix>,
    /// Who is one VM.
    pub vms: Vec<VmNets>,
    /// What is told of bindings and sessions.
    pub events: Wanted,
    /// Where that is told, and by whom.
    pub log: Option<LogPlan>,
    /// Session lifetimes.
    pub timers: crate::config::Nat64Timers,
    /// Ceiling on sessions.
    pub max_sessions: u32,
    /// Between which links its packets may go past the kernel's routing; absent where they may not.
    pub shortcut: Option<ShortcutLinks>,
    /// Why it cannot work now, when it cannot.
    pub obstacle: Option<Obstacle>,
    /// The fast path; absent when switched off, or while there is no uplink.
    pub fast_path: Option<FastPathPlan>,
}

/// Where the fast path runs, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FastPathPlan {
    /// Kernel index and name of the uplink.
    pub uplink: (u32, String),
    /// The same of the LANs.
    pub lans: Vec<(u32, String)>,
    /// On which LAN hosts are, by prefix; the longest counts.
    pub clients: Vec<(Ipv6Net, u32)>,
    /// LANs on which each hardware address sends from its own addresses alone.
    pub validated: Vec<u32>,
    /// Most sessions, where that is not the machine's to say.
    pub sessions: Option<u32>,
}

impl Nat64Plan {
    /// All prefixes, the advertised one first.
    pub fn prefixes(&self) -> impl Iterator<Item = Ipv6Net> {
        core::iter::once(self.pref64).chain(self.further_pref64.iter().copied())
    }

    /// All addresses to translate to, each with its share of ports and identifiers.
    pub fn shares(&self) -> impl Iterator<Item = (Ipv4Addr, core::ops::RangeInclusive<u16>)> {
        let shared = self.pool4.iter().map(|address| (*address, self.ports.clone()));
        shared.chain(self.further_pool4.iter().map(|address| (*address, self.further_ports.clone())))
    }
}

/// The log of bindings and sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// Where it goes.
    pub to: LogTo,
    /// The router's name in it.
    pub hostname: String,
}

/// The links of the translator's shortcuts, by kernel interface index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortcutLinks {
    /// The translator's own device.
    pub device: u32,
    /// Towards IPv4.
    pub uplink: u32,
    /// Towards IPv6.
    pub lans: Vec<u32>,
}

/// Addresses and prefixes of a VM, by which its packets are told from those of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmNets {
    /// Its name.
    pub name: String,
    /// Its address, the prefix behind its gateway, its containers.
    pub nets: Vec<Ipv6Net>,
}

/// A binding that an operator made: RFC 6146 section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticBinding {
    /// TCP, UDP, or ICMP queries, whose identifiers take the place of ports.
    pub protocol: Protocol,
    /// The first port outside.
    pub mapped: TransportV4,
    /// The host inside and its first port.
    pub client: TransportV6,
    /// How many ports in a row.
    pub ports: u16,
    /// Line of the configuration that it comes from.
    pub line: u32,
}

/// An address of the pool whose echo requests a host inside answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedEcho {
    /// The address outside.
    pub mapped: Ipv4Addr,
    /// The host inside.
    pub client: Ipv6Addr,
    /// Line of the configuration that it comes from.
    pub line: u32,
}

/// A prefix whose clients are told apart by a length of their own. The whole of it has no more than one client's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPrefix {
    /// The prefix.
    pub net: Ipv6Net,
    /// Each prefix of this length inside is a client, 128 at most and no less than the prefix's own.
    pub each: u8,
}

/// Why translation cannot work now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// The uplink has no IPv4 address or is down.
    NoIpv4Uplink,
    /// The TUN device does not exist (yet).
    NoDevice,
}

/// Computes the desired state: a pure function of configuration and facts.
pub fn plan(config: &Config, facts: &Facts) -> Plan {
    let mut findings = Vec::new();
    let config = prefix::resolve(config, &facts.learnt, &mut findings);
    let topology = Topology::resolve(&config, facts, &mut findings);
    let nat64 = nat64::plan(&topology);
    let network = network::plan(&topology, nat64.as_ref());
    let dns64 = dns64::plan(&topology, nat64.as_ref());
    let ra = topology.lans.iter().filter_map(|lan| ra::plan(&topology, lan, nat64.as_ref())).collect();
    let firewall = firewall::ruleset(&topology, nat64.as_ref());
    let shortcut = firewall::shortcut::shortcut(&topology, nat64.as_ref());
    let admission = firewall::admission::Admission::of(&topology);
    let names = firewall::denial::Names::of(&topology);
    let denial_log = config.policy.log.map(|to| LogPlan { to, hostname: config.hostname.clone() });
    let ndp_proxy = ndp_proxy::plan(&topology);
    let stateless = stateless::plan(&topology, nat64.as_ref());
    let npt = npt::plan(&topology, &mut findings);
    let flows = flow::plan(&topology, &mut findings);
    let savi = savi::plan(&topology);
    findings::check(&topology, nat64.as_ref(), &dns64, &mut findings);
    let metrics = listen::metrics(&topology);
    let ddns = ddns::plan(&topology);
    let vm_prefixes = vm_prefixes::plan(&topology);
    Plan {
        network,
        firewall,
        shortcut,
        admission,
        names,
        denial_log,
        ndp_proxy,
        stateless,
        npt,
        flows,
        ddns,
        vm_prefixes,
        savi,
        ra,
        dns64,
        nat64,
        metrics,
        findings,
    }
}

//! The configuration: one TOML file, parsed to validated values. An error keeps the old configuration.
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::RangeInclusive;
use core::time::Duration;
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};

mod advertise;
mod allow;
mod claim;
mod connections;
mod console;
mod ddns;
mod difference;
mod dns64;
mod door;
mod encrypted;
mod error;
mod forward;
mod groups;
mod keys;
mod lan;
mod lan_port;
mod nat64;
mod nat64_log;
mod npt;
mod outbound;
mod parse;
mod policy;
mod pool;
mod publish;
mod raw;
mod relative;
mod route;
mod scalar;
mod time;
mod vm;
mod wan;

pub use advertise::{Advertise, AdvertisedRoute, EncryptedResolver, PrefixVariables, UNRESTRICTED};
pub use connections::Connections;
pub use console::Console;
pub use ddns::Ddns;
pub use difference::Difference;
pub use dns64::{Clients, Dns64, DnsHost};
pub use encrypted::{Encrypted, Identity};
pub use error::{ConfigError, ConfigErrors};
pub use forward::{Forward, Inside};
pub use lan_port::LanPort;
pub use outbound::{Below, Outbound};
pub use parse::parse;
pub use policy::{Between, Policy, Refuse};
pub use sixgate_wire::mac::MacAddr;
pub use time::Time;

/// A valid configuration. Everything in it has been checked at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of this router.
    pub hostname: String,
    /// The uplink.
    pub wan: Wan,
    /// Links with clients; names are unique.
    pub lans: Vec<Lan>,
    /// Virtual machines that get a gateway and a container prefix; names are unique.
    pub vms: Vec<Vm>,
    /// Plain static routes.
    pub routes: Vec<Route>,
    /// Prefixes inside that have others outside.
    pub npt: Vec<Npt>,
    /// Names outside.
    pub ddns: Vec<Ddns>,
    /// Where VMs ask for their prefixes; absent where they cannot.
    pub vm_prefixes: Option<LanPort>,
    /// The resolver.
    pub dns64: Dns64,
    /// The translator; absent when switched off.
    pub nat64: Option<Nat64>,
    /// What is admitted; everything else is dropped.
    pub allow: Vec<Arc<Allow>>,
    /// What restricted hosts may reach outside.
    pub outbound: Vec<Outbound>,
    /// What holds where no entry speaks.
    pub policy: Policy,
    /// How many connections are kept, and for how long.
    pub connections: Connections,
    /// What of the outside leads inside.
    pub publish: Vec<Publish>,
    /// What of the outside leads inside without translation between the families.
    pub forwards: Vec<Forward>,
    /// Where metrics are served; absent when they are not.
    pub metrics: Option<LanPort>,
    /// Who is asked what time it is; where it is absent, the image asks whoever the uplink names.
    pub time: Option<Time>,
    /// What the console asks for.
    pub console: Console,
}

/// A prefix inside that has another one outside (RFC 6296).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Npt {
    /// The prefix inside.
    pub inside: Ipv6Net,
    /// The one outside, of the same length: static, or filled in by [`crate::prefix::resolve`].
    pub outside: Option<Ipv6Net>,
    /// Its number among the subnets of what is delegated, where it is carved.
    pub subnet: Option<u32>,
}

/// How a configured interface is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// By kernel name.
    Name(String),
    /// By hardware address.
    Mac(MacAddr),
}

/// The uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wan {
    /// Which interface.
    pub interface: Interface,
    /// Where IPv4 comes from.
    pub ipv4_source: Ipv4Source,
    /// IPv4 address and gateway: static, or filled in by [`crate::prefix::resolve`].
    pub ipv4: Option<WanIpv4>,
    /// Where IPv6 comes from.
    pub ipv6_source: Ipv6Source,
    /// IPv6 addresses and gateway: static, or filled in by [`crate::prefix::resolve`].
    pub ipv6: Option<WanIpv6>,
    /// The hardware address that the uplink takes.
    pub present_mac: Option<MacAddr>,
    /// Whether solicitations on the uplink are answered for what lies behind the router.
    pub ndp_proxy: bool,
    /// RFC 8415 section 18.2.1: the length of the prefix that is asked for.
    pub prefix_hint: Option<u8>,
    /// MTU to set, 1,280 to 65,535; the kernel's own when absent.
    pub mtu: Option<u32>,
    /// Whether unique local addresses leave by the uplink's own address.
    pub masquerade_ula: bool,
    /// Whether packets from sources that are nobody's on the Internet are dropped.
    pub bogons: bool,
}

/// Where the uplink's IPv4 comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ipv4Source {
    /// From the file, or there is none.
    #[default]
    Static,
    /// DHCPv4 (RFC 2131).
    Dhcp,
}

/// Where the uplink's IPv6 comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ipv6Source {
    /// From the file, or there is none.
    #[default]
    Static,
    /// Router advertisements (RFC 4861, 4862), with an address by DHCPv6 where they say so.
    Ra,
    /// As [`Ipv6Source::Ra`], and prefixes by delegation (RFC 8415).
    Dhcpv6Pd,
}

/// IPv4 on the uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WanIpv4 {
    /// Address with prefix length, host bits kept.
    pub address: Ipv4Net,
    /// Next hop; may lie outside the prefix.
    pub gateway: Option<Ipv4Addr>,
    /// Further routes; without a next hop the destination is on the link.
    pub routes: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
}

/// IPv6 on the uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WanIpv6 {
    /// Addresses with prefix length, host bits kept; exactly one where it is static.
    pub addresses: Vec<Ipv6Net>,
    /// Those of them that nothing new begins with.
    pub deprecated: Vec<Ipv6Net>,
    /// Next hop; link-local, or global and perhaps outside the prefix.
    pub gateway: Option<Ipv6Addr>,
    /// Further routes; without a next hop the destination is on the link.
    pub routes: Vec<(Ipv6Net, Option<Ipv6Addr>)>,
    /// MTU that the link's routers advertise.
    pub mtu: Option<u32>,
    /// Prefixes that are on-link there and on a LAN as well; the LAN has the route, the NDP proxy the rest.
    pub shared: Vec<Ipv6Net>,
}

/// A link with clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lan {
    /// Name for rules and the console.
    pub name: String,
    /// Which interface.
    pub interface: Interface,
    /// The router's own addresses there, host bits kept; [`crate::prefix::resolve`] adds those out of `prefixes`.
    pub addresses: Vec<Ipv6Net>,
    /// Prefixes that are learnt or generated.
    pub prefixes: Vec<LanPrefix>,
    /// How long those of them last that [`crate::prefix::resolve`] has filled in.
    pub lifetimes: Vec<PrefixLifetime>,
    /// Router variables; absent when `advertise = false`.
    pub advertise: Option<Advertise>,
    /// The router's IPv4 address there; hosts behind it leave by the uplink's.
    pub ipv4: Option<Ipv4Net>,
    /// MTU to set, 1,280 to 65,535; the kernel's own when absent.
    pub mtu: Option<u32>,
    /// Hosts send from their own addresses and nothing else.
    pub anti_spoofing: bool,
    /// What is served there by DHCPv6; absent where nothing is.
    pub dhcpv6: Option<Dhcpv6Service>,
}

/// What a LAN is served by DHCPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dhcpv6Service {
    /// RFC 8415 section 6.1: resolvers, domains and time servers for hosts that have addresses.
    Stateless,
}

/// A LAN's prefix that is not in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanPrefix {
    /// Where it is carved out of.
    pub origin: PrefixOrigin,
    /// Its number there.
    pub subnet: u32,
    /// Its length.
    pub length: u8,
    /// The router's own address in it, by its suffix.
    pub router: Ipv6Addr,
}

/// Where a LAN's prefix is carved out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixOrigin {
    /// What the uplink delegates.
    Delegated,
    /// What routers on the uplink advertise for the uplink itself.
    Learnt,
    /// The site's own unique local prefix (RFC 4193).
    Ula,
}

/// How long a prefix lasts. A lifetime that is infinite has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixLifetime {
    /// The prefix.
    pub prefix: Ipv6Net,
    /// When hosts stop to prefer it.
    pub preferred_until: Option<crate::time::Instant>,
    /// When it ends.
    pub valid_until: Option<crate::time::Instant>,
    /// It is told to hosts as deprecated until it ends.
    pub retired: bool,
}

/// A virtual machine behind the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Name for rules and the console.
    pub name: String,
    /// Name of the LAN it lives on.
    pub lan: String,
    /// An address that the router takes as this VM's gateway.
    pub gateway: Option<Ipv6Net>,
    /// The VM's own address.
    pub address: Option<Ipv6Addr>,
    /// The VM's hardware address; the link-local address derived from it is the next hop when there is no `address`.
    pub mac: Option<MacAddr>,
    /// Prefixes that are routed to it.
    pub containers: Vec<Ipv6Net>,
    /// What it has in each prefix of its LAN, by the suffix.
    pub relative: Relative,
}

/// What a VM has inside its LAN's prefixes, whatever they are: the first 64 bits are zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relative {
    /// As [`Vm::gateway`].
    pub gateway: Option<Ipv6Net>,
    /// As [`Vm::address`].
    pub address: Option<Ipv6Addr>,
    /// As [`Vm::containers`].
    pub containers: Vec<Ipv6Net>,
}

impl Relative {
    /// Whether the VM has nothing of that kind.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub to: ipnet::IpNet,
    /// Next hop, or nothing for an unreachable route.
    pub via: Via,
}

/// Where a static route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// A next hop, with an interface name where the address is link-local.
    Gateway(core::net::IpAddr, Option<String>),
    /// `via = "unreachable"`: answered with an ICMP error.
    Unreachable,
}

/// The translator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat64 {
    /// Pref64::/n, RFC 6052 lengths only (32, 40, 48, 56, 64, 96).
    pub prefix: Ipv6Net,
    /// Prefixes that are translated as well.
    pub further_prefixes: Vec<Ipv6Net>,
    /// NAT64's share of the uplink address's ports and identifiers.
    pub ports: RangeInclusive<u16>,
    /// Further addresses to translate to, which the router takes on the uplink.
    pub pool: Vec<Ipv4Addr>,
    /// NAT64's share of each of them.
    pub pool_ports: RangeInclusive<u16>,
    /// Ports of a block, where clients get their ports in blocks; else zero.
    pub port_block: u16,
    /// IPv4 prefixes that nothing is translated to.
    pub never_translate: Vec<Ipv4Net>,
    /// Non-global IPv4 prefixes that may be translated all the same (default: none; RFC 6052 section 3.1).
    pub translate_non_global: Vec<Ipv4Net>,
    /// What RFC 7915 leaves to the operator.
    pub policy: crate::xlat::Policy,
    /// Most ICMP errors of its own that the translator sends; none if zero.
    pub icmp_errors_per_second: u32,
    /// Whether the translator's packets go past the kernel's routing where that changes nothing for them.
    pub shortcut: bool,
    /// Who outside may send through a binding.
    pub filtering: Filtering,
    /// What one client may have.
    pub limits: Nat64Limits,
    /// Session lifetimes.
    pub timers: Nat64Timers,
    /// Ceiling on sessions.
    pub max_sessions: u32,
    /// Whether established sessions are translated in the kernel.
    pub fast_path: bool,
    /// How many of them at most, where that is not the machine's to say.
    pub fast_path_sessions: Option<u32>,
    /// Where bindings are told, if anywhere.
    pub log: Option<Nat64Log>,
}

/// The log of bindings and sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat64Log {
    /// Where it goes.
    pub to: LogTo,
    /// Whether sessions are told as well.
    pub sessions: bool,
}

/// Where a log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// The machine's own journal; standard error where there is none.
    Journal,
    /// A syslog server over UDP: RFC 5426.
    Udp(SocketAddr),
    /// A syslog server over TCP: RFC 6587.
    Tcp(SocketAddr),
}

impl core::fmt::Display for LogTo {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Journal => out.write_str("journal"),
            Self::Udp(address) => write!(out, "udp://{address}"),
            Self::Tcp(address) => write!(out, "tcp://{address}"),
        }
    }
}

/// What one client of the translator may have: RFC 6888 REQ-4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat64Limits {
    /// Clients are told apart by so many bits of their addresses, where nothing else is known of them.
    pub prefix_length: u8,
    /// Sessions at the same time.
    pub sessions: u32,
    /// Ports or identifiers at the same time, of each protocol.
    pub bindings: u32,
    /// Sessions that it may open in a second.
    pub new_sessions_per_second: u32,
    /// Ports of all that are held back at the same time (RFC 6888 REQ-8).
    pub held_ports: u32,
}

impl Default for Nat64Limits {
    fn default() -> Self {
        Self { prefix_length: 64, sessions: 32_768, bindings: 16_384, new_sessions_per_second: 5000, held_ports: 4096 }
    }
}

/// Who outside may create a session on a binding: RFC 6146 section 3.5, RFC 4787 REQ-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filtering {
    /// Hosts at addresses that the client has sent to.
    #[default]
    AddressDependent,
    /// Anybody.
    EndpointIndependent,
}

/// RFC 6146 section 4 timers, by their printed names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat64Timers {
    /// UDP_DEFAULT: 5 minutes; at least UDP_MIN, 2 minutes.
    pub udp_default: Duration,
    /// TCP_EST: 2 hours 4 minutes, the floor of RFC 5382 REQ-5.
    pub tcp_est: Duration,
    /// TCP_TRANS: 4 minutes.
    pub tcp_trans: Duration,
    /// TCP_INCOMING_SYN: 6 seconds.
    pub tcp_incoming_syn: Duration,
    /// ICMP_DEFAULT: 60 seconds.
    pub icmp_default: Duration,
    /// FRAGMENT_MIN: 2 seconds.
    pub fragment_min: Duration,
    /// How long a port that was given back is held back: 120 seconds (RFC 6888 REQ-8).
    pub port_hold: Duration,
}

impl Default for Nat64Timers {
    fn default() -> Self {
        Self {
            udp_default: Duration::from_secs(300),
            tcp_est: Duration::from_secs(7440),
            tcp_trans: Duration::from_secs(240),
            tcp_incoming_syn: Duration::from_secs(6),
            icmp_default: Duration::from_secs(60),
            fragment_min: Duration::from_secs(2),
            port_hold: Duration::from_secs(120),
        }
    }
}

/// An entry of the allowlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// What may be reached.
    pub to: Target,
    /// Who may reach it; anybody when empty.
    pub from: Vec<ipnet::IpNet>,
    /// TCP destination ports.
    pub tcp: Vec<RangeInclusive<u16>>,
    /// UDP destination ports.
    pub udp: Vec<RangeInclusive<u16>>,
    /// Whether echo requests are admitted.
    pub icmp: bool,
    /// Other IP protocols.
    pub protocols: Vec<u8>,
    /// Who of this network may reach it, beside `from`.
    pub from_inside: Vec<Target>,
    /// Seconds since 1970 from which on it does not hold any more.
    pub until: Option<u64>,
    /// Most connections that may begin in a second.
    pub new_per_second: Option<u32>,
    /// Most connections at a time.
    pub connections: Option<u32>,
    /// Whether connections that it admits are told in the log.
    pub log: bool,
    /// Line in the file, for comments and the console.
    pub line: usize,
}

impl Allow {
    /// Whether it says the same, wherever it stands in the file.
    pub fn is_like(&self, other: &Self) -> bool {
        let Self { to, from, tcp, udp, icmp, protocols, from_inside, until, new_per_second, connections, log, line: _ } =
            self;
        (to, from, from_inside) == (&other.to, &other.from, &other.from_inside)
            && (tcp, udp, icmp, protocols) == (&other.tcp, &other.udp, &other.icmp, &other.protocols)
            && (until, new_per_second) == (&other.until, &other.new_per_second)
            && (connections, log) == (&other.connections, &other.log)
    }
}

/// Ports of the outside that lead inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where the outside reaches it.
    pub listen: Vec<Listen>,
    /// The host inside: one address.
    pub to: Target,
    /// Its first port; absent where only echo is published.
    pub port: Option<u16>,
    /// Who outside may reach it; anybody when empty.
    pub from: Vec<ipnet::IpNet>,
    /// Line in the file, for comments and the console.
    pub line: usize,
}

/// Where the outside reaches what is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// On which address.
    pub at: Outside,
    /// What of it.
    pub service: Service,
}

/// An address of the router on which something is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// `wan`: the uplink's IPv4 address, whatever it is.
    UplinkV4,
    /// One of NAT64's further addresses.
    PoolV4(Ipv4Addr),
}

/// What of an address is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// TCP ports.
    Tcp(RangeInclusive<u16>),
    /// UDP ports.
    Udp(RangeInclusive<u16>),
    /// Echo requests, whatever their identifier.
    Echo,
}

/// What an `allow` names, resolved against the rest of the configuration by [`crate::plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `router`: the router itself.
    Router,
    /// `vm1`: a VM's own address.
    Vm(String),
    /// `vm1/containers`: all container prefixes of a VM; `vm1/containers::5`: that suffix inside its (first) container prefix.
    Containers(String, Option<Ipv6Addr>),
    /// `vms`: all prefixes of a LAN; `vms::5`: that suffix inside its prefixes.
    Lan(String, Option<Ipv6Addr>),
    /// A literal prefix or address.
    Prefix(Ipv6Net),
}

#[cfg(test)]
mod tests;

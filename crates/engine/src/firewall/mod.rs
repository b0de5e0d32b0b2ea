//! The allowlist firewall: configuration and facts to one nftables ruleset.
//!
//! Default deny in input and forward; what is dropped ends in a rule of its own whose comment, `drop: ..`, names the
//! reason, and has a counter. Entries of the allowlist carry `allow line N: ..` and a counter. The table is `inet
//! sixgate`; no other table is touched.
pub mod admission;
mod allow;
mod allowed;
mod bogon;
mod connections;
pub mod denial;
mod forward;
mod header_bits;
mod icmp;
mod input;
mod nat;
mod neighbours;
mod nft;
pub mod outbound;
mod output;
mod prerouting;
mod publish;
mod refusal;
pub mod ruleset;
pub mod shortcut;

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{Ipv4Net, Ipv6Net};

pub(crate) use self::allow::{describe, destinations};
pub use self::neighbours::NEIGHBOURS;

use crate::config::Refuse;
use crate::plan::topology::Topology;
use crate::plan::{NAT64_DEVICE, Nat64Plan, listen};
use ruleset::{Chain, Hook, HookKind, HookPoint, Match, Policy, Rule, Ruleset, Statement, host6};

/// Name of sixgate's table.
pub const TABLE: &str = "sixgate";
/// NF_IP_PRI_RAW: before connection tracking.
const RAW: i32 = -300;
/// NF_IP_PRI_MANGLE: after connection tracking, before routing.
const MANGLE: i32 = -150;
/// NF_IP_PRI_NAT_DST.
const NAT_DESTINATION: i32 = -100;
/// NF_IP_PRI_NAT_SRC.
const NAT_SOURCE: i32 = 100;
/// NF_IP_PRI_FILTER.
const FILTER: i32 = 0;

/// The NFLOG group that tells of denied and of logged packets.
pub const LOG_GROUP: u16 = 164;
/// How much of a packet is told: the headers with what RFC 4443 and RFC 792 quote.
pub const LOG_BYTES: u32 = 128;

/// Bit of a connection's mark that says that it was admitted once and is not any more.
pub const ENDED: u32 = 0x0080_0000;
/// Sources that a meter tells apart.
pub const METER_SIZE: u32 = 65_535;
const NOT_ENDED: Match = Match::ConnectionMark { value: 0, mask: ENDED };

/// What the rules are made of.
struct Scene<'a> {
    topology: &'a Topology<'a>,
    nat64: Option<&'a Nat64Plan>,
    /// Name of the uplink; empty while it is missing.
    wan: Vec<String>,
    /// Names of the LANs that are present.
    lans: Vec<String>,
    /// Prefixes behind the router, longer ones inside wider ones too.
    inside: Vec<Ipv6Net>,
    /// Where the LANs find the resolver.
    resolver: Vec<Ipv6Net>,
}

/// The ruleset of a configuration. A rule about a link that is missing is left out: everything is denied without it.
pub(crate) fn ruleset(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Ruleset {
    let scene = Scene::new(topology, nat64);
    let allowed = allowed::forwarded(&scene);
    let mut chains = vec![
        chain("prerouting_raw", HookPoint::Prerouting, RAW, Policy::Accept, prerouting::raw(&scene)),
        chain("prerouting_mangle", HookPoint::Prerouting, MANGLE, Policy::Accept, prerouting::mangle(&scene)),
        chain("input", HookPoint::Input, FILTER, Policy::Drop, input::rules(&scene)),
        chain("forward", HookPoint::Forward, FILTER, Policy::Drop, forward::rules(&scene)),
        chain("output", HookPoint::Output, FILTER, Policy::Accept, output::rules(&scene)),
    ];
    if !scene.resolver.is_empty() {
        chains.insert(0, chain("output_raw", HookPoint::Output, RAW, Policy::Accept, output::raw(&scene)));
    }
    // An empty chain costs each packet a call.
    let denies = |chain: &Chain| chain.hook.as_ref().is_some_and(|hook| hook.policy == Policy::Drop);
    chains.retain(|chain| !chain.rules.is_empty() || denies(chain));
    chains.extend(prerouting::by_link(&scene));
    chains.push(forward::known(&scene));
    chains.push(neighbours::chain(&scene));
    chains.extend(allowed.chains);
    if let Some(rules) = outbound::rules(&scene) {
        let rules = rules.into_iter().flatten().collect();
        chains.push(Chain { name: outbound::CHAIN.to_owned(), hook: None, rules });
    }
    if nat::is_wanted(&scene) {
        chains.push(translating("prerouting_nat", HookPoint::Prerouting, NAT_DESTINATION, nat::prerouting(&scene)));
        chains.push(translating("postrouting_nat", HookPoint::Postrouting, NAT_SOURCE, nat::postrouting(&scene)));
    }
    let chains = refusal::told(chains, topology.config.policy);
    let mut timed = outbound::timed(topology.config);
    timed.push(NEIGHBOURS.to_owned());
    Ruleset { table: TABLE.to_owned(), sets: allowed.sets, timed, chains }
}

/// Default deny with nothing admitted but loopback and neighbor discovery: at a wrong configuration and after `stop`.
pub fn closed() -> Ruleset {
    table(vec![
        chain("input", HookPoint::Input, FILTER, Policy::Drop, input::closed()),
        chain("forward", HookPoint::Forward, FILTER, Policy::Drop, forward::closed()),
    ])
}

fn table(chains: Vec<Chain>) -> Ruleset {
    Ruleset { table: TABLE.to_owned(), chains, ..Ruleset::default() }
}

fn chain(name: &str, point: HookPoint, priority: i32, policy: Policy, rules: Vec<Option<Rule>>) -> Chain {
    let hook = Some(Hook { point, priority, policy, kind: HookKind::Filter });
    Chain { name: name.to_owned(), hook, rules: rules.into_iter().flatten().collect() }
}

fn translating(name: &str, point: HookPoint, priority: i32, rules: Vec<Option<Rule>>) -> Chain {
    let hook = Some(Hook { point, priority, policy: Policy::Accept, kind: HookKind::Nat });
    Chain { name: name.to_owned(), hook, rules: rules.into_iter().flatten().collect() }
}

/// A rule; none where a condition lists nothing, since "any of nothing" never holds.
fn rule(matches: Vec<Match>, statements: &[Statement], comment: impl Into<String>) -> Option<Rule> {
    let never = matches.iter().any(|condition| match condition {
        Match::InputInterface(names) | Match::OutputInterface(names) => names.is_empty(),
        Match::Source4(nets) | Match::Destination4(nets) => nets.is_empty(),
        Match::Source6(nets) | Match::Destination6(nets) => nets.is_empty(),
        Match::Protocol(list) | Match::IcmpType(list) | Match::Icmpv6Type(list) => list.is_empty(),
        Match::DestinationPort(ports) | Match::SourcePort(ports) => ports.is_empty(),
        Match::ConntrackState(states) => states.is_empty(),
        Match::Family(_) | Match::HopLimit(_) | Match::HeaderBits(_) => false,
        Match::OpensNothing | Match::Mark { .. } => false,
        Match::InTimedSet(_) | Match::Translated | Match::DestinationIsLocal => false,
        Match::SourceRouted
        | Match::ConnectionsUnder(_)
        | Match::Over(_)
        | Match::InSet { .. }
        | Match::ConnectionMark { .. }
        | Match::Before(_)
        | Match::RateUnder { .. } => false,
    });
    (!never).then(|| Rule { matches, statements: statements.to_vec(), comment: short(comment.into()) })
}

/// A comment within nftables' 127 bytes.
fn short(mut comment: String) -> String {
    const MOST: usize = 127;
    while comment.len() > MOST {
        comment.pop();
    }
    comment
}

impl<'a> Scene<'a> {
    fn new(topology: &'a Topology<'a>, nat64: Option<&'a Nat64Plan>) -> Self {
        Self {
            topology,
            nat64,
            wan: topology.wan.iter().map(|link| link.name.clone()).collect(),
            lans: topology.lans.iter().map(|lan| lan.link.name.clone()).collect(),
            inside: topology.inside(),
            resolver: resolver(topology),
        }
    }
}

impl Scene<'_> {
    fn input_wan(&self) -> Match {
        Match::InputInterface(self.wan.clone())
    }

    fn output_wan(&self) -> Match {
        Match::OutputInterface(self.wan.clone())
    }

    fn input_any(&self) -> Match {
        Match::InputInterface([&self.wan[..], &self.lans].concat())
    }

    fn input_lans(&self) -> Match {
        Match::InputInterface(self.lans.clone())
    }

    fn output_lans(&self) -> Match {
        Match::OutputInterface(self.lans.clone())
    }

    /// All addresses of the translator.
    fn pool4(&self) -> Vec<Ipv4Net> {
        let shares = self.nat64.into_iter().flat_map(Nat64Plan::shares);
        Ipv4Net::aggregate(&hosts(&shares.map(|(address, _)| address).collect::<Vec<_>>()))
    }

    fn source_inside(&self) -> Match {
        Match::Source6(Ipv6Net::aggregate(&self.inside))
    }
}

/// The addresses at which the LANs ask the resolver.
fn resolver(topology: &Topology<'_>) -> Vec<Ipv6Net> {
    if !topology.config.dns64.enabled {
        return Vec::new();
    }
    let of = |lan| listen::addresses(topology, lan, 53);
    let mut addresses: Vec<Ipv6Net> = topology.lans.iter().flat_map(of).filter_map(host).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn host(address: SocketAddr) -> Option<Ipv6Net> {
    match address.ip() {
        IpAddr::V6(address) => Some(host6(address)),
        IpAddr::V4(_) => None,
    }
}

/// Connections that a removed entry had admitted end for both sides at once. Forgetting them would not do: the next packet of
/// the host inside would begin them anew, as outbound ones.
fn ended(comment: &str) -> [Option<Rule>; 2] {
    let mark = Match::ConnectionMark { value: ENDED, mask: ENDED };
    [
        rule(vec![mark.clone(), Match::Protocol(vec![icmp::TCP])], &[Statement::Counter, Statement::Reset], comment),
        rule(vec![mark], &[Statement::Counter, Statement::Drop], comment),
    ]
}

/// The end of what is not admitted: dropped, or told so as far as the rate allows.
fn refused(scene: &Scene<'_>, matches: &[Match], comment: &str) -> Option<Rule> {
    let end = match scene.topology.config.policy.refuse {
        Refuse::Drop => Statement::Drop,
        Refuse::Reject => Statement::Reject,
    };
    rule(matches.to_vec(), &[Statement::Counter, end], comment)
}

fn hosts(addresses: &[Ipv4Addr]) -> Vec<Ipv4Net> {
    addresses.iter().map(|address| ruleset::host4(*address)).collect()
}

fn input_tun() -> Match {
    Match::InputInterface(vec![NAT64_DEVICE.to_owned()])
}

fn output_tun() -> Match {
    Match::OutputInterface(vec![NAT64_DEVICE.to_owned()])
}

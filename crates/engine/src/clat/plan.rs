//! What a CLAT makes of a host: addresses, routes, rules and the translation, as values.
use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sixgate_wire::rfc6052::Pref64;
use sixgate_wire::{icmpv4, icmpv6, tcp, udp};

use super::address::{HOST_V4, ROUTER_V4};
use crate::firewall::ruleset::{
    Chain, ConntrackState, Hook, HookKind, HookPoint, Match, Policy as ChainPolicy, Rule, Ruleset, Statement, host6,
};
use crate::plan::{
    AddressPlan, Family, LOCAL_RULE_PREFERENCE, LOCAL_TABLE, LinkPlan, MAIN_TABLE, NAT64_MARK_MASK,
    NAT64_RULE_PREFERENCE, NetworkPlan, NextHop, RoutePlan, RulePlan,
};
use crate::xlat::eam::{Eam, Eamt};
use crate::xlat::siit::SiitPlan;
use crate::xlat::{GROWTH, Mtus, Policy};

/// Name of the TUN device.
pub const DEVICE: &str = "clat";
/// Name of the nftables table.
pub const TABLE: &str = "sixgate_clat";
/// Metric of the IPv4 default route: anybody else's comes first.
pub const METRIC: u32 = 2048;
/// Ports of the host's address that are the CLAT's where it shares that; the kernel gives out lower ones by itself.
pub const SHARE: RangeInclusive<u16> = 61_000..=65_535;
/// Routing table and mark of packets to a shared address that are the CLAT's.
const SHARED_TABLE: u32 = 6877;
const SHARED_MARK: u32 = 0x0063_0000;
/// ICMPv6 errors that it may send in a second.
const ERRORS_PER_SECOND: u32 = 100;

/// What a CLAT makes of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClatPlan {
    /// Kernel interface index of the uplink.
    pub link: u32,
    /// Its name.
    pub interface: String,
    /// Kernel interface index of the TUN device.
    pub device: u32,
    /// The address that is translated to.
    pub address: Ipv6Addr,
    /// Whether that is the host's own as well.
    pub shared: bool,
    /// The PLAT's prefix.
    pub pref64: Pref64,
    /// The uplink's MTU.
    pub mtu: u32,
    /// Whether the PLAT has answered: IPv4 is routed into the device.
    pub active: bool,
    /// Whether plain packets are translated by the kernel.
    pub fast_path: bool,
}

/// Whether packets were forwarded before the CLAT was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The host was a router.
    Before,
    /// It was none: what nobody inside has asked for stays out.
    OnlyForThis,
}

impl ClatPlan {
    /// Links, addresses, routes and rules.
    pub fn network(&self) -> NetworkPlan {
        let next = NextHop::Link { link: self.device };
        let to_us = if self.shared { Ipv6Net::default() } else { host6(self.address) };
        let mut routes = vec![RoutePlan {
            to: IpNet::V6(to_us),
            next: next.clone(),
            table: if self.shared { SHARED_TABLE } else { MAIN_TABLE },
            metric: METRIC,
            source: None,
            mtu: None,
        }];
        if self.active {
            routes.push(RoutePlan {
                to: IpNet::V4(Ipv4Net::default()),
                next,
                table: MAIN_TABLE,
                metric: METRIC,
                source: Some(HOST_V4.into()),
                mtu: Some(self.mtus().v4),
            });
        }
        let rule = |preference, fwmark, table| RulePlan { family: Family::V6, preference, fwmark, table };
        let rules = if self.shared {
            vec![
                rule(NAT64_RULE_PREFERENCE, Some((SHARED_MARK, NAT64_MARK_MASK)), SHARED_TABLE),
                rule(LOCAL_RULE_PREFERENCE, None, LOCAL_TABLE),
            ]
        } else {
            Vec::new()
        };
        NetworkPlan {
            links: vec![LinkPlan { index: self.device, name: DEVICE.to_owned(), mtu: Some(self.mtus().v6), mac: None }],
            addresses: vec![AddressPlan { link: self.device, net: host4(HOST_V4), deprecated: false }],
            routes,
            rules,
            sysctls: Vec::new(),
        }
    }

    /// The translation: one explicit mapping, and the PLAT's prefix for the world.
    pub fn translation(&self) -> SiitPlan {
        let eam = Eam::new(HOST_V4.into(), host6(self.address)).and_then(|eam| Eamt::new([eam]));
        SiitPlan {
            // Two whole addresses always make a mapping.
            eamt: eam.unwrap_or_default(),
            pref64: Some(self.pref64),
            router_v4: Some(ROUTER_V4),
            router_v6: Some(self.address),
            mtus: self.mtus(),
            policy: Policy::DEFAULT,
            icmp_errors_per_second: ERRORS_PER_SECOND,
        }
    }

    /// RFC 6877 section 8.1 leaves IPv4 as much as fits behind the longer header.
    fn mtus(&self) -> Mtus {
        let v6 = self.mtu.max(sixgate_wire::ipv6::MINIMUM_MTU);
        Mtus { v6, v4: v6 - GROWTH }
    }

    /// The nftables table.
    pub fn ruleset(&self, forwarded: Forwarded) -> Ruleset {
        let uplink = || Match::InputInterface(vec![self.interface.clone()]);
        let from_device = || Match::InputInterface(vec![DEVICE.to_owned()]);
        let to_device = || Match::OutputInterface(vec![DEVICE.to_owned()]);
        let to_us = || Match::Destination6(vec![host6(self.address)]);
        let from_plat = || {
            let net = Ipv6Net::new(self.pref64.prefix(), self.pref64.length());
            Match::Source6(net.into_iter().collect())
        };
        let mark = || Statement::SetMark { value: SHARED_MARK, mask: NAT64_MARK_MASK };
        let ports = || [Match::Protocol(vec![tcp::PROTOCOL, udp::PROTOCOL]), Match::DestinationPort(vec![SHARE])];
        let mut raw =
            vec![rule(vec![from_device(), Match::Family(Family::V6)], vec![Statement::Notrack], "clat: stateless")];
        let mut chains = Vec::new();
        let mut masqueraded = vec![to_device(), Match::Family(Family::V4)];
        if self.shared {
            let mut ours = vec![uplink(), from_plat(), to_us()];
            ours.extend(ports());
            raw.push(rule(ours, vec![Statement::Notrack, mark()], "clat: its share of the ports"));
            // Identifiers of ICMP cannot be told apart: what conntrack does not know is no answer to the host's own.
            let unknown =
                Match::ConntrackState(vec![ConntrackState::Invalid, ConntrackState::New, ConntrackState::Untracked]);
            let icmp = |from: Option<Match>, types: Vec<u8>, comment: &str| {
                let matches =
                    [uplink()].into_iter().chain(from).chain([to_us(), Match::Protocol(vec![icmpv6::PROTOCOL])]);
                rule(matches.chain([Match::Icmpv6Type(types), unknown.clone()]).collect(), vec![mark()], comment)
            };
            let rules = vec![
                icmp(Some(from_plat()), vec![icmpv6::ECHO_REPLY], "clat: replies that are not the host's own"),
                icmp(
                    None,
                    vec![
                        icmpv6::DESTINATION_UNREACHABLE,
                        icmpv6::PACKET_TOO_BIG,
                        icmpv6::TIME_EXCEEDED,
                        icmpv6::PARAMETER_PROBLEM,
                    ],
                    "clat: errors that are not about the host's own",
                ),
            ];
            chains.push(chain("mangle", HookPoint::Prerouting, -150, HookKind::Filter, rules));
            masqueraded.push(Match::Protocol(vec![tcp::PROTOCOL, udp::PROTOCOL, icmpv4::PROTOCOL]));
        } else {
            raw.push(rule(vec![uplink(), to_us()], vec![Statement::Notrack], "clat: stateless"));
        }
        chains.insert(0, chain("raw", HookPoint::Prerouting, -300, HookKind::Filter, raw));
        if forwarded == Forwarded::OnlyForThis {
            let rules = vec![
                rule(vec![to_device()], vec![Statement::Accept], "clat: towards it"),
                rule(
                    vec![uplink(), Match::ConntrackState(vec![ConntrackState::New])],
                    vec![Statement::Counter, Statement::Drop],
                    "drop: the host is a router for its clat alone",
                ),
            ];
            chains.push(chain("forward", HookPoint::Forward, 0, HookKind::Filter, rules));
        }
        let masquerade = Statement::Masquerade(self.shared.then_some(SHARE));
        let rules = vec![rule(masqueraded, vec![masquerade], "clat: containers and namespaces behind it")];
        chains.push(chain("postrouting", HookPoint::Postrouting, 100, HookKind::Nat, rules));
        Ruleset { table: TABLE.to_owned(), sets: Vec::new(), timed: Vec::new(), chains }
    }
}

fn host4(address: Ipv4Addr) -> IpNet {
    IpNet::V4(address.into())
}

fn rule(matches: Vec<Match>, statements: Vec<Statement>, comment: &str) -> Rule {
    Rule { matches, statements, comment: comment.to_owned() }
}

fn chain(name: &str, point: HookPoint, priority: i32, kind: HookKind, rules: Vec<Rule>) -> Chain {
    let hook = Hook { point, priority, policy: ChainPolicy::Accept, kind };
    Chain { name: name.to_owned(), hook: Some(hook), rules }
}

//! The short way of packets that are for the translator anyway: from a link's ingress straight to its device, past the
//! kernel's routing and netfilter's hooks.
//!
//! What takes it has passed the same conditions as in the ruleset: no packet goes this way that prerouting and forward would
//! not both admit, and nothing that they count or limit. All other packets are left to the kernel, which knows more:
//! fragments, extension headers, ICMP, what is about to expire, what is published, sources that are martians.
//! A rule that is to hold for the translator's packets in prerouting or forward needs its twin here.
use core::fmt::{self, Display, Formatter};
use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Scene, TABLE};
use crate::config::{Outside, Service};
use crate::plan::topology::Topology;
use crate::plan::{Family, NAT64_DEVICE, Nat64Plan};

/// Each packet of a link is held against all its ways: whoever has more addresses or prefixes than this has the rest go
/// by the kernel.
const MOST_WAYS: usize = 16;

/// RFC 6890: what the kernel takes for a martian source.
const MARTIANS: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// A next hop on the translator's device, which has no neighbours and asks for none.
pub const NEXT_HOP_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// RFC 7600 section 4.8: the dummy address.
pub const NEXT_HOP_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// One `netdev` table. Loading it replaces the table of that name in that family and touches no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortcut {
    /// Table name.
    pub table: String,
    /// Kernel interface index of the translator's device.
    pub device: u32,
    /// One for each link.
    pub gates: Vec<Gate>,
}

/// What is hooked in at a link's ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Name of the link, and of the chain.
    pub link: String,
    /// Everything else is left to the kernel, and so are tagged frames, which are not this link's.
    pub family: Family,
    /// In order.
    pub ways: Vec<Way>,
}

/// Plain TCP or UDP, addressed to this host on the link, with a hop to spare. The first that holds decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// IPv4 from there is left to the kernel.
    Left(Ipv4Net),
    /// From a client to the translator.
    FromIpv6 {
        /// Prefix behind the router.
        source: Ipv6Net,
        /// Pref64::/n.
        pref64: Ipv6Net,
    },
    /// To NAT64's share of an address, not a fragment, without options.
    FromIpv4 {
        /// 6 or 17.
        protocol: u8,
        /// Address of the pool.
        mapped: Ipv4Addr,
        /// Destination ports.
        ports: RangeInclusive<u16>,
    },
}

/// The shortcuts of a configuration; nothing where there is no translator, or somebody else's rules want to see its
/// packets.
pub(crate) fn shortcut(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Option<Shortcut> {
    let nat64 = nat64?;
    let device = nat64.shortcut.as_ref()?.device;
    let scene = Scene::new(topology, Some(nat64));
    let inside = Ipv6Net::aggregate(&scene.inside);
    // Who is restricted is looked at packet by packet, by rules that have no twin here.
    let inside = if topology.config.outbound.is_empty() { inside } else { Vec::new() };
    let from_ipv6 = || {
        let pairs = nat64.prefixes().flat_map(|pref64| inside.iter().map(move |source| (pref64, *source)));
        pairs.map(|(pref64, source)| Way::FromIpv6 { source, pref64 }).take(MOST_WAYS).collect()
    };
    let lans = scene.lans.iter().map(|link| Gate { link: link.clone(), family: Family::V6, ways: from_ipv6() });
    let from_ipv4 = || from_ipv4(topology, nat64);
    let uplink = scene.wan.iter().map(|link| Gate { link: link.clone(), family: Family::V4, ways: from_ipv4() });
    let gates = lans.chain(uplink).filter(|gate| !gate.ways.is_empty()).collect();
    Some(Shortcut { table: TABLE.to_owned(), device, gates })
}

fn from_ipv4(topology: &Topology<'_>, nat64: &Nat64Plan) -> Vec<Way> {
    let shares = nat64.shares().filter(|(address, ports)| !is_published(topology, nat64, *address, ports));
    let ways = shares.flat_map(|(mapped, ports)| {
        [17, 6].map(move |protocol| Way::FromIpv4 { protocol, mapped, ports: ports.clone() })
    });
    let ways: Vec<Way> = ways.take(MOST_WAYS).collect();
    if ways.is_empty() {
        return ways;
    }
    // The router's own addresses come from no link either.
    let own = topology.facts.addresses.iter().filter_map(|address| match address.net {
        IpNet::V4(net) => Some(Ipv4Net::from(net.addr())),
        IpNet::V6(_) => None,
    });
    let pool = nat64.shares().map(|(address, _)| Ipv4Net::from(address));
    let left = Ipv4Net::aggregate(&MARTIANS.into_iter().chain(own).chain(pool).collect());
    left.into_iter().map(Way::Left).chain(ways).collect()
}

/// What is published has rules of its own, which count and may refuse.
fn is_published(topology: &Topology<'_>, nat64: &Nat64Plan, address: Ipv4Addr, ports: &RangeInclusive<u16>) -> bool {
    let listens = topology.config.publish.iter().flat_map(|publish| &publish.listen);
    listens.into_iter().any(|listen| {
        let there = match listen.at {
            Outside::UplinkV4 => nat64.pool4.contains(&address),
            Outside::PoolV4(published) => published == address,
        };
        let overlaps = match &listen.service {
            Service::Tcp(range) | Service::Udp(range) => range.start() <= ports.end() && ports.start() <= range.end(),
            Service::Echo => false,
        };
        there && overlaps
    })
}

impl Display for Shortcut {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "table netdev {} {{", self.table)?;
        for (index, gate) in self.gates.iter().enumerate() {
            let link = &gate.link;
            if index > 0 {
                writeln!(out)?;
            }
            writeln!(out, "\tchain {link} {{")?;
            writeln!(out, "\t\ttype filter hook ingress device \"{link}\" priority 0; policy accept;")?;
            let kind = match gate.family {
                Family::V4 => "ip",
                Family::V6 => "ip6",
            };
            writeln!(out, "\t\tether type != {kind} accept")?;
            for way in &gate.ways {
                writeln!(out, "\t\t{way}")?;
            }
            writeln!(out, "\t}}")?;
        }
        writeln!(out, "}}")
    }
}

impl Display for Way {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left(source) => write!(out, "ip saddr {source} accept"),
            Self::FromIpv6 { source, pref64 } => write!(
                out,
                "ip6 daddr {pref64} ip6 saddr {source} meta pkttype host ip6 nexthdr 6-17 ip6 hoplimit > 1 \
                 fwd ip6 to {NEXT_HOP_V6} device \"{NAT64_DEVICE}\""
            ),
            Self::FromIpv4 { protocol, mapped, ports } => write!(
                out,
                "ip daddr {mapped} ip protocol {protocol} th dport {}-{} meta pkttype host ip version 4 ip hdrlength 5 \
                 ip frag-off & 0x3fff == 0 ip ttl > 1 fwd ip to {NEXT_HOP_V4} device \"{NAT64_DEVICE}\"",
                ports.start(),
                ports.end()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, plan, preview_facts};

    fn planned(more: &str, change: impl FnOnce(&mut crate::facts::Facts)) -> Plan {
        let text = format!(
            r#"
            [wan]
            interface = "w"
            ipv4 = {{ address = "203.0.113.2/24", gateway = "203.0.113.1" }}
            [[lan]]
            name = "lan"
            interface = "l"
            addresses = ["2001:db8:1::1/64"]
            {more}
            "#
        );
        let config = crate::config::parse(&text, "config.toml").unwrap();
        let mut facts = preview_facts(&config);
        change(&mut facts);
        plan(&config, &facts)
    }

    fn ways(plan: &Plan, link: &str) -> Vec<String> {
        let gates = plan.shortcut.iter().flat_map(|shortcut| &shortcut.gates).filter(|gate| gate.link == link);
        gates.flat_map(|gate| &gate.ways).map(ToString::to_string).collect()
    }

    const NAT64: &str = "[nat64]\n";

    #[test]
    fn each_link_has_its_ways_where_there_is_a_translator() {
        let plan = planned(NAT64, |_| {});
        assert_eq!(ways(&plan, "l").len(), 1);
        assert!(ways(&plan, "l")[0].starts_with("ip6 daddr 64:ff9b::/96 ip6 saddr 2001:db8:1::/64 meta pkttype host "));
        let up = ways(&plan, "w");
        assert!(
            up.contains(&"ip saddr 203.0.113.2/32 accept".to_owned()),
            "the router's own address comes from no link"
        );
        assert_eq!(up.iter().filter(|way| way.contains("fwd")).count(), 2, "UDP and TCP: {up:?}");
        assert_eq!(planned("", |_| {}).shortcut, None);
    }

    #[test]
    fn rules_of_others_a_missing_device_and_the_operator_switch_them_off() {
        let shortened = |plan: &Plan| (plan.shortcut.is_some(), plan.nat64.as_ref().unwrap().shortcut.is_some());
        assert_eq!(shortened(&planned(NAT64, |_| {})), (true, true));
        assert_eq!(shortened(&planned(NAT64, |facts| facts.foreign_rules = true)), (false, false));
        assert_eq!(
            shortened(&planned(NAT64, |facts| facts.links.retain(|link| link.name != NAT64_DEVICE))),
            (false, false)
        );
        assert_eq!(shortened(&planned("[nat64]\nshortcut = false\n", |_| {})), (false, false));
    }

    #[test]
    fn a_port_published_inside_the_share_keeps_that_address_to_the_rules() {
        let publish = |listen: &str| {
            let vm = "[[vm]]\nname = \"vm\"\nlan = \"lan\"\naddress = \"2001:db8:1::5\"\n";
            format!("{NAT64}{vm}[[publish]]\nlisten = \"{listen}\"\nto = \"vm:8443\"\nfrom = [\"198.51.100.0/24\"]\n")
        };
        let outside = planned(&publish("wan:tcp/8443"), |_| {});
        assert!(ways(&outside, "w").iter().any(|way| way.contains("fwd")));
        let inside = planned(&publish("wan:tcp/50000"), |_| {});
        assert_eq!(ways(&inside, "w"), Vec::<String>::new(), "who may come is for the rule to say");
        assert_eq!(ways(&inside, "l").len(), 1, "the other way is not concerned");
    }
}

//! Sources that are nobody's on the Internet: RFC 6890, and RFC 6092 REC-3 and REC-7.
//!
//! Blocks in which the uplink itself lies, or whoever the file names, are left out: a router behind another one has a
//! private address there, and a laboratory has those of documentation.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::icmp::{ERRORS_V4, ERRORS_V6, ICMP, ICMPV6};
use super::ruleset::{Match, Rule, Statement};
use super::{Scene, rule};
use crate::ddns::How;
use crate::plan::topology::Topology;

const fn v4(a: u8, b: u8, c: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), length)
}

const fn v6(words: [u16; 3], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(words[0], words[1], words[2], 0, 0, 0, 0, 0), length)
}

/// RFC 6890 section 2.2.2, and multicast, which is no source.
const BLOCKS_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 8),
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    v4(169, 254, 0, 16),
    v4(172, 16, 0, 12),
    v4(192, 0, 0, 24),
    v4(192, 0, 2, 24),
    v4(192, 88, 99, 24),
    v4(192, 168, 0, 16),
    v4(198, 18, 0, 15),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
    v4(224, 0, 0, 4),
    v4(240, 0, 0, 4),
];

/// RFC 6890 section 2.2.3 and its later entries: discard, dummies, benchmarking, ORCHIDs, documentation, segment
/// identifiers, unique local, and the site-local addresses of RFC 3879. The others are impossible anywhere.
const BLOCKS_V6: [Ipv6Net; 8] = [
    v6([0x100, 0, 0], 64),
    v6([0x2001, 2, 0], 48),
    v6([0x2001, 0x10, 0], 28),
    v6([0x2001, 0xdb8, 0], 32),
    v6([0x3fff, 0, 0], 20),
    v6([0x5f00, 0, 0], 16),
    v6([0xfc00, 0, 0], 7),
    v6([0xfec0, 0, 0], 10),
];

/// Blocks that nobody outside sends from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bogons {
    pub(super) v4: Vec<Ipv4Net>,
    pub(super) v6: Vec<Ipv6Net>,
}

impl Bogons {
    /// Those of a configuration on a machine.
    pub(super) fn of(topology: &Topology<'_>) -> Self {
        if !topology.config.wan.bogons {
            return Self::default();
        }
        let named = named(topology);
        let is_named = |block: IpNet| {
            // A default route names nobody.
            named.iter().any(|net| block.contains(net) || (net.prefix_len() > 0 && net.contains(&block)))
        };
        Self {
            v4: BLOCKS_V4.into_iter().filter(|block| !is_named((*block).into())).collect(),
            v6: BLOCKS_V6.into_iter().filter(|block| !is_named((*block).into())).collect(),
        }
    }

    /// The block that an address lies in.
    pub(super) fn block(&self, address: IpAddr) -> Option<IpNet> {
        match address {
            IpAddr::V4(address) => self.v4.iter().find(|net| net.contains(&address)).copied().map(IpNet::V4),
            IpAddr::V6(address) => self.v6.iter().find(|net| net.contains(&address)).copied().map(IpNet::V6),
        }
    }
}

/// Whom the uplink and the file speak of outside.
fn named(topology: &Topology<'_>) -> Vec<IpNet> {
    let config = topology.config;
    let wan = &config.wan;
    let mut named: Vec<IpNet> = Vec::new();
    if let Some(ipv4) = &wan.ipv4 {
        named.push(ipv4.address.trunc().into());
        named.extend(ipv4.gateway.map(|gateway| IpNet::from(IpAddr::V4(gateway))));
        named.extend(ipv4.routes.iter().map(|(net, _)| IpNet::V4(*net)));
    }
    if let Some(ipv6) = &wan.ipv6 {
        named.extend(ipv6.addresses.iter().map(|net| IpNet::V6(net.trunc())));
        named.extend(ipv6.gateway.map(|gateway| IpNet::from(IpAddr::V6(gateway))));
        named.extend(ipv6.routes.iter().map(|(net, _)| IpNet::V6(*net)));
    }
    named.extend(config.dns64.upstream.iter().map(|server| IpNet::from(server.ip())));
    named.extend(config.dns64.forward.iter().flat_map(|(_, servers)| servers).map(|server| IpNet::from(server.ip())));
    let learnt = &topology.facts.learnt;
    named.extend(learnt.resolvers.iter().chain(&learnt.time_servers).copied().map(IpNet::from));
    named.extend(config.time.iter().flat_map(|time| &time.servers).copied().map(IpNet::from));
    let updated = config.ddns.iter().filter_map(|ddns| match &ddns.how {
        How::Update(update) => Some(update.server.ip()),
        How::Http(_) => None,
    });
    named.extend(updated.map(IpNet::from));
    named.extend(config.routes.iter().map(|route| route.to));
    named.extend(config.nat64.iter().flat_map(|nat64| &nat64.translate_non_global).copied().map(IpNet::V4));
    named.extend(config.allow.iter().flat_map(|allow| &allow.from));
    named.extend(config.outbound.iter().flat_map(|entry| &entry.to));
    named.extend(config.publish.iter().flat_map(|publish| &publish.from));
    named.extend(config.forwards.iter().flat_map(|forward| &forward.from));
    named
}

/// IPv4 from the uplink, before connection tracking.
pub(super) fn rules_v4(scene: &Scene<'_>) -> [Option<Rule>; 2] {
    let Bogons { v4, .. } = Bogons::of(scene.topology);
    let private = v4.iter().copied().filter(|net| net.addr().is_private() || *net == v4_shared()).collect();
    [errors(Match::Source4(private), ICMP, Match::IcmpType(ERRORS_V4.to_vec())), drop(Match::Source4(v4))]
}

/// The same of IPv6.
pub(super) fn rules_v6(scene: &Scene<'_>) -> [Option<Rule>; 2] {
    let Bogons { v6, .. } = Bogons::of(scene.topology);
    let local = v6.iter().copied().filter(|net| is_local(*net)).collect();
    [errors(Match::Source6(local), ICMPV6, Match::Icmpv6Type(ERRORS_V6.to_vec())), drop(Match::Source6(v6))]
}

/// An error about a packet that is too big may come from a router of the provider's that has a private address: dropping it
/// would break connections (RFC 2923 section 2.1).
fn errors(source: Match, protocol: u8, types: Match) -> Option<Rule> {
    let matches = vec![source, Match::Protocol(vec![protocol]), types];
    rule(matches, &[Statement::Accept], "errors of the provider's own routers")
}

fn drop(source: Match) -> Option<Rule> {
    rule(vec![source], &[Statement::Counter, Statement::Drop], "drop: source is nobody's on the Internet")
}

/// RFC 6598.
const fn v4_shared() -> Ipv4Net {
    v4(100, 64, 0, 10)
}

/// RFC 4193.
fn is_local(net: Ipv6Net) -> bool {
    net == v6([0xfc00, 0, 0], 7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Facts;

    fn bogons(wan: &str, more: &str) -> Bogons {
        let file = format!("[wan]\ninterface = \"w\"\n{wan}\n[[lan]]\nname = \"l\"\ninterface = \"l\"\n{more}");
        let config = crate::config::parse(&file, "test").unwrap_or_else(|errors| panic!("{errors}"));
        let facts = Facts::default();
        Bogons::of(&Topology::resolve(&config, &facts, &mut Vec::new()))
    }

    fn blocks(bogons: &Bogons, address: &str) -> Option<String> {
        bogons.block(address.parse().unwrap()).map(|net| net.to_string())
    }

    #[test]
    fn blocks_that_are_nobodys_are_bogons_unless_the_uplink_lies_there() {
        let usual = bogons("ipv4 = { address = \"9.9.9.2/24\", gateway = \"9.9.9.1\" }", "");
        for (address, block) in [
            ("10.1.2.3", Some("10.0.0.0/8")),
            ("192.168.1.1", Some("192.168.0.0/16")),
            ("203.0.113.9", Some("203.0.113.0/24")),
            ("255.255.255.255", Some("240.0.0.0/4")),
            ("9.9.9.9", None),
            ("2001:db8::1", Some("2001:db8::/32")),
            ("fd00::1", Some("fc00::/7")),
            ("fec0::1", Some("fec0::/10")),
            ("fe80::1", None),
            ("2620:fe::fe", None),
        ] {
            assert_eq!(blocks(&usual, address).as_deref(), block, "{address}");
        }
        let behind = bogons(
            "ipv4 = { address = \"192.168.1.2/24\", gateway = \"192.168.1.1\" }",
            "[dns64]\nupstream = [\"fd00::53\"]\n[time]\nservers = \"198.51.100.123\"\n",
        );
        assert_eq!(blocks(&behind, "192.168.9.1"), None, "the uplink is private");
        assert_eq!(blocks(&behind, "fd00::1"), None, "the resolver is there");
        assert_eq!(blocks(&behind, "198.51.100.123"), None, "the clock's server is there");
        assert!(blocks(&behind, "10.0.0.1").is_some());
        assert_eq!(bogons("bogons = false", ""), Bogons::default());
    }

    #[test]
    fn a_default_route_names_nobody() {
        let default = bogons("", "[[route]]\nto = \"::/0\"\nvia = \"fe80::1%w\"\n");
        assert!(blocks(&default, "2001:db8::1").is_some());
    }
}

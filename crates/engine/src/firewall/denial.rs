//! What was refused lately, of whom and why, and the entry that would admit it.
use core::net::IpAddr;
use std::collections::VecDeque;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};
use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::ipv6::Ipv6Packet;

use super::icmp::{ECHO_REQUEST_V4, ECHO_REQUEST_V6, ICMP, ICMPV6, TCP, UDP};
use crate::config::Config;
use crate::plan::topology::{Topology, wan_nets};

/// Denials that are kept; those of the same kind count as one.
const KEPT: usize = 256;

/// Packets that were refused for the same reason, alike in addresses, protocol and port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// Number, by which it is asked for.
    pub number: u64,
    /// When it was seen last, in seconds since 1970.
    pub time: u64,
    /// How many packets were told; the counters have those beyond the rate.
    pub packets: u64,
    /// Why, as in the counters.
    pub reason: String,
    /// Link that it came in by; empty for what the router sends itself.
    pub link: String,
    /// Source address.
    pub source: IpAddr,
    /// What that is called in the configuration: `vm1`, `vm1/containers::5`, `vms::7`, `router`; else the address.
    pub from: String,
    /// Destination address.
    pub destination: IpAddr,
    /// What that is called.
    pub to: String,
    /// `tcp/443`, `udp/53`, `icmp/128`, or a protocol's number.
    pub service: String,
}

/// Source, destination and service of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Upper-layer protocol.
    pub protocol: u8,
    /// Destination port of TCP and UDP, type of ICMP; absent where the packet does not say.
    pub port: Option<u16>,
}

impl Refused {
    /// From the beginning of a packet.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (source, destination, protocol, upper, first): (IpAddr, IpAddr, u8, &[u8], bool) =
            match packet.first()? >> 4 {
                4 => {
                    let packet = Ipv4Packet::parse_quoted(packet).ok()?;
                    let first = packet.fragment_offset() == 0;
                    (packet.source().into(), packet.destination().into(), packet.protocol(), packet.upper(), first)
                }
                6 => {
                    let packet = Ipv6Packet::parse_quoted(packet).ok()?;
                    let first = packet.fragment().is_none_or(|fragment| fragment.offset == 0);
                    (packet.source().into(), packet.destination().into(), packet.protocol(), packet.upper(), first)
                }
                _ => return None,
            };
        let port = match (protocol, upper) {
            _ if !first => None,
            (TCP | UDP, [_, _, high, low, ..]) => Some(u16::from_be_bytes([*high, *low])),
            (ICMP | ICMPV6, [kind, ..]) => Some(u16::from(*kind)),
            _ => None,
        };
        Some(Self { source, destination, protocol, port })
    }

    fn service(&self) -> String {
        let name = match self.protocol {
            TCP => "tcp",
            UDP => "udp",
            ICMP | ICMPV6 => "icmp",
            other => return other.to_string(),
        };
        self.port.map_or_else(|| name.to_owned(), |port| format!("{name}/{port}"))
    }
}

/// What addresses are called in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    router: Vec<IpAddr>,
    /// Prefixes with their names, and whether a suffix follows the name.
    known: Vec<(Ipv6Net, String, Suffix)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suffix {
    None,
    Follows,
}

impl Names {
    pub(crate) fn of(topology: &Topology<'_>) -> Self {
        let config: &Config = topology.config;
        let own = topology.lans.iter().flat_map(|lan| lan.addresses().map(|net| IpAddr::V6(net.addr())));
        let router = own.chain(wan_nets(config).map(|net| net.addr())).collect();
        let mut known = Vec::new();
        for vm in &config.vms {
            known.extend(vm.address.map(|address| (Ipv6Net::from(address), vm.name.clone(), Suffix::None)));
            let containers = vm.containers.first();
            known.extend(containers.map(|net| (*net, format!("{}/containers", vm.name), Suffix::Follows)));
        }
        for lan in &config.lans {
            let own = lan.addresses.first().filter(|net| !net.addr().is_unicast_link_local());
            known.extend(own.map(|net| (net.trunc(), lan.name.clone(), Suffix::Follows)));
        }
        known.sort_by_key(|(net, ..)| core::cmp::Reverse(net.prefix_len()));
        Self { router, known }
    }

    /// The name of an address, or the address.
    pub fn name(&self, address: IpAddr) -> String {
        if self.router.contains(&address) {
            return "router".to_owned();
        }
        let IpAddr::V6(v6) = address else { return address.to_string() };
        match self.known.iter().find(|(net, ..)| net.contains(&v6)) {
            Some((_, name, Suffix::None)) => name.clone(),
            Some((net, name, Suffix::Follows)) => {
                let suffix = core::net::Ipv6Addr::from_bits(v6.to_bits() & !net.netmask().to_bits());
                // `name::` alone would be a whole prefix.
                if suffix.is_unspecified() { address.to_string() } else { format!("{name}{suffix}") }
            }
            None => address.to_string(),
        }
    }
}

/// The latest denials.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    kept: VecDeque<Denial>,
    told: u64,
}

impl Ring {
    /// Adds a packet; says whether nothing of its kind was there.
    pub fn add(&mut self, refused: &Refused, reason: &str, link: &str, time: u64, names: &Names) -> (&Denial, bool) {
        let service = refused.service();
        let alike = self.kept.iter().position(|held| {
            (held.source, held.destination) == (refused.source, refused.destination)
                && held.service == service
                && held.reason == reason
                && held.link == link
        });
        let before = alike.and_then(|index| self.kept.remove(index));
        let is_new = before.is_none();
        let denial = before.unwrap_or_else(|| {
            self.told += 1;
            Denial {
                number: self.told,
                time,
                packets: 0,
                reason: reason.to_owned(),
                link: link.to_owned(),
                source: refused.source,
                from: String::new(),
                destination: refused.destination,
                to: String::new(),
                service,
            }
        });
        let packets = denial.packets + 1;
        let (from, to) = (names.name(refused.source), names.name(refused.destination));
        self.kept.truncate(KEPT - 1);
        self.kept.push_front(Denial { time, packets, from, to, ..denial });
        (&self.kept[0], is_new)
    }

    /// All of them, the latest first.
    pub fn latest(&self) -> impl Iterator<Item = &Denial> {
        self.kept.iter()
    }

    /// The one with that number.
    pub fn find(&self, number: u64) -> Option<&Denial> {
        self.kept.iter().find(|denial| denial.number == number)
    }
}

/// Reasons that an entry of the allowlist does away with.
const MENDABLE: [&str; 4] = [
    "inbound, no allow entry",
    "through the router, not admitted",
    "to the router from the uplink, no allow entry",
    "to the router, no allow entry",
];

impl Denial {
    /// An entry for the configuration file that admits it, as narrow as it was.
    ///
    /// # Errors
    /// No entry can admit it; why.
    pub fn proposal(&self) -> Result<String, String> {
        if self.reason.contains("denied by policy") {
            return Err("set between = \"by-allow\" or \"allowed\" in [policy]".to_owned());
        }
        if !MENDABLE.contains(&self.reason.as_str()) {
            return Err(format!("no entry admits that: {}", self.reason));
        }
        if let IpAddr::V6(source) = self.source
            && source.is_unicast_link_local()
        {
            return Err("what comes from a link-local address stays on its link".to_owned());
        }
        if self.destination.is_multicast() {
            return Err("multicast is not admitted by entries".to_owned());
        }
        if self.to != "router" && self.destination.is_ipv4() {
            return Err("what IPv4 may reach is said by [[publish]]".to_owned());
        }
        let key = match self.service.split_once('/') {
            Some((protocol @ ("tcp" | "udp"), port)) => format!("{protocol} = {port}"),
            Some(("icmp", kind)) if [ECHO_REQUEST_V4, ECHO_REQUEST_V6].iter().any(|echo| kind == echo.to_string()) => {
                "icmp = true".to_owned()
            }
            None if self.service.parse::<u8>().is_ok() => format!("protocol = {}", self.service),
            Some(_) | None => return Err(format!("{} is not admitted by entries", self.service)),
        };
        Ok(format!("[[allow]]\nto = \"{}\"\nfrom = \"{}\"\n{key}\n", self.to, self.source))
    }
}

#[cfg(test)]
mod tests {
    use super::super::admission::{Flow, Judgement};
    use super::*;
    use crate::plan::{plan, preview_facts};

    const FILE: &str = r#"
        [wan]
        interface = "w"
        ipv6 = { address = "2001:db8:1:1::2/64", gateway = "fe80::1" }
        [[lan]]
        name = "vms"
        interface = "l"
        addresses = ["2001:db8:1:2::1/64"]
        [[vm]]
        name = "vm1"
        lan = "vms"
        address = "2001:db8:1:2::11"
        containers = "2001:db8:1:2:21::/80"
    "#;
    const OUTSIDE: &str = "2001:db8:ffff::1";

    fn refused(destination: &str, protocol: u8, port: Option<u16>) -> Refused {
        Refused { source: OUTSIDE.parse().unwrap(), destination: destination.parse().unwrap(), protocol, port }
    }

    fn names() -> Names {
        let config = crate::config::parse(FILE, "test").unwrap();
        plan(&config, &preview_facts(&config)).names
    }

    #[test]
    fn the_proposed_entry_admits_what_was_refused_and_not_its_neighbour() {
        for (destination, to, protocol, port, reason) in [
            ("2001:db8:1:2:21::5", "vm1/containers::5", TCP, Some(443), MENDABLE[0]),
            ("2001:db8:1:2::11", "vm1", UDP, Some(53), MENDABLE[0]),
            ("2001:db8:1:2::77", "vms::77", ICMPV6, Some(128), MENDABLE[0]),
            ("2001:db8:1:2:21::7", "vm1/containers::7", 50, None, MENDABLE[0]),
            ("2001:db8:1:1::2", "router", TCP, Some(22), MENDABLE[2]),
        ] {
            let mut ring = Ring::default();
            let (denial, is_new) = ring.add(&refused(destination, protocol, port), reason, "w", 7, &names());
            assert!(is_new && denial.to == to, "{denial:?}");
            let file = format!("{FILE}\n{}", denial.proposal().unwrap());
            let config = crate::config::parse(&file, "test").unwrap_or_else(|errors| panic!("{errors}"));
            let admission = plan(&config, &preview_facts(&config)).admission;
            let flow = |port| Flow {
                source: OUTSIDE.parse().unwrap(),
                destination: destination.parse().unwrap(),
                protocol,
                port,
            };
            let judged = admission.judge(&flow(port.unwrap_or(0)));
            assert!(matches!(judged, Judgement::Admitted(_)), "{file}: {judged:?}");
            if let (TCP | UDP, Some(port)) = (protocol, port) {
                assert!(matches!(admission.judge(&flow(port + 1)), Judgement::Refused(_)), "{file}");
            }
        }
    }

    #[test]
    fn what_no_entry_admits_is_said_so() {
        let names = names();
        let why =
            |denied: &Refused, reason| Ring::default().add(denied, reason, "l", 0, &names).0.proposal().unwrap_err();
        let tcp = refused("2001:db8:1:2::11", TCP, Some(1));
        assert!(why(&tcp, "impossible source").contains("impossible source"));
        assert!(why(&tcp, "between vms and lans, denied by policy").contains("by-allow"));
        assert!(why(&refused("192.0.2.1", TCP, Some(1)), MENDABLE[1]).contains("[[publish]]"));
        assert!(why(&refused("ff02::1", UDP, Some(1)), MENDABLE[3]).contains("multicast"));
        assert!(why(&refused("2001:db8:1:2::11", ICMPV6, Some(137)), MENDABLE[0]).contains("icmp/137"));
        let local = Refused { source: "fe80::1".parse().unwrap(), ..tcp };
        assert!(why(&local, MENDABLE[3]).contains("link-local"));
    }

    #[test]
    fn packets_alike_are_one_denial_and_old_ones_make_room() {
        let (names, mut ring) = (names(), Ring::default());
        for port in 0..300 {
            ring.add(&refused("2001:db8:1:2::11", TCP, Some(port)), MENDABLE[0], "w", 1, &names);
        }
        assert_eq!((ring.latest().count(), ring.latest().next().unwrap().number), (KEPT, 300));
        let (denial, is_new) = ring.add(&refused("2001:db8:1:2::11", TCP, Some(299)), MENDABLE[0], "w", 9, &names);
        assert_eq!((denial.packets, denial.time, denial.number, is_new), (2, 9, 300, false));
        assert_eq!(ring.latest().count(), KEPT);
        assert!(ring.find(1).is_none() && ring.find(299).is_some());
    }

    #[test]
    fn cut_and_foreign_bytes_are_nothing_and_later_fragments_have_no_port() {
        for bytes in [&[][..], &[0x60; 39], &[0x45; 19], &[0x15; 60]] {
            assert_eq!(Refused::parse(bytes), None);
        }
        let mut packet = vec![0x60, 0, 0, 0, 0, 12, 44, 64];
        packet.extend([0x20; 32]);
        packet.extend([TCP, 0, 0x01, 0x00, 0, 0, 0, 1, 1, 187, 1, 187]);
        assert_eq!(Refused::parse(&packet).unwrap().port, None);
        packet[42..44].copy_from_slice(&[0, 1]);
        assert_eq!(Refused::parse(&packet).unwrap().port, Some(443));
    }
}

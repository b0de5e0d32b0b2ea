//! Configuration and facts brought together: which link is which, and which prefix lies where.
use core::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::config::{Config, Interface, Lan, Vm};
use crate::facts::{AddressState, Discovered, Facts, Link};
use crate::finding::{Finding, Severity};

/// The configuration with its links found.
#[derive(Debug)]
pub(crate) struct Topology<'a> {
    pub(crate) config: &'a Config,
    pub(crate) facts: &'a Facts,
    /// The uplink; absent while it is missing.
    pub(crate) wan: Option<&'a Link>,
    /// LANs that are present, in the configuration's order.
    pub(crate) lans: Vec<LanLink<'a>>,
}

/// A LAN that is present.
#[derive(Debug)]
pub(crate) struct LanLink<'a> {
    pub(crate) lan: &'a Lan,
    pub(crate) link: &'a Link,
    pub(crate) vms: Vec<&'a Vm>,
}

impl<'a> Topology<'a> {
    /// Finds the configured links among the facts. What is missing or ambiguous is a finding and left out.
    pub(crate) fn resolve(config: &'a Config, facts: &'a Facts, findings: &mut Vec<Finding>) -> Self {
        let mut taken: Vec<(u32, &str)> = Vec::new();
        let mut find = |interface: &Interface, owner: &'a str, missing: Finding| {
            let link = match pick(interface, facts) {
                Picked::One(link) => link,
                Picked::None => {
                    findings.push(missing);
                    return None;
                }
                Picked::Several(names) => {
                    findings.push(Finding::new(
                        Severity::Error,
                        "interface-mac-ambiguous",
                        owner,
                        format!("several interfaces have the hardware address of {owner}: {names}"),
                        "name the interface by `interface` instead of `mac`",
                    ));
                    return None;
                }
            };
            if let Some((_, first)) = taken.iter().find(|(index, _)| *index == link.index) {
                findings.push(Finding::new(
                    Severity::Error,
                    "interface-shared",
                    owner,
                    format!("{} belongs to {first} already", link.name),
                    "give each lan a link of its own, and the uplink another",
                ));
                return None;
            }
            taken.push((link.index, owner));
            Some(link)
        };
        let wan = find(
            &config.wan.interface,
            "wan",
            Finding::new(
                Severity::Error,
                "wan-interface-missing",
                "wan",
                format!("the uplink's interface {} does not exist", describe(&config.wan.interface)),
                "attach the NIC or correct [wan]; it is picked up as soon as it appears",
            ),
        );
        let lans = config
            .lans
            .iter()
            .filter_map(|lan| {
                let missing = Finding::new(
                    Severity::Error,
                    "lan-interface-missing",
                    lan.name.as_str(),
                    format!("the interface {} of {} does not exist", describe(&lan.interface), lan.name),
                    "attach the NIC or correct [[lan]]; it is picked up as soon as it appears",
                );
                let link = find(&lan.interface, &lan.name, missing)?;
                Some(LanLink { lan, link, vms: config.vms.iter().filter(|vm| vm.lan == lan.name).collect() })
            })
            .collect();
        Self { config, facts, wan, lans }
    }

    /// The LAN of that name, if it is present.
    pub(crate) fn lan(&self, name: &str) -> Option<&LanLink<'a>> {
        self.lans.iter().find(|lan| lan.lan.name == name)
    }

    /// The link that `%word` means: `wan`, a LAN's name, or a kernel name among the configured links.
    pub(crate) fn link_named(&self, word: &str) -> Option<&'a Link> {
        if word == "wan" {
            return self.wan;
        }
        let by_lan = self.lan(word).map(|lan| lan.link);
        by_lan.or_else(|| self.links().find(|link| link.name == word))
    }

    /// All configured links that are present, the uplink first.
    pub(crate) fn links(&self) -> impl Iterator<Item = &'a Link> {
        self.wan.into_iter().chain(self.lans.iter().map(|lan| lan.link))
    }

    /// The link in whose prefix an address lies; the longest prefix wins, as in the kernel.
    pub(crate) fn link_to(&self, address: IpAddr) -> Option<&'a Link> {
        let wan = self.wan.into_iter().flat_map(|link| wan_nets(self.config).map(move |net| (net, link)));
        let lans = self.lans.iter().flat_map(|lan| lan.addresses().map(|net| (IpNet::V6(net), lan.link)));
        let containing = wan.chain(lans).filter(|(net, _)| net.contains(&address));
        containing.max_by_key(|(net, _)| net.prefix_len()).map(|(_, link)| link)
    }

    /// Whether something else lies inside this prefix: containers, a gateway's prefix, another link, a static route.
    pub(crate) fn is_carved(&self, prefix: Ipv6Net) -> bool {
        let vms = &self.config.vms;
        let on_link = self.config.lans.iter().flat_map(|lan| lan.addresses.iter().copied());
        let gateways = vms.iter().filter_map(|vm| vm.gateway);
        let wan = self.config.wan.ipv6.iter().flat_map(|wan| wan.addresses.iter().copied());
        let routes = self.config.routes.iter().filter_map(|route| v6(route.to));
        vms.iter()
            .flat_map(|vm| vm.containers.iter().copied())
            .chain(on_link)
            .chain(gateways)
            .chain(wan)
            .chain(routes)
            .chain(super::npt::outside(self))
            .any(|net| net.trunc() != prefix.trunc() && prefix.contains(&net))
    }

    /// Prefixes behind the router, whether their links are present or not: LANs, gateways, containers,
    /// and static routes into LANs. Longer ones inside wider ones are listed too.
    pub(crate) fn inside(&self) -> Vec<Ipv6Net> {
        let config = self.config;
        let routed =
            config.routes.iter().filter(|route| self.link_inside(route).is_some()).filter_map(|route| v6(route.to));
        let mut nets: Vec<Ipv6Net> = config
            .lans
            .iter()
            .flat_map(|lan| lan.addresses.iter().copied())
            .chain(config.vms.iter().filter_map(|vm| vm.gateway))
            .chain(config.vms.iter().filter_map(|vm| vm.address).map(Ipv6Net::from))
            .chain(config.vms.iter().flat_map(|vm| vm.containers.iter().copied()))
            .chain(routed)
            .filter(|net| !net.addr().is_unicast_link_local())
            .map(|net| net.trunc())
            .collect();
        nets.sort();
        nets.dedup();
        nets
    }

    /// The LAN's link that a static route leads to.
    pub(crate) fn link_inside(&self, route: &crate::config::Route) -> Option<&'a Link> {
        let crate::config::Via::Gateway(via, word) = &route.via else { return None };
        let link = match word {
            Some(word) => self.link_named(word),
            None => self.link_to(*via),
        };
        let is_lan = |link: &&Link| self.lans.iter().any(|lan| lan.link.index == link.index);
        link.filter(is_lan).filter(|_| route.to.prefix_len() > 0)
    }

    /// Where an address stands, if the kernel holds it on that link.
    pub(crate) fn state(&self, link: u32, address: IpAddr) -> Option<AddressState> {
        self.facts.addresses.iter().find(|held| held.link == link && held.net.addr() == address).map(|held| held.state)
    }
}

impl LanLink<'_> {
    /// All addresses that the router holds here, with their prefixes: the LAN's own, then the VMs' gateways.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Ipv6Net> {
        self.lan.addresses.iter().copied().chain(self.vms.iter().filter_map(|vm| vm.gateway))
    }

    /// The link's MTU once the plan is applied.
    pub(crate) fn mtu(&self) -> u32 {
        self.lan.mtu.unwrap_or(self.link.mtu)
    }
}

/// The uplink's addresses with their prefixes.
pub(crate) fn wan_nets(config: &Config) -> impl Iterator<Item = IpNet> {
    let ipv4 = config.wan.ipv4.iter().map(|wan| IpNet::V4(wan.address));
    ipv4.chain(config.wan.ipv6.iter().flat_map(|wan| wan.addresses.iter().map(|net| IpNet::V6(*net))))
}

/// The uplink's link among the facts, as its clients need to know it.
pub fn uplink_link(config: &Config, facts: &Facts) -> Option<crate::uplink::Link> {
    let Picked::One(link) = pick(&config.wan.interface, facts) else { return None };
    let ready = facts.addresses.iter().filter(|held| held.link == link.index && held.state == AddressState::Ready);
    let link_local = ready.filter_map(|held| match held.net.addr() {
        IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
        IpAddr::V6(_) | IpAddr::V4(_) => None,
    });
    let carrier = link.up && link.carrier;
    Some(crate::uplink::Link {
        index: link.index,
        name: link.name.clone(),
        mac: config.wan.present_mac.or(link.mac)?,
        link_local: link_local.min(),
        carrier,
    })
}

/// The next hop towards a VM: its address, or the link-local address that its hardware address implies, unless discovery
/// shows that it has another instead (RFC 7217).
pub fn next_hop(vm: &Vm, link: u32, discovered: &[Discovered]) -> Option<Ipv6Addr> {
    let by_mac = |mac: crate::facts::MacAddr| {
        let implied = mac.link_local();
        let mut shown = discovered.iter().filter(|shown| shown.link == link && shown.mac == mac);
        let first = shown.clone().next().map(|shown| shown.address);
        if shown.any(|shown| shown.address == implied) { implied } else { first.unwrap_or(implied) }
    };
    vm.address.or_else(|| vm.mac.map(by_mac))
}

/// An interface as the configuration names it.
pub(crate) fn describe(interface: &Interface) -> String {
    match interface {
        Interface::Name(name) => format!("\"{name}\""),
        Interface::Mac(mac) => format!("with the hardware address {mac}"),
    }
}

enum Picked<'a> {
    None,
    One(&'a Link),
    Several(String),
}

fn pick<'a>(interface: &Interface, facts: &'a Facts) -> Picked<'a> {
    let mut matching = facts.links.iter().filter(|link| match interface {
        Interface::Name(name) => link.name == *name,
        Interface::Mac(mac) => link.mac == Some(*mac),
    });
    match (matching.next(), matching.next()) {
        (None, _) => Picked::None,
        (Some(link), None) => Picked::One(link),
        (Some(first), Some(second)) => {
            let names: Vec<&str> = [first, second].into_iter().chain(matching).map(|link| link.name.as_str()).collect();
            Picked::Several(names.join(", "))
        }
    }
}

fn v6(net: IpNet) -> Option<Ipv6Net> {
    match net {
        IpNet::V6(net) => Some(net),
        IpNet::V4(_) => None,
    }
}

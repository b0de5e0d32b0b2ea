//! The plan as it would be if every configured interface existed: what `sixgate check` prints.
use core::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use sixgate_wire::mac::MacAddr;

use super::{NAT64_DEVICE, plan};
use crate::config::{Config, Interface};
use crate::facts::{Address, AddressState, Facts, Link};

/// The plan as text, assuming that the configured interfaces exist and are up.
pub fn preview(config: &Config) -> String {
    let facts = preview_facts(config);
    plan(config, &facts).render(&facts)
}

/// A machine on which every configured interface exists and is up.
pub fn preview_facts(config: &Config) -> Facts {
    let mut facts = Facts::default();
    let named = core::iter::once(("wan", &config.wan.interface))
        .chain(config.lans.iter().map(|lan| (lan.name.as_str(), &lan.interface)));
    for (index, (owner, interface)) in (2..).zip(named) {
        let (name, mac) = match interface {
            Interface::Name(name) => (name.clone(), MacAddr([0x52, 0x54, 0, 0, (index >> 8) as u8, index as u8])),
            // The kernel's name is not known; the owner's stands for it.
            Interface::Mac(mac) => (owner.chars().take(15).collect(), *mac),
        };
        facts.links.push(Link { index, name, mac: Some(mac), mtu: 1500, up: true, carrier: true });
        let net = link_local(mac.link_local());
        facts.addresses.push(Address { link: index, net, state: AddressState::Ready, ours: false });
        for net in config.lans.iter().filter(|lan| lan.name == owner).flat_map(|lan| &lan.addresses) {
            facts.addresses.push(Address { link: index, net: IpNet::V6(*net), state: AddressState::Ready, ours: true });
        }
    }
    facts.addresses.sort();
    if config.nat64.is_some() {
        let index = facts.links.last().map_or(2, |link| link.index + 1);
        let name = NAT64_DEVICE.to_owned();
        facts.links.push(Link { index, name, mac: None, mtu: 1500, up: true, carrier: true });
    }
    facts
}

fn link_local(address: Ipv6Addr) -> IpNet {
    Ipv6Net::new(address, 64).map_or_else(|_| IpNet::from(core::net::IpAddr::V6(address)), IpNet::V6)
}

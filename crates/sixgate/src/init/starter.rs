//! The first configuration of a machine that has none: from what a NoCloud drive says, or from its network cards alone.
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use sixgate_engine::status::Card;

use super::cloud_init::{Interface, Network, Subnet};

/// Resolvers of those who name none.
pub(crate) const RESOLVERS: [&str; 2] = ["9.9.9.9", "1.1.1.1"];
const CARDS: &str = "/sys/class/net";
const IFF_UP: &str = "0x1003";

/// All real network cards; they are raised to see whether they have a link.
pub(crate) fn cards() -> Vec<Card> {
    raise_cards();
    present()
}

/// Raises all real network cards: the kernel gives them their link-local addresses and looks for their links.
pub(crate) fn raise_cards() {
    for card in present() {
        let _ = fs::write(Path::new(CARDS).join(&card.name).join("flags"), IFF_UP);
    }
}

/// All real network cards in the order in which the machine has them, as they are.
pub(crate) fn present() -> Vec<Card> {
    let mut cards = Vec::new();
    for entry in fs::read_dir(CARDS).into_iter().flatten().flatten() {
        let home = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        // What is made of software has no device below it.
        let Ok(device) = fs::read_link(home.join("device")) else { continue };
        let read = |file| fs::read_to_string(home.join(file)).unwrap_or_default().trim().to_owned();
        let place = fs::canonicalize(home.join("device")).unwrap_or(device);
        let place = place.ancestors().map(Path::to_path_buf).find(|path| is_pci(path)).unwrap_or(place);
        cards.push((place, Card { mac: read("address"), link: read("carrier") == "1", name }));
    }
    cards.sort_by(|one, other| (&one.0, &one.1.name).cmp(&(&other.0, &other.1.name)));
    cards.into_iter().map(|(_, card)| card).collect()
}

/// The nearest device on the PCI bus: its place there does not depend on which driver came first.
fn is_pci(path: &Path) -> bool {
    path.join("class").exists() && path.join("vendor").exists()
}

/// The uplink's card and the LAN's where nobody says which: the first two with a link.
pub(crate) fn propose(cards: &[Card]) -> (Option<String>, Option<String>) {
    let uplink = cards.iter().find(|card| card.link).or(cards.first());
    let others = || cards.iter().filter(|card| uplink.is_none_or(|uplink| uplink.mac != card.mac));
    let lan = others().find(|card| card.link).or_else(|| others().next());
    (uplink.map(|card| card.mac.clone()), lan.map(|card| card.mac.clone()))
}

/// The configuration, as text that people can go on from. Nothing without a network card.
pub(crate) fn write(hostname: Option<&str>, network: Option<&Network>, cards: &[Card]) -> Option<String> {
    let listed = |card: &&Card| network.and_then(|network| interface(network, &card.mac)).is_some();
    let wan =
        cards.iter().find(|card| listed(card)).or_else(|| cards.iter().find(|card| card.link)).or(cards.first())?;
    let others = || cards.iter().filter(|card| card.mac != wan.mac);
    // A card that the drive does not list has no address yet: that is the one for the virtual machines.
    let lan = others().find(|card| !listed(card) && card.link).or_else(|| others().find(|card| !listed(card)));
    let lan = lan.or_else(|| others().next());

    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# Made at the first boot, from {}.", source(network));
    let _ = writeln!(text, "hostname = {:?}\n", hostname.unwrap_or("sixgate"));
    let _ = writeln!(text, "[wan]\nmac = {:?}", wan.mac);
    let subnets = network.and_then(|network| interface(network, &wan.mac)).map_or(&[][..], |found| &found.subnets);
    let _ = write!(text, "{}", uplink(subnets, network.is_none()));
    if let Some(lan) = lan {
        let fixed = network.and_then(|network| interface(network, &lan.mac)).map(|found| lan_addresses(&found.subnets));
        let addresses = fixed.filter(|addresses| !addresses.is_empty()).unwrap_or_else(|| vec![unique_local(&lan.mac)]);
        let _ = writeln!(text, "\n[[lan]]\nname = \"vms\"\nmac = {:?}\naddresses = {addresses:?}", lan.mac);
        if network.is_none() {
            // Beside the prefix that is always there, the one that the provider delegates, when it does.
            let _ = writeln!(text, "prefix = {{ delegated = \"wan\" }}");
        }
    }
    let named: Vec<String> =
        network.map(|network| network.nameservers.iter().map(ToString::to_string).collect()).unwrap_or_default();
    let upstream = if named.is_empty() { RESOLVERS.map(str::to_owned).to_vec() } else { named };
    let _ = writeln!(text, "\n[dns64]\nupstream = {upstream:?}\n\n[nat64]\nprefix = \"64:ff9b::/96\"");
    Some(text)
}

fn source(network: Option<&Network>) -> &'static str {
    if network.is_some() { "the cloud-init drive" } else { "the network cards alone" }
}

fn interface<'a>(network: &'a Network, mac: &str) -> Option<&'a Interface> {
    network.interfaces.iter().find(|interface| interface.mac == mac)
}

/// The uplink's keys.
fn uplink(subnets: &[Subnet], alone: bool) -> String {
    let mut text = String::new();
    for subnet in subnets {
        match subnet {
            Subnet::Static { address, length, gateway } => {
                let key = if address.is_ipv4() { "ipv4" } else { "ipv6" };
                let gateway = gateway.map(|gateway| format!(", gateway = \"{gateway}\"")).unwrap_or_default();
                let _ = writeln!(text, "{key} = {{ address = \"{address}/{length}\"{gateway} }}");
            }
            Subnet::Dhcp4 => text.push_str("ipv4 = \"dhcp\"\n"),
            Subnet::Learnt6 => text.push_str("ipv6 = \"ra\"\n"),
        }
    }
    if alone {
        text.push_str("ipv4 = \"dhcp\"\nipv6 = \"dhcpv6-pd\"\n");
    }
    text
}

fn lan_addresses(subnets: &[Subnet]) -> Vec<String> {
    let address = |subnet: &Subnet| match subnet {
        Subnet::Static { address: IpAddr::V6(address), length, .. } => Some(format!("{address}/{length}")),
        Subnet::Static { .. } | Subnet::Dhcp4 | Subnet::Learnt6 => None,
    };
    subnets.iter().filter_map(address).collect()
}

/// The router's address in a unique local /64 (RFC 4193). It follows from the hardware address, so that a machine whose
/// state was lost has the same one again.
pub(crate) fn unique_local(mac: &str) -> String {
    let digest = Sha256::digest(mac.as_bytes());
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    bytes[1..6].copy_from_slice(&digest[..5]);
    bytes[15] = 1;
    format!("{}/64", Ipv6Addr::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cards(links: [bool; 3]) -> Vec<Card> {
        let card = |(number, link): (usize, bool)| Card {
            name: format!("eth{number}"),
            mac: format!("bc:24:11:00:00:0{}", number + 1),
            link,
        };
        links.into_iter().enumerate().map(card).collect()
    }

    fn valid(text: &str) -> sixgate_engine::config::Config {
        sixgate_engine::config::parse(text, "starter").unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    }

    #[test]
    fn with_nothing_at_all_the_first_link_is_the_uplink_and_the_next_the_lan() {
        let text = write(None, None, &cards([false, true, true])).unwrap();
        valid(&text);
        let (wan, lan) = text.split_once("[[lan]]").unwrap();
        assert!(wan.contains("00:02\"\nipv4 = \"dhcp\"\nipv6 = \"dhcpv6-pd\"") && lan.contains("00:03\""), "{text}");
        assert!(lan.contains("\"fd") && lan.contains("::1/64\""), "{text}");
        valid(&write(None, None, &cards([false, false, false])).unwrap());
        assert_eq!(write(None, None, &[]), None);
    }

    #[test]
    fn a_card_that_the_drive_does_not_list_is_the_lan() {
        let network = Network {
            interfaces: vec![Interface {
                mac: "bc:24:11:00:00:02".into(),
                subnets: vec![
                    Subnet::Static {
                        address: "192.0.2.5".parse().unwrap(),
                        length: 26,
                        gateway: Some("192.0.2.1".parse().unwrap()),
                    },
                    Subnet::Static {
                        address: "2001:db8::2".parse().unwrap(),
                        length: 64,
                        gateway: Some("fe80::1".parse().unwrap()),
                    },
                ],
            }],
            nameservers: vec!["192.0.2.53".parse().unwrap()],
        };
        let text = write(Some("edge"), Some(&network), &cards([true, true, true])).unwrap();
        valid(&text);
        let (wan, lan) = text.split_once("[[lan]]").unwrap();
        assert!(wan.contains("00:02\"\nipv4 = { address = \"192.0.2.5/26\", gateway = \"192.0.2.1\" }"), "{text}");
        assert!(wan.contains("ipv6 = { address = \"2001:db8::2/64\", gateway = \"fe80::1\" }"), "{text}");
        assert!(lan.contains("00:01\"") && text.contains("upstream = [\"192.0.2.53\"]"), "{text}");
    }

    #[test]
    fn an_uplink_that_learns_its_address_says_so() {
        let network = Network {
            interfaces: vec![Interface {
                mac: "bc:24:11:00:00:01".into(),
                subnets: vec![Subnet::Dhcp4, Subnet::Learnt6],
            }],
            nameservers: Vec::new(),
        };
        let text = write(None, Some(&network), &cards([true, true, false])).unwrap();
        valid(&text);
        assert!(text.contains("ipv4 = \"dhcp\"\nipv6 = \"ra\"\n"), "{text}");
    }

    #[test]
    fn the_unique_local_prefix_stays_with_the_card() {
        assert_eq!(unique_local("bc:24:11:00:00:01"), unique_local("bc:24:11:00:00:01"));
        assert_ne!(unique_local("bc:24:11:00:00:01"), unique_local("bc:24:11:00:00:02"));
    }
}

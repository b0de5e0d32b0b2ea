//! What a NoCloud drive says: its network configuration (version 1, as Proxmox writes it) and its user data.
use std::net::{IpAddr, Ipv4Addr};

use yaml_rust2::{Yaml, YamlLoader};

use crate::backup::Backup;

/// How an address family of an interface is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subnet {
    /// An address with its prefix length, and a next hop.
    Static { address: IpAddr, length: u8, gateway: Option<IpAddr> },
    /// DHCP for IPv4.
    Dhcp4,
    /// DHCPv6 or router advertisements.
    Learnt6,
}

/// An interface that the drive lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Lower case; what it is matched by.
    pub(crate) mac: String,
    pub(crate) subnets: Vec<Subnet>,
}

/// The network configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) nameservers: Vec<IpAddr>,
}

/// What user data holds for a router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) hostname: Option<String>,
    /// A whole configuration.
    pub(crate) toml: Option<String>,
    /// A backup, whose configuration that is.
    pub(crate) backup: Option<Backup>,
}

/// Reads a network configuration.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn network(text: &str) -> Result<Network, String> {
    let document = document(text)?;
    // Some put everything below `network:`.
    let root = if document["network"].is_badvalue() { &document } else { &document["network"] };
    if root["version"].as_i64() != Some(1) {
        return Err("the network configuration is not of version 1".to_owned());
    }
    let mut network = Network::default();
    for item in root["config"].as_vec().into_iter().flatten() {
        match item["type"].as_str() {
            Some("physical") => network.interfaces.extend(interface(item)?),
            Some("nameserver") => network.nameservers.extend(nameservers(&item["address"])),
            Some(_) | None => {}
        }
    }
    Ok(network)
}

fn interface(item: &Yaml) -> Result<Option<Interface>, String> {
    let Some(mac) = item["mac_address"].as_str() else { return Ok(None) };
    let mut subnets = Vec::new();
    for subnet in item["subnets"].as_vec().into_iter().flatten() {
        let kind = subnet["type"].as_str().unwrap_or_default();
        match kind {
            "dhcp" | "dhcp4" => subnets.push(Subnet::Dhcp4),
            "dhcp6" | "ipv6_slaac" | "ipv6_dhcpv6-stateful" | "ipv6_dhcpv6-stateless" => subnets.push(Subnet::Learnt6),
            "static" | "static4" | "static6" => subnets.push(fixed(subnet)?),
            "manual" => {}
            other => return Err(format!("a subnet of the unknown type {other:?}")),
        }
    }
    Ok(Some(Interface { mac: mac.to_lowercase(), subnets }))
}

fn fixed(subnet: &Yaml) -> Result<Subnet, String> {
    let text = subnet["address"].as_str().unwrap_or_default();
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| format!("{text:?} is no address"))?;
    let length = match (length, subnet["netmask"].as_str(), address) {
        (Some(length), _, _) => length.parse().ok(),
        (None, Some(mask), IpAddr::V4(_)) => mask_length(mask),
        (None, None, IpAddr::V4(_)) => Some(24),
        (None, _, IpAddr::V6(_)) => Some(64),
    };
    let length = length.ok_or_else(|| format!("{text:?} has no prefix length"))?;
    let gateway = subnet["gateway"].as_str().and_then(|gateway| gateway.parse().ok());
    Ok(Subnet::Static { address, length, gateway })
}

/// The length of a netmask, also where that is given as a length.
fn mask_length(mask: &str) -> Option<u8> {
    if let Ok(length) = mask.parse::<u8>() {
        return Some(length);
    }
    let bits = u32::from(mask.parse::<Ipv4Addr>().ok()?);
    (bits.leading_ones() == bits.count_ones()).then(|| bits.count_ones() as u8)
}

fn nameservers(value: &Yaml) -> Vec<IpAddr> {
    let one = value.as_str().into_iter();
    let several = value.as_vec().into_iter().flatten().filter_map(Yaml::as_str);
    one.chain(several).filter_map(|text| text.parse().ok()).collect()
}

/// Reads user data: cloud-config, or our TOML.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn user(text: &str) -> Result<User, String> {
    if !text.starts_with("#cloud-config") {
        // A backup is a configuration with what belongs to it.
        if text.starts_with('{') {
            let backup = Backup::parse(text)?;
            return Ok(User { hostname: None, toml: Some(backup.configuration.clone()), backup: Some(backup) });
        }
        let is_table = text.parse::<toml::Table>().is_ok_and(|table| !table.is_empty());
        return Ok(User { toml: is_table.then(|| text.to_owned()), ..User::default() });
    }
    let document = document(text)?;
    let string = |key: &str| document[key].as_str().map(str::to_owned);
    // Proxmox writes the machine's name into both, the second with a domain.
    let label = |name: String| name.split('.').next().unwrap_or_default().to_owned();
    Ok(User {
        hostname: string("hostname").or_else(|| string("fqdn")).map(label),
        toml: string("sixgate"),
        ..User::default()
    })
}

/// The instance's identifier.
pub(crate) fn instance(meta_data: &str) -> Option<String> {
    Some(meta_data.lines().find_map(|line| line.strip_prefix("instance-id:"))?.trim().to_owned())
}

fn document(text: &str) -> Result<Yaml, String> {
    let mut documents = YamlLoader::load_from_str(text).map_err(|error| error.to_string())?;
    if documents.is_empty() { Err("it is empty".to_owned()) } else { Ok(documents.swap_remove(0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Proxmox's code writes it: fixed indentation, quotes around values.
    const PROXMOX: &str = "version: 1
config:
    - type: physical
      name: eth0
      mac_address: 'BC:24:11:00:00:01'
      subnets:
      - type: static
        address: '192.0.2.5'
        netmask: '255.255.255.192'
        gateway: '192.0.2.1'
      - type: static6
        address: '2001:db8::2/64'
        gateway: 'fe80::1'
    - type: physical
      name: eth2
      mac_address: 'bc:24:11:00:00:03'
      subnets:
      - type: dhcp4
      - type: ipv6_slaac
    - type: nameserver
      address:
      - '192.0.2.53'
      - '2001:db8::53'
      search:
      - 'example.net'
";

    #[test]
    fn what_proxmox_writes_is_understood() {
        let network = network(PROXMOX).unwrap();
        let fixed = |address: &str, length, gateway: &str| Subnet::Static {
            address: address.parse().unwrap(),
            length,
            gateway: Some(gateway.parse().unwrap()),
        };
        assert_eq!(
            network.interfaces,
            [
                Interface {
                    mac: "bc:24:11:00:00:01".into(),
                    subnets: vec![fixed("192.0.2.5", 26, "192.0.2.1"), fixed("2001:db8::2", 64, "fe80::1")],
                },
                Interface { mac: "bc:24:11:00:00:03".into(), subnets: vec![Subnet::Dhcp4, Subnet::Learnt6] },
            ]
        );
        assert_eq!(network.nameservers, ["192.0.2.53".parse::<IpAddr>().unwrap(), "2001:db8::53".parse().unwrap()]);
    }

    #[test]
    fn other_versions_and_garbage_are_errors() {
        for text in [
            "version: 2\nethernets: {}\n",
            "",
            "a: [",
            "version: 1\nconfig:\n- type: physical\n  mac_address: x\n  subnets:\n  - type: static\n    address: nonsense\n",
        ] {
            assert!(network(text).is_err(), "{text:?}");
        }
        assert_eq!(network("version: 1\nconfig: []\n").unwrap(), Network::default());
    }

    #[test]
    fn user_data_holds_a_name_or_a_whole_configuration() {
        let cloud = user("#cloud-config\nhostname: edge\nfqdn: edge.example.net\nmanage_etc_hosts: true\n").unwrap();
        assert_eq!((cloud.hostname.as_deref(), cloud.toml), (Some("edge"), None));
        let both = user("#cloud-config\nfqdn: edge.example.net\nsixgate: |\n  hostname = \"x\"\n").unwrap();
        assert_eq!((both.hostname.as_deref(), both.toml.as_deref()), (Some("edge"), Some("hostname = \"x\"\n")));
        assert!(user("hostname = \"x\"\n").unwrap().toml.is_some());
        assert_eq!(user("#!/bin/sh\nreboot\n").unwrap(), User::default());
        assert!(user("#cloud-config\na: [\n").is_err());
    }

    #[test]
    fn a_netmask_is_a_length_or_contiguous() {
        assert_eq!(
            ["255.255.255.0", "24", "0.0.0.0", "255.0.255.0"].map(mask_length),
            [Some(24), Some(24), Some(0), None]
        );
        assert_eq!(instance("instance-id: abc\n").as_deref(), Some("abc"));
    }
}

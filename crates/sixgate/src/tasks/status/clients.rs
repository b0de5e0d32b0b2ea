//! Who is on a LAN: the neighbour cache, by hardware address.
use std::collections::BTreeMap;
use std::net::IpAddr;

use sixgate_engine::config::{Config, Lan, MacAddr};
use sixgate_engine::status::Client;
use sixgate_engine::time::Instant;
use sixgate_linux::facts::Neighbour;

use super::sightings::Sightings;

/// Hosts of one LAN that are told.
const MOST_CLIENTS: usize = 1024;
/// Addresses of one host that are told.
const MOST_ADDRESSES: usize = 16;

/// The hosts on a LAN's link, in the order of their hardware addresses: those of the neighbour cache, and those that were
/// in it lately and do not answer any more.
pub(super) fn clients(
    lan: &Lan,
    link: u32,
    config: &Config,
    neighbours: &[Neighbour],
    (sightings, now): (&Sightings, Instant),
) -> Vec<Client> {
    let mut sighted = sightings.hosts(link, now);
    let mut hosts: BTreeMap<MacAddr, Vec<&Neighbour>> = BTreeMap::new();
    for neighbour in neighbours.iter().filter(|neighbour| neighbour.link == link) {
        if let Some(mac) = neighbour.mac
            && (hosts.len() < MOST_CLIENTS || hosts.contains_key(&mac))
        {
            hosts.entry(mac).or_default().push(neighbour);
        }
    }
    let host = |mac: MacAddr, addresses: Vec<IpAddr>, seen: bool, last_seen: Option<u64>| {
        let is = |vm: &&sixgate_engine::config::Vm| {
            let has = |address: IpAddr| addresses.contains(&address);
            vm.lan == lan.name && (vm.mac == Some(mac) || vm.address.is_some_and(|address| has(address.into())))
        };
        let vm = config.vms.iter().find(is).map(|vm| vm.name.clone());
        Client { mac: mac.to_string(), vm, addresses, seen, last_seen }
    };
    let mut told: BTreeMap<MacAddr, Client> = BTreeMap::new();
    for (mac, entries) in hosts {
        let addresses = entries.iter().map(|entry| entry.address).take(MOST_ADDRESSES).collect();
        let last_seen = sighted.remove(&mac).map(|(_, ago)| ago);
        told.insert(mac, host(mac, addresses, entries.iter().any(|entry| entry.seen), last_seen));
    }
    for (mac, (mut addresses, ago)) in sighted {
        addresses.truncate(MOST_ADDRESSES);
        if told.len() < MOST_CLIENTS {
            told.insert(mac, host(mac, addresses, false, Some(ago)));
        }
    }
    told.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "[wan]\ninterface = \"wan0\"\n[[lan]]\nname = \"vms\"\ninterface = \"lan0\"\n\
                    addresses = [\"2001:db8::1/64\"]\n[[vm]]\nname = \"vm1\"\nlan = \"vms\"\naddress = \"2001:db8::2\"\n\
                    [[vm]]\nname = \"vm2\"\nlan = \"vms\"\nmac = \"52:54:00:00:00:02\"\n";
        sixgate_engine::config::parse(text, "test.toml").unwrap()
    }

    fn neighbour(link: u32, last: u8, address: &str, seen: bool) -> Neighbour {
        let mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, last]));
        Neighbour { link, address: address.parse().unwrap(), mac, seen, confirmed: seen.then_some(3) }
    }

    fn told(config: &Config, neighbours: &[Neighbour]) -> Vec<Client> {
        clients(&config.lans[0], 7, config, neighbours, (&Sightings::default(), Instant::ZERO))
    }

    #[test]
    fn entries_of_one_hardware_address_are_one_client_and_vms_go_by_their_names() {
        let config = config();
        let neighbours = [
            neighbour(7, 1, "2001:db8::2", false),
            neighbour(7, 1, "fe80::1:1", true),
            neighbour(7, 2, "fe80::2:2", false),
            neighbour(7, 3, "2001:db8::3", true),
            neighbour(8, 4, "2001:db8::4", true),
            Neighbour { mac: None, ..neighbour(7, 5, "2001:db8::5", false) },
        ];
        let told = told(&config, &neighbours);
        let told: Vec<_> =
            told.iter().map(|client| (client.vm.as_deref(), client.addresses.len(), client.seen)).collect();
        assert_eq!(told, [(Some("vm1"), 2, true), (Some("vm2"), 1, false), (None, 1, true)]);
    }

    #[test]
    fn a_host_that_does_not_answer_any_more_is_told_with_the_time_since() {
        let (config, mut sightings) = (config(), Sightings::default());
        sightings.take(&[neighbour(7, 1, "2001:db8::2", true)], Instant::from_nanos(10_000_000_000));
        let now = Instant::from_nanos(100_000_000_000);
        let told = clients(&config.lans[0], 7, &config, &[], (&sightings, now));
        let expected = (Some("vm1".to_owned()), false, Some(93));
        assert_eq!((told[0].vm.clone(), told[0].seen, told[0].last_seen), expected);
    }

    #[test]
    fn a_flooded_cache_is_told_in_part() {
        let many: Vec<_> = (0..3000_u16)
            .map(|host| Neighbour {
                mac: Some(MacAddr([2, 0, 0, 0, host.to_be_bytes()[0], host.to_be_bytes()[1]])),
                ..neighbour(7, 0, &format!("2001:db8::{host:x}"), true)
            })
            .collect();
        assert_eq!(told(&config(), &many).len(), MOST_CLIENTS);
        let one: Vec<_> = (0..100).map(|host| neighbour(7, 1, &format!("2001:db8::{host:x}"), true)).collect();
        assert_eq!(told(&config(), &one)[0].addresses.len(), MOST_ADDRESSES);
    }
}

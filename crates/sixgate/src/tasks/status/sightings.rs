//! When a host was seen last: the neighbour cache forgets who does not answer, this does not.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use sixgate_engine::config::MacAddr;
use sixgate_engine::time::Instant;
use sixgate_linux::facts::Neighbour;

/// Addresses that are remembered; those that were seen last stay.
const MOST: usize = 4096;
/// A host that was not seen for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// Addresses by link, with whose they were and when it was seen there last.
#[derive(Debug, Default)]
pub(super) struct Sightings(BTreeMap<(u32, IpAddr), (MacAddr, Instant)>);

impl Sightings {
    /// Takes what the kernel knows now.
    pub(super) fn take(&mut self, neighbours: &[Neighbour], now: Instant) {
        for neighbour in neighbours {
            let (Some(mac), Some(ago)) = (neighbour.mac, neighbour.confirmed) else { continue };
            let at = Instant::from_nanos(now.as_nanos().saturating_sub(ago.saturating_mul(1_000_000_000)));
            let seen = self.0.entry((neighbour.link, neighbour.address)).or_insert((mac, at));
            *seen = (mac, if seen.0 == mac { seen.1.max(at) } else { at });
        }
        self.0.retain(|_, (_, at)| now.saturating_since(*at) < FORGOTTEN);
        while self.0.len() > MOST {
            let oldest = self.0.iter().min_by_key(|(_, (_, at))| *at).map(|(address, _)| *address);
            let Some(oldest) = oldest else { return };
            self.0.remove(&oldest);
        }
    }

    /// Seconds since that address was seen.
    pub(super) fn of(&self, link: u32, address: IpAddr, now: Instant) -> Option<u64> {
        self.0.get(&(link, address)).map(|(_, at)| now.saturating_since(*at).as_secs())
    }

    /// The hosts of a link with their addresses, and seconds since each was seen.
    pub(super) fn hosts(&self, link: u32, now: Instant) -> BTreeMap<MacAddr, (Vec<IpAddr>, u64)> {
        let mut hosts: BTreeMap<MacAddr, (Vec<IpAddr>, u64)> = BTreeMap::new();
        for ((_, address), (mac, at)) in self.0.iter().filter(|((at, _), _)| *at == link) {
            let ago = now.saturating_since(*at).as_secs();
            let host = hosts.entry(*mac).or_insert((Vec::new(), ago));
            host.0.push(*address);
            host.1 = host.1.min(ago);
        }
        hosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn neighbour(address: &str, confirmed: Option<u64>) -> Neighbour {
        let address = address.parse().unwrap();
        Neighbour { link: 7, address, mac: Some(MAC), seen: confirmed.is_some(), confirmed }
    }

    #[test]
    fn a_host_that_the_cache_has_forgotten_is_still_known_and_a_day_later_no_more() {
        let mut sightings = Sightings::default();
        sightings.take(&[neighbour("2001:db8::2", Some(5)), neighbour("fe80::2", Some(50))], at(1_000));
        sightings.take(&[], at(1_060));
        let address = "2001:db8::2".parse().unwrap();
        assert_eq!(sightings.of(7, address, at(1_060)), Some(65));
        assert_eq!(sightings.of(8, address, at(1_060)), None);
        let hosts = sightings.hosts(7, at(1_060));
        assert_eq!((hosts[&MAC].0.len(), hosts[&MAC].1), (2, 65));
        sightings.take(&[], at(100_000));
        assert!(sightings.hosts(7, at(100_000)).is_empty());
    }

    #[test]
    fn an_entry_that_nobody_answered_for_is_no_sighting() {
        let mut sightings = Sightings::default();
        sightings.take(&[neighbour("2001:db8::2", None)], at(1_000));
        assert!(sightings.hosts(7, at(1_000)).is_empty());
    }

    #[test]
    fn invented_addresses_push_out_the_oldest() {
        let mut sightings = Sightings::default();
        let many: Vec<_> = (0..5_000_u64).map(|host| neighbour(&format!("2001:db8::{host:x}"), Some(host))).collect();
        sightings.take(&many, at(10_000));
        assert_eq!(sightings.hosts(7, at(10_000))[&MAC].0.len(), MOST);
        assert_eq!(sightings.of(7, many[0].address, at(10_000)), Some(0));
        assert_eq!(sightings.of(7, many[4_999].address, at(10_000)), None);
    }
}

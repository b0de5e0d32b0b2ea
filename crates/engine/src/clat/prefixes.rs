//! The PLAT's prefix: as configured, else as routers announce it (RFC 8781), else as `ipv4only.arpa` tells (RFC 7050).
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use serde::{Deserialize, Serialize};
use sixgate_wire::ndp;
use sixgate_wire::rfc6052::Pref64;

use crate::time::Instant;

/// RFC 7050 section 8.2: the well-known IPv4 addresses.
const WELL_KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// RFC 6052 section 2.2, the most usual first.
const LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];
/// Announcements that are kept: whoever is on the link could send any number.
const MOST: usize = 16;
/// How long routers may take to announce a prefix before the name is looked up.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long an answer about the name is believed, whatever it says.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);
/// When a look-up without an answer is repeated, and how far that grows.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// From where a prefix is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The command line.
    Configured,
    /// A router's advertisement.
    Advertised,
    /// The name `ipv4only.arpa`.
    Dns,
}

/// What became of a look-up of `ipv4only.arpa`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The addresses in the answer, and its TTL in seconds. None where the resolver does not synthesize.
    Answer(Vec<Ipv6Addr>, u32),
    /// Nobody answered, or with an error.
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    pref64: Pref64,
    /// The router that announces it; nothing for DNS.
    router: Option<Ipv6Addr>,
    until: Instant,
}

/// All prefixes that are known.
#[derive(Debug)]
pub(super) struct Prefixes {
    configured: Option<Pref64>,
    known: Vec<Known>,
    /// When the name is looked up next.
    lookup_at: Instant,
    looking: bool,
    pause: Duration,
    /// Why the last look-up gave none.
    failure: Option<String>,
}

impl Prefixes {
    pub(super) fn new(configured: Option<Pref64>, now: Instant) -> Self {
        let (known, looking) = (Vec::new(), false);
        Self { configured, known, lookup_at: now + PATIENCE, looking, pause: FIRST_PAUSE, failure: None }
    }

    /// Another link: what was told on the last one does not count here.
    pub(super) fn forget(&mut self, now: Instant) {
        *self = Self::new(self.configured, now);
    }

    /// RFC 8781 section 5: an announcement. Lifetime zero takes the prefix back.
    pub(super) fn announced(&mut self, option: &ndp::Pref64, router: Ipv6Addr, now: Instant) {
        let Ok(pref64) = Pref64::new(option.prefix, option.length) else { return };
        let place = self.known.iter().position(|known| known.pref64 == pref64 && known.router == Some(router));
        let until = now + Duration::from_secs(option.lifetime.into());
        match place {
            Some(place) if option.lifetime == 0 => drop(self.known.remove(place)),
            Some(place) => self.known[place].until = until,
            None if option.lifetime > 0 && self.known.len() < MOST => {
                self.known.push(Known { pref64, router: Some(router), until });
            }
            None => {}
        }
    }

    /// RFC 7050 section 3: the answer of a look-up.
    pub(super) fn looked_up(&mut self, lookup: Lookup, now: Instant) {
        self.looking = false;
        let (found, lasts) = match lookup {
            Lookup::Answer(addresses, ttl) => {
                let lasts = Duration::from_secs(ttl.into()).clamp(SHORTEST, LONGEST);
                self.failure = addresses.is_empty().then(|| "the resolver does not synthesize addresses".to_owned());
                let found = discovered(&addresses);
                if found.is_empty() && !addresses.is_empty() {
                    self.failure = Some("no address holds 192.0.0.170 or 192.0.0.171".to_owned());
                }
                (found, lasts)
            }
            Lookup::Failed(cause) => {
                self.failure = Some(cause);
                self.lookup_at = now + self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                return;
            }
        };
        self.known.retain(|known| known.router.is_some());
        // It is asked for again before it is over.
        let until = now + lasts + Duration::from_secs(30);
        self.known.extend(found.iter().take(MOST).map(|pref64| Known { pref64: *pref64, router: None, until }));
        if found.is_empty() {
            self.lookup_at = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        } else {
            (self.lookup_at, self.pause) = (now + lasts, FIRST_PAUSE);
        }
    }

    /// Whether the name is to be looked up now; says so once.
    pub(super) fn take_lookup(&mut self, now: Instant) -> bool {
        let due = self.wants_dns() && !self.looking && self.lookup_at <= now;
        self.looking |= due;
        due
    }

    /// RFC 8781 section 5.1: announcements come before DNS.
    fn wants_dns(&self) -> bool {
        self.configured.is_none() && !self.known.iter().any(|known| known.router.is_some())
    }

    /// What may be used, best first, each once: `current` comes first as long as it is among them.
    pub(super) fn usable(&self, current: Option<Pref64>) -> Vec<(Pref64, Origin)> {
        if let Some(pref64) = self.configured {
            return vec![(pref64, Origin::Configured)];
        }
        let from_routers = !self.wants_dns();
        let counts = |known: &&Known| known.router.is_some() == from_routers;
        let origin = if from_routers { Origin::Advertised } else { Origin::Dns };
        let mut usable: Vec<(Pref64, Origin)> = Vec::new();
        for known in self.known.iter().filter(counts) {
            if !usable.contains(&(known.pref64, origin)) {
                usable.push((known.pref64, origin));
            }
        }
        usable.sort_by_key(|(pref64, _)| Some(*pref64) != current);
        usable
    }

    /// Why DNS gave none.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.known.retain(|known| now < known.until);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let lookup = (self.wants_dns() && !self.looking).then_some(self.lookup_at);
        self.known.iter().map(|known| known.until).chain(lookup).min()
    }
}

/// RFC 7050 section 3: prefixes whose embedded address is well known, by the lengths of RFC 6052. No more than one fits an
/// address: what follows the embedded one is zero, and its own last octet is not.
fn discovered(addresses: &[Ipv6Addr]) -> Vec<Pref64> {
    let mut found = Vec::new();
    for address in addresses {
        let pref64 = LENGTHS.into_iter().find_map(|length| fitting(*address, length));
        found.extend(pref64.filter(|pref64| !found.contains(pref64)));
    }
    found
}

/// The prefix of that length by which an address stands for a well-known one.
fn fitting(address: Ipv6Addr, length: u8) -> Option<Pref64> {
    let prefix = ipnet::Ipv6Net::new(address, length).ok()?.network();
    let pref64 = Pref64::new(prefix, length).ok()?;
    WELL_KNOWN.into_iter().any(|v4| pref64.embed(v4) == address).then_some(pref64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(1_000_000_000);
    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

    fn pref64(text: &str, length: u8) -> Pref64 {
        Pref64::new(text.parse().unwrap(), length).unwrap()
    }

    fn option(text: &str, length: u8, lifetime: u16) -> ndp::Pref64 {
        ndp::Pref64 { prefix: text.parse().unwrap(), length, lifetime }
    }

    fn seconds(seconds: u64) -> Instant {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn what_routers_announce_comes_before_dns_and_ends_with_its_lifetime() {
        let mut prefixes = Prefixes::new(None, START);
        assert!(!prefixes.take_lookup(START), "routers are given time");
        assert!(prefixes.take_lookup(seconds(4)) && !prefixes.take_lookup(seconds(5)), "once");
        let answer = ["2001:db8:65::192.0.0.170", "2001:db8:65::192.0.0.171"].map(|text| text.parse().unwrap());
        prefixes.looked_up(Lookup::Answer(answer.into(), 600), seconds(5));
        assert_eq!(prefixes.usable(None), [(pref64("2001:db8:65::", 96), Origin::Dns)]);
        prefixes.announced(&option("2001:db8:64::", 96, 600), ROUTER, seconds(6));
        assert_eq!(prefixes.usable(None), [(pref64("2001:db8:64::", 96), Origin::Advertised)]);
        assert!(!prefixes.take_lookup(seconds(900)), "nobody asks while a router announces");
        prefixes.announced(&option("2001:db8:64::", 96, 0), ROUTER, seconds(7));
        assert_eq!(prefixes.usable(None)[0].1, Origin::Dns, "taken back");
        prefixes.expire(seconds(5 + 600 + 30));
        assert!(prefixes.usable(None).is_empty());
    }

    #[test]
    fn the_prefix_in_use_stays_in_use_while_it_is_announced() {
        let mut prefixes = Prefixes::new(None, START);
        let [one, two] = ["2001:db8:64::", "2001:db8:65::"].map(|text| pref64(text, 96));
        prefixes.announced(&option("2001:db8:64::", 96, 600), ROUTER, START);
        prefixes.announced(&option("2001:db8:65::", 96, 1200), OTHER, START);
        prefixes.announced(&option("2001:db8:64::", 96, 600), OTHER, START);
        let usable = |prefixes: &Prefixes, current| -> Vec<Pref64> {
            prefixes.usable(current).into_iter().map(|(pref64, _)| pref64).collect()
        };
        assert_eq!(usable(&prefixes, Some(two)), [two, one]);
        assert_eq!(usable(&prefixes, Some(one)), [one, two]);
        prefixes.expire(seconds(600));
        assert_eq!(usable(&prefixes, Some(one)), [two]);
    }

    #[test]
    fn prefixes_of_all_lengths_are_found_in_the_names_addresses() {
        for length in [32, 40, 48, 56, 64, 96] {
            let pref64 = pref64("2001:db8::", length);
            let addresses: Vec<Ipv6Addr> = WELL_KNOWN.iter().map(|v4| pref64.embed(*v4)).collect();
            assert_eq!(discovered(&addresses), [pref64]);
        }
        assert!(discovered(&["2001:db8::1".parse().unwrap()]).is_empty());
    }

    #[test]
    fn an_address_that_repeats_itself_is_told_by_where_it_ends() {
        for text in ["2001:db8:c000:aa::", "2001:db8:c0:0:aa::", "2001:db8:0:c0:0:aa::"] {
            for v4 in WELL_KNOWN {
                let pref64 = pref64(text, 96);
                let address = pref64.embed(v4);
                assert_eq!(discovered(&[address]), [pref64]);
                assert_eq!(LENGTHS.into_iter().filter_map(|length| fitting(address, length)).count(), 1, "{address}");
            }
        }
    }

    #[test]
    fn what_the_name_told_is_asked_for_again_before_it_is_forgotten() {
        let mut prefixes = Prefixes::new(None, START);
        assert!(prefixes.take_lookup(seconds(4)));
        let answer = vec!["2001:db8:65::192.0.0.170".parse().unwrap()];
        prefixes.looked_up(Lookup::Answer(answer, 600), seconds(4));
        assert!(!prefixes.take_lookup(seconds(603)) && prefixes.take_lookup(seconds(604)));
        prefixes.expire(seconds(633));
        assert_eq!(prefixes.usable(None).len(), 1, "while the resolver thinks");
        prefixes.expire(seconds(634));
        assert!(prefixes.usable(None).is_empty());
    }

    #[test]
    fn a_resolver_without_synthesis_is_asked_again_ever_more_rarely() {
        let mut prefixes = Prefixes::new(None, START);
        assert!(prefixes.take_lookup(seconds(4)));
        prefixes.looked_up(Lookup::Answer(Vec::new(), 0), seconds(4));
        assert!(prefixes.failure().unwrap().contains("does not synthesize"));
        assert!(!prefixes.take_lookup(seconds(8)) && prefixes.take_lookup(seconds(9)));
        prefixes.looked_up(Lookup::Failed("no answer".to_owned()), seconds(9));
        assert_eq!(prefixes.poll_timeout(), Some(seconds(19)));
        prefixes.announced(&option("2001:db8:64::", 96, 600), ROUTER, seconds(10));
        assert_eq!(prefixes.poll_timeout(), Some(seconds(610)));
    }

    #[test]
    fn a_configured_prefix_is_asked_of_nobody() {
        let configured = pref64("2001:db8:64::", 96);
        let mut prefixes = Prefixes::new(Some(configured), START);
        prefixes.announced(&option("2001:db8:65::", 96, 600), ROUTER, START);
        assert!(!prefixes.take_lookup(seconds(60)));
        assert_eq!(prefixes.usable(None), [(configured, Origin::Configured)]);
    }
}

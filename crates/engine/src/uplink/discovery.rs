//! Router discovery on the uplink: RFC 4861 section 6.3 and RFC 4862 section 5.5, done here because the kernel of a router
//! does neither, with RFC 4191's routes and RFC 8106's resolvers.
use core::net::Ipv6Addr;
use core::time::Duration;
use std::collections::BTreeMap;

use ipnet::Ipv6Net;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use sixgate_wire::ndp::{
    ALL_ROUTERS, Delivery, Message, NdpOption, ParseError, Preference, PrefixInformation, RouterAdvertisement,
};

use crate::prefix::{LearntPrefix, place};
use crate::time::Instant;

/// RFC 7559 section 2: the first pause between two solicitations, and the longest.
const IRT: Duration = Duration::from_secs(4);
const MRT: Duration = Duration::from_secs(3600);
/// RFC 4862 section 5.5.3 e: lifetimes are not cut below this by a single advertisement.
const TWO_HOURS: Duration = Duration::from_secs(7200);
/// RFC 4862 section 5.5.3 d: prefix and interface identifier fill the address.
const SLAAC_LENGTH: u8 = 64;
/// Entries of each kind that are kept: whoever is on the link could send any number.
const MOST: usize = 16;
/// Seconds that never end.
const INFINITE: u32 = u32::MAX;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// An advertisement was taken in.
    Taken,
    /// A validity check of RFC 4861 section 6.1.2 failed.
    Invalid(ParseError),
    /// It is no advertisement, or our own.
    NotForUs,
}

impl Verdict {
    /// Stable kebab-case name, for counters and the console.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Taken => "ra-taken",
            Self::Invalid(error) => error.name(),
            Self::NotForUs => "ra-not-for-us",
        }
    }
}

/// A default router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Router {
    address: Ipv6Addr,
    /// 2 high, 1 medium, 0 low.
    preference: u8,
    until: Option<Instant>,
}

/// A prefix with what it is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Prefix {
    prefix: Ipv6Net,
    /// Until when it is on-link; in a list of one, lest nothing be taken for "without end".
    on_link: Option<(Until,)>,
    /// Preferred and valid lifetime of the address in it.
    address: Option<(Until, Until)>,
}

/// An end; nothing inside where there is none.
pub(super) type Until = Option<Instant>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Route {
    prefix: Ipv6Net,
    via: Ipv6Addr,
    preference: u8,
    until: Until,
}

/// What is known of the link; it is kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Known {
    routers: Vec<Router>,
    prefixes: Vec<Prefix>,
    routes: Vec<Route>,
    resolvers: Vec<(Ipv6Addr, Until)>,
    mtu: Option<u32>,
    managed: bool,
}

impl Known {
    /// Every end through a function: to seconds for a file, and back.
    pub(super) fn aged(&self, age: &mut dyn FnMut(Until) -> Until) -> Self {
        let mut aged = self.clone();
        aged.routers.iter_mut().for_each(|router| router.until = age(router.until));
        for prefix in &mut aged.prefixes {
            prefix.on_link = prefix.on_link.map(|(until,)| (age(until),));
            prefix.address = prefix.address.map(|(preferred, valid)| (age(preferred), age(valid)));
        }
        aged.routes.iter_mut().for_each(|route| route.until = age(route.until));
        aged.resolvers.iter_mut().for_each(|(_, until)| *until = age(*until));
        aged
    }
}

/// Router discovery on one link.
#[derive(Debug)]
pub(super) struct Discovery {
    /// Our link-local address: source of solicitations, and the interface identifier of addresses.
    source: Option<Ipv6Addr>,
    known: Known,
    rng: ChaCha8Rng,
    /// When the next solicitation is due; nothing once a router has answered.
    solicit: Option<Instant>,
    pause: Duration,
    transmit: bool,
    verdicts: BTreeMap<Verdict, u64>,
}

impl Discovery {
    /// Begins to solicit; what is remembered counts as known at once.
    pub(super) fn new(known: Known, seed: u64, now: Instant) -> Self {
        let mut discovery = Self {
            source: None,
            known,
            rng: ChaCha8Rng::seed_from_u64(seed),
            solicit: Some(now),
            pause: Duration::ZERO,
            transmit: false,
            verdicts: BTreeMap::new(),
        };
        discovery.expire(now);
        discovery
    }

    /// The link's address is known, or another one now.
    pub(super) fn set_source(&mut self, source: Option<Ipv6Addr>) {
        self.source = source;
    }

    /// RFC 4861 section 6.3.7: the link has come back.
    pub(super) fn handle_link_up(&mut self, now: Instant) {
        self.solicit = Some(now);
        self.pause = Duration::ZERO;
    }

    /// Takes an ICMPv6 message that the kernel found to have a good checksum.
    pub(super) fn handle_input(&mut self, message: &[u8], source: Ipv6Addr, hop_limit: u8, now: Instant) -> Verdict {
        let delivery = Delivery { source, destination: ALL_ROUTERS, hop_limit };
        let verdict = match Message::parse(message, &delivery) {
            Err(error) => Verdict::Invalid(error),
            Ok(Message::RouterAdvertisement { header, options }) if Some(source) != self.source => {
                self.take(source, &header, options.iter(), now);
                Verdict::Taken
            }
            Ok(_) => Verdict::NotForUs,
        };
        *self.verdicts.entry(verdict).or_default() += 1;
        verdict
    }

    /// RFC 4861 section 6.3.4.
    fn take<'a>(
        &mut self,
        source: Ipv6Addr,
        header: &RouterAdvertisement,
        options: impl Iterator<Item = NdpOption<'a>>,
        now: Instant,
    ) {
        self.expire(now);
        let until = |seconds: u32| (seconds != INFINITE).then(|| now + Duration::from_secs(seconds.into()));
        self.known.routers.retain(|router| router.address != source);
        if header.router_lifetime > 0 {
            let lifetime = now + Duration::from_secs(header.router_lifetime.into());
            let preference = rank(header.preference);
            self.known.routers.push(Router { address: source, preference, until: Some(lifetime) });
            self.known.routers.truncate(MOST);
            self.known.managed = header.managed;
            // RFC 7559 section 2.1: soliciting ends with an answer of a default router.
            self.solicit = None;
        }
        for option in options {
            match option {
                NdpOption::PrefixInformation(prefix) => self.take_prefix(&prefix, now),
                NdpOption::Mtu(mtu) if (1280..=65_535).contains(&mtu) => self.known.mtu = Some(mtu),
                NdpOption::RouteInformation(route) => {
                    let Ok(prefix) = Ipv6Net::new(route.prefix, route.length) else { continue };
                    let prefix = prefix.trunc();
                    self.known.routes.retain(|held| (held.prefix, held.via) != (prefix, source));
                    if route.lifetime > 0 && route.length > 0 && self.known.routes.len() < MOST {
                        let (preference, until) = (rank(route.preference), until(route.lifetime));
                        self.known.routes.push(Route { prefix, via: source, preference, until });
                    }
                }
                NdpOption::Rdnss { lifetime, addresses } => {
                    for address in addresses.iter() {
                        self.known.resolvers.retain(|(held, _)| *held != address);
                        if lifetime > 0 && self.known.resolvers.len() < MOST {
                            self.known.resolvers.push((address, until(lifetime)));
                        }
                    }
                }
                NdpOption::SourceLinkLayer(_)
                | NdpOption::TargetLinkLayer(_)
                | NdpOption::Mtu(_)
                | NdpOption::Dnssl { .. }
                | NdpOption::Pref64(_)
                | NdpOption::CaptivePortal(_)
                | NdpOption::EncryptedDns(_) => {}
            }
        }
    }

    /// RFC 4861 section 6.3.4 for the L flag, RFC 4862 section 5.5.3 for the A flag.
    fn take_prefix(&mut self, option: &PrefixInformation, now: Instant) {
        let Ok(net) = Ipv6Net::new(option.prefix, option.length) else { return };
        let prefix = net.trunc();
        let usable = !prefix.network().is_unicast_link_local() && !prefix.network().is_multicast() && option.length > 0;
        if !usable || option.preferred > option.valid {
            return;
        }
        let until = |seconds: u32| (seconds != INFINITE).then(|| now + Duration::from_secs(seconds.into()));
        let prefixes = &mut self.known.prefixes;
        if !prefixes.iter().any(|held| held.prefix == prefix) {
            if option.valid == 0 || prefixes.len() >= MOST {
                return;
            }
            prefixes.push(Prefix { prefix, on_link: None, address: None });
        }
        let Some(entry) = prefixes.iter_mut().find(|held| held.prefix == prefix) else { return };
        if option.on_link {
            entry.on_link = (option.valid > 0).then(|| (until(option.valid),));
        }
        if option.autonomous && option.length == SLAAC_LENGTH {
            entry.address = match &entry.address {
                None if option.valid == 0 => None,
                None => Some((until(option.preferred), until(option.valid))),
                Some((_, valid)) => {
                    let remaining = valid.map_or(Duration::MAX, |valid| valid.saturating_since(now));
                    let received = until(option.valid).map_or(Duration::MAX, |end| end.saturating_since(now));
                    // RFC 4862 section 5.5.3 e 1 to 3: nobody can take an address away at a stroke.
                    let new = if received > TWO_HOURS || received > remaining {
                        until(option.valid)
                    } else if remaining <= TWO_HOURS {
                        *valid
                    } else {
                        Some(now + TWO_HOURS)
                    };
                    Some((until(option.preferred), new))
                }
            };
        }
    }

    fn expire(&mut self, now: Instant) {
        let lasts = |until: &Until| until.is_none_or(|until| now < until);
        self.known.routers.retain(|router| lasts(&router.until));
        for prefix in &mut self.known.prefixes {
            prefix.on_link = prefix.on_link.take().filter(|(until,)| lasts(until));
            prefix.address = prefix.address.take().filter(|(_, valid)| lasts(valid));
        }
        self.known.prefixes.retain(|prefix| prefix.on_link.is_some() || prefix.address.is_some());
        self.known.routes.retain(|route| lasts(&route.until));
        self.known.resolvers.retain(|(_, until)| lasts(until));
    }

    /// When [`Discovery::handle_timeout`] wants to be called next, given when it was called last.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let solicit = self.solicit.filter(|_| self.source.is_some());
        let known = &self.known;
        let addresses = known.prefixes.iter().filter_map(|prefix| prefix.address);
        let ends = known.routers.iter().map(|router| router.until);
        let ends = ends.chain(known.prefixes.iter().filter_map(|prefix| prefix.on_link).map(|(until,)| until));
        let ends = ends.chain(addresses.flat_map(|(preferred, valid)| [preferred, valid]));
        let ends = ends.chain(known.routes.iter().map(|route| route.until));
        let ends = ends.chain(known.resolvers.iter().map(|(_, until)| *until));
        ends.flatten().filter(|end| *end > now).chain(solicit).min()
    }

    /// Does what is due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
        if self.known.routers.is_empty() && self.solicit.is_none() {
            self.handle_link_up(now);
        }
        if self.source.is_none() || self.solicit.is_none_or(|due| now < due) {
            return;
        }
        self.transmit = true;
        // RFC 7559 section 2: as RFC 8415 section 15, without an end.
        let jitter = |base: Duration, rng: &mut ChaCha8Rng| base * (900 + rng.next_u32() % 200) / 1000;
        self.pause = match self.pause {
            Duration::ZERO => jitter(IRT, &mut self.rng),
            pause => pause + jitter(pause, &mut self.rng),
        };
        if self.pause > MRT {
            self.pause = jitter(MRT, &mut self.rng);
        }
        self.solicit = Some(now + self.pause);
    }

    /// A Router Solicitation that is to be sent now, without checksum, from our link-local address.
    pub(super) fn poll_transmit(&mut self, slla: sixgate_wire::mac::MacAddr) -> Option<(Ipv6Addr, Vec<u8>)> {
        if !std::mem::take(&mut self.transmit) {
            return None;
        }
        let [a, b, c, d, e, f] = slla.0;
        Some((self.source?, vec![133, 0, 0, 0, 0, 0, 0, 0, 1, 1, a, b, c, d, e, f]))
    }

    /// RFC 4861 section 6.3.6, RFC 4191 section 3.2: the most preferred default router; of equals the one that was there first.
    pub(super) fn router(&self) -> Option<Ipv6Addr> {
        let best = self.known.routers.iter().map(|router| router.preference).max()?;
        let equals = self.known.routers.iter().filter(|router| router.preference == best);
        equals.map(|router| router.address).min()
    }

    /// Our addresses, each with whether it is deprecated. On-link prefixes keep their length.
    pub(super) fn addresses(&self, now: Instant) -> Vec<(Ipv6Net, bool)> {
        let Some(source) = self.source else { return Vec::new() };
        let held = self.known.prefixes.iter().filter_map(|prefix| {
            let (preferred, _) = prefix.address.as_ref()?;
            let length = if prefix.on_link.is_some() { prefix.prefix.prefix_len() } else { 128 };
            let net = Ipv6Net::new(place(prefix.prefix, source), length).ok()?;
            Some((net, preferred.is_some_and(|preferred| preferred <= now)))
        });
        let mut held: Vec<_> = held.collect();
        // What is preferred comes first.
        held.sort_by_key(|(net, deprecated)| (*deprecated, *net));
        held
    }

    /// Prefixes for SLAAC with their lifetimes, those that are preferred first.
    pub(super) fn prefixes(&self, now: Instant) -> Vec<LearntPrefix> {
        let held = self.known.prefixes.iter().filter_map(|held| {
            let (preferred_until, valid_until) = held.address?;
            let retired = preferred_until.is_some_and(|preferred| preferred <= now);
            // When it ran out makes no difference any more, and no news for anybody.
            let preferred_until = if retired { Some(Instant::ZERO) } else { preferred_until };
            Some(LearntPrefix { prefix: held.prefix, preferred_until, valid_until, retired })
        });
        let mut held: Vec<LearntPrefix> = held.collect();
        held.sort_by_key(|held| (held.retired, held.prefix));
        held
    }

    /// On-link prefixes, and for each RFC 4191 route the most preferred next hop.
    pub(super) fn routes(&self) -> Vec<(Ipv6Net, Option<Ipv6Addr>)> {
        let on_link = self.known.prefixes.iter().filter(|prefix| prefix.on_link.is_some());
        let mut best: BTreeMap<Ipv6Net, (u8, Ipv6Addr)> = BTreeMap::new();
        for route in &self.known.routes {
            let entry = best.entry(route.prefix).or_insert((route.preference, route.via));
            *entry = (*entry).max((route.preference, route.via));
        }
        let mut routes: Vec<_> = on_link.map(|prefix| (prefix.prefix, None)).collect();
        routes.extend(best.into_iter().map(|(prefix, (_, via))| (prefix, Some(via))));
        routes.sort();
        routes
    }

    /// Resolvers.
    pub(super) fn resolvers(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.known.resolvers.iter().map(|(address, _)| *address)
    }

    /// MTU of the link.
    pub(super) fn mtu(&self) -> Option<u32> {
        self.known.mtu
    }

    /// M flag: addresses are to be had by DHCPv6.
    pub(super) fn managed(&self) -> bool {
        self.known.managed
    }

    /// What is known, to be remembered.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// What became of messages.
    pub(super) fn verdicts(&self) -> &BTreeMap<Verdict, u64> {
        &self.verdicts
    }
}

fn rank(preference: Preference) -> u8 {
    match preference {
        Preference::High => 2,
        Preference::Medium => 1,
        Preference::Low => 0,
    }
}

#[cfg(test)]
mod tests;

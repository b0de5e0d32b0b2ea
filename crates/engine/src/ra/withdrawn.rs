//! What was advertised and is not any more: hosts are told so, until what they were told before would have ended by itself.
use core::net::Ipv6Addr;
use core::time::Duration;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::content::{self, Phase};
use super::{AdvertisementPlan, ND_VALID_LIMIT};
use crate::config::EncryptedResolver;
use crate::time::Instant;

/// Things that are told at most; what ends last stays.
const MOST: usize = 32;

/// One thing that hosts know from an advertisement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    /// RFC 9096 section 3.5: preferred lifetime 0, as long as addresses out of it are valid.
    Prefix { prefix: Ipv6Net, on_link: bool, autonomous: bool },
    /// RFC 8106 section 5.1: lifetime 0, as for all that follow.
    Resolver(Ipv6Addr),
    /// A search domain.
    Domain(String),
    /// RFC 8781 section 4.1.
    Pref64(Ipv6Net),
    /// RFC 4191 section 2.3.
    Route(Ipv6Net),
    /// RFC 9463 section 6.1.
    Encrypted(EncryptedResolver),
    /// RFC 8910 section 2: there is none any more. The option has no lifetime.
    Portal,
}

impl Told {
    /// Whether both are about the same thing, whatever else they say of it.
    fn is_about(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Prefix { prefix: one, .. }, Self::Prefix { prefix: two, .. }) => one == two,
            (Self::Encrypted(one), Self::Encrypted(two)) => one.name == two.name,
            (one, two) => one == two,
        }
    }

    /// What an operator calls it.
    fn name(&self) -> String {
        match self {
            Self::Prefix { prefix, .. } => prefix.to_string(),
            Self::Resolver(address) => format!("resolver {address}"),
            Self::Domain(domain) => format!("search domain {domain}"),
            Self::Pref64(prefix) => format!("NAT64 prefix {prefix}"),
            Self::Route(prefix) => format!("route {prefix}"),
            Self::Encrypted(resolver) => format!("encrypted resolver {}", resolver.name),
            Self::Portal => "captive portal".to_owned(),
        }
    }
}

/// What hosts on a link know, for the next daemon. Delegated prefixes are remembered where they are learnt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    saved_unix: u64,
    /// What is advertised, with how many seconds hosts believe it each time that they hear it.
    advertised: Vec<(Told, u64)>,
    /// What is taken back, with the seconds that were left.
    withdrawn: Vec<(Told, u64)>,
}

impl Known {
    /// Whether both know the same, whatever time has passed between them.
    pub fn same_as(&self, other: &Self) -> bool {
        let things = |known: &[(Told, u64)]| known.iter().map(|(told, _)| told.clone()).collect::<Vec<_>>();
        self.advertised == other.advertised && things(&self.withdrawn) == things(&other.withdrawn)
    }
}

/// Everything that is taken back, each with its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Withdrawn(Vec<(Told, Instant)>);

impl Withdrawn {
    /// Goes on where a former daemon has left: it is unknown when hosts last heard of what it advertised.
    pub(super) fn recall(known: &Known, new: &AdvertisementPlan, now: Instant, unix: u64) -> Self {
        // A clock that was set makes nothing last longer than hosts believe it.
        let passed = unix.saturating_sub(known.saved_unix);
        let end = |seconds: u64| now + Duration::from_secs(seconds.min(ND_VALID_LIMIT.as_secs()));
        let before = known.withdrawn.iter().map(|(told, left)| (told.clone(), end(left.saturating_sub(passed))));
        let mut withdrawn = Self(before.collect());
        let heard = known.advertised.iter().map(|(told, seconds)| (told.clone(), end(*seconds)));
        withdrawn.replace(heard.collect(), &told(new, now), now);
        withdrawn
    }

    /// Takes in that `new` is advertised instead of `old` from `now` on.
    pub(super) fn note(&mut self, old: &AdvertisementPlan, new: &AdvertisementPlan, now: Instant) {
        self.replace(told(old, now), &told(new, now), now);
    }

    fn replace(&mut self, old: Vec<(Told, Instant)>, new: &[(Told, Instant)], now: Instant) {
        let holds = |told: &Told| new.iter().any(|(held, _)| held.is_about(told));
        self.0.extend(old);
        // What comes back is not taken back any longer.
        self.0.retain(|(gone, _)| !holds(gone));
        self.forget(now);
        self.0.sort_by_key(|(_, end)| core::cmp::Reverse(*end));
        self.0.truncate(MOST);
    }

    /// Drops what hosts have forgotten by themselves.
    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|(_, end)| now < *end);
    }

    /// What is taken back at `now`, with its end.
    pub(super) fn at(&self, now: Instant) -> impl Iterator<Item = (&Told, Instant)> {
        self.0.iter().filter(move |(_, end)| now < *end).map(|(told, end)| (told, *end))
    }

    /// What the next daemon is to know while `plan` is advertised.
    pub(super) fn known(&self, plan: &AdvertisementPlan, now: Instant, unix: u64) -> Known {
        let left = |end: Instant| end.saturating_since(now).as_secs();
        let delegated = |told: &Told| match told {
            Told::Prefix { prefix, .. } => {
                plan.prefixes.iter().any(|held| held.prefix == *prefix && held.ends.is_some())
            }
            Told::Resolver(_)
            | Told::Domain(_)
            | Told::Pref64(_)
            | Told::Route(_)
            | Told::Encrypted(_)
            | Told::Portal => false,
        };
        let advertised = told(plan, now).into_iter().filter(|(told, _)| !delegated(told));
        Known {
            saved_unix: unix,
            advertised: advertised.map(|(told, end)| (told, left(end))).collect(),
            withdrawn: self.at(now).map(|(told, end)| (told.clone(), left(end))).collect(),
        }
    }

    /// Names for the status.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(told, _)| told.name()).collect()
    }
}

/// What an advertisement tells that has a lifetime, with its end for a host that hears it now.
fn told(plan: &AdvertisementPlan, now: Instant) -> Vec<(Told, Instant)> {
    let after = |seconds: u32| now + Duration::from_secs(seconds.into());
    let resolvers = after(content::resolver_lifetime(plan, Phase::Advertising));
    let router = after(content::router_lifetime(plan, Phase::Advertising).into());
    let variables = &plan.variables;
    let mut told: Vec<(Told, Instant)> = plan
        .prefixes
        .iter()
        .map(|held| {
            let told = Told::Prefix { prefix: held.prefix, on_link: held.on_link, autonomous: held.autonomous };
            // RFC 9096 section 3.5: nobody is told for longer than that.
            (told, now + content::lifetimes(held, now).0.min(ND_VALID_LIMIT))
        })
        .collect();
    told.extend(plan.rdnss.iter().map(|address| (Told::Resolver(*address), resolvers)));
    told.extend(plan.dnssl.iter().map(|domain| (Told::Domain(domain.clone()), resolvers)));
    told.extend(plan.pref64.map(|(prefix, _)| (Told::Pref64(prefix), after(content::pref64_lifetime(plan).into()))));
    let routes = variables.routes.iter();
    told.extend(routes.map(|route| (Told::Route(route.prefix), after(content::route_lifetime(plan, route.lifetime)))));
    told.extend(variables.encrypted_dns.iter().map(|resolver| (Told::Encrypted(resolver.clone()), resolvers)));
    told.extend(variables.captive_portal.iter().map(|_| (Told::Portal, router)));
    told
}

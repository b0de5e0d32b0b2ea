//! Other routers on the link: what they say, and where it contradicts this one (RFC 4861 section 6.2.7).
use core::net::Ipv6Addr;
use core::time::Duration;
use std::collections::BTreeMap;

use sixgate_wire::ndp::{NdpOption, Options, RouterAdvertisement};

use super::AdvertisementPlan;
use crate::finding::{Finding, Severity};
use crate::status::{Advertised, OtherRouter};
use crate::time::Instant;

/// Routers that are remembered; a flood of invented ones costs no more.
const MOST: usize = 16;
/// Prefixes that are remembered of each.
const MOST_PREFIXES: usize = 8;
/// How long a router is remembered at least, and at most: it is not to flicker, and not to be shown for a day.
const REMEMBERED: core::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(1800);

/// The others on one link.
#[derive(Debug, Default)]
pub(super) struct OtherRouters(BTreeMap<Ipv6Addr, (Instant, OtherRouter)>);

impl OtherRouters {
    /// Takes a valid advertisement of another router.
    pub(super) fn heard(
        &mut self,
        source: Ipv6Addr,
        header: &RouterAdvertisement,
        options: Options<'_>,
        own: &AdvertisementPlan,
        now: Instant,
    ) {
        self.forget(now);
        if !self.0.contains_key(&source) && self.0.len() >= MOST {
            return;
        }
        let lifetime = Duration::from_secs(header.router_lifetime.into());
        let until = now + lifetime.clamp(*REMEMBERED.start(), *REMEMBERED.end());
        let mut prefixes = Vec::new();
        let mut mac = None;
        for option in options.iter() {
            match option {
                NdpOption::PrefixInformation(told) => {
                    let net = ipnet::Ipv6Net::new(told.prefix, told.length);
                    prefixes.extend(net.ok().filter(|net| told.valid > 0 && !prefixes.contains(net)));
                }
                NdpOption::SourceLinkLayer(address) => mac = Some(address.to_string()),
                _ => {}
            }
        }
        prefixes.truncate(MOST_PREFIXES);
        let heard = self.0.get(&source).map_or(0, |(_, known)| known.heard);
        let router = OtherRouter {
            address: source,
            mac,
            router_lifetime: header.router_lifetime,
            prefixes,
            heard: heard + 1,
            expected: own.variables.other_routers.contains(&source),
            contradicts: contradictions(header, options, own),
        };
        self.0.insert(source, (until, router));
    }

    /// When the next one is forgotten.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.0.values().map(|(until, _)| *until).min()
    }

    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|_, (until, _)| now < *until);
    }

    pub(super) fn list(&self) -> Vec<OtherRouter> {
        self.0.values().map(|(_, router)| router.clone()).collect()
    }
}

impl Advertised {
    /// What an operator should know of other routers on this LAN (RFC 4861 section 6.2.7).
    pub fn findings(&self, lan: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        for router in &self.other_routers {
            let OtherRouter { address, router_lifetime, .. } = router;
            let by = router.mac.as_ref().map_or_else(String::new, |mac| format!(" ({mac})"));
            if !router.expected {
                let prefixes: Vec<String> = router.prefixes.iter().map(ToString::to_string).collect();
                let prefixes =
                    if prefixes.is_empty() { String::new() } else { format!(" and prefixes {}", prefixes.join(", ")) };
                findings.push(Finding::new(
                    Severity::Warning,
                    "lan-other-router",
                    lan,
                    format!("{address}{by} advertises itself as a router on {lan}, with lifetime {router_lifetime} s{prefixes}"),
                    "end it, or name it in other_routers of [lan.advertise] if it is meant to be there",
                ));
            }
            if !router.contradicts.is_empty() {
                findings.push(Finding::new(
                    Severity::Warning,
                    "lan-router-contradicts",
                    lan,
                    format!("{address}{by} advertises otherwise than this router: {}", router.contradicts.join(", ")),
                    "have both say the same (RFC 4861 section 6.2.7)",
                ));
            }
        }
        findings
    }
}

/// What hosts hear differently from each, by the names of RFC 4861 section 6.2.1. The values that say nothing are no
/// contradiction, and neither are lifetimes of prefixes that are told in real time.
fn contradictions(header: &RouterAdvertisement, options: Options<'_>, own: &AdvertisementPlan) -> Vec<String> {
    let variables = &own.variables;
    let mut found: Vec<String> = Vec::new();
    let mut differ = |name: &str, theirs: String, ours: String| {
        let text = format!("{name} {theirs} against {ours}");
        if theirs != ours && !found.contains(&text) {
            found.push(text);
        }
    };
    let said = |theirs: u32, ours: u32| theirs != 0 && ours != 0;
    if said(header.cur_hop_limit.into(), variables.adv_cur_hop_limit.into()) {
        differ("AdvCurHopLimit", header.cur_hop_limit.to_string(), variables.adv_cur_hop_limit.to_string());
    }
    differ("AdvManagedFlag", header.managed.to_string(), variables.adv_managed_flag.to_string());
    differ("AdvOtherConfigFlag", header.other.to_string(), variables.adv_other_config_flag.to_string());
    for (name, theirs, ours) in [
        ("AdvReachableTime", header.reachable_time, variables.adv_reachable_time),
        ("AdvRetransTimer", header.retrans_timer, variables.adv_retrans_timer),
    ] {
        if said(theirs, ours) {
            differ(name, theirs.to_string(), ours.to_string());
        }
    }
    for option in options.iter() {
        match option {
            NdpOption::Mtu(theirs) => {
                if let Some(ours) = own.mtu {
                    differ("AdvLinkMTU", theirs.to_string(), ours.to_string());
                }
            }
            NdpOption::PrefixInformation(theirs) => {
                let same =
                    own.prefixes.iter().filter(|ours| ours.ends.is_none()).find(|ours| {
                        ours.prefix.network() == theirs.prefix && ours.prefix.prefix_len() == theirs.length
                    });
                let Some(ours) = same else { continue };
                let (valid, preferred) = (ours.valid.as_secs(), ours.preferred.as_secs());
                let of = |name: &str| format!("{name} of {}", ours.prefix);
                differ(&of("AdvValidLifetime"), theirs.valid.to_string(), valid.to_string());
                differ(&of("AdvPreferredLifetime"), theirs.preferred.to_string(), preferred.to_string());
            }
            // RFC 8781 section 4.1: as with the other options.
            NdpOption::Pref64(theirs) => {
                if let (Some((ours, true)), true) = (own.pref64, theirs.lifetime > 0) {
                    differ("PREF64", format!("{}/{}", theirs.prefix, theirs.length), ours.to_string());
                }
            }
            _ => {}
        }
    }
    found
}

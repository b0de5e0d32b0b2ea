//! What an advertisement says: the plan of one link as the bytes of a Router Advertisement.
use core::net::Ipv6Addr;
use core::time::Duration;

use sixgate_wire::ndp::{
    EmitError, Pref64, Preference, PrefixInformation, RouteInformation, RouterAdvertisement, Writer,
};

use super::withdrawn::{Told, Withdrawn};
use super::{AdvertisementPlan, PrefixPlan};
use crate::config::{EncryptedResolver, UNRESTRICTED};
use crate::time::Instant;

/// Room for the ICMPv6 message in an IPv6 packet of the minimum MTU: RFC 6980 section 5 forbids to fragment it.
const ROOM: usize = 1280 - 40;
/// Search domains of one option: four of the longest ones fit into a packet.
const DOMAINS: usize = 4;

/// RFC 9096 section 4: the longest preferred lifetime that a delegated prefix is advertised with, 45 minutes.
pub const ND_PREFERRED_LIMIT: Duration = Duration::from_secs(2700);
/// RFC 9096 section 4: the longest valid lifetime that a delegated prefix is advertised with, 90 minutes.
pub const ND_VALID_LIMIT: Duration = Duration::from_secs(5400);

/// Whether the link is advertised on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is.
    Advertising,
    /// It ceases to be (RFC 4861 section 6.2.5).
    Final,
}

/// The ICMPv6 messages, their checksums zero, and how many options found no room in any.
///
/// RFC 6980 section 5: an advertisement that is longer than a packet of the minimum MTU is several, each complete in itself
/// with the fixed part and the sender's link-layer address (RFC 4861 section 6.2.3 permits a subset of the options in each).
///
/// A final advertisement says router lifetime 0, which is what RFC 4861 section 6.2.5 demands, and lifetime 0 for
/// routes, resolvers, search domains and the NAT64 prefix: a host with a second router would otherwise go on asking a
/// resolver and a translator that are gone. It says nothing about prefixes: addresses stay valid on the link, and a router
/// that comes back finds its hosts as they were.
pub(super) fn build(
    plan: &AdvertisementPlan,
    withdrawn: &Withdrawn,
    phase: Phase,
    now: Instant,
) -> (Vec<Vec<u8>>, u64) {
    let variables = &plan.variables;
    let header = RouterAdvertisement {
        cur_hop_limit: variables.adv_cur_hop_limit,
        managed: variables.adv_managed_flag,
        other: variables.adv_other_config_flag,
        preference: variables.default_router_preference,
        router_lifetime: router_lifetime(plan, phase),
        reachable_time: variables.adv_reachable_time,
        retrans_timer: variables.adv_retrans_timer,
    };
    let mut options = options(plan, phase, now);
    options.extend(withdrawn.at(now).filter_map(|(told, end)| taken_back(told, end, phase, now)));
    let (mut rest, mut omitted, mut messages) = (options.as_slice(), 0, Vec::new());
    loop {
        let mut buffer = [0; ROOM];
        let Ok(mut writer) = Writer::router_advertisement(&mut buffer, &header) else { break };
        if let Some(mac) = plan.source_link_layer {
            omitted += u64::from(writer.source_link_layer(mac).is_err());
        }
        let mut written = 0;
        while let Some((option, others)) = rest.split_first() {
            match option.write(&mut writer) {
                Err(EmitError::NoRoom) if written > 0 => break,
                Err(_) => omitted += 1,
                Ok(()) => written += 1,
            }
            rest = others;
        }
        messages.push(writer.finish().to_vec());
        if rest.is_empty() {
            break;
        }
    }
    (messages, omitted)
}

/// RFC 4861 section 6.2.8: the router is none at that address any longer, and nothing else has changed.
pub(super) fn farewell(plan: &AdvertisementPlan) -> Vec<u8> {
    let header = RouterAdvertisement { cur_hop_limit: plan.variables.adv_cur_hop_limit, ..Default::default() };
    let mut buffer = [0; ROOM];
    Writer::router_advertisement(&mut buffer, &header).map_or_else(|_| Vec::new(), |writer| writer.finish().to_vec())
}

/// An option that is to be written.
enum Item<'a> {
    Mtu(u32),
    Prefix(PrefixInformation),
    Resolvers(u32, &'a [Ipv6Addr]),
    Pref64(Pref64),
    Route(RouteInformation),
    Domains(u32, &'a [String]),
    Encrypted(u32, &'a EncryptedResolver),
    Portal(&'a str),
}

impl Item<'_> {
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EmitError> {
        match self {
            Self::Mtu(mtu) => writer.mtu(*mtu),
            Self::Prefix(prefix) => writer.prefix_information(prefix),
            Self::Resolvers(lifetime, addresses) => writer.rdnss(*lifetime, addresses),
            Self::Pref64(pref64) => writer.pref64(pref64),
            Self::Route(route) => writer.route_information(route),
            Self::Domains(lifetime, domains) => writer.dnssl(*lifetime, domains),
            Self::Encrypted(lifetime, resolver) => writer.encrypted_dns(
                resolver.priority,
                *lifetime,
                &resolver.name,
                &resolver.addresses,
                &resolver.parameters,
            ),
            Self::Portal(uri) => writer.captive_portal(uri),
        }
    }
}

/// Options in the order of what a host can least do without.
fn options(plan: &AdvertisementPlan, phase: Phase, now: Instant) -> Vec<Item<'_>> {
    let variables = &plan.variables;
    let mut options: Vec<Item<'_>> = plan.mtu.into_iter().map(Item::Mtu).collect();
    if phase == Phase::Advertising {
        options.extend(plan.prefixes.iter().map(|prefix| {
            let (valid, preferred) = lifetimes(prefix, now);
            Item::Prefix(PrefixInformation {
                prefix: prefix.prefix.network(),
                length: prefix.prefix.prefix_len(),
                on_link: prefix.on_link,
                autonomous: prefix.autonomous,
                pd_preferred: prefix.pd_preferred,
                valid: seconds(valid),
                preferred: seconds(preferred.min(valid)),
            })
        }));
    }
    let resolvers = resolver_lifetime(plan, phase);
    options.push(Item::Resolvers(resolvers, &plan.rdnss));
    options.extend(plan.pref64.map(|(prefix, works)| {
        // RFC 8781 section 4.1: lifetime 0 says that the prefix is not to be used any longer.
        let lifetime = if works && phase == Phase::Advertising { pref64_lifetime(plan) } else { 0 };
        Item::Pref64(Pref64 { prefix: prefix.network(), length: prefix.prefix_len(), lifetime })
    }));
    options.extend(variables.routes.iter().map(|route| {
        Item::Route(RouteInformation {
            prefix: route.prefix.network(),
            length: route.prefix.prefix_len(),
            preference: route.preference,
            lifetime: if phase == Phase::Advertising { route_lifetime(plan, route.lifetime) } else { 0 },
        })
    }));
    options.extend(plan.dnssl.chunks(DOMAINS).map(|domains| Item::Domains(resolvers, domains)));
    options.extend(variables.encrypted_dns.iter().map(|resolver| Item::Encrypted(resolvers, resolver)));
    if phase == Phase::Advertising {
        options.extend(variables.captive_portal.as_deref().map(Item::Portal));
    }
    options
}

/// What hosts are to forget. Final advertisements say nothing of prefixes.
fn taken_back(told: &Told, end: Instant, phase: Phase, now: Instant) -> Option<Item<'_>> {
    Some(match told {
        Told::Prefix { .. } if phase == Phase::Final => return None,
        Told::Prefix { prefix, on_link, autonomous } => Item::Prefix(PrefixInformation {
            prefix: prefix.network(),
            length: prefix.prefix_len(),
            on_link: *on_link,
            autonomous: *autonomous,
            pd_preferred: false,
            valid: seconds(end.saturating_since(now)),
            preferred: 0,
        }),
        Told::Resolver(address) => Item::Resolvers(0, core::slice::from_ref(address)),
        Told::Domain(domain) => Item::Domains(0, core::slice::from_ref(domain)),
        Told::Pref64(prefix) => {
            Item::Pref64(Pref64 { prefix: prefix.network(), length: prefix.prefix_len(), lifetime: 0 })
        }
        Told::Route(prefix) => Item::Route(RouteInformation {
            prefix: prefix.network(),
            length: prefix.prefix_len(),
            preference: Preference::Medium,
            lifetime: 0,
        }),
        Told::Encrypted(resolver) => Item::Encrypted(0, resolver),
        Told::Portal => Item::Portal(UNRESTRICTED),
    })
}

/// Valid and preferred lifetime of a prefix: what is configured, and no more than what lies ahead.
pub(super) fn lifetimes(prefix: &PrefixPlan, now: Instant) -> (Duration, Duration) {
    let Some(ends) = &prefix.ends else { return (prefix.valid, prefix.preferred) };
    let ahead = |end: Option<Instant>| end.map_or(Duration::MAX, |end| end.saturating_since(now));
    // RFC 9096 section 3.4: what is delegated may go without a word; hosts are to notice within these limits.
    let valid = prefix.valid.min(ND_VALID_LIMIT).min(ahead(ends.valid));
    let preferred = prefix.preferred.min(ND_PREFERRED_LIMIT).min(ahead(ends.preferred));
    (valid, if ends.retired { Duration::ZERO } else { preferred })
}

/// AdvDefaultLifetime in seconds, 0 when the link ceases to be advertised on.
pub(super) fn router_lifetime(plan: &AdvertisementPlan, phase: Phase) -> u16 {
    match phase {
        Phase::Advertising => u16::try_from(plan.variables.adv_default_lifetime.as_secs()).unwrap_or(u16::MAX),
        Phase::Final => 0,
    }
}

/// RFC 8106 section 5.1: three times MaxRtrAdvInterval, so that two lost advertisements do no harm.
pub(super) fn resolver_lifetime(plan: &AdvertisementPlan, phase: Phase) -> u32 {
    match phase {
        Phase::Advertising => seconds(plan.variables.max_rtr_adv_interval.saturating_mul(3)),
        Phase::Final => 0,
    }
}

/// RFC 4191 section 2.3: as configured, else as long as the router itself.
pub(super) fn route_lifetime(plan: &AdvertisementPlan, configured: Option<Duration>) -> u32 {
    let router = plan.variables.adv_default_lifetime;
    let intervals = plan.variables.max_rtr_adv_interval.saturating_mul(3);
    seconds(configured.unwrap_or(if router.is_zero() { intervals } else { router }))
}

/// RFC 8781 section 4.1: three times MaxRtrAdvInterval, and not less than the router lifetime.
pub(super) fn pref64_lifetime(plan: &AdvertisementPlan) -> u16 {
    let intervals = plan.variables.max_rtr_adv_interval.saturating_mul(3);
    Pref64::scaled_lifetime(intervals.max(plan.variables.adv_default_lifetime).as_secs())
}

/// A lifetime in the 32 bits of an option; what is longer reads as infinity.
fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}

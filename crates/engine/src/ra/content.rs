//! What an advertisement says: the plan of one link as the bytes of a Router Advertisement.
use core::time::Duration;

use sixgate_wire::ndp::{EmitError, Pref64, Preference, PrefixInformation, RouterAdvertisement, Writer};

use super::{AdvertisementPlan, PrefixPlan};
use crate::time::Instant;

/// Room for the ICMPv6 message in an IPv6 packet of the minimum MTU: RFC 6980 section 5 forbids to fragment it.
const ROOM: usize = 1280 - 40;

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

/// Replaces `message` with the Router Advertisement, its checksum zero, and tells how many options found no room.
///
/// A final advertisement says router lifetime 0, which is what RFC 4861 section 6.2.5 demands, and lifetime 0 for the
/// resolver, the search domains and the NAT64 prefix: a host with a second router would otherwise go on asking a
/// resolver and a translator that are gone. It says nothing about prefixes: addresses stay valid on the link, and a router
/// that comes back finds its hosts as they were.
pub(super) fn build(plan: &AdvertisementPlan, phase: Phase, now: Instant, message: &mut Vec<u8>) -> u64 {
    message.clear();
    message.resize(ROOM, 0);
    let variables = &plan.variables;
    let header = RouterAdvertisement {
        cur_hop_limit: variables.adv_cur_hop_limit,
        managed: variables.adv_managed_flag,
        other: variables.adv_other_config_flag,
        preference: Preference::Medium,
        router_lifetime: router_lifetime(plan, phase),
        reachable_time: variables.adv_reachable_time,
        retrans_timer: variables.adv_retrans_timer,
    };
    let mut omitted = 0;
    let length = match Writer::router_advertisement(message, &header) {
        Ok(mut writer) => {
            let mut count = |result: Result<(), EmitError>| omitted += u64::from(result.is_err());
            options(plan, phase, now, &mut writer, &mut count);
            writer.finish().len()
        }
        Err(_) => 0,
    };
    message.truncate(length);
    omitted
}

/// Options in the order of what a host can least do without.
fn options(
    plan: &AdvertisementPlan,
    phase: Phase,
    now: Instant,
    writer: &mut Writer<'_>,
    count: &mut impl FnMut(Result<(), EmitError>),
) {
    if let Some(mac) = plan.source_link_layer {
        count(writer.source_link_layer(mac));
    }
    if let Some(mtu) = plan.mtu {
        count(writer.mtu(mtu));
    }
    if phase == Phase::Advertising {
        for prefix in &plan.prefixes {
            let (valid, preferred) = lifetimes(prefix, now);
            count(writer.prefix_information(&PrefixInformation {
                prefix: prefix.prefix.network(),
                length: prefix.prefix.prefix_len(),
                on_link: prefix.on_link,
                autonomous: prefix.autonomous,
                valid: seconds(valid),
                preferred: seconds(preferred.min(valid)),
            }));
        }
    }
    count(writer.rdnss(resolver_lifetime(plan, phase), &plan.rdnss));
    if let Some((prefix, works)) = plan.pref64 {
        // RFC 8781 section 4.1: lifetime 0 says that the prefix is not to be used any longer.
        let lifetime = if works && phase == Phase::Advertising { pref64_lifetime(plan) } else { 0 };
        count(writer.pref64(&Pref64 { prefix: prefix.network(), length: prefix.prefix_len(), lifetime }));
    }
    count(writer.dnssl(resolver_lifetime(plan, phase), &plan.dnssl));
}

/// Valid and preferred lifetime of a prefix: what is configured, and no more than what lies ahead.
fn lifetimes(prefix: &PrefixPlan, now: Instant) -> (Duration, Duration) {
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
fn resolver_lifetime(plan: &AdvertisementPlan, phase: Phase) -> u32 {
    match phase {
        Phase::Advertising => seconds(plan.variables.max_rtr_adv_interval.saturating_mul(3)),
        Phase::Final => 0,
    }
}

/// RFC 8781 section 4.1: three times MaxRtrAdvInterval, and not less than the router lifetime.
fn pref64_lifetime(plan: &AdvertisementPlan) -> u16 {
    let intervals = plan.variables.max_rtr_adv_interval.saturating_mul(3);
    Pref64::scaled_lifetime(intervals.max(plan.variables.adv_default_lifetime).as_secs())
}

/// A lifetime in the 32 bits of an option; what is longer reads as infinity.
fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}

//! `[lan.advertise]`: the router configuration variables of RFC 4861 section 6.2.1.
use core::ops::Range;
use core::time::Duration;

use super::Advertise;
use super::door::Errors;
use super::raw;
use super::scalar::{self, At};

const SECTION: &str = "lan.advertise";

/// RFC 8319 section 4: the ceiling of MaxRtrAdvInterval and AdvDefaultLifetime.
const MAX_LIFETIME: u64 = 65_535;
/// RFC 4861 section 6.2.1: the ceiling of AdvReachableTime, one hour.
const MAX_REACHABLE_TIME: u32 = 3_600_000;

impl Default for Advertise {
    /// RFC 4861 section 6.2.1's defaults.
    fn default() -> Self {
        let max = 600;
        Self {
            max_rtr_adv_interval: Duration::from_secs(max),
            min_rtr_adv_interval: default_min(max),
            adv_managed_flag: false,
            adv_other_config_flag: false,
            adv_link_mtu: None,
            adv_reachable_time: 0,
            adv_retrans_timer: 0,
            adv_cur_hop_limit: 64,
            adv_default_lifetime: Duration::from_secs(3 * max),
            adv_valid_lifetime: Duration::from_secs(2_592_000),
            adv_preferred_lifetime: Duration::from_secs(604_800),
            adv_on_link_flag: None,
            adv_autonomous_flag: None,
        }
    }
}

/// RFC 4861 section 6.2.1: 0.33 of the maximum; below 9 s, 0.75 of it.
fn default_min(max: u64) -> Duration {
    Duration::from_millis(if max >= 9 { max * 330 } else { max * 750 })
}

/// Checks the variables against their ranges and one another.
pub(super) fn validate(raw: &raw::Advertise, table: &Range<usize>, mtu: Option<u32>, errors: &mut Errors) -> Advertise {
    let defaults = Advertise::default();
    let flag = |key: &raw::Key<bool>| key.as_ref().map(|key| *key.get_ref());
    let at = |key| At(SECTION, key);

    let max = scalar::number(at("max_rtr_adv_interval"), &raw.max_rtr_adv_interval, 4..=MAX_LIFETIME, errors)
        .unwrap_or(defaults.max_rtr_adv_interval.as_secs());
    let min = scalar::number(at("min_rtr_adv_interval"), &raw.min_rtr_adv_interval, 3..=max * 3 / 4, errors)
        .map_or_else(|| default_min(max), Duration::from_secs);

    let lifetime = scalar::number(at("adv_default_lifetime"), &raw.adv_default_lifetime, 0..=MAX_LIFETIME, errors)
        .unwrap_or((3 * max).min(MAX_LIFETIME));
    if lifetime != 0 && lifetime < max {
        let span = raw.adv_default_lifetime.as_ref().map_or_else(|| table.clone(), toml::Spanned::span);
        errors.range(span, SECTION, "adv_default_lifetime", lifetime);
    }

    let valid = scalar::number(at("adv_valid_lifetime"), &raw.adv_valid_lifetime, 0..=u64::from(u32::MAX), errors)
        .unwrap_or(defaults.adv_valid_lifetime.as_secs());
    let preferred = scalar::number(at("adv_preferred_lifetime"), &raw.adv_preferred_lifetime, 0..=valid, errors)
        .unwrap_or(defaults.adv_preferred_lifetime.as_secs().min(valid));

    let link_mtu = scalar::number(at("adv_link_mtu"), &raw.adv_link_mtu, 0..=mtu.unwrap_or(65_535), errors);
    if let (Some(1..1280), Some(key)) = (link_mtu, &raw.adv_link_mtu) {
        // RFC 8200 section 5: no IPv6 link is smaller.
        errors.range(key.span(), SECTION, "adv_link_mtu", key.get_ref());
    }

    Advertise {
        max_rtr_adv_interval: Duration::from_secs(max),
        min_rtr_adv_interval: min,
        adv_managed_flag: flag(&raw.adv_managed_flag).unwrap_or(defaults.adv_managed_flag),
        adv_other_config_flag: flag(&raw.adv_other_config_flag).unwrap_or(defaults.adv_other_config_flag),
        adv_link_mtu: link_mtu,
        adv_reachable_time: scalar::number(
            at("adv_reachable_time"),
            &raw.adv_reachable_time,
            0..=MAX_REACHABLE_TIME,
            errors,
        )
        .unwrap_or(defaults.adv_reachable_time),
        adv_retrans_timer: scalar::number(at("adv_retrans_timer"), &raw.adv_retrans_timer, 0..=u32::MAX, errors)
            .unwrap_or(defaults.adv_retrans_timer),
        adv_cur_hop_limit: scalar::number(at("adv_cur_hop_limit"), &raw.adv_cur_hop_limit, 0..=u8::MAX, errors)
            .unwrap_or(defaults.adv_cur_hop_limit),
        adv_default_lifetime: Duration::from_secs(lifetime),
        adv_valid_lifetime: Duration::from_secs(valid),
        adv_preferred_lifetime: Duration::from_secs(preferred),
        adv_on_link_flag: flag(&raw.adv_on_link_flag),
        adv_autonomous_flag: flag(&raw.adv_autonomous_flag),
    }
}

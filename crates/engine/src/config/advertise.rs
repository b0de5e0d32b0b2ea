//! `[lan.advertise]`: the router configuration variables of RFC 4861 section 6.2.1, and what other RFCs add to them.
use core::net::Ipv6Addr;
use core::ops::Range;
use core::time::Duration;

use ipnet::Ipv6Net;
use sixgate_wire::ndp::Preference;
use toml::Spanned;

use super::door::Errors;
use super::scalar::{self, At};
use super::{keys, raw};

const SECTION: &str = "lan.advertise";

/// RFC 8319 section 4: the ceiling of MaxRtrAdvInterval and AdvDefaultLifetime.
const MAX_LIFETIME: u64 = 65_535;
/// RFC 4861 section 6.2.1: the ceiling of AdvReachableTime, one hour.
const MAX_REACHABLE_TIME: u32 = 3_600_000;

/// RFC 4861 section 6.2.1 router configuration variables of one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// MaxRtrAdvInterval, 4 to 1,800 s (65,535 s by RFC 8319).
    pub max_rtr_adv_interval: Duration,
    /// MinRtrAdvInterval, 3 s to 0.75 of the maximum.
    pub min_rtr_adv_interval: Duration,
    /// AdvManagedFlag.
    pub adv_managed_flag: bool,
    /// AdvOtherConfigFlag.
    pub adv_other_config_flag: bool,
    /// AdvLinkMTU; the link's own MTU when absent.
    pub adv_link_mtu: Option<u32>,
    /// AdvReachableTime in milliseconds.
    pub adv_reachable_time: u32,
    /// AdvRetransTimer in milliseconds.
    pub adv_retrans_timer: u32,
    /// AdvCurHopLimit.
    pub adv_cur_hop_limit: u8,
    /// AdvDefaultLifetime, 0 or up to 9,000 s (65,535 s by RFC 8319).
    pub adv_default_lifetime: Duration,
    /// AdvValidLifetime of every prefix.
    pub adv_valid_lifetime: Duration,
    /// AdvPreferredLifetime of every prefix.
    pub adv_preferred_lifetime: Duration,
    /// AdvOnLinkFlag; derived when absent: off where container prefixes are carved out of the advertised prefix.
    pub adv_on_link_flag: Option<bool>,
    /// AdvAutonomousFlag; derived when absent: on for a /64, off otherwise (RFC 4862 section 5.5.3).
    pub adv_autonomous_flag: Option<bool>,
    /// P flag of every prefix (RFC 9762).
    pub adv_pd_preferred_flag: bool,
    /// AdvPrefixList: what single prefixes have of their own.
    pub adv_prefix_list: Vec<PrefixVariables>,
    /// Default Router Preference (RFC 4191).
    pub default_router_preference: Preference,
    /// Routes beside the default one (RFC 4191 section 2.3).
    pub routes: Vec<AdvertisedRoute>,
    /// URI of the captive portal's API (RFC 8910).
    pub captive_portal: Option<String>,
    /// Resolvers with encryption (RFC 9463).
    pub encrypted_dns: Vec<EncryptedResolver>,
    /// RFC 7772: who solicits is answered alone.
    pub unicast_answers: bool,
    /// Nothing is sent to the group of all nodes.
    pub unicast_only: bool,
    /// Other routers that are meant to be on the link.
    pub other_routers: Vec<Ipv6Addr>,
}

/// What one prefix of AdvPrefixList has of its own; what is absent is as for every prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixVariables {
    /// The prefix.
    pub prefix: Ipv6Net,
    /// AdvValidLifetime.
    pub adv_valid_lifetime: Option<Duration>,
    /// AdvPreferredLifetime.
    pub adv_preferred_lifetime: Option<Duration>,
    /// AdvOnLinkFlag.
    pub adv_on_link_flag: Option<bool>,
    /// AdvAutonomousFlag.
    pub adv_autonomous_flag: Option<bool>,
    /// P flag (RFC 9762).
    pub adv_pd_preferred_flag: Option<bool>,
}

/// A Route Information option (RFC 4191 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdvertisedRoute {
    /// Where it leads.
    pub prefix: Ipv6Net,
    /// Against other routers.
    pub preference: Preference,
    /// Route Lifetime; the router's own where absent.
    pub lifetime: Option<Duration>,
}

/// An Encrypted DNS option (RFC 9463 section 6).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EncryptedResolver {
    /// Authentication domain name.
    pub name: String,
    /// Where it is.
    pub addresses: Vec<Ipv6Addr>,
    /// Lower comes first.
    pub priority: u16,
    /// Service parameters in wire form (RFC 9460 section 2.2).
    pub parameters: Vec<u8>,
}

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
            adv_pd_preferred_flag: false,
            adv_prefix_list: Vec::new(),
            default_router_preference: Preference::Medium,
            routes: Vec::new(),
            captive_portal: None,
            encrypted_dns: Vec::new(),
            unicast_answers: true,
            unicast_only: false,
            other_routers: Vec::new(),
        }
    }
}

/// RFC 4861 section 6.2.1: 0.33 of the maximum; below 9 s, 0.75 of it.
fn default_min(max: u64) -> Duration {
    Duration::from_millis(if max >= 9 { max * 330 } else { max * 750 })
}

/// Checks the variables against their ranges and one another; nothing comes back where AdvSendAdvertisements is false.
/// `prefixes` are those that the router has on the link.
pub(super) fn validate(
    raw: raw::Advertise,
    table: &Range<usize>,
    mtu: Option<u32>,
    prefixes: &[Ipv6Net],
    errors: &mut Errors,
) -> Option<Advertise> {
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
        let span = raw.adv_default_lifetime.as_ref().map_or_else(|| table.clone(), Spanned::span);
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

    let preference = preference(SECTION, "default_router_preference", &raw.default_router_preference, errors);
    // RFC 4191 section 2.2: without a router lifetime the preference is medium.
    if let (0, Some(Preference::High | Preference::Low), Some(key)) =
        (lifetime, preference, &raw.default_router_preference)
    {
        errors.note(
            key.span(),
            "`default_router_preference` has no meaning with adv_default_lifetime = 0 (RFC 4191 section 2.2)",
            "remove one of them",
        );
    }
    let captive_portal = raw.captive_portal.as_ref().and_then(|key| captive_portal(key.get_ref(), &key.span(), errors));
    let other_routers = scalar::items(raw.other_routers).into_iter().filter_map(|(text, span)| {
        let address: Ipv6Addr = scalar::read(at("other_routers"), &text, &span, errors)?;
        if !address.is_unicast_link_local() {
            // RFC 4861 section 6.1.2: nobody would believe others.
            errors.range(span, SECTION, "other_routers", address);
        }
        Some(address)
    });
    let other_routers = other_routers.collect();
    let listed = |key: raw::Key<Vec<Spanned<raw::AdvPrefix>>>| key.map_or_else(Vec::new, Spanned::into_inner);
    let adv_prefix_list: Vec<PrefixVariables> = listed(raw.adv_prefix_list)
        .into_iter()
        .filter_map(|prefix| prefix_variables(prefix, prefixes, valid, errors))
        .collect();
    let routes = raw.route.map_or_else(Vec::new, Spanned::into_inner);
    let routes = routes.into_iter().filter_map(|raw| route(raw, errors)).collect();
    let resolvers = raw.encrypted_dns.map_or_else(Vec::new, Spanned::into_inner);
    let encrypted_dns = resolvers.into_iter().filter_map(|raw| encrypted(raw, errors)).collect();

    let advertise = Advertise {
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
        adv_pd_preferred_flag: flag(&raw.adv_pd_preferred_flag).unwrap_or(defaults.adv_pd_preferred_flag),
        adv_prefix_list,
        default_router_preference: preference.unwrap_or_default(),
        routes,
        captive_portal,
        encrypted_dns,
        unicast_answers: flag(&raw.unicast_answers).unwrap_or(defaults.unicast_answers),
        unicast_only: flag(&raw.unicast_only).unwrap_or(defaults.unicast_only),
        other_routers,
    };
    flag(&raw.adv_send_advertisements).unwrap_or(true).then_some(advertise)
}

fn preference(
    section: &'static str,
    name: &'static str,
    key: &raw::Key<String>,
    errors: &mut Errors,
) -> Option<Preference> {
    let key = key.as_ref()?;
    match key.get_ref().as_str() {
        "high" => Some(Preference::High),
        "medium" => Some(Preference::Medium),
        "low" => Some(Preference::Low),
        other => {
            scalar::unknown(At(section, name), other, key.span(), errors);
            None
        }
    }
}

/// RFC 8908 section 4.1: the API is spoken by HTTPS. What an option can hold is 255 units of eight bytes; a packet of the
/// minimum MTU holds less.
fn captive_portal(uri: &str, span: &Range<usize>, errors: &mut Errors) -> Option<String> {
    const LONGEST: usize = 1024;
    let fits = uri.len() <= LONGEST && uri.bytes().all(|byte| byte.is_ascii_graphic());
    let valid = fits && (uri.starts_with("https://") || uri == UNRESTRICTED);
    if !valid {
        scalar::unknown(At(SECTION, "captive_portal"), uri, span.clone(), errors);
    }
    valid.then(|| uri.to_owned())
}

/// RFC 8910 section 2: this says that there is none.
pub const UNRESTRICTED: &str = "urn:ietf:params:capport:unrestricted";

fn prefix_variables(
    raw: Spanned<raw::AdvPrefix>,
    prefixes: &[Ipv6Net],
    valid_of_all: u64,
    errors: &mut Errors,
) -> Option<PrefixVariables> {
    const SECTION: &str = "lan.advertise.adv_prefix_list";
    let table = raw.span();
    let raw = raw.into_inner();
    let at = |key| At(SECTION, key);
    let flag = |key: &raw::Key<bool>| key.as_ref().map(|key| *key.get_ref());
    let (text, span) = scalar::required(at("prefix"), &raw.prefix, &table, errors)?;
    let prefix = scalar::prefix6(at("prefix"), text, &span, errors)?;
    if !prefixes.contains(&prefix) {
        errors.note(span, format!("{prefix} is not a prefix of this lan"), keys::describe(SECTION, "prefix"));
    }
    if let (true, Some(key)) =
        (flag(&raw.adv_autonomous_flag) == Some(true) && prefix.prefix_len() != 64, &raw.adv_autonomous_flag)
    {
        errors.range(key.span(), SECTION, "adv_autonomous_flag", true);
    }
    let valid = scalar::number(at("adv_valid_lifetime"), &raw.adv_valid_lifetime, 0..=u64::from(u32::MAX), errors);
    let most = valid.unwrap_or(valid_of_all);
    let preferred = scalar::number(at("adv_preferred_lifetime"), &raw.adv_preferred_lifetime, 0..=most, errors);
    Some(PrefixVariables {
        prefix,
        adv_valid_lifetime: valid.map(Duration::from_secs),
        adv_preferred_lifetime: preferred.map(Duration::from_secs),
        adv_on_link_flag: flag(&raw.adv_on_link_flag),
        adv_autonomous_flag: flag(&raw.adv_autonomous_flag),
        adv_pd_preferred_flag: flag(&raw.adv_pd_preferred_flag),
    })
}

fn route(raw: Spanned<raw::AdvRoute>, errors: &mut Errors) -> Option<AdvertisedRoute> {
    const SECTION: &str = "lan.advertise.route";
    let table = raw.span();
    let raw = raw.into_inner();
    let at = |key| At(SECTION, key);
    let (text, span) = scalar::required(at("prefix"), &raw.prefix, &table, errors)?;
    let prefix = scalar::prefix6(at("prefix"), text, &span, errors)?;
    if prefix.addr().is_multicast() || prefix.addr().is_unicast_link_local() {
        errors.range(span, SECTION, "prefix", prefix);
    }
    let preference = preference(SECTION, "preference", &raw.preference, errors).unwrap_or_default();
    let lifetime = scalar::number(at("lifetime"), &raw.lifetime, 0..=u64::from(u32::MAX), errors);
    Some(AdvertisedRoute { prefix, preference, lifetime: lifetime.map(Duration::from_secs) })
}

fn encrypted(raw: Spanned<raw::AdvEncryptedDns>, errors: &mut Errors) -> Option<EncryptedResolver> {
    const SECTION: &str = "lan.advertise.encrypted_dns";
    /// RFC 9460 section 14.3.2: keys of service parameters.
    const ALPN: u16 = 1;
    const PORT: u16 = 3;
    const DOHPATH: u16 = 7;
    let table = raw.span();
    let raw = raw.into_inner();
    let at = |key| At(SECTION, key);
    let (text, span) = scalar::required(at("name"), &raw.name, &table, errors)?;
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_graphic());
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > 253 || !name.split('.').all(label) {
        scalar::unknown(at("name"), text, span, errors);
        return None;
    }
    let mut addresses = Vec::new();
    for (text, span) in scalar::items(raw.addresses) {
        let address: Ipv6Addr = scalar::read(at("addresses"), &text, &span, errors)?;
        if scalar::usable6(at("addresses"), address, &span, errors) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() || addresses.len() > 16 {
        // RFC 9463 section 3.1.5: a client of the name alone would need another resolver first.
        errors.missing(table.clone(), SECTION, "addresses");
    }
    let priority = scalar::number(at("priority"), &raw.priority, 1..=u16::MAX, errors).unwrap_or(1);
    // RFC 9460 section 2.2: in order of their keys, each with its length.
    let mut parameters = Vec::new();
    let mut parameter = |key: u16, value: &[u8]| {
        parameters.extend(key.to_be_bytes());
        parameters.extend(u16::try_from(value.len()).unwrap_or_default().to_be_bytes());
        parameters.extend(value);
    };
    let mut alpn = Vec::new();
    for (protocol, span) in scalar::items(raw.alpn) {
        match u8::try_from(protocol.len()) {
            Ok(1..=16) if protocol.bytes().all(|byte| byte.is_ascii_graphic()) => {
                alpn.push(protocol.len() as u8);
                alpn.extend(protocol.as_bytes());
            }
            Ok(_) | Err(_) => scalar::unknown(at("alpn"), &protocol, span, errors),
        }
    }
    if alpn.is_empty() || alpn.len() > 128 {
        errors.missing(table, SECTION, "alpn");
    }
    parameter(ALPN, &alpn);
    if let Some(port) = scalar::number(at("port"), &raw.port, 1..=u16::MAX, errors) {
        parameter(PORT, &port.to_be_bytes());
    }
    if let Some(key) = &raw.dohpath {
        let path = key.get_ref();
        // RFC 9461 section 5: a relative template with the variable `dns`.
        if path.starts_with('/') && path.contains("{?dns}") && path.len() <= 128 {
            parameter(DOHPATH, path.as_bytes());
        } else {
            scalar::unknown(at("dohpath"), path, key.span(), errors);
        }
    }
    Some(EncryptedResolver { name: name.to_owned(), addresses, priority, parameters })
}

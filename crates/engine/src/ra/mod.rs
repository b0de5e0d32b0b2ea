//! Router advertisements: RFC 4861 section 6.2, with the options of RFC 4191, 8106 and 8781.
mod advertiser;
mod content;
mod verdict;

use core::net::Ipv6Addr;
use core::time::Duration;

use ipnet::Ipv6Net;

pub use advertiser::{
    Advertiser, MAX_FINAL_RTR_ADVERTISEMENTS, MAX_INITIAL_RTR_ADVERT_INTERVAL, MAX_INITIAL_RTR_ADVERTISEMENTS,
    MAX_RA_DELAY_TIME, MIN_DELAY_BETWEEN_RAS,
};
pub use sixgate_wire::mac::MacAddr;
pub use verdict::{Reason, Verdict};

/// What one link's advertisement says, and its timing (RFC 4861 section 6.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisementPlan {
    /// Router variables and timing.
    pub variables: crate::config::Advertise,
    /// Prefix Information options.
    pub prefixes: Vec<PrefixPlan>,
    /// Addresses of the resolver (RDNSS), empty when there is none.
    pub rdnss: Vec<Ipv6Addr>,
    /// Search domains (DNSSL).
    pub dnssl: Vec<String>,
    /// NAT64 prefix (PREF64) and whether translation works; advertised with lifetime 0 when it does not.
    pub pref64: Option<(Ipv6Net, bool)>,
    /// MTU option.
    pub mtu: Option<u32>,
    /// Source link-layer address option.
    pub source_link_layer: Option<MacAddr>,
}

/// A Prefix Information option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixPlan {
    /// Prefix without host bits.
    pub prefix: Ipv6Net,
    /// AdvOnLinkFlag (L).
    pub on_link: bool,
    /// AdvAutonomousFlag (A).
    pub autonomous: bool,
    /// AdvValidLifetime.
    pub valid: Duration,
    /// AdvPreferredLifetime.
    pub preferred: Duration,
}

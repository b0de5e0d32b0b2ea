//! Router advertisements: RFC 4861 section 6.2, with the options of RFC 4191, 8106, 8781, 8910 and 9463.
mod advertiser;
mod content;
mod other_router;
mod solicitor;
mod verdict;
mod withdrawn;

use core::net::Ipv6Addr;
use core::time::Duration;

use ipnet::Ipv6Net;

use crate::time::Instant;
pub use advertiser::{
    Advertiser, MAX_FINAL_RTR_ADVERTISEMENTS, MAX_INITIAL_RTR_ADVERT_INTERVAL, MAX_INITIAL_RTR_ADVERTISEMENTS,
    MAX_RA_DELAY_TIME, MIN_DELAY_BETWEEN_RAS, Transmit,
};
pub use content::{ND_PREFERRED_LIMIT, ND_VALID_LIMIT};
pub use sixgate_wire::mac::MacAddr;
pub use verdict::{Reason, Verdict};
pub use withdrawn::Known;

/// Lifetimes from upstream are whole seconds and jitter; what ends earlier by less is no news.
const EARLIER: Duration = Duration::from_secs(5);

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
    /// P flag (RFC 9762).
    pub pd_preferred: bool,
    /// AdvValidLifetime.
    pub valid: Duration,
    /// AdvPreferredLifetime.
    pub preferred: Duration,
    /// What lies ahead of a prefix that was delegated: lifetimes are told in real time then (RFC 4861 section 6.2.1).
    pub ends: Option<Ends>,
}

/// When a prefix ends that was not made here. A lifetime that is infinite has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// When hosts stop to prefer it.
    pub preferred: Option<Instant>,
    /// When it is gone.
    pub valid: Option<Instant>,
    /// It is advertised for no other reason than to be forgotten: preferred lifetime 0.
    pub retired: bool,
}

impl Ends {
    /// Whether hosts have to hear of the difference before long: it was retired, or it ends earlier than was said.
    fn is_news_after(&self, old: &Self) -> bool {
        let earlier = |new: Option<Instant>, old: Option<Instant>| match (new, old) {
            (Some(new), Some(old)) => new + EARLIER < old,
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.retired != old.retired || earlier(self.preferred, old.preferred) || earlier(self.valid, old.valid)
    }
}

impl AdvertisementPlan {
    /// Whether hosts have to hear of the new one before long. Lifetimes that were renewed can wait.
    fn is_news_after(&self, old: &Self) -> bool {
        let timeless = |plan: &Self| {
            let prefixes = plan.prefixes.iter().map(|prefix| PrefixPlan { ends: None, ..prefix.clone() }).collect();
            Self { prefixes, ..plan.clone() }
        };
        let ends = self.prefixes.iter().zip(&old.prefixes).any(|(new, old)| match (&new.ends, &old.ends) {
            (Some(new), Some(old)) => new.is_news_after(old),
            (new, old) => new != old,
        });
        ends || timeless(self) != timeless(old)
    }
}

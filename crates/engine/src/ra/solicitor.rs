//! Hosts that have solicited: who is answered alone (RFC 7772), how often, and who is told the rest where nothing is multicast.
use core::net::Ipv6Addr;
use core::time::Duration;
use std::collections::BTreeMap;

use super::MIN_DELAY_BETWEEN_RAS;
use crate::time::Instant;

/// Hosts that are remembered at a time; a flood of invented sources costs no more.
const MOST: usize = 256;
/// RFC 4861 section 6.3.7: a host that comes up solicits MAX_RTR_SOLICITATIONS times.
const BURST: u32 = 3;

/// What becomes of a solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is answered.
    Answered,
    /// An answer is on its way already.
    Waiting,
    /// This host asks more often than it is answered.
    TooOften,
    /// There are too many of them.
    Full,
}

#[derive(Clone, Copy, Debug)]
struct Solicitor {
    /// Once this has come, [`BURST`] answers are free again; each answer moves it.
    spent: Instant,
    /// When it is answered.
    due: Option<Instant>,
    heard: Instant,
}

/// The hosts of one link.
#[derive(Debug, Default)]
pub(super) struct Solicitors(BTreeMap<Ipv6Addr, Solicitor>);

impl Solicitors {
    /// A host solicits; where it is answered, that happens at `due`. Hosts that were not heard for `keep` are forgotten.
    pub(super) fn solicit(&mut self, host: Ipv6Addr, due: Instant, keep: Duration, now: Instant) -> Turn {
        if !self.0.contains_key(&host) && self.0.len() >= MOST {
            self.0.retain(|_, known| known.due.is_some() || now < known.spent.max(known.heard + keep));
            if self.0.len() >= MOST {
                return Turn::Full;
            }
        }
        let known = self.0.entry(host).or_insert(Solicitor { spent: now, due: None, heard: now });
        known.heard = now;
        if known.due.is_some() {
            return Turn::Waiting;
        }
        let spent = known.spent.max(now) + MIN_DELAY_BETWEEN_RAS;
        if spent > now + MIN_DELAY_BETWEEN_RAS * BURST {
            return Turn::TooOften;
        }
        known.spent = spent;
        known.due = Some(due);
        Turn::Answered
    }

    /// When the next answer is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().filter_map(|known| known.due).min()
    }

    /// Those whose answer is due at `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Ipv6Addr> {
        let due = self.0.iter_mut().filter(|(_, known)| known.due.is_some_and(|due| due <= now));
        due.map(|(host, known)| {
            known.due = None;
            *host
        })
        .collect()
    }

    /// Whoever waits hears the same at once.
    pub(super) fn answered(&mut self) {
        self.0.values_mut().for_each(|known| known.due = None);
    }

    /// All that were heard within `keep`.
    pub(super) fn heard(&self, keep: Duration, now: Instant) -> Vec<Ipv6Addr> {
        self.0.iter().filter(|(_, known)| now < known.heard + keep).map(|(host, _)| *host).collect()
    }
}

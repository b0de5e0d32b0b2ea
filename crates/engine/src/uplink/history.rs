//! What has changed on the uplink, as one event each: before and after.
use std::collections::VecDeque;

use super::Moment;
use crate::prefix::Learnt;
use crate::status::UplinkChange;
use crate::time::Instant;

/// Changes that are kept.
const MOST: usize = 32;

/// The last changes.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<(Instant, Vec<String>, Vec<String>)>);

impl History {
    /// Notes what differs. A lifetime that was renewed is no change.
    pub(super) fn note(&mut self, old: &Learnt, new: &Learnt, now: Instant) {
        let (old, new) = (items(old), items(new));
        let missing = |from: &[String], other: &[String]| -> Vec<String> {
            from.iter().filter(|item| !other.contains(item)).cloned().collect()
        };
        let (gone, come) = (missing(&old, &new), missing(&new, &old));
        if gone.is_empty() && come.is_empty() {
            return;
        }
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((now, gone, come));
    }

    /// The changes by the wall clock, the newest last.
    pub(super) fn changes(&self, moment: &Moment) -> Vec<UplinkChange> {
        let unix = |at: Instant| moment.unix.saturating_sub(moment.now.saturating_since(at).as_secs());
        let change = |(at, gone, new): &(Instant, Vec<String>, Vec<String>)| UplinkChange {
            at: unix(*at),
            gone: gone.clone(),
            new: new.clone(),
        };
        self.0.iter().map(change).collect()
    }
}

/// Everything that is learnt, one line each.
fn items(learnt: &Learnt) -> Vec<String> {
    let mut items = Vec::new();
    if let Some(lease) = &learnt.ipv4 {
        items.push(format!("ipv4 address {}", lease.address));
        items.extend(lease.gateway.map(|gateway| format!("ipv4 gateway {gateway}")));
        let via = |via: Option<_>| via.map_or_else(String::new, |via: std::net::Ipv4Addr| format!(" via {via}"));
        items.extend(lease.routes.iter().map(|(to, hop)| format!("ipv4 route {to}{}", via(*hop))));
    }
    let uplink = &learnt.ipv6;
    items.extend(uplink.router.map(|router| format!("ipv6 router {router}")));
    let deprecated = |deprecated| if deprecated { ", deprecated" } else { "" };
    items.extend(
        uplink.addresses.iter().map(|held| format!("ipv6 address {}{}", held.net, deprecated(held.deprecated))),
    );
    items.extend(uplink.routes.iter().map(|(to, via)| match via {
        Some(via) => format!("ipv6 route {to} via {via}"),
        None => format!("ipv6 on-link {to}"),
    }));
    let shared = uplink.prefixes.iter();
    items.extend(shared.map(|held| format!("shared {}{}", held.prefix, deprecated(held.retired))));
    let delegated = learnt.delegated.iter();
    items.extend(delegated.map(|held| format!("delegated {}{}", held.prefix, deprecated(held.retired))));
    items.extend(learnt.ula.map(|ula| format!("unique local {ula}")));
    items.extend(learnt.resolvers.iter().map(|resolver| format!("resolver {resolver}")));
    items
}

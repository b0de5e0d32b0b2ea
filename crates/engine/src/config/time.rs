//! `[time]`: who is asked what time it is, and whether the machine's clock is set by that.
use core::net::IpAddr;

use toml::Spanned;

use super::door::Errors;
use super::raw;
use super::scalar::{self, At};

/// Where the time comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Time {
    /// Servers; where there are none, those that the uplink names, else well-known ones.
    pub servers: Vec<IpAddr>,
    /// Whether the machine's clock is set; where it is absent, in the image only.
    pub set_clock: Option<bool>,
}

/// More servers than are asked at once would be there for nothing.
const MOST_SERVERS: usize = 4;

/// Checks the servers' addresses.
pub(super) fn validate(raw: Spanned<raw::Time>, errors: &mut Errors) -> Time {
    let table = raw.span();
    let raw = raw.into_inner();
    let given = raw.servers.is_some();
    let items = scalar::items(raw.servers);
    if given && !(1..=MOST_SERVERS).contains(&items.len()) {
        errors.note(
            table,
            format!("`servers` of [time] has {} entries", items.len()),
            super::keys::describe("time", "servers"),
        );
    }
    let read = |(text, span): &(String, core::ops::Range<usize>), errors: &mut Errors| {
        let address: IpAddr = scalar::read(At("time", "servers"), text, span, errors)?;
        if address.is_unspecified() || address.is_multicast() {
            errors.note(
                span.clone(),
                format!("{address} cannot be a server's address"),
                super::keys::describe("time", "servers"),
            );
            return None;
        }
        Some(address)
    };
    let servers = items.iter().filter_map(|item| read(item, errors)).collect();
    Time { servers, set_clock: raw.set_clock.map(Spanned::into_inner) }
}

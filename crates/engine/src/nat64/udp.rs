//! UDP sessions: RFC 6146 section 3.5.1.
use super::expiry::TimerClass;
use super::filter;
use super::tables::{Passage, Tables};
use super::tcp::State;
use super::tuple::{TupleV4, TupleV6};
use super::verdict::Reason;
use crate::time::Instant;

/// A datagram from IPv6.
pub(super) fn update_v6(tables: &mut Tables, tuple: &TupleV6, now: Instant) -> Result<Passage, Reason> {
    update_query_v6(tables, tuple, TimerClass::UdpDefault, now)
}

/// A datagram from IPv4.
pub(super) fn update_v4(tables: &mut Tables, tuple: &TupleV4, now: Instant) -> Result<Passage, Reason> {
    update_query_v4(tables, tuple, TimerClass::UdpDefault, now)
}

/// What UDP has in common with ICMP queries: a packet from IPv6 makes the binding and the session that it lacks.
pub(super) fn update_query_v6(
    tables: &mut Tables,
    tuple: &TupleV6,
    class: TimerClass,
    now: Instant,
) -> Result<Passage, Reason> {
    match tables.sessions.find_v6(tuple) {
        Some(index) => {
            tables.sessions.update(index, State::Established, Some(class), now);
            Ok(tables.passage(index))
        }
        None => tables.open_v6(tuple, State::Established, class, now),
    }
}

/// What UDP has in common with ICMP queries: a packet from IPv4 needs a binding and makes, if the filter admits it, the
/// session that it lacks.
pub(super) fn update_query_v4(
    tables: &mut Tables,
    tuple: &TupleV4,
    class: TimerClass,
    now: Instant,
) -> Result<Passage, Reason> {
    if let Some(index) = tables.sessions.find_v4(tuple) {
        tables.sessions.update(index, State::Established, Some(class), now);
        return Ok(tables.passage(index));
    }
    // RFC 6146 section 3.5.1: dropped. The ICMP error, which MAY be sent, would tell scanners what is there.
    let binding = tables.bib.find_mapped(tuple.protocol, tuple.mapped).ok_or(Reason::NoBinding)?;
    if !filter::admits(tables, binding, tuple.server.address) {
        return Err(Reason::Filtered);
    }
    tables.open_v4(binding, tuple.server, State::Established, class, now)
}

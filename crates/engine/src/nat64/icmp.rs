//! ICMP query sessions (RFC 6146 section 3.5.3) and the sessions that ICMP errors are about.
use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::ipv6::Ipv6Packet;

use super::expiry::TimerClass;
use super::tables::{Passage, Tables};
use super::tuple::{Protocol, TupleV4, TupleV6};
use super::udp::{update_query_v4, update_query_v6};
use super::verdict::Reason;
use crate::time::Instant;

/// A query or its reply from IPv6.
pub(super) fn update_v6(
    tables: &mut Tables,
    tuple: &TupleV6,
    packet: &Ipv6Packet<'_>,
    now: Instant,
) -> Result<Passage, Reason> {
    if let Some(binding) = tables.echo.of_reply(packet) {
        return Ok(Passage { binding, session: None });
    }
    update_query_v6(tables, tuple, TimerClass::IcmpDefault, now)
}

/// A query or its reply from IPv4.
pub(super) fn update_v4(
    tables: &mut Tables,
    tuple: &TupleV4,
    packet: &Ipv4Packet<'_>,
    now: Instant,
) -> Result<Passage, Reason> {
    if let Some(binding) = tables.echo.of_request(packet) {
        return Ok(Passage { binding, session: None });
    }
    update_query_v4(tables, tuple, TimerClass::IcmpDefault, now)
}

/// RFC 6146 section 3.5: an ICMPv6 error changes no state; without a session it is dropped.
pub(super) fn find_error_v6(tables: &Tables, tuple: &TupleV6, packet: &Ipv6Packet<'_>) -> Result<Passage, Reason> {
    if tuple.protocol == Protocol::Icmp
        && let Some(binding) = tables.echo.of_quoted_request(packet)
    {
        return Ok(Passage { binding, session: None });
    }
    let index = tables.sessions.find_v6(tuple).ok_or(Reason::IcmpErrorWithoutSession)?;
    Ok(tables.passage(index))
}

/// RFC 6146 section 3.5: an ICMPv4 error changes no state; without a session it is dropped.
pub(super) fn find_error_v4(tables: &Tables, tuple: &TupleV4, packet: &Ipv4Packet<'_>) -> Result<Passage, Reason> {
    if tuple.protocol == Protocol::Icmp
        && let Some(binding) = tables.echo.of_quoted_reply(packet)
    {
        return Ok(Passage { binding, session: None });
    }
    let index = tables.sessions.find_v4(tuple).ok_or(Reason::IcmpErrorWithoutSession)?;
    Ok(tables.passage(index))
}

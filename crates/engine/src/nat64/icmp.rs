//! ICMP query sessions (RFC 6146 section 3.5.3) and the sessions that ICMP errors are about.
use super::bib::Binding;
use super::expiry::TimerClass;
use super::tables::Tables;
use super::tuple::{TupleV4, TupleV6};
use super::udp::{update_query_v4, update_query_v6};
use super::verdict::Reason;
use crate::time::Instant;

/// A query or its reply from IPv6.
pub(super) fn update_v6(tables: &mut Tables, tuple: &TupleV6, now: Instant) -> Result<Binding, Reason> {
    update_query_v6(tables, tuple, TimerClass::IcmpDefault, now)
}

/// A query or its reply from IPv4.
pub(super) fn update_v4(tables: &mut Tables, tuple: &TupleV4, now: Instant) -> Result<Binding, Reason> {
    update_query_v4(tables, tuple, TimerClass::IcmpDefault, now)
}

/// RFC 6146 section 3.5: an ICMPv6 error changes no state; without a session it is dropped.
pub(super) fn find_error_v6(tables: &Tables, tuple: &TupleV6) -> Result<Binding, Reason> {
    let index = tables.sessions.find_v6(tuple).ok_or(Reason::IcmpErrorWithoutSession)?;
    Ok(tables.bib[tables.sessions[index].binding])
}

/// RFC 6146 section 3.5: an ICMPv4 error changes no state; without a session it is dropped.
pub(super) fn find_error_v4(tables: &Tables, tuple: &TupleV4) -> Result<Binding, Reason> {
    let index = tables.sessions.find_v4(tuple).ok_or(Reason::IcmpErrorWithoutSession)?;
    Ok(tables.bib[tables.sessions[index].binding])
}

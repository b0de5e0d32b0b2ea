//! Who outside may send through a binding: RFC 6146 section 3.5, RFC 4787 REQ-8.
use core::net::Ipv4Addr;

use super::tables::Tables;
use crate::config::Filtering;

/// Whether a packet from `address` may create a session on the binding.
pub(super) fn admits(tables: &Tables, binding: u32, address: Ipv4Addr) -> bool {
    match tables.filtering {
        // What is published is for everybody.
        _ if tables.bib[binding].is_static => true,
        Filtering::EndpointIndependent => true,
        // The client has sent to that address, whatever the port.
        Filtering::AddressDependent => tables.sessions.has_peer(binding, address),
    }
}

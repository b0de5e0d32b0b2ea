//! Who outside may send through a binding: RFC 6146 section 3.5, RFC 4787 REQ-8.
use core::net::Ipv4Addr;

use super::session::Sessions;

/// Address-dependent filtering: a packet from `address` may create a session on the binding if the client has sent to
/// that address, whatever the port. It is the only kind, since this router admits what is listed, and nothing else.
pub(super) fn admits(sessions: &Sessions, binding: u32, address: Ipv4Addr) -> bool {
    sessions.has_peer(binding, address)
}

//! Sessions that other rules had admitted: what the present ones refuse ends with the rules that admitted it.
use core::net::{IpAddr, Ipv6Addr};

use super::Nat64;
use super::session::Session;
use super::tuple::Protocol;
use crate::firewall::admission::{Admission, Flow};
use crate::time::Instant;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// RFC 4443 section 4.1.
const ECHO_REQUEST: u16 = 128;

impl Nat64 {
    /// Ends the sessions that are not admitted, and says how many.
    pub fn end_refused(&mut self, admission: &Admission, now: Instant) -> usize {
        self.tables.events.now = now;
        let before = self.tables.sessions.len();
        let prefixes = &self.prefixes;
        self.tables.end_where_under(|session, prefix| {
            let server = prefixes.get(prefix).map(|pref64| pref64.embed(session.server.address));
            server.is_some_and(|server| is_refused(admission, session, server))
        });
        before - self.tables.sessions.len()
    }
}

/// What a published port has let in is for its entry to say, everything else was begun by the client.
fn is_refused(admission: &Admission, session: &Session, server: Ipv6Addr) -> bool {
    let (protocol, port) = match session.protocol {
        Protocol::Tcp => (TCP, session.server.port),
        Protocol::Udp => (UDP, session.server.port),
        Protocol::Icmp => (ICMPV6, ECHO_REQUEST),
    };
    let client = IpAddr::V6(session.client.address);
    match admission.lets_in(protocol, client, session.client.port, session.server.address.into()) {
        Some(is_let_in) => !is_let_in,
        None => admission.ends(&Flow { source: client, destination: server.into(), protocol, port }),
    }
}

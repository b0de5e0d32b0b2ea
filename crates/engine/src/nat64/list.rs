//! The sessions, part by part, for whoever wants to look at them.
use core::net::{SocketAddrV4, SocketAddrV6};

use ipnet::Ipv6Net;

use super::Nat64;
use super::session::Session;
use super::tuple::{Protocol, TransportV4};
use super::verdict::Direction;
use crate::status;
use crate::time::Instant;

/// Places of the table that are looked at for one part, so that packets do not have to wait.
const MAX_PLACES: u32 = 16_384;

impl Nat64 {
    /// Up to `limit` sessions from a place in the table on, of `clients` or of all. Sessions keep their places: whoever
    /// goes on at `next` sees each that is there all the time once.
    pub fn list(&self, from: u32, limit: usize, clients: Option<Ipv6Net>, now: Instant) -> status::SessionPage {
        let sessions = &self.tables.sessions;
        let end = from.saturating_add(MAX_PLACES).min(sessions.places());
        let mut page = status::SessionPage { sessions: Vec::new(), next: (end < sessions.places()).then_some(end) };
        let wanted = |session: &Session| clients.is_none_or(|net| net.contains(&session.client.address));
        for (index, session) in sessions.range(from..end).filter(|(_, session)| wanted(session)) {
            if page.sessions.len() >= limit {
                page.next = Some(index);
                break;
            }
            let idle = now.saturating_since(sessions.since(index)).as_secs();
            let traffic = sessions.traffic(index);
            page.sessions.push(status::Session {
                protocol: session.protocol.name().to_owned(),
                state: (session.protocol == Protocol::Tcp).then(|| session.state.name().to_owned()),
                client: SocketAddrV6::new(session.client.address, session.client.port, 0, 0),
                mapped: socket(session.mapped),
                server: socket(session.server),
                idle,
                v6_to_v4: traffic[Direction::V6ToV4 as usize],
                v4_to_v6: traffic[Direction::V4ToV6 as usize],
            });
        }
        page
    }
}

fn socket(end: TransportV4) -> SocketAddrV4 {
    SocketAddrV4::new(end.address, end.port)
}

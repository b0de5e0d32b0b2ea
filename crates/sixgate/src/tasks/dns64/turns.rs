//! Turns: how many queries are under way at a time, and that nobody has all of them.
use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::listener::Place;

/// Queries at a time, over all addresses and transports.
const MAX_QUERIES: usize = 1024;
/// Queries at a time from one client, over all addresses and transports.
const MAX_QUERIES_OF_CLIENT: usize = 64;

/// All turns. Who has none takes no memory.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    all: usize,
    clients: BTreeMap<SocketAddr, usize>,
    places: BTreeMap<Option<Place>, usize>,
}

/// The right to resolve a query, until it is dropped.
pub(super) struct Turn {
    turns: Turns,
    client: SocketAddr,
    place: Option<Place>,
}

/// Why a query gets no turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// This client has its share.
    Client,
    /// The place where it came in has its share.
    Place,
}

impl Turns {
    /// A turn for a query of `peer` that came in at `place`.
    pub(super) fn take(&self, peer: SocketAddr, place: Option<Place>) -> Result<Turn, Refusal> {
        let client = client(peer);
        let mut taken = self.taken();
        if taken.clients.get(&client).is_some_and(|count| *count >= MAX_QUERIES_OF_CLIENT) {
            return Err(Refusal::Client);
        }
        // A host has as many addresses as it likes. So a place gets no more than it leaves to the others: n of them that
        // take all they get leave one part in n + 1.
        let of_place = taken.places.get(&place).copied().unwrap_or_default();
        if of_place >= MAX_QUERIES.saturating_sub(taken.all) {
            return Err(Refusal::Place);
        }
        taken.all += 1;
        *taken.clients.entry(client).or_default() += 1;
        *taken.places.entry(place).or_default() += 1;
        Ok(Turn { turns: self.clone(), client, place })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.taken();
        taken.all = taken.all.saturating_sub(1);
        give_back(&mut taken.clients, &self.client);
        give_back(&mut taken.places, &self.place);
    }
}

fn give_back<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Whose query it is: an address, link-local ones on each link, whatever its port.
fn client(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(peer) => SocketAddr::from((*peer.ip(), 0)),
        SocketAddr::V6(peer) => SocketAddrV6::new(*peer.ip(), 0, 0, peer.scope_id()).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use sixgate_engine::dns64::Transport;

    use super::*;

    fn place(address: &str) -> Option<Place> {
        Some((address.parse().unwrap(), Transport::Udp))
    }

    fn peer(host: u16, port: u16) -> SocketAddr {
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host), port).into()
    }

    #[test]
    fn a_client_has_its_share_whatever_its_port_and_leaves_the_others_theirs() {
        let (turns, here) = (Turns::default(), place("[2001:db8::53]:53"));
        let mut held: Vec<Turn> = (0..).map_while(|port| turns.take(peer(1, port), here).ok()).collect();
        assert_eq!(held.len(), MAX_QUERIES_OF_CLIENT);
        assert_eq!(turns.take(peer(1, 9), place("[fe80::53%2]:53")).err(), Some(Refusal::Client));
        held.push(turns.take(peer(2, 9), here).ok().unwrap());
        held.remove(0);
        assert!(turns.take(peer(1, 9), here).is_ok());
    }

    #[test]
    fn a_link_local_address_is_another_client_on_another_link() {
        let (turns, here) = (Turns::default(), place("[2001:db8::53]:53"));
        let on = |scope: u32| SocketAddr::from(SocketAddrV6::new("fe80::1".parse().unwrap(), 4711, 0, scope));
        let held: Vec<Turn> = (0..).map_while(|_| turns.take(on(2), here).ok()).collect();
        assert_eq!(held.len(), MAX_QUERIES_OF_CLIENT);
        assert!(turns.take(on(3), here).is_ok());
    }

    #[test]
    fn a_host_of_many_addresses_leaves_room_at_the_other_places() {
        let (turns, here, elsewhere) = (Turns::default(), place("[2001:db8::53]:53"), place("[2001:db8:1::53]:53"));
        let held: Vec<Turn> = (0..).map_while(|host| turns.take(peer(host, 1), here).ok()).collect();
        assert_eq!(held.len(), MAX_QUERIES / 2);
        assert_eq!(turns.take(peer(u16::MAX, 1), here).err(), Some(Refusal::Place));
        let more: Vec<Turn> = (0..).map_while(|host| turns.take(peer(host, 1), elsewhere).ok()).collect();
        assert_eq!(more.len(), MAX_QUERIES / 4);
        assert!(turns.take(peer(u16::MAX, 1), place("[2001:db8:2::53]:53")).is_ok());
    }

    #[test]
    fn who_has_no_turn_takes_no_memory() {
        let turns = Turns::default();
        let held: Vec<Turn> = (0..300).map_while(|host| turns.take(peer(host, 1), place("[::1]:53")).ok()).collect();
        assert_eq!(turns.taken().clients.len(), 300);
        drop(held);
        let taken = turns.taken();
        assert_eq!((taken.all, taken.clients.len(), taken.places.len()), (0, 0, 0));
    }
}

//! What one client may have: RFC 6888 REQ-4, RFC 6146 section 5.3. Whoever takes much leaves room for the others.
use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::HashMap;

use ipnet::Ipv6Net;

use super::keyed::Keyed;
use super::tuple::Protocol;
use super::verdict::Reason;
use crate::config::Nat64Limits;
use crate::plan::ClientPrefix;
use crate::time::{Duration, Instant};

/// A client may have this many times what is still free. So a single one gets four fifths of the whole, two get four
/// ninths each, and something is always left for one that has nothing yet.
const SHARE: u64 = 4;
const SECOND: Duration = Duration::from_secs(1);

/// A prefix that counts as one client, as its first address and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client {
    network: [u8; 16],
    length: u8,
}

impl Client {
    /// The prefix.
    pub(super) fn net(&self) -> Ipv6Net {
        Ipv6Net::new_assert(Ipv6Addr::from(self.network), self.length)
    }
}

impl From<Ipv4Addr> for Client {
    fn from(address: Ipv4Addr) -> Self {
        Self { network: address.to_ipv6_mapped().octets(), length: 128 }
    }
}

/// What may be had by one who has `has` while `free` is left.
pub(super) const fn is_fair(has: u64, free: u64) -> bool {
    has < SHARE * free
}

/// Who a client is, and what each of them has.
#[derive(Debug)]
pub(super) struct Quotas {
    limits: Nat64Limits,
    /// The longest first.
    prefixes: Vec<ClientPrefix>,
    usage: HashMap<Client, Usage, Keyed>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    sessions: u32,
    bindings: [u32; 3],
    /// When the bucket of new sessions is full again.
    full: Instant,
}

#[cfg(test)]
pub(super) const ENTRY_SIZE: usize = size_of::<(Client, Usage)>();

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) client: Ipv6Addr,
    pub(super) protocol: Protocol,
    /// Whether the session needs a binding of its own.
    pub(super) needs_binding: bool,
    /// Sessions and ports that are left to everybody.
    pub(super) free: Free,
}

/// What is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Free {
    pub(super) sessions: u64,
    pub(super) ports: u64,
}

impl Quotas {
    pub(super) fn new(keyed: Keyed, limits: Nat64Limits, prefixes: &[ClientPrefix]) -> Self {
        let mut quotas = Self { limits, prefixes: Vec::new(), usage: HashMap::with_hasher(keyed) };
        quotas.replace(limits, prefixes);
        quotas
    }

    /// Takes over other limits. What everybody has is to be [added](Self::add) anew, since clients may be others now.
    pub(super) fn replace(&mut self, limits: Nat64Limits, prefixes: &[ClientPrefix]) {
        self.limits = limits;
        self.prefixes = prefixes.to_vec();
        self.prefixes.sort_by_key(|prefix| core::cmp::Reverse(prefix.net.prefix_len()));
        self.usage.clear();
    }

    /// Whether a client may have another session of its own making.
    pub(super) fn admit(&mut self, request: Request, now: Instant) -> Result<(), Reason> {
        let [client, _] = self.clients(request.client);
        self.check(request, 1)?;
        let usage = self.usage.entry(client).or_default();
        let interval = SECOND / self.limits.new_sessions_per_second.max(1);
        let full = usage.full.max(now) + interval;
        if full.saturating_since(now) > SECOND {
            return Err(Reason::ClientRateLimit);
        }
        usage.full = full;
        Ok(())
    }

    /// Whether a client may have another session that somebody outside makes: half of all is kept for its own.
    pub(super) fn admit_from_outside(&self, request: Request) -> Result<(), Reason> {
        self.check(request, 2)
    }

    /// A client has another session.
    pub(super) fn add(&mut self, client: Ipv6Addr) {
        self.change(client, |usage| usage.sessions += 1);
    }

    /// A client has another binding.
    pub(super) fn add_binding(&mut self, client: Ipv6Addr, protocol: Protocol) {
        self.change(client, |usage| usage.bindings[protocol as usize] += 1);
    }

    /// A client has one session less.
    pub(super) fn remove(&mut self, client: Ipv6Addr) {
        self.change(client, |usage| usage.sessions = usage.sessions.saturating_sub(1));
        for client in self.clients(client) {
            // Sessions outlive the second that the bucket remembers.
            if self.usage.get(&client).is_some_and(|usage| usage.sessions == 0 && usage.bindings == [0; 3]) {
                self.usage.remove(&client);
            }
        }
    }

    /// A client has one binding less.
    pub(super) fn remove_binding(&mut self, client: Ipv6Addr, protocol: Protocol) {
        self.change(client, |usage| {
            let bindings = &mut usage.bindings[protocol as usize];
            *bindings = bindings.saturating_sub(1);
        });
    }

    /// Who an address belongs to: the client, and whoever answers for all clients of a wider prefix.
    pub(super) fn clients(&self, address: Ipv6Addr) -> [Client; 2] {
        let client = |length: u8| {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Client { network: (address.to_bits() & mask).to_be_bytes(), length }
        };
        match self.prefixes.iter().find(|prefix| prefix.net.contains(&address)) {
            Some(prefix) => [client(prefix.each), client(prefix.net.prefix_len())],
            None => [client(self.limits.prefix_length); 2],
        }
    }

    /// Who answers for an address: the VM, and for its containers too.
    pub(super) fn site(&self, address: Ipv6Addr) -> Client {
        self.clients(address)[1]
    }

    fn check(&self, request: Request, share: u64) -> Result<(), Reason> {
        let Request { protocol, needs_binding, free, .. } = request;
        if free.sessions == 0 {
            return Err(Reason::SessionLimit);
        }
        if needs_binding && free.ports == 0 {
            return Err(Reason::PoolExhausted);
        }
        let [client, site] = self.clients(request.client);
        // The site is bounded by its share alone; most clients are sites of their own.
        let site = (site != client).then_some((site, u32::MAX, u32::MAX));
        for (client, sessions, bindings) in
            [(client, self.limits.sessions, self.limits.bindings)].into_iter().chain(site)
        {
            let Some(usage) = self.usage.get(&client) else { continue };
            let has = u64::from(usage.sessions) * share;
            if has >= u64::from(sessions) || !is_fair(has, free.sessions) {
                return Err(Reason::ClientSessionLimit);
            }
            let has = u64::from(usage.bindings[protocol as usize]);
            if needs_binding && (has >= u64::from(bindings) || !is_fair(has, free.ports)) {
                return Err(Reason::ClientBindingLimit);
            }
        }
        Ok(())
    }

    fn change(&mut self, address: Ipv6Addr, change: impl Fn(&mut Usage)) {
        let [client, site] = self.clients(address);
        change(self.usage.entry(client).or_default());
        if site != client {
            change(self.usage.entry(site).or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Nat64Limits =
        Nat64Limits { prefix_length: 64, sessions: 100, bindings: 50, new_sessions_per_second: 1000, held_ports: 0 };

    fn quotas() -> Quotas {
        let prefix = |net: &str, each| ClientPrefix { net: net.parse().unwrap(), each };
        let prefixes = [prefix("2001:db8:1:20::/76", 76), prefix("2001:db8:1:20:1::/80", 128)];
        Quotas::new(Keyed::new((1, 2)), LIMITS, &prefixes)
    }

    fn request(client: &str, free: u64) -> Request {
        Request {
            client: client.parse().unwrap(),
            protocol: Protocol::Udp,
            needs_binding: true,
            free: Free { sessions: free, ports: free },
        }
    }

    /// Takes what it can get; says how much that was, and what the end of it was.
    fn take(quotas: &mut Quotas, client: &str, free: &mut u64) -> (u64, Reason) {
        for count in 0.. {
            // Slowly, so that the rate does not matter.
            let now = Instant::ZERO + SECOND * (count + 1);
            if let Err(reason) = quotas.admit(request(client, *free), now) {
                return (u64::from(count), reason);
            }
            quotas.add(client.parse().unwrap());
            quotas.add_binding(client.parse().unwrap(), Protocol::Udp);
            *free -= 1;
        }
        unreachable!()
    }

    #[test]
    fn clients_are_what_the_plan_says_and_else_a_64() {
        let quotas = quotas();
        let clients = |address: &str| quotas.clients(address.parse().unwrap()).map(|client| client.length);
        assert_eq!(clients("2001:db8:1:20::2"), [76, 76], "a VM behind a gateway of its own");
        assert_eq!(clients("2001:db8:1:20:1::5"), [128, 80], "a container");
        assert_eq!(clients("2001:db8:9::5"), [64, 64]);
    }

    #[test]
    fn limits_hold_for_each_client() {
        let mut quotas = quotas();
        assert_eq!(take(&mut quotas, "2001:db8:9::5", &mut 10_000), (50, Reason::ClientBindingLimit));
        assert_eq!(take(&mut quotas, "2001:db8:9::6", &mut 10_000), (0, Reason::ClientBindingLimit), "the same /64");
        let mut query = request("2001:db8:9::5", 10_000);
        query.protocol = Protocol::Icmp;
        let later = Instant::ZERO + SECOND * 1000;
        assert_eq!(quotas.admit(query, later), Ok(()), "ports are counted by protocol");
        for _ in 50..100 {
            quotas.add("2001:db8:9::5".parse().unwrap());
        }
        query.needs_binding = false;
        assert_eq!(quotas.admit(query, later), Err(Reason::ClientSessionLimit));
    }

    /// One greedy client never costs another a session.
    #[test]
    fn a_greedy_client_leaves_room_and_so_does_each_one_after_it() {
        let mut quotas = quotas();
        quotas.limits = Nat64Limits { sessions: u32::MAX, bindings: u32::MAX, ..LIMITS };
        let mut free = 1000;
        let shares: Vec<u64> =
            (0..20).map(|client| take(&mut quotas, &format!("2001:db8:{client}::1"), &mut free).0).collect();
        assert_eq!(shares[0], 800);
        assert!(shares.iter().take(4).all(|share| *share > 0), "{shares:?}");
        assert_eq!(take(&mut quotas, "2001:db8:ff::1", &mut 1), (1, Reason::SessionLimit));
    }

    #[test]
    fn many_containers_are_one_vm() {
        let mut quotas = quotas();
        quotas.limits = Nat64Limits { sessions: 10, bindings: 10, ..LIMITS };
        let mut free = 1000;
        let all: u64 = (1..=1000u32)
            .map(|container| take(&mut quotas, &format!("2001:db8:1:20:1::{container:x}"), &mut free).0)
            .sum();
        assert_eq!((all, free), (800, 200));
        assert_eq!(take(&mut quotas, "2001:db8:1:20::2", &mut free).0, 10, "the VM beside its containers");
    }

    #[test]
    fn the_rate_of_new_sessions_is_limited_and_recovers() {
        let mut quotas = quotas();
        let (one, other) = (request("2001:db8:9::5", 10_000), request("2001:db8:8::5", 10_000));
        let now = Instant::ZERO + SECOND;
        assert_eq!((0..5000).filter(|_| quotas.admit(one, now).is_ok()).count(), 1000);
        assert_eq!(quotas.admit(one, now), Err(Reason::ClientRateLimit));
        assert_eq!(quotas.admit(other, now), Ok(()), "another client is not concerned");
        let later = now + Duration::from_millis(10);
        assert_eq!((0..5000).filter(|_| quotas.admit(one, later).is_ok()).count(), 10);
    }

    #[test]
    fn half_of_a_clients_sessions_are_kept_from_the_outside() {
        let mut quotas = quotas();
        let mut inbound = request("2001:db8:9::5", 10_000);
        inbound.needs_binding = false;
        let admitted = (0..1000)
            .take_while(|_| {
                let admitted = quotas.admit_from_outside(inbound).is_ok();
                quotas.add(inbound.client);
                admitted
            })
            .count();
        assert_eq!(admitted, 50);
    }

    #[test]
    fn nothing_is_left_of_a_client_that_has_nothing() {
        let mut quotas = quotas();
        let mut free = 1000;
        let (taken, _) = take(&mut quotas, "2001:db8:1:20:1::5", &mut free);
        for _ in 0..taken {
            quotas.remove_binding("2001:db8:1:20:1::5".parse().unwrap(), Protocol::Udp);
            quotas.remove("2001:db8:1:20:1::5".parse().unwrap());
        }
        assert!(quotas.usage.is_empty());
    }
}

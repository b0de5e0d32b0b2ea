//! The uplink's clients under one roof: what is learnt becomes one value, and one memory that outlives the daemon.
use core::net::{IpAddr, Ipv6Addr};
use std::collections::BTreeMap;

use ipnet::Ipv6Net;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use sixgate_wire::mac::MacAddr;

use crate::config::{Config, Ipv4Source, Ipv6Source, PrefixOrigin};
use crate::dhcp::{v4, v6};
use crate::prefix::{Learnt, LearntAddress, LearntPrefix, Lifecycle, Uplink6};
use crate::status;
use crate::time::Instant;

mod discovery;
mod history;
mod memory;

#[cfg(test)]
mod tests;

use discovery::Discovery;
use history::History;
use memory::Kept;
pub use memory::{Memory, Moment};

/// What the configuration asks of the uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where IPv4 comes from.
    pub ipv4: Ipv4Source,
    /// Where IPv6 comes from.
    pub ipv6: Ipv6Source,
    /// The length of the delegated prefix that would be welcome.
    pub hint: Option<u8>,
    /// Whether a LAN has a prefix out of the site's own (RFC 4193).
    pub ula: bool,
    /// Whether a LAN has the uplink's own prefix as well.
    pub shared: bool,
    /// The name that servers are told.
    pub hostname: String,
}

impl Wanted {
    /// What a configuration asks for.
    pub fn of(config: &Config) -> Self {
        let has = |origin| config.lans.iter().flat_map(|lan| &lan.prefixes).any(|prefix| prefix.origin == origin);
        Self {
            ipv4: config.wan.ipv4_source,
            ipv6: config.wan.ipv6_source,
            hint: config.wan.prefix_hint,
            ula: has(PrefixOrigin::Ula),
            shared: has(PrefixOrigin::Learnt),
            hostname: config.hostname.clone(),
        }
    }
}

/// The uplink's link as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel interface index.
    pub index: u32,
    /// Kernel name.
    pub name: String,
    /// Hardware address.
    pub mac: MacAddr,
    /// Its link-local address, once it is usable.
    pub link_local: Option<Ipv6Addr>,
    /// Up, and with carrier.
    pub carrier: bool,
}

/// What is to be sent on the uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Of the DHCPv4 client.
    Dhcp4(v4::Transmit),
    /// A datagram to All_DHCP_Relay_Agents_and_Servers.
    Dhcp6(Vec<u8>),
    /// A Router Solicitation from this address to all routers, without checksum.
    Solicitation(Ipv6Addr, Vec<u8>),
}

/// Which sockets the clients need now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Kernel interface index.
    pub link: u32,
    /// Kernel name.
    pub name: String,
    /// IPv4 packets for DHCPv4.
    pub dhcp4: bool,
    /// ARP packets, while an address is probed for.
    pub arp: bool,
    /// Router advertisements.
    pub discovery: bool,
    /// DHCPv6 at this link-local address.
    pub dhcp6: Option<Ipv6Addr>,
}

/// All clients of the uplink.
#[derive(Debug)]
pub struct Uplink {
    wanted: Wanted,
    link: Option<Link>,
    rng: ChaCha8Rng,
    memory: Memory,
    /// What survives a change of the configuration: the site's own prefix, who the DHCPv6 client is.
    ula: Option<Ipv6Net>,
    duid: Option<Vec<u8>>,
    dhcp4: Option<v4::Client>,
    discovery: Option<Discovery>,
    dhcp6: Option<v6::Client>,
    lifecycle: Lifecycle,
    learnt: Learnt,
    history: History,
    /// When something was last done.
    now: Instant,
}

impl Uplink {
    /// Begins with what was remembered; `seed` is the source of all randomness.
    pub fn new(memory: Memory, seed: u64, moment: &Moment) -> Self {
        let kept = memory.recall(moment);
        Self {
            wanted: Wanted::default(),
            link: None,
            rng: ChaCha8Rng::seed_from_u64(seed),
            ula: kept.ula,
            duid: kept.duid,
            lifecycle: Lifecycle::new(kept.delegated),
            memory,
            dhcp4: None,
            discovery: None,
            dhcp6: None,
            learnt: Learnt::default(),
            history: History::default(),
            now: moment.now,
        }
    }

    /// Follows the configuration and the link. What was learnt with another hardware address is forgotten.
    pub fn follow(&mut self, wanted: &Wanted, link: Option<&Link>, moment: &Moment) {
        let now = moment.now;
        let carrier = |link: Option<&Link>| link.is_some_and(|link| link.carrier);
        let came_up = carrier(link) && self.link.is_some() && !carrier(self.link.as_ref());
        let replaced = link.is_some() && link.map(|link| link.mac) != self.link.as_ref().map(|link| link.mac);
        if replaced && self.link.is_some() {
            (self.dhcp4, self.discovery, self.dhcp6) = (None, None, None);
            self.memory = Memory::default();
        }
        let changed = replaced || *wanted != self.wanted;
        self.wanted = wanted.clone();
        if link.is_some() {
            self.link = link.cloned();
        } else if let Some(held) = &mut self.link {
            held.carrier = false;
        }
        if self.wanted.ula && self.ula.is_none() {
            self.ula = Some(self.unique_local());
        }
        if changed {
            self.start(moment);
        } else if came_up {
            self.handle_resume(now);
        }
        if let (Some(discovery), Some(link)) = (&mut self.discovery, &self.link) {
            discovery.set_source(link.link_local);
        }
        self.learn(now);
    }

    /// The link came back, or the machine goes on from another time: whether what is held still holds is asked.
    pub fn handle_resume(&mut self, now: Instant) {
        self.dhcp4.iter_mut().for_each(|client| client.handle_link_up(now));
        self.dhcp6.iter_mut().for_each(|client| client.handle_link_up(now));
        self.discovery.iter_mut().for_each(|discovery| discovery.handle_link_up(now));
    }

    /// RFC 4193 section 3.2: 40 random bits.
    fn unique_local(&mut self) -> Ipv6Net {
        let global_id = u128::from(self.rng.next_u64() & 0xff_ffff_ffff);
        Ipv6Net::new(Ipv6Addr::from(0xfd << 120 | global_id << 80), 48).unwrap_or_default()
    }

    /// Starts what the configuration asks for and ends what it does not. What runs already is left alone.
    fn start(&mut self, moment: &Moment) {
        let Some(link) = self.link.clone() else { return };
        let now = moment.now;
        let kept = self.memory.recall(moment).of(link.mac);
        let identity = v4::Identity { mac: link.mac, hostname: self.wanted.hostname.clone() };
        let (lease, seed) = (kept.lease4(), self.rng.next_u64());
        self.dhcp4 = match (self.wanted.ipv4, self.dhcp4.take()) {
            (Ipv4Source::Static, _) => None,
            (Ipv4Source::Dhcp, Some(client)) => Some(client),
            (Ipv4Source::Dhcp, None) => Some(v4::Client::new(identity, lease, seed, now)),
        };
        let (known, seed) = (kept.known, self.rng.next_u64());
        self.discovery = match (self.wanted.ipv6, self.discovery.take()) {
            (Ipv6Source::Static, _) => None,
            (Ipv6Source::Ra | Ipv6Source::Dhcpv6Pd, Some(discovery)) => Some(discovery),
            (Ipv6Source::Ra | Ipv6Source::Dhcpv6Pd, None) => Some(Discovery::new(known, seed, now)),
        };
        let (bindings, seed) = (kept.bindings, self.rng.next_u64());
        self.dhcp6 = match (self.wanted.ipv6, self.dhcp6.take()) {
            (Ipv6Source::Static, _) => None,
            (Ipv6Source::Ra | Ipv6Source::Dhcpv6Pd, Some(client)) => Some(client),
            (Ipv6Source::Ra | Ipv6Source::Dhcpv6Pd, None) => {
                let duid = self.duid.get_or_insert_with(|| v6::duid(link.mac)).clone();
                Some(v6::Client::new(self.wanted6(), link.mac, duid, bindings, seed, now))
            }
        };
        let wanted = self.wanted6();
        self.dhcp6.iter_mut().for_each(|client| client.reconfigure(&wanted, now));
    }

    /// What DHCPv6 is asked for: a prefix where the configuration says so, an address then, or where routers say so.
    fn wanted6(&self) -> v6::Wanted {
        let managed = self.discovery.as_ref().is_some_and(Discovery::managed);
        match self.wanted.ipv6 {
            Ipv6Source::Static => v6::Wanted::default(),
            Ipv6Source::Ra => v6::Wanted { address: managed, ..v6::Wanted::default() },
            Ipv6Source::Dhcpv6Pd => v6::Wanted { address: true, prefix: true, hint: self.wanted.hint },
        }
    }

    /// Takes an IPv4 packet for the DHCPv4 client's port.
    pub fn handle_ipv4(&mut self, packet: &[u8], from: MacAddr, now: Instant) {
        if let Some(client) = &mut self.dhcp4 {
            client.handle_ipv4(packet, from, now);
        }
        self.learn(now);
    }

    /// Takes an ARP packet.
    pub fn handle_arp(&mut self, packet: &[u8], now: Instant) {
        if let Some(client) = &mut self.dhcp4 {
            client.handle_arp(packet, now);
        }
        self.learn(now);
    }

    /// Takes an ICMPv6 message, beginning with its type, that the kernel found to have a good checksum.
    pub fn handle_icmpv6(&mut self, message: &[u8], source: Ipv6Addr, hop_limit: u8, now: Instant) {
        if let Some(discovery) = &mut self.discovery {
            discovery.handle_input(message, source, hop_limit, now);
        }
        let wanted = self.wanted6();
        self.dhcp6.iter_mut().for_each(|client| client.reconfigure(&wanted, now));
        self.learn(now);
    }

    /// Takes a datagram for the DHCPv6 client's port.
    pub fn handle_dhcp6(&mut self, datagram: &[u8], now: Instant) {
        if let Some(client) = &mut self.dhcp6 {
            client.handle_input(datagram, now);
        }
        self.learn(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.dhcp4.iter_mut().for_each(|client| client.handle_timeout(now));
        self.discovery.iter_mut().for_each(|discovery| discovery.handle_timeout(now));
        self.dhcp6.iter_mut().for_each(|client| client.handle_timeout(now));
        self.learn(now);
    }

    /// When [`Uplink::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let discovery = self.discovery.as_ref().and_then(|discovery| discovery.poll_timeout(self.now));
        let clients = [self.dhcp4.as_ref().and_then(v4::Client::poll_timeout), discovery];
        let more = [self.dhcp6.as_ref().and_then(v6::Client::poll_timeout), self.lifecycle.poll_timeout(self.now)];
        clients.into_iter().chain(more).flatten().min()
    }

    /// What is to be sent now.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if let Some(said) = self.dhcp4.as_mut().and_then(v4::Client::poll_transmit) {
            return Some(Transmit::Dhcp4(said));
        }
        if let (Some(discovery), Some(link)) = (&mut self.discovery, &self.link)
            && let Some((source, message)) = discovery.poll_transmit(link.mac)
        {
            return Some(Transmit::Solicitation(source, message));
        }
        self.dhcp6.as_mut().and_then(v6::Client::poll_transmit).map(Transmit::Dhcp6)
    }

    /// Which sockets have to be open before [`Uplink::poll_transmit`].
    pub fn needs(&self) -> Needs {
        let Some(link) = self.link.as_ref().filter(|link| link.carrier) else { return Needs::default() };
        Needs {
            link: link.index,
            name: link.name.clone(),
            dhcp4: self.dhcp4.is_some(),
            arp: self.dhcp4.as_ref().is_some_and(v4::Client::speaks_arp),
            discovery: self.discovery.is_some(),
            dhcp6: link.link_local.filter(|_| self.dhcp6.is_some()),
        }
    }

    /// What is known.
    pub fn learnt(&self) -> &Learnt {
        &self.learnt
    }

    /// Puts together what all clients know.
    fn learn(&mut self, now: Instant) {
        self.now = now;
        let given = self.dhcp6.iter().flat_map(|client| client.bindings().prefixes()).map(|binding| LearntPrefix {
            prefix: binding.net,
            preferred_until: binding.preferred_until,
            valid_until: binding.valid_until,
            retired: false,
        });
        let given: Vec<LearntPrefix> = given.collect();
        // Before there is a link nothing is known, which is not the same as nothing.
        if self.link.is_some() {
            self.lifecycle.update(given, now);
        }
        let lease = self.dhcp4.as_ref().and_then(v4::Client::lease);
        let resolvers4 = lease.into_iter().flat_map(|lease| lease.resolvers.iter().map(|address| IpAddr::V4(*address)));
        let learnt = Learnt {
            ipv4: lease.map(v4::Lease::learnt),
            ipv6: self.uplink6(now),
            delegated: self.lifecycle.prefixes(now),
            ula: self.ula.filter(|_| self.wanted.ula),
            resolvers: self.resolvers6().into_iter().chain(resolvers4).collect(),
            time_servers: self.time_servers(),
        };
        self.history.note(&self.learnt, &learnt, now);
        self.learnt = learnt;
    }

    /// Those of both protocols, each only once.
    fn time_servers(&self) -> Vec<IpAddr> {
        let six = self.dhcp6.iter().flat_map(|client| client.bindings().time_servers.iter().copied().map(IpAddr::V6));
        let lease = self.dhcp4.as_ref().and_then(v4::Client::lease);
        six.chain(lease.into_iter().flat_map(|lease| lease.time_servers.iter().copied().map(IpAddr::V4))).collect()
    }

    fn uplink6(&self, now: Instant) -> Uplink6 {
        let Some(discovery) = &self.discovery else { return Uplink6::default() };
        let given = self.dhcp6.iter().flat_map(|client| client.bindings().addresses());
        let given = given.map(|binding| (binding.net, binding.preferred_until.is_some_and(|until| until <= now)));
        let mut addresses: Vec<(Ipv6Net, bool)> = discovery.addresses(now);
        for (net, deprecated) in given {
            // RFC 8415 says nothing of on-link; the address may still be one that was made by SLAAC.
            if !addresses.iter().any(|(held, _)| held.addr() == net.addr()) {
                addresses.push((net, deprecated));
            }
        }
        Uplink6 {
            router: discovery.router(),
            addresses: addresses.into_iter().map(|(net, deprecated)| LearntAddress { net, deprecated }).collect(),
            routes: discovery.routes(),
            mtu: discovery.mtu(),
            prefixes: if self.wanted.shared { discovery.prefixes(now) } else { Vec::new() },
        }
    }

    fn resolvers6(&self) -> Vec<IpAddr> {
        let given = self.dhcp6.iter().flat_map(|client| client.bindings().resolvers.iter().copied());
        let mut resolvers: Vec<Ipv6Addr> = self.discovery.iter().flat_map(Discovery::resolvers).chain(given).collect();
        // A link-local one needs its scope, which a resolver's configuration does not have.
        resolvers.retain(|address| !address.is_unicast_link_local());
        let mut seen = Vec::new();
        resolvers.retain(|address| {
            !seen.contains(address) && {
                seen.push(*address);
                true
            }
        });
        resolvers.into_iter().map(IpAddr::V6).collect()
    }

    /// What the next daemon is to know. Where nothing was learnt yet, what is remembered stays remembered.
    pub fn remember(&self, moment: &Moment) -> Memory {
        let Some(link) = &self.link else { return self.memory.clone() };
        let mut kept = Kept {
            mac: Some(link.mac.to_string()),
            duid: self.duid.clone(),
            delegated: self.lifecycle.remember(),
            ula: self.ula,
            bindings: self.dhcp6.as_ref().map(|client| client.bindings().clone()).unwrap_or_default(),
            known: self.discovery.as_ref().map(|discovery| discovery.known().clone()).unwrap_or_default(),
            ..Kept::default()
        };
        kept.set_lease4(self.dhcp4.as_ref().and_then(v4::Client::lease));
        Memory::new(&kept, moment)
    }

    /// What an operator sees.
    pub fn status(&self, moment: &Moment) -> status::Uplink {
        let now = moment.now;
        let left = |end: Option<Instant>| end.map(|end| end.saturating_since(now).as_secs());
        let dhcp4 = self.dhcp4.as_ref().map(|client| {
            let lease = client.lease();
            status::Dhcp4 {
                state: client.state().to_owned(),
                address: lease.map(|lease| lease.address),
                server: lease.map(|lease| lease.server),
                remaining: left(lease.and_then(|lease| lease.ends)),
                resolvers: lease.map(|lease| lease.resolvers.clone()).unwrap_or_default(),
                conflicts: client.conflicts(),
                messages: counts(client.verdicts(), v4::Verdict::name),
            }
        });
        let dhcp6 = self.dhcp6.as_ref().map(|client| status::Dhcp6 {
            state: client.state().to_owned(),
            messages: counts(client.verdicts(), v6::Verdict::name),
        });
        let discovery = self.discovery.as_ref().map(|discovery| status::Discovery {
            router: discovery.router(),
            managed: discovery.managed(),
            messages: counts(discovery.verdicts(), discovery::Verdict::name),
        });
        let prefixes = self.learnt.delegated.iter().map(|prefix| status::DelegatedPrefix {
            prefix: prefix.prefix,
            preferred: left(prefix.preferred_until),
            valid: left(prefix.valid_until),
            retired: prefix.retired,
        });
        status::Uplink {
            dhcp4,
            dhcp6,
            discovery,
            delegated: prefixes.collect(),
            unique_local: self.learnt.ula,
            resolvers: self.learnt.resolvers.clone(),
            changes: self.history.changes(moment),
        }
    }
}

fn counts<V: Copy>(verdicts: &BTreeMap<V, u64>, name: impl Fn(V) -> &'static str) -> BTreeMap<String, u64> {
    verdicts.iter().map(|(verdict, count)| (name(*verdict).to_owned(), *count)).collect()
}

//! The uplink's clients under one roof: what is learnt becomes one value, and one memory that outlives the daemon.
use core::net::Ipv6Addr;
use std::collections::BTreeMap;

use sixgate_wire::mac::MacAddr;

use crate::config::{Config, Ipv4Source, Ipv6Source};
use crate::dhcp::v4;
use crate::prefix::Learnt;
use crate::status;
use crate::time::Instant;

mod history;
mod memory;

#[cfg(test)]
mod tests;

use history::History;
pub use memory::{Memory, Moment};

/// What the configuration asks of the uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where IPv4 comes from.
    pub ipv4: Ipv4Source,
    /// Where IPv6 comes from.
    pub ipv6: Ipv6Source,
    /// The name that servers are told.
    pub hostname: String,
}

impl Wanted {
    /// What a configuration asks for.
    pub fn of(config: &Config) -> Self {
        Self { ipv4: config.wan.ipv4_source, ipv6: config.wan.ipv6_source, hostname: config.hostname.clone() }
    }
}

/// The uplink's link as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel interface index.
    pub index: u32,
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
}

/// Which sockets the clients need now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Kernel interface index.
    pub link: u32,
    /// IPv4 packets for DHCPv4.
    pub dhcp4: bool,
    /// ARP packets, while an address is probed for.
    pub arp: bool,
}

/// All clients of the uplink.
#[derive(Debug)]
pub struct Uplink {
    wanted: Wanted,
    link: Option<Link>,
    seed: u64,
    memory: Memory,
    dhcp4: Option<v4::Client>,
    learnt: Learnt,
    history: History,
}

impl Uplink {
    /// Begins with what was remembered; `seed` is the source of all randomness.
    pub fn new(memory: Memory, seed: u64) -> Self {
        Self {
            wanted: Wanted::default(),
            link: None,
            seed,
            memory,
            dhcp4: None,
            learnt: Learnt::default(),
            history: History::default(),
        }
    }

    /// Follows the configuration and the link. What was remembered about another hardware address is forgotten.
    pub fn follow(&mut self, wanted: &Wanted, link: Option<&Link>, moment: &Moment) {
        let now = moment.now;
        let carrier = |link: Option<&Link>| link.is_some_and(|link| link.carrier);
        let came_up = carrier(link) && self.link.is_some() && !carrier(self.link.as_ref());
        let replaced = link.map(|link| link.mac) != self.link.as_ref().map(|link| link.mac) && link.is_some();
        let renamed = *wanted != self.wanted;
        self.wanted = wanted.clone();
        if link.is_some() {
            self.link = link.cloned();
        } else if let Some(held) = &mut self.link {
            held.carrier = false;
        }
        if replaced || renamed {
            self.start(moment);
        } else if came_up && let Some(client) = &mut self.dhcp4 {
            client.handle_link_up(now);
        }
        self.learn(now);
    }

    fn start(&mut self, moment: &Moment) {
        let Some(link) = &self.link else { return };
        self.seed = self.seed.wrapping_add(1);
        let held = self.dhcp4.take().filter(|client| client.mac() == link.mac);
        self.dhcp4 = (self.wanted.ipv4 == Ipv4Source::Dhcp).then(|| {
            let lease = held.map_or_else(|| self.memory.lease4(link.mac, moment), |client| client.lease().cloned());
            let identity = v4::Identity { mac: link.mac, hostname: self.wanted.hostname.clone() };
            v4::Client::new(identity, lease, self.seed, moment.now)
        });
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

    /// Does what is due at `now`. Nothing is sent while the link has no carrier; what is held ends in its time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(client) = &mut self.dhcp4 {
            client.handle_timeout(now);
        }
        self.learn(now);
    }

    /// When [`Uplink::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.dhcp4.as_ref().and_then(v4::Client::poll_timeout)
    }

    /// What is to be sent now.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.dhcp4.as_mut().and_then(v4::Client::poll_transmit).map(Transmit::Dhcp4)
    }

    /// Which sockets have to be open before [`Uplink::poll_transmit`].
    pub fn needs(&self) -> Needs {
        let Some(link) = self.link.as_ref().filter(|link| link.carrier) else { return Needs::default() };
        let arp = self.dhcp4.as_ref().is_some_and(v4::Client::speaks_arp);
        Needs { link: link.index, dhcp4: self.dhcp4.is_some(), arp }
    }

    /// What is known.
    pub fn learnt(&self) -> &Learnt {
        &self.learnt
    }

    fn learn(&mut self, now: Instant) {
        let lease = self.dhcp4.as_ref().and_then(v4::Client::lease);
        let learnt = Learnt {
            ipv4: lease.map(v4::Lease::learnt),
            resolvers: lease
                .into_iter()
                .flat_map(|lease| lease.resolvers.iter().map(|address| (*address).into()))
                .collect(),
            ..Learnt::default()
        };
        self.history.note(&self.learnt, &learnt, now);
        self.learnt = learnt;
    }

    /// What the next daemon is to know.
    pub fn remember(&self, moment: &Moment) -> Memory {
        let lease = self.dhcp4.as_ref().and_then(v4::Client::lease);
        Memory::new(self.link.as_ref().map(|link| link.mac), lease, moment)
    }

    /// What an operator sees.
    pub fn status(&self, moment: &Moment) -> status::Uplink {
        let now = moment.now;
        let dhcp4 = self.dhcp4.as_ref().map(|client| {
            let lease = client.lease();
            status::Dhcp4 {
                state: client.state().to_owned(),
                address: lease.map(|lease| lease.address),
                server: lease.map(|lease| lease.server),
                remaining: lease.and_then(|lease| lease.ends).map(|ends| ends.saturating_since(now).as_secs()),
                resolvers: lease.map(|lease| lease.resolvers.clone()).unwrap_or_default(),
                conflicts: client.conflicts(),
                messages: counts(client.verdicts(), v4::Verdict::name),
            }
        });
        status::Uplink { dhcp4, changes: self.history.changes(moment) }
    }
}

fn counts<V: Copy>(verdicts: &BTreeMap<V, u64>, name: impl Fn(V) -> &'static str) -> BTreeMap<String, u64> {
    verdicts.iter().map(|(verdict, count)| (name(*verdict).to_owned(), *count)).collect()
}

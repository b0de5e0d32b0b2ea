//! The tables against a slow twin: lists that are searched from end to end, connections as flags and not as states.
use core::time::Duration;
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use sixgate_engine::config::Filtering;
use sixgate_engine::nat64::verdict::{Direction, Reason, Verdict};
use sixgate_engine::time::Instant;

use crate::packet::{ACK, FIN, RST, SYN, icmpv4, icmpv6, is_intact, tcp, udp, v4, v6};
use crate::router::{POOL, Router, plan};

const SERVERS: [&str; 3] = ["1.2.3.4", "5.6.7.8", "8.8.8.8"];
const CLIENTS: [&str; 3] = ["2001:db8:1::2", "2001:db8:1::3", "2001:db8:2::2"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Icmp,
}

#[derive(Clone, Debug)]
struct Step {
    kind: Kind,
    from_v6: bool,
    client: usize,
    client_port: u16,
    server: usize,
    server_port: u16,
    flags: u8,
    /// For packets from IPv4: which of the mapped ports in use, or one that is not.
    mapped: usize,
    seconds: u64,
    /// Whether the daemon starts anew before.
    restart: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![Just(Kind::Tcp), Just(Kind::Udp), Just(Kind::Icmp)];
    let flags = prop_oneof![4 => Just(SYN), 4 => Just(ACK), 2 => Just(FIN | ACK), 1 => Just(RST)];
    let seconds = prop_oneof![8 => 0u64..5, 2 => 50u64..400, 1 => 7000u64..8000];
    let ends = (0..3usize, 5000..5003u16, 0..3usize, 80..82u16);
    let step = (kind, any::<bool>(), ends, flags, 0..12usize, seconds, prop::bool::weighted(0.1));
    let step = step.prop_map(|(kind, from_v6, ends, flags, mapped, seconds, restart)| {
        let (client, client_port, server, server_port) = ends;
        let server_port = if kind == Kind::Icmp { 0 } else { server_port };
        Step { kind, from_v6, client, client_port, server, server_port, flags, mapped, seconds, restart }
    });
    proptest::collection::vec(step, 1..120)
}

#[derive(Clone, Debug)]
struct Session {
    kind: Kind,
    client: (usize, u16),
    mapped: u16,
    server: (usize, u16),
    /// Whether a SYN came from IPv6 and from IPv4.
    syn: [bool; 2],
    fin: [bool; 2],
    rst: bool,
    end: Instant,
}

/// The first two clients share a /64.
fn is_one(client: usize, other: usize) -> bool {
    client / 2 == other / 2
}

/// A SYN from IPv4 that waits.
#[derive(Clone, Debug)]
struct Syn {
    mapped: u16,
    server: (usize, u16),
    end: Instant,
}

#[derive(Debug, Default)]
struct Twin {
    sessions: Vec<Session>,
    syns: Vec<Syn>,
    /// Ports that nobody gets until then.
    held: Vec<(Kind, u16, Instant)>,
    independent: bool,
    limit: usize,
    ports: usize,
}

impl Twin {
    fn mapped(&self, kind: Kind, client: (usize, u16)) -> Option<u16> {
        self.sessions.iter().find(|session| session.kind == kind && session.client == client).map(|it| it.mapped)
    }

    fn ports(&self, kind: Kind) -> Vec<u16> {
        let mut ports: Vec<u16> =
            self.sessions.iter().filter(|session| session.kind == kind).map(|session| session.mapped).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    fn ports_of(&self, kind: Kind, client: usize) -> usize {
        let of_client = |session: &&Session| session.kind == kind && is_one(session.client.0, client);
        let mut ports: Vec<u16> = self.sessions.iter().filter(of_client).map(|session| session.mapped).collect();
        ports.sort_unstable();
        ports.dedup();
        ports.len()
    }

    /// Lets time pass; returns how many connections are probed and how many SYNs are answered.
    fn wait(&mut self, now: Instant) -> (usize, usize) {
        let mut probes = 0;
        for session in self.sessions.iter_mut().filter(|session| session.end <= now && session.is_established()) {
            probes += 1;
            session.rst = true;
            session.end = now + Duration::from_secs(240);
        }
        let before: Vec<(Kind, u16)> = self.sessions.iter().map(|session| (session.kind, session.mapped)).collect();
        self.sessions.retain(|session| session.end > now);
        self.held.retain(|(_, _, end)| *end > now);
        for (kind, port) in before.into_iter().filter(|(kind, _)| *kind != Kind::Tcp) {
            let is_held = self.held.iter().any(|(held, other, _)| (*held, *other) == (kind, port));
            if !is_held && !self.ports(kind).contains(&port) {
                self.held.push((kind, port, now + Duration::from_secs(120)));
            }
        }
        let waiting = self.syns.len();
        self.syns.retain(|syn| syn.end > now);
        (probes, waiting - self.syns.len())
    }

    fn sent(&mut self, step: &Step, now: Instant) -> Result<(), Reason> {
        let (client, server) = ((step.client, step.client_port), (step.server, step.server_port));
        let it =
            |session: &&mut Session| session.kind == step.kind && session.client == client && session.server == server;
        if let Some(session) = self.sessions.iter_mut().find(it) {
            session.touch(0, step.flags, now);
            return Ok(());
        }
        let mapped = self.mapped(step.kind, client);
        if step.kind == Kind::Tcp && step.flags != SYN {
            return mapped.map(|_| ()).ok_or(Reason::NoSession);
        }
        let free = self.limit - self.sessions.len();
        if free == 0 {
            return Err(Reason::SessionLimit);
        }
        let held = self.held.iter().filter(|(kind, _, _)| *kind == step.kind).count();
        let free_ports = self.ports - self.ports(step.kind).len() - held;
        if mapped.is_none() && free_ports == 0 {
            return Err(Reason::PoolExhausted);
        }
        if self.sessions.iter().filter(|session| is_one(session.client.0, step.client)).count() >= 4 * free {
            return Err(Reason::ClientSessionLimit);
        }
        if mapped.is_none() && self.ports_of(step.kind, step.client) >= 4 * free_ports {
            return Err(Reason::ClientBindingLimit);
        }
        // Which port is free to choose; the caller fills it in.
        self.open(step.kind, client, mapped.unwrap_or(0), server, 0, now);
        Ok(())
    }

    /// A session from inside has its port: a SYN of the other side may wait for it.
    fn meet(&mut self, now: Instant) {
        let Some(session) = self.sessions.last_mut() else { return };
        let waiting = self.syns.len();
        self.syns.retain(|syn| (syn.mapped, syn.server) != (session.mapped, session.server));
        if self.syns.len() < waiting {
            session.syn = [true; 2];
            session.end = now + Duration::from_secs(7440);
        }
    }

    /// To whom it goes; nobody if it waits.
    fn received(&mut self, step: &Step, mapped: u16, now: Instant) -> Result<Option<(usize, u16)>, Reason> {
        let server = (step.server, step.server_port);
        let it =
            |session: &&mut Session| session.kind == step.kind && session.mapped == mapped && session.server == server;
        if let Some(session) = self.sessions.iter_mut().find(it) {
            session.touch(1, step.flags, now);
            return Ok(Some(session.client));
        }
        let of_binding = |session: &&Session| session.kind == step.kind && session.mapped == mapped;
        let client = self.sessions.iter().find(of_binding).map(|session| session.client);
        let knows = self.sessions.iter().filter(of_binding).any(|session| session.server.0 == step.server);
        let admitted = client.filter(|_| knows || self.independent);
        let Some(client) = admitted else {
            if step.kind == Kind::Tcp && step.flags == SYN {
                if !self.syns.iter().any(|syn| (syn.mapped, syn.server) == (mapped, server)) {
                    self.syns.push(Syn { mapped, server, end: now + Duration::from_secs(6) });
                }
                return Ok(None);
            }
            return Err(if client.is_some() { Reason::Filtered } else { Reason::NoBinding });
        };
        if step.kind == Kind::Tcp && step.flags != SYN {
            return Err(Reason::NoSession);
        }
        if step.kind == Kind::Tcp {
            self.syns.retain(|syn| (syn.mapped, syn.server) != (mapped, server));
        }
        let free = self.limit - self.sessions.len();
        if free == 0 {
            return Err(Reason::SessionLimit);
        }
        if self.sessions.iter().filter(|session| is_one(session.client.0, client.0)).count() * 2 >= 4 * free {
            return Err(Reason::ClientSessionLimit);
        }
        self.open(step.kind, client, mapped, server, 1, now);
        Ok(Some(client))
    }

    fn open(&mut self, kind: Kind, client: (usize, u16), mapped: u16, server: (usize, u16), side: usize, now: Instant) {
        let mut syn = [false; 2];
        syn[side] = true;
        let seconds = match kind {
            Kind::Tcp => 240,
            Kind::Udp => 300,
            Kind::Icmp => 60,
        };
        let end = now + Duration::from_secs(seconds);
        self.sessions.push(Session { kind, client, mapped, server, syn, fin: [false; 2], rst: false, end });
    }
}

impl Session {
    fn is_established(&self) -> bool {
        self.kind == Kind::Tcp && self.syn == [true; 2] && self.fin == [false; 2] && !self.rst
    }

    fn touch(&mut self, side: usize, flags: u8, now: Instant) {
        let seconds = match (self.kind, flags) {
            (Kind::Udp, _) => Some(300),
            (Kind::Icmp, _) => Some(60),
            // Not established yet: only SYNs count.
            (Kind::Tcp, SYN) if self.syn != [true; 2] => {
                let repeated = self.syn[side];
                self.syn[side] = true;
                Some(if repeated { 240 } else { 7440 })
            }
            (Kind::Tcp, _) if self.syn != [true; 2] => None,
            // Reset: goes on or does not.
            (Kind::Tcp, RST) if self.rst => None,
            (Kind::Tcp, _) if self.rst => {
                self.rst = false;
                Some(7440)
            }
            (Kind::Tcp, _) if self.fin == [true; 2] => None,
            (Kind::Tcp, RST) if self.fin == [false; 2] => {
                self.rst = true;
                Some(240)
            }
            (Kind::Tcp, _) if flags & FIN != 0 => {
                self.fin[side] = true;
                Some(if self.fin == [true; 2] { 240 } else { 7440 })
            }
            (Kind::Tcp, _) => Some(7440),
        };
        if let Some(seconds) = seconds {
            self.end = now + Duration::from_secs(seconds);
        }
    }
}

fn v6_packet(step: &Step) -> Vec<u8> {
    let upper = match step.kind {
        Kind::Tcp => tcp(step.client_port, step.server_port, step.flags, b"out"),
        Kind::Udp => udp(step.client_port, step.server_port, b"out"),
        Kind::Icmp => icmpv6(128, 0, u32::from(step.client_port) << 16, b"out"),
    };
    v6(CLIENTS[step.client], &format!("64:ff9b::{}", SERVERS[step.server]), 64, upper)
}

fn v4_packet(step: &Step, mapped: u16) -> Vec<u8> {
    let upper = match step.kind {
        Kind::Tcp => tcp(step.server_port, mapped, step.flags, b"in"),
        Kind::Udp => udp(step.server_port, mapped, b"in"),
        Kind::Icmp => icmpv4(0, 0, u32::from(mapped) << 16, b"in"),
    };
    v4(SERVERS[step.server], POOL, 64, upper)
}

/// Source port or identifier of an IPv4 packet.
fn source_port(packet: &[u8]) -> u16 {
    let at = if packet[9] == 1 { 24 } else { 20 };
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_tables_agree_with_lists(steps in steps(), limit in 4u32..40, independent: bool) {
        let mut plan = plan(40_000..=40_005);
        plan.max_sessions = limit;
        if independent {
            plan.filtering = Filtering::EndpointIndependent;
        }
        let mut router = Router::with(&plan);
        let mut twin = Twin { limit: limit as usize, ports: 6, independent, ..Twin::default() };
        for step in steps {
            if step.restart {
                router.restart(&plan);
                twin.syns.clear();
            }
            let said = router.rest(step.seconds);
            let now = router.now;
            let (probes, answers) = twin.wait(now);
            prop_assert_eq!(said.iter().filter(|packet| packet[0] >> 4 == 6).count(), probes);
            prop_assert_eq!(said.iter().filter(|packet| packet[0] >> 4 == 4).count(), answers);
            prop_assert!(said.iter().all(|packet| is_intact(packet)));
            if step.from_v6 {
                let known = twin.mapped(step.kind, (step.client, step.client_port));
                let before = twin.sessions.len();
                let expected = twin.sent(&step, now);
                let (verdict, packets) = router.send(&v6_packet(&step));
                match expected {
                    Err(reason) => prop_assert_eq!(verdict, Verdict::Dropped(reason)),
                    Ok(()) => {
                        let is_new = twin.sessions.len() > before;
                        prop_assert_eq!(verdict, Verdict::Translated(Direction::V6ToV4));
                        prop_assert!(is_intact(&packets[0]));
                        let port = source_port(&packets[0]);
                        match known {
                            Some(known) => prop_assert_eq!(port, known),
                            None => {
                                prop_assert!((40_000..=40_005).contains(&port));
                                prop_assert!(!twin.ports(step.kind).contains(&port));
                                let is_it = |held: &&(Kind, u16, Instant)| (held.0, held.1) == (step.kind, port);
                                prop_assert!(twin.held.iter().find(is_it).is_none());
                                twin.sessions.last_mut().unwrap().mapped = port;
                            }
                        }
                        if is_new && step.kind == Kind::Tcp {
                            twin.meet(now);
                        }
                    }
                }
            } else {
                let ports = twin.ports(step.kind);
                let mapped = ports.get(step.mapped).copied().unwrap_or(step.mapped as u16 + 40_000);
                let expected = twin.received(&step, mapped, now);
                let (verdict, packets) = router.send(&v4_packet(&step, mapped));
                match expected {
                    Err(reason) => prop_assert_eq!(verdict, Verdict::Dropped(reason)),
                    Ok(None) => prop_assert_eq!((verdict, packets.len()), (Verdict::Held, 0)),
                    Ok(Some((client, port))) => {
                        prop_assert_eq!(verdict, Verdict::Translated(Direction::V4ToV6));
                        prop_assert!(is_intact(&packets[0]));
                        let destination: Ipv6Addr = CLIENTS[client].parse().unwrap();
                        prop_assert_eq!(&packets[0][24..40], destination.octets());
                        let server: Ipv4Addr = SERVERS[step.server].parse().unwrap();
                        prop_assert_eq!(&packets[0][20..24], server.octets());
                        let at = if step.kind == Kind::Icmp { 44 } else { 42 };
                        prop_assert_eq!(&packets[0][at..at + 2], port.to_be_bytes());
                    }
                }
            }
            let count = |kind| twin.sessions.iter().filter(|session| session.kind == kind).count() as u64;
            let bindings = |kind| twin.ports(kind).len() as u64;
            let kinds = [Kind::Tcp, Kind::Udp, Kind::Icmp];
            prop_assert_eq!(router.tables(), (kinds.map(count), kinds.map(bindings)));
            let ends = twin.sessions.iter().map(|session| session.end).chain(twin.syns.iter().map(|syn| syn.end));
            prop_assert_eq!(router.nat64.poll_timeout(), ends.min());
        }
    }
}

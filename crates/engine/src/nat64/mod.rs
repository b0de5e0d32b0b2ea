//! Stateful NAT64: RFC 6146, cut along its own steps.
//!
//! [`Nat64`] is given packets and time and writes packets. Its two ways, `v6_to_v4` and `v4_to_v6`, read like the RFC's
//! table of contents.
mod account;
mod admission;
mod answer;
mod bib;
mod block;
mod echo;
pub mod event;
mod expiry;
pub mod fast_path;
mod filter;
mod fragment;
mod hairpin;
mod hold;
mod icmp;
mod keyed;
mod limiter;
mod list;
mod offload;
mod pool;
mod prefixes;
mod probe;
mod publish;
mod quota;
mod revocation;
mod session;
mod snapshot;
mod syn;
mod tables;
mod tcp;
pub mod tuple;
mod udp;
pub mod verdict;

use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::ControlFlow;

use ipnet::{Ipv4Net, Ipv6Net};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sixgate_wire::icmpv4;
use sixgate_wire::ipv4::{Ipv4Error, Ipv4Packet};
use sixgate_wire::ipv6::{self, Ipv6Packet};
use sixgate_wire::rfc6052::Pref64;

use self::event::Event;
use self::fragment::Fragments;
use self::keyed::Keyed;
use self::limiter::Limiter;
use self::prefixes::{Position, Prefixes};
pub use self::snapshot::{Restored, Saving, SnapshotError};
pub use self::tables::SESSION_BYTES;
use self::tables::{Passage, Tables};
use self::tcp::Segment;
use self::tuple::{Incoming, Protocol, TransportV4, TupleV4, TupleV6};
use self::verdict::{Counters, Direction, Reason, Refused, Verdict};
pub use crate::xlat::transmit::{Offload, Transmit};
use crate::xlat::unfinished::Translator as _;

use crate::plan::{Nat64Plan, Obstacle};
use crate::status::{self, Traffic};
use crate::time::Instant;
use crate::xlat::identification::Identifications;
use crate::xlat::offload::{Layout, Unfinished};
use crate::xlat::{Mtus, Policy, Refusal, originate, v4_to_v6, v6_to_v4};

/// What the kernel takes off the TTL between the TUN device and the uplink.
const KERNEL_HOP: u8 = 1;

/// The translator with its bindings and sessions.
#[derive(Debug)]
pub struct Nat64 {
    prefixes: Prefixes,
    exempted: Vec<Ipv4Net>,
    excluded: Vec<Ipv4Net>,
    router_v6: Option<Ipv6Addr>,
    mtus: Mtus,
    policy: Policy,
    obstacle: Option<Obstacle>,
    /// On which LAN clients are, by prefix; who is on none stays out of the fast path.
    lans: Vec<(Ipv6Net, u32)>,
    /// By which plan the sessions in the fast path were admitted.
    admitted_by: Nat64Plan,
    tables: Tables,
    fragments: Fragments,
    limiter: Limiter,
    /// Packets on their way through a hairpin; kept for its memory.
    turned: Transmit,
    /// Packets that nobody's packet caused, until the next [`Self::handle_timeout`].
    due: Transmit,
    /// When what is over was last ended.
    expired_at: Instant,
    /// A part of a super-packet; kept for its memory.
    part: Vec<u8>,
    identifications: Identifications,
    counters: Counters,
    traffic: [Traffic; 2],
}

impl Nat64 {
    /// A translator without sessions. Keys of hash tables, ports and identifications come from `seed`, which nobody
    /// outside may know.
    pub fn new(plan: &Nat64Plan, seed: [u8; 32]) -> Self {
        let mut random = ChaCha8Rng::from_seed(seed);
        let keyed = Keyed::new((random.next_u64(), random.next_u64()));
        let identifications = Identifications::new(&mut random);
        Self {
            prefixes: Prefixes::new(plan),
            exempted: plan.translate_non_global.clone(),
            excluded: plan.never_translate.clone(),
            router_v6: plan.router_v6,
            mtus: mtus(plan),
            policy: plan.policy,
            obstacle: plan.obstacle,
            lans: lans(plan),
            admitted_by: plan.clone(),
            tables: Tables::new(keyed, plan, random),
            fragments: Fragments::new(keyed),
            limiter: Limiter::new(plan.icmp_errors_per_second, keyed),
            turned: Transmit::new(),
            due: Transmit::new(),
            expired_at: Instant::ZERO,
            part: Vec::new(),
            identifications,
            counters: Counters::new(),
            traffic: [Traffic::default(); 2],
        }
    }

    /// Takes over a plan. Sessions end that were under another prefix or whose mapped address or port is no longer
    /// ours; all others stay.
    pub fn reconfigure(&mut self, plan: &Nat64Plan, now: Instant) {
        self.tables.timers = plan.timers;
        self.tables.max_sessions = plan.max_sessions;
        self.tables.filtering = plan.filtering;
        self.tables.events.want(plan.events);
        self.expire(now);
        let prefixes = Prefixes::new(plan);
        let positions = self.prefixes.positions_in(&prefixes);
        let renumbered = positions.first() != Some(&Some(0));
        let is_gone = |prefix| positions.get(usize::from(prefix)).copied().flatten().is_none();
        let before = self.tables.pool.assigned();
        self.tables.resize_pool(plan);
        self.tables.publish(&plan.static_bindings, &plan.published_echo);
        self.tables.end_gone(is_gone);
        self.tables.sessions.renumber(&positions);
        let Tables { syns, pool, .. } = &mut self.tables;
        syns.retain(|mapped| !renumbered && pool.owns(mapped));
        self.tables.recount(plan.limits, &plan.clients, &plan.vms);
        self.tables.adopt_blocks(&before);
        self.prefixes = prefixes;
        self.exempted.clone_from(&plan.translate_non_global);
        self.excluded.clone_from(&plan.never_translate);
        self.router_v6 = plan.router_v6;
        self.mtus = mtus(plan);
        self.policy = plan.policy;
        self.limiter.set(plan.icmp_errors_per_second);
        self.obstacle = plan.obstacle;
        self.lans = lans(plan);
        self.judge_by(plan);
    }

    /// Handles a packet from either side and writes to `out` what leaves in its place: the translation, in fragments if
    /// need be, or an ICMP error, or nothing. What was in `out` is forgotten.
    pub fn handle_input(&mut self, packet: &[u8], out: &mut Transmit, now: Instant) -> Verdict {
        self.handle_offloaded(packet, Offload::NONE, out, now)
    }

    /// Ends what is over, and writes to `out` what hosts are told of that: the probe of an established connection, and
    /// the error about a SYN that waited in vain. What was in `out` is forgotten.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Transmit) {
        out.clear();
        self.expire(now);
        core::mem::swap(out, &mut self.due);
    }

    /// When [`Self::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.due.is_empty() {
            return Some(Instant::ZERO);
        }
        let Tables { sessions, syns, timers, .. } = &self.tables;
        let syn = syns.next_expiry(timers.tcp_incoming_syn);
        let fragment = self.fragments.next_expiry(timers.fragment_min);
        sessions.next_expiry(timers).into_iter().chain(syn).chain(fragment).min()
    }

    /// The oldest event that has not been asked for.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.tables.events.pop()
    }

    /// Whether [`Self::poll_event`] has one.
    pub fn has_event(&self) -> bool {
        !self.tables.events.is_empty()
    }

    /// What the console shows.
    pub fn status(&self) -> status::Nat64 {
        let count = |count: &dyn Fn(Protocol) -> u64| status::Sessions {
            tcp: count(Protocol::Tcp),
            udp: count(Protocol::Udp),
            icmp: count(Protocol::Icmp),
        };
        status::Nat64 {
            pref64: self.prefixes.nets().first().copied(),
            further_pref64: self.prefixes.nets().iter().skip(1).copied().collect(),
            obstacle: self.obstacle,
            sessions: count(&|protocol| self.tables.sessions.count(protocol)),
            bindings: count(&|protocol| self.tables.bib.count(protocol)),
            v6_to_v4: self.traffic[Direction::V6ToV4 as usize],
            v4_to_v6: self.traffic[Direction::V4ToV6 as usize],
            vms: self.tables.accounts.vms(),
            clients: self.tables.accounts.top(),
            log: None,
            events_lost: self.tables.events.lost(),
            pool: self.tables.pool.status(),
            published: self.tables.published(),
            reasons: self.counters.iter().map(|(name, count)| (name.to_owned(), count)).collect(),
            fast_path: None,
        }
    }

    fn handle_v6(&mut self, bytes: &[u8], offload: Offload, out: &mut Transmit, now: Instant) -> Verdict {
        let Ok(packet) = Ipv6Packet::parse(bytes) else { return self.drop_malformed() };
        let unfinished = match self.unfinished_v6(&packet, bytes, offload, out, now) {
            ControlFlow::Continue(unfinished) => unfinished,
            ControlFlow::Break(verdict) => return verdict,
        };
        let before = out.len();
        let result = match packet.fragment().filter(|fragment| fragment.more || fragment.offset != 0) {
            None => self.v6_to_v4(&packet, None, None, unfinished, out, now),
            Some(fragment) => self.admit_v6(&packet).and_then(|_| {
                let [_, site] = self.tables.quotas.clients(packet.source());
                let whole = self.fragments.insert_v6(&packet, fragment, site, now)?;
                let Some(whole) = whole else { return Ok(Verdict::Held) };
                let packet = Ipv6Packet::parse(&whole.bytes).map_err(|_| Reason::Malformed)?;
                self.v6_to_v4(&packet, Some(whole.identification), Some(whole.size), Unfinished::NONE, out, now)
            }),
        };
        let verdict = result.unwrap_or_else(|refused| {
            out.truncate(before);
            if let (Some(error), Some(router)) = (refused.answer, self.router_v6)
                && originate::may_answer_v6(&packet)
                && self.limiter.admit(self.tables.quotas.clients(packet.source())[0], Direction::V6ToV4, now)
            {
                let quoted = self.quoted(bytes, Layout::of_v6(&packet), unfinished);
                originate::emit_v6(error, router, packet.source(), quoted, out);
            }
            Verdict::Dropped(refused.reason)
        });
        self.count(verdict, unfinished.on_the_wire(bytes.len(), || Layout::of_v6(&packet)));
        verdict
    }

    fn handle_v4(&mut self, bytes: &[u8], offload: Offload, out: &mut Transmit, now: Instant) -> Verdict {
        let packet = match Ipv4Packet::parse(bytes) {
            Ok(packet) => packet,
            Err(Ipv4Error::Checksum) => {
                self.counters.count(Reason::BadChecksum);
                return Verdict::Dropped(Reason::BadChecksum);
            }
            Err(_) => return self.drop_malformed(),
        };
        let unfinished = match self.unfinished_v4(&packet, bytes, offload, out, now) {
            ControlFlow::Continue(unfinished) => unfinished,
            ControlFlow::Break(verdict) => return verdict,
        };
        let before = out.len();
        let result = self.admit_v4(&packet).and_then(|()| {
            if !packet.is_fragment() {
                return self.v4_to_v6(&packet, self.mtus, None, unfinished, out, now);
            }
            let Some(whole) = self.fragments.insert_v4(&packet, now)? else { return Ok(Verdict::Held) };
            let packet = Ipv4Packet::parse(&whole.bytes).map_err(|_| Reason::Malformed)?;
            self.v4_to_v6(&packet, self.mtus, Some(whole.size), Unfinished::NONE, out, now)
        });
        let verdict = result.unwrap_or_else(|refused| {
            out.truncate(before);
            if let Some(error) = refused.answer
                && originate::may_answer_v4(&packet)
                && self.limiter.admit(packet.source(), Direction::V4ToV6, now)
            {
                // The error comes from the address that the packet was sent to.
                let (source, destination) = (packet.destination(), packet.source());
                let identification = self.identifications.next(source, destination, icmpv4::PROTOCOL);
                let quoted = self.quoted(bytes, Layout::of_v4(&packet), unfinished);
                originate::emit_v4(error, source, destination, identification, quoted, out);
            }
            Verdict::Dropped(refused.reason)
        });
        self.count(verdict, unfinished.on_the_wire(bytes.len(), || Layout::of_v4(&packet)));
        verdict
    }

    /// RFC 6146 section 3 for a packet from IPv6, step by step.
    fn v6_to_v4(
        &mut self,
        packet: &Ipv6Packet<'_>,
        identification: Option<u16>,
        reassembled_from: Option<u32>,
        unfinished: Unfinished,
        out: &mut Transmit,
        now: Instant,
    ) -> Result<Verdict, Refused> {
        let (server, pref64, prefix) = self.admit_v6(packet)?;
        // 3.4 Determining the Incoming Tuple
        let incoming = tuple::incoming_v6(packet, server, pref64)?;
        let turns_back = self.admit_server(&incoming)?;
        // 3.5 Filtering and Updating Binding and Session Information
        let passage = self.filter_and_update_v6(&incoming, packet, now).map_err(answer::refused_session_v6)?;
        let binding = passage.binding;
        if self.prefixes.are_several() && matches!(incoming, Incoming::Packet(_)) {
            self.tables.sessions.remember(incoming.tuple(), prefix);
        }
        // 3.6 Computing the Outgoing Tuple
        let tuple = incoming.tuple();
        let flow = tuple::outgoing_v4(tuple.protocol, binding.mapped, tuple.server);
        // 3.7 Translating the Packet
        let count = unfinished.count(packet.upper_length());
        let identification = identification
            .unwrap_or_else(|| self.identifications.take(flow.source, flow.destination, packet.protocol(), count));
        let egress = if turns_back {
            hairpin::egress(self.mtus, self.policy, identification, reassembled_from, unfinished)
        } else {
            v6_to_v4::Egress { mtus: self.mtus, policy: self.policy, identification, reassembled_from, unfinished }
        };
        let mut turned = turns_back.then(|| core::mem::take(&mut self.turned));
        let towards = turned.as_mut().unwrap_or(&mut *out);
        let translated = match incoming {
            Incoming::Packet(_) => v6_to_v4::translate(packet, &flow, &egress, towards),
            Incoming::Error(tuple) => {
                let quoted = tuple::quoted_flow_v4(&tuple, &binding);
                v6_to_v4::translate_error(packet, &flow, &quoted, &egress, towards)
            }
        }
        .map_err(answer::refused_v6);
        // 3.8 Handling Hairpinning
        let verdict = match turned {
            None => translated.map(|()| Verdict::Translated(Direction::V6ToV4)),
            Some(turned) => self.turn_back(translated, turned, out, now),
        }?;
        if matches!(incoming, Incoming::Packet(_)) && !turns_back {
            self.tables.passed(&passage, Direction::V6ToV4);
        }
        let length = ipv6::HEADER + usize::from(packet.payload_length());
        self.tables.account(&passage, Direction::V6ToV4, unfinished.on_the_wire(length, || Layout::of_v6(packet)));
        Ok(verdict)
    }

    /// RFC 6146 section 3 for a packet from IPv4, step by step.
    fn v4_to_v6(
        &mut self,
        packet: &Ipv4Packet<'_>,
        mtus: Mtus,
        reassembled_from: Option<u32>,
        unfinished: Unfinished,
        out: &mut Transmit,
        now: Instant,
    ) -> Result<Verdict, Refused> {
        // 3.4 Determining the Incoming Tuple
        let incoming = tuple::incoming_v4(packet)?;
        // 3.5 Filtering and Updating Binding and Session Information
        let Some(passage) = self.filter_and_update_v4(&incoming, packet, now)? else { return Ok(Verdict::Held) };
        let binding = passage.binding;
        // 3.6 Computing the Outgoing Tuple
        let tuple = incoming.tuple();
        let pref64 = self.prefix(tuple).ok_or(Reason::NotOperational)?;
        let mut flow = tuple::outgoing_v6(tuple.protocol, tuple.server, binding.client, pref64);
        // 3.7 Translating the Packet
        let egress = v4_to_v6::Egress { mtus, policy: self.policy, reassembled_from, unfinished };
        let translated = match incoming {
            Incoming::Packet(_) => v4_to_v6::translate(packet, &flow, &egress, out),
            Incoming::Error(tuple) => {
                flow.source = admission::error_source(packet.source(), pref64, &self.tables.pool, self.router_v6);
                let quoted = tuple::quoted_flow_v6(&tuple, &binding, pref64);
                v4_to_v6::translate_error(packet, &flow, &quoted, &egress, out)
            }
        };
        if let Err(Refusal::UdpChecksum) = translated {
            self.tables.events.unchecked(tuple.server, tuple.mapped);
        }
        translated.map_err(answer::refused_v4)?;
        if matches!(incoming, Incoming::Packet(_)) {
            self.tables.passed(&passage, Direction::V4ToV6);
        }
        let wire = unfinished.on_the_wire(packet.total_length().into(), || Layout::of_v4(packet));
        self.tables.account(&passage, Direction::V4ToV6, wire);
        Ok(Verdict::Translated(Direction::V4ToV6))
    }

    fn filter_and_update_v6(
        &mut self,
        incoming: &Incoming<TupleV6>,
        packet: &Ipv6Packet<'_>,
        now: Instant,
    ) -> Result<Passage, Reason> {
        match (incoming, incoming.tuple().protocol) {
            (Incoming::Error(tuple), _) => icmp::find_error_v6(&self.tables, tuple, packet),
            (Incoming::Packet(tuple), Protocol::Tcp) => {
                tcp::update_v6(&mut self.tables, tuple, Segment::parse(packet.upper())?, now)
            }
            (Incoming::Packet(tuple), Protocol::Udp) => udp::update_v6(&mut self.tables, tuple, now),
            (Incoming::Packet(tuple), Protocol::Icmp) => icmp::update_v6(&mut self.tables, tuple, packet, now),
        }
    }

    /// The binding of a packet from IPv4; none for a SYN that waits.
    fn filter_and_update_v4(
        &mut self,
        incoming: &Incoming<TupleV4>,
        packet: &Ipv4Packet<'_>,
        now: Instant,
    ) -> Result<Option<Passage>, Reason> {
        match (incoming, incoming.tuple().protocol) {
            (Incoming::Error(tuple), _) => icmp::find_error_v4(&self.tables, tuple, packet).map(Some),
            (Incoming::Packet(tuple), Protocol::Tcp) => tcp::update_v4(&mut self.tables, tuple, packet, now),
            (Incoming::Packet(tuple), Protocol::Udp) => udp::update_v4(&mut self.tables, tuple, now).map(Some),
            (Incoming::Packet(tuple), Protocol::Icmp) => {
                icmp::update_v4(&mut self.tables, tuple, packet, now).map(Some)
            }
        }
    }

    /// The prefix that a session's server is represented by.
    fn prefix(&self, tuple: &TupleV4) -> Option<Pref64> {
        let session = self.prefixes.are_several().then(|| self.tables.sessions.find_v4(tuple)).flatten();
        self.prefixes.get(session.map_or(0, |index| self.tables.sessions.prefix(index)))
    }

    /// Addresses and hop limit of a packet from IPv6: returns the embedded address and its prefix.
    fn admit_v6(&self, packet: &Ipv6Packet<'_>) -> Result<(Ipv4Addr, Pref64, Position), Refused> {
        if self.prefixes.is_empty() {
            return Err(answer::NOT_OPERATIONAL);
        }
        let (server, pref64, prefix) = self.prefixes.find(packet.destination()).ok_or(Reason::NotForUs)?;
        admission::source_v6(packet.source(), &self.prefixes)?;
        if self.tables.pool.is_empty() {
            return Err(answer::NOT_OPERATIONAL);
        }
        if packet.fragment().is_some_and(|fragment| ipv6::is_extension(fragment.next_header)) {
            return Err(answer::refused_v6(Refusal::FragmentedExtension));
        }
        // A packet that ends here makes no session. The kernel, which forwards what we write, is one more hop, and its
        // Time Exceeded would go to the mapped address, which is the router's own.
        if packet.hop_limit() <= 1 + KERNEL_HOP {
            return Err(answer::refused_v6(Refusal::HopLimit));
        }
        if !self.tables.pool.contains(server) {
            admission::destination_v4(server, pref64, &self.exempted)?;
            admission::excluded(server, &self.excluded)?;
        }
        Ok((server, pref64, prefix))
    }

    /// Addresses and TTL of a packet from IPv4.
    fn admit_v4(&self, packet: &Ipv4Packet<'_>) -> Result<(), Refused> {
        if !self.tables.pool.contains(packet.destination()) {
            return Err(Reason::NotForUs.into());
        }
        admission::source_v4(packet)?;
        // Our own addresses come back by hairpin alone.
        if self.tables.pool.contains(packet.source()) {
            return Err(Reason::InvalidSource.into());
        }
        if packet.ttl() <= 1 {
            return Err(answer::refused_v4(Refusal::HopLimit));
        }
        Ok(())
    }

    /// Whether the server is one of our mapped addresses, so that the packet turns back.
    fn admit_server(&self, incoming: &Incoming<TupleV6>) -> Result<bool, Refused> {
        let TupleV6 { protocol, server, .. } = *incoming.tuple();
        if !self.tables.pool.contains(server.address) {
            return Ok(false);
        }
        // What else listens on that address is the router's own business.
        let is_ours = protocol == Protocol::Icmp
            || self.tables.pool.owns(server)
            || self.tables.bib.is_published(protocol, server);
        if is_ours { Ok(true) } else { Err(answer::OWN_ADDRESS) }
    }

    /// RFC 6146 section 3.8: what is in `turned` comes back as if from IPv4.
    fn turn_back(
        &mut self,
        translated: Result<(), Refused>,
        mut turned: Transmit,
        out: &mut Transmit,
        now: Instant,
    ) -> Result<Verdict, Refused> {
        let verdict = translated.and_then(|()| self.hairpin(&turned, out, now));
        turned.clear();
        self.turned = turned;
        verdict
    }

    fn count(&mut self, verdict: Verdict, wire: Traffic) {
        let mut pass = |direction: Direction| {
            let traffic = &mut self.traffic[direction as usize];
            traffic.packets += wire.packets;
            traffic.bytes += wire.bytes;
        };
        match verdict {
            Verdict::Translated(direction) => pass(direction),
            Verdict::Hairpinned => {
                pass(Direction::V6ToV4);
                pass(Direction::V4ToV6);
            }
            Verdict::Held => {}
            Verdict::Dropped(reason) => self.counters.count(reason),
        }
    }

    /// The mapped address of a client's binding.
    pub fn mapped(&self, protocol: Protocol, client: tuple::TransportV6) -> Option<TransportV4> {
        self.tables.bib.find_client(protocol, client).map(|index| self.tables.bib[index].mapped)
    }
}

fn lans(plan: &Nat64Plan) -> Vec<(Ipv6Net, u32)> {
    plan.fast_path.iter().flat_map(|fast_path| &fast_path.clients).copied().collect()
}

fn mtus(plan: &Nat64Plan) -> Mtus {
    Mtus { v6: plan.mtu_v6.max(ipv6::MINIMUM_MTU), v4: plan.mtu_v4.max(68) }
}

//! BIBs, session tables and pool, kept consistent with one another.
use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::{HashMap, HashSet};

use rand_chacha::ChaCha8Rng;

use super::account::{Accounts, Meter};
use super::bib::{Bib, Binding};
use super::block::Assigned;
use super::echo::PublishedEchoes;
use super::event::{Cause, Events};
use super::expiry::TimerClass;
use super::keyed::Keyed;
use super::pool::{Ask, Pool};
use super::prefixes::Position;
use super::quota::{Free, Quotas, Request};
use super::session::{Session, Sessions};
use super::syn::StoredSyns;
use super::tcp::State;
use super::tuple::{Protocol, TransportV4, TransportV6, TupleV6};
use super::verdict::{Direction, Reason};
use crate::config::{Filtering, Nat64Limits, Nat64Timers};
use crate::plan::{ClientPrefix, Nat64Plan, PublishedEcho, StaticBinding, VmNets};
use crate::status::Traffic;
use crate::time::{Duration, Instant};

/// What a session takes at most, with a binding and a client of its own and with tables that have just grown.
pub const SESSION_BYTES: u32 = 416;

/// What the steps of section 3.5 find for a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    pub(super) binding: Binding,
    /// None for a segment that passes on a binding without a session.
    pub(super) session: Option<u32>,
}

/// What the steps of section 3.5 look up and change.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) accounts: Accounts,
    pub(super) events: Events,
    pub(super) bib: Bib,
    pub(super) sessions: Sessions,
    pub(super) syns: StoredSyns,
    pub(super) quotas: Quotas,
    pub(super) pool: Pool,
    pub(super) echo: PublishedEchoes,
    /// The operator's bindings, as they were wanted.
    pub(super) wanted: (Vec<StaticBinding>, Vec<PublishedEcho>),
    /// Addresses that published hosts are known by, and that their own sessions come from.
    pub(super) homes: HashMap<Ipv6Addr, Ipv4Addr, Keyed>,
    pub(super) filtering: Filtering,
    pub(super) timers: Nat64Timers,
    pub(super) max_sessions: u32,
    pub(super) random: ChaCha8Rng,
}

impl Tables {
    pub(super) fn new(keyed: Keyed, plan: &Nat64Plan, random: ChaCha8Rng) -> Self {
        let mut tables = Self {
            accounts: Accounts::new(keyed, &plan.vms),
            events: Events::new(plan.events),
            bib: Bib::new(keyed),
            sessions: Sessions::new(keyed),
            syns: StoredSyns::new(keyed),
            quotas: Quotas::new(keyed, plan.limits, &plan.clients),
            pool: Pool::new(keyed),
            echo: PublishedEchoes::new(keyed),
            wanted: (Vec::new(), Vec::new()),
            homes: HashMap::with_hasher(keyed),
            filtering: plan.filtering,
            timers: plan.timers,
            max_sessions: plan.max_sessions,
            random,
        };
        tables.resize_pool(plan);
        tables.publish(&plan.static_bindings, &plan.published_echo);
        tables
    }

    /// RFC 6146 sections 3.5.1 to 3.5.3: a session for a packet from IPv6, on the client's binding or on a new one.
    pub(super) fn open_v6(
        &mut self,
        tuple: &TupleV6,
        state: State,
        class: TimerClass,
        now: Instant,
    ) -> Result<Passage, Reason> {
        let opened = self.try_open_v6(tuple, state, class, now);
        if let Err(reason) = opened {
            self.events.refused(tuple.protocol, tuple.client, reason);
        }
        opened
    }

    fn try_open_v6(
        &mut self,
        tuple: &TupleV6,
        state: State,
        class: TimerClass,
        now: Instant,
    ) -> Result<Passage, Reason> {
        let existing = self.bib.find_client(tuple.protocol, tuple.client);
        self.quotas.admit(self.request(tuple.protocol, tuple.client.address, existing.is_none()), now)?;
        let binding = match existing {
            Some(binding) => binding,
            None => {
                let client = tuple.client.address;
                let home = self.homes.get(&client).copied().or_else(|| self.accounts.home(client));
                let owner = self.quotas.site(client);
                let ask = Ask { protocol: tuple.protocol, client: tuple.client, owner, home };
                let (mapped, block) = self.pool.allocate(ask, &mut self.random, now)?;
                if let Some(block) = block {
                    self.events.block_assigned(&block);
                }
                self.bind(tuple.protocol, tuple.client, mapped, Cause::Inside)
            }
        };
        Ok(self.open(binding, tuple.server, (state, class), Cause::Inside, now))
    }

    /// RFC 6146 sections 3.5.1 to 3.5.3: a session for a packet from IPv4 that the filter has admitted.
    pub(super) fn open_v4(
        &mut self,
        binding: u32,
        server: TransportV4,
        state: State,
        class: TimerClass,
        now: Instant,
    ) -> Result<Passage, Reason> {
        let Binding { protocol, client, .. } = self.bib[binding];
        self.quotas.admit_from_outside(self.request(protocol, client.address, false))?;
        Ok(self.open(binding, server, (state, class), Cause::Outside, now))
    }

    /// Ends a session, and its binding if it was the last one.
    pub(super) fn end(&mut self, index: u32, cause: Cause) {
        let traffic = self.sessions.traffic(index);
        let session = self.sessions.remove(index);
        self.events.session_removed(&session, cause, traffic);
        let binding = &mut self.bib[session.binding];
        binding.sessions -= 1;
        if binding.sessions == 0 && !binding.is_static {
            let binding = self.bib.remove(session.binding);
            if let Some(block) = self.pool.release(binding.protocol, binding.mapped, self.events.now) {
                self.events.block_released(&block);
            }
            self.quotas.remove_binding(binding.client.address, binding.protocol);
            self.accounts.release(binding.account);
            self.events.binding_removed(&binding, cause);
        }
        self.quotas.remove(session.client.address);
    }

    /// Ends the sessions whose lifetime is over, up to a connection that is to be probed before that; none of these if
    /// there is no `room` for a probe.
    pub(super) fn expire(&mut self, now: Instant, room: usize) -> Option<(Session, Position)> {
        self.pool.expire(now);
        while let Some(index) = self.sessions.expired(&self.timers, now) {
            if self.sessions.ask_fast_path(index) {
                continue;
            }
            let session = self.sessions[index];
            if session.protocol != Protocol::Tcp || session.state != State::Established {
                self.end(index, Cause::of_end(session.state));
                continue;
            }
            if room == 0 {
                return None;
            }
            // RFC 6146 section 3.5.2.2, ESTABLISHED: a probe, and TCP_TRANS for the answer.
            self.sessions.update(index, State::Trans, Some(TimerClass::TcpTrans), now);
            return Some((session, self.sessions.prefix(index)));
        }
        None
    }

    /// Ends the sessions that `is_gone` names.
    pub(super) fn end_where(&mut self, is_gone: impl Fn(&Session) -> bool) {
        let gone: Vec<u32> =
            self.sessions.iter().filter(|(_, session)| is_gone(session)).map(|(index, _)| index).collect();
        for index in gone {
            self.end(index, Cause::Gone);
        }
    }

    /// Ends the sessions that `is_gone` names, told under which prefix each is.
    pub(super) fn end_where_under(&mut self, is_gone: impl Fn(&Session, Position) -> bool) {
        let sessions = &self.sessions;
        let gone = sessions.iter().filter(|(index, session)| is_gone(session, sessions.prefix(*index)));
        let gone: Vec<u32> = gone.map(|(index, _)| index).collect();
        for index in gone {
            self.end(index, Cause::Gone);
        }
    }

    /// Takes over other limits, and counts what everybody has.
    pub(super) fn recount(&mut self, limits: Nat64Limits, clients: &[ClientPrefix], vms: &[VmNets]) {
        self.accounts.replace(vms);
        for binding in self.bib.iter_mut() {
            binding.account = self.accounts.open(binding.client.address);
            let (account, address) = (binding.account, binding.mapped.address);
            self.accounts.settle(account, address, |home| self.pool.contains(home));
        }
        self.echo.reopen(&mut self.accounts);
        self.quotas.replace(limits, clients);
        for (_, session) in self.sessions.iter() {
            self.quotas.add(session.client.address);
        }
        for (_, binding) in self.bib.iter().filter(|(_, binding)| !binding.is_static) {
            self.quotas.add_binding(binding.client.address, binding.protocol);
        }
    }

    /// Takes over the pool's addresses and shares, and for how long ports are held back.
    pub(super) fn resize_pool(&mut self, plan: &Nat64Plan) {
        self.pool.hold_back(plan.timers.port_hold, plan.limits.held_ports);
        self.pool.replace(plan.shares(), plan.port_block);
    }

    /// Finds out anew who has which block. Where two clients have ports of the same one, the sessions of the second end.
    pub(super) fn adopt_blocks(&mut self, before: &HashSet<Assigned>) {
        let Self { bib, quotas, pool, .. } = self;
        let dynamic = bib.iter().filter(|(_, binding)| !binding.is_static);
        let strangers: Vec<u32> = dynamic
            .filter(|(_, binding)| !pool.adopt(binding.mapped, quotas.site(binding.client.address)))
            .map(|(index, _)| index)
            .collect();
        if !strangers.is_empty() {
            let strangers: HashSet<u32> = strangers.into_iter().collect();
            self.end_where(|session| strangers.contains(&session.binding));
        }
        let after = self.pool.assigned();
        before.difference(&after).for_each(|block| self.events.block_released(block));
        after.difference(before).for_each(|block| self.events.block_assigned(block));
    }

    fn request(&self, protocol: Protocol, client: Ipv6Addr, needs_binding: bool) -> Request {
        let sessions = u64::from(self.max_sessions).saturating_sub(self.sessions.len() as u64);
        let ports = self.pool.free(protocol);
        Request { client, protocol, needs_binding, free: Free { sessions, ports } }
    }

    /// A binding for a port that is taken from the pool.
    pub(super) fn bind(&mut self, protocol: Protocol, client: TransportV6, mapped: TransportV4, cause: Cause) -> u32 {
        self.quotas.add_binding(client.address, protocol);
        let account = self.accounts.open(client.address);
        self.accounts.settle(account, mapped.address, |home| self.pool.contains(home));
        let binding = Binding { protocol, client, mapped, sessions: 0, is_static: false, account };
        self.events.binding_created(&binding, cause);
        self.bib.insert(binding)
    }

    /// A session on a binding.
    pub(super) fn open(
        &mut self,
        index: u32,
        server: TransportV4,
        (state, class): (State, TimerClass),
        cause: Cause,
        now: Instant,
    ) -> Passage {
        let binding = &mut self.bib[index];
        binding.sessions += 1;
        let binding = *binding;
        self.quotas.add(binding.client.address);
        let (protocol, client, mapped) = (binding.protocol, binding.client, binding.mapped);
        let meters = [Meter::default(); 2];
        let session = Session { protocol, state, binding: index, client, mapped, server, meters };
        self.events.session_created(&session, cause);
        Passage { binding, session: Some(self.sessions.insert(session, class, now)) }
    }

    /// How long an established session may be idle.
    pub(super) const fn lifetime(&self, protocol: Protocol) -> Duration {
        State::Established.class(protocol).lifetime(&self.timers)
    }

    /// What a packet of that session finds.
    pub(super) fn passage(&self, index: u32) -> Passage {
        Passage { binding: self.bib[self.sessions[index].binding], session: Some(index) }
    }

    /// A packet of a session, or of a binding alone, has passed.
    pub(super) fn account(&mut self, passage: &Passage, direction: Direction, wire: Traffic) {
        if let Some(session) = passage.session {
            self.sessions.meter(session, direction, wire);
        }
        self.accounts.charge(passage.binding.account, direction, wire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat64::{expiry, quota, session};

    #[test]
    fn a_session_takes_no_more_than_it_is_reckoned_at() {
        // Slabs mark free places; lists double when they are full, and so do hash tables at seven eighths.
        let listed = |size: usize| 2 * (size + 4);
        let hashed = |size: usize| 2 * (size + 1) * 8 / 7;
        let session =
            listed(size_of::<Session>()) + listed(expiry::NODE_SIZE) + 2 * hashed(4) + hashed(session::PEER_SIZE);
        let binding = listed(size_of::<Binding>()) + 2 * hashed(4);
        // Which prefix it is, where there are several.
        let session = session + 2 * size_of::<Position>();
        let bytes = session + binding + hashed(quota::ENTRY_SIZE);
        assert!(bytes <= SESSION_BYTES as usize, "{bytes}");
    }
}

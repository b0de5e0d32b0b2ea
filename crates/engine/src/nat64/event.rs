//! What the translator tells of its tables, for a log: the events of RFC 8158.
use core::net::Ipv4Addr;
use std::collections::VecDeque;

use ipnet::Ipv6Net;

use super::bib::Binding;
use super::block::Assigned;
use super::session::Session;
use super::tcp::State;
use super::tuple::{Protocol, TransportV4, TransportV6};
use super::verdict::Reason;
use crate::status::Traffic;
use crate::time::{Duration, Instant};

/// Events that may wait to be [polled](super::Nat64::poll_event); what comes then is counted and lost.
pub const MAX_EVENTS: usize = 65_536;
/// How often it is told that there is nothing left to give, and that a datagram was dropped.
const REFUSAL_EVERY: Duration = Duration::from_secs(1);

/// Which events are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// None.
    #[default]
    Nothing,
    /// Blocks of ports, and that something has run out.
    Blocks,
    /// Bindings, and that something has run out. RFC 6888 REQ-12: no word of whom a client talks to.
    Bindings,
    /// Sessions as well.
    Sessions,
}

/// Something that happened to the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// What.
    pub kind: EventKind,
}

/// What happened; [`Self::nat_event`] is RFC 8158's number for it, where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A client got a port or identifier.
    BindingCreated(BoundTo, Cause),
    /// A port or identifier is free again.
    BindingRemoved(BoundTo, Cause),
    /// A client and a server talk.
    SessionCreated(BoundTo, TransportV4, Cause),
    /// They no longer do; and how much they said, from IPv6 and from IPv4.
    SessionRemoved(BoundTo, TransportV4, Cause, [Traffic; 2]),
    /// A client got a block of ports.
    BlockAssigned(PortBlock),
    /// It has none of its ports in use any more.
    BlockReleased(PortBlock),
    /// A client was refused, for this reason.
    Refused(Protocol, TransportV6, Reason),
    /// RFC 7915 section 4.5: a datagram from IPv4 had no checksum and was dropped; from whom to which mapped address.
    Unchecked(TransportV4, TransportV4),
}

/// A row of ports that one client has of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortBlock {
    /// Whose: a VM with its containers, or a prefix.
    pub client: Ipv6Net,
    /// On which address.
    pub address: Ipv4Addr,
    /// The first port.
    pub port: u16,
    /// How many.
    pub count: u16,
}

/// The two ends of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundTo {
    /// Whose tables.
    pub protocol: Protocol,
    /// (X',x)
    pub client: TransportV6,
    /// (T,t)
    pub mapped: TransportV4,
}

/// Why something came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A packet from inside.
    Inside,
    /// A packet from outside.
    Outside,
    /// It was saved by the daemon that ran before.
    Restored,
    /// Its lifetime was over.
    Expired,
    /// A FIN came from either side, and the time after that was over.
    Closed,
    /// An RST came, or nobody answered the probe, and the time after that was over.
    Aborted,
    /// The configuration or the uplink changed: the address, the port or the prefix is no longer ours.
    Gone,
}

impl Cause {
    /// A word for the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Outside => "outside",
            Self::Restored => "restored",
            Self::Expired => "expired",
            Self::Closed => "closed",
            Self::Aborted => "aborted",
            Self::Gone => "gone",
        }
    }

    /// Why a session in this state has ended when its lifetime is over.
    pub(super) const fn of_end(state: State) -> Self {
        match state {
            State::V6FinV4FinRcv => Self::Closed,
            State::Trans => Self::Aborted,
            State::V4Init | State::V6Init | State::Established | State::V4FinRcv | State::V6FinRcv => Self::Expired,
        }
    }
}

impl EventKind {
    /// RFC 8158 section 5.3, natEvent.
    pub const fn nat_event(&self) -> Option<u8> {
        Some(match self {
            Self::SessionCreated(..) => 6,
            Self::SessionRemoved(..) => 7,
            Self::BindingCreated(..) => 10,
            Self::BindingRemoved(..) => 11,
            Self::BlockAssigned(_) => 16,
            Self::BlockReleased(_) => 17,
            Self::Refused(_, _, Reason::PoolExhausted) => 12,
            Self::Refused(..) => 13,
            Self::Unchecked(..) => return None,
        })
    }

    /// A word for the log.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SessionCreated(..) => "session-created",
            Self::SessionRemoved(..) => "session-removed",
            Self::BindingCreated(..) => "binding-created",
            Self::BindingRemoved(..) => "binding-removed",
            Self::BlockAssigned(_) => "block-assigned",
            Self::BlockReleased(_) => "block-released",
            Self::Refused(_, _, Reason::PoolExhausted) => "ports-exhausted",
            Self::Refused(..) => "quota-exceeded",
            Self::Unchecked(..) => "udp-without-checksum",
        }
    }
}

/// Events that wait.
#[derive(Debug)]
pub(super) struct Events {
    wanted: Wanted,
    /// When what is handled now happens.
    pub(super) now: Instant,
    waiting: VecDeque<Event>,
    lost: u64,
    /// When a shortage may be told again.
    shortage: Instant,
    /// When a datagram that was dropped may be told again.
    unchecked: Instant,
}

impl Events {
    pub(super) const fn new(wanted: Wanted) -> Self {
        let now = Instant::ZERO;
        Self { wanted, now, waiting: VecDeque::new(), lost: 0, shortage: now, unchecked: now }
    }

    /// Takes over what is wanted. What waits has happened, and is told.
    pub(super) const fn want(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    pub(super) fn block_assigned(&mut self, block: &Assigned) {
        if self.wanted != Wanted::Nothing {
            self.push(EventKind::BlockAssigned(block.into()));
        }
    }

    pub(super) fn block_released(&mut self, block: &Assigned) {
        if self.wanted != Wanted::Nothing {
            self.push(EventKind::BlockReleased(block.into()));
        }
    }

    pub(super) fn binding_created(&mut self, binding: &Binding, cause: Cause) {
        if matches!(self.wanted, Wanted::Bindings | Wanted::Sessions) {
            self.push(EventKind::BindingCreated(binding.into(), cause));
        }
    }

    pub(super) fn binding_removed(&mut self, binding: &Binding, cause: Cause) {
        if matches!(self.wanted, Wanted::Bindings | Wanted::Sessions) {
            self.push(EventKind::BindingRemoved(binding.into(), cause));
        }
    }

    pub(super) fn session_created(&mut self, session: &Session, cause: Cause) {
        if self.wanted == Wanted::Sessions {
            self.push(EventKind::SessionCreated(session.into(), session.server, cause));
        }
    }

    pub(super) fn session_removed(&mut self, session: &Session, cause: Cause, traffic: [Traffic; 2]) {
        if self.wanted == Wanted::Sessions {
            self.push(EventKind::SessionRemoved(session.into(), session.server, cause, traffic));
        }
    }

    /// A client got nothing. A flood of such is told once a second; the counters tell how many there were.
    pub(super) fn refused(&mut self, protocol: Protocol, client: TransportV6, reason: Reason) {
        if self.wanted != Wanted::Nothing && self.shortage <= self.now {
            self.shortage = self.now + REFUSAL_EVERY;
            self.push(EventKind::Refused(protocol, client, reason));
        }
    }

    /// A datagram without a checksum was dropped. A flood of such is told once a second, too.
    pub(super) fn unchecked(&mut self, source: TransportV4, mapped: TransportV4) {
        if self.wanted != Wanted::Nothing && self.unchecked <= self.now {
            self.unchecked = self.now + REFUSAL_EVERY;
            self.push(EventKind::Unchecked(source, mapped));
        }
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        self.waiting.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many found no room.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    fn push(&mut self, kind: EventKind) {
        if self.waiting.len() >= MAX_EVENTS {
            self.lost += 1;
        } else {
            self.waiting.push_back(Event { at: self.now, kind });
        }
    }
}

impl From<&Binding> for BoundTo {
    fn from(binding: &Binding) -> Self {
        Self { protocol: binding.protocol, client: binding.client, mapped: binding.mapped }
    }
}

impl From<&Assigned> for PortBlock {
    fn from(block: &Assigned) -> Self {
        Self { client: block.client.net(), address: block.address, port: block.port, count: block.count }
    }
}

impl From<&Session> for BoundTo {
    fn from(session: &Session) -> Self {
        Self { protocol: session.protocol, client: session.client, mapped: session.mapped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: TransportV6 = TransportV6 { address: core::net::Ipv6Addr::LOCALHOST, port: 7 };

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut events = Events::new(Wanted::Bindings);
        for second in 0..=MAX_EVENTS as u64 {
            events.now = Instant::ZERO + Duration::from_secs(second);
            events.refused(Protocol::Tcp, CLIENT, Reason::PoolExhausted);
        }
        assert_eq!(events.lost(), 1);
        assert!(events.pop().is_some());
        events.now = events.now + REFUSAL_EVERY;
        events.refused(Protocol::Tcp, CLIENT, Reason::PoolExhausted);
        assert_eq!(events.lost(), 1, "there is room again");
    }

    #[test]
    fn a_shortage_is_told_once_a_second_and_only_if_wanted() {
        let mut events = Events::new(Wanted::Nothing);
        events.refused(Protocol::Tcp, CLIENT, Reason::PoolExhausted);
        assert!(events.is_empty());
        events.want(Wanted::Bindings);
        for _ in 0..3 {
            events.refused(Protocol::Tcp, CLIENT, Reason::ClientSessionLimit);
        }
        assert_eq!(events.pop().map(|event| event.kind.nat_event()), Some(Some(13)));
        assert!(events.is_empty());
    }
}

//! An nftables ruleset as a value: what `linux` loads in one transaction and golden tests print.
use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;

use ipnet::{Ipv4Net, Ipv6Net};

/// One `inet` table with its chains. Loading it replaces the table of that name and touches no other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ruleset {
    /// Table name.
    pub table: String,
    /// Sets that rules look into.
    pub sets: Vec<NamedSet>,
    /// Sets of IPv6 addresses that somebody else fills, and whose elements go by themselves.
    pub timed: Vec<String>,
    /// Chains, base chains and others, in order.
    pub chains: Vec<Chain>,
}

impl Ruleset {
    /// Whether rules put addresses into that timed set.
    pub fn remembers(&self, set: &str) -> bool {
        let mut statements = self.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.statements);
        statements.any(|statement| matches!(statement, Statement::Remember(name) if name == set))
    }

    /// The sets that rules fill by themselves.
    pub fn meters(&self) -> impl Iterator<Item = &Meter> {
        let matches = self.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.matches);
        matches.filter_map(|condition| match condition {
            Match::Over(meter) => Some(meter),
            _ => None,
        })
    }
}

/// A set whose elements come and go without its rules being touched. Each element has a counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NamedSet {
    /// Name.
    pub name: String,
    /// What of a packet is looked for, together.
    pub fields: Vec<SetField>,
    /// Whether single addresses and ports are in it, or prefixes and ranges as well, for which looking is dearer.
    pub holds: Holds,
    /// What is found; no packet has two of them.
    pub elements: Vec<Element>,
}

/// What elements may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Holds {
    /// Single values: a look takes as long in a large set as in a small one.
    #[default]
    Single,
    /// Prefixes and ranges.
    Ranges,
}

/// What of a packet is looked for in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetField {
    /// Source IPv6 address.
    Source6,
    /// Destination IPv6 address.
    Destination6,
    /// Destination port of TCP; no other packet is found.
    TcpPort,
    /// Destination port of UDP; no other packet is found.
    UdpPort,
    /// `meta l4proto`.
    Protocol,
}

/// An element: a value for each field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Element {
    /// Values in the fields' order.
    pub parts: Vec<Part>,
    /// Comment, for people and for counters.
    pub comment: String,
}

/// Value of a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// An address in this prefix.
    Net(Ipv6Net),
    /// A port of these.
    Ports(RangeInclusive<u16>),
    /// This protocol.
    Protocol(u8),
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Name.
    pub name: String,
    /// Where it hooks in; absent for a chain that is jumped to.
    pub hook: Option<Hook>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// Where a base chain hooks in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hook {
    /// Netfilter hook.
    pub point: HookPoint,
    /// Priority, e.g. -300 raw, -150 mangle, 0 filter.
    pub priority: i32,
    /// What happens to what no rule decided.
    pub policy: Policy,
    /// What its rules do.
    pub kind: HookKind,
}

/// What a base chain's rules do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookKind {
    /// They judge packets.
    Filter,
    /// They translate addresses of a connection's first packet.
    Nat,
}

/// Netfilter hooks of the inet family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub enum HookPoint {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// A base chain's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub enum Policy {
    Accept,
    Drop,
}

/// A rule: all matches hold, then the statements run in order.
#[derive(Clone, Debug, PartialEq, Eq, Default, Hash)]
pub struct Rule {
    /// Conditions.
    pub matches: Vec<Match>,
    /// What is done.
    pub statements: Vec<Statement>,
    /// Comment, at most 127 bytes; it names the configuration's line or the RFC.
    pub comment: String,
}

/// A condition. Lists mean "any of".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// Input interface is one of these names.
    InputInterface(Vec<String>),
    /// Output interface is one of these names.
    OutputInterface(Vec<String>),
    /// Packet is IPv4 or IPv6 (`meta nfproto`).
    Family(crate::plan::Family),
    /// Source IPv4 address lies in one of these.
    Source4(Vec<Ipv4Net>),
    /// Destination IPv4 address lies in one of these.
    Destination4(Vec<Ipv4Net>),
    /// Source IPv6 address lies in one of these.
    Source6(Vec<Ipv6Net>),
    /// Destination IPv6 address lies in one of these.
    Destination6(Vec<Ipv6Net>),
    /// `meta l4proto` is one of these.
    Protocol(Vec<u8>),
    /// Destination port (TCP, UDP, ...) lies in one of these; a `Protocol` match precedes it.
    DestinationPort(Vec<RangeInclusive<u16>>),
    /// Source port (TCP, UDP) lies in one of these; a `Protocol` match precedes it.
    SourcePort(Vec<RangeInclusive<u16>>),
    /// Destination IPv6 address is in the timed set of that name.
    InTimedSet(String),
    /// ICMP type is one of these; a `Protocol` match precedes it.
    IcmpType(Vec<u8>),
    /// ICMPv6 type is one of these; a `Protocol` match precedes it.
    Icmpv6Type(Vec<u8>),
    /// IPv6 hop limit equals.
    HopLimit(u8),
    /// Bits of an IPv6 header; a chain that other packets do not reach is to have it, since it asks for no family.
    HeaderBits(HeaderBits),
    /// A TCP segment that does not open a connection: another one than SYN without RST and ACK; a `Protocol` match
    /// precedes it.
    OpensNothing,
    /// An IPv6 packet that names its own way (RFC 5095: a routing header of type 0).
    SourceRouted,
    /// Conntrack state is one of these.
    ConntrackState(Vec<ConntrackState>),
    /// `meta mark & mask == value`.
    Mark {
        /// Value after masking.
        value: u32,
        /// Mask.
        mask: u32,
    },
    /// What these fields say is in the set of that name.
    InSet {
        /// The set.
        set: String,
        /// Its fields.
        fields: Vec<SetField>,
    },
    /// `ct mark & mask == value`.
    ConnectionMark {
        /// Value after masking.
        value: u32,
        /// Mask.
        mask: u32,
    },
    /// The connections that have come so far, and are there, are no more than these.
    ConnectionsUnder(u32),
    /// The source is over its limit, by its own state in a set that the kernel fills.
    Over(Meter),
    /// The time is before so many seconds since 1970 (`meta time`).
    Before(u64),
    /// The connection's destination was translated (`ct status dnat`).
    Translated,
    /// `fib daddr type local`.
    DestinationIsLocal,
    /// At most this many a second (token bucket, burst as given); matches while under the limit.
    RateUnder {
        /// Packets a second.
        per_second: u64,
        /// Bucket size.
        burst: u32,
    },
}

/// Bits in one word of an IPv6 packet's header, compared without a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeaderBits {
    /// Octets from the header's beginning.
    pub offset: u8,
    /// 1, 2 or 4 of them.
    pub octets: u8,
    /// The bits that count.
    pub mask: u32,
    /// What they are, or are not.
    pub value: u32,
    /// Whether they are this value.
    pub is_equal: bool,
}

impl HeaderBits {
    /// Whether every bit counts.
    pub const fn is_whole(&self) -> bool {
        self.mask.count_ones() == 8 * self.octets as u32
    }
}

/// A limit for each of many sources. At most 65,535 of them are told apart; others are not limited.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Meter {
    /// Name of the set; it is made with the rule.
    pub set: String,
    /// What tells sources apart.
    pub key: MeterKey,
    /// What each may have.
    pub limit: MeterLimit,
}

/// What tells sources apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MeterKey {
    /// Source hardware address.
    Hardware,
    /// The first 64 bits of the source IPv6 address.
    Source6,
    /// Source IPv4 address.
    Source4,
}

/// What each source may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MeterLimit {
    /// So many connections at a time.
    Connections(u32),
    /// So many packets a second, with a bucket.
    PerSecond {
        /// Packets a second.
        rate: u32,
        /// Bucket size.
        burst: u32,
    },
}

/// Conntrack states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub enum ConntrackState {
    Invalid,
    Established,
    Related,
    New,
    Untracked,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Statement {
    /// An anonymous counter in place.
    Counter,
    /// Set bits of the packet's mark: `mark = mark & !mask | value`.
    SetMark {
        /// Value.
        value: u32,
        /// Mask.
        mask: u32,
    },
    /// No connection tracking for this packet.
    Notrack,
    /// Continue in another chain, then come back.
    Jump(String),
    /// Continue in another chain for good.
    Goto(String),
    /// Tell of the packet under this prefix, on [`super::LOG_GROUP`].
    Log(String),
    /// The source becomes the outgoing link's address, with one of these ports where they are given.
    Masquerade(Option<RangeInclusive<u16>>),
    /// The destination becomes this, with this port where it is given.
    Destination(core::net::IpAddr, Option<u16>),
    /// Admit.
    Accept,
    /// The source IPv6 address is put into the timed set of that name, or stays there for its whole time again.
    Remember(String),
    /// Drop silently.
    Drop,
    /// Drop with ICMP "administratively prohibited" (`reject with icmpx admin-prohibited`).
    Reject,
    /// Drop a TCP segment and end its connection (`reject with tcp reset`); a `Protocol` match precedes it.
    Reset,
    /// Back to the calling chain.
    Return,
}

/// The address of a host as a one-address prefix.
pub fn host4(address: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::from(address)
}

/// The address of a host as a one-address prefix.
pub fn host6(address: Ipv6Addr) -> Ipv6Net {
    Ipv6Net::from(address)
}

//! Sessions as bytes, so that they survive the daemon: saved on the way out, taken over before anything is allocated.
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use siphasher::sip::SipHasher13;

use super::Nat64;
use super::event::Cause;
use super::hold::Held;
use super::prefixes::Position;
use super::session::Session;
use super::tables::Tables;
use super::tcp::State;
use super::tuple::{Protocol, TransportV4, TransportV6, TupleV6};
use crate::time::Instant;

const MAGIC: [u8; 8] = *b"6g-nat64";
/// Raised whenever the layout changes; another version's sessions are not read.
const VERSION: u32 = 2;
/// Magic, version, hash of the rest, hash of the prefixes, count.
const HEADER: usize = 8 + 4 + 8 + 8 + 4;
/// Bytes of a session, and of ports that are held back.
const RECORD: usize = 40;
/// In the place of a protocol: ports that are held back.
const HELD: u8 = 3;
/// More sessions than the configuration admits are not looked at.
const MAX_RECORDS: usize = 4_000_000;

/// Why saved sessions were refused. Nothing was taken over then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// It does not begin like saved sessions.
    Unknown,
    /// Another version wrote it.
    Version(u32),
    /// It is cut short, was changed, or holds what cannot be.
    Damaged,
    /// The sessions were under another Pref64::/n, or in another list of them.
    Prefix,
    /// It was written at a time that is still to come: the machine has been started anew.
    Clock,
    /// There are sessions already.
    Late,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => out.write_str("these are no saved sessions"),
            Self::Version(version) => write!(out, "version {version} wrote them, this is version {VERSION}"),
            Self::Damaged => out.write_str("they are damaged"),
            Self::Prefix => out.write_str("they were under another NAT64 prefix"),
            Self::Clock => out.write_str("they are from before the machine was started"),
            Self::Late => out.write_str("there are new sessions already"),
        }
    }
}

impl core::error::Error for SnapshotError {}

/// What became of saved sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Taken over.
    pub sessions: u64,
    /// Left out: their address or port is no longer ours, or there is no room.
    pub left_out: u64,
}

/// A session and the time of its last packet.
#[derive(Clone, Copy)]
pub(super) struct Record {
    pub(super) protocol: Protocol,
    pub(super) state: State,
    pub(super) client: TransportV6,
    pub(super) mapped: TransportV4,
    pub(super) server: TransportV4,
    pub(super) prefix: Position,
    pub(super) since: Instant,
}

/// What a record says.
enum Entry {
    Session(Record),
    /// Ports that nobody gets for a while, and since when.
    Held(Held, Instant),
}

impl Entry {
    const fn since(&self) -> Instant {
        match self {
            Self::Session(record) => record.since,
            Self::Held(_, since) => *since,
        }
    }
}

/// Sessions on their way into bytes: table by table would delay packets, so they are taken down in parts.
#[derive(Debug)]
pub struct Saving {
    bytes: Vec<u8>,
    /// The place in the table that comes next.
    next: u32,
}

impl Saving {
    /// The sessions, for [`Nat64::restore`].
    pub fn seal(mut self) -> Vec<u8> {
        let count = (self.bytes.len() - HEADER) / RECORD;
        self.bytes[28..HEADER].copy_from_slice(&(count as u32).to_be_bytes());
        let hash = SipHasher13::new().hash(&self.bytes[20..]);
        self.bytes[..8].copy_from_slice(&MAGIC);
        self.bytes[8..12].copy_from_slice(&VERSION.to_be_bytes());
        self.bytes[12..20].copy_from_slice(&hash.to_be_bytes());
        self.bytes
    }
}

impl Nat64 {
    /// All sessions and the ports that are held back, for [`Self::restore`]. SYNs and fragments that wait are not among them.
    pub fn save(&self) -> Vec<u8> {
        let mut saving = self.begin_save();
        self.save_some(&mut saving, usize::MAX);
        saving.seal()
    }

    /// Nothing yet, and room for the sessions that there are.
    pub fn begin_save(&self) -> Saving {
        // Some may be opened meanwhile.
        let sessions = self.tables.sessions.len();
        let mut bytes = Vec::with_capacity(HEADER + (sessions + sessions / 8) * RECORD);
        bytes.resize(HEADER, 0);
        bytes[20..28].copy_from_slice(&self.hash_of_prefixes());
        Saving { bytes, next: 0 }
    }

    /// Takes down what is in the next so many places of the table; says whether these were the last. Between two calls
    /// sessions may come and go: what contradicts another is left out when they are restored. After
    /// [`Self::reconfigure`] a new [`Saving`] is to be begun.
    pub fn save_some(&self, saving: &mut Saving, places: usize) -> bool {
        let sessions = &self.tables.sessions;
        let end = saving.next.saturating_add(u32::try_from(places).unwrap_or(u32::MAX)).min(sessions.places());
        for (index, session) in sessions.range(saving.next..end) {
            emit(session, sessions.prefix(index), sessions.since(index), &mut saving.bytes);
        }
        saving.next = end;
        let is_last = end == sessions.places();
        if is_last {
            self.tables.pool.held().for_each(|(since, held)| emit_held(held, *since, &mut saving.bytes));
        }
        is_last
    }

    /// Takes over saved sessions with what is left of their lifetimes, before there are any others. The time that has
    /// passed meanwhile counts.
    ///
    /// # Errors
    /// What is not whole and right is refused as a whole.
    pub fn restore(&mut self, bytes: &[u8], now: Instant) -> Result<Restored, SnapshotError> {
        if self.tables.sessions.len() != 0 {
            return Err(SnapshotError::Late);
        }
        let (header, body) = bytes.split_first_chunk::<HEADER>().ok_or(SnapshotError::Unknown)?;
        if header[..8] != MAGIC {
            return Err(SnapshotError::Unknown);
        }
        let version = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let (records, rest) = body.as_chunks::<RECORD>();
        let count = u32::from_be_bytes([header[28], header[29], header[30], header[31]]) as usize;
        let hash = SipHasher13::new().hash(&bytes[20..]).to_be_bytes();
        if header[12..20] != hash || !rest.is_empty() || records.len() != count || count > MAX_RECORDS {
            return Err(SnapshotError::Damaged);
        }
        if header[20..28] != self.hash_of_prefixes() {
            return Err(SnapshotError::Prefix);
        }
        let entries: Vec<Entry> = records.iter().map(parse).collect::<Option<_>>().ok_or(SnapshotError::Damaged)?;
        if entries.iter().any(|entry| entry.since() > now) {
            return Err(SnapshotError::Clock);
        }
        let (mut records, mut held) = (Vec::with_capacity(entries.len()), Vec::new());
        for entry in entries {
            match entry {
                Entry::Session(record) => records.push(record),
                Entry::Held(ports, since) => held.push((ports, since)),
            }
        }
        if records.iter().any(|record| usize::from(record.prefix) >= self.prefixes.nets().len()) {
            return Err(SnapshotError::Damaged);
        }
        self.tables.events.now = now;
        // The queues of the timers are in the order of the last packets.
        records.sort_by_key(|record| record.since);
        let before = self.tables.pool.assigned();
        let room = records.len().min(self.tables.max_sessions as usize);
        self.tables.sessions.reserve(room);
        self.tables.bib.reserve(room);
        let sessions = records.iter().filter(|record| self.tables.take_over(record)).count() as u64;
        // RFC 6888 REQ-8: what was given back shortly before the restart is held back as if there had been none.
        held.sort_by_key(|(_, since)| *since);
        held.into_iter().for_each(|(held, since)| self.tables.pool.hold_again(since, held));
        self.tables.pool.expire(now);
        for block in self.tables.pool.assigned().difference(&before) {
            self.tables.events.block_assigned(block);
        }
        Ok(Restored { sessions, left_out: records.len() as u64 - sessions })
    }

    /// Sessions name a prefix by its place in the list, so that has to be the same.
    fn hash_of_prefixes(&self) -> [u8; 8] {
        let nets = self.prefixes.nets().iter();
        let bytes: Vec<u8> = nets.flat_map(|net| [&net.network().octets()[..], &[net.prefix_len()]].concat()).collect();
        SipHasher13::new().hash(&bytes).to_be_bytes()
    }
}

impl Tables {
    /// Makes a saved session one of ours, if it contradicts none that is.
    pub(super) fn take_over(&mut self, record: &Record) -> bool {
        let Record { protocol, state, client, mapped, server, prefix, since } = *record;
        // Ports are given once, so that who is not there as seen from IPv6 is not there as seen from IPv4 either.
        let is_there = self.sessions.find_v6(&TupleV6 { protocol, client, server }).is_some();
        if is_there || self.sessions.len() >= self.max_sessions as usize {
            return false;
        }
        let binding = match self.bib.find_client(protocol, client) {
            Some(binding) if self.bib[binding].mapped == mapped => binding,
            Some(_) => return false,
            None if self.pool.claim(protocol, mapped, self.quotas.site(client.address)) => {
                self.bind(protocol, client, mapped, Cause::Restored)
            }
            None => return false,
        };
        self.open(binding, server, (state, state.class(protocol)), Cause::Restored, since);
        if prefix != 0 {
            self.sessions.remember(&TupleV6 { protocol, client, server }, prefix);
        }
        true
    }
}

fn emit(session: &Session, prefix: Position, since: Instant, bytes: &mut Vec<u8>) {
    // Protocol and prefix share a byte; there are few of either.
    bytes.extend([session.protocol as u8 | prefix << 2, session.state as u8]);
    bytes.extend(session.client.address.octets());
    bytes.extend(session.client.port.to_be_bytes());
    for end in [session.mapped, session.server] {
        bytes.extend(end.address.octets());
        bytes.extend(end.port.to_be_bytes());
    }
    bytes.extend(since.as_nanos().to_be_bytes());
}

fn emit_held(held: &Held, since: Instant, bytes: &mut Vec<u8>) {
    // Blocks are of no protocol.
    bytes.extend([HELD, held.protocol.map_or(HELD, |protocol| protocol as u8)]);
    bytes.extend([0; 16]);
    bytes.extend(held.count.to_be_bytes());
    bytes.extend(held.address.octets());
    bytes.extend(held.port.to_be_bytes());
    bytes.extend([0; 6]);
    bytes.extend(since.as_nanos().to_be_bytes());
}

fn protocol(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Icmp].into_iter().find(|protocol| *protocol as u8 == number)
}

fn parse(bytes: &[u8; RECORD]) -> Option<Entry> {
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let transport = |at: usize| TransportV4 {
        address: Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]),
        port: port(at + 4),
    };
    let since = Instant::from_nanos(u64::from_be_bytes(*bytes[32..].first_chunk::<8>()?));
    if bytes[0] & 3 == HELD {
        let TransportV4 { address, port: first } = transport(20);
        let of = if bytes[1] == HELD { None } else { Some(protocol(bytes[1])?) };
        return Some(Entry::Held(Held { address, protocol: of, port: first, count: port(18) }, since));
    }
    let protocol = protocol(bytes[0] & 3)?;
    let state = State::ALL.into_iter().find(|it| *it as u8 == bytes[1])?;
    // Only TCP has states.
    if protocol != Protocol::Tcp && state != State::Established {
        return None;
    }
    let address = Ipv6Addr::from(*bytes[2..].first_chunk::<16>()?);
    Some(Entry::Session(Record {
        protocol,
        state,
        client: TransportV6 { address, port: port(18) },
        mapped: transport(20),
        server: transport(26),
        prefix: bytes[0] >> 2,
        since,
    }))
}

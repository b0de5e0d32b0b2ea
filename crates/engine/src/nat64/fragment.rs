//! Fragments are put together before they are translated: RFC 6146 section 3.4, within bounds in number, bytes and time.
use core::net::IpAddr;
use std::collections::{HashMap, VecDeque};

use sixgate_wire::ipv4::{self, Ipv4Header, Ipv4Packet};
use sixgate_wire::ipv6::{self, Fragment, Ipv6Header, Ipv6Packet};

use super::keyed::Keyed;
use super::quota::{Client, is_fair};
use super::verdict::Reason;
use crate::time::{Duration, Instant};

/// Packets that may be incomplete at the same time.
pub(super) const MAX_DATAGRAMS: usize = 512;
/// Bytes that may wait, [`OVERHEAD`] included.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// What a waiting fragment costs beside its bytes.
const OVERHEAD: usize = 64;

/// A packet that became whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reassembled {
    /// The packet, without a Fragment header or with offset and flags zero.
    pub(super) bytes: Vec<u8>,
    /// Identification of its fragments; RFC 7915 section 5.1.1 wants the low-order 16 bits.
    pub(super) identification: u16,
    /// Length of the largest of its fragments, IP header included.
    pub(super) size: u32,
}

/// RFC 791 section 3.2 and RFC 8200 section 4.5: fragments with the same key belong together. IPv6 has no protocol here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    identification: u32,
}

/// What the first fragment says of the whole packet.
#[derive(Clone, Copy, Debug)]
enum Header {
    V6(Ipv6Header),
    V4(Ipv4Header),
}

#[derive(Debug)]
struct Datagram {
    source: Client,
    since: Instant,
    serial: u64,
    header: Option<Header>,
    /// Offsets and bytes, sorted, without overlaps.
    parts: Vec<(usize, Vec<u8>)>,
    /// Length of the whole, once the last fragment is there.
    end: Option<usize>,
    filled: usize,
    cost: usize,
    size: u32,
    /// RFC 5722 section 4: fragments overlapped, and what else comes is discarded as well.
    spoilt: bool,
}

/// Packets that are not whole yet.
#[derive(Debug)]
pub(super) struct Fragments {
    datagrams: HashMap<Key, Datagram, Keyed>,
    order: VecDeque<(u64, Key)>,
    sources: HashMap<Client, Source, Keyed>,
    serial: u64,
    cost: usize,
}

/// What waits of one sender, so that none fills the room alone.
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    datagrams: usize,
    cost: usize,
}

/// A fragment of either family.
struct Piece<'a> {
    key: Key,
    source: Client,
    header: Option<Header>,
    offset: usize,
    more: bool,
    bytes: &'a [u8],
    /// Most bytes that the whole may have.
    room: usize,
    size: u32,
}

impl Fragments {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self {
            datagrams: HashMap::with_hasher(keyed),
            order: VecDeque::new(),
            sources: HashMap::with_hasher(keyed),
            serial: 0,
            cost: 0,
        }
    }

    /// Takes a fragment; returns the packet when it is the last that was missing.
    pub(super) fn insert_v6(
        &mut self,
        packet: &Ipv6Packet<'_>,
        fragment: Fragment<'_>,
        source: Client,
        now: Instant,
    ) -> Result<Option<Reassembled>, Reason> {
        let header = Ipv6Header {
            traffic_class: packet.traffic_class(),
            payload_length: 0,
            next_header: fragment.next_header,
            hop_limit: packet.hop_limit(),
            source: packet.source(),
            destination: packet.destination(),
        };
        self.insert(
            &Piece {
                key: Key {
                    source: packet.source().into(),
                    destination: packet.destination().into(),
                    protocol: 0,
                    identification: fragment.identification,
                },
                source,
                header: (fragment.offset == 0).then_some(Header::V6(header)),
                offset: usize::from(fragment.offset),
                more: fragment.more,
                bytes: fragment.part,
                room: usize::from(u16::MAX),
                size: (ipv6::HEADER + ipv6::FRAGMENT_HEADER + fragment.part.len()) as u32,
            },
            now,
        )
    }

    /// Takes a fragment; returns the packet when it is the last that was missing.
    pub(super) fn insert_v4(&mut self, packet: &Ipv4Packet<'_>, now: Instant) -> Result<Option<Reassembled>, Reason> {
        let header = Ipv4Header {
            tos: packet.tos(),
            total_length: 0,
            identification: packet.identification(),
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            ttl: packet.ttl(),
            protocol: packet.protocol(),
            source: packet.source(),
            destination: packet.destination(),
        };
        self.insert(
            &Piece {
                key: Key {
                    source: packet.source().into(),
                    destination: packet.destination().into(),
                    protocol: packet.protocol(),
                    identification: u32::from(packet.identification()),
                },
                source: packet.source().into(),
                header: (packet.fragment_offset() == 0).then_some(Header::V4(header)),
                offset: packet.fragment_offset() as usize,
                more: packet.more_fragments(),
                bytes: packet.upper(),
                room: usize::from(u16::MAX) - ipv4::HEADER,
                size: (ipv4::HEADER + packet.upper().len()) as u32,
            },
            now,
        )
    }

    /// Drops what stayed incomplete for `lifetime`; returns how many packets that were.
    pub(super) fn expire(&mut self, lifetime: Duration, now: Instant) -> u64 {
        let mut dropped = 0;
        while let Some((serial, key)) = self.order.front().copied() {
            if let Some(datagram) = self.live(serial, &key) {
                if datagram.since + lifetime > now {
                    break;
                }
                self.remove(&key);
                dropped += 1;
            }
            self.order.pop_front();
        }
        dropped
    }

    /// When [`Self::expire`] is due next.
    pub(super) fn next_expiry(&self, lifetime: Duration) -> Option<Instant> {
        let oldest = self.order.iter().find_map(|(serial, key)| self.live(*serial, key));
        oldest.map(|datagram| datagram.since + lifetime)
    }

    fn live(&self, serial: u64, key: &Key) -> Option<&Datagram> {
        self.datagrams.get(key).filter(|datagram| datagram.serial == serial)
    }

    fn insert(&mut self, piece: &Piece<'_>, now: Instant) -> Result<Option<Reassembled>, Reason> {
        let end = piece.offset + piece.bytes.len();
        // RFC 8200 section 4.5: all but the last are multiples of eight bytes long.
        if end > piece.room || piece.bytes.is_empty() || (piece.more && !piece.bytes.len().is_multiple_of(8)) {
            return Err(Reason::FragmentInvalid);
        }
        let cost = piece.bytes.len() + OVERHEAD;
        let of_source = self.sources.get(&piece.source).map_or(0, |source| source.cost);
        if self.cost + cost > MAX_BYTES || !is_fair(of_source as u64, (MAX_BYTES - self.cost) as u64) {
            return Err(Reason::FragmentLimit);
        }
        if !self.datagrams.contains_key(&piece.key) {
            self.open(piece.key, piece.source, now)?;
        }
        let datagram = self.datagrams.get_mut(&piece.key).ok_or(Reason::FragmentLimit)?;
        let freed = match datagram.add(piece) {
            Added::Duplicate => return Ok(None),
            Added::Spoilt { freed } => freed,
            Added::Kept if datagram.end == Some(datagram.filled) => {
                self.pay(piece.source, cost);
                return Ok(self.remove(&piece.key).and_then(|datagram| datagram.whole(piece.key)));
            }
            Added::Kept => {
                self.pay(piece.source, cost);
                return Ok(None);
            }
        };
        self.free(piece.source, freed, 0);
        Err(Reason::FragmentInvalid)
    }

    fn pay(&mut self, source: Client, cost: usize) {
        self.cost += cost;
        self.sources.entry(source).or_default().cost += cost;
    }

    fn free(&mut self, source: Client, cost: usize, datagrams: usize) {
        self.cost -= cost;
        if let Some(of_source) = self.sources.get_mut(&source) {
            of_source.cost -= cost;
            of_source.datagrams -= datagrams;
            if of_source.datagrams == 0 {
                self.sources.remove(&source);
            }
        }
    }

    fn open(&mut self, key: Key, source: Client, now: Instant) -> Result<(), Reason> {
        let of_source = self.sources.get(&source).map_or(0, |source| source.datagrams);
        let free = MAX_DATAGRAMS.saturating_sub(self.datagrams.len());
        if !is_fair(of_source as u64, free as u64) {
            return Err(Reason::FragmentLimit);
        }
        if self.order.len() >= 2 * MAX_DATAGRAMS {
            let datagrams = &self.datagrams;
            self.order.retain(|(serial, key)| datagrams.get(key).is_some_and(|datagram| datagram.serial == *serial));
        }
        self.serial += 1;
        self.sources.entry(source).or_default().datagrams += 1;
        self.order.push_back((self.serial, key));
        self.datagrams.insert(
            key,
            Datagram {
                source,
                since: now,
                serial: self.serial,
                header: None,
                parts: Vec::new(),
                end: None,
                filled: 0,
                cost: 0,
                size: 0,
                spoilt: false,
            },
        );
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Option<Datagram> {
        let datagram = self.datagrams.remove(key)?;
        self.free(datagram.source, datagram.cost, 1);
        Some(datagram)
    }
}

/// What became of a fragment.
enum Added {
    Kept,
    Duplicate,
    Spoilt { freed: usize },
}

impl Datagram {
    fn add(&mut self, piece: &Piece<'_>) -> Added {
        let (start, end) = (piece.offset, piece.offset + piece.bytes.len());
        let place = self.parts.partition_point(|(offset, _)| *offset < start);
        // RFC 8200 section 4.5: an exact copy is no overlap.
        if self.parts.get(place).is_some_and(|(offset, bytes)| *offset == start && bytes == piece.bytes) {
            return Added::Duplicate;
        }
        let before = place.checked_sub(1).and_then(|before| self.parts.get(before));
        let overlaps = before.is_some_and(|(offset, bytes)| offset + bytes.len() > start)
            || self.parts.get(place).is_some_and(|(offset, _)| *offset < end);
        let beyond = match (self.end, piece.more) {
            (Some(whole), true) => end > whole,
            (Some(whole), false) => end != whole,
            (None, true) => false,
            (None, false) => self.parts.last().is_some_and(|(offset, bytes)| offset + bytes.len() > end),
        };
        if self.spoilt || overlaps || beyond {
            self.spoilt = true;
            self.parts = Vec::new();
            return Added::Spoilt { freed: core::mem::take(&mut self.cost) };
        }
        self.parts.insert(place, (start, piece.bytes.to_vec()));
        self.header = self.header.or(piece.header);
        if !piece.more {
            self.end = Some(end);
        }
        self.filled += piece.bytes.len();
        self.cost += piece.bytes.len() + OVERHEAD;
        self.size = self.size.max(piece.size);
        Added::Kept
    }

    fn whole(self, key: Key) -> Option<Reassembled> {
        let mut bytes = match self.header? {
            Header::V6(header) => Ipv6Header { payload_length: self.filled as u16, ..header }.emit().to_vec(),
            Header::V4(header) => {
                Ipv4Header { total_length: (ipv4::HEADER + self.filled) as u16, ..header }.emit().to_vec()
            }
        };
        for (_, part) in &self.parts {
            bytes.extend_from_slice(part);
        }
        Some(Reassembled { bytes, identification: key.identification as u16, size: self.size })
    }
}

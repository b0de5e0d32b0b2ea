//! What the translator sends of itself when time has passed: RFC 6146 section 3.5.2.2.
use sixgate_wire::checksum::pseudo_v6;
use sixgate_wire::icmpv4;
use sixgate_wire::ipv6::{self, Ipv6Header};
use sixgate_wire::rfc6052::Pref64;
use sixgate_wire::tcp;

use super::Nat64;
use super::session::Session;
use super::syn::StoredSyn;
use super::verdict::Direction;
use crate::time::Instant;
use crate::xlat::originate::{self, Error};
use crate::xlat::transmit::Transmit;

/// Packets that may wait to be sent; more sessions are looked at when these have left.
pub(super) const MAX_DUE: usize = 256;
/// ACK alone.
const ACK: u8 = 0x10;
const HOP_LIMIT: u8 = 64;

/// RFC 6146 section 3.5.2.2, ESTABLISHED: a segment without data, sequence and acknowledgment numbers zero, no flag but
/// ACK. A host that still has the connection answers with an ACK, one that has not with an RST.
pub(super) fn emit(session: &Session, pref64: Pref64, out: &mut Transmit) {
    let (source, destination) = (pref64.embed(session.server.address), session.client.address);
    let mut segment = [0; tcp::HEADER];
    segment[..2].copy_from_slice(&session.server.port.to_be_bytes());
    segment[2..4].copy_from_slice(&session.client.port.to_be_bytes());
    segment[12] = ((tcp::HEADER / 4) << 4) as u8;
    segment[13] = ACK;
    let checksum = pseudo_v6(source, destination, tcp::PROTOCOL, tcp::HEADER as u32).bytes(&segment).checksum();
    segment[tcp::CHECKSUM..tcp::CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
    let header = Ipv6Header {
        traffic_class: 0,
        payload_length: tcp::HEADER as u16,
        next_header: tcp::PROTOCOL,
        hop_limit: HOP_LIMIT,
        source,
        destination,
    };
    out.push(&header.emit()[..ipv6::HEADER], &segment);
}

impl Nat64 {
    /// Ends what is over. What hosts are told of that waits in `due`.
    pub(super) fn expire(&mut self, now: Instant) {
        self.tables.events.now = now;
        self.expired_at = now;
        while self.due.len() < MAX_DUE
            && let Some(syn) = self.tables.syns.expired(self.tables.timers.tcp_incoming_syn, now)
        {
            self.answer_syn(&syn, now);
        }
        while let Some((session, prefix)) = self.tables.expire(now, MAX_DUE - self.due.len().min(MAX_DUE)) {
            if let Some(pref64) = self.prefixes.get(prefix) {
                emit(&session, pref64, &mut self.due);
            }
        }
        let incomplete = self.fragments.expire(self.tables.timers.fragment_min, now);
        self.counters.add(super::Reason::FragmentTimeout, incomplete);
    }

    /// RFC 6146 section 3.5.2.2, V4 INIT: the lifetime is over; Port Unreachable.
    fn answer_syn(&mut self, syn: &StoredSyn, now: Instant) {
        self.counters.count(syn.reason);
        if !self.limiter.admit(syn.source, Direction::V4ToV6, now) {
            return;
        }
        let error = Error { kind: icmpv4::DESTINATION_UNREACHABLE, code: icmpv4::PORT_UNREACHABLE, word: 0 };
        let (source, destination) = (syn.destination, syn.source);
        let identification = self.identifications.next(source, destination, icmpv4::PROTOCOL);
        if !self.tables.pool.contains(destination) {
            return originate::emit_v4(error, source, destination, identification, &syn.quote, &mut self.due);
        }
        // The SYN came through a hairpin, and so does the answer.
        let (mut turned, mut answer) = (Transmit::new(), Transmit::new());
        originate::emit_v4(error, source, destination, identification, &syn.quote, &mut turned);
        if self.hairpin(&turned, &mut answer, now).is_ok() {
            for packet in answer.iter() {
                self.due.push(packet, &[]);
            }
        }
    }
}

//! A finished response as bytes, ready to be copied: what remains to be done for a client is its identifier, its flags, its
//! spelling of the name, and the time that has passed.
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;

use super::Reason;
use super::ede::{self, ExtendedError};
use super::plain::{Key, Plain};
use super::request::{HEADER_LENGTH, MAX_UDP_PAYLOAD};
use crate::time::Instant;

/// RFC 2308 section 5: negative answers are not kept longer, in seconds.
const MAX_NEGATIVE: u32 = 3 * 3600;
/// RFC 8767 section 4: nothing is kept longer, in seconds.
const MAX_LIFETIME: u32 = 86_400;
/// RFC 9520 section 3.2: how long it is remembered that nobody answered, in seconds.
const FAILURE: u32 = 5;
/// RFC 8767 section 5: TTL of stale records, and how long the upstreams are left alone after they failed, in seconds.
const STALE_TTL: u32 = 30;

/// A finished response, shared by whoever keeps it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The message without an OPT record and with its question in lower case; behind it the places of all TTLs, two octets
    /// each.
    bytes: Arc<[u8]>,
    /// Where the message ends.
    end: u16,
    /// Where its additional records begin.
    additional_at: u16,
    /// Where its question ends.
    question_end: u16,
    /// RFC 8914: what there is to say beside the response code.
    extended_error: Option<ExtendedError>,
    pub(super) tag: u8,
    synthesized: bool,
    stale: bool,
    /// When it was made, in seconds.
    stored: u32,
    /// For how long it is fresh, in seconds.
    lifetime: u32,
    /// When it is of no use any more, in seconds.
    dead: u32,
}

/// The engine's clock in whole seconds.
pub(super) fn seconds(now: Instant) -> u32 {
    u32::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX)
}

impl Answer {
    /// Takes a whole response to a plain query; `stale` is for how many seconds it may be of use after it has expired.
    ///
    /// Nothing comes of a message that cannot be written.
    pub fn build(key: &Key, mut response: Message, reason: Reason, stale: u32, now: Instant) -> Option<Self> {
        response.edns = None;
        let name = response.queries.first()?.name().to_lowercase();
        for query in &mut response.queries {
            query.set_name(name.clone());
        }
        // The same spelling, so that it becomes a pointer to the question, in which each client finds its own.
        for record in response.answers.iter_mut().filter(|record| record.name == name) {
            record.name = name.clone();
        }
        response.metadata.id = 0;
        let lifetime = lifetime(&response);
        let mut bytes = response.to_vec().ok()?;
        let end = u16::try_from(bytes.len()).ok()?;
        let question_end = HEADER_LENGTH + key.question().len() + 2;
        if bytes.get(HEADER_LENGTH..question_end - 2)? != key.question() {
            return None;
        }
        let (ttls, additional_at) = ttls(&bytes, question_end)?;
        bytes.extend(ttls.iter().flat_map(|at| at.to_be_bytes()));
        let stored = seconds(now);
        Some(Self {
            bytes: bytes.into(),
            end,
            additional_at,
            question_end: u16::try_from(question_end).ok()?,
            extended_error: reason.extended_error(),
            tag: key.tag.to_byte(),
            synthesized: reason == Reason::Synthesized,
            stale: false,
            stored,
            lifetime,
            dead: stored.saturating_add(lifetime).saturating_add(if is_failure(&response) { 0 } else { stale }),
        })
    }

    /// The same once more, for the time that the upstreams are left alone: RFC 8767 section 5.
    pub fn stale(&self, now: Instant) -> Option<Self> {
        let now = seconds(now);
        let stale = Self { stale: true, stored: now, lifetime: STALE_TTL, ..self.clone() };
        (now < self.dead).then_some(stale)
    }

    /// Whether its time has not passed.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.age(now) < self.lifetime
    }

    /// Whether it may still be of use when nothing better can be had.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        self.is_fresh(now) || seconds(now) < self.dead
    }

    /// Whether nine tenths of its time have passed, so that it is worth asking again before it expires.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        !self.stale && self.age(now) >= self.lifetime - self.lifetime / 10
    }

    /// Whether addresses in it were synthesized.
    pub fn is_synthesized(&self) -> bool {
        self.synthesized
    }

    /// Whether it says that something failed: RFC 9520.
    pub fn is_failure(&self) -> bool {
        !matches!(self.bytes.get(3).map(|flags| flags & 0xf), Some(0 | 3))
    }

    /// Name and type as they stand in the message.
    pub(super) fn question(&self) -> &[u8] {
        self.bytes.get(HEADER_LENGTH..usize::from(self.question_end) - 2).unwrap_or_default()
    }

    /// What it takes in memory, its own bytes only.
    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }

    fn age(&self, now: Instant) -> u32 {
        seconds(now).saturating_sub(self.stored)
    }

    /// Writes the response to this query, in place of what `out` holds. Nothing is allocated where `out` has room.
    pub fn write(&self, query: &Plain<'_>, now: Instant, out: &mut Vec<u8>) {
        let extended_error = if self.stale { Some(ExtendedError::StaleAnswer) } else { self.extended_error }
            .filter(|_| query.has_edns());
        let edns = if query.has_edns() { 11 } else { 0 };
        let limit = query.limit() - edns;
        let [whole, records, question] = [self.end, self.additional_at, self.question_end].map(usize::from);
        // RFC 2181 section 9: additional records are left out without a word; where the rest does not fit either, TC tells
        // the client to come back by TCP, and there is no use in half an answer.
        let end = [whole, records].into_iter().find(|end| *end <= limit).unwrap_or(question);
        out.clear();
        out.extend_from_slice(self.bytes.get(..end).unwrap_or_default());
        self.put_ttls(end, self.age(now), out);
        let extended_error = extended_error.filter(|_| end + 6 <= limit);
        let spelling = query.question();
        if let Some(question) = out.get_mut(HEADER_LENGTH..HEADER_LENGTH + spelling.len()) {
            question.copy_from_slice(spelling);
        }
        if let Some(header) = out.first_chunk_mut::<HEADER_LENGTH>() {
            if end < records {
                header[2] |= 0x02;
                header[6..12].fill(0);
            }
            if end < whole {
                header[10..12].fill(0);
            }
            [header[0], header[1]] = query.id();
            // RFC 4035 section 3.1.6: CD is copied.
            header[3] = header[3] & !0x10 | query.flags() & 0x10;
            // RFC 6840 section 5.7: AD is for who asks for it by AD or DO.
            if query.flags() & 0x20 == 0 && !query.dnssec_ok() {
                header[3] &= !0x20;
            }
            let additionals = u16::from_be_bytes([header[10], header[11]]) + u16::from(query.has_edns());
            header[10..12].copy_from_slice(&additionals.to_be_bytes());
        }
        if query.has_edns() {
            let [size_high, size_low] = MAX_UDP_PAYLOAD.to_be_bytes();
            let dnssec_ok = u8::from(query.dnssec_ok()) << 7;
            let length = if extended_error.is_some() { 6 } else { 0 };
            out.extend([0, 0, 41, size_high, size_low, 0, 0, dnssec_ok, 0, 0, length]);
        }
        if let Some(error) = extended_error {
            out.extend([0, ede::OPTION, 0, 2, 0, error.code()]);
        }
    }

    fn put_ttls(&self, end: usize, age: u32, out: &mut [u8]) {
        let places = self.bytes.get(usize::from(self.end)..).unwrap_or_default();
        for place in places.as_chunks::<2>().0 {
            let at = usize::from(u16::from_be_bytes(*place));
            if at >= end {
                return;
            }
            let Some(ttl) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) else { return };
            let left = if self.stale { STALE_TTL } else { u32::from_be_bytes(*ttl).saturating_sub(age) };
            *ttl = left.to_be_bytes();
        }
    }
}

/// For how many seconds a response holds; 0 where it must not be kept.
fn lifetime(response: &Message) -> u32 {
    if is_failure(response) {
        return FAILURE;
    }
    // RFC 2181 section 8: a TTL with the first bit set means zero.
    let ttl = |ttl: u32| if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl };
    let shortest = response.answers.iter().map(|record| ttl(record.ttl)).min();
    // RFC 2308 section 5: an SOA record says how long it holds that there is nothing, also behind aliases.
    let negative = response.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(ttl(record.ttl).min(soa.minimum).min(MAX_NEGATIVE)),
        _ => None,
    });
    let least = match (shortest, negative) {
        (Some(shortest), Some(negative)) => shortest.min(negative),
        (Some(shortest), None) => shortest,
        (None, Some(negative)) => negative,
        // RFC 2308 section 5: without an SOA record it is not kept.
        (None, None) => 0,
    };
    least.min(MAX_LIFETIME)
}

fn is_failure(response: &Message) -> bool {
    !matches!(response.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// The places of all TTLs, and where the additional records begin. Nothing where the message is not whole.
fn ttls(message: &[u8], question_end: usize) -> Option<(Vec<u16>, u16)> {
    let count = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let (records, additionals) = (u32::from(count(6)?) + u32::from(count(8)?), u32::from(count(10)?));
    let (mut at, mut additional_at, mut ttls) = (question_end, question_end, Vec::new());
    for index in 0..records + additionals {
        if index == records {
            additional_at = at;
        }
        loop {
            match *message.get(at)? {
                0 => break at += 1,
                label @ 1..=63 => at += 1 + usize::from(label),
                192.. => break at += 2,
                _ => return None,
            }
        }
        ttls.push(u16::try_from(at + 4).ok()?);
        at += 10 + usize::from(count(at + 8)?);
    }
    if additionals == 0 {
        additional_at = at;
    }
    (at == message.len()).then_some((ttls, u16::try_from(additional_at).ok()?))
}

mod finished;
#[cfg(test)]
mod tests;

pub use finished::Finished;

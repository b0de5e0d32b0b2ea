//! The program that answers below the resolver's sockets, and what its maps hold, byte by byte; `program/dns.c` has the same
//! in C.
use core::net::Ipv6Addr;

use crate::Object;

/// The compiled program, an ELF file.
pub static OBJECT: &Object<[u8]> = &Object(*include_bytes!(concat!(env!("OUT_DIR"), "/dns.o")));

/// Name of the program.
pub const PROGRAM: &str = "dns";
/// Finished answers by question.
pub const ANSWERS: &str = "dns_answers";
/// Who may be answered.
pub const CLIENTS: &str = "dns_clients";
/// The resolver's addresses.
pub const PLACES: &str = "dns_places";
/// What the program is told.
pub const SETTINGS: &str = "dns_settings";
/// What it counts.
pub const COUNTERS: &str = "dns_counters";

/// Bytes of a key of [`ANSWERS`].
pub const QUESTION: usize = NAME + 8;
/// Bytes of a value of [`ANSWERS`].
pub const ANSWER: usize = TAIL_AT + TAIL;
/// Bytes of a key of [`CLIENTS`] and [`PLACES`].
pub const PLACE: usize = 24;
/// Bytes of a value of [`CLIENTS`].
pub const CLIENT: usize = 40;
/// Counters of one processor.
pub const COUNTED: usize = 4;

/// The longest name that is looked for, its length octets included.
const NAME: usize = 72;
/// The most that an answer has behind its question, OPT record included.
const TAIL: usize = 480;
/// The most TTLs.
const TTLS: usize = 12;
const HEADER: usize = 12;
const TTLS_AT: usize = 64;
const TAIL_AT: usize = TTLS_AT + TTLS * 8;

/// What the program goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Nanoseconds of CLOCK_MONOTONIC until which somebody is there.
    pub attended_until: u64,
    /// Nanoseconds for a question of a client; zero for no limit.
    pub interval: u64,
    /// Answers and clients of other ones do not count.
    pub epoch: u32,
}

impl Settings {
    /// The value of [`SETTINGS`].
    pub fn emit(&self) -> [u8; 24] {
        let mut value = [0; 24];
        value[..8].copy_from_slice(&self.attended_until.to_ne_bytes());
        value[8..16].copy_from_slice(&self.interval.to_ne_bytes());
        value[16..20].copy_from_slice(&self.epoch.to_ne_bytes());
        value
    }
}

/// The key of an address on a link.
pub fn place(address: Ipv6Addr, interface: u32) -> [u8; PLACE] {
    let mut key = [0; PLACE];
    key[..16].copy_from_slice(&address.octets());
    key[16..20].copy_from_slice(&interface.to_ne_bytes());
    key
}

/// Who may be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Nanoseconds of CLOCK_MONOTONIC until which it may.
    pub until: u64,
    /// When its account is even again, in nanoseconds.
    pub even_at: u64,
    /// By which rules.
    pub epoch: u32,
    /// The only hardware address that may send for it; absent where any may.
    pub mac: Option<[u8; 6]>,
    /// What it gets to see.
    pub view: u8,
}

impl Client {
    /// Its value, with as many questions answered.
    pub fn emit(&self, answered: u64) -> [u8; CLIENT] {
        let mut value = [0; CLIENT];
        value[..8].copy_from_slice(&answered.to_ne_bytes());
        value[8..16].copy_from_slice(&self.until.to_ne_bytes());
        value[16..24].copy_from_slice(&self.even_at.to_ne_bytes());
        value[24..28].copy_from_slice(&self.epoch.to_ne_bytes());
        value[32..38].copy_from_slice(&self.mac.unwrap_or_default());
        value[38] = self.view;
        value
    }

    /// When the account in a value is even again.
    pub fn even_at(value: &[u8; CLIENT]) -> u64 {
        word(value, 16)
    }
}

/// The name in a key of [`ANSWERS`], as it stands in a message.
pub fn name_of(question: &[u8; QUESTION]) -> &[u8] {
    question.get(..usize::from(question[NAME + 2])).unwrap_or_default()
}

/// How often an answer was given, or a client was answered: the first word of both values.
pub fn times(value: &[u8]) -> u64 {
    word(value, 0)
}

fn word(value: &[u8], at: usize) -> u64 {
    value.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u64::from_ne_bytes)
}

/// A finished answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The name in lower case, as it stands in a message.
    pub name: &'a [u8],
    /// The type, in the network's order.
    pub kind: [u8; 2],
    /// Who sees it.
    pub view: u8,
    /// The message's header.
    pub header: [u8; HEADER],
    /// All that follows the question, but for the OPT record.
    pub records: &'a [u8],
    /// Places of the TTLs behind the question, two octets each in the network's order, counted from the message's beginning.
    pub ttls: &'a [[u8; 2]],
    /// The OPT record for questions that have one.
    pub opt: &'a [u8],
    /// Whether addresses in it were synthesized.
    pub is_synthesized: bool,
    /// When it was made, in seconds of CLOCK_MONOTONIC.
    pub stored: u32,
    /// Until when it is given, in the same.
    pub until: u32,
}

impl Answer<'_> {
    /// By which it is found. Nothing where the name is too long.
    pub fn key(&self) -> Option<[u8; QUESTION]> {
        let mut key = [0; QUESTION];
        key.get_mut(..NAME)?.get_mut(..self.name.len())?.copy_from_slice(self.name);
        key[NAME..NAME + 2].copy_from_slice(&self.kind);
        key[NAME + 2] = u8::try_from(self.name.len()).ok()?;
        key[NAME + 3] = self.view;
        Some(key)
    }

    /// Its value. Nothing where it is too long, has too many TTLs, or nothing behind the question.
    pub fn value(&self, epoch: u32) -> Option<[u8; ANSWER]> {
        let (plain, whole) = (self.records.len(), self.records.len() + self.opt.len());
        if plain == 0 || whole > TAIL || self.ttls.len() > TTLS {
            return None;
        }
        let mut value = [0; ANSWER];
        // No times given yet.
        value[8..16].copy_from_slice(&(u64::from(self.until) * 1_000_000_000).to_ne_bytes());
        value[16..20].copy_from_slice(&epoch.to_ne_bytes());
        value[20..24].copy_from_slice(&self.stored.to_ne_bytes());
        value[36..38].copy_from_slice(&u16::from(self.is_synthesized).to_ne_bytes());
        value[38..40].copy_from_slice(&u16::try_from(self.ttls.len()).ok()?.to_ne_bytes());
        let begin = HEADER + self.name.len() + 4;
        value.get_mut(TAIL_AT..TAIL_AT + plain)?.copy_from_slice(self.records);
        for (number, place) in self.ttls.iter().enumerate() {
            let at = usize::from(u16::from_be_bytes(*place)).checked_sub(begin)?;
            let ttl = value.get_mut(TAIL_AT..TAIL_AT + plain)?.get_mut(at..)?.first_chunk_mut::<4>()?;
            // The program writes what is left of it, and adds that to the sum.
            let seconds = u32::from_be_bytes(core::mem::take(ttl));
            let entry = value.get_mut(TTLS_AT + 8 * number..)?.first_chunk_mut::<8>()?;
            entry[..2].copy_from_slice(&u16::try_from(at).ok()?.to_ne_bytes());
            entry[2..4].copy_from_slice(&u16::from((begin + at) % 2 == 1).to_ne_bytes());
            entry[4..].copy_from_slice(&seconds.to_ne_bytes());
        }
        value.get_mut(TAIL_AT + plain..TAIL_AT + whole)?.copy_from_slice(self.opt);
        for (number, length) in [plain, whole].into_iter().enumerate() {
            let mut head = self.header;
            if number == 1 {
                let additionals = u16::from_be_bytes([head[10], head[11]]).checked_add(1)?;
                head[10..].copy_from_slice(&additionals.to_be_bytes());
            }
            let tail = value.get(TAIL_AT..TAIL_AT + length)?;
            let sum = sum(&head[2..], false) + sum(tail, begin % 2 == 1);
            value[24 + 4 * number..28 + 4 * number].copy_from_slice(&sum.to_ne_bytes());
            let length = u16::try_from(length).ok()?;
            value[32 + 2 * number..34 + 2 * number].copy_from_slice(&length.to_ne_bytes());
            let at = 40 + (HEADER - 2) * number;
            value[at..at + HEADER - 2].copy_from_slice(&head[2..]);
        }
        Some(value)
    }
}

/// What bytes add to the sum over a message, in the machine's order, where they begin in an odd place or not.
fn sum(bytes: &[u8], is_odd: bool) -> u32 {
    let mut sum = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let is_second = (at % 2 == 1) != is_odd;
        sum += u32::from(u16::from_ne_bytes(if is_second { [0, *byte] } else { [*byte, 0] }));
    }
    (sum & 0xffff) + (sum >> 16)
}

/// What the program has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Questions answered.
    pub answered: u64,
    /// Those of them whose answer was synthesized.
    pub synthesized: u64,
    /// Questions beyond a client's limit: half of them are told to come by TCP, the rest is dropped.
    pub refused: u64,
    /// Questions that were lost because the kernel refused something in the middle.
    pub failed: u64,
}

impl Counters {
    /// All processors' together.
    pub fn sum<'a>(values: impl Iterator<Item = &'a [u64; COUNTED]>) -> Self {
        values.fold(Self::default(), |sum, [answered, synthesized, refused, failed]| Self {
            answered: sum.answered + answered,
            synthesized: sum.synthesized + synthesized,
            refused: sum.refused + refused,
            failed: sum.failed + failed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_programs() {
        let program = include_str!("../program/dns.c");
        for (name, number) in [("NAME", NAME), ("TAIL", TAIL), ("TTLS", TTLS), ("HEADER", HEADER)] {
            assert!(program.contains(&format!("#define {name} {number}\n")), "{name}");
        }
        let counters = program.split("enum counter {").nth(1).unwrap().split('}').next().unwrap();
        assert_eq!(counters.trim(), "ANSWERED, SYNTHESIZED, REFUSED, FAILED, COUNTERS");
    }

    #[test]
    fn what_is_too_long_or_has_nothing_to_say_does_not_go_there() {
        let (name, records, ttls) = ([0; 73], [0; 481], [[0, 30]; 13]);
        let answer = |name, records, ttls| Answer {
            name,
            kind: [0, 28],
            view: 0,
            header: [0; 12],
            records,
            ttls,
            opt: &[0; 11],
            is_synthesized: false,
            stored: 1,
            until: 2,
        };
        assert!(answer(&name[..72], &[], &[]).key().is_some());
        assert!(answer(&name, &[], &[]).key().is_none());
        assert!(answer(&name[..9], &records[..469], &[]).value(1).is_some());
        assert!(answer(&name[..9], &records[..470], &[]).value(1).is_none());
        assert!(answer(&name[..9], &[], &[]).value(1).is_none());
        assert!(answer(&name[..9], &records[..60], &ttls[..12]).value(1).is_some());
        assert!(answer(&name[..9], &records[..60], &ttls).value(1).is_none());
    }

    #[test]
    fn a_sum_is_the_same_whether_its_parts_begin_in_odd_places_or_not() {
        let bytes: [u8; 37] = core::array::from_fn(|at| u8::try_from(at * 7 % 251).unwrap());
        let fold = |sum: u32| (sum & 0xffff) + (sum >> 16);
        for at in 0..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(fold(sum(first, false) + sum(second, at % 2 == 1)), fold(sum(&bytes, false)), "{at}");
        }
    }
}

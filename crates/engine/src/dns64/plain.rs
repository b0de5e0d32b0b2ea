//! The ordinary query, read without an allocation: one question for class IN, perhaps an OPT record, nothing else.
use super::request::{HEADER_LENGTH, MAX_UDP_PAYLOAD, PLAIN_PAYLOAD, Transport};
use super::view::View;

/// RFC 1035 section 2.3.4: the longest name, its length octets included.
const MAX_NAME: usize = 255;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;

/// A query that a cache may answer. Whatever is the least bit unusual is no plain query and is left to
/// [`super::Transaction`], which says what is wrong with it.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a> {
    bytes: &'a [u8],
    /// Where the question ends.
    question_end: usize,
    edns: bool,
    dnssec_ok: bool,
    limit: usize,
}

/// The question in lower case and all that changes its answer: what a cache is keyed by.
#[derive(Clone)]
pub struct Key {
    /// The name in lower case and the type, as they stand in the message.
    question: [u8; MAX_NAME + 2],
    length: usize,
    /// What else changes the answer.
    pub(super) tag: Tag,
}

/// What changes an answer beside the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) view: View,
    pub(super) dnssec_ok: bool,
    pub(super) checking_disabled: bool,
}

impl Key {
    /// Name and type as they stand in a message, the name in lower case.
    pub(super) fn question(&self) -> &[u8] {
        self.question.get(..self.length).unwrap_or_default()
    }

    /// The name as it stands in a message, in lower case.
    pub fn name(&self) -> &[u8] {
        self.question.get(..self.length.saturating_sub(2)).unwrap_or_default()
    }

    /// Who sees the answer.
    pub fn view(&self) -> View {
        self.tag.view
    }

    /// Bytes that are the same for the same key, to be kept where the whole key would be too long.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.question().to_vec();
        bytes.push(self.tag.to_byte());
        bytes
    }
}

impl Tag {
    pub(super) fn to_byte(self) -> u8 {
        self.view.number() << 2 | u8::from(self.dnssec_ok) << 1 | u8::from(self.checking_disabled)
    }
}

impl<'a> Plain<'a> {
    /// Reads a query; nothing where it is not plain.
    pub fn parse(bytes: &'a [u8], transport: Transport) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_LENGTH>()?;
        // A query with opcode 0 and RD, neither AA nor TC; one question; no records but one additional.
        let [_, _, 0x01, flags, 0, 1, 0, 0, 0, 0, 0, additionals @ (0 | 1)] = *header else { return None };
        // RA, Z and a code have no place in a query.
        if flags & 0xcf != 0 {
            return None;
        }
        let mut at = HEADER_LENGTH;
        loop {
            match *bytes.get(at)? {
                0 => break,
                // A compressed name has nothing to point at.
                label @ 1..=63 => at += 1 + usize::from(label),
                _ => return None,
            }
        }
        let question_end = at + 5;
        if question_end - HEADER_LENGTH > MAX_NAME + 4 {
            return None;
        }
        let kind = pair(bytes, at + 1)?;
        // RFC 6895 section 3.1: types that are never asked for, and meta types.
        if matches!(kind, 0 | TYPE_OPT | 128..=255) || pair(bytes, at + 3)? != CLASS_IN {
            return None;
        }
        let rest = bytes.get(question_end..)?;
        let mut plain = Self { bytes, question_end, edns: false, dnssec_ok: false, limit: usize::from(PLAIN_PAYLOAD) };
        if additionals == 1 {
            plain.read_edns(rest)?;
        } else if !rest.is_empty() {
            return None;
        }
        if transport == Transport::Tcp {
            plain.limit = usize::from(u16::MAX);
        }
        Some(plain)
    }

    /// RFC 6891 section 6.1.2: root, type, payload size, extended code, version, flags, length, options.
    fn read_edns(&mut self, record: &[u8]) -> Option<()> {
        let (&[0, 0, 41, size_high, size_low, 0, 0, flags, 0, length_high, length_low], options) =
            record.split_first_chunk::<11>()?
        else {
            return None;
        };
        if options.len() != usize::from(u16::from_be_bytes([length_high, length_low])) {
            return None;
        }
        let mut at = 0;
        while at < options.len() {
            at += 4 + usize::from(pair(options, at + 2)?);
        }
        if at != options.len() {
            return None;
        }
        self.edns = true;
        self.dnssec_ok = flags & 0x80 != 0;
        let payload = u16::from_be_bytes([size_high, size_low]);
        self.limit = usize::from(payload.clamp(PLAIN_PAYLOAD, MAX_UDP_PAYLOAD));
        Some(())
    }

    /// Writes a response that tells the client to come by TCP; it is not longer than the query.
    pub fn write_truncated(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend(self.id());
        // QR, TC and RD; RA, and CD as in the query.
        out.extend([0x83, 0x80 | self.flags() & 0x10, 0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(self.question());
    }

    /// What a cache is asked with.
    pub fn key(&self, view: View) -> Key {
        let mut key = Key {
            question: [0; MAX_NAME + 2],
            length: self.question_end - HEADER_LENGTH - 2,
            tag: Tag { view, dnssec_ok: self.dnssec_ok, checking_disabled: self.flags() & 0x10 != 0 },
        };
        let name_end = key.length - 2;
        for (index, (to, from)) in key.question.iter_mut().zip(self.question()).take(key.length).enumerate() {
            // A length octet is less than `A`.
            *to = if index < name_end { from.to_ascii_lowercase() } else { *from };
        }
        key
    }

    pub(super) fn id(&self) -> [u8; 2] {
        self.bytes.first_chunk().copied().unwrap_or_default()
    }

    /// The second octet of flags: AD and CD.
    pub(super) fn flags(&self) -> u8 {
        self.bytes.get(3).copied().unwrap_or_default()
    }

    /// The question as the client wrote it.
    pub(super) fn question(&self) -> &'a [u8] {
        self.bytes.get(HEADER_LENGTH..self.question_end).unwrap_or_default()
    }

    pub(super) fn has_edns(&self) -> bool {
        self.edns
    }

    pub(super) fn dnssec_ok(&self) -> bool {
        self.dnssec_ok
    }

    /// Most bytes that the response may have.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }
}

fn pair(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(flags: u16, additionals: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd];
        bytes.extend(flags.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 0, 0, additionals]);
        bytes.extend(b"\x03WwW\x07example\x03Com\x00\x00\x1c\x00\x01");
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn case_does_not_matter_to_the_key_and_all_that_changes_the_answer_does() {
        let opt = |flags| [0, 0, 41, 4, 208, 0, 0, flags, 0, 0, 0];
        let key = |flags, view, opt: &[u8]| {
            Plain::parse(&query(flags, u8::from(!opt.is_empty()), opt), Transport::Udp).unwrap().key(view).to_bytes()
        };
        let plain = key(0x0100, View::Translated, &[]);
        assert!(plain.starts_with(b"\x03www\x07example\x03com\x00\x00\x1c"));
        assert_eq!(key(0x0120, View::Translated, &opt(0)), plain, "neither AD nor EDNS by itself");
        for other in [
            key(0x0110, View::Translated, &[]),
            key(0x0100, View::Untranslated, &[]),
            key(0x0100, View::Translated, &opt(0x80)),
        ] {
            assert_ne!(other, plain);
        }
    }

    #[test]
    fn the_limit_is_the_clients_within_bounds() {
        let limit = |size: u16, transport| {
            let [high, low] = size.to_be_bytes();
            let query = query(0x0100, 1, &[0, 0, 41, high, low, 0, 0, 0, 0, 0, 4, 0, 10, 0, 0]);
            Plain::parse(&query, transport).unwrap().limit()
        };
        assert_eq!([0, 512, 1000, 4096].map(|size| limit(size, Transport::Udp)), [512, 512, 1000, 1232]);
        assert_eq!(limit(512, Transport::Tcp), 65_535);
        assert_eq!(Plain::parse(&query(0x0100, 0, &[]), Transport::Udp).unwrap().limit(), 512);
    }

    #[test]
    fn what_is_unusual_is_left_to_the_transaction() {
        let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
        for flags in [0x8100, 0x0000, 0x0900, 0x0300, 0x0500, 0x0180, 0x0140, 0x0101] {
            assert!(Plain::parse(&query(flags, 0, &[]), Transport::Udp).is_none(), "{flags:04x}");
        }
        let unusual = [
            query(0x0100, 2, &opt),
            query(0x0100, 0, &[0]),
            query(0x0100, 1, &[]),
            query(0x0100, 1, &[0, 0, 41, 4, 208, 0, 1, 0, 0, 0, 0]),
            query(0x0100, 1, &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 1]),
            query(0x0100, 1, &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 3, 0, 10, 0]),
            query(0x0100, 1, &[0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0]),
        ];
        for bytes in unusual {
            assert!(Plain::parse(&bytes, Transport::Udp).is_none(), "{bytes:02x?}");
        }
        let whole = query(0x0100, 1, &opt);
        for length in 0..whole.len() {
            assert!(Plain::parse(&whole[..length], Transport::Udp).is_none(), "{length}");
        }
        assert!(Plain::parse(&whole, Transport::Udp).is_some());
    }
}

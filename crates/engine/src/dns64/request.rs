//! A client's query, validated once at the door.
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};

use super::Reason;

/// What we say we take, and the most we send, over UDP: RFC 9715 section 3.1, so that nothing is fragmented.
pub const MAX_UDP_PAYLOAD: u16 = 1232;
/// RFC 1035 section 4.2.1: what a client takes that says nothing.
pub(super) const PLAIN_PAYLOAD: u16 = 512;
pub(super) const HEADER_LENGTH: usize = 12;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A stream; the length before each message is not part of it.
    Tcp,
}

/// A query that asks one ordinary question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) id: u16,
    pub(super) op_code: OpCode,
    pub(super) question: Option<Query>,
    pub(super) recursion_desired: bool,
    /// CD: the client validates by itself.
    pub(super) checking_disabled: bool,
    /// AD: the client wants to know whether the answer is proven (RFC 6840 section 5.7).
    pub(super) authentic_data: bool,
    /// DO: the client wants DNSSEC records.
    pub(super) dnssec_ok: bool,
    /// Whether there is an OPT record, so that the response has one too (RFC 6891 section 6.1.1).
    pub(super) edns: bool,
    /// Most bytes that the response may have.
    pub(super) limit: usize,
}

/// Why a query is not answered in the ordinary way, and what is said instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nothing is said.
    Drop(Reason),
    /// An error is returned.
    Refuse(Box<Request>, ResponseCode, Reason),
}

impl Request {
    pub(super) fn parse(bytes: &[u8], transport: Transport) -> Result<Self, Refusal> {
        let Some(&[id_high, id_low, flags, flags2, ..]) = bytes.first_chunk::<HEADER_LENGTH>() else {
            return Err(Refusal::Drop(Reason::Short));
        };
        // An answer to a response could go back and forth for ever.
        if flags & 0x80 != 0 {
            return Err(Refusal::Drop(Reason::NotAQuery));
        }
        let mut request = Self {
            id: u16::from_be_bytes([id_high, id_low]),
            op_code: OpCode::from_u8(flags >> 3 & 0xf),
            question: None,
            recursion_desired: flags & 1 != 0,
            checking_disabled: flags2 & 0x10 != 0,
            authentic_data: flags2 & 0x20 != 0,
            dnssec_ok: false,
            edns: false,
            limit: limit(transport, None),
        };
        if request.op_code != OpCode::Query {
            return Err(request.refuse(ResponseCode::NotImp, Reason::Opcode));
        }
        let Ok(message) = Message::from_vec(bytes) else {
            return Err(request.refuse(ResponseCode::FormErr, Reason::Malformed));
        };
        request.limit = limit(transport, message.edns.as_ref());
        if let Some(edns) = &message.edns {
            request.edns = true;
            request.dnssec_ok = edns.flags().dnssec_ok;
        }
        let [question] = message.queries.as_slice() else {
            return Err(request.refuse(ResponseCode::FormErr, Reason::QuestionCount));
        };
        request.question = Some(question.clone());
        match refused(&message, question) {
            Some((code, reason)) => Err(request.refuse(code, reason)),
            None => Ok(request),
        }
    }

    /// Whether the response to this query says what the client asked with CD and DO (RFC 6147 section 5.5).
    pub(super) fn validates_itself(&self) -> bool {
        self.checking_disabled && self.dnssec_ok
    }

    fn refuse(self, code: ResponseCode, reason: Reason) -> Refusal {
        Refusal::Refuse(Box::new(self), code, reason)
    }
}

fn limit(transport: Transport, edns: Option<&Edns>) -> usize {
    match transport {
        Transport::Tcp => usize::from(u16::MAX),
        // RFC 6891 section 6.2.3: less than 512 means 512.
        Transport::Udp => {
            usize::from(edns.map_or(PLAIN_PAYLOAD, |edns| edns.max_payload().clamp(PLAIN_PAYLOAD, MAX_UDP_PAYLOAD)))
        }
    }
}

fn refused(message: &Message, question: &Query) -> Option<(ResponseCode, Reason)> {
    // RFC 6891 section 6.1.3: a version that is not implemented is named before anything else.
    if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return Some((ResponseCode::BADVERS, Reason::EdnsVersion));
    }
    if question.query_class != DNSClass::IN {
        return Some((ResponseCode::Refused, Reason::Class));
    }
    match u16::from(question.query_type) {
        // RFC 6895 section 3.1: type 0 and OPT are never asked for.
        0 | 41 => return Some((ResponseCode::FormErr, Reason::MetaType)),
        251 | 252 => return Some((ResponseCode::Refused, Reason::Transfer)),
        // RFC 6895 section 3.1: 128 to 255 are meta types, ANY among them (RFC 8482 section 4).
        128..=255 => return Some((ResponseCode::NotImp, Reason::MetaType)),
        _ => {}
    }
    if !message.metadata.recursion_desired {
        return Some((ResponseCode::Refused, Reason::NoRecursion));
    }
    None
}

/// Whether the question is the one that DNS64 is about.
pub(super) fn asks_aaaa(question: &Query) -> bool {
    question.query_type == RecordType::AAAA
}

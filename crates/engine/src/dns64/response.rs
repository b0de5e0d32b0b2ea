//! Responses to the client: header, EDNS and size as the client's query demands.
use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::{Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use super::ede::ExtendedError;
use super::request::{MAX_UDP_PAYLOAD, Request};

/// A response without records.
pub(super) fn empty(request: &Request, code: ResponseCode) -> Message {
    let mut response = Message::response(request.id, request.op_code);
    response.metadata.recursion_desired = request.recursion_desired;
    response.metadata.recursion_available = true;
    // RFC 4035 section 3.1.6: CD is copied. The upstream's AD is not: nobody vouches for the path to it (RFC 6840 section 5.8).
    response.metadata.checking_disabled = request.checking_disabled;
    response.metadata.response_code = code;
    response.queries.extend(request.question.clone());
    if request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP_PAYLOAD);
        edns.set_dnssec_ok(request.dnssec_ok);
        response.edns = Some(edns);
    }
    response
}

/// The upstream's answer under the client's header.
pub(super) fn pass_on(request: &Request, upstream: Message) -> Message {
    let code = upstream.metadata.response_code;
    // An extended code is about the EDNS of our own question, which the client has no part in.
    let code = if code.high() > 0 { ResponseCode::ServFail } else { code };
    let mut response = empty(request, code);
    response.answers = upstream.answers;
    response.authorities = upstream.authorities;
    response.additionals = upstream.additionals;
    // RFC 8945 section 5.1: a signature is between its two ends.
    response.additionals.retain(|record| !matches!(record.record_type(), RecordType::TSIG | RecordType::SIG));
    response
}

/// RFC 4035 section 3.2.1: whoever does not ask for signatures and proofs by DO is not sent them, unless they are the question.
pub(super) fn remove_proof(response: &mut Message) {
    let asked = response.queries.first().map(|question| question.query_type);
    let proofs = [RecordType::RRSIG, RecordType::NSEC, RecordType::NSEC3];
    for section in [&mut response.answers, &mut response.authorities, &mut response.additionals] {
        section.retain(|record| !proofs.contains(&record.record_type()) || Some(record.record_type()) == asked);
    }
}

/// Cuts the response to what the client takes.
///
/// RFC 2181 section 9: additional records are left out without a word; where the rest does not fit either, TC tells the
/// client to come back by TCP, and there is no use in half an answer.
pub(super) fn fit(mut response: Message, limit: usize, error: Option<ExtendedError>) -> Message {
    let edns = response.edns.clone();
    if let (Some(edns), Some(error)) = (&mut response.edns, error) {
        error.put(edns);
    }
    if fits(&response, limit) {
        return response;
    }
    response.edns = edns;
    response.additionals.clear();
    if fits(&response, limit) { response } else { response.truncate() }
}

fn fits(response: &Message, limit: usize) -> bool {
    response.to_vec().is_ok_and(|bytes| bytes.len() <= limit)
}

/// Whether the record is a signature over records of `covered` type (RFC 4034 section 3.1.1).
pub(super) fn is_signature_over(record: &Record, covered: RecordType) -> bool {
    if record.record_type() != RecordType::RRSIG {
        return false;
    }
    let mut data = Vec::new();
    let emitted = record.data.emit(&mut BinEncoder::new(&mut data));
    emitted.is_ok() && data.first_chunk() == Some(&u16::from(covered).to_be_bytes())
}

//! What is validated: an answer cut into links, each of which is proven by itself (RFC 4035 section 5).
//!
//! The proof is the driver's, by hickory's validator; what follows from it is decided here.
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};

use super::response::is_signature_over;

/// Aliases in a row; a longer chain leads nowhere.
const MAX_ALIASES: usize = 16;

/// What came of validating an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every link is proven; the message holds nothing else.
    Secure(Box<Message>),
    /// It is proven that some of it is not signed.
    Insecure(Box<Message>),
    /// It is signed, or should be, and the signatures prove nothing.
    Bogus(Flaw),
    /// It could not be found out.
    Unknown,
}

/// What is wrong with a bogus answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A signature is not by the key that should have made it, or not over these records.
    Signature,
    /// All signatures have expired.
    Expired,
    /// No signature holds yet.
    NotYetValid,
    /// There is none where there should be.
    Unsigned,
}

/// One step of an answer: an alias, the records that were asked for, or their absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it answers.
    pub question: Query,
    /// The records with their signatures.
    pub records: Vec<Record>,
    /// What follows from them without a signature of its own.
    pub implied: Vec<Record>,
    /// What says that there is nothing, or nothing closer than a wildcard.
    pub proof: Vec<Record>,
    /// What the response code means for this step.
    pub code: ResponseCode,
}

/// Cuts an answer into its links; nothing where aliases go round in circles or do not follow from one another.
pub fn chain(message: &Message) -> Option<Vec<Link>> {
    let question = message.queries.first()?;
    let (mut name, kind) = (question.name.clone(), question.query_type);
    let mut links = Vec::new();
    while links.len() < MAX_ALIASES {
        let records = of(&message.answers, &name, kind);
        if !records.is_empty() {
            links.push(positive(&name, kind, records, message));
            return Some(links);
        }
        let aliases = of(&message.answers, &name, RecordType::CNAME);
        let Some(target) = aliases.iter().find_map(|record| match &record.data {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        }) else {
            let proof = proof(&message.authorities);
            let code = message.metadata.response_code;
            links.push(Link {
                question: Query::query(name, kind),
                records: Vec::new(),
                implied: Vec::new(),
                proof,
                code,
            });
            return Some(links);
        };
        if aliases.iter().any(|record| is_signature_over(record, RecordType::CNAME)) {
            links.push(positive(&name, RecordType::CNAME, aliases, message));
        } else if let Some(owner) = redirection(&message.answers, &name) {
            // RFC 6672 section 5.3.1: the alias is not signed, but follows from the DNAME record, which is.
            let records = of(&message.answers, &owner, RecordType::DNAME);
            if !records.iter().any(|record| leads(record, &name, &target)) {
                return None;
            }
            let mut link = positive(&owner, RecordType::DNAME, records, message);
            link.implied = aliases;
            links.push(link);
        } else {
            links.push(positive(&name, RecordType::CNAME, aliases, message));
        }
        name = target;
    }
    None
}

/// The records of that name and type, and the signatures over them.
fn of(records: &[Record], name: &Name, kind: RecordType) -> Vec<Record> {
    let is_of = |record: &&Record| record.record_type() == kind;
    let mut found: Vec<Record> = records.iter().filter(|record| record.name == *name).filter(is_of).cloned().collect();
    if !found.is_empty() {
        let signatures = records.iter().filter(|record| record.name == *name && is_signature_over(record, kind));
        found.extend(signatures.cloned());
    }
    found
}

fn positive(name: &Name, kind: RecordType, records: Vec<Record>, message: &Message) -> Link {
    // RFC 4035 section 5.3.4: that no closer name exists is to be proven for what a wildcard has made.
    let proof = if records.iter().any(is_of_wildcard) {
        proof(&message.authorities).into_iter().filter(|record| !is_about_authority(record)).collect()
    } else {
        Vec::new()
    };
    Link {
        question: Query::query(name.clone(), kind),
        records,
        implied: Vec::new(),
        proof,
        code: ResponseCode::NoError,
    }
}

/// NSEC, NSEC3 and SOA records, and the signatures over them.
fn proof(authorities: &[Record]) -> Vec<Record> {
    let kinds = [RecordType::NSEC, RecordType::NSEC3, RecordType::SOA];
    let counts =
        |record: &&Record| kinds.iter().any(|kind| record.record_type() == *kind || is_signature_over(record, *kind));
    authorities.iter().filter(counts).cloned().collect()
}

fn is_about_authority(record: &Record) -> bool {
    record.record_type() == RecordType::SOA || is_signature_over(record, RecordType::SOA)
}

/// RFC 4034 section 3.1.3: a signature that counts fewer labels than its name has is a wildcard's.
fn is_of_wildcard(record: &Record) -> bool {
    if record.record_type() != RecordType::RRSIG {
        return false;
    }
    let mut data = Vec::new();
    let emitted = record.data.emit(&mut BinEncoder::new(&mut data));
    emitted.is_ok() && data.get(3).is_some_and(|labels| *labels < record.name.num_labels())
}

/// The name above this one that has a DNAME record.
fn redirection(answers: &[Record], name: &Name) -> Option<Name> {
    let above = |record: &&Record| {
        record.record_type() == RecordType::DNAME && record.name.zone_of(name) && record.name != *name
    };
    answers.iter().find(above).map(|record| record.name.clone())
}

/// RFC 6672 section 2.2: whether the DNAME record leads from that name to that target.
fn leads(record: &Record, name: &Name, target: &Name) -> bool {
    if record.record_type() != RecordType::DNAME {
        return false;
    }
    let mut data = Vec::new();
    if record.data.emit(&mut BinEncoder::new(&mut data)).is_err() {
        return false;
    }
    let Ok(to) = Name::read(&mut BinDecoder::new(&data)) else { return false };
    let kept = usize::from(name.num_labels()).saturating_sub(record.name.num_labels().into());
    let labels: Vec<&[u8]> = name.iter().take(kept).chain(to.iter()).collect();
    Name::from_labels(labels).is_ok_and(|made| made == *target)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::rdata::{A, CNAME, NULL};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn record(owner: &str, data: RData) -> Record {
        Record::from_rdata(name(owner), 60, data)
    }

    fn alias(owner: &str, target: &str) -> Record {
        record(owner, RData::CNAME(CNAME(name(target))))
    }

    fn address(owner: &str) -> Record {
        record(owner, RData::A(A::new(192, 0, 2, 1)))
    }

    fn redirection_record(owner: &str, target: &[u8]) -> Record {
        record(owner, RData::Unknown { code: RecordType::DNAME, rdata: NULL::with(target.to_vec()) })
    }

    fn answer(question: &str, answers: Vec<Record>) -> Message {
        let mut message = Message::response(0, OpCode::Query);
        message.queries.push(Query::query(name(question), RecordType::A));
        message.answers = answers;
        message
    }

    fn steps(message: &Message) -> Vec<String> {
        let step = |link: &Link| format!("{} {}", link.question.name, link.question.query_type);
        chain(message).unwrap_or_default().iter().map(step).collect()
    }

    #[test]
    fn aliases_are_steps_of_their_own_and_what_is_not_on_the_way_is_none() {
        let other = address("other.example.");
        let message = answer("a.example.", vec![address("b.example."), other, alias("a.example.", "b.example.")]);
        assert_eq!(steps(&message), ["a.example. CNAME", "b.example. A"]);
        let message = answer("a.example.", vec![alias("a.example.", "b.example.")]);
        assert_eq!(steps(&message), ["a.example. CNAME", "b.example. A"], "the last one says that there is nothing");
    }

    #[test]
    fn aliases_that_go_round_in_circles_lead_nowhere() {
        let message = answer("a.example.", vec![alias("a.example.", "b.example."), alias("b.example.", "a.example.")]);
        assert_eq!(chain(&message), None);
    }

    #[test]
    fn an_alias_that_a_dname_makes_is_proven_by_the_dname() {
        let to_new = redirection_record("old.example.", b"\x03new\x07example\0");
        let right = alias("www.old.example.", "www.new.example.");
        let message = answer("www.old.example.", vec![to_new.clone(), right, address("www.new.example.")]);
        assert_eq!(steps(&message), ["old.example. DNAME", "www.new.example. A"]);
        let wrong = alias("www.old.example.", "www.evil.example.");
        let message = answer("www.old.example.", vec![to_new, wrong, address("www.evil.example.")]);
        assert_eq!(chain(&message), None, "it does not follow");
    }
}

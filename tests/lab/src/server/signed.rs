//! The lab's root zone as whoever validates sees it: signed with a key of its own, each answer when it is asked for.
//!
//! `bogus.*` has signatures over something else, `expired.*` old ones; `plain.test` is delegated and not signed.
use std::time::Duration;

use anyhow::{Context, Result};
use hickory_proto::dnssec::crypto::Ed25519SigningKey;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, NSEC, RRSIG};
use hickory_proto::dnssec::{DnssecSigner, SigningKey};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, NS, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordSet, RecordType};
use time::OffsetDateTime;

use super::dns::TTL;

/// How long a signature holds.
const LIFETIME: Duration = Duration::from_secs(86_400);

/// Signs the root zone.
pub(super) struct SignedRoot {
    signer: DnssecSigner,
    plain: Name,
}

impl SignedRoot {
    pub(super) fn new() -> Result<Self> {
        let key = Ed25519SigningKey::from_pkcs8(&Ed25519SigningKey::generate_pkcs8()?)?;
        let public = DNSKEY::from_key(&key.to_public_key()?);
        let signer = DnssecSigner::new(public, Box::new(key), Name::root(), LIFETIME);
        Ok(Self { signer, plain: Name::from_ascii("plain.test.").context("plain.test")? })
    }

    /// What a resolver is to trust.
    pub(super) fn trust_anchor(&self) -> String {
        format!(". IN DNSKEY {}", self.signer.dnskey())
    }

    /// Answers with signatures and proofs. `known` are the records of the name.
    pub(super) fn answer(&self, query: &Query, known: &[&Record], response: &mut Message) -> Result<()> {
        let (name, kind) = (query.name(), query.query_type());
        let is_cut = *name == self.plain;
        let unsigned = self.plain.zone_of(name) && !(is_cut && kind == RecordType::DS);
        let mut records: Vec<Record> =
            known.iter().filter(|record| record.record_type() == kind).map(|record| (*record).clone()).collect();
        if name.is_root() && kind == RecordType::DNSKEY {
            let key = RData::DNSSEC(DNSSECRData::DNSKEY(self.signer.to_dnskey()));
            records.push(Record::from_rdata(Name::root(), TTL, key));
        }
        if is_cut && kind == RecordType::NS {
            records.push(Record::from_rdata(name.clone(), TTL, RData::NS(NS(Name::from_ascii("ns.plain.test.")?))));
        }
        if !records.is_empty() {
            let signature = (!unsigned).then(|| self.sign(&records)).transpose()?;
            response.metadata.response_code = ResponseCode::NoError;
            response.answers.extend(records.into_iter().chain(signature));
            return Ok(());
        }
        let zone = if unsigned { self.plain.clone() } else { Name::root() };
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 3600, 600, 86_400, TTL);
        let soa = Record::from_rdata(zone, TTL, RData::SOA(soa));
        if unsigned {
            response.authorities.push(soa);
            return Ok(());
        }
        // RFC 4470: there is nothing between the name and the next possible one. A name that does not exist is said to have
        // no records of that type.
        response.metadata.response_code = ResponseCode::NoError;
        let mut kinds: Vec<RecordType> = known.iter().map(|record| record.record_type()).collect();
        if is_cut {
            kinds.push(RecordType::NS);
        }
        let next = name.prepend_label(&[0_u8][..])?;
        let nsec = RData::DNSSEC(DNSSECRData::NSEC(NSEC::new_cover_self(next, kinds)));
        let nsec = Record::from_rdata(name.clone(), TTL, nsec);
        for record in [soa, nsec] {
            let signature = self.sign(std::slice::from_ref(&record))?;
            response.authorities.extend([record, signature]);
        }
        Ok(())
    }

    fn sign(&self, records: &[Record]) -> Result<Record> {
        let first = records.first().context("nothing to sign")?;
        let label = first.name.iter().next().unwrap_or_default().to_ascii_lowercase();
        let mut set = RecordSet::with_ttl(first.name.to_lowercase(), first.record_type(), TTL);
        let mut signed: Vec<Record> = records.to_vec();
        if label == b"bogus" && first.record_type() == RecordType::A {
            signed = vec![Record::from_rdata(first.name.clone(), TTL, RData::A(A::new(192, 0, 2, 66)))];
        }
        for record in &mut signed {
            record.name = record.name.to_lowercase();
        }
        set.set_records(signed);
        let age = if label == b"expired" { LIFETIME * 3 } else { LIFETIME / 2 };
        let signature = RRSIG::from_rrset(&set, DNSClass::IN, OffsetDateTime::now_utc() - age, &self.signer)?;
        Ok(Record::from_rdata(first.name.clone(), TTL, RData::DNSSEC(DNSSECRData::RRSIG(signature))))
    }
}

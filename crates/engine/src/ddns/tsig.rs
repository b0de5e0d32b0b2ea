//! RFC 8945: messages signed with a shared secret.
use hickory_proto::rr::Name;
use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha512};

use super::update::{emit_name, skip_name};

const TYPE_TSIG: u16 = 250;
const CLASS_ANY: u16 = 255;
/// RFC 8945 section 10: seconds that the clocks may differ.
const FUDGE: u16 = 300;
const HEADER: usize = 12;

/// RFC 8945 section 5.2.
pub const BADSIG: u16 = 16;
/// The server does not know the key.
pub const BADKEY: u16 = 17;
/// The clocks differ too much.
pub const BADTIME: u16 = 18;

/// How a message is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// hmac-sha256.
    Sha256,
    /// hmac-sha512.
    Sha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Its name, which is a domain name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "hmac-sha256",
            Self::Sha512 => "hmac-sha512",
        }
    }

    /// The HMAC of these parts, one after the other.
    pub(super) fn mac(self, secret: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        fn with<M: Mac + hmac::digest::KeyInit>(secret: &[u8], parts: &[&[u8]]) -> Vec<u8> {
            // An HMAC takes a key of any length.
            let Ok(mut mac) = <M as Mac>::new_from_slice(secret) else { return Vec::new() };
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Self::Sha256 => with::<Hmac<Sha256>>(secret, parts),
            Self::Sha512 => with::<Hmac<Sha512>>(secret, parts),
        }
    }

    fn emit(self, out: &mut Vec<u8>) {
        let name = self.name().as_bytes();
        out.push(u8::try_from(name.len()).unwrap_or(0));
        out.extend(name);
        out.push(0);
    }
}

/// A shared secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name, which both sides know it by.
    pub name: Name,
    /// How it signs.
    pub algorithm: Algorithm,
    /// The secret.
    pub secret: Vec<u8>,
}

impl core::fmt::Debug for Key {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.debug_struct("Key").field("name", &self.name).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is none.
    Unsigned,
    /// It is not that of this answer with this key at this time.
    Wrong,
    /// The server says what it did not like about ours.
    Server(u16),
}

/// The printed name of an error.
pub const fn error_name(error: u16) -> &'static str {
    match error {
        BADSIG => "BADSIG",
        BADKEY => "BADKEY",
        BADTIME => "BADTIME",
        22 => "BADTRUNC",
        _ => "an unknown TSIG error",
    }
}

/// Signs a request, and gives its signature: the answer's is made with it.
pub fn sign(message: &mut Vec<u8>, key: &Key, id: u16, now: u64) -> Vec<u8> {
    let mac = key.algorithm.mac(&key.secret, &[message, &variables(key, now, FUDGE, 0, &[])]);
    append(message, key, id, now, &mac);
    mac
}

/// Signs an answer to the request with that signature, as a server does.
#[cfg(test)]
pub(super) fn sign_answer(message: &mut Vec<u8>, key: &Key, id: u16, now: u64, request: &[u8]) {
    let length = u16::try_from(request.len()).unwrap().to_be_bytes();
    let mac = key.algorithm.mac(&key.secret, &[&length, request, message, &variables(key, now, FUDGE, 0, &[])]);
    append(message, key, id, now, &mac);
}

fn append(message: &mut Vec<u8>, key: &Key, id: u16, now: u64, mac: &[u8]) {
    emit_name(&key.name, message);
    message.extend([&TYPE_TSIG.to_be_bytes()[..], &CLASS_ANY.to_be_bytes(), &[0; 4]].concat());
    let mut data = Vec::new();
    key.algorithm.emit(&mut data);
    data.extend(&now.to_be_bytes()[2..]);
    data.extend(FUDGE.to_be_bytes());
    data.extend(u16::try_from(mac.len()).unwrap_or(0).to_be_bytes());
    data.extend(mac);
    data.extend([&id.to_be_bytes()[..], &[0; 4]].concat());
    message.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    message.extend(data);
    // One record is additional now.
    if let Some(count) = message.get_mut(11) {
        *count += 1;
    }
}

/// RFC 8945 section 4.3.3: what is signed beside the message.
fn variables(key: &Key, time: u64, fudge: u16, error: u16, other: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    emit_name(&key.name, &mut out);
    out.extend([&CLASS_ANY.to_be_bytes()[..], &[0; 4]].concat());
    key.algorithm.emit(&mut out);
    out.extend(&time.to_be_bytes()[2..]);
    out.extend(fudge.to_be_bytes());
    out.extend(error.to_be_bytes());
    out.extend(u16::try_from(other.len()).unwrap_or(0).to_be_bytes());
    out.extend(other);
    out
}

/// Whether an answer is signed with the key and belongs to the request with that signature.
///
/// # Errors
/// See [`Fault`].
pub fn verify(message: &[u8], key: &Key, request: &[u8], now: u64) -> Result<(), Fault> {
    let record = last_additional(message).ok_or(Fault::Unsigned)?;
    let mut expected = Vec::new();
    emit_name(&key.name, &mut expected);
    let name = message.get(record.begin..record.fields).unwrap_or_default();
    // RFC 8945 section 4.2: what is the same in every record, and is signed as such whatever it says here.
    let fixed = [&CLASS_ANY.to_be_bytes()[..], &[0; 4]].concat();
    let mut algorithm = Vec::new();
    key.algorithm.emit(&mut algorithm);
    let data = record.fields + 10;
    let is_ours = name.to_ascii_lowercase() == expected
        && message.get(record.fields + 2..record.fields + 8) == Some(&fixed)
        && message.get(data..data + algorithm.len()).is_some_and(|it| it.eq_ignore_ascii_case(&algorithm));
    if !is_ours {
        return Err(Fault::Wrong);
    }
    let data = record.parse(message).ok_or(Fault::Wrong)?;
    if data.mac.is_empty() && data.error != 0 {
        return Err(Fault::Server(data.error));
    }
    // RFC 8945 section 5.3: without the record, with the count before it, and with the original identifier.
    let mut signed = message.get(..record.begin).unwrap_or_default().to_vec();
    let count = u16::from_be_bytes([signed[10], signed[11]]) - 1;
    signed[10..12].copy_from_slice(&count.to_be_bytes());
    signed[..2].copy_from_slice(data.id);
    let length = u16::try_from(request.len()).unwrap_or(0).to_be_bytes();
    let variables = variables(key, data.time, data.fudge, data.error, data.other);
    let mac = key.algorithm.mac(&key.secret, &[&length, request, &signed, &variables]);
    let differs = mac.iter().zip(data.mac).fold(mac.len() ^ data.mac.len(), |sum, (a, b)| sum | usize::from(a ^ b));
    if differs != 0 {
        return Err(Fault::Wrong);
    }
    if data.error != 0 {
        return Err(Fault::Server(data.error));
    }
    if data.time.abs_diff(now) > data.fudge.into() {
        return Err(Fault::Server(BADTIME));
    }
    Ok(())
}

struct Record {
    begin: usize,
    /// Where its type is.
    fields: usize,
}

struct Data<'a> {
    time: u64,
    fudge: u16,
    mac: &'a [u8],
    id: &'a [u8],
    error: u16,
    other: &'a [u8],
}

impl Record {
    fn parse<'a>(&self, message: &'a [u8]) -> Option<Data<'a>> {
        let at = skip_name(message, self.fields + 10)?;
        let word = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
        let mut time = [0; 8];
        time[2..].copy_from_slice(message.get(at..at + 6)?);
        let length = usize::from(word(at + 8)?);
        let mac = message.get(at + 10..at + 10 + length)?;
        let rest = at + 10 + length;
        let other = usize::from(word(rest + 4)?);
        Some(Data {
            time: u64::from_be_bytes(time),
            fudge: word(at + 6)?,
            mac,
            id: message.get(rest..rest + 2)?,
            error: word(rest + 2)?,
            other: message.get(rest + 6..rest + 6 + other)?,
        })
    }
}

/// The last additional record, where it is a TSIG.
fn last_additional(message: &[u8]) -> Option<Record> {
    let word = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let mut at = HEADER;
    for _ in 0..word(4)? {
        at = skip_name(message, at)? + 4;
    }
    let records = u32::from(word(6)?) + u32::from(word(8)?) + u32::from(word(10)?);
    let mut last = None;
    for _ in 0..records {
        let fields = skip_name(message, at)?;
        let length = usize::from(word(fields + 8)?);
        last = Some(Record { begin: at, fields });
        at = fields + 10 + length;
    }
    let is_whole = at == message.len();
    last.filter(|record| is_whole && word(10) > Some(0) && word(record.fields) == Some(TYPE_TSIG))
}

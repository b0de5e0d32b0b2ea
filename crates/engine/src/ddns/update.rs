//! RFC 2136: one RRset of a name is replaced by one address.
use core::net::{IpAddr, SocketAddr};

use hickory_proto::rr::Name;

use super::Outcome;
use super::tsig::{self, Key};

const OPCODE_UPDATE: u8 = 5;
const TYPE_A: u16 = 1;
const TYPE_SOA: u16 = 6;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;
/// Bytes of a header.
const HEADER: usize = 12;

/// Whom to tell, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdatePlan {
    /// The zone's primary server.
    pub server: SocketAddr,
    /// The zone.
    pub zone: Name,
    /// Seconds that others may keep the address.
    pub ttl: u32,
    /// RFC 8945: the key that signs; absent where the server trusts the address.
    pub key: Option<Key>,
}

/// An update that was sent, with what its answer is held against.
#[derive(Debug)]
pub struct Request {
    /// What is sent.
    pub message: Vec<u8>,
    id: u16,
    mac: Vec<u8>,
}

#[cfg(test)]
impl Request {
    pub(super) fn mac(&self) -> &[u8] {
        &self.mac
    }
}

/// The update. `now` is in seconds since 1970.
pub fn request(plan: &UpdatePlan, name: &Name, address: IpAddr, id: u16, now: u64) -> Request {
    let kind = if address.is_ipv4() { TYPE_A } else { TYPE_AAAA };
    let mut message = Vec::with_capacity(256);
    message.extend(id.to_be_bytes());
    message.extend([OPCODE_UPDATE << 3, 0]);
    // One zone, no prerequisite, two updates, nothing additional.
    message.extend([0, 1, 0, 0, 0, 2, 0, 0]);
    emit_name(&plan.zone, &mut message);
    message.extend([TYPE_SOA.to_be_bytes(), CLASS_IN.to_be_bytes()].concat());
    // RFC 2136 section 2.5.2: the RRset goes, and section 2.5.1: the address takes its place.
    emit_name(name, &mut message);
    message.extend([kind.to_be_bytes(), CLASS_ANY.to_be_bytes()].concat());
    message.extend([0; 6]);
    emit_name(name, &mut message);
    message.extend([kind.to_be_bytes(), CLASS_IN.to_be_bytes()].concat());
    message.extend(plan.ttl.to_be_bytes());
    match address {
        IpAddr::V4(address) => message.extend([&[0, 4][..], &address.octets()].concat()),
        IpAddr::V6(address) => message.extend([&[0, 16][..], &address.octets()].concat()),
    }
    let mac = plan.key.as_ref().map_or_else(Vec::new, |key| tsig::sign(&mut message, key, id, now));
    Request { message, id, mac }
}

/// What the server says; nothing for a message that is no answer to this request.
pub fn answer(plan: &UpdatePlan, request: &Request, message: &[u8], now: u64) -> Option<Outcome> {
    let header = message.get(..HEADER)?;
    let is_answer = header[..2] == request.id.to_be_bytes() && header[2] & 0xf8 == 0x80 | OPCODE_UPDATE << 3;
    if !is_answer {
        return None;
    }
    let code = header[3] & 0x0f;
    let signature = plan.key.as_ref().map(|key| tsig::verify(message, key, &request.mac, now));
    match signature {
        None | Some(Ok(())) => {}
        // RFC 8945 section 5.3.2: what is not signed rightly is not believed, but it may say why.
        Some(Err(tsig::Fault::Server(error))) => {
            return Some(match error {
                tsig::BADTIME => Outcome::Failed(format!("{}: the clocks differ", tsig::error_name(error))),
                _ => Outcome::Refused(format!("{}: the server does not take the key", tsig::error_name(error))),
            });
        }
        Some(Err(tsig::Fault::Unsigned | tsig::Fault::Wrong)) if code == 0 => return None,
        Some(Err(tsig::Fault::Unsigned | tsig::Fault::Wrong)) => {}
    }
    Some(match code {
        0 => Outcome::Done("NOERROR".to_owned()),
        2 => Outcome::Failed("SERVFAIL".to_owned()),
        1 => Outcome::Refused("FORMERR: the server does not understand updates".to_owned()),
        3 => Outcome::Refused("NXDOMAIN".to_owned()),
        4 => Outcome::Refused("NOTIMP: the server takes no updates".to_owned()),
        5 => Outcome::Refused("REFUSED: the server does not allow this update".to_owned()),
        9 => Outcome::Refused(format!(
            "NOTAUTH: the server is not the primary of {}, or does not take the key",
            plan.zone
        )),
        10 => Outcome::Refused(format!("NOTZONE: the name is not in {}", plan.zone)),
        other => Outcome::Refused(format!("RCODE {other}")),
    })
}

/// RFC 1035 section 3.1, uncompressed, in lower case as RFC 8945 section 4.3.3 has it.
pub(super) fn emit_name(name: &Name, out: &mut Vec<u8>) {
    for label in name.iter() {
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    out.push(0);
}

/// Where the name at that place ends.
pub(super) fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            192.. => return Some(at + 2),
            64..192 => return None,
        }
    }
}

//! RFC 8415 sections 18.2.11 and 20.4: a server has a client ask again, and shows by a key that it may.
use hmac::{Hmac, Mac};
use md5::Md5;
use sixgate_wire::dhcpv6::{Message, code};

/// RFC 8415 section 20.4: what is before the key or the digest in the option, which has 16 bytes.
const BEFORE: usize = 12;
const KEY: u8 = 1;
const DIGEST: u8 = 2;

/// What a server has given to prove itself by.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Key {
    secret: [u8; 16],
    /// RFC 8415 section 20.3: the last value seen; the next one is higher.
    replay: u64,
}

/// The key in a Reply of a server that wants to reconfigure its clients.
pub(super) fn key(reply: &Message<'_>) -> Option<Key> {
    reply.options().find(code::RECONFIGURE_ACCEPT)?;
    let (replay, kind, secret) = parse(reply.options().find(code::AUTHENTICATION)?)?;
    (kind == KEY).then_some(Key { secret, replay })
}

/// The message that a Reconfigure asks for; nothing where it is not that server's, or was seen before.
pub(super) fn verify(key: &mut Key, datagram: &[u8], message: &Message<'_>) -> Option<u8> {
    let (replay, kind, digest) = parse(message.options().find(code::AUTHENTICATION)?)?;
    if kind != DIGEST || replay <= key.replay {
        return None;
    }
    let at = place(datagram, code::AUTHENTICATION)? + BEFORE;
    let mut signed = datagram.to_vec();
    signed.get_mut(at..at + digest.len())?.fill(0);
    let mut mac = Hmac::<Md5>::new_from_slice(&key.secret).ok()?;
    mac.update(&signed);
    mac.verify_slice(&digest).ok()?;
    key.replay = replay;
    match message.options().find(code::RECONFIGURE_MESSAGE)? {
        [asked] => Some(*asked),
        _ => None,
    }
}

/// RFC 8415 section 21.11 with protocol 3, algorithm 1 and RDM 0.
fn parse(option: &[u8]) -> Option<(u64, u8, [u8; 16])> {
    let rest = option.strip_prefix(&[3, 1, 0])?;
    let (replay, rest) = rest.split_first_chunk::<8>()?;
    let (kind, value) = rest.split_first()?;
    Some((u64::from_be_bytes(*replay), *kind, value.try_into().ok()?))
}

/// Where the value of the first option of that kind begins.
fn place(datagram: &[u8], code: u16) -> Option<usize> {
    let mut at = 4;
    loop {
        let header = datagram.get(at..at + 4)?;
        if header[..2] == code.to_be_bytes() {
            return Some(at + 4);
        }
        at += 4 + usize::from(u16::from_be_bytes([header[2], header[3]]));
    }
}

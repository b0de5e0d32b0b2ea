//! Asks the host's resolvers for `ipv4only.arpa` (RFC 7050 section 3).
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use sixgate_engine::clat::prefixes::Lookup;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::clock::seed;

/// Where the host's resolvers stand.
const FILE: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// How long a resolver may take, and how often each is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// Resolvers that are asked.
const MOST: usize = 3;

/// Asks one resolver after the other until one answers.
pub(super) async fn look_up() -> Lookup {
    let resolvers = resolvers(&std::fs::read_to_string(FILE).unwrap_or_default());
    if resolvers.is_empty() {
        return Lookup::Failed(format!("{FILE} names no resolver"));
    }
    let mut failure = String::new();
    for resolver in resolvers.iter().cycle().take(resolvers.len() * ROUNDS) {
        match timeout(PATIENCE, ask(*resolver)).await {
            Ok(Ok(lookup)) => return lookup,
            Ok(Err(error)) => failure = format!("{}: {error}", resolver.ip()),
            Err(_) => failure = format!("{} does not answer", resolver.ip()),
        }
    }
    Lookup::Failed(failure)
}

async fn ask(resolver: SocketAddr) -> io::Result<Lookup> {
    let any: IpAddr = if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    let id = seed() as u16;
    socket.send(&question(id)?).await?;
    let mut buffer = [0; 1500];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(lookup) = buffer.get(..length).and_then(|bytes| answer(bytes, id)) {
            return Ok(lookup);
        }
    }
}

fn question(id: u16) -> io::Result<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii("ipv4only.arpa.").map_err(io::Error::other)?;
    message.queries.push(Query::query(name, RecordType::AAAA));
    message.to_vec().map_err(io::Error::other)
}

/// What a response says; nothing of one that is not for our question.
fn answer(bytes: &[u8], id: u16) -> Option<Lookup> {
    let message = Message::from_vec(bytes).ok()?;
    if message.metadata.id != id || message.metadata.message_type != MessageType::Response {
        return None;
    }
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        code => return Some(Lookup::Failed(format!("the resolver answers {code}"))),
    }
    let addresses = message.answers.iter().filter_map(|record| match &record.data {
        RData::AAAA(address) => Some(address.0),
        _ => None,
    });
    let ttl = message.answers.iter().map(|record| record.ttl).min().unwrap_or_default();
    Some(Lookup::Answer(addresses.collect(), ttl))
}

/// The resolvers of the file; a scope is a link's number.
fn resolvers(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next());
    let parsed = named.filter_map(|word| {
        if let Ok(address) = word.parse::<IpAddr>() {
            return Some(SocketAddr::new(address, PORT));
        }
        let (address, link) = word.split_once('%')?;
        let index = std::fs::read_to_string(format!("/sys/class/net/{link}/ifindex")).ok()?.trim().parse().ok()?;
        Some(std::net::SocketAddrV6::new(address.parse().ok()?, PORT, 0, index).into())
    });
    parsed.take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::AAAA;

    use super::*;

    #[test]
    fn resolvers_are_read_as_the_c_library_does() {
        let text =
            "# nameserver 192.0.2.9\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \noptions rotate\nnameserver x\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53"].map(|text| text.parse().unwrap());
        assert_eq!(resolvers(text), expected);
    }

    #[test]
    fn the_question_asks_for_aaaa_and_lets_the_resolver_check() {
        let message = Message::from_vec(&question(7).unwrap()).unwrap();
        let [query] = &message.queries[..] else { panic!("one question") };
        assert_eq!((query.name().to_string().as_str(), query.query_type()), ("ipv4only.arpa.", RecordType::AAAA));
        // RFC 7050 section 3: a resolver synthesizes nothing where checking is disabled.
        assert!(message.metadata.recursion_desired && !message.metadata.checking_disabled);
    }

    #[test]
    fn an_answer_tells_addresses_and_others_are_not_ours() {
        let mut message = Message::from_vec(&question(7).unwrap()).unwrap();
        assert_eq!(answer(&message.to_vec().unwrap(), 7), None, "a question");
        message.metadata.message_type = MessageType::Response;
        let address = "64:ff9b::192.0.0.170".parse().unwrap();
        let name = message.queries[0].name.clone();
        message.answers.push(Record::from_rdata(name, 300, RData::AAAA(AAAA(address))));
        let bytes = message.to_vec().unwrap();
        assert_eq!(answer(&bytes, 7), Some(Lookup::Answer(vec![address], 300)));
        assert_eq!(answer(&bytes, 8), None);
        message.metadata.response_code = ResponseCode::ServFail;
        assert!(matches!(answer(&message.to_vec().unwrap(), 7), Some(Lookup::Failed(_))));
    }
}

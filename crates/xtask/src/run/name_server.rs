//! A DNS server with one name, which has an IPv4 address only.
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// The only name that has an address.
pub(crate) const NAME: &str = "ipv4only.demo.test";
const ZONE: &str = "demo.test.";
const TTL: u32 = 60;

/// How often a port that is free for UDP and not for TCP is exchanged for another.
const ATTEMPTS: usize = 20;

/// Serves on a free port of the loopback interface until the process ends.
pub(crate) fn start(address: Ipv4Addr) -> Result<u16> {
    let (udp, tcp) = bind()?;
    let port = udp.local_addr()?.port();
    thread::Builder::new().name("dns-udp".into()).spawn(move || {
        let mut question = [0; 4096];
        // An error is the last answer's, whose asker has gone.
        loop {
            let Ok((length, from)) = udp.recv_from(&mut question) else { continue };
            if let Some(answer) = answer(&question[..length], address) {
                let _ = udp.send_to(&answer, from);
            }
        }
    })?;
    thread::Builder::new().name("dns-tcp".into()).spawn(move || {
        for stream in tcp.incoming().flatten() {
            thread::spawn(move || converse(stream, address));
        }
    })?;
    Ok(port)
}

fn bind() -> Result<(UdpSocket, TcpListener)> {
    for _ in 0..ATTEMPTS {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        if let Ok(tcp) = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, udp.local_addr()?.port()))) {
            return Ok((udp, tcp));
        }
    }
    anyhow::bail!("no port is free for both UDP and TCP")
}

fn converse(mut stream: TcpStream, address: Ipv4Addr) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).ok()?;
        let answer = answer(&question, address)?;
        let mut framed = u16::try_from(answer.len()).ok()?.to_be_bytes().to_vec();
        framed.extend(answer);
        stream.write_all(&framed).ok()?;
    }
}

/// The answer to a question; nothing to what is none.
fn answer(question: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let (name, zone) = (Name::from_ascii(NAME).ok()?, Name::from_ascii(ZONE).ok()?);
    let code = if !zone.zone_of(query.name()) {
        ResponseCode::Refused
    } else if query.name().eq_ignore_root(&name) || query.name().eq_ignore_root(&zone) {
        ResponseCode::NoError
    } else {
        ResponseCode::NXDomain
    };
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.authoritative = true;
    answer.metadata.response_code = code;
    if query.name().eq_ignore_root(&name) && query.query_type() == RecordType::A {
        answer.add_answer(Record::from_rdata(query.name().clone(), TTL, RData::A(A(address))));
    } else if code != ResponseCode::Refused {
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 3600, 600, 86_400, TTL);
        answer.add_authority(Record::from_rdata(zone, TTL, RData::SOA(soa)));
    }
    answer.add_query(query);
    answer.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    fn ask(name: &str, kind: RecordType) -> Message {
        let mut question = Message::query();
        question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let reply = Message::from_vec(&answer(&question.to_vec().unwrap(), ADDRESS).unwrap()).unwrap();
        assert_eq!(reply.metadata.id, question.metadata.id);
        reply
    }

    #[test]
    fn the_name_has_an_ipv4_address_and_no_ipv6_address() {
        let reply = ask("ipv4only.demo.test.", RecordType::A);
        assert_eq!(reply.answers.iter().map(|record| record.data.clone()).collect::<Vec<_>>(), [RData::A(A(ADDRESS))]);
        let reply = ask("ipv4only.demo.test.", RecordType::AAAA);
        assert_eq!((reply.answers.len(), reply.authorities.len()), (0, 1));
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    }

    #[test]
    fn other_names_do_not_exist_or_are_not_ours() {
        assert_eq!(ask("other.demo.test.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(ask("example.com.", RecordType::A).metadata.response_code, ResponseCode::Refused);
    }

    #[test]
    fn garbage_gets_no_answer() {
        assert_eq!(answer(b"garbage", ADDRESS), None);
    }
}

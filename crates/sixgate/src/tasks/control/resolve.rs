//! Names, asked of the router's own resolver as a host on a LAN would.
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use sixgate_engine::status::Status;
use sixgate_linux::clock;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::Desk;
use crate::control::{ErrorKind, Reply, Resolved, refusal};

/// As long as a stub resolver is patient.
const PATIENCE: Duration = Duration::from_secs(5);
const PAYLOAD: u16 = 1232;

/// Asks for a name's addresses.
pub(super) async fn resolve(desk: &Desk, name: &str, synthesis: bool) -> Result<Resolved, Reply> {
    let status = desk.status().await?;
    ask(&status, name, synthesis).await
}

/// As [`resolve`], where the state is known.
pub(super) async fn ask(status: &Status, name: &str, synthesis: bool) -> Result<Resolved, Reply> {
    let refused = |text: String| refusal(ErrorKind::Refused, text);
    let mut name = Name::from_utf8(name).map_err(|error| refused(format!("\"{name}\" is no name: {error}")))?;
    name.set_fqdn(true);
    let listening = status.dns64.iter().flat_map(|dns64| &dns64.listening);
    let server = listening.copied().find(|address| !is_link_local(address.ip()));
    let server = server.ok_or_else(|| refused("the resolver listens nowhere: see `sixgate findings`".to_owned()))?;
    let began = Instant::now();
    let mut resolved = Resolved { server: Some(server), ..Resolved::default() };
    for kind in [RecordType::AAAA, RecordType::A] {
        let response = match exchange(server, &name, kind, synthesis).await {
            Ok(response) => response,
            Err(error) => {
                resolved.errors.push(format!("{kind}: {error}"));
                continue;
            }
        };
        let code = response.metadata.response_code;
        if code != ResponseCode::NoError {
            resolved.errors.push(format!("{kind}: {code}"));
        }
        for record in &response.answers {
            let text = record.to_string();
            if !resolved.records.contains(&text) {
                resolved.records.push(text);
            }
            match &record.data {
                RData::AAAA(address) => resolved.addresses.push(IpAddr::V6(address.0)),
                RData::A(address) => resolved.addresses.push(IpAddr::V4(address.0)),
                _ => {}
            }
        }
    }
    resolved.micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(resolved)
}

async fn exchange(server: SocketAddr, name: &Name, kind: RecordType, synthesis: bool) -> std::io::Result<Message> {
    let [high, low, ..] = clock::seed()?;
    let mut message = Message::new(u16::from_be_bytes([high, low]), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    // RFC 6147 section 5.5: with both set, whoever asks validates by itself, and nothing is synthesized.
    message.metadata.checking_disabled = !synthesis;
    let mut query = Query::query(name.clone(), kind);
    query.set_query_class(hickory_proto::rr::DNSClass::IN);
    message.queries.push(query);
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    edns.set_dnssec_ok(!synthesis);
    message.edns = Some(edns);
    let question = message.to_vec().map_err(std::io::Error::other)?;

    let any: SocketAddr = if server.is_ipv6() { (Ipv6Addr::UNSPECIFIED, 0).into() } else { ([0, 0, 0, 0], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut buffer = [0; PAYLOAD as usize];
    let answered = async {
        loop {
            let length = socket.recv(&mut buffer).await?;
            let response = Message::from_vec(&buffer[..length]);
            if let Ok(response) = response
                && response.metadata.id == message.metadata.id
            {
                return std::io::Result::Ok(response);
            }
        }
    };
    timeout(PATIENCE, answered).await.unwrap_or_else(|_| Err(std::io::Error::other("no answer in time")))
}

fn is_link_local(address: IpAddr) -> bool {
    sixgate_linux::echo_socket::is_link_local(address)
}

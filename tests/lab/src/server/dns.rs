//! The upstream resolver of the lab: a handful of names, over UDP and TCP.
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::Thread;
use super::signed::SignedRoot;
use crate::lab::SOON;
use crate::namespace::Namespace;
use crate::wait;

/// TTL of every record but those of `brief.*`, which hold for a second.
pub(super) const TTL: u32 = 300;

/// What was on its way has come after so long.
const QUIET: Duration = Duration::from_millis(700);

/// A resolver that knows a list of names and denies all others.
#[derive(Debug)]
pub struct Dns {
    _threads: [Thread; 2],
    trust_anchor: String,
    questions: Arc<AtomicU64>,
}

impl Dns {
    /// Listens in a namespace, on an address that it holds. A name may occur several times.
    pub fn start(host: &Namespace, address: SocketAddr, names: &[(&str, IpAddr)]) -> Result<Self> {
        let records: Arc<[Record]> =
            names.iter().map(|(name, address)| record(name, *address)).collect::<Result<_>>()?;
        let questions = Arc::new(AtomicU64::new(0));
        let root = Arc::new(SignedRoot::new()?);
        let trust_anchor = root.trust_anchor();
        let udp = host.inside(|| UdpSocket::bind(address)).with_context(|| format!("UDP {address}"))?;
        let tcp = host.inside(|| TcpListener::bind(address)).with_context(|| format!("TCP {address}"))?;

        let (zone, signer, count) = (Arc::clone(&records), Arc::clone(&root), Arc::clone(&questions));
        let over_udp = Thread::start(move |stop| {
            let mut buffer = [0; 4096];
            while stop.readable(&udp) {
                let Ok((length, peer)) = udp.recv_from(&mut buffer) else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = answer(&zone, &signer, &buffer[..length]) {
                    let _ = udp.send_to(&answer, peer);
                }
            }
        })?;
        let count = Arc::clone(&questions);
        let over_tcp = Thread::start(move |stop| {
            while stop.readable(&tcp) {
                let Ok((stream, _)) = tcp.accept() else { continue };
                let (zone, signer, count) = (Arc::clone(&records), Arc::clone(&root), Arc::clone(&count));
                std::thread::spawn(move || serve(stream, &zone, &signer, &count));
            }
        })?;
        Ok(Self { _threads: [over_udp, over_tcp], trust_anchor, questions })
    }

    /// The key of its root zone, as a configuration names it.
    pub fn trust_anchor(&self) -> &str {
        &self.trust_anchor
    }

    /// Questions received so far.
    pub fn questions(&self) -> u64 {
        self.questions.load(Ordering::Relaxed)
    }

    /// Questions received by the time that no more come: one that was asked twice on a busy machine has come twice.
    pub fn settled_questions(&self) -> Result<u64> {
        let mut last = self.questions();
        wait::until("an upstream that is not asked anything", SOON, || {
            std::thread::sleep(QUIET);
            let before = std::mem::replace(&mut last, self.questions());
            (before == last).then_some(last)
        })
    }
}

fn record(name: &str, address: IpAddr) -> Result<Record> {
    let data = match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    };
    let ttl = if name.starts_with("brief.") { 1 } else { TTL };
    Ok(Record::from_rdata(Name::from_ascii(name).with_context(|| name.to_owned())?, ttl, data))
}

/// RFC 7766: several questions on one connection, each with its length in front.
fn serve(mut stream: TcpStream, zone: &[Record], root: &SignedRoot, count: &AtomicU64) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut question)?;
        count.fetch_add(1, Ordering::Relaxed);
        let Some(answer) = answer(zone, root, &question) else { return Ok(()) };
        stream.write_all(&u16::try_from(answer.len()).unwrap_or(0).to_be_bytes())?;
        stream.write_all(&answer)?;
    }
}

fn answer(zone: &[Record], root: &SignedRoot, question: &[u8]) -> Option<Vec<u8>> {
    let request = Message::from_vec(question).ok()?;
    let query = request.queries.first()?.clone();
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.message_type = MessageType::Response;
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    let known: Vec<&Record> = zone.iter().filter(|record| record.name == *query.name()).collect();
    if known.is_empty() {
        response.metadata.response_code = ResponseCode::NXDomain;
    }
    if let Some(edns) = request.edns.as_ref().filter(|edns| edns.flags().dnssec_ok) {
        response.edns = Some(edns.clone());
        root.answer(&query, &known, &mut response).ok()?;
        response.add_query(query);
        return response.to_vec().ok();
    }
    let wanted: RecordType = query.query_type();
    for record in known.into_iter().filter(|record| record.record_type() == wanted) {
        response.add_answer(record.clone());
    }
    response.add_query(query);
    response.to_vec().ok()
}

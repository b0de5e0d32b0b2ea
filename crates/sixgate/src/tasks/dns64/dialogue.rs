//! Carries one transaction's questions to the upstreams and their answers back.
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use sixgate_engine::dns64::{Event, Outcome, Transaction, Transmit, Transport, Verdict, View};
use sixgate_engine::plan::Dns64Plan;
use sixgate_linux::dns_socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::encrypted::Encryption;
use super::validator::Validator;
use crate::clock::{now, seed, sleep_until};

/// Room for a datagram; the questions announce 1,232 bytes.
const DATAGRAM: usize = 4096;

/// What it takes beside sockets.
#[derive(Clone, Copy)]
pub(super) struct Ways<'a> {
    pub(super) validator: &'a Validator,
    pub(super) encryption: &'a Encryption,
}

/// Drives a query to its end.
pub(super) async fn resolve(
    query: &[u8],
    transport: Transport,
    (plan, view): (Arc<Dns64Plan>, View),
    Ways { validator, encryption }: Ways<'_>,
    mut count: impl FnMut(&Event),
) -> Outcome {
    let mut transaction = Transaction::new(query, transport, plan.clone(), view, seed(), now());
    let mut line = Line::Ended;
    let mut message = Vec::new();
    let mut validation: Option<Pin<Box<dyn Future<Output = Verdict> + Send>>> = None;
    loop {
        while let Some(event) = transaction.poll_event() {
            count(&event);
            if let Event::Finished(outcome) = event {
                return outcome;
            }
        }
        if let Some(transmit) = transaction.poll_transmit() {
            line = Line::open(transmit, &plan, encryption);
        }
        if let Some(answer) = transaction.poll_validation() {
            validation = Some(validator.validate(answer, &plan.trust_anchors));
        }
        let validating = validation.is_some();
        let verdict = async {
            match &mut validation {
                Some(validation) => validation.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            verdict = verdict => {
                validation = None;
                transaction.handle_verdict(verdict, now());
            }
            received = line.receive(&mut message), if !validating => match received {
                Ok(()) => transaction.handle_input(&message, now()),
                Err(error) => {
                    tracing::trace!("upstream: {error}");
                    line = Line::Ended;
                    transaction.handle_failure(now());
                }
            },
            () = sleep_until(transaction.poll_timeout()) => transaction.handle_timeout(now()),
        }
    }
}

/// A question on its way, over a socket of its own.
enum Line {
    /// Nothing is asked, or nothing more can come.
    Ended,
    Opening(Transmit),
    Datagrams(UdpSocket),
    Stream(Pin<Box<dyn Future<Output = io::Result<Vec<u8>>> + Send>>),
}

impl Line {
    fn open(transmit: Transmit, plan: &Arc<Dns64Plan>, encryption: &Encryption) -> Self {
        if let Some(upstream) = plan.encrypted(transmit.upstream).cloned() {
            let (plan, encryption) = (plan.clone(), encryption.clone());
            return Self::Stream(Box::pin(async move { encryption.ask(&upstream, &plan, transmit.message).await }));
        }
        match transmit.transport {
            Transport::Udp => Self::Opening(transmit),
            Transport::Tcp => Self::Stream(Box::pin(exchange(transmit))),
        }
    }

    /// The next message from the upstream. Nothing is lost when the future is dropped: opening is repeated then.
    async fn receive(&mut self, message: &mut Vec<u8>) -> io::Result<()> {
        if let Self::Opening(transmit) = self {
            *self = Self::Datagrams(UdpSocket::from_std(dns_socket::ask(transmit.upstream, &transmit.message)?)?);
        }
        match self {
            Self::Ended | Self::Opening(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Self::Datagrams(socket) => {
                message.resize(DATAGRAM, 0);
                let length = socket.recv(message).await?;
                message.truncate(length);
                Ok(())
            }
            Self::Stream(exchange) => {
                *message = exchange.await?;
                *self = Self::Ended;
                Ok(())
            }
        }
    }
}

/// RFC 7766 section 8: two octets of length before each message.
async fn exchange(transmit: Transmit) -> io::Result<Vec<u8>> {
    let length = u16::try_from(transmit.message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&transmit.message);
    let mut stream = TcpStream::connect(transmit.upstream).await?;
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr};
    use std::str::FromStr;

    use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::super::Slice;
    use super::*;

    const LOOPBACK: (Ipv6Addr, u16) = (Ipv6Addr::LOCALHOST, 0);

    fn query() -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_str("www.example.com.").unwrap(), RecordType::A));
        message.to_vec().unwrap()
    }

    fn answer_to(bytes: &[u8], last: u8) -> Message {
        let question = Message::from_vec(bytes).unwrap();
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        let name = question.queries[0].name().clone();
        answer.add_queries(question.queries);
        answer.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, last))));
        answer
    }

    fn plan(upstream: &[SocketAddr]) -> Arc<Dns64Plan> {
        Arc::new(Dns64Plan { upstream: upstream.to_vec(), ..Dns64Plan::default() })
    }

    fn last_octet(response: &Message) -> u8 {
        let RData::A(address) = &response.answers[0].data else { panic!("{response:?}") };
        address.octets()[3]
    }

    async fn outcome(upstream: &[SocketAddr]) -> (Option<Message>, Vec<Event>) {
        let mut events = Vec::new();
        let count = |event: &Event| events.push(event.clone());
        let (validator, slice) = (Validator::default(), watch::channel(Slice::default()).0);
        let ways = Ways { validator: &validator, encryption: &Encryption::new(slice) };
        let outcome = resolve(&query(), Transport::Udp, (plan(upstream), View::Translated), ways, count).await;
        (outcome.cut(), events)
    }

    #[tokio::test]
    async fn strays_are_counted_and_the_answer_is_taken() {
        let upstream = UdpSocket::bind(LOOPBACK).await.unwrap();
        let address = upstream.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = upstream.recv_from(&mut buffer).await.unwrap();
            let mut other = answer_to(&buffer[..length], 1);
            other.metadata.id ^= 1;
            let answer = answer_to(&buffer[..length], 9);
            for reply in [b"\0garbage".to_vec(), other.to_vec().unwrap(), answer.to_vec().unwrap()] {
                upstream.send_to(&reply, from).await.unwrap();
            }
        });
        let (response, events) = outcome(&[address]).await;
        assert_eq!(last_octet(&response.unwrap()), 9);
        assert_eq!(events.iter().filter(|event| **event == Event::Mismatch).count(), 2, "{events:?}");
    }

    #[tokio::test]
    async fn a_truncated_answer_is_fetched_over_tcp() {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let address = listener.local_addr().unwrap();
        let datagrams = UdpSocket::bind(address).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = datagrams.recv_from(&mut buffer).await.unwrap();
            let mut short = answer_to(&buffer[..length], 1);
            short.answers.clear();
            short.metadata.truncation = true;
            datagrams.send_to(&short.to_vec().unwrap(), from).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut bytes).await.unwrap();
            let full = answer_to(&bytes, 7).to_vec().unwrap();
            stream.write_u16(full.len() as u16).await.unwrap();
            stream.write_all(&full).await.unwrap();
        });
        let (response, _) = outcome(&[address]).await;
        assert_eq!(last_octet(&response.unwrap()), 7);
    }

    #[tokio::test]
    async fn a_closed_port_is_passed_over_at_once() {
        let closed = UdpSocket::bind(LOOPBACK).await.unwrap().local_addr().unwrap();
        let healthy = UdpSocket::bind(LOOPBACK).await.unwrap();
        let address = healthy.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = healthy.recv_from(&mut buffer).await.unwrap();
            healthy.send_to(&answer_to(&buffer[..length], 3).to_vec().unwrap(), from).await.unwrap();
        });
        let (response, events) = outcome(&[closed, address]).await;
        assert_eq!(last_octet(&response.unwrap()), 3);
        assert_eq!(events[0], Event::UpstreamFailed(closed));
        assert!(matches!(events[1], Event::UpstreamAnswered(answered, _) if answered == address));
    }

    #[tokio::test]
    async fn without_any_answer_the_client_is_told() {
        let closed = UdpSocket::bind(LOOPBACK).await.unwrap().local_addr().unwrap();
        let (response, _) = outcome(&[closed]).await;
        assert_eq!(response.unwrap().metadata.response_code, ResponseCode::ServFail);
    }
}

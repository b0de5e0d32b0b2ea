//! Queries by TCP: connections are bounded, in number and in time, and what is no query is counted.
//!
//! hickory-server's own loop accepts any number of connections and drops what it cannot decode without a trace.
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{Client, Reply};
use super::front::Front;
use super::listener::Place;

/// Connections at a time to one address.
const MAX_CONNECTIONS: usize = 256;
/// Connections at a time from one client (RFC 7766 section 6.2.2 leaves the number to the server).
const MAX_CONNECTIONS_OF_CLIENT: usize = 16;
/// A connection that asks nothing for this long is closed (RFC 7766 section 6.2.3 leaves the time to us), and so is one
/// whose client does not read.
const IDLE: Duration = Duration::from_secs(10);
/// Queries of one connection that are answered at the same time (RFC 7766 section 6.2.1.1); the next one waits.
const MAX_QUERIES: usize = 32;

/// Answers until the socket fails.
pub(super) async fn serve(listener: TcpListener, place: Place, front: &Front) -> io::Error {
    let mut connections = JoinSet::new();
    let mut clients: HashMap<IpAddr, usize> = HashMap::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let of_client = clients.entry(peer.ip()).or_default();
                    if connections.len() >= MAX_CONNECTIONS || *of_client >= MAX_CONNECTIONS_OF_CLIENT {
                        front.refuse("dns-connections");
                        clients.retain(|_, count| *count > 0);
                        continue;
                    }
                    *of_client += 1;
                    let front = front.clone();
                    connections.spawn(async move {
                        let over_tls = front.is_over_tls(place);
                        if over_tls {
                            greet(stream, peer, place, &front).await;
                        } else {
                            converse(stream.into_split(), peer, place, &front).await;
                        }
                        peer.ip()
                    });
                }
                // The client gave up before it was its turn.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return error,
            },
            Some(ended) = connections.join_next() => match ended {
                Ok(client) => {
                    if let Some(count) = clients.get_mut(&client) {
                        *count -= 1;
                    }
                    clients.retain(|_, count| *count > 0);
                }
                // Whose it was is not known any more: all connections end, and listening begins anew.
                Err(error) => return io::Error::other(error),
            },
        }
    }
}

/// One connection over TLS (RFC 7858). Whoever stands still meanwhile is as welcome as later.
async fn greet(stream: TcpStream, peer: SocketAddr, place: Place, front: &Front) {
    let Some(acceptor) = front.acceptor().current() else { return };
    match timeout(IDLE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => converse(tokio::io::split(stream), peer, place, front).await,
        Ok(Err(_)) | Err(_) => front.refuse("dns-handshake"),
    }
}

/// One connection, until its client has nothing more to ask or does not read the responses.
async fn converse(
    (reader, writer): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    peer: SocketAddr,
    place: Place,
    front: &Front,
) {
    let (responses, ready) = mpsc::channel(MAX_QUERIES);
    let mut asked = false;
    let mut asking = pin!(ask(reader, (peer, place), front, responses));
    let mut answering = pin!(write(writer, ready));
    loop {
        tokio::select! {
            () = &mut asking, if !asked => asked = true,
            // All is answered, or nobody reads.
            () = &mut answering => return,
        }
    }
}

/// Reads queries and has them answered. It returns once the last of them is.
async fn ask(
    mut reader: impl AsyncRead + Unpin,
    (peer, place): (SocketAddr, Place),
    front: &Front,
    responses: mpsc::Sender<Vec<u8>>,
) {
    let mut queries = JoinSet::new();
    loop {
        let query = match read(&mut reader).await {
            Ok(Some(query)) => query,
            Ok(None) => break,
            Err(Incomplete) => {
                front.refuse("dns-incomplete");
                break;
            }
        };
        while queries.try_join_next().is_some() {}
        if queries.len() >= MAX_QUERIES {
            queries.join_next().await;
        }
        // Whoever asks too fast is read more slowly.
        front.wait_for(peer).await;
        let Some(turn) = front.turn(peer, place) else { break };
        let (reply, response) = oneshot::channel();
        front.take(Client { query, peer, reply: Reply::Stream(reply), worker: None, turn: Some(turn) });
        let responses = responses.clone();
        queries.spawn(async move {
            // Where there is no response, the query is dropped in silence; where nobody takes it, the connection has ended.
            if let Ok(response) = response.await {
                drop(responses.send(response).await);
            }
        });
    }
    while queries.join_next().await.is_some() {}
}

/// A connection ended, or stood still, in the middle of a message.
struct Incomplete;

/// The next message, after two octets of length (RFC 7766 section 8); nothing where the connection ends or idles before it.
async fn read(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<Vec<u8>>, Incomplete> {
    let Ok(Ok(first)) = timeout(IDLE, reader.read_u8()).await else { return Ok(None) };
    let rest = async {
        let length = u16::from_be_bytes([first, reader.read_u8().await?]);
        // Memory for what arrives, not for what is announced.
        let mut message = Vec::new();
        reader.take(length.into()).read_to_end(&mut message).await?;
        if message.len() == usize::from(length) { Ok(message) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    };
    match timeout(IDLE, rest).await {
        Ok(io::Result::Ok(message)) => Ok(Some(message)),
        Ok(Err(_)) | Err(_) => Err(Incomplete),
    }
}

/// Writes responses as they become ready, in no particular order (RFC 7766 section 7).
async fn write(mut writer: impl AsyncWrite + Unpin, mut ready: mpsc::Receiver<Vec<u8>>) {
    while let Some(response) = ready.recv().await {
        let Ok(length) = u16::try_from(response.len()) else { return };
        // RFC 7766 section 8: length and message in one write.
        let framed = [&length.to_be_bytes()[..], &response].concat();
        let written = async {
            writer.write_all(&framed).await?;
            writer.flush().await
        };
        if !matches!(timeout(IDLE, written).await, Ok(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::sync::Arc;

    use hickory_proto::op::Message;
    use sixgate_engine::dns64::Transport;
    use sixgate_engine::plan::Dns64Plan;
    use tokio::sync::watch;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::tasks::dns64::Slice;
    use crate::tasks::dns64::answers::{Answers, Rules};

    struct Server {
        address: SocketAddr,
        seen: watch::Receiver<Slice>,
        task: JoinHandle<io::Error>,
        _rules: watch::Sender<Rules>,
    }

    impl Server {
        async fn start() -> Self {
            let (slice, seen) = watch::channel(Slice::default());
            let plan = Arc::new(Dns64Plan { listen: vec!["[::1]:53".parse().unwrap()], ..Dns64Plan::default() });
            slice.send_modify(|slice| slice.plan = Some(plan.clone()));
            let (rules, rules_seen) = watch::channel(Rules { plan, ..Rules::default() });
            let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let front = Front::new(rules_seen, Answers::new(1 << 20), Arc::default(), slice);
            let task = tokio::spawn(async move { serve(listener, (address, Transport::Tcp), &front).await });
            Self { address, seen, task, _rules: rules }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn counted(&mut self, reason: &str, count: u64) {
            let counts = |slice: &Slice| slice.status().unwrap().dropped.get(reason).copied() == Some(count);
            timeout(Duration::from_secs(20), self.seen.wait_for(counts)).await.expect(reason).unwrap();
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    /// A query; without an upstream it is answered at once.
    fn query(id: u8) -> Vec<u8> {
        let mut query = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(b"\x08ipv4only\x04arpa\x00\x00\x01\x00\x01");
        query
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
    }

    async fn response(stream: &mut TcpStream) -> Message {
        let Ok(Some(message)) = read(stream).await else { panic!("no response") };
        Message::from_vec(&message).unwrap()
    }

    #[tokio::test]
    async fn queries_of_one_connection_are_all_answered_also_after_its_sending_half_is_closed() {
        let server = Server::start().await;
        let mut client = server.connect().await;
        let all: Vec<u8> = (0..100).flat_map(|id| framed(&query(id))).collect();
        client.write_all(&all).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answered = Vec::new();
        for _ in 0..100 {
            answered.push(response(&mut client).await.metadata.id);
        }
        answered.sort_unstable();
        assert_eq!(answered, (0..100).collect::<Vec<u16>>());
        assert!(matches!(read(&mut client).await, Ok(None)), "the server closes when all is answered");
    }

    #[tokio::test]
    async fn what_is_no_query_is_counted_and_the_next_query_is_answered() {
        let mut server = Server::start().await;
        let mut client = server.connect().await;
        client.write_all(&framed(&[1, 2, 3])).await.unwrap();
        client.write_all(&framed(&[])).await.unwrap();
        client.write_all(&framed(&query(9))).await.unwrap();
        assert_eq!(response(&mut client).await.metadata.id, 9);
        server.counted("dns-short", 2).await;

        let mut other_protocol = server.connect().await;
        other_protocol.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        other_protocol.shutdown().await.unwrap();
        server.counted("dns-incomplete", 1).await;
    }

    #[tokio::test]
    async fn a_client_with_too_many_connections_is_refused_another_until_it_closes_one() {
        let mut server = Server::start().await;
        let mut open = Vec::new();
        for id in 0..MAX_CONNECTIONS_OF_CLIENT {
            let mut client = server.connect().await;
            // Answered: so it was accepted, and counts.
            client.write_all(&framed(&query(u8::try_from(id).unwrap()))).await.unwrap();
            response(&mut client).await;
            open.push(client);
        }
        let mut refused = server.connect().await;
        assert!(matches!(read(&mut refused).await, Ok(None)), "it is closed at once");
        server.counted("dns-connections", 1).await;

        let mut closed = open.pop().unwrap();
        closed.shutdown().await.unwrap();
        assert!(matches!(read(&mut closed).await, Ok(None)));
        // Closing and taking note of it are two steps of the server; the client may try again between them.
        let accepted = async {
            loop {
                let mut client = server.connect().await;
                if client.write_all(&framed(&query(7))).await.is_ok() && matches!(read(&mut client).await, Ok(Some(_)))
                {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(20), accepted).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_stands_still_is_closed() {
        let mut server = Server::start().await;
        let mut idle = server.connect().await;
        assert!(matches!(read(&mut idle).await, Ok(None)));
        let mut halfway = server.connect().await;
        halfway.write_all(&[0, 40, 1]).await.unwrap();
        server.counted("dns-incomplete", 1).await;
    }
}

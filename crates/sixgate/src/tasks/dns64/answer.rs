//! Who asked, and the way back; and hickory-server's handler for what is no plain query.
use std::net::{SocketAddr, UdpSocket};
use std::sync::Weak;

use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;
use sixgate_engine::dns64::{Answer, Plain, Transport};
use sixgate_engine::time::Instant;
use tokio::sync::oneshot;

use super::front::Front;
use super::turns::Turn;

/// Who asked.
pub(super) struct Client {
    pub(super) query: Vec<u8>,
    pub(super) peer: SocketAddr,
    pub(super) reply: Reply,
    /// The worker that wants to know the answer, too.
    pub(super) worker: Option<usize>,
    /// Held until the response is sent.
    pub(super) turn: Option<Turn>,
}

impl Client {
    /// Whether it has an answer and the name is only to be asked for again.
    pub(super) fn asks_anew(&self) -> bool {
        matches!(self.reply, Reply::Nobody)
    }

    /// Whether somebody on the network asks.
    pub(super) fn is_of_the_network(&self) -> bool {
        matches!(self.reply, Reply::Datagram(..) | Reply::Stream(_))
    }

    /// Sends the answer.
    pub(super) fn deliver(self, answer: &Answer, now: Instant) {
        let mut response = Vec::new();
        if let Some(plain) = Plain::parse(&self.query, self.reply.transport()) {
            answer.write(&plain, now, &mut response);
            self.reply.send(response);
        }
        drop(self.turn);
    }
}

/// The way back to a client.
pub(super) enum Reply {
    /// By a datagram to that address, if the socket is still there.
    Datagram(Weak<UdpSocket>, SocketAddr),
    /// To whoever writes into the client's connection.
    Stream(oneshot::Sender<Vec<u8>>),
    /// To the validator, which asks for what it needs by the same way as everybody.
    Validator(oneshot::Sender<Vec<u8>>),
    /// There is nobody, or the response is sent.
    Nobody,
}

impl Reply {
    pub(super) fn transport(&self) -> Transport {
        match self {
            Self::Stream(_) | Self::Validator(_) => Transport::Tcp,
            Self::Datagram(..) | Self::Nobody => Transport::Udp,
        }
    }

    fn protocol(&self) -> Protocol {
        match self.transport() {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp => Protocol::Tcp,
        }
    }

    pub(super) fn send(self, response: Vec<u8>) {
        match self {
            // A full send buffer is a lost datagram like any other; the client asks again.
            Self::Datagram(socket, peer) => {
                if let Some(Err(error)) = socket.upgrade().map(|socket| socket.send_to(&response, peer)) {
                    tracing::trace!(%peer, "a response could not be sent: {error}");
                }
            }
            // The connection may have ended meanwhile.
            Self::Stream(waiting) | Self::Validator(waiting) => drop(waiting.send(response)),
            Self::Nobody => {}
        }
    }
}

/// Answers what is no plain query; what cannot be decoded is left to the engine, which counts it and knows whether it
/// deserves an answer.
pub(super) async fn answer(front: &Front, client: Client) {
    let Client { query, peer, reply, turn, .. } = client;
    let protocol = reply.protocol();
    match Request::from_bytes(query.clone(), peer, protocol) {
        Ok(request) => {
            front.handle_request::<_, TokioTime>(&request, Handler(reply)).await;
        }
        Err(_) => {
            if let Some(Ok(response)) = front.resolve(&query, peer, protocol).await.map(|response| response.to_vec()) {
                reply.send(response);
            }
        }
    }
    drop(turn);
}

struct Handler(Reply);

#[async_trait::async_trait]
impl ResponseHandler for Handler {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::with_capacity(512);
        let info = response.destructive_emit(&mut BinEncoder::new(&mut bytes))?;
        std::mem::replace(&mut self.0, Reply::Nobody).send(bytes);
        Ok(info)
    }
}

// ResponseHandler asks for clones; each query has one response, which the original sends.
impl Clone for Handler {
    fn clone(&self) -> Self {
        Self(Reply::Nobody)
    }
}

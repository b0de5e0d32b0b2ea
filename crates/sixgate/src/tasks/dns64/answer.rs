//! One query through hickory-server's handler, and the way back to whoever asked.
use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::front::Front;

/// The way back to a client.
#[derive(Clone)]
pub(super) enum Reply {
    /// By a datagram to that address.
    Datagram(Arc<UdpSocket>, SocketAddr),
    /// To whoever writes into the client's connection.
    Stream(mpsc::Sender<Vec<u8>>),
}

impl Reply {
    fn protocol(&self) -> Protocol {
        match self {
            Self::Datagram(..) => Protocol::Udp,
            Self::Stream(_) => Protocol::Tcp,
        }
    }

    async fn send(&self, response: Vec<u8>) {
        match self {
            // A full send buffer is a lost datagram like any other; the client asks again.
            Self::Datagram(socket, peer) => {
                if let Err(error) = socket.try_send_to(&response, *peer) {
                    tracing::trace!(%peer, "a response could not be sent: {error}");
                }
            }
            // The connection may have ended meanwhile.
            Self::Stream(responses) => drop(responses.send(response).await),
        }
    }
}

/// Answers a message; what cannot be decoded is left to the engine, which counts it and knows whether it deserves an answer.
pub(super) async fn answer(front: &Front, query: Vec<u8>, peer: SocketAddr, reply: Reply) {
    let protocol = reply.protocol();
    match Request::from_bytes(query.clone(), peer, protocol) {
        Ok(request) => {
            front.handle_request::<_, TokioTime>(&request, reply).await;
        }
        Err(_) => {
            if let Some(Ok(response)) = front.resolve(&query, protocol).await.map(|response| response.to_vec()) {
                reply.send(response).await;
            }
        }
    }
}

#[async_trait::async_trait]
impl ResponseHandler for Reply {
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
        self.send(bytes).await;
        Ok(info)
    }
}

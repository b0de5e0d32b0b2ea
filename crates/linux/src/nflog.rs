//! NFLOG: the packets that rules tell of.
use futures_util::StreamExt as _;
use nlink::netlink::nflog::NflogPacket;
use nlink::netlink::{Connection, Nflog, OwnedEventStream};
use sixgate_engine::firewall::{LOG_BYTES, LOG_GROUP};

/// Packets cannot be heard of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NflogError(String);

/// A packet that a rule told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What the rule says of it.
    pub prefix: String,
    /// Kernel index of the link that it came in by.
    pub input: Option<u32>,
    /// Its beginning, from the IP header on.
    pub packet: Vec<u8>,
}

/// A socket that hears of packets in one network namespace.
pub struct Listener {
    packets: OwnedEventStream<Nflog>,
}

impl Listener {
    /// Listens to the firewall's group, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The socket could not be opened, or somebody else listens to that group.
    pub async fn open() -> Result<Self, NflogError> {
        let fail = |error: nlink::Error| NflogError(error.to_string());
        let connection = Connection::<Nflog>::new().map_err(fail)?;
        connection.bind_group(LOG_GROUP, LOG_BYTES).await.map_err(fail)?;
        Ok(Self { packets: connection.into_events().await })
    }

    /// The next packet. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Some were lost, or the socket failed.
    pub async fn next(&mut self) -> Result<Told, NflogError> {
        match self.packets.next().await {
            Some(Ok(NflogPacket { prefix, indev, payload, .. })) => {
                Ok(Told { prefix: prefix.unwrap_or_default(), input: indev, packet: payload })
            }
            Some(Err(error)) => Err(NflogError(error.to_string())),
            None => Err(NflogError("the socket has closed".to_owned())),
        }
    }
}

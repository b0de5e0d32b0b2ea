//! What the kernel announces, on a socket of its own. An event only means "read again".
use std::io;

use futures_util::StreamExt;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use tokio::sync::watch;

const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Neigh,
];

/// What has changed since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Links, addresses, routes or rules: read the facts and plan again.
    pub network: bool,
    /// The neighbour cache alone matters to the status only.
    pub neighbours: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    network: u64,
    neighbours: u64,
}

/// The kernel's announcements, condensed to [`Change`]; bursts cost no memory.
#[derive(Debug)]
pub struct Events {
    counts: watch::Receiver<Counts>,
    seen: Counts,
}

/// The event socket is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the netlink event socket is closed")]
pub struct EventsClosed;

impl Events {
    /// Subscribes, in the network namespace of the calling thread, and spawns the reader on the tokio runtime.
    ///
    /// # Errors
    /// The socket could not be opened or bound.
    pub fn connect() -> io::Result<Self> {
        let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&GROUPS)?;
        tokio::spawn(connection);
        let (sender, counts) = watch::channel(Counts::default());
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    message = messages.next() => message,
                    () = sender.closed() => return,
                };
                let Some((message, _)) = message else { return };
                sender.send_modify(|counts| match message.payload {
                    NetlinkPayload::InnerMessage(
                        RouteNetlinkMessage::NewNeighbour(_) | RouteNetlinkMessage::DelNeighbour(_),
                    ) => counts.neighbours += 1,
                    // An overrun (ENOBUFS) says that anything may have been lost.
                    NetlinkPayload::Overrun(_) => {
                        counts.network += 1;
                        counts.neighbours += 1;
                    }
                    _ => counts.network += 1,
                });
            }
        });
        Ok(Self { counts, seen: Counts::default() })
    }

    /// Waits until something has changed since the last call. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The socket is gone; connect again and read everything.
    pub async fn changed(&mut self) -> Result<Change, EventsClosed> {
        let seen = self.seen;
        let counts = *self.counts.wait_for(|counts| *counts != seen).await.map_err(|_| EventsClosed)?;
        self.seen = counts;
        Ok(Change { network: counts.network != seen.network, neighbours: counts.neighbours != seen.neighbours })
    }
}

//! Queries by UDP: what hickory-server's own loop does, with everything counted and nothing unbounded.
//!
//! That loop drops or refuses undecodable datagrams without a trace, starts a task for each of them, queues no more than
//! 32 responses, and logs every query.
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::answer::{Reply, answer};
use super::front::Front;

/// A longer query is no query.
const LONGEST: usize = 4096;

/// Answers until the socket fails.
pub(super) async fn serve(socket: UdpSocket, front: &Front) -> io::Error {
    let socket = Arc::new(socket);
    let mut queries = JoinSet::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An ICMP error about an earlier response.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return error,
        };
        while queries.try_join_next().is_some() {}
        if !can_be_answered(peer) {
            front.refuse("dns-source");
        } else if let Some(turn) = front.turn(peer) {
            let query = buffer.get(..length).unwrap_or_default().to_vec();
            let (front, reply) = (front.clone(), Reply::Datagram(socket.clone(), peer));
            queries.spawn(async move {
                answer(&front, query, peer, reply).await;
                drop(turn);
            });
        }
    }
}

fn can_be_answered(peer: SocketAddr) -> bool {
    let address = match peer.ip() {
        IpAddr::V4(address) => !address.is_broadcast() && !address.is_multicast() && !address.is_unspecified(),
        IpAddr::V6(address) => !address.is_multicast() && !address.is_unspecified(),
    };
    address && peer.port() != 0
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use hickory_proto::op::{Message, ResponseCode};
    use sixgate_engine::plan::Dns64Plan;
    use tokio::sync::watch;

    use super::*;
    use crate::tasks::dns64::Slice;

    #[test]
    fn nobody_is_answered_at_an_address_that_cannot_be_a_clients() {
        for peer in ["[::1]:0", "[::]:53", "0.0.0.0:53", "255.255.255.255:53", "[ff02::1]:53", "224.0.0.1:53"] {
            assert!(!can_be_answered(peer.parse().unwrap()), "{peer}");
        }
        assert!(can_be_answered("[fe80::1%7]:4711".parse().unwrap()));
    }

    #[tokio::test]
    async fn undecodable_datagrams_are_counted_and_the_next_query_is_answered() {
        let (slice, seen) = watch::channel(Slice::default());
        let plan = Arc::new(Dns64Plan { listen: vec!["[::1]:53".parse().unwrap()], ..Dns64Plan::default() });
        slice.send_modify(|slice| slice.plan = Some(plan.clone()));
        let (_plan, plans) = watch::channel(plan);
        let server = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let address = server.local_addr().unwrap();
        let front = Front::new(plans, slice);
        let task = tokio::spawn(async move { serve(server, &front).await });

        let client = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        client.connect(address).await.unwrap();
        let undecodable = [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xc0; 20]].concat();
        for datagram in [&[][..], &[1, 2, 3], &undecodable] {
            client.send(datagram).await.unwrap();
        }
        let mut buffer = [0; 512];
        let length = client.recv(&mut buffer).await.unwrap();
        let response = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(response.metadata.response_code, ResponseCode::FormErr);
        let dropped = seen.borrow().status().unwrap().dropped;
        assert_eq!(dropped.values().sum::<u64>(), 3, "{dropped:?}");
        task.abort();
    }
}

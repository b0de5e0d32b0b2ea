//! DHCPv6 sockets on one link, of the client and of the server: RFC 8415 section 7.2.
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::task::{Context, Poll};

use sixgate_wire::dhcpv6::{ALL_SERVERS, CLIENT_PORT, SERVER_PORT};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// A socket for one link, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Dhcpv6Socket {
    socket: UdpSocket,
    link: u32,
}

impl Dhcpv6Socket {
    /// Opens the socket at a link-local address of the link `name` with index `link`.
    ///
    /// # Errors
    /// The address is not there yet, another client has the port, or the link is gone.
    pub fn open(name: &str, link: u32, address: Ipv6Addr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.bind_device(Some(name.as_bytes()))?;
        socket.set_multicast_if_v6(link)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddrV6::new(address, CLIENT_PORT, 0, link).into())?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, link })
    }

    /// Waits for a datagram.
    ///
    /// # Errors
    /// The link is down or gone.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buffer).await
    }

    /// Sends to all servers and relays on the link.
    ///
    /// # Errors
    /// The kernel did not take it: EADDRNOTAVAIL, ENETDOWN, ENOBUFS.
    pub async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let to = SocketAddrV6::new(ALL_SERVERS, SERVER_PORT, 0, self.link);
        self.socket.send_to(datagram, to).await.map(drop)
    }
}

/// A server's socket for one link, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Dhcpv6ServerSocket(UdpSocket);

impl Dhcpv6ServerSocket {
    /// Opens the socket on the link `name` with index `link`, in the group of all servers.
    ///
    /// # Errors
    /// Another server has the port, or the link is gone.
    pub fn open(name: &str, link: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.bind_device(Some(name.as_bytes()))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER_PORT, 0, 0).into())?;
        socket.join_multicast_v6(&ALL_SERVERS, link)?;
        Ok(Self(UdpSocket::from_std(socket.into())?))
    }

    /// Takes a datagram with its sender, if there is one.
    ///
    /// # Errors
    /// The link is down or gone.
    pub fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddrV6)>> {
        let mut into = ReadBuf::new(buffer);
        match self.0.poll_recv_from(context, &mut into) {
            Poll::Ready(Ok(SocketAddr::V6(peer))) => Poll::Ready(Ok((into.filled().len(), peer))),
            // The socket speaks IPv6 alone.
            Poll::Ready(Ok(SocketAddr::V4(_))) | Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    /// Answers who has asked.
    ///
    /// # Errors
    /// The kernel did not take it.
    pub async fn send(&self, datagram: &[u8], peer: SocketAddrV6) -> io::Result<()> {
        self.0.send_to(datagram, peer).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_namespace, link_local, wire};

    #[test]
    fn a_solicit_reaches_the_servers_and_the_answer_comes_back() {
        in_namespace(|| async {
            let [near, far] = wire(["near", "far"]);
            let client = Dhcpv6Socket::open("near", near, link_local("near")).unwrap();
            let server = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP)).unwrap();
            server.bind_device(Some(b"far")).unwrap();
            server.set_nonblocking(true).unwrap();
            server.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER_PORT, 0, 0).into()).unwrap();
            server.join_multicast_v6(&ALL_SERVERS, far).unwrap();
            let server = UdpSocket::from_std(server.into()).unwrap();
            client.send(b"solicit").await.unwrap();
            let mut buffer = [0; 64];
            let (length, peer) = server.recv_from(&mut buffer).await.unwrap();
            assert_eq!((&buffer[..length], peer.port()), (&b"solicit"[..], CLIENT_PORT));
            server.send_to(b"reply", peer).await.unwrap();
            assert_eq!(client.receive(&mut buffer).await.unwrap(), 5);
        });
    }

    #[test]
    fn an_address_that_is_not_there_is_an_error() {
        in_namespace(|| async {
            let [near, _] = wire(["near", "far"]);
            assert!(Dhcpv6Socket::open("near", near, "fe80::dead".parse().unwrap()).is_err());
        });
    }
}

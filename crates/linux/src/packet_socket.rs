//! Packets of one kind on one link, below the IP stack: what DHCPv4, ARP and the NDP proxy need before there is an address, and
//! for addresses that are not the machine's own.
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};

use sixgate_engine::facts::MacAddr;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

/// Which packets are received. The kernel drops all others before they are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 packets with UDP for port 68.
    DhcpClient,
    /// ARP.
    Arp,
    /// Neighbor Solicitations, also those to groups that the machine has not joined.
    NeighborSolicitation,
    /// Neighbor Advertisements.
    NeighborAdvertisement,
    /// Router Solicitations.
    RouterSolicitation,
}

/// A socket for one link, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct PacketSocket {
    socket: AsyncFd<Socket>,
    link: u32,
    ethertype: u16,
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// PACKET_ADD_MEMBERSHIP of linux/if_packet.h.
const PACKET_ADD_MEMBERSHIP: libc::c_int = 1;
/// PACKET_MR_ALLMULTI of linux/if_packet.h.
const PACKET_MR_ALLMULTI: u16 = 2;

/// Classic BPF, offsets from the network header: whole packets or nothing.
const ACCEPT: libc::sock_filter = statement(0x06, u32::MAX);
const DROP: libc::sock_filter = statement(0x06, 0);

/// UDP, no later fragment, destination port 68.
const DHCP_CLIENT: &[libc::sock_filter] = &[
    statement(0x30, 9),       // ldb [9]: protocol
    jump(0x15, 17, 0, 6),     // jeq UDP
    statement(0x28, 6),       // ldh [6]: fragment offset
    jump(0x45, 0x1fff, 4, 0), // jset: a later fragment
    statement(0xb1, 0),       // ldxb 4 * ([0] & 15): length of the header
    statement(0x48, 2),       // ldh [x + 2]: destination port
    jump(0x15, 68, 0, 1),
    ACCEPT,
    DROP,
];

/// ICMPv6 of that type, right behind the IPv6 header.
const fn icmpv6(kind: u32) -> [libc::sock_filter; 6] {
    [
        statement(0x30, 6),   // ldb [6]: next header
        jump(0x15, 58, 0, 3), // jeq ICMPv6
        statement(0x30, 40),  // ldb [40]: type
        jump(0x15, kind, 0, 1),
        ACCEPT,
        DROP,
    ]
}

const fn statement(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

const fn jump(code: u16, k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt: yes, jf: no, k }
}

impl PacketSocket {
    /// Opens the socket on the link with that index.
    ///
    /// # Errors
    /// No CAP_NET_RAW, or the link is gone.
    pub fn open(link: u32, kind: Kind) -> io::Result<Self> {
        let (ethertype, filter) = match kind {
            Kind::DhcpClient => (ETHERTYPE_IPV4, DHCP_CLIENT),
            Kind::Arp => (ETHERTYPE_ARP, &[ACCEPT][..]),
            Kind::NeighborSolicitation => (ETHERTYPE_IPV6, &const { icmpv6(135) }[..]),
            Kind::RouterSolicitation => (ETHERTYPE_IPV6, &const { icmpv6(133) }[..]),
            Kind::NeighborAdvertisement => (ETHERTYPE_IPV6, &const { icmpv6(136) }[..]),
        };
        // Protocol 0 receives nothing: the filter is in force before the first packet comes.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len()).map_err(io::Error::other)?,
            filter: filter.as_ptr().cast_mut(),
        };
        let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
        // SAFETY: the kernel reads the program and its instructions, which outlive the call.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                length,
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        let address = link_address(link, ethertype, MacAddr([0; 6]));
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the kernel reads an address of that length, which outlives the call.
        let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        if kind == Kind::NeighborSolicitation {
            hear_all_groups(&socket, link)?;
        }
        socket.set_nonblocking(true)?;
        // SAFETY: the socket owns its descriptor, always gives the same one, and nothing takes it out of there.
        let socket = unsafe { AsyncFd::register(socket)? };
        Ok(Self { socket, link, ethertype })
    }

    /// Waits for a packet that others have sent: its length and the hardware address that it came from.
    ///
    /// # Errors
    /// The link is down or gone.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, MacAddr)> {
        std::future::poll_fn(|context| self.poll_receive(context, buffer)).await
    }

    /// As [`PacketSocket::receive`], for whoever waits for several sockets.
    pub fn poll_receive(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, MacAddr)>> {
        loop {
            let mut guard = std::task::ready!(self.socket.poll_read_ready(context))?;
            match guard.try_io(|socket| receive(socket.get_ref(), buffer)) {
                Ok(Ok(Some(received))) => return Poll::Ready(Ok(received)),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                // Our own packet came by, or there is none yet.
                Ok(Ok(None)) | Err(_) => {}
            }
        }
    }

    /// Sends a packet to a hardware address.
    ///
    /// # Errors
    /// The kernel did not take it: ENETDOWN, ENXIO, ENOBUFS.
    pub async fn send(&self, to: MacAddr, packet: &[u8]) -> io::Result<()> {
        let address = link_address(self.link, self.ethertype, to);
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        loop {
            let mut guard = self.socket.writable().await?;
            let sent = guard.try_io(|socket| {
                // SAFETY: the kernel reads the packet and the address, which outlive the call.
                let sent = unsafe {
                    libc::sendto(
                        socket.get_ref().as_raw_fd(),
                        packet.as_ptr().cast(),
                        packet.len(),
                        0,
                        (&raw const address).cast(),
                        length,
                    )
                };
                if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
            });
            if let Ok(sent) = sent {
                return sent;
            }
        }
    }
}

/// Solicited-node groups are as many as there are addresses behind the router: the card passes all of them up.
fn hear_all_groups(socket: &Socket, link: u32) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: link.cast_signed(),
        mr_type: PACKET_MR_ALLMULTI,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    let length = size_of::<libc::packet_mreq>() as libc::socklen_t;
    // SAFETY: the kernel reads a request of that length, which outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            length,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<(usize, MacAddr)>> {
    let mut address = link_address(0, 0, MacAddr([0; 6]));
    let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel writes into the buffer and the address with their true lengths, which outlive the call.
    let received = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut address).cast(),
            &raw mut length,
        )
    };
    let Ok(received) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
    let [a, b, c, d, e, f, ..] = address.sll_addr;
    Ok((address.sll_pkttype != libc::PACKET_OUTGOING).then_some((received, MacAddr([a, b, c, d, e, f]))))
}

fn link_address(link: u32, ethertype: u16, to: MacAddr) -> libc::sockaddr_ll {
    // SAFETY: all zeros is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = link.cast_signed();
    address.sll_halen = 6;
    for (place, byte) in address.sll_addr.iter_mut().zip(to.0) {
        *place = byte;
    }
    address
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::testing::{in_namespace, mac, wire};

    const EVERYBODY: MacAddr = MacAddr([0xff; 6]);

    #[test]
    fn arp_crosses_the_wire_with_its_senders_address() {
        in_namespace(|| async {
            let [near, far] = wire(["near", "far"]);
            let here = PacketSocket::open(near, Kind::Arp).unwrap();
            let there = PacketSocket::open(far, Kind::Arp).unwrap();
            here.send(EVERYBODY, &[7; 28]).await.unwrap();
            let mut buffer = [0; 64];
            let (length, from) = there.receive(&mut buffer).await.unwrap();
            assert_eq!((buffer[..28].as_ref(), from), ([7; 28].as_ref(), mac("near")));
            assert!(length >= 28);
        });
    }

    #[test]
    fn datagrams_for_other_ports_are_left_to_the_kernel() {
        in_namespace(|| async {
            let [near, far] = wire(["near", "far"]);
            let here = PacketSocket::open(near, Kind::DhcpClient).unwrap();
            let there = PacketSocket::open(far, Kind::DhcpClient).unwrap();
            let mut packet = [0; 36];
            packet[..20].copy_from_slice(&[0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
            for (fragment, protocol, port, tag) in [(0, 17, 69, 1), (1, 17, 68, 2), (0, 6, 68, 3), (0, 17, 68, 4)] {
                (packet[7], packet[9], packet[23], packet[28]) = (fragment, protocol, port, tag);
                here.send(EVERYBODY, &packet).await.unwrap();
            }
            let mut buffer = [0; 64];
            let (length, _) = there.receive(&mut buffer).await.unwrap();
            assert_eq!((length, buffer[28]), (36, 4));
            let more = tokio::time::timeout(Duration::from_millis(50), there.receive(&mut buffer)).await;
            assert!(more.is_err(), "{more:?}");
            drop(UdpSocket::bind("0.0.0.0:68").unwrap());
        });
    }

    #[test]
    fn a_link_that_is_not_there_is_an_error() {
        in_namespace(|| async {
            assert_eq!(PacketSocket::open(4242, Kind::Arp).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        });
    }
}

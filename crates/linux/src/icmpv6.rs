//! A raw ICMPv6 socket per link for router advertisements (RFC 4861 section 6): receives RS and RA, sends with hop limit 255.
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;

/// All routers on the link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// All nodes on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// RFC 4861 section 6.1: messages with a lower one have crossed a router and are dropped by the engine.
const HOP_LIMIT: u32 = 255;
/// Room for the hop limit and the packet information, with padding.
const CONTROL_LENGTH: usize = 128;

/// A message with what the IP header said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the message, from the ICMPv6 type on.
    pub length: usize,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Kernel interface index.
    pub link: u32,
    /// Hop limit; 255 unless it was forwarded.
    pub hop_limit: u8,
}

/// A socket for one link, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct RaSocket {
    socket: AsyncFd<Socket>,
    link: u32,
}

/// `struct icmp6_filter`: a set bit keeps a type out.
#[repr(C)]
struct Filter([u32; 8]);

/// Control data has to be aligned like `cmsghdr`.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LENGTH]);

impl RaSocket {
    /// Opens the socket on the link `name` with index `link` and joins [`ALL_ROUTERS`] there.
    ///
    /// # Errors
    /// No CAP_NET_RAW, or the link is gone.
    pub fn open(name: &str, link: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        let mut filter = Filter([u32::MAX; 8]);
        for kind in [ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT] {
            if let Some(word) = filter.0.get_mut(usize::from(kind >> 5)) {
                *word &= !(1 << (kind & 31));
            }
        }
        set_option(&socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &filter)?;
        socket.bind_device(Some(name.as_bytes()))?;
        socket.set_recv_hoplimit_v6(true)?;
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &1)?;
        socket.set_multicast_if_v6(link)?;
        socket.set_multicast_hops_v6(HOP_LIMIT)?;
        socket.set_unicast_hops_v6(HOP_LIMIT)?;
        socket.set_multicast_loop_v6(false)?;
        socket.join_multicast_v6(&ALL_ROUTERS, link)?;
        socket.set_nonblocking(true)?;
        // SAFETY: the socket owns its descriptor, always gives the same one, and nothing takes it out of there.
        let socket = unsafe { AsyncFd::register(socket)? };
        Ok(Self { socket, link })
    }

    /// Waits for a message. A longer one than the buffer is cut. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The socket failed, e.g. the link went away.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        loop {
            let mut guard = self.socket.readable().await?;
            if let Ok(received) = guard.try_io(|socket| receive(socket.get_ref(), buffer)) {
                return received;
            }
        }
    }

    /// Sends a message from `source`, an address of the link. The kernel fills in the checksum.
    ///
    /// # Errors
    /// The kernel did not take it: EADDRNOTAVAIL while `source` is still tentative, ENETDOWN, ENOBUFS.
    pub async fn send(&self, source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        loop {
            let mut guard = self.socket.writable().await?;
            if let Ok(sent) = guard.try_io(|socket| self.send_now(socket.get_ref(), source, destination, message)) {
                return sent;
            }
        }
    }

    fn send_now(&self, socket: &Socket, source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let information =
            libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: source.octets() }, ipi6_ifindex: self.link };
        let mut control = Control([0; CONTROL_LENGTH]);
        let address = SockAddr::from(SocketAddrV6::new(destination, 0, 0, self.link));
        let mut part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        // SAFETY: all zeros is a valid msghdr.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_name = address.as_ptr().cast_mut().cast();
        header.msg_namelen = address.len();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        let size = size_of::<libc::in6_pktinfo>() as u32;
        // SAFETY: CMSG_SPACE computes a size only.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as usize;
        // SAFETY: the control buffer is aligned and longer than CMSG_SPACE of one in6_pktinfo, so the first header and
        // its data lie inside it.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::IPPROTO_IPV6;
            (*first).cmsg_type = libc::IPV6_PKTINFO;
            (*first).cmsg_len = libc::CMSG_LEN(size) as usize;
            libc::CMSG_DATA(first).cast::<libc::in6_pktinfo>().write_unaligned(information);
        }
        // SAFETY: the header points to the address, the message and the control buffer, which outlive the call; the
        // kernel only reads them.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([0; CONTROL_LENGTH]);
    let mut address = MaybeUninit::<libc::sockaddr_in6>::zeroed();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a valid msghdr.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = address.as_mut_ptr().cast();
    header.msg_namelen = size_of::<libc::sockaddr_in6>() as u32;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_LENGTH;
    // SAFETY: the header points to buffers with their true lengths, which outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) };
    let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
    // SAFETY: it was zeroed, which is a valid sockaddr_in6, and the kernel has written an address over it.
    let address = unsafe { address.assume_init() };
    let mut received = Received {
        length,
        source: Ipv6Addr::from(address.sin6_addr.s6_addr),
        destination: Ipv6Addr::UNSPECIFIED,
        link: address.sin6_scope_id,
        hop_limit: 0,
    };
    // SAFETY: the kernel has set msg_controllen to what it wrote into the control buffer.
    let mut one = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !one.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give headers inside the control buffer, each followed by its data, whose
        // type its level and type name.
        unsafe {
            if (*one).cmsg_level == libc::IPPROTO_IPV6 {
                match (*one).cmsg_type {
                    libc::IPV6_HOPLIMIT => {
                        let value = libc::CMSG_DATA(one).cast::<libc::c_int>().read_unaligned();
                        received.hop_limit = u8::try_from(value).unwrap_or_default();
                    }
                    libc::IPV6_PKTINFO => {
                        let value = libc::CMSG_DATA(one).cast::<libc::in6_pktinfo>().read_unaligned();
                        received.destination = Ipv6Addr::from(value.ipi6_addr.s6_addr);
                        received.link = value.ipi6_ifindex;
                    }
                    _ => {}
                }
            }
            one = libc::CMSG_NXTHDR(&raw const header, one);
        }
    }
    Ok(received)
}

/// ICMPV6_FILTER of linux/icmpv6.h.
const ICMPV6_FILTER: libc::c_int = 1;

fn set_option<T>(socket: &Socket, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of a value that outlives the call.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_namespace, link_local, wire};

    #[test]
    fn a_solicitation_and_its_answer_cross_the_wire_with_hop_limit_255() {
        in_namespace(|| async {
            let [near, far] = wire(["near", "far"]);
            let router = RaSocket::open("near", near).unwrap();
            let host = RaSocket::open("far", far).unwrap();
            let solicitation = [ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            host.send(link_local("far"), ALL_ROUTERS, &solicitation).await.unwrap();
            let mut buffer = [0; 1500];
            // The kernels at both ends solicit as well.
            let received = loop {
                let received = router.receive(&mut buffer).await.unwrap();
                if received.source == link_local("far") && received.length == solicitation.len() {
                    break received;
                }
            };
            assert_eq!((received.hop_limit, received.link, received.destination), (255, near, ALL_ROUTERS));
            assert_eq!((buffer[0], buffer[1]), (ROUTER_SOLICITATION, 0));
            assert_ne!((buffer[2], buffer[3]), (0, 0), "the kernel has filled in the checksum");

            let advertisement = [ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            router.send(link_local("near"), link_local("far"), &advertisement).await.unwrap();
            let received = loop {
                let received = host.receive(&mut buffer).await.unwrap();
                if buffer[0] == ROUTER_ADVERTISEMENT {
                    break received;
                }
            };
            assert_eq!((received.source, received.hop_limit, received.length), (link_local("near"), 255, 16));
        });
    }

    #[test]
    fn a_source_that_is_not_ours_is_refused() {
        in_namespace(|| async {
            let [near, _] = wire(["near", "far"]);
            let router = RaSocket::open("near", near).unwrap();
            let error = router.send("fe80::dead".parse().unwrap(), ALL_NODES, &[134; 16]).await.unwrap_err();
            assert!(matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EADDRNOTAVAIL)), "{error}");
        });
    }

    #[test]
    fn a_link_that_is_not_there_is_an_error() {
        in_namespace(|| async {
            assert_eq!(RaSocket::open("near", 4242).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        });
    }
}

//! All packets of one link, in both directions, as they pass the driver: for captures.
use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

/// What the kernel keeps for a reader that is slow.
const RECEIVE_BUFFER: usize = 8 << 20;
const ETH_P_ALL: u16 = 3;
/// ARPHRD_ETHER and ARPHRD_LOOPBACK of linux/if_arp.h: packets begin with an Ethernet header.
const ETHERNET: [u16; 2] = [1, 772];
/// PACKET_STATISTICS of linux/if_packet.h.
const PACKET_STATISTICS: libc::c_int = 6;

/// Control data has to be aligned like `cmsghdr`.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// A packet that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Bytes of it in the buffer.
    pub kept: usize,
    /// Its length; greater than `kept` where the buffer was too small.
    pub length: usize,
    /// When the kernel saw it, in nanoseconds since 1970.
    pub time: u64,
    /// It was sent rather than received.
    pub sent: bool,
}

/// A socket for one link, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct CaptureSocket {
    socket: AsyncFd<Socket>,
    ethernet: bool,
}

impl CaptureSocket {
    /// Opens the socket on the link with that index.
    ///
    /// # Errors
    /// No CAP_NET_RAW, or the link is gone.
    pub fn open(link: u32) -> io::Result<Self> {
        // Protocol 0 receives nothing until it is bound to the one link.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        // The kernel takes less than that as its limits are; nothing but losses hang on it.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        set_option(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1)?;
        let mut address = no_address();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ETH_P_ALL.to_be();
        address.sll_ifindex = link.cast_signed();
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the kernel reads an address of that length, which outlives the call.
        let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel writes an address of at most that length and its true length; both outlive the call.
        let done = unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        socket.set_nonblocking(true)?;
        // SAFETY: the socket owns its descriptor, always gives the same one, and nothing takes it out of there.
        let socket = unsafe { AsyncFd::register(socket)? };
        Ok(Self { socket, ethernet: ETHERNET.contains(&address.sll_hatype) })
    }

    /// Whether packets begin with an Ethernet header; they begin with that of IP otherwise.
    pub fn is_ethernet(&self) -> bool {
        self.ethernet
    }

    /// Waits for a packet. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The link is down or gone.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Passed> {
        loop {
            let mut guard = self.socket.readable().await?;
            if let Ok(passed) = guard.try_io(|socket| receive(socket.get_ref(), buffer)) {
                return passed;
            }
        }
    }

    /// Packets that were lost since the last call, because the reader was too slow.
    pub fn lost(&self) -> u64 {
        // struct tpacket_stats: packets, drops.
        let mut statistics = [0_u32; 2];
        let mut length = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: the kernel writes at most that many bytes and their number; both outlive the call.
        let done = unsafe {
            libc::getsockopt(
                self.socket.get_ref().as_raw_fd(),
                libc::SOL_PACKET,
                PACKET_STATISTICS,
                statistics.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if done < 0 { 0 } else { u64::from(statistics[1]) }
    }
}

fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<Passed> {
    let mut address = no_address();
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a valid msghdr.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = (&raw mut address).cast();
    header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    // SAFETY: the header points at buffers with their true lengths, which outlive the call.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_TRUNC) };
    let Ok(length) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
    let sent = address.sll_pkttype == libc::PACKET_OUTGOING;
    Ok(Passed { kept: length.min(buffer.len()), length, time: timestamp(&header), sent })
}

/// The time stamp among the control data; zero where there is none.
fn timestamp(header: &libc::msghdr) -> u64 {
    // SAFETY: the kernel has filled in the control data that the header points at, and its length.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give headers that lie in the control data as a whole, or null.
        let message = unsafe { *next };
        if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_TIMESTAMPNS {
            // SAFETY: this kind of control data is a timespec, which may lie unaligned.
            let time = unsafe { libc::CMSG_DATA(next).cast::<libc::timespec>().read_unaligned() };
            let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
            return seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default();
        }
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    0
}

fn no_address() -> libc::sockaddr_ll {
    // SAFETY: all zeros is a valid sockaddr_ll.
    unsafe { mem::zeroed() }
}

fn set_option(socket: &Socket, level: libc::c_int, name: libc::c_int, value: &libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads a value of that length, which outlives the call.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), length) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::testing::{in_namespace, wire};

    #[test]
    fn what_is_sent_and_what_is_received_are_told_apart_with_their_time() {
        in_namespace(|| async {
            let [near, far] = wire(["near", "far"]);
            let (here, there) = (CaptureSocket::open(near).unwrap(), CaptureSocket::open(far).unwrap());
            assert!(here.is_ethernet());
            let sender = UdpSocket::bind("[::]:0").unwrap();
            sender.send_to(&[0xa5; 600], format!("[ff02::4242%{near}]:4242")).unwrap();
            let mut buffer = [0; 128];
            for (socket, sent) in [(&here, true), (&there, false)] {
                let passed = loop {
                    let passed = socket.receive(&mut buffer).await.unwrap();
                    // Ethernet, IPv6, UDP.
                    if passed.length == 14 + 40 + 8 + 600 {
                        break passed;
                    }
                };
                assert_eq!((passed.kept, passed.sent), (128, sent));
                assert!(passed.time > 1_000_000_000_000_000_000, "{passed:?}");
            }
            assert_eq!(here.lost(), 0);
        });
    }

    #[test]
    fn a_link_that_is_not_there_is_an_error() {
        in_namespace(|| async {
            assert_eq!(CaptureSocket::open(4242).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        });
    }
}

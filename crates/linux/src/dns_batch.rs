//! Queries and responses by UDP, many to a system call: recvmmsg and sendmmsg. What goes to one client goes through the
//! kernel's layers as one datagram, which it cuts at the end of them (`UDP_SEGMENT`).
use std::cmp::Reverse;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

/// Datagrams to a system call.
pub const BATCH: usize = 64;
/// A longer query is no query.
const LONGEST: usize = 4096;
/// Room for a response, so that writing one allocates nothing.
const RESPONSE: usize = 1280;
/// Responses to a client that are cut out of one datagram; `UDP_MAX_SEGMENTS` of older kernels, and no longer in all than an
/// IP packet.
const SEGMENTS: usize = 32;

/// Buffers for a batch of queries and their responses.
#[derive(Debug)]
pub struct Batch {
    queries: Vec<[u8; LONGEST]>,
    responses: Vec<Vec<u8>>,
    peers: Vec<Peer>,
    headers: Vec<Header>,
    parts: Vec<Part>,
    controls: Vec<Control>,
    /// Numbers of responses in the order in which they leave: those to one client together, the longest first.
    order: Vec<usize>,
    /// Where in that order each datagram begins.
    begins: Vec<usize>,
    /// Whether the kernel cuts datagrams for this socket's links.
    segments: bool,
}

/// `struct cmsghdr` with the length of a segment.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct Control {
    length: usize,
    level: libc::c_int,
    kind: libc::c_int,
    segment: u16,
}

/// A peer's address as the kernel writes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Peer(libc::sockaddr_in6);

/// What the kernel is told of a datagram. Its pointers are set before each call and are not looked at by anything else.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Header(libc::mmsghdr);

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Part(libc::iovec);

// SAFETY: the pointers inside are written anew, into the same batch, before each system call; between calls they are
// never followed.
unsafe impl Send for Header {}
// SAFETY: as above.
unsafe impl Send for Part {}

impl Batch {
    /// Empty buffers.
    pub fn new() -> Self {
        // SAFETY: these are C structures of numbers and pointers, for which zero is a valid value.
        let (peer, header, part) = unsafe {
            (
                MaybeUninit::zeroed().assume_init(),
                MaybeUninit::zeroed().assume_init(),
                MaybeUninit::zeroed().assume_init(),
            )
        };
        Self {
            queries: vec![[0; LONGEST]; BATCH],
            responses: (0..BATCH).map(|_| Vec::with_capacity(RESPONSE)).collect(),
            peers: vec![Peer(peer); BATCH],
            headers: vec![Header(header); BATCH],
            parts: vec![Part(part); BATCH],
            controls: vec![
                Control {
                    // CMSG_LEN: the header and what follows it.
                    length: size_of::<libc::cmsghdr>() + size_of::<u16>(),
                    level: libc::SOL_UDP,
                    kind: libc::UDP_SEGMENT,
                    segment: 0,
                };
                BATCH
            ],
            order: Vec::with_capacity(BATCH),
            begins: Vec::with_capacity(BATCH + 1),
            segments: true,
        }
    }

    /// Takes the datagrams that have come, as far as one call goes, has each answered, and sends the responses that were
    /// written. It does not wait; the result is how many came.
    ///
    /// # Errors
    /// Nothing has come (`WouldBlock`), or the socket has failed.
    pub fn serve(
        &mut self,
        socket: &impl AsFd,
        mut answer: impl FnMut(&[u8], SocketAddr, &mut Vec<u8>),
    ) -> io::Result<usize> {
        let count = self.receive(socket)?;
        let mut ready = 0;
        for index in 0..count {
            let header = &self.headers[index].0;
            let length = header.msg_len as usize;
            let (Some(query), Some(peer)) = (self.queries[index].get(..length), self.peers[index].address()) else {
                continue;
            };
            let response = &mut self.responses[ready];
            response.clear();
            answer(query, peer, response);
            if !response.is_empty() {
                self.peers[ready] = self.peers[index];
                ready += 1;
            }
        }
        self.send(socket, ready);
        Ok(count)
    }

    fn receive(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        for (((header, part), query), peer) in
            self.headers.iter_mut().zip(&mut self.parts).zip(&mut self.queries).zip(&mut self.peers)
        {
            part.0 = libc::iovec { iov_base: query.as_mut_ptr().cast(), iov_len: LONGEST };
            header.0.msg_len = 0;
            header.0.msg_hdr.msg_name = (&raw mut peer.0).cast();
            header.0.msg_hdr.msg_namelen = address_length();
            header.0.msg_hdr.msg_iov = &raw mut part.0;
            header.0.msg_hdr.msg_iovlen = 1;
            header.0.msg_hdr.msg_control = std::ptr::null_mut();
            header.0.msg_hdr.msg_controllen = 0;
            header.0.msg_hdr.msg_flags = 0;
        }
        // SAFETY: the headers point to as many buffers, which live as long as self, are not aliased during the call, and
        // have the lengths that are given.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr().cast(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// A response that cannot be sent is a lost datagram like any other; the client asks again.
    fn send(&mut self, socket: &impl AsFd, ready: usize) {
        self.order.clear();
        self.order.extend(0..ready);
        let (peers, responses) = (&self.peers, &self.responses);
        self.order.sort_unstable_by_key(|index| {
            let peer = peers.get(*index).map(Peer::key);
            (peer, Reverse(responses.get(*index).map_or(0, Vec::len)), *index)
        });
        let mut from = 0;
        while from < ready {
            self.lay_out(from);
            from = self.transmit(socket);
        }
    }

    /// Makes datagrams of the responses from that one of the order on.
    fn lay_out(&mut self, from: usize) {
        self.begins.clear();
        for (at, index) in self.order.iter().enumerate().skip(from) {
            let (response, peer) = (&mut self.responses[*index], self.peers[*index].key());
            self.parts[at].0 = libc::iovec { iov_base: response.as_mut_ptr().cast(), iov_len: response.len() };
            let length = response.len();
            if let Some(header) = self.begins.len().checked_sub(1).filter(|_| self.segments) {
                let begin = self.begins[header];
                let segment = self.parts[begin].0.iov_len;
                // All segments are of one length but the last, which may be shorter.
                let joins = self.peers[self.order[begin]].key() == peer
                    && at - begin < SEGMENTS
                    && self.parts[at - 1].0.iov_len == segment
                    && length <= segment;
                if joins {
                    let header = &mut self.headers[header].0.msg_hdr;
                    let control = &mut self.controls[self.begins.len() - 1];
                    control.segment = segment as u16;
                    header.msg_iovlen += 1;
                    header.msg_control = (&raw mut *control).cast();
                    header.msg_controllen = size_of::<Control>();
                    continue;
                }
            }
            let header = &mut self.headers[self.begins.len()].0;
            self.begins.push(at);
            header.msg_hdr.msg_name = (&raw mut self.peers[*index].0).cast();
            header.msg_hdr.msg_namelen = address_length();
            header.msg_hdr.msg_iov = &raw mut self.parts[at].0;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = std::ptr::null_mut();
            header.msg_hdr.msg_controllen = 0;
        }
    }

    /// Sends what is laid out; gives the place in the order from which on it has to be laid out anew.
    fn transmit(&mut self, socket: &impl AsFd) -> usize {
        let mut done = 0;
        while let Some(rest) = self.headers.get_mut(done..self.begins.len()).filter(|rest| !rest.is_empty()) {
            // SAFETY: the headers point to responses, addresses and control messages that live as long as self, with their
            // lengths.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_fd().as_raw_fd(),
                    rest.as_mut_ptr().cast(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) => done += sent,
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => break,
                // The error is the first one's. A link without checksums of its own, or a tunnel: nothing is cut there.
                Err(_) if rest[0].0.msg_hdr.msg_iovlen > 1 => {
                    self.segments = false;
                    return self.begins[done];
                }
                Err(_) => done += 1,
            }
        }
        self.order.len()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

fn address_length() -> libc::socklen_t {
    size_of::<libc::sockaddr_in6>() as libc::socklen_t
}

impl Peer {
    /// What tells peers apart. The kernel writes no more of a structure than its family has.
    fn key(&self) -> (u16, u128, u32) {
        let peer = &self.0;
        if i32::from(peer.sin6_family) == libc::AF_INET {
            (peer.sin6_port, peer.sin6_flowinfo.into(), 0)
        } else {
            (peer.sin6_port, u128::from_ne_bytes(peer.sin6_addr.s6_addr), peer.sin6_scope_id)
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        let peer = &self.0;
        match i32::from(peer.sin6_family) {
            libc::AF_INET6 => Some(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(peer.sin6_addr.s6_addr),
                u16::from_be(peer.sin6_port),
                0,
                peer.sin6_scope_id,
            ))),
            libc::AF_INET => {
                // struct sockaddr_in has its address where struct sockaddr_in6 has the flow label.
                let address = Ipv4Addr::from(peer.sin6_flowinfo.to_ne_bytes());
                Some(SocketAddr::V4(SocketAddrV4::new(address, u16::from_be(peer.sin6_port))))
            }
            _ => None,
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address().fmt(out)
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Header")
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Part")
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn pair(address: &str) -> (UdpSocket, UdpSocket) {
        let server = UdpSocket::bind(address).unwrap();
        let client = UdpSocket::bind(address).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        (server, client)
    }

    #[test]
    fn each_response_goes_to_who_asked_also_where_some_get_none() {
        for address in ["[::1]:0", "127.0.0.1:0"] {
            let (server, first) = pair(address);
            let second = UdpSocket::bind(address).unwrap();
            second.connect(server.local_addr().unwrap()).unwrap();
            for number in 0..20u8 {
                first.send(&[1, number]).unwrap();
                second.send(&[2, number]).unwrap();
            }
            let mut batch = Batch::new();
            let mut peers = Vec::new();
            let mut seen = 0;
            while seen < 40 {
                seen += batch
                    .serve(&server, |query, peer, response| {
                        peers.push(peer);
                        if query[1] % 3 > 0 {
                            response.extend([query, b"!"].concat());
                        }
                    })
                    .unwrap();
            }
            assert!(peers.iter().all(|peer| [&first, &second].map(|one| one.local_addr().unwrap()).contains(peer)));
            for (client, mark) in [(&first, 1), (&second, 2)] {
                let mut buffer = [0; 16];
                for number in (0..20u8).filter(|number| number % 3 > 0) {
                    let length = client.recv(&mut buffer).unwrap();
                    assert_eq!(buffer[..length], [mark, number, b'!']);
                }
            }
            let empty = batch.serve(&server, |_, _, _| ()).unwrap_err();
            assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn responses_of_any_length_to_one_client_arrive_one_by_one() {
        for (segments, address) in [(true, "[::1]:0"), (true, "127.0.0.1:0"), (false, "[::1]:0")] {
            let (server, client) = pair(address);
            let mut batch = Batch::new();
            batch.segments = segments;
            let lengths = [3, 700, 700, 1, 700, 60, 60, 1232, 60, 2, 1232, 900];
            for number in 0..lengths.len() as u8 {
                client.send(&[number]).unwrap();
            }
            let mut seen = 0;
            while seen < lengths.len() {
                seen += batch
                    .serve(&server, |query, _, response| response.resize(lengths[usize::from(query[0])], query[0]))
                    .unwrap();
            }
            let mut arrived = [0; 12];
            for _ in lengths {
                let mut buffer = [0; 2048];
                let length = client.recv(&mut buffer).unwrap();
                assert!(buffer[..length].iter().all(|byte| *byte == buffer[0]), "parts of one response only");
                arrived[usize::from(buffer[0])] = length;
            }
            assert_eq!(arrived, lengths);
            assert_eq!(batch.segments, segments, "nothing was refused");
        }
    }

    #[test]
    fn a_datagram_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let (server, client) = pair("[::1]:0");
        client.send(&[7; 9000]).unwrap();
        client.send(&[8; 10]).unwrap();
        let (mut batch, mut lengths) = (Batch::new(), Vec::new());
        while lengths.len() < 2 {
            batch.serve(&server, |query, _, _| lengths.push(query.len())).unwrap();
        }
        assert_eq!(lengths, [LONGEST, 10]);
    }
}

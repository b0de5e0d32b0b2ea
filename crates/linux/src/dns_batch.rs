//! Queries and responses by UDP, many to a system call: recvmmsg and sendmmsg.
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

/// Datagrams to a system call.
pub const BATCH: usize = 32;
/// A longer query is no query.
const LONGEST: usize = 4096;
/// Room for a response, so that writing one allocates nothing.
const RESPONSE: usize = 1280;

/// Buffers for a batch of queries and their responses.
#[derive(Debug)]
pub struct Batch {
    queries: Vec<[u8; LONGEST]>,
    responses: Vec<Vec<u8>>,
    peers: Vec<Peer>,
    headers: Vec<Header>,
    parts: Vec<Part>,
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
        for (((header, part), response), peer) in
            self.headers.iter_mut().zip(&mut self.parts).zip(&mut self.responses).zip(&mut self.peers).take(ready)
        {
            part.0 = libc::iovec { iov_base: response.as_mut_ptr().cast(), iov_len: response.len() };
            header.0.msg_hdr.msg_name = (&raw mut peer.0).cast();
            header.0.msg_hdr.msg_namelen = address_length();
            header.0.msg_hdr.msg_iov = &raw mut part.0;
            header.0.msg_hdr.msg_iovlen = 1;
        }
        let mut done = 0;
        while let Some(rest) = self.headers.get_mut(done..ready).filter(|rest| !rest.is_empty()) {
            // SAFETY: the headers point to responses and addresses that live as long as self, with their lengths.
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
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => return,
                // The error is the first one's.
                Err(_) => done += 1,
            }
        }
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

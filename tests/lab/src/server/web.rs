//! A tiny web server that tells each client who it appears to be, and remembers all of them.
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Thread;
use crate::namespace::Namespace;

/// How long a client may keep a connection idle.
const IDLE: Duration = Duration::from_secs(20);

/// An HTTP/1.0 server. `GET /bytes/N` yields N equal bytes, `GET /noise/N` the bytes of [`noise`], a body sent to
/// `/digest` its [`digest`], any other body its length, and anything else one line: the client's address.
#[derive(Debug)]
pub struct Web {
    _thread: Thread,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    address: SocketAddr,
}

impl Web {
    /// Listens in a namespace, on an address that it holds.
    pub fn start(host: &Namespace, address: SocketAddr) -> Result<Self> {
        let listener = host.inside(|| TcpListener::bind(address)).with_context(|| format!("TCP {address}"))?;
        let peers = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&peers);
        let thread = Thread::start(move |stop| {
            while stop.readable(&listener) {
                let Ok((stream, peer)) = listener.accept() else { continue };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(unmapped(peer));
                // A client that hangs up early is its own affair; the thread ends by itself after IDLE.
                thread::spawn(move || serve(&stream, unmapped(peer)));
            }
        })?;
        Ok(Self { _thread: thread, peers, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everybody who has connected so far, as the server saw them.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// That many bytes in which nothing repeats where a packet could begin.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_ne_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// A number by which two contents can be told apart.
pub fn digest(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
}

fn unmapped(peer: SocketAddr) -> SocketAddr {
    match peer.ip() {
        IpAddr::V6(v6) => SocketAddr::new(v6.to_canonical(), peer.port()),
        IpAddr::V4(_) => peer,
    }
}

fn serve(stream: &TcpStream, peer: SocketAddr) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut uploaded = Vec::new();
    reader.take(length).read_to_end(&mut uploaded)?;
    let path = request.split_whitespace().nth(1).unwrap_or("/");
    let count = |prefix: &str| path.strip_prefix(prefix).and_then(|count| count.parse().ok());
    let body = match (count("/bytes/"), count("/noise/"), path) {
        (Some(count), ..) => vec![b'.'; count],
        (_, Some(count), _) => noise(count),
        (_, _, "/digest") => format!("{}\n", digest(&uploaded)).into_bytes(),
        _ if !uploaded.is_empty() => format!("{}\n", uploaded.len()).into_bytes(),
        _ => format!("{}\n", peer.ip()).into_bytes(),
    };
    let mut stream = stream;
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

//! Asks a resolver from many ports, many queries to a system call, and keeps the time of each answer.
use std::io::{ErrorKind, IoSlice};
use std::net::{Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use serde::{Deserialize, Serialize};

/// Sockets, each with a port of its own.
const SOCKETS: usize = 32;
/// Queries of one socket that are under way at a time.
const WINDOW: usize = 8;
/// A query that is not answered for so long is lost.
const LOST: Duration = Duration::from_millis(200);

/// Whom, what, how long and how fast.
#[derive(clap::Args)]
pub(crate) struct Options {
    resolver: Ipv6Addr,
    /// Names h0, h1 and so on of bench.test.
    names: u32,
    seconds: f64,
    /// Queries a second; as many as are answered where it is 0.
    rate: f64,
}

/// What it prints.
#[derive(Serialize, Deserialize)]
pub(super) struct Answers {
    pub(super) count: u64,
    pub(super) seconds: f64,
    /// Microseconds from the query to its answer, the 99th percentile.
    pub(super) latency_99: f64,
}

struct Line {
    socket: UdpSocket,
    /// When each query was sent, by the low bits of its identifier; nothing where it is answered.
    sent: [Option<Instant>; WINDOW],
}

/// Asks until the time is over.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut lines = Vec::new();
    for _ in 0..SOCKETS {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).context("a socket")?;
        socket.connect((options.resolver, 53))?;
        socket.set_nonblocking(true)?;
        lines.push(Line { socket, sent: [None; WINDOW] });
    }
    let mut queries: Vec<Vec<u8>> = (0..options.names).map(query).collect();
    let (begin, lasts) = (Instant::now(), Duration::from_secs_f64(options.seconds));
    let (mut asked, mut next, mut latencies) = (0u64, 0, Vec::new());
    let mut buffer = [0; 2048];
    while begin.elapsed() < lasts {
        for line in &mut lines {
            loop {
                match line.socket.recv(&mut buffer) {
                    Ok(length) if length > 2 => {
                        if let Some(sent) = line.sent.get_mut(usize::from(buffer[1])).and_then(Option::take) {
                            latencies.push(sent.elapsed());
                        }
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("the resolver's answers"),
                }
            }
            let now = Instant::now();
            let due = (begin.elapsed().as_secs_f64() * options.rate) as u64;
            let room = if options.rate > 0.0 { due.saturating_sub(asked) } else { u64::MAX };
            let free: Vec<usize> = (0..WINDOW)
                .filter(|slot| line.sent[*slot].is_none_or(|sent| now.duration_since(sent) > LOST))
                .take(usize::try_from(room).unwrap_or(usize::MAX))
                .collect();
            if free.is_empty() {
                continue;
            }
            let first = next;
            for (offset, slot) in free.iter().enumerate() {
                let index = (first + offset) % queries.len();
                queries[index][1] = u8::try_from(*slot).unwrap_or_default();
                line.sent[*slot] = Some(now);
            }
            next = (first + free.len()) % queries.len();
            let slices: Vec<[IoSlice<'_>; 1]> =
                (0..free.len()).map(|offset| [IoSlice::new(&queries[(first + offset) % queries.len()])]).collect();
            let mut controls: Vec<_> = slices.iter().map(|_| SendAncillaryBuffer::default()).collect();
            let mut messages: Vec<_> =
                slices.iter().zip(&mut controls).map(|(slice, control)| MMsgHdr::new(slice, control)).collect();
            sendmmsg(&line.socket, &mut messages, SendFlags::empty()).context("the queries")?;
            asked += free.len() as u64;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = latencies.len() * 99 / 100;
    let latency_99 = latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e6);
    let answers = Answers { count: latencies.len() as u64, seconds, latency_99 };
    println!("{}", serde_json::to_string(&answers)?);
    Ok(())
}

/// AAAA of h`index`.bench.test.
fn query(index: u32) -> Vec<u8> {
    let host = format!("h{index}");
    let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [host.as_str(), "bench", "test"] {
        query.push(u8::try_from(label.len()).unwrap_or_default());
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 28, 0, 1]);
    query
}

//! Sends small datagrams of many flows as fast as one core can, many to a system call.
use std::io::IoSlice;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};
use serde::{Deserialize, Serialize};

/// Sockets, each with a port of its own.
const SOCKETS: u16 = 64;
/// Ports that each of them sends to.
const PORTS: u16 = 16;
/// Flows in all.
pub(super) const FLOWS: usize = SOCKETS as usize * PORTS as usize;
/// Payload of each datagram.
pub(super) const PAYLOAD: usize = 64;

/// Where to, and how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    target: Ipv6Addr,
    seconds: f64,
}

/// What it prints.
#[derive(Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) packets: u64,
    pub(super) seconds: f64,
}

/// Sends until the time is over.
pub(crate) fn run(options: &Options) -> Result<()> {
    let sockets = (0..SOCKETS)
        .map(|index| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 20_000 + index)))
        .collect::<std::io::Result<Vec<_>>>()
        .context("the generator's sockets")?;
    let addresses: Vec<SocketAddrAny> =
        (0..PORTS).map(|port| SocketAddrV6::new(options.target, 5_000 + port, 0, 0).into()).collect();
    let payload = [0x5a; PAYLOAD];
    let slices = [IoSlice::new(&payload)];
    let mut controls: Vec<_> = addresses.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<_> = addresses
        .iter()
        .zip(&mut controls)
        .map(|(address, control)| MMsgHdr::new_with_addr(address, &slices, control))
        .collect();
    let (begin, mut packets) = (Instant::now(), 0);
    let lasts = Duration::from_secs_f64(options.seconds);
    while begin.elapsed() < lasts {
        for socket in &sockets {
            // An error is an ICMP error about an earlier datagram, or a full queue: the next one is sent all the same.
            packets += sendmmsg(socket, &mut messages, SendFlags::empty()).unwrap_or(0) as u64;
        }
    }
    let sent = Sent { packets, seconds: begin.elapsed().as_secs_f64() };
    println!("{}", serde_json::to_string(&sent)?);
    Ok(())
}

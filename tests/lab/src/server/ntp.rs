//! A time server whose clock is ahead of everybody's.
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::Thread;
use crate::namespace::Namespace;

/// Seconds from 1900 to 1970.
const UNIX: u64 = 2_208_988_800;

/// The server.
#[derive(Debug)]
pub struct Ntp(#[expect(dead_code, reason = "it lives as long as its owner")] Thread);

impl Ntp {
    /// Answers in a namespace, on an address that it holds, with a clock that is that much ahead.
    pub fn start(host: &Namespace, address: SocketAddr, ahead: Duration) -> Result<Self> {
        let socket = host.inside(|| UdpSocket::bind(address)).with_context(|| format!("NTP {address}"))?;
        let thread = Thread::start(move |stop| {
            let mut question = [0; 256];
            while stop.readable(&socket) {
                let Ok((48.., peer)) = socket.recv_from(&mut question) else { continue };
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + ahead;
                let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
                let stamp = ((now.as_secs() + UNIX) << 32 | fraction).to_be_bytes();
                let mut answer = [0; 48];
                // Version 4, a server's, of stratum 2.
                answer[..2].copy_from_slice(&[0x24, 2]);
                answer[24..32].copy_from_slice(&question[40..48]);
                answer[32..40].copy_from_slice(&stamp);
                answer[40..].copy_from_slice(&stamp);
                let _ = socket.send_to(&answer, peer);
            }
        })?;
        Ok(Self(thread))
    }
}

//! A syslog server over TCP that keeps all that it is told (RFC 5424, framed by RFC 6587).
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use super::Thread;
use crate::namespace::Namespace;

/// The server. Who sends to it may come and go.
#[derive(Debug)]
pub struct Syslog {
    _thread: Thread,
    told: Arc<Mutex<String>>,
}

impl Syslog {
    /// Listens in a namespace, on an address that it holds.
    pub fn start(host: &Namespace, address: SocketAddr) -> Result<Self> {
        let listener = host.inside(|| TcpListener::bind(address)).with_context(|| format!("TCP {address}"))?;
        let told = Arc::new(Mutex::new(String::new()));
        let all = Arc::clone(&told);
        let thread = Thread::start(move |stop| {
            while stop.readable(&listener) {
                let Ok((mut stream, _)) = listener.accept() else { continue };
                let all = Arc::clone(&all);
                // It ends with the sender's connection, and that with its namespace at the latest.
                thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(length @ 1..) = stream.read(&mut bytes) {
                        let text = String::from_utf8_lossy(&bytes[..length]);
                        all.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
                    }
                });
            }
        })?;
        Ok(Self { _thread: thread, told })
    }

    /// All that it was told.
    pub fn told(&self) -> String {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

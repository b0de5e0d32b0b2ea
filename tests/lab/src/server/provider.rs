//! A provider of dynamic names that speaks dyndns2, and remembers what it was asked.
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Thread;
use crate::namespace::Namespace;

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The provider; dropping it ends it.
#[derive(Debug)]
pub struct Provider {
    _thread: Thread,
    requests: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<String>>,
}

impl Provider {
    /// Listens in a namespace, and answers with these words until it is told others.
    pub fn start(host: &Namespace, address: SocketAddr, answer: &str) -> Result<Self> {
        let listener = host.inside(|| TcpListener::bind(address)).with_context(|| format!("TCP {address}"))?;
        let requests = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(Mutex::new(answer.to_owned()));
        let (seen, words) = (Arc::clone(&requests), Arc::clone(&answer));
        let thread = Thread::start(move |stop| {
            while stop.readable(&listener) {
                let Ok((stream, _)) = listener.accept() else { continue };
                let said = words.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // A client that hangs up early has asked nothing.
                if let Ok(request) = serve(&stream, &said) {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                }
            }
        })?;
        Ok(Self { _thread: thread, requests, answer })
    }

    /// What it says from now on.
    pub fn answer_with(&self, words: &str) {
        words.clone_into(&mut self.answer.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Request lines and headers so far, each request in one text.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(stream: &TcpStream, words: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (mut reader, mut request) = (BufReader::new(stream), String::new());
    while reader.read_line(&mut request)? > 2 {}
    let mut stream = stream;
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{words}\n")?;
    Ok(request)
}

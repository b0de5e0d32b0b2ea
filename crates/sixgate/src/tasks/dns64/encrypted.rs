//! Upstreams over TLS: one connection to each, kept while it is in use, with many questions on it at a time.
//!
//! The certificate has to be for the name that the configuration gives, or the address; nothing is ever asked without
//! (RFC 8310 section 5, the strict profile).
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use sixgate_engine::config::Encrypted;
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::plan::Dns64Plan;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Slice, framed, http};
use crate::trust;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(4);
/// Questions that may wait for a connection.
const WAITING: usize = 256;

/// A question on its way, and who wants the answer. Without an answer the sender is dropped.
pub(super) struct Ask {
    pub(super) message: Vec<u8>,
    pub(super) answer: oneshot::Sender<io::Result<Vec<u8>>>,
}

/// How a connection ended.
pub(super) enum End {
    /// Nobody needs it any more.
    Idle,
    /// The other side closed it; these were asked and not answered, and may be asked on another one.
    Closed(Vec<Ask>),
}

/// All upstreams over TLS.
#[derive(Clone)]
pub(super) struct Encryption(Arc<Mutex<Keepers>>);

struct Keepers {
    /// Questions to whoever keeps a connection, by upstream. They end when they are dropped.
    lines: HashMap<Encrypted, mpsc::Sender<Ask>>,
    /// The authorities that the configuration has added, and what follows from all.
    trust: Option<(Vec<Vec<u8>>, Arc<ClientConfig>)>,
    slice: watch::Sender<Slice>,
}

impl Encryption {
    pub(super) fn new(slice: watch::Sender<Slice>) -> Self {
        Self(Arc::new(Mutex::new(Keepers { lines: HashMap::new(), trust: None, slice })))
    }

    /// Gives up what the plan does not name any more.
    pub(super) fn follow(&self, plan: &Dns64Plan) {
        let mut keepers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keepers.trust.as_ref().is_some_and(|(authorities, _)| *authorities != plan.authorities) {
            (keepers.trust, keepers.lines) = (None, HashMap::new());
        }
        keepers.lines.retain(|upstream, _| plan.encrypted.contains(upstream));
        keepers.slice.send_if_modified(|slice| {
            let before = slice.encryption.len();
            slice.encryption.retain(|address, _| plan.encrypted(*address).is_some());
            slice.encryption.len() != before
        });
    }

    /// Asks an upstream.
    ///
    /// # Errors
    /// It cannot be reached, is not who it should be, or ended the connection.
    pub(super) async fn ask(&self, upstream: &Encrypted, plan: &Dns64Plan, message: Vec<u8>) -> io::Result<Vec<u8>> {
        let (answer, answered) = oneshot::channel();
        let line = self.line(upstream, plan)?;
        line.try_send(Ask { message, answer }).map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
        answered.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?
    }

    fn line(&self, upstream: &Encrypted, plan: &Dns64Plan) -> io::Result<mpsc::Sender<Ask>> {
        let mut keepers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = keepers.lines.get(upstream) {
            return Ok(line.clone());
        }
        let trust = match &keepers.trust {
            Some((authorities, trust)) if *authorities == plan.authorities => trust.clone(),
            _ => {
                let trust = trust::client(&plan.authorities)?;
                keepers.trust = Some((plan.authorities.clone(), trust.clone()));
                trust
            }
        };
        let (line, asked) = mpsc::channel(WAITING);
        keepers.lines.insert(upstream.clone(), line.clone());
        tokio::spawn(keep(upstream.clone(), trust, asked, keepers.slice.clone()));
        Ok(line)
    }
}

/// Connects when there is a question, and again when there is one after the connection's end.
async fn keep(
    upstream: Encrypted,
    trust: Arc<ClientConfig>,
    mut asked: mpsc::Receiver<Ask>,
    slice: watch::Sender<Slice>,
) {
    let mut again: Vec<Ask> = Vec::new();
    loop {
        // What was asked once before on a connection that was closed is asked once more, and that is all.
        let repeated = !again.is_empty();
        if !repeated {
            let Some(first) = asked.recv().await else { return };
            again.push(first);
        }
        let connected = match timeout(CONNECT, connect(&upstream, &trust)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        tell(&slice, &upstream, connected.as_ref().err());
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) => {
                while let Ok(waiting) = asked.try_recv() {
                    again.push(waiting);
                }
                for Ask { answer, .. } in again.drain(..) {
                    drop(answer.send(Err(io::Error::new(error.kind(), error.to_string()))));
                }
                continue;
            }
        };
        let first = std::mem::take(&mut again);
        let end = match &upstream.path {
            None => framed::carry(stream, first, &mut asked).await,
            Some(path) => http::carry(stream, (&upstream, path), first, &mut asked).await,
        };
        match end {
            Ok(End::Closed(unanswered)) if !repeated => again = unanswered,
            Ok(End::Idle | End::Closed(_)) => {}
            Err(error) => tracing::debug!("{upstream}: {error}"),
        }
        again.retain(|ask| !ask.answer.is_closed());
    }
}

async fn connect(upstream: &Encrypted, trust: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(upstream.name.clone()).map_err(io::Error::other)?;
    let mut config = ClientConfig::clone(trust);
    // RFC 7858 section 3.1 names no protocol for ALPN; RFC 8484 section 5.2: HTTP/2 is the least that is recommended.
    config.alpn_protocols = if upstream.path.is_some() { vec![b"h2".to_vec()] } else { vec![b"dot".to_vec()] };
    let stream = TcpStream::connect(upstream.address).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Shows what keeps an upstream from being asked, or that nothing does.
fn tell(slice: &watch::Sender<Slice>, upstream: &Encrypted, error: Option<&io::Error>) {
    let finding = error.map(|error| finding(upstream, error));
    slice.send_if_modified(|slice| {
        let address = upstream.address;
        let changes = slice.encryption.get(&address) != finding.as_ref();
        match finding {
            Some(finding) => drop(slice.encryption.insert(address, finding)),
            None => drop(slice.encryption.remove(&address)),
        }
        changes
    });
}

fn finding(upstream: &Encrypted, error: &io::Error) -> Finding {
    let certificate =
        error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).and_then(|error| match error {
            rustls::Error::InvalidCertificate(error) => Some(error),
            _ => None,
        });
    let mend = match certificate {
        Some(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "set this machine's clock, if it is fast; else the upstream has to renew its certificate"
        }
        Some(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "set this machine's clock, which is slow"
        }
        Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            "give the name that the upstream's operator names after the #; if it is right, somebody else answers there"
        }
        Some(CertificateError::UnknownIssuer) => {
            "name the authority in `upstream_authority`, if you know it; else somebody else answers there"
        }
        _ => "see that the upstream is reachable and speaks TLS there, or name another one",
    };
    let text = format!("{upstream} is not asked: {error}");
    Finding::new(Severity::Warning, "dns-upstream-tls", upstream.address.to_string(), text, mend)
}

//! The client's end of the control socket, blocking and bounded in time.
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv6Net;
use sixgate_engine::firewall::denial::Denial;
use sixgate_engine::status::{SessionPage, Status};
use sixgate_engine::why::Step;

use super::{ErrorKind, MAX_REPLY, PastConfiguration, Reply, Request, VERSION, emit_request, parse_reply};

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to put a configuration into force.
const CHANGE_PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("nobody answers on {path}: {error}; is `sixgate run` running, and are you root?")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// The connection broke or timed out.
    #[error("the connection to the daemon broke: {0}")]
    Broken(#[from] io::Error),
    /// The answer is no reply line.
    #[error("the daemon answered something that is no reply: {0}")]
    Garbage(serde_json::Error),
    /// Daemon and client come from different releases.
    #[error(
        "the daemon speaks version {daemon} of the control protocol, this program version {VERSION}; use the `sixgate` \
         binary that the daemon was started from, or restart the daemon"
    )]
    Version {
        /// The daemon's version.
        daemon: u32,
    },
    /// The daemon refused the request.
    #[error("{text}")]
    Refused {
        /// Why, for programs.
        kind: ErrorKind,
        /// Why, for people.
        text: String,
    },
}

fn unasked(what: &str) -> ClientError {
    ClientError::Broken(io::Error::other(format!("{what} was asked for and something else came")))
}

impl Client {
    /// Connects to the daemon behind that socket.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream =
            UnixStream::connect(path).map_err(|error| ClientError::Connect { path: path.to_owned(), error })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks for the whole state.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        match self.exchange(&Request::Status)? {
            Reply::Status { status } => Ok(*status),
            Reply::Sessions { .. }
            | Reply::Denials { .. }
            | Reply::Proposal { .. }
            | Reply::History { .. }
            | Reply::Why { .. }
            | Reply::Accepted => Err(unasked("a status")),
            Reply::Error { kind, text } => Err(ClientError::Refused { kind, text }),
        }
    }

    /// Asks for a part of the translator's sessions.
    pub fn sessions(&mut self, from: u32, clients: Option<Ipv6Net>) -> Result<SessionPage, ClientError> {
        match self.exchange(&Request::Sessions { from, clients })? {
            Reply::Sessions { page } => Ok(page),
            Reply::Status { .. }
            | Reply::Denials { .. }
            | Reply::Proposal { .. }
            | Reply::History { .. }
            | Reply::Why { .. }
            | Reply::Accepted => Err(unasked("sessions")),
            Reply::Error { kind, text } => Err(ClientError::Refused { kind, text }),
        }
    }

    /// Asks for the configurations that are kept, newest first.
    pub fn history(&mut self) -> Result<Vec<PastConfiguration>, ClientError> {
        match self.exchange(&Request::History)? {
            Reply::History { history } => Ok(history),
            Reply::Error { kind, text } => Err(ClientError::Refused { kind, text }),
            Reply::Accepted
            | Reply::Denials { .. }
            | Reply::Proposal { .. }
            | Reply::Sessions { .. }
            | Reply::Status { .. }
            | Reply::Why { .. } => Err(unasked("the history")),
        }
    }

    /// Asks for what was refused lately, the last one first.
    pub fn denials(&mut self) -> Result<Vec<Denial>, ClientError> {
        match self.exchange(&Request::Denials)? {
            Reply::Denials { denials } => Ok(denials),
            Reply::Error { kind, text } => Err(ClientError::Refused { kind, text }),
            Reply::Accepted
            | Reply::Proposal { .. }
            | Reply::Sessions { .. }
            | Reply::Status { .. }
            | Reply::History { .. }
            | Reply::Why { .. } => Err(unasked("denials")),
        }
    }

    /// Asks for the entry that would admit a denial, and for the whole configuration with it.
    pub fn propose(&mut self, denial: u64) -> Result<(String, String), ClientError> {
        match self.exchange(&Request::Propose { denial })? {
            Reply::Proposal { entry, text } => Ok((entry, text)),
            Reply::Error { kind, text } => Err(ClientError::Refused { kind, text }),
            Reply::Accepted
            | Reply::Denials { .. }
            | Reply::Sessions { .. }
            | Reply::Status { .. }
            | Reply::History { .. }
            | Reply::Why { .. } => Err(unasked("a proposal")),
        }
    }

    /// Asks what becomes of a conversation.
    pub fn why(&mut self, from: String, to: String, service: String) -> Result<Vec<Step>, ClientError> {
        match self.exchange(&Request::Why { from, to, service })? {
            Reply::Why { steps } => Ok(steps),
            Reply::Error { kind, text } => Err(ClientError::Refused { kind, text }),
            Reply::Accepted
            | Reply::Denials { .. }
            | Reply::Proposal { .. }
            | Reply::Sessions { .. }
            | Reply::Status { .. }
            | Reply::History { .. } => Err(unasked("the way of a conversation")),
        }
    }

    /// Sends a request that changes something; returns once the daemon has accepted it.
    pub fn command(&mut self, request: &Request) -> Result<(), ClientError> {
        if matches!(request, Request::Apply { .. } | Request::Revert { .. }) {
            self.stream.get_mut().set_read_timeout(Some(CHANGE_PATIENCE))?;
        }
        match self.exchange(request)? {
            Reply::Status { .. }
            | Reply::Sessions { .. }
            | Reply::Denials { .. }
            | Reply::Proposal { .. }
            | Reply::History { .. }
            | Reply::Why { .. }
            | Reply::Accepted => Ok(()),
            Reply::Error { kind, text } => Err(ClientError::Refused { kind, text }),
        }
    }

    fn exchange(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.stream.get_mut().write_all(emit_request(request).as_bytes())?;
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_REPLY as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let reply = parse_reply(&line)?;
        if let Reply::Error { kind: ErrorKind::Version, text } = reply {
            return Err(ClientError::Refused { kind: ErrorKind::Version, text });
        }
        Ok(reply)
    }
}

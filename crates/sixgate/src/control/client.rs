//! The client's end of the control socket, blocking and bounded in time.
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv6Net;
use sixgate_engine::firewall::denial::Denial;
use sixgate_engine::status::{SessionPage, Status};
use sixgate_engine::why::Step;

use super::{
    ErrorKind, Event, MAX_REPLY, PastConfiguration, Reply, Request, Resolved, VERSION, emit_request, parse_reply,
};
use crate::backup::Backup;

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to put a configuration into force.
const CHANGE_PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to write an update to the disk.
const DISK_PATIENCE: Duration = Duration::from_secs(190);
/// How long a stream is waited for before whoever reads it is asked whether to go on.
const GLANCE: Duration = Duration::from_millis(500);

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

/// Another reply than the one to what was asked.
fn unasked(what: &str, reply: Reply) -> ClientError {
    match reply {
        Reply::Error { kind, text } => ClientError::Refused { kind, text },
        Reply::Status { .. }
        | Reply::Sessions { .. }
        | Reply::Backup { .. }
        | Reply::Accepted
        | Reply::Why { .. }
        | Reply::History { .. }
        | Reply::Configuration { .. }
        | Reply::Log { .. }
        | Reply::Resolved { .. }
        | Reply::Probe { .. }
        | Reply::Captured { .. }
        | Reply::Denials { .. }
        | Reply::Proposal { .. } => {
            ClientError::Broken(io::Error::other(format!("{what} was asked for and something else came")))
        }
    }
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
        let reply = self.exchange(&Request::Status)?;
        if let Reply::Status { status } = reply { Ok(*status) } else { Err(unasked("a status", reply)) }
    }

    /// Asks for a part of the translator's sessions.
    pub fn sessions(&mut self, from: u32, clients: Option<Ipv6Net>) -> Result<SessionPage, ClientError> {
        let reply = self.exchange(&Request::Sessions { from, clients })?;
        if let Reply::Sessions { page } = reply { Ok(page) } else { Err(unasked("sessions", reply)) }
    }

    /// Asks for a backup.
    pub fn backup(&mut self) -> Result<Backup, ClientError> {
        let reply = self.exchange(&Request::Backup)?;
        if let Reply::Backup { backup } = reply { Ok(*backup) } else { Err(unasked("a backup", reply)) }
    }

    /// Asks for the configurations that are kept, newest first.
    pub fn history(&mut self) -> Result<Vec<PastConfiguration>, ClientError> {
        let reply = self.exchange(&Request::History)?;
        if let Reply::History { history } = reply { Ok(history) } else { Err(unasked("the history", reply)) }
    }

    /// Asks for what was refused lately, the last one first.
    pub fn denials(&mut self) -> Result<Vec<Denial>, ClientError> {
        let reply = self.exchange(&Request::Denials)?;
        if let Reply::Denials { denials } = reply { Ok(denials) } else { Err(unasked("denials", reply)) }
    }

    /// Asks for the entry that would admit a denial, and for the whole configuration with it.
    pub fn propose(&mut self, denial: u64) -> Result<(String, String), ClientError> {
        let reply = self.exchange(&Request::Propose { denial })?;
        if let Reply::Proposal { entry, text } = reply { Ok((entry, text)) } else { Err(unasked("a proposal", reply)) }
    }

    /// Asks for the text of the configuration in force.
    pub fn configuration(&mut self) -> Result<String, ClientError> {
        let reply = self.exchange(&Request::Configuration)?;
        if let Reply::Configuration { text } = reply { Ok(text) } else { Err(unasked("a configuration", reply)) }
    }

    /// Asks for what was logged after an event.
    pub fn log(&mut self, after: u64) -> Result<Vec<Event>, ClientError> {
        let reply = self.exchange(&Request::Log { after })?;
        if let Reply::Log { events } = reply { Ok(events) } else { Err(unasked("the log", reply)) }
    }

    /// Has the router's resolver asked.
    pub fn resolve(&mut self, name: String, synthesis: bool) -> Result<Resolved, ClientError> {
        self.stream.get_mut().set_read_timeout(Some(CHANGE_PATIENCE))?;
        let reply = self.exchange(&Request::Resolve { name, synthesis })?;
        if let Reply::Resolved { resolved } = reply { Ok(resolved) } else { Err(unasked("an answer", reply)) }
    }

    /// Asks what becomes of a conversation.
    pub fn why(&mut self, from: String, to: String, service: String) -> Result<Vec<Step>, ClientError> {
        let reply = self.exchange(&Request::Why { from, to, service })?;
        if let Reply::Why { steps } = reply { Ok(steps) } else { Err(unasked("the way of a conversation", reply)) }
    }

    /// Sends a request that is answered by several lines, and gives each to `told`, until the last one or until `told`
    /// says that it has seen enough. `told` is called at least once a second, without a reply where there is none.
    pub fn stream(
        &mut self,
        request: &Request,
        mut told: impl FnMut(Option<Reply>) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        self.stream.get_mut().set_read_timeout(Some(GLANCE))?;
        self.stream.get_mut().write_all(emit_request(request).as_bytes())?;
        let mut line = Vec::new();
        loop {
            match (&mut self.stream).take(MAX_REPLY as u64).read_until(b'\n', &mut line) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(_) => {}
                // What came of the line until now stays in `line`.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if told(None).is_break() {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            if !line.ends_with(b"\n") {
                continue;
            }
            let reply = parse_reply(&line)?;
            line.clear();
            match reply {
                Reply::Accepted => return Ok(()),
                Reply::Error { kind, text } => return Err(ClientError::Refused { kind, text }),
                Reply::Status { .. }
                | Reply::Sessions { .. }
                | Reply::History { .. }
                | Reply::Backup { .. }
                | Reply::Why { .. }
                | Reply::Configuration { .. }
                | Reply::Log { .. }
                | Reply::Resolved { .. }
                | Reply::Probe { .. }
                | Reply::Captured { .. }
                | Reply::Denials { .. }
                | Reply::Proposal { .. } => {
                    if told(Some(reply)).is_break() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sends a request that changes something; returns once the daemon has accepted it.
    pub fn command(&mut self, request: &Request) -> Result<(), ClientError> {
        match request {
            Request::Apply { .. } | Request::Restore { .. } | Request::Revert { .. } | Request::RestartService(_) => {
                self.stream.get_mut().set_read_timeout(Some(CHANGE_PATIENCE))?;
            }
            Request::Machine(_) => self.stream.get_mut().set_read_timeout(Some(DISK_PATIENCE))?,
            Request::Status
            | Request::Stop
            | Request::Restart
            | Request::Reload
            | Request::PowerOff
            | Request::Sessions { .. }
            | Request::Backup
            | Request::Confirm
            | Request::FlushDns { .. }
            | Request::Denials
            | Request::Propose { .. }
            | Request::History
            | Request::Why { .. }
            | Request::Configuration
            | Request::Unlock { .. }
            | Request::Log { .. }
            | Request::Resolve { .. }
            | Request::Ping { .. }
            | Request::Trace { .. }
            | Request::Capture(_) => {}
        }
        let reply = self.exchange(request)?;
        if reply == Reply::Accepted { Ok(()) } else { Err(unasked("a change", reply)) }
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

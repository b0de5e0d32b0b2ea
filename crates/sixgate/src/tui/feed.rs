//! The daemon's voice: a thread that asks for the status once a second and passes requests on.
use std::io::ErrorKind as Io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use sixgate_engine::firewall::denial::Denial;
use sixgate_engine::status::Status;

use super::sessions::Told;
use crate::control::{Client, ClientError, ErrorKind, Event, PastConfiguration, Request};

/// How often the status is asked for.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// Sessions that are asked for at once: what a page shows of more is no use to anybody.
const MOST_SESSIONS: usize = 2048;

/// What was heard.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Observation {
    /// The daemon's state.
    Status(Box<Status>),
    /// No state, and why.
    Trouble(Trouble),
    /// The translator's sessions.
    Sessions(Told),
    /// What was logged since the last time.
    Log(Vec<Event>),
    /// The configurations that are kept.
    Past(Vec<PastConfiguration>),
    /// What was refused lately.
    Denials(Vec<Denial>),
    /// A configuration to be edited.
    Edit(String),
    /// What an action tells.
    Told(u64, Vec<String>),
    /// How an action ended.
    Ended(u64, Result<(), String>),
    /// The daemon accepted a request.
    Accepted(Request),
    /// It did not, or did not hear it.
    Rejected(Request, String),
}

/// Why there is no state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no socket.
    Absent,
    /// There is a socket, but nobody listens or the daemon is not ready to answer.
    Starting,
    /// The socket is not for this user.
    Denied,
    /// The daemon accepts the connection and says nothing.
    Silent,
    /// The daemon speaks another version, which it may have named.
    OtherVersion(Option<u32>),
    /// Anything else, in the system's words.
    Other(String),
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Connect { error, .. } | ClientError::Broken(error) => match error.kind() {
                Io::NotFound => Self::Absent,
                Io::ConnectionRefused | Io::ConnectionReset | Io::BrokenPipe | Io::UnexpectedEof => Self::Starting,
                Io::PermissionDenied => Self::Denied,
                Io::WouldBlock | Io::TimedOut => Self::Silent,
                _ => Self::Other(error.to_string()),
            },
            ClientError::Version { daemon } => Self::OtherVersion(Some(daemon)),
            // The envelope's version is ours and its content is not: another release of the status.
            ClientError::Garbage(_) => Self::OtherVersion(None),
            ClientError::Refused { kind, text } => match kind {
                ErrorKind::Version => Self::OtherVersion(None),
                ErrorKind::Unavailable => Self::Starting,
                ErrorKind::Malformed | ErrorKind::TooLong | ErrorKind::Unknown | ErrorKind::Refused => {
                    Self::Other(text)
                }
            },
        }
    }
}

/// Asks and passes on until the console is gone. Every exchange is bounded in time by the client, and each has a
/// connection of its own: a daemon that restarted is found again by itself.
pub(super) fn run(socket: &Path, heard: &SyncSender<Observation>, requests: &Receiver<Request>) {
    let mut due = Instant::now();
    loop {
        let observation = match requests.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(request) => match answer(socket, &request) {
                Ok(observation) => observation,
                Err(error) => Observation::Rejected(request, error.to_string()),
            },
            Err(RecvTimeoutError::Timeout) => {
                due = Instant::now() + PERIOD;
                match Client::connect(socket).and_then(|mut client| client.status()) {
                    Ok(status) => Observation::Status(Box::new(status)),
                    Err(error) => Observation::Trouble(error.into()),
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if heard.send(observation).is_err() {
            return;
        }
    }
}

/// What the daemon answers to a request.
fn answer(socket: &Path, request: &Request) -> Result<Observation, ClientError> {
    let connect = || Client::connect(socket);
    match request {
        Request::Sessions { from, clients } => sessions(socket, *from, *clients).map(Observation::Sessions),
        Request::Log { after } => connect()?.log(*after).map(Observation::Log),
        Request::History => connect()?.history().map(Observation::Past),
        Request::Denials => connect()?.denials().map(Observation::Denials),
        Request::Configuration => connect()?.configuration().map(Observation::Edit),
        Request::Propose { denial } => connect()?.propose(*denial).map(|(_, text)| Observation::Edit(text)),
        Request::Status
        | Request::Stop
        | Request::Restart
        | Request::RestartService(_)
        | Request::Reload
        | Request::PowerOff
        | Request::Machine(_)
        | Request::Apply { .. }
        | Request::Confirm
        | Request::Revert { .. }
        | Request::FlushDns { .. }
        | Request::Backup
        | Request::Restore { .. }
        | Request::Unlock { .. }
        | Request::Why { .. }
        | Request::Resolve { .. }
        | Request::Ping { .. }
        | Request::Trace { .. }
        | Request::Capture(_) => {
            connect()?.command(request)?;
            Ok(Observation::Accepted(request.clone()))
        }
    }
}

/// Part after part, up to [`MOST_SESSIONS`].
fn sessions(socket: &Path, from: u32, clients: Option<Ipv6Net>) -> Result<Told, ClientError> {
    let mut client = Client::connect(socket)?;
    let mut told = Told::default();
    let mut next = Some(from);
    while let Some(from) = next {
        if told.sessions.len() >= MOST_SESSIONS {
            told.more = true;
            break;
        }
        let page = client.sessions(from, clients)?;
        told.sessions.extend(page.sessions);
        next = page.next;
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    fn broken(kind: Io) -> Trouble {
        Trouble::from(ClientError::Broken(io::Error::from(kind)))
    }

    #[test]
    fn each_failure_has_its_own_word() {
        let absent = ClientError::Connect { path: PathBuf::from("/nowhere"), error: io::Error::from(Io::NotFound) };
        assert_eq!(Trouble::from(absent), Trouble::Absent);
        assert_eq!(broken(Io::ConnectionRefused), Trouble::Starting);
        assert_eq!(broken(Io::UnexpectedEof), Trouble::Starting);
        assert_eq!(broken(Io::PermissionDenied), Trouble::Denied);
        assert_eq!(broken(Io::WouldBlock), Trouble::Silent);
        assert_eq!(Trouble::from(ClientError::Version { daemon: 2 }), Trouble::OtherVersion(Some(2)));
        let refused = |kind| Trouble::from(ClientError::Refused { kind, text: "no".to_owned() });
        assert_eq!(refused(ErrorKind::Version), Trouble::OtherVersion(None));
        assert_eq!(refused(ErrorKind::Unavailable), Trouble::Starting);
        assert_eq!(refused(ErrorKind::Refused), Trouble::Other("no".to_owned()));
    }
}

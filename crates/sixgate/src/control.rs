//! The control protocol: one JSON object per line, on a Unix socket and on a virtio-serial port.
use ipnet::Ipv6Net;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use sixgate_engine::firewall::denial::Denial;
use sixgate_engine::status::{SessionPage, Status};
use sixgate_engine::why::Step;

use crate::backup::Backup;

mod client;

pub use client::{Client, ClientError};

/// Version of the protocol; raised when a message changes its meaning or goes.
pub const VERSION: u32 = 1;
/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/sixgate/control.sock";
/// Name of the virtio-serial port on which a guest serves the same protocol.
pub const VIRTIO_PORT: &str = "org.sixgate.control";
/// Longest request line that the daemon reads, newline included.
pub const MAX_REQUEST: usize = 4 << 20;
/// Longest reply line that a client reads, newline included.
pub const MAX_REPLY: usize = 4 << 20;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// The whole [`Status`].
    Status,
    /// Withdraw everything and end; systemd leaves it stopped, the image's PID 1 starts it again.
    Stop,
    /// End and leave everything in place; the supervisor starts the daemon again.
    Restart,
    /// Have one service start anew; the others go on.
    RestartService(Service),
    /// Read the configuration file again.
    Reload,
    /// Stop, then power the machine off; refused where PID 1 is not `sixgate init`.
    PowerOff,
    /// Something about the machine and its disk; refused where PID 1 is not `sixgate init`.
    Machine(MachineAction),
    /// A part of the translator's sessions.
    Sessions {
        /// Where it begins: 0, or the `next` of the part before.
        #[serde(default)]
        from: u32,
        /// Whose; everybody's where it is absent.
        #[serde(default)]
        clients: Option<Ipv6Net>,
    },
    /// Put a configuration into force and keep it: all of it or nothing.
    Apply {
        /// The whole file.
        text: String,
        /// Take it back after so many seconds unless it is confirmed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirm: Option<u64>,
        /// Who asks, where that is over the network; a change that cuts this session is refused without `confirm`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<Session>,
    },
    /// Configuration, leases and identifiers, to keep elsewhere.
    Backup,
    /// Put a backup's configuration into force, as `Apply` does; its leases and identifiers count from the next start.
    Restore {
        /// What `Backup` gave.
        backup: Box<Backup>,
        /// As for `Apply`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirm: Option<u64>,
    },
    /// Keep the configuration that is on trial.
    Confirm,
    /// Go back to an earlier configuration.
    Revert {
        /// Its number; absent for the end of a trial, or for the one before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u64>,
        /// As for `Apply`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirm: Option<u64>,
        /// As for `Apply`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<Session>,
    },
    /// Forget the resolver's answers about a name and all names below it; all answers without a name.
    FlushDns {
        /// The name, as in `example.com`.
        name: Option<String>,
    },
    /// What was refused lately.
    Denials,
    /// The entry that would admit what was refused, and the configuration with it.
    Propose {
        /// The denial's number.
        denial: u64,
    },
    /// The configurations that are kept.
    History,
    /// What becomes of a conversation.
    Why {
        /// Who begins it: an address, or a name of the configuration.
        from: String,
        /// With whom.
        to: String,
        /// About what: `tcp/443`, `udp/53`, `icmp`, or a protocol's number.
        service: String,
    },
    /// Whether a password is the configuration's; the console asks before it changes anything.
    Unlock {
        /// What was typed.
        password: String,
    },
    /// The text of the configuration that is in force.
    Configuration,
    /// What the daemon has logged lately.
    Log {
        /// Only what came after the event of that number.
        #[serde(default)]
        after: u64,
    },
    /// Ask a name of the router's own resolver, as a host on a LAN would.
    Resolve {
        /// The name.
        name: String,
        /// Whether AAAA records may be synthesized.
        #[serde(default = "yes")]
        synthesis: bool,
    },
    /// Send echo requests, one a second. Answered by several lines.
    Ping {
        /// To whom: an address, a VM, or a name that the resolver knows.
        to: String,
        /// How many.
        #[serde(default = "four")]
        count: u16,
    },
    /// Find the routers on the way to a host. Answered by several lines.
    Trace {
        /// The host, as for `Ping`.
        to: String,
    },
    /// Capture packets. Answered by several lines.
    Capture(Capture),
}

/// Which packets are captured, and how many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capture {
    /// On which interface, by its kernel name; on the uplink and all LANs where it is absent.
    pub interface: Option<String>,
    /// Whose: a VM's name, an address or a prefix.
    pub of: Option<String>,
    /// After so many packets it ends.
    pub packets: Option<u64>,
    /// After so many seconds it ends.
    pub seconds: Option<u64>,
    /// Bytes that are kept of each packet; all where it is absent.
    pub snap: Option<u32>,
}

const fn yes() -> bool {
    true
}

const fn four() -> u16 {
    4
}

impl Request {
    /// Its name for people.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Status => "Status",
            Self::Stop => "Stop",
            Self::Restart => "Restart",
            Self::RestartService(_) => "Restart of the service",
            Self::Reload => "Reload",
            Self::PowerOff => "Power-off",
            Self::Machine(MachineAction::Reboot) => "Restart of the machine",
            Self::Machine(MachineAction::FactoryReset) => "Reset",
            Self::Machine(MachineAction::Update) => "Update",
            Self::Machine(MachineAction::Rollback) => "Rollback",
            Self::Apply { .. } => "Apply",
            Self::Backup => "Backup",
            Self::Restore { .. } => "Restore",
            Self::Confirm => "Confirm",
            Self::Revert { .. } => "Revert",
            Self::History => "History",
            Self::Denials => "Denials",
            Self::Propose { .. } => "Proposal",
            Self::Why { .. } => "Why",
            Self::Sessions { .. } => "Sessions",
            Self::FlushDns { .. } => "Flush",
            Self::Unlock { .. } => "Password",
            Self::Configuration => "Configuration",
            Self::Log { .. } => "Log",
            Self::Resolve { .. } => "Resolve",
            Self::Ping { .. } => "Ping",
            Self::Trace { .. } => "Trace",
            Self::Capture(_) => "Capture",
        }
    }
}

/// The TCP connection by which somebody works on the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The other end.
    pub peer: IpAddr,
    /// The router's address.
    pub local: IpAddr,
    /// The router's port.
    pub port: u16,
}

/// A configuration that was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastConfiguration {
    /// Number, counting up.
    pub number: u64,
    /// When it came into force, in seconds since 1970.
    pub time: u64,
    /// How: `file`, `apply` or `revert`.
    pub origin: String,
    /// Whether it is in force now.
    pub in_force: bool,
    /// Lines that came with it.
    pub added: usize,
    /// Lines that went with it.
    pub removed: usize,
    /// The lines, each place under its line number.
    pub difference: String,
}

/// A service that can start anew by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// The clients on the uplink: DHCPv4, DHCPv6, router discovery. Leases are confirmed or asked for anew.
    Uplink,
    /// Router advertisements: hosts are told everything again, and no farewell before.
    Ra,
    /// The resolver: its cache is forgotten.
    Dns64,
    /// The translator: its sessions go on.
    Nat64,
}

/// What can be asked of the image's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineAction {
    /// Stop, then start the machine anew.
    Reboot,
    /// Start the machine anew, with nothing kept of configuration and state.
    FactoryReset,
    /// Install the update bundle on an attached drive, and start the machine anew to try it.
    Update,
    /// Start the machine anew from the other slot.
    Rollback,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reply")]
pub enum Reply {
    /// The state.
    Status {
        /// The whole state.
        status: Box<Status>,
    },
    /// A part of the sessions.
    Sessions {
        /// Up to 256 of them.
        page: SessionPage,
    },
    /// The request was accepted and is under way.
    Accepted,
    /// A backup.
    Backup {
        /// All of it.
        backup: Box<Backup>,
    },
    /// The way of a conversation.
    Why {
        /// Step by step; what stops it is the last one.
        steps: Vec<Step>,
    },
    /// What was refused lately.
    Denials {
        /// The latest first.
        denials: Vec<Denial>,
    },
    /// What would admit a denial.
    Proposal {
        /// The entry alone.
        entry: String,
        /// The text of the configuration in force with the entry at its end, to be looked at and applied.
        text: String,
    },
    /// Past configurations.
    History {
        /// Newest first.
        history: Vec<PastConfiguration>,
    },
    /// A configuration.
    Configuration {
        /// The whole file.
        text: String,
    },
    /// What was logged.
    Log {
        /// Oldest first.
        events: Vec<Event>,
    },
    /// What the resolver says.
    Resolved {
        /// Its answer.
        resolved: Resolved,
    },
    /// What came of an echo request; several of them answer one request, the last line is another reply.
    Probe {
        /// What.
        probe: Probe,
    },
    /// A part of a capture; several of them answer one request, the last line is another reply.
    Captured {
        /// The next part of a pcapng file, in Base64.
        file: String,
        /// A line for people for each packet in it.
        lines: Vec<String>,
    },
    /// The request was refused.
    Error {
        /// Why, for programs.
        kind: ErrorKind,
        /// Why, for people.
        text: String,
    },
}

/// Something that the daemon has logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number, counting up since the daemon started; those that are missing between two were too many at a time.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// How grave: `error`, `warn`, `info` or `debug`.
    pub level: String,
    /// Which part of the daemon said it.
    pub source: String,
    /// What.
    pub text: String,
}

/// What the resolver says about a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Who was asked.
    pub server: Option<SocketAddr>,
    /// The response code of each question that was not answered by NOERROR.
    pub errors: Vec<String>,
    /// The records, with name, type and data.
    pub records: Vec<String>,
    /// The addresses among them.
    pub addresses: Vec<IpAddr>,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// What came of an echo request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Its number, counting from 1.
    pub sequence: u16,
    /// To whom it was sent.
    pub to: IpAddr,
    /// The hop limit that it was sent with, where the way is traced.
    #[serde(default)]
    pub hops: Option<u8>,
    /// Who answered.
    #[serde(default)]
    pub from: Option<IpAddr>,
    /// After how many microseconds.
    #[serde(default)]
    pub micros: Option<u64>,
    /// What.
    pub outcome: ProbeOutcome,
}

/// What was answered to an echo request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeOutcome {
    /// The host answered.
    Reply,
    /// A router on the way answered.
    HopLimit,
    /// Somebody says that it cannot be delivered, with the code of ICMP or ICMPv6.
    Unreachable(u8),
    /// Nobody answered in time.
    Silence,
    /// It could not be sent.
    NotSent(String),
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// Not one JSON object with `version` and `request`.
    Malformed,
    /// Longer than [`MAX_REQUEST`].
    TooLong,
    /// The daemon speaks another [`VERSION`].
    Version,
    /// No such request.
    Unknown,
    /// The request cannot be served here.
    Refused,
    /// The daemon could not answer; it is ending or overloaded.
    Unavailable,
}

/// A request line.
#[derive(Debug, Serialize, Deserialize)]
struct RequestLine {
    version: u32,
    request: serde_json::Value,
}

/// A reply line.
#[derive(Debug, Serialize, Deserialize)]
struct ReplyLine<R> {
    version: u32,
    #[serde(flatten)]
    reply: R,
}

/// A request as one line, newline included.
pub fn emit_request(request: &Request) -> String {
    let request = serde_json::to_value(request).unwrap_or_default();
    line(&RequestLine { version: VERSION, request })
}

/// A reply as one line, newline included.
pub fn emit_reply(reply: &Reply) -> String {
    line(&ReplyLine { version: VERSION, reply })
}

fn line(message: &impl Serialize) -> String {
    let mut line = serde_json::to_string(message).unwrap_or_default();
    line.push('\n');
    line
}

/// Parses a request line; what is wrong with it comes back as the reply to send.
pub fn parse_request(line: &[u8]) -> Result<Request, Reply> {
    if line.len() > MAX_REQUEST {
        return Err(refusal(ErrorKind::TooLong, format!("a request is at most {MAX_REQUEST} bytes long")));
    }
    let line: RequestLine = serde_json::from_slice(line).map_err(|error| {
        let text = format!("expected {{\"version\":{VERSION},\"request\":\"status\"}} or the like: {error}");
        refusal(ErrorKind::Malformed, text)
    })?;
    if line.version != VERSION {
        let text = format!("the daemon speaks version {VERSION} of the protocol, the client {}", line.version);
        return Err(refusal(ErrorKind::Version, text));
    }
    serde_json::from_value(line.request).map_err(|error| refusal(ErrorKind::Unknown, error.to_string()))
}

/// An error reply.
pub fn refusal(kind: ErrorKind, text: impl Into<String>) -> Reply {
    Reply::Error { kind, text: text.into() }
}

/// Parses a reply line.
pub fn parse_reply(line: &[u8]) -> Result<Reply, ClientError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(line).map_err(ClientError::Garbage)?;
    if version != VERSION {
        return Err(ClientError::Version { daemon: version });
    }
    let line: ReplyLine<Reply> = serde_json::from_slice(line).map_err(ClientError::Garbage)?;
    Ok(line.reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_survives_the_wire() {
        for request in [
            Request::Status,
            Request::Stop,
            Request::Restart,
            Request::RestartService(Service::Dns64),
            Request::Reload,
            Request::PowerOff,
            Request::Apply { text: "[wan]\n\"".to_owned(), confirm: Some(60), session: None },
            Request::Backup,
            Request::Restore { backup: Box::default(), confirm: Some(9) },
            Request::Confirm,
            Request::Revert { to: Some(3), confirm: None, session: None },
            Request::History,
            Request::Denials,
            Request::Propose { denial: 7 },
            Request::Why { from: "vm1".to_owned(), to: "::1".to_owned(), service: "icmp".to_owned() },
            Request::FlushDns { name: Some("example.com".to_owned()) },
            Request::Configuration,
            Request::Log { after: 7 },
            Request::Resolve { name: "example.com".to_owned(), synthesis: false },
            Request::Ping { to: "vm1".to_owned(), count: 3 },
            Request::Trace { to: "2001:db8::1".to_owned() },
            Request::Capture(Capture { of: Some("vm1".to_owned()), ..Capture::default() }),
        ] {
            assert_eq!(parse_request(emit_request(&request).as_bytes()), Ok(request));
        }
        let some = Request::Sessions { from: 256, clients: Some("2001:db8::/64".parse().unwrap()) };
        assert_eq!(parse_request(emit_request(&some).as_bytes()), Ok(some));
        let all = parse_request(b"{\"version\":1,\"request\":{\"sessions\":{}}}");
        assert_eq!(all, Ok(Request::Sessions { from: 0, clients: None }));
        assert_eq!(emit_request(&Request::PowerOff), "{\"version\":1,\"request\":\"power-off\"}\n");
        let update = Request::Machine(MachineAction::Update);
        assert_eq!(emit_request(&update), "{\"version\":1,\"request\":{\"machine\":\"update\"}}\n");
        assert_eq!(parse_request(emit_request(&update).as_bytes()), Ok(update));
    }

    #[test]
    fn replies_survive_the_wire() {
        let status = Box::new(Status { version: 1, ..Status::default() });
        for reply in [
            Reply::Status { status },
            Reply::Accepted,
            Reply::History { history: Vec::new() },
            refusal(ErrorKind::Refused, "not here"),
        ] {
            assert_eq!(parse_reply(emit_reply(&reply).as_bytes()).unwrap(), reply);
        }
    }

    #[test]
    fn each_kind_of_garbage_gets_its_own_error() {
        let long = vec![b' '; MAX_REQUEST + 1];
        for (line, expected) in [
            (&b""[..], ErrorKind::Malformed),
            (b"\xff\xfe", ErrorKind::Malformed),
            (b"[1]", ErrorKind::Malformed),
            (b"{\"request\":\"status\"}", ErrorKind::Malformed),
            (b"{\"version\":1,\"request\":\"dance\"}", ErrorKind::Unknown),
            (b"{\"version\":1,\"request\":{}}", ErrorKind::Unknown),
            (b"{\"version\":2,\"request\":\"status\"}", ErrorKind::Version),
            (&long, ErrorKind::TooLong),
        ] {
            let Err(Reply::Error { kind, .. }) = parse_request(line) else { panic!("{line:?} was accepted") };
            assert_eq!(kind, expected, "{:?}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn another_version_of_the_daemon_is_said_plainly() {
        let error = parse_reply(b"{\"version\":7,\"reply\":\"news\"}\n").unwrap_err();
        assert!(matches!(error, ClientError::Version { daemon: 7 }));
        assert!(error.to_string().contains("version 7") && error.to_string().contains("version 1"), "{error}");
    }

    #[test]
    fn every_request_that_the_document_names_is_one() {
        let document = include_str!("../../../docs/control.md");
        let requests: Vec<&str> =
            document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert!(requests.len() >= 14, "{requests:?}");
        for request in requests {
            let line = format!("{{\"version\":{VERSION},\"request\":{request}}}");
            assert!(parse_request(line.as_bytes()).is_ok(), "{request}");
        }
    }
}

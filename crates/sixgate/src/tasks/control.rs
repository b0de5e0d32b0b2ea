//! Serves the control protocol on the Unix socket and, in a guest, on the virtio-serial port.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv6Net;
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::status::{self, SessionPage, Status};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::backoff::Backoff;
use crate::backup::Backup;
use crate::control::{
    ErrorKind, MAX_REQUEST, MachineAction, Reply, Request, Service, emit_reply, parse_request, refusal,
};
use crate::lifecycle::{Ending, SUPERVISOR_VARIABLE};
use crate::tasks::appliance::Order;
use crate::tasks::denials;
use crate::wiring::{Answer, Ask, ConfigurationCommand, Flush, ListEvents, ListSessions, Restarts};

use stream::Stream;

mod capture;
mod place;
mod port;
mod probe;
mod resolve;
mod socket;
mod stream;

/// Connections at a time; the next one waits.
const MAX_CONNECTIONS: usize = 64;
/// How long another task may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a configuration may take to come into force.
const CHANGE_PATIENCE: Duration = Duration::from_secs(15);
/// How long a configuration can be tried.
const LONGEST_TRIAL: u64 = 24 * 3600;
/// How long an update may take to be written and read again, from slow drives.
const DISK_PATIENCE: Duration = Duration::from_secs(180);
/// How long a client may take to read a reply.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// This task's ends of the channels.
pub struct Ends {
    /// Asks for the whole state.
    pub ask: mpsc::Sender<Ask>,
    /// Asks the resolver to forget.
    pub flush: mpsc::Sender<Flush>,
    /// Asks for another configuration.
    pub command: mpsc::Sender<ConfigurationCommand>,
    /// Asks for what was refused.
    pub denials: mpsc::Sender<denials::Ask>,
    /// Asks for a part of the translator's sessions.
    pub sessions: mpsc::Sender<ListSessions>,
    /// Asks services to start anew.
    pub restarts: Restarts,
    /// Asks the daemon to end.
    pub ending: mpsc::Sender<Ending>,
    /// Asks something of the machine.
    pub order: mpsc::Sender<Order>,
    /// Asks for what was logged.
    pub log: mpsc::Sender<ListEvents>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// Requests served.
    pub requests: u64,
    /// Lines refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Slice {
    /// What the console shows of it.
    pub fn status(&self) -> status::Control {
        status::Control { requests: self.requests, refused: self.refused.clone(), password: false }
    }
}

/// Serves for ever.
pub async fn run(ends: Ends, path: PathBuf, state: PathBuf) {
    let Ends { ask, command, flush, denials, sessions, restarts, ending, order, log, slice } = ends;
    let desk = Desk { ask, command, flush, denials, sessions, restarts, ending, order, log, slice, state };
    let mut backoff = Backoff::default();
    let mut connections = JoinSet::new();
    connections.spawn(port::serve(desk.clone()));
    let listener = loop {
        match socket::bind(&path) {
            Ok(listener) => break listener,
            Err(error) => desk.unreachable(&path, &error),
        }
        sleep(backoff.failed()).await;
    };
    desk.reachable();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() <= MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_client(desk.clone(), stream));
                    desk.reachable();
                }
                // Out of file descriptors: a pause lets some be given back.
                Err(error) => {
                    desk.unreachable(&path, &error);
                    sleep(backoff.failed()).await;
                }
            },
            Some(ended) = connections.join_next() => match ended {
                // The port's conversation is among them, and does not come back by itself.
                Err(error) if error.is_panic() => return tracing::error!("a conversation ended: {error}"),
                Ok(()) | Err(_) => {}
            },
        }
    }
}

async fn serve_client(desk: Desk, stream: tokio::net::UnixStream) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    serve(&desk, &mut reader, &mut writer).await;
}

/// Where requests are taken and answered; every connection has its own.
#[derive(Clone)]
struct Desk {
    ask: mpsc::Sender<Ask>,
    command: mpsc::Sender<ConfigurationCommand>,
    flush: mpsc::Sender<Flush>,
    denials: mpsc::Sender<denials::Ask>,
    sessions: mpsc::Sender<ListSessions>,
    restarts: Restarts,
    ending: mpsc::Sender<Ending>,
    order: mpsc::Sender<Order>,
    log: mpsc::Sender<ListEvents>,
    slice: watch::Sender<Slice>,
    /// The folder of what outlives the daemon.
    state: PathBuf,
}

/// How a request is answered.
enum Answered {
    /// By one line.
    Once(Box<Reply>),
    /// By several.
    Stream(Stream),
}

impl Desk {
    async fn answer(&self, line: &[u8]) -> Answered {
        let reply = match parse_request(line) {
            Ok(request) if stream::is_stream(&request) => {
                self.slice.send_modify(|slice| slice.requests += 1);
                return Answered::Stream(Stream::begin(self.clone(), request));
            }
            Ok(request) => self.serve(request).await,
            Err(refused) => refused,
        };
        self.slice.send_modify(|slice| match &reply {
            Reply::Status { .. }
            | Reply::Denials { .. }
            | Reply::Proposal { .. }
            | Reply::Sessions { .. }
            | Reply::History { .. }
            | Reply::Why { .. }
            | Reply::Configuration { .. }
            | Reply::Log { .. }
            | Reply::Resolved { .. }
            | Reply::Probe { .. }
            | Reply::Captured { .. }
            | Reply::Backup { .. }
            | Reply::Accepted => {
                slice.requests += 1;
            }
            Reply::Error { kind, .. } => *slice.refused.entry(name(*kind)).or_default() += 1,
        });
        Answered::Once(Box::new(reply))
    }

    /// The whole state; a refusal where nobody tells it.
    async fn status(&self) -> Result<Status, Reply> {
        let status = self.question(&self.ask, |answer| answer).await;
        status.ok_or_else(|| refusal(ErrorKind::Unavailable, "the daemon is busy or ending; ask again"))
    }

    async fn serve(&self, request: Request) -> Reply {
        match request {
            Request::Status => match self.status().await {
                Ok(status) => Reply::Status { status: Box::new(status) },
                Err(refused) => refused,
            },
            Request::Configuration => match self.configuration(ConfigurationCommand::Text).await {
                Ok(text) => Reply::Configuration { text },
                Err(refused) => refused,
            },
            Request::Log { after } => match self.question(&self.log, |answer| ListEvents { after, answer }).await {
                Some(events) => Reply::Log { events },
                None => refusal(ErrorKind::Unavailable, "the daemon is busy or ending; ask again"),
            },
            Request::Resolve { name, synthesis } => match resolve::resolve(self, &name, synthesis).await {
                Ok(resolved) => Reply::Resolved { resolved },
                Err(refused) => refused,
            },
            Request::Ping { .. } | Request::Trace { .. } | Request::Capture(_) => {
                refusal(ErrorKind::Refused, "this is answered by several lines")
            }
            Request::Reload => done(self.configuration(ConfigurationCommand::Reload).await),
            Request::Apply { text, confirm, session } => match trial(confirm) {
                Ok(trial) => {
                    let apply = |answer| ConfigurationCommand::Apply { text, trial, session, answer };
                    done(self.configuration(apply).await)
                }
                Err(refused) => refused,
            },
            Request::Revert { to, confirm, session } => match trial(confirm) {
                Ok(trial) => {
                    let revert = |answer| ConfigurationCommand::Revert { to, trial, session, answer };
                    done(self.configuration(revert).await)
                }
                Err(refused) => refused,
            },
            Request::Backup => match self.configuration(ConfigurationCommand::Text).await {
                Ok(text) => Reply::Backup { backup: Box::new(Backup::take(text, &self.state)) },
                Err(refused) => refused,
            },
            Request::Restore { backup, confirm } => match trial(confirm) {
                Ok(trial) => self.restore(*backup, trial).await,
                Err(refused) => refused,
            },
            Request::Confirm => done(self.configuration(ConfigurationCommand::Confirm).await),
            Request::Why { from, to, service } => {
                let ask = |answer| ConfigurationCommand::Why { from, to, service, answer };
                match self.configuration(ask).await {
                    Ok(steps) => Reply::Why { steps },
                    Err(refused) => refused,
                }
            }
            Request::Unlock { password } => {
                done(self.configuration(|answer| ConfigurationCommand::Unlock { password, answer }).await)
            }
            Request::History => match self.configuration(ConfigurationCommand::History).await {
                Ok(history) => Reply::History { history },
                Err(refused) => refused,
            },
            Request::Denials => match self.question(&self.denials, denials::Ask::List).await {
                Some(denials) => Reply::Denials { denials },
                None => refusal(ErrorKind::Unavailable, "the daemon is busy or ending; ask again"),
            },
            Request::Propose { denial } => {
                match self.question(&self.denials, |answer| denials::Ask::Propose(denial, answer)).await {
                    Some(Ok(entry)) => match self.configuration(ConfigurationCommand::Text).await {
                        Ok(text) => Reply::Proposal { text: format!("{}\n\n{entry}", text.trim_end()), entry },
                        Err(refused) => refused,
                    },
                    Some(Err(why)) => refusal(ErrorKind::Refused, why),
                    None => refusal(ErrorKind::Unavailable, "the daemon is busy or ending; ask again"),
                }
            }
            Request::Sessions { from, clients } => match self.sessions(from, clients).await {
                Some(page) => Reply::Sessions { page },
                None => refusal(ErrorKind::Unavailable, "nothing is translated, or the translator is busy"),
            },
            Request::FlushDns { name } => match self.question(&self.flush, |answer| (name, answer)).await {
                Some(Ok(())) => Reply::Accepted,
                Some(Err(why)) => refusal(ErrorKind::Refused, why),
                None => refusal(ErrorKind::Unavailable, "the daemon is busy or ending; ask again"),
            },
            Request::Stop => self.end(Ending::StopForGood),
            Request::Restart => self.end(Ending::Restart),
            Request::RestartService(service) => self.restart(service).await,
            Request::PowerOff if supervised_by_init() => self.end(Ending::PowerOff),
            Request::Machine(action) => self.machine(action).await,
            Request::PowerOff => {
                refusal(ErrorKind::Refused, "this router runs on a host; only the image's own PID 1 powers off")
            }
        }
    }

    async fn restart(&self, service: Service) -> Reply {
        let task = match service {
            Service::Uplink => &self.restarts.uplink,
            Service::Ra => &self.restarts.ra,
            Service::Dns64 => &self.restarts.dns64,
            Service::Nat64 => &self.restarts.nat64,
        };
        let (asked, done) = oneshot::channel();
        if task.try_send(asked).is_err() {
            return refusal(ErrorKind::Unavailable, "it starts anew already, or the daemon is ending");
        }
        match timeout(CHANGE_PATIENCE, done).await {
            Ok(Ok(())) => Reply::Accepted,
            Ok(Err(_)) | Err(_) => refusal(ErrorKind::Unavailable, "it does not say that it has started anew"),
        }
    }

    async fn restore(&self, backup: Backup, trial: Option<Duration>) -> Reply {
        let text = backup.configuration.clone();
        let apply = |answer| ConfigurationCommand::Apply { text, trial, session: None, answer };
        if let Err(refused) = self.configuration(apply).await {
            return refused;
        }
        match backup.leave_memory(&self.state) {
            Ok(()) => Reply::Accepted,
            Err(error) => {
                refusal(ErrorKind::Refused, format!("the configuration is in force, but leases are not kept: {error}"))
            }
        }
    }

    async fn machine(&self, action: MachineAction) -> Reply {
        let (answer, answered) = oneshot::channel();
        if self.order.try_send((action, answer)).is_err() {
            return refusal(ErrorKind::Unavailable, "the machine is busy with another request");
        }
        match timeout(DISK_PATIENCE, answered).await {
            Ok(Ok(Ok(()))) => Reply::Accepted,
            Ok(Ok(Err(why))) => refusal(ErrorKind::Refused, why),
            Ok(Err(_)) | Err(_) => refusal(ErrorKind::Unavailable, "it did not end in time, or the daemon is ending"),
        }
    }

    async fn question<Q, A>(&self, task: &mpsc::Sender<Q>, ask: impl FnOnce(oneshot::Sender<A>) -> Q) -> Option<A> {
        let (asked, answer) = oneshot::channel();
        task.try_send(ask(asked)).ok()?;
        timeout(PATIENCE, answer).await.ok()?.ok()
    }

    async fn sessions(&self, from: u32, clients: Option<Ipv6Net>) -> Option<SessionPage> {
        let (answer, page) = oneshot::channel();
        self.sessions.try_send(ListSessions { from, clients, answer }).ok()?;
        timeout(PATIENCE, page).await.ok()?.ok()
    }

    /// Asks the configuration task; what it refuses comes back as the reply to send.
    async fn configuration<T>(&self, command: impl FnOnce(Answer<T>) -> ConfigurationCommand) -> Result<T, Reply> {
        let unavailable = || refusal(ErrorKind::Unavailable, "the daemon is busy or ending; ask again");
        let (asked, answer) = oneshot::channel();
        self.command.try_send(command(asked)).map_err(|_| unavailable())?;
        match timeout(CHANGE_PATIENCE, answer).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(why))) => Err(refusal(ErrorKind::Refused, why)),
            Ok(Err(_)) | Err(_) => Err(unavailable()),
        }
    }

    fn end(&self, ending: Ending) -> Reply {
        match self.ending.try_send(ending) {
            Ok(()) => Reply::Accepted,
            Err(_) => refusal(ErrorKind::Unavailable, "the daemon is ending already"),
        }
    }

    fn unreachable(&self, path: &Path, error: &std::io::Error) {
        let finding = Finding::new(
            Severity::Warning,
            "control-socket-unavailable",
            path.display().to_string(),
            format!("`sixgate status` and `sixgate tui` cannot connect: {error}"),
            "make its folder writable for the daemon, or raise the limit of open files (LimitNOFILE=)",
        );
        self.slice.send_modify(|slice| slice.findings = vec![finding]);
    }

    fn reachable(&self) {
        self.slice.send_if_modified(|slice| !std::mem::take(&mut slice.findings).is_empty());
    }
}

fn done(outcome: Result<(), Reply>) -> Reply {
    outcome.map_or_else(|refused| refused, |()| Reply::Accepted)
}

fn trial(seconds: Option<u64>) -> Result<Option<Duration>, Reply> {
    match seconds {
        None => Ok(None),
        Some(seconds @ 1..=LONGEST_TRIAL) => Ok(Some(Duration::from_secs(seconds))),
        Some(_) => Err(refusal(ErrorKind::Refused, format!("a trial lasts 1 to {LONGEST_TRIAL} seconds"))),
    }
}

fn supervised_by_init() -> bool {
    std::env::var_os(SUPERVISOR_VARIABLE).is_some_and(|value| value == "init")
}

fn name(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::Malformed => "malformed",
        ErrorKind::TooLong => "too-long",
        ErrorKind::Version => "version",
        ErrorKind::Unknown => "unknown",
        ErrorKind::Refused => "refused",
        ErrorKind::Unavailable => "unavailable",
    }
    .to_owned()
}

/// Answers line by line until the other end closes, stops reading or sends a line that never ends.
async fn serve(desk: &Desk, reader: &mut (impl AsyncBufRead + Unpin), writer: &mut (impl AsyncWrite + Unpin)) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut *reader).take(MAX_REQUEST as u64 + 1).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let complete = line.ends_with(b"\n");
        if line.trim_ascii().is_empty() && complete {
            continue;
        }
        let written = match desk.answer(&line).await {
            Answered::Once(reply) => write(writer, &reply).await,
            Answered::Stream(stream) => forward(stream, reader, writer).await,
        };
        // After an overlong line nobody knows where the next one begins.
        if written.is_err() || !complete {
            return;
        }
    }
}

/// Writes what a stream tells, until it ends. A client that closes its end wants no more; one that sends another line wants
/// the last one.
async fn forward(
    mut stream: Stream,
    reader: &mut (impl AsyncBufRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut going = true;
    loop {
        tokio::select! {
            reply = stream.next() => match reply {
                Some(reply) => write(writer, &reply).await?,
                None => return Ok(()),
            },
            more = reader.fill_buf(), if going => {
                if more?.is_empty() {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                going = false;
                stream.stop();
            }
        }
    }
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> std::io::Result<()> {
    let line = emit_reply(reply);
    let written = timeout(WRITE_WITHIN, async {
        writer.write_all(line.as_bytes()).await?;
        writer.flush().await
    });
    written.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::parse_reply;

    struct Others {
        asked: mpsc::Receiver<Ask>,
        commands: mpsc::Receiver<ConfigurationCommand>,
        listed: mpsc::Receiver<ListSessions>,
        endings: mpsc::Receiver<Ending>,
        slice: watch::Receiver<Slice>,
    }

    fn desk() -> (Desk, Others) {
        let (ask, asked) = mpsc::channel(1);
        let (command, commands) = mpsc::channel(1);
        let (sessions, listed) = mpsc::channel(1);
        let (ending, endings) = mpsc::channel(1);
        let (slice, seen) = watch::channel(Slice::default());
        let (flush, _) = mpsc::channel(1);
        let (denials, _) = mpsc::channel(1);
        let others = Others { asked, commands, listed, endings, slice: seen };
        let (order, _) = mpsc::channel(1);
        let (log, _) = mpsc::channel(1);
        let state = PathBuf::from("/nonexistent");
        let restart = || mpsc::channel(1).0;
        let restarts = Restarts { uplink: restart(), ra: restart(), dns64: restart(), nat64: restart() };
        (Desk { ask, command, flush, denials, sessions, restarts, ending, order, log, slice, state }, others)
    }

    async fn dialogue(desk: &Desk, input: &[u8]) -> Vec<Reply> {
        let mut output = Vec::new();
        serve(desk, &mut &input[..], &mut output).await;
        output.split_inclusive(|byte| *byte == b'\n').map(|line| parse_reply(line).unwrap()).collect()
    }

    fn kinds(replies: &[Reply]) -> Vec<ErrorKind> {
        let kind = |reply: &Reply| match reply {
            Reply::Error { kind, .. } => Some(*kind),
            Reply::Status { .. }
            | Reply::Denials { .. }
            | Reply::Proposal { .. }
            | Reply::Sessions { .. }
            | Reply::History { .. }
            | Reply::Why { .. }
            | Reply::Configuration { .. }
            | Reply::Log { .. }
            | Reply::Resolved { .. }
            | Reply::Probe { .. }
            | Reply::Captured { .. }
            | Reply::Backup { .. }
            | Reply::Accepted => None,
        };
        replies.iter().filter_map(kind).collect()
    }

    #[tokio::test]
    async fn garbage_is_answered_counted_and_does_not_end_the_conversation() {
        let (desk, mut others) = desk();
        let input = b"what\n\n\xff\n{\"version\":9,\"request\":\"stop\"}\n{\"version\":1,\"request\":\"stop\"}\n";
        let replies = dialogue(&desk, input).await;
        assert_eq!(kinds(&replies), [ErrorKind::Malformed, ErrorKind::Malformed, ErrorKind::Version]);
        assert_eq!(replies.last(), Some(&Reply::Accepted));
        assert_eq!(others.endings.try_recv(), Ok(Ending::StopForGood));
        let slice = others.slice.borrow();
        assert_eq!((slice.requests, slice.refused["malformed"], slice.refused["version"]), (1, 2, 1));
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_once_and_the_connection_closed() {
        let (desk, mut others) = desk();
        let mut input = vec![b'x'; MAX_REQUEST * 3];
        input.extend_from_slice(b"\n{\"version\":1,\"request\":\"stop\"}\n");
        let replies = dialogue(&desk, &input).await;
        assert_eq!(kinds(&replies), [ErrorKind::TooLong]);
        assert!(others.endings.try_recv().is_err());
    }

    #[tokio::test]
    async fn power_off_is_refused_where_init_is_not_the_supervisor() {
        let (desk, mut others) = desk();
        let replies = dialogue(&desk, b"{\"version\":1,\"request\":\"power-off\"}\n").await;
        assert_eq!(kinds(&replies), [ErrorKind::Refused]);
        assert!(others.endings.try_recv().is_err());
    }

    #[tokio::test]
    async fn sessions_come_in_parts_and_not_at_all_while_nothing_is_translated() {
        let (desk, mut others) = desk();
        let ask = b"{\"version\":1,\"request\":{\"sessions\":{\"from\":7}}}\n";
        let page = SessionPage { sessions: Vec::new(), next: Some(9) };
        let (replies, ()) = tokio::join!(dialogue(&desk, ask), async {
            let wanted = others.listed.recv().await.unwrap();
            assert_eq!((wanted.from, wanted.clients), (7, None));
            wanted.answer.send(page.clone()).unwrap();
        });
        assert_eq!(replies, [Reply::Sessions { page }]);
        let (replies, _) = tokio::join!(dialogue(&desk, ask), others.listed.recv());
        assert_eq!(kinds(&replies), [ErrorKind::Unavailable]);
    }

    #[tokio::test]
    async fn a_reload_reports_what_is_wrong_with_the_file() {
        let (desk, mut others) = desk();
        let (replies, ()) = tokio::join!(dialogue(&desk, b"{\"version\":1,\"request\":\"reload\"}\n"), async {
            let Some(ConfigurationCommand::Reload(answer)) = others.commands.recv().await else { panic!("no reload") };
            answer.send(Err("line 3".to_owned())).unwrap();
        });
        assert_eq!(replies, [refusal(ErrorKind::Refused, "line 3")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_that_never_comes_is_an_error_in_bounded_time() {
        let (desk, mut others) = desk();
        let (replies, _unanswered) =
            tokio::join!(dialogue(&desk, b"{\"version\":1,\"request\":\"status\"}\n"), others.asked.recv());
        assert_eq!(kinds(&replies), [ErrorKind::Unavailable]);
        let (replies, ()) = tokio::join!(dialogue(&desk, b"{\"version\":1,\"request\":\"status\"}\n"), async {
            others.asked.recv().await.unwrap().send(Status::default()).unwrap();
        });
        assert_eq!(replies, [Reply::Status { status: Box::default() }]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_cannot_begin_ends_with_the_reason() {
        let (desk, _others) = desk();
        let input = b"{\"version\":1,\"request\":{\"ping\":{\"to\":\"::1\",\"count\":0}}}\n";
        let mut output = Vec::new();
        // The client stays until it has its answer.
        let (client, _open) = tokio::io::duplex(1);
        let mut reader = BufReader::new(AsyncReadExt::chain(&input[..], client));
        let served = timeout(Duration::from_secs(5), serve(&desk, &mut reader, &mut output));
        assert!(served.await.is_err(), "the conversation goes on");
        let reply = parse_reply(output.trim_ascii_end()).unwrap();
        assert!(matches!(reply, Reply::Error { kind: ErrorKind::Refused, .. }), "{reply:?}");
    }
}

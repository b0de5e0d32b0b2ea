//! Tells name servers and providers what addresses names have now.
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::{Duration, SystemTime};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use rustls::pki_types::ServerName;
use sixgate_engine::ddns::{How, Outcome, PATIENCE, Record, State, Updater, http, update};
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::status;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::clock::{now, seed, sleep_until};
use crate::durable;
use crate::trust;
use crate::wiring::Desired;

/// What is kept in the state's folder: what was told, so that a restart tells it to nobody again.
const FILE: &str = "ddns.json";
/// A datagram is sent again after this time.
const AGAIN: Duration = Duration::from_secs(3);
/// Failures in a row that are a finding.
const MANY: u32 = 3;
/// Longest answer of a name server without EDNS, and a signature.
const LONGEST: usize = 4096;

/// This task's ends of the channels.
pub struct Ends {
    /// The plan.
    pub desired: watch::Receiver<Desired>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// The names.
    pub status: Vec<status::Ddns>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Who finds a server, and who vouches for it.
#[derive(Clone, Debug, Default)]
struct Helpers {
    /// Resolvers that the router asks itself.
    resolvers: Vec<SocketAddr>,
    /// Authorities that are believed beside the public ones.
    authorities: Vec<Vec<u8>>,
}

/// Runs until there are no plans any more. What was told is kept in the folder `state`.
pub async fn run(mut ends: Ends, state: PathBuf) {
    let file = state.join(FILE);
    let mut updater = Updater::new(read(&file));
    let mut kept = kept(&updater);
    let mut attempts: JoinSet<(Record, Outcome)> = JoinSet::new();
    loop {
        let mut helpers = Helpers::default();
        if let Some(plan) = ends.desired.borrow_and_update().plan() {
            updater.reconfigure(&plan.ddns);
            helpers = Helpers { resolvers: plan.dns64.upstream.clone(), authorities: plan.dns64.authorities.clone() };
        }
        while let Some(record) = updater.poll_attempt(now()) {
            let helpers = helpers.clone();
            attempts.spawn(async move {
                let outcome = attempt(&record, &helpers).await;
                (record, outcome)
            });
        }
        publish(&ends.slice, &updater);
        tokio::select! {
            changed = ends.desired.changed() => if changed.is_err() { return },
            Some(done) = attempts.join_next() => match done {
                Ok((record, outcome)) => {
                    tell(&record, &outcome);
                    updater.handle_outcome(&record, outcome, now(), unix());
                    let new = self::kept(&updater);
                    if new != kept {
                        kept = new;
                        write(&file, &kept);
                    }
                }
                Err(error) => return tracing::error!("an update of a name ended: {error}"),
            },
            () = sleep_until(updater.poll_timeout()) => {}
        }
    }
}

fn tell(record: &Record, outcome: &Outcome) {
    let (name, server) = (&record.name, record.how.server());
    let address = record.address.map_or_else(String::new, |address| address.to_string());
    match outcome {
        Outcome::Done(text) => tracing::info!("{name} is {address} at {server}: {text}"),
        Outcome::Failed(text) => tracing::info!("{name} is not yet {address} at {server}: {text}"),
        Outcome::Refused(text) => tracing::warn!("{server} refuses that {name} is {address}: {text}"),
    }
}

async fn attempt(record: &Record, helpers: &Helpers) -> Outcome {
    let Some(address) = record.address else { return Outcome::Failed("no address".to_owned()) };
    let tried = async {
        match &record.how {
            How::Update(plan) => by_update(plan, &record.name, address).await,
            How::Http(plan) => by_http(plan, &record.name, address, helpers).await,
        }
    };
    match timeout(PATIENCE, tried).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Failed("no answer".to_owned()),
    }
}

async fn by_update(plan: &update::UpdatePlan, name: &Name, address: IpAddr) -> std::io::Result<Outcome> {
    let request = update::request(plan, name, address, random(), unix());
    let accept = |answer: &[u8]| update::answer(plan, &request, answer, unix());
    ask(plan.server, &request.message, accept).await
}

/// Sends a datagram until an answer is accepted.
async fn ask<T>(server: SocketAddr, message: &[u8], accept: impl Fn(&[u8]) -> Option<T>) -> std::io::Result<T> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let mut buffer = vec![0; LONGEST];
    loop {
        socket.send(message).await?;
        let answered = timeout(AGAIN, async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                if let Some(accepted) = accept(buffer.get(..length).unwrap_or_default()) {
                    return std::io::Result::Ok(accepted);
                }
            }
        });
        if let Ok(answer) = answered.await {
            return answer;
        }
    }
}

async fn by_http(plan: &http::HttpPlan, name: &Name, address: IpAddr, helpers: &Helpers) -> std::io::Result<Outcome> {
    let mut last = std::io::Error::other(format!("{} has no address", plan.host));
    for server in resolve(&plan.host, &helpers.resolvers).await? {
        match TcpStream::connect((server, plan.port)).await {
            Ok(stream) => {
                let request = http::request(plan, name, address);
                let answer = if plan.encrypted {
                    // RFC 9525 section 6: the certificate is for the name, or the address, in the URL.
                    let host = plan.host.trim_matches(['[', ']']).to_owned();
                    let identity = ServerName::try_from(host).map_err(std::io::Error::other)?;
                    let connector = TlsConnector::from(trust::client(&helpers.authorities)?);
                    exchange(connector.connect(identity, stream).await?, &request).await?
                } else {
                    exchange(stream, &request).await?
                };
                return Ok(http::answer(plan, &answer));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Sends the request and reads what comes until the server ends the connection. Not every server says over TLS that it ends; an
/// answer that somebody cut off is one that is not understood.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    match stream.take(http::LONGEST as u64).read_to_end(&mut answer).await {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof || answer.is_empty() => Err(error),
        Ok(_) | Err(_) => Ok(answer),
    }
}

/// The addresses of a server, as the resolvers know them that the router asks itself.
async fn resolve(host: &str, resolvers: &[SocketAddr]) -> std::io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return Ok(vec![address]);
    }
    let wrong = |error| std::io::Error::other(format!("{host}: {error}"));
    let mut name = Name::from_str(host).map_err(wrong)?;
    name.set_fqdn(true);
    let Some(resolver) = resolvers.first() else { return Err(std::io::Error::other("no resolver to ask")) };
    let mut addresses = Vec::new();
    for kind in [RecordType::AAAA, RecordType::A] {
        let id = random();
        let mut message = Message::query();
        message.metadata.id = id;
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name.clone(), kind));
        let bytes = message.to_vec().map_err(wrong)?;
        let accept = |answer: &[u8]| Message::from_vec(answer).ok().filter(|answer| answer.metadata.id == id);
        let answer = ask(*resolver, &bytes, accept).await?;
        addresses.extend(answer.answers.iter().filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        }));
    }
    Ok(addresses)
}

fn publish(slice: &watch::Sender<Slice>, updater: &Updater) {
    let status = updater.records().map(|(record, state)| shown(record, state)).collect();
    let findings = updater.records().filter_map(|(record, state)| finding(record, state)).collect();
    let new = Slice { status, findings };
    slice.send_if_modified(|slice| {
        let changed = *slice != new;
        *slice = new;
        changed
    });
}

fn shown(record: &Record, state: &State) -> status::Ddns {
    let (result, text) = match &state.last {
        None => ("", ""),
        Some(Outcome::Done(text)) => ("done", text.as_str()),
        Some(Outcome::Failed(text)) => ("failed", text.as_str()),
        Some(Outcome::Refused(text)) => ("refused", text.as_str()),
    };
    status::Ddns {
        name: record.name.to_ascii(),
        record: if record.is_ipv4 { "A" } else { "AAAA" }.to_owned(),
        server: record.how.server(),
        wanted: record.address,
        published: state.published.as_ref().map(|(address, _)| *address),
        result: result.to_owned(),
        text: text.to_owned(),
        at: state.at,
        failures: state.failures,
    }
}

fn finding(record: &Record, state: &State) -> Option<Finding> {
    let (name, server) = (record.name.to_ascii(), record.how.server());
    match &state.last {
        Some(Outcome::Refused(text)) => Some(Finding::new(
            Severity::Warning,
            "ddns-refused",
            name.clone(),
            format!("{server} refuses to change {name}: {text}"),
            "correct name, zone, key or password in [[ddns]], or what the server allows; until then it is tried twice a day",
        )),
        Some(Outcome::Failed(text)) if state.failures >= MANY => Some(Finding::new(
            Severity::Warning,
            "ddns-failing",
            name.clone(),
            format!("{name} is out of date: {server} could not be told {} times, last: {text}", state.failures),
            "see that the server can be reached from the router and, by HTTPS, shows a certificate that is believed; it is tried again, at least once an hour",
        )),
        Some(Outcome::Done(_) | Outcome::Failed(_)) | None => None,
    }
}

type Kept = Vec<(String, IpAddr, String)>;

fn kept(updater: &Updater) -> Kept {
    let published = |(record, state): (&Record, &State)| {
        let (address, server) = state.published.clone()?;
        Some((record.name.to_ascii(), address, server))
    };
    updater.records().filter_map(published).collect()
}

/// What a former process has told. A file that cannot be read costs an update that tells nothing new.
fn read(file: &Path) -> Vec<(Name, IpAddr, String)> {
    let kept: Kept = std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let named =
        |(name, address, server): (String, IpAddr, String)| Some((Name::from_ascii(name).ok()?, address, server));
    kept.into_iter().filter_map(named).collect()
}

fn write(file: &Path, kept: &Kept) {
    let written =
        serde_json::to_vec(kept).map_err(std::io::Error::other).and_then(|text| durable::replace(file, &text));
    if let Err(error) = written {
        tracing::debug!("what names were told cannot be kept: {error}");
    }
}

fn unix() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn random() -> u16 {
    let [first, second, ..] = seed().to_ne_bytes();
    u16::from_be_bytes([first, second])
}

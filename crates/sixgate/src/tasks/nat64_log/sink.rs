//! Who takes the records: the journal's socket, a syslog server over UDP (RFC 5426) or TCP (RFC 6587), or standard error.
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use sixgate_engine::config::LogTo;
use sixgate_engine::nat64::event::Event;
use sixgate_engine::plan::LogPlan;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};
use tokio::time::timeout;

use super::record::{self, Clock};

/// Where systemd-journald takes entries with fields.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// An open way to the log.
pub enum Sink {
    /// journald's own socket.
    Journal(UnixDatagram),
    /// There is no journal: what a service writes on standard error is logged by whoever started it.
    Standard,
    /// RFC 5426.
    Udp(UdpSocket),
    /// RFC 6587.
    Tcp(TcpStream),
}

/// Opens the way.
///
/// # Errors
/// The other end cannot be reached.
pub async fn open(to: LogTo, patience: Duration) -> io::Result<Sink> {
    match to {
        LogTo::Journal => open_journal(Path::new(JOURNAL)),
        LogTo::Udp(server) => {
            let any: SocketAddr = match server {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(server).await?;
            Ok(Sink::Udp(socket))
        }
        LogTo::Tcp(server) => within(patience, TcpStream::connect(server)).await.map(Sink::Tcp),
    }
}

/// A connected socket is writable only while the journal has room; an unconnected one would always be.
fn open_journal(path: &Path) -> io::Result<Sink> {
    if !path.exists() {
        return Ok(Sink::Standard);
    }
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(Sink::Journal(socket))
}

/// A line for the log, as each kind of sink takes it.
pub struct Line {
    message: String,
    journal: String,
    syslog: String,
}

impl Line {
    /// A line without fields of its own, of that name.
    pub fn new(message: &str, name: &str, hostname: &str) -> Self {
        let journal = format!("MESSAGE={message}\nPRIORITY=6\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=sixgate\n");
        let (journal, syslog) = (journal + &format!("SIXGATE_EVENT={name}\n"), record::plain(message, name, hostname));
        Self { message: message.to_owned(), journal, syslog }
    }
}

impl Sink {
    /// Tells one event. After an error the way is to be opened anew, and the event is to be told again.
    pub(super) async fn tell(
        &mut self,
        event: &Event,
        plan: &LogPlan,
        clock: &Clock,
        patience: Duration,
    ) -> io::Result<()> {
        let (journal, syslog) = (record::journal(event), record::syslog(event, plan, clock));
        self.write(&Line { message: record::message(event), journal, syslog }, patience).await
    }

    /// Writes a line. After an error the way is to be opened anew.
    ///
    /// # Errors
    /// The other end does not take it.
    pub async fn write(&mut self, line: &Line, patience: Duration) -> io::Result<()> {
        match self {
            Self::Standard => {
                tracing::info!("{}", line.message);
                Ok(())
            }
            Self::Journal(socket) => within(patience, socket.send(line.journal.as_bytes())).await.map(drop),
            Self::Udp(socket) => within(patience, socket.send(line.syslog.as_bytes())).await.map(drop),
            Self::Tcp(stream) => {
                // RFC 6587 section 3.4.1: octet counting.
                let framed = format!("{} {}", line.syslog.len(), line.syslog);
                within(patience, stream.write_all(framed.as_bytes())).await
            }
        }
    }

    /// Returns when a server has closed the connection, or has said that nobody listens.
    pub(super) async fn lost(&self) -> io::Error {
        let mut ignored = [0; 512];
        loop {
            let read = match self {
                Self::Tcp(stream) => stream
                    .async_io(Interest::READABLE, || stream.try_read(&mut ignored))
                    .await
                    .map(|length| length == 0),
                Self::Udp(socket) => socket.recv(&mut ignored).await.map(|_| false),
                Self::Journal(_) | Self::Standard => std::future::pending().await,
            };
            match read {
                Ok(false) => {}
                Ok(true) => return io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"),
                Err(error) => return error,
            }
        }
    }
}

async fn within<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(patience, work).await.unwrap_or_else(|_| Err(io::Error::new(ErrorKind::TimedOut, "it does not answer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_journal_gets_fields_and_standard_error_stands_in_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(matches!(open_journal(&path), Ok(Sink::Standard)));
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut sink = open_journal(&path).unwrap();
        let (event, plan) = (record::tests::event(), record::tests::plan());
        sink.tell(&event, &plan, &Clock::now(), Duration::from_secs(5)).await.unwrap();
        let mut entry = [0; 2048];
        let length = journal.recv(&mut entry).await.unwrap();
        assert_eq!(str::from_utf8(&entry[..length]).unwrap(), record::journal(&event));
    }
}

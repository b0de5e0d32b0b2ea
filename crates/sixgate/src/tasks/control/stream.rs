//! Requests that are answered by several lines: begun, told and stopped.
use tokio::sync::{mpsc, oneshot};

use super::{Desk, capture, probe};
use crate::control::{ErrorKind, Reply, Request, refusal};

/// Lines that may wait for a client that is slow; then the stream waits.
const WAITING: usize = 32;

/// Where a stream tells what it has, and what it ends by.
pub(super) struct Teller {
    replies: mpsc::Sender<Reply>,
    stop: oneshot::Receiver<()>,
}

impl Teller {
    /// Tells something.
    pub(super) async fn tell(&self, reply: Reply) {
        // A client that is gone ends the stream elsewhere.
        let _ = self.replies.send(reply).await;
    }

    /// Comes true when the client wants the last line.
    pub(super) async fn stopped(&mut self) {
        // A client that is gone does not say so, and ends the stream elsewhere.
        if (&mut self.stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A client's end of a stream; dropping it ends the stream.
pub(super) struct Stream {
    replies: mpsc::Receiver<Reply>,
    stop: Option<oneshot::Sender<()>>,
}

/// Whether a request is answered by a stream.
pub(super) fn is_stream(request: &Request) -> bool {
    matches!(request, Request::Ping { .. } | Request::Trace { .. } | Request::Capture(_))
}

impl Stream {
    /// Begins what is asked for.
    pub(super) fn begin(desk: Desk, request: Request) -> Self {
        let (replies, told) = mpsc::channel(WAITING);
        let (stop, stopped) = oneshot::channel();
        let last = replies.clone();
        tokio::spawn(async move {
            let mut teller = Teller { replies: replies.clone(), stop: stopped };
            tokio::select! {
                outcome = serve(&desk, request, &mut teller) => {
                    let reply = outcome.map_or_else(|refused| refused, |()| Reply::Accepted);
                    let _ = last.send(reply).await;
                }
                () = replies.closed() => {}
            }
        });
        Self { replies: told, stop: Some(stop) }
    }

    /// The next line; none after the last one.
    pub(super) async fn next(&mut self) -> Option<Reply> {
        self.replies.recv().await
    }

    /// Asks it to come to its end.
    pub(super) fn stop(&mut self) {
        // It may have come to its end already.
        self.stop.take().map(|stop| stop.send(()));
    }
}

async fn serve(desk: &Desk, request: Request, teller: &mut Teller) -> Result<(), Reply> {
    match request {
        Request::Ping { to, count } => probe::ping(desk, &to, count, teller).await,
        Request::Trace { to } => probe::trace(desk, &to, teller).await,
        Request::Capture(wanted) => capture::capture(desk, &wanted, teller).await,
        Request::Status
        | Request::Stop
        | Request::Restart
        | Request::RestartService(_)
        | Request::Reload
        | Request::PowerOff
        | Request::Machine(_)
        | Request::Sessions { .. }
        | Request::Apply { .. }
        | Request::Backup
        | Request::Restore { .. }
        | Request::Confirm
        | Request::Revert { .. }
        | Request::FlushDns { .. }
        | Request::Denials
        | Request::Propose { .. }
        | Request::History
        | Request::Why { .. }
        | Request::Configuration
        | Request::Unlock { .. }
        | Request::Log { .. }
        | Request::Resolve { .. } => Err(refusal(ErrorKind::Refused, "this is answered by one line")),
    }
}

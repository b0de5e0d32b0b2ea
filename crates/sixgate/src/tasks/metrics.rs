//! Tells Prometheus and its like the state, over HTTP on a LAN: `GET /metrics`.
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::status::Status;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::lan_http::{self, Listeners};
use crate::tasks::network;
use crate::wiring::{Ask, Desired};

mod exposition;

use exposition::Format;

/// Connections at one address; the next one waits.
const MAX_CONNECTIONS: usize = 8;
/// How long a connection may last: a scraper that keeps it open comes again.
const CONNECTION: Duration = Duration::from_secs(300);
/// How long the state may take to be put together.
const PATIENCE: Duration = Duration::from_secs(3);

/// This task's ends of the channels.
pub struct Ends {
    /// The plan.
    pub desired: watch::Receiver<Desired>,
    /// Whether a ruleset is in force.
    pub network: watch::Receiver<network::Slice>,
    /// Asks for the whole state.
    pub ask: mpsc::Sender<Ask>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// What is wrong, by address.
    pub problems: BTreeMap<SocketAddr, Finding>,
}

/// Runs until the plan's sender is gone. As the resolver, it listens only while a ruleset keeps the uplink out.
pub async fn run(mut ends: Ends) {
    let mut listeners = Listeners::default();
    loop {
        let desired = ends.desired.borrow_and_update().clone();
        let guarded = ends.network.borrow_and_update().ruleset.is_some();
        let plan = desired.plan().filter(|_| guarded);
        let wanted = plan.map(|plan| plan.metrics.clone()).unwrap_or_default();
        listeners.follow(
            &wanted,
            |address| ends.slice.send_modify(|slice| drop(slice.problems.remove(address))),
            |address| listen(address, ends.ask.clone(), ends.slice.clone()),
        );
        tokio::select! {
            changed = ends.desired.changed() => if changed.is_err() { return },
            changed = ends.network.changed() => if changed.is_err() { return },
            error = listeners.panicked() => return tracing::error!("the metrics' listener ended: {error}"),
        }
    }
}

async fn listen(address: SocketAddr, ask: mpsc::Sender<Ask>, slice: watch::Sender<Slice>) {
    let problem = |cause: Option<String>| {
        let finding = cause.map(|cause| not_listening(address, &cause));
        slice.send_modify(|slice| {
            drop(match finding {
                Some(finding) => slice.problems.insert(address, finding),
                None => slice.problems.remove(&address),
            });
        });
    };
    lan_http::listen(address, problem, |listener| serve(listener, ask.clone())).await;
}

fn not_listening(address: SocketAddr, cause: &str) -> Finding {
    Finding::new(
        Severity::Warning,
        "metrics-not-listening",
        address.to_string(),
        format!("metrics are not served: {cause}"),
        "stop whoever has the port, or set another `metrics.port`; it is tried again by itself",
    )
}

/// Accepts until the kernel refuses to, and tells why.
async fn serve(listener: TcpListener, ask: mpsc::Sender<Ask>) -> std::io::Error {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let ask = ask.clone();
                    connections.spawn(lan_http::connection(stream, CONNECTION, move |request| answer(request, ask.clone())));
                }
                Err(error) => return error,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(request: Request<Incoming>, ask: mpsc::Sender<Ask>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/metrics" {
        return Ok(plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n"));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "metrics are read by GET\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    let told = state(&ask).await.and_then(|status| exposition::emit(&status, format).ok());
    let Some(text) = told else {
        return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "the router is ending or overloaded\n"));
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    Ok(response)
}

async fn state(ask: &mpsc::Sender<Ask>) -> Option<Status> {
    let (reply, told) = oneshot::channel();
    ask.try_send(reply).ok()?;
    timeout(PATIENCE, told).await.ok()?.ok()
}

fn plain(code: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// What a server with that state answers to these bytes.
    async fn told(request: &str) -> String {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ask, mut asked) = mpsc::channel::<Ask>(1);
        let server = tokio::spawn(async move { serve(listener, ask).await });
        let state = tokio::spawn(async move {
            while let Some(asked) = asked.recv().await {
                asked.send(Status::default()).unwrap();
            }
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(Duration::from_secs(20), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        server.abort();
        state.abort();
        answer
    }

    #[tokio::test]
    async fn a_scraper_gets_the_state() {
        let answer = told("GET /metrics HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("\nsixgate_firewall_loaded 0"), "{answer}");
    }

    #[tokio::test]
    async fn whatever_else_is_asked_is_refused_in_words() {
        for (request, code) in [
            ("GET / HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "405"),
            ("\x16\x03\x01 garbage\r\n\r\n", "400"),
        ] {
            let answer = told(request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{request:?}: {answer}");
        }
    }
}

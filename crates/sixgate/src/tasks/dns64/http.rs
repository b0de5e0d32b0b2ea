//! Questions by HTTP/2, each a request of its own (RFC 8484).
use std::io;
use std::time::Duration;

use h2::client::SendRequest;
use http::{Method, Request, StatusCode, header};
use sixgate_engine::config::Encrypted;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::encrypted::{Ask, End};

/// RFC 8484 section 6.
const MEDIA_TYPE: &str = "application/dns-message";
/// A connection that nobody uses is closed.
const IDLE: Duration = Duration::from_secs(10);
/// How long one answer may take; whoever asked has long given up then.
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST: usize = 65_535;

type Body = bytes::Bytes;

/// Carries questions until nobody asks any more, or the connection ends.
///
/// # Errors
/// The other side does not speak HTTP/2.
pub(super) async fn carry(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (upstream, path): (&Encrypted, &str),
    first: Vec<Ask>,
    asked: &mut mpsc::Receiver<Ask>,
) -> io::Result<End> {
    let (requests, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
    let mut connection = tokio::spawn(connection);
    let authority = match upstream.name.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => upstream.name.clone(),
    };
    let target = format!("https://{authority}{path}");
    let begin = |ask: Ask| {
        let (requests, target) = (requests.clone(), target.clone());
        tokio::spawn(async move {
            let Ask { message, answer } = ask;
            let answered = timeout(PATIENCE, exchange(requests, &target, message)).await;
            drop(answer.send(answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))));
        });
    };
    first.into_iter().for_each(begin);
    loop {
        tokio::select! {
            ask = asked.recv() => match ask {
                Some(ask) => begin(ask),
                None => break,
            },
            // Whoever waited has heard of it.
            _ = &mut connection => return Ok(End::Closed(Vec::new())),
            () = sleep(IDLE) => break,
        }
    }
    // The connection ends when the last request is over.
    Ok(End::Idle)
}

async fn exchange(requests: SendRequest<Body>, target: &str, mut message: Vec<u8>) -> io::Result<Vec<u8>> {
    // RFC 8484 section 4.1: the same question is the same request, whoever asks.
    let id = match message.first_chunk_mut::<2>() {
        Some(id) => std::mem::take(id),
        None => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(header::CONTENT_TYPE, MEDIA_TYPE)
        .header(header::ACCEPT, MEDIA_TYPE)
        .header(header::CONTENT_LENGTH, message.len())
        .body(())
        .map_err(io::Error::other)?;
    let mut requests = requests.ready().await.map_err(io::Error::other)?;
    let (response, mut body) = requests.send_request(request, false).map_err(io::Error::other)?;
    body.send_data(message.into(), true).map_err(io::Error::other)?;
    let response = response.await.map_err(io::Error::other)?;
    if response.status() != StatusCode::OK {
        return Err(io::Error::other(format!("HTTP status {}", response.status())));
    }
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().is_none_or(|kind| kind.trim() != MEDIA_TYPE) {
        return Err(io::Error::other("the answer is no DNS message"));
    }
    let mut body = response.into_body();
    let mut answer = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.map_err(io::Error::other)?;
        if answer.len() + part.len() > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        answer.extend_from_slice(&part);
        body.flow_control().release_capacity(part.len()).map_err(io::Error::other)?;
    }
    match answer.first_chunk_mut::<2>() {
        Some(own) => *own = id,
        None => return Err(io::ErrorKind::UnexpectedEof.into()),
    }
    Ok(answer)
}

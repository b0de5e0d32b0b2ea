//! Fetching one page by HTTP.
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// How long connecting, and each read, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A page is not longer than this.
const LONGEST: u64 = 1 << 20;

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// Status code and reason.
    pub(crate) status: String,
    /// The page's first line.
    pub(crate) headline: String,
    /// The page's size.
    pub(crate) bytes: usize,
}

/// Gets the page `/`.
pub(crate) fn get(name: &str, address: Ipv6Addr, port: u16) -> Result<Response> {
    let server = SocketAddr::from((address, port));
    let mut stream =
        TcpStream::connect_timeout(&server, PATIENCE).with_context(|| format!("no connection to {server}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.take(LONGEST).read_to_end(&mut response).with_context(|| format!("{server} broke off"))?;
    parse(&response)
}

fn parse(response: &[u8]) -> Result<Response> {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n").context("the server sent no page")?;
    let (head, page) = (String::from_utf8_lossy(&response[..end]), &response[end + 4..]);
    let status = head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).context("this is not HTTP")?;
    let headline = String::from_utf8_lossy(page).lines().next().unwrap_or_default().to_owned();
    Ok(Response { status: status.to_owned(), headline, bytes: page.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_a_status_and_a_page() {
        let found = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello\nyou").unwrap();
        assert_eq!(found, Response { status: "200 OK".into(), headline: "hello".into(), bytes: 9 });
    }

    #[test]
    fn something_else_is_an_error() {
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}

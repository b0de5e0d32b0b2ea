//! A web server with one page, on IPv4 only.
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// Large enough to need many packets.
const LINES: usize = 1000;

/// Serves on a free port of the loopback interface until the process ends.
pub(crate) fn start() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::Builder::new().name("web".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(&stream));
        }
    })?;
    Ok(port)
}

/// Whoever asks gets the page; whoever breaks off gets nothing more.
fn serve(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    for line in BufReader::new(stream).lines() {
        if line?.is_empty() {
            break;
        }
    }
    let mut page = format!("Hello over IPv4, {}.\n", stream.peer_addr()?);
    for line in 0..LINES {
        page.push_str(&format!("{line:04} The server of this page has no IPv6 address at all.\n"));
    }
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n", page.len())?;
    write!(stream, "Connection: close\r\n\r\n{page}")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_page_is_served_whole() {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, start().unwrap())).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, page) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", page.len())), "{head}");
        assert!(page.starts_with("Hello over IPv4, 127.0.0.1:"), "{page}");
    }
}

//! The virtio-serial port on which a guest without a shell is controlled.
use std::time::Duration;

use sixgate_linux::virtio_port::{self, Incoming, VirtioPort};
use tokio::time::sleep;

use super::stream::Stream;
use super::{Answered, Desk};
use crate::control::{MAX_REQUEST, VIRTIO_PORT, emit_reply};

/// Pause while there is no such port.
const NO_PORT: Duration = Duration::from_secs(5);

/// Serves the port for ever, where there is one.
pub(super) async fn serve(desk: Desk) {
    let mut failed = false;
    loop {
        match virtio_port::find(VIRTIO_PORT).map(|path| VirtioPort::open(&path)) {
            Some(Ok(port)) => {
                failed = false;
                converse(&desk, port).await;
            }
            Some(Err(error)) if !failed => {
                failed = true;
                tracing::warn!("the port {VIRTIO_PORT} cannot be opened: {error}");
            }
            Some(Err(_)) | None => {}
        }
        sleep(NO_PORT).await;
    }
}

async fn converse(desk: &Desk, mut port: VirtioPort) {
    let mut line = Vec::new();
    while let Some(incoming) = port.read().await {
        match incoming {
            // The client that began this line will not end it.
            Incoming::HungUp => line.clear(),
            Incoming::Bytes(bytes) => {
                for request in take_lines(&mut line, &bytes) {
                    match desk.answer(&request).await {
                        Answered::Once(reply) => port.write(emit_reply(&reply).into_bytes()).await,
                        Answered::Stream(stream) => forward(stream, &mut port, &mut line).await,
                    }
                }
            }
        }
    }
}

/// Writes what a stream tells, until it ends. Whatever the host sends meanwhile ends it, as does a host that goes.
async fn forward(mut stream: Stream, port: &mut VirtioPort, line: &mut Vec<u8>) {
    let mut going = true;
    loop {
        tokio::select! {
            reply = stream.next() => match reply {
                Some(reply) => port.write(emit_reply(&reply).into_bytes()).await,
                None => return,
            },
            incoming = port.read(), if going => {
                going = false;
                match incoming {
                    Some(Incoming::Bytes(_)) => stream.stop(),
                    Some(Incoming::HungUp) | None => {
                        line.clear();
                        return;
                    }
                }
            }
        }
    }
}

/// The lines that `bytes` complete; the rest stays in `line`, at most one byte more than a request may have.
fn take_lines(line: &mut Vec<u8>, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut complete = Vec::new();
    for byte in bytes {
        if *byte != b'\n' {
            if line.len() <= MAX_REQUEST {
                line.push(*byte);
            }
        } else if line.trim_ascii().is_empty() {
            line.clear();
        } else {
            complete.push(std::mem::take(line));
        }
    }
    complete
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_pieces() {
        let mut line = Vec::new();
        assert_eq!(take_lines(&mut line, b"one\n\ntw"), [b"one".to_vec()]);
        assert_eq!(take_lines(&mut line, b"o\r\nthree"), [b"two\r".to_vec()]);
        assert_eq!(line, b"three");
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory_and_is_too_long() {
        let mut line = Vec::new();
        for _ in 0..10 {
            assert!(take_lines(&mut line, &[b'x'; MAX_REQUEST]).is_empty());
        }
        let lines = take_lines(&mut line, b"\n");
        assert_eq!(lines[0].len(), MAX_REQUEST + 1);
        assert!(crate::control::parse_request(&lines[0]).is_err());
    }
}

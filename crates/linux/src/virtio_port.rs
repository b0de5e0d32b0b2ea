//! Virtio-serial ports: found by name, and served with patience while nobody is at the host's end.
//!
//! A port without a client on the host is "hung up": always ready to be read, with nothing to read, which an event loop
//! that waits for edges turns into a busy loop or a deaf one. So each direction has a thread that blocks.
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;

/// Where the kernel lists the ports.
const PORTS: &str = "/sys/class/virtio-ports";
/// How long to leave a port alone that says nobody is there.
const HUNG_UP: Duration = Duration::from_millis(200);
/// How long a client on the host may take no bytes before what is meant for it is dropped.
const STALLED: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
/// Chunks that may wait in each direction.
const CHUNKS: usize = 16;
const CHUNK_LENGTH: usize = 4096;

/// The device of the port with that name, e.g. `org.sixgate.control`.
pub fn find(name: &str) -> Option<PathBuf> {
    find_in(Path::new(PORTS), name)
}

fn find_in(ports: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(ports).ok()?.flatten().find_map(|port| {
        let held = std::fs::read_to_string(port.path().join("name")).ok()?;
        (held.trim_end() == name).then(|| Path::new("/dev").join(port.file_name()))
    })
}

/// What comes from the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Some bytes.
    Bytes(Vec<u8>),
    /// The client has left; whatever it began is over.
    HungUp,
}

/// An open port. It can be opened once and stays open until the process ends.
#[derive(Debug)]
pub struct VirtioPort {
    incoming: mpsc::Receiver<Incoming>,
    outgoing: mpsc::Sender<Vec<u8>>,
}

impl VirtioPort {
    /// Opens the device that [`find`] gave.
    ///
    /// # Errors
    /// It does not exist, or another process has it open (EBUSY).
    pub fn open(device: &Path) -> io::Result<Self> {
        Self::over(File::options().read(true).write(true).open(device)?)
    }

    fn over(port: File) -> io::Result<Self> {
        let (sender, incoming) = mpsc::channel(CHUNKS);
        let (outgoing, receiver) = mpsc::channel(CHUNKS);
        let writer = port.try_clone()?;
        std::thread::Builder::new().name("virtio-read".to_owned()).spawn(move || read_all(&port, &sender))?;
        std::thread::Builder::new().name("virtio-write".to_owned()).spawn(move || write_all(&writer, receiver))?;
        Ok(Self { incoming, outgoing })
    }

    /// Waits for what comes next; nothing when the port is gone. Dropping the future loses nothing.
    pub async fn read(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }

    /// Queues bytes for the host; they are dropped when nobody is there to read them.
    pub async fn write(&self, bytes: Vec<u8>) {
        // The writer lives as long as this end of the channel.
        let _ = self.outgoing.send(bytes).await;
    }
}

fn read_all(mut port: &File, sender: &mpsc::Sender<Incoming>) {
    let mut connected = false;
    let mut buffer = [0; CHUNK_LENGTH];
    loop {
        let incoming = match port.read(&mut buffer) {
            Ok(0) if connected => {
                connected = false;
                Incoming::HungUp
            }
            Ok(0) => {
                if sender.is_closed() {
                    return;
                }
                std::thread::sleep(HUNG_UP);
                continue;
            }
            Ok(length) => {
                connected = true;
                Incoming::Bytes(buffer.get(..length).unwrap_or_default().to_vec())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if sender.blocking_send(incoming).is_err() {
            return;
        }
    }
}

fn write_all(mut port: &File, mut receiver: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = receiver.blocking_recv() {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && takes_bytes(port) {
            match port.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }
}

fn takes_bytes(port: &File) -> bool {
    let mut polled = [PollFd::new(port, PollFlags::OUT)];
    let ready = poll(&mut polled, Some(&STALLED)).unwrap_or_default();
    ready > 0 && polled.iter().all(|one| one.revents() == PollFlags::OUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_port_is_found_by_its_name() {
        let ports = std::env::temp_dir().join(format!("sixgate-ports-{}", std::process::id()));
        for (port, name) in [("vport1p1", "org.qemu.guest_agent.0\n"), ("vport1p2", "org.sixgate.control\n")] {
            std::fs::create_dir_all(ports.join(port)).unwrap();
            std::fs::write(ports.join(port).join("name"), name).unwrap();
        }
        assert_eq!(find_in(&ports, "org.sixgate.control"), Some("/dev/vport1p2".into()));
        assert_eq!(find_in(&ports, "org.sixgate"), None);
        std::fs::remove_dir_all(&ports).unwrap();
        assert_eq!(find_in(&ports, "org.sixgate.control"), None);
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_a_hang_up_is_told_once() {
        let (mut host, guest) = UnixStream::pair().unwrap();
        let mut port = VirtioPort::over(File::from(OwnedFd::from(guest))).unwrap();
        host.write_all(b"question\n").unwrap();
        assert_eq!(port.read().await, Some(Incoming::Bytes(b"question\n".to_vec())));
        port.write(b"answer\n".to_vec()).await;
        let mut answer = [0; 7];
        host.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer\n");
        drop(host);
        assert_eq!(port.read().await, Some(Incoming::HungUp));
        // Nobody is there: this must neither block nor end the port.
        port.write(b"lost\n".to_vec()).await;
        let next = tokio::time::timeout(HUNG_UP * 2, port.read()).await;
        assert!(next.is_err(), "{next:?}");
    }
}

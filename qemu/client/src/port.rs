//! The virtio-serial port to whoever runs the demo: one JSON object a line out, requests in.
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

/// The port's name.
const NAME: &str = "org.sixgate.client";

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `power-off`
    PowerOff,
}

/// The port, if the machine has one.
pub(crate) struct Port(Option<File>);

impl Port {
    pub(crate) fn open() -> Self {
        let ports = fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten();
        let named = |folder: &fs::DirEntry| {
            fs::read_to_string(folder.path().join("name")).is_ok_and(|name| name.trim() == NAME)
        };
        let device = ports.into_iter().find(named).map(|folder| folder.file_name());
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        Self(device.and_then(|device| {
            let path = format!("/dev/{}", device.to_string_lossy());
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok()
        }))
    }

    /// Sends a line; while nobody listens it is lost, the next one tells the same.
    pub(crate) fn send(&mut self, line: &Value) {
        if let Some(port) = &mut self.0 {
            let _ = port.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Waits so long for a request.
    pub(crate) fn wait(&mut self, time: Duration) -> Option<Request> {
        let deadline = Instant::now() + time;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            let Some(port) = &mut self.0 else {
                thread::sleep(left);
                break;
            };
            let timeout = Timespec::try_from(left).ok();
            let mut waits = [PollFd::new(port, PollFlags::IN)];
            let _ = poll(&mut waits, timeout.as_ref());
            let mut buffer = [0; 64];
            match port.read(&mut buffer) {
                Ok(length @ 1..) if buffer[..length].starts_with(b"power-off") => return Some(Request::PowerOff),
                Ok(1..) => {}
                // Nobody is connected: the port is readable all the time and has nothing.
                Ok(_) => thread::sleep(left.min(Duration::from_millis(100))),
                Err(_) => {}
            }
        }
        None
    }
}

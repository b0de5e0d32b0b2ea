//! Servers of the lab's Internet: threads of the test process whose sockets live in a namespace.
use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};

pub mod bind;
pub mod delegator;
pub mod dhcpd;
pub mod dns;
pub mod ntp;
pub mod provider;
pub mod radvd;
mod signed;
pub mod signer;
pub mod syslog;
pub mod udp;
pub mod web;

/// A server's thread; dropping it ends the thread.
#[derive(Debug)]
pub struct Thread {
    stop: Option<PipeWriter>,
    handle: Option<JoinHandle<()>>,
}

/// Seen by the thread: yields until the owner is dropped.
#[derive(Debug)]
pub struct Stop(PipeReader);

impl Stop {
    /// Waits until `socket` is readable; false when the thread has to end.
    pub(crate) fn readable(&self, socket: &impl AsFd) -> bool {
        loop {
            let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) if !fds[1].revents().is_empty() => return false,
                Ok(_) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

impl Thread {
    /// Starts a thread that ends when its `Stop` says so.
    pub(crate) fn start(work: impl FnOnce(&Stop) + Send + 'static) -> Result<Self> {
        let (reader, writer) = std::io::pipe().context("a pipe")?;
        let handle = thread::Builder::new().spawn(move || work(&Stop(reader))).context("a thread")?;
        Ok(Self { stop: Some(writer), handle: Some(handle) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(handle) = self.handle.take() {
            // A server that panicked has been reported by its own message; the scenario fails by its silence.
            let _ = handle.join();
        }
    }
}

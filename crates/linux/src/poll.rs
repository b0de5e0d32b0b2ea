//! A thread that waits for its sockets, and for whoever wakes it.
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;

/// Sockets that may be named at a time; the others are named the next time.
const EVENTS: usize = 64;
/// The waker's own token.
const WAKER: u64 = u64::MAX;

/// What a thread waits for.
#[derive(Debug)]
pub struct Poll {
    epoll: OwnedFd,
    waker: Arc<OwnedFd>,
}

/// Wakes the thread that waits.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Poll {
    /// Waits for nothing but its waker.
    ///
    /// # Errors
    /// The process has no more file descriptors.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &waker, epoll::EventData::new_u64(WAKER), epoll::EventFlags::IN)?;
        Ok(Self { epoll, waker: Arc::new(waker) })
    }

    /// What wakes it.
    pub fn waker(&self) -> Waker {
        Waker(self.waker.clone())
    }

    /// Waits for this socket, too, until it is closed.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn add(&self, socket: &impl AsFd, token: u32) -> io::Result<()> {
        epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token.into()), epoll::EventFlags::IN)?;
        Ok(())
    }

    /// No longer waits for this socket.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove(&self, socket: &impl AsFd) -> io::Result<()> {
        epoll::delete(&self.epoll, socket)?;
        Ok(())
    }

    /// Waits until a socket can be read or somebody wakes; puts the sockets' tokens into `ready`.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn wait(&self, ready: &mut Vec<u32>) -> io::Result<()> {
        ready.clear();
        let mut events = [const { MaybeUninit::uninit() }; EVENTS];
        let events = match epoll::wait(&self.epoll, &mut events, None) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if events.iter().any(|event| event.data.u64() == WAKER) {
            // The count does not matter.
            let _ = rustix::io::read(&*self.waker, &mut [0; 8]);
        }
        ready.extend(events.iter().filter_map(|event| u32::try_from(event.data.u64()).ok()));
        Ok(())
    }
}

impl Waker {
    /// Wakes it; it need not be waiting yet.
    pub fn wake(&self) {
        // A full count wakes as well.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn it_waits_for_sockets_and_for_its_waker() {
        let (poll, mut ready) = (Poll::new().unwrap(), Vec::new());
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        poll.add(&socket, 7).unwrap();
        let waker = poll.waker();
        std::thread::spawn(move || waker.wake());
        poll.wait(&mut ready).unwrap();
        assert!(ready.is_empty());
        socket.send_to(b"?", socket.local_addr().unwrap()).unwrap();
        poll.wait(&mut ready).unwrap();
        assert_eq!(ready, [7]);
        poll.remove(&socket).unwrap();
        poll.waker().wake();
        poll.wait(&mut ready).unwrap();
        assert!(ready.is_empty());
    }
}

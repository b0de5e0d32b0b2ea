//! What the kernel announces about devices; of it, that the hypervisor has put this machine back in time or copied it.
use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The kernel's own group, as against that of a device manager.
const KERNEL: u32 = 1;
/// Announcements are shorter.
const LONGEST: usize = 8192;
/// The driver of the virtual machine generation identifier says this.
const NEW_GENERATION: &[u8] = b"NEW_VMGENID=1";

/// The socket.
#[derive(Debug)]
pub struct Uevents(AsyncFd<OwnedFd>);

impl Uevents {
    /// Begins to listen.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
        // SAFETY: the descriptor is owned, never replaced and closed only after it was taken from the runtime.
        Ok(Self(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE)? }))
    }

    /// Waits until the machine has another generation identifier.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn new_generation(&self) -> io::Result<()> {
        let mut buffer = vec![0; LONGEST];
        loop {
            let mut ready = self.0.readable().await?;
            let received = ready.try_io(|socket| Ok(recv(socket, buffer.as_mut_slice(), RecvFlags::empty())?.0));
            match received {
                Ok(Ok(length)) if is_new_generation(buffer.get(..length).unwrap_or_default()) => return Ok(()),
                // What was lost may have been what is waited for; being refreshed once too often hurts nobody.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    }
}

fn is_new_generation(message: &[u8]) -> bool {
    message.split(|byte| *byte == 0).any(|word| word == NEW_GENERATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_generation_is_told_from_other_announcements() {
        let message = b"change@/devices/LNXSYSTM:00/QEMUVGID:00\0ACTION=change\0NEW_VMGENID=1\0SEQNUM=9\0";
        assert!(is_new_generation(message));
        assert!(!is_new_generation(b"add@/devices/x\0ACTION=add\0XNEW_VMGENID=1\0"));
        assert!(!is_new_generation(b""));
    }

    #[tokio::test]
    async fn the_socket_can_be_opened_by_anybody() {
        Uevents::open().unwrap();
    }
}

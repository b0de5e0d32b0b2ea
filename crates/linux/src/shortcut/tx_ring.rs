//! A packet socket's ring of frames that a link sends: `PACKET_TX_RING`, many frames to a system call.
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socket_with, sockopt};

use sixgate_wire::virtio_net::PartialChecksum;

use super::next_hop::NextHop;

/// Frames of a ring; each is taken until the link has sent it.
const FRAMES: usize = 1024;
/// Bytes of a frame.
const FRAME: usize = 2048;
/// Bytes of a block of frames, which the kernel allocates in one piece.
const BLOCK: usize = 1 << 16;
/// Bytes that may be on their way: more than a ring holds.
const SEND_BUFFER: usize = 8 << 20;

/// `struct tpacket2_hdr` of linux/if_packet.h: status, length, and what only reception uses.
const HEADER: usize = 32;
/// The virtio-net header.
const VIRTIO: usize = 10;
const ETHERNET: usize = 14;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CSUM: u8 = 1;
/// The longest packet that a frame holds.
pub(super) const LONGEST: usize = FRAME - HEADER - VIRTIO - ETHERNET;

const SOL_PACKET: libc::c_int = 263;
const PACKET_VERSION: libc::c_int = 10;
const PACKET_TX_RING: libc::c_int = 13;
const PACKET_VNET_HDR: libc::c_int = 15;
const TPACKET_V2: libc::c_int = 1;

const AVAILABLE: u32 = 0;
const SEND_REQUEST: u32 = 1;

/// The ring of one link.
pub(super) struct TxRing {
    link: u32,
    socket: OwnedFd,
    memory: NonNull<u8>,
    /// The frame that is filled next.
    next: usize,
    /// Frames that were filled since the last [`Self::send`].
    filled: usize,
}

// SAFETY: the mapping belongs to this value alone, and no thread keeps anything about it.
unsafe impl Send for TxRing {}

impl TxRing {
    /// Opens the ring of a link.
    ///
    /// # Errors
    /// The link is gone, or the kernel refused.
    pub(super) fn open(link: u32) -> io::Result<Self> {
        let kind = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Without a protocol it receives nothing.
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, kind, None)?;
        // Without CAP_NET_ADMIN it stays as large as the limit allows.
        let _ = sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER);
        set(&socket, PACKET_VERSION, &TPACKET_V2)?;
        // The header says how much of a frame is copied. The rest would be mapped into the packet, which is dearer.
        set(&socket, PACKET_VNET_HDR, &1)?;
        let (size, number) = (BLOCK as libc::c_uint, (FRAMES * FRAME / BLOCK) as libc::c_uint);
        set(&socket, PACKET_TX_RING, &[size, number, FRAME as libc::c_uint, FRAMES as libc::c_uint])?;
        // SAFETY: an address of zeros is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = link as i32;
        // SAFETY: the address lives until the call returns.
        let bound = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        let protection = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        let shared = rustix::mm::MapFlags::SHARED;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
        let memory = unsafe { rustix::mm::mmap(std::ptr::null_mut(), FRAMES * FRAME, protection, shared, &socket, 0)? };
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("the ring is not mapped"))?;
        Ok(Self { link, socket, memory, next: 0, filled: 0 })
    }

    pub(super) fn link(&self) -> u32 {
        self.link
    }

    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Fills a frame with a packet of at most [`LONGEST`] bytes and what is left to do to it, passed on by one hop; it leaves with [`Self::send`]. Nothing
    /// when all frames are taken.
    pub(super) fn push(&mut self, packet: &[u8], left: Option<PartialChecksum>, hop: &NextHop) -> Option<()> {
        let start = self.next * FRAME;
        if packet.len() > LONGEST || self.status(self.next).load(Ordering::Acquire) != AVAILABLE {
            return None;
        }
        // SAFETY: the frame lies inside the mapping, the kernel leaves it alone while it is available, and there is no
        // other reference to it.
        let frame = unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().add(start + 4), FRAME - 4) };
        let ethernet = ETHERNET + packet.len();
        frame[..4].copy_from_slice(&((VIRTIO + ethernet) as u32).to_ne_bytes());
        let frame = &mut frame[HEADER - 4..];
        frame[..VIRTIO].fill(0);
        frame[2..4].copy_from_slice(&(ethernet as u16).to_ne_bytes());
        if let Some(PartialChecksum { start, offset }) = left {
            frame[0] = NEEDS_CSUM;
            frame[6..8].copy_from_slice(&(ETHERNET as u16 + start).to_ne_bytes());
            frame[8..10].copy_from_slice(&offset.to_ne_bytes());
        }
        let frame = &mut frame[VIRTIO..][..ethernet];
        frame[..6].copy_from_slice(&hop.mac);
        frame[6..12].copy_from_slice(&hop.own);
        frame[12..14].copy_from_slice(if packet[0] >> 4 == 4 { &[0x08, 0x00] } else { &[0x86, 0xdd] });
        frame[ETHERNET..].copy_from_slice(packet);
        super::pass_hop(&mut frame[ETHERNET..]);
        self.status(self.next).store(SEND_REQUEST, Ordering::Release);
        self.next = (self.next + 1) % FRAMES;
        self.filled += 1;
        Some(())
    }

    /// Has the kernel send what is filled; gives the number of packets that the link's queue dropped. After an error the ring
    /// is of no more use.
    ///
    /// # Errors
    /// The link is down or gone.
    pub(super) fn send(&mut self) -> io::Result<u64> {
        for dropped in 0..=self.filled as u64 {
            match send(&self.socket, &[], SendFlags::DONTWAIT) {
                // One was dropped, and those behind it have not been looked at.
                Err(rustix::io::Errno::NOBUFS) => {}
                // What has not left is the first when the ring is sent again.
                Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                    self.filled = 0;
                    return Ok(dropped);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(std::mem::take(&mut self.filled) as u64)
    }

    /// The first word of a frame, by which it goes to the kernel and comes back.
    fn status(&self, frame: usize) -> &AtomicU32 {
        // SAFETY: each frame begins inside the mapping, at a multiple of its length, and both sides treat this word as atomic.
        unsafe { AtomicU32::from_ptr(self.memory.as_ptr().add(frame * FRAME).cast()) }
    }
}

impl Drop for TxRing {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more.
        let _ = unsafe { rustix::mm::munmap(self.memory.as_ptr().cast(), FRAMES * FRAME) };
    }
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let (value, length) = (std::ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the value lives until the call returns, and the kernel reads no more than its length.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), SOL_PACKET, option, value, length) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

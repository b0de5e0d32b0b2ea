//! The translator's TUN device: one packet a read and a write, each behind the 10 bytes of a virtio-net header.
//!
//! A packet may be a super-packet of up to 64 KiB, and its checksum may be left to do: the header tells.
//! The device is persistent: it outlives the process, and the next one adopts it with its addresses, routes and queue.
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use std::io::IoSlice;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use sixgate_wire::ipv6;
use sixgate_wire::virtio_net::{self, Offload};
use tun::AbstractDevice;

/// A buffer of this size holds any packet with its header: IPv6's length does not count the fixed header. The device's
/// MTU is the plan's, and is about single packets that the kernel sends into the device; super-packets are longer, and
/// what is written may always be this long.
pub const BUFFER_LENGTH: usize = virtio_net::HEADER + ipv6::HEADER + 65535;

const TUNSETPERSIST: libc::Ioctl = iow(203);
const TUNSETOFFLOAD: libc::Ioctl = iow(208);
const TUNSETVNETHDRSZ: libc::Ioctl = iow(216);

const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO4: libc::c_ulong = 0x02;
const TUN_F_TSO6: libc::c_ulong = 0x04;
const TUN_F_TSO_ECN: libc::c_ulong = 0x08;
const TUN_F_USO4: libc::c_ulong = 0x20;
const TUN_F_USO6: libc::c_ulong = 0x40;

/// Packets that wait for the translator while it is not scheduled; the driver's 500 are some milliseconds of small ones.
const QUEUE_LENGTH: libc::c_int = 2000;

/// What the device hands over unfinished, best first: kernels before 6.2 refuse USO, which cuts UDP.
const OFFLOADS: [libc::c_ulong; 3] = {
    const TSO: libc::c_ulong = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    [TSO | TUN_F_USO4 | TUN_F_USO6, TSO, 0]
};

/// `_IOW('T', number, int)` of Linux's asm-generic/ioctl.h.
const fn iow(number: u32) -> libc::Ioctl {
    (1 << 30 | 4 << 16 | (b'T' as u32) << 8 | number) as libc::Ioctl
}

/// The device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// There is no `/dev/net/tun`.
    #[error("/dev/net/tun does not exist")]
    NoDeviceNode,
    /// There is a `/dev/net/tun`, but no driver behind it.
    #[error("the kernel has no TUN driver")]
    NoDriver,
    /// CAP_NET_ADMIN is missing.
    #[error("not permitted to make a TUN device")]
    NotPermitted,
    /// Another process has it open.
    #[error("the TUN device {0} is in use by another process")]
    Busy(String),
    /// An interface of that name exists and is something else.
    #[error("an interface {0} exists that is no TUN device")]
    Taken(String),
    /// Anything else.
    #[error("cannot open the TUN device {name}: {cause}")]
    Other {
        /// Its name.
        name: String,
        /// The kernel's answer.
        cause: io::Error,
    },
}

impl TunError {
    fn new(name: &str, cause: io::Error) -> Self {
        match cause.raw_os_error() {
            Some(libc::ENOENT) => Self::NoDeviceNode,
            Some(libc::ENXIO | libc::ENODEV) => Self::NoDriver,
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted,
            Some(libc::EBUSY) => Self::Busy(name.to_owned()),
            Some(libc::EINVAL | libc::EEXIST) => Self::Taken(name.to_owned()),
            _ => Self::Other { name: name.to_owned(), cause },
        }
    }

    /// What to do about it, one sentence.
    pub fn mend(&self) -> String {
        match self {
            Self::NoDeviceNode => {
                "Load the kernel module tun and create the node: mknod /dev/net/tun c 10 200; a container needs the \
                 device passed in."
                    .to_owned()
            }
            Self::NoDriver => "Load the kernel module tun, or use a kernel with CONFIG_TUN.".to_owned(),
            Self::NotPermitted => "Run sixgate as root, or with the capability CAP_NET_ADMIN.".to_owned(),
            Self::Busy(name) => format!("Stop the other process that holds {name}, most likely a second sixgate."),
            Self::Taken(name) => format!("Rename or remove the interface {name}: ip link delete {name}."),
            Self::Other { .. } => "Look at the kernel's log, mend the cause and restart.".to_owned(),
        }
    }
}

/// What the device outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime {
    /// The process.
    Machine,
    /// Nothing.
    Process,
}

/// The device, open and up, in non-blocking mode.
pub struct Tun {
    device: tun::Device,
    waker: Waker,
}

impl std::fmt::Debug for Tun {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Tun").field("device", &self.device.as_raw_fd()).field("waker", &self.waker).finish()
    }
}

impl Tun {
    /// Makes the device, or adopts the one that an earlier process left, and brings it up.
    ///
    /// # Errors
    /// See [`TunError`].
    pub fn open(name: &str) -> Result<Self, TunError> {
        Self::open_for(name, Lifetime::Machine)
    }

    /// As [`Tun::open`], for a device that goes with the process, and with it all its addresses and routes.
    ///
    /// # Errors
    /// See [`TunError`].
    pub fn open_for_process(name: &str) -> Result<Self, TunError> {
        Self::open_for(name, Lifetime::Process)
    }

    fn open_for(name: &str, lifetime: Lifetime) -> Result<Self, TunError> {
        let mut configuration = tun::Configuration::default();
        configuration.tun_name(name).platform_config(|platform| {
            // The crate would set addresses otherwise; they are the plan's matter.
            platform.ensure_root_privileges(false).vnet_hdr(true);
        });
        let fail = |error: tun::Error| TunError::new(name, io::Error::from(error));
        let mut device = tun::create(&configuration).map_err(fail)?;
        match lifetime {
            Lifetime::Machine => device.persist().map_err(fail)?,
            // Somebody else may have left one that would stay.
            Lifetime::Process => set(device.as_raw_fd(), TUNSETPERSIST, Argument::Value(0))
                .map_err(|cause| TunError::new(name, cause))?,
        }
        let tune = || -> io::Result<Waker> {
            // An adopted device has the settings of its last owner, which may have been a newer release.
            set(device.as_raw_fd(), TUNSETVNETHDRSZ, Argument::Pointer(virtio_net::HEADER as libc::c_int))?;
            set_offloads(device.as_raw_fd())?;
            set_queue_length(name)?;
            device.set_nonblock()?;
            Waker::new()
        };
        let waker = tune().map_err(|cause| TunError::new(name, cause))?;
        device.enabled(true).map_err(fail)?;
        Ok(Self { device, waker })
    }

    /// Reads one packet into `buffer`, if one is waiting. [`BUFFER_LENGTH`] is enough for all; what is longer than the
    /// buffer is cut.
    ///
    /// # Errors
    /// The device is gone or down.
    pub fn read<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Received<'a>>> {
        match rustix::io::read(self, &mut *buffer) {
            Ok(length) => Ok(Some(Received::parse(&buffer[..length]))),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes one packet, with what is left to do to it.
    ///
    /// # Errors
    /// The kernel did not take it: malformed, out of memory, or the device is down.
    pub fn write(&self, packet: &[u8], offload: Offload) -> io::Result<()> {
        let header = offload.emit();
        let slices = [IoSlice::new(&header), IoSlice::new(packet)];
        loop {
            match rustix::io::writev(self, &slices) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until a packet is there, somebody wakes, or `timeout` is over; for ever without one.
    ///
    /// # Errors
    /// The device is gone.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Ready> {
        let timeout =
            timeout.map(|timeout| Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 }));
        let mut polled =
            [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN), PollFd::new(&*self.waker.0, PollFlags::IN)];
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [device, waker] = polled.map(|one| !one.revents().is_empty());
        if waker {
            self.waker.rest();
        }
        Ok(Ready { packet: device, woken: waker })
    }

    /// A handle that ends [`Tun::wait`] from any thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Removes the device, for `stop`; dropping it leaves it in place.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove(self) -> io::Result<()> {
        set(self.device.as_raw_fd(), TUNSETPERSIST, Argument::Value(0))
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the device owns the descriptor and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.device.as_raw_fd()) }
    }
}

/// What a read gave.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The packet.
    pub packet: &'a [u8],
    /// What is left to do to it.
    pub offload: Offload,
}

impl<'a> Received<'a> {
    /// A header that asks for what was not offered leaves no packet: nobody could finish it.
    fn parse(bytes: &'a [u8]) -> Self {
        let parsed =
            bytes.split_first_chunk().and_then(|(header, packet)| Some((packet, Offload::parse(header).ok()?)));
        let (packet, offload) = parsed.unwrap_or_default();
        Self { packet, offload }
    }
}

/// What [`Tun::wait`] saw. Both are false when the time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// A packet can be read, or an error.
    pub packet: bool,
    /// Somebody woke.
    pub woken: bool,
}

/// Ends [`Tun::wait`]; several calls may fall into one.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Wakes the thread in [`Tun::wait`], or the next one to come there.
    pub fn wake(&self) {
        // It fails only when the counter is full, and then the thread is as good as woken.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    fn rest(&self) {
        let _ = rustix::io::read(&*self.0, &mut [0u8; 8]);
    }
}

/// How a TUN ioctl takes its integer.
#[derive(Clone, Copy)]
enum Argument {
    Value(libc::c_ulong),
    Pointer(libc::c_int),
}

/// Takes as much unfinished as the kernel hands over.
fn set_offloads(device: libc::c_int) -> io::Result<()> {
    let mut refused = Ok(());
    for offloads in OFFLOADS {
        refused = set(device, TUNSETOFFLOAD, Argument::Value(offloads));
        if refused.is_ok() {
            tracing::debug!("offloads of the TUN device: {offloads:#x}");
            break;
        }
    }
    refused
}

fn set_queue_length(name: &str) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // SAFETY: an ifreq of zeros is one without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // The kernel reads the length from where all integers of the union lie.
    request.ifr_ifru.ifru_metric = QUEUE_LENGTH;
    // SAFETY: the request lives until the call returns, and the kernel writes no more than that.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFTXQLEN, &raw mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set(device: libc::c_int, request: libc::Ioctl, argument: Argument) -> io::Result<()> {
    let done = match argument {
        // SAFETY: these requests take an integer; the kernel touches no memory of ours.
        Argument::Value(value) => unsafe { libc::ioctl(device, request, value) },
        // SAFETY: these requests read one int, which lives until the call returns.
        Argument::Pointer(value) => unsafe { libc::ioctl(device, request, &raw const value) },
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sixgate_wire::virtio_net::{PartialChecksum, Segmentation, SegmentationKind};

    use crate::testing::{attempt, in_namespace, run, wait_for};

    /// An IPv4 packet from 192.0.2.1 to 192.0.2.2 with UDP inside.
    fn packet() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0xf6, 0xcd, 192, 0, 2, 1, 192, 0, 2, 2];
        packet.extend([0x30, 0x39, 0x30, 0x3a, 0, 8, 0, 0]);
        packet
    }

    /// The next IPv4 packet. The kernel itself may say something over IPv6 on a link that has just come up.
    fn next_v4(tun: &Tun) -> (Vec<u8>, Offload) {
        let mut buffer = vec![0; BUFFER_LENGTH];
        loop {
            assert!(tun.wait(Some(Duration::from_secs(5))).unwrap().packet, "a packet within five seconds");
            if let Some(received) = tun.read(&mut buffer).unwrap()
                && received.packet.first().is_some_and(|first| first >> 4 == 4)
            {
                return (received.packet.to_vec(), received.offload);
            }
        }
    }

    #[test]
    fn packets_cross_the_device_with_what_is_left_to_do() {
        in_namespace(|| async {
            let tun = Tun::open("nat64").unwrap();
            run("ip addr add 192.0.2.2/24 dev nat64");
            fn is_for_a_thread<T: Send + 'static>(_: &T) {}
            is_for_a_thread(&tun);
            let socket = std::net::UdpSocket::bind("192.0.2.2:12346").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            tun.write(&packet(), Offload::NONE).unwrap();
            let (length, source) = socket.recv_from(&mut [0; 16]).unwrap();
            assert_eq!((length, source.to_string().as_str()), (0, "192.0.2.1:12345"));

            socket.send_to(b"back", source).unwrap();
            let (packet, offload) = next_v4(&tun);
            assert_eq!(packet.len(), 20 + 8 + 4);
            let checksum = PartialChecksum { start: 20, offset: 6 };
            assert_eq!(offload, Offload { checksum: Some(checksum), segmentation: None }, "the checksum is left to us");
            assert_eq!(&packet[28..], b"back");
        });
    }

    #[test]
    fn a_device_of_a_process_takes_its_routes_along() {
        in_namespace(|| async {
            let there = || !run("ip route show 192.0.2.0/24").trim().is_empty();
            let until_dropped = |tun: Tun| {
                run("ip addr add 192.0.2.2/24 dev clat");
                assert!(there());
                drop(tun);
                there()
            };
            assert!(!until_dropped(Tun::open_for_process("clat").unwrap()));
            assert!(until_dropped(Tun::open("clat").unwrap()));
            drop(Tun::open_for_process("clat").unwrap());
            assert!(!there(), "what was left is taken over and goes");
        });
    }

    /// The kernel hands over a whole super-packet, and takes it back as the datagrams that it stands for.
    #[test]
    fn super_packets_cross_the_device_whole() {
        in_namespace(|| async {
            let tun = Tun::open("nat64").unwrap();
            run("ip addr add 192.0.2.2/24 dev nat64");
            let socket = std::net::UdpSocket::bind("192.0.2.2:12346").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let segment_size: libc::c_int = 1000;
            rustix::net::sockopt::set_socket_send_buffer_size(&socket, 1 << 20).unwrap();
            // SAFETY: the option is an int that lives until the call returns.
            let set = unsafe {
                let size = size_of::<libc::c_int>() as libc::socklen_t;
                libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, 103, (&raw const segment_size).cast(), size)
            };
            assert_eq!(set, 0, "UDP_SEGMENT");
            let data: Vec<u8> = (0..30_500u32).map(|byte| byte as u8).collect();
            socket.send_to(&data, "192.0.2.1:12345").unwrap();
            let (mut packet, offload) = next_v4(&tun);
            let Some(Segmentation { kind: SegmentationKind::Udp, size: 1000, .. }) = offload.segmentation else {
                // A kernel before 6.2 has cut it.
                assert_eq!((packet.len(), offload.segmentation), (1028, None));
                return;
            };
            assert_eq!(packet[28..], data);
            // The answer is the same with the ends exchanged, which leaves both sums alone.
            let (source, destination) = (packet[12..16].to_vec(), packet[16..20].to_vec());
            packet[12..16].copy_from_slice(&destination);
            packet[16..20].copy_from_slice(&source);
            let (source, destination) = (packet[20..22].to_vec(), packet[22..24].to_vec());
            packet[20..22].copy_from_slice(&destination);
            packet[22..24].copy_from_slice(&source);
            tun.write(&packet, offload).unwrap();
            let (mut received, mut sizes) = (Vec::new(), Vec::new());
            while received.len() < data.len() {
                let mut buffer = [0; 2000];
                let (length, _) = socket.recv_from(&mut buffer).unwrap();
                received.extend_from_slice(&buffer[..length]);
                sizes.push(length);
            }
            assert_eq!(received, data);
            assert_eq!((sizes.len(), sizes[0], sizes[30]), (31, 1000, 500));
        });
    }

    #[test]
    fn a_header_that_asks_for_the_unknown_leaves_no_packet() {
        assert!(Received::parse(&[0, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0x45]).packet.is_empty());
        assert!(Received::parse(&[0; 9]).packet.is_empty());
        assert_eq!(Received::parse(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x45]).packet, [0x45]);
    }

    #[test]
    fn the_device_outlives_its_owner_and_is_adopted_and_removed() {
        in_namespace(|| async {
            drop(Tun::open("nat64").unwrap());
            let shown = run("ip link show dev nat64");
            assert!(shown.contains("qlen 2000"), "it is persistent, with room for bursts: {shown}");
            run("ip addr add 192.0.2.2/24 dev nat64");
            // Another test's child holds a copy of the device between fork and exec.
            let adopted = wait_for("the device", || Tun::open("nat64").ok());
            assert!(run("ip addr show dev nat64").contains("192.0.2.2/24"));
            let busy = Tun::open("nat64").unwrap_err();
            assert!(matches!(&busy, TunError::Busy(name) if name == "nat64"), "{busy:?}");
            adopted.remove().unwrap();
            wait_for("the end of the device", || (!attempt("ip link show dev nat64").0).then_some(()));
        });
    }

    #[test]
    fn an_interface_of_another_kind_is_named() {
        in_namespace(|| async {
            run("ip link add nat64 type veth peer name other");
            let taken = Tun::open("nat64").unwrap_err();
            assert!(matches!(&taken, TunError::Taken(_)), "{taken:?}");
            assert!(taken.mend().contains("ip link delete nat64"));
        });
    }

    #[test]
    fn a_waker_ends_the_wait_and_time_does_too() {
        in_namespace(|| async {
            let tun = Tun::open("nat64").unwrap();
            let mut buffer = vec![0; BUFFER_LENGTH];
            let waker = tun.waker();
            waker.wake();
            waker.wake();
            assert!(tun.wait(None).unwrap().woken);
            while tun.read(&mut buffer).unwrap().is_some() {}
            assert!(!tun.wait(Some(Duration::ZERO)).unwrap().woken, "two calls are one");
            let thread = std::thread::spawn(move || waker.wake());
            while !tun.wait(None).unwrap().woken {
                while tun.read(&mut buffer).unwrap().is_some() {}
            }
            thread.join().unwrap();
        });
    }

    #[test]
    fn errors_carry_their_mend() {
        for (errno, says) in [
            (libc::ENOENT, "mknod"),
            (libc::ENXIO, "module tun"),
            (libc::EPERM, "CAP_NET_ADMIN"),
            (libc::EBUSY, "second sixgate"),
            (libc::EIO, "kernel's log"),
        ] {
            let error = TunError::new("nat64", io::Error::from_raw_os_error(errno));
            assert!(error.mend().contains(says), "{error}: {}", error.mend());
        }
    }
}

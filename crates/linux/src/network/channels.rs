//! Queues of network cards: as many as there are processors, as far as the card has them.
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use rustix::net::{AddressFamily, SocketType, socket};

/// Commands and structure of linux/ethtool.h.
const GET_CHANNELS: u32 = 0x3c;
const SET_CHANNELS: u32 = 0x3d;
/// SIOCETHTOOL of linux/sockios.h.
const ETHTOOL: libc::Ioctl = 0x8946;

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Channels {
    command: u32,
    most_rx: u32,
    most_tx: u32,
    most_other: u32,
    most_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// Gives a virtio card a pair of queues for each processor, where the hypervisor offers several and they are not in use
/// already. Returns how many it has now where that is news.
///
/// # Errors
/// The card is gone, or the process may not change it.
pub fn spread(interface: &str, processors: u32) -> io::Result<Option<u32>> {
    let driver = fs::read_link(Path::new("/sys/class/net").join(interface).join("device/driver"));
    // Other drivers choose well by themselves, and changing physical cards interrupts their links.
    if !driver.is_ok_and(|driver| driver.file_name().is_some_and(|name| name == "virtio_net")) {
        return Ok(None);
    }
    let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
    ethtool(interface, &mut channels)?;
    let wanted = processors.clamp(1, channels.most_combined.max(1));
    if channels.combined == wanted {
        return Ok(None);
    }
    channels.command = SET_CHANNELS;
    channels.combined = wanted;
    ethtool(interface, &mut channels)?;
    Ok(Some(wanted))
}

fn ethtool(interface: &str, channels: &mut Channels) -> io::Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: all fields of the C structure are integers or unions of them, for which zeros are values.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (place, byte) in request.ifr_name.iter_mut().zip(interface.bytes().take(room)) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = core::ptr::from_mut(channels).cast();
    // SAFETY: the request and the structure it points to live through the call and are as large as the command wants them.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL, &raw mut request) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_virtio_card_is_left_alone() {
        assert_eq!(spread("lo", 4).unwrap(), None);
        assert_eq!(spread("nonexistent0", 4).unwrap(), None);
    }

    #[test]
    fn a_card_without_channels_is_an_error_of_the_kernels() {
        assert!(ethtool("lo", &mut Channels { command: GET_CHANNELS, ..Channels::default() }).is_err());
    }
}

//! Network cards of a machine and the links they are plugged into.
use std::io;
use std::os::fd::OwnedFd;

use crate::hardware::Model;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// What a network card is plugged into.
#[derive(Debug)]
pub enum Link {
    /// QEMU's user-mode IPv4 network: 10.0.2.0/24, gateway and host at 10.0.2.2; needs no root.
    User,
    /// One end of a [`cable`] to another machine, or to a program that reads and writes one Ethernet frame per datagram.
    Cable(OwnedFd),
    /// A TAP device that the caller opened, perhaps inside a network namespace.
    Tap(OwnedFd),
    /// A TAP device of that name and so many pairs of queues, in the network namespace of whoever starts the machine.
    Queues(String, u32),
}

/// A network card.
#[derive(Debug)]
pub struct Nic {
    /// Hardware address.
    pub mac: [u8; 6],
    /// Where it is plugged in.
    pub link: Link,
}

impl Nic {
    /// The hardware address as text.
    pub fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// The arguments for QEMU, given the descriptor's number in the child.
    pub(crate) fn arguments(&self, model: Model, index: usize, descriptor: Option<i32>) -> [String; 4] {
        let backend = match (&self.link, descriptor) {
            (Link::User, _) => format!("user,id=n{index},ipv6=off"),
            (Link::Cable(_), Some(fd)) => format!("dgram,id=n{index},local.type=fd,local.str={fd}"),
            (Link::Tap(_), Some(fd)) => format!("tap,id=n{index},fd={fd}"),
            (Link::Queues(name, queues), _) => {
                format!("tap,id=n{index},ifname={name},script=no,downscript=no,queues={queues}")
            }
            (Link::Cable(_) | Link::Tap(_), None) => unreachable!("the caller passes the descriptor it inherited"),
        };
        // Without a boot ROM the firmware does not offer to boot from the network.
        let queues = match self.link {
            // An interrupt for each queue, and two of the card's own.
            Link::Queues(_, queues) => format!(",mq=on,vectors={}", 2 * queues + 2),
            Link::User | Link::Cable(_) | Link::Tap(_) => String::new(),
        };
        let device =
            format!("{},id=nic{index},netdev=n{index},mac={},romfile={queues}", model.device(), self.mac_text());
        ["-netdev".into(), backend, "-device".into(), device]
    }

    /// The arguments that have QEMU write all frames of a card into a file, in pcap's format.
    pub(crate) fn capture(index: usize, folder: &std::path::Path, machine: &str) -> [String; 2] {
        let file = folder.join(format!("{machine}.eth{index}.pcap"));
        ["-object".into(), format!("filter-dump,id=dump{index},netdev=n{index},file={}", file.display())]
    }

    pub(crate) fn descriptor(&self) -> Option<&OwnedFd> {
        match &self.link {
            Link::User | Link::Queues(..) => None,
            Link::Cable(fd) | Link::Tap(fd) => Some(fd),
        }
    }
}

/// A cable between two machines: an Ethernet frame per datagram, nothing in the file system, gone when both ends are.
pub fn cable() -> io::Result<(Link, Link)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok((Link::Cable(one), Link::Cable(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_put_into_a_cable_comes_out_whole() {
        let (Link::Cable(one), Link::Cable(other)) = cable().unwrap() else { panic!("a cable has two ends") };
        rustix::io::write(&one, &[1; 60]).unwrap();
        rustix::io::write(&one, &[2; 1514]).unwrap();
        let mut frame = [0; 2000];
        assert_eq!(rustix::io::read(&other, &mut frame).unwrap(), 60);
        assert_eq!(rustix::io::read(&other, &mut frame).unwrap(), 1514);
    }
}

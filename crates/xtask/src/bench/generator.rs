//! Sends small datagrams of many flows as fast as one core can: ready-made frames, many to a system call, past the
//! client's own IP stack, so that the generator takes less of the processors than those who forward.
use std::fs;
use std::io::IoSlice;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use pnet_datalink::{Channel, Config, DataLinkReceiver, DataLinkSender};
use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, sendmmsg, socket_with,
};
use serde::{Deserialize, Serialize};

/// Source ports.
const SOURCES: u16 = 64;
/// Ports that each of them sends to.
const PORTS: u16 = 16;
/// Flows in all.
pub(super) const FLOWS: usize = SOURCES as usize * PORTS as usize;
/// Payload of each datagram.
pub(super) const PAYLOAD: usize = 64;
/// Frames to a system call.
const BATCH: usize = 64;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
const UDP: usize = 8;

/// Where to, and how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The client's link.
    link: String,
    /// The router's address on that link.
    router: String,
    source: Ipv6Addr,
    target: Ipv6Addr,
    seconds: f64,
}

/// What it prints.
#[derive(Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) packets: u64,
    pub(super) seconds: f64,
}

/// Sends until the time is over.
pub(crate) fn run(options: &Options) -> Result<()> {
    let own = fs::read_to_string(format!("/sys/class/net/{}/address", options.link)).context("the link's address")?;
    let (own, router) = (mac(own.trim())?, mac(&options.router)?);
    let frames: Vec<Vec<u8>> = (0..FLOWS as u16)
        .map(|flow| frame(own, router, options.source, options.target, 20_000 + flow / PORTS, 5_000 + flow % PORTS))
        .collect();
    let slices: Vec<[IoSlice<'_>; 1]> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
    let mut controls: Vec<_> = slices.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<_> =
        slices.iter().zip(&mut controls).map(|(slices, control)| MMsgHdr::new(slices, control)).collect();
    let link = Link::open(&options.link)?;
    let (begin, mut packets) = (Instant::now(), 0);
    let lasts = Duration::from_secs_f64(options.seconds);
    while begin.elapsed() < lasts {
        for batch in messages.chunks_mut(BATCH) {
            // An error is a full queue: the next ones are sent all the same.
            packets += sendmmsg(&link.socket, batch, SendFlags::empty()).unwrap_or(0) as u64;
        }
    }
    let sent = Sent { packets, seconds: begin.elapsed().as_secs_f64() };
    println!("{}", serde_json::to_string(&sent)?);
    Ok(())
}

/// A packet socket, bound to a link by the crate; the crate's own ends keep theirs of the two descriptors open.
struct Link {
    socket: OwnedFd,
    _ends: (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>),
}

impl Link {
    fn open(name: &str) -> Result<Self> {
        let link = pnet_datalink::interfaces().into_iter().find(|link| link.name == name);
        let link = link.with_context(|| format!("no link {name}"))?;
        let bound = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        let socket = bound.try_clone()?;
        let config = Config { promiscuous: false, socket_fd: Some(bound.as_raw_fd()), ..Config::default() };
        let channel = pnet_datalink::channel(&link, config).with_context(|| format!("a packet socket on {name}"))?;
        // The crate closes it from here on.
        let _ = std::os::fd::IntoRawFd::into_raw_fd(bound);
        let Channel::Ethernet(sender, receiver) = channel else { bail!("{name} is no Ethernet link") };
        Ok(Self { socket, _ends: (sender, receiver) })
    }
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let octets: Vec<u8> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16))
        .collect::<Result<_, _>>()
        .context("a MAC address")?;
    octets.try_into().map_err(|_| anyhow::anyhow!("{text} is no MAC address"))
}

fn frame(own: [u8; 6], router: [u8; 6], source: Ipv6Addr, target: Ipv6Addr, from: u16, to: u16) -> Vec<u8> {
    let length = (UDP + PAYLOAD) as u16;
    let mut frame = Vec::with_capacity(ETHERNET + IPV6 + UDP + PAYLOAD);
    frame.extend(router);
    frame.extend(own);
    frame.extend([0x86, 0xdd]);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([17, 64]);
    frame.extend(source.octets());
    frame.extend(target.octets());
    frame.extend([from, to, length].map(u16::to_be_bytes).concat());
    frame.extend([0, 0]);
    frame.extend([0x5a; PAYLOAD]);
    let pseudo = u32::from(length) + 17;
    let sum =
        frame[ETHERNET + 8..].chunks(2).fold(pseudo, |sum, word| sum + u32::from(word[0]) * 256 + u32::from(word[1]));
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    // RFC 8200 section 8.1: zero would say that there is none.
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    frame[ETHERNET + IPV6 + 6..ETHERNET + IPV6 + 8].copy_from_slice(&checksum.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_carries_a_valid_checksum() {
        let [source, target] = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap());
        let frame = frame([2; 6], [4; 6], source, target, 20_063, 5_015);
        assert_eq!(frame.len(), ETHERNET + IPV6 + UDP + PAYLOAD);
        let pseudo = (UDP + PAYLOAD) as u32 + 17;
        let words = frame[ETHERNET + 8..].chunks(2).map(|word| u32::from(word[0]) * 256 + u32::from(word[1]));
        let sum = words.sum::<u32>() + pseudo;
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[test]
    fn an_address_of_a_link_is_read() {
        assert_eq!(mac("02:00:5e:10:00:ff").unwrap(), [2, 0, 0x5e, 0x10, 0, 0xff]);
        assert!(mac("02:00:5e:10:00").is_err());
    }
}

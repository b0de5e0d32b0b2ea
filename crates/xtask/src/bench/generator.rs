//! Sends small datagrams of many flows as fast as one core can: ready-made frames into a TAP device, which is the
//! router's link, so that the generator takes less of the processors than those who forward.
use std::io::Write as _;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tun::Layer;

/// Source ports.
const SOURCES: u16 = 64;
/// Ports that each of them sends to.
const PORTS: u16 = 16;
/// Flows in all.
pub(super) const FLOWS: usize = SOURCES as usize * PORTS as usize;
/// Payload of each datagram.
pub(super) const PAYLOAD: usize = 64;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
const UDP: usize = 8;

/// Where to, and how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The router's TAP device.
    link: String,
    /// Its hardware address.
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
    let router = mac(&options.router)?;
    let frames: Vec<Vec<u8>> = (0..FLOWS as u16)
        .map(|flow| frame(router, options.source, options.target, 20_000 + flow / PORTS, 5_000 + flow % PORTS))
        .collect();
    let mut link = {
        let mut configuration = tun::Configuration::default();
        configuration.tun_name(&options.link).layer(Layer::L2);
        tun::create(&configuration).with_context(|| format!("the TAP device {}", options.link))?
    };
    let (begin, mut packets) = (Instant::now(), 0);
    let lasts = Duration::from_secs_f64(options.seconds);
    while begin.elapsed() < lasts {
        for frame in &frames {
            // An error is a lack of memory: the next ones are sent all the same.
            packets += u64::from(link.write(frame).is_ok());
        }
    }
    let sent = Sent { packets, seconds: begin.elapsed().as_secs_f64() };
    println!("{}", serde_json::to_string(&sent)?);
    Ok(())
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let octets: Vec<u8> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16))
        .collect::<Result<_, _>>()
        .context("a MAC address")?;
    octets.try_into().map_err(|_| anyhow::anyhow!("{text} is no MAC address"))
}

fn frame(router: [u8; 6], source: Ipv6Addr, target: Ipv6Addr, from: u16, to: u16) -> Vec<u8> {
    let length = (UDP + PAYLOAD) as u16;
    let mut frame = Vec::with_capacity(ETHERNET + IPV6 + UDP + PAYLOAD);
    frame.extend(router);
    frame.extend([2, 0, 0, 0, 0, 1]);
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
        let frame = frame([4; 6], source, target, 20_063, 5_015);
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

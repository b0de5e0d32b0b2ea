//! Sends small datagrams of many flows as fast as one core can: ready-made frames into a TAP device, which is the
//! router's link, so that the generator takes less of the processors than those who forward.
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tun::Layer;

/// Source ports; flows have one after the other.
const SOURCES: usize = 10_000;
const FIRST_SOURCE: u16 = 20_000;
/// Source ports there are at all.
const MOST_SOURCES: usize = 40_000;
/// Flows beyond that go to further ports.
pub(super) const FIRST_DESTINATION: u16 = 5_000;
/// Ports that somebody answers on.
pub(super) const DESTINATIONS: u16 = 100;
/// Payload of each datagram.
pub(super) const PAYLOAD: usize = 64;
/// The generator's own hardware address.
pub(super) const GENERATOR_MAC: &str = "02:00:00:00:00:01";
/// Prime, so that each flow has its turn: what lies side by side in a table is not used one after the other.
const STEP: usize = 7_368_787;

const ETHERNET: usize = 14;
const UDP: usize = 8;

/// Where to, and how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The router's TAP device.
    link: String,
    /// Its hardware address.
    router: String,
    source: IpAddr,
    target: IpAddr,
    #[arg(long)]
    flows: usize,
    /// Flows go to so many IPv6 addresses, from the target on, in turn, and to one port.
    #[arg(long)]
    targets: Option<usize>,
    /// Until this is over.
    #[arg(long, default_value_t = 3600.0)]
    seconds: f64,
    /// Until each flow was sent so often, in order.
    #[arg(long)]
    passes: Option<u64>,
    /// Packets a second; else as many as can be.
    #[arg(long)]
    pace: Option<f64>,
}

/// What it prints.
#[derive(Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) packets: u64,
    pub(super) seconds: f64,
}

/// Sends until the time is over.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (router, own) = (mac(&options.router)?, mac(GENERATOR_MAC)?);
    if options.flows > SOURCES * usize::from(DESTINATIONS) {
        bail!("{} flows are too many", options.flows);
    }
    if options.targets.is_some_and(|targets| targets == 0 || options.flows / targets > MOST_SOURCES) {
        bail!("{} flows are too many", options.flows);
    }
    let step = if options.passes.is_some() { 1 } else { STEP };
    let mut frames = Vec::new();
    for turn in 0..options.flows {
        let flow = turn * step % options.flows;
        let (target, ports) = match options.targets {
            None => {
                (options.target, [FIRST_SOURCE + (flow % SOURCES) as u16, FIRST_DESTINATION + (flow / SOURCES) as u16])
            }
            Some(targets) => {
                let ports = [FIRST_SOURCE + (flow / targets) as u16, FIRST_DESTINATION];
                (further(options.target, flow % targets)?, ports)
            }
        };
        frames.push(frame([router, own], options.source, target, ports)?);
    }
    let mut flows = Flows::of(&frames);
    drop(frames);
    let mut link = {
        let mut configuration = tun::Configuration::default();
        configuration.tun_name(&options.link).layer(Layer::L2);
        tun::create(&configuration).with_context(|| format!("the TAP device {}", options.link))?
    };
    let (begin, mut packets, mut passes) = (Instant::now(), 0, 0);
    let lasts = Duration::from_secs_f64(options.seconds);
    while options.passes.is_none_or(|most| passes < most) && begin.elapsed() < lasts {
        // A single flow is not asked for the time after each packet.
        for _ in 0..(512 / options.flows).max(1) {
            for turn in 0..options.flows {
                // An error is a lack of memory: the next ones are sent all the same.
                packets += u64::from(link.write(flows.frame(turn)).is_ok());
                if turn % 32 == 0
                    && let Some(pace) = options.pace
                {
                    let due = Duration::from_secs_f64(packets as f64 / pace);
                    std::thread::sleep(due.saturating_sub(begin.elapsed()));
                }
                if turn % 65_536 == 0 && begin.elapsed() > lasts {
                    break;
                }
            }
        }
        passes += 1;
    }
    let sent = Sent { packets, seconds: begin.elapsed().as_secs_f64() };
    println!("{}", serde_json::to_string(&sent)?);
    Ok(())
}

/// Frames, of which only what differs is kept for each: thousands of whole ones would take the processors' common cache from
/// those who are measured.
struct Flows {
    frame: Vec<u8>,
    /// Which of its bytes are not the same in all.
    places: Vec<usize>,
    /// They, frame by frame.
    bytes: Vec<u8>,
}

impl Flows {
    fn of(frames: &[Vec<u8>]) -> Self {
        let frame = frames.first().cloned().unwrap_or_default();
        let differs = |place: &usize| frames.iter().any(|other| other[*place] != frame[*place]);
        // The payload never does.
        let headers = 0..frame.len().saturating_sub(PAYLOAD);
        let places: Vec<usize> = headers.filter(differs).collect();
        let bytes = frames.iter().flat_map(|other| places.iter().map(|place| other[*place])).collect();
        Self { frame, places, bytes }
    }

    /// That one, until the next is asked for.
    fn frame(&mut self, turn: usize) -> &[u8] {
        let bytes = &self.bytes[turn * self.places.len()..];
        for (place, byte) in self.places.iter().zip(bytes) {
            self.frame[*place] = *byte;
        }
        &self.frame
    }
}

/// That address which comes so many later.
pub(super) fn further(first: IpAddr, later: usize) -> Result<IpAddr> {
    let IpAddr::V6(first) = first else { bail!("{first} is not of IPv6") };
    Ok(IpAddr::V6((first.to_bits() + later as u128).into()))
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let octets: Vec<u8> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16))
        .collect::<Result<_, _>>()
        .context("a MAC address")?;
    octets.try_into().map_err(|_| anyhow::anyhow!("{text} is no MAC address"))
}

fn frame(macs: [[u8; 6]; 2], source: IpAddr, target: IpAddr, ports: [u16; 2]) -> Result<Vec<u8>> {
    let length = (UDP + PAYLOAD) as u16;
    let mut frame = macs.concat();
    let pseudo = match (source, target) {
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([17, 64]);
            [source.octets(), target.octets()].concat()
        }
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((length + 20).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, 17]);
            let pseudo = [source.octets(), target.octets()].concat();
            let sum = checksum(&[&frame[ETHERNET..], &pseudo].concat());
            frame.extend(sum.to_be_bytes());
            pseudo
        }
        _ => bail!("{source} and {target} are of different kinds"),
    };
    frame.extend(&pseudo);
    let upper = [ports[0], ports[1], length].map(u16::to_be_bytes).concat();
    let payload = [0x5a; PAYLOAD];
    let sum = checksum(&[&pseudo[..], &upper, &[0, 17], &length.to_be_bytes(), &payload].concat());
    frame.extend(upper);
    // RFC 8200 section 8.1: zero would say that there is none.
    frame.extend(if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    frame.extend(payload);
    Ok(frame)
}

fn checksum(bytes: &[u8]) -> u16 {
    let sum = bytes.chunks(2).fold(0, |sum: u32, word| sum + u32::from(word[0]) * 256 + u32::from(word[1]));
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_carries_valid_checksums() {
        let addresses = [["2001:db8::1", "2001:db8::2"], ["192.0.2.1", "203.0.113.1"]];
        for ([source, target], header) in addresses.into_iter().zip([40, 20]) {
            let frame = frame([[4; 6], [5; 6]], source.parse().unwrap(), target.parse().unwrap(), [20_063, 5_015]);
            let frame = frame.unwrap();
            assert_eq!(frame.len(), ETHERNET + header + UDP + PAYLOAD);
            let address = if header == 40 { 16 } else { 4 };
            let pseudo = [0, 17, 0, (UDP + PAYLOAD) as u8];
            let upper = &frame[ETHERNET + header - 2 * address..];
            assert_eq!(checksum(&[upper, &pseudo].concat()), 0);
            assert!(header == 40 || checksum(&frame[ETHERNET..ETHERNET + header]) == 0);
        }
    }

    #[test]
    fn each_flow_has_its_own_frame_again() {
        let of = |port| {
            let addresses = ["2001:db8::1", "2001:db8::2"].map(|address| address.parse().unwrap());
            frame([[4; 6], [5; 6]], addresses[0], addresses[1], [port, 5_015]).unwrap()
        };
        let frames: Vec<_> = (20_000..20_600).map(of).collect();
        let mut flows = Flows::of(&frames);
        assert!(flows.places.len() <= 4, "ports and checksum");
        for turn in [0, 599, 1, 300, 300] {
            assert_eq!(flows.frame(turn), frames[turn]);
        }
        let mut one = Flows::of(&frames[7..8]);
        assert_eq!(one.frame(0), frames[7]);
    }

    #[test]
    fn an_address_of_a_link_is_read() {
        assert_eq!(mac("02:00:5e:10:00:ff").unwrap(), [2, 0, 0x5e, 0x10, 0, 0xff]);
        assert!(mac("02:00:5e:10:00").is_err());
    }
}

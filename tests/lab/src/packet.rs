//! Packets as they are on the wire: listening for router advertisements, and sending what no kernel would send.
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pnet::packet::Packet;
use pnet::packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet::packet::icmpv6::ndp::{NdpOption, NdpOptionType, RouterAdvertPacket};
use pnet::packet::icmpv6::{self, Icmpv6Packet, Icmpv6Types};
use pnet::packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet::packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
use pnet::util::MacAddr;
use pnet_datalink::{Channel, Config, DataLinkReceiver, DataLinkSender};

use crate::namespace::Namespace;

/// All-routers, RFC 4861 section 2.3.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// All-nodes, RFC 4861 section 2.3.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A tap on a host's link.
pub struct Tap {
    sender: Box<dyn DataLinkSender>,
    receiver: Box<dyn DataLinkReceiver>,
    mac: MacAddr,
}

impl Tap {
    /// Listens on a link that is up; packets from then on are seen.
    pub fn open(host: &Namespace, link: &str) -> Result<Self> {
        host.inside(|| {
            let interface = pnet_datalink::interfaces().into_iter().find(|interface| interface.name == link);
            let interface = interface.with_context(|| format!("{} has no link {link}", host.name()))?;
            let config = Config { read_timeout: Some(Duration::from_millis(100)), ..Config::default() };
            let mac = interface.mac.context("a link with a hardware address")?;
            match pnet_datalink::channel(&interface, config)? {
                Channel::Ethernet(sender, receiver) => Ok(Self { sender, receiver, mac }),
                _ => bail!("pnet knows another kind of channel"),
            }
        })
    }

    /// Waits for a router advertisement that `fits`.
    pub fn advertisement(
        &mut self,
        what: &str,
        deadline: Duration,
        mut fits: impl FnMut(&Advertisement) -> bool,
    ) -> Result<Advertisement> {
        let start = Instant::now();
        while start.elapsed() < deadline {
            // A timeout is an error to pnet; whether it was too long is decided here.
            let Ok(frame) = self.receiver.next() else { continue };
            if let Some(advertisement) = EthernetPacket::new(frame).and_then(|frame| Advertisement::parse(&frame))
                && fits(&advertisement)
            {
                return Ok(advertisement);
            }
        }
        bail!("no router advertisement within {} s: {what}", deadline.as_secs())
    }

    /// Sends an ICMPv6 message to all routers; its checksum is computed here.
    pub fn send_icmpv6(&mut self, source: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Result<()> {
        self.send_to_group(source, ALL_ROUTERS, hop_limit, message)
    }

    /// Sends a router advertisement that names a NAT64 prefix (RFC 8781) and nothing else; `code` stands for its length.
    pub fn announce_pref64(&mut self, source: Ipv6Addr, prefix: Ipv6Addr, code: u8, lifetime: u16) -> Result<()> {
        let mut message = vec![134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 38, 2];
        message.extend(((lifetime / 8) << 3 | u16::from(code)).to_be_bytes());
        message.extend(&prefix.octets()[..12]);
        self.send_to_group(source, ALL_NODES, 255, &message)
    }

    fn send_to_group(&mut self, source: Ipv6Addr, group: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Result<()> {
        let mut message = message.to_vec();
        if let Some(view) = Icmpv6Packet::new(&message) {
            let checksum = icmpv6::checksum(&view, &source, &group);
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        let [.., a, b, c, d] = group.octets();
        let packet = Ipv6 { source, destination: group, hop_limit, next_header: IpNextHeaderProtocols::Icmpv6 };
        self.send(MacAddr::new(0x33, 0x33, a, b, c, d), packet, &message)
    }

    /// Sends a packet as it is.
    pub fn send(&mut self, to: MacAddr, packet: Ipv6, payload: &[u8]) -> Result<()> {
        const HEADERS: usize = 14 + 40;
        let mut frame = vec![0; HEADERS + payload.len()];
        let mut ethernet = MutableEthernetPacket::new(&mut frame).context("room for a frame")?;
        ethernet.set_source(self.mac);
        ethernet.set_destination(to);
        ethernet.set_ethertype(EtherTypes::Ipv6);
        let mut header = MutableIpv6Packet::new(&mut frame[14..]).context("room for a packet")?;
        header.set_version(6);
        header.set_payload_length(u16::try_from(payload.len())?);
        header.set_next_header(packet.next_header);
        header.set_hop_limit(packet.hop_limit);
        header.set_source(packet.source);
        header.set_destination(packet.destination);
        frame[HEADERS..].copy_from_slice(payload);
        self.sender.send_to(&frame, None).context("the frame was not sent")??;
        Ok(())
    }
}

/// The header of an IPv6 packet to send.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6 {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Hop limit.
    pub hop_limit: u8,
    /// Next header.
    pub next_header: IpNextHeaderProtocol,
}

/// A Prefix Information option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixInformation {
    /// Prefix and its length.
    pub prefix: (Ipv6Addr, u8),
    /// L flag.
    pub on_link: bool,
    /// A flag.
    pub autonomous: bool,
    /// Valid lifetime in seconds.
    pub valid: u32,
    /// Preferred lifetime in seconds.
    pub preferred: u32,
}

/// A router advertisement, decoded independently of the router's own code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Source address.
    pub source: Ipv6Addr,
    /// Hop limit of the packet; 255 or it is not valid.
    pub hop_limit: u8,
    /// Router lifetime in seconds.
    pub router_lifetime: u16,
    /// Prefixes.
    pub prefixes: Vec<PrefixInformation>,
    /// Resolvers and their lifetime (RFC 8106).
    pub rdnss: Vec<(Ipv6Addr, u32)>,
    /// MTU.
    pub mtu: Option<u32>,
    /// Source link-layer address.
    pub source_link_layer: Option<[u8; 6]>,
    /// NAT64 prefix, its length and its lifetime in seconds (RFC 8781).
    pub pref64: Option<(Ipv6Addr, u8, u16)>,
    /// Routes with their length and lifetime in seconds (RFC 4191).
    pub routes: Vec<(Ipv6Addr, u8, u32)>,
    /// Lifetimes in seconds of search domains (RFC 8106) and of encrypted resolvers (RFC 9463).
    pub domains: Vec<u32>,
    /// See `domains`.
    pub encrypted: Vec<u32>,
    /// Captive portals (RFC 8910).
    pub portals: Vec<String>,
    /// The ICMPv6 message as it was.
    pub message: Vec<u8>,
}

impl Advertisement {
    fn parse(frame: &EthernetPacket<'_>) -> Option<Self> {
        if frame.get_ethertype() != EtherTypes::Ipv6 {
            return None;
        }
        let ipv6 = Ipv6Packet::new(frame.payload())?;
        if ipv6.get_next_header() != IpNextHeaderProtocols::Icmpv6 {
            return None;
        }
        let message = ipv6.payload();
        if Icmpv6Packet::new(message)?.get_icmpv6_type() != Icmpv6Types::RouterAdvert {
            return None;
        }
        let advert = RouterAdvertPacket::new(message)?;
        let mut this = Self {
            source: ipv6.get_source(),
            hop_limit: ipv6.get_hop_limit(),
            router_lifetime: advert.get_lifetime(),
            prefixes: Vec::new(),
            rdnss: Vec::new(),
            mtu: None,
            source_link_layer: None,
            pref64: None,
            routes: Vec::new(),
            domains: Vec::new(),
            encrypted: Vec::new(),
            portals: Vec::new(),
            message: message.to_vec(),
        };
        for option in advert.get_options() {
            this.add(&option)?;
        }
        Some(this)
    }

    /// Each option as it was, from its type on.
    pub fn options(&self) -> Vec<&[u8]> {
        let (mut rest, mut options) = (self.message.get(16..).unwrap_or_default(), Vec::new());
        while let Some((option, more)) = rest.get(1).and_then(|units| rest.split_at_checked(usize::from(*units) * 8)) {
            if option.is_empty() {
                break;
            }
            options.push(option);
            rest = more;
        }
        options
    }

    /// Takes in an option; nothing when it is cut short.
    fn add(&mut self, option: &NdpOption) -> Option<()> {
        let data = option.data.as_slice();
        let NdpOptionType(kind) = option.option_type;
        match kind {
            1 => self.source_link_layer = Some(data.get(..6)?.try_into().ok()?),
            3 => self.prefixes.push(PrefixInformation {
                prefix: (address(data.get(14..30)?)?, *data.first()?),
                on_link: data[1] & 0x80 != 0,
                autonomous: data[1] & 0x40 != 0,
                valid: word(data.get(2..6)?)?,
                preferred: word(data.get(6..10)?)?,
            }),
            24 => {
                let mut octets = [0; 16];
                let prefix = data.get(6..)?;
                octets.get_mut(..prefix.len())?.copy_from_slice(prefix);
                self.routes.push((Ipv6Addr::from(octets), *data.first()?, word(data.get(2..6)?)?));
            }
            31 => self.domains.push(word(data.get(2..6)?)?),
            37 => self.portals.push(String::from_utf8_lossy(data).trim_end_matches('\0').to_owned()),
            144 => self.encrypted.push(word(data.get(2..6)?)?),
            5 => self.mtu = Some(word(data.get(2..6)?)?),
            25 => {
                let lifetime = word(data.get(2..6)?)?;
                for resolver in data.get(6..)?.chunks_exact(16) {
                    self.rdnss.push((address(resolver)?, lifetime));
                }
            }
            38 => {
                // RFC 8781 section 4: 13 bits of lifetime in units of 8 s, 3 bits of prefix length code.
                let scaled = u16::from_be_bytes([*data.first()?, *data.get(1)?]);
                let length = *[96, 64, 56, 48, 40, 32].get(usize::from(scaled & 7))?;
                let mut octets = [0; 16];
                octets[..12].copy_from_slice(data.get(2..14)?);
                self.pref64 = Some((Ipv6Addr::from(octets), length, scaled & !7));
            }
            _ => {}
        }
        Some(())
    }
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn address(bytes: &[u8]) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
}

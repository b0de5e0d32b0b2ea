//! The client's messages as packets, and the payload of the server's: no socket of the kernel's is needed, and no rule of
//! the firewall, before there is an address.
use core::net::Ipv4Addr;

use sixgate_wire::checksum::{Sum, pseudo_v4, udp as udp_checksum};
use sixgate_wire::dhcpv4::{CLIENT_PORT, Header, Kind, Reply, SERVER_PORT, Writer, code};
use sixgate_wire::ipv4::{HEADER, Ipv4Packet};
use sixgate_wire::mac::MacAddr;
use sixgate_wire::udp::{self, UdpDatagram};

use super::{Identity, Lease};

pub(super) const BROADCAST: MacAddr = MacAddr([0xff; 6]);

/// What is asked for (RFC 3442: classless routes before the router).
const WANTED: [u8; 8] = [
    code::SUBNET_MASK,
    code::CLASSLESS_ROUTES,
    code::ROUTER,
    code::DOMAIN_NAME_SERVER,
    code::NTP_SERVERS,
    code::LEASE_TIME,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
];
/// RFC 2131 section 2: every client takes messages of this length.
const LONGEST: usize = 576 - HEADER - udp::HEADER;

/// What a client says: RFC 2131 table 5.
pub(super) enum Said<'a> {
    Discover,
    Take { address: Ipv4Addr, server: Ipv4Addr },
    Confirm { address: Ipv4Addr },
    Renew(&'a Lease),
    Rebind(&'a Lease),
    Decline(&'a Lease),
}

/// An IPv4 packet that says it; nothing where a name were too long for it.
pub(super) fn packet(said: &Said<'_>, identity: &Identity, transaction: u32, seconds: u16) -> Option<Vec<u8>> {
    let (kind, client_address) = match said {
        Said::Discover => (Kind::Discover, Ipv4Addr::UNSPECIFIED),
        Said::Take { .. } | Said::Confirm { .. } => (Kind::Request, Ipv4Addr::UNSPECIFIED),
        Said::Renew(lease) | Said::Rebind(lease) => (Kind::Request, lease.address.addr()),
        Said::Decline(_) => (Kind::Decline, Ipv4Addr::UNSPECIFIED),
    };
    let mut buffer = [0; LONGEST];
    let mut writer =
        Writer::new(&mut buffer, kind, &Header { transaction, seconds, client_address, mac: identity.mac })?;
    let [a, b, c, d, e, f] = identity.mac.0;
    writer.option(code::CLIENT_IDENTIFIER, &[1, a, b, c, d, e, f])?;
    match said {
        Said::Discover | Said::Renew(_) | Said::Rebind(_) => {}
        Said::Take { address, server } => {
            writer.option(code::REQUESTED_ADDRESS, &address.octets())?;
            writer.option(code::SERVER_IDENTIFIER, &server.octets())?;
        }
        Said::Confirm { address } => writer.option(code::REQUESTED_ADDRESS, &address.octets())?,
        Said::Decline(lease) => {
            writer.option(code::REQUESTED_ADDRESS, &lease.address.addr().octets())?;
            writer.option(code::SERVER_IDENTIFIER, &lease.server.octets())?;
        }
    }
    if kind != Kind::Decline {
        writer.option(code::PARAMETER_REQUEST_LIST, &WANTED)?;
        writer.option(code::MAXIMUM_MESSAGE_SIZE, &1500u16.to_be_bytes())?;
        writer.option(code::HOST_NAME, identity.hostname.as_bytes())?;
    }
    let destination = match said {
        Said::Renew(lease) => lease.server,
        Said::Discover | Said::Take { .. } | Said::Confirm { .. } | Said::Rebind(_) | Said::Decline(_) => {
            Ipv4Addr::BROADCAST
        }
    };
    Some(wrap(client_address, destination, writer.finish()))
}

fn wrap(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = udp::HEADER + payload.len();
    // A DHCP message is far shorter than 64 KiB.
    let word = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0; HEADER + length];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&word(HEADER + length));
    packet[8] = 64;
    packet[9] = udp::PROTOCOL;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    let checksum = Sum::ZERO.bytes(&packet[..HEADER]).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet[20..22].copy_from_slice(&CLIENT_PORT.to_be_bytes());
    packet[22..24].copy_from_slice(&SERVER_PORT.to_be_bytes());
    packet[24..26].copy_from_slice(&word(length));
    packet[28..].copy_from_slice(payload);
    let pseudo = pseudo_v4(source, destination, udp::PROTOCOL, u32::try_from(length).unwrap_or(u32::MAX));
    let checksum = udp_checksum(pseudo.bytes(&packet[HEADER..]).checksum());
    packet[26..28].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// The payload of a datagram for the client's port. Its checksum is not looked at: what comes from another guest of the same
/// host often has none that is finished.
pub(super) fn datagram(packet: &[u8]) -> Option<&[u8]> {
    let packet = Ipv4Packet::parse(packet).ok()?;
    if packet.is_fragment() || packet.protocol() != udp::PROTOCOL {
        return None;
    }
    let upper = packet.upper();
    let datagram = UdpDatagram::parse(upper)?;
    let length = usize::from(u16::from_be_bytes([*upper.get(4)?, *upper.get(5)?]));
    (datagram.destination_port() == CLIENT_PORT).then(|| upper.get(udp::HEADER..length)).flatten()
}

/// The server identifier, where it can be a server's.
pub(super) fn server(reply: &Reply<'_>) -> Option<Ipv4Addr> {
    match reply.option(code::SERVER_IDENTIFIER, &mut [0; 4]) {
        Some([a, b, c, d]) => Some(Ipv4Addr::new(*a, *b, *c, *d)).filter(|address| super::lease::usable(*address)),
        Some(_) | None => None,
    }
}

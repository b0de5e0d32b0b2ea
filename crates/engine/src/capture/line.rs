//! A captured packet in a line.
use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr};

use super::{ends, network_packet};

const FRAGMENT: u8 = 44;

/// What a packet is, for people: ends, protocol and what it says of itself. What is cut or strange is told as far as it goes.
pub fn line(packet: &[u8], ethernet: bool, length: usize) -> String {
    let told = network_packet(packet, ethernet).and_then(network);
    told.or_else(|| ethernet.then(|| other(packet)).flatten()).unwrap_or_else(|| "cut".to_owned())
        + &format!(", {length} bytes")
}

fn network(ip: &[u8]) -> Option<String> {
    let [from, to] = ends(ip)?;
    let (protocol, payload) = if from.is_ipv6() {
        (*ip.get(6)?, ip.get(40..))
    } else {
        let header = usize::from(ip.first()? & 15) * 4;
        let later = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x1fff != 0;
        (if later { FRAGMENT } else { *ip.get(9)? }, ip.get(header..))
    };
    let payload = payload.unwrap_or_default();
    Some(match protocol {
        6 => ports(from, to, payload).map_or_else(
            || format!("{from} > {to} tcp"),
            |ends| format!("{ends} tcp {}", flags(payload.get(13).copied().unwrap_or_default())),
        ),
        17 => ports(from, to, payload).map_or_else(|| format!("{from} > {to} udp"), |ends| format!("{ends} udp")),
        1 => format!("{from} > {to} icmp {}", icmp(payload)),
        58 => format!("{from} > {to} icmpv6 {}", icmpv6(payload)),
        FRAGMENT => format!("{from} > {to} fragment"),
        other => format!("{from} > {to} protocol {other}"),
    })
}

fn ports(from: IpAddr, to: IpAddr, payload: &[u8]) -> Option<String> {
    let [a, b, c, d] = *payload.first_chunk::<4>()?;
    let (from, to) =
        (SocketAddr::new(from, u16::from_be_bytes([a, b])), SocketAddr::new(to, u16::from_be_bytes([c, d])));
    Some(format!("{from} > {to}"))
}

/// TCP's flags by their first letters.
fn flags(flags: u8) -> String {
    let letters = [(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (16, '.'), (32, 'U')];
    letters.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| letter).collect()
}

fn icmp(message: &[u8]) -> String {
    named(message, |kind| match kind {
        0 => "echo reply",
        3 => "unreachable",
        8 => "echo request",
        11 => "time exceeded",
        _ => "",
    })
}

fn icmpv6(message: &[u8]) -> String {
    named(message, |kind| match kind {
        1 => "unreachable",
        2 => "packet too big",
        3 => "time exceeded",
        4 => "parameter problem",
        128 => "echo request",
        129 => "echo reply",
        133 => "router solicitation",
        134 => "router advertisement",
        135 => "neighbor solicitation",
        136 => "neighbor advertisement",
        137 => "redirect",
        _ => "",
    })
}

fn named(message: &[u8], name: fn(u8) -> &'static str) -> String {
    let Some([kind, code]) = message.first_chunk::<2>() else { return "cut".to_owned() };
    let mut told = match name(*kind) {
        "" => format!("type {kind}"),
        name => name.to_owned(),
    };
    if *code != 0 {
        // Writing to a String cannot fail.
        let _ = write!(told, " code {code}");
    }
    told
}

/// What is neither IPv4 nor IPv6.
fn other(frame: &[u8]) -> Option<String> {
    let kind = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    Some(if kind == 0x0806 { "arp".to_owned() } else { format!("ethertype {kind:04x}") })
}

#[cfg(test)]
mod tests {
    use super::super::tests::frame;
    use super::*;

    #[test]
    fn a_datagram_is_told_by_its_ends() {
        assert_eq!(line(&frame(), true, 62), "[2001:db8::1]:12345 > [2001:db8:0:1::2]:53 udp, 62 bytes");
    }

    #[test]
    fn flags_and_messages_have_names() {
        let mut syn = frame();
        syn[20] = 6;
        syn.extend([0; 5]);
        syn.push(0x12);
        assert!(line(&syn, true, 74).ends_with("tcp S., 74 bytes"), "{}", line(&syn, true, 74));
        assert_eq!(icmpv6(&[134, 0]), "router advertisement");
        assert_eq!(icmp(&[3, 4]), "unreachable code 4");
        assert_eq!(line(&[0xff; 14], true, 14), "ethertype ffff, 14 bytes");
    }

    #[test]
    fn whatever_the_length_it_is_told_as_far_as_it_goes() {
        let frame = frame();
        for length in 0..frame.len() {
            assert!(line(&frame[..length], true, 62).ends_with("62 bytes"));
            assert!(line(&frame[..length], false, 62).ends_with("62 bytes"));
        }
    }
}

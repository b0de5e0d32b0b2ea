//! Packets made and checked the slow way, with code that shares nothing with the translator.
use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// A TCP segment without its checksum.
pub(crate) fn tcp(source: u16, destination: u16, flags: u8, data: &[u8]) -> (u8, Vec<u8>) {
    let mut bytes = vec![0; 20];
    bytes[..2].copy_from_slice(&source.to_be_bytes());
    bytes[2..4].copy_from_slice(&destination.to_be_bytes());
    bytes[12] = 0x50;
    bytes[13] = flags;
    bytes[14] = 0xff;
    bytes.extend(data);
    (6, bytes)
}

/// A UDP datagram without its checksum.
pub(crate) fn udp(source: u16, destination: u16, data: &[u8]) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    for field in [source, destination, 8 + data.len() as u16, 0] {
        bytes.extend(field.to_be_bytes());
    }
    bytes.extend(data);
    (17, bytes)
}

/// An ICMPv6 message without its checksum; `word` is what follows that.
pub(crate) fn icmpv6(kind: u8, code: u8, word: u32, body: &[u8]) -> (u8, Vec<u8>) {
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(word.to_be_bytes());
    bytes.extend(body);
    (58, bytes)
}

/// An ICMPv4 message without its checksum; `word` is what follows that.
pub(crate) fn icmpv4(kind: u8, code: u8, word: u32, body: &[u8]) -> (u8, Vec<u8>) {
    let (_, bytes) = icmpv6(kind, code, word, body);
    (1, bytes)
}

/// An IPv6 packet around an upper layer, with its checksum.
pub(crate) fn v6(source: &str, destination: &str, hop_limit: u8, (protocol, upper): (u8, Vec<u8>)) -> Vec<u8> {
    let (source, destination): (Ipv6Addr, Ipv6Addr) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((upper.len() as u16).to_be_bytes());
    bytes.extend([protocol, hop_limit]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(upper);
    seal(bytes)
}

/// An IPv4 packet around an upper layer, with both checksums.
pub(crate) fn v4(source: &str, destination: &str, ttl: u8, (protocol, upper): (u8, Vec<u8>)) -> Vec<u8> {
    let (source, destination): (Ipv4Addr, Ipv4Addr) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut bytes = vec![0x45, 0];
    bytes.extend((20 + upper.len() as u16).to_be_bytes());
    bytes.extend([0x12, 0x34, 0, 0, ttl, protocol, 0, 0]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(upper);
    seal(bytes)
}

/// The same IPv4 packet with DF.
pub(crate) fn dont_fragment(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] |= 0x40;
    seal(packet)
}

/// A fragment of a whole IPv6 packet: bytes `start..end` of what follows its header.
pub(crate) fn fragment_v6(packet: &[u8], identification: u32, start: usize, end: usize) -> Vec<u8> {
    let upper = &packet[40..];
    let end = end.min(upper.len());
    let mut bytes = packet[..40].to_vec();
    bytes[4..6].copy_from_slice(&((end - start + 8) as u16).to_be_bytes());
    bytes[6] = 44;
    let field = start as u16 | u16::from(end < upper.len());
    bytes.extend([packet[6], 0]);
    bytes.extend(field.to_be_bytes());
    bytes.extend(identification.to_be_bytes());
    bytes.extend(&upper[start..end]);
    bytes
}

/// A fragment of a whole IPv4 packet: bytes `start..end` of what follows its header.
pub(crate) fn fragment_v4(packet: &[u8], start: usize, end: usize) -> Vec<u8> {
    let upper = &packet[20..];
    let end = end.min(upper.len());
    let mut bytes = packet[..20].to_vec();
    bytes[2..4].copy_from_slice(&((end - start + 20) as u16).to_be_bytes());
    let field = (start / 8) as u16 | u16::from(end < upper.len()) << 13;
    bytes[6..8].copy_from_slice(&field.to_be_bytes());
    bytes[10..12].fill(0);
    let checksum = !sum(&bytes);
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes.extend(&upper[start..end]);
    bytes
}

/// Computes the checksums of a packet without extension headers anew.
pub(crate) fn seal(mut packet: Vec<u8>) -> Vec<u8> {
    let (start, protocol) = if packet[0] >> 4 == 6 {
        (40, packet[6])
    } else {
        packet[10..12].fill(0);
        let checksum = !sum(&packet[..20]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        (20, packet[9])
    };
    let at = start
        + match protocol {
            6 => 16,
            17 => 6,
            1 | 58 => 2,
            _ => return packet,
        };
    if packet.len() < at + 2 {
        return packet;
    }
    packet[at..at + 2].fill(0);
    let checksum = match (protocol, !sum(&covered(&packet))) {
        (17, 0) => 0xffff,
        (_, checksum) => checksum,
    };
    packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// Computes the checksum of an IPv4 header anew, and none else.
pub(crate) fn seal_header(mut packet: Vec<u8>) -> Vec<u8> {
    packet[10..12].fill(0);
    let checksum = !sum(&packet[..20]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// Takes the checksum out of a packet of TCP or UDP without extension headers: the field holds the pseudo-header's sum.
pub(crate) fn unsealed(mut packet: Vec<u8>) -> Vec<u8> {
    let (addresses, protocol, start) =
        if packet[0] >> 4 == 6 { (8..40, packet[6], 40) } else { (12..20, packet[9], 20) };
    let at = start + if protocol == 6 { 16 } else { 6 };
    let length = (packet.len() - start) as u32;
    let pseudo = [&packet[addresses], &length.to_be_bytes(), &[0, 0, 0, protocol]].concat();
    packet[at..at + 2].copy_from_slice(&sum(&pseudo).to_be_bytes());
    packet
}

/// Whether length fields and checksums of a whole packet are right.
pub(crate) fn is_intact(packet: &[u8]) -> bool {
    if packet[0] >> 4 == 6 {
        let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        length + 40 == packet.len() && sum(&covered(packet)) == 0xffff
    } else {
        let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        length == packet.len() && sum(&packet[..20]) == 0xffff && sum(&covered(packet)) == 0xffff
    }
}

/// What the upper layer's checksum covers: pseudo-header and upper layer.
fn covered(packet: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (addresses, protocol, upper) = if packet[0] >> 4 == 6 {
        (&packet[8..40], packet[6], &packet[40..])
    } else {
        (&packet[12..20], packet[9], &packet[20..])
    };
    // RFC 792: ICMPv4 has no pseudo-header.
    if protocol != 1 {
        bytes.extend(addresses);
        bytes.extend((upper.len() as u32).to_be_bytes());
        bytes.extend([0, 0, 0, protocol]);
    }
    bytes.extend(upper);
    bytes
}

/// The one's complement sum, word by word.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// Puts fragments together that arrive in order; returns the whole packet as it was.
pub(crate) fn join(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut whole = fragments[0].clone();
    if whole[0] >> 4 == 6 {
        whole[6] = whole[40];
        whole.drain(40..48);
        for fragment in &fragments[1..] {
            let offset = usize::from(u16::from_be_bytes([fragment[42], fragment[43]]) & 0xfff8);
            assert_eq!(whole.len() - 40, offset);
            whole.extend(&fragment[48..]);
        }
        let length = (whole.len() - 40) as u16;
        whole[4..6].copy_from_slice(&length.to_be_bytes());
    } else {
        for fragment in &fragments[1..] {
            let offset = usize::from(u16::from_be_bytes([fragment[6] & 0x1f, fragment[7]])) * 8;
            assert_eq!(whole.len() - 20, offset);
            whole.extend(&fragment[20..]);
        }
        let length = whole.len() as u16;
        whole[2..4].copy_from_slice(&length.to_be_bytes());
        whole[6] &= 0x5f;
        whole[10..12].fill(0);
        let checksum = !sum(&whole[..20]);
        whole[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    whole
}

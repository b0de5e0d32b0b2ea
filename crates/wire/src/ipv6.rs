//! IPv6 packets: RFC 8200 headers and the walk over extension headers.
use core::net::Ipv6Addr;

/// Length of the fixed header.
pub const HEADER: usize = 40;
/// Length of a Fragment header.
pub const FRAGMENT_HEADER: usize = 8;
/// RFC 8200 section 5: what every link carries.
pub const MINIMUM_MTU: u32 = 1280;
/// Next Header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next Header: routing.
pub const ROUTING: u8 = 43;
/// Next Header: fragment.
pub const FRAGMENT: u8 = 44;
/// Next Header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;
/// Next Header: authentication.
const AUTHENTICATION: u8 = 51;
/// RFC 8504 section 5.3 lets a node limit extension headers; real packets have one or two.
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// Whether a Next Header value names an extension header, Authentication among them; ESP has no Next Header in the
/// clear and counts as an upper layer.
pub const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS | AUTHENTICATION)
}

/// Why bytes are not an IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6Error {
    /// Shorter than its headers or than the Payload Length says.
    Truncated,
    /// The version is not 6.
    Version,
    /// More than [`MAX_EXTENSION_HEADERS`].
    ExtensionHeaders,
}

/// The Fragment header of a packet (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// What the fragmentable part begins with.
    pub next_header: u8,
    /// Offset in bytes, a multiple of 8.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
    /// Identification.
    pub identification: u32,
    /// This packet's share of the fragmentable part.
    pub part: &'a [u8],
}

/// A packet whose headers were checked.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Packet<'a> {
    header: &'a [u8; HEADER],
    fragment: Option<Fragment<'a>>,
    segments_left: Option<u32>,
    protocol: u8,
    upper: &'a [u8],
    upper_length: usize,
}

impl<'a> Ipv6Packet<'a> {
    /// Checks a whole packet. Bytes beyond the Payload Length are left out.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Ipv6Error> {
        let packet = Self::walk(bytes)?;
        if packet.upper.len() < packet.upper_length { Err(Ipv6Error::Truncated) } else { Ok(packet) }
    }

    /// Checks the headers of a packet that an ICMPv6 error quotes; its end may be missing.
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self, Ipv6Error> {
        Self::walk(bytes)
    }

    fn walk(bytes: &'a [u8]) -> Result<Self, Ipv6Error> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(Ipv6Error::Truncated)?;
        if header[0] >> 4 != 6 {
            return Err(Ipv6Error::Version);
        }
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut packet = Self {
            header,
            fragment: None,
            segments_left: None,
            protocol: header[6],
            upper: &rest[..rest.len().min(length)],
            upper_length: length,
        };
        for _ in 0..=MAX_EXTENSION_HEADERS {
            // RFC 8200 section 4.5: what follows a fragment other than the first is not a header.
            if packet.fragment.is_some_and(|fragment| fragment.offset != 0) {
                return Ok(packet);
            }
            if !matches!(packet.protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
                return Ok(packet);
            }
            packet.step()?;
        }
        Err(Ipv6Error::ExtensionHeaders)
    }

    /// Steps over one extension header.
    fn step(&mut self) -> Result<(), Ipv6Error> {
        let (start, _) = self.upper.split_first_chunk::<8>().ok_or(Ipv6Error::Truncated)?;
        let &[next_header, length, c, d, e, f, g, h] = start;
        // RFC 8200 section 4.5: the Fragment header has a reserved byte where others have their length.
        let length = if self.protocol == FRAGMENT { FRAGMENT_HEADER } else { (usize::from(length) + 1) * 8 };
        let rest = self.upper.get(length..).ok_or(Ipv6Error::Truncated)?;
        if self.protocol == ROUTING && d != 0 {
            let walked = usize::from(self.payload_length()) - self.upper_length;
            self.segments_left.get_or_insert((HEADER + walked + 3) as u32);
        }
        if self.protocol == FRAGMENT {
            let field = u16::from_be_bytes([c, d]);
            self.fragment = Some(Fragment {
                next_header,
                offset: field & 0xfff8,
                more: field & 1 != 0,
                identification: u32::from_be_bytes([e, f, g, h]),
                part: rest,
            });
        }
        self.protocol = next_header;
        self.upper = rest;
        // The length may lie in a quoted packet whose end is missing, but never below what is there.
        self.upper_length -= length;
        Ok(())
    }

    /// Traffic Class.
    pub const fn traffic_class(&self) -> u8 {
        self.header[0] << 4 | self.header[1] >> 4
    }

    /// Payload Length as the header says.
    pub const fn payload_length(&self) -> u16 {
        u16::from_be_bytes([self.header[4], self.header[5]])
    }

    /// Hop Limit.
    pub const fn hop_limit(&self) -> u8 {
        self.header[7]
    }

    /// Source Address.
    pub fn source(&self) -> Ipv6Addr {
        let [_, _, _, _, _, _, _, _, source @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *self.header;
        Ipv6Addr::from(source)
    }

    /// Destination Address.
    pub fn destination(&self) -> Ipv6Addr {
        let [.., a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *self.header;
        Ipv6Addr::from([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// The fixed header's bytes.
    pub const fn header(&self) -> &'a [u8; HEADER] {
        self.header
    }

    /// The Fragment header, if there is one.
    pub const fn fragment(&self) -> Option<Fragment<'a>> {
        self.fragment
    }

    /// Where in the packet a Routing header's Segments Left field lies that is not zero.
    pub const fn segments_left(&self) -> Option<u32> {
        self.segments_left
    }

    /// The upper-layer protocol, after the extension headers. In a fragment other than the first it is what the
    /// Fragment header names.
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The upper layer's bytes.
    pub const fn upper(&self) -> &'a [u8] {
        self.upper
    }

    /// Length of the upper layer as the headers say; more than the bytes that are there in a quoted packet.
    pub const fn upper_length(&self) -> usize {
        self.upper_length
    }
}

/// The values of a fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Header {
    /// Traffic Class.
    pub traffic_class: u8,
    /// Payload Length.
    pub payload_length: u16,
    /// Next Header.
    pub next_header: u8,
    /// Hop Limit.
    pub hop_limit: u8,
    /// Source Address.
    pub source: Ipv6Addr,
    /// Destination Address.
    pub destination: Ipv6Addr,
}

impl Ipv6Header {
    /// The header's bytes; the Flow Label is zero.
    pub fn emit(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = 0x60 | self.traffic_class >> 4;
        bytes[1] = self.traffic_class << 4;
        bytes[4..6].copy_from_slice(&self.payload_length.to_be_bytes());
        bytes[6] = self.next_header;
        bytes[7] = self.hop_limit;
        bytes[8..24].copy_from_slice(&self.source.octets());
        bytes[24..].copy_from_slice(&self.destination.octets());
        bytes
    }
}

/// The bytes of a Fragment header; `offset` in bytes, a multiple of 8.
pub fn emit_fragment(next_header: u8, offset: u16, more: bool, identification: u32) -> [u8; FRAGMENT_HEADER] {
    let [c, d] = (offset & 0xfff8 | u16::from(more)).to_be_bytes();
    let [e, f, g, h] = identification.to_be_bytes();
    [next_header, 0, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    fn packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let header = Ipv6Header {
            traffic_class: 0xb8,
            payload_length: payload.len() as u16,
            next_header,
            hop_limit: 64,
            source: "2001:db8::1".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
        };
        [&header.emit()[..], payload].concat()
    }

    #[test]
    fn header_goes_both_ways() {
        let bytes = packet(17, &[1, 2, 3, 4]);
        let view = Ipv6Packet::parse(&bytes).unwrap();
        assert_eq!((view.traffic_class(), view.payload_length(), view.hop_limit()), (0xb8, 4, 64));
        assert_eq!(view.source(), "2001:db8::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(view.destination(), "2001:db8::2".parse::<Ipv6Addr>().unwrap());
        assert_eq!((view.protocol(), view.upper(), view.upper_length()), (17, &[1, 2, 3, 4][..], 4));
    }

    #[test]
    fn extension_headers_are_walked_to_the_upper_layer() {
        let chain = [
            &[60, 0, 1, 4, 0, 0, 0, 0][..], // hop-by-hop: destination options next
            &[43, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], // 16 bytes: routing next
            &[44, 0, 0, 0, 0, 0, 0, 0],     // no segments left: fragment next
            &[17, 0, 0, 1, 0, 0, 0x12, 0x34], // first fragment: UDP next
            &[9, 9],
        ]
        .concat();
        let bytes = packet(HOP_BY_HOP, &chain);
        let view = Ipv6Packet::parse(&bytes).unwrap();
        assert_eq!((view.protocol(), view.upper(), view.upper_length()), (17, &[9, 9][..], 2));
        let fragment = view.fragment().unwrap();
        assert_eq!((fragment.offset, fragment.more, fragment.identification), (0, true, 0x1234));
        assert_eq!(view.segments_left(), None);
    }

    #[test]
    fn segments_left_are_pointed_at() {
        let bytes = packet(DESTINATION_OPTIONS, &[43, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(Ipv6Packet::parse(&bytes).unwrap().segments_left(), Some(40 + 8 + 3));
    }

    #[test]
    fn later_fragments_end_the_walk() {
        let bytes = packet(FRAGMENT, &[60, 0, 0, 8, 0, 0, 0, 1, 255, 255]);
        let view = Ipv6Packet::parse(&bytes).unwrap();
        assert_eq!((view.protocol(), view.upper()), (60, &[255, 255][..]));
        assert_eq!(view.fragment().unwrap().offset, 8);
    }

    #[test]
    fn damaged_packets_are_refused() {
        let good = packet(17, &[0; 8]);
        assert_eq!(Ipv6Packet::parse(&good[..47]).unwrap_err(), Ipv6Error::Truncated);
        assert_eq!(Ipv6Packet::parse(&good[..39]).unwrap_err(), Ipv6Error::Truncated);
        assert_eq!(Ipv6Packet::parse(&packet(FRAGMENT, &[0; 7])).unwrap_err(), Ipv6Error::Truncated);
        assert_eq!(
            Ipv6Packet::parse(&packet(HOP_BY_HOP, &[17, 1, 0, 0, 0, 0, 0, 0])).unwrap_err(),
            Ipv6Error::Truncated
        );
        assert_eq!(Ipv6Packet::parse(&packet(HOP_BY_HOP, &[0; 80])).unwrap_err(), Ipv6Error::ExtensionHeaders);
        let mut other = good;
        other[0] = 0x45;
        assert_eq!(Ipv6Packet::parse(&other).unwrap_err(), Ipv6Error::Version);
    }

    #[test]
    fn a_quoted_packet_may_lack_its_end() {
        let bytes = packet(17, &[7; 100]);
        let view = Ipv6Packet::parse_quoted(&bytes[..48]).unwrap();
        assert_eq!((view.upper(), view.upper_length()), (&[7; 8][..], 100));
    }
}

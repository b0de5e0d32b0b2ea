//! IPv4 packets: RFC 791 headers, options only as far as a router must look at them.
use core::net::Ipv4Addr;

use crate::checksum::Sum;

/// Length of the header without options.
pub const HEADER: usize = 20;
/// RFC 791 section 3.1: what every host accepts, and the most an ICMPv4 error occupies (RFC 1812 section 4.3.2.3).
pub const MINIMUM_REASSEMBLY: usize = 576;

/// Protocol number of IGMP.
pub const IGMP: u8 = 2;

/// Why bytes are not an IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv4Error {
    /// Shorter than its header or than the Total Length says.
    Truncated,
    /// The version is not 4.
    Version,
    /// The header length is below 20 or above the Total Length.
    HeaderLength,
    /// The header checksum does not match.
    Checksum,
}

/// A packet whose header was checked.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Packet<'a> {
    header: &'a [u8; HEADER],
    options: &'a [u8],
    upper: &'a [u8],
    upper_length: usize,
}

impl<'a> Ipv4Packet<'a> {
    /// Checks a whole packet, header checksum included. Bytes beyond the Total Length are left out.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Ipv4Error> {
        let packet = Self::parse_quoted(bytes)?;
        if packet.upper.len() < packet.upper_length {
            return Err(Ipv4Error::Truncated);
        }
        if !Sum::ZERO.bytes(packet.header).bytes(packet.options).is_valid() {
            return Err(Ipv4Error::Checksum);
        }
        Ok(packet)
    }

    /// Checks the header of a packet that an ICMPv4 error quotes: its end may be missing, and routers on the way may
    /// have left a stale checksum.
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self, Ipv4Error> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(Ipv4Error::Truncated)?;
        if header[0] >> 4 != 4 {
            return Err(Ipv4Error::Version);
        }
        let header_length = usize::from(header[0] & 15) * 4;
        let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_length < HEADER || total_length < header_length {
            return Err(Ipv4Error::HeaderLength);
        }
        let (options, upper) = rest.split_at_checked(header_length - HEADER).ok_or(Ipv4Error::Truncated)?;
        let upper_length = total_length - header_length;
        Ok(Self { header, options, upper: &upper[..upper.len().min(upper_length)], upper_length })
    }

    /// Type of Service.
    pub const fn tos(&self) -> u8 {
        self.header[1]
    }

    /// Total Length as the header says.
    pub const fn total_length(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// Identification.
    pub const fn identification(&self) -> u16 {
        u16::from_be_bytes([self.header[4], self.header[5]])
    }

    /// The DF flag.
    pub const fn dont_fragment(&self) -> bool {
        self.header[6] & 0x40 != 0
    }

    /// The MF flag.
    pub const fn more_fragments(&self) -> bool {
        self.header[6] & 0x20 != 0
    }

    /// Fragment Offset in bytes.
    pub const fn fragment_offset(&self) -> u32 {
        ((self.header[6] as u32 & 0x1f) << 8 | self.header[7] as u32) * 8
    }

    /// Whether this is a fragment of something larger.
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments() || self.fragment_offset() != 0
    }

    /// Time to Live.
    pub const fn ttl(&self) -> u8 {
        self.header[8]
    }

    /// Protocol.
    pub const fn protocol(&self) -> u8 {
        self.header[9]
    }

    /// Source Address.
    pub const fn source(&self) -> Ipv4Addr {
        let [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d, ..] = *self.header;
        Ipv4Addr::new(a, b, c, d)
    }

    /// Destination Address.
    pub const fn destination(&self) -> Ipv4Addr {
        let [.., a, b, c, d] = *self.header;
        Ipv4Addr::new(a, b, c, d)
    }

    /// The header's first 20 bytes.
    pub const fn header(&self) -> &'a [u8; HEADER] {
        self.header
    }

    /// The upper layer's bytes.
    pub const fn upper(&self) -> &'a [u8] {
        self.upper
    }

    /// Length of the upper layer as the header says; more than the bytes that are there in a quoted packet.
    pub const fn upper_length(&self) -> usize {
        self.upper_length
    }

    /// Whether there is a Loose or Strict Source Route option (RFC 791 section 3.1) that is not used up.
    pub fn has_source_route(&self) -> bool {
        let mut options = self.options;
        while let Some((&kind, rest)) = options.split_first() {
            match (kind, rest) {
                (0, _) => return false,
                (1, _) => options = rest,
                (131 | 137, [length, pointer, ..]) if pointer <= length => return true,
                (_, [length, ..]) if *length >= 2 => options = options.get(usize::from(*length)..).unwrap_or_default(),
                (_, _) => return false,
            }
        }
        false
    }
}

/// The values of a header without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Type of Service.
    pub tos: u8,
    /// Total Length.
    pub total_length: u16,
    /// Identification.
    pub identification: u16,
    /// The DF flag.
    pub dont_fragment: bool,
    /// The MF flag.
    pub more_fragments: bool,
    /// Fragment Offset in bytes, a multiple of 8.
    pub fragment_offset: u16,
    /// Time to Live.
    pub ttl: u8,
    /// Protocol.
    pub protocol: u8,
    /// Source Address.
    pub source: Ipv4Addr,
    /// Destination Address.
    pub destination: Ipv4Addr,
}

impl Ipv4Header {
    /// The header's bytes, checksum included.
    pub fn emit(&self) -> [u8; HEADER] {
        let [tl0, tl1] = self.total_length.to_be_bytes();
        let [id0, id1] = self.identification.to_be_bytes();
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13;
        let [fo0, fo1] = (flags | (self.fragment_offset / 8)).to_be_bytes();
        let [s0, s1, s2, s3] = self.source.octets();
        let [d0, d1, d2, d3] = self.destination.octets();
        let mut bytes = [
            0x45,
            self.tos,
            tl0,
            tl1,
            id0,
            id1,
            fo0,
            fo1,
            self.ttl,
            self.protocol,
            0,
            0,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ];
        [bytes[10], bytes[11]] = Sum::ZERO.bytes(&bytes).checksum().to_be_bytes();
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    const HEADER_OF_28: Ipv4Header = Ipv4Header {
        tos: 0x10,
        total_length: 28,
        identification: 0xabcd,
        dont_fragment: true,
        more_fragments: true,
        fragment_offset: 1480,
        ttl: 63,
        protocol: 17,
        source: Ipv4Addr::new(192, 0, 2, 1),
        destination: Ipv4Addr::new(198, 51, 100, 2),
    };

    fn with_options(options: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::from(HEADER_OF_28.emit());
        bytes[0] += (options.len() / 4) as u8;
        bytes.extend(options);
        let length = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes[10..12].fill(0);
        let checksum = Sum::ZERO.bytes(&bytes).checksum();
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    #[test]
    fn header_goes_both_ways() {
        let bytes = [&HEADER_OF_28.emit()[..], &[1, 2, 3, 4, 5, 6, 7, 8], &[0xee; 6]].concat();
        let view = Ipv4Packet::parse(&bytes).unwrap();
        assert_eq!((view.tos(), view.total_length(), view.identification()), (0x10, 28, 0xabcd));
        assert!(view.dont_fragment() && view.more_fragments() && view.is_fragment());
        assert_eq!((view.fragment_offset(), view.ttl(), view.protocol()), (1480, 63, 17));
        assert_eq!((view.source(), view.destination()), (HEADER_OF_28.source, HEADER_OF_28.destination));
        assert_eq!(view.upper(), [1, 2, 3, 4, 5, 6, 7, 8], "padding of the link is left out");
    }

    #[test]
    fn damaged_packets_are_refused() {
        let good = [&HEADER_OF_28.emit()[..], &[0; 8]].concat();
        let damage = |index: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[index] = value;
            Ipv4Packet::parse(&bytes).unwrap_err()
        };
        assert_eq!(Ipv4Packet::parse(&good[..19]).unwrap_err(), Ipv4Error::Truncated);
        assert_eq!(Ipv4Packet::parse(&good[..27]).unwrap_err(), Ipv4Error::Truncated);
        assert_eq!(damage(0, 0x65), Ipv4Error::Version);
        assert_eq!(damage(0, 0x44), Ipv4Error::HeaderLength);
        assert_eq!(damage(0, 0x4f), Ipv4Error::HeaderLength);
        assert_eq!(damage(8, 62), Ipv4Error::Checksum);
    }

    #[test]
    fn source_routes_are_seen_until_they_are_used_up() {
        let route = |options: &[u8]| Ipv4Packet::parse(&with_options(options)).unwrap().has_source_route();
        assert!(route(&[1, 131, 7, 4, 192, 0, 2, 9]));
        assert!(route(&[137, 7, 4, 192, 0, 2, 9, 0]));
        assert!(!route(&[131, 7, 8, 192, 0, 2, 9, 0]));
        assert!(!route(&[7, 7, 4, 0, 0, 0, 0, 0]));
        assert!(!route(&[0, 131, 7, 4]));
        assert!(!route(&[68, 0, 131, 7]));
        assert!(!route(&[1, 1, 1, 131]));
    }
}

//! The header in front of each packet of a TUN device: `struct virtio_net_hdr` (virtio 1.2 section 5.1.6), as long as it
//! is without the fields that TUN leaves out by default.
//!
//! It says what the sender left to the network card: a checksum of which only the pseudo-header's sum is there, and the
//! cutting of a super-packet into segments. Its fields are in the machine's byte order.

/// Length of the header.
pub const HEADER: usize = 10;

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What is left to do to a packet; the default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The checksum that is not computed yet.
    pub checksum: Option<PartialChecksum>,
    /// How the packet is to be cut.
    pub segmentation: Option<Segmentation>,
}

/// A checksum over everything from `start` on, whose field holds the sum of the pseudo-header so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Where checksumming starts, from the beginning of the packet.
    pub start: u16,
    /// Where the field lies, from there.
    pub offset: u16,
}

/// A super-packet: segments of one flow behind one header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// Of which kind the segments are.
    pub kind: SegmentationKind,
    /// Bytes of payload in each segment but the last; not zero.
    pub size: u16,
    /// Length of the headers, those of the upper layer included: a hint.
    pub header_length: u16,
    /// RFC 3168: CWR is set, and belongs to the first segment alone.
    pub ecn: bool,
}

/// Kinds of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentationKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams over either.
    Udp,
}

/// The header asks for something that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownOffload;

impl Offload {
    /// Nothing.
    pub const NONE: Self = Self { checksum: None, segmentation: None };

    /// What a header says.
    ///
    /// # Errors
    /// Another kind of segmentation, or segments of size zero.
    pub fn parse(header: &[u8; HEADER]) -> Result<Self, UnknownOffload> {
        let [flags, kind, a, b, c, d, e, f, g, h] = *header;
        let word = |a, b| u16::from_ne_bytes([a, b]);
        let (header_length, size, start, offset) = (word(a, b), word(c, d), word(e, f), word(g, h));
        let ecn = kind & GSO_ECN != 0;
        let segmentation = match kind & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCPV4 => Some(SegmentationKind::TcpV4),
            GSO_TCPV6 => Some(SegmentationKind::TcpV6),
            GSO_UDP_L4 => Some(SegmentationKind::Udp),
            _ => return Err(UnknownOffload),
        };
        if segmentation.is_some() && size == 0 {
            return Err(UnknownOffload);
        }
        Ok(Self {
            checksum: (flags & NEEDS_CSUM != 0).then_some(PartialChecksum { start, offset }),
            segmentation: segmentation.map(|kind| Segmentation { kind, size, header_length, ecn }),
        })
    }

    /// The header's bytes.
    pub fn emit(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        if let Some(checksum) = self.checksum {
            bytes[0] = NEEDS_CSUM;
            bytes[6..8].copy_from_slice(&checksum.start.to_ne_bytes());
            bytes[8..10].copy_from_slice(&checksum.offset.to_ne_bytes());
        }
        if let Some(segmentation) = self.segmentation {
            let kind = match segmentation.kind {
                SegmentationKind::TcpV4 => GSO_TCPV4,
                SegmentationKind::TcpV6 => GSO_TCPV6,
                SegmentationKind::Udp => GSO_UDP_L4,
            };
            bytes[1] = if segmentation.ecn { kind | GSO_ECN } else { kind };
            bytes[2..4].copy_from_slice(&segmentation.header_length.to_ne_bytes());
            bytes[4..6].copy_from_slice(&segmentation.size.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_super_packet_of_the_kernel_is_read() {
        let mut header = [1, 0x84, 0, 0, 0, 0, 0, 0, 0, 0];
        for (at, word) in [(2, 72u16), (4, 1428), (6, 40), (8, 16)] {
            header[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        }
        let offload = Offload::parse(&header).unwrap();
        assert_eq!(offload.checksum, Some(PartialChecksum { start: 40, offset: 16 }));
        let expected = Segmentation { kind: SegmentationKind::TcpV6, size: 1428, header_length: 72, ecn: true };
        assert_eq!(offload.segmentation, Some(expected));
        assert_eq!(offload.emit(), header);
    }

    #[test]
    fn nothing_left_to_do_is_all_zeros_and_a_checked_checksum_is_nothing_to_do() {
        assert_eq!(Offload::NONE.emit(), [0; HEADER]);
        assert_eq!(Offload::parse(&[2, 0, 40, 0, 0, 0, 0, 0, 0, 0]), Ok(Offload::NONE), "DATA_VALID");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert_eq!(Offload::parse(&[0, 3, 0, 0, 1, 1, 0, 0, 0, 0]), Err(UnknownOffload), "UDP fragmentation");
        assert_eq!(Offload::parse(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Err(UnknownOffload), "segments of size zero");
    }

    proptest! {
        #[test]
        fn what_was_parsed_is_emitted_and_parsed_again(header: [u8; HEADER]) {
            if let Ok(offload) = Offload::parse(&header) {
                prop_assert_eq!(Offload::parse(&offload.emit()), Ok(offload));
            }
        }
    }
}

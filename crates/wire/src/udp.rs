//! UDP datagrams: RFC 768.

/// Protocol number.
pub const PROTOCOL: u8 = 17;
/// Length of the header.
pub const HEADER: usize = 8;
/// Where the checksum lies.
pub const CHECKSUM: usize = 6;

/// A datagram whose header was checked.
#[derive(Clone, Copy, Debug)]
pub struct UdpDatagram<'a> {
    header: &'a [u8; HEADER],
}

impl<'a> UdpDatagram<'a> {
    /// Checks that the header is there and that its length fits into the bytes.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, _) = bytes.split_first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        (length >= HEADER && length <= bytes.len()).then_some(Self { header })
    }

    /// Source Port.
    pub const fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.header[0], self.header[1]])
    }

    /// Destination Port.
    pub const fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// Checksum; zero says that there is none.
    pub const fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.header[6], self.header[7]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields_are_read() {
        let datagram = UdpDatagram::parse(&[0x30, 0x39, 0, 53, 0, 9, 0x12, 0x34, 7]).unwrap();
        assert_eq!((datagram.source_port(), datagram.destination_port(), datagram.checksum()), (12345, 53, 0x1234));
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        assert!(UdpDatagram::parse(&[0, 1, 0, 2, 0, 8, 0]).is_none());
        assert!(UdpDatagram::parse(&[0, 1, 0, 2, 0, 9, 0, 0]).is_none());
        assert!(UdpDatagram::parse(&[0, 1, 0, 2, 0, 7, 0, 0]).is_none());
    }
}

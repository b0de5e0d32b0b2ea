//! TCP segments: RFC 9293 section 3.1, as far as a translator looks at them.

/// Protocol number.
pub const PROTOCOL: u8 = 6;
/// Length of the header without options.
pub const HEADER: usize = 20;
/// Where the checksum lies.
pub const CHECKSUM: usize = 16;

/// A segment whose header was checked.
#[derive(Clone, Copy, Debug)]
pub struct TcpSegment<'a> {
    header: &'a [u8; HEADER],
}

impl<'a> TcpSegment<'a> {
    /// Checks that the header with its options is there.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, _) = bytes.split_first_chunk::<HEADER>()?;
        let offset = usize::from(header[12] >> 4) * 4;
        (offset >= HEADER && offset <= bytes.len()).then_some(Self { header })
    }

    /// Source Port.
    pub const fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.header[0], self.header[1]])
    }

    /// Destination Port.
    pub const fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// FIN flag.
    pub const fn fin(&self) -> bool {
        self.header[13] & 0x01 != 0
    }

    /// SYN flag.
    pub const fn syn(&self) -> bool {
        self.header[13] & 0x02 != 0
    }

    /// RST flag.
    pub const fn rst(&self) -> bool {
        self.header[13] & 0x04 != 0
    }

    /// ACK flag.
    pub const fn ack(&self) -> bool {
        self.header[13] & 0x10 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields_are_read() {
        let bytes = [0x30, 0x39, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x12, 0, 0, 0, 0, 0, 0];
        let segment = TcpSegment::parse(&bytes).unwrap();
        assert_eq!((segment.source_port(), segment.destination_port()), (12345, 80));
        assert!(segment.syn() && segment.ack() && !segment.fin() && !segment.rst());
    }

    #[test]
    fn short_headers_are_refused() {
        let mut bytes = [0; 20];
        assert!(TcpSegment::parse(&bytes).is_none(), "a data offset of zero");
        bytes[12] = 0x60;
        assert!(TcpSegment::parse(&bytes).is_none(), "options that are not there");
        bytes[12] = 0x50;
        assert!(TcpSegment::parse(&bytes).is_some());
        assert!(TcpSegment::parse(&bytes[..19]).is_none());
    }
}

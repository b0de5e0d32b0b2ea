//! ICMPv6 messages: RFC 4443, with the extensions of RFC 4884.

/// Protocol number.
pub const PROTOCOL: u8 = 58;
/// Length of the header: type, code, checksum and four bytes that depend on the type.
pub const HEADER: usize = 8;
/// Where the checksum lies.
pub const CHECKSUM: usize = 2;

/// Type: Destination Unreachable.
pub const DESTINATION_UNREACHABLE: u8 = 1;
/// Type: Packet Too Big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Type: Time Exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Type: Parameter Problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Type: Echo Request.
pub const ECHO_REQUEST: u8 = 128;
/// Type: Echo Reply.
pub const ECHO_REPLY: u8 = 129;

/// Destination Unreachable code: no route.
pub const NO_ROUTE: u8 = 0;
/// Destination Unreachable code: administratively prohibited.
pub const PROHIBITED: u8 = 1;
/// Destination Unreachable code: beyond scope of the source address.
pub const BEYOND_SCOPE: u8 = 2;
/// Destination Unreachable code: address unreachable.
pub const ADDRESS_UNREACHABLE: u8 = 3;
/// Destination Unreachable code: port unreachable.
pub const PORT_UNREACHABLE: u8 = 4;
/// Parameter Problem code: erroneous header field.
pub const ERRONEOUS_FIELD: u8 = 0;
/// Parameter Problem code: unrecognized Next Header.
pub const UNRECOGNIZED_NEXT_HEADER: u8 = 1;

/// A message of at least eight bytes.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv6Message<'a> {
    header: &'a [u8; HEADER],
    body: &'a [u8],
}

impl<'a> Icmpv6Message<'a> {
    /// Checks that the header is there; not the checksum, which covers what may be missing in a quoted packet.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, body) = bytes.split_first_chunk::<HEADER>()?;
        Some(Self { header, body })
    }

    /// Type.
    pub const fn kind(&self) -> u8 {
        self.header[0]
    }

    /// Code.
    pub const fn code(&self) -> u8 {
        self.header[1]
    }

    /// Identifier of an echo.
    pub const fn identifier(&self) -> u16 {
        u16::from_be_bytes([self.header[4], self.header[5]])
    }

    /// MTU of a Packet Too Big, pointer of a Parameter Problem.
    pub const fn word(&self) -> u32 {
        u32::from_be_bytes([self.header[4], self.header[5], self.header[6], self.header[7]])
    }

    /// What follows the header.
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// RFC 4884 section 4.2: the length in bytes of the quoted packet when extensions follow it.
    pub fn quoted_length(&self) -> Option<usize> {
        (self.header[4] != 0).then_some(usize::from(self.header[4]) * 8)
    }

    /// Whether it is an echo or its reply.
    pub const fn is_query(&self) -> bool {
        matches!(self.kind(), ECHO_REQUEST | ECHO_REPLY)
    }

    /// RFC 4443 section 2.1: whether it is an error.
    pub const fn is_error(&self) -> bool {
        self.kind() < 128
    }
}

//! ICMPv4 messages: RFC 792, with the codes of RFC 1122, 1812 and the extensions of RFC 4884.

/// Protocol number.
pub const PROTOCOL: u8 = 1;
/// Length of the header: type, code, checksum and four bytes that depend on the type.
pub const HEADER: usize = 8;
/// Where the checksum lies.
pub const CHECKSUM: usize = 2;

/// Type: Echo Reply.
pub const ECHO_REPLY: u8 = 0;
/// Type: Destination Unreachable.
pub const DESTINATION_UNREACHABLE: u8 = 3;
/// Type: Echo.
pub const ECHO: u8 = 8;
/// Type: Time Exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Type: Parameter Problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Destination Unreachable code: net.
pub const NET_UNREACHABLE: u8 = 0;
/// Destination Unreachable code: host.
pub const HOST_UNREACHABLE: u8 = 1;
/// Destination Unreachable code: protocol.
pub const PROTOCOL_UNREACHABLE: u8 = 2;
/// Destination Unreachable code: port.
pub const PORT_UNREACHABLE: u8 = 3;
/// Destination Unreachable code: fragmentation needed and DF set.
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Destination Unreachable code: source route failed.
pub const SOURCE_ROUTE_FAILED: u8 = 5;
/// Destination Unreachable code: host administratively prohibited.
pub const HOST_PROHIBITED: u8 = 10;
/// Destination Unreachable code: communication administratively prohibited.
pub const COMMUNICATION_PROHIBITED: u8 = 13;

/// A message of at least eight bytes.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv4Message<'a> {
    header: &'a [u8; HEADER],
    body: &'a [u8],
}

impl<'a> Icmpv4Message<'a> {
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

    /// RFC 1191 section 4: the next hop's MTU; zero from a router that does not know it.
    pub const fn mtu(&self) -> u16 {
        u16::from_be_bytes([self.header[6], self.header[7]])
    }

    /// Pointer of a Parameter Problem.
    pub const fn pointer(&self) -> u8 {
        self.header[4]
    }

    /// What follows the header.
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// RFC 4884 section 4.1: the length in bytes of the quoted packet when extensions follow it.
    pub fn quoted_length(&self) -> Option<usize> {
        (self.header[5] != 0).then_some(usize::from(self.header[5]) * 4)
    }

    /// Whether it is an echo or its reply.
    pub const fn is_query(&self) -> bool {
        matches!(self.kind(), ECHO | ECHO_REPLY)
    }

    /// Whether it quotes a packet: RFC 1122 section 3.2.2.
    pub const fn is_error(&self) -> bool {
        matches!(self.kind(), DESTINATION_UNREACHABLE | 4 | 5 | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }
}

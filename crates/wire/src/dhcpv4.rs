//! DHCPv4 messages: RFC 2131 section 2, options as in RFC 2132, long ones as in RFC 3396.
use core::net::Ipv4Addr;

use crate::mac::MacAddr;

/// The port that clients listen on.
pub const CLIENT_PORT: u16 = 68;
/// The port that servers and relays listen on.
pub const SERVER_PORT: u16 = 67;

/// Length of the fixed part with the magic cookie.
const FIXED: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// RFC 1542 section 2.1: BOOTP relays may drop what is shorter.
const SHORTEST: usize = 300;

/// Option codes (RFC 2132, 3442).
pub mod code {
    /// Subnet mask.
    pub const SUBNET_MASK: u8 = 1;
    /// Routers, in order of preference.
    pub const ROUTER: u8 = 3;
    /// Resolvers.
    pub const DOMAIN_NAME_SERVER: u8 = 6;
    /// The client's name.
    pub const HOST_NAME: u8 = 12;
    /// MTU of the link.
    pub const INTERFACE_MTU: u8 = 26;
    /// NTP servers, in order of preference.
    pub const NTP_SERVERS: u8 = 42;
    /// The address that the client would like to have.
    pub const REQUESTED_ADDRESS: u8 = 50;
    /// Seconds that the address is leased for.
    pub const LEASE_TIME: u8 = 51;
    /// Where options continue: 1 `file`, 2 `sname`, 3 both.
    pub const OVERLOAD: u8 = 52;
    /// DHCPDISCOVER and so on.
    pub const MESSAGE_TYPE: u8 = 53;
    /// Which server.
    pub const SERVER_IDENTIFIER: u8 = 54;
    /// Which options the client asks for.
    pub const PARAMETER_REQUEST_LIST: u8 = 55;
    /// The longest message that the client takes.
    pub const MAXIMUM_MESSAGE_SIZE: u8 = 57;
    /// Seconds until the lease is renewed.
    pub const RENEWAL_TIME: u8 = 58;
    /// Seconds until any server is asked.
    pub const REBINDING_TIME: u8 = 59;
    /// Who the client is.
    pub const CLIENT_IDENTIFIER: u8 = 61;
    /// RFC 3442: routes, which take the place of the router option.
    pub const CLASSLESS_ROUTES: u8 = 121;
}

const PAD: u8 = 0;
const END: u8 = 255;

/// RFC 2132 section 9.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client looks for servers.
    Discover,
    /// A server offers an address.
    Offer,
    /// A client takes an offer, confirms, renews or rebinds.
    Request,
    /// A client says that somebody else has the address.
    Decline,
    /// A server agrees.
    Ack,
    /// A server refuses.
    Nak,
    /// A client gives the address back.
    Release,
}

impl Kind {
    fn parse(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            _ => return None,
        })
    }

    const fn value(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Decline => 4,
            Self::Ack => 5,
            Self::Nak => 6,
            Self::Release => 7,
        }
    }
}

/// A server's message for a client on Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    bytes: &'a [u8],
    kind: Kind,
}

impl<'a> Reply<'a> {
    /// Parses the payload of a datagram; nothing where it is no well-formed reply of a DHCP server.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let fixed = bytes.get(..FIXED)?;
        let [2, 1, 6, ..] = *fixed else { return None };
        if fixed.get(236..)? != COOKIE {
            return None;
        }
        let reply = Self { bytes, kind: Kind::Nak };
        let mut buffer = [0; 1];
        let kind = match reply.option(code::MESSAGE_TYPE, &mut buffer)? {
            [kind] => Kind::parse(*kind)?,
            _ => return None,
        };
        matches!(kind, Kind::Offer | Kind::Ack | Kind::Nak).then_some(Self { kind, ..reply })
    }

    /// DHCPOFFER, DHCPACK or DHCPNAK.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// xid.
    pub fn transaction(&self) -> u32 {
        u32::from_be_bytes(self.four(4))
    }

    /// yiaddr.
    pub fn your_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.four(16))
    }

    /// chaddr.
    pub fn client(&self) -> MacAddr {
        let [a, b, c, d] = self.four(28);
        let [e, f, ..] = self.four(32);
        MacAddr([a, b, c, d, e, f])
    }

    /// All instances of an option one after the other (RFC 3396), as far as `buffer` has room; nothing where there is none.
    pub fn option<'b>(&self, code: u8, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let mut length = 0;
        let mut found = false;
        let mut overload = 0;
        let options = self.bytes.get(FIXED..).unwrap_or_default();
        for (kind, value) in Options(options) {
            if let (code::OVERLOAD, [value]) = (kind, value) {
                overload = *value;
            }
        }
        let further = |bit: u8, from: usize, to: usize| match overload & bit {
            0 => Default::default(),
            _ => self.bytes.get(from..to).unwrap_or_default(),
        };
        // RFC 3396 section 5: options, then `file`, then `sname`.
        let all = [options, further(1, 108, 236), further(2, 44, 108)];
        for (_, value) in all.into_iter().flat_map(Options).filter(|(kind, _)| *kind == code) {
            found = true;
            for (place, byte) in buffer.get_mut(length..).unwrap_or_default().iter_mut().zip(value) {
                *place = *byte;
                length += 1;
            }
        }
        found.then(|| buffer.get(..length).unwrap_or_default())
    }

    fn four(&self, at: usize) -> [u8; 4] {
        // `parse` has seen that the fixed part is there.
        self.bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default()
    }
}

/// Options in a row; what is cut short ends the list.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while let [PAD, rest @ ..] = self.0 {
            self.0 = rest;
        }
        let [code, length, rest @ ..] = self.0 else { return None };
        if *code == END {
            return None;
        }
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        self.0 = rest;
        Some((*code, value))
    }
}

/// What a client says in the fixed part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// xid.
    pub transaction: u32,
    /// secs since the client has begun.
    pub seconds: u16,
    /// ciaddr: the address that the client has and answers at, or the unspecified one.
    pub client_address: Ipv4Addr,
    /// chaddr.
    pub mac: MacAddr,
}

/// Writes a client's message.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl<'a> Writer<'a> {
    /// Begins with the fixed part and the message type; nothing where there is no room.
    pub fn new(buffer: &'a mut [u8], kind: Kind, header: &Header) -> Option<Self> {
        let fixed = buffer.get_mut(..FIXED)?;
        fixed.fill(0);
        fixed[..3].copy_from_slice(&[1, 1, 6]);
        fixed[4..8].copy_from_slice(&header.transaction.to_be_bytes());
        fixed[8..10].copy_from_slice(&header.seconds.to_be_bytes());
        fixed[12..16].copy_from_slice(&header.client_address.octets());
        fixed[28..34].copy_from_slice(&header.mac.0);
        fixed[236..].copy_from_slice(&COOKIE);
        let mut writer = Self { buffer, length: FIXED };
        writer.option(code::MESSAGE_TYPE, &[kind.value()])?;
        Some(writer)
    }

    /// Appends an option of up to 255 bytes; nothing where there is no room.
    pub fn option(&mut self, code: u8, value: &[u8]) -> Option<()> {
        let length = u8::try_from(value.len()).ok()?;
        // The end option has to fit as well.
        if self.buffer.len() < self.length + value.len() + 3 {
            return None;
        }
        let place = self.buffer.get_mut(self.length..self.length + 2 + value.len())?;
        place[0] = code;
        place[1] = length;
        place[2..].copy_from_slice(value);
        self.length += place.len();
        Some(())
    }

    /// The message, ended and padded.
    pub fn finish(self) -> &'a [u8] {
        let Self { buffer, length } = self;
        let longest = buffer.len();
        let end = (length + 1).max(SHORTEST).min(longest);
        buffer[length] = END;
        buffer[length + 1..end].fill(PAD);
        &buffer[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        transaction: 0x1234_5678,
        seconds: 3,
        client_address: Ipv4Addr::UNSPECIFIED,
        mac: MacAddr([2, 0, 0, 0, 0, 9]),
    };

    /// A reply with the given options.
    fn reply(options: &[u8]) -> [u8; 400] {
        let mut bytes = [0; 400];
        let length = Writer::new(&mut bytes, Kind::Ack, &HEADER).unwrap().finish().len();
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&[192, 0, 2, 7]);
        assert_eq!(length, SHORTEST);
        bytes[FIXED + 3..FIXED + 3 + options.len()].copy_from_slice(options);
        bytes
    }

    #[test]
    fn a_discover_has_the_bytes_of_the_rfc() {
        let mut buffer = [0xff; 576];
        let mut writer = Writer::new(&mut buffer, Kind::Discover, &HEADER).unwrap();
        writer.option(code::PARAMETER_REQUEST_LIST, &[1, 3, 6]).unwrap();
        let message = writer.finish();
        assert_eq!(message.len(), 300);
        assert_eq!(message[..12], [1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 3, 0, 0]);
        assert_eq!(message[28..36], [2, 0, 0, 0, 0, 9, 0, 0]);
        assert_eq!(message[236..250], [99, 130, 83, 99, 53, 1, 1, 55, 3, 1, 3, 6, 255, 0]);
    }

    #[test]
    fn options_are_read_also_where_they_continue_elsewhere() {
        let mut bytes = reply(&[51, 4, 0, 0, 14, 16, 52, 1, 3, 121, 2, 24, 10, 0, 0, 255]);
        bytes[108..115].copy_from_slice(&[121, 2, 0, 0, 255, 1, 1]);
        bytes[44..49].copy_from_slice(&[12, 1, b'x', 255, 0]);
        let parsed = Reply::parse(&bytes).unwrap();
        let mut buffer = [0; 64];
        assert_eq!((parsed.kind(), parsed.transaction(), parsed.client()), (Kind::Ack, 0x1234_5678, HEADER.mac));
        assert_eq!(parsed.your_address(), Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(parsed.option(code::LEASE_TIME, &mut buffer), Some(&[0, 0, 14, 16][..]));
        assert_eq!(parsed.option(code::CLASSLESS_ROUTES, &mut buffer), Some(&[24, 10, 0, 0][..]));
        assert_eq!(parsed.option(code::HOST_NAME, &mut buffer), Some(&b"x"[..]));
        assert_eq!(parsed.option(code::ROUTER, &mut buffer), None);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let good = reply(&[255]);
        assert!(Reply::parse(&good).is_some());
        for (at, byte) in [(0, 1), (1, 6), (2, 16), (237, 0), (FIXED, 54), (FIXED + 2, 1), (FIXED + 2, 9)] {
            let mut bad = good;
            bad[at] = byte;
            assert!(Reply::parse(&bad).is_none(), "byte {at}");
        }
        assert!(Reply::parse(&good[..239]).is_none());
        // An option that is cut short ends the list.
        let cut = reply(&[51, 200, 1]);
        let parsed = Reply::parse(&cut[..FIXED + 6]).unwrap();
        assert_eq!(parsed.option(code::LEASE_TIME, &mut [0; 4]), None);
    }
}

//! DHCPv6 messages between client and server: RFC 8415 sections 8 and 21, which RFC 9915 restates.
use core::net::Ipv6Addr;

/// The port that clients listen on.
pub const CLIENT_PORT: u16 = 546;
/// The port that servers and relays listen on.
pub const SERVER_PORT: u16 = 547;
/// All_DHCP_Relay_Agents_and_Servers.
pub const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Option codes (RFC 8415 section 21, RFC 3646).
pub mod code {
    /// DUID of the client.
    pub const CLIENT_IDENTIFIER: u16 = 1;
    /// DUID of the server.
    pub const SERVER_IDENTIFIER: u16 = 2;
    /// Addresses.
    pub const IA_NA: u16 = 3;
    /// An address in an IA_NA.
    pub const IA_ADDRESS: u16 = 5;
    /// Options that the client asks for.
    pub const OPTION_REQUEST: u16 = 6;
    /// How much a server wants to be chosen.
    pub const PREFERENCE: u16 = 7;
    /// Hundredths of a second since the exchange began.
    pub const ELAPSED_TIME: u16 = 8;
    /// Who says it, shown by a key.
    pub const AUTHENTICATION: u16 = 11;
    /// How it went.
    pub const STATUS_CODE: u16 = 13;
    /// Two messages rather than four.
    pub const RAPID_COMMIT: u16 = 14;
    /// What a Reconfigure asks for.
    pub const RECONFIGURE_MESSAGE: u16 = 19;
    /// The client takes Reconfigure messages, or the server wants to send them.
    pub const RECONFIGURE_ACCEPT: u16 = 20;
    /// Resolvers.
    pub const DNS_SERVERS: u16 = 23;
    /// Search domains.
    pub const DOMAIN_LIST: u16 = 24;
    /// Prefixes.
    pub const IA_PD: u16 = 25;
    /// A prefix in an IA_PD.
    pub const IA_PREFIX: u16 = 26;
    /// SNTP servers (RFC 4075).
    pub const SNTP_SERVERS: u16 = 31;
    /// Seconds after which a client asks again.
    pub const INFORMATION_REFRESH_TIME: u16 = 32;
    /// NTP servers (RFC 5908).
    pub const NTP_SERVER: u16 = 56;
    /// A server's address, in NTP_SERVER.
    pub const NTP_SERVER_ADDRESS: u16 = 1;
    /// SOL_MAX_RT.
    pub const SOL_MAX_RT: u16 = 82;
}

/// Status codes (RFC 8415 section 21.13).
pub mod status {
    /// It went well.
    pub const SUCCESS: u16 = 0;
    /// It did not, for no reason that has a code.
    pub const UNSPEC_FAIL: u16 = 1;
    /// There is no address.
    pub const NO_ADDRS_AVAIL: u16 = 2;
    /// The server knows of no such binding.
    pub const NO_BINDING: u16 = 3;
    /// There is no prefix.
    pub const NO_PREFIX_AVAIL: u16 = 6;
}

/// RFC 8415 section 7.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client looks for servers.
    Solicit,
    /// A server offers.
    Advertise,
    /// A client takes an offer.
    Request,
    /// A client asks its server to extend lifetimes.
    Renew,
    /// A client asks any server to extend lifetimes, or whether they are still right.
    Rebind,
    /// A server's answer.
    Reply,
    /// A client gives back.
    Release,
    /// A server has a client ask again.
    Reconfigure,
    /// A client that has an address asks for the rest.
    InformationRequest,
}

impl Kind {
    fn parse(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Solicit,
            2 => Self::Advertise,
            3 => Self::Request,
            5 => Self::Renew,
            6 => Self::Rebind,
            7 => Self::Reply,
            8 => Self::Release,
            10 => Self::Reconfigure,
            11 => Self::InformationRequest,
            _ => return None,
        })
    }

    const fn value(self) -> u8 {
        match self {
            Self::Solicit => 1,
            Self::Advertise => 2,
            Self::Request => 3,
            Self::Renew => 5,
            Self::Rebind => 6,
            Self::Reply => 7,
            Self::Release => 8,
            Self::Reconfigure => 10,
            Self::InformationRequest => 11,
        }
    }
}

/// A message whose options are well-formed, one beside the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    kind: Kind,
    transaction: [u8; 3],
    options: Options<'a>,
}

impl<'a> Message<'a> {
    /// Parses the payload of a datagram.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&[kind, a, b, c], options) = bytes.split_first_chunk::<4>()?;
        Some(Self { kind: Kind::parse(kind)?, transaction: [a, b, c], options: Options::parse(options)? })
    }

    /// msg-type.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// transaction-id.
    pub const fn transaction(&self) -> [u8; 3] {
        self.transaction
    }

    /// Options.
    pub const fn options(&self) -> Options<'a> {
        self.options
    }
}

/// Options that were seen to be well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = split(rest)?.2;
        }
        Some(Self(bytes))
    }

    /// The first option with that code.
    pub fn find(self, code: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(kind, _)| *kind == code).map(|(_, value)| value)
    }

    /// RFC 8415 section 21.13: without the option it went well.
    pub fn status(self) -> u16 {
        let code = self.find(code::STATUS_CODE).and_then(|value| value.first_chunk::<2>());
        code.map_or(status::SUCCESS, |code| u16::from_be_bytes(*code))
    }

    /// All IA_NA or IA_PD options, by their code.
    pub fn associations(self, code: u16) -> impl Iterator<Item = Association<'a>> {
        self.into_iter().filter(move |(kind, _)| *kind == code).filter_map(|(_, value)| Association::parse(value))
    }
}

impl<'a> IntoIterator for Options<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = OptionsIter<'a>;

    fn into_iter(self) -> OptionsIter<'a> {
        OptionsIter(self.0)
    }
}

/// One option after the other.
#[derive(Clone, Debug)]
pub struct OptionsIter<'a>(&'a [u8]);

impl<'a> Iterator for OptionsIter<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (code, value, rest) = split(self.0)?;
        self.0 = rest;
        Some((code, value))
    }
}

fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (&[c0, c1, l0, l1], rest) = bytes.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes([l0, l1]).into())?;
    Some((u16::from_be_bytes([c0, c1]), value, rest))
}

/// An IA_NA or IA_PD (RFC 8415 sections 21.4 and 21.21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Association<'a> {
    /// IAID.
    pub id: u32,
    /// Seconds until it is renewed; 0 leaves it to the client.
    pub t1: u32,
    /// Seconds until any server is asked; 0 leaves it to the client.
    pub t2: u32,
    /// What is in it.
    pub options: Options<'a>,
}

impl<'a> Association<'a> {
    fn parse(value: &'a [u8]) -> Option<Self> {
        let (fixed, options) = value.split_first_chunk::<12>()?;
        let word = |at: usize| fixed.get(at..).and_then(|rest| rest.first_chunk()).copied().map(u32::from_be_bytes);
        Some(Self { id: word(0)?, t1: word(4)?, t2: word(8)?, options: Options::parse(options)? })
    }

    /// Addresses of an IA_NA and prefixes of an IA_PD; an address is a prefix of 128 bits.
    pub fn leases(self) -> impl Iterator<Item = Lease> {
        self.options.into_iter().filter_map(|(kind, value)| match kind {
            code::IA_ADDRESS => Lease::parse_address(value),
            code::IA_PREFIX => Lease::parse_prefix(value),
            _ => None,
        })
    }
}

/// An address or a prefix with its lifetimes in seconds; all ones is infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address, or the prefix as it was sent.
    pub address: Ipv6Addr,
    /// Prefix length; 128 for an address.
    pub length: u8,
    /// Preferred lifetime.
    pub preferred: u32,
    /// Valid lifetime; 0 takes it back.
    pub valid: u32,
}

impl Lease {
    fn parse_address(value: &[u8]) -> Option<Self> {
        let (address, rest) = value.split_first_chunk::<16>()?;
        let (preferred, rest) = rest.split_first_chunk::<4>()?;
        let (valid, options) = rest.split_first_chunk::<4>()?;
        Self::judged(Ipv6Addr::from(*address), 128, *preferred, *valid, options)
    }

    fn parse_prefix(value: &[u8]) -> Option<Self> {
        let (preferred, rest) = value.split_first_chunk::<4>()?;
        let (valid, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first()?;
        let (address, options) = rest.split_first_chunk::<16>()?;
        Self::judged(Ipv6Addr::from(*address), *length, *preferred, *valid, options)
    }

    /// RFC 8415 sections 21.6 and 21.22: what prefers longer than it is valid is discarded.
    fn judged(address: Ipv6Addr, length: u8, preferred: [u8; 4], valid: [u8; 4], options: &[u8]) -> Option<Self> {
        let (preferred, valid) = (u32::from_be_bytes(preferred), u32::from_be_bytes(valid));
        let well = Options::parse(options)?.status() == status::SUCCESS;
        (well && preferred <= valid && (1..=128).contains(&length)).then_some(Self {
            address,
            length,
            preferred,
            valid,
        })
    }
}

/// Writes a message.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl<'a> Writer<'a> {
    /// Begins a message; nothing where there is no room.
    pub fn new(buffer: &'a mut [u8], kind: Kind, transaction: [u8; 3]) -> Option<Self> {
        let [a, b, c] = transaction;
        buffer.get_mut(..4)?.copy_from_slice(&[kind.value(), a, b, c]);
        Some(Self { buffer, length: 4 })
    }

    /// Appends an option; nothing where there is no room.
    pub fn option(&mut self, code: u16, value: &[u8]) -> Option<()> {
        let [l0, l1] = u16::try_from(value.len()).ok()?.to_be_bytes();
        let [c0, c1] = code.to_be_bytes();
        self.append(&[c0, c1, l0, l1])?;
        self.append(value)
    }

    /// Appends an IA_NA or IA_PD, by its code, with what the client has or would like to have.
    pub fn association(&mut self, code: u16, id: u32, leases: &[Lease]) -> Option<()> {
        let each = if code == code::IA_PD { 4 + 25 } else { 4 + 24 };
        let [l0, l1] = u16::try_from(12 + each * leases.len()).ok()?.to_be_bytes();
        let [c0, c1] = code.to_be_bytes();
        self.append(&[c0, c1, l0, l1])?;
        self.append(&id.to_be_bytes())?;
        // RFC 8415 section 21.4: the client leaves T1 and T2 to the server.
        self.append(&[0; 8])?;
        for lease in leases {
            let (preferred, valid) = (lease.preferred.to_be_bytes(), lease.valid.to_be_bytes());
            if code == code::IA_PD {
                self.append(&[0, 26, 0, 25])?;
                self.append(&preferred)?;
                self.append(&valid)?;
                self.append(&[lease.length])?;
                self.append(&lease.address.octets())?;
            } else {
                self.append(&[0, 5, 0, 24])?;
                self.append(&lease.address.octets())?;
                self.append(&preferred)?;
                self.append(&valid)?;
            }
        }
        Some(())
    }

    /// The message.
    pub fn finish(self) -> &'a [u8] {
        &self.buffer[..self.length]
    }

    fn append(&mut self, bytes: &[u8]) -> Option<()> {
        self.buffer.get_mut(self.length..self.length + bytes.len())?.copy_from_slice(bytes);
        self.length += bytes.len();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    const PREFIX: Lease = Lease {
        address: Ipv6Addr::new(0x2001, 0xdb8, 0, 0xff00, 0, 0, 0, 0),
        length: 56,
        preferred: 3600,
        valid: 7200,
    };
    const ADDRESS: Lease =
        Lease { address: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5), length: 128, preferred: 100, valid: 200 };

    #[test]
    fn what_is_written_is_read_back_and_has_the_bytes_of_the_rfc() {
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer, Kind::Request, [1, 2, 3]).unwrap();
        writer.option(code::CLIENT_IDENTIFIER, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 9]).unwrap();
        writer.association(code::IA_NA, 7, &[ADDRESS]).unwrap();
        writer.association(code::IA_PD, 8, &[PREFIX]).unwrap();
        writer.option(code::STATUS_CODE, &[0, 6, b'n', b'o']).unwrap();
        let bytes = writer.finish();
        assert_eq!(bytes[..18], [3, 1, 2, 3, 0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 9]);
        assert_eq!(bytes[18..34], [0, 3, 0, 40, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[34..38], [0, 5, 0, 24]);
        let message = Message::parse(bytes).unwrap();
        assert_eq!((message.kind(), message.transaction()), (Kind::Request, [1, 2, 3]));
        let options = message.options();
        assert_eq!(options.status(), status::NO_PREFIX_AVAIL);
        let held = options.associations(code::IA_NA).next().unwrap();
        assert_eq!((held.id, held.leases().collect::<Vec<_>>().as_slice()), (7, &[ADDRESS][..]));
        let delegated = options.associations(code::IA_PD).next().unwrap();
        assert_eq!((delegated.id, delegated.leases().collect::<Vec<_>>().as_slice()), (8, &[PREFIX][..]));
    }

    #[test]
    fn what_is_cut_short_or_contradicts_itself_is_refused() {
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer, Kind::Reply, [1, 2, 3]).unwrap();
        writer.association(code::IA_PD, 8, &[Lease { preferred: 9, valid: 8, ..PREFIX }, PREFIX]).unwrap();
        let length = writer.finish().len();
        for end in 5..length {
            assert!(Message::parse(&buffer[..end]).is_none(), "{end} bytes");
        }
        let message = Message::parse(&buffer[..length]).unwrap();
        let leases: Vec<_> = message.options().associations(code::IA_PD).flat_map(Association::leases).collect();
        assert_eq!(leases, [PREFIX]);
        for kind in [0, 4, 12, 255] {
            buffer[0] = kind;
            assert!(Message::parse(&buffer[..length]).is_none(), "type {kind}");
        }
    }
}

//! Options of Neighbor Discovery messages: RFC 4861 section 4.6, RFC 4191, RFC 8106, RFC 8781, RFC 8910 and RFC 9463.
use core::fmt;
use core::net::Ipv6Addr;
use core::str;

use super::{ParseError, Preference};
use crate::mac::MacAddr;

pub(super) const SOURCE_LINK_LAYER: u8 = 1;
pub(super) const TARGET_LINK_LAYER: u8 = 2;
pub(super) const PREFIX_INFORMATION: u8 = 3;
pub(super) const MTU: u8 = 5;
pub(super) const ROUTE_INFORMATION: u8 = 24;
pub(super) const RDNSS: u8 = 25;
pub(super) const DNSSL: u8 = 31;
pub(super) const CAPTIVE_PORTAL: u8 = 37;
pub(super) const PREF64: u8 = 38;
pub(super) const ENCRYPTED_DNS: u8 = 144;

/// An option that is known and well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NdpOption<'a> {
    /// SLLA.
    SourceLinkLayer(MacAddr),
    /// TLLA.
    TargetLinkLayer(MacAddr),
    /// PIO.
    PrefixInformation(PrefixInformation),
    /// MTU of the link in bytes.
    Mtu(u32),
    /// RIO (RFC 4191 section 2.3).
    RouteInformation(RouteInformation),
    /// Resolvers (RFC 8106 section 5.1).
    Rdnss {
        /// Seconds; 0 withdraws them.
        lifetime: u32,
        /// Their addresses.
        addresses: Addresses<'a>,
    },
    /// Search domains (RFC 8106 section 5.2).
    Dnssl {
        /// Seconds; 0 withdraws them.
        lifetime: u32,
        /// The domains.
        domains: DomainNames<'a>,
    },
    /// NAT64 prefix (RFC 8781).
    Pref64(Pref64),
    /// URI of the captive portal's API (RFC 8910 section 2.3).
    CaptivePortal(&'a str),
    /// A resolver with encryption (RFC 9463 section 6).
    EncryptedDns(EncryptedDns<'a>),
}

/// A Prefix Information option (RFC 4861 section 4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix; bits beyond `length` are zero when parsed.
    pub prefix: Ipv6Addr,
    /// Prefix length, 0 to 128.
    pub length: u8,
    /// L flag.
    pub on_link: bool,
    /// A flag.
    pub autonomous: bool,
    /// P flag (RFC 9762): hosts had better ask for a prefix by DHCPv6.
    pub pd_preferred: bool,
    /// Valid lifetime in seconds; all ones is infinity.
    pub valid: u32,
    /// Preferred lifetime in seconds; all ones is infinity.
    pub preferred: u32,
}

/// A Route Information option (RFC 4191 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteInformation {
    /// The prefix; bits beyond `length` are zero when parsed.
    pub prefix: Ipv6Addr,
    /// Prefix length, 0 to 128.
    pub length: u8,
    /// Preference.
    pub preference: Preference,
    /// Seconds; 0 withdraws the route.
    pub lifetime: u32,
}

/// A NAT64 prefix (RFC 8781 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pref64 {
    /// The prefix; bits beyond `length` are zero when parsed.
    pub prefix: Ipv6Addr,
    /// Prefix length: 32, 40, 48, 56, 64 or 96.
    pub length: u8,
    /// Seconds, a multiple of 8 up to [`Pref64::MAX_LIFETIME`] when parsed; 0 withdraws the prefix.
    pub lifetime: u16,
}

impl Pref64 {
    /// The longest lifetime that 13 bits of eight seconds can say.
    pub const MAX_LIFETIME: u16 = 0x1fff << 3;

    /// RFC 8781 section 4.1: seconds rounded up to what the field can say.
    pub fn scaled_lifetime(seconds: u64) -> u16 {
        let rounded = seconds.saturating_add(7) / 8 * 8;
        u16::try_from(rounded).map_or(Self::MAX_LIFETIME, |lifetime| lifetime.min(Self::MAX_LIFETIME))
    }

    /// RFC 8781 section 4: the prefix length code (PLC).
    pub(super) fn length_code(length: u8) -> Option<u8> {
        match length {
            96 => Some(0),
            64 => Some(1),
            56 => Some(2),
            48 => Some(3),
            40 => Some(4),
            32 => Some(5),
            _ => None,
        }
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let (&[high, low], prefix) = body.split_first_chunk::<2>()?;
        let prefix: [u8; 12] = prefix.try_into().ok()?;
        // RFC 8781 section 5: an option with another code is ignored.
        let length = match low & 7 {
            0 => 96,
            1 => 64,
            2 => 56,
            3 => 48,
            4 => 40,
            5 => 32,
            _ => return None,
        };
        let lifetime = u16::from_be_bytes([high, low & !7]);
        Some(Self { prefix: masked(&prefix, length), length, lifetime })
    }
}

/// An Encrypted DNS option (RFC 9463 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptedDns<'a> {
    /// Lower comes first; 0 where there is a name alone.
    pub priority: u16,
    /// Seconds; 0 withdraws it.
    pub lifetime: u32,
    /// The authentication domain name.
    pub name: DomainName<'a>,
    /// Where it is; none where the name is to be resolved.
    pub addresses: Addresses<'a>,
    /// Service parameters in wire form (RFC 9460 section 2.2).
    pub parameters: &'a [u8],
}

impl<'a> EncryptedDns<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let (&[p0, p1, l0, l1, l2, l3], rest) = body.split_first_chunk::<6>()?;
        let (name, rest) = counted(rest)?;
        let (name, after) = split_name(name)?;
        if name.is_empty() || !after.is_empty() {
            return None;
        }
        // RFC 9463 section 6.1: all that follows is left out where there is a name alone; padding is zeros.
        let (addresses, rest) = counted(rest).unwrap_or((&[], &[]));
        let (parameters, _padding) = counted(rest).unwrap_or((&[], &[]));
        if addresses.len() % 16 != 0 {
            return None;
        }
        Some(Self {
            priority: u16::from_be_bytes([p0, p1]),
            lifetime: u32::from_be_bytes([l0, l1, l2, l3]),
            name: DomainName(name),
            addresses: Addresses(addresses),
            parameters,
        })
    }
}

/// A field with its length in two bytes before it, and what follows.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(length)))
}

/// The addresses of an RDNSS option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses<'a>(&'a [u8]);

impl Addresses<'_> {
    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        self.0.chunks_exact(16).map(|chunk| {
            let mut octets = [0; 16];
            octets.copy_from_slice(chunk);
            Ipv6Addr::from(octets)
        })
    }
}

/// The names of a DNSSL option; each is complete and made of ordinary labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainNames<'a>(&'a [u8]);

impl<'a> DomainNames<'a> {
    /// One after the other, up to the first that is not a name of printable ASCII labels.
    pub fn iter(&self) -> impl Iterator<Item = DomainName<'a>> + use<'a> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            // Padding reads as the root, which is not a search domain.
            while rest.first() == Some(&0) {
                rest = rest.get(1..)?;
            }
            let (name, tail) = split_name(rest)?;
            rest = tail;
            Some(DomainName(name))
        })
    }
}

/// A domain name in wire form, without the final root label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainName<'a>(&'a [u8]);

impl<'a> DomainName<'a> {
    /// Its labels, from the left.
    pub fn labels(&self) -> Labels<'a> {
        Labels(self.0)
    }
}

impl fmt::Display for DomainName<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, label) in self.labels().enumerate() {
            if index > 0 {
                out.write_str(".")?;
            }
            out.write_str(label)?;
        }
        Ok(())
    }
}

/// The labels of a name.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a>(&'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = &'a str;
    fn next(&mut self) -> Option<&'a str> {
        let (&length, rest) = self.0.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(length))?;
        self.0 = rest;
        str::from_utf8(label).ok()
    }
}

/// Splits a name off, without its root label. RFC 8106 section 5.2: names are not compressed there.
fn split_name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut end = 0;
    loop {
        let length = usize::from(*bytes.get(end)?);
        if length == 0 {
            return Some((bytes.get(..end)?, bytes.get(end + 1..)?));
        }
        let label = bytes.get(end + 1..end + 1 + length)?;
        end += 1 + length;
        if length > 63 || end > 254 || !label.iter().all(u8::is_ascii_graphic) {
            return None;
        }
    }
}

/// The options of a message, their lengths checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (_, _, tail) = split_option(rest).ok_or(ParseError::OptionLength)?;
            rest = tail;
        }
        Ok(Self(bytes))
    }

    /// The options that are known and well-formed, in order.
    ///
    /// RFC 4861 section 4.6: others are ignored, and so is a known one whose length does not fit its type.
    pub fn iter(&self) -> impl Iterator<Item = NdpOption<'a>> + use<'a> {
        self.raw().filter_map(|(kind, body)| parse_option(kind, body))
    }

    /// Whether there is a source link-layer address option, of any length.
    pub(super) fn has_source_link_layer(&self) -> bool {
        self.raw().any(|(kind, _)| kind == SOURCE_LINK_LAYER)
    }

    fn raw(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (kind, body, tail) = split_option(rest)?;
            rest = tail;
            Some((kind, body))
        })
    }
}

/// Type, body and what follows. RFC 4861 section 4.6: a length of zero is not an option.
fn split_option(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, units], _) = bytes.split_first_chunk::<2>()?;
    let (option, rest) = bytes.split_at_checked(usize::from(units) * 8)?;
    Some((kind, option.get(2..)?, rest))
}

fn parse_option(kind: u8, body: &[u8]) -> Option<NdpOption<'_>> {
    match kind {
        SOURCE_LINK_LAYER => Some(NdpOption::SourceLinkLayer(MacAddr(body.try_into().ok()?))),
        TARGET_LINK_LAYER => Some(NdpOption::TargetLinkLayer(MacAddr(body.try_into().ok()?))),
        PREFIX_INFORMATION => prefix_information(body).map(NdpOption::PrefixInformation),
        MTU => {
            let &[_, _, a, b, c, d] = body else { return None };
            Some(NdpOption::Mtu(u32::from_be_bytes([a, b, c, d])))
        }
        ROUTE_INFORMATION => route_information(body).map(NdpOption::RouteInformation),
        RDNSS => {
            let (lifetime, addresses) = lifetime_and_list(body)?;
            // RFC 8106 section 5.1: at least one address, and whole ones.
            if addresses.is_empty() || addresses.len() % 16 != 0 {
                return None;
            }
            Some(NdpOption::Rdnss { lifetime, addresses: Addresses(addresses) })
        }
        DNSSL => {
            let (lifetime, domains) = lifetime_and_list(body)?;
            Some(NdpOption::Dnssl { lifetime, domains: DomainNames(domains) })
        }
        CAPTIVE_PORTAL => captive_portal(body).map(NdpOption::CaptivePortal),
        PREF64 => Pref64::parse(body).map(NdpOption::Pref64),
        ENCRYPTED_DNS => EncryptedDns::parse(body).map(NdpOption::EncryptedDns),
        _ => None,
    }
}

fn prefix_information(body: &[u8]) -> Option<PrefixInformation> {
    let (&[length, flags, v0, v1, v2, v3, p0, p1, p2, p3, _, _, _, _], prefix) = body.split_first_chunk::<14>()?;
    let prefix: [u8; 16] = prefix.try_into().ok()?;
    if length > 128 {
        return None;
    }
    Some(PrefixInformation {
        prefix: masked(&prefix, length),
        length,
        on_link: flags & 0x80 != 0,
        autonomous: flags & 0x40 != 0,
        pd_preferred: flags & 0x10 != 0,
        valid: u32::from_be_bytes([v0, v1, v2, v3]),
        preferred: u32::from_be_bytes([p0, p1, p2, p3]),
    })
}

fn route_information(body: &[u8]) -> Option<RouteInformation> {
    let (&[length, flags, l0, l1, l2, l3], prefix) = body.split_first_chunk::<6>()?;
    // RFC 4191 section 2.3: the option may leave out the part of the prefix that is zero anyway.
    if length > 128 || prefix.len() > 16 || usize::from(length) > prefix.len() * 8 {
        return None;
    }
    // RFC 4191 section 2.3: the reserved preference makes the option void.
    let preference = Preference::parse(flags)?;
    let lifetime = u32::from_be_bytes([l0, l1, l2, l3]);
    Some(RouteInformation { prefix: masked(prefix, length), length, preference, lifetime })
}

/// RFC 8910 section 2.3: ASCII, padded with zeros.
fn captive_portal(body: &[u8]) -> Option<&str> {
    let end = body.iter().rposition(|byte| *byte != 0)? + 1;
    let uri = body.get(..end)?;
    if uri.iter().all(u8::is_ascii_graphic) { str::from_utf8(uri).ok() } else { None }
}

fn lifetime_and_list(body: &[u8]) -> Option<(u32, &[u8])> {
    let (&[_, _, a, b, c, d], list) = body.split_first_chunk::<6>()?;
    Some((u32::from_be_bytes([a, b, c, d]), list))
}

/// An address from its leading bytes, with everything beyond `length` bits cleared.
pub(super) fn masked(leading: &[u8], length: u8) -> Ipv6Addr {
    let mut octets = [0; 16];
    for (octet, byte) in octets.iter_mut().zip(leading) {
        *octet = *byte;
    }
    let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
    Ipv6Addr::from(u128::from_be_bytes(octets) & mask)
}

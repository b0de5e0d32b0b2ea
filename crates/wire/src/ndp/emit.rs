//! Neighbor Discovery messages and their options, written into a buffer.
use core::fmt;
use core::net::Ipv6Addr;

use super::option::{
    CAPTIVE_PORTAL, DNSSL, ENCRYPTED_DNS, MTU, PREF64, PREFIX_INFORMATION, Pref64, PrefixInformation, RDNSS,
    ROUTE_INFORMATION, RouteInformation, SOURCE_LINK_LAYER, TARGET_LINK_LAYER, masked,
};
use super::{
    NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION, NeighborAdvertisement, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION,
    RouterAdvertisement,
};
use crate::mac::MacAddr;

/// Why something was not written. What was written before is whole and stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmitError {
    /// The buffer has no room for it.
    NoRoom,
    /// The option cannot hold so much: 255 units of eight bytes.
    TooLong,
    /// Not a prefix length that the option can say.
    PrefixLength,
    /// Not a domain name: an empty or overlong label, or characters beyond printable ASCII.
    DomainName,
}

impl fmt::Display for EmitError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoRoom => "the message has no room for the option",
            Self::TooLong => "the option holds more than 255 units of eight bytes",
            Self::PrefixLength => "the option cannot say this prefix length",
            Self::DomainName => "not a domain name of labels of 1 to 63 printable ASCII characters",
        })
    }
}

impl core::error::Error for EmitError {}

/// A message under construction: the fixed part, then options one by one. The checksum stays zero.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl<'a> Writer<'a> {
    /// A Router Solicitation (RFC 4861 section 4.1).
    ///
    /// # Errors
    /// [`EmitError::NoRoom`].
    pub fn router_solicitation(buffer: &'a mut [u8]) -> Result<Self, EmitError> {
        Self::start(buffer, &[ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0])
    }

    /// A Router Advertisement (RFC 4861 section 4.2).
    ///
    /// # Errors
    /// [`EmitError::NoRoom`].
    pub fn router_advertisement(buffer: &'a mut [u8], header: &RouterAdvertisement) -> Result<Self, EmitError> {
        // RFC 4191 section 2.2: without a router lifetime the preference is zero.
        let preference = if header.router_lifetime == 0 { 0 } else { header.preference.bits() };
        let flags = u8::from(header.managed) << 7 | u8::from(header.other) << 6 | preference;
        let mut fixed = [0; 16];
        fixed[0] = ROUTER_ADVERTISEMENT;
        fixed[4] = header.cur_hop_limit;
        fixed[5] = flags;
        fixed[6..8].copy_from_slice(&header.router_lifetime.to_be_bytes());
        fixed[8..12].copy_from_slice(&header.reachable_time.to_be_bytes());
        fixed[12..].copy_from_slice(&header.retrans_timer.to_be_bytes());
        Self::start(buffer, &fixed)
    }

    /// A Neighbor Solicitation (RFC 4861 section 4.3).
    ///
    /// # Errors
    /// [`EmitError::NoRoom`].
    pub fn neighbor_solicitation(buffer: &'a mut [u8], target: Ipv6Addr) -> Result<Self, EmitError> {
        let mut fixed = [0; 24];
        fixed[0] = NEIGHBOR_SOLICITATION;
        fixed[8..].copy_from_slice(&target.octets());
        Self::start(buffer, &fixed)
    }

    /// A Neighbor Advertisement (RFC 4861 section 4.4).
    ///
    /// # Errors
    /// [`EmitError::NoRoom`].
    pub fn neighbor_advertisement(buffer: &'a mut [u8], header: &NeighborAdvertisement) -> Result<Self, EmitError> {
        let mut fixed = [0; 24];
        fixed[0] = NEIGHBOR_ADVERTISEMENT;
        fixed[4] = u8::from(header.router) << 7 | u8::from(header.solicited) << 6 | u8::from(header.overriding) << 5;
        fixed[8..].copy_from_slice(&header.target.octets());
        Self::start(buffer, &fixed)
    }

    fn start(buffer: &'a mut [u8], fixed: &[u8]) -> Result<Self, EmitError> {
        let mut writer = Self { buffer, length: 0 };
        writer.space(fixed.len())?.copy_from_slice(fixed);
        Ok(writer)
    }

    /// SLLA (RFC 4861 section 4.6.1).
    ///
    /// # Errors
    /// [`EmitError::NoRoom`].
    pub fn source_link_layer(&mut self, mac: MacAddr) -> Result<(), EmitError> {
        self.option(SOURCE_LINK_LAYER, 8)?.copy_from_slice(&mac.0);
        Ok(())
    }

    /// TLLA (RFC 4861 section 4.6.1).
    ///
    /// # Errors
    /// [`EmitError::NoRoom`].
    pub fn target_link_layer(&mut self, mac: MacAddr) -> Result<(), EmitError> {
        self.option(TARGET_LINK_LAYER, 8)?.copy_from_slice(&mac.0);
        Ok(())
    }

    /// PIO (RFC 4861 section 4.6.2).
    ///
    /// # Errors
    /// [`EmitError::NoRoom`], [`EmitError::PrefixLength`].
    pub fn prefix_information(&mut self, option: &PrefixInformation) -> Result<(), EmitError> {
        if option.length > 128 {
            return Err(EmitError::PrefixLength);
        }
        let body = self.option(PREFIX_INFORMATION, 32)?;
        body[0] = option.length;
        body[1] = u8::from(option.on_link) << 7 | u8::from(option.autonomous) << 6 | u8::from(option.pd_preferred) << 4;
        body[2..6].copy_from_slice(&option.valid.to_be_bytes());
        body[6..10].copy_from_slice(&option.preferred.to_be_bytes());
        body[14..].copy_from_slice(&masked(&option.prefix.octets(), option.length).octets());
        Ok(())
    }

    /// MTU (RFC 4861 section 4.6.4).
    ///
    /// # Errors
    /// [`EmitError::NoRoom`].
    pub fn mtu(&mut self, mtu: u32) -> Result<(), EmitError> {
        self.option(MTU, 8)?[2..].copy_from_slice(&mtu.to_be_bytes());
        Ok(())
    }

    /// RIO (RFC 4191 section 2.3), no longer than its prefix needs.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`], [`EmitError::PrefixLength`].
    pub fn route_information(&mut self, option: &RouteInformation) -> Result<(), EmitError> {
        let octets = match option.length {
            0 => 0,
            1..=64 => 8,
            65..=128 => 16,
            _ => return Err(EmitError::PrefixLength),
        };
        let body = self.option(ROUTE_INFORMATION, 8 + octets)?;
        body[0] = option.length;
        body[1] = option.preference.bits();
        body[2..6].copy_from_slice(&option.lifetime.to_be_bytes());
        body[6..].copy_from_slice(&masked(&option.prefix.octets(), option.length).octets()[..octets]);
        Ok(())
    }

    /// RDNSS (RFC 8106 section 5.1). Nothing is written for an empty list.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`], [`EmitError::TooLong`].
    pub fn rdnss(&mut self, lifetime: u32, addresses: &[Ipv6Addr]) -> Result<(), EmitError> {
        if addresses.is_empty() {
            return Ok(());
        }
        let body = self.option(RDNSS, 8 + 16 * addresses.len())?;
        body[2..6].copy_from_slice(&lifetime.to_be_bytes());
        for (place, address) in body[6..].chunks_exact_mut(16).zip(addresses) {
            place.copy_from_slice(&address.octets());
        }
        Ok(())
    }

    /// DNSSL (RFC 8106 section 5.2). Nothing is written for an empty list.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`], [`EmitError::TooLong`], [`EmitError::DomainName`].
    pub fn dnssl<N: AsRef<str>>(&mut self, lifetime: u32, domains: &[N]) -> Result<(), EmitError> {
        let mut names = 0;
        for domain in domains {
            names += wire_length(domain.as_ref())?;
        }
        if names == 0 {
            return Ok(());
        }
        let body = self.option(DNSSL, (8 + names).next_multiple_of(8))?;
        body[2..6].copy_from_slice(&lifetime.to_be_bytes());
        let mut at = 6;
        for domain in domains {
            at += write_name(&mut body[at..], domain.as_ref());
        }
        Ok(())
    }

    /// Captive portal (RFC 8910 section 2.3).
    ///
    /// # Errors
    /// [`EmitError::NoRoom`], [`EmitError::TooLong`].
    pub fn captive_portal(&mut self, uri: &str) -> Result<(), EmitError> {
        let body = self.option(CAPTIVE_PORTAL, (2 + uri.len()).next_multiple_of(8))?;
        body[..uri.len()].copy_from_slice(uri.as_bytes());
        Ok(())
    }

    /// Encrypted DNS (RFC 9463 section 6.1). Without addresses there is a name alone, and its priority is 0.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`], [`EmitError::TooLong`], [`EmitError::DomainName`].
    pub fn encrypted_dns(
        &mut self,
        priority: u16,
        lifetime: u32,
        name: &str,
        addresses: &[Ipv6Addr],
        parameters: &[u8],
    ) -> Result<(), EmitError> {
        let name_length = wire_length(name)?;
        let (alone, addresses_length) = (addresses.is_empty(), 16 * addresses.len());
        let rest = if alone { 0 } else { 2 + addresses_length + 2 + parameters.len() };
        let lengths = [name_length, addresses_length, parameters.len()];
        let [name_field, addresses_field, parameters_field] = lengths.map(|length| u16::try_from(length).ok());
        let body = self.option(ENCRYPTED_DNS, (2 + 8 + name_length + rest).next_multiple_of(8))?;
        body[..2].copy_from_slice(&if alone { 0 } else { priority }.to_be_bytes());
        body[2..6].copy_from_slice(&lifetime.to_be_bytes());
        // An option of 255 units has said that it is too long already.
        body[6..8].copy_from_slice(&name_field.unwrap_or_default().to_be_bytes());
        write_name(&mut body[8..], name);
        if alone {
            return Ok(());
        }
        let body = &mut body[8 + name_length..];
        body[..2].copy_from_slice(&addresses_field.unwrap_or_default().to_be_bytes());
        for (place, address) in body[2..].chunks_exact_mut(16).zip(addresses) {
            place.copy_from_slice(&address.octets());
        }
        let body = &mut body[2 + addresses_length..];
        body[..2].copy_from_slice(&parameters_field.unwrap_or_default().to_be_bytes());
        body[2..2 + parameters.len()].copy_from_slice(parameters);
        Ok(())
    }

    /// PREF64 (RFC 8781 section 4); the lifetime is rounded up to a multiple of eight seconds.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`], [`EmitError::PrefixLength`].
    pub fn pref64(&mut self, option: &Pref64) -> Result<(), EmitError> {
        let code = Pref64::length_code(option.length).ok_or(EmitError::PrefixLength)?;
        let lifetime = Pref64::scaled_lifetime(u64::from(option.lifetime)) | u16::from(code);
        let body = self.option(PREF64, 16)?;
        body[..2].copy_from_slice(&lifetime.to_be_bytes());
        body[2..].copy_from_slice(&masked(&option.prefix.octets(), option.length).octets()[..12]);
        Ok(())
    }

    /// The message so far.
    pub fn finish(self) -> &'a [u8] {
        &self.buffer[..self.length]
    }

    /// The zeroed body of a new option of `length` bytes, which is a multiple of eight.
    fn option(&mut self, kind: u8, length: usize) -> Result<&mut [u8], EmitError> {
        let units = u8::try_from(length / 8).map_err(|_| EmitError::TooLong)?;
        let option = self.space(length)?;
        option[0] = kind;
        option[1] = units;
        Ok(&mut option[2..])
    }

    fn space(&mut self, length: usize) -> Result<&mut [u8], EmitError> {
        let place = self.buffer.get_mut(self.length..self.length + length).ok_or(EmitError::NoRoom)?;
        place.fill(0);
        self.length += length;
        Ok(place)
    }
}

/// The labels of a name in text form, with or without its final dot.
fn labels(domain: &str) -> impl Iterator<Item = &str> {
    domain.strip_suffix('.').unwrap_or(domain).split('.')
}

/// Writes a name that `wire_length` has found good, and tells how many bytes it took, root label included.
fn write_name(place: &mut [u8], domain: &str) -> usize {
    let mut at = 0;
    for label in labels(domain) {
        // Labels are 63 bytes at most.
        place[at] = label.len() as u8;
        place[at + 1..at + 1 + label.len()].copy_from_slice(label.as_bytes());
        at += 1 + label.len();
    }
    at + 1
}

/// Bytes of a name in wire form, root label included.
fn wire_length(domain: &str) -> Result<usize, EmitError> {
    let mut length = 1;
    for label in labels(domain) {
        if !(1..=63).contains(&label.len()) || !label.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(EmitError::DomainName);
        }
        length += 1 + label.len();
    }
    if length > 255 { Err(EmitError::DomainName) } else { Ok(length) }
}

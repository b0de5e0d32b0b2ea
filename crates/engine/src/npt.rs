//! IPv6-to-IPv6 network prefix translation: RFC 6296, stateless and checksum-neutral.
//!
//! The kernel runs the same thing in `crates/fastpath/program/npt.c`; tests hold the two against one another.
use core::net::Ipv6Addr;

use ipnet::Ipv6Net;
use sixgate_wire::{icmpv6, ipv6};

/// Longest prefix: RFC 6296 needs one whole word of 16 bits behind it.
pub const LONGEST: u8 = 112;

/// One prefix for another of the same length, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    from: Ipv6Net,
    to: Ipv6Net,
    /// RFC 6296 section 3.1: what is added to one word, in one's complement.
    adjustment: u16,
    /// RFC 6296 sections 3.4 and 3.5: the words of which one takes the adjustment, the first and the last.
    words: (u8, u8),
}

impl Mapping {
    /// From one prefix to another; nothing where their lengths differ or leave no word to adjust.
    pub fn new(from: Ipv6Net, to: Ipv6Net) -> Option<Self> {
        let length = from.prefix_len();
        if length != to.prefix_len() || length == 0 || length > LONGEST {
            return None;
        }
        // RFC 6296 section 3.4: the word of the subnet up to /48; section 3.5: one of the interface identifier beyond,
        // and only words that lie outside of the prefix as a whole.
        let words = if length <= 48 { (3, 3) } else { ((length.div_ceil(16)).max(4), 7) };
        let adjustment = subtract(sum(from.network()), sum(to.network()));
        Some(Self { from: from.trunc(), to: to.trunc(), adjustment, words })
    }

    /// The other direction.
    #[must_use]
    pub fn reverse(&self) -> Self {
        let adjustment = subtract(0, self.adjustment);
        Self { from: self.to, to: self.from, adjustment, words: self.words }
    }

    /// The prefix of addresses that are translated.
    pub const fn from(&self) -> Ipv6Net {
        self.from
    }

    /// The prefix that they are translated to.
    pub const fn to(&self) -> Ipv6Net {
        self.to
    }

    /// What is added to one word.
    pub const fn adjustment(&self) -> u16 {
        self.adjustment
    }

    /// The first and the last of the words of which one takes the adjustment.
    pub const fn words(&self) -> (u8, u8) {
        self.words
    }

    /// The address that stands for this one; nothing where there is none, because all words that could take the adjustment
    /// are 0xffff.
    pub fn translate(&self, address: Ipv6Addr) -> Option<Ipv6Addr> {
        let host = u128::from(address) & !u128::from(self.from.netmask());
        let mut words = Ipv6Addr::from(u128::from(self.to.network()) | host).segments();
        let (first, last) = (usize::from(self.words.0), usize::from(self.words.1));
        // RFC 6296 section 3.5: the first word that is not 0xffff.
        let word = words.get_mut(first..=last)?.iter_mut().find(|word| **word != 0xffff)?;
        // RFC 6296 section 3.4: 0xffff is the same as 0x0000, and stands for it nowhere.
        *word = match add(*word, self.adjustment) {
            0xffff => 0,
            sum => sum,
        };
        Some(Ipv6Addr::from(words))
    }
}

/// One's complement sum of an address's words.
fn sum(address: Ipv6Addr) -> u16 {
    address.segments().into_iter().fold(0, add)
}

const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

const fn subtract(a: u16, b: u16) -> u16 {
    add(a, !b)
}

/// A prefix inside with the one that stands for it outside, if there is one at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The prefix inside.
    pub inside: Ipv6Net,
    /// The prefix outside.
    pub outside: Option<Ipv6Net>,
}

impl Pair {
    /// From the inside to the outside.
    pub fn outbound(&self) -> Option<Mapping> {
        Mapping::new(self.inside, self.outside?)
    }

    /// From the outside to the inside.
    pub fn inbound(&self) -> Option<Mapping> {
        Mapping::new(self.outside?, self.inside)
    }
}

/// Where the translator runs and what it translates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NptPlan {
    /// Kernel index and name of the uplink.
    pub uplink: (u32, String),
    /// The same of the LANs, between which hosts reach one another by their outside addresses as well.
    pub lans: Vec<(u32, String)>,
    /// The prefixes; none lies in another.
    pub pairs: Vec<Pair>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It was translated.
    Translated,
    /// It is none of the translator's business.
    NotMapped,
    /// RFC 6296 section 3.5: no word of the address can take the adjustment; dropped.
    NoWord,
    /// The prefix has none outside at the moment; dropped.
    NoPrefix,
    /// It came by the uplink to an address that is known inside only; dropped.
    InsideAddress,
    /// It is no IPv6 packet, or shorter than its headers.
    Malformed,
}

impl Verdict {
    /// All of them, in the order of the kernel program's counters.
    pub const ALL: [Self; 6] =
        [Self::Translated, Self::NotMapped, Self::NoWord, Self::NoPrefix, Self::InsideAddress, Self::Malformed];

    /// Stable kebab-case name, for counters and the console.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Translated => "npt-translated",
            Self::NotMapped => "npt-not-mapped",
            Self::NoWord => "npt-no-word",
            Self::NoPrefix => "npt-no-prefix",
            Self::InsideAddress => "npt-inside-address",
            Self::Malformed => "npt-malformed",
        }
    }

    /// Whether the packet goes no further.
    pub const fn is_drop(self) -> bool {
        match self {
            Self::NoWord | Self::NoPrefix | Self::InsideAddress => true,
            Self::Translated | Self::NotMapped | Self::Malformed => false,
        }
    }
}

/// Translates a packet that came in by the uplink: its destination, and the source in what an error quotes.
pub fn translate_inbound(pairs: &[Pair], packet: &mut [u8]) -> Verdict {
    let Some(destination) = address(packet, DESTINATION) else { return Verdict::Malformed };
    let Some(mapping) = find(pairs, destination, |pair| pair.outside).and_then(Pair::inbound) else {
        let known = find(pairs, destination, |pair| Some(pair.inside)).is_some();
        return if known { Verdict::InsideAddress } else { Verdict::NotMapped };
    };
    let Some(translated) = mapping.translate(destination) else { return Verdict::NoWord };
    set(packet, DESTINATION, translated);
    if let Some(quoted) = quoted(packet) {
        // RFC 4443 section 2.4: who gets an error looks for the packet that it sent itself.
        let source = quoted + SOURCE;
        let inside = address(packet, source)
            .and_then(|address| find(pairs, address, |pair| pair.outside)?.inbound()?.translate(address));
        if let Some(inside) = inside {
            set(packet, source, inside);
        }
    }
    Verdict::Translated
}

/// Translates a packet that leaves by the uplink: its source, and the destination in what an error quotes.
pub fn translate_outbound(pairs: &[Pair], packet: &mut [u8]) -> Verdict {
    let Some(source) = address(packet, SOURCE) else { return Verdict::Malformed };
    let mut verdict = Verdict::NotMapped;
    if let Some(pair) = find(pairs, source, |pair| Some(pair.inside)) {
        let Some(mapping) = pair.outbound() else { return Verdict::NoPrefix };
        let Some(translated) = mapping.translate(source) else { return Verdict::NoWord };
        set(packet, SOURCE, translated);
        verdict = Verdict::Translated;
    }
    // The router's own errors quote what was translated already.
    if let Some(quoted) = quoted(packet) {
        let destination = quoted + DESTINATION;
        let outside = address(packet, destination)
            .and_then(|address| find(pairs, address, |pair| Some(pair.inside))?.outbound()?.translate(address));
        if let Some(outside) = outside {
            set(packet, destination, outside);
            verdict = Verdict::Translated;
        }
    }
    verdict
}

const SOURCE: usize = 8;
const DESTINATION: usize = 24;
const ADDRESS: usize = 16;

fn find(pairs: &[Pair], address: Ipv6Addr, side: impl Fn(&Pair) -> Option<Ipv6Net>) -> Option<&Pair> {
    pairs.iter().find(|pair| side(pair).is_some_and(|net| net.contains(&address)))
}

fn address(packet: &[u8], at: usize) -> Option<Ipv6Addr> {
    (packet.len() >= ipv6::HEADER && packet.first()? >> 4 == 6).then_some(())?;
    let octets: [u8; ADDRESS] = packet.get(at..at + ADDRESS)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets))
}

fn set(packet: &mut [u8], at: usize, address: Ipv6Addr) {
    if let Some(octets) = packet.get_mut(at..at + ADDRESS) {
        octets.copy_from_slice(&address.octets());
    }
}

/// Where the packet begins that an ICMPv6 error quotes; nothing for anything but an error.
fn quoted(packet: &[u8]) -> Option<usize> {
    const HEADERS: usize = 8;
    let (mut next, mut at) = (*packet.get(6)?, ipv6::HEADER);
    for _ in 0..HEADERS {
        match next {
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => {
                let header = packet.get(at..at + 2)?;
                next = header[0];
                at += 8 + 8 * usize::from(header[1]);
            }
            ipv6::FRAGMENT => {
                let header = packet.get(at..at + ipv6::FRAGMENT_HEADER)?;
                // Only the first fragment has the header that is looked for.
                if header[2] != 0 || header[3] & 0xf8 != 0 {
                    return None;
                }
                next = header[0];
                at += ipv6::FRAGMENT_HEADER;
            }
            icmpv6::PROTOCOL => {
                // RFC 4443 section 2.1: errors have the highest bit of their type clear.
                let is_error = *packet.get(at)? & 0x80 == 0;
                let quoted = at + 8;
                return (is_error && packet.len() >= quoted + ipv6::HEADER && packet.get(quoted)? >> 4 == 6)
                    .then_some(quoted);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests;

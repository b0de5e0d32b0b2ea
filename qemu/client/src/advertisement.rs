//! What the kernel does not read in a router's advertisement: its resolvers (RFC 8106) and its NAT64 prefix (RFC 8781).
use std::io::{ErrorKind, Read as _};
use std::net::Ipv6Addr;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

/// ICMPv6 type of a router advertisement (RFC 4861 section 4.2).
const ROUTER_ADVERTISEMENT: u8 = 134;
/// Octets before an advertisement's options.
const FIXED: usize = 16;
/// Option types of RFC 8106 section 5.1 and RFC 8781 section 4.
const RDNSS: u8 = 25;
const PREF64: u8 = 38;
/// All nodes on the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The options that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Advertisement {
    /// Resolvers whose lifetime is not zero.
    pub(crate) resolvers: Vec<Ipv6Addr>,
    /// NAT64 prefix with its length, unless its lifetime is zero.
    pub(crate) pref64: Option<(Ipv6Addr, u8)>,
}

/// A raw ICMPv6 socket on one link.
pub(crate) struct Listener(Socket);

impl Listener {
    /// Listens to what routers say to all nodes.
    pub(crate) fn open(interface: &str) -> Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).context("no raw socket")?;
        socket.bind_device(Some(interface.as_bytes())).with_context(|| format!("no network card {interface}"))?;
        let index = std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))?;
        socket.join_multicast_v6(&ALL_NODES, index.trim().parse()?)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// The newest advertisement that has not been read yet.
    pub(crate) fn newest(&self) -> Result<Option<Advertisement>> {
        let mut newest = None;
        let mut buffer = [0; 2048];
        loop {
            match (&self.0).read(&mut buffer) {
                Ok(length) => newest = parse(&buffer[..length]).or(newest),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(newest),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn parse(message: &[u8]) -> Option<Advertisement> {
    let (fixed, mut options) = message.split_at_checked(FIXED)?;
    if fixed[0] != ROUTER_ADVERTISEMENT {
        return None;
    }
    let mut found = Advertisement::default();
    while let [kind, length, ..] = *options {
        // RFC 4861 section 4.6: an option of length zero spoils the whole message.
        let size = usize::from(length) * 8;
        let (option, rest) = options.split_at_checked(size).filter(|_| size > 0)?;
        match kind {
            RDNSS => found.resolvers.extend(resolvers(option)),
            PREF64 => found.pref64 = pref64(option),
            _ => {}
        }
        options = rest;
    }
    Some(found)
}

fn resolvers(option: &[u8]) -> Vec<Ipv6Addr> {
    let Some((head, addresses)) = option.split_at_checked(8) else { return Vec::new() };
    if head[4..] == [0; 4] {
        return Vec::new();
    }
    addresses.chunks_exact(16).filter_map(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(Ipv6Addr::from).collect()
}

/// RFC 8781 section 4: 13 bits of lifetime, 3 bits of prefix length code, the highest 96 bits of the prefix.
fn pref64(option: &[u8]) -> Option<(Ipv6Addr, u8)> {
    let option: &[u8; 16] = option.try_into().ok()?;
    let scaled = u16::from_be_bytes([option[2], option[3]]);
    let length = *[96, 64, 56, 48, 40, 32].get(usize::from(scaled & 7))?;
    let mut prefix = [0; 16];
    prefix[..12].copy_from_slice(&option[4..]);
    (scaled >> 3 != 0).then(|| (Ipv6Addr::from(prefix), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advertisement(options: &[&[u8]]) -> Vec<u8> {
        let mut message = vec![0; FIXED];
        message[0] = ROUTER_ADVERTISEMENT;
        message.extend(options.concat());
        message
    }

    fn rdnss(lifetime: u8) -> Vec<u8> {
        let address: Ipv6Addr = "fd00:64::1".parse().unwrap();
        [&[RDNSS, 3, 0, 0, 0, 0, 0, lifetime], &address.octets()[..]].concat()
    }

    fn pref64(scaled: u16) -> Vec<u8> {
        let prefix: Ipv6Addr = "64:ff9b:1::".parse().unwrap();
        [&[PREF64, 2], &scaled.to_be_bytes()[..], &prefix.octets()[..12]].concat()
    }

    #[test]
    fn resolver_and_prefix_are_found_among_other_options() {
        let mtu = [5, 1, 0, 0, 0, 0, 5, 220];
        let found = parse(&advertisement(&[&mtu, &rdnss(30), &pref64(75 << 3)])).unwrap();
        assert_eq!(found.resolvers, ["fd00:64::1".parse::<Ipv6Addr>().unwrap()]);
        assert_eq!(found.pref64, Some(("64:ff9b:1::".parse().unwrap(), 96)));
    }

    #[test]
    fn a_lifetime_of_zero_withdraws() {
        let found = parse(&advertisement(&[&rdnss(0), &pref64(0)])).unwrap();
        assert_eq!(found, Advertisement::default());
    }

    #[test]
    fn broken_options_spoil_the_message() {
        assert_eq!(parse(&advertisement(&[&[RDNSS, 0, 0, 0, 0, 0, 0, 0]])), None);
        assert_eq!(parse(&advertisement(&[&[RDNSS, 3, 0, 0, 0, 0, 0, 0]])), None);
        assert_eq!(parse(&[ROUTER_ADVERTISEMENT; 3]), None);
        assert_eq!(parse(&advertisement(&[&rdnss(1)[..23]])), None);
    }
}

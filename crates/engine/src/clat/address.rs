//! The address that the CLAT translates to: RFC 6877 section 6.3, with an interface identifier that leaves checksums as they are.
use core::net::{Ipv4Addr, Ipv6Addr};

use hmac::{Hmac, Mac};
use ipnet::Ipv6Net;
use sha2::Sha256;
use sixgate_wire::checksum::Sum;
use sixgate_wire::rfc6052::Pref64;

/// RFC 7335: what IPv4 programs on the host see as their address.
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
/// RFC 6791: who speaks in IPv4 for routers that have no IPv4 address.
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);

/// What an address is made of. The same things give the same address again, so that connections outlive a restart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ingredients<'a> {
    /// Nobody else knows it.
    pub(super) secret: &'a [u8],
    pub(super) interface: &'a str,
    /// RFC 7217 section 5: DAD_Counter.
    pub(super) turn: u32,
    pub(super) pref64: Option<Pref64>,
}

/// An address in `net`: RFC 7217's pseudo-random identifier, whose last word makes up for the difference between
/// [`HOST_V4`] and the address with the PLAT's prefix. Then the checksums of TCP and UDP stay as they are.
pub(super) fn choose(net: Ipv6Net, ingredients: &Ingredients<'_>) -> Ipv6Addr {
    let host_bits = 128 - u32::from(net.prefix_len());
    let Some(mask) = u128::MAX.checked_shr(128 - host_bits).filter(|_| host_bits > 0) else { return net.addr() };
    let random = random(net, ingredients);
    let address = net.network().to_bits() | random & mask;
    // Checksums can be made up for where the last word is free, and only by prefixes that keep words together.
    match ingredients.pref64 {
        Some(pref64) if host_bits >= 32 && pref64.length() == 96 => neutral(address, pref64),
        Some(_) | None => address.into(),
    }
}

fn random(net: Ipv6Net, ingredients: &Ingredients<'_>) -> u128 {
    // An HMAC takes a key of any length.
    let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(ingredients.secret) else { return 1 };
    mac.update(b"sixgate clat");
    mac.update(&net.network().octets());
    mac.update(ingredients.interface.as_bytes());
    for turn in ingredients.turn.. {
        let mut mac = mac.clone();
        mac.update(&turn.to_be_bytes());
        let bytes = mac.finalize().into_bytes();
        let random = bytes.iter().take(16).fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
        // RFC 5453: neither the subnet-router anycast address nor the reserved ones at the end. The last word may change yet.
        let word = random >> 16 & 0xffff_ffff;
        if word != 0 && word != 0xffff_ffff {
            return random;
        }
    }
    1
}

fn neutral(address: u128, pref64: Pref64) -> Ipv6Addr {
    let without = Ipv6Addr::from_bits(address & !0xffff);
    let held = Sum::ZERO.v6(without).v6(pref64.prefix()).fold();
    // One's complement: what is to come out, less what is there.
    let last = Sum::ZERO.v4(HOST_V4).word(!held).fold();
    Ipv6Addr::from_bits(without.to_bits() | u128::from(last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREF64: Pref64 = Pref64::WELL_KNOWN;

    fn ingredients(turn: u32) -> Ingredients<'static> {
        Ingredients { secret: b"secret", interface: "eth0", turn, pref64: Some(PREF64) }
    }

    fn net(text: &str) -> Ipv6Net {
        text.parse().unwrap()
    }

    proptest! {
        /// What goes out of a pseudo-header and what comes in have the same sum.
        #[test]
        fn the_address_leaves_checksums_as_they_are(prefix: u64, turn: u32, server: u32, long: bool) {
            let length = if long { 80 } else { 64 };
            let net = Ipv6Net::new((u128::from(prefix) << 64).into(), length).unwrap().trunc();
            let address = choose(net, &ingredients(turn));
            prop_assert!(net.contains(&address));
            let server = Ipv4Addr::from(server);
            let v4 = Sum::ZERO.v4(HOST_V4).v4(server).fold();
            let v6 = Sum::ZERO.v6(address).v6(PREF64.embed(server)).fold();
            prop_assert_eq!(v4 % 0xffff, v6 % 0xffff);
        }
    }

    #[test]
    fn the_same_things_give_the_same_address_and_others_another() {
        let net = net("2001:db8:1:2::/64");
        let first = choose(net, &ingredients(0));
        assert_eq!(choose(net, &ingredients(0)), first);
        assert_ne!(choose(net, &ingredients(1)), first, "after a duplicate");
        assert_ne!(choose(net, &Ingredients { secret: b"other", ..ingredients(0) }), first);
        assert_ne!(choose(net, &Ingredients { interface: "eth1", ..ingredients(0) }), first);
    }

    #[test]
    fn a_whole_address_is_taken_as_it_is() {
        assert_eq!(choose(net("2001:db8::5/128"), &ingredients(3)), "2001:db8::5".parse::<Ipv6Addr>().unwrap());
    }
}

//! Conditions on an IPv6 packet's header that the kernel compares at once: no set is looked into, no function called.
//!
//! A lookup in a set of prefixes costs as much as a dozen of these. They hold in chains that IPv6 packets alone reach.
use core::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::ruleset::{HeaderBits, Match};

/// Octets from the header's beginning (RFC 8200 section 3).
const NEXT_HEADER: u8 = 6;
const SOURCE: u8 = 8;
const DESTINATION: u8 = 24;

/// RFC 3513 section 4: what is given out as global unicast addresses, and all else that is not set apart.
const GLOBAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// Addresses that are near to a prefix agree with it in these bits, or in its own where it is shorter.
const NEAR: u8 = 64;
/// Comparisons beyond these are dearer than what they are to save.
const MOST: usize = 6;

/// Extension headers, if there are any, come behind another number.
pub(super) fn next_header(protocol: u8) -> Match {
    let bits = HeaderBits { offset: NEXT_HEADER, octets: 1, mask: 0xff, value: protocol.into(), is_equal: true };
    Match::HeaderBits(bits)
}

/// Whether the source lies in a prefix.
pub(super) fn source_in(net: Ipv6Net) -> Vec<Match> {
    words(SOURCE, net)
}

/// Whether the destination is as near to a prefix as its first word tells.
pub(super) fn destination_near(net: Ipv6Net) -> Vec<Match> {
    words(DESTINATION, shortened(net, 32))
}

/// Conditions of which one holds for each source in one of these prefixes, and none for most others.
pub(super) fn source_near(nets: &[Ipv6Net]) -> Vec<Vec<Match>> {
    if nets.iter().any(|net| net.contains(&GLOBAL)) {
        return vec![Vec::new()];
    }
    let (global, others): (Vec<Ipv6Net>, Vec<Ipv6Net>) = nets.iter().partition(|net| GLOBAL.contains(*net));
    let mut near = Vec::new();
    if !others.is_empty() {
        let elsewhere = words(SOURCE, GLOBAL).into_iter().map(|word| match word {
            Match::HeaderBits(bits) => Match::HeaderBits(HeaderBits { is_equal: false, ..bits }),
            other => other,
        });
        near.push(elsewhere.collect());
    }
    near.extend(covers(&global).into_iter().map(source_in));
    near
}

/// Few prefixes that cover all of these.
fn covers(nets: &[Ipv6Net]) -> Vec<Ipv6Net> {
    let mut covers = Ipv6Net::aggregate(&nets.iter().map(|net| shortened(*net, NEAR)).collect::<Vec<_>>());
    covers.sort();
    while covers.len() > MOST {
        // Those of neighbours that have most in common become one.
        let in_common = |at: &usize| common(covers[*at], covers[*at + 1]).prefix_len();
        let Some(at) = (0..covers.len() - 1).max_by_key(in_common) else { break };
        let joined = common(covers[at], covers[at + 1]);
        covers.splice(at..at + 2, [joined]);
    }
    covers
}

fn common(one: Ipv6Net, other: Ipv6Net) -> Ipv6Net {
    let same = (one.network().to_bits() ^ other.network().to_bits()).leading_zeros() as u8;
    shortened(one, same.min(other.prefix_len()))
}

fn shortened(net: Ipv6Net, length: u8) -> Ipv6Net {
    Ipv6Net::new(net.network(), net.prefix_len().min(length)).map_or(net, |net| net.trunc())
}

/// A prefix word by word.
fn words(offset: u8, net: Ipv6Net) -> Vec<Match> {
    let (address, mask) = (net.network().to_bits(), net.netmask().to_bits());
    let word = |bits: u128, index: u8| (bits >> (96 - 32 * u32::from(index))) as u32;
    let used = (0..4).filter(|index| word(mask, *index) != 0);
    used.map(|index| {
        let (mask, value) = (word(mask, index), word(address, index));
        Match::HeaderBits(HeaderBits { offset: offset + 4 * index, octets: 4, mask, value, is_equal: true })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(conditions: &[Match], source: Ipv6Addr) -> bool {
        conditions.iter().all(|condition| {
            let Match::HeaderBits(bits) = condition else { panic!("{condition:?}") };
            let mut header = [0; 40];
            header[8..24].copy_from_slice(&source.octets());
            let at = usize::from(bits.offset);
            let word = u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
            (word & bits.mask == bits.value) == bits.is_equal
        })
    }

    fn nets(list: &[&str]) -> Vec<Ipv6Net> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn a_prefix_of_any_length_holds_its_own_addresses_alone() {
        for length in 0..=128 {
            let net = Ipv6Net::new("2001:db8:1234:5678:9abc:def0:1234:5678".parse().unwrap(), length).unwrap().trunc();
            let conditions = source_in(net);
            for address in [net.network(), net.broadcast()] {
                assert!(holds(&conditions, address), "{net} {address}");
            }
            if length > 0 {
                let beyond = [net.network().to_bits().wrapping_sub(1), net.broadcast().to_bits().wrapping_add(1)];
                assert!(beyond.iter().all(|address| !holds(&conditions, (*address).into())), "{net}");
            }
        }
    }

    #[test]
    fn every_address_of_the_prefixes_is_near_to_them_and_most_others_are_not() {
        let many: Vec<String> = (0..40).map(|n| format!("2a01:4f8:{n}:{n}::/76")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let few = ["::/127", "fc00::/7", "2001:2::/48", "2001:db8::/32", "2a01:4f8:1:2:10::/76", "3fff::/20"];
        for list in [&few[..], &many, &["::/0"], &["2000::/3"], &["ff00::/8"], &["2a01:4f8:1:2:3::5/128"]] {
            let nets = nets(list);
            let near = source_near(&nets);
            assert!(near.len() <= MOST + 1);
            let is_near = |address: Ipv6Addr| near.iter().any(|conditions| holds(conditions, address));
            for net in &nets {
                for address in [net.network(), net.broadcast()] {
                    assert!(is_near(address), "{net} {address}");
                }
            }
            let all = list == ["::/0"] || list == ["2000::/3"];
            assert_eq!(is_near("2600:1901::5".parse().unwrap()), all, "{list:?}");
        }
        assert!(source_near(&[]).is_empty(), "nothing is near to nothing");
    }
}

//! The prefixes that IPv4 is represented by: RFC 6146 section 3.5.4. Several can be in use at once, while hosts move
//! from one to the next.
use core::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;
use sixgate_wire::rfc6052::Pref64;

use crate::plan::Nat64Plan;

/// Position of a prefix, as a session remembers it.
pub(super) type Position = u8;

/// The prefixes; the first is the one that hosts are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefixes {
    nets: Vec<Ipv6Net>,
    /// Empty while a prefix is no RFC 6052 prefix, which the configuration rules out.
    list: Vec<Pref64>,
}

impl Prefixes {
    pub(super) fn new(plan: &Nat64Plan) -> Self {
        let nets: Vec<Ipv6Net> = plan.prefixes().take(usize::from(Position::MAX)).collect();
        let list: Result<_, _> = nets.iter().map(|net| Pref64::new(net.network(), net.prefix_len())).collect();
        Self { nets, list: list.unwrap_or_default() }
    }

    /// As they are configured.
    pub(super) fn nets(&self) -> &[Ipv6Net] {
        &self.nets
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether a session has to remember which it is.
    pub(super) const fn are_several(&self) -> bool {
        self.list.len() > 1
    }

    /// The prefix that an address begins with, and the IPv4 address in it. The longest counts where one lies inside
    /// another.
    pub(super) fn find(&self, address: Ipv6Addr) -> Option<(Ipv4Addr, Pref64, Position)> {
        let found = |(position, pref64): (usize, &Pref64)| {
            pref64.extract(address).map(|embedded| (embedded, *pref64, position as Position))
        };
        self.list.iter().enumerate().filter_map(found).max_by_key(|(_, pref64, _)| pref64.length())
    }

    /// A session's prefix.
    pub(super) fn get(&self, position: Position) -> Option<Pref64> {
        self.list.get(usize::from(position)).copied()
    }

    /// Where each prefix lies in `next`, if it does.
    pub(super) fn positions_in(&self, next: &Self) -> Vec<Option<Position>> {
        let place = |pref64| next.list.iter().position(|other| other == pref64).map(|position| position as Position);
        self.list.iter().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Prefixes {
        /// Prefixes as text.
        pub(in crate::nat64) fn of(texts: &[&str]) -> Self {
            let nets: Vec<Ipv6Net> = texts.iter().map(|text| text.parse().unwrap()).collect();
            let list = nets.iter().map(|net| Pref64::new(net.network(), net.prefix_len()).unwrap()).collect();
            Self { nets, list }
        }
    }

    #[test]
    fn addresses_are_found_under_the_longest_prefix() {
        let prefixes = Prefixes::of(&["2001:db8::/32", "2001:db8:0:0::/96", "64:ff9b::/96"]);
        let find = |text: &str| prefixes.find(text.parse().unwrap()).map(|(v4, _, position)| (v4, position));
        assert_eq!(find("2001:db8:102:304::"), Some((Ipv4Addr::new(1, 2, 3, 4), 0)));
        assert_eq!(find("2001:db8::1.2.3.4"), Some((Ipv4Addr::new(1, 2, 3, 4), 1)));
        assert_eq!(find("64:ff9b::1.2.3.4"), Some((Ipv4Addr::new(1, 2, 3, 4), 2)));
        assert_eq!(find("2001:db9::1"), None);
    }

    #[test]
    fn prefixes_keep_their_sessions_when_the_list_changes() {
        let old = Prefixes::of(&["2001:db8:64::/96", "64:ff9b::/96"]);
        let new = Prefixes::of(&["64:ff9b::/96", "2001:db8:65::/96"]);
        assert_eq!(old.positions_in(&new), [None, Some(0)]);
    }
}

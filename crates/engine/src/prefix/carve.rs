//! Longer prefixes out of a delegated one, by number, and suffixes out of a link's prefix.
use core::net::Ipv6Addr;

use ipnet::Ipv6Net;

/// A prefix that was carved out of another one.
pub type Carved = Ipv6Net;

/// Why a subnet could not be carved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// How many subnets of that length there are.
    pub subnets: u128,
}

/// The subnet with that number and length.
///
/// # Errors
/// The prefix has no such subnet.
pub fn carve(prefix: Ipv6Net, subnet: u32, length: u8) -> Result<Carved, NoRoom> {
    let Some(bits) = length.checked_sub(prefix.prefix_len()).filter(|_| length <= 128) else {
        return Err(NoRoom { subnets: 0 });
    };
    let subnets = 1u128.checked_shl(bits.into()).unwrap_or(u128::MAX);
    if u128::from(subnet) >= subnets {
        return Err(NoRoom { subnets });
    }
    let offset = u128::from(subnet).checked_shl((128 - length).into()).unwrap_or(0);
    let network = Ipv6Addr::from(u128::from(prefix.network()) | offset);
    Ipv6Net::new(network, length).map_err(|_| NoRoom { subnets })
}

/// An address within a prefix, by its suffix. Bits of the suffix that lie in the prefix do not count.
pub fn place(prefix: Ipv6Net, suffix: Ipv6Addr) -> Ipv6Addr {
    let host = u128::from(suffix) & !u128::from(prefix.netmask());
    Ipv6Addr::from(u128::from(prefix.network()) | host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv6Net {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_are_numbered_from_zero() {
        for (subnet, carved) in
            [(0, "2001:db8:0:ff00::/64"), (1, "2001:db8:0:ff01::/64"), (255, "2001:db8:0:ffff::/64")]
        {
            assert_eq!(carve(net("2001:db8:0:ff00::/56"), subnet, 64), Ok(net(carved)));
        }
        assert_eq!(carve(net("2001:db8::/64"), 0, 64), Ok(net("2001:db8::/64")));
        assert_eq!(carve(net("2001:db8::/64"), 5, 80), Ok(net("2001:db8:0:0:5::/80")));
    }

    #[test]
    fn a_prefix_that_is_too_long_has_no_room() {
        assert_eq!(carve(net("2001:db8:0:ff00::/56"), 256, 64), Err(NoRoom { subnets: 256 }));
        assert_eq!(carve(net("2001:db8::/64"), 1, 64), Err(NoRoom { subnets: 1 }));
        assert_eq!(carve(net("2001:db8::/80"), 0, 64), Err(NoRoom { subnets: 0 }));
        assert_eq!(carve(net("::/0"), 1, 128), Ok(net("::1/128")));
    }

    #[test]
    fn a_suffix_never_reaches_into_the_prefix() {
        let suffix = "2001:db8:9:9:21::5".parse().unwrap();
        assert_eq!(place(net("2001:db8:1:2::/64"), suffix), "2001:db8:1:2:21::5".parse::<Ipv6Addr>().unwrap());
    }
}

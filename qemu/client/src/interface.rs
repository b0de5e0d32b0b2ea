//! What the kernel made of the advertisements: the address that it formed, the default route that it set.
use std::fs;
use std::net::Ipv6Addr;

use anyhow::{Context as _, Result};

/// Brings a network card up; the kernel forms its link-local address and solicits routers.
pub(crate) fn raise(interface: &str) -> Result<()> {
    const IFF_UP: &str = "0x1";
    fs::write(format!("/sys/class/net/{interface}/flags"), IFF_UP).with_context(|| format!("cannot raise {interface}"))
}

/// The global address, once duplicate address detection is over.
pub(crate) fn address(interface: &str) -> Option<Ipv6Addr> {
    global_address(&fs::read_to_string("/proc/net/if_inet6").ok()?, interface)
}

/// The next hop of the default route.
pub(crate) fn router(interface: &str) -> Option<Ipv6Addr> {
    default_router(&fs::read_to_string("/proc/net/ipv6_route").ok()?, interface)
}

/// Lines of address, index, prefix length, scope, flags, name.
fn global_address(table: &str, interface: &str) -> Option<Ipv6Addr> {
    const IFA_F_DADFAILED: u32 = 0x08;
    const IFA_F_TENTATIVE: u32 = 0x40;
    table.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let &[address, _, _, scope, flags, name] = words.as_slice() else { return None };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let usable = flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) == 0;
        (name == interface && scope == "00" && usable).then(|| parse(address))?
    })
}

/// Lines of destination, its length, source, its length, next hop, metric, counters, flags, name.
fn default_router(table: &str, interface: &str) -> Option<Ipv6Addr> {
    table.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_default = words.get(1) == Some(&"00") && words.last() == Some(&interface);
        let next_hop = parse(words.get(4)?)?;
        (is_default && !next_hop.is_unspecified()).then_some(next_hop)
    })
}

fn parse(digits: &str) -> Option<Ipv6Addr> {
    (digits.len() == 32).then(|| u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tentative_address_is_not_used_yet() {
        let tentative = "fd000064000000010000000000000002 02 40 00 40     eth0\n";
        let ready = "fe80000000000000505400fffe000002 02 40 20 80     eth0\n\
                     fd000064000000010000000000000002 02 40 00 00     eth0\n";
        assert_eq!(global_address(tentative, "eth0"), None);
        assert_eq!(global_address(ready, "eth0"), Some("fd00:64:0:1::2".parse().unwrap()));
        assert_eq!(global_address(ready, "eth1"), None);
    }

    #[test]
    fn the_default_route_leads_to_the_router() {
        let zeros = "0".repeat(32);
        let table = format!(
            "fd000064000000010000000000000000 40 {zeros} 00 {zeros} 00000100 00000001 00000000 00000001     eth0\n\
             {zeros} 00 {zeros} 00 fe80000000000000505400fffe000001 00000400 00000001 00000000 00450003     eth0\n\
             {zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo\n"
        );
        assert_eq!(default_router(&table, "eth0"), Some("fe80::5054:ff:fe00:1".parse().unwrap()));
        assert_eq!(default_router(&table, "lo"), None);
    }
}

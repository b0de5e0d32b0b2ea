//! The networks that scenarios happen in: addresses of everybody, and the router's configuration that goes with them.
use std::net::{Ipv4Addr, Ipv6Addr};

/// Which plan of addresses the network follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    /// One advertised /64 with a /80 for each VM's containers carved out of it; hosts use SLAAC.
    Slaac,
    /// The rented server with one /64: a /76 for the uplink and one for each VM, hosts are configured statically.
    /// Both gateways lie outside the uplink's prefixes.
    Slash76,
}

/// Hardware address of the router's uplink.
pub const ROUTER_WAN_MAC: &str = "52:54:00:00:01:01";
/// Hardware address of the router's LAN interface.
pub const ROUTER_LAN_MAC: &str = "52:54:00:00:02:01";
/// The router's IPv4 address, which NAT64 shares.
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// An IPv4-only web and UDP server on the Internet.
pub const SITE_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// An IPv6 web server on the Internet, and the place that connections from outside come from.
pub const SITE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x10);
/// The router's upstream resolver.
pub const UPSTREAM: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);
/// A server with an RFC 1918 address, reachable from the router.
pub const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 10);
/// An IPv4-only server behind a link with an MTU of [`NARROW_MTU`].
pub const NARROW: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
/// MTU of the narrow links.
pub const NARROW_MTU: u32 = 1300;

/// The names that the upstream resolver knows.
pub const NAMES: &[(&str, std::net::IpAddr)] = &[
    ("v4.lab.test.", std::net::IpAddr::V4(SITE_V4)),
    ("v6.lab.test.", std::net::IpAddr::V6(SITE_V6)),
    ("both.lab.test.", std::net::IpAddr::V4(SITE_V4)),
    ("both.lab.test.", std::net::IpAddr::V6(SITE_V6)),
    ("brief.lab.test.", std::net::IpAddr::V4(SITE_V4)),
    ("bogus.lab.test.", std::net::IpAddr::V4(SITE_V4)),
    ("expired.lab.test.", std::net::IpAddr::V4(SITE_V4)),
    ("www.plain.test.", std::net::IpAddr::V4(SITE_V4)),
    ("private.lab.test.", std::net::IpAddr::V4(PRIVATE)),
];

/// RFC 6052 section 2.2: the address under the lab's /96 that stands for an IPv4 address.
pub fn synthesized(v4: Ipv4Addr) -> Ipv6Addr {
    let [high, low] = [[0, 1], [2, 3]].map(|[a, b]| u16::from_be_bytes([v4.octets()[a], v4.octets()[b]]));
    Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, high, low)
}

/// A host on the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// Name, of the namespace and of the `[[vm]]`.
    pub name: &'static str,
    /// Hardware address.
    pub mac: &'static str,
    /// Static address and gateway, where SLAAC cannot be used.
    pub address: Option<(&'static str, &'static str)>,
    /// Container prefix (without length, which is 80), where the host has containers.
    pub containers: Option<&'static str>,
}

impl Network {
    /// The hosts on the LAN: two VMs with containers, and a plain client.
    pub const fn hosts(self) -> [HostPlan; 3] {
        let (vm1, vm2, client) = ("52:54:00:00:02:11", "52:54:00:00:02:12", "52:54:00:00:02:13");
        let (static1, static2, static3) = match self {
            Self::Slaac => (None, None, None),
            Self::Slash76 => (
                Some(("2001:db8:1:2:20::2/76", "2001:db8:1:2:20::1")),
                Some(("2001:db8:1:2:30::2/76", "2001:db8:1:2:30::1")),
                Some(("2001:db8:1:2:40::2/76", "2001:db8:1:2:40::1")),
            ),
        };
        [
            HostPlan { name: "vm1", mac: vm1, address: static1, containers: Some("2001:db8:1:2:21::") },
            HostPlan { name: "vm2", mac: vm2, address: static2, containers: Some("2001:db8:1:2:31::") },
            HostPlan { name: "client", mac: client, address: static3, containers: None },
        ]
    }

    /// What the Internet needs to know about the router, as arguments of `ip`; its link is `eth0`.
    pub const fn internet(self) -> &'static [&'static str] {
        match self {
            Self::Slaac => &[
                "address add 203.0.113.1/24 dev eth0",
                "address add 2001:db8:1:1::1/64 dev eth0 nodad",
                "route add 2001:db8:1:2::/64 via 2001:db8:1:1::2 src 2001:db8:ffff::10",
            ],
            Self::Slash76 => &[
                "address add 2001:db8:1:fffe::1/128 dev eth0 nodad",
                "address add 192.0.2.1/32 dev eth0",
                "route add 203.0.113.2/32 dev eth0 src 192.0.2.1",
                "address add 2001:db8:1:2:10::ffff/128 dev eth0 nodad",
                "route add 2001:db8:1:2:10::/76 dev eth0",
                "route add 2001:db8:1:2::/64 via 2001:db8:1:2:10::1 src 2001:db8:ffff::10",
            ],
        }
    }

    /// The router's configuration. Arguments are what names the uplink and the LAN: `interface = "eth0"`, `mac = ".."`.
    pub fn config(self, wan: &str, lan: &str) -> String {
        let rest = match self {
            Self::Slaac => SLAAC,
            Self::Slash76 => SLASH_76,
        };
        rest.replace("{wan}", wan).replace("{lan}", lan) + SERVICES
    }
}

const SLAAC: &str = r#"hostname = "lab"

[wan]
{wan}
ipv4 = { address = "203.0.113.2/24", gateway = "203.0.113.1" }
ipv6 = { address = "2001:db8:1:1::2/64", gateway = "fe80::1" }

[[lan]]
name = "vms"
{lan}
addresses = ["2001:db8:1:2::1/64"]
advertise = true

[[vm]]
name = "vm1"
lan = "vms"
mac = "52:54:00:00:02:11"
containers = "2001:db8:1:2:21::/80"

[[vm]]
name = "vm2"
lan = "vms"
mac = "52:54:00:00:02:12"
containers = "2001:db8:1:2:31::/80"
"#;

const SLASH_76: &str = r#"hostname = "lab"

[wan]
{wan}
ipv4 = { address = "203.0.113.2/32", gateway = "192.0.2.1" }
ipv6 = { address = "2001:db8:1:2:10::1/76", gateway = "2001:db8:1:fffe::1" }

[[lan]]
name = "vms"
{lan}
advertise = true

[[vm]]
name = "vm1"
lan = "vms"
gateway = "2001:db8:1:2:20::1/76"
address = "2001:db8:1:2:20::2"
containers = "2001:db8:1:2:21::/80"

[[vm]]
name = "vm2"
lan = "vms"
gateway = "2001:db8:1:2:30::1/76"
address = "2001:db8:1:2:30::2"
containers = "2001:db8:1:2:31::/80"

[[vm]]
name = "client"
lan = "vms"
gateway = "2001:db8:1:2:40::1/76"
address = "2001:db8:1:2:40::2"
"#;

/// Documentation addresses are not global, so the lab exempts them; [`PRIVATE`] stays refused.
const SERVICES: &str = r#"
[dns64]
upstream = ["198.51.100.53"]
dnssec = false

[nat64]
prefix = "2001:db8:64::/96"
translate_non_global = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"]
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_is_embedded_in_the_last_32_bits() {
        assert_eq!(synthesized(SITE_V4), "2001:db8:64::198.51.100.10".parse::<Ipv6Addr>().unwrap());
    }
}

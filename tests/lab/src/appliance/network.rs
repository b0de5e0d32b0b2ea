//! What an appliance is plugged into at somebody's home: a provider that lends what it lends to everybody, and a host on the LAN.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Unit;
use crate::lab::fetch;
use crate::namespace::Namespace;
use crate::network::SITE_V6;
use crate::packet::Tap;
use crate::server::dhcpd::{Dhcpd, Family};
use crate::server::dns::Dns;
use crate::server::radvd::Radvd;
use crate::server::web::Web;
use crate::wait;
use crate::world::{Segment, World};

/// How long the machine may take from its keys to a LAN that works, under emulation and beside others.
const PATIENCE: Duration = Duration::from_secs(120);
/// The provider delegates this /56.
const DELEGATED: &str = "2001:db8:7:";
/// A resolver of the configuration that the machine proposes, and a web site. Translated are addresses that are global, which
/// those for documentation are not; inside these namespaces there is nobody else who has this one.
const SITE_V4: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
/// What the DHCPv4 server gives to the first one who asks, and to the second.
const LENT: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 100), Ipv4Addr::new(203, 0, 113, 101)];
const DHCP_V4: &str = "authoritative; default-lease-time 600; max-lease-time 600;
subnet 203.0.113.0 netmask 255.255.255.0 { range 203.0.113.100 203.0.113.101; option routers 203.0.113.1; }";
const DHCP_V6: &str = "authoritative; default-lease-time 900; preferred-lifetime 600;
subnet6 2001:db8:1:1::/64 { range6 2001:db8:1:1::1000 2001:db8:1:1::1fff; prefix6 2001:db8:7:: 2001:db8:7:: /56; }";
const RADVD: &str =
    "AdvManagedFlag on; AdvDefaultLifetime 1800; prefix 2001:db8:1:1::/64 { AdvOnLink on; AdvAutonomous on; };";

/// The network; it goes with this value, servers first.
pub(super) struct Network {
    _servers: (Radvd, Dhcpd, Dhcpd, Dns),
    site_v4: Web,
    _site_v6: Web,
    client: Namespace,
    _internet: Namespace,
    _world: World,
}

/// Which of the machine's cards the provider's cable is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uplink {
    FirstCard,
    SecondCard,
}

impl Network {
    /// Plugs the machine's first two cards in at its next start.
    pub(super) fn create(unit: &mut Unit, uplink: Uplink) -> Result<Self> {
        let folder = unit.folder().file_name().context("a folder")?.to_string_lossy().into_owned();
        let world = World::create(&format!("{folder}/network"))?;
        let (wan, segments) = match uplink {
            Uplink::FirstCard => (1, [Segment::Wan, Segment::Lan]),
            Uplink::SecondCard => (2, [Segment::Lan, Segment::Wan]),
        };
        for (number, segment) in (1..).zip(segments) {
            unit.plugs.push(world.tap(&format!("tap{number}"), segment)?);
        }
        let internet = internet(&world, wan)?;
        let servers = (
            Radvd::start(&world, &internet, "radvd", RADVD)?,
            Dhcpd::start(&world, &internet, Family::V4, "dhcpd4", DHCP_V4)?,
            Dhcpd::start(&world, &internet, Family::V6, "dhcpd6", DHCP_V6)?,
            Dns::start(&internet, SocketAddr::new(SITE_V4.into(), 53), &[("v4.lab.test.", IpAddr::V4(SITE_V4))])?,
        );
        let client = world.host("client")?;
        world.plug(&client, "eth0", "52:54:00:00:02:13", Segment::Lan)?;
        client.ip("link set eth0 up")?;
        Ok(Self {
            _servers: servers,
            site_v4: Web::start(&internet, SocketAddr::new(SITE_V4.into(), 80))?,
            _site_v6: Web::start(&internet, SocketAddr::new(SITE_V6.into(), 80))?,
            client,
            _internet: internet,
            _world: world,
        })
    }

    /// Fails where the host has got anything from the machine.
    pub(super) fn ensure_nothing_works(&self) -> Result<()> {
        let (gateways, addresses) = (self.client.default_gateways()?, self.client.global_addresses("eth0")?);
        ensure!(gateways.is_empty() && addresses.is_empty(), "the host has {gateways:?} and {addresses:?}");
        Ok(())
    }

    /// Waits until the host, which only its kernel has configured, reaches a site by IPv6 with an address out of the delegated
    /// prefix, and one that has IPv4 alone by its name.
    pub(super) fn await_service(&self) -> Result<()> {
        wait::until_ok("a LAN that works, seen from a host on it", PATIENCE, || {
            let gateways = self.client.default_gateways()?;
            ensure!(gateways.len() == 1 && gateways[0].starts_with("fe80::"), "default gateways are {gateways:?}");
            let addresses = self.client.global_addresses("eth0")?;
            let seen = fetch(&self.client, &format!("http://[{SITE_V6}]/"))?;
            let seen: Ipv6Addr = seen.trim().parse()?;
            ensure!(addresses.contains(&seen) && seen.to_string().starts_with(DELEGATED), "the site sees {seen}");

            // Nobody but the root's holders can sign names that a resolver with the root's key would believe, so the host asks
            // for unproven answers.
            let resolver = self.resolver()?;
            let asked = format!("dig +cd +short +time=5 +tries=1 @{resolver} v4.lab.test AAAA");
            let answer = self.client.run(&asked)?.text()?;
            let address: Ipv6Addr = answer.trim().parse().with_context(|| format!("the resolver says {answer:?}"))?;
            let seen = fetch(&self.client, &format!("http://[{address}]/"))?;
            let seen: Ipv4Addr = seen.trim().parse()?;
            ensure!(LENT.contains(&seen), "the site sees {seen}");
            Ok(())
        })
    }

    /// The resolver that is advertised to the host.
    fn resolver(&self) -> Result<Ipv6Addr> {
        let mut tap = Tap::open(&self.client, "eth0")?;
        self.client.run("rdisc6 -1 -q -r 4 -w 3000 eth0")?.text()?;
        let advertisement = tap.advertisement("an answer to a solicitation", PATIENCE, |_| true)?;
        Ok(advertisement.rdnss.first().context("no resolver is advertised")?.0)
    }

    /// How often the IPv4 site was visited.
    pub(super) fn visits(&self) -> usize {
        self.site_v4.peers().len()
    }
}

/// The provider's router, which knows by snooping where the delegated prefix lies.
fn internet(world: &World, wan: u8) -> Result<Namespace> {
    let internet = world.host("internet")?;
    internet.set_sysctl("net/ipv6/conf/all/forwarding", "1")?;
    internet.set_sysctl("net/ipv4/conf/all/forwarding", "1")?;
    world.plug(&internet, "eth0", "52:54:00:00:01:ff", Segment::Wan)?;
    internet.ip("link set eth0 up")?;
    for address in ["fe80::1/64", "2001:db8:1:1::1/64"] {
        internet.ip(&format!("address add {address} dev eth0 nodad"))?;
    }
    internet.ip("address add 203.0.113.1/24 dev eth0")?;
    internet.ip(&format!("address add {SITE_V4}/32 dev lo"))?;
    internet.ip(&format!("address add {SITE_V6}/128 dev lo nodad"))?;
    let router = format!("fe80::be24:11ff:fe00:{wan}");
    internet.ip(&format!("route add {DELEGATED}:/56 via {router} dev eth0 src {SITE_V6}"))?;
    Ok(internet)
}

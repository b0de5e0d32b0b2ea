//! A provider that delegates nothing: its router advertises one /64, and hosts behind this router live in that as well.
use std::net::{Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};

use super::client::ping;
use super::delegation::held;
use crate::lab::{Lab, SOON, await_connection, ensure_refused, fetch};
use crate::network::{SITE_V4, SITE_V6, synthesized};
use crate::packet::Tap;
use crate::server::radvd::Radvd;
use crate::server::web::Web;
use crate::wait;

/// The provider's router, which is the resolver that it names.
const GATEWAY: &str = "2001:db8:1:1::1";
const WORDS: &str = "RDNSS 2001:db8:1:1::1 {}; prefix 2001:db8:1:1::/64 { };";
/// The provider renumbers.
const RENUMBERED: &str = "prefix 2001:db8:1:1::/64 { AdvPreferredLifetime 0; AdvValidLifetime 600; };
    prefix 2001:db8:1:5::/64 { };";

fn config(lab: &Lab) -> String {
    let mut config = lab.config("[[allow]]\nto = \"vm1/containers::5\"\ntcp = 8080\n");
    for (key, learnt) in
        [("ipv6 = ", "ipv6 = \"ra\"\nndp_proxy = true"), ("addresses = ", "prefix = { learnt = \"wan\" }")]
    {
        let given = config.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        config = config.replace(&given, learnt);
    }
    config.replace("2001:db8:1:2:21::/80", "::21:0:0:0/80").replace("2001:db8:1:2:31::/80", "::31:0:0:0/80")
}

pub(super) fn is_shared(lab: &mut Lab) -> Result<()> {
    lab.internet.ip("route del 2001:db8:1:2::/64")?;
    let provider = Radvd::start(&lab.world, &lab.internet, "radvd", WORDS)?;
    lab.router.start(&config(lab))?;
    lab.await_service()?;
    lab.bring_hosts_up()?;
    lab.await_status("the proxy to run", |status| !status["ndp_proxy"]["mac"].is_null())?;

    // The LAN has the prefix's route, the uplink an address alone; hosts send everything to the router.
    let said = lab.solicit(&lab.client)?;
    let prefix: Ipv6Addr = "2001:db8:1:1::".parse()?;
    ensure!(
        said.prefixes.iter().any(|info| info.prefix == (prefix, 64) && info.autonomous && !info.on_link),
        "{said:?}"
    );
    let routes = lab.router.in_namespace()?.namespace().ip("-6 route show 2001:db8:1:1::/64")?;
    ensure!(routes.contains("dev eth1") && !routes.contains("dev eth0"), "{routes}");

    let client = &lab.client.namespace;
    let (own, _) = held(lab, "2001:db8:1:1:")?.context("an address out of the uplink's prefix")?;
    let url = format!("http://[{SITE_V6}]/");
    let seen = wait::until_ok("a page from the uplink's prefix", SOON, || fetch(client, &url))?;
    ensure!(seen.trim() == own.to_string(), "the server sees {seen}");
    fetch(client, &format!("http://[{}]/", synthesized(SITE_V4)))?;
    // The resolver that the provider names lies in the same prefix.
    ping(client, GATEWAY.parse::<Ipv6Addr>()?)?;

    // A container is reached from there, as the entry says; hosts on the LAN reach each other.
    let address: Ipv6Addr = "2001:db8:1:1:21::5".parse()?;
    let container = &lab.vm1.containers()?.namespace;
    container.ip(&format!("address add {address}/80 dev eth0 nodad"))?;
    lab.vm1.namespace.ip("address add 2001:db8:1:1:21::1/80 dev br0 nodad")?;
    let _servers = [8080, 8081].map(|port| Web::start(container, SocketAddr::new(address.into(), port)));
    await_connection(&lab.internet, address, 8080)?;
    ensure_refused(&lab.internet, address, 8081)?;
    await_connection(client, address, 8081)?;
    ping(client, lab.vm2.address()?)?;
    // Nobody on the uplink pretends to be behind the router.
    lab.internet.ip("address add 2001:db8:1:1:21::6/128 dev lo")?;
    let spoofed = format!("ping -6 -c 1 -W 1 -I 2001:db8:1:1:21::6 {own}");
    ensure!(!lab.internet.run(&spoofed)?.success, "a source behind the router came in by the uplink");
    lab.internet.ip("address del 2001:db8:1:1:21::6/128 dev lo")?;

    // The provider has another prefix: the LAN follows.
    drop(provider);
    lab.internet.ip("address add 2001:db8:1:5::1/64 dev eth0 nodad")?;
    let mut tap = Tap::open(&lab.client.namespace, "eth0")?;
    let _renumbered = Radvd::start(&lab.world, &lab.internet, "radvd-renumbered", RENUMBERED)?;
    tap.advertisement("the new prefix, and the old one as deprecated", SOON, |said| {
        let preferred = |prefix: &str| {
            said.prefixes.iter().find(|info| info.prefix.0.to_string() == prefix).map(|info| info.preferred > 0)
        };
        preferred("2001:db8:1:5::") == Some(true) && preferred("2001:db8:1:1::") == Some(false)
    })?;
    wait::until_ok("the client to prefer the new prefix", SOON, || {
        ensure!(held(lab, "2001:db8:1:1:")?.is_some_and(|(_, deprecated)| deprecated));
        let (own, deprecated) = held(lab, "2001:db8:1:5:")?.context("an address out of the new prefix")?;
        ensure!(!deprecated, "{own}");
        let seen = fetch(&lab.client.namespace, &url)?;
        ensure!(seen.trim() == own.to_string(), "the server sees {seen}");
        Ok(())
    })
}

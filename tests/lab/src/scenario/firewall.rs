//! What comes in: nothing, but for what an `allow` entry names. Shown by real connections, not by reading rules.
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::client::dig;
use super::container::serve;
use crate::lab::{Lab, SOON, UDP_PORT, ask, await_connection, ensure_refused, try_to_connect};
use crate::namespace::Namespace;
use crate::network::{ROUTER_LAN_MAC, ROUTER_V4, SITE_V4, UPSTREAM, synthesized};
use crate::server::udp::Udp;
use crate::server::web::Web;
use crate::wait;

pub(super) fn refuses(lab: &mut Lab) -> Result<()> {
    let before = drops(&lab.router.status()?);
    let container = lab.vm1.containers()?.address;
    let host = lab.client.address()?;
    let _servers = (serve(&lab.vm1, 8080)?, Web::start(&lab.client.namespace, SocketAddr::new(host.into(), 8080))?);
    // The servers are there: whoever stands behind the router reaches them.
    await_connection(&lab.vm2.namespace, container, 8080)?;
    await_connection(&lab.vm2.namespace, host, 8080)?;

    let outside = &lab.internet;
    ensure_refused(outside, container, 8080)?;
    ensure_refused(outside, host, 8080)?;
    for target in [container, host] {
        ensure!(!outside.run(&format!("ping -n -c 1 -W 1 {target}"))?.success, "{target} answers a ping from outside");
    }
    // The resolver is for the network's own hosts.
    let [wan, lan]: [Ipv6Addr; 2] = ["2001:db8:1:1::2".parse()?, "2001:db8:1:2::1".parse()?];
    ensure_refused(outside, wan, 53)?;
    ensure_refused(outside, lan, 53)?;
    ensure_refused(outside, ROUTER_V4, 53)?;
    for resolver in [wan.to_string(), lan.to_string(), ROUTER_V4.to_string()] {
        let asked = outside.run(&format!("dig +time=1 +tries=1 @{resolver} A v4.lab.test"))?;
        ensure!(!asked.success, "{resolver} resolves for everybody: {asked}");
    }
    // So is the translator: nobody outside gets an IPv4 address from it.
    outside.ip("route replace 2001:db8:64::/96 via 2001:db8:1:1::2")?;
    let visits = lab.site_v4.peers().len();
    ensure_refused(outside, synthesized(SITE_V4), 80)?;
    ensure!(lab.site_v4.peers().len() == visits, "translated for a host outside: {:?}", lab.site_v4.peers());
    outside.ip("route delete 2001:db8:64::/96")?;
    // Ports of NAT64's share without a binding lead nowhere.
    ensure_refused(outside, ROUTER_V4, 45_000)?;

    lab.await_status("the drops to be counted", |status| drops(status) >= before + 4).map(drop)
}

/// Packets that the firewall dropped.
fn drops(status: &Value) -> u64 {
    let reasons = status["firewall"]["dropped"].as_object().into_iter().flatten();
    reasons.filter_map(|(_, traffic)| traffic["packets"].as_u64()).sum()
}

/// BCP 38, on both sides: nobody sends with addresses that lie elsewhere.
pub(super) fn spoofed(lab: &mut Lab) -> Result<()> {
    let before = lab.router.status()?;
    let client = &lab.client.namespace;
    let resolver = lab.learn_resolver(&lab.client)?;
    // A stranger's address would make the resolver answer the stranger: an amplifier.
    client.ip("address add 2001:db8:eeee::1/128 dev lo nodad")?;
    let stranger = client.run(&format!("dig -b 2001:db8:eeee::1 +time=1 +tries=1 @{resolver} A v4.lab.test"))?;
    ensure!(!stranger.success, "the resolver answers an address of elsewhere: {stranger}");
    dig(client, &format!("@{resolver} A v4.lab.test"))?;
    // The resolver that the router asks is not to be found on the LAN.
    let echoes = echo_requests(lab.router.in_namespace()?.namespace())?;
    let (client, outside) = (&lab.client.namespace, &lab.internet);
    client.ip(&format!("address add {UPSTREAM}/32 dev lo"))?;
    client.ip(&format!("route add {ROUTER_V4}/32 dev eth0 src {UPSTREAM}"))?;
    client.ip(&format!("neighbour replace {ROUTER_V4} lladdr {ROUTER_LAN_MAC} dev eth0"))?;
    ensure!(!client.run(&format!("ping -n -c 1 -W 1 -I {UPSTREAM} {ROUTER_V4}"))?.success, "{UPSTREAM} is believed");
    // What claims to have been translated comes from the translator alone (RFC 6052 section 5.1).
    outside.ip(&format!("address add {}/128 dev lo nodad", synthesized(SITE_V4)))?;
    let ping = format!("ping -n -c 1 -W 1 -I {} 2001:db8:1:2::1", synthesized(SITE_V4));
    ensure!(!outside.run(&ping)?.success, "an address in pref64 is believed");

    // Nobody on the Internet has this address (RFC 9637).
    outside.ip("address add 3fff::1/128 dev lo nodad")?;
    ensure!(!outside.run("ping -n -c 1 -W 1 -I 3fff::1 2001:db8:1:2::1")?.success, "3fff::1 is believed");

    let router = lab.router.in_namespace()?.namespace();
    ensure!(echo_requests(router)? == echoes, "a spoofed echo request reached the router");
    let status = lab.await_status("the drops to be counted", |status| {
        let dropped = |reason: &str| status["firewall"]["dropped"][reason]["packets"].as_u64() > Some(0);
        dropped("source is not of this hardware address")
            && dropped("source in pref64 came in by the uplink")
            && dropped("source is nobody's on the Internet")
    })?;
    let asked = |status: &Value| status["dns64"]["queries"].as_u64().unwrap_or_default();
    ensure!(asked(&status) == asked(&before) + 1, "{} and {}", before["dns64"], status["dns64"]);
    Ok(())
}

/// Another program's `nft flush ruleset`, as a restart of nftables.service does it, opens the router for no longer than it
/// takes to load the table again.
pub(super) fn comes_back(lab: &mut Lab) -> Result<()> {
    for _ in 0..3 {
        let router = lab.router.in_namespace()?.namespace();
        router.run("nft flush ruleset")?.text()?;
        wait::until("the table to be back", Duration::from_secs(2), || {
            router.run("nft list table inet sixgate").ok()?.success.then_some(())
        })?;
    }
    ensure_refused(&lab.internet, "2001:db8:1:2::1".parse::<Ipv6Addr>()?, 53)
}

/// ICMP echo requests that the kernel has taken in.
fn echo_requests(router: &Namespace) -> Result<String> {
    router.run("nstat -asz IcmpInEchos")?.text()
}

const ALLOWED: &str = r#"
[[allow]]
to = "vm1/containers::5"
tcp = [8080]

[[allow]]
to = "2001:db8:1:2:31::/80"
from = ["2001:db8:ffff::/48"]
udp = ["4000-4001"]
icmp = true
"#;

pub(super) fn admits(lab: &mut Lab) -> Result<()> {
    lab.start()?;
    let (vm1, vm2) = (lab.vm1.containers()?, lab.vm2.containers()?);
    let (one, two) = (vm1.address, vm2.address);
    let _servers = (serve(&lab.vm1, 8080)?, serve(&lab.vm1, 8081)?, serve(&lab.vm2, 8080)?);
    let _udp =
        [Udp::start(&vm1.namespace, (one, UDP_PORT).into())?, Udp::start(&vm2.namespace, (two, UDP_PORT).into())?];
    await_connection(&lab.client.namespace, one, 8081)?;
    await_connection(&lab.client.namespace, two, 8080)?;
    ensure_refused(&lab.internet, one, 8080)?;

    let config = lab.config(ALLOWED);
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)?;
    await_connection(&lab.internet, one, 8080)?;
    ensure!(ask(&lab.internet, two, b"hello")? == b"hello", "an echo");
    ensure!(lab.internet.run(&format!("ping -n -c 2 -i 0.2 -W 5 {two}"))?.success, "{two} does not answer pings");
    // Another port, another container, another protocol, another source.
    ensure_refused(&lab.internet, one, 8081)?;
    ensure_refused(&lab.internet, two, 8080)?;
    ensure!(!lab.internet.run(&format!("ping -n -c 1 -W 1 {one}"))?.success, "{one} answers pings");
    lab.internet.ip("address add 2001:db8:eeee::1/128 dev lo nodad")?;
    let ping = format!("ping -n -c 1 -W 1 -I 2001:db8:eeee::1 {two}");
    ensure!(!lab.internet.run(&ping)?.success, "{two} answers pings from another source");
    lab.await_status("what was admitted to be counted", |status| {
        let admitted = status["firewall"]["allowed"].as_object().into_iter().flatten();
        admitted.filter(|(_, traffic)| traffic["packets"].as_u64() > Some(0)).count() >= 3
    })?;

    let config = lab.config("");
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)?;
    wait::until("a removed entry to be refused", SOON, || try_to_connect(&lab.internet, one, 8080).err()).map(drop)
}

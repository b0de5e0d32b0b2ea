//! Delegated prefixes that change: what clients hold, what goes on, and what must not move.
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::capture;
use crate::lab::{Lab, SOON, await_connection, connect, ensure_refused, fetch};
use crate::network::{SITE_V4, SITE_V6, synthesized};
use crate::packet::Tap;
use crate::server::dhcpd::{Dhcpd, Family};
use crate::server::radvd::Radvd;
use crate::server::web::Web;
use crate::wait;

/// The first delegation; its subnet 2 is the LAN's prefix of all other scenarios.
pub(super) const FIRST: &str = "2001:db8:1::";
/// The second one.
pub(super) const SECOND: &str = "2001:db8:9::";
/// The router's link-local address on the uplink, by its hardware address.
pub(super) const ROUTER: &str = "fe80::5054:ff:fe00:101";

/// Lifetimes of a delegation in seconds.
pub(super) struct Times {
    valid: u32,
    preferred: u32,
    renewal: u32,
}

const SHORT: Times = Times { valid: 24, preferred: 14, renewal: 4 };
pub(super) const LONG: Times = Times { valid: 900, preferred: 600, renewal: 4 };

/// The provider's side: a router that advertises itself and a prefix for the uplink, and a server that delegates.
pub(super) struct Provider {
    _router: Radvd,
    pub(super) server: Dhcpd,
}

fn delegates(prefix: &str, times: &Times) -> String {
    let Times { valid, preferred, renewal } = times;
    format!(
        "authoritative; dhcp-cache-threshold 0; default-lease-time {valid}; preferred-lifetime {preferred};
         option dhcp-renewal-time {renewal}; option dhcp-rebinding-time {};
         option dhcp6.name-servers 2001:db8:ffff::53;
         subnet6 2001:db8:1:1::/64 {{ range6 2001:db8:1:1::1000 2001:db8:1:1::1fff; prefix6 {prefix} {prefix} /56; }}",
        renewal * 2
    )
}

pub(super) fn provider(lab: &Lab, prefix: &str, times: &Times) -> Result<Provider> {
    let words = "AdvManagedFlag on; prefix 2001:db8:1:1::/64 { AdvOnLink on; AdvAutonomous on; };";
    let router = Radvd::start(&lab.world, &lab.internet, "radvd", words)?;
    // What a provider learns by snooping: where delegated prefixes lie.
    for prefix in [FIRST, SECOND] {
        lab.internet.ip(&format!("route replace {prefix}/56 via {ROUTER} dev eth0 src {SITE_V6}"))?;
    }
    lab.internet.ip("route del 2001:db8:1:2::/64")?;
    let server = Dhcpd::start(&lab.world, &lab.internet, Family::V6, "dhcpd6", &delegates(prefix, times))?;
    Ok(Provider { _router: router, server })
}

/// The provider's server with the second delegation, which does not know the first one.
pub(super) fn renumbered(lab: &Lab) -> Result<Dhcpd> {
    Dhcpd::start(&lab.world, &lab.internet, Family::V6, "dhcpd6-renumbered", &delegates(SECOND, &LONG))
}

/// The lab's configuration with an uplink that learns, and a LAN that follows.
pub(super) fn config(lab: &Lab, more: &str) -> String {
    let mut config = lab.config(more);
    for (key, learnt) in [
        ("ipv6 = ", "ipv6 = \"dhcpv6-pd\"\nprefix_hint = 56"),
        ("addresses = ", "prefix = { delegated = \"wan\", subnet = 2 }"),
    ] {
        let given = config.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        config = config.replace(&given, learnt);
    }
    config.replace("2001:db8:1:2:21::/80", "::21:0:0:0/80").replace("2001:db8:1:2:31::/80", "::31:0:0:0/80")
}

fn start(lab: &mut Lab, more: &str) -> Result<()> {
    let config = config(lab, more);
    lab.router.start(&config)?;
    await_delegation(lab, FIRST)?;
    lab.await_service()?;
    lab.bring_hosts_up()
}

pub(super) fn await_delegation(lab: &mut Lab, prefix: &str) -> Result<Value> {
    let wanted = format!("{prefix}/56");
    lab.await_status(&format!("{wanted} to be delegated"), |status| {
        let first = &status["uplink"]["delegated"][0];
        first["prefix"] == wanted.as_str() && first["retired"] == false
    })
}

/// A host's address in a prefix, and whether the kernel says that it is deprecated.
pub(super) fn held(lab: &Lab, prefix: &str) -> Result<Option<(Ipv6Addr, bool)>> {
    let links = lab.client.namespace.ip_json("-6 address show dev eth0 scope global")?;
    let addresses = links.as_array().into_iter().flatten().flat_map(|link| link["addr_info"].as_array()).flatten();
    for address in addresses {
        let local = address["local"].as_str().unwrap_or_default();
        if local.starts_with(prefix) {
            return Ok(Some((local.parse()?, address["deprecated"] == true || address["preferred_life_time"] == 0)));
        }
    }
    Ok(None)
}

pub(super) fn renumbers(lab: &mut Lab) -> Result<()> {
    let first = provider(lab, FIRST, &LONG)?;
    start(lab, "[[allow]]\nto = \"vm1/containers::5\"\ntcp = 8080\n")?;
    let (old, _) = held(lab, "2001:db8:1:2:")?.context("an address out of the first delegation")?;
    ensure!(fetch(&lab.client.namespace, &format!("http://[{SITE_V6}]/"))?.trim() == old.to_string());
    fetch(&lab.client.namespace, &format!("http://[{}]/", synthesized(SITE_V4)))?;
    let container = lab.vm1.containers()?;
    let _old_server = Web::start(&container.namespace, SocketAddr::new(container.address.into(), 8080))?;
    await_connection(&lab.internet, container.address, 8080)?;
    let mut connection = connect(&lab.client.namespace, SITE_V6, 80)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;

    // The provider's server has another prefix now, and does not know the old one.
    drop(first.server);
    let mut tap = Tap::open(&lab.client.namespace, "eth0")?;
    let _second = renumbered(lab)?;
    let new: Ipv6Addr = "2001:db8:9:2::".parse()?;
    let said = tap.advertisement("the new prefix, and the old one as deprecated", SOON, |said| {
        let lifetime = |prefix: &str| {
            said.prefixes
                .iter()
                .find(|info| info.prefix.0.to_string() == prefix)
                .map(|info| (info.preferred, info.valid))
        };
        lifetime("2001:db8:9:2::").is_some_and(|(preferred, _)| preferred > 0)
            && lifetime("2001:db8:1:2::").is_some_and(|(preferred, valid)| preferred == 0 && valid > 0 && valid <= 900)
    })?;
    ensure!(said.prefixes.iter().any(|info| info.prefix == (new, 64)), "{said:?}");
    let heard = Instant::now();
    tell_convergence(lab)?;
    let status = await_delegation(lab, SECOND)?;
    ensure!(status["uplink"]["delegated"][1]["retired"] == true, "{:#}", status["uplink"]);
    wait::until_ok("the client to prefer the new prefix", SOON, || {
        let (new, old) = (held(lab, "2001:db8:9:2:")?, held(lab, "2001:db8:1:2:")?);
        ensure!(new.is_some_and(|(_, deprecated)| !deprecated), "new: {new:?} after {:?}", heard.elapsed());
        ensure!(old.is_some_and(|(_, deprecated)| deprecated), "old: {old:?}");
        Ok(())
    })?;
    let (address, _) = held(lab, "2001:db8:9:2:")?.context("the new address")?;
    wait::until_ok("new connections to come from the new prefix", SOON, || {
        let seen = fetch(&lab.client.namespace, &format!("http://[{SITE_V6}]/"))?;
        ensure!(seen.trim() == address.to_string(), "the server sees {seen}");
        Ok(())
    })?;
    fetch(&lab.client.namespace, &format!("http://[{}]/", synthesized(SITE_V4)))?;

    // What was established goes on over the old prefix.
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).context("the connection from before")?;
    ensure!(answer.contains("200 OK") && answer.contains(&old.to_string()), "{answer}");

    // The rule by suffix and the container's route have followed.
    let target: Ipv6Addr = "2001:db8:9:2:21::5".parse()?;
    let container = lab.vm1.containers()?;
    container.namespace.ip(&format!("address add {target}/80 dev eth0 nodad"))?;
    lab.vm1.namespace.ip("address add 2001:db8:9:2:21::1/80 dev br0 nodad")?;
    let _server = Web::start(&container.namespace, SocketAddr::new(target.into(), 8080))?;
    let _other = Web::start(&container.namespace, SocketAddr::new(target.into(), 8081))?;
    await_connection(&lab.internet, target, 8080)?;
    ensure_refused(&lab.internet, target, 8081)?;

    // One event has before and after.
    let changes = status["uplink"]["changes"].as_array().context("changes")?;
    let change = changes.iter().rev().find(|change| {
        change["new"].as_array().is_some_and(|new| new.contains(&Value::from(format!("delegated {SECOND}/56"))))
    });
    let change = change.with_context(|| format!("{changes:#?}"))?;
    ensure!(
        change["gone"].as_array().is_some_and(|gone| gone.contains(&Value::from(format!("delegated {FIRST}/56")))),
        "{change}"
    );

    // A restart is no renumbering, and does not forget what is on its way out.
    let router = lab.router.in_namespace()?;
    router.end(Signal::USR1)?;
    let mut tap = Tap::open(&lab.client.namespace, "eth0")?;
    lab.router.in_namespace()?.start_again()?;
    let said = tap.advertisement("both prefixes after a restart", SOON, |said| said.prefixes.len() == 2)?;
    let preferred = |prefix: &str| {
        said.prefixes.iter().find(|info| info.prefix.0.to_string() == prefix).map(|info| info.preferred > 0)
    };
    ensure!(preferred("2001:db8:9:2::") == Some(true) && preferred("2001:db8:1:2::") == Some(false), "{said:?}");
    Ok(())
}

/// From the provider's message to the first advertisement of what it says, on the wires themselves.
fn tell_convergence(lab: &Lab) -> Result<()> {
    const NEW: [u8; 6] = [0x20, 0x01, 0x0d, 0xb8, 0, 9];
    let capture = |segment: &str| lab.world.folder().join(format!("{segment}.pcap"));
    let told = capture::first(&capture("wan"), "the server's reply", SOON, |frame| capture::is_reply(frame, &NEW))?;
    let said =
        capture::first(&capture("lan"), "the advertisement", SOON, |frame| capture::is_advertisement(frame, &NEW))?;
    let took = said.checked_sub(told).context("an advertisement before the provider's message")?;
    println!("from the provider's message to the first advertisement of the new prefix: {} ms", took.as_millis());
    Ok(())
}

pub(super) fn goes_and_returns(lab: &mut Lab) -> Result<()> {
    let first = provider(lab, FIRST, &SHORT)?;
    start(lab, "")?;
    let renewals = |lab: &Lab| -> Result<u64> {
        let log = std::fs::read_to_string(lab.world.folder().join("dhcpd6.log"))?;
        Ok(log.matches("Renew message").count() as u64)
    };
    wait::until_ok("a renewal", SOON, || {
        ensure!(renewals(lab)? > 0, "{}", first.server.log());
        Ok(())
    })?;
    let router = lab.router.in_namespace()?.namespace();
    ensure!(
        router.global_addresses("eth0")?.contains(&"2001:db8:1:1:5054:ff:fe00:101".parse()?),
        "no address by SLAAC"
    );
    drop(first);

    // Nothing is said any more: the prefix is deprecated when its time is over, and then gone.
    let finding = lab.await_finding("no-prefix-delegated")?;
    ensure!(finding["subject"] == "vms", "{finding}");
    wait::until_ok("the client to deprecate the prefix", SOON, || {
        let held = held(lab, "2001:db8:1:2:")?;
        ensure!(held.is_none_or(|(_, deprecated)| deprecated), "{held:?}");
        Ok(())
    })?;
    lab.await_status("the prefix to end", |status| {
        status["uplink"]["delegated"].as_array().is_some_and(Vec::is_empty)
    })?;
    wait::until_ok("the router to give up its address", SOON, || {
        let held = lab.router.in_namespace()?.namespace().global_addresses("eth1")?;
        ensure!(held.is_empty(), "{held:?}");
        Ok(())
    })?;

    let second = provider_returns(lab)?;
    await_delegation(lab, FIRST)?;
    // It advertises two prefixes for the uplink now, and the router has an address out of each.
    wait::until_ok("an address out of each of the uplink's prefixes", SOON, || {
        let held = lab.router.in_namespace()?.namespace().global_addresses("eth0")?;
        for prefix in ["2001:db8:1:1:", "2001:db8:1:fff1:"] {
            ensure!(held.iter().any(|address| address.to_string().starts_with(prefix)), "{held:?}");
        }
        Ok(())
    })?;
    wait::until_ok("the client to have an address again", SOON, || {
        ensure!(held(lab, "2001:db8:1:2:")?.is_some_and(|(_, deprecated)| !deprecated));
        Ok(())
    })?;

    // The server shortens the lifetimes: hosts hear of the shorter ones at the next renewal, and nothing is deprecated.
    drop(second.server);
    let mut tap = Tap::open(&lab.client.namespace, "eth0")?;
    let _third = Dhcpd::start(&lab.world, &lab.internet, Family::V6, "dhcpd6-again", &delegates(FIRST, &SHORT))?;
    let said = tap.advertisement("shorter lifetimes", SOON, |said| {
        said.prefixes.iter().any(|info| info.valid > 0 && info.valid <= SHORT.valid)
    })?;
    ensure!(said.prefixes.len() == 1 && said.prefixes[0].preferred > 0, "{said:?}");
    Ok(())
}

fn provider_returns(lab: &Lab) -> Result<Provider> {
    let words = "prefix 2001:db8:1:1::/64 { AdvOnLink on; AdvAutonomous on; };
                 prefix 2001:db8:1:fff1::/64 { AdvOnLink on; AdvAutonomous on; };";
    let router = Radvd::start(&lab.world, &lab.internet, "radvd-again", words)?;
    let server = Dhcpd::start(&lab.world, &lab.internet, Family::V6, "dhcpd6-again", &delegates(FIRST, &LONG))?;
    Ok(Provider { _router: router, server })
}

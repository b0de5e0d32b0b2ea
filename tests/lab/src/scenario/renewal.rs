//! A server that delegates two prefixes at once, shortens them, takes one back, and has the router ask for it.
use std::io::{Read, Write};
use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::delegation::{self, FIRST, ROUTER, SECOND, held};
use crate::lab::{Lab, SOON, connect, fetch};
use crate::network::SITE_V6;
use crate::packet::{Advertisement, Tap};
use crate::server::delegator::{Delegator, KEY, REBIND, RENEW};
use crate::server::radvd::Radvd;
use crate::wait;

/// Preferred and valid lifetime of what is advertised of a delegation.
fn lifetimes(said: &Advertisement, prefix: &str) -> Option<(u32, u32)> {
    let prefix: Ipv6Addr = prefix.parse().ok()?;
    said.prefixes.iter().find(|info| info.prefix == (prefix, 64)).map(|info| (info.preferred, info.valid))
}

fn delegated(lab: &mut Lab) -> Result<Vec<(String, bool)>> {
    let status = lab.router.status()?;
    let prefixes = status["uplink"]["delegated"].as_array().context("what is delegated")?;
    let one = |held: &Value| Some((held["prefix"].as_str()?.to_owned(), held["retired"].as_bool()?));
    prefixes.iter().map(|held| one(held).with_context(|| held.to_string())).collect()
}

pub(super) fn follows(lab: &mut Lab) -> Result<()> {
    let (first, second): (Ipv6Addr, Ipv6Addr) = (FIRST.parse()?, SECOND.parse()?);
    let words = "AdvManagedFlag on; prefix 2001:db8:1:1::/64 { AdvOnLink on; AdvAutonomous on; };";
    let _router = Radvd::start(&lab.world, &lab.internet, "radvd", words)?;
    for prefix in [FIRST, SECOND] {
        lab.internet.ip(&format!("route replace {prefix}/56 via {ROUTER} dev eth0 src {SITE_V6}"))?;
    }
    lab.internet.ip("route del 2001:db8:1:2::/64")?;
    let server = Delegator::start(&lab.internet, &[(first, 1800, 3600)])?;
    lab.router.start(&delegation::config(lab, ""))?;
    delegation::await_delegation(lab, FIRST)?;
    lab.await_service()?;
    lab.bring_hosts_up()?;
    let bound = |lab: &mut Lab| lab.await_status("to be bound", |status| status["uplink"]["dhcp6"]["state"] == "bound");
    bound(lab)?;

    // Who does not have the key has the router do nothing.
    let asked = server.asked().len();
    server.give(&[(first, 600, 900), (second, 1800, 3600)]);
    server.reconfigure(RENEW, b"nobody's own key")?;
    lab.await_status("a Reconfigure without proof", |status| {
        status["uplink"]["dhcp6"]["messages"]["dhcp6-unproven"].as_u64() > Some(0)
    })?;
    ensure!(server.asked().len() == asked, "{:?}", server.asked());

    // With it the router renews at once, a quarter of an hour early: there are two prefixes, and one is shorter.
    let mut tap = Tap::open(&lab.client.namespace, "eth0")?;
    server.reconfigure(RENEW, KEY)?;
    let said = tap.advertisement("two prefixes", SOON, |said| {
        lifetimes(said, "2001:db8:1:2::").is_some_and(|(preferred, valid)| preferred <= 600 && valid <= 900)
            && lifetimes(said, "2001:db8:9:2::").is_some()
    })?;
    let preferred = |prefix| lifetimes(&said, prefix).is_some_and(|(preferred, _)| preferred > 0);
    ensure!(preferred("2001:db8:1:2::") && preferred("2001:db8:9:2::"), "{said:?}");
    ensure!(server.asked().last() == Some(&RENEW), "{:?}", server.asked());
    wait::until_ok("the client to prefer both", SOON, || {
        for prefix in ["2001:db8:1:2:", "2001:db8:9:2:"] {
            ensure!(held(lab, prefix)?.is_some_and(|(_, deprecated)| !deprecated), "{prefix}");
        }
        Ok(())
    })?;
    let (old, _) = held(lab, "2001:db8:1:2:")?.context("an address out of the first")?;
    let (new, _) = held(lab, "2001:db8:9:2:")?.context("an address out of the second")?;
    for own in [old, new] {
        let seen = wait::until_ok("a page by either address", SOON, || {
            lab.client.namespace.run(&format!("curl -sS --max-time 5 --interface {own} http://[{SITE_V6}]/"))?.text()
        })?;
        ensure!(seen.trim() == own.to_string(), "{seen}");
    }
    let routes = lab.router.in_namespace()?.namespace().ip("-6 route show")?;
    for container in ["2001:db8:1:2:21::/80 via", "2001:db8:9:2:21::/80 via"] {
        ensure!(routes.contains(container), "{routes}");
    }
    let mut connection = connect(&lab.client.namespace, SITE_V6, 80)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let source = connection.local_addr()?.ip();

    // The provider stops to prefer the first one, by a Rebind this time.
    bound(lab)?;
    server.give(&[(first, 0, 600), (second, 1800, 3600)]);
    server.reconfigure(REBIND, KEY)?;
    tap.advertisement("the first as deprecated", SOON, |said| {
        lifetimes(said, "2001:db8:1:2::").is_some_and(|(preferred, valid)| preferred == 0 && (1..=600).contains(&valid))
    })?;
    wait::until_ok("the client to deprecate it", SOON, || {
        ensure!(held(lab, "2001:db8:1:2:")?.is_some_and(|(_, deprecated)| deprecated));
        ensure!(held(lab, "2001:db8:9:2:")?.is_some_and(|(_, deprecated)| !deprecated));
        Ok(())
    })?;
    wait::until_ok("new connections to come from the other", SOON, || {
        let seen = fetch(&lab.client.namespace, &format!("http://[{SITE_V6}]/"))?;
        ensure!(seen.trim() == new.to_string(), "{seen}");
        Ok(())
    })?;

    // It is taken back: hosts hear of it as deprecated until what they know ends, and what is established goes on.
    bound(lab)?;
    server.give(&[(second, 1800, 3600)]);
    server.reconfigure(RENEW, KEY)?;
    lab.await_status("the first to be gone from the lease", |status| {
        let changes = status["uplink"]["dhcp6"]["state"] == "bound";
        changes && status["uplink"]["delegated"][0]["prefix"] == format!("{SECOND}/56").as_str()
    })?;
    ensure!(delegated(lab)? == [(format!("{SECOND}/56"), false), (format!("{FIRST}/56"), true)]);
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).context("the connection from before")?;
    ensure!(answer.contains("200 OK") && answer.contains(&source.to_string()), "{answer}");
    Ok(())
}

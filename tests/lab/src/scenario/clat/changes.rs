//! What changes around a CLAT while it runs: prefixes, a NAT64 that falls silent, IPv4 of the host's own, and its own end.
use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{Clat, ensure_untouched, ipv4_client, traces};
use crate::lab::{Lab, SOON, await_connection, fetch, finding, try_to_connect};
use crate::namespace::Namespace;
use crate::network::{ROUTER_V4, SITE_V4};
use crate::packet::Tap;
use crate::wait;

/// How long it may take until a NAT64 counts as silent, or as one that answers again: it is not asked all the time.
const PATIENCE: Duration = Duration::from_secs(120);
/// A router beside the lab's own, and the prefix that it announces, behind which there is no NAT64.
const OTHER_ROUTER: &str = "fe80::bad";
const DEAD_PREFIX: &str = "2001:db8:6600::";
const DEAD_LENGTH_CODE: u8 = 3;
/// An IPv4 address from which nothing comes back, not even an error.
const NOBODY: &str = "192.0.2.99";

pub(in crate::scenario) fn follows_prefixes(lab: &mut Lab) -> Result<()> {
    let host = &lab.client.namespace;
    lab.learn_resolver(&lab.client)?;

    // Nobody announces a prefix: the resolver's synthesis tells it.
    host.run("nft add table ip6 deaf")?.text()?;
    host.run("nft add chain ip6 deaf input { type filter hook input priority 0; }")?.text()?;
    host.run("nft add rule ip6 deaf input icmpv6 type nd-router-advert drop")?.text()?;
    let clat = Clat::start(lab, host, &format!("--check {SITE_V4}"))?;
    let status = clat.await_translating()?;
    ensure!(status["pref64"] == "2001:db8:64::/96" && status["origin"] == "dns", "{status:#}");
    let address = status["address"].as_str().context("an address")?.to_owned();
    fetch(host, &format!("http://{SITE_V4}/"))?;

    // A router does, which counts more.
    host.run("nft delete table ip6 deaf")?.text()?;
    wait::until_ok("the announcement to count", PATIENCE, || {
        lab.solicit(&lab.client)?;
        let status = clat.status()?;
        ensure!(status["origin"] == "advertised" && status["stage"] == "translating", "{status:#}");
        Ok(())
    })?;

    // Another router announces another one: what works stays, and the operator is told.
    let mut other = Tap::open(&lab.vm2.namespace, "eth0")?;
    other.announce_pref64(OTHER_ROUTER.parse()?, DEAD_PREFIX.parse()?, DEAD_LENGTH_CODE, 1800)?;
    let status = clat.await_finding("clat-several-prefixes")?;
    ensure!(status["pref64"] == "2001:db8:64::/96" && status["stage"] == "translating", "{status:#}");
    ensure!(status["further_pref64"][0] == format!("{DEAD_PREFIX}/48"), "{status:#}");

    // The router changes its own to one of 64 bits. Behind the other router's nobody answers.
    let config = lab.config("").replace("2001:db8:64::/96", "2001:db8:65::/64");
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)?;
    let status = clat.await_status_for(PATIENCE, "the new prefix to be in use", |status| {
        status["stage"] == "translating" && status["pref64"] == "2001:db8:65::/64"
    })?;
    ensure!(status["address"] == address, "the address stays: {status:#}");
    ensure!(finding(&status, "clat-prefix-length").is_some(), "{status:#}");
    fetch(host, &format!("http://{SITE_V4}/"))?;
    let mtu = host.ip("-4 route show default dev clat")?;
    ensure!(mtu.contains("mtu 1480"), "{mtu}");

    // No answer comes back from IPv4 any more: nothing is routed there, whichever prefix is tried.
    lab.internet.ip(&format!("route add blackhole {ROUTER_V4}/32"))?;
    wait::until_ok("the silence to be noticed", PATIENCE, || {
        // Whoever sends and hears nothing makes it look sooner.
        let _ = host.run(&format!("ping -n -c 1 -W 1 {SITE_V4}"))?;
        let status = clat.status()?;
        ensure!(status["stage"] == "plat-silent" && finding(&status, "clat-plat-silent").is_some(), "{status:#}");
        Ok(())
    })?;
    await_no_route(host)?;
    lab.internet.ip(&format!("route delete blackhole {ROUTER_V4}/32"))?;
    let status = clat.await_status_for(PATIENCE, "the nat64 to be back", |status| status["stage"] == "translating")?;
    ensure!(finding(&status, "clat-plat-silent").is_none(), "{status:#}");
    fetch(host, &format!("http://{SITE_V4}/"))?;

    // All are taken back.
    other.announce_pref64(OTHER_ROUTER.parse()?, DEAD_PREFIX.parse()?, DEAD_LENGTH_CODE, 0)?;
    clat.await_status("the dead prefix to be forgotten", |status| finding(status, "clat-several-prefixes").is_none())?;
    clat.end(Signal::TERM)
}

pub(in crate::scenario) fn leaves_nothing(lab: &mut Lab) -> Result<()> {
    let host = &lab.client.namespace;
    let client = ipv4_client(lab, host)?;
    let before = traces(host)?;
    let check = format!("--check {SITE_V4}");
    let clat = Clat::start(lab, host, &check)?;
    let address = clat.await_translating()?["address"].clone();

    // IPv4 of the host's own comes first, and nothing of the clat is in its way.
    host.ip("link add native type veth peer name native0")?;
    host.ip("link set native up")?;
    host.ip("link set native0 up")?;
    host.ip("route add default dev native")?;
    let status = clat.await_status("the clat to step back", |status| status["stage"] == "native-ipv4")?;
    ensure!(finding(&status, "clat-native-ipv4").is_some(), "{status:#}");
    wait::until_ok("its traces to go", SOON, || {
        let routes = host.ip("-4 route")?;
        let tables = host.run("nft list tables")?.text()?;
        ensure!(!routes.contains("clat") && !tables.contains("sixgate_clat"), "{routes}{tables}");
        ensure!(host.sysctl("net/ipv6/conf/all/forwarding")? == "0", "it forwards still");
        Ok(())
    })?;
    host.ip("link delete native")?;
    clat.await_translating()?;

    // A flush of all rules takes ours along for a moment only.
    host.run("nft flush ruleset")?.text()?;
    wait::until_ok("the table to be back", SOON, || host.run("nft list table inet sixgate_clat")?.text().map(drop))?;
    fetch(&client, &format!("http://{SITE_V4}/"))?;

    // Killed: nothing blackholes, and the next one goes on with the same address and the same connections.
    let mut held = await_connection(host, SITE_V4, 80)?;
    clat.end(Signal::KILL)?;
    await_no_route(host)?;
    ensure!(try_to_connect(host, SITE_V4, 80).is_err(), "there is a way left");
    let clat = Clat::start(lab, host, &check)?;
    let status = clat.await_translating()?;
    ensure!(status["address"] == address, "{status:#}");
    held.set_read_timeout(Some(SOON))?;
    held.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    held.read_to_string(&mut answer).context("a connection from before")?;
    ensure!(answer.contains(&ROUTER_V4.to_string()), "{answer}");

    // Killed while it serves, and removed by hand.
    clat.end(Signal::KILL)?;
    ensure!(traces(host)?.contains("sixgate_clat"), "what keeps strangers out stays while the host forwards");
    lab.internet.ip(&format!("route add blackhole {NOBODY}/32"))?;
    let clat = Clat::start(lab, host, &format!("--check {NOBODY}"))?;
    let status = clat.await_finding("clat-plat-silent")?;
    ensure!(status["stage"] == "plat-silent", "{status:#}");
    await_no_route(host)?;
    let refused = clat.command("remove")?;
    ensure!(!refused.success, "what runs is not removed: {refused}");
    let clat = clat.kill()?;
    clat.command("remove")?.text()?;
    ensure_untouched(host, &before)?;

    // Ended in order.
    let clat = Clat::start(lab, host, "--no-check")?;
    clat.await_translating()?;
    fetch(&client, &format!("http://{SITE_V4}/"))?;
    clat.end(Signal::TERM)?;
    ensure_untouched(host, &before)
}

/// Waits until IPv4 has no way out.
fn await_no_route(host: &Namespace) -> Result<()> {
    wait::until_ok("the route to go", SOON, || {
        let routes = host.ip("-4 route show default")?;
        ensure!(routes.trim().is_empty(), "{routes}");
        Ok(())
    })
}

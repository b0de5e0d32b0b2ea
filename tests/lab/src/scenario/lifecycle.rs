//! Beginning and end: stop is not restart, and a crash is neither.
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::container::serve;
use super::hostile::default_deny_by_hand;
use crate::lab::{Lab, SOON, await_connection, connect, ensure_refused, fetch};
use crate::network::{SITE_V4, SITE_V6, synthesized};
use crate::packet::Tap;
use crate::snapshot::Snapshot;
use crate::wait;

pub(super) fn restart(lab: &mut Lab) -> Result<()> {
    let mut translated = connect(&lab.client.namespace, synthesized(SITE_V4), 80)?;
    translated.set_read_timeout(Some(Duration::from_secs(10)))?;
    goes_and_comes_back(lab, Signal::USR1, |code| code == Some(0))?;
    // The translator's sessions survive as well.
    translated.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    translated.read_to_string(&mut answer).context("the translated connection from before")?;
    ensure!(answer.contains("200 OK"), "{answer}");
    Ok(())
}

pub(super) fn killed(lab: &mut Lab) -> Result<()> {
    goes_and_comes_back(lab, Signal::KILL, |code| code.is_none())
}

fn goes_and_comes_back(lab: &mut Lab, signal: Signal, expected: fn(Option<i32>) -> bool) -> Result<()> {
    let _server = serve(&lab.vm1, 8080)?;
    let target = lab.vm1.containers()?.address;
    await_connection(&lab.vm2.namespace, target, 8080)?;
    fetch(&lab.client.namespace, &format!("http://[{}]/", synthesized(SITE_V4)))?;
    let mut connection = connect(&lab.client.namespace, SITE_V6, 80)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let gateways = lab.client.namespace.default_gateways()?;
    ensure!(!gateways.is_empty(), "the client has no default route to lose");
    let router = lab.router.in_namespace()?;
    let before = Snapshot::take(router.namespace())?;

    let status = router.end(signal)?;
    ensure!(expected(status.code()), "the daemon ended with {status}");
    // The TUN device loses its carrier with the daemon; everything else is as it was.
    let orphaned = Snapshot::take(router.namespace())?;
    before.without("nat64").ensure_same(&orphaned.without("nat64"))?;
    ensure_refused(&lab.internet, target, 8080)?;
    ensure_refused(&lab.internet, "2001:db8:1:2::1".parse::<std::net::Ipv6Addr>()?, 53)?;
    // The kernel forwards on its own.
    await_connection(&lab.client.namespace, SITE_V6, 80)?;
    keeps_default_route(lab, &gateways)?;

    lab.router.in_namespace()?.start_again()?;
    lab.await_service()?;
    before.ensure_same(&Snapshot::take(lab.router.in_namespace()?.namespace())?)?;
    ensure_refused(&lab.internet, target, 8080)?;
    fetch(&lab.client.namespace, &format!("http://[{}]/", synthesized(SITE_V4)))?;
    // A connection from before is still the same connection.
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).context("the connection from before")?;
    ensure!(answer.contains("200 OK"), "{answer}");
    keeps_default_route(lab, &gateways)
}

/// A host with a static gateway may learn another one meanwhile.
fn keeps_default_route(lab: &Lab, gateways: &[String]) -> Result<()> {
    let now = lab.client.namespace.default_gateways()?;
    ensure!(gateways.iter().all(|gateway| now.contains(gateway)), "default gateways were {gateways:?}, now {now:?}");
    Ok(())
}

/// Process 1 of the image starts the daemon again; the machine goes on.
pub(super) fn restart_on_request(lab: &mut Lab) -> Result<()> {
    let starts = |status: &Value| status["system"]["starts"].as_u64();
    let before = lab.router.status()?;
    let machine = before["system"]["machine_uptime"].as_u64();
    let gateways = lab.client.namespace.default_gateways()?;
    let reply = lab.router.request("restart")?;
    ensure!(reply["reply"] == "accepted", "{reply}");
    let status = lab.await_status("another start", |status| starts(status) > starts(&before))?;
    ensure!(status["system"]["machine_uptime"].as_u64() >= machine, "the machine itself has started again");
    lab.await_service()?;
    fetch(&lab.client.namespace, &format!("http://[{}]/", synthesized(SITE_V4)))?;
    keeps_default_route(lab, &gateways)
}

pub(super) fn stop(lab: &mut Lab) -> Result<()> {
    let mut tap = Tap::open(&lab.client.namespace, "eth0")?;
    let status = lab.router.in_namespace()?.end(Signal::TERM)?;
    ensure!(status.success(), "the daemon ended with {status}");
    says_farewell(lab, &mut tap)?;

    let router = lab.router.in_namespace()?.namespace();
    for (what, arguments) in [
        ("addresses", "-6 address show scope global"),
        ("IPv4 addresses", "-4 address show scope global"),
        ("IPv6 routes", "-6 route show table all proto 164"),
        ("IPv4 routes", "-4 route show table all proto 164"),
        ("default routes", "-6 route show default"),
        ("rules of NAT64", "-4 rule show table 6464"),
    ] {
        let left = router.ip(arguments)?;
        ensure!(left.trim().is_empty(), "{what} are left:\n{left}");
    }
    ensure!(router.ip("link show nat64").is_err(), "the TUN device is left");
    for family in ["ipv4", "ipv6"] {
        ensure!(router.sysctl(&format!("net/{family}/conf/all/forwarding"))? == "0", "{family} is forwarded");
    }
    default_deny_by_hand(lab)
}

pub(super) fn power_button(lab: &mut Lab) -> Result<()> {
    let mut tap = Tap::open(&lab.client.namespace, "eth0")?;
    let machine = lab.router.in_machine()?;
    machine.running()?.power_button()?;
    machine.await_power_off()?;
    says_farewell(lab, &mut tap)
}

pub(super) fn power_key(lab: &mut Lab) -> Result<()> {
    let mut tap = Tap::open(&lab.client.namespace, "eth0")?;
    let machine = lab.router.in_machine()?;
    let console = machine.running()?.console().clone();
    let deadline = Instant::now() + SOON;
    console.wait_for("2001:db8:1:2:10::1", deadline).context("the overview with the uplink's address")?;
    console.wait_for(" power off ", deadline).context("the key's name")?;
    console.write(b"p")?;
    console.wait_for(" Power off ", deadline).context("the question")?;
    console.write(b"y")?;
    machine.await_power_off()?;
    says_farewell(lab, &mut tap)
}

/// RFC 4861 section 6.2.5: the final advertisement, and what the client's kernel makes of it.
fn says_farewell(lab: &Lab, tap: &mut Tap) -> Result<()> {
    let last = tap.advertisement("the final one", SOON, |said| said.router_lifetime == 0)?;
    ensure!(last.pref64.is_none_or(|(_, _, lifetime)| lifetime == 0), "PREF64 stays: {last:?}");
    let router = last.source.to_string();
    wait::until("the client to drop its default route", SOON, || {
        (!lab.client.namespace.default_gateways().ok()?.contains(&router)).then_some(())
    })
}

//! `sixgate clat` on a host behind the router: 464XLAT end to end, and what it leaves.
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::client::{dig, ping, upload};
use super::command_line::fits;
use crate::lab::{Lab, SOON, ask, fetch, fetch_size};
use crate::namespace::Namespace;
use crate::network::{NARROW, ROUTER_V4, SITE_V4, SITE_V6, UPSTREAM, synthesized};
use crate::program::{Daemon, Outcome};
use crate::router::binary;
use crate::wait;

mod changes;
mod unit;

pub(super) use changes::{follows_prefixes, leaves_nothing};
pub(super) use unit::lives_as_its_unit_says;

/// The capabilities that `docs/sixgate-clat.service` leaves it.
const CAPABILITIES: &str = "setpriv --bounding-set=-all,+net_admin,+net_raw,+bpf,+perfmon --inh-caps=-all";
/// IPv4 of the host towards its IPv4-only client, and the client's own.
const INSIDE: [&str; 2] = ["10.7.0.1", "10.7.0.2"];
/// IPv6 of the same client, which nobody outside is to reach through a host that is no router.
const CLIENT_V6: &str = "2001:db8:99::2";

/// A CLAT that runs on a host.
struct Clat<'a> {
    host: &'a Namespace,
    folder: PathBuf,
    log: PathBuf,
    daemon: Daemon,
}

impl<'a> Clat<'a> {
    fn start(lab: &Lab, host: &'a Namespace, options: &str) -> Result<Self> {
        let folder = lab.world.runtime().join(host.name());
        let log = lab.world.folder().join("clat.log");
        let line = format!("{CAPABILITIES} {} clat {options} --folder {}", binary()?.display(), folder.display());
        let daemon = Daemon::start(host.command_line(&line), &log)?;
        Ok(Self { host, folder, log, daemon })
    }

    /// `sixgate clat WHAT`.
    fn command(&self, what: &str) -> Result<Outcome> {
        self.host.run(&format!("{} clat {what} --folder {}", binary()?.display(), self.folder.display()))
    }

    fn status(&self) -> Result<Value> {
        let outcome = self.command("status --json")?;
        serde_json::from_str(&outcome.stdout).with_context(|| outcome.to_string())
    }

    fn await_status(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        self.await_status_for(SOON, what, fits)
    }

    fn await_status_for(&self, deadline: Duration, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until_ok(what, deadline, || {
            let status = self.status()?;
            ensure!(fits(&status), "{status:#}");
            Ok(status)
        })
        .with_context(|| std::fs::read_to_string(&self.log).unwrap_or_default())
    }

    fn await_translating(&self) -> Result<Value> {
        self.await_status("the clat to translate", |status| status["stage"] == "translating")
    }

    fn await_finding(&self, code: &str) -> Result<Value> {
        self.await_status(&format!("the finding {code}"), |status| crate::lab::finding(status, code).is_some())
    }

    fn end(mut self, signal: Signal) -> Result<()> {
        self.daemon.signal(signal)?;
        self.daemon.wait(SOON).map(drop)
    }

    /// Killed, so that what it has left can be looked after.
    fn kill(mut self) -> Result<Self> {
        self.daemon.signal(Signal::KILL)?;
        self.daemon.wait(SOON)?;
        Ok(self)
    }
}

/// Everything that a CLAT may change in a host, as text.
fn traces(host: &Namespace) -> Result<String> {
    let mut text = String::new();
    for arguments in ["-4 route", "-6 rule", "-4 address show scope global"] {
        text += &host.ip(arguments)?;
    }
    // Lifetimes count down.
    let routes = host.ip("-6 route")?;
    text += &routes
        .lines()
        .map(|line| line.split(" expires").next().unwrap_or_default().trim())
        .collect::<Vec<_>>()
        .join("\n");
    for path in ["net/ipv4/conf/all/forwarding", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/eth0/accept_ra"] {
        text += &format!("\n{path} {}", host.sysctl(path)?);
    }
    Ok(text + &host.run("nft list tables")?.text()?)
}

/// Waits until the host is as it was.
fn ensure_untouched(host: &Namespace, before: &str) -> Result<()> {
    wait::until_ok("nothing of the clat to be left", SOON, || {
        let now = traces(host)?;
        ensure!(now == before, "before:\n{before}\nnow:\n{now}");
        Ok(())
    })
}

/// A namespace behind the host that has IPv4 only, but for one address.
fn ipv4_client(lab: &Lab, host: &Namespace) -> Result<Namespace> {
    let client = lab.world.host("v4only")?;
    lab.world.cable((host, "v4in"), (&client, "eth0"))?;
    host.ip(&format!("address add {}/24 dev v4in", INSIDE[0]))?;
    host.ip("address add 2001:db8:99::1/64 dev v4in nodad")?;
    client.ip(&format!("address add {}/24 dev eth0", INSIDE[1]))?;
    client.ip(&format!("address add {CLIENT_V6}/64 dev eth0 nodad"))?;
    client.ip(&format!("route add default via {}", INSIDE[0]))?;
    client.ip("route add default via 2001:db8:99::1 dev eth0")?;
    Ok(client)
}

pub(super) fn translates_end_to_end(lab: &mut Lab) -> Result<()> {
    let _narrow = lab.add_narrow_server()?;
    let host = &lab.client.namespace;
    let client = ipv4_client(lab, host)?;
    let before = traces(host)?;
    for when in ["auto", "never"] {
        let clat = Clat::start(lab, host, &format!("--check {SITE_V4} --fast-path {when}"))?;
        let status = clat.await_status("the clat to translate", |status| {
            status["stage"] == "translating" && status["fast_path"].is_string() == (when == "auto")
        })?;
        ensure!(status["pref64"] == "2001:db8:64::/96" && status["origin"] == "advertised", "{status:#}");
        ensure!(status["findings"].as_array().is_some_and(Vec::is_empty), "{status:#}");
        ensure!(status["mtu_v4"] == 1480, "{status:#}");
        let own = host.global_addresses("eth0")?;
        let address: Ipv6Addr = status["address"].as_str().context("an address")?.parse()?;
        ensure!(!own.contains(&address), "{address} is the host's own");
        // The host itself, and an IPv4-only client behind it.
        for from in [host, &client] {
            reaches_ipv4(from)?;
        }
        // "Fragmentation needed" comes all the way back.
        let answer = upload(lab, &client, &format!("http://{NARROW}/"), 400_000)?;
        ensure!(answer.trim() == "400000", "the server received {answer}");
        let hops = trace(&client)?;
        ensure!(hops.first().is_some_and(|hop| hop == INSIDE[0]), "the host is the first hop: {hops:?}");
        ensure!(hops.contains(&"203.0.113.1".to_owned()), "an IPv4 router beyond the NAT64 is a hop: {hops:?}");
        // IPv6 is as it was.
        ping(host, SITE_V6)?;
        ping(host, synthesized(SITE_V4))?;
        keeps_strangers_out(lab, host)?;
        // Downloads alone were more packets than this, whichever way they took.
        clat.await_status("the counters", |status| {
            let by_kernel = status["by_fast_path"]["packets"].as_u64().unwrap_or_default();
            let all = status["v6_to_v4"]["packets"].as_u64().unwrap_or_default();
            all > 2000 && if when == "auto" { by_kernel > 2000 } else { by_kernel == 0 }
        })?;
        tells_programs(lab, clat)?;
        ensure_untouched(host, &before)?;
    }
    Ok(())
}

/// All that goes through a clat: TCP, UDP, pings, fragments, DNS.
fn reaches_ipv4(from: &Namespace) -> Result<()> {
    let seen_as = fetch(from, &format!("http://{SITE_V4}/"))?;
    ensure!(seen_as.trim() == ROUTER_V4.to_string(), "the server sees {seen_as}");
    let size = 3_000_000;
    let received = fetch_size(from, &format!("http://{SITE_V4}/bytes/{size}"))?;
    ensure!(received == size, "{received} bytes of {size}");
    ping(from, SITE_V4)?;
    ensure!(ask(from, SITE_V4, b"400")?.len() == 400, "an answer in one piece");
    // Fragments, both ways.
    ensure!(ask(from, SITE_V4, b"4000")?.len() == 4000, "an answer in fragments");
    let long = vec![b'x'; 5000];
    ensure!(ask(from, SITE_V4, &long)? == long, "a question and an answer in fragments");
    let answer = dig(from, &format!("@{UPSTREAM} A v4.lab.test"))?;
    ensure!(answer == [SITE_V4.to_string()], "DNS over IPv4: {answer:?}");
    Ok(())
}

/// The host forwards for its clat, and for nobody outside.
fn keeps_strangers_out(lab: &Lab, host: &Namespace) -> Result<()> {
    let stranger = &lab.vm1.namespace;
    let text = host.ip("-oneline -6 address show dev eth0 scope link")?;
    let link_local = text.split_whitespace().find(|word| word.starts_with("fe80:")).context("a link-local address")?;
    let link_local = link_local.split('/').next().unwrap_or_default();
    stranger.ip(&format!("route replace {CLIENT_V6}/128 via {link_local} dev eth0"))?;
    let answer = stranger.run(&format!("ping -n -c 2 -i 0.2 -W 1 {CLIENT_V6}"))?;
    ensure!(!answer.success, "a stranger reaches what is behind the host: {answer}");
    let rules = host.run("nft list chain inet sixgate_clat forward")?.text()?;
    ensure!(rules.contains("drop") && !rules.contains("packets 0 bytes 0"), "{rules}");
    Ok(())
}

/// What is printed as JSON is what its schema says: of a CLAT that works, of none, and of the removal of what is left.
fn tells_programs(lab: &Lab, clat: Clat<'_>) -> Result<()> {
    let schema = |name: &str| clat.host.run(&format!("{} schema {name}", binary()?.display()))?.text();
    let file = lab.world.folder().join("schema.json");
    let status = clat.command("status --json")?;
    ensure!(status.code == Some(0), "{status}");
    fits(&file, &schema("clat-status")?, &status.stdout)?;
    ensure!(fits(&file, &schema("clat-status")?, "{\"version\":1}").is_err(), "a status without anything in it is one");
    let reply = schema("clat-remove")?;
    let (host, folder) = (clat.host, clat.folder.clone());
    let command =
        |what: &str| host.run(&format!("{} clat {what} --json --folder {}", binary()?.display(), folder.display()));
    clat.end(Signal::TERM)?;
    let (silent, removed) = (command("status")?, command("remove")?);
    ensure!(silent.code == Some(1) && silent.stdout.contains("unavailable"), "{silent}");
    ensure!(removed.code == Some(0) && removed.stdout.contains("accepted"), "{removed}");
    fits(&file, &reply, &(silent.stdout + &removed.stdout))
}

/// Who answers on the way to the narrow server, by hop limit.
fn trace(from: &Namespace) -> Result<Vec<String>> {
    let mut hops = Vec::new();
    for limit in 1..=10 {
        let answer = from.run(&format!("ping -n -c 1 -W 2 -t {limit} {NARROW}"))?;
        if answer.success {
            return Ok(hops);
        }
        let from = answer.stdout.lines().find_map(|line| line.strip_prefix("From ")?.split_whitespace().next());
        hops.push(from.with_context(|| format!("nobody answers at {limit} hops after {hops:?}: {answer}"))?.to_owned());
    }
    anyhow::bail!("{NARROW} does not answer: {hops:?}")
}

pub(super) fn takes_other_addresses(lab: &mut Lab) -> Result<()> {
    let check = format!("--check {SITE_V4}");

    // Somebody has the address that it would take.
    let host = &lab.client.namespace;
    let clat = Clat::start(lab, host, &check)?;
    let address = clat.await_translating()?["address"].as_str().context("an address")?.to_owned();
    clat.end(Signal::TERM)?;
    lab.vm2.namespace.ip(&format!("address add {address}/128 dev eth0 nodad"))?;
    let clat = Clat::start(lab, host, &check)?;
    let status = clat.await_translating()?;
    ensure!(status["address"] != address.as_str(), "{status:#}");
    let finding = crate::lab::finding(&status, "clat-address-taken").context("a finding")?;
    ensure!(finding["text"].as_str().is_some_and(|text| text.contains(lab.vm2.mac())), "{finding:#}");
    fetch(host, &format!("http://{SITE_V4}/"))?;
    clat.end(Signal::TERM)?;

    // The host's own address, beside the host's own traffic by the same prefix.
    let before = traces(host)?;
    let clat = Clat::start(lab, host, &format!("--shared {check}"))?;
    let status = clat.await_translating()?;
    ensure!(status["address"] == lab.client.address()?.to_string(), "{status:#}");
    for _ in 0..2 {
        fetch(host, &format!("http://{SITE_V4}/"))?;
        fetch(host, &format!("http://[{}]/", synthesized(SITE_V4)))?;
        ping(host, SITE_V4)?;
        ping(host, synthesized(SITE_V4))?;
        ensure!(ask(host, SITE_V4, b"4000")?.len() == 4000, "an answer in fragments");
    }
    clat.end(Signal::TERM)?;
    ensure_untouched(host, &before)?;

    // One out of a VM's container prefix, which is routed to it.
    let vm1 = &lab.vm1.namespace;
    let before = traces(vm1)?;
    let clat = Clat::start(lab, vm1, &format!("--within 2001:db8:1:2:21::/80 {check}"))?;
    let status = clat.await_translating()?;
    let address = status["address"].as_str().context("an address")?;
    ensure!(address.starts_with("2001:db8:1:2:21:"), "{status:#}");
    let seen_as = fetch(vm1, &format!("http://{SITE_V4}/"))?;
    ensure!(seen_as.trim() == ROUTER_V4.to_string(), "the server sees {seen_as}");
    ensure!(clat.command("status")?.text()?.contains("translating"), "the table");
    clat.end(Signal::TERM)?;
    ensure_untouched(vm1, &before)?;
    let again = Clat::start(lab, vm1, "--interface nonsense")?;
    again.await_finding("clat-no-uplink")?;
    again.end(Signal::TERM)?;
    Ok(())
}

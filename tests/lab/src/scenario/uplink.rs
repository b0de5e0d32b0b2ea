//! An uplink whose addresses are learnt: servers that lease, renumber, refuse, go away and come back.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::client::dig;
use crate::lab::{Lab, SOON, ask, fetch};
use crate::network::{SITE_V4, synthesized};
use crate::server::dhcpd::{Dhcpd, Family};
use crate::wait;

/// A server for the uplink's /24 with one address to give.
fn leases(address: &str, seconds: u32) -> String {
    format!(
        "authoritative; ping-check false; default-lease-time {seconds}; max-lease-time {seconds}; min-lease-time {seconds};
         subnet 203.0.113.0 netmask 255.255.255.0 {{
           range {address} {address}; option routers 203.0.113.1; option domain-name-servers 198.51.100.53;
         }}"
    )
}

/// The configuration with IPv4 by DHCP.
fn config(lab: &Lab) -> String {
    let config = lab.config("");
    let given = config.lines().find(|line| line.starts_with("ipv4 = ")).unwrap_or_default().to_owned();
    // The server names the lab's resolver.
    config.replace(&given, "ipv4 = \"dhcp\"").replace("upstream = [\"198.51.100.53\"]", "upstream = \"learnt\"")
}

fn start_by_dhcp(lab: &mut Lab) -> Result<()> {
    lab.router.start(&config(lab))?;
    lab.await_service()?;
    lab.bring_hosts_up()
}

fn server(lab: &Lab, name: &str, config: &str) -> Result<Dhcpd> {
    Dhcpd::start(&lab.world, &lab.internet, Family::V4, name, config)
}

fn leased(status: &Value) -> Option<&str> {
    status["uplink"]["dhcp4"]["address"].as_str()
}

/// The uplink's IPv4 addresses as the kernel holds them.
fn held(lab: &mut Lab) -> Result<Vec<String>> {
    let links = lab.router.in_namespace()?.namespace().ip_json("-4 address show dev eth0")?;
    let addresses = links.as_array().into_iter().flatten().flat_map(|link| link["addr_info"].as_array());
    Ok(addresses.flatten().filter_map(|held| held["local"].as_str().map(str::to_owned)).collect())
}

/// A client fetches and asks over NAT64, and the UDP server sees that address.
fn fetches_as(lab: &Lab, address: Ipv4Addr) -> Result<()> {
    let url = format!("http://[{}]/", synthesized(SITE_V4));
    wait::until_ok("a page over NAT64", SOON, || fetch(&lab.client.namespace, &url))?;
    ask(&lab.client.namespace, synthesized(SITE_V4), b"who am I?")?;
    let peer = lab.udp.peers().last().map(SocketAddr::ip);
    ensure!(peer == Some(address.into()), "the server was asked by {peer:?}");
    Ok(())
}

pub(super) fn nat64_follows_the_lease(lab: &mut Lab) -> Result<()> {
    let first = server(lab, "dhcpd", &leases("203.0.113.50", 12))?;
    start_by_dhcp(lab)?;
    lab.await_status("the first lease", |status| leased(status) == Some("203.0.113.50/24"))?;
    fetches_as(lab, Ipv4Addr::new(203, 0, 113, 50))?;
    let resolver = lab.learn_resolver(&lab.client)?;
    wait::until_ok("an answer of the resolver that the server names", SOON, || {
        let answer = dig(&lab.client.namespace, &format!("@{resolver} AAAA v4.lab.test"))?;
        ensure!(answer == [synthesized(SITE_V4).to_string()], "{answer:?}");
        Ok(())
    })?;
    wait::until_ok("a renewal by unicast", SOON, || {
        let log = first.log();
        ensure!(log.matches("DHCPACK on 203.0.113.50").count() >= 2, "{log}");
        Ok(())
    })?;
    ensure!(held(lab)? == ["203.0.113.50"]);

    // The provider renumbers, and knows nothing of the old lease: it ends, and another one is looked for.
    drop(first);
    let _second = server(lab, "dhcpd-renumbered", &leases("203.0.113.60", 600))?;
    let status = lab.await_status("the new lease", |status| leased(status) == Some("203.0.113.60/24"))?;
    wait::until_ok("the kernel to hold the new address alone", SOON, || {
        let held = held(lab)?;
        ensure!(held == ["203.0.113.60"], "{held:?}");
        Ok(())
    })?;
    fetches_as(lab, Ipv4Addr::new(203, 0, 113, 60))?;
    let changes = status["uplink"]["changes"].as_array().context("changes")?;
    let came = changes.iter().any(|change| {
        change["new"].as_array().is_some_and(|new| new.contains(&Value::from("ipv4 address 203.0.113.60/24")))
    });
    ensure!(came, "{changes:#?}");
    Ok(())
}

pub(super) fn lease_outlives_the_daemon(lab: &mut Lab) -> Result<()> {
    let first = server(lab, "dhcpd", &leases("203.0.113.50", 600))?;
    start_by_dhcp(lab)?;
    fetches_as(lab, Ipv4Addr::new(203, 0, 113, 50))?;
    let discovers = first.log().matches("DHCPDISCOVER").count();
    let router = lab.router.in_namespace()?;
    router.end(Signal::USR1)?;
    router.start_again()?;
    lab.await_service()?;
    fetches_as(lab, Ipv4Addr::new(203, 0, 113, 50))?;
    lab.await_status("the lease to be confirmed", |status| {
        status["uplink"]["dhcp4"]["state"] == "bound" && leased(status) == Some("203.0.113.50/24")
    })?;
    let log = first.log();
    ensure!(log.matches("DHCPDISCOVER").count() == discovers, "a restart looks for a new address:\n{log}");

    // Without a server, what is left of the lease is used.
    drop(first);
    let router = lab.router.in_namespace()?;
    router.end(Signal::KILL)?;
    router.start_again()?;
    lab.await_service()?;
    fetches_as(lab, Ipv4Addr::new(203, 0, 113, 50))?;
    ensure!(held(lab)? == ["203.0.113.50"]);
    Ok(())
}

pub(super) fn conflict_is_declined(lab: &mut Lab) -> Result<()> {
    let config =
        leases("203.0.113.50", 600).replace("range 203.0.113.50 203.0.113.50", "range 203.0.113.50 203.0.113.51");
    let server = server(lab, "dhcpd", &config)?;
    // dhcpd gives the highest free address first.
    for squatted in ["203.0.113.51", "203.0.113.50"] {
        lab.internet.ip(&format!("address add {squatted}/24 dev eth0"))?;
    }
    lab.router.start(&self::config(lab))?;
    let status = lab.await_status("both to be declined", |status| {
        status["uplink"]["dhcp4"]["conflicts"].as_u64() >= Some(1) && leased(status).is_none()
    })?;
    ensure!(crate::lab::finding(&status, "dhcp4-no-lease").is_some(), "{:#}", status["findings"]);
    ensure!(held(lab)?.is_empty(), "an address that somebody else has is held");
    ensure!(server.log().contains("DHCPDECLINE"), "{}", server.log());
    let squatted: IpAddr = "203.0.113.50".parse()?;
    lab.internet.ip(&format!("address del {squatted}/24 dev eth0"))?;
    lab.internet.ip("address del 203.0.113.51/24 dev eth0")?;
    Ok(())
}

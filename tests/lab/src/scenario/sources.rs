//! Who may send from where on a LAN, and VMs that are found and lost.
use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::client::ping;
use super::container::serve;
use crate::lab::{Lab, SOON, await_connection, ensure_refused, fetch, finding};
use crate::network::{SITE_V4, SITE_V6, synthesized};
use crate::wait;

const REASON: &str = "source is not of this hardware address";
/// A VM is asked every 15 s, three times a second apart.
const SILENT: Duration = Duration::from_secs(60);

fn dropped(status: &Value) -> u64 {
    status["firewall"]["dropped"][REASON]["packets"].as_u64().unwrap_or_default()
}

/// Sends from an address that the host has only for itself, so that it does not answer for it on the link.
fn spoofs(lab: &mut Lab, source: Ipv6Addr, target: Ipv6Addr) -> Result<()> {
    let before = dropped(&lab.router.status()?);
    let client = &lab.client.namespace;
    client.ip(&format!("address replace {source}/128 dev lo nodad"))?;
    let answered = client.run(&format!("ping -n -c 1 -W 1 -I {source} {target}"))?.success;
    ensure!(!answered, "{source} is believed");
    client.ip(&format!("address delete {source}/128 dev lo"))?;
    lab.await_status("the drop to be counted", |status| dropped(status) > before)?;
    Ok(())
}

pub(super) fn are_validated(lab: &mut Lab) -> Result<()> {
    let gateway: Ipv6Addr = "2001:db8:1:2::1".parse()?;
    ping(&lab.client.namespace, gateway)?;
    let vm1 = lab.vm1.address()?;
    // An address that is new, as privacy addresses and CLATs have them; without duplicate address detection, too.
    for (address, how) in [("2001:db8:1:2:cafe::1", ""), ("2001:db8:1:2:cafe::2", "nodad")] {
        lab.client.namespace.ip(&format!("address add {address}/128 dev eth0 {how}"))?;
        let line = format!("ping -n -c 1 -W 1 -I {address} {SITE_V6}");
        wait::until_ok(&format!("{address} to be admitted"), SOON, || {
            ensure!(lab.client.namespace.run(&line)?.success, "no answer");
            Ok(())
        })?;
    }
    // Another's address, another's container, an address of the router: to the router, to the Internet, through NAT64.
    let container = lab.vm1.containers()?.address;
    for (source, target) in [
        (vm1, gateway),
        (vm1, SITE_V6),
        (vm1, synthesized(SITE_V4)),
        (container, SITE_V6),
        ("2001:db8:1:2:31::9".parse()?, synthesized(SITE_V4)),
    ] {
        spoofs(lab, source, target)?;
    }
    // The owners are none the worse for it.
    fetch(&lab.vm1.namespace, &format!("http://[{SITE_V6}]/"))?;
    fetch(&lab.vm1.containers()?.namespace, &format!("http://[{}]/", synthesized(SITE_V4)))?;
    ping(&lab.client.namespace, SITE_V6)?;

    // A daemon that was killed leaves the validation, and the next one knows whom it knew.
    let router = lab.router.in_namespace()?;
    router.end(Signal::KILL)?;
    ping(&lab.client.namespace, gateway)?;
    let table = lab.router.in_namespace()?.namespace().run("nft list table netdev sixgate-sources")?.text()?;
    ensure!(table.contains("2001:db8:1:2:cafe::2"), "{table}");
    lab.router.in_namespace()?.start_again()?;
    lab.await_service()?;
    ping(&lab.client.namespace, gateway)?;
    spoofs(lab, vm1, gateway)?;

    // Off is off.
    let config = lab.config("").replace("advertise = true\n", "advertise = true\nanti_spoofing = false\n");
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)?;
    wait::until("the table to be gone", SOON, || {
        let listed = router.namespace().run("nft list table netdev sixgate-sources").ok()?;
        (!listed.success).then_some(())
    })
}

pub(super) fn vm_is_found_and_lost(lab: &mut Lab) -> Result<()> {
    // A stable private link-local address (RFC 7217): not what the hardware address implies.
    lab.vm2.namespace.set_sysctl("net/ipv6/conf/eth0/stable_secret", "2001:db8::1234")?;
    lab.start()?;
    let links = lab.vm2.namespace.ip("-6 -o address show dev eth0 scope link")?;
    ensure!(!links.contains("fe80::5054:ff:fe00:212"), "{links}");
    let _server = serve(&lab.vm2, 8080)?;
    let container = lab.vm2.containers()?.address;
    await_connection(&lab.client.namespace, container, 8080)?;

    lab.vm2.namespace.ip("link set eth0 down")?;
    let silent = wait::until_ok("a silent VM to be shown", SILENT, || {
        let status = lab.router.status()?;
        let shown = finding(&status, "vm-silent").cloned();
        shown.ok_or_else(|| anyhow::anyhow!("{:#}", status["findings"]))
    })?;
    ensure!(silent["subject"] == "vm2", "{silent}");
    lab.vm2.bring_up()?;
    lab.await_status("the VM to be back", |status| finding(status, "vm-silent").is_none())?;
    Ok(())
}

/// DESIGN's traps of prefixes that are carved out of an advertised /64.
pub(super) fn carved_prefixes_are_no_trap(lab: &mut Lab) -> Result<()> {
    // A SLAAC host talks to another VM's container: the /64 is not on-link for it, so it sends by the router.
    let _servers = (serve(&lab.vm1, 8080)?, serve(&lab.vm2, 8080)?);
    let client = &lab.client.namespace;
    let on_link = client.ip("-6 route show 2001:db8:1:2::/64")?;
    ensure!(on_link.is_empty(), "{on_link}");
    for host in [&lab.vm1, &lab.vm2] {
        let container = host.containers()?.address;
        await_connection(client, container, 8080)?;
        let seen_as = fetch(client, &format!("http://[{container}]:8080/"))?;
        ensure!(seen_as.trim() == lab.client.address()?.to_string(), "{seen_as}");
    }
    // Nobody is redirected to where the router is not needed: the next hop would solicit in vain.
    let redirects = client.run("nstat -asz Icmp6InRedirects")?.text()?;
    ensure!(redirects.lines().any(|line| line.split_whitespace().nth(1) == Some("0")), "{redirects}");

    // What is not in use inside a VM's prefix does not go back to the VM that asks for it, and is no loop.
    let unused: Ipv6Addr = "2001:db8:1:2:21::dead".parse()?;
    lab.vm1.namespace.ip(&format!("route add {unused}/128 via fe80::5054:ff:fe00:201 dev eth0"))?;
    let forwarded = |lab: &Lab| -> Result<u64> {
        let text = lab.vm1.namespace.run("nstat -asz Ip6OutForwDatagrams")?.text()?;
        let line = text.lines().find(|line| line.starts_with("Ip6OutForwDatagrams"));
        Ok(line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default())
    };
    let before = forwarded(lab)?;
    ensure!(!lab.vm1.namespace.run(&format!("ping -n -c 1 -W 1 {unused}"))?.success, "{unused} answers");
    let after = forwarded(lab)?;
    ensure!(after == before, "one packet went round {} times", after - before);
    lab.await_status("the drop to be counted", |status| {
        status["firewall"]["dropped"]["back to the vm it came from"]["packets"].as_u64() > Some(0)
    })?;

    // What is unused in the network ends at the router: an error, and nothing on the uplink.
    ensure_refused(&lab.client.namespace, "2001:db8:1:2:51::5".parse::<Ipv6Addr>()?, 8080)?;
    // Where a VM's route is lost, its containers' prefix is unreachable; it does not fall to the default route.
    let router = lab.router.in_namespace()?.namespace();
    let behind = router.ip("-6 route show type unreachable")?;
    ensure!(behind.contains("2001:db8:1:2:21::/80") && behind.contains("2001:db8:1:2::/64"), "{behind}");
    Ok(())
}

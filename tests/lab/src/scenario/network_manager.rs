//! Hosts whose addresses dhcpcd or systemd-networkd makes, not the kernel: what they hold when the prefix changes, and what
//! dhcpcd is told by DHCPv6.
use std::fs;
use std::net::Ipv6Addr;

use anyhow::{Context, Result, ensure};

use super::delegation::{self, FIRST, ROUTER, SECOND};
use crate::lab::{Lab, SOON, fetch};
use crate::namespace::Namespace;
use crate::network::SITE_V6;
use crate::program::Daemon;
use crate::server::delegator::{Delegator, KEY, RENEW};
use crate::wait;
use crate::world::Segment;

const NETWORKD: &str = "[Match]\nName=eth0\n[Network]\nIPv6AcceptRA=yes\nLinkLocalAddressing=ipv6\nDHCP=no\n";
/// It waits for udev unless /sys says that this is a container, and its files are those of a user of its own.
const LAUNCH_NETWORKD: &str = "mount -t tmpfs none /run
mkdir -p /run/systemd/network /run/systemd/netif
cp {folder}/networkd.network /run/systemd/network/
mkdir -p {folder}/netif/links {folder}/netif/leases {folder}/netif/lldp
mount --bind {folder}/netif /run/systemd/netif
chown -R systemd-network:systemd-network /run/systemd/netif
mount --bind /sys /sys
mount -o remount,bind,ro /sys
SYSTEMD_LOG_TARGET=console exec /lib/systemd/systemd-networkd
";
const DHCPCD: &str = "duid\nslaac hwaddr\nipv6only\nnoipv4\noption domain_name_servers, domain_search\n";
const LAUNCH_DHCPCD: &str = "mkdir -p /var/lib/dhcpcd
mount -t tmpfs none /var/lib/dhcpcd
mount -t tmpfs none /run
exec dhcpcd -B -f {folder}/dhcpcd.conf -c {folder}/dhcpcd.hook -6 eth0
";

/// Starts a client on a host of its own, with mounts of its own.
fn client(lab: &Lab, role: &str, mac: &str, script: &str) -> Result<(Namespace, Daemon)> {
    let folder = lab.world.folder();
    let host = lab.world.host(role)?;
    lab.world.plug(&host, "eth0", mac, Segment::Lan)?;
    host.ip("link set eth0 up")?;
    let file = folder.join(format!("{role}.sh"));
    fs::write(&file, script.replace("{folder}", &folder.display().to_string()))?;
    let line = host.command_line(&format!("sh -e {}", file.display()));
    let daemon = Daemon::start(line, &folder.join(format!("{role}.log")))?;
    Ok((host, daemon))
}

/// A host's address in a prefix, and whether it is deprecated.
fn held(host: &Namespace, prefix: &str) -> Result<Option<bool>> {
    let shown = host.ip("-6 address show dev eth0 scope global -tentative")?;
    let mut lines = shown.lines().skip_while(|line| !line.contains(&format!("inet6 {prefix}")));
    let (Some(address), Some(times)) = (lines.next(), lines.next()) else { return Ok(None) };
    Ok(Some(address.contains("deprecated") || times.contains("preferred_lft 0sec")))
}

pub(super) fn follow(lab: &mut Lab) -> Result<()> {
    let (first, second): (Ipv6Addr, Ipv6Addr) = (FIRST.parse()?, SECOND.parse()?);
    for prefix in [FIRST, SECOND] {
        lab.internet.ip(&format!("route replace {prefix}/56 via {ROUTER} dev eth0 src {SITE_V6}"))?;
    }
    lab.internet.ip("route del 2001:db8:1:2::/64")?;
    let words = "AdvManagedFlag on; prefix 2001:db8:1:1::/64 { };";
    let _router = crate::server::radvd::Radvd::start(&lab.world, &lab.internet, "radvd", words)?;
    let server = Delegator::start(&lab.internet, &[(first, 1800, 3600)])?;
    let config = delegation::config(lab, "")
        .replace("advertise = true\n", "dhcpv6 = \"stateless\"\n")
        .replace("dnssec = false", "dnssec = false\nsearch = [\"lab.test\"]");
    lab.router.start(&config)?;
    delegation::await_delegation(lab, FIRST)?;
    lab.await_service()?;

    let folder = lab.world.folder().to_owned();
    fs::write(folder.join("networkd.network"), NETWORKD)?;
    fs::write(folder.join("dhcpcd.conf"), DHCPCD)?;
    let (hook, told) = (folder.join("dhcpcd.hook"), folder.join("dhcpcd.env"));
    fs::write(&hook, format!("#!/bin/sh\nenv >> {}\n", told.display()))?;
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let (networkd, _one) = client(lab, "networkd", "52:54:00:00:02:21", LAUNCH_NETWORKD)?;
    let (dhcpcd, _two) = client(lab, "dhcpcd", "52:54:00:00:02:22", LAUNCH_DHCPCD)?;
    let hosts = [&dhcpcd, &networkd];
    for host in hosts {
        wait::until_ok("an address out of the first prefix", SOON, || {
            ensure!(held(host, "2001:db8:1:2:")? == Some(false), "{}", host.name());
            Ok(())
        })?;
        let seen = wait::until_ok("a page", SOON, || fetch(host, &format!("http://[{SITE_V6}]/")))?;
        ensure!(seen.starts_with("2001:db8:1:2:"), "{seen}");
    }

    // Advertisements say that there is more by DHCPv6, and both ask.
    let resolver = "2001:db8:1:2::1";
    wait::until_ok("dhcpcd to know the resolver and the domain by DHCPv6", SOON, || {
        let told = fs::read_to_string(&told)?;
        for part in [&format!("new_dhcp6_name_servers={resolver}") as &str, "new_dhcp6_domain_search=lab.test"] {
            ensure!(told.contains(part), "{part} is not in {told}");
        }
        Ok(())
    })?;
    lab.await_status("both to be answered", |status| {
        status["lans"][0]["dhcpv6"]["stateless-answered"].as_u64() >= Some(2)
    })?;

    wait::until_ok("networkd to know the resolver", SOON, || {
        let links = fs::read_dir(folder.join("netif/links"))?;
        let files: Vec<String> = links.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok()).collect();
        ensure!(files.iter().any(|file| file.contains(&format!("DNS={resolver}"))), "{files:#?}");
        Ok(())
    })?;

    // The provider renumbers.
    lab.await_status("to be bound", |status| status["uplink"]["dhcp6"]["state"] == "bound")?;
    server.give(&[(second, 1800, 3600)]);
    server.reconfigure(RENEW, KEY)?;
    delegation::await_delegation(lab, SECOND)?;
    for host in hosts {
        wait::until_ok("the new prefix to be preferred, the old one deprecated", SOON, || {
            let (old, new) = (held(host, "2001:db8:1:2:")?, held(host, "2001:db8:9:2:")?);
            ensure!(old == Some(true) && new == Some(false), "{}: old {old:?}, new {new:?}", host.name());
            Ok(())
        })?;
        wait::until_ok("new connections to come from the new prefix", SOON, || {
            let seen = fetch(host, &format!("http://[{SITE_V6}]/"))?;
            ensure!(seen.starts_with("2001:db8:9:2:"), "the server sees {seen}");
            Ok(())
        })?;
    }
    let router = lab.router.in_namespace()?.namespace().global_addresses("eth1")?;
    router
        .iter()
        .find(|address| address.to_string() == resolver)
        .context("the resolver's address of before is held")?;
    Ok(())
}

//! `sixgate status`: the state as a table for people, or as JSON for programs.
use std::fmt::{self, Display, Write as _};
use std::path::Path;
use std::process::ExitCode;

use sixgate_engine::facts::AddressState;
use sixgate_engine::finding::Severity;
use sixgate_engine::plan::Obstacle;
use sixgate_engine::status::{
    Connections, Contest, Dns64, FastPath, Interface, Lan, Nat64, Published, Status, Traffic, Uplink, Vm,
};

use crate::change::utc;
use crate::control::Client;
use crate::table::{Side, Table};

/// Changes on the uplink that the table shows; JSON has more.
const LATEST_CHANGES: usize = 5;
/// Names and clients of the resolver that it shows.
const TOP: usize = 3;

/// Asks the daemon and prints what it says.
pub fn report(control: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let status = Client::connect(control)?.status()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", table(&status));
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the daemon what is wrong, and prints it worst first.
pub fn findings(control: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let status = Client::connect(control)?.status()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&status.findings)?);
    } else {
        let mut out = String::new();
        write_findings(&mut out, &status)?;
        print!("{}", out.trim_start());
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the daemon who is on the LANs, and prints it.
pub fn neighbours(control: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let status = Client::connect(control)?.status()?;
    if json {
        let lans: std::collections::BTreeMap<_, _> = status.lans.iter().map(|lan| (&lan.name, &lan.clients)).collect();
        println!("{}", serde_json::to_string_pretty(&lans)?);
    } else {
        print!("{}", hosts(&status));
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the daemon what the uplink has lent, and prints it.
pub fn leases(control: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let uplink = Client::connect(control)?.status()?.uplink;
    if json {
        println!("{}", serde_json::to_string_pretty(&uplink)?);
    } else {
        let mut out = String::new();
        write_uplink(&mut out, &uplink)?;
        print!("{}", if out.is_empty() { "the uplink's addresses are the configuration's\n" } else { &out });
    }
    Ok(ExitCode::SUCCESS)
}

/// The hosts on the LANs, a row each.
fn hosts(status: &Status) -> String {
    let mut table = Table::new(["LAN", "MAC", "VM", "STATE", "LAST SEEN", "ADDRESSES"].map(|name| (name, Side::Left)));
    for lan in &status.lans {
        for client in &lan.clients {
            let addresses: Vec<_> = client.addresses.iter().map(ToString::to_string).collect();
            let (vm, seen) = (client.vm.as_deref().unwrap_or("-"), if client.seen { "seen" } else { "silent" });
            let ago = client.last_seen.map_or_else(|| "-".to_owned(), |seconds| format!("{} ago", span(seconds)));
            let [vm, seen] = [vm, seen].map(str::to_owned);
            table.row([lan.name.clone(), client.mac.clone(), vm, seen, ago, addresses.join(" ")]);
        }
    }
    let mut out = table.emit();
    for (lan, contest) in status.lans.iter().flat_map(|lan| lan.contests.iter().map(move |contest| (lan, contest))) {
        let Contest { address, holder, claimant, detection, times, at } = contest;
        let what = if *detection { "fails in duplicate address detection" } else { "takes it" };
        let time = utc(*at);
        out.push_str(&format!(
            "{}: {address} of {holder} is wanted by {claimant}, which {what}: {times} times, last {time}\n",
            lan.name
        ));
    }
    if out.is_empty() { "no hosts are known on any LAN\n".to_owned() } else { out }
}

/// The state as text.
pub fn table(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_table(&mut out, status);
    out
}

fn write_uplink(out: &mut String, uplink: &Uplink) -> fmt::Result {
    if let Some(dhcp) = &uplink.dhcp4 {
        let lease = match (dhcp.address, dhcp.server) {
            (Some(address), Some(server)) => format!(", {address} of {server}"),
            _ => String::new(),
        };
        let ends = dhcp.remaining.map_or_else(String::new, |seconds| format!(", ends in {}", span(seconds)));
        row(out, "dhcpv4", &format!("{}{lease}{ends}", dhcp.state))?;
    }
    if let Some(discovery) = &uplink.discovery {
        let router = discovery.router.map_or_else(|| "none".to_owned(), |router| router.to_string());
        row(out, "router", &router)?;
    }
    if let Some(dhcp) = &uplink.dhcp6 {
        row(out, "dhcpv6", &dhcp.state)?;
    }
    for prefix in &uplink.delegated {
        let ends = prefix.valid.map_or_else(String::new, |seconds| format!(", ends in {}", span(seconds)));
        let retired = if prefix.retired { ", deprecated" } else { "" };
        row(out, "delegated", &format!("{}{retired}{ends}", prefix.prefix))?;
    }
    if let Some(prefix) = uplink.unique_local {
        row(out, "unique local", &prefix.to_string())?;
    }
    for change in uplink.changes.iter().rev().take(LATEST_CHANGES) {
        let gone = change.gone.iter().map(|item| format!("- {item}"));
        let new = change.new.iter().map(|item| format!("+ {item}"));
        row(out, "changed", &format!("at {}: {}", change.at, gone.chain(new).collect::<Vec<_>>().join("; ")))?;
    }
    Ok(())
}

fn write_table(out: &mut String, status: &Status) -> fmt::Result {
    let system = &status.system;
    writeln!(out, "{}  sixgate {}  Linux {}", system.hostname, system.sixgate, system.kernel)?;
    row(out, "up", &format!("{} (machine {})", span(system.daemon_uptime), span(system.machine_uptime)))?;
    let memory = format!(
        "{} of {} available, daemon {}, load {:.2}, start {}",
        bytes(system.memory_available),
        bytes(system.memory_total),
        bytes(system.daemon_resident),
        system.load,
        system.starts
    );
    row(out, "memory", &memory)?;
    if let Some(clock) = &status.clock {
        let checked = match clock.server {
            Some(server) => format!("{:+.1} ms by {server}, set {} times", clock.offset, clock.steps),
            None => "nobody has answered yet".to_owned(),
        };
        row(out, "clock", &checked)?;
    }
    writeln!(out, "\nUPLINK")?;
    write_interface(out, &status.wan)?;
    write_uplink(out, &status.uplink)?;
    if let Some(proxy) = &status.ndp_proxy {
        let answered = proxy.messages.get("proxy-answered").copied().unwrap_or_default();
        row(out, "ndp proxy", &format!("as {}, {answered} answers, {} hosts there", proxy.mac, proxy.alive))?;
    }
    for (inside, outside) in status.npt.iter().flat_map(|npt| &npt.prefixes) {
        let outside = outside.map_or_else(|| "nothing".to_owned(), |net| net.to_string());
        row(out, "npt", &format!("{inside} is {outside} outside"))?;
    }
    for name in &status.ddns {
        let address = name.published.or(name.wanted).map_or_else(String::new, |address| address.to_string());
        let result = if name.result.is_empty() { String::new() } else { format!(": {} {}", name.result, name.text) };
        row(out, "name", &format!("{} {} {address} at {}{result}", name.name, name.record, name.server))?;
    }
    if !status.repairs.counts.is_empty() {
        let counts: Vec<_> = status.repairs.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        row(out, "put right", &counts.join(", "))?;
    }
    for lan in &status.lans {
        write_lan(out, lan)?;
    }
    if !status.vms.is_empty() {
        writeln!(out, "\nVMS")?;
        for vm in &status.vms {
            write_vm(out, vm)?;
        }
    }
    if let Some(nat64) = &status.nat64 {
        write_nat64(out, nat64)?;
    }
    if let Some(dns64) = &status.dns64 {
        write_dns64(out, dns64)?;
    }
    writeln!(out, "\nFIREWALL")?;
    row(out, "ruleset", if status.firewall.loaded { "in force" } else { "NOT LOADED" })?;
    row(out, "forwarding", if status.firewall.forwarding { "on" } else { "off" })?;
    if let Some(connections) = &status.firewall.connections {
        let Connections { held, most, refused, evicted } = connections;
        let lost =
            if refused + evicted > 0 { format!(", {refused} refused, {evicted} evicted") } else { String::new() };
        row(out, "connections", &format!("{held} of {most}{lost}"))?;
    }
    if let Some(offload) = &status.firewall.flow_offload {
        let Traffic { packets, bytes } = offload.past;
        row(out, "flow offload", &format!("{packets} packets past the rules, {bytes} bytes"))?;
    }
    for (name, traffic) in &status.firewall.allowed {
        row(out, "allowed", &format!("{}, {name}", packets(*traffic)))?;
    }
    for (name, traffic) in status.firewall.dropped.iter().filter(|(_, traffic)| traffic.packets > 0) {
        row(out, "dropped", &format!("{}, {name}", packets(*traffic)))?;
    }
    write_findings(out, status)
}

fn write_findings(out: &mut String, status: &Status) -> fmt::Result {
    writeln!(out, "\nFINDINGS")?;
    if status.findings.is_empty() {
        writeln!(out, "  none")?;
    }
    for finding in &status.findings {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "ERROR",
        };
        row(out, severity, &format!("{} ({})", finding.subject, finding.code))?;
        for line in finding.text.lines().chain(std::iter::once(finding.mend.as_str())) {
            row(out, "", line)?;
        }
    }
    Ok(())
}

fn write_interface(out: &mut String, interface: &Interface) -> fmt::Result {
    let state = match (interface.present, interface.carrier) {
        (false, _) => "missing",
        (true, false) => "no carrier",
        (true, true) => "up",
    };
    if !interface.present {
        return row(out, "interface", state);
    }
    row(out, "interface", &format!("{} {state}, mtu {}", interface.name, interface.mtu))?;
    for (net, state) in &interface.addresses {
        let state = match state {
            AddressState::Ready => "",
            AddressState::Tentative => " (tentative)",
            AddressState::Duplicate => " (DUPLICATE)",
        };
        row(out, "address", &format!("{net}{state}"))?;
    }
    for gateway in &interface.gateways {
        row(out, "gateway", gateway)?;
    }
    row(out, "received", &packets(interface.received))?;
    row(out, "sent", &packets(interface.sent))
}

fn write_lan(out: &mut String, lan: &Lan) -> fmt::Result {
    writeln!(out, "\nLAN {}", lan.name)?;
    write_interface(out, &lan.interface)?;
    let Some(advertised) = &lan.advertised else { return row(out, "advertised", "nothing") };
    for prefix in &advertised.prefixes {
        let flags = match (prefix.on_link, prefix.autonomous) {
            (true, true) => "L A",
            (true, false) => "L",
            (false, true) => "A",
            (false, false) => "no flags",
        };
        row(out, "advertised", &format!("{} {flags}", prefix.prefix))?;
    }
    for resolver in &advertised.rdnss {
        row(out, "", &format!("RDNSS {resolver}"))?;
    }
    if let Some((pref64, usable)) = advertised.pref64 {
        row(out, "", &format!("PREF64 {pref64}{}", if usable { "" } else { " withdrawn" }))?;
    }
    let counts = format!(
        "router lifetime {} s, {} sent, {} solicitations",
        advertised.router_lifetime, advertised.sent, advertised.solicitations
    );
    row(out, "", &counts)?;
    write_reasons(out, &advertised.dropped)
}

fn write_vm(out: &mut String, vm: &Vm) -> fmt::Result {
    let seen = match vm.seen {
        Some(true) => "seen",
        Some(false) => "not seen",
        None => "",
    };
    let ago = vm.last_seen.map_or_else(String::new, |seconds| format!(", last {} ago", span(seconds)));
    let hop = vm.next_hop.map(|hop| hop.to_string()).unwrap_or_default();
    row(out, &vm.name, &format!("{hop} on {} {seen}{ago}", vm.lan))?;
    if let Some(gateway) = vm.gateway {
        row(out, "", &format!("gateway {gateway}"))?;
    }
    for prefix in &vm.containers {
        row(out, "", &format!("containers {prefix}"))?;
    }
    Ok(())
}

fn publication(published: &Published) -> String {
    let Published { protocol, listen, to, ports, line, sessions } = published;
    if *ports == 0 {
        return format!("{protocol} {} to {}, line {line}", listen.ip(), to.ip());
    }
    let several = if *ports > 1 { format!(" and {} more ports", ports - 1) } else { String::new() };
    let sessions = sessions.map_or_else(String::new, |count| format!(", {count} sessions"));
    format!("{protocol} {listen} to {to}{several}, line {line}{sessions}")
}

fn write_nat64(out: &mut String, nat64: &Nat64) -> fmt::Result {
    writeln!(out, "\nNAT64")?;
    for pref64 in nat64.pref64.iter().chain(&nat64.further_pref64) {
        row(out, "prefix", pref64)?;
    }
    match nat64.obstacle {
        None => row(out, "state", "translating")?,
        Some(Obstacle::NoIpv4Uplink) => row(out, "state", "OFF: the uplink has no IPv4")?,
        Some(Obstacle::NoDevice) => row(out, "state", "OFF: there is no TUN device")?,
    }
    for (name, count) in [("sessions", nat64.sessions), ("bindings", nat64.bindings)] {
        row(out, name, &format!("{} tcp, {} udp, {} icmp", count.tcp, count.udp, count.icmp))?;
    }
    let pool = &nat64.pool;
    let (free, held) = (pool.free, pool.held);
    let left = format!("{} tcp, {} udp, {} icmp left", free.tcp, free.udp, free.icmp);
    row(out, "ports", &format!("{left} on {} addresses, {held} held back", pool.addresses))?;
    if pool.block > 0 {
        let (assigned, left) = pool.blocks;
        row(out, "blocks", &format!("{assigned} of {} ports assigned, {left} left", pool.block))?;
    }
    for published in &nat64.published {
        row(out, "publish", &publication(published))?;
    }
    row(out, "v6 to v4", &packets(nat64.v6_to_v4))?;
    row(out, "v4 to v6", &packets(nat64.v4_to_v6))?;
    if let Some(fast_path) = &nat64.fast_path {
        write_fast_path(out, nat64, fast_path)?;
    }
    for who in nat64.vms.iter().chain(&nat64.clients) {
        let (up, down) = (packets(who.v6_to_v4), packets(who.v4_to_v6));
        match who.address {
            None => row(out, "vm", &format!("{}: {up} sent, {down} received", who.name))?,
            Some(address) => row(out, "client", &format!("{address}: {up} sent, {down} received"))?,
        }
    }
    if let Some(log) = &nat64.log {
        row(out, "log", &format!("{} events to {}, {} lost", log.written, log.to, nat64.events_lost))?;
    }
    write_reasons(out, &nat64.reasons)
}

fn write_fast_path(out: &mut String, nat64: &Nat64, fast_path: &FastPath) -> fmt::Result {
    let hook = fast_path.hook.as_deref().unwrap_or("no interface");
    let kept = if fast_path.pinned { "outlives the daemon" } else { "ends with the daemon" };
    row(out, "fast path", &format!("{hook}, {kept}, {} of {} sessions", fast_path.sessions, fast_path.capacity))?;
    let share = |fast: Traffic, all: Traffic| 100.0 * fast.packets as f64 / all.packets.max(1) as f64;
    let (to_v4, to_v6) = (share(fast_path.v6_to_v4, nat64.v6_to_v4), share(fast_path.v4_to_v6, nat64.v4_to_v6));
    row(out, "", &format!("{to_v4:.1}% of the packets to IPv4, {to_v6:.1}% of those to IPv6"))?;
    if fast_path.refused > 0 {
        row(out, "", &format!("{} sessions not taken", fast_path.refused))?;
    }
    for (reason, count) in &fast_path.reasons {
        row(out, "left", &format!("{count} {reason}"))?;
    }
    Ok(())
}

fn write_dns64(out: &mut String, dns64: &Dns64) -> fmt::Result {
    writeln!(out, "\nDNS64")?;
    for address in &dns64.listening {
        row(out, "listening", address)?;
    }
    for upstream in &dns64.upstreams {
        let counts = format!(
            "{}: {} answers, {} failures, {}.{} ms",
            upstream.address,
            upstream.answers,
            upstream.failures,
            upstream.latency_us / 1000,
            upstream.latency_us / 100 % 10
        );
        row(out, "upstream", &counts)?;
    }
    row(out, "synthesis", if dns64.synthesizing { "on" } else { "off" })?;
    match dns64.validating {
        true => row(out, "dnssec", &format!("{} answers proven, {} bogus", dns64.validated, dns64.bogus))?,
        false => row(out, "dnssec", "off")?,
    }
    let counts = format!(
        "{}, {} from the cache, {} synthesized, {} stale, {} failed",
        dns64.queries, dns64.cached, dns64.synthesized, dns64.stale, dns64.failures
    );
    row(out, "queries", &counts)?;
    if let Some(fast) = &dns64.fast_path {
        let hook = fast.hook.as_deref().unwrap_or("nowhere");
        let text =
            format!("{} in the kernel ({hook}), {} answers for {} clients", fast.answered, fast.answers, fast.clients);
        row(out, "fast path", &text)?;
    }
    for (label, all) in [("names", &dns64.top_names), ("clients", &dns64.top_clients)] {
        let most: Vec<_> = all.iter().take(TOP).map(|one| format!("{} {}", one.count, one.name)).collect();
        if !most.is_empty() {
            row(out, label, &most.join(", "))?;
        }
    }
    write_reasons(out, &dns64.dropped)
}

fn write_reasons(out: &mut String, reasons: &std::collections::BTreeMap<String, u64>) -> fmt::Result {
    for (reason, count) in reasons.iter().filter(|(_, count)| **count > 0) {
        row(out, "dropped", &format!("{count} {reason}"))?;
    }
    Ok(())
}

fn row(out: &mut String, name: &str, value: &(impl Display + ?Sized)) -> fmt::Result {
    writeln!(out, "  {name:<12}{value}")
}

fn packets(traffic: Traffic) -> String {
    format!("{} packets, {}", traffic.packets, bytes(traffic.bytes))
}

/// Bytes in the largest binary unit that leaves at least one whole.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (count.checked_ilog2().unwrap_or(0) / 10) as usize;
    let name = units.get(unit).copied().unwrap_or("EiB");
    if unit == 0 {
        return format!("{count} {name}");
    }
    let tenths = (u128::from(count) * 10) >> (10 * unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// Seconds as days, hours, minutes, seconds; the two largest parts.
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_readable() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
        assert_eq!(span(59), "59 s");
        assert_eq!(span(3_661), "1 h 1 min");
        assert_eq!(span(90_000), "1 d 1 h");
    }

    #[test]
    fn an_unloaded_firewall_and_an_obstacle_stand_out() {
        let nat64 = Nat64 { obstacle: Some(Obstacle::NoDevice), ..Nat64::default() };
        let text = table(&Status { nat64: Some(nat64), ..Status::default() });
        assert!(text.contains("NOT LOADED") && text.contains("OFF: there is no TUN device"), "{text}");
    }
}

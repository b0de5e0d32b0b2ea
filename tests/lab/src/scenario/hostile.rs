//! Bad input and missing things: each is named, and the rest of the router lives.
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pnet::packet::ip::IpNextHeaderProtocol;
use rustix::process::Signal;
use serde_json::Value;

use super::client::{dig, ping};
use crate::lab::{Lab, SOON, await_connection, connect, ensure_refused, fetch};
use crate::network::{ROUTER_LAN_MAC, ROUTER_WAN_MAC, SITE_V4, SITE_V6, synthesized};
use crate::packet::{Ipv6, Tap};
use crate::snapshot::Snapshot;
use crate::wait;
use crate::world::Segment;

pub(super) fn missing_interface(lab: &mut Lab) -> Result<()> {
    lab.router.in_namespace()?.namespace().ip("link delete eth1")?;
    let config = lab.config("");
    lab.router.start(&config)?;
    lab.await_status("a finding about eth1", |status| mentions(status, "eth1"))?;
    // The uplink works all the same.
    let router = lab.router.in_namespace()?.namespace();
    wait::until_ok("the uplink to work", SOON, || ping(router, SITE_V4))?;

    lab.world.plug(router, "eth1", ROUTER_LAN_MAC, Segment::Lan)?;
    lab.await_service()?;
    lab.bring_hosts_up()?;
    lab.learn_resolver(&lab.client)?;
    fetch(&lab.client.namespace, "http://v4.lab.test/")?;
    lab.await_status("the finding about eth1 to go", |status| !mentions(status, "eth1")).map(drop)
}

/// Whether a finding mentions that word.
fn mentions(status: &Value, word: &str) -> bool {
    let findings = status["findings"].as_array().into_iter().flatten();
    findings.map(Value::to_string).any(|finding| finding.contains(word))
}

pub(super) fn wrong_configuration(lab: &mut Lab) -> Result<()> {
    let right = lab.config("");
    lab.router.start(&right.replace("[wan]\ninterface", "[wan]\ninterfac"))?;
    let status = lab.await_status("a finding about the configuration, behind a closed door", |status| {
        mentions(status, "interfac") && status["firewall"]["loaded"] == true
    })?;
    ensure!(status["firewall"]["forwarding"] == false, "{}", status["firewall"]);
    // Line and column of the wrong key are shown.
    ensure!(mentions(&status, "4:1") || mentions(&status, "line 4"), "{}", status["findings"]);
    let router = lab.router.in_namespace()?.namespace();
    for family in ["ipv4", "ipv6"] {
        ensure!(router.sysctl(&format!("net/{family}/conf/all/forwarding"))? == "0", "{family} is forwarded");
    }
    default_deny_by_hand(lab)?;

    let router = lab.router.in_namespace()?;
    router.write_config(&right)?;
    router.signal(Signal::HUP)?;
    lab.await_service()?;
    lab.bring_hosts_up()?;
    fetch(&lab.client.namespace, &format!("http://[{}]/", synthesized(SITE_V4)))?;
    lab.await_status("the finding to go", |status| !mentions(status, "interfac")).map(drop)
}

/// Shows default deny on a router that has no addresses of its own accord: it is given one, and a server. Where the
/// daemon has ended, the ruleset is gone afterwards.
pub(super) fn default_deny_by_hand(lab: &mut Lab) -> Result<()> {
    let router = lab.router.in_namespace()?.namespace();
    router.ip("link set eth0 up")?;
    router.ip("address add 2001:db8:1:1::2/64 dev eth0 nodad")?;
    let address: std::net::Ipv6Addr = "2001:db8:1:1::2".parse()?;
    let _server = router.inside(|| TcpListener::bind((address, 8080)))?;
    connect(router, address, 8080).context("the server is reached from the router itself")?;
    let outcome = ensure_refused(&lab.internet, address, 8080);
    // The neighbours know each other, so the silence was the firewall's.
    wait::until_ok("the Internet to know the router's hardware address", SOON, || {
        // Only asking makes the kernel look for a neighbour.
        let asked = lab.internet.run(&format!("ping -n -c 1 -W 1 {address}"))?;
        ensure!(!asked.success, "a closed router answers pings: {asked}");
        let neighbour = lab.internet.ip(&format!("-6 neighbour show {address} dev eth0"))?;
        ensure!(neighbour.contains(ROUTER_WAN_MAC), "{neighbour}");
        Ok(())
    })?;
    outcome?;
    let router = lab.router.in_namespace()?;
    if !router.daemon()?.runs() {
        // Nothing but the ruleset kept it away. A daemon that runs would load it again at once.
        router.namespace().run("nft delete table inet sixgate")?.text()?;
        await_connection(&lab.internet, address, 8080)?;
    }
    router.namespace().ip("address delete 2001:db8:1:1::2/64 dev eth0").map(drop)
}

pub(super) fn wrong_reload(lab: &mut Lab) -> Result<()> {
    let right = lab.config("");
    let router = lab.router.in_namespace()?;
    let before = Snapshot::take(router.namespace())?;
    router.write_config(&right.replace("advertise = true", "advertize = true"))?;
    router.signal(Signal::HUP)?;
    lab.await_status("a finding about the configuration", |status| mentions(status, "advertize"))?;
    before.ensure_same(&Snapshot::take(lab.router.in_namespace()?.namespace())?)?;
    fetch(&lab.client.namespace, &format!("http://[{}]/", synthesized(SITE_V4)))?;

    let router = lab.router.in_namespace()?;
    router.write_config(&right)?;
    router.signal(Signal::HUP)?;
    lab.await_status("the finding to go", |status| !mentions(status, "advertize")).map(drop)
}

pub(super) fn busy_port(lab: &mut Lab) -> Result<()> {
    let router = lab.router.in_namespace()?.namespace();
    // A wildcard on IPv6 is busy for every address of both families.
    let occupant = router.inside(|| (UdpSocket::bind("[::]:53"), TcpListener::bind("[::]:53")));
    let occupant = (occupant.0?, occupant.1?);
    let config = lab.config("");
    lab.router.start(&config)?;
    let status = lab.await_status("a finding about port 53", |status| mentions(status, "53"))?;
    let finding =
        status["findings"].as_array().into_iter().flatten().find(|finding| finding.to_string().contains("53"));
    ensure!(finding.is_some_and(|finding| finding["mend"].as_str().is_some_and(|mend| !mend.is_empty())), "{status:#}");
    lab.await_status("forwarding", |status| status["firewall"]["forwarding"] == true)?;

    drop(occupant);
    lab.await_service()?;
    lab.bring_hosts_up()?;
    let resolver = lab.learn_resolver(&lab.client)?;
    let answer = dig(&lab.client.namespace, &format!("@{resolver} AAAA v4.lab.test"))?;
    ensure!(answer == [synthesized(SITE_V4).to_string()], "{answer:?}");
    lab.await_status("the finding to go", |status| !mentions(status, "port 53")).map(drop)
}

pub(super) fn missing_tun(lab: &mut Lab) -> Result<()> {
    let empty = lab.world.runtime().join("empty");
    std::fs::create_dir(&empty)?;
    lab.router.in_namespace()?.prepare(&format!("mount --bind {} /dev/net", empty.display()))?;
    let config = lab.config("");
    lab.router.start(&config)?;
    lab.await_status("a finding about /dev/net/tun", |status| {
        mentions(status, "/dev/net/tun") && status["nat64"]["obstacle"] == "no-device"
    })?;
    // The resolver awaits the device for a moment, and then serves without it.
    lab.await_status("a resolver without synthesis", |status| status["dns64"]["synthesizing"] == false)?;
    lab.await_status("forwarding", |status| status["firewall"]["forwarding"] == true)?;
    lab.bring_hosts_up()?;
    ping(&lab.client.namespace, SITE_V6)?;
    let said = lab.solicit(&lab.client)?;
    ensure!(said.pref64.is_none_or(|(.., lifetime)| lifetime == 0), "{said:?}");
    Ok(())
}

pub(super) fn garbage(lab: &mut Lab) -> Result<()> {
    let before = lab.router.status()?;
    let process = lab.router.in_namespace()?.daemon()?.pid();
    let resolver = lab.learn_resolver(&lab.client)?;
    let client = &lab.client.namespace;

    garbage_on_the_control_socket(lab.router.in_namespace()?.control())?;
    let dns = client.inside(|| UdpSocket::bind("[::]:0"))?;
    let noise: Vec<u8> = (0..=255).map(|index: u8| index.wrapping_mul(167) ^ 0x5a).collect();
    for datagram in [&[][..], &[0], &noise[..11], &noise, &[0xff; 512]] {
        dns.send_to(datagram, (resolver, 53))?;
    }
    let mut stream: TcpStream = connect(client, resolver, 53)?;
    stream.write_all(&[0xff, 0xff, 1, 2, 3])?;
    drop(stream);
    garbage_on_the_link(lab)?;
    garbage_for_the_translator(lab)?;

    lab.await_status("the garbage to be counted", |status| {
        let more = |path: &str| sum(status.pointer(path)) > sum(before.pointer(path));
        let translator = |reason: &str| status["nat64"]["reasons"][reason].as_u64() > Some(0);
        more("/dns64/dropped")
            && status["dns64"]["dropped"]["dns-incomplete"].as_u64() > Some(0)
            && more("/lans/0/advertised/dropped")
            && more("/control/refused")
            && ["malformed", "unknown-protocol", "no-session", "routing-header"].into_iter().all(translator)
    })?;
    let router = lab.router.in_namespace()?;
    ensure!(router.daemon()?.runs() && router.daemon()?.pid() == process, "the daemon ended");
    lab.learn_resolver(&lab.client)?;
    fetch(&lab.client.namespace, "http://v4.lab.test/").map(drop)
}

/// The sum of a map's counters.
fn sum(counters: Option<&Value>) -> u64 {
    counters.and_then(Value::as_object).into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
}

fn garbage_on_the_control_socket(path: &std::path::Path) -> Result<()> {
    let endless = vec![b'['; 1 << 20];
    for message in [
        &b"\n"[..],
        b"status\n",
        b"{\"version\":1}\n",
        b"\xff\xfe\0\n",
        b"{\"version\":1,\"request\":\"dance\"}\n",
        &endless,
    ] {
        let mut stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        // The router may hang up in the middle, which is an error here.
        let _ = stream.write_all(message);
    }
    Ok(())
}

/// RFC 4861 section 6.1.1: solicitations that have to be discarded silently.
fn garbage_on_the_link(lab: &Lab) -> Result<()> {
    let source = "fe80::bad".parse()?;
    let mut tap = Tap::open(&lab.client.namespace, "eth0")?;
    let solicitation = [133, 0, 0, 0, 0, 0, 0, 0];
    // From another link.
    tap.send_icmpv6(source, 254, &solicitation)?;
    // With a code.
    tap.send_icmpv6(source, 255, &[133, 1, 0, 0, 0, 0, 0, 0])?;
    // Shorter than 8 octets.
    tap.send_icmpv6(source, 255, &solicitation[..6])?;
    // With an option of length 0.
    tap.send_icmpv6(source, 255, &[&solicitation[..], &[1, 0, 0, 0, 0, 0, 0, 0]].concat())?;
    // With an option that is longer than the packet.
    tap.send_icmpv6(source, 255, &[&solicitation[..], &[1, 9, 0, 0, 0, 0, 0, 0]].concat())?;
    // With a source link-layer address, from nowhere.
    tap.send_icmpv6([0; 16].into(), 255, &[&solicitation[..], &[1, 1, 2, 0, 0, 0, 0, 1]].concat())?;
    Ok(())
}

/// Packets towards the NAT64 prefix that no host would send.
fn garbage_for_the_translator(lab: &Lab) -> Result<()> {
    let source = lab.client.address()?;
    let mut tap = Tap::open(&lab.client.namespace, "eth0")?;
    let router = ROUTER_LAN_MAC.parse()?;
    let mut send = |next_header, payload: &[u8]| {
        let next_header = IpNextHeaderProtocol::new(next_header);
        let packet = Ipv6 { source, destination: synthesized(SITE_V4), hop_limit: 64, next_header };
        tap.send(router, packet, payload)
    };
    // TCP and UDP headers that are cut short, a UDP length that is too large, a data offset that is too small.
    send(6, &[0; 4])?;
    send(17, &[0; 7])?;
    send(17, &[0x10, 0, 0, 80, 0xff, 0xff, 0, 1])?;
    send(6, &[0; 20])?;
    // An ACK of no connection, a protocol without translation, and a Routing header with segments left.
    send(6, &[0x10, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0])?;
    send(253, &[1, 2, 3, 4])?;
    send(43, &[17, 0, 2, 1, 0, 0, 0, 0, 0x10, 0, 0, 80, 0, 8, 0, 0])?;
    // Extension headers that never end, and a fragment of nothing.
    send(0, &[0, 0xff, 0, 0, 0, 0, 0, 0])?;
    send(60, &[60, 0, 0, 0, 0, 0, 0, 0])?;
    send(44, &[44, 0, 0xff, 0xf9, 0, 0, 0, 1])
}

//! What a host on the LAN sees: SLAAC, DNS64, NAT64, plain IPv6.
use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};
use sixgate_wire::mac::MacAddr;

use crate::lab::{Host, Lab, SOON, UDP_PORT, ask, ensure_refused, fetch, fetch_size};
use crate::namespace::Namespace;
use crate::network::{NARROW, PRIVATE, ROUTER_LAN_MAC, ROUTER_V4, SITE_V4, SITE_V6, synthesized};
use crate::packet::Tap;
use crate::wait;

/// NAT64's share of the ports of the router's IPv4 address.
const NAT64_PORTS: std::ops::RangeInclusive<u16> = 40960..=65535;

pub(super) fn hears_of_nat64_at_once(lab: &mut Lab) -> Result<()> {
    lab.client.bring_up()?;
    // A LAN that is up already: nothing keeps the router from advertising but what it awaits by itself.
    let router = lab.router.in_namespace()?.namespace();
    router.ip("link set eth1 up")?;
    wait::until("the router's link-local address", SOON, || {
        router.ip("-6 address show dev eth1 scope link -tentative").ok()?.contains("fe80::").then_some(())
    })?;
    let mut tap = Tap::open(&lab.client.namespace, "eth0")?;
    lab.start()?;
    let first = tap.advertisement("the first one", SOON, |_| true)?;
    ensure!(first.pref64.is_some_and(|(.., lifetime)| lifetime > 0), "{first:?}");
    Ok(())
}

pub(super) fn configures_itself(lab: &mut Lab) -> Result<()> {
    let client = &lab.client;
    client.bring_up()?;
    let address = client.address()?;
    let [router, own] = [ROUTER_LAN_MAC, client.mac()].map(link_local);
    let (router, own) = (router?, own?);
    let expected = ["2001:db8:1:2:", own.to_string().trim_start_matches("fe80::")].concat();
    ensure!(address.to_string() == expected, "{address} is not the prefix with the interface identifier: {expected}");
    let gateways = client.namespace.default_gateways()?;
    ensure!(gateways == [router.to_string()], "default gateways {gateways:?}, expected {router}");
    let on_link = client.namespace.ip("-6 route show 2001:db8:1:2::/64")?;
    ensure!(on_link.is_empty(), "the /64 is on-link although /80s are carved out of it: {on_link}");

    let said = lab.solicit(client)?;
    ensure!(said.source == router && said.hop_limit == 255, "{said:?}");
    ensure!(said.router_lifetime > 0, "{said:?}");
    let [prefix] = said.prefixes.as_slice() else { anyhow::bail!("one prefix expected: {said:?}") };
    ensure!(prefix.prefix == ("2001:db8:1:2::".parse()?, 64), "{prefix:?}");
    ensure!(prefix.autonomous && !prefix.on_link, "{prefix:?}");
    ensure!(prefix.valid >= prefix.preferred && prefix.preferred > 0, "{prefix:?}");
    let (resolver, lifetime) = *said.rdnss.first().context("RDNSS")?;
    ensure!(!resolver.is_loopback() && lifetime > 0, "{said:?}");
    ensure!(said.mtu == Some(1500), "{said:?}");
    let MacAddr(mac) = ROUTER_LAN_MAC.parse().map_err(anyhow::Error::msg)?;
    ensure!(said.source_link_layer == Some(mac), "{said:?}");
    let (pref64, length, lifetime) = said.pref64.context("PREF64")?;
    ensure!(pref64 == "2001:db8:64::".parse::<std::net::Ipv6Addr>()? && length == 96 && lifetime > 0, "{said:?}");
    Ok(())
}

fn link_local(mac: &str) -> Result<std::net::Ipv6Addr> {
    Ok(mac.parse::<MacAddr>().map_err(anyhow::Error::msg)?.link_local())
}

pub(super) fn digs(lab: &mut Lab) -> Result<()> {
    let client = &lab.client;
    let resolver = lab.learn_resolver(client)?;
    let dig = |question: &str| dig(&client.namespace, &format!("@{resolver} {question}"));
    let site = synthesized(SITE_V4).to_string();

    for (question, expected) in [
        ("AAAA v4.lab.test", site.clone()),
        ("AAAA v4.lab.test +tcp", site),
        ("A v4.lab.test", SITE_V4.to_string()),
        // RFC 6147 section 5.1.1: where there is a real AAAA record, none is synthesized.
        ("AAAA both.lab.test", SITE_V6.to_string()),
    ] {
        let answer = dig(question)?;
        ensure!(answer == [expected.as_str()], "{question} is answered with {answer:?}, expected {expected}");
    }
    let mut well_known = dig("AAAA ipv4only.arpa")?;
    well_known.sort();
    ensure!(
        well_known == ["2001:db8:64::c000:aa", "2001:db8:64::c000:ab"],
        "AAAA ipv4only.arpa is answered with {well_known:?}"
    );

    let unknown = client.namespace.run(&format!("dig +time=3 +tries=2 @{resolver} AAAA unknown.lab.test"))?.text()?;
    ensure!(unknown.contains("status: NXDOMAIN"), "{unknown}");
    let answer = format!("dig +noall +answer +time=3 +tries=2 @{resolver} AAAA v4.lab.test");
    let answer = client.namespace.run(&answer)?.text()?;
    let ttl: u32 = answer.split_whitespace().nth(1).context("a TTL")?.parse()?;
    ensure!((1..=300).contains(&ttl), "TTL {ttl} of a record with 300: {answer}");

    let count = |status: &serde_json::Value| status["dns64"]["synthesized"].as_u64();
    lab.await_status("the answers to be counted", |status| count(status) >= Some(3)).map(drop)
}

/// What `dig +short` answers, line by line.
pub(super) fn dig(from: &Namespace, question: &str) -> Result<Vec<String>> {
    let text = from.run(&format!("dig +short +time=3 +tries=3 {question}"))?.text()?;
    Ok(text.lines().map(str::to_owned).collect())
}

pub(super) fn fetches_over_nat64(lab: &mut Lab) -> Result<()> {
    lab.learn_resolver(&lab.client)?;
    let client = &lab.client.namespace;
    let before = lab.site_v4.peers().len();
    let seen_as = fetch(client, "http://v4.lab.test/")?;
    ensure!(seen_as.trim() == ROUTER_V4.to_string(), "the server sees {seen_as}");
    let peers = lab.site_v4.peers().split_off(before);
    let [peer] = peers.as_slice() else { anyhow::bail!("one connection expected: {peers:?}") };
    ensure!(NAT64_PORTS.contains(&peer.port()), "{peer} is outside NAT64's share of the ports");

    let size = 2_000_000;
    ensure!(fetch_size(client, &format!("http://v4.lab.test/bytes/{size}"))? == size, "a long download");
    ensure!(upload(lab, client, "http://v4.lab.test/", 1_000_000)?.trim() == "1000000", "a long upload");

    lab.await_status("the bytes to be counted", |status| {
        let bytes = |direction: &str| status["nat64"][direction]["bytes"].as_u64();
        bytes("v4_to_v6") > Some(size) && bytes("v6_to_v4") > Some(1_000_000)
    })
    .map(drop)
}

/// Sends that many bytes with curl; the server's answer is their number.
pub(super) fn upload(lab: &Lab, from: &Namespace, url: &str, size: usize) -> Result<String> {
    let file = lab.world.folder().join("upload");
    std::fs::write(&file, vec![b'.'; size])?;
    let options = "--silent --show-error --fail --max-time 18 --noproxy *";
    from.run(&format!("curl {options} --data-binary @{} {url}", file.display()))?.text()
}

pub(super) fn asks_and_pings(lab: &mut Lab) -> Result<()> {
    let client = &lab.client.namespace;
    ensure!(ask(client, synthesized(SITE_V4), b"hello")? == b"hello", "an echo");
    let peers = lab.udp.peers();
    let peer = peers.last().context("a peer")?;
    ensure!(peer.ip() == ROUTER_V4 && NAT64_PORTS.contains(&peer.port()), "the server saw {peer}");
    ping(client, synthesized(SITE_V4))?;
    lab.await_status("the sessions to be counted", |status| {
        let sessions = &status["nat64"]["sessions"];
        sessions["udp"].as_u64() >= Some(1) && sessions["icmp"].as_u64() >= Some(1)
    })
    .map(drop)
}

/// Three echo requests, of which all have to be answered.
pub(super) fn ping(from: &Namespace, to: impl Into<std::net::IpAddr>) -> Result<()> {
    from.run(&format!("ping -n -c 3 -i 0.2 -W 5 {}", to.into()))?.text().map(drop)
}

pub(super) fn fetches_over_ipv6(lab: &mut Lab) -> Result<()> {
    lab.learn_resolver(&lab.client)?;
    let address = lab.client.address()?;
    let seen_as = fetch(&lab.client.namespace, "http://v6.lab.test/")?;
    ensure!(seen_as.trim() == address.to_string(), "the server sees {seen_as} instead of {address}");
    ping(&lab.client.namespace, SITE_V6)
}

pub(super) fn is_served_without_slaac(lab: &mut Lab) -> Result<()> {
    for host in [&lab.vm1, &lab.client] {
        serves(lab, host)?;
    }
    // RFC 4862 section 5.5.3: a /76 cannot be used for SLAAC, so nobody is told to try.
    let said = lab.solicit(&lab.client)?;
    ensure!(said.prefixes.iter().all(|prefix| !prefix.autonomous), "{said:?}");
    ensure!(said.pref64.is_some() && said.mtu.is_some(), "{said:?}");
    Ok(())
}

fn serves(lab: &Lab, host: &Host) -> Result<()> {
    lab.learn_resolver(host)?;
    let seen_as = fetch(&host.namespace, "http://v4.lab.test/")?;
    ensure!(seen_as.trim() == ROUTER_V4.to_string(), "the server sees {seen_as}");
    let seen_as = fetch(&host.namespace, "http://v6.lab.test/")?;
    ensure!(seen_as.trim() == host.address()?.to_string(), "the server sees {seen_as}");
    ping(&host.namespace, synthesized(SITE_V4))
}

pub(super) fn is_refused_private_ipv4(lab: &mut Lab) -> Result<()> {
    let resolver = lab.learn_resolver(&lab.client)?;
    let client = &lab.client.namespace;
    ensure_refused(client, synthesized(PRIVATE), 80)?;
    ensure!(!client.run(&format!("ping -n -c 1 -W 1 {}", synthesized(PRIVATE)))?.success, "a ping to {PRIVATE}");
    ensure!(lab.private.peers().is_empty(), "the private server saw {:?}", lab.private.peers());
    let answer = dig(client, &format!("@{resolver} AAAA private.lab.test"))?;
    ensure!(answer.is_empty(), "synthesized from a private address: {answer:?}");
    lab.await_status("the refusal to be counted", |status| {
        let reasons = status["nat64"]["reasons"].as_object().into_iter().flatten();
        reasons.filter(|(reason, _)| reason.contains("global")).any(|(_, count)| count.as_u64() > Some(0))
    })?;

    // The same addresses work once they are exempted openly, and the name may have them.
    let config = lab
        .config("")
        .replace("\"192.0.2.0/24\"", "\"192.0.2.0/24\", \"10.64.0.0/16\"")
        .replace("[dns64]\n", "[dns64]\nprivate_domains = [\"private.lab.test\"]\n");
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(rustix::process::Signal::HUP)?;
    let client = &lab.client.namespace;
    let seen_as = wait::until_ok("the exemption to work", SOON, || fetch(client, "http://private.lab.test/"))?;
    ensure!(seen_as.trim() == ROUTER_V4.to_string(), "the server sees {seen_as}");
    Ok(())
}

/// RFC 8781 section 4.1: a prefix that does not work any more is advertised with lifetime 0.
pub(super) fn loses_and_regains_nat64(lab: &mut Lab) -> Result<()> {
    let resolver = lab.learn_resolver(&lab.client)?;
    let with = lab.config("");
    let without: Vec<&str> = with.lines().filter(|line| !line.starts_with("ipv4 = ")).collect();
    let router = lab.router.in_namespace()?;
    router.write_config(&without.join("\n"))?;
    router.signal(rustix::process::Signal::HUP)?;

    let client = &lab.client.namespace;
    let question = format!("@{resolver} AAAA v6.lab.test");
    wait::until_ok("the withdrawal of PREF64", SOON, || {
        let said = lab.solicit(&lab.client)?;
        ensure!(said.router_lifetime > 0 && said.pref64.is_some_and(|(.., lifetime)| lifetime == 0), "{said:?}");
        Ok(())
    })?;
    // The upstream is reached over IPv4, so that names do not resolve at all; what matters is that nothing is made up.
    let answer = client.run(&format!("dig +short +time=1 +tries=1 @{resolver} AAAA ipv4only.arpa"))?;
    ensure!(!answer.stdout.contains("2001:db8:64:"), "synthesized without an uplink: {answer}");
    ping(client, SITE_V6)?;

    let router = lab.router.in_namespace()?;
    router.write_config(&with)?;
    router.signal(rustix::process::Signal::HUP)?;
    let client = &lab.client.namespace;
    wait::until_ok("NAT64 to work again", SOON, || fetch(client, "http://v4.lab.test/"))?;
    ensure!(dig(client, &question)? == [SITE_V6.to_string()], "{question}");
    let said = lab.solicit(&lab.client)?;
    ensure!(said.pref64.is_some_and(|(.., lifetime)| lifetime > 0), "{said:?}");
    Ok(())
}

/// ICMP errors of IPv4 routers arrive as ICMPv6 errors of the addresses that stand for them.
pub(super) fn traces_the_path(lab: &mut Lab) -> Result<()> {
    let _narrow = lab.add_narrow_server()?;
    let client = &lab.client.namespace;
    let gateway = synthesized(std::net::Ipv4Addr::new(203, 0, 113, 1)).to_string();
    let mut hops = Vec::new();
    for limit in 1..=8 {
        let answer = client.run(&format!("ping -n -c 1 -W 2 -t {limit} {}", synthesized(NARROW)))?;
        if answer.success {
            ensure!(hops.first().is_some_and(|hop: &String| hop.contains(":1:2:")), "the router is no hop: {hops:?}");
            ensure!(hops.last().is_some_and(|hop| *hop == gateway), "the last hop is not {gateway}: {hops:?}");
            return Ok(());
        }
        let from = answer.stdout.lines().find_map(|line| line.strip_prefix("From ")?.split_whitespace().next());
        hops.push(from.with_context(|| format!("nobody answers at {limit} hops: {answer}"))?.to_owned());
    }
    anyhow::bail!("{NARROW} does not answer: {hops:?}")
}

/// RFC 6146 section 3.5.1: address-dependent filtering. A binding serves those whom its owner has spoken to.
pub(super) fn keeps_strangers_out(lab: &mut Lab) -> Result<()> {
    let socket = lab.client.namespace.inside(|| UdpSocket::bind("[::]:0"))?;
    socket.set_read_timeout(Some(SOON))?;
    socket.send_to(b"hello", (synthesized(SITE_V4), UDP_PORT))?;
    socket.recv_from(&mut [0; 16]).context("the server's answer")?;
    let mapped = *lab.udp.peers().last().context("a mapped address")?;

    let stranger = lab.internet.inside(|| UdpSocket::bind((PRIVATE, UDP_PORT)))?;
    stranger.send_to(b"spam", mapped)?;
    lab.await_status("the stranger to be filtered", |status| {
        status["nat64"]["reasons"]["filtered"].as_u64() >= Some(1)
    })?;
    socket.set_nonblocking(true)?;
    let received = socket.recv_from(&mut [0; 16]);
    ensure!(received.is_err(), "the stranger's datagram arrived: {received:?}");
    Ok(())
}

//! The translator with real tools: pings and traceroutes of all sizes and kinds, connections opened from both ends and
//! connections that lie idle, protocols that are not translated, and what is told and counted of all that.
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::client::ping;
use crate::lab::{Lab, SOON, UDP_PORT, ask, connect, fetch};
use crate::namespace::Namespace;
use crate::network::{NARROW, NARROW_MTU, ROUTER_V4, SITE_V4, synthesized};
use crate::wait;

/// What an IPv6 packet of an echo is longer than its data.
const ECHO_HEADERS: u32 = 40 + 8;
/// Where the router is announced to be by what it sends of itself.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Another server, to which nobody has spoken yet.
const PEER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 30);

/// Echoes that fit, that just fit, that just do not, and that come in many fragments; and with "don't fragment", those
/// that fit.
pub(super) fn pings_of_all_sizes(lab: &mut Lab) -> Result<()> {
    let client = &lab.client.namespace;
    let site = synthesized(SITE_V4);
    for size in [1280, 1281, 1400, 1480, 1500, 1501, 1520, 2960, 4000, 6000, 9000, 10_000] {
        let data = size - ECHO_HEADERS;
        let answer = client.run(&format!("ping -n -c 2 -i 0.2 -W 5 -s {data} {site}"))?.text()?;
        ensure!(answer.contains(" 0% packet loss"), "{size} bytes: {answer}");
    }
    for size in [1280, 1400, 1500] {
        let data = size - ECHO_HEADERS;
        let answer = client.run(&format!("ping -n -c 1 -W 5 -M do -s {data} {site}"))?.text()?;
        ensure!(answer.contains(" 0% packet loss"), "{size} bytes that may not be cut: {answer}");
    }
    Ok(())
}

/// A ping that may not be cut hears of the narrow link in IPv4 what it can send in IPv6.
pub(super) fn ping_finds_the_mtu(lab: &mut Lab) -> Result<()> {
    let (narrow, _web) = lab.add_narrow_server()?;
    // Its long answers have to fit as well.
    narrow.ip(&format!("route replace default via 192.0.2.129 dev eth0 src {NARROW} onlink mtu {NARROW_MTU}"))?;
    let client = &lab.client.namespace;
    let target = synthesized(NARROW);
    let fits = NARROW_MTU + 20;
    let answer = client.run(&format!("ping -n -c 1 -W 5 -M do -s {} {target}", fits + 1 - ECHO_HEADERS))?;
    ensure!(!answer.success && answer.to_string().contains(&format!("mtu={fits}")), "{answer}");
    let answer = client.run(&format!("ping -n -c 1 -W 5 -M do -s {} {target}", fits - ECHO_HEADERS))?.text()?;
    ensure!(answer.contains(" 0% packet loss"), "{answer}");
    // What is longer goes through in fragments, of a size that the client has learnt.
    ping_of(client, target, 8000)
}

fn ping_of(from: &Namespace, to: Ipv6Addr, size: u32) -> Result<()> {
    let answer = from.run(&format!("ping -n -c 2 -i 0.2 -W 5 -s {} {to}", size - ECHO_HEADERS))?.text()?;
    ensure!(answer.contains(" 0% packet loss"), "{size} bytes: {answer}");
    Ok(())
}

/// By UDP, by echoes and by TCP alike: the router, its gateway, and the server behind that.
pub(super) fn traces_to_ipv4(lab: &mut Lab) -> Result<()> {
    let _narrow = lab.add_narrow_server()?;
    let expected = ["2001:db8:1:2::1".to_owned(), synthesized(GATEWAY).to_string(), synthesized(NARROW).to_string()];
    for method in ["-U", "-I", "-T -p 80"] {
        let hops = trace(&lab.client.namespace, &format!("-6 {method} {}", synthesized(NARROW)))?;
        // The router is in the way twice: as who forwards IPv6, and as who translates.
        let mut hops: Vec<&str> = hops.iter().map(String::as_str).collect();
        hops.dedup();
        ensure!(hops == expected, "{method}: {hops:?} instead of {expected:?}");
    }
    Ok(())
}

/// From outside towards a client's port: whoever drops the packet on the way inside is spoken for by the mapped address,
/// as is the host itself (RFC 6791).
pub(super) fn traces_from_ipv4(lab: &mut Lab) -> Result<()> {
    let container = &lab.vm1.containers()?.namespace;
    let socket = container.inside(|| UdpSocket::bind("[::]:0"))?;
    socket.set_read_timeout(Some(SOON))?;
    socket.send_to(b"hello", (synthesized(SITE_V4), UDP_PORT))?;
    socket.recv_from(&mut [0; 16]).context("the server's answer")?;
    let mapped = *lab.udp.peers().last().context("a mapped address")?;
    // Nobody listens there any more; the binding stays for a while.
    drop(socket);
    let method = format!("-4 -U -p {} -s {SITE_V4} {ROUTER_V4}", mapped.port());
    let hops = trace(&lab.internet, &method)?;
    // The router's kernel, the translator, the VM, and the container, which says that its port is closed.
    ensure!(hops.len() >= 3, "{hops:?}");
    ensure!(hops.iter().all(|hop| *hop == ROUTER_V4.to_string()), "{hops:?}");
    let status = lab.router.status()?;
    ensure!(status["nat64"]["reasons"]["filtered"].is_null(), "{}", status["nat64"]["reasons"]);
    Ok(())
}

/// The hops that traceroute prints, of which none may be silent or end the trace before its target.
fn trace(from: &Namespace, arguments: &str) -> Result<Vec<String>> {
    let text = from.run(&format!("traceroute -n -q 1 -w 3 -m 8 {arguments}"))?.text()?;
    let hops = text.lines().skip(1).map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let hop = words.next().context("a hop")?.to_owned();
        ensure!(hop != "*" && words.all(|word| !word.starts_with('!')), "{text}");
        Ok(hop)
    });
    let hops: Vec<String> = hops.collect::<Result<_>>()?;
    ensure!(hops.len() < 8, "the target was not reached: {text}");
    Ok(hops)
}

/// RFC 6146 section 3.4: what is neither TCP, UDP nor ICMP is refused with Destination Unreachable, Port unreachable.
pub(super) fn other_protocols(lab: &mut Lab) -> Result<()> {
    const SCTP: u8 = 132;
    const DCCP: u8 = 33;
    let client = &lab.client.namespace;
    for protocol in [SCTP, DCCP] {
        // The trace begins behind the router, which is in the way three times: before, in and behind the translator.
        let line = format!("traceroute -6 -n -q 1 -w 3 -f 4 -m 4 -P {protocol} {}", synthesized(SITE_V4));
        let text = client.run(&line)?.text()?;
        ensure!(text.lines().nth(1).is_some_and(|hop| hop.contains("2001:db8:1:2::1 ")), "protocol {protocol}: {text}");
    }
    lab.await_status("the refusals to be counted", |status| {
        status["nat64"]["reasons"]["unknown-protocol"].as_u64() >= Some(2)
    })?;
    ping(&lab.client.namespace, synthesized(SITE_V4))
}

/// RFC 5382 REQ-2 a: both ends open the connection, neither listens. The SYN from outside comes first, waits in the
/// translator, and is never answered.
pub(super) fn opens_from_both_ends(lab: &mut Lab) -> Result<()> {
    lab.internet.ip(&format!("address add {PEER}/32 dev lo"))?;
    // The client learns its mapped port from somebody else, as such applications do.
    let here = lab.client.namespace.inside(|| bound(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, 0).into()))?;
    let local = here.local_addr()?.as_socket().context("a local port")?.port();
    let before = lab.site_v4.peers().len();
    here.connect(&SocketAddr::from((synthesized(SITE_V4), 80)).into())?;
    let mapped = wait::until("the server to see the client", SOON, || lab.site_v4.peers().get(before).copied())?;

    let outside = lab.internet.inside(|| bound(Domain::IPV4, (PEER, 0).into()))?;
    let peer = outside.local_addr()?.as_socket().context("a local port")?.port();
    outside.set_nonblocking(true)?;
    // EINPROGRESS: its SYN has left.
    let _ = outside.connect(&mapped.into());

    let inside = lab.client.namespace.inside(|| bound(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, local).into()))?;
    inside.connect_timeout(&SocketAddr::from((synthesized(PEER), peer)).into(), SOON)?;
    wait::until_ok("the other end to be connected", SOON, || {
        if let Some(error) = outside.take_error()? {
            bail!("the other end: {error}");
        }
        outside.peer_addr().context("not connected")
    })?;
    outside.set_nonblocking(false)?;
    exchange(&mut inside.into(), &mut outside.into())
}

fn bound(domain: Domain, address: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}

/// Words both ways.
fn exchange(inside: &mut TcpStream, outside: &mut TcpStream) -> Result<()> {
    for stream in [&mut *inside, &mut *outside] {
        stream.set_read_timeout(Some(SOON))?;
    }
    let mut word = [0; 5];
    inside.write_all(b"hello")?;
    outside.read_exact(&mut word).context("what the client said")?;
    ensure!(&word == b"hello", "{word:?}");
    outside.write_all(b"world")?;
    inside.read_exact(&mut word).context("what the server said")?;
    ensure!(&word == b"world", "{word:?}");
    Ok(())
}

/// RFC 6146 section 3.5.2.2: after TCP_EST the client is asked, and what it answers keeps the connection. The daemon that
/// comes next lives 8,000 seconds later: a time namespace shifts its clock, and the clients' stays as it is.
pub(super) fn lies_idle(lab: &mut Lab) -> Result<()> {
    let listener = lab.internet.inside(|| TcpListener::bind((SITE_V4, 8081)))?;
    let mut inside = connect(&lab.client.namespace, synthesized(SITE_V4), 8081)?;
    let (mut outside, _) = listener.accept()?;
    exchange(&mut inside, &mut outside)?;
    // One whose end inside is gone without a word.
    let lost = connect(&lab.vm2.namespace, synthesized(SITE_V4), 8081)?;
    let (_gone, _) = listener.accept()?;
    lab.vm2.namespace.ip("link set eth0 down")?;
    drop(lost);

    let router = lab.router.in_namespace()?;
    let status = router.end(Signal::USR1)?;
    ensure!(status.success(), "the daemon ended with {status}");
    router.prepare("exec unshare --time --monotonic 8000 \"$@\"")?;
    router.start_again()?;
    lab.await_service()?;
    // A probe has an acknowledgement number of zero; no host sends such.
    wait::until_ok("the connection to be asked and to answer", SOON, || {
        let states = states(lab)?;
        ensure!(states == ["ESTABLISHED", "TRANS"], "{states:?}");
        Ok(())
    })?;
    exchange(&mut inside, &mut outside)
}

/// States of the connections to the listener, sorted.
fn states(lab: &mut Lab) -> Result<Vec<String>> {
    let reply = lab.router.request("{\"sessions\":{}}")?;
    let sessions = reply["page"]["sessions"].as_array().context("sessions")?;
    let to_listener = |session: &&Value| session["server"].as_str().is_some_and(|server| server.ends_with(":8081"));
    let state = |session: &Value| session["state"].as_str().unwrap_or_default().to_owned();
    let mut states: Vec<String> = sessions.iter().filter(to_listener).map(state).collect();
    states.sort();
    Ok(states)
}

/// Who had which port is told to a server; what passed is counted for each session, client and VM.
pub(super) fn is_told_and_counted(lab: &mut Lab) -> Result<()> {
    const SYSLOG: u16 = 5514;
    let server = lab.internet.inside(|| UdpSocket::bind((SITE_V4, SYSLOG)))?;
    server.set_read_timeout(Some(SOON))?;
    lab.start_with(&format!("[nat64.log]\nto = \"udp://{SITE_V4}:{SYSLOG}\"\nsessions = true\n"))?;
    let container = lab.vm1.containers()?.address;
    ask(&lab.vm1.containers()?.namespace, synthesized(SITE_V4), b"hello")?;
    let mapped = *lab.udp.peers().last().context("a mapped address")?;
    let mut records = Vec::new();
    while records.len() < 2 {
        let mut bytes = [0; 2048];
        let length = server.recv(&mut bytes).context("a record")?;
        let record = String::from_utf8(bytes[..length].to_vec())?;
        if record.contains(&container.to_string()) {
            records.push(record);
        }
    }
    for (record, event) in records.iter().zip(["natEvent=\"10\"", "natEvent=\"6\""]) {
        let port = format!("postNAPTSourceTransportPort=\"{}\"", mapped.port());
        for part in ["<30>1 ", " lab sixgate ", event, "protocolIdentifier=\"17\"", &port] {
            ensure!(record.contains(part), "{record} lacks {part}");
        }
    }
    lab.await_status("the log and the accounts to say so", |status| {
        let vm = |vm: &Value| vm["name"] == "vm1" && vm["v6_to_v4"]["packets"].as_u64() >= Some(1);
        let client = |client: &Value| client["address"] == container.to_string();
        let any =
            |list: &Value, fits: &dyn Fn(&Value) -> bool| list.as_array().is_some_and(|list| list.iter().any(fits));
        let nat64 = &status["nat64"];
        nat64["log"]["written"].as_u64() >= Some(2) && any(&nat64["vms"], &vm) && any(&nat64["clients"], &client)
    })?;
    let router = lab.router.in_namespace()?;
    let line = format!(
        "{} sessions --json --client {container} --control {}",
        router.binary().display(),
        router.control().display()
    );
    let text = router.namespace().run(&line)?.text()?;
    let session: Value = serde_json::from_str(text.trim()).with_context(|| text.clone())?;
    ensure!(session["mapped"] == mapped.to_string() && session["v4_to_v6"]["packets"] == 1, "{text}");

    // A server that is gone costs no packet.
    drop(server);
    lab.internet.ip(&format!("route add blackhole {ROUTER_V4}/32 metric 0"))?;
    lab.internet.ip(&format!("route delete blackhole {ROUTER_V4}/32 metric 0"))?;
    for _ in 0..20 {
        ask(&lab.client.namespace, synthesized(SITE_V4), b"hello")?;
    }
    fetch(&lab.client.namespace, &format!("http://[{}]/", synthesized(SITE_V4)))?;
    lab.await_finding("nat64-log-not-written").map(drop)
}

/// One client opens all it can: it is refused at its limit, the operator hears of it, its neighbours go on as before.
pub(super) fn is_exhausted(lab: &mut Lab) -> Result<()> {
    lab.start_with(
        "max_sessions = 600\nports = \"41000-41255\"\n[nat64.limits]\nprefix_length = 128\nnew_sessions_per_second = 100000\n",
    )?;
    let greedy = &lab.vm1.containers()?.namespace;
    let sockets: Vec<UdpSocket> =
        (0..700).map(|_| greedy.inside(|| UdpSocket::bind("[::]:0"))).collect::<std::io::Result<_>>()?;
    for socket in &sockets {
        socket.connect((synthesized(SITE_V4), UDP_PORT))?;
        socket.send(b"hello")?;
    }
    lab.await_finding("nat64-exhausted")?;
    let status = lab.router.status()?;
    let reasons = &status["nat64"]["reasons"];
    ensure!(reasons["client-binding-limit"].as_u64() >= Some(400), "{reasons}");
    // There is room for others, in every protocol.
    for host in [&lab.client, &lab.vm2] {
        ask(&host.namespace, synthesized(SITE_V4), b"hello")?;
        ping(&host.namespace, synthesized(SITE_V4))?;
        fetch(&host.namespace, &format!("http://[{}]/", synthesized(SITE_V4)))?;
    }
    Ok(())
}

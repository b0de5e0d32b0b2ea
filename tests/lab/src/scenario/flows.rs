//! Established routed flows past the rules: which go, who gets nothing out of it, and what ends it.
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::container::serve;
use super::fast_path::transfer_by;
use crate::lab::{Lab, SOON, UDP_PORT, await_connection, fetch};
use crate::namespace::Namespace;
use crate::network::SITE_V6;
use crate::server::udp::Udp;
use crate::wait;
use crate::world::Segment;

/// What a connection carries, and what one of several by an entry does.
const SIZE: usize = 24_000_000;
const EACH: usize = 4_000_000;
/// More than is read in all.
const MUCH: usize = 60_000_000;
const FORGED: u64 = 5;
const DOOR: &str = "\n[[allow]]\nto = \"vm1/containers::5\"\ntcp = 8080\n";

fn offload(status: &Value) -> &Value {
    &status["firewall"]["flow_offload"]
}

fn past(status: &Value, unit: &str) -> u64 {
    offload(status)["past"][unit].as_u64().unwrap_or_default()
}

fn left(status: &Value, reason: &str) -> u64 {
    offload(status)["reasons"][reason].as_u64().unwrap_or_default()
}

fn transfer(lab: &Lab, size: usize) -> Result<()> {
    transfer_by(&lab.client.namespace, &lab.world.folder().join("routed"), SITE_V6, size)
}

fn admitted(status: &Value) -> u64 {
    let allowed = status["firewall"]["allowed"].as_object();
    allowed.into_iter().flatten().filter_map(|(_, traffic)| traffic["packets"].as_u64()).sum()
}

/// Bulk both ways: most of it passes no rule, and every byte arrives as it was sent.
pub(super) fn go_past_the_rules(lab: &mut Lab) -> Result<()> {
    let before = lab.router.status()?;
    ensure!(offload(&before)["hook"] == "tcx", "{}", offload(&before));
    transfer(lab, SIZE)?;
    let most = SIZE as u64 * 3 / 2;
    let status = lab.await_status("bytes past the rules", |status| {
        past(status, "bytes") > past(&before, "bytes") + most && left(status, "tcp-flags") > left(&before, "tcp-flags")
    })?;
    ensure!(offload(&status)["learnt"].as_u64() > offload(&before)["learnt"].as_u64(), "{}", offload(&status));
    Ok(())
}

/// Connections by an entry are counted one by one however much they carry, and end with it, busy as they are. Connection
/// tracking has seen each to its end.
pub(super) fn end_with_their_entry(lab: &mut Lab) -> Result<()> {
    const CONNECTIONS: u64 = 3;
    lab.start_with(DOOR)?;
    let address = lab.vm1.containers()?.address;
    let _server = serve(&lab.vm1, 8080)?;
    let site = format!("http://[{address}]:8080");
    for _ in 0..CONNECTIONS {
        let answer =
            lab.internet.run(&format!("curl --silent --fail --max-time 18 --noproxy * {site}/noise/{EACH}"))?;
        ensure!(answer.success, "the download fails");
    }
    let status = lab.await_status("the counters", |status| {
        admitted(status) >= CONNECTIONS && past(status, "bytes") > EACH as u64 * CONNECTIONS / 2
    })?;
    ensure!(admitted(&status) == CONNECTIONS, "{}", status["firewall"]["allowed"]);
    let tracked = lab.router.in_namespace()?.namespace().run("cat /proc/net/nf_conntrack")?.text()?;
    let of_the_entry: Vec<_> = tracked.lines().filter(|line| line.contains("dport=8080")).collect();
    ensure!(!of_the_entry.iter().any(|line| line.contains("ESTABLISHED")), "{of_the_entry:#?}");

    // Little is on the way at a time: it does not end by itself.
    let mut busy = await_connection(&lab.internet, address, 8080)?;
    busy.set_read_timeout(Some(Duration::from_secs(5)))?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&busy, 64 << 10)?;
    busy.write_all(format!("GET /noise/{MUCH} HTTP/1.0\r\n\r\n").as_bytes())?;
    let before = past(&lab.router.status()?, "packets");
    let mut bytes = vec![0; 50_000];
    wait::until_ok("the connection past the rules", SOON, || {
        busy.read_exact(&mut bytes)?;
        let now = past(&lab.router.status()?, "packets");
        ensure!(now > before, "{now}");
        Ok(())
    })?;
    let config = lab.config("");
    lab.router.in_namespace()?.write_config(&config)?;
    lab.router.in_namespace()?.signal(Signal::HUP)?;
    let error = wait::until("the connection to break", SOON, || busy.read_exact(&mut bytes).err())?;
    ensure!(error.kind() == ErrorKind::ConnectionReset, "{error}");
    lab.await_status("the connection to have ended", |status| status["firewall"]["ended"].as_u64() >= Some(1))?;
    Ok(())
}

/// A flow of datagrams that the server sends back.
struct Echoes {
    socket: UdpSocket,
    sent: usize,
}

impl Echoes {
    fn begin(host: &Namespace) -> Result<Self> {
        let socket = host.inside(|| UdpSocket::bind("[::]:0"))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        socket.connect((SITE_V6, UDP_PORT))?;
        Ok(Self { socket, sent: 0 })
    }

    fn exchange(&mut self) -> Result<()> {
        self.sent += 1;
        let question = format!("echo {}", self.sent);
        self.socket.send(question.as_bytes())?;
        let mut answer = [0; 100];
        // Answers to what was asked before may come late.
        loop {
            let length = self.socket.recv(&mut answer).context("no answer")?;
            if answer[..length] == *question.as_bytes() {
                return Ok(());
            }
        }
    }

    /// Until packets of it go past the rules.
    fn go_past(&mut self, lab: &mut Lab) -> Result<()> {
        let before = past(&lab.router.status()?, "packets");
        wait::until_ok("the flow past the rules", SOON, || {
            for _ in 0..20 {
                self.exchange()?;
            }
            let now = past(&lab.router.status()?, "packets");
            ensure!(now >= before + 20, "{now} packets");
            Ok(())
        })
    }
}

/// Nobody else's packets pass by what was learnt of a host's, and connection tracking is told of a flow that goes past it.
pub(super) fn are_their_senders_alone(lab: &mut Lab) -> Result<()> {
    let server = Udp::start(&lab.internet, SocketAddr::new(SITE_V6.into(), UDP_PORT))?;
    let client = lab.client.address()?;
    let mut flow = Echoes::begin(&lab.client.namespace)?;
    flow.go_past(lab)?;
    let port = flow.socket.local_addr()?.port();
    let (seen, sent) = (server.peers().len(), flow.sent);
    let before = lab.router.status()?;
    // On the loopback device, so that it does not answer for it on the link.
    let forger = &lab.vm2.namespace;
    forger.ip(&format!("address add {client}/128 dev lo nodad"))?;
    let socket = forger.inside(|| UdpSocket::bind((client, port)))?;
    for _ in 0..FORGED {
        socket.send_to(b"forged", (SITE_V6, UDP_PORT))?;
    }
    lab.await_status("forged packets to be refused", |status| {
        let reason = "source is not of this hardware address";
        let refused = |status: &Value| status["firewall"]["dropped"][reason]["packets"].as_u64().unwrap_or_default();
        left(status, "other-sender") >= left(&before, "other-sender") + FORGED
            && refused(status) >= refused(&before) + FORGED
    })?;
    lab.vm2.namespace.ip(&format!("address delete {client}/128 dev lo"))?;
    // The owner goes on; whatever had passed would be there before.
    flow.go_past(lab)?;
    let (arrived, sent) = (server.peers().len() - seen, flow.sent - sent);
    ensure!(arrived <= sent, "{arrived} datagrams arrived of {sent} that were sent");

    // A packet a second shows itself, so that the entry is as fresh as if all had.
    let shown = left(&lab.router.status()?, "due");
    wait::until_ok("packets to show themselves", SOON, || {
        flow.exchange()?;
        let now = left(&lab.router.status()?, "due");
        ensure!(now >= shown + 4, "{now}");
        Ok(())
    })?;
    let tracked = lab.router.in_namespace()?.namespace().run("cat /proc/net/nf_conntrack")?.text()?;
    let entry = tracked.lines().find(|line| line.contains(&format!("sport={port} dport={UDP_PORT}")));
    let rest = entry.and_then(|line| line.split_whitespace().nth(4)).and_then(|rest| rest.parse::<u32>().ok());
    ensure!(rest > Some(240), "of 300 s: {entry:?}");
    Ok(())
}

/// A new route counts from the next packet on, and a smaller MTU loses nothing.
pub(super) fn follow_routes(lab: &mut Lab) -> Result<()> {
    let detour = lab.world.host("detour")?;
    lab.world.plug(&detour, "eth0", "52:54:00:00:01:77", Segment::Wan)?;
    detour.set_sysctl("net/ipv6/conf/all/forwarding", "1")?;
    detour.ip("link set eth0 up")?;
    detour.ip("address add 2001:db8:1:1::77/64 dev eth0 nodad")?;
    detour.ip(&format!("route add {SITE_V6}/128 via 2001:db8:1:1::1"))?;
    let _server = Udp::start(&lab.internet, SocketAddr::new(SITE_V6.into(), UDP_PORT))?;
    let mut flow = Echoes::begin(&lab.client.namespace)?;
    flow.go_past(lab)?;
    let passed = || -> Result<u64> {
        let links = detour.ip_json("-statistics link show dev eth0")?;
        links[0]["stats64"]["rx"]["packets"].as_u64().context("a counter")
    };
    let few = passed()?;
    let router = lab.router.in_namespace()?.namespace();
    router.ip(&format!("route add {SITE_V6}/128 via 2001:db8:1:1::77"))?;
    // Whoever is asked for their hardware address first may lose one.
    wait::until_ok("an answer by the detour", SOON, || flow.exchange())?;
    for _ in 0..20 {
        flow.exchange().context("by the detour")?;
    }
    let many = passed()?;
    ensure!(many >= few + 20, "{few} packets took the detour before, and {many} after");
    lab.router.in_namespace()?.namespace().ip(&format!("route delete {SITE_V6}/128 via 2001:db8:1:1::77"))?;
    flow.go_past(lab)?;

    transfer(lab, SIZE)?;
    lab.router.in_namespace()?.namespace().ip("link set eth1 mtu 1400")?;
    let before = past(&lab.router.status()?, "bytes");
    transfer(lab, SIZE)?;
    let most = SIZE as u64 * 3 / 2;
    lab.await_status("bytes past the rules", |status| past(status, "bytes") > before + most)?;
    Ok(())
}

/// Without a daemon everything passes the rules, and goes on; so it does where somebody else has rules, or it is switched off.
pub(super) fn are_given_up(lab: &mut Lab) -> Result<()> {
    let _server = Udp::start(&lab.internet, SocketAddr::new(SITE_V6.into(), UDP_PORT))?;
    let mut flow = Echoes::begin(&lab.client.namespace)?;
    flow.go_past(lab)?;
    lab.router.in_namespace()?.end(Signal::KILL)?;
    for _ in 0..20 {
        flow.exchange()?;
    }
    let hooks = lab.router.in_namespace()?.namespace().run("bpftool net show")?;
    ensure!(!hooks.success || !hooks.stdout.contains("flow_in"), "{hooks}");
    lab.router.in_namespace()?.start_again()?;
    lab.await_service()?;
    flow.go_past(lab)?;

    let router = lab.router.in_namespace()?.namespace();
    router.run("nft add table inet others")?.text()?;
    router.run("nft add chain inet others watch { type filter hook forward priority 10; }")?.text()?;
    lab.await_finding("flow-offload-off")?;
    lab.await_status("every packet to pass the rules", |status| offload(status).is_null())?;
    flow.exchange()?;
    lab.router.in_namespace()?.namespace().run("nft delete table inet others")?.text()?;
    lab.await_status("flows past the rules", |status| offload(status)["hook"] == "tcx")?;
    flow.go_past(lab)?;

    let config = lab.config("\n[policy]\nflow_offload = false\n");
    lab.router.in_namespace()?.write_config(&config)?;
    lab.router.in_namespace()?.signal(Signal::HUP)?;
    lab.await_status("every packet to pass the rules", |status| offload(status).is_null())?;
    flow.exchange()?;
    fetch(&lab.client.namespace, &format!("http://[{SITE_V6}]/")).map(drop)
}

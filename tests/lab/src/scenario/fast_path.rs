//! The fast path: what is translated in the kernel, what is not, and what outlives the daemon.
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::lab::{Lab, SOON, UDP_PORT, connect, fetch};
use crate::namespace::Namespace;
use crate::network::{ROUTER_V4, SITE_V4, synthesized};
use crate::router::Router;
use crate::server::web::{digest, noise};
use crate::wait;
use crate::world::Segment;

/// What a connection carries through the binary, and through a machine under emulation.
const NAMESPACE_SIZE: usize = 24_000_000;
const MACHINE_SIZE: usize = 4_000_000;
/// More than sockets on both ends hold on the way.
const MUCH: usize = 60_000_000;

/// Packets or bytes that the fast path has counted.
pub(super) fn counted(status: &Value, direction: &str, unit: &str) -> u64 {
    status["nat64"]["fast_path"][direction][unit].as_u64().unwrap_or_default()
}

pub(super) fn left(status: &Value, reason: &str) -> u64 {
    status["nat64"]["fast_path"]["reasons"][reason].as_u64().unwrap_or_default()
}

/// A download and an upload, every byte of which is compared.
pub(super) fn transfer(lab: &Lab, size: usize) -> Result<()> {
    transfer_by(&lab.client.namespace, &lab.world.folder().join("fast"), synthesized(SITE_V4), size)
}

/// The same by whatever address the site has; `file` is for what is transferred.
pub(super) fn transfer_by(client: &Namespace, file: &Path, site: Ipv6Addr, size: usize) -> Result<()> {
    let curl = "curl --silent --show-error --fail --max-time 18 --noproxy *";
    client.run(&format!("{curl} --output {} http://[{site}]/noise/{size}", file.display()))?.text()?;
    ensure!(fs::read(file)? == noise(size), "the download differs from what was sent");
    let sent = noise(size - 777);
    fs::write(file, &sent)?;
    let received = client.run(&format!("{curl} --data-binary @{} http://[{site}]/digest", file.display()))?.text()?;
    ensure!(received.trim() == digest(&sent), "the upload differs from what was sent");
    Ok(fs::remove_file(file)?)
}

/// TCP in bulk both ways, datagrams and pings: most of it does not pass the translator.
pub(super) fn takes_over(lab: &mut Lab) -> Result<()> {
    let size = if matches!(lab.router, Router::Namespace(_)) { NAMESPACE_SIZE } else { MACHINE_SIZE };
    let before = lab.router.status()?;
    ensure!(before["nat64"]["fast_path"]["hook"] == "tcx", "{}", before["nat64"]["fast_path"]);
    transfer(lab, size)?;
    let ping = format!("ping -6 -c 6 -i 0.2 -W 5 {}", synthesized(SITE_V4));
    lab.client.namespace.run(&ping)?.text()?;
    let socket = lab.client.namespace.inside(|| UdpSocket::bind("[::]:0"))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect((IpAddr::from(synthesized(SITE_V4)), UDP_PORT))?;
    for turn in 0..6u8 {
        socket.send(&[turn; 100])?;
        let mut answer = [0; 200];
        let length = socket.recv(&mut answer)?;
        ensure!(answer[..length] == [turn; 100], "another answer");
    }
    let most = size as u64 * 9 / 10;
    let status = lab.await_status("the fast path's counters", |status| {
        let moved = |direction| counted(status, direction, "bytes") - counted(&before, direction, "bytes");
        moved("v6_to_v4") > most && moved("v4_to_v6") > most
    })?;
    // What began the flows went the other way.
    ensure!(left(&status, "tcp-flags") > left(&before, "tcp-flags"), "{}", status["nat64"]["fast_path"]);
    ensure!(left(&status, "no-session") > left(&before, "no-session"), "{}", status["nat64"]["fast_path"]);
    ensure!(left(&status, "failed") == 0 && left(&status, "malformed") == 0, "{}", status["nat64"]["fast_path"]);
    let sum = |field: &str| status["nat64"][field]["packets"].as_u64().unwrap_or_default();
    ensure!(sum("v6_to_v4") > counted(&status, "v6_to_v4", "packets"), "the sums have both paths");
    Ok(())
}

/// A download that is read in parts.
pub(super) struct Download {
    stream: TcpStream,
    rest: usize,
    expected: Vec<u8>,
}

impl Download {
    fn begin(lab: &Lab) -> Result<Self> {
        Self::begin_from(&lab.client.namespace)
    }

    /// By any host.
    pub(super) fn begin_from(host: &Namespace) -> Result<Self> {
        let mut stream = connect(host, synthesized(SITE_V4), 80)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        // Little is on the way at a time, so that what is read has crossed the router lately.
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 256 << 10)?;
        stream.write_all(format!("GET /noise/{MUCH} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        Ok(Self { stream, rest: MUCH, expected: noise(MUCH) })
    }

    pub(super) fn read(&mut self, count: usize) -> Result<()> {
        let mut bytes = vec![0; count.min(self.rest)];
        self.stream.read_exact(&mut bytes).context("the download stands still")?;
        let at = MUCH - self.rest;
        ensure!(bytes == self.expected[at..at + bytes.len()], "the download differs from what was sent");
        self.rest -= bytes.len();
        Ok(())
    }
}

/// Established flows go on while no daemon is there, and the next one knows them.
pub(super) fn outlives_the_daemon(lab: &mut Lab) -> Result<()> {
    let mut download = Download::begin(lab)?;
    for signal in [Signal::KILL, Signal::USR1] {
        wait::until_ok("the session in the fast path", SOON, || {
            download.read(300_000)?;
            let status = lab.router.status()?;
            ensure!(status["nat64"]["sessions"]["tcp"] != 0, "{}", status["nat64"]);
            ensure!(counted(&status, "v4_to_v6", "bytes") > 100_000, "{}", status["nat64"]["fast_path"]);
            Ok(())
        })?;
        lab.router.in_namespace()?.end(signal)?;
        download.read(20_000_000)?;
        lab.router.in_namespace()?.start_again()?;
        lab.await_service()?;
    }
    download.read(MUCH)
}

/// Whatever changes the rules sends each flow through them again, and then it is as fast as before.
pub(super) fn is_judged_again(lab: &mut Lab) -> Result<()> {
    let mut download = Download::begin(lab)?;
    download.read(2_000_000)?;
    let before =
        lab.await_status("the session in the fast path", |status| counted(status, "v4_to_v6", "packets") > 0)?;
    let more = "\n[[allow]]\nto = \"router\"\ntcp = [7777]\n";
    let config = lab.config(more);
    lab.router.in_namespace()?.write_config(&config)?;
    lab.router.in_namespace()?.signal(Signal::HUP)?;
    wait::until_ok("stale sessions", SOON, || {
        download.read(200_000)?;
        let status = lab.router.status()?;
        ensure!(left(&status, "stale-epoch") > left(&before, "stale-epoch"), "{}", status["nat64"]["fast_path"]);
        Ok(())
    })?;
    let before = counted(&lab.router.status()?, "v4_to_v6", "bytes");
    download.read(20_000_000)?;
    lab.await_status("the fast path again", |status| counted(status, "v4_to_v6", "bytes") > before + 10_000_000)?;
    Ok(())
}

/// A new route counts from the next packet on, without the daemon's doing.
pub(super) fn follows_routes(lab: &mut Lab) -> Result<()> {
    let detour = lab.world.host("detour")?;
    lab.world.plug(&detour, "eth0", "52:54:00:00:01:77", Segment::Wan)?;
    detour.set_sysctl("net/ipv4/conf/all/forwarding", "1")?;
    detour.set_sysctl("net/ipv4/conf/all/send_redirects", "0")?;
    detour.set_sysctl("net/ipv4/conf/eth0/send_redirects", "0")?;
    detour.ip("link set eth0 up")?;
    detour.ip("address add 203.0.113.77/24 dev eth0")?;
    detour.ip(&format!("route add {SITE_V4}/32 via 203.0.113.1"))?;
    let mut download = Download::begin(lab)?;
    download.read(10_000_000)?;
    let passed = || -> Result<u64> {
        let links = detour.ip_json("-statistics link show dev eth0")?;
        links[0]["stats64"]["rx"]["packets"].as_u64().context("a counter")
    };
    let before =
        lab.await_status("the session in the fast path", |status| counted(status, "v6_to_v4", "packets") > 0)?;
    let few = passed()?;
    lab.router.in_namespace()?.namespace().ip(&format!("route add {SITE_V4}/32 via 203.0.113.77"))?;
    download.read(MUCH)?;
    let many = passed()?;
    ensure!(many > few + 10, "{few} packets took the detour before, and {many} after");
    let status = lab.await_status("the counters", |status| {
        counted(status, "v6_to_v4", "packets") > counted(&before, "v6_to_v4", "packets") + 10
    })?;
    ensure!(left(&status, "stale-epoch") == left(&before, "stale-epoch"), "a route is no rule");
    Ok(())
}

/// A link that carries less under a running flow: what does not fit is answered by the translator.
pub(super) fn follows_mtus(lab: &mut Lab) -> Result<()> {
    let mut download = Download::begin(lab)?;
    download.read(5_000_000)?;
    lab.router.in_namespace()?.namespace().ip("link set eth1 mtu 1400")?;
    download.read(MUCH)?;
    transfer(lab, NAMESPACE_SIZE)?;
    let status = lab.router.status()?;
    // The change of the interface sends each flow up once, where the translator may have told the server already.
    let up = left(&status, "too-big") + left(&status, "stale-epoch");
    ensure!(up > 0 && left(&status, "failed") == 0, "{}", status["nat64"]["fast_path"]);
    super::mtu::ensure_mtu(&lab.internet, &format!("-4 route get {ROUTER_V4}"), 1400 - 20)
}

/// A LAN's interface goes and comes again: the program runs on the new one.
pub(super) fn comes_back_with_its_interface(lab: &mut Lab) -> Result<()> {
    transfer(lab, NAMESPACE_SIZE)?;
    lab.router.in_namespace()?.namespace().ip("link delete eth1")?;
    lab.await_finding("lan-interface-missing")?;
    let router = lab.router.in_namespace()?;
    lab.world.plug(router.namespace(), "eth1", crate::network::ROUTER_LAN_MAC, Segment::Lan)?;
    lab.await_service()?;
    let before = counted(&lab.router.status()?, "v4_to_v6", "bytes");
    wait::until_ok("the LAN to work again", SOON, || {
        fetch(&lab.client.namespace, &format!("http://[{}]/", synthesized(SITE_V4))).map(drop)
    })?;
    transfer(lab, NAMESPACE_SIZE)?;
    let most = NAMESPACE_SIZE as u64 * 9 / 10;
    lab.await_status("the fast path's counters", |status| counted(status, "v4_to_v6", "bytes") > before + most)?;
    Ok(())
}

/// Where the kernel does not load the program, the translator does all the work and says why.
pub(super) fn does_without(lab: &mut Lab) -> Result<()> {
    lab.router.in_namespace()?.prepare("exec setpriv --bounding-set=-bpf,-perfmon,-sys_admin -- \"$@\"")?;
    lab.start()?;
    let finding = lab.await_finding("nat64-fast-path-off")?;
    ensure!(finding["mend"].as_str().is_some_and(|mend| mend.contains("CAP_BPF")), "{finding}");
    transfer(lab, NAMESPACE_SIZE)?;
    ensure!(lab.router.status()?["nat64"]["fast_path"].is_null(), "there is none");
    Ok(())
}

/// Switched off, everything passes the translator's device; what a former daemon has left is gone.
pub(super) fn is_switched_off(lab: &mut Lab) -> Result<()> {
    transfer(lab, MACHINE_SIZE)?;
    let config = lab.config("").replace("[nat64]", "[nat64]\nfast_path = false");
    lab.router.in_namespace()?.write_config(&config)?;
    lab.router.in_namespace()?.signal(Signal::HUP)?;
    lab.await_status("the end of the fast path", |status| status["nat64"]["fast_path"].is_null())?;
    super::bulk::crosses_in_super_packets(lab)?;
    let left = fs::read_dir(lab.world.bpffs().join("sixgate"))?.count();
    ensure!(left == 0, "{left} folders are pinned still");
    Ok(())
}

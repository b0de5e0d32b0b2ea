//! What of IPv4 leads inside, the pool's further addresses, and a change of the uplink's own.
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::client::ping;
use super::container::serve;
use crate::lab::{Lab, SOON, UDP_PORT, ask, await_connection, ensure_refused, fetch, try_to_connect};
use crate::namespace::Namespace;
use crate::network::{Network, ROUTER_V4, SITE_V4, synthesized};
use crate::server::udp::Udp;
use crate::server::web::Web;
use crate::wait;

const PUBLISHED: &str = r#"
[[publish]]
listen = ["wan:tcp/8443-8444", "wan:udp/4000", "wan:icmp"]
to = "vm1/containers::5:8080"

[[publish]]
listen = "wan:tcp/8500"
to = "vm2/containers::5:8080"

[[publish]]
listen = "wan:tcp/8600"
to = "vm2/containers::5:8081"
from = "198.51.100.53"

# Inside NAT64's own share of the ports.
[[publish]]
listen = "wan:tcp/45001"
to = "vm2/containers::5:8082"
from = "198.51.100.53"

[[allow]]
to = "router"
tcp = 2222
"#;

/// The address that strangers on the Internet come from.
const fn stranger(lab: &Lab) -> Ipv4Addr {
    match lab.network {
        Network::Slaac => Ipv4Addr::new(203, 0, 113, 1),
        Network::Slash76 => Ipv4Addr::new(192, 0, 2, 1),
    }
}

pub(super) fn leads_inside(lab: &mut Lab) -> Result<()> {
    // The second port of the range and the UDP port of the host follow from the first.
    lab.start_with(&PUBLISHED.replace("\"wan:udp/4000\"", &format!("\"wan:udp/{UDP_PORT}\"")))?;
    let stranger = stranger(lab);
    let (vm1, vm2) = (lab.vm1.containers()?, lab.vm2.containers()?);
    let servers = (serve(&lab.vm1, 8080)?, serve(&lab.vm1, 8081)?, serve(&lab.vm2, 8080)?, serve(&lab.vm2, 8081)?);
    let _in_the_share = serve(&lab.vm2, 8082)?;
    let udp = Udp::start(&vm1.namespace, (vm1.address, 8080).into())?;
    let outside = &lab.internet;

    // The host sees who it is, inside the NAT64 prefix.
    for (port, host) in [(8443, &servers.0), (8444, &servers.1), (8500, &servers.2)] {
        let seen_as = fetch(outside, &format!("http://{ROUTER_V4}:{port}/"))?;
        ensure!(seen_as.trim() == synthesized(stranger).to_string(), "{:?} sees {seen_as}", host.address());
    }
    ensure!(ask(outside, ROUTER_V4, b"hello")? == b"hello", "an echo over UDP");
    ensure!(udp.peers().iter().all(|peer| peer.ip() == synthesized(stranger)), "{:?}", udp.peers());
    let pinged = || vm1.namespace.run("nstat -asz Icmp6InEchos")?.text();
    let before = pinged()?;
    ping(outside, ROUTER_V4)?;
    ensure!(pinged()? != before, "the router answered in the container's place");

    // From inside by the same address and port: hairpin, of another host, of the VM and of the container itself.
    let inside = synthesized(ROUTER_V4);
    for from in [&lab.client.namespace, &lab.vm1.namespace, &vm2.namespace, &vm1.namespace] {
        let seen_as = fetch(from, &format!("http://[{inside}]:8443/"))?;
        ensure!(seen_as.trim() == inside.to_string(), "{} is seen as {seen_as}", from.name());
    }
    ping(&lab.client.namespace, inside)?;

    // Nothing more: other ports, other protocols, other sources, the host's own address.
    for port in [8080, 8081, 8442, 8445, 8501, 4000, 22] {
        ensure_refused(outside, ROUTER_V4, port)?;
    }
    ensure_refused(outside, vm1.address, 8080)?;
    for port in [8600, 45_001] {
        ensure_refused(outside, ROUTER_V4, port)?;
        let elsewhere =
            format!("curl --silent --fail --max-time 10 --interface 198.51.100.53 http://{ROUTER_V4}:{port}/");
        ensure!(outside.run(&elsewhere)?.success, "the source that may come to {port} is refused");
    }
    shares_the_address(lab)?;
    lab.await_status("what was admitted to be counted by entry", |status| {
        let admitted = status["firewall"]["allowed"].as_object().into_iter().flatten();
        admitted.filter(|(name, it)| name.starts_with("publish ") && it["packets"].as_u64() > Some(0)).count() >= 4
    })?;

    // An entry ends, and with it what it had admitted; the others and their connections do not notice.
    let mut ended = await_connection(&lab.internet, ROUTER_V4, 8443)?;
    let mut kept = await_connection(&lab.internet, ROUTER_V4, 8500)?;
    let config = lab.config(&PUBLISHED.replace("\"wan:tcp/8443-8444\"", "\"wan:tcp/8444\""));
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)?;
    wait::until("a removed entry to be refused", SOON, || try_to_connect(&lab.internet, ROUTER_V4, 8443).err())?;
    ensure!(answers(&mut kept)?, "a connection of another entry ended");
    ensure!(!answers(&mut ended)?, "a connection of the removed entry goes on");
    Ok(())
}

/// The router's own services and pings go on beside NAT64 and what is published.
fn shares_the_address(lab: &mut Lab) -> Result<()> {
    let stranger = stranger(lab);
    let router = lab.router.in_namespace()?.namespace();
    let _service = Web::start(router, (Ipv4Addr::UNSPECIFIED, 2222).into())?;
    let seen_as = fetch(&lab.internet, &format!("http://{ROUTER_V4}:2222/"))?;
    ensure!(seen_as.trim() == stranger.to_string(), "the router's own service sees {seen_as}");
    ping(router, SITE_V4)?;
    let seen_as = fetch(router, &format!("http://{SITE_V4}/"))?;
    ensure!(seen_as.trim() == ROUTER_V4.to_string(), "the router is seen as {seen_as}");
    ping(&lab.client.namespace, synthesized(SITE_V4))
}

/// Whether the server at the other end still answers a request.
fn answers(stream: &mut TcpStream) -> Result<bool> {
    stream.set_read_timeout(Some(Duration::from_millis(2500)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    match stream.read(&mut [0; 16]) {
        Ok(length) => Ok(length > 0),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::HostUnreachable) => Ok(false),
        Err(error) => Err(error).context("a held connection"),
    }
}

const POOL: [Ipv4Addr; 3] =
    [Ipv4Addr::new(203, 0, 113, 10), Ipv4Addr::new(203, 0, 113, 11), Ipv4Addr::new(203, 0, 113, 20)];

const FURTHER: &str = r#"pool = ["203.0.113.10/31", "203.0.113.20"]

[[publish]]
listen = ["203.0.113.10:tcp/443", "203.0.113.10:icmp"]
to = "vm1/containers::5:8080"
"#;

pub(super) fn further_addresses(lab: &mut Lab) -> Result<()> {
    if lab.network == Network::Slash76 {
        // The provider asks for each of them on the link.
        for address in POOL {
            lab.internet.ip(&format!("route add {address}/32 dev eth0 src 192.0.2.1"))?;
        }
    }
    lab.start_with(FURTHER)?;
    let all: BTreeSet<String> = POOL.iter().chain([&ROUTER_V4]).map(ToString::to_string).collect();
    let url = format!("http://[{}]/", synthesized(SITE_V4));
    // RFC 4787 REQ-2: a client has one address.
    let mut used = BTreeSet::new();
    let hosts: [&Namespace; 4] =
        [&lab.client.namespace, &lab.vm2.namespace, &lab.vm2.containers()?.namespace, &lab.vm1.namespace];
    for host in hosts {
        let seen_as = fetch(host, &url)?;
        for _ in 0..4 {
            ensure!(fetch(host, &url)? == seen_as, "{} changes its address", host.name());
        }
        ensure!(all.contains(seen_as.trim()), "{} is seen as {seen_as}", host.name());
        used.insert(seen_as);
        ping(host, synthesized(SITE_V4))?;
    }
    ensure!(used.len() > 1, "all hosts share {used:?}");

    let container = lab.vm1.containers()?;
    let _server = serve(&lab.vm1, 8080)?;
    let seen_as = fetch(&lab.internet, "http://203.0.113.10:443/")?;
    ensure!(seen_as.trim() == synthesized(stranger(lab)).to_string(), "the container sees {seen_as}");
    ping(&lab.internet, POOL[0])?;
    ensure_refused(&lab.internet, POOL[1], 443)?;
    ensure_refused(&lab.internet, POOL[0], 8080)?;
    fetch(&lab.client.namespace, &format!("http://[{}]:443/", synthesized(POOL[0])))?;
    // What a published host begins itself comes from the address that it is known by.
    let own = fetch(&container.namespace, &url)?;
    ensure!(own.trim() == POOL[0].to_string(), "the published host is seen as {own}");

    // The router keeps to the address on which it has ports of its own.
    let router = lab.router.in_namespace()?.namespace();
    let seen_as = fetch(router, &format!("http://{SITE_V4}/"))?;
    ensure!(seen_as.trim() == ROUTER_V4.to_string(), "the router is seen as {seen_as}");
    ping(router, SITE_V4)?;
    // An address that nothing is published on answers pings as the router's.
    ping(&lab.internet, POOL[1])
}

/// The uplink's address changes under the running daemon.
pub(super) fn new_address(lab: &mut Lab) -> Result<()> {
    const NEW: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
    let client = &lab.client.namespace;
    let mut held = await_connection(client, synthesized(SITE_V4), 80)?;
    lab.await_status("the session", |status| status["nat64"]["sessions"]["tcp"].as_u64() > Some(0))?;

    let config = lab.config("").replace("203.0.113.2/24", "203.0.113.77/24");
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    let asked = Instant::now();
    router.signal(Signal::HUP)?;
    let client = &lab.client.namespace;
    let site = SocketAddr::new(synthesized(SITE_V4).into(), 80);
    wait::until("sessions on the new address", SOON, || {
        // Short, for a SYN that was too early is sent again after a second only.
        client.inside(|| TcpStream::connect_timeout(&site, Duration::from_millis(100))).ok()?;
        lab.site_v4.peers().last().filter(|peer| peer.ip() == NEW).copied()
    })?;
    println!("new sessions work {} ms after the reload was asked for", asked.elapsed().as_millis());
    ensure!(!answers(&mut held)?, "a session of the old address goes on");

    // What still arrives for the old address leads nowhere, and the router itself follows too.
    let router = lab.router.in_namespace()?.namespace();
    let seen_as = fetch(router, &format!("http://{SITE_V4}/"))?;
    ensure!(seen_as.trim() == NEW.to_string(), "the router is seen as {seen_as}");
    ping(router, SITE_V4)?;
    let addresses = router.ip("-4 -o address show dev eth0")?;
    ensure!(addresses.contains("203.0.113.77/24") && !addresses.contains("203.0.113.2/24"), "{addresses}");
    ping(&lab.client.namespace, synthesized(SITE_V4))
}

//! Hosts with IPv4 or unique local addresses alone: they leave by the uplink's addresses, and what of them is published is
//! reached from outside and from inside, and nothing else.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};

use super::client::ping;
use crate::lab::{Lab, SOON, UDP_PORT, ask, await_connection, ensure_refused, fetch, try_to_connect};
use crate::network::{ROUTER_V4, SITE_V4, SITE_V6, synthesized};
use crate::server::udp::Udp;
use crate::server::web::Web;
use crate::wait;

const HOST_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 0, 2);
const HOST_ULA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xdb8, 2, 0, 0, 0, 0, 0x99);

const PUBLISHED: &str = r#"
[[publish]]
listen = ["wan:tcp/8080", "wan:udp/4000"]
to = "10.0.0.5:4000"

[[publish]]
listen = "wan6:tcp/8443"
to = "[fd00:db8:2::99]:8080"

[[publish]]
listen = "wan6:tcp/8444"
to = "vm1/containers::5:8081"
from = "2001:db8:eeee::/48"
"#;

fn config(lab: &Lab, more: &str) -> String {
    lab.config(more).replace(
        "addresses = [\"2001:db8:1:2::1/64\"]",
        "addresses = [\"2001:db8:1:2::1/64\", \"fd00:db8:2::1/64\"]\nipv4 = \"10.0.0.1/24\"",
    )
}

pub(super) fn leave_and_are_published(lab: &mut Lab) -> Result<()> {
    lab.start()?;
    let whole = config(lab, PUBLISHED);
    apply(lab, &whole)?;
    let (host, other) = (&lab.client.namespace, &lab.vm2.namespace);
    for (namespace, address) in [(host, "10.0.0.5"), (other, "10.0.0.6")] {
        namespace.ip(&format!("address add {address}/24 dev eth0"))?;
        namespace.ip("route add default via 10.0.0.1 dev eth0")?;
    }
    host.ip(&format!("address add {HOST_ULA}/64 dev eth0 nodad"))?;
    // The provider's side could reach the hosts, so that only the rules keep it out.
    lab.internet.ip("route add 10.0.0.0/24 via 203.0.113.2")?;
    lab.internet.ip("route add fd00:db8:2::/64 via 2001:db8:1:1::2 src 2001:db8:ffff::10")?;
    let web = |port: u16, address: IpAddr| Web::start(host, (address, port).into());
    let _servers = (web(4000, HOST_V4.into())?, web(8080, HOST_ULA.into())?, web(4001, HOST_V4.into())?);
    let _udp = Udp::start(host, (HOST_V4, UDP_PORT).into())?;

    // NAT44, in its own share of the ports, beside NAT64.
    let seen_as = wait::until_ok("NAT44", SOON, || fetch(host, &format!("http://{SITE_V4}/")))?;
    ensure!(seen_as.trim() == ROUTER_V4.to_string(), "an IPv4 host is seen as {seen_as}");
    let port = lab.site_v4.peers().last().context("a client of the server")?.port();
    ensure!((36_864..=40_959).contains(&port), "port {port} is not NAT44's");
    ping(host, SITE_V4)?;
    ensure!(ask(host, SITE_V4, b"hello")? == b"hello", "an echo");
    let seen_as = fetch(other, &format!("http://[{}]/", synthesized(SITE_V4)))?;
    ensure!(seen_as.trim() == ROUTER_V4.to_string(), "by NAT64 a host is seen as {seen_as}");

    // NAT66 for what has no other address; who has one keeps it.
    let bound = format!("curl --silent --fail --max-time 15 --noproxy * --interface {HOST_ULA} http://[{SITE_V6}]/");
    let seen_as = host.run(&bound)?.text()?;
    ensure!(seen_as.trim() == ROUTER_V6.to_string(), "a unique local host is seen as {seen_as}");
    let own = fetch(other, &format!("http://[{SITE_V6}]/"))?;
    ensure!(own.trim().starts_with("2001:db8:1:2:"), "a global host is seen as {own}");

    // Published: the host sees who it is.
    for (url, client) in [
        (format!("http://{ROUTER_V4}:8080/"), "203.0.113.1".to_owned()),
        (format!("http://[{ROUTER_V6}]:8443/"), "2001:db8:1:1::1".to_owned()),
    ] {
        let seen_as = fetch(&lab.internet, &url)?;
        ensure!(seen_as.trim() == client, "{url}: a stranger is seen as {seen_as}");
    }
    ensure!(ask(&lab.internet, ROUTER_V4, b"hello")? == b"hello", "an echo by the published port");
    // From inside by the same addresses: hairpin, of another host, of a container, and of the host itself.
    for from in [other, host] {
        let seen_as = fetch(from, &format!("http://{ROUTER_V4}:8080/"))?;
        ensure!(seen_as.trim() == "10.0.0.1", "{} is seen as {seen_as}", from.name());
    }
    for from in [other, host, &lab.vm1.containers()?.namespace] {
        fetch(from, &format!("http://[{ROUTER_V6}]:8443/")).with_context(|| from.name().to_owned())?;
    }

    // And nothing else: other ports, other sources, the hosts' own addresses.
    let container = Web::start(&lab.vm1.containers()?.namespace, (lab.vm1.containers()?.address, 8081).into())?;
    for (to, port) in [(IpAddr::from(ROUTER_V4), 8081), (ROUTER_V6.into(), 8080), (ROUTER_V6.into(), 8444)] {
        ensure_refused(&lab.internet, to, port)?;
    }
    for (to, port) in [(IpAddr::from(HOST_V4), 4000), (HOST_V4.into(), 4001), (HOST_ULA.into(), 8080)] {
        ensure_refused(&lab.internet, to, port)?;
    }
    ensure_refused(&lab.internet, container.address().ip(), 8081)?;
    let router = lab.router.in_namespace()?;
    let why = format!("why {SITE_V4} {ROUTER_V4} tcp/8080 --control {}", router.control().display());
    let way = router.namespace().run(&format!("{} {why}", router.binary().display()))?;
    ensure!(way.success && way.stdout.contains("leads to 10.0.0.5 port 4000"), "{way}");

    // An entry that goes takes its connections with it.
    let mut held = await_connection(&lab.internet, ROUTER_V4, 8080)?;
    let changed = config(lab, &PUBLISHED.replace("\"wan:tcp/8080\", ", ""));
    apply(lab, &changed)?;
    lab.await_status("the connection to end", |status| status["firewall"]["ended"].as_u64() >= Some(1))?;
    ensure!(try_to_connect(&lab.internet, ROUTER_V4, 8080).is_err(), "what is not published any more is reached");
    held.set_read_timeout(Some(SOON))?;
    let told = std::io::Write::write_all(&mut held, b"GET / HTTP/1.0\r\n\r\n");
    let read = told.and_then(|()| std::io::Read::read(&mut held, &mut [0; 16]));
    ensure!(read.is_err(), "a connection of the removed entry goes on: {read:?}");
    Ok(())
}

fn apply(lab: &mut Lab, text: &str) -> Result<()> {
    let reply = lab.router.request(&serde_json::json!({ "apply": { "text": text } }).to_string())?;
    ensure!(reply["reply"] == "accepted", "{reply}");
    Ok(())
}

//! Containers with unique local addresses and a delegated prefix that changes outside (RFC 6296).
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::Value;

use super::delegation::{self, FIRST, LONG, ROUTER, SECOND};
use crate::lab::{Host, Lab, SOON, await_connection, connect, ensure_refused, fetch, try_to_connect};
use crate::namespace::Namespace;
use crate::network::SITE_V6;
use crate::server::web::Web;
use crate::wait;

const INSIDE: [&str; 2] = ["fd12:3456:789a:0:21::", "fd12:3456:789a:0:31::"];
const MORE: &str = r#"
[[npt]]
inside = "fd12:3456:789a:0:21::/80"
delegated = "wan"
subnet = 0x21

[[npt]]
inside = "fd12:3456:789a:0:31::/80"
delegated = "wan"
subnet = 0x31

[[allow]]
to = "vm1/containers::5"
tcp = 8080
udp = "33434-33534"
icmp = true
"#;

fn await_outside(lab: &mut Lab, outside: &str) -> Result<Value> {
    lab.await_status(&format!("{outside} to stand outside"), |status| status["npt"]["prefixes"][0][1] == outside)
}

/// Gives a container a unique local address and no other.
fn renumber_inside(host: &Host, prefix: &str) -> Result<()> {
    let container = host.containers()?;
    host.namespace.ip(&format!("address add {prefix}1/80 dev br0 nodad"))?;
    container.namespace.ip(&format!("address add {prefix}5/80 dev eth0 nodad"))?;
    container.namespace.ip(&format!("route replace default via {prefix}1 dev eth0"))?;
    container.namespace.ip(&format!("address del {}/80 dev eth0", container.address)).map(drop)
}

/// Who a container appears to be outside.
fn outside_of(container: &Namespace) -> Result<Ipv6Addr> {
    let seen =
        wait::until_ok("the container to reach out", SOON, || fetch(container, &format!("http://[{SITE_V6}]/")))?;
    seen.trim().parse().with_context(|| format!("the server sees {seen}"))
}

fn is_in(address: Ipv6Addr, prefix: &str) -> bool {
    prefix.parse::<Ipv6Addr>().is_ok_and(|prefix| prefix.octets()[..10] == address.octets()[..10])
}

pub(super) fn follows(lab: &mut Lab) -> Result<()> {
    let first = delegation::provider(lab, FIRST, &LONG)?;
    let config = delegation::config(lab, MORE)
        .replace("\"::21:0:0:0/80\"", "[\"::21:0:0:0/80\", \"fd12:3456:789a:0:21::/80\"]")
        .replace("\"::31:0:0:0/80\"", "[\"::31:0:0:0/80\", \"fd12:3456:789a:0:31::/80\"]");
    lab.router.start(&config)?;
    delegation::await_delegation(lab, FIRST)?;
    lab.await_service()?;
    lab.bring_hosts_up()?;
    renumber_inside(&lab.vm1, INSIDE[0])?;
    renumber_inside(&lab.vm2, INSIDE[1])?;
    await_outside(lab, "2001:db8:1:0:21::/80")?;

    let inside: Ipv6Addr = format!("{}5", INSIDE[0]).parse()?;
    let container = &lab.vm1.containers()?.namespace;
    let other = &lab.vm2.containers()?.namespace;
    let outside = outside_of(container)?;
    ensure!(is_in(outside, "2001:db8:1:0:21::"), "{outside}");
    let _servers = [8080, 8081].map(|port| Web::start(container, SocketAddr::new(inside.into(), port)));

    // In, as the entry about the inside says, and no further.
    await_connection(&lab.internet, outside, 8080)?;
    ensure_refused(&lab.internet, outside, 8081)?;
    // Nobody outside uses the addresses that are known inside only.
    lab.internet.ip(&format!("route add fd12::/16 via {ROUTER} dev eth0 src {SITE_V6}"))?;
    ensure_refused(&lab.internet, inside, 8080)?;

    // Fragments, both ways.
    for (from, to) in [(container, SITE_V6), (&lab.internet, outside)] {
        wait::until_ok("a large ping", SOON, || from.run(&format!("ping -n -c 1 -W 2 -s 3000 {to}"))?.text())?;
    }
    // Errors find their way: of a router outside, and of hosts inside about what came from outside.
    lab.internet.ip("route add unreachable 2001:db8:ffff:dead::/64")?;
    let refused = try_to_connect(container, "2001:db8:ffff:dead::1".parse::<Ipv6Addr>()?, 80).err();
    ensure!(
        refused.as_ref().and_then(std::io::Error::raw_os_error) == Some(Errno::NETUNREACH.raw_os_error()),
        "{refused:?}"
    );
    for (from, to, hops) in [(container, SITE_V6, 3), (&lab.internet, outside, 3)] {
        let route = from.run_for(&format!("traceroute -6 -n -q 1 -w 3 -m 6 {to}"), SOON)?.text()?;
        let answers = route.lines().skip(1).filter(|line| !line.contains('*')).count();
        ensure!(answers == hops && route.lines().last().is_some_and(|line| line.contains(&to.to_string())), "{route}");
    }
    // Hosts inside reach one another by their addresses outside as well, and appear by theirs.
    let seen = fetch(other, &format!("http://[{outside}]:8080/"))?;
    ensure!(is_in(seen.trim().parse()?, "2001:db8:1:0:31::"), "{seen}");

    // The provider renumbers while a connection is held inside.
    let mut held = connect(other, inside, 8080)?;
    held.set_read_timeout(Some(Duration::from_secs(15)))?;
    drop(first.server);
    let _second = delegation::renumbered(lab)?;
    delegation::await_delegation(lab, SECOND)?;
    await_outside(lab, "2001:db8:9:0:21::/80")?;
    let container = &lab.vm1.containers()?.namespace;
    let renumbered = outside_of(container)?;
    ensure!(is_in(renumbered, "2001:db8:9:0:21::"), "{renumbered}");
    await_connection(&lab.internet, renumbered, 8080)?;
    ensure_refused(&lab.internet, outside, 8080)?;
    held.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    held.read_to_string(&mut answer).context("the connection from before")?;
    ensure!(answer.contains("200 OK") && answer.contains(&format!("{}5", INSIDE[1])), "{answer}");

    // Without a daemon it goes on, and the next one takes it over.
    lab.router.in_namespace()?.end(Signal::USR1)?;
    ensure!(outside_of(&lab.vm1.containers()?.namespace)? == renumbered);
    lab.router.in_namespace()?.start_again()?;
    await_outside(lab, "2001:db8:9:0:21::/80")?;
    ensure!(outside_of(&lab.vm1.containers()?.namespace)? == renumbered);
    lab.await_status("the counters", |status| {
        let count = |name: &str| status["npt"]["packets"][name].as_u64() > Some(0);
        count("npt-translated") && count("npt-inside-address")
    })?;
    Ok(())
}

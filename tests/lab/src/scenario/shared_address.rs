//! One IPv4 address for two: the router's own traffic, and NAT64.
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::client::{dig, ping};
use crate::lab::{Lab, SOON, fetch};
use crate::namespace::Namespace;
use crate::network::{ROUTER_V4, SITE_V4, UPSTREAM, synthesized};
use crate::wait;

/// Ports that the router's own traffic comes from.
const OWN_PORTS: std::ops::RangeInclusive<u16> = 32768..=36863;

pub(super) fn is_shared(lab: &mut Lab) -> Result<()> {
    let client = &lab.client.namespace;
    let router = lab.router.in_namespace()?.namespace();

    // Both at the same time: neither may get the other's replies.
    let pings = std::thread::scope(|scope| {
        let own = scope.spawn(|| ping(router, SITE_V4));
        let translated = scope.spawn(|| ping(client, synthesized(SITE_V4)));
        [own.join(), translated.join()]
    });
    for outcome in pings {
        outcome.ok().context("a ping's thread")??;
    }

    for (from, url) in [(router, format!("http://{SITE_V4}/")), (client, format!("http://[{}]/", synthesized(SITE_V4)))]
    {
        let seen_as = fetch(from, &url)?;
        ensure!(seen_as.trim() == ROUTER_V4.to_string(), "the server sees {seen_as}");
    }
    let peers = lab.site_v4.peers();
    let [own, translated] = peers.as_slice() else { anyhow::bail!("two connections expected: {peers:?}") };
    ensure!(OWN_PORTS.contains(&own.port()), "{own} is outside the router's own ports");
    ensure!(!OWN_PORTS.contains(&translated.port()), "{translated} is inside the router's own ports");

    let answer = dig(router, &format!("@{UPSTREAM} A v4.lab.test"))?;
    ensure!(answer == [SITE_V4.to_string()], "the router's own question is answered with {answer:?}");

    // An ICMP error goes to whoever caused it.
    closed_port_is_reported(router, SITE_V4.into())?;
    closed_port_is_reported(client, synthesized(SITE_V4).into())
}

/// A datagram to a closed port comes back as "connection refused".
fn closed_port_is_reported(from: &Namespace, to: IpAddr) -> Result<()> {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = from.inside(|| UdpSocket::bind((any, 0)))?;
    socket.connect((to, 4999))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    wait::until(&format!("{}: port unreachable from {to}", from.name()), SOON, || {
        // Sending fails as well once the error is in.
        let outcome = socket.send(b"hello").and_then(|_| socket.recv(&mut [0; 16]));
        outcome.err().filter(|error| error.kind() == ErrorKind::ConnectionRefused)
    })
    .map(drop)
}

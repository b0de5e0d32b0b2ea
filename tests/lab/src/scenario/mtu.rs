//! Packets that are too big, in both directions.
use anyhow::{Result, ensure};

use super::client::upload;
use crate::lab::{CONTAINER_LINK, Lab, SOON, ask, fetch_size};
use crate::namespace::Namespace;
use crate::network::{NARROW, NARROW_MTU, ROUTER_V4, SITE_V4, synthesized};
use crate::wait;

/// RFC 7915 section 4: how much an IPv6 header is larger than an IPv4 header.
const DIFFERENCE: u32 = 20;

/// "Fragmentation needed" from the Internet arrives at the client as "Packet Too Big".
pub(super) fn upload_through_a_narrow_ipv4_link(lab: &mut Lab) -> Result<()> {
    let _narrow = lab.add_narrow_server()?;
    let client = &lab.client.namespace;
    let answer = upload(lab, client, &format!("http://[{}]/", synthesized(NARROW)), 400_000)?;
    ensure!(answer.trim() == "400000", "the server received {answer}");
    ensure_mtu(client, &format!("-6 route get {}", synthesized(NARROW)), NARROW_MTU + DIFFERENCE)
}

/// "Packet Too Big" from a VM arrives at the server as "fragmentation needed".
pub(super) fn download_through_a_narrow_ipv6_link(lab: &mut Lab) -> Result<()> {
    // Only the way there is narrow: the container's own link would tell it to announce a smaller MSS.
    lab.vm1.namespace.ip(&format!("link set {CONTAINER_LINK} mtu {NARROW_MTU}"))?;
    let container = &lab.vm1.containers()?.namespace;
    let size = 400_000;
    let received = fetch_size(container, &format!("http://[{}]/bytes/{size}", synthesized(SITE_V4)))?;
    ensure!(received == size, "{received} bytes of {size}");
    ensure_mtu(&lab.internet, &format!("-4 route get {ROUTER_V4}"), NARROW_MTU - DIFFERENCE)
}

/// A datagram that fits the IPv4 side and not the IPv6 side is answered by the translator itself.
pub(super) fn full_sized_datagram(lab: &mut Lab) -> Result<()> {
    const PAYLOAD: u16 = 1500 - 20 - 8;
    let answer = ask(&lab.client.namespace, synthesized(SITE_V4), PAYLOAD.to_string().as_bytes())?;
    ensure!(answer.len() == usize::from(PAYLOAD), "{} bytes of {PAYLOAD}", answer.len());
    ensure_mtu(&lab.internet, &format!("-4 route get {ROUTER_V4}"), 1500 - DIFFERENCE)
}

/// What the kernel has learnt about a path.
pub(super) fn ensure_mtu(host: &Namespace, route: &str, mtu: u32) -> Result<()> {
    wait::until_ok(&format!("{} to learn an MTU of {mtu}", host.name()), SOON, || {
        let text = host.ip(route)?;
        ensure!(text.contains(&format!(" mtu {mtu} ")) || text.trim_end().ends_with(&format!(" mtu {mtu}")), "{text}");
        Ok(())
    })
}

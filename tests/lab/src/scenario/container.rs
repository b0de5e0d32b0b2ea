//! Containers behind VMs: a namespace behind a namespace, with a /80.
use anyhow::{Result, ensure};

use super::client::ping;
use crate::lab::{Host, Lab, ask, await_connection, ensure_refused, fetch};
use crate::network::{ROUTER_V4, SITE_V4, synthesized};
use crate::server::web::Web;

pub(super) fn reach_out(lab: &mut Lab) -> Result<()> {
    for host in [&lab.vm1, &lab.vm2] {
        lab.learn_resolver(host)?;
        let containers = host.containers()?;
        let container = &containers.namespace;
        let seen_as = fetch(container, "http://v6.lab.test/")?;
        ensure!(seen_as.trim() == containers.address.to_string(), "the server sees {seen_as}");
        let seen_as = fetch(container, "http://v4.lab.test/")?;
        ensure!(seen_as.trim() == ROUTER_V4.to_string(), "the server sees {seen_as}");
        ensure!(ask(container, synthesized(SITE_V4), b"hello")? == b"hello", "an echo");
        ping(container, synthesized(SITE_V4))?;
    }
    Ok(())
}

/// A web server in a host's container.
pub(super) fn serve(host: &Host, port: u16) -> Result<Web> {
    let containers = host.containers()?;
    Web::start(&containers.namespace, (containers.address, port).into())
}

pub(super) fn reach_each_other(lab: &mut Lab) -> Result<()> {
    lab.start()?;
    let (one, other) = (serve(&lab.vm1, 8080)?, serve(&lab.vm2, 8080)?);
    let pairs = [(&lab.vm1, &lab.vm2, &other), (&lab.vm2, &lab.vm1, &one)];
    for (from, to, server) in pairs {
        let (from, to) = (from.containers()?, to.containers()?);
        ping(&from.namespace, to.address)?;
        let seen_as = fetch(&from.namespace, &format!("http://[{}]:8080/", to.address))?;
        ensure!(seen_as.trim() == from.address.to_string(), "{:?} saw {seen_as}", server.address());
    }
    // A VM reaches the other's containers as well, by way of the router.
    let target = lab.vm2.containers()?.address;
    await_connection(&lab.vm1.namespace, target, 8080)?;
    // What is unused in the network ends at the router instead of going round.
    ensure_refused(&lab.vm1.namespace, "2001:db8:1:2:51::5".parse::<std::net::Ipv6Addr>()?, 8080)
}

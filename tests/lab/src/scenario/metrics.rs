//! Metrics for Prometheus, on a LAN and nowhere else.
use std::net::Ipv6Addr;

use anyhow::{Result, ensure};

use crate::lab::{self, Lab};

/// `[metrics]` of these scenarios.
const PORT: u16 = 9464;

pub(super) fn are_told_to_the_lan_alone(lab: &mut Lab) -> Result<()> {
    lab.start_with("\n[metrics]\nlan = \"vms\"\n")?;
    let router: Ipv6Addr = "2001:db8:1:2::1".parse()?;
    let url = format!("http://[{router}]:{PORT}/metrics");
    lab::await_connection(&lab.client.namespace, router, PORT)?;
    let text = lab::fetch(&lab.client.namespace, &url)?;
    for line in ["sixgate_firewall_forwarding 1", "sixgate_dns64_synthesizing 1", "sixgate_nat64_working 1"] {
        ensure!(text.lines().any(|found| found.starts_with(line)), "no {line} in:\n{text}");
    }
    // The same address and port, from outside.
    lab::ensure_refused(&lab.internet, router, PORT)
}

//! Many bytes at once, in super-packets, and datagrams that need fragments: every byte has to arrive as it was.
use std::fs;

use anyhow::{Context, Result, ensure};

use crate::lab::{Lab, ask};
use crate::network::{SITE_V4, synthesized};
use crate::router::Router;
use crate::server::web::{digest, noise};

/// What a connection carries through the binary.
const NAMESPACE_SIZE: usize = 48_000_000;
/// What it carries through a machine under emulation.
const MACHINE_SIZE: usize = 6_000_000;
/// Data in front of which every link here has a smaller MTU.
const SUPER_PACKET: u64 = 3000;

pub(super) fn crosses_bit_for_bit(lab: &mut Lab) -> Result<()> {
    let size = if matches!(lab.router, Router::Namespace(_)) { NAMESPACE_SIZE } else { MACHINE_SIZE };
    let file = lab.world.folder().join("bulk");
    let site = synthesized(SITE_V4);
    let client = &lab.client.namespace;
    let curl = "curl --silent --show-error --fail --max-time 18 --noproxy *";

    client.run(&format!("{curl} --output {} http://[{site}]/noise/{size}", file.display()))?.text()?;
    ensure!(fs::read(&file)? == noise(size), "the download differs from what was sent");

    // Another length, so that the last segment is another one too.
    let sent = noise(size - 777);
    fs::write(&file, &sent)?;
    let received = client.run(&format!("{curl} --data-binary @{} http://[{site}]/digest", file.display()))?.text()?;
    ensure!(received.trim() == digest(&sent), "the upload differs from what was sent");
    Ok(fs::remove_file(&file)?)
}

/// Without the fast path, super-packets cross the translator whole.
pub(super) fn crosses_in_super_packets(lab: &mut Lab) -> Result<()> {
    crosses_bit_for_bit(lab)?;
    ensure_super_packets(lab, NAMESPACE_SIZE as u64)
}

/// Both directions crossed the TUN device in fewer and longer packets than any link carries.
fn ensure_super_packets(lab: &mut Lab, size: u64) -> Result<()> {
    let links = lab.router.in_namespace()?.namespace().ip_json("-statistics link show dev nat64")?;
    for direction in ["rx", "tx"] {
        let counter = |name: &str| links[0]["stats64"][direction][name].as_u64().context("a counter");
        let (bytes, packets) = (counter("bytes")?, counter("packets")?);
        ensure!(bytes > size, "{direction}: {bytes} bytes");
        ensure!(bytes / packets > SUPER_PACKET, "{direction}: {bytes} bytes in {packets} packets");
    }
    Ok(())
}

/// Both ways in fragments: the echo is as long as the question.
pub(super) fn large_datagrams(lab: &mut Lab) -> Result<()> {
    for size in [1233, 1473, 4000, 30_001] {
        let question = noise(size);
        let answer = ask(&lab.client.namespace, synthesized(SITE_V4), &question)?;
        ensure!(answer == question, "{size} bytes came back as {}", answer.len());
    }
    Ok(())
}

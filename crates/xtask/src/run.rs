//! The demo: a router VM and an IPv6-only client in QEMU.
use anyhow::{Result, bail};

/// What the demo can be told.
#[derive(clap::Args)]
pub(crate) struct Options {}

/// Runs the demo.
pub(crate) fn run(_options: &Options) -> Result<()> {
    bail!("the demo is not there yet")
}

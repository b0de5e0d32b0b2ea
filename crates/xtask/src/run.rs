//! The demo: the router and an IPv6-only client in QEMU, and servers of its own that have IPv4 only.
mod client;
mod machines;
mod name_server;
mod screen;
mod show;
mod terminal;
mod web_server;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{image, setup};
use machines::Machines;

/// What the demo can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Show no console: wait for the client's first page, print what happened and end. So it is without a terminal.
    #[arg(long)]
    headless: bool,
    /// Seconds that the client may take over its first page when nobody watches.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u64,
}

/// Builds, boots and shows; ends when the router is powered off.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(setup::Purpose::Run)?;
    let router = image::build()?.boot;
    let client = image::build_client()?;
    let mut machines = Machines::start(&router, &client)?;
    let watched = !options.headless && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let shown = if watched {
        show::watched(&mut machines)
    } else {
        show::headless(&mut machines, Instant::now() + Duration::from_secs(options.timeout))
    };
    let ended = shown.and_then(|()| machines.end());
    machines.summary();
    ended?;
    if !machines.client_has_succeeded() {
        bail!("the client got no page");
    }
    Ok(())
}

//! radvd, as the provider's router runs it.
use std::fs;

use anyhow::Result;

use crate::namespace::Namespace;
use crate::program::Daemon;
use crate::world::World;

/// A running radvd; dropping it kills it without a word to anybody.
#[derive(Debug)]
pub struct Radvd {
    _daemon: Daemon,
}

impl Radvd {
    /// Advertises on `eth0` of a namespace; `prefixes` are radvd's own words for what is in the advertisement.
    pub fn start(world: &World, host: &Namespace, name: &str, prefixes: &str) -> Result<Self> {
        let conf = world.folder().join(format!("{name}.conf"));
        fs::write(
            &conf,
            format!("interface eth0 {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; {prefixes} }};\n"),
        )?;
        let pid = world.folder().join(format!("{name}.pid"));
        let line = format!("radvd -n -m stderr -C {} -p {}", conf.display(), pid.display());
        let log = world.folder().join(format!("{name}.log"));
        Ok(Self { _daemon: Daemon::start(host.command_line(&line), &log)? })
    }
}

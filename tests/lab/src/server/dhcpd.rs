//! ISC's DHCP server, as a provider runs it: DHCPv4, and DHCPv6 with delegation.
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::namespace::Namespace;
use crate::program::Daemon;
use crate::world::World;

/// Which protocol a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// DHCPv4.
    V4,
    /// DHCPv6.
    V6,
}

/// A running server; dropping it kills it, and what it had leased stays in its file.
#[derive(Debug)]
pub struct Dhcpd {
    daemon: Daemon,
    _folder: PathBuf,
}

impl Dhcpd {
    /// Starts a server on `eth0` of a namespace. Leases are kept in the file `name`: a server that is started again under that
    /// name remembers them.
    pub fn start(world: &World, host: &Namespace, family: Family, name: &str, config: &str) -> Result<Self> {
        let folder = world.folder().join(name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let (conf, leases) = (folder.join("dhcpd.conf"), folder.join("leases"));
        fs::write(&conf, config)?;
        if !leases.exists() {
            fs::write(&leases, "")?;
        }
        let option = match family {
            Family::V4 => "-4",
            Family::V6 => "-6",
        };
        let line = format!("dhcpd {option} -f -d --no-pid -cf {} -lf {} eth0", conf.display(), leases.display());
        let daemon = Daemon::start(host.command_line(&line), &world.folder().join(format!("{name}.log")))?;
        Ok(Self { daemon, _folder: folder })
    }

    /// What it has logged, and servers of that name before it.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

//! BIND, as the primary of a zone that takes signed updates.
use std::fs;

use anyhow::{Context, Result};

use crate::namespace::Namespace;
use crate::program::Daemon;
use crate::world::World;

/// The zone.
pub const ZONE: &str = "dyn.test";
/// The key's name, and its secret in Base64.
pub const KEY: (&str, &str) = ("router-key", "c2l4Z2F0ZS1sYWItc2VjcmV0LW9mLTMyLWJ5dGVzLi4=");

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Bind {
    daemon: Daemon,
}

impl Bind {
    /// Serves [`ZONE`] at an address of a namespace; whoever has [`KEY`] may change it.
    pub fn start(world: &World, host: &Namespace, address: &str) -> Result<Self> {
        // What a packaged server may read and write, wherever it is confined.
        let folder = world.runtime().join("bind");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let (name, secret) = KEY;
        let place = folder.display();
        fs::write(
            folder.join("zone"),
            format!(
                "$TTL 60\n@ IN SOA ns.{ZONE}. root.{ZONE}. 1 60 60 3600 60\n@ IN NS ns.{ZONE}.\nns IN AAAA {address}\n"
            ),
        )?;
        let conf = folder.join("named.conf");
        fs::write(
            &conf,
            format!(
                "options {{ directory \"{place}\"; listen-on {{ none; }}; listen-on-v6 port 53 {{ {address}; }}; recursion no;
                 pid-file none; session-keyfile none; dnssec-validation no; }};
                 controls {{ }};
                 key \"{name}\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};
                 zone \"{ZONE}\" {{ type primary; file \"{place}/zone\"; allow-update {{ key \"{name}\"; }}; }};\n"
            ),
        )?;
        let line = format!("named -g -n 1 -c {}", conf.display());
        Ok(Self { daemon: Daemon::start(host.command_line(&line), &world.folder().join("named.log"))? })
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

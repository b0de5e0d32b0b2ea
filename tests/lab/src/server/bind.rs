//! BIND, as the primary of a zone that takes signed updates, and as a server that is asked over TLS only.
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::namespace::Namespace;
use crate::program::Daemon;
use crate::world::World;

/// The zone.
pub const ZONE: &str = "dyn.test";
/// The key's name, and its secret in Base64.
pub const KEY: (&str, &str) = ("router-key", "c2l4Z2F0ZS1sYWItc2VjcmV0LW9mLTMyLWJ5dGVzLi4=");

/// Whom the certificate is for.
pub const SERVER_NAME: &str = "dns.dyn.test";

/// What TLS is made with, in PEM.
pub struct Papers {
    /// Where the authority's certificate lies.
    pub file: PathBuf,
    /// The same.
    pub authority: String,
    /// That of [`SERVER_NAME`].
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

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

    /// Serves [`ZONE`] with the host `v4` and `host0` to `host99` at an address of a namespace, over TLS and HTTPS and by no
    /// other way; with the second value anybody can show that he is [`SERVER_NAME`].
    pub fn start_encrypted(world: &World, host: &Namespace, address: &str, site: Ipv4Addr) -> Result<(Self, Papers)> {
        let folder = world.runtime().join("bind-tls");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let papers = certify(host, &folder, &format!("DNS:{SERVER_NAME}"))?;
        let place = folder.display();
        let hosts: String = (0..100).map(|number| format!("host{number} IN A {site}\n")).collect();
        fs::write(
            folder.join("zone"),
            format!(
                "$TTL 60\n@ IN SOA ns root 1 60 60 3600 60\n@ IN NS ns\nns IN AAAA {address}\nv4 IN A {site}\n{hosts}"
            ),
        )?;
        let conf = folder.join("named.conf");
        fs::write(
            &conf,
            format!(
                "tls pair {{ key-file \"{place}/server.key\"; cert-file \"{place}/server.pem\"; }};
                 options {{ directory \"{place}\"; listen-on {{ none; }}; recursion no;
                 listen-on-v6 port 853 tls pair {{ {address}; }};
                 listen-on-v6 port 443 tls pair http default {{ {address}; }};
                 pid-file none; session-keyfile none; dnssec-validation no; }};
                 controls {{ }};
                 zone \"{ZONE}\" {{ type primary; file \"{place}/zone\"; }};\n"
            ),
        )?;
        let line = format!("named -g -n 1 -c {}", conf.display());
        let daemon = Daemon::start(host.command_line(&line), &world.folder().join("named-tls.log"))?;
        Ok((Self { daemon }, papers))
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

/// A certificate for these names or addresses by an authority that is made up with it.
pub fn certify(host: &Namespace, folder: &Path, whom: &str) -> Result<Papers> {
    let place = folder.display();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    fs::write(folder.join("extensions"), format!("subjectAltName={whom}\n"))?;
    for line in [
        format!("req -x509 {key} -days 30 -subj /CN=lab -keyout {place}/ca.key -out {place}/ca.pem"),
        format!("req {key} -subj /CN={SERVER_NAME} -keyout {place}/server.key -out {place}/server.csr"),
        format!(
            "x509 -req -days 30 -in {place}/server.csr -CA {place}/ca.pem -CAkey {place}/ca.key -CAcreateserial \
             -extfile {place}/extensions -out {place}/server.pem"
        ),
    ] {
        host.run(&format!("openssl {line}"))?.text()?;
    }
    let read = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| name.to_owned());
    Ok(Papers {
        file: folder.join("ca.pem"),
        authority: read("ca.pem")?,
        certificate: read("server.pem")?,
        key: read("server.key")?,
    })
}

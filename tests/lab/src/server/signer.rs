//! BIND with zones that its own tools have signed: a root with NSEC, and `test` below it with NSEC3.
use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use crate::namespace::Namespace;
use crate::program::Daemon;
use crate::world::World;

/// How each zone begins.
const BEGIN: &str = "$TTL 300\n@ IN SOA ns.test. root.test. 1 3600 600 86400 300\n@ IN NS ns.test.\n";

/// When signatures begin to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// They hold.
    Now,
    /// In ten days: whoever checks them now has a slow clock, or they have a fast one.
    Later,
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Signer {
    daemon: Daemon,
    anchor: String,
}

impl Signer {
    /// Serves a signed root, the signed zone `test` and the unsigned one `plain.test` at an address of a namespace.
    pub fn start(world: &World, host: &Namespace, address: &str, site: Ipv4Addr, begin: Begin) -> Result<Self> {
        // What a packaged server may read, wherever it is confined.
        let folder = world.runtime().join(format!("bind-{begin:?}"));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let place = folder.display();
        let write = |name: &str, text: String| fs::write(folder.join(name), text).with_context(|| name.to_owned());
        write(
            "test",
            format!(
                "{BEGIN}ns IN AAAA {address}\nv4 IN A {site}\nalias IN CNAME v4\nboth IN A {site}\n\
                 both IN AAAA 2001:db8:ffff::80\n*.wild IN A {site}\nold IN DNAME new\nwww.new IN A {site}\n\
                 svc IN HTTPS 1 . alpn=h2 ipv4hint={site}\nplain IN NS ns\n"
            ),
        )?;
        write("plain", format!("{BEGIN}www IN A {site}\n"))?;
        write(
            "root",
            format!("{BEGIN}ns.test. IN AAAA {address}\ntest. IN NS ns.test.\n$INCLUDE {place}/dsset-test.\n"),
        )?;
        let key = |zone: &str| -> Result<String> {
            let line = format!("dnssec-keygen -q -K {place} -a ECDSAP256SHA256 -f KSK {zone}");
            Ok(host.run(&line)?.text()?.trim().to_owned())
        };
        let from = if begin == Begin::Later { "-P -s +864000" } else { "" };
        let sign = |zone: &str, name: &str, how: &str| {
            let line = format!(
                "dnssec-signzone -q -z -S {from} {how} -K {place} -d {place} -o {zone} -f {place}/{name}.signed {place}/{name}"
            );
            host.run(&line)?.text()
        };
        key("test")?;
        let root = key(".")?;
        sign("test", "test", "-3 -")?;
        sign(".", "root", "")?;
        let anchor = fs::read_to_string(folder.join(format!("{root}.key")))?;
        let anchor = anchor.lines().find(|line| !line.starts_with(';')).context("a key")?.to_owned();
        let conf = folder.join("named.conf");
        fs::write(
            &conf,
            format!(
                "options {{ directory \"{place}\"; listen-on {{ none; }}; listen-on-v6 port 53 {{ {address}; }}; recursion no;
                 pid-file none; session-keyfile none; dnssec-validation no; }};
                 controls {{ }};
                 zone \".\" {{ type primary; file \"{place}/root.signed\"; }};
                 zone \"test\" {{ type primary; file \"{place}/test.signed\"; }};
                 zone \"plain.test\" {{ type primary; file \"{place}/plain\"; }};\n"
            ),
        )?;
        let line = format!("named -g -n 1 -c {}", conf.display());
        let daemon = Daemon::start(host.command_line(&line), &world.folder().join("named-signed.log"))?;
        Ok(Self { daemon, anchor })
    }

    /// What a resolver is to trust.
    pub fn trust_anchor(&self) -> &str {
        &self.anchor
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

//! The CLAT under systemd, by the unit that is in `docs`, as it is.
use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{ensure_untouched, traces};
use crate::lab::{Lab, SOON, fetch};
use crate::namespace::Namespace;
use crate::network::{ROUTER_V4, SITE_V4};
use crate::program::{self, DEADLINE, Daemon};
use crate::router::binary;
use crate::wait;

const UNIT: &str = include_str!("../../../../../docs/sixgate-clat.service");

/// A machine's places for a unit, its program and its options, over the host's own for this manager alone. Process 1 makes
/// what is inaccessible.
const MANAGER: &str = r#"set -e
mount -t tmpfs run /run
mkdir -p /run/systemd/system /run/systemd/inaccessible/dir /run/units/systemd/user
cd /run/systemd/inaccessible
touch reg
mkfifo fifo
mknod chr c 0 0
mknod blk b 0 0
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
mount -t tmpfs bin /usr/local/bin
touch /usr/local/bin/sixgate
mount --bind {binary} /usr/local/bin/sixgate
cp {folder}/sixgate-clat.service /run/units/systemd/user/
mount -t tmpfs default /etc/default
echo 'SIXGATE_CLAT={options}' > /etc/default/sixgate-clat
cd /
exec env XDG_RUNTIME_DIR=/run XDG_CONFIG_HOME=/run/units /lib/systemd/systemd --user --log-target=console
"#;

/// A service manager of its own on a host.
struct Manager {
    daemon: Daemon,
}

impl Manager {
    fn start(lab: &Lab, host: &Namespace, options: &str) -> Result<Self> {
        let folder = lab.world.folder();
        fs::write(folder.join("sixgate-clat.service"), UNIT)?;
        let script = MANAGER
            .replace("{binary}", &binary()?.display().to_string())
            .replace("{folder}", &folder.display().to_string())
            .replace("{options}", options);
        let file = folder.join("manager.sh");
        fs::write(&file, script)?;
        // `ip netns exec` would hide the control groups.
        let inside = format!("nsenter --net=/run/netns/{}", host.name());
        let line = format!("{inside} unshare --mount --propagation private sh {}", file.display());
        let daemon = Daemon::start(line.split_whitespace(), &folder.join("systemd.log"))?;
        let this = Self { daemon };
        wait::until_ok("the service manager", SOON, || {
            this.run("systemctl --user show --property Version")?;
            Ok(())
        })
        .with_context(|| this.daemon.log())?;
        Ok(this)
    }

    /// Runs a program where the manager lives.
    fn run(&self, line: &str) -> Result<String> {
        let pid = self.daemon.pid();
        let line = format!("env XDG_RUNTIME_DIR=/run nsenter --target {pid} --mount --net {line}");
        program::run(line.split_whitespace(), DEADLINE)?.text()
    }

    fn status(&self) -> Result<Value> {
        let text = self.run("/usr/local/bin/sixgate clat status --json")?;
        Ok(serde_json::from_str(&text)?)
    }

    /// It translates, with nothing to complain about.
    fn await_translating(&self) -> Result<()> {
        wait::until_ok("the clat to translate", SOON, || {
            let status = self.status()?;
            ensure!(status["stage"] == "translating" && status["fast_path"].is_string(), "{status:#}");
            ensure!(status["findings"].as_array().is_some_and(Vec::is_empty), "{status:#}");
            Ok(())
        })
        .with_context(|| self.daemon.log())
    }
}

pub(in crate::scenario) fn lives_as_its_unit_says(lab: &mut Lab) -> Result<()> {
    let host = &lab.client.namespace;
    let before = traces(host)?;
    let manager = Manager::start(lab, host, &format!("--check {SITE_V4}"))?;
    manager.run("systemctl --user start sixgate-clat")?;
    manager.await_translating()?;
    ensure_seen_as(host, ROUTER_V4)?;
    // Killed, it is started again.
    manager.run("systemctl --user kill --signal KILL sixgate-clat")?;
    wait::until_ok("another start", SOON, || {
        let restarts = manager.run("systemctl --user show --property NRestarts --value sixgate-clat")?;
        ensure!(restarts.trim() == "1", "{restarts}");
        Ok(())
    })?;
    manager.await_translating()?;
    ensure_seen_as(host, ROUTER_V4)?;
    // Stopped, nothing is left.
    manager.run("systemctl --user stop sixgate-clat")?;
    ensure_untouched(host, &before)?;
    let folder = manager.run("ls /run")?;
    ensure!(!folder.contains("sixgate-clat"), "{folder}");
    Ok(())
}

fn ensure_seen_as(host: &Namespace, address: Ipv4Addr) -> Result<()> {
    let seen_as = fetch(host, &format!("http://{SITE_V4}/"))?;
    ensure!(seen_as.trim() == address.to_string(), "the server sees {seen_as}");
    Ok(())
}

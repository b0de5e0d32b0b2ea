//! A VM's own script hears from the router what its containers' prefix is, and writes it where Docker reads it.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::delegation::{self, FIRST, LONG, SECOND};
use crate::lab::{Lab, SOON};
use crate::program::Daemon;
use crate::wait;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/hooks/sixgate-docker-prefix")
}

fn await_prefix(file: &Path, prefix: &str, log: &str) -> Result<Value> {
    wait::until_ok(&format!("Docker's file to say {prefix}"), SOON, || {
        let settings: Value = serde_json::from_slice(&fs::read(file)?)?;
        ensure!(settings["fixed-cidr-v6"] == prefix, "{settings}\n{log}");
        Ok(settings)
    })
}

pub(super) fn reach_docker(lab: &mut Lab) -> Result<()> {
    let first = delegation::provider(lab, FIRST, &LONG)?;
    let config = delegation::config(lab, "[vm_prefixes]\nlan = \"vms\"\n");
    lab.router.start(&config)?;
    delegation::await_delegation(lab, FIRST)?;
    lab.await_service()?;
    lab.bring_hosts_up()?;

    let file = lab.world.folder().join("daemon.json");
    let restarts = lab.world.folder().join("restarts");
    fs::write(&file, "{\"log-driver\": \"journald\"}\n")?;
    let mut line = lab.vm1.namespace.command_line("python3");
    line.push(script().display().to_string());
    line.extend(["--file".to_owned(), file.display().to_string()]);
    line.extend(["--command".to_owned(), format!("echo again >> {}", restarts.display())]);
    let helper = Daemon::start(line, &lab.world.folder().join("docker-prefix.log"))?;
    let settings = await_prefix(&file, "2001:db8:1:2:21::/80", &helper.log())?;
    ensure!(settings["log-driver"] == "journald" && settings["ipv6"] == true, "{settings}");
    let count = || fs::read_to_string(&restarts).map_or(0, |text| text.lines().count());
    wait::until_ok("Docker to be restarted", SOON, || {
        ensure!(count() == 1, "{} times", count());
        Ok(())
    })?;

    // It waits at the router, and hears of the new prefix.
    drop(first.server);
    let _second = delegation::renumbered(lab)?;
    delegation::await_delegation(lab, SECOND)?;
    await_prefix(&file, "2001:db8:9:2:21::/80", &helper.log())?;
    wait::until_ok("Docker to be restarted again", SOON, || {
        ensure!(count() == 2, "{} times", count());
        Ok(())
    })?;
    lab.await_status("who has asked", |status| {
        status["vm_hooks"]["vm1"]["answers"].as_u64() >= Some(2)
            && status["vm_hooks"].as_object().map(|it| it.len()) == Some(1)
    })?;

    // Each VM is told its own, others nothing, and nobody on the uplink reaches the port.
    let router = "[2001:db8:9:2::1]:9465";
    let curl = format!("curl --silent --max-time 5 --noproxy * http://{router}/v1/containers");
    let told: Value = serde_json::from_str(&lab.vm2.namespace.run(&curl)?.text()?)?;
    ensure!(told["vm"] == "vm2" && told["containers"][0] == "2001:db8:9:2:31::/80", "{told}");
    ensure!(told["retired"][0] == "2001:db8:1:2:31::/80", "{told}");
    let refused = lab.client.namespace.run(&format!("{curl} --write-out %{{http_code}}"))?.text()?;
    ensure!(refused.ends_with("403") && !refused.contains("2001:"), "{refused}");
    ensure!(!lab.internet.run(&curl)?.success, "the uplink is told");
    Ok(())
}

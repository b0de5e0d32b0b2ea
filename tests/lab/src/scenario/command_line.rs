//! The command line, with the binary that runs the router.
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::Lab;
use crate::network::{SITE_V4, SITE_V6, synthesized};
use crate::{program, wait};

const SOON: Duration = Duration::from_secs(30);

pub(super) fn speaks(lab: &mut Lab) -> Result<()> {
    let router = lab.router.in_namespace()?;
    let (binary, control) = (router.binary().display(), router.control().display());
    let sixgate = |arguments: &str| router.namespace().run(&format!("{binary} {arguments}"));

    let json: Value = serde_json::from_str(&sixgate(&format!("status --json --control {control}"))?.text()?)?;
    ensure!(json["system"]["hostname"] == "lab" && json["firewall"]["loaded"] == true, "{json:#}");
    let text = sixgate(&format!("status --control {control}"))?.text()?;
    for expected in ["lab", "203.0.113.2", "2001:db8:64::/96", "vm1", "2001:db8:1:2:21::/80"] {
        ensure!(text.contains(expected), "{expected} is not in the status:\n{text}");
    }
    // The hosts, one of which is a VM by its hardware address.
    let hosts = sixgate(&format!("neighbours --control {control}"))?.text()?;
    ensure!(
        hosts.lines().any(|line| line.contains("52:54:00:00:02:11") && line.contains("vm1")),
        "no vm1 in:\n{hosts}"
    );
    let findings = sixgate(&format!("findings --json --control {control}"))?.text()?;
    ensure!(serde_json::from_str::<Value>(&findings)?.is_array(), "{findings}");

    // Only the owner may talk to the router.
    let mode = std::os::unix::fs::PermissionsExt::mode(&router.control().metadata()?.permissions());
    ensure!(mode & 0o777 == 0o600, "the control socket has mode {mode:o}");

    let plan = sixgate(&format!("check {}", router.config().display()))?.text()?;
    ensure!(plan.contains("2001:db8:1:2:21::/80"), "the plan does not show the container prefix:\n{plan}");
    let wrong = router.config().with_file_name("wrong.toml");
    std::fs::write(&wrong, std::fs::read_to_string(router.config())?.replace("203.0.113.2/24", "203.0.113.2/33"))?;
    let refused = sixgate(&format!("check {}", wrong.display()))?;
    ensure!(refused.code == Some(1), "{refused}");
    ensure!(refused.to_string().contains("203.0.113.2/33") && refused.to_string().contains('^'), "{refused}");

    let silent = sixgate("status --control /nonexistent/control.sock")?;
    ensure!(!silent.success && silent.stderr.contains("/nonexistent/control.sock"), "{silent}");
    Ok(())
}

/// What the router itself sees: ping, trace, resolve, log, and a capture that tcpdump can read.
pub(super) fn looks(lab: &mut Lab) -> Result<()> {
    let router = lab.router.in_namespace()?;
    let (binary, control) = (router.binary().display(), router.control().display());
    let sixgate =
        |arguments: &str| router.namespace().run_for(&format!("{binary} {arguments} --control {control}"), SOON);
    let file = router.config().with_file_name("vm1.pcapng");

    // A VM by its name, a host by its address in both families, a name; and nobody.
    for to in ["vm1".to_owned(), SITE_V6.to_string(), SITE_V4.to_string(), "v4.lab.test".to_owned()] {
        wait::until_ok(&format!("{to} answers"), SOON, || sixgate(&format!("ping --count 1 {to}"))?.text())?;
    }
    let nobody = sixgate("ping --count 1 no-such-vm")?;
    ensure!(!nobody.success && nobody.to_string().contains("no-such-vm"), "{nobody}");
    let way = wait::until_ok("a way is found", SOON, || sixgate(&format!("trace --json {SITE_V4}"))?.text())?;
    let last: Value = serde_json::from_str(way.lines().last().context("no hops")?)?;
    ensure!(last["outcome"] == "reply" && last["from"] == SITE_V4.to_string(), "{way}");

    let resolved = |more: &str| -> Result<Value> {
        Ok(serde_json::from_str(&sixgate(&format!("resolve --json v4.lab.test {more}"))?.text()?)?)
    };
    let addresses = |answer: &Value| answer["addresses"].to_string();
    let with = wait::until_ok("the resolver answers", SOON, || resolved(""))?;
    ensure!(addresses(&with).contains(&synthesized(SITE_V4).to_string()), "{with}");
    let without = wait::until_ok("the resolver answers", SOON, || resolved("--no-synthesis"))?;
    ensure!(addresses(&without) == format!("[\"{SITE_V4}\"]"), "{without}");

    let log = sixgate("log --json")?.text()?;
    let first: Value = serde_json::from_str(log.lines().next().context("nothing was logged")?)?;
    ensure!(first["number"] == 1 && first["text"].as_str().is_some_and(|text| text.contains("starts")), "{first}");

    // Packets of a VM: the capture ends by itself as soon as two have passed, and so we let some pass.
    let captured = std::thread::scope(|threads| {
        let capture =
            threads.spawn(|| sixgate(&format!("capture --of vm1 --packets 2 --time 25s --write {}", file.display())));
        while !capture.is_finished() {
            sixgate("ping --count 1 vm1")?;
        }
        capture.join().map_err(|_| anyhow::anyhow!("the capture panicked"))?
    })?;
    ensure!(captured.success, "{captured}");
    let packets = program::tool(&format!("tcpdump --count -r {}", file.display()))?;
    ensure!(packets.contains("2 packets"), "{packets}");
    let lines = sixgate("capture --interface nat64 --time 1s --of 2001:db8::/32")?;
    ensure!(lines.success, "{lines}");
    let nowhere = sixgate("capture --interface nowhere0 --time 1s")?;
    ensure!(!nowhere.success && nowhere.stderr.contains("nowhere0"), "{nowhere}");
    Ok(())
}

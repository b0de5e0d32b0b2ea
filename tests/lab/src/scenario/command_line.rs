//! The command line, with the binary that runs the router.
use anyhow::{Result, ensure};
use serde_json::Value;

use crate::lab::Lab;

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

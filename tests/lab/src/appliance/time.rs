//! Clocks that are wrong at power-on.
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sixgate_qemu::Hardware;

use super::provider::Provider;
use super::{Case, Unit, agent};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CONFIG: &str = "
[wan]
mac = \"bc:24:11:00:00:01\"
ipv4 = { address = \"192.0.2.2/24\", gateway = \"192.0.2.1\" }

[[lan]]
name = \"vms\"
mac = \"bc:24:11:00:00:02\"
addresses = [\"2001:db8:1::1/64\"]

[time]
servers = [\"198.51.100.123\"]
";

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("time: a clock that is years behind is set by SNTP, and the hypervisor is named", clock)]
}

fn clock(unit: &mut Unit) -> Result<()> {
    unit.boot(Hardware { clock: Some("2020-02-03T04:05:06".to_owned()), ..Unit::hardware() })?;
    unit.status_with("an answer", Value::is_object)?;
    let nothing = json!({});
    let seconds = |time: &Value| time.as_u64().unwrap_or_default() / 1_000_000_000;
    let told = seconds(&agent::ask(unit, "guest-get-time", &nothing)?);
    ensure!((1_580_000_000..1_600_000_000).contains(&told), "the machine began at {told}");

    let _provider = Provider::start(&unit.cables[0], GATEWAY)?;
    let reply = unit.request(&json!({ "apply": { "text": CONFIG } }))?;
    ensure!(reply["reply"] == "accepted", "{reply}");
    let status = unit.status_with("a clock that was set", |status| status["clock"]["steps"].as_u64() > Some(0))?;
    let named = |status: &Value| {
        let findings = status["findings"].as_array();
        findings.is_some_and(|all| all.iter().any(|finding| finding["code"] == "clock-wrong"))
    };
    ensure!(named(&status), "nobody is told that the hypervisor's clock is wrong: {status}");
    let told = seconds(&agent::ask(unit, "guest-get-time", &nothing)?);
    let ours = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(told.abs_diff(ours) < 60, "the machine says {told}, the host {ours}");
    unit.power_off().map(drop)
}

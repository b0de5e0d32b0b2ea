//! Updates: a good one, a bad one, one that was tampered with, and power cuts in between.
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sixgate_qemu::{CONTROL_PORT, Hardware};

use super::{Case, Unit, unit};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("update: tried, proven healthy, kept, and gone back from", good),
        Case::new("update: a system that does not start is gone back from", bad),
        Case::new("update: what was not signed by the right key changes nothing", tampered),
        Case::new("update: the power is cut while it is written", |unit| cut(unit, Duration::from_millis(700))),
    ]
}

/// The same at many points.
pub(super) fn power_cuts() -> Vec<Case> {
    let points = (0..24).map(|number| Duration::from_millis(number * 173));
    points
        .map(|point| {
            Case::new(format!("matrix: the power is cut {point:?} into an update"), move |unit| cut(unit, point))
        })
        .collect()
}

fn with_bundle(bundle: PathBuf) -> Hardware {
    Hardware { cds: vec![bundle], ..Unit::hardware() }
}

fn healthy(slot: &'static str) -> impl Fn(&Value) -> bool {
    move |status| status["appliance"]["healthy"] == true && status["appliance"]["slot"] == slot
}

/// The loader's variables.
fn environment(unit: &Unit) -> Result<String> {
    let start = unit.read("esp", 0, 1 << 20)?;
    let at = start.chunks(512).position(|sector| sector.starts_with(b"# GRUB Environment Block"));
    let at = at.ok_or_else(|| anyhow::anyhow!("the loader's environment is gone"))? * 512;
    Ok(String::from_utf8_lossy(&start[at..at + 512]).into_owned())
}

fn good(unit: &mut Unit) -> Result<()> {
    let hardware = || -> Result<Hardware> { Ok(with_bundle(unit::image("update")?)) };
    unit.boot(hardware()?)?;
    unit.status_with("slot a is healthy", healthy("a"))?;
    let reply = unit.request(&json!({ "machine": "update" }))?;
    ensure!(reply["reply"] == "accepted", "{reply}");
    unit.await_end()?;

    unit.boot(hardware()?)?;
    let status = unit.status_with("slot b is healthy", healthy("b"))?;
    ensure!(status["appliance"]["trial"] == true, "{status}");
    unit.power_off()?;
    let variables = environment(unit)?;
    ensure!(
        variables.contains("good=b\n") && variables.contains("other=a\n") && variables.contains("try=\n"),
        "{variables}"
    );

    unit.boot(hardware()?)?;
    let status = unit.status_with("slot b again, for good", healthy("b"))?;
    ensure!(status["appliance"]["trial"] == false, "{status}");
    let reply = unit.request(&json!({ "machine": "rollback" }))?;
    ensure!(reply["reply"] == "accepted", "{reply}");
    unit.await_end()?;

    unit.boot(hardware()?)?;
    unit.status_with("slot a again", healthy("a"))?;
    unit.power_off().map(drop)
}

fn bad(unit: &mut Unit) -> Result<()> {
    unit.boot(with_bundle(unit::image("update")?))?;
    unit.status_with("slot a answers", |status| status["appliance"]["slot"] == "a")?;
    let reply = unit.request(&json!({ "machine": "update" }))?;
    ensure!(reply["reply"] == "accepted", "{reply}");
    unit.await_end()?;

    // Whatever made it so: the new system's files from the fourteenth MiB on, its initramfs among them, are zeros.
    unit.overwrite("slot-b", 14 << 20, &vec![0; 6 << 20])?;
    unit.boot(Unit::hardware())?;
    // The kernel finds no init, panics, and starts the machine anew, which ends it here.
    unit.await_panic()?;
    ensure!(environment(unit)?.contains("tries=0\n"));

    unit.boot(Unit::hardware())?;
    let status = unit.status_with("slot a is healthy again", healthy("a"))?;
    let told = status["findings"].as_array().is_some_and(|all| all.iter().any(|one| one["code"] == "update-not-kept"));
    ensure!(told, "{status}");
    unit.power_off().map(drop)
}

fn tampered(unit: &mut Unit) -> Result<()> {
    let mut bundle = fs::read(unit::image("update")?)?;
    let middle = bundle.len() / 2;
    bundle[middle] ^= 1;
    let path = unit.folder().join("tampered.update");
    fs::write(&path, &bundle)?;
    unit.boot(with_bundle(path))?;
    unit.status_with("slot a is healthy", healthy("a"))?;
    let reply = unit.request(&json!({ "machine": "update" }))?;
    ensure!(reply["text"].as_str().is_some_and(|text| text.contains("not what was signed")), "{reply}");
    unit.power_off()?;
    let variables = environment(unit)?;
    ensure!(variables.contains("good=a\n") && variables.contains("try=\n"), "{variables}");
    Ok(())
}

/// Whatever the moment: the machine starts again, and is healthy from one slot or the other.
fn cut(unit: &mut Unit, after: Duration) -> Result<()> {
    unit.boot(with_bundle(unit::image("update")?))?;
    unit.status_with("slot a answers", |status| status["appliance"]["slot"] == "a")?;
    let port = unit.machine()?.port(CONTROL_PORT)?;
    writeln!(&port, "{}", json!({ "version": 1, "request": { "machine": "update" } }))?;
    // This is the moment under test, not a wait for something.
    std::thread::sleep(after);
    unit.kill()?;
    let variables = environment(unit)?;
    ensure!(variables.contains("good=a\n"), "{variables}");
    unit.boot(Unit::hardware())?;
    unit.status_with("it is healthy", |status| status["appliance"]["healthy"] == true)?;
    unit.power_off().map(drop)
}

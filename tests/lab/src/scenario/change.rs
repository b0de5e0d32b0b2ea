//! Changes of the configuration that lock their maker out, and come back by themselves.
use std::fs;
use std::net::{Ipv6Addr, TcpListener};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::lab::{Lab, SOON, await_connection, connect, ensure_refused, try_to_connect};
use crate::program::Outcome;
use crate::wait;

/// The router, as who administers it from outside reaches it.
const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 0, 2);
const PORT: u16 = 2222;
const DOOR: &str = "\n[[allow]]\nto = \"router\"\ntcp = [2222]\n";

pub(super) fn reverts(lab: &mut Lab) -> Result<()> {
    lab.start_with(DOOR)?;
    let listener = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT));
    let _server = lab.router.in_namespace()?.namespace().inside(listener)?;
    await_connection(&lab.internet, ROUTER, PORT)?;
    let closed = lab.world.folder().join("closed.toml");
    fs::write(&closed, lab.config(""))?;
    let locked = format!("apply {} --confirm", closed.display());

    // Locked out, and back in without anybody's doing.
    let told = sixgate(lab, &format!("{locked} 5s"))?.text()?;
    ensure!(told.contains("on trial for 5 s"), "{told}");
    refused(lab)?;
    await_connection(&lab.internet, ROUTER, PORT)?;
    lab.await_status("what has become of the trial", |status| has(status, "configuration-reverted"))?;

    // The daemon is killed in between: the trial goes on, and whoever can still confirms or takes it back.
    sixgate(lab, &format!("{locked} 10m"))?.text()?;
    refused(lab)?;
    kill_and_start(lab)?;
    lab.await_status("the trial that goes on", |status| has(status, "configuration-on-trial"))?;
    ensure_refused(&lab.internet, ROUTER, PORT)?;
    sixgate(lab, "revert")?.text()?;
    await_connection(&lab.internet, ROUTER, PORT)?;

    // The machine's power is cut in between: another boot, and a kernel without any rules.
    sixgate(lab, &format!("{locked} 10m"))?.text()?;
    refused(lab)?;
    let router = lab.router.in_namespace()?;
    router.end(Signal::KILL)?;
    let trial = router.config().with_extension("history").join("trial.json");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let held = fs::read_to_string(&trial).with_context(|| trial.display().to_string())?;
    fs::write(&trial, held.replace(boot.trim(), "6d5e3b8e-0000-4000-8000-000000000000"))?;
    router.namespace().run("nft delete table inet sixgate")?.text()?;
    router.start_again()?;
    await_connection(&lab.internet, ROUTER, PORT)?;
    lab.await_status("what has become of the trial", |status| has(status, "configuration-reverted"))?;

    // Confirmed, it lasts; and the history leads back.
    sixgate(lab, &format!("{locked} 10m"))?.text()?;
    sixgate(lab, "confirm")?.text()?;
    refused(lab)?;
    let written = fs::read_to_string(lab.router.in_namespace()?.config())?;
    ensure!(written == lab.config(""), "the file is not what was confirmed:\n{written}");
    let history = sixgate(lab, "history")?.text()?;
    ensure!(history.lines().count() == 3 && history.contains("in force"), "{history}");
    let difference = sixgate(lab, "history 2")?.text()?;
    ensure!(difference.contains("- tcp = [2222]"), "{difference}");
    sixgate(lab, "revert 1")?.text()?;
    await_connection(&lab.internet, ROUTER, PORT)?;

    // A wrong one changes nothing and all that is wrong is said.
    fs::write(&closed, lab.config("[[allow]]\nto = \"nobody\"\ntcp = 0\n"))?;
    let wrong = sixgate(lab, &locked)?;
    ensure!(!wrong.success && wrong.stderr.contains("nobody") && wrong.stderr.contains("2 errors"), "{wrong}");
    connect(&lab.internet, ROUTER, PORT).map(drop).context("after a refused change")
}

/// A wrong file at start gives way to the last good configuration, and the status says so.
pub(super) fn falls_back(lab: &mut Lab) -> Result<()> {
    lab.start_with(DOOR)?;
    let listener = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT));
    let _server = lab.router.in_namespace()?.namespace().inside(listener)?;
    await_connection(&lab.internet, ROUTER, PORT)?;
    let wrong = lab.config("").replace("advertise = true", "advertize = true");
    let router = lab.router.in_namespace()?;
    router.write_config(&wrong)?;
    router.end(Signal::USR1)?;
    router.start_again()?;
    let status = lab.await_status("the fallback", |status| has(status, "configuration-fallback"))?;
    ensure!(status["findings"].to_string().contains("advertize"), "{}", status["findings"]);
    await_connection(&lab.internet, ROUTER, PORT).map(drop)
}

fn has(status: &serde_json::Value, code: &str) -> bool {
    status["findings"].as_array().is_some_and(|findings| findings.iter().any(|finding| finding["code"] == code))
}

fn sixgate(lab: &mut Lab, arguments: &str) -> Result<Outcome> {
    let router = lab.router.in_namespace()?;
    let (binary, control) = (router.binary().display(), router.control().display());
    router.namespace().run(&format!("{binary} {arguments} --control {control}"))
}

fn refused(lab: &Lab) -> Result<()> {
    wait::until("the door to be closed", SOON, || try_to_connect(&lab.internet, ROUTER, PORT).err()).map(drop)
}

fn kill_and_start(lab: &mut Lab) -> Result<()> {
    let router = lab.router.in_namespace()?;
    router.end(Signal::KILL)?;
    router.start_again()
}

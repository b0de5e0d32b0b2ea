//! Ports in blocks: told as such, and held back after use, also by the next daemon.
use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::lab::{Lab, SOON, ask};
use crate::network::{SITE_V4, synthesized};
use crate::server::syslog::Syslog;
use crate::wait;

const PORT: u16 = 6514;

/// Two blocks for two of three hosts; what they leave is held back over restarts, and then the third gets one. Daemons that
/// come later live later: a time namespace shifts their clock.
pub(super) fn are_held_back(lab: &mut Lab) -> Result<()> {
    let server = Syslog::start(&lab.internet, (SITE_V4, PORT).into())?;
    lab.start_with(&format!(
        "ports = \"41000-41127\"\nport_block = 64\n[nat64.timers]\nport_hold = 3600\n[nat64.log]\nto = \"tcp://{SITE_V4}:{PORT}\"\n",
    ))?;
    let site = synthesized(SITE_V4);
    let told = |what: &'static str, word: &str, times: usize| {
        wait::until_ok(what, SOON, || {
            let text = server.told();
            ensure!(text.matches(word).count() >= times, "{word} is not there {times} times: {text}");
            Ok(text)
        })
    };
    let mut ports = Vec::new();
    for host in [&lab.vm1.containers()?.namespace, &lab.vm2.containers()?.namespace] {
        ask(host, site, b"hello")?;
        ask(host, site, b"hello")?;
        ports.extend(lab.udp.peers().iter().rev().take(2).map(|peer| (peer.port() - 41_000) / 64));
    }
    ensure!(ports[0] == ports[1] && ports[2] == ports[3] && ports[0] != ports[2], "blocks {ports:?}");
    let text = told("both blocks to be told", "natEvent=\"16\"", 2)?;
    ensure!(!text.contains("natEvent=\"10\""), "ports are told one by one: {text}");
    ensure!(text.contains("portRangeStart=\"41000\" portRangeEnd=\"41063\" portRangeNumPorts=\"64\""), "{text}");
    refuses(lab)?;
    told("a shortage to be told", "natEvent=\"12\"", 1)?;

    // UDP_DEFAULT is over; the sessions that were saved end, and their blocks with them.
    restart(lab, 1000)?;
    lab.await_status("both blocks to be held back", |status| {
        let pool = &status["nat64"]["pool"];
        pool["held"] == 128 && pool["blocks"] == serde_json::json!([0, 0])
    })?;
    told("the end of both blocks to be told", "natEvent=\"17\"", 2)?;
    restart(lab, 2000)?;
    lab.await_status("the next daemon to hold them back as well", |status| status["nat64"]["pool"]["held"] == 128)?;
    refuses(lab)?;
    restart(lab, 8000)?;
    lab.await_status("nothing to be held back", |status| status["nat64"]["pool"]["held"] == 0)?;
    ask(&lab.client.namespace, site, b"hello").map(drop)
}

/// There is no block left for another host.
fn refuses(lab: &mut Lab) -> Result<()> {
    let line = format!("ping -n -c 1 -W 5 {}", synthesized(SITE_V4));
    let refused = lab.client.namespace.run(&line)?;
    ensure!(refused.stdout.contains("Address unreachable"), "{refused}");
    lab.await_finding("nat64-exhausted").map(drop)
}

fn restart(lab: &mut Lab, seconds: u32) -> Result<()> {
    let router = lab.router.in_namespace()?;
    let status = router.end(Signal::USR1)?;
    ensure!(status.success(), "the daemon ended with {status}");
    router.prepare(&format!("exec unshare --time --monotonic {seconds} \"$@\""))?;
    router.start_again()?;
    lab.await_service()
}

//! What something else changes in the kernel is put right, counted and named.
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::lab::{Lab, SOON, fetch};
use crate::namespace::Namespace;
use crate::network::SITE_V6;
use crate::wait;

fn await_repair(what: &str, is_right: impl Fn() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    wait::until_ok(what, SOON, || {
        ensure!(is_right()?, "not yet");
        Ok(())
    })?;
    println!("{what}: put right within {} ms", began.elapsed().as_millis());
    Ok(())
}

fn lists(router: &Namespace, arguments: &str, wanted: &str) -> Result<bool> {
    Ok(router.ip(arguments)?.contains(wanted))
}

pub(super) fn puts_right(lab: &mut Lab) -> Result<()> {
    let counted = |lab: &mut Lab, kind: &'static str| {
        lab.await_status(&format!("a repair of kind {kind}"), |status| {
            status["repairs"]["counts"][kind].as_u64() > Some(0)
        })
    };
    let before = lab.router.status()?;
    ensure!(before["repairs"]["counts"].as_object().is_some_and(serde_json::Map::is_empty), "{}", before["repairs"]);
    let router = lab.router.in_namespace()?.namespace();
    // What is not ours stays as somebody else has made it.
    router.ip("address add 2001:db8:dead::1/64 dev eth1 nodad")?;
    router.ip("address del 2001:db8:1:2::1/64 dev eth1")?;
    await_repair("an address", || lists(router, "-6 address show dev eth1", "2001:db8:1:2::1/64"))?;
    ensure!(lists(router, "-6 address show dev eth1", "2001:db8:dead::1/64")?);
    counted(lab, "address")?;

    let router = lab.router.in_namespace()?.namespace();
    router.ip("-6 route del default dev eth0")?;
    await_repair("a route", || lists(router, "-6 route show default", "via fe80::1 "))?;
    router.ip("-6 route replace default via fe80::bad dev eth0 metric 100")?;
    await_repair("a replaced route", || {
        Ok(lists(router, "-6 route show default", "via fe80::1 ")? && !lists(router, "-6 route show default", "bad")?)
    })?;
    counted(lab, "route")?;

    let router = lab.router.in_namespace()?.namespace();
    for path in ["net/ipv6/conf/all/forwarding", "net/ipv6/conf/eth0/accept_redirects"] {
        let right = router.sysctl(path)?;
        router.set_sysctl(path, if right == "0" { "1" } else { "0" })?;
        await_repair(path, || Ok(router.sysctl(path)? == right))?;
    }
    counted(lab, "sysctl")?;
    lab.router.in_namespace()?.namespace().run("nft delete table inet sixgate")?.text()?;
    let status = counted(lab, "ruleset")?;
    ensure!(status["repairs"]["latest"].as_array().is_some_and(|latest| latest.len() >= 5), "{}", status["repairs"]);
    lab.await_finding("kernel-changed")?;
    wait::until_ok("everything to work", SOON, || fetch(&lab.client.namespace, &format!("http://[{SITE_V6}]/")))?;
    Ok(())
}

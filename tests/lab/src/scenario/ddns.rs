//! Names outside follow addresses inside: told to a real BIND with a key, and to a provider by HTTP.
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::delegation::{self, FIRST, LONG, SECOND};
use crate::lab::{Lab, SOON};
use crate::network::SITE_V6;
use crate::program::Daemon;
use crate::server::bind::{Bind, KEY, ZONE, certify};
use crate::server::provider::Provider;
use crate::wait;

/// Where BIND and the provider listen.
const SERVER: &str = "2001:db8:ffff::2136";

fn names(provider: &str) -> String {
    let (key, secret) = KEY;
    let signed = format!("server = \"{SERVER}\"\nzone = \"{ZONE}\"\nkey = \"{key}\"\nsecret = \"{secret}\"\n");
    format!(
        "[[ddns]]\nname = \"router.{ZONE}\"\nto = \"router\"\n{signed}
         [[ddns]]\nname = \"www.{ZONE}\"\nto = \"vm1/containers::5\"\n{signed}
         [[ddns]]\nname = \"unsigned.{ZONE}\"\nto = \"vm2/containers::5\"\nserver = \"{SERVER}\"\nzone = \"{ZONE}\"
         [[ddns]]\nname = \"www.provider.test\"\nto = \"vm1/containers::5\"\nurl = \"{provider}/nic/update\"
         user = \"me\"\npassword = \"secret\"
         [[ddns]]\nname = \"safe.provider.test\"\nto = \"vm1/containers::5\"\nurl = \"https://[{SERVER}]:8443/nic/update\"
         user = \"me\"\npassword = \"secret\"
         [[ddns]]\nname = \"false.provider.test\"\nto = \"vm1/containers::5\"\nurl = \"https://[{SERVER}]:8444/nic/update\"
         [[ddns]]\nname = \"other.provider.test\"\nto = \"vm2/containers::5\"\nurl = \"{provider}/set/{{name}}/{{address}}\"\n"
    )
}

/// Waits until BIND has this record and no other of its kind.
fn await_record(lab: &Lab, bind: &Bind, name: &str, kind: &str, address: &str) -> Result<()> {
    wait::until_ok(&format!("{name} to be {address}"), SOON, || {
        let line = format!("dig +short +time=1 +tries=1 @{SERVER} {kind} {name}.{ZONE}");
        let said = lab.internet.run(&line)?.text()?;
        ensure!(said.trim() == address, "{kind} {said}\n{}", bind.log());
        Ok(())
    })
}

pub(super) fn follows(lab: &mut Lab) -> Result<()> {
    lab.internet.ip(&format!("address add {SERVER}/128 dev lo nodad"))?;
    let bind = Bind::start(&lab.world, &lab.internet, SERVER)?;
    let web: SocketAddr = format!("[{SERVER}]:8053").parse()?;
    let provider = Provider::start(&lab.internet, web, "good")?;
    let first = delegation::provider(lab, FIRST, &LONG)?;
    // One whose certificate the configuration's authority has signed for its address, and one that shows somebody else's.
    let whom = [format!("IP:{SERVER}"), "DNS:elsewhere.test".to_owned()];
    let mut safe = Vec::new();
    for ((port, whom), name) in [8443, 8444].into_iter().zip(whom).zip(["https", "https-false"]) {
        let folder = lab.world.runtime().join(name);
        std::fs::create_dir_all(&folder)?;
        let authority = certify(&lab.internet, &folder, &whom)?.authority;
        let script = folder.join("https.py");
        std::fs::write(&script, include_str!("../server/https.py"))?;
        let place = folder.display();
        let line = format!("python3 {} {SERVER} {port} {place}/server.pem {place}/server.key", script.display());
        let log = lab.world.folder().join(format!("{name}.log"));
        safe.push((authority, Daemon::start(lab.internet.command_line(&line), &log)?));
    }
    let authorities: String = safe.iter().map(|(authority, _)| authority.as_str()).collect();
    let lines = format!("[dns64]\nupstream_authority = '''\n{authorities}'''\n");
    let config = delegation::config(lab, &names(&format!("http://{web}"))).replace("[dns64]\n", &lines);
    lab.router.start(&config)?;
    delegation::await_delegation(lab, FIRST)?;

    await_record(lab, &bind, "router", "A", "203.0.113.2")?;
    await_record(lab, &bind, "router", "AAAA", "2001:db8:1:1:5054:ff:fe00:101")?;
    await_record(lab, &bind, "www", "AAAA", "2001:db8:1:2:21::5")?;
    wait::until_ok("the provider to be told", SOON, || {
        let told = provider.requests();
        let form = "GET /nic/update?hostname=www.provider.test&myip=2001:db8:1:2:21::5 HTTP/1.0\r\n";
        ensure!(told.iter().any(|it| it.starts_with(form) && it.contains("Basic bWU6c2VjcmV0\r\n")), "{told:#?}");
        let template = "GET /set/other.provider.test/2001:db8:1:2:31::5 HTTP/1.0\r\n";
        ensure!(told.iter().any(|it| it.starts_with(template)), "{told:#?}");
        Ok(())
    })?;
    wait::until_ok("the provider with a certificate to be told", SOON, || {
        let told = safe[0].1.log();
        let form = "/nic/update?hostname=safe.provider.test&myip=2001:db8:1:2:21::5 Basic bWU6c2VjcmV0";
        ensure!(told.contains(form), "{told}");
        Ok(())
    })?;
    // Whoever has no certificate for that address is told nothing.
    lab.await_status("the false provider to be found out", |status| {
        let ddns = status["ddns"].as_array().cloned().unwrap_or_default();
        ddns.iter().any(|name| {
            name["name"] == "false.provider.test."
                && name["result"] == "failed"
                && name["text"].as_str().is_some_and(|text| text.contains("certificate"))
        })
    })?;
    ensure!(!safe[1].1.log().contains("hostname"), "{}", safe[1].1.log());
    // Without a key BIND refuses, and that is said with its words.
    let finding = lab.await_finding("ddns-refused")?;
    ensure!(finding["subject"] == format!("unsigned.{ZONE}."), "{finding}");
    ensure!(finding["text"].as_str().is_some_and(|text| text.contains("REFUSED")), "{finding}");
    lab.await_status("the results", |status| {
        let named = |name: &str| status["ddns"].as_array().into_iter().flatten().find(|it| it["name"] == name).cloned();
        named(&format!("www.{ZONE}.")).is_some_and(|www| www["result"] == "done" && www["text"] == "NOERROR")
            && named("www.provider.test.").is_some_and(|www| www["result"] == "done" && www["text"] == "good")
    })?;

    // A restart tells nobody anything.
    let told = provider.requests().len();
    lab.router.in_namespace()?.end(Signal::USR1)?;
    lab.router.in_namespace()?.start_again()?;
    delegation::await_delegation(lab, FIRST)?;
    lab.await_status("the names after a restart", |status| {
        status["ddns"].as_array().is_some_and(|names| names.len() == 8 && names[2]["published"] == "2001:db8:1:2:21::5")
    })?;
    ensure!(provider.requests().len() == told, "{:#?}", provider.requests());

    // Another prefix is told, once; and refused by the provider, which is not asked again.
    provider.answer_with("badauth");
    drop(first.server);
    let _second = delegation::renumbered(lab)?;
    delegation::await_delegation(lab, SECOND)?;
    await_record(lab, &bind, "www", "AAAA", "2001:db8:9:2:21::5")?;
    await_record(lab, &bind, "router", "A", "203.0.113.2")?;
    lab.await_status("the provider's refusal", |status| {
        let refused = |finding: &&serde_json::Value| {
            finding["code"] == "ddns-refused" && finding["subject"] == "www.provider.test."
        };
        status["findings"].as_array().is_some_and(|findings| findings.iter().find(refused).is_some())
    })?;
    let asked = provider.requests();
    let new = asked.iter().filter(|it| it.contains("myip=2001:db8:9:2:21::5")).count();
    ensure!(new == 1, "{asked:#?}");
    ensure!(lab.internet.run(&format!("ping -n -c 1 -W 2 {SITE_V6}"))?.success, "the Internet is there");
    Ok(())
}

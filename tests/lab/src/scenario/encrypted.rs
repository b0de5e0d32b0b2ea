//! Upstreams over TLS and HTTPS: a real BIND that answers by no other way.
use std::net::Ipv6Addr;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::client::dig;
use crate::lab::{Lab, SOON};
use crate::network::{SITE_V4, synthesized};
use crate::server::bind::{Bind, Papers, SERVER_NAME, ZONE};
use crate::wait;

/// Where BIND listens.
const SERVER: &str = "2001:db8:ffff::853";

/// Has the resolver ask this upstream, and believe that authority.
fn ask(lab: &mut Lab, upstream: &str, authority: &str) -> Result<()> {
    let lines = format!(
        "[dns64]\nupstream_authority = '''\n{authority}'''\nforward = [{{ domain = \"{ZONE}\", upstream = \"{upstream}\" }}]\n"
    );
    let config = lab.config("").replace("[dns64]\n", &lines);
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)
}

/// Waits for the synthesized address of a name that nobody has asked for.
fn is_answered(lab: &Lab, resolver: Ipv6Addr, host: &str) -> Result<()> {
    wait::until_ok(host, SOON, || {
        let answer = dig(&lab.client.namespace, &format!("@{resolver} AAAA {host}.{ZONE}"))?;
        ensure!(answer == [synthesized(SITE_V4).to_string()], "{host} is answered with {answer:?}");
        Ok(())
    })
}

pub(super) fn asks_by_name(lab: &mut Lab) -> Result<()> {
    lab.internet.ip(&format!("address add {SERVER}/128 dev lo nodad"))?;
    let (bind, Papers { authority, .. }) = Bind::start_encrypted(&lab.world, &lab.internet, SERVER, SITE_V4)?;
    let resolver = lab.learn_resolver(&lab.client)?;

    ask(lab, &format!("tls://[{SERVER}]#{SERVER_NAME}"), &authority)?;
    is_answered(lab, resolver, "v4")?;
    // Many at a time, on one connection.
    let names: Vec<String> = (0..40).map(|number| format!("host{number}.{ZONE} AAAA")).collect();
    let line = format!("dig +short +time=5 +tries=2 @{resolver} {}", names.join(" "));
    let text = lab.client.namespace.run(&line)?.text()?;
    ensure!(text.lines().filter(|line| *line == synthesized(SITE_V4).to_string()).count() == 40, "{text}");
    let router = lab.router.in_namespace()?;
    let connections = router.namespace().run(&format!("ss -Htn state established dst [{SERVER}]:853"))?.text()?;
    ensure!(connections.lines().count() == 1, "{connections}");

    // The server restarts: the connection is made anew.
    drop(bind);
    let (_bind, papers) = Bind::start_encrypted(&lab.world, &lab.internet, SERVER, SITE_V4)?;
    let authority = papers.authority.clone();
    ask(lab, &format!("tls://[{SERVER}]#{SERVER_NAME}"), &authority)?;
    is_answered(lab, resolver, "host50")?;

    ask(lab, &format!("https://[{SERVER}]/dns-query#{SERVER_NAME}"), &authority)?;
    is_answered(lab, resolver, "host51")?;

    // Another name than the certificate's: nothing is asked, and it is said why.
    ask(lab, &format!("tls://[{SERVER}]#other.test"), &authority)?;
    // Each time another name: until the file is in force, answers are the server's, and are remembered.
    let mut hosts = (61..99).cycle();
    wait::until_ok("nothing to be told by somebody else", SOON, || {
        let host = hosts.next().unwrap_or_default();
        let line = format!("dig +time=5 +tries=2 @{resolver} AAAA host{host}.{ZONE}");
        let text = lab.client.namespace.run(&line)?.text()?;
        ensure!(text.contains("SERVFAIL"), "{text}");
        Ok(())
    })?;
    let finding = lab.await_finding("dns-upstream-tls")?;
    ensure!(finding["text"].as_str().is_some_and(|text| text.contains("other.test")), "{finding}");

    ask(lab, &format!("https://[{SERVER}]#{SERVER_NAME}"), &authority)?;
    is_answered(lab, resolver, "host99")?;
    lab.await_status("no finding any more", |status| {
        let findings = status["findings"].as_array();
        findings.is_none_or(|all| all.iter().all(|finding| finding["code"] != "dns-upstream-tls"))
    })?;
    is_asked(lab, resolver, &papers)
}

/// The resolver itself, over TLS: by the name of its certificate, and by no other.
fn is_asked(lab: &mut Lab, resolver: Ipv6Addr, papers: &Papers) -> Result<()> {
    let Papers { certificate, key, file, .. } = papers;
    let lines = format!("[dns64]\ncertificate = '''\n{certificate}'''\nkey = '''\n{key}'''\n");
    let config = lab.config("").replace("[dns64]\n", &lines);
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)?;
    let kdig = |name: &str| {
        let tls = format!("+tls-ca={} +tls-hostname={name}", file.display());
        lab.client.namespace.run(&format!("kdig +short +time=3 {tls} @{resolver} AAAA v4.lab.test"))
    };
    wait::until_ok("an answer over TLS", SOON, || {
        let said = kdig(SERVER_NAME)?;
        ensure!(said.success && said.stdout.trim() == synthesized(SITE_V4).to_string(), "{said}");
        Ok(())
    })?;
    let other = kdig("other.test")?;
    ensure!(!other.stdout.contains(&synthesized(SITE_V4).to_string()), "{other}");
    lab.await_status("the handshake that failed to be counted", |status| {
        status["dns64"]["dropped"]["dns-handshake"].as_u64() > Some(0)
    })?;
    Ok(())
}

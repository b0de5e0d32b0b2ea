//! The resolver, as `dig` sees it.
use std::net::{Ipv6Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::client::dig;
use crate::lab::{Lab, SOON};
use crate::network::{PRIVATE, SITE_V4, SITE_V6, UPSTREAM, synthesized};
use crate::wait;

pub(super) fn remembers(lab: &mut Lab) -> Result<()> {
    let resolver = lab.learn_resolver(&lab.client)?;
    let site = [synthesized(SITE_V4).to_string()];
    let question = format!("@{resolver} AAAA v4.lab.test");
    let client = &lab.client.namespace;
    ensure!(dig(client, &question)? == site);
    let asked = lab.dns.settled_questions()?;
    for spelling in ["AAAA v4.lab.test", "AAAA V4.LAB.test", "AAAA v4.lab.test +tcp", "AAAA v4.lab.test +noedns"] {
        ensure!(dig(client, &format!("@{resolver} {spelling}"))? == site, "{spelling}");
    }
    ensure!(lab.dns.questions() == asked, "the upstream was asked again");
    let text = client.run(&format!("dig +time=3 +tries=3 {question}"))?.text()?;
    ensure!(text.contains("EDE: 29"), "no extended error says that it is synthesized: {text}");
    let text = client.run(&format!("dig +time=3 +tries=3 @{resolver} AAAA V4.lab.TEST"))?.text()?;
    ensure!(text.contains("V4.lab.TEST."), "the spelling is not the client's: {text}");
    lab.await_status("answers from the cache", |status| {
        let count = |name: &str| status["dns64"][name].as_u64();
        count("cached") >= Some(5) && count("synthesized") >= count("cached") && count("cache_answers") > Some(0)
    })?;

    let router = lab.router.in_namespace()?;
    let (binary, control) = (router.binary().display(), router.control().display());
    let flush = format!("{binary} flush-dns --control {control} lab.test");
    ensure!(router.namespace().run(&flush)?.success, "{flush}");
    ensure!(dig(&lab.client.namespace, &question)? == site);
    ensure!(lab.dns.questions() > asked, "the name was not forgotten");
    let refused = router.namespace().run(&format!("{binary} flush-dns --control {control} a..b"))?;
    ensure!(!refused.success, "{refused}");
    Ok(())
}

pub(super) fn knows_its_own(lab: &mut Lab) -> Result<()> {
    let hosts = "[dns64]\nhost = [{ name = \"web.vm1.lan\", address = \"vm1/containers::5\" }]\n";
    let config = lab.config("").replace("[dns64]\n", hosts);
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)?;
    let resolver = lab.learn_resolver(&lab.client)?;
    let client = &lab.client.namespace;
    let (vm, web) = ("2001:db8:1:2:5054:ff:fe00:211", "2001:db8:1:2:21::5");
    shows(lab, resolver, "AAAA web.vm1.lan +short", &[web], &[])?;
    let asked = lab.dns.settled_questions()?;
    for (question, expected) in [
        ("AAAA vm1.lan", vec![vm]),
        ("AAAA VM1.LAN +tcp", vec![vm]),
        ("-x 2001:db8:1:2:5054:ff:fe00:211", vec!["vm1.lan."]),
        ("-x 2001:db8:1:2:21::5", vec!["web.vm1.lan."]),
        ("A vm1.lan", vec![]),
        ("AAAA localhost", vec!["::1"]),
    ] {
        let answer = dig(client, &format!("@{resolver} {question}"))?;
        ensure!(answer == expected, "{question} is answered with {answer:?}, expected {expected:?}");
    }
    for question in ["AAAA nobody.lan", "-x 10.1.2.3", "-x fd00::1", "A printer.local", "A www.onion"] {
        shows(lab, resolver, question, &["NXDOMAIN"], &[])?;
    }
    ensure!(lab.dns.questions() == asked, "the upstream was asked for names of this network");

    // What a program is told by glibc's stub resolver.
    let client = &lab.client.namespace;
    for (name, address) in [("v4.lab.test", synthesized(SITE_V4).to_string()), ("vm1.lan", vm.to_owned())] {
        let text = client.run(&format!("getent ahostsv6 {name}"))?.text()?;
        ensure!(text.contains(&address), "{name}: {text}");
    }

    // Its time is over after a second, and nobody can be asked any more: RFC 8767.
    shows(lab, resolver, "AAAA brief.lab.test", &[&synthesized(SITE_V4).to_string()], &[])?;
    lab.internet.ip(&format!("address delete {UPSTREAM}/32 dev lo"))?;
    shows(lab, resolver, "AAAA brief.lab.test", &["EDE: 3 ", "NOERROR", &synthesized(SITE_V4).to_string()], &[])?;
    shows(lab, resolver, "AAAA never-seen.lab.test", &["SERVFAIL", "EDE: 22 "], &[])?;
    lab.await_status("stale answers to be counted", |status| status["dns64"]["stale"].as_u64() > Some(0))?;
    Ok(())
}

/// What `dig` shows has these words, and none of those, before long.
pub(super) fn shows(lab: &Lab, resolver: Ipv6Addr, question: &str, words: &[&str], never: &[&str]) -> Result<()> {
    wait::until_ok(question, SOON, || {
        let text = lab.client.namespace.run(&format!("dig +time=5 +tries=3 @{resolver} {question}"))?.text()?;
        ensure!(words.iter().all(|word| text.contains(word)), "{question} lacks one of {words:?}: {text}");
        ensure!(!never.iter().any(|word| text.contains(word)), "{question} has one of {never:?}: {text}");
        Ok(())
    })
}

/// Validation with these lines of configuration.
fn validate_with(lab: &mut Lab, lines: &str) -> Result<()> {
    let config = lab.config("").replace("dnssec = false\n", lines);
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)
}

pub(super) fn validates(lab: &mut Lab) -> Result<()> {
    let resolver = lab.learn_resolver(&lab.client)?;
    let synthesized = synthesized(SITE_V4).to_string();
    let (signature, proven) = ("RRSIG", " ad;");

    // The lab's root zone is not the one whose keys are built in.
    validate_with(lab, "")?;
    shows(lab, resolver, "A v4.lab.test", &["SERVFAIL", "EDE: "], &[])?;
    lab.await_status("the finding about the root's keys", |status| {
        let findings = status["findings"].as_array();
        findings.is_some_and(|all| all.iter().any(|finding| finding["code"] == "dnssec-trust-anchor"))
    })?;

    let anchor = format!("trust_anchor = \"{}\"\n", lab.dns.trust_anchor());
    validate_with(lab, &anchor)?;
    shows(lab, resolver, "A v4.lab.test", &["NOERROR", proven, &SITE_V4.to_string()], &[signature])?;
    shows(lab, resolver, "A v4.lab.test +dnssec", &[proven, signature], &[])?;
    shows(lab, resolver, "AAAA v4.lab.test", &["NOERROR", proven, &synthesized], &[signature, "NSEC"])?;
    shows(lab, resolver, "AAAA both.lab.test", &[proven, &SITE_V6.to_string()], &[&synthesized])?;
    shows(lab, resolver, "AAAA www.plain.test", &["NOERROR", &synthesized], &[proven])?;
    shows(lab, resolver, "A bogus.lab.test", &["SERVFAIL", "EDE: 6 "], &["192."])?;
    shows(lab, resolver, "AAAA bogus.lab.test", &["SERVFAIL", "EDE: 6 "], &[&synthesized])?;
    shows(lab, resolver, "A expired.lab.test", &["SERVFAIL", "EDE: 7 "], &[])?;
    // RFC 6147 section 5.5: who validates by himself is told what there is, and nothing is made of it.
    shows(lab, resolver, "A bogus.lab.test +cd", &["NOERROR", &SITE_V4.to_string()], &[proven])?;
    shows(lab, resolver, "AAAA v4.lab.test +cd +dnssec", &["NOERROR", "NSEC"], &[&synthesized])?;
    lab.await_status("what was validated, and no finding any more", |status| {
        let clean =
            status["findings"].as_array().is_none_or(|all| all.iter().all(|one| one["code"] != "dnssec-trust-anchor"));
        clean && status["dns64"]["validated"].as_u64() > Some(0) && status["dns64"]["bogus"].as_u64() > Some(0)
    })?;

    // A client that validates by itself, down from the same key.
    let keys = lab.world.folder().join("delv.keys");
    let key: Vec<&str> = lab.dns.trust_anchor().split_whitespace().collect();
    let [_, _, _, flags, protocol, algorithm, key] = key[..] else { anyhow::bail!("{key:?}") };
    let text = format!("trust-anchors {{ . static-key {flags} {protocol} {algorithm} \"{key}\"; }};\n");
    std::fs::write(&keys, text)?;
    let client = &lab.client.namespace;
    let text =
        client.run(&format!("timeout 20 delv @{resolver} -a {} +root A v4.lab.test", keys.display()))?.to_string();
    ensure!(text.contains("fully validated"), "{text}");
    Ok(())
}

pub(super) fn keeps_out(lab: &mut Lab) -> Result<()> {
    let resolver = lab.learn_resolver(&lab.client)?;
    let client = &lab.client.namespace;
    let private = format!("dig +time=3 +tries=3 @{resolver} A private.lab.test");
    let text = client.run(&private)?.text()?;
    ensure!(text.contains("EDE: 15") && !text.contains(&PRIVATE.to_string()), "{text}");
    lab.await_status("the private address to be counted", |status| {
        status["dns64"]["dropped"]["dns-rebinding"].as_u64() > Some(0)
    })?;

    let rules = "[dns64]\nrate = 20\nprivate_domains = \"lab.test\"\n";
    let config = lab.config("").replace("[dns64]\n", rules);
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)?;
    let client = &lab.client.namespace;
    wait::until("the private address where it is allowed", SOON, || {
        (dig(client, &format!("@{resolver} A private.lab.test +tcp")).ok()? == [PRIVATE.to_string()]).then_some(())
    })?;

    // A flood of one question, whose answer is known: the first ones are answered, then clients are told to come by TCP.
    let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02v4\x03lab\x04test\0\0\x1c\0\x01".to_vec();
    let socket = client.inside(|| UdpSocket::bind("[::]:0"))?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let (mut whole, mut truncated, mut buffer) = (0, 0, [0; 1500]);
    for id in 0..200_u8 {
        query[1] = id;
        socket.send_to(&query, (resolver, 53))?;
    }
    wait::until("answers, and others that say to come by TCP", SOON, || {
        while let Ok(length) = socket.recv(&mut buffer) {
            let is_truncated = buffer[2] & 2 != 0;
            *if is_truncated { &mut truncated } else { &mut whole } += 1;
            assert!(!is_truncated || length == query.len(), "amplified");
        }
        (whole > 0 && truncated > 0).then_some(())
    })?;
    ensure!(whole + truncated < 200, "{whole} answers and {truncated} truncated ones: nothing was dropped");
    lab.await_status("the flood to be counted", |status| status["dns64"]["dropped"]["dns-rate"].as_u64() > Some(0))?;
    ensure!(
        dig(&lab.client.namespace, &format!("@{resolver} AAAA v4.lab.test +tcp"))?
            == [synthesized(SITE_V4).to_string()]
    );
    Ok(())
}

pub(super) fn leaves_untranslated(lab: &mut Lab) -> Result<()> {
    let resolver = lab.learn_resolver(&lab.client)?;
    let question = format!("@{resolver} AAAA v4.lab.test");
    ensure!(dig(&lab.client.namespace, &question)? == [synthesized(SITE_V4).to_string()]);

    let with_ipv4 = lab.config("").replace("[dns64]\n", "[dns64]\nuntranslated = \"vms\"\n");
    let router = lab.router.in_namespace()?;
    router.write_config(&with_ipv4)?;
    router.signal(Signal::HUP)?;
    wait::until("the synthesized answer to go", SOON, || {
        dig(&lab.client.namespace, &question).ok()?.is_empty().then_some(())
    })?;
    let both = format!("@{resolver} AAAA both.lab.test");
    ensure!(dig(&lab.client.namespace, &both)? == [SITE_V6.to_string()]);
    Ok(())
}

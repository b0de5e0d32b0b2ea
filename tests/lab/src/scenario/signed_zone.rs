//! Proofs by a real signer: NSEC3 records, wildcards and DNAME; and programs that follow what comes of them.
use std::fs;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::resolver::shows;
use crate::lab::{Lab, SOON};
use crate::network::{SITE_V4, UPSTREAM, synthesized};
use crate::server::signer::{Begin, Signer};
use crate::wait;

/// Where BIND listens.
const SERVER: &str = "2001:db8:ffff::4035";

/// Prints the IPv6 addresses of a name, as the C library that it is linked with finds them.
const LOOK_UP: &str = r#"
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
int main(int count, char **words) {
    struct addrinfo hints = { .ai_family = AF_INET6, .ai_socktype = SOCK_STREAM }, *found = 0;
    int error = count < 2 ? EAI_NONAME : getaddrinfo(words[1], 0, &hints, &found);
    if (error) return puts(gai_strerror(error)), 1;
    for (; found; found = found->ai_next) {
        char text[INET6_ADDRSTRLEN];
        puts(inet_ntop(AF_INET6, &((struct sockaddr_in6 *)found->ai_addr)->sin6_addr, text, sizeof text));
    }
    return 0;
}
"#;

pub(super) fn proves(lab: &mut Lab) -> Result<()> {
    lab.internet.ip(&format!("address add {SERVER}/128 dev lo nodad"))?;
    let signer = Signer::start(&lab.world, &lab.internet, SERVER, SITE_V4, Begin::Now)?;
    wait::until_ok("BIND to serve its zone", SOON, || {
        let question = format!("dig +time=1 +tries=1 +dnssec @{SERVER} AAAA v4.test");
        let absent = lab.internet.run(&question)?.text()?;
        ensure!(absent.contains("NSEC3"), "{absent}\n{}", signer.log());
        Ok(())
    })?;
    trust(lab, &signer)?;
    let resolver = lab.learn_resolver(&lab.client)?;

    let (site, made, proven) = (SITE_V4.to_string(), synthesized(SITE_V4).to_string(), " ad;");
    for (question, words, never) in [
        ("A v4.test", vec!["NOERROR", proven, &site], vec![]),
        // There are no AAAA records, by NSEC3 (RFC 5155 section 8.5).
        ("AAAA v4.test", vec!["NOERROR", proven, &made], vec![]),
        ("AAAA alias.test", vec!["NOERROR", proven, &made], vec![]),
        ("AAAA both.test", vec![proven, "2001:db8:ffff::80"], vec![made.as_str()]),
        ("A nobody.test", vec!["NXDOMAIN", proven], vec![]),
        ("AAAA nobody.test", vec!["NXDOMAIN", proven], vec![]),
        // RFC 4035 section 5.3.4 and RFC 5155 section 8.8; without AAAA records at the wildcard, section 8.7.
        ("A any.wild.test", vec!["NOERROR", proven, &site], vec![]),
        ("AAAA any.wild.test", vec!["NOERROR", proven, &made], vec![]),
        // RFC 6672 section 5.3.
        ("A www.old.test", vec!["NOERROR", proven, "DNAME", "www.new.test.", &site], vec![]),
        ("AAAA www.old.test", vec!["NOERROR", proven, "www.new.test.", &made], vec![]),
        // RFC 5155 section 8.9: a delegation that is proven not to be signed.
        ("AAAA www.plain.test", vec!["NOERROR", &made], vec![proven]),
        ("HTTPS svc.test", vec!["NOERROR", "ipv6hint="], vec![]),
    ] {
        shows(lab, resolver, question, &words, &never).with_context(|| signer.log())?;
    }

    // A client that goes where the HTTPS record leads, and knows nothing else of the name.
    let client = &lab.client.namespace;
    let records = client.run(&format!("dig +short +time=5 +tries=3 @{resolver} HTTPS svc.test"))?.text()?;
    let hint = records.split("ipv6hint=").nth(1).and_then(|rest| rest.split_whitespace().next()).context("a hint")?;
    let fetched = client.run(&format!("curl -s -S -g -m 20 --connect-to svc.test:80:[{hint}]:80 http://svc.test/"))?;
    ensure!(fetched.success, "{hint}: {fetched}");

    // Programs with another C library: musl asks for what it wants without EDNS, from one socket.
    let folder = lab.world.folder().join("musl");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("look_up.c"), LOOK_UP)?;
    let place = folder.display();
    client.run(&format!("musl-gcc -static -o {place}/look_up {place}/look_up.c"))?.text()?;
    for name in ["v4.test", "www.old.test", "any.wild.test"] {
        let found = client.run(&format!("{place}/look_up {name}"))?.text()?;
        ensure!(found.trim() == made, "{name}: {found}");
    }
    let missing = client.run(&format!("{place}/look_up nobody.test"))?;
    ensure!(!missing.success, "{missing}");

    // By this machine's clock, nothing is signed yet.
    drop(signer);
    let signer = Signer::start(&lab.world, &lab.internet, SERVER, SITE_V4, Begin::Later)?;
    trust(lab, &signer)?;
    let mut asked = 0;
    wait::until_ok("the finding about the clock", SOON, || {
        // BIND may not be there yet, and what failed is remembered for a while.
        asked += 1;
        let line = format!("dig +time=5 +tries=1 @{resolver} A host{asked}.wild.test");
        let text = lab.client.namespace.run(&line)?.text()?;
        ensure!(text.contains("SERVFAIL") && !text.contains(&site), "{text}");
        let status = lab.router.status()?;
        let findings = status["findings"].as_array().cloned().unwrap_or_default();
        ensure!(findings.iter().any(|finding| finding["code"] == "dnssec-clock"), "{findings:?}");
        Ok(())
    })
}

/// Has the resolver ask this server, and believe it.
fn trust(lab: &mut Lab, signer: &Signer) -> Result<()> {
    let config = lab
        .config("")
        .replace(&UPSTREAM.to_string(), SERVER)
        .replace("dnssec = false\n", &format!("trust_anchor = \"{}\"\n", signer.trust_anchor()));
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)
}

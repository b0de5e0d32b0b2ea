//! A VM that may reach some prefixes and names, and nothing else, by IPv6 and by NAT64 alike.
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::client::ping;
use super::container::serve;
use crate::lab::{Lab, SOON, await_connection, connect, ensure_refused, fetch};
use crate::network::{PRIVATE, ROUTER_V4, SITE_V4, SITE_V6, UPSTREAM, synthesized};
use crate::wait;

const RESTRICTED: &str = r#"
[groups]
mirrors = ["v4.lab.test", "*.cdn.test"]

[[outbound]]
from = "vm1/containers"
to = "mirrors"
tcp = 80

[[outbound]]
from = "vm1/containers"
to = "198.51.100.53/32"
icmp = true

[[publish]]
listen = "wan:tcp/8500"
to = "[2001:db8:1:2:21::5]:8080"

[[allow]]
to = "vm1/containers::5"
tcp = 8080
"#;

pub(super) fn is_restricted(lab: &mut Lab) -> Result<()> {
    lab.start_with(RESTRICTED)?;
    lab.learn_resolver(&lab.vm1)?;
    lab.learn_resolver(&lab.vm2)?;
    let restricted = &lab.vm1.containers()?.namespace;
    let free = &lab.vm2.containers()?.namespace;
    let site = synthesized(SITE_V4);

    // Nobody has asked for the name yet: its address is closed, as everything else is.
    ensure_refused(restricted, site, 80)?;
    ensure_refused(restricted, SITE_V6, 80)?;
    // A published port answers, and is no way out, neither by NAT64 nor by IPv6.
    for (to, server) in [(site, &lab.site_v4), (SITE_V6, &lab.site_v6)] {
        let line = format!("curl --silent --max-time 3 --local-port 8080 --noproxy * http://[{to}]/");
        let refused = restricted.run(&line)?;
        ensure!(!refused.success && server.peers().is_empty(), "{refused}");
    }
    // With the answer the way is open, at the first attempt.
    for attempt in 0..5 {
        fetch(restricted, "http://v4.lab.test/").with_context(|| format!("attempt {attempt}"))?;
    }
    // The name alone, with its port alone; by prefix, pings alone.
    let other = restricted.run("curl --silent --fail --max-time 3 --noproxy * http://v6.lab.test/")?;
    ensure!(!other.success, "a name that nobody listed is reached");
    for (to, port) in [(site, 81), (SITE_V6, 80), (synthesized(UPSTREAM), 53), (synthesized(PRIVATE), 80)] {
        ensure_refused(restricted, to, port)?;
    }
    ping(restricted, synthesized(UPSTREAM))?;
    ensure!(ping(restricted, site).is_err(), "pings to the name pass");
    // Others are free, and what comes in is answered.
    fetch(free, "http://v6.lab.test/")?;
    fetch(free, "http://v4.lab.test/")?;
    let address = lab.vm1.containers()?.address;
    let _server = serve(&lab.vm1, 8080)?;
    await_connection(&lab.internet, address, 8080)?;
    fetch(&lab.internet, &format!("http://{ROUTER_V4}:8500/"))?;
    fetch(&lab.vm2.namespace, &format!("http://[{address}]:8080/"))?;

    // A busy connection goes on in the fast path, over a reload of all rules too, which keeps what was learnt.
    let mut held = await_connection(restricted, site, 80)?;
    let config = lab.config(&format!("{RESTRICTED}log = true\n"));
    let applied = lab.router.request(&json!({ "apply": { "text": config } }).to_string())?;
    ensure!(applied["reply"] == "accepted", "{applied}");
    let restricted = &lab.vm1.containers()?.namespace;
    std::io::Write::write_all(&mut held, b"GET / HTTP/1.0\r\n\r\n")?;
    held.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut told = String::new();
    std::io::Read::read_to_string(&mut held, &mut told).context("the connection that was held")?;
    connect(restricted, site, 80).context("the name's address after a reload")?;

    // The next daemon knows it as well: nobody asks again for what he has been told.
    let router = lab.router.in_namespace()?;
    router.end(rustix::process::Signal::KILL)?;
    router.start_again()?;
    lab.await_service()?;
    connect(&lab.vm1.containers()?.namespace, site, 80).context("the name's address after a restart")?;

    // Without the name nothing is left of it, not even in the fast path; the entry's counter and the denials say so.
    lab.await_status("connections to be counted by entry", |status| {
        let allowed = status["firewall"]["allowed"].as_object();
        allowed
            .into_iter()
            .flatten()
            .any(|(name, it)| name.starts_with("outbound ") && it["packets"].as_u64() > Some(0))
    })?;
    let mut held = await_connection(&lab.vm1.containers()?.namespace, site, 80)?;
    let config = lab.config(&RESTRICTED.replace("\"v4.lab.test\", ", ""));
    let applied = lab.router.request(&json!({ "apply": { "text": config } }).to_string())?;
    ensure!(applied["reply"] == "accepted", "{applied}");
    ensure_refused(&lab.vm1.containers()?.namespace, site, 80)?;
    // The router resets it: nobody waits for a time-out.
    std::io::Write::write_all(&mut held, b"GET / HTTP/1.0\r\n\r\n")?;
    held.set_read_timeout(Some(Duration::from_secs(10)))?;
    let told = std::io::Read::read(&mut held, &mut [0; 8]).err().context("a connection to a name that went goes on")?;
    ensure!(told.kind() == std::io::ErrorKind::ConnectionReset, "{told}");
    are_ended(lab)?;
    wait::until_ok("the denial", SOON, || {
        let denials = lab.router.request("denials")?["denials"].to_string();
        ensure!(denials.contains("outbound, no outbound entry"), "{denials}");
        Ok(())
    })
}

const BY_PREFIX: &str = r#"
[[outbound]]
from = "vm1/containers"
to = ["198.51.100.0/24", "2001:db8:ffff::/48"]
tcp = [80, 9000]
"#;

/// Sessions of the translator end with the entry that admitted them, also where they were in the fast path; those of
/// others go on.
fn are_ended(lab: &mut Lab) -> Result<()> {
    let site = synthesized(SITE_V4);
    apply(lab, BY_PREFIX)?;
    let mut removed = await_connection(&lab.vm1.containers()?.namespace, site, 80)?;
    let mut free = await_connection(&lab.vm2.containers()?.namespace, site, 80)?;
    let container = lab.vm1.containers()?.address.to_string();
    let sessions = |lab: &mut Lab, client: &str| -> Result<usize> {
        let told = lab.router.request(&json!({ "sessions": { "clients": format!("{client}/128") } }).to_string())?;
        let page = told["page"]["sessions"].as_array();
        Ok(page.with_context(|| format!("no sessions: {told}"))?.len())
    };
    wait::until_ok("the session", SOON, || {
        ensure!(sessions(lab, &container)? > 0, "there is none");
        Ok(())
    })?;
    apply(lab, &BY_PREFIX.replace("198.51.100.0/24", "198.51.100.53/32"))?;
    wait::until_ok("the session to end", SOON, || {
        let left = sessions(lab, &container)?;
        ensure!(left == 0, "{left} are left");
        Ok(())
    })?;
    std::io::Write::write_all(&mut removed, b"GET / HTTP/1.0\r\n\r\n")?;
    removed.set_read_timeout(Some(Duration::from_secs(10)))?;
    ensure!(std::io::Read::read(&mut removed, &mut [0; 8]).is_err(), "a connection by a prefix that went goes on");
    let others = lab.vm2.containers()?.address.to_string();
    ensure!(sessions(lab, &others)? > 0, "somebody else's session ended");
    std::io::Write::write_all(&mut free, b"GET / HTTP/1.0\r\n\r\n")?;
    free.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut told = String::new();
    std::io::Read::read_to_string(&mut free, &mut told).context("somebody else's connection")?;
    apply(lab, &RESTRICTED.replace("\"v4.lab.test\", ", ""))
}

fn apply(lab: &mut Lab, more: &str) -> Result<()> {
    let config = lab.config(more);
    let applied = lab.router.request(&json!({ "apply": { "text": config } }).to_string())?;
    ensure!(applied["reply"] == "accepted", "{applied}");
    Ok(())
}

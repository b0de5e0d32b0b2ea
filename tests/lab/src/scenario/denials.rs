//! What was refused is told with names and reason, and the proposed entry admits it.
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::container::serve;
use crate::lab::{Lab, SOON, await_connection, ensure_refused, try_to_connect};
use crate::network::{SITE_V4, SITE_V6};
use crate::wait;

const MORE: &str = r#"
[policy]
log = "udp://198.51.100.10:5514"

[[allow]]
to = "vm1/containers::5"
tcp = 8081
log = true
"#;

pub(super) fn are_told(lab: &mut Lab) -> Result<()> {
    let syslog = lab.internet.inside(|| UdpSocket::bind(SocketAddr::new(SITE_V4.into(), 5514)))?;
    lab.start_with(MORE)?;
    let address = lab.vm1.containers()?.address;
    let _servers = (serve(&lab.vm1, 8080)?, serve(&lab.vm1, 8081)?);

    let denial = wait::until_ok("the denial", SOON, || {
        ensure_refused(&lab.internet, address, 8080)?;
        let denials = lab.router.request("denials")?;
        let named = |it: &&Value| it["to"] == "vm1/containers::5" && it["service"] == "tcp/8080";
        denials["denials"].as_array().into_iter().flatten().find(named).cloned().context("nothing of it was told")
    })?;
    ensure!(denial["reason"] == "inbound, no allow entry" && denial["link"] == "eth0", "{denial}");
    ensure!(denial["source"] == SITE_V6.to_string(), "{denial}");
    let (router, control) = (lab.router.in_namespace()?, "--control");
    let line = format!("{} denials {control} {}", router.binary().display(), router.control().display());
    let shown = router.namespace().run(&line)?.text()?;
    ensure!(shown.contains("vm1/containers::5  tcp/8080  inbound, no allow entry"), "{shown}");

    // What is not admitted cannot be proposed, and what can is admitted once it is applied.
    let wrong = lab.router.request(&json!({ "propose": { "denial": 999_999 } }).to_string())?;
    ensure!(wrong["reply"] == "error", "{wrong}");
    let proposal = lab.router.request(&json!({ "propose": { "denial": denial["number"] } }).to_string())?;
    let entry = format!("[[allow]]\nto = \"vm1/containers::5\"\nfrom = \"{SITE_V6}\"\ntcp = 8080\n");
    ensure!(proposal["entry"] == entry, "{proposal}");
    let applied = lab.router.request(&json!({ "apply": { "text": proposal["text"] } }).to_string())?;
    ensure!(applied["reply"] == "accepted", "{applied}");
    await_connection(&lab.internet, address, 8080)?;
    ensure!(try_to_connect(&lab.internet, address, 8082).is_err(), "its neighbour is admitted too");

    // Both kinds of lines reach the server.
    await_connection(&lab.internet, address, 8081)?;
    syslog.set_read_timeout(Some(Duration::from_millis(200)))?;
    let (mut seen, mut buffer) = (String::new(), [0; 2048]);
    wait::until("the log of denials and of what was admitted", SOON, || {
        if let Ok(length) = syslog.recv(&mut buffer) {
            seen += &String::from_utf8_lossy(&buffer[..length]);
            seen.push('\n');
        }
        let denied = seen.contains("firewall - denied") && seen.contains("tcp/8080 from eth0: inbound");
        (denied && seen.contains("by allow line")).then_some(())
    })
    .with_context(|| seen.clone())
}

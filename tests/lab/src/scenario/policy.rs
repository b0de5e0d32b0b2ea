//! Names, groups and policy: who may reach whom, and what ends when that changes.
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::container::serve;
use crate::lab::{Lab, SOON, UDP_PORT, ask, await_connection, connect, ensure_refused, try_to_connect};
use crate::network::SITE_V6;
use crate::server::udp::Udp;
use crate::wait;

const DOOR: &str = "\n[[allow]]\nto = \"vm1/containers::5\"\ntcp = [8080, 8081]\n";
const HALF: &str = "\n[[allow]]\nto = \"vm1/containers::5\"\ntcp = [8081]\n";

/// What an entry had admitted ends with it, for both sides; what another entry admits goes on.
pub(super) fn ends(lab: &mut Lab) -> Result<()> {
    lab.start_with(DOOR)?;
    let container = lab.vm1.containers()?;
    let address = container.address;
    let _servers = (serve(&lab.vm1, 8080)?, serve(&lab.vm1, 8081)?);
    let mut removed = await_connection(&lab.internet, address, 8080)?;
    let mut kept = await_connection(&lab.internet, address, 8081)?;
    let mut outbound = connect(&lab.vm1.containers()?.namespace, SITE_V6, 80)?;

    reconfigure(lab, HALF)?;
    let status = lab.await_status("connections to end", |status| status["firewall"]["ended"].as_u64() >= Some(1))?;
    ensure!(status["firewall"]["ended"] == 1, "{}", status["firewall"]);
    // The router answers with a reset: nobody waits for a time-out.
    removed.set_read_timeout(Some(Duration::from_secs(5)))?;
    wait::until("the connection to break", SOON, || {
        let told = removed.write_all(b"GET / HTTP/1.0\r\n").and_then(|()| removed.read(&mut [0; 64]));
        matches!(&told, Err(error) if error.kind() != std::io::ErrorKind::WouldBlock).then_some(())
    })?;
    for (name, connection) in [("kept", &mut kept), ("outbound", &mut outbound)] {
        fetch(connection).with_context(|| format!("the {name} connection"))?;
    }
    ensure_refused(&lab.internet, address, 8080)?;

    // Both are explained.
    let why = |lab: &mut Lab, service: &str| {
        let router = lab.router.in_namespace()?;
        let (binary, control) = (router.binary().display(), router.control().display());
        let question = format!("{SITE_V6} vm1/containers::5 {service}");
        router.namespace().run(&format!("{binary} why {question} --control {control}"))
    };
    let (stopped, passes) = (why(lab, "tcp/8080")?, why(lab, "tcp/8081")?);
    let mend = "[[allow]] to = \"vm1/containers::5\" from = \"2001:db8:ffff::10\" tcp = [8080]";
    ensure!(!stopped.success && stopped.stdout.contains("STOP  refused: no allow entry"), "{stopped}");
    ensure!(stopped.stdout.contains(mend), "{stopped}");
    ensure!(passes.success && passes.stdout.contains("admitted: allow line"), "{passes}");
    ensure!(passes.stdout.contains("answers"), "{passes}");

    // Admitted again, a new connection works.
    reconfigure(lab, DOOR)?;
    await_connection(&lab.internet, address, 8080).map(drop)
}

fn fetch(connection: &mut TcpStream) -> Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    ensure!(answer.contains("200 OK"), "{answer}");
    Ok(())
}

const GROUPS: &str = r#"
[groups]
targets = ["vm1/containers::5", "others"]
others = "vm2/containers::5"
web = ["https", 8080]
https = 443
sources = ["2001:db8:ffff::/48", "vm2/containers"]

[[allow]]
to = "targets"
from = "sources"
tcp = "web"
"#;

/// One entry with groups of targets, sources and ports admits what their members say.
pub(super) fn groups(lab: &mut Lab) -> Result<()> {
    lab.start_with(GROUPS)?;
    let (one, two) = (lab.vm1.containers()?.address, lab.vm2.containers()?.address);
    let _servers = (serve(&lab.vm1, 8080)?, serve(&lab.vm2, 8080)?, serve(&lab.vm1, 8082)?);
    await_connection(&lab.internet, one, 8080)?;
    await_connection(&lab.internet, two, 8080)?;
    ensure_refused(&lab.internet, one, 8082)?;

    // A time limit that has passed admits nobody, one that has not everybody.
    reconfigure(lab, &format!("{GROUPS}until = \"2020-01-01\"\n"))?;
    wait::until("the entry to have ended", SOON, || try_to_connect(&lab.internet, one, 8080).err())?;
    reconfigure(lab, &format!("{GROUPS}until = \"2099-01-01\"\n"))?;
    await_connection(&lab.internet, one, 8080)?;
    // So few connections in a second, and no more.
    reconfigure(lab, &format!("{GROUPS}new_per_second = 1\n"))?;
    let dropped = |status: &Value| status["firewall"]["dropped"]["inbound, no allow entry"]["packets"].as_u64();
    let before = dropped(&lab.router.status()?);
    wait::until_ok("the rate to be reached", SOON, || {
        // A client whose first attempt was dropped comes in with the next one, a second later.
        for _ in 0..10 {
            await_connection(&lab.internet, one, 8080)?;
        }
        ensure!(dropped(&lab.router.status()?) > before, "nothing was dropped");
        Ok(())
    })
}

const BY_ALLOW: &str = r#"
[policy]
between = "by-allow"
refuse = "reject"

[[allow]]
to = "vm1/containers"
from = "vm2/containers"
tcp = 8080
"#;

/// Between VMs the policy decides, and what is refused is said so where that is wanted.
pub(super) fn between(lab: &mut Lab) -> Result<()> {
    lab.start()?;
    let (vm1, vm2) = (lab.vm1.containers()?, lab.vm2.containers()?);
    let (one, two) = (vm1.address, vm2.address);
    let _servers = (serve(&lab.vm1, 8080)?, serve(&lab.vm1, 8081)?, serve(&lab.vm2, 8080)?);
    let _udp = Udp::start(&vm1.namespace, (one, UDP_PORT).into())?;
    await_connection(&lab.vm2.containers()?.namespace, one, 8081)?;
    await_connection(&lab.vm1.containers()?.namespace, two, 8080)?;
    ensure!(ask(&lab.vm2.containers()?.namespace, one, b"hello")? == b"hello", "an echo");

    reconfigure(lab, BY_ALLOW)?;
    let refused = |lab: &Lab| try_to_connect(&lab.vm2.containers().ok()?.namespace, one, 8081).err();
    let error = wait::until("what no entry names to be refused", SOON, || refused(lab))?;
    // An ICMP error, administratively prohibited, is EACCES to the kernel that asked.
    let kind = error.raw_os_error();
    ensure!(kind.is_some() && kind != Some(110), "refused silently: {error}");
    await_connection(&lab.vm2.containers()?.namespace, one, 8080)?;
    ensure!(try_to_connect(&lab.vm1.containers()?.namespace, two, 8080).is_err(), "the other direction is admitted");
    await_connection(&lab.vm1.containers()?.namespace, SITE_V6, 80)?;

    reconfigure(lab, &BY_ALLOW.replace("by-allow", "denied"))?;
    wait::until("everything between VMs to be refused", SOON, || {
        try_to_connect(&lab.vm2.containers().ok()?.namespace, one, 8080).err()
    })?;
    await_connection(&lab.vm1.containers()?.namespace, SITE_V6, 80).map(drop)
}

fn reconfigure(lab: &mut Lab, more: &str) -> Result<()> {
    let config = lab.config(more);
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)
}

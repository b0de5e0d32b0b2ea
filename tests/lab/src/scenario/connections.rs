//! How many connections one host may have, and what becomes of others when there is no room left.
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, TryRecvError};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::container::serve;
use crate::lab::{Lab, SOON, await_connection, connect, finding, try_to_connect};
use crate::namespace::Namespace;
use crate::network::SITE_V6;
use crate::wait;

const LIMITS: &str = r#"
[connections]
per_host = 20
per_source = 8
new_per_source = 1000
udp = 400

[[allow]]
to = "vm1/containers::5"
tcp = 8080

[[allow]]
to = "vm1/containers::5"
tcp = 8081
connections = 3
"#;

/// Opens connections until one fails.
fn open_all(from: &Namespace, to: impl Into<IpAddr>, port: u16, most: usize) -> Vec<TcpStream> {
    let to = to.into();
    (0..most).map_while(|_| try_to_connect(from, to, port).ok()).collect()
}

/// A VM, and a source outside, have as many as they may have, and others are not concerned.
pub(super) fn are_limited(lab: &mut Lab) -> Result<()> {
    lab.start_with(LIMITS)?;
    let container = lab.vm1.containers()?.address;
    let _servers = (serve(&lab.vm1, 8080)?, serve(&lab.vm1, 8081)?);
    let value =
        lab.router.in_namespace()?.namespace().run("sysctl -n net.netfilter.nf_conntrack_udp_timeout_stream")?;
    ensure!(value.text()?.trim() == "400", "the timeout of UDP flows");

    let from_outside = open_all(&lab.internet, container, 8080, 30);
    ensure!(from_outside.len() == 8, "{} connections from one source", from_outside.len());

    let by_entry = open_all(&lab.internet, container, 8081, 30);
    ensure!(by_entry.is_empty(), "the source has {} more", by_entry.len());
    drop(from_outside);
    wait::until("room for the source", SOON, || try_to_connect(&lab.internet, container, 8080).ok())?;
    let by_entry = wait::until("connections by the entry", SOON, || {
        Some(open_all(&lab.internet, container, 8081, 7)).filter(|held| !held.is_empty())
    })?;
    ensure!(by_entry.len() <= 3, "{} connections by one entry", by_entry.len());

    // A VM is one host, and so are its containers: the limit is theirs together.
    let vm = &lab.vm1;
    let mut held = open_all(&vm.namespace, SITE_V6, 80, 12);
    let of_containers = open_all(&vm.containers()?.namespace, SITE_V6, 80, 40);
    ensure!(held.len() == 12 && of_containers.len() == 8, "{} and {}", held.len(), of_containers.len());
    await_connection(&lab.vm2.namespace, SITE_V6, 80)?;
    // What is established goes on.
    fetch(held.first_mut().context("the first connection")?)?;

    let reasons = ["too many connections of one host", "too many connections from one source"];
    lab.await_status("what was dropped to be counted", |status| {
        reasons.iter().all(|reason| status["firewall"]["dropped"][reason]["packets"].as_u64() > Some(0))
    })?;
    wait::until_ok("the denial", SOON, || {
        let denials = lab.router.request("denials")?["denials"].to_string();
        ensure!(denials.contains("too many connections of one host"), "{denials}");
        Ok(())
    })?;
    let router = lab.router.in_namespace()?;
    let (binary, control) = (router.binary().display(), router.control().display());
    let why = format!("{binary} why vm1/containers::5 {SITE_V6} tcp/80 --control {control}");
    let said = router.namespace().run(&why)?;
    let told = ["a host has 20 connections at most", "connections are tracked"];
    ensure!(told.iter().all(|words| said.stdout.contains(words)), "{said}");

    // Room comes back with the connections that end.
    drop((held, of_containers));
    await_connection(&lab.vm1.namespace, SITE_V6, 80).map(drop)
}

fn fetch(connection: &mut TcpStream) -> Result<()> {
    connection.set_read_timeout(Some(SOON))?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    ensure!(answer.contains("200 OK"), "{answer}");
    Ok(())
}

/// Where it takes the connections.
const SINK: u16 = 7000;
/// How many the table has room for.
const ENTRIES: usize = 256;

/// New connections find no room, which is told; established ones go on, and a larger table makes room.
pub(super) fn are_full(lab: &mut Lab) -> Result<()> {
    let larger = lab.config("");
    apply(lab, &lab.config(&format!("[connections]\nentries = {ENTRIES}\nper_source = 60000\n")))?;
    lab.await_status("the table to be small", |status| most(status) == Some(ENTRIES as u64))?;
    let mut first = await_connection(&lab.client.namespace, SITE_V6, 80)?;
    let (stop, stopped) = mpsc::channel::<()>();
    let sink = lab.internet.inside(|| TcpListener::bind(SocketAddr::new(IpAddr::V6(SITE_V6), SINK)))?;
    let keeper = std::thread::spawn(move || {
        let held: Vec<_> = sink.incoming().take_while(|_| stopped.try_recv() == Err(TryRecvError::Empty)).collect();
        drop(held);
    });
    let held = open_all(&lab.client.namespace, SITE_V6, SINK, ENTRIES + 20);
    let outcome = (|| {
        ensure!(held.len() < ENTRIES, "{} connections found room", held.len());
        let finding = lab.await_finding("connections-full")?;
        ensure!(finding["severity"] == "error", "{finding}");
        let status = lab.router.status()?;
        ensure!(status["firewall"]["connections"]["refused"].as_u64() > Some(0), "{}", status["firewall"]);
        fetch(&mut first)
    })();
    apply(lab, &larger)?;
    let again =
        wait::until_ok("room for another one", SOON, || Ok(try_to_connect(&lab.client.namespace, SITE_V6, SINK)?));
    drop((held, stop));
    // The keeper looks after the next one.
    connect(&lab.internet, SITE_V6, SINK)?;
    let _ = keeper.join();
    outcome.and(again.map(drop))?;
    let is_over = |status: &Value| finding(status, "connections-full").is_none();
    lab.await_status("the finding to go", is_over).map(drop)
}

fn most(status: &Value) -> Option<u64> {
    status["firewall"]["connections"]["most"].as_u64()
}

fn apply(lab: &mut Lab, text: &str) -> Result<()> {
    let reply = lab.router.request(&json!({ "apply": { "text": text } }).to_string())?;
    ensure!(reply["error"].is_null(), "{reply}");
    Ok(())
}

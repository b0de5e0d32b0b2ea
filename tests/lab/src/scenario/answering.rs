//! Questions that are answered in the kernel, below the resolver's sockets.
use std::net::{Ipv6Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::client::dig;
use crate::lab::{Lab, SOON};
use crate::namespace::Namespace;
use crate::network::{SITE_V4, synthesized};
use crate::wait;

const FORGED: u64 = 5;
/// AAAA of v4.lab.test, in a spelling of its own.
const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02V4\x03lAb\x04tEST\0\0\x1c\0\x01";

/// A client that asks by itself.
struct Asker {
    socket: UdpSocket,
    id: u8,
}

impl Asker {
    fn new(host: &Namespace, resolver: Ipv6Addr) -> Result<Self> {
        let socket = host.inside(|| UdpSocket::bind("[::]:0"))?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        socket.connect((resolver, 53))?;
        Ok(Self { socket, id: 0 })
    }

    /// The answer to the question.
    fn ask(&mut self) -> Result<Vec<u8>> {
        let mut query = QUESTION.to_vec();
        self.id = self.id.wrapping_add(1);
        query[1] = self.id;
        self.socket.send(&query)?;
        let mut answer = [0; 1500];
        loop {
            let length = self.socket.recv(&mut answer).context("no answer")?;
            // One to what was asked before may come late.
            if answer[1] == self.id {
                let answer = answer[..length].to_vec();
                ensure!(answer[..2] == query[..2] && answer[12..query.len()] == query[12..], "{answer:x?}");
                return Ok(answer);
            }
        }
    }

    /// What the kernel answers, once it does.
    fn ask_the_kernel(&mut self, lab: &mut Lab) -> Result<Vec<u8>> {
        let before = answered(&lab.router.status()?);
        wait::until_ok("an answer of the kernel", SOON, || {
            let mut answer = Vec::new();
            for _ in 0..4 {
                answer = self.ask()?;
            }
            let now = answered(&lab.router.status()?);
            ensure!(now > before, "{now} answers of the kernel");
            Ok(answer)
        })
    }
}

fn answered(status: &Value) -> u64 {
    status["dns64"]["fast_path"]["answered"].as_u64().unwrap_or_default()
}

fn refused(status: &Value) -> u64 {
    let reason = "source is not of this hardware address";
    status["firewall"]["dropped"][reason]["packets"].as_u64().unwrap_or_default()
}

/// An answer without its identifier and the TTL of its first record.
fn ageless(answer: &[u8]) -> Vec<u8> {
    let mut answer = answer.to_vec();
    let at = QUESTION.len() + 6;
    answer[1] = 0;
    answer[at..at + 4].fill(0);
    answer
}

fn reload(lab: &mut Lab, lines: &str) -> Result<()> {
    let config = lab.config("").replace("[dns64]\n", &format!("[dns64]\n{lines}"));
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)
}

pub(super) fn in_the_kernel(lab: &mut Lab) -> Result<()> {
    let resolver = lab.learn_resolver(&lab.client)?;
    reload(lab, "fast_path = false\n")?;
    let mut asker = Asker::new(&lab.client.namespace, resolver)?;
    lab.await_status("nothing in the kernel", |status| status["dns64"]["fast_path"].is_null())?;
    let by_the_daemon = asker.ask()?;
    ensure!(by_the_daemon.ends_with(&synthesized(SITE_V4).octets()), "{by_the_daemon:x?}");

    // The same bytes, and counted as if the daemon had answered.
    reload(lab, "")?;
    lab.await_status("the program", |status| !status["dns64"]["fast_path"]["hook"].is_null())?;
    let by_the_kernel = asker.ask_the_kernel(lab)?;
    ensure!(ageless(&by_the_kernel) == ageless(&by_the_daemon), "{by_the_kernel:x?} and {by_the_daemon:x?}");
    let client = lab.client.address()?.to_string();
    lab.await_status("names and clients to be told", |status| {
        let dns64 = &status["dns64"];
        let tells = |list: &str, name: &str| {
            dns64[list].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == name))
        };
        dns64["cached"].as_u64() >= Some(answered(status))
            && tells("top_names", "v4.lab.test.")
            && tells("top_clients", &client)
    })?;

    // Who is not the client is refused by the rules as ever.
    let before = lab.router.status()?;
    let forger = &lab.vm2.namespace;
    // On the loopback device, so that it does not answer for it on the link.
    forger.ip(&format!("address add {client}/128 dev lo nodad"))?;
    let address: Ipv6Addr = client.parse()?;
    let socket = forger.inside(|| UdpSocket::bind((address, 0)))?;
    for _ in 0..FORGED {
        socket.send_to(QUESTION, (resolver, 53))?;
    }
    lab.await_status("forged questions to be refused", |status| refused(status) >= refused(&before) + FORGED)?;
    lab.vm2.namespace.ip(&format!("address delete {client}/128 dev lo"))?;

    // What is forgotten is asked for again.
    asker.ask_the_kernel(lab)?;
    let asked = lab.dns.questions();
    let router = lab.router.in_namespace()?;
    let flush = format!("{} flush-dns --control {}", router.binary().display(), router.control().display());
    ensure!(router.namespace().run(&flush)?.success, "{flush}");
    asker.ask()?;
    ensure!(lab.dns.questions() > asked, "the kernel still knows what was flushed");

    // Another policy is followed at once.
    asker.ask_the_kernel(lab)?;
    reload(lab, "never = \"lab.test\"\n")?;
    wait::until_ok("the synthesized answer to go", SOON, || {
        let found = dig(&lab.client.namespace, &format!("@{resolver} AAAA v4.lab.test +nocookie"))?;
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    })?;
    let answer = asker.ask()?;
    ensure!(answer[7] == 0, "the kernel still synthesizes: {answer:x?}");
    reload(lab, "")?;
    wait::until_ok("synthesis again", SOON, || {
        let answer = asker.ask()?;
        ensure!(answer[7] == 1, "{answer:x?}");
        Ok(())
    })?;

    // A daemon that stands still answers nothing before long.
    asker.ask_the_kernel(lab)?;
    lab.router.in_namespace()?.signal(Signal::STOP)?;
    let silent = wait::until("silence", SOON, || asker.ask().is_err().then_some(()));
    lab.router.in_namespace()?.signal(Signal::CONT)?;
    silent?;
    asker.ask_the_kernel(lab).map(drop)
}

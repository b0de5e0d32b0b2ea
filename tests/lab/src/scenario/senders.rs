//! Whose packets a session of the fast path takes, and which flows it takes at all.
use std::net::{Ipv6Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::fast_path::{Download, counted, left};
use crate::lab::{Lab, SOON, UDP_PORT, ensure_refused};
use crate::namespace::Namespace;
use crate::network::{SITE_V4, synthesized};
use crate::wait;

const FORGED: u64 = 5;

/// A flow of datagrams that the server sends back.
struct Echoes {
    socket: UdpSocket,
    sent: usize,
}

impl Echoes {
    fn begin(host: &Namespace) -> Result<Self> {
        let socket = host.inside(|| UdpSocket::bind("[::]:0"))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        socket.connect((synthesized(SITE_V4), UDP_PORT))?;
        Ok(Self { socket, sent: 0 })
    }

    fn exchange(&mut self) -> Result<()> {
        self.sent += 1;
        let question = format!("echo {}", self.sent);
        self.socket.send(question.as_bytes())?;
        let mut answer = [0; 100];
        // Answers to what was asked before may come late.
        loop {
            let length = self.socket.recv(&mut answer).context("no answer")?;
            if answer[..length] == *question.as_bytes() {
                return Ok(());
            }
        }
    }

    /// Until packets of it are translated in the kernel.
    fn reach_the_fast_path(&mut self, lab: &mut Lab) -> Result<()> {
        let before = counted(&lab.router.status()?, "v6_to_v4", "packets");
        wait::until_ok("the flow in the fast path", SOON, || {
            for _ in 0..4 {
                self.exchange()?;
            }
            let now = counted(&lab.router.status()?, "v6_to_v4", "packets");
            ensure!(now > before, "{now} packets");
            Ok(())
        })
    }
}

fn refused(status: &Value) -> u64 {
    let reason = "source is not of this hardware address";
    status["firewall"]["dropped"][reason]["packets"].as_u64().unwrap_or_default()
}

/// Another host sends from a client's address and port, into a session that is there.
fn forge(lab: &mut Lab, flow: &mut Echoes, client: Ipv6Addr) -> Result<()> {
    flow.reach_the_fast_path(lab)?;
    let (seen, sent) = (lab.udp.peers().len(), flow.sent);
    let before = lab.router.status()?;
    let port = flow.socket.local_addr()?.port();
    let forger = &lab.vm2.namespace;
    // On the loopback device, so that it does not answer for it on the link.
    forger.ip(&format!("address add {client}/128 dev lo nodad"))?;
    let socket = forger.inside(|| UdpSocket::bind((client, port)))?;
    for _ in 0..FORGED {
        socket.send_to(b"forged", (synthesized(SITE_V4), UDP_PORT))?;
    }
    lab.await_status("forged packets to be refused", |status| {
        left(status, "other-sender") >= left(&before, "other-sender") + FORGED
            && refused(status) >= refused(&before) + FORGED
    })?;
    lab.vm2.namespace.ip(&format!("address delete {client}/128 dev lo"))?;
    // The owner goes on, in the same session and in the kernel; whatever had passed would be there before.
    flow.reach_the_fast_path(lab)?;
    let (arrived, sent) = (lab.udp.peers().len() - seen, flow.sent - sent);
    ensure!(arrived <= sent, "{arrived} datagrams arrived of {sent} that were sent");
    Ok(())
}

/// Neither a host's own address nor one of its containers can be used by others on the link; who moves goes on.
pub(super) fn are_told_apart(lab: &mut Lab) -> Result<()> {
    let client = lab.client.address()?;
    let mut flow = Echoes::begin(&lab.client.namespace)?;
    forge(lab, &mut flow, client)?;
    let container = lab.vm1.containers()?.address;
    let mut behind = Echoes::begin(&lab.vm1.containers()?.namespace)?;
    forge(lab, &mut behind, container)?;

    // A daemon that was killed leaves that to the program; the next one knows it still.
    lab.router.in_namespace()?.end(rustix::process::Signal::KILL)?;
    flow.exchange()?;
    lab.router.in_namespace()?.start_again()?;
    lab.await_service()?;
    forge(lab, &mut flow, client)?;

    // The client has another card: once it is known, its flow is as fast as before.
    lab.client.namespace.ip("link set eth0 address 52:54:00:00:02:99")?;
    flow.reach_the_fast_path(lab)?;
    forge(lab, &mut flow, client)
}

const RESTRICTED: &str = "
[[outbound]]
from = \"vm1/containers\"
to = \"198.51.100.53/32\"
tcp = 80
";
const ENTRY: &str = "
[[outbound]]
from = \"vm1/containers\"
to = \"198.51.100.10/32\"
tcp = 80
";

/// A download at full speed by a host that may reach this server alone: it is translated in the kernel, and ends where its
/// entry does.
pub(super) fn end_with_their_entry(lab: &mut Lab) -> Result<()> {
    lab.start_with(&format!("{RESTRICTED}{ENTRY}"))?;
    let apply = |lab: &mut Lab, more: &str| -> Result<()> {
        let config = lab.config(more);
        let applied = lab.router.request(&json!({ "apply": { "text": config } }).to_string())?;
        ensure!(applied["reply"] == "accepted", "{applied}");
        Ok(())
    };
    for turn in 0..2 {
        let mut download = Download::begin_from(&lab.vm1.containers()?.namespace)?;
        let before = counted(&lab.router.status()?, "v4_to_v6", "bytes");
        download.read(12_000_000)?;
        lab.await_status("most of it in the fast path", |status| {
            counted(status, "v4_to_v6", "bytes") > before + 10_000_000
        })?;
        if turn == 0 {
            // What is in sockets still can be read.
            apply(lab, RESTRICTED)?;
            ensure!(download.read(usize::MAX).is_err(), "the download goes on without its entry");
            ensure_refused(&lab.vm1.containers()?.namespace, synthesized(SITE_V4), 80)?;
            apply(lab, &format!("{RESTRICTED}{ENTRY}"))?;
            wait::until_ok("the entry to count again", SOON, || {
                Ok(crate::lab::try_to_connect(&lab.vm1.containers()?.namespace, synthesized(SITE_V4), 80)?)
            })?;
        }
    }
    Ok(())
}

/// Flows at the same time, of which the kernel's tables hold a few.
const FLOWS: usize = 60;

/// Beyond what the tables hold, sessions are the daemon's and work likewise; with larger tables all come in.
pub(super) fn find_no_room(lab: &mut Lab) -> Result<()> {
    const ROOM: u64 = 20;
    lab.start_with(&format!("fast_path_sessions = {ROOM}\n"))?;
    ensure!(lab.router.status()?["nat64"]["fast_path"]["capacity"] == ROOM, "another size");
    let mut flows = (0..FLOWS).map(|_| Echoes::begin(&lab.client.namespace)).collect::<Result<Vec<_>>>()?;
    let exchange = |flows: &mut [Echoes]| -> Result<()> {
        for _ in 0..4 {
            flows.iter_mut().try_for_each(Echoes::exchange)?;
        }
        Ok(())
    };
    exchange(&mut flows)?;
    let finding = lab.await_finding("nat64-fast-path-full")?;
    ensure!(finding["mend"].as_str().is_some_and(|mend| mend.contains("fast_path_sessions")), "{finding}");
    let status = lab.await_status("sessions that were not taken", |status| {
        status["nat64"]["fast_path"]["refused"].as_u64() > Some(0)
    })?;
    let held = status["nat64"]["fast_path"]["sessions"].as_u64();
    ensure!((Some(1)..=Some(ROOM)).contains(&held), "{held:?} sessions");
    // Old ones and new ones alike, in the kernel or not.
    exchange(&mut flows)?;
    Echoes::begin(&lab.client.namespace)?.exchange()?;

    let config = lab.config("fast_path_sessions = 1000\n");
    lab.router.in_namespace()?.write_config(&config)?;
    lab.router.in_namespace()?.signal(rustix::process::Signal::HUP)?;
    wait::until_ok("all flows in the fast path", SOON, || {
        exchange(&mut flows)?;
        let status = lab.router.status()?;
        let fast_path = &status["nat64"]["fast_path"];
        ensure!(fast_path["capacity"] == 1000 && fast_path["sessions"].as_u64() >= Some(FLOWS as u64), "{fast_path}");
        Ok(())
    })?;
    lab.await_status("the finding to go", |status| crate::lab::finding(status, "nat64-fast-path-full").is_none())?;
    Ok(())
}

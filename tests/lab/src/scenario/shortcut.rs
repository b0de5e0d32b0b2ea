//! Busy small packets go past the kernel's routing, unless somebody else's rules want to see them.
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::lab::{Lab, SOON, UDP_PORT};
use crate::namespace::Namespace;
use crate::network::{SITE_V4, synthesized};
use crate::wait;

/// Datagrams that are sent and come back.
const ECHOES: u64 = 400;

const STRANGER: &str =
    "table inet stranger { chain forward { type filter hook forward priority 10; udp dport 4000 counter; }; }";

/// Three steps take one off a hop limit of 64, the kernel's twice and the translator's, whichever way a packet takes.
const HOPS: &str = "table inet hops { chain input { type filter hook input priority 0; \
                    ip ttl != 61 udp dport 4000 counter comment \"wrong\"; ip6 hoplimit != 61 udp sport 4000 counter comment \"wrong\"; \
                    ip ttl 61 udp dport 4000 counter; ip6 hoplimit 61 udp sport 4000 counter; }; }";

pub(super) fn taken_unless_others_look(lab: &mut Lab) -> Result<()> {
    let hops = lab.world.folder().join("hops.nft");
    std::fs::write(&hops, HOPS)?;
    for end in [&lab.internet, &lab.client.namespace] {
        end.run(&format!("nft -f {}", hops.display()))?.text()?;
    }
    // What the fast path translates comes to no device at all.
    let config = lab.config("").replace("[nat64]", "[nat64]\nfast_path = false");
    lab.router.in_namespace()?.write_config(&config)?;
    lab.router.in_namespace()?.signal(Signal::HUP)?;
    lab.await_status("the end of the fast path", |status| status["nat64"]["fast_path"].is_null())?;
    let client = &lab.client.namespace;
    let router = lab.router.in_namespace()?.namespace();
    let table = |there: bool| {
        wait::until(&format!("shortcuts: {there}"), SOON, || {
            let seen = router.run("nft list table netdev sixgate").ok()?.success;
            (seen == there).then_some(())
        })
    };
    table(true)?;
    // The translator follows the same plan, in its own time.
    let short_way = || {
        let written = echoes(client, router)?;
        ensure!(written < ECHOES, "{written} packets of {} took the kernel's way", 2 * ECHOES);
        Ok(())
    };
    wait::until_ok("the short way to be taken", SOON, short_way)?;

    let file = lab.world.folder().join("stranger.nft");
    std::fs::write(&file, STRANGER)?;
    router.run(&format!("nft -f {}", file.display()))?.text()?;
    table(false)?;
    wait::until("all packets to take the kernel's way", SOON, || {
        (echoes(client, router).ok()? >= 2 * ECHOES).then_some(())
    })?;
    let counted = router.run("nft list table inet stranger")?.text()?;
    let packets = counted.split_whitespace().skip_while(|word| *word != "packets").nth(1).context("a counter")?;
    ensure!(packets.parse::<u64>()? >= ECHOES, "the stranger's rule has seen {packets} packets");

    router.run("nft delete table inet stranger")?.text()?;
    table(true)?;
    wait::until_ok("the short way to be taken again", SOON, short_way)?;
    for end in [&lab.internet, client] {
        let counted = end.run("nft list table inet hops")?.text()?;
        let (wrong, right): (Vec<_>, Vec<_>) =
            counted.lines().filter(|line| line.contains("counter")).partition(|line| line.contains("wrong"));
        ensure!(wrong.iter().all(|line| line.contains("packets 0 ")), "hops are miscounted: {counted}");
        ensure!(right.iter().any(|line| !line.contains("packets 0 ")), "nothing is counted: {counted}");
    }
    Ok(())
}

/// Sends datagrams and awaits their echoes; gives the number of packets that the translator has written to its device.
fn echoes(client: &Namespace, router: &Namespace) -> Result<u64> {
    let written =
        || -> Result<u64> { Ok(router.run("cat /sys/class/net/nat64/statistics/rx_packets")?.text()?.trim().parse()?) };
    let socket = client.inside(|| UdpSocket::bind(("::", 0)))?;
    socket.connect(SocketAddr::new(synthesized(SITE_V4).into(), UDP_PORT))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let before = written()?;
    for number in 0..ECHOES {
        socket.send(&number.to_be_bytes())?;
        let mut answer = [0; 16];
        let length = socket.recv(&mut answer).with_context(|| format!("echo {number}"))?;
        ensure!(answer[..length] == number.to_be_bytes(), "echo {number} is {:?}", &answer[..length]);
    }
    Ok(written()? - before)
}

//! What offloads and tags make of packets, and all lengths of prefixes: the fast path translates as ever.
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::fast_path::{counted, left, transfer, transfer_by};
use crate::lab::{Lab, SOON, UDP_PORT};
use crate::network::{ROUTER_LAN_MAC, SITE_V4, synthesized};
use crate::program::{Daemon, tool};
use crate::wait;

/// Sends and checks bursts of datagrams that the kernel cuts for the sender (UDP_SEGMENT); the server answers likewise.
/// What is lost on the way is sent again; what is changed on the way ends it.
const BURSTS: &str = r#"
import socket, sys
role, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
SIZE, COUNT, ROUNDS, ATTEMPTS = 1200, 20, 8, 20
def pieces(tag):
    return [tag + bytes([n]) * (SIZE - len(tag)) for n in range(COUNT)]
def check(data):
    if data != pieces(data[:8])[data[-1] % COUNT]:
        sys.exit(f"a changed datagram: {data!r}")
    return data[:8], data[-1]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_UDP, 103, SIZE)
if role == "server":
    s.bind((address, port))
    held = {}
    while True:
        data, peer = s.recvfrom(65535)
        if data == b"hello":
            s.sendto(b"hello", peer)
            continue
        tag, number = check(data)
        seen = held.setdefault((peer, tag), set())
        seen.add(number)
        if len(seen) == COUNT:
            s.sendto(b"".join(pieces(b"dn" + tag[2:])), peer)
s.connect((address, port))
s.settimeout(1)
def exchange(tag):
    s.send(b"hello")
    while s.recv(65535) != b"hello":
        pass
    s.send(b"".join(pieces(b"up" + tag)))
    got = set()
    while len(got) < COUNT:
        data = s.recv(65535)
        if data != b"hello":
            found, number = check(data)
            if found == b"dn" + tag:
                got.add(number)
attempts = 0
for n in range(ROUNDS):
    while True:
        attempts += 1
        try:
            exchange(b"%06d" % attempts)
            break
        except TimeoutError:
            if attempts > ROUNDS + ATTEMPTS:
                sys.exit("nothing comes any more")
"#;
const BURST_PORT: u16 = 4001;
/// Datagrams of all bursts in one direction.
const BURST_PACKETS: u64 = 8 * 20;

/// What is switched at the router's links, one after the other, and back.
const SWITCHES: [&str; 8] = [
    "gro on rx-udp-gro-forwarding on",
    "gro on rx-gro-list on",
    "tso off",
    "gso off",
    "tx off",
    "rx off",
    "sg off",
    "rxvlan off txvlan off",
];
const AS_USUAL: &str =
    "gro off rx-udp-gro-forwarding off rx-gro-list off rx on tx on sg on tso on gso on rxvlan on txvlan on";
/// Their other ends: only what comes in single packets is gathered.
const PORTS: [&str; 2] = ["router-eth0", "router-eth1"];
const SINGLY: &str = "tso off gso off tx-udp-segmentation off";

/// Bulk TCP and cut datagrams while offloads change under them, and packets that the kernel gathers into lists.
pub(super) fn change_under_traffic(lab: &mut Lab) -> Result<()> {
    carry_tags(lab)?;
    let script = lab.world.folder().join("bursts.py");
    fs::write(&script, BURSTS)?;
    let script = script.display();
    let server = lab.internet.command_line(&format!("python3 {script} server {SITE_V4} {BURST_PORT}"));
    let _server = Daemon::start(server, &lab.world.folder().join("bursts.log"))?;
    let bursts = format!("python3 {script} client {} {BURST_PORT}", synthesized(SITE_V4));
    let ports = lab.world.switch().name().to_owned();
    let router = lab.router.in_namespace()?.namespace().name().to_owned();
    let switch = |host: &str, links: &[&str], what: &str| -> Result<()> {
        links.iter().try_for_each(|link| tool(&format!("ip netns exec {host} ethtool -K {link} {what}")).map(drop))
    };
    // The server may need a moment to listen.
    wait::until_ok("bursts", SOON, || lab.client.namespace.run(&bursts)?.text())?;
    let before = lab.router.status()?;
    lab.client.namespace.run(&bursts)?.text()?;
    let status = lab.await_status("bursts in the fast path", |status| {
        let moved = |direction| counted(status, direction, "packets") - counted(&before, direction, "packets");
        // The first exchange goes up, and the answers to it.
        moved("v6_to_v4") >= BURST_PACKETS * 3 / 4 && moved("v4_to_v6") >= BURST_PACKETS * 3 / 4
    })?;
    ensure!(left(&status, "failed") == 0, "{}", status["nat64"]["fast_path"]);

    let done = AtomicBool::new(false);
    let (host, file) = (&lab.client.namespace, lab.world.folder().join("busy"));
    thread::scope(|scope| {
        let busy = scope.spawn(|| -> Result<u32> {
            let mut transfers = 0;
            while !done.load(Ordering::Relaxed) {
                transfer_by(host, &file, synthesized(SITE_V4), 4_000_000)?;
                transfers += 1;
            }
            Ok(transfers)
        });
        // Half of the time packets come in one by one.
        let switched = SWITCHES.iter().chain([&SINGLY]).chain(&SWITCHES).try_for_each(|what| -> Result<()> {
            if *what == SINGLY {
                return switch(&ports, &PORTS, SINGLY);
            }
            switch(&router, &["eth0", "eth1"], what)?;
            host.run(&bursts)?.text()?;
            switch(&router, &["eth0", "eth1"], AS_USUAL)
        });
        done.store(true, Ordering::Relaxed);
        let transfers = busy.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        switched?;
        ensure!(transfers? > 0, "nothing was transferred meanwhile");
        Ok(())
    })?;

    // Gathered by the router's links into lists, each packet keeps headers of its own. Those without checksums are told apart by
    // the kernel, others by the program.
    for end in [lab.client.namespace.name(), lab.internet.name()] {
        switch(end, &["eth0"], "tx off")?;
    }
    switch(&router, &["eth0", "eth1"], "gro on rx-gro-list on")?;
    wait::until_ok("packets in a list", SOON, || {
        lab.client.namespace.run(&bursts)?.text()?;
        transfer(lab, 4_000_000)?;
        let status = lab.router.status()?;
        ensure!(left(&status, "packet-list") > 0, "{}", status["nat64"]["fast_path"]);
        Ok(())
    })?;
    let status = lab.router.status()?;
    ensure!(left(&status, "failed") == 0, "{}", status["nat64"]["fast_path"]);
    Ok(())
}

/// RFC 6052 section 2.2, for each length; bits 64 to 71 stay zero.
fn embedded(prefix: Ipv6Addr, length: u8, v4: Ipv4Addr) -> Ipv6Addr {
    let mut octets = prefix.octets();
    let mut at = usize::from(length / 8);
    for octet in v4.octets() {
        if at == 8 {
            at += 1;
        }
        octets[at] = octet;
        at += 1;
    }
    octets.into()
}

/// Six prefixes at the same time, one of each length.
pub(super) fn of_all_lengths(lab: &mut Lab) -> Result<()> {
    const LENGTHS: [(&str, u8); 5] = [
        ("2001:db9::", 32),
        ("2001:dba:100::", 40),
        ("2001:dbb:1::", 48),
        ("2001:dbc:1:100::", 56),
        ("2001:dbd:1:1::", 64),
    ];
    const SIZE: usize = 3_000_000;
    let nets: Vec<String> = LENGTHS.iter().map(|(net, length)| format!("\"{net}/{length}\"")).collect();
    let all = format!("prefix = [\"2001:db8:64::/96\", {}]", nets.join(", "));
    let config = lab.config("").replace("prefix = \"2001:db8:64::/96\"", &all);
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(Signal::HUP)?;
    lab.await_status("all prefixes", |status| {
        status["nat64"]["further_pref64"].as_array().map(Vec::len) == Some(LENGTHS.len())
    })?;
    let addresses = LENGTHS.iter().map(|(net, length)| Ok(embedded(net.parse()?, *length, SITE_V4)));
    let addresses: Vec<Ipv6Addr> = addresses.chain([Ok(synthesized(SITE_V4))]).collect::<Result<_>>()?;
    for site in addresses {
        let before = lab.router.status()?;
        transfer_by(&lab.client.namespace, &lab.world.folder().join("fast"), site, SIZE)?;
        lab.client.namespace.run(&format!("ping -6 -c 6 -i 0.2 -W 5 {site}"))?.text()?;
        let most = SIZE as u64 * 9 / 10;
        lab.await_status(&format!("{site} in the fast path"), |status| {
            let moved = |direction| counted(status, direction, "bytes") - counted(&before, direction, "bytes");
            moved("v6_to_v4") > most && moved("v4_to_v6") > most
        })?;
    }
    Ok(())
}

/// Sends frames with a tag in a flow that is there: one with a priority alone, which is answered, and one of a VLAN.
const TAGS: &str = r#"
import socket, struct, sys
site, port, router = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3].replace(":", ""))
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.settimeout(1)
s.connect((site, port))
# A host that nobody knows yet is asked for its address first: what it sends until then is lost.
def ask(send, data):
    for attempt in range(15):
        send(data)
        try:
            while True:
                answer = s.recv(100)
                if answer == b"vlan":
                    sys.exit("another VLAN's frame was answered")
                if answer == data:
                    return
        except TimeoutError:
            pass
    sys.exit(f"no answer to {data!r}")
for n in range(4):
    ask(s.send, b"plain %d" % n)
own = s.getsockname()
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
source, destination = socket.inet_pton(socket.AF_INET6, own[0]), socket.inet_pton(socket.AF_INET6, site)
def send(tag, data):
    length = 8 + len(data)
    udp = struct.pack("!HHHH", own[1], port, length, 0) + data
    words = source + destination + struct.pack("!II", length, 17) + udp + bytes(length % 2)
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    udp = udp[:6] + struct.pack("!H", (~total & 0xffff) or 0xffff) + udp[8:]
    ip = struct.pack("!IHBB", 6 << 28, length, 17, 64) + source + destination
    raw.send(router + raw.getsockname()[4] + struct.pack("!HHH", 0x8100, tag, 0x86dd) + ip + udp)
ask(lambda data: send(5 << 13, data), b"priority")
send(5 << 13 | 10, b"vlan")
ask(s.send, b"plain behind it")
"#;

/// Frames with a priority and no VLAN (802.1p) are this interface's own, and leave without the tag; others are not.
fn carry_tags(lab: &mut Lab) -> Result<()> {
    let script = lab.world.folder().join("tags.py");
    fs::write(&script, TAGS)?;
    let before = lab.router.status()?;
    let line = format!("python3 {} {} {UDP_PORT} {ROUTER_LAN_MAC}", script.display(), synthesized(SITE_V4));
    lab.client.namespace.run(&line)?.text()?;
    lab.await_status("the frame of a VLAN", |status| left(status, "vlan-tag") > left(&before, "vlan-tag"))?;
    let tagged = |segment: &str| {
        let file = lab.world.folder().join(format!("{segment}.pcap"));
        tool(&format!("tcpdump -n -r {} vlan", file.display()))
    };
    wait::until_ok("the frames in the capture", SOON, || {
        let there = tagged("lan")?.lines().count();
        ensure!(there >= 2, "{there} frames with a tag");
        Ok(())
    })?;
    let there = tagged("wan")?;
    ensure!(there.is_empty(), "{there}");
    Ok(())
}

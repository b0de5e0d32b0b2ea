//! A scan of all ports from outside, while the rules change under it.
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, getpeername, socket_with, sockopt};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::container::serve;
use crate::lab::{Lab, SOON, await_connection};
use crate::namespace::Namespace;
use crate::server::web::Web;
use crate::{capture, wait};

/// Ports that are tried at a time.
const AT_A_TIME: usize = 8192;
/// How long a port may take to answer: on this network nothing takes longer than the kernel's own work.
const PATIENCE: Duration = Duration::from_millis(900);
const ALLOWED: &str = "\n[[allow]]\nto = \"vm1/containers::5\"\ntcp = [8080]\n";

/// Before, during and after reloads that change rules and sets, nothing answers but what is listed.
pub(super) fn finds_nothing(lab: &mut Lab) -> Result<()> {
    lab.start_with(ALLOWED)?;
    let address = lab.vm1.containers()?.address;
    let _servers = (serve(&lab.vm1, 8080)?, serve(&lab.vm1, 8081)?);
    await_connection(&lab.internet, address, 8080)?;
    await_connection(&lab.vm2.namespace, address, 8081)?;
    let held = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: held.maximum, ..held })?;

    let configs = [
        lab.config(ALLOWED),
        lab.config(&format!("{ALLOWED}\n[[allow]]\nto = \"vm2/containers::5\"\ntcp = [8081]\n")),
        lab.config(&format!("\n[policy]\nrefuse = \"reject\"\n{ALLOWED}icmp = true\n")),
    ];
    let (internet, router) = (&lab.internet, lab.router.in_namespace()?);
    let scanning = AtomicBool::new(true);
    let (found, reloads) = std::thread::scope(|scope| {
        let scan = scope.spawn(|| {
            let found = open_ports(internet, address);
            scanning.store(false, Ordering::Release);
            found
        });
        let mut reloads = 0_usize;
        while scanning.load(Ordering::Acquire) {
            let reloaded = configs.get(reloads % configs.len()).map(|config| router.write_config(config));
            if !matches!(reloaded, Some(Ok(()))) || router.signal(Signal::HUP).is_err() {
                break;
            }
            reloads += 1;
            std::thread::sleep(Duration::from_millis(150));
        }
        (scan.join(), reloads)
    });
    let found = found.ok().context("the scan panicked")??;
    ensure!(found == [8080], "open: {found:?}");
    ensure!(reloads >= 10, "only {reloads} reloads");
    Ok(())
}

/// Addresses of a LAN that nobody has, by how they begin.
const UNKNOWN: [u16; 5] = [0x2001, 0xdb8, 1, 2, 0xbad];
const WHOLE_LAN: &str = "\n[[allow]]\nto = \"vms\"\ntcp = [80]\nudp = [9]\n";
/// What the router looks for of them (RFC 6583).
const AT_ONCE: f64 = 100.0;
const PER_SECOND: f64 = 50.0;

/// Whoever scans a LAN has the router ask for few addresses, fills no cache, and hides nobody: neither a host that is known
/// nor one that comes meanwhile.
pub(super) fn asks_for_few(lab: &mut Lab) -> Result<()> {
    lab.start_with(WHOLE_LAN)?;
    let (client, vm2) = (&lab.client.namespace, &lab.vm2.namespace);
    let known = lab.client.address()?;
    let _known = Web::start(client, SocketAddr::new(known.into(), 80))?;
    await_connection(&lab.internet, known, 80)?;
    let new: Ipv6Addr = "2001:db8:1:2::77".parse()?;
    let capture = lab.world.folder().join("lan.pcap");
    let socket = lab.internet.inside(|| UdpSocket::bind("[::]:0"))?;

    let begin = Instant::now();
    let scanning = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| scan(&socket, &scanning));
        let outcome = (|| {
            let router = &mut lab.router;
            wait::until_ok("most of the scan to be dropped", SOON, || {
                let dropped = router.status()?["firewall"]["dropped"]["too many unknown neighbours"].take();
                ensure!(dropped["packets"].as_u64() > Some(5000), "{dropped}");
                Ok(())
            })?;
            await_connection(&lab.internet, known, 80)?;
            vm2.ip(&format!("address add {new}/64 dev eth0"))?;
            let ping = format!("ping -c 1 -W 1 -I {new} 2001:db8:1:2::1");
            wait::until_ok("the new address to be vm2's", SOON, || vm2.run(&ping)?.text())?;
            let _new = Web::start(vm2, SocketAddr::new(new.into(), 80))?;
            await_connection(&lab.internet, new, 80)?;
            await_connection(&lab.internet, known, 80).map(drop)
        })();
        scanning.store(false, Ordering::Release);
        outcome
    })?;

    let asked = wait::until_ok("solicitations", SOON, || {
        let asked = capture::solicited(&capture)?;
        let asked = asked.iter().filter(|target| target.segments().starts_with(&UNKNOWN)).count();
        ensure!(asked >= 50, "{asked} were asked for");
        Ok(asked as f64)
    })?;
    let router = lab.router.in_namespace()?.namespace().ip("-6 neighbour show")?;
    let held = router.lines().filter(|line| line.starts_with("2001:db8:1:2:bad")).count() as f64;
    let most = AT_ONCE + PER_SECOND * begin.elapsed().as_secs_f64();
    ensure!(asked <= most && held <= most, "{asked} were asked for and {held} are in the cache, more than {most}");
    Ok(())
}

/// Sends to some thousand addresses a second, again and again others.
fn scan(socket: &UdpSocket, goes_on: &AtomicBool) {
    let [a, b, c, d, e] = UNKNOWN;
    let base = Ipv6Addr::new(a, b, c, d, e, 0, 0, 0).to_bits();
    let mut number = 0_u128;
    while goes_on.load(Ordering::Acquire) {
        for _ in 0..200 {
            number += 1;
            // A full queue is as good as a sent one.
            let _ = socket.send_to(b"?", (Ipv6Addr::from_bits(base | number), 9));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ports of which the host itself has answered, whether it listens there or not.
fn open_ports(from: &Namespace, to: Ipv6Addr) -> Result<Vec<u16>> {
    let ports: Vec<u16> = (1..=u16::MAX).collect();
    let mut open = Vec::new();
    for some in ports.chunks(AT_A_TIME) {
        let tried = from.inside(|| some.iter().map(|port| attempt(to, *port)).collect::<Result<Vec<_>, Errno>>())?;
        std::thread::sleep(PATIENCE);
        for (port, socket) in some.iter().zip(&tried) {
            match sockopt::socket_error(socket)? {
                Err(Errno::CONNREFUSED) => open.push(*port),
                Ok(()) if getpeername(socket).is_ok() => open.push(*port),
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(open)
}

fn attempt(to: Ipv6Addr, port: u16) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
    match connect(&socket, &SocketAddrV6::new(to, port, 0, 0)) {
        // An error at once is seen again by whoever asks for it, and says that the port is not open.
        Ok(()) | Err(_) => Ok(socket),
    }
}

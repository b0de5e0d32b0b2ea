//! A scan of all ports from outside, while the rules change under it.
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, getpeername, socket_with, sockopt};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::container::serve;
use crate::lab::{Lab, await_connection};
use crate::namespace::Namespace;

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

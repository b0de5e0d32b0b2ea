//! Captures: packets of the router's links, as parts of a pcapng file.
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ct_codecs::{Base64, Encoder as _};
use ipnet::IpNet;
use sixgate_engine::capture::{Filter, line, pcapng};
use sixgate_engine::facts::MacAddr;
use sixgate_engine::status::Status;
use sixgate_linux::capture_socket::{CaptureSocket, Passed};
use sixgate_linux::echo_socket::link_index;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep_until};

use super::Desk;
use super::stream::Teller;
use crate::control::{Capture, ErrorKind, Reply, refusal};

/// More than a segment that the kernel has not cut yet.
const LONGEST: usize = 1 << 17;
/// What is told at a time is about that long.
const PART: usize = 128 << 10;
/// What there is, is told after so long.
const PERIOD: Duration = Duration::from_millis(250);
/// Packets that may wait to be told.
const WAITING: usize = 1_024;
/// ENETDOWN.
const NETWORK_DOWN: i32 = 100;
/// Without an end of its own a capture ends after so long.
const LONGEST_TIME: u64 = 24 * 3600;

/// A packet that passed, and on which of the links.
struct Caught {
    link: usize,
    passed: Passed,
    bytes: Vec<u8>,
}

/// Captures until enough has passed, the time is over, or the client wants no more.
pub(super) async fn capture(desk: &Desk, wanted: &Capture, teller: &mut Teller) -> Result<(), Reply> {
    let refused = |text: String| refusal(ErrorKind::Refused, text);
    let status = desk.status().await?;
    let filter = match &wanted.of {
        None => Filter::default(),
        Some(of) => filter(&status, of)
            .ok_or_else(|| refused(format!("\"{of}\" is no VM of the configuration, no address and no prefix")))?,
    };
    let names = match &wanted.interface {
        Some(name) => vec![name.clone()],
        None => links(&status),
    };
    let mut links = Vec::new();
    for name in names {
        match link_index(&name).and_then(CaptureSocket::open) {
            Ok(socket) => links.push((name, socket)),
            // Of the router's own links one may be missing.
            Err(_) if wanted.interface.is_none() => {}
            Err(error) => return Err(refused(format!("nothing can be captured on {name}: {error}"))),
        }
    }
    if links.is_empty() {
        return Err(refused("there is no interface to capture on".to_owned()));
    }
    let snap = wanted.snap.map_or(LONGEST, |snap| (snap.max(14) as usize).min(LONGEST));
    let mut file = pcapng::section(concat!("sixgate ", env!("CARGO_PKG_VERSION")));
    let ethernet: Vec<bool> = links.iter().map(|(_, socket)| socket.is_ethernet()).collect();
    let names: Vec<String> = links.iter().map(|(name, _)| name.clone()).collect();
    for (name, socket) in &links {
        file.extend(pcapng::interface(name, socket.is_ethernet(), snap as u32));
    }
    let (catch, mut caught) = mpsc::channel(WAITING);
    let mut readers = JoinSet::new();
    let sockets: Vec<_> = links.into_iter().map(|(_, socket)| Arc::new(socket)).collect();
    for (link, socket) in sockets.iter().enumerate() {
        readers.spawn(read(link, socket.clone(), snap, filter.clone(), catch.clone()));
    }
    drop(catch);
    let mut part = Part { file, lines: Vec::new() };
    let mut seen = vec![0; ethernet.len()];
    let mut left = wanted.packets.unwrap_or(u64::MAX);
    let end = Instant::now() + Duration::from_secs(wanted.seconds.unwrap_or(LONGEST_TIME).min(LONGEST_TIME));
    let mut tick = interval_at(Instant::now(), PERIOD);
    while left > 0 {
        tokio::select! {
            packet = caught.recv() => {
                let Some(Caught { link, passed, bytes }) = packet else { break };
                left -= 1;
                seen[link] += 1;
                let Passed { length, time, sent, .. } = passed;
                let interface = link as u32;
                part.file.extend(pcapng::packet(&pcapng::Packet { interface, time, length, sent, bytes: &bytes }));
                let way = if sent { "out" } else { "in " };
                part.lines.push(format!("{} {way} {}", names[link], line(&bytes, ethernet[link], length)));
                if part.file.len() > PART {
                    part.tell(teller).await;
                }
            }
            _ = tick.tick() => part.tell(teller).await,
            () = sleep_until(end) => break,
            () = teller.stopped() => break,
        }
    }
    readers.abort_all();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    for (link, (seen, socket)) in seen.into_iter().zip(&sockets).enumerate() {
        part.file.extend(pcapng::statistics(link as u32, now, seen, socket.lost()));
    }
    part.tell(teller).await;
    Ok(())
}

/// Passes on what is wanted of a link; a receiver that is slow makes the kernel count losses.
async fn read(link: usize, socket: Arc<CaptureSocket>, snap: usize, filter: Filter, catch: mpsc::Sender<Caught>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        let passed = match socket.receive(&mut buffer).await {
            Ok(passed) => passed,
            // A link that goes down says so once and goes on when it comes up.
            Err(error) if error.raw_os_error() == Some(NETWORK_DOWN) => continue,
            Err(_) => return,
        };
        let bytes = &buffer[..passed.kept];
        if filter.wants(bytes, socket.is_ethernet()) {
            let caught = Caught { link, passed, bytes: bytes[..bytes.len().min(snap)].to_vec() };
            if catch.send(caught).await.is_err() {
                return;
            }
        }
    }
}

/// What was not told yet.
struct Part {
    file: Vec<u8>,
    lines: Vec<String>,
}

impl Part {
    async fn tell(&mut self, teller: &Teller) {
        if self.file.is_empty() {
            return;
        }
        // Base64 of a vector cannot fail.
        let file = Base64::encode_to_string(&self.file).unwrap_or_default();
        self.file.clear();
        teller.tell(Reply::Captured { file, lines: std::mem::take(&mut self.lines) }).await;
    }
}

/// The router's links: the uplink and the LANs. The translator's device has no Ethernet headers, and tcpdump reads no file in
/// which some packets have them and some have not: who wants it asks for it.
fn links(status: &Status) -> Vec<String> {
    let present = std::iter::once(&status.wan).chain(status.lans.iter().map(|lan| &lan.interface));
    let mut names: Vec<String> = present.filter(|interface| interface.present).map(|link| link.name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// Whose packets: a VM's by its addresses, its container prefixes and its hardware address.
fn filter(status: &Status, of: &str) -> Option<Filter> {
    if let Ok(net) = of.parse::<IpNet>() {
        return Some(Filter { nets: vec![net], ..Filter::default() });
    }
    if let Ok(address) = of.parse::<IpAddr>() {
        return Some(Filter { nets: vec![address.into()], ..Filter::default() });
    }
    let vm = status.vms.iter().find(|vm| vm.name == of)?;
    let known = status.lans.iter().flat_map(|lan| &lan.clients).filter(|client| client.vm.as_deref() == Some(of));
    let mut filter = Filter::default();
    filter.nets.extend(vm.next_hop.map(|address| IpNet::from(IpAddr::V6(address))));
    filter.nets.extend(vm.containers.iter().map(|prefix| IpNet::V6(*prefix)));
    for client in known {
        filter.macs.extend(client.mac.parse::<MacAddr>());
        filter.nets.extend(client.addresses.iter().map(|address| IpNet::from(*address)));
    }
    (filter != Filter::default()).then_some(filter)
}

#[cfg(test)]
mod tests {
    use sixgate_engine::status::{Client, Lan, Vm};

    use super::*;

    #[test]
    fn a_vms_packets_are_known_by_all_its_addresses() {
        let client = Client {
            mac: "52:54:00:00:00:01".to_owned(),
            vm: Some("vm1".to_owned()),
            addresses: vec!["fe80::1".parse().unwrap()],
            ..Client::default()
        };
        let lan = Lan { clients: vec![client], ..Lan::default() };
        let vm = Vm {
            name: "vm1".to_owned(),
            next_hop: Some("2001:db8::2".parse().unwrap()),
            containers: vec!["2001:db8:0:0:21::/80".parse().unwrap()],
            ..Vm::default()
        };
        let status = Status { lans: vec![lan], vms: vec![vm], ..Status::default() };
        let found = filter(&status, "vm1").unwrap();
        assert_eq!((found.macs.len(), found.nets.len()), (1, 3));
        assert_eq!(filter(&status, "2001:db8::/64").unwrap().nets.len(), 1);
        assert_eq!(filter(&status, "192.0.2.1").unwrap().nets.len(), 1);
        assert_eq!(filter(&status, "vm2"), None);
    }
}

//! Learns which host has which address on the LANs, and tells the network task whom to admit.
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sixgate_engine::facts::{Discovered, MacAddr};
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::savi::{Savi, SaviPlan, Sources};
use sixgate_engine::status::Contest;
use sixgate_linux::netlink::Netlink;
use sixgate_linux::nft::sources::{self, Unadmitted, Unknown};
use sixgate_linux::packet_socket::{Kind, PacketSocket};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::clock::{now, sleep_until};
use crate::wiring::Desired;

/// Neighbor Discovery messages are far shorter.
const LONGEST: usize = 1500;

/// This task's ends of the channels.
pub struct Ends {
    /// The plan.
    pub desired: watch::Receiver<Desired>,
    /// Who may send from where.
    pub sources: watch::Sender<Arc<Vec<Sources>>>,
    /// What discovery shows of the VMs.
    pub discovered: watch::Sender<Vec<Discovered>>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// Addresses that hosts have, by the LAN's name.
    pub bound: BTreeMap<String, usize>,
    /// What became of claims.
    pub claims: BTreeMap<String, u64>,
    /// VMs that do not answer any more.
    pub silent: BTreeSet<String>,
    /// Addresses that two hosts wanted, by the LAN's name.
    pub contests: BTreeMap<String, Vec<Contest>>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Runs until there are no plans any more.
pub async fn run(mut ends: Ends) {
    let mut savi = Savi::default();
    let mut remembered = false;
    let (mut backoff, mut told) = (Backoff::default(), None);
    loop {
        let plan = wanted(&ends.desired.borrow_and_update());
        savi.reconfigure(&plan, now());
        // Once there are links to compare it with, and before the network task loads anything else.
        if !plan.links.is_empty() && !remembered {
            let held = sources::held().await.unwrap_or_default();
            held.iter().for_each(|(interface, hosts)| savi.remember(interface, hosts, now()));
            remembered = true;
        }
        let failure = match Sockets::open(&plan).await {
            Ok(sockets) => {
                backoff.succeeded();
                heard_before(&plan, &mut savi).await;
                match serve(&mut ends, sockets, &plan, &mut savi, &mut told).await {
                    Ok(Next::Again) => continue,
                    Ok(Next::End) => return,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        report(&ends, &savi, &plan, &mut told, Some(&failure));
        tokio::select! {
            () = sleep(backoff.failed()) => {}
            changed = ends.desired.changed() => if changed.is_err() { return },
        }
    }
}

/// Whoever solicited before anybody listened here is in the kernel's neighbour cache, and is asked for its address.
async fn heard_before(plan: &SaviPlan, savi: &mut Savi) {
    let Ok(netlink) = Netlink::connect() else { return };
    for neighbour in netlink.neighbours().await.unwrap_or_default() {
        let IpAddr::V6(address) = neighbour.address else { continue };
        let served = plan.links.iter().any(|link| link.link == neighbour.link);
        if let Some(mac) = neighbour.mac.filter(|_| served && neighbour.seen) {
            savi.handle_unknown(neighbour.link, address, mac, now());
        }
    }
}

enum Next {
    /// Other links are to be served.
    Again,
    /// There are no plans any more.
    End,
}

fn wanted(desired: &Desired) -> SaviPlan {
    desired.plan().map(|plan| plan.savi.clone()).unwrap_or_default()
}

/// Serves as long as the links stay the same.
async fn serve(
    ends: &mut Ends,
    mut sockets: Sockets,
    plan: &SaviPlan,
    savi: &mut Savi,
    told: &mut Option<u64>,
) -> io::Result<Next> {
    let links = |plan: &SaviPlan| plan.links.iter().map(|link| link.link).collect::<Vec<_>>();
    let served = links(plan);
    let mut plan = plan.clone();
    let mut buffer = vec![0; LONGEST];
    loop {
        savi.handle_timeout(now());
        while let Some(transmit) = savi.poll_transmit() {
            // A link that is down for the moment is asked again.
            if let Err(error) = sockets.send(transmit.link, transmit.to, &transmit.packet).await {
                tracing::debug!("link {}: {error}", transmit.link);
            }
        }
        report(ends, savi, &plan, told, None);
        tokio::select! {
            changed = ends.desired.changed() => {
                if changed.is_err() {
                    return Ok(Next::End);
                }
                plan = wanted(&ends.desired.borrow_and_update());
                if links(&plan) != served {
                    return Ok(Next::Again);
                }
                savi.reconfigure(&plan, now());
            }
            heard = sockets.receive(&mut buffer) => match heard? {
                Heard::Discovery { link, length, from } => {
                    savi.handle_discovery(link, buffer.get(..length).unwrap_or_default(), from, now());
                }
                Heard::Unknown(Unknown { link, mac, source }) => {
                    savi.handle_unknown(link, source, mac, now());
                }
            },
            () = sleep_until(savi.poll_timeout()) => {}
        }
    }
}

/// `told` is the generation of sources that the network task has been told.
fn report(ends: &Ends, savi: &Savi, plan: &SaviPlan, told: &mut Option<u64>, failure: Option<&io::Error>) {
    if *told != Some(savi.generation()) {
        *told = Some(savi.generation());
        let sources = savi.sources();
        ends.sources.send_if_modified(|held| {
            let changed = **held != sources;
            if changed {
                *held = Arc::new(sources);
            }
            changed
        });
    }
    let shown = savi.link_locals().into_iter().map(|(link, mac, address)| Discovered { link, mac, address });
    let shown: Vec<Discovered> = shown.collect();
    ends.discovered.send_if_modified(|held| {
        let changed = *held != shown;
        *held = shown;
        changed
    });
    let mut findings: Vec<Finding> = savi.silent().iter().map(|name| silent(name)).collect();
    findings.extend(failure.map(unheard));
    let new = Slice {
        bound: plan.links.iter().map(|link| (link.lan.clone(), savi.bound(link.link))).collect(),
        claims: savi.claims().iter().map(|(claim, count)| (claim.name().to_owned(), *count)).collect(),
        silent: savi.silent().clone(),
        contests: plan.links.iter().map(|link| (link.lan.clone(), contests(savi, link.link))).collect(),
        findings,
    };
    ends.slice.send_if_modified(|slice| {
        let changed = *slice != new;
        *slice = new;
        changed
    });
}

/// For the console: who wanted what another had, and when.
fn contests(savi: &Savi, link: u32) -> Vec<Contest> {
    let (now, unix) = (now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let told = savi.contests(link, now).into_iter().map(|(address, contest)| Contest {
        address: address.to_string(),
        holder: contest.holder.to_string(),
        claimant: contest.claimant.to_string(),
        detection: contest.detection,
        times: contest.times,
        at: unix.saturating_sub(now.saturating_since(contest.at).as_secs()),
    });
    told.collect()
}

fn silent(name: &str) -> Finding {
    Finding::new(
        Severity::Warning,
        "vm-silent",
        name,
        format!("{name} does not answer any more: its containers cannot be reached"),
        format!("see whether {name} runs and has its address; it is asked again every 15 s"),
    )
}

fn unheard(error: &io::Error) -> Finding {
    Finding::new(
        Severity::Error,
        "sources-not-learnt",
        "anti-spoofing",
        format!("addresses of hosts on the LANs are not learnt, so that new ones are refused: {error}"),
        "load the kernel module nfnetlink_log and see that sixgate runs as root; or set anti_spoofing = false in [[lan]]",
    )
}

enum Heard {
    Discovery { link: u32, length: usize, from: MacAddr },
    Unknown(Unknown),
}

/// Three sockets on each LAN, and one for what was not admitted.
struct Sockets {
    discovery: Vec<(u32, PacketSocket)>,
    unadmitted: Option<Unadmitted>,
}

impl Sockets {
    async fn open(plan: &SaviPlan) -> io::Result<Self> {
        let mut discovery = Vec::new();
        for link in &plan.links {
            for kind in [Kind::NeighborSolicitation, Kind::NeighborAdvertisement, Kind::RouterSolicitation] {
                discovery.push((link.link, PacketSocket::open(link.link, kind)?));
            }
        }
        let unadmitted = match plan.links.is_empty() {
            true => None,
            false => Some(Unadmitted::open().await.map_err(io::Error::other)?),
        };
        Ok(Self { discovery, unadmitted })
    }

    async fn send(&self, link: u32, to: MacAddr, packet: &[u8]) -> io::Result<()> {
        match self.discovery.iter().find(|(at, _)| *at == link) {
            Some((_, socket)) => socket.send(to, packet).await,
            None => Ok(()),
        }
    }

    async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Heard> {
        let discovery = &self.discovery;
        let heard = std::future::poll_fn(|context| {
            for (link, socket) in discovery {
                if let std::task::Poll::Ready(received) = socket.poll_receive(context, buffer) {
                    return std::task::Poll::Ready(received.map(|(length, from)| (*link, length, from)));
                }
            }
            std::task::Poll::Pending
        });
        let unknown = async {
            match &mut self.unadmitted {
                Some(unadmitted) => unadmitted.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = heard => heard.map(|(link, length, from)| Heard::Discovery { link, length, from }),
            unknown = unknown => unknown.map(Heard::Unknown).ok_or_else(|| io::Error::other("NFLOG has ended")),
        }
    }
}

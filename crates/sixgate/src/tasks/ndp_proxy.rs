//! Answers Neighbor Solicitations on the uplink for what lies behind the router.
use std::collections::BTreeMap;
use std::io;

use sixgate_engine::facts::MacAddr;
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::ndp_proxy::{NdpProxy, NdpProxyPlan, Transmit};
use sixgate_engine::status;
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
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// The proxy; absent when switched off.
    pub status: Option<status::NdpProxy>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Runs until there are no plans any more.
pub async fn run(mut ends: Ends) {
    let mut backoff = Backoff::default();
    loop {
        let plan = wanted(&ends.desired.borrow_and_update());
        let Some(plan) = plan else {
            ends.slice.send_if_modified(|slice| std::mem::take(slice) != Slice::default());
            if ends.desired.changed().await.is_err() {
                return;
            }
            continue;
        };
        let failure = match Sockets::open(&plan) {
            Ok(sockets) => {
                backoff.succeeded();
                match serve(&mut ends, sockets, plan).await {
                    Ok(Next::Again) => continue,
                    Ok(Next::End) => return,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        ends.slice.send_replace(Slice { status: None, findings: vec![unheard(&failure)] });
        tokio::select! {
            () = sleep(backoff.failed()) => {}
            changed = ends.desired.changed() => if changed.is_err() { return },
        }
    }
}

enum Next {
    /// Other links are to be served.
    Again,
    /// There are no plans any more.
    End,
}

fn wanted(desired: &Desired) -> Option<NdpProxyPlan> {
    desired.plan().and_then(|plan| plan.ndp_proxy.clone())
}

/// Serves as long as the links stay the same.
async fn serve(ends: &mut Ends, sockets: Sockets, plan: NdpProxyPlan) -> io::Result<Next> {
    let links = |plan: &NdpProxyPlan| -> Vec<u32> {
        std::iter::once(plan.link).chain(plan.downstream.iter().map(|downstream| downstream.link)).collect()
    };
    let served = links(&plan);
    let mut proxy = NdpProxy::new(plan, now());
    let mut buffer = vec![0; LONGEST];
    loop {
        proxy.handle_timeout(now());
        while let Some(transmit) = proxy.poll_transmit() {
            sockets.send(&transmit).await?;
        }
        report(&ends.slice, &proxy);
        tokio::select! {
            changed = ends.desired.changed() => {
                if changed.is_err() {
                    return Ok(Next::End);
                }
                let plan = wanted(&ends.desired.borrow_and_update());
                match plan.filter(|plan| links(plan) == served) {
                    Some(plan) => proxy.reconfigure(plan),
                    None => return Ok(Next::Again),
                }
            }
            received = sockets.receive(&mut buffer) => {
                let (link, length, from) = received?;
                let packet = buffer.get(..length).unwrap_or_default();
                if link == proxy.plan().link {
                    proxy.handle_solicitation(packet, from, now());
                } else {
                    proxy.handle_advertisement(link, packet, now());
                }
            }
            () = sleep_until(proxy.poll_timeout()) => {}
        }
    }
}

fn report(slice: &watch::Sender<Slice>, proxy: &NdpProxy) {
    let (alive, remembered) = proxy.targets();
    let messages: BTreeMap<String, u64> =
        proxy.verdicts().iter().map(|(verdict, count)| (verdict.name().to_owned(), *count)).collect();
    let prefixes = proxy.plan().prefixes.len();
    let status = status::NdpProxy { mac: proxy.plan().mac.to_string(), prefixes, alive, remembered, messages };
    slice.send_if_modified(|slice| {
        let new = Slice { status: Some(status), findings: Vec::new() };
        let changed = *slice != new;
        *slice = new;
        changed
    });
}

fn unheard(error: &io::Error) -> Finding {
    Finding::new(
        Severity::Warning,
        "ndp-proxy-not-running",
        "wan",
        format!("the provider's solicitations are not answered: {error}"),
        "check that the links are up and that sixgate runs as root or with CAP_NET_RAW",
    )
}

/// One socket on the uplink for solicitations, and one on each LAN for answers.
struct Sockets(Vec<(u32, PacketSocket)>);

impl Sockets {
    fn open(plan: &NdpProxyPlan) -> io::Result<Self> {
        let mut sockets = vec![(plan.link, PacketSocket::open(plan.link, Kind::NeighborSolicitation)?)];
        for downstream in &plan.downstream {
            sockets.push((downstream.link, PacketSocket::open(downstream.link, Kind::NeighborAdvertisement)?));
        }
        Ok(Self(sockets))
    }

    async fn send(&self, transmit: &Transmit) -> io::Result<()> {
        match self.0.iter().find(|(link, _)| *link == transmit.link) {
            Some((_, socket)) => socket.send(transmit.to, &transmit.packet).await,
            None => Ok(()),
        }
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(u32, usize, MacAddr)> {
        std::future::poll_fn(|context| {
            for (link, socket) in &self.0 {
                if let std::task::Poll::Ready(received) = socket.poll_receive(context, buffer) {
                    return std::task::Poll::Ready(received.map(|(length, from)| (*link, length, from)));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

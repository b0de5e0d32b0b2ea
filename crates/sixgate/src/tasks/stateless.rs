//! Answers hosts on LANs that ask by DHCPv6 for resolvers and time servers.
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddrV6;
use std::time::Duration;

use sixgate_engine::dhcp::stateless::{StatelessPlan, Verdict, answer};
use sixgate_engine::finding::{Finding, Severity};
use sixgate_linux::dhcpv6_socket::Dhcpv6ServerSocket;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::wiring::Desired;

/// Longer requests do not cross an Ethernet; jumbo frames get room.
const LONGEST: usize = 9216;
/// How long a socket that failed rests.
const REST: Duration = Duration::from_secs(2);

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
    /// Messages by what became of them, by the LAN's name.
    pub messages: BTreeMap<String, BTreeMap<String, u64>>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// One link.
struct Service {
    plan: StatelessPlan,
    socket: Option<Dhcpv6ServerSocket>,
    problem: Option<io::Error>,
    messages: BTreeMap<Verdict, u64>,
}

/// Runs until there are no plans any more.
pub async fn run(mut ends: Ends) {
    let mut services: Vec<Service> = Vec::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let plans = ends.desired.borrow_and_update().plan().map(|plan| plan.stateless.clone()).unwrap_or_default();
        follow(&mut services, plans);
        report(&ends.slice, &services);
        let broken = services.iter().any(|service| service.socket.is_none());
        tokio::select! {
            changed = ends.desired.changed() => if changed.is_err() { return },
            (index, received) = receive(&services, &mut buffer) => {
                let Some(service) = services.get_mut(index) else { continue };
                match received {
                    Ok((length, peer)) => service.take(buffer.get(..length).unwrap_or_default(), peer).await,
                    Err(error) => (service.socket, service.problem) = (None, Some(error)),
                }
            }
            () = sleep(REST), if broken => {}
        }
    }
}

/// One service for each plan, each with a socket.
fn follow(services: &mut Vec<Service>, plans: Vec<StatelessPlan>) {
    services.retain(|service| plans.iter().any(|plan| plan.lan == service.plan.lan && plan.link == service.plan.link));
    for plan in plans {
        match services.iter_mut().find(|service| service.plan.lan == plan.lan) {
            Some(service) => service.plan = plan,
            None => services.push(Service { plan, socket: None, problem: None, messages: BTreeMap::new() }),
        }
    }
    for service in services.iter_mut().filter(|service| service.socket.is_none()) {
        match Dhcpv6ServerSocket::open(&service.plan.interface, service.plan.link) {
            Ok(socket) => (service.socket, service.problem) = (Some(socket), None),
            Err(error) => service.problem = Some(error),
        }
    }
}

async fn receive(services: &[Service], buffer: &mut [u8]) -> (usize, io::Result<(usize, SocketAddrV6)>) {
    std::future::poll_fn(|context| {
        for (index, service) in services.iter().enumerate() {
            let Some(socket) = &service.socket else { continue };
            if let std::task::Poll::Ready(received) = socket.poll_receive(context, buffer) {
                return std::task::Poll::Ready((index, received));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

impl Service {
    async fn take(&mut self, datagram: &[u8], peer: SocketAddrV6) {
        let (verdict, reply) = match answer(&self.plan, datagram, *peer.ip()) {
            Ok(reply) => (Verdict::Answered, Some(reply)),
            Err(verdict) => (verdict, None),
        };
        *self.messages.entry(verdict).or_default() += 1;
        tracing::trace!(interface = %self.plan.interface, %peer, "{}", verdict.name());
        if let (Some(socket), Some(reply)) = (&self.socket, reply)
            && let Err(error) = socket.send(&reply, peer).await
        {
            // A host that is gone is nobody's trouble.
            tracing::debug!("{}: {error}", self.plan.interface);
        }
    }
}

fn report(slice: &watch::Sender<Slice>, services: &[Service]) {
    let messages = services.iter().map(|service| {
        let counts = service.messages.iter().map(|(verdict, count)| (verdict.name().to_owned(), *count));
        (service.plan.lan.clone(), counts.collect())
    });
    let findings = services.iter().filter_map(|service| {
        let error = service.problem.as_ref()?;
        Some(Finding::new(
            Severity::Warning,
            "dhcpv6-not-served",
            service.plan.lan.as_str(),
            format!("hosts on {} that ask by DHCPv6 are not answered: {error}", service.plan.interface),
            "see that no other DHCPv6 server runs on this machine, and that sixgate runs as root",
        ))
    });
    let new = Slice { messages: messages.collect(), findings: findings.collect() };
    slice.send_if_modified(|slice| {
        let changed = *slice != new;
        *slice = new;
        changed
    });
}

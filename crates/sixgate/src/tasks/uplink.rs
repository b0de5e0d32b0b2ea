//! Learns what the uplink tells: drives the engine's clients, keeps their memory in a file, and publishes what is learnt.
use std::path::PathBuf;
use std::sync::Arc;

use sixgate_engine::facts::Facts;
use sixgate_engine::finding::Finding;
use sixgate_engine::plan::uplink_link;
use sixgate_engine::prefix::Learnt;
use sixgate_engine::status;
use sixgate_engine::uplink::{Moment, Uplink, Wanted};
use tokio::sync::{mpsc, watch};

use crate::clock::{now, seed, sleep_until};
use crate::wiring::{Configured, Resumed, Withdraw};

mod remembered;
mod sockets;

use remembered::Remembered;
use sockets::{Received, Sockets};

/// This task's ends of the channels.
pub struct Ends {
    /// The configuration.
    pub configured: watch::Receiver<Configured>,
    /// The kernel's facts.
    pub facts: watch::Receiver<Option<Arc<Facts>>>,
    /// Asks for a new start, with what is remembered.
    pub restart: mpsc::Receiver<Withdraw>,
    /// The machine goes on from another time.
    pub resumed: watch::Receiver<Resumed>,
    /// What is learnt; absent until it is known what a former daemon had learnt.
    pub learnt: watch::Sender<Option<Arc<Learnt>>>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// What the uplink was told.
    pub status: status::Uplink,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Runs until a source of input is gone. What is to outlive the daemon is kept in the folder `state`.
pub async fn run(mut ends: Ends, state: PathBuf) {
    let mut remembered = Remembered::open(state);
    let mut uplink = Uplink::new(remembered.memory(), seed(), &moment());
    let mut sockets = Sockets::default();
    loop {
        let config = ends.configured.borrow_and_update().clone();
        let facts = ends.facts.borrow_and_update().clone();
        if let (Some(config), Some(facts)) = (&config.config, &facts) {
            let link = uplink_link(config, facts);
            uplink.follow(&Wanted::of(config), link.as_ref(), &moment());
            uplink.handle_timeout(now());
            sockets.follow(&uplink);
            while let Some(transmit) = uplink.poll_transmit() {
                sockets.send(transmit).await;
            }
            publish(&ends, &uplink);
            remembered.keep(uplink.remember(&moment()));
        } else if config.attempted && config.config.is_none() {
            publish(&ends, &uplink);
        }
        let mut findings: Vec<Finding> = sockets.findings().into_iter().chain(remembered.finding()).collect();
        findings.dedup();
        let slice = Slice { status: uplink.status(&moment()), findings };
        ends.slice.send_if_modified(|old| {
            let latest = slice.status.changes.last();
            if let Some(change) = latest.filter(|latest| old.status.changes.last() != Some(latest)) {
                tracing::info!("uplink: gone {:?}, new {:?}", change.gone, change.new);
            }
            let changed = *old != slice;
            *old = slice;
            changed
        });
        tokio::select! {
            changed = ends.configured.changed() => if changed.is_err() { return },
            changed = ends.facts.changed() => if changed.is_err() { return },
            changed = ends.resumed.changed() => {
                if changed.is_err() {
                    return;
                }
                uplink.handle_resume(now());
            }
            Some(done) = ends.restart.recv() => {
                sockets = Sockets::default();
                uplink.handle_resume(now());
                tracing::info!("the uplink's clients start anew");
                let _ = done.send(());
            }
            received = sockets.receive() => match received {
                Received::Dhcp4(packet, from) => uplink.handle_ipv4(packet, from, now()),
                Received::Arp(packet) => uplink.handle_arp(packet, now()),
                Received::Icmpv6(message, source, hop) => uplink.handle_icmpv6(message, source, hop, now()),
                Received::Dhcp6(datagram) => uplink.handle_dhcp6(datagram, now()),
                Received::Nothing => {}
            },
            () = sleep_until(uplink.poll_timeout()) => {}
        }
    }
}

fn publish(ends: &Ends, uplink: &Uplink) {
    ends.learnt.send_if_modified(|old| {
        let changed = old.as_deref() != Some(uplink.learnt());
        if changed {
            *old = Some(Arc::new(uplink.learnt().clone()));
        }
        changed
    });
}

fn moment() -> Moment {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    Moment { now: now(), unix, boot: sixgate_linux::system::boot() }
}

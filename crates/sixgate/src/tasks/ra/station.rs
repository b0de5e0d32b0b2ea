//! One link's advertiser with its socket.
use std::io;
use std::path::PathBuf;

use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::plan::RaPlan;
use sixgate_engine::ra::{Advertiser, Transmit};
use sixgate_linux::icmpv6::{ALL_NODES, RaSocket};
use tokio::sync::watch;
use tokio::time::sleep;

use super::told::{Told, unix};
use super::{Order, Slice};
use crate::backoff::Backoff;
use crate::clock::{now, seed, sleep_until};
use crate::wiring::Resumed;

/// Longer solicitations and advertisements do not cross an Ethernet; jumbo frames get room.
const LONGEST: usize = 9216;

/// Runs until it is ordered to cease or to leave, and has said so on the link.
pub(super) async fn run(
    mut orders: watch::Receiver<Order>,
    mut resumed: watch::Receiver<Resumed>,
    slice: watch::Sender<Slice>,
    state: PathBuf,
) {
    let Order::Advertise(plan) = orders.borrow_and_update().clone() else { return };
    let told = Told::open(&state, &plan.lan);
    let advertiser = Advertiser::new(&plan, seed(), now()).knowing(told.known(), now(), unix());
    let mut station = Station { advertiser, told, link: plan.link, plan: *plan, slice };
    let mut backoff = Backoff::default();
    loop {
        let failure = match RaSocket::open(&station.plan.interface, station.link) {
            Ok(socket) => {
                backoff.succeeded();
                match station.advertise(&socket, &mut orders, &mut resumed).await {
                    Ok(()) => break,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if !station.advertises(&orders) {
            break;
        }
        station.report(Some(&failure));
        tokio::select! {
            () = sleep(backoff.failed()) => {}
            changed = orders.changed() => if changed.is_err() { break },
        }
    }
    station.vanish();
}

struct Station {
    advertiser: Advertiser,
    told: Told,
    link: u32,
    plan: RaPlan,
    slice: watch::Sender<Slice>,
}

impl Station {
    /// Drives the advertiser until its last advertisement is out, or the socket fails.
    async fn advertise(
        &mut self,
        socket: &RaSocket,
        orders: &mut watch::Receiver<Order>,
        resumed: &mut watch::Receiver<Resumed>,
    ) -> io::Result<()> {
        let mut incoming = vec![0; LONGEST];
        loop {
            let leaves = self.obey(&orders.borrow_and_update());
            self.advertiser.handle_timeout(now());
            let mut refused = None;
            while let Some(Transmit { source, destination, message }) = self.advertiser.poll_transmit() {
                let sent = socket.send(source, destination, &message).await;
                // An address that the link has lost says farewell in vain; a host that is gone is nobody's trouble.
                let matters = source == self.plan.source && destination == ALL_NODES;
                refused = sent.err().filter(|_| matters).or(refused);
            }
            self.report(refused.as_ref());
            self.told.keep(self.advertiser.known(now(), unix()));
            if leaves || self.advertiser.is_finished() {
                return Ok(());
            }
            tokio::select! {
                changed = orders.changed() => if changed.is_err() { return Ok(()) },
                changed = resumed.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.advertiser.handle_resume(now());
                }
                received = socket.receive(&mut incoming) => {
                    let received = received?;
                    let message = incoming.get(..received.length).unwrap_or_default();
                    let verdict = self.advertiser.handle_input(message, received.source, received.hop_limit, now());
                    tracing::trace!(interface = %self.plan.interface, source = %received.source, "{}", verdict.name());
                }
                () = sleep_until(self.advertiser.poll_timeout()) => {}
            }
        }
    }

    /// Whether this is the last turn.
    fn obey(&mut self, order: &Order) -> bool {
        match order {
            Order::Advertise(plan) => {
                self.plan = RaPlan::clone(plan);
                self.advertiser.reconfigure(plan, now());
                false
            }
            Order::Cease => {
                self.advertiser.cease(now());
                false
            }
            Order::Leave => {
                self.advertiser.cease(now());
                true
            }
        }
    }

    fn advertises(&self, orders: &watch::Receiver<Order>) -> bool {
        matches!(&*orders.borrow(), Order::Advertise(_))
    }

    fn report(&self, failure: Option<&io::Error>) {
        let advertised = self.advertiser.status();
        let mut problems: Vec<Finding> = advertised.findings(&self.plan.lan);
        problems.extend(failure.map(|error| unsent(&self.plan.interface, error)));
        self.slice.send_if_modified(|slice| {
            let changed = slice.advertised.get(&self.plan.lan) != Some(&advertised)
                || slice.problems.get(&self.plan.interface) != Some(&problems);
            slice.advertised.insert(self.plan.lan.clone(), advertised);
            slice.problems.insert(self.plan.interface.clone(), problems);
            changed
        });
    }

    fn vanish(&self) {
        self.slice.send_modify(|slice| {
            slice.advertised.remove(&self.plan.lan);
            slice.problems.remove(&self.plan.interface);
        });
    }
}

fn unsent(interface: &str, error: &io::Error) -> Finding {
    Finding::new(
        Severity::Warning,
        "ra-not-sent",
        interface,
        format!("router advertisements cannot be sent or received there: {error}"),
        "check that the link is up and that sixgate runs as root or with CAP_NET_RAW",
    )
}

//! What hypervisor and provider do to packets on their way, told from what never comes: nobody on a LAN answers, the gateway does not.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::status::{Lan, Status};
use sixgate_engine::time::Instant;
use sixgate_linux::facts::Neighbour;
use sixgate_linux::netlink::Netlink;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::now;
use crate::wiring::Ask;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(15);
/// A LAN on which nobody has said anything for so long since it was advertised on first. Machines that start take a while.
const NOBODY: Duration = Duration::from_secs(300);
/// Advertisements that somebody should have heard.
const ADVERTISED: u64 = 3;
/// A gateway that did not answer for so long in a row.
const SILENT: Duration = Duration::from_secs(45);

/// This task's ends of the channels.
pub struct Ends {
    /// Asks for the whole state.
    pub ask: mpsc::Sender<Ask>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Runs until nobody answers any more.
pub async fn run(ends: Ends) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watched = Watched::default();
    loop {
        tick.tick().await;
        let (question, answer) = oneshot::channel();
        if ends.ask.send(question).await.is_err() {
            return;
        }
        let Ok(status) = answer.await else { return };
        let neighbours = match Netlink::connect() {
            Ok(netlink) => netlink.neighbours().await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let slice = Slice { findings: watched.judge(&status, &neighbours, now()) };
        ends.slice.send_if_modified(|old| std::mem::replace(old, slice) != *old);
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Watched {
    /// LANs that are advertised on, since when, and whether anybody was ever heard there.
    lans: BTreeMap<String, (Instant, bool)>,
    /// Gateways that do not answer, since when.
    silent: BTreeMap<IpAddr, Instant>,
}

impl Watched {
    fn judge(&mut self, status: &Status, neighbours: &[Neighbour], now: Instant) -> Vec<Finding> {
        let mut findings: Vec<Finding> = status.lans.iter().filter_map(|lan| self.lan(lan, now)).collect();
        self.lans.retain(|name, _| status.lans.iter().any(|lan| lan.name == *name));
        let asked = |gateway: &IpAddr| neighbours.iter().any(|known| known.address == *gateway);
        let answers = |gateway: &IpAddr| neighbours.iter().any(|known| known.address == *gateway && known.seen);
        self.silent.retain(|gateway, _| status.wan.gateways.contains(gateway) && !answers(gateway));
        for gateway in
            status.wan.gateways.iter().filter(|gateway| status.wan.carrier && asked(gateway) && !answers(gateway))
        {
            let since = *self.silent.entry(*gateway).or_insert(now);
            if now.saturating_since(since) >= SILENT {
                findings.push(gateway_silent(status, *gateway));
            }
        }
        findings
    }

    fn lan(&mut self, lan: &Lan, now: Instant) -> Option<Finding> {
        let advertised = lan.advertised.as_ref().filter(|advertised| lan.interface.carrier && advertised.sent > 0)?;
        let (since, heard) = self.lans.entry(lan.name.clone()).or_insert((now, false));
        *heard |= advertised.solicitations > 0 || !lan.clients.is_empty();
        let due = now.saturating_since(*since) >= NOBODY && advertised.sent >= ADVERTISED;
        (due && !*heard).then(|| nobody_answers(lan, advertised.sent))
    }
}

fn nobody_answers(lan: &Lan, sent: u64) -> Finding {
    Finding::new(
        Severity::Warning,
        "lan-nobody-answers",
        lan.name.as_str(),
        format!(
            "{sent} router advertisements were sent on {} and nobody has ever asked or answered there: no machine runs there yet, or the \
             hypervisor drops them",
            lan.interface.name
        ),
        "on Proxmox, where its firewall is on for this card: `pvesh set /nodes/$(hostname)/qemu/VMID/firewall/options --radv 1`; on the card's \
         bridge: `echo 0 > /sys/class/net/vmbr1/bridge/multicast_snooping`",
    )
}

fn gateway_silent(status: &Status, gateway: IpAddr) -> Finding {
    let name = &status.wan.name;
    let mac = status.cards.iter().find(|card| card.name == *name).map_or("", |card| &card.mac);
    Finding::new(
        Severity::Warning,
        "wan-gateway-silent",
        name.as_str(),
        format!(
            "the gateway {gateway} does not answer on {name}, which has the hardware address {mac}: many providers answer one address \
             only, that of their own web page"
        ),
        "write the provider's address as `present_mac` under [wan], or on Proxmox `qm set VMID --net0 virtio=MAC,bridge=vmbr0,firewall=0`, \
         whose firewall else drops others (macfilter)",
    )
}

#[cfg(test)]
mod tests {
    use sixgate_engine::status::{Advertised, Card, Client, Interface};

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(1) + Duration::from_secs(seconds)
    }

    fn status(sent: u64, solicitations: u64) -> Status {
        let gateways = vec!["fe80::1".parse().unwrap()];
        let card = |name: &str| Interface { name: name.to_owned(), carrier: true, ..Interface::default() };
        let advertised = Some(Advertised { sent, solicitations, ..Advertised::default() });
        Status {
            wan: Interface { gateways, ..card("eth0") },
            cards: vec![Card { name: "eth0".to_owned(), mac: "bc:24:11:00:00:01".to_owned(), link: true }],
            lans: vec![Lan { name: "vms".to_owned(), interface: card("eth1"), advertised, ..Lan::default() }],
            ..Status::default()
        }
    }

    fn codes(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.code.as_str()).collect()
    }

    #[test]
    fn a_lan_on_which_nobody_was_ever_heard_is_told_after_five_minutes_and_never_again_once_somebody_was() {
        let mut watched = Watched::default();
        assert!(watched.judge(&status(1, 0), &[], at(0)).is_empty());
        assert!(watched.judge(&status(5, 0), &[], at(299)).is_empty());
        assert_eq!(codes(&watched.judge(&status(5, 0), &[], at(300))), ["lan-nobody-answers"]);
        let mut heard = status(6, 0);
        heard.lans[0].clients.push(Client::default());
        assert!(watched.judge(&heard, &[], at(315)).is_empty());
        assert!(watched.judge(&status(9, 0), &[], at(4000)).is_empty(), "it left; that is no trouble of the host's");
    }

    #[test]
    fn a_gateway_that_stays_silent_is_told_with_the_address_that_it_may_not_like() {
        let known = |seen| Neighbour { link: 2, address: "fe80::1".parse().unwrap(), mac: None, seen, confirmed: None };
        let mut watched = Watched::default();
        let quiet = status(0, 0);
        assert!(watched.judge(&quiet, &[], at(0)).is_empty(), "nobody has asked it");
        assert!(watched.judge(&quiet, &[known(false)], at(10)).is_empty());
        let findings = watched.judge(&quiet, &[known(false)], at(55));
        assert_eq!(codes(&findings), ["wan-gateway-silent"]);
        assert!(findings[0].text.contains("bc:24:11:00:00:01"));
        assert!(watched.judge(&quiet, &[known(true)], at(60)).is_empty());
        assert!(watched.judge(&quiet, &[known(false)], at(70)).is_empty(), "it is waited for anew");
    }
}

//! Puts the slices of all tasks together when somebody asks, and logs findings as they come and go.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sixgate_engine::config::{self, Config};
use sixgate_engine::facts::{Discovered, Facts, Link};
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::plan::next_hop;
use sixgate_engine::prefix::{self, Learnt};
use sixgate_engine::status::{self, Advertised, Interface, Lan, Status, System, Vm};
use sixgate_linux::facts::{Counters, Neighbour};
use sixgate_linux::netlink::Netlink;
use sixgate_linux::network::Gateway;
use sixgate_linux::system::Machine;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::now;
use crate::init::starter;
use crate::tasks::{
    appliance, connections, control, ddns, denials, dns64, facts, host, metrics, nat64, nat64_log, ndp_proxy, network,
    ra, savi, stateless, time, uplink, vm_prefixes,
};
use crate::wiring::{Ask, Configured, Desired};

mod clients;
mod firewall;
mod sightings;

use sightings::Sightings;

/// How often findings are compared with those that were logged.
const FINDINGS_EVERY: Duration = Duration::from_secs(1);

/// This task's ends of the channels.
pub struct Ends {
    /// Who wants to know.
    pub asked: mpsc::Receiver<Ask>,
    /// The configuration and what is wrong with the file.
    pub configured: watch::Receiver<Configured>,
    /// The facts.
    pub facts: watch::Receiver<Option<Arc<Facts>>>,
    /// What is learnt on the uplink.
    pub learnt: watch::Receiver<Option<Arc<Learnt>>>,
    /// Slice of the uplink's clients.
    pub uplink: watch::Receiver<uplink::Slice>,
    /// What discovery shows of the VMs.
    pub discovered: watch::Receiver<Vec<Discovered>>,
    /// The plan, for its findings.
    pub desired: watch::Receiver<Desired>,
    /// Slice of the facts task.
    pub facts_slice: watch::Receiver<facts::Slice>,
    /// Slice of the network task.
    pub network: watch::Receiver<network::Slice>,
    /// Established flows past rules and routing.
    pub flows: watch::Receiver<Option<status::FlowOffload>>,
    /// Slice of the advertisers.
    pub ra: watch::Receiver<ra::Slice>,
    /// Slice of the denials.
    pub denials: watch::Receiver<denials::Slice>,
    /// Slice of the resolver.
    pub dns64: watch::Receiver<dns64::Slice>,
    /// Slice of the translator.
    pub nat64: watch::Receiver<nat64::Slice>,
    /// Slice of the translator's log.
    pub nat64_log: watch::Receiver<nat64_log::Slice>,
    /// Slice of the NDP proxy.
    pub ndp_proxy: watch::Receiver<ndp_proxy::Slice>,
    /// Slice of what hosts are told by DHCPv6.
    pub stateless: watch::Receiver<stateless::Slice>,
    /// Slice of the names outside.
    pub ddns: watch::Receiver<ddns::Slice>,
    /// Slice of what VMs are told.
    pub vm_prefixes: watch::Receiver<vm_prefixes::Slice>,
    /// Slice of source address validation.
    pub savi: watch::Receiver<savi::Slice>,
    /// Slice of the metrics' listeners.
    pub metrics: watch::Receiver<metrics::Slice>,
    /// Slice of the machine's task.
    pub appliance: watch::Receiver<appliance::Slice>,
    /// Slice of what hypervisor and provider do.
    pub host: watch::Receiver<host::Slice>,
    /// How many connections are tracked.
    pub connections: watch::Receiver<connections::Slice>,
    /// Slice of the clock.
    pub time: watch::Receiver<time::Slice>,
    /// Slice of the control socket.
    pub control: watch::Receiver<control::Slice>,
}

/// What is read from the kernel for one answer.
#[derive(Debug, Default)]
struct Readings {
    counters: BTreeMap<u32, Counters>,
    gateways: Vec<Gateway>,
    neighbours: Vec<Neighbour>,
    /// Who was seen when.
    sightings: Sightings,
}

/// Runs until nobody can ask any more.
pub async fn run(mut ends: Ends, starts: u32) {
    let began = Instant::now();
    let mut netlink = None;
    let mut sightings = Sightings::default();
    let mut logged = Vec::new();
    let mut tick = interval(FINDINGS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            asked = ends.asked.recv() => {
                let Some(asked) = asked else { return };
                let mut readings = read(&mut netlink).await;
                sightings.take(&readings.neighbours, now());
                readings.sightings = sightings;
                let mut status = assemble(&ends, &readings);
                sightings = readings.sightings;
                let network = ends.network.borrow().clone();
                status.firewall = firewall::read(network.ruleset.as_deref()).await;
                status.firewall.generation = network.generation;
                status.firewall.flow_offload.clone_from(&ends.flows.borrow());
                status.firewall.ended = network.ended;
                status.firewall.connections = ends.connections.borrow().status;
                status.firewall.denials = ends.denials.borrow().kept;
                status.firewall.logged = ends.denials.borrow().logged;
                status.cards = starter::present();
                status.system = system(status.system.hostname, began.elapsed(), starts);
                // Whoever asked may have gone away meanwhile.
                let _ = asked.send(status);
            }
            _ = tick.tick() => {
                let mut current = findings(&ends);
                // The configuration task has logged these itself, each time it read the file.
                current.retain(|finding| !finding.code.starts_with("configuration-"));
                log_changes(&mut logged, current);
            }
        }
    }
}

/// What cannot be read is shown as absent; the facts task tells why.
async fn read(netlink: &mut Option<Netlink>) -> Readings {
    let connected = match netlink.take() {
        Some(connected) => Some(connected),
        None => Netlink::connect().ok(),
    };
    let Some(connected) = connected else { return Readings::default() };
    let read = tokio::join!(connected.interface_counters(), connected.default_gateways(), connected.neighbours());
    let (Ok(counters), Ok(gateways), Ok(neighbours)) = read else { return Readings::default() };
    *netlink = Some(connected);
    Readings { counters, gateways, neighbours, ..Readings::default() }
}

fn system(hostname: String, daemon_uptime: Duration, starts: u32) -> System {
    let machine = Machine::read();
    System {
        hostname,
        sixgate: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: machine.kernel,
        daemon_uptime: daemon_uptime.as_secs(),
        machine_uptime: machine.uptime,
        memory_total: machine.memory_total,
        memory_available: machine.memory_available,
        daemon_resident: machine.resident,
        load: machine.load,
        starts,
    }
}

/// A channel that is borrowed while it is borrowed already waits for ever once a writer waits in between: every line
/// here borrows by itself and lets go.
fn assemble(ends: &Ends, readings: &Readings) -> Status {
    let facts = ends.facts.borrow().clone().unwrap_or_default();
    let config = ends.configured.borrow().config.clone();
    let advertised = ends.ra.borrow().advertised.clone();
    let control = ends.control.borrow().status();
    let mut nat64 = ends.nat64.borrow().status.clone();
    let log = ends.nat64_log.borrow().status.clone();
    nat64.iter_mut().for_each(|nat64| nat64.log.clone_from(&log));
    let dns64 = ends.dns64.borrow().status();
    let appliance = ends.appliance.borrow().status.clone();
    let clock = ends.time.borrow().status.clone();
    let findings = findings(ends);
    let version = status::VERSION;
    let mut status = Status { version, nat64, dns64, control, appliance, clock, findings, ..Status::default() };
    let Some(config) = config else { return status };
    status.control.password = config.console.password.is_some();
    let learnt = ends.learnt.borrow().clone().unwrap_or_default();
    // What does not fit is among the plan's findings already.
    let config: &Config = &prefix::resolve(&config, &learnt, &mut Vec::new());
    status.uplink = ends.uplink.borrow().status.clone();
    status.ndp_proxy = ends.ndp_proxy.borrow().status.clone();
    status.ddns = ends.ddns.borrow().status.clone();
    status.vm_hooks = ends.vm_prefixes.borrow().vms.clone();
    status.npt = ends.network.borrow().npt.clone();
    status.repairs = ends.network.borrow().repairs.clone();
    status.system.hostname.clone_from(&config.hostname);
    status.wan = interface(&config.wan.interface, &facts, readings);
    status.lans = config.lans.iter().map(|lan| lan_status(lan, config, &facts, readings, &advertised)).collect();
    let stateless = ends.stateless.borrow().messages.clone();
    for lan in &mut status.lans {
        lan.dhcpv6 = stateless.get(&lan.name).cloned().unwrap_or_default();
    }
    let savi = ends.savi.borrow().clone();
    let discovered = ends.discovered.borrow().clone();
    for lan in &mut status.lans {
        lan.contests = savi.contests.get(&lan.name).cloned().unwrap_or_default();
    }
    status.anti_spoofing = status::AntiSpoofing { bound: savi.bound, claims: savi.claims, silent: savi.silent };
    status.vms = config.vms.iter().map(|vm| vm_status(vm, config, &facts, &discovered, readings)).collect();
    status
}

fn lan_status(
    lan: &config::Lan,
    config: &Config,
    facts: &Facts,
    readings: &Readings,
    advertised: &BTreeMap<String, Advertised>,
) -> Lan {
    let link = link(&lan.interface, facts);
    Lan {
        name: lan.name.clone(),
        interface: interface(&lan.interface, facts, readings),
        advertised: advertised.get(&lan.name).cloned(),
        dhcpv6: BTreeMap::new(),
        clients: link.map_or_else(Vec::new, |link| {
            clients::clients(lan, link.index, config, &readings.neighbours, (&readings.sightings, now()))
        }),
        contests: Vec::new(),
    }
}

fn vm_status(vm: &config::Vm, config: &Config, facts: &Facts, discovered: &[Discovered], readings: &Readings) -> Vm {
    let lan = config.lans.iter().find(|lan| lan.name == vm.lan);
    let link = lan.and_then(|lan| link(&lan.interface, facts)).map(|link| link.index);
    let next_hop = next_hop(vm, link.unwrap_or_default(), discovered);
    let seen = next_hop.map(|hop| {
        let known = |neighbour: &&Neighbour| Some(neighbour.link) == link && neighbour.address == hop;
        readings.neighbours.iter().find(known).is_some_and(|neighbour| neighbour.seen)
    });
    let last_seen = next_hop.and_then(|hop| readings.sightings.of(link?, hop.into(), now()));
    Vm {
        name: vm.name.clone(),
        lan: vm.lan.clone(),
        gateway: vm.gateway,
        next_hop,
        containers: vm.containers.clone(),
        seen,
        last_seen,
    }
}

fn link<'a>(interface: &config::Interface, facts: &'a Facts) -> Option<&'a Link> {
    match interface {
        config::Interface::Name(name) => facts.link(name),
        config::Interface::Mac(mac) => facts.links.iter().find(|link| link.mac == Some(*mac)),
    }
}

fn interface(configured: &config::Interface, facts: &Facts, readings: &Readings) -> Interface {
    let Some(link) = link(configured, facts) else { return Interface::default() };
    let counters = readings.counters.get(&link.index).copied().unwrap_or_default();
    let addresses = facts.addresses.iter().filter(|address| address.link == link.index);
    let gateways = readings.gateways.iter().filter(|gateway| gateway.link == link.index);
    Interface {
        name: link.name.clone(),
        present: true,
        carrier: link.carrier,
        mtu: link.mtu,
        addresses: addresses.map(|address| (address.net, address.state)).collect(),
        gateways: gateways.map(|gateway| gateway.address).collect(),
        received: counters.received,
        sent: counters.sent,
    }
}

/// Everybody's findings, worst first.
fn findings(ends: &Ends) -> Vec<Finding> {
    let mut all = ends.configured.borrow().findings.clone();
    all.extend(ends.facts_slice.borrow().findings.iter().cloned());
    all.extend(ends.uplink.borrow().findings.iter().cloned());
    if let Some(plan) = ends.desired.borrow().plan() {
        all.extend(plan.findings.iter().cloned());
    }
    all.extend(ends.network.borrow().findings.iter().cloned());
    all.extend(ends.ra.borrow().problems.values().flatten().cloned());
    all.extend(ends.denials.borrow().findings.iter().cloned());
    all.extend(ends.dns64.borrow().findings().cloned());
    all.extend(ends.nat64.borrow().findings.iter().cloned());
    all.extend(ends.nat64_log.borrow().findings.iter().cloned());
    all.extend(ends.ndp_proxy.borrow().findings.iter().cloned());
    all.extend(ends.stateless.borrow().findings.iter().cloned());
    all.extend(ends.ddns.borrow().findings.iter().cloned());
    all.extend(ends.vm_prefixes.borrow().problems.values().cloned());
    all.extend(ends.savi.borrow().findings.iter().cloned());
    all.extend(ends.metrics.borrow().problems.values().cloned());
    all.extend(ends.appliance.borrow().findings.iter().cloned());
    all.extend(ends.host.borrow().findings.iter().cloned());
    all.extend(ends.connections.borrow().findings.iter().cloned());
    all.extend(ends.time.borrow().findings.iter().cloned());
    all.extend(ends.control.borrow().findings.iter().cloned());
    all.sort_by(|a, b| (b.severity, &a.code, &a.subject).cmp(&(a.severity, &b.code, &b.subject)));
    all
}

fn log_changes(logged: &mut Vec<Finding>, current: Vec<Finding>) {
    for gone in logged.iter().filter(|old| !current.iter().any(|new| same(old, new))) {
        tracing::info!("mended: {} ({})", gone.subject, gone.code);
    }
    for new in current.iter().filter(|new| !logged.iter().any(|old| same(old, new))) {
        let (subject, code, text, mend) = (&new.subject, &new.code, new.text.trim_end_matches('.'), &new.mend);
        match new.severity {
            Severity::Note => tracing::info!("{subject} ({code}): {text}; mend: {mend}"),
            Severity::Warning => tracing::warn!("{subject} ({code}): {text}; mend: {mend}"),
            Severity::Error => tracing::error!("{subject} ({code}): {text}; mend: {mend}"),
        }
    }
    *logged = current;
}

fn same(a: &Finding, b: &Finding) -> bool {
    (&a.code, &a.subject) == (&b.code, &b.subject)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use sixgate_engine::facts::{Address, AddressState};

    use super::*;

    const CONFIG: &str = r#"
        [wan]
        interface = "up"
        [[lan]]
        name = "vms"
        mac = "52:54:00:00:00:07"
        addresses = ["2001:db8::1/64"]
        [[vm]]
        name = "vm1"
        lan = "vms"
        address = "2001:db8::2"
    "#;

    fn facts() -> Facts {
        let mac = "52:54:00:00:00:07".parse().ok();
        let link = Link { index: 7, name: "eth1".to_owned(), mac, mtu: 1500, up: true, carrier: true };
        let net = "2001:db8::1/64".parse().unwrap();
        let address = Address { link: 7, net, state: AddressState::Tentative, ours: true };
        Facts { links: vec![link], addresses: vec![address], ..Facts::default() }
    }

    fn neighbour(address: &str, link: u32, seen: bool) -> Neighbour {
        Neighbour { link, address: address.parse().unwrap(), mac: None, seen, confirmed: seen.then_some(3) }
    }

    #[test]
    fn interfaces_are_found_by_name_or_hardware_address_and_missing_ones_are_said_to_be() {
        let config = config::parse(CONFIG, "test").unwrap();
        let gateways = vec![Gateway { link: 7, address: "fe80::1".parse().unwrap() }];
        let counters = BTreeMap::from([(7, Counters::default())]);
        let readings = Readings { counters, gateways, ..Readings::default() };
        assert!(!interface(&config.wan.interface, &facts(), &readings).present);
        let lan = lan_status(&config.lans[0], &config, &facts(), &readings, &BTreeMap::new());
        assert_eq!((lan.interface.name.as_str(), lan.interface.present, lan.advertised), ("eth1", true, None));
        assert_eq!(lan.interface.addresses[0].1, AddressState::Tentative);
        assert_eq!(lan.interface.gateways, [Ipv6Addr::from_bits(0xfe80 << 112 | 1)]);
    }

    #[test]
    fn a_vm_is_seen_on_its_own_link_only() {
        let config = config::parse(CONFIG, "test").unwrap();
        for (neighbour, seen) in [
            (neighbour("2001:db8::2", 7, true), true),
            (neighbour("2001:db8::2", 7, false), false),
            (neighbour("2001:db8::2", 8, true), false),
            (neighbour("2001:db8::3", 7, true), false),
        ] {
            let readings = Readings { neighbours: vec![neighbour], ..Readings::default() };
            assert_eq!(vm_status(&config.vms[0], &config, &facts(), &[], &readings).seen, Some(seen), "{readings:?}");
        }
    }

    /// Guards against a slice that is borrowed twice at a time: a writer that comes in between stops both for ever.
    #[test]
    fn the_status_is_assembled_while_every_slice_changes() {
        let (_ask, asked) = mpsc::channel(1);
        let (ra, control) = (watch::Sender::new(ra::Slice::default()), watch::Sender::new(control::Slice::default()));
        let (nat64, dns64) = (watch::Sender::new(nat64::Slice::default()), watch::Sender::new(dns64::Slice::default()));
        let ends = Ends {
            asked,
            configured: watch::channel(Configured::default()).1,
            facts: watch::channel(None).1,
            learnt: watch::channel(None).1,
            uplink: watch::channel(uplink::Slice::default()).1,
            desired: watch::channel(Desired::Unknown).1,
            facts_slice: watch::channel(facts::Slice::default()).1,
            network: watch::channel(network::Slice::default()).1,
            flows: watch::channel(None).1,
            ra: ra.subscribe(),
            denials: watch::channel(denials::Slice::default()).1,
            dns64: dns64.subscribe(),
            nat64: nat64.subscribe(),
            nat64_log: watch::channel(nat64_log::Slice::default()).1,
            ndp_proxy: watch::channel(ndp_proxy::Slice::default()).1,
            stateless: watch::channel(stateless::Slice::default()).1,
            ddns: watch::channel(ddns::Slice::default()).1,
            vm_prefixes: watch::channel(vm_prefixes::Slice::default()).1,
            savi: watch::channel(savi::Slice::default()).1,
            discovered: watch::channel(Vec::new()).1,
            metrics: watch::channel(metrics::Slice::default()).1,
            appliance: watch::channel(appliance::Slice::default()).1,
            host: watch::channel(host::Slice::default()).1,
            connections: watch::channel(connections::Slice::default()).1,
            time: watch::channel(time::Slice::default()).1,
            control: control.subscribe(),
        };
        let (done, finished) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for _ in 0..20_000 {
                assemble(&ends, &Readings::default());
            }
            // Nobody listens where the test has given up.
            let _ = done.send(());
        });
        std::thread::spawn(move || {
            while !ra.is_closed() {
                ra.send_modify(|_| {});
                control.send_modify(|_| {});
                nat64.send_modify(|_| {});
                dns64.send_modify(|_| {});
            }
        });
        let outcome = finished.recv_timeout(Duration::from_secs(60));
        assert!(outcome.is_ok(), "assembling has come to a standstill");
    }
}

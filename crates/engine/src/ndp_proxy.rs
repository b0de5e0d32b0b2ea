//! The NDP proxy on the uplink: RFC 4861 section 7.2.8 for what lies behind the router, as the plan says, and for nothing else.
use core::net::Ipv6Addr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use ipnet::Ipv6Net;
use sixgate_wire::checksum::pseudo_v6;
use sixgate_wire::icmpv6;
use sixgate_wire::mac::MacAddr;
use sixgate_wire::ndp::{Delivery, Message, NdpOption, NeighborAdvertisement, ParseError, Writer, solicited_node};

use crate::time::Instant;

/// Targets that are remembered, alive or not: a scan from outside costs no more.
const MOST_TARGETS: usize = 2048;
/// Who waits for the answer about one target.
const MOST_ASKERS: usize = 4;
/// RFC 4861 section 10: MAX_MULTICAST_SOLICIT and RETRANS_TIMER.
const PROBES: u8 = 3;
const RETRANS_TIMER: Duration = Duration::from_secs(1);
/// How long an answer from downstream is believed.
const ALIVE: Duration = Duration::from_secs(30);
/// How long silence is believed.
const SILENT: Duration = Duration::from_secs(5);
/// RFC 6583: solicitations downstream in a second, whatever is scanned.
const PROBES_PER_SECOND: u32 = 50;

/// What the proxy answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NdpProxyPlan {
    /// Kernel interface index of the uplink.
    pub link: u32,
    /// Kernel name of the uplink.
    pub interface: String,
    /// The hardware address that answers carry.
    pub mac: MacAddr,
    /// Source of answers: the uplink's link-local address.
    pub source: Ipv6Addr,
    /// Prefixes with what becomes of solicitations for them; the longest one that holds the target decides.
    pub prefixes: Vec<(Ipv6Net, Behind)>,
    /// Links behind the router on which is looked whether somebody is there.
    pub downstream: Vec<Downstream>,
}

/// A link behind the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downstream {
    /// Kernel interface index.
    pub link: u32,
    /// Kernel name.
    pub interface: String,
    /// Source of solicitations: the router's link-local address there.
    pub source: Ipv6Addr,
    /// The router's hardware address there.
    pub mac: MacAddr,
}

/// What lies in a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Hosts on that link, each of which has to be there.
    Link(u32),
    /// Everything is routed on: a VM's containers, a static route.
    Routed,
    /// The router's own address.
    Router,
    /// Nothing of ours: the uplink's own prefix.
    Uplink,
}

/// What became of a solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It was answered.
    Answered,
    /// Whether the target is there is being asked.
    Asked,
    /// The target has not answered lately.
    Silent,
    /// The target does not lie behind the router.
    NotBehind,
    /// RFC 4862 section 5.4: whoever looks for duplicates is left alone.
    DuplicateDetection,
    /// Too many targets are being asked for.
    Full,
    /// A validity check of RFC 4861 section 7.1 failed.
    Invalid(ParseError),
}

impl Verdict {
    /// Stable kebab-case name, for counters and the console.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "proxy-answered",
            Self::Asked => "proxy-asked",
            Self::Silent => "proxy-silent",
            Self::NotBehind => "proxy-not-behind",
            Self::DuplicateDetection => "proxy-duplicate-detection",
            Self::Full => "proxy-full",
            Self::Invalid(error) => error.name(),
        }
    }
}

/// An IPv6 packet that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Kernel interface index.
    pub link: u32,
    /// Hardware address.
    pub to: MacAddr,
    /// The packet, checksum included.
    pub packet: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Target {
    link: u32,
    state: State,
    askers: Vec<(Ipv6Addr, MacAddr)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asked { probes: u8, due: Instant },
    Alive { until: Instant },
    Silent { until: Instant },
}

/// The proxy.
#[derive(Debug)]
pub struct NdpProxy {
    plan: NdpProxyPlan,
    targets: BTreeMap<Ipv6Addr, Target>,
    outgoing: VecDeque<Transmit>,
    /// Solicitations downstream since `second` began.
    probes: u32,
    second: Instant,
    verdicts: BTreeMap<Verdict, u64>,
}

impl NdpProxy {
    /// Begins to answer.
    pub fn new(plan: NdpProxyPlan, now: Instant) -> Self {
        let (targets, outgoing, verdicts) = (BTreeMap::new(), VecDeque::new(), BTreeMap::new());
        Self { plan, targets, outgoing, probes: 0, second: now, verdicts }
    }

    /// What is answered for.
    pub fn plan(&self) -> &NdpProxyPlan {
        &self.plan
    }

    /// Takes a new plan; what is known of targets that lie elsewhere now is forgotten. Where the uplink's hardware address
    /// has changed, those outside are told at once (RFC 4861 section 7.2.6).
    pub fn reconfigure(&mut self, plan: NdpProxyPlan) {
        let moved = (plan.mac, plan.link) != (self.plan.mac, self.plan.link);
        self.plan = plan;
        let targets = core::mem::take(&mut self.targets);
        self.targets = targets
            .into_iter()
            .filter(|(address, target)| self.behind(*address) == Behind::Link(target.link))
            .collect();
        if moved {
            let alive = self.targets.iter().filter(|(_, target)| matches!(target.state, State::Alive { .. }));
            let alive: Vec<Ipv6Addr> = alive.map(|(address, _)| *address).collect();
            for address in alive {
                self.answer(address, Ipv6Addr::UNSPECIFIED, MacAddr([0; 6]));
            }
        }
    }

    fn behind(&self, target: Ipv6Addr) -> Behind {
        let holding = self.plan.prefixes.iter().filter(|(net, _)| net.contains(&target));
        holding.max_by_key(|(net, _)| net.prefix_len()).map_or(Behind::Uplink, |(_, behind)| *behind)
    }

    /// Takes an IPv6 packet from the uplink that holds a Neighbor Solicitation, with the hardware address that it came from.
    pub fn handle_solicitation(&mut self, packet: &[u8], from: MacAddr, now: Instant) -> Option<Verdict> {
        let (delivery, message) = icmpv6_message(packet)?;
        let verdict = match Message::parse(message, &delivery) {
            Err(error) => Verdict::Invalid(error),
            Ok(Message::NeighborSolicitation { target, options }) => {
                let slla = options.iter().find_map(|option| match option {
                    NdpOption::SourceLinkLayer(mac) => Some(mac),
                    _ => None,
                });
                self.solicited(target, delivery.source, slla.unwrap_or(from), now)
            }
            Ok(_) => return None,
        };
        *self.verdicts.entry(verdict).or_default() += 1;
        Some(verdict)
    }

    fn solicited(&mut self, target: Ipv6Addr, asker: Ipv6Addr, mac: MacAddr, now: Instant) -> Verdict {
        if asker.is_unspecified() {
            return Verdict::DuplicateDetection;
        }
        match self.behind(target) {
            Behind::Uplink => Verdict::NotBehind,
            Behind::Routed | Behind::Router => {
                self.answer(target, asker, mac);
                Verdict::Answered
            }
            Behind::Link(link) => self.look(target, link, (asker, mac), now),
        }
    }

    /// Whether somebody is there is known, or is asked.
    fn look(&mut self, address: Ipv6Addr, link: u32, asker: (Ipv6Addr, MacAddr), now: Instant) -> Verdict {
        self.forget(now);
        match self.targets.get_mut(&address).map(|target| (target.state, target)) {
            Some((State::Alive { .. }, _)) => {
                self.answer(address, asker.0, asker.1);
                return Verdict::Answered;
            }
            Some((State::Silent { .. }, _)) => return Verdict::Silent,
            Some((State::Asked { .. }, target)) => {
                if !target.askers.contains(&asker) && target.askers.len() < MOST_ASKERS {
                    target.askers.push(asker);
                }
                return Verdict::Asked;
            }
            None => {}
        }
        if self.targets.len() >= MOST_TARGETS || !self.may_probe(now) {
            return Verdict::Full;
        }
        let state = State::Asked { probes: 1, due: now + RETRANS_TIMER };
        self.targets.insert(address, Target { link, state, askers: vec![asker] });
        self.probe(address, link);
        Verdict::Asked
    }

    /// Takes an IPv6 packet from a link behind the router that holds a Neighbor Advertisement.
    pub fn handle_advertisement(&mut self, link: u32, packet: &[u8], now: Instant) {
        let Some((delivery, message)) = icmpv6_message(packet) else { return };
        let Ok(Message::NeighborAdvertisement { header, .. }) = Message::parse(message, &delivery) else { return };
        let Some(target) = self.targets.get_mut(&header.target).filter(|target| target.link == link) else { return };
        target.state = State::Alive { until: now + ALIVE };
        for (asker, mac) in core::mem::take(&mut target.askers) {
            self.answer(header.target, asker, mac);
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.forget(now);
        let due = self.targets.iter().filter_map(|(address, target)| match target.state {
            State::Asked { probes, due } if due <= now => Some((*address, target.link, probes)),
            State::Asked { .. } | State::Alive { .. } | State::Silent { .. } => None,
        });
        let due: Vec<(Ipv6Addr, u32, u8)> = due.collect();
        for (address, link, probes) in due {
            let again = probes < PROBES;
            if let Some(target) = self.targets.get_mut(&address) {
                target.state = if again {
                    State::Asked { probes: probes + 1, due: now + RETRANS_TIMER }
                } else {
                    target.askers.clear();
                    State::Silent { until: now + SILENT }
                };
            }
            if again && self.may_probe(now) {
                self.probe(address, link);
            }
        }
    }

    /// When [`NdpProxy::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.targets.values().filter_map(|target| match target.state {
            State::Asked { due, .. } => Some(due),
            // They are forgotten when they are looked at.
            State::Alive { .. } | State::Silent { .. } => None,
        });
        due.min()
    }

    /// What is to be sent now.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outgoing.pop_front()
    }

    /// What became of solicitations.
    pub fn verdicts(&self) -> &BTreeMap<Verdict, u64> {
        &self.verdicts
    }

    /// Targets that are known to be there, and those that are remembered at all.
    pub fn targets(&self) -> (usize, usize) {
        let alive = self.targets.values().filter(|target| matches!(target.state, State::Alive { .. })).count();
        (alive, self.targets.len())
    }

    fn forget(&mut self, now: Instant) {
        self.targets.retain(|_, target| match target.state {
            State::Asked { .. } => true,
            State::Alive { until } | State::Silent { until } => now < until,
        });
    }

    fn may_probe(&mut self, now: Instant) -> bool {
        if now.saturating_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.probes) = (now, 0);
        }
        self.probes += 1;
        self.probes <= PROBES_PER_SECOND
    }

    /// RFC 4861 section 7.2.2.
    fn probe(&mut self, target: Ipv6Addr, link: u32) {
        let Some(downstream) = self.plan.downstream.iter().find(|downstream| downstream.link == link) else { return };
        let group = solicited_node(target);
        let mut buffer = [0; 64];
        let message = Writer::neighbor_solicitation(&mut buffer, target).and_then(|mut writer| {
            writer.source_link_layer(downstream.mac)?;
            Ok(writer.finish())
        });
        let Ok(message) = message else { return };
        let [.., a, b, c, d] = group.octets();
        let to = MacAddr([0x33, 0x33, a, b, c, d]);
        self.outgoing.push_back(Transmit { link, to, packet: packet(downstream.source, group, message) });
    }

    /// RFC 4861 section 7.2.8: not overriding, since the target itself may answer as well. Nobody as the asker means everybody.
    fn answer(&mut self, target: Ipv6Addr, asker: Ipv6Addr, mac: MacAddr) {
        let solicited = !asker.is_unspecified();
        let header = NeighborAdvertisement { router: true, solicited, overriding: !solicited, target };
        let mut buffer = [0; 64];
        let message = Writer::neighbor_advertisement(&mut buffer, &header).and_then(|mut writer| {
            writer.target_link_layer(self.plan.mac)?;
            Ok(writer.finish())
        });
        let Ok(message) = message else { return };
        let (to, destination) =
            if solicited { (mac, asker) } else { (MacAddr([0x33, 0x33, 0, 0, 0, 1]), sixgate_wire::ndp::ALL_NODES) };
        let packet = packet(self.plan.source, destination, message);
        self.outgoing.push_back(Transmit { link: self.plan.link, to, packet });
    }
}

/// Hop limit and addresses, and the ICMPv6 message of a packet whose checksum is right.
pub(crate) fn icmpv6_message(packet: &[u8]) -> Option<(Delivery, &[u8])> {
    let (header, rest) = packet.split_first_chunk::<40>()?;
    if header[0] >> 4 != 6 || header[6] != icmpv6::PROTOCOL {
        return None;
    }
    let length = u16::from_be_bytes([header[4], header[5]]);
    let message = rest.get(..usize::from(length))?;
    let address = |at: usize| header.get(at..at + 16)?.try_into().ok().map(|octets: [u8; 16]| Ipv6Addr::from(octets));
    let (source, destination) = (address(8)?, address(24)?);
    let sum = pseudo_v6(source, destination, icmpv6::PROTOCOL, length.into());
    sum.bytes(message).is_valid().then_some((Delivery { source, destination, hop_limit: header[7] }, message))
}

/// An ICMPv6 message as a packet with hop limit 255.
pub(crate) fn packet(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0; 40 + message.len()];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet[6] = icmpv6::PROTOCOL;
    packet[7] = sixgate_wire::ndp::HOP_LIMIT;
    packet[8..24].copy_from_slice(&source.octets());
    packet[24..40].copy_from_slice(&destination.octets());
    packet[40..].copy_from_slice(message);
    let sum = pseudo_v6(source, destination, icmpv6::PROTOCOL, length.into()).bytes(message);
    packet[40 + icmpv6::CHECKSUM..][..2].copy_from_slice(&sum.checksum().to_be_bytes());
    packet
}

#[cfg(test)]
mod tests;

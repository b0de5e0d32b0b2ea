//! Source address validation on the LANs (RFC 7039, and RFC 6620 with a hardware address as binding anchor): which of
//! them may send from which address.
//!
//! Whoever has an address first keeps it. It is learnt from duplicate address detection, from Neighbor Solicitations and
//! Advertisements, and from packets that were not admitted: whoever sent them is asked for the address, and has it once it
//! answers. Who claims an address that somebody else has gets it when the holder does not answer any more.
mod plan;

use core::net::Ipv6Addr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ipnet::Ipv6Net;
use sixgate_wire::mac::MacAddr;
use sixgate_wire::ndp::{Message, NdpOption, Writer, solicited_node};

pub use plan::{By, Routed, SaviLink, SaviPlan, Watched};

use crate::ndp_proxy::{Transmit, icmpv6_message, packet};
use crate::time::Instant;

/// Bindings of all links, but for those of VMs that the configuration names: what scans and inventions cost at most.
const MOST_BINDINGS: usize = 4096;
/// Contests that are remembered, and for how long.
const MOST_CONTESTS: usize = 64;
const REMEMBERED_CONTEST: Duration = Duration::from_secs(3600);
/// Addresses of one hardware address; privacy addresses of a week in three prefixes are fewer.
const MOST_ADDRESSES: usize = 64;
/// RFC 6620 section 5: TENT_LT.
const TENT_LT: Duration = Duration::from_millis(500);
/// RFC 6620 section 5: DEFAULT_LT, after which a holder is asked whether it is still there.
const DEFAULT_LT: Duration = Duration::from_secs(300);
/// As often as this a VM is asked, so that one that stops answering is shown.
const WATCHED_LT: Duration = Duration::from_secs(15);
/// RFC 4861 section 10: MAX_MULTICAST_SOLICIT and RETRANS_TIMER.
const PROBES: u8 = 3;
const RETRANS_TIMER: Duration = Duration::from_secs(1);
/// RFC 6583: solicitations in a second, whatever is claimed.
const PROBES_PER_SECOND: u32 = 100;

/// Who may send from where on one link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Kernel interface name.
    pub interface: String,
    /// Single addresses.
    pub hosts: BTreeSet<(MacAddr, Ipv6Addr)>,
    /// Prefixes; none of one hardware address lies in another.
    pub nets: BTreeSet<(MacAddr, Ipv6Net)>,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// The claimant has the address already.
    Held,
    /// The claimant is asked for it, or its duplicate address detection is waited for.
    Asked,
    /// Somebody else has it and is asked whether that is still so.
    Contested,
    /// No host on that link can have it.
    Foreign,
    /// There are too many bindings.
    Full,
}

impl Claim {
    /// Stable kebab-case name, for counters and the console.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "savi-held",
            Self::Asked => "savi-asked",
            Self::Contested => "savi-contested",
            Self::Foreign => "savi-foreign",
            Self::Full => "savi-full",
        }
    }
}

#[derive(Clone, Debug)]
struct Binding {
    mac: MacAddr,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// RFC 6620 section 3.2.1: duplicate address detection is under way.
    Tentative { until: Instant },
    /// Whether the claimant has it is being asked.
    Asked { probes: u8, due: Instant },
    /// It is the holder's.
    Valid { until: Instant },
    /// Whether the holder is still there is being asked; somebody else may want it.
    Testing { probes: u8, due: Instant, challenger: Option<MacAddr> },
}

impl State {
    const fn is_bound(self) -> bool {
        matches!(self, Self::Valid { .. } | Self::Testing { .. })
    }

    const fn due(self) -> Instant {
        match self {
            Self::Tentative { until } | Self::Valid { until } => until,
            Self::Asked { due, .. } | Self::Testing { due, .. } => due,
        }
    }
}

/// Two hosts want one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contest {
    /// Who had it.
    pub holder: MacAddr,
    /// Who wanted it.
    pub claimant: MacAddr,
    /// Whether that one asked first, by duplicate address detection.
    pub detection: bool,
    /// How often.
    pub times: u64,
    /// When that was last.
    pub at: Instant,
}

/// The table of bindings.
#[derive(Debug, Default)]
pub struct Savi {
    plan: SaviPlan,
    bindings: BTreeMap<(u32, Ipv6Addr), Binding>,
    outgoing: VecDeque<Transmit>,
    claims: BTreeMap<Claim, u64>,
    contests: BTreeMap<(u32, Ipv6Addr), Contest>,
    /// Addresses of configured hosts on which prefixes depend, and when they are asked next while nobody has them.
    wanted: BTreeMap<(u32, Ipv6Addr), Instant>,
    /// VMs that have answered once and do not any more.
    silent: BTreeSet<String>,
    probes: u32,
    second: Instant,
    /// Raised by one whenever somebody else is admitted than before.
    generation: u64,
}

impl Savi {
    /// Takes a plan. Bindings of links and prefixes that are gone go.
    pub fn reconfigure(&mut self, plan: &SaviPlan, now: Instant) {
        if self.plan == *plan {
            return;
        }
        self.plan = plan.clone();
        self.generation += 1;
        let bindings = core::mem::take(&mut self.bindings);
        self.bindings = bindings
            .into_iter()
            .filter(|((link, address), binding)| self.can_have(*link, *address, binding.mac))
            .collect();
        self.silent.retain(|name| plan.links.iter().any(|link| link.vms.iter().any(|vm| vm.name == *name)));
        self.wanted = plan.links.iter().flat_map(wanted).map(|at| (at, now)).collect();
        // What the file says needs no discovery; whether they are there is asked at once.
        let known: Vec<(u32, Ipv6Addr, MacAddr)> = plan
            .links
            .iter()
            .flat_map(|link| link.vms.iter().filter_map(|vm| Some((link.link, vm.address?, vm.mac?))))
            .collect();
        for (link, address, mac) in known {
            self.bindings.insert((link, address), Binding { mac, state: testing(now) });
        }
    }

    /// What a former daemon knew holds until the holders have been asked.
    pub fn remember(&mut self, interface: &str, hosts: &[(MacAddr, Ipv6Addr)], now: Instant) {
        let Some(link) = self.plan.links.iter().find(|link| link.interface == interface).map(|link| link.link) else {
            return;
        };
        self.generation += 1;
        for (mac, address) in hosts.iter().take(MOST_BINDINGS) {
            if self.can_have(link, *address, *mac) {
                self.bindings.entry((link, *address)).or_insert(Binding { mac: *mac, state: testing(now) });
            }
        }
    }

    /// Takes an IPv6 packet with a Neighbor Solicitation or Advertisement or a Router Solicitation that `from` has sent.
    pub fn handle_discovery(&mut self, link: u32, packet: &[u8], from: MacAddr, now: Instant) -> Option<Claim> {
        let (delivery, message) = icmpv6_message(packet)?;
        match Message::parse(message, &delivery).ok()? {
            // RFC 4862 section 5.4: whoever is going to take the address.
            Message::NeighborSolicitation { target, .. } if delivery.source.is_unspecified() => {
                Some(self.claimed(link, target, from, Evidence::Detection, now))
            }
            Message::RouterSolicitation { .. } if delivery.source.is_unspecified() => None,
            Message::NeighborSolicitation { options, .. } | Message::RouterSolicitation { options } => {
                let told = options.iter().find_map(|option| match option {
                    NdpOption::SourceLinkLayer(mac) => Some(mac),
                    _ => None,
                });
                let honest = told.is_none_or(|told| told == from);
                honest.then(|| self.claimed(link, delivery.source, from, Evidence::Packet, now))
            }
            Message::NeighborAdvertisement { header, .. } => {
                Some(self.claimed(link, header.target, from, Evidence::Answer, now))
            }
            Message::RouterAdvertisement { .. } => None,
        }
    }

    /// Takes note of a packet that was not admitted.
    pub fn handle_unknown(&mut self, link: u32, source: Ipv6Addr, from: MacAddr, now: Instant) -> Claim {
        self.claimed(link, source, from, Evidence::Packet, now)
    }

    fn claimed(&mut self, link: u32, address: Ipv6Addr, from: MacAddr, evidence: Evidence, now: Instant) -> Claim {
        let other = self.bindings.get(&(link, address)).filter(|binding| binding.mac != from);
        let other = other.map(|binding| (binding.mac, matches!(binding.state, State::Tentative { .. })));
        let claim = self.judge(link, address, from, evidence, now);
        match (claim, other) {
            (Claim::Contested, Some((holder, _))) => {
                self.contested((link, address), (holder, from), evidence == Evidence::Detection, now);
            }
            // RFC 4862 section 5.4.4: whoever detects hears the one who has it, and goes without.
            (Claim::Held, Some((claimant, true))) => self.contested((link, address), (from, claimant), true, now),
            (Claim::Held | Claim::Contested | Claim::Asked | Claim::Foreign | Claim::Full, _) => {}
        }
        *self.claims.entry(claim).or_default() += 1;
        claim
    }

    fn judge(&mut self, link: u32, address: Ipv6Addr, from: MacAddr, evidence: Evidence, now: Instant) -> Claim {
        if !self.can_have(link, address, from) {
            self.look_behind(link, address, now);
            return Claim::Foreign;
        }
        let lifetime = self.lifetime(link, address, from);
        let Some(binding) = self.bindings.get_mut(&(link, address)) else {
            return self.begin(link, address, from, evidence, now);
        };
        let same = binding.mac == from;
        let answer = evidence == Evidence::Answer;
        match binding.state {
            // An answer shows who has it: the claimant, or whoever defends it (RFC 4862 section 5.4.4).
            State::Tentative { .. } | State::Asked { .. } if answer => {
                self.generation += 1;
                *binding = Binding { mac: from, state: State::Valid { until: now + lifetime } };
                self.back(link, address, from);
                Claim::Held
            }
            State::Tentative { .. } | State::Asked { .. } if same => Claim::Asked,
            // Two take it at the same time: whoever answers has it.
            State::Tentative { .. } | State::Asked { .. } => Claim::Contested,
            State::Valid { .. } | State::Testing { .. } if same && answer => {
                binding.state = State::Valid { until: now + lifetime };
                self.back(link, address, from);
                Claim::Held
            }
            State::Valid { .. } | State::Testing { .. } if same => Claim::Held,
            State::Valid { .. } => {
                binding.state = State::Testing { probes: 1, due: now + RETRANS_TIMER, challenger: Some(from) };
                self.probe(link, address, now);
                Claim::Contested
            }
            State::Testing { probes, due, challenger } => {
                binding.state = State::Testing { probes, due, challenger: challenger.or(Some(from)) };
                Claim::Contested
            }
        }
    }

    /// Notes that two hosts want an address; the oldest of too many is forgotten.
    fn contested(
        &mut self,
        at: (u32, Ipv6Addr),
        (holder, claimant): (MacAddr, MacAddr),
        detection: bool,
        now: Instant,
    ) {
        let times = self.contests.get(&at).map_or(0, |contest| contest.times);
        if times == 0 && self.contests.len() >= MOST_CONTESTS {
            let oldest = self.contests.iter().min_by_key(|(_, contest)| contest.at).map(|(at, _)| *at);
            oldest.map(|oldest| self.contests.remove(&oldest));
        }
        self.contests.insert(at, Contest { holder, claimant, detection, times: times + 1, at: now });
    }

    /// Addresses on a link that two hosts wanted in the last hour, the latest first.
    pub fn contests(&self, link: u32, now: Instant) -> Vec<(Ipv6Addr, Contest)> {
        let lately = |contest: &Contest| now.saturating_since(contest.at) < REMEMBERED_CONTEST;
        let on_link = self.contests.iter().filter(|((at, _), contest)| *at == link && lately(contest));
        let mut contests: Vec<_> = on_link.map(|((_, address), contest)| (*address, *contest)).collect();
        contests.sort_by_key(|(_, contest)| core::cmp::Reverse(contest.at));
        contests
    }

    /// Somebody sends from a prefix that is routed to a host which is not known yet: that host is asked for at once.
    fn look_behind(&mut self, link: u32, address: Ipv6Addr, now: Instant) {
        let routed = self.plan.links.iter().filter(|at| at.link == link).flat_map(|at| &at.routed);
        let by = routed.filter(|routed| routed.net.contains(&address)).max_by_key(|routed| routed.net.prefix_len());
        let Some(&Routed { by: By::Address(host), .. }) = by else { return };
        if !self.bindings.contains_key(&(link, host)) {
            self.probe(link, host, now);
        }
    }

    fn begin(&mut self, link: u32, address: Ipv6Addr, from: MacAddr, evidence: Evidence, now: Instant) -> Claim {
        let addresses = self.bindings.values().filter(|binding| binding.mac == from).count();
        let is_full = self.bindings.len() >= MOST_BINDINGS && !self.is_named(link, address, from);
        if is_full || addresses >= MOST_ADDRESSES {
            return Claim::Full;
        }
        let state = match evidence {
            Evidence::Detection => State::Tentative { until: now + TENT_LT },
            // Whether somebody else has it is asked, too: an answer that nobody asked for proves nothing.
            Evidence::Packet | Evidence::Answer => State::Asked { probes: 1, due: now + RETRANS_TIMER },
        };
        self.bindings.insert((link, address), Binding { mac: from, state });
        if evidence != Evidence::Detection {
            self.probe(link, address, now);
        }
        Claim::Asked
    }

    /// Whether the configuration names the host: invented ones leave it room.
    fn is_named(&self, link: u32, address: Ipv6Addr, mac: MacAddr) -> bool {
        let mut vms = self.plan.links.iter().filter(|at| at.link == link).flat_map(|at| &at.vms);
        vms.any(|vm| vm.mac == Some(mac) || vm.address == Some(address))
    }

    /// Whether a host on that link can have the address by itself: it is link-local or lies in a prefix of the link, but in
    /// none that is routed to a host, and is not the router's.
    fn can_have(&self, link: u32, address: Ipv6Addr, mac: MacAddr) -> bool {
        let Some(at) = self.plan.links.iter().find(|at| at.link == link) else { return false };
        if at.own.contains(&address) || mac == at.mac || mac.0[0] & 1 == 1 {
            return false;
        }
        let configured = at.vms.iter().find(|vm| vm.address == Some(address)).and_then(|vm| vm.mac);
        if configured.is_some_and(|configured| configured != mac) {
            return false;
        }
        if address.is_unicast_link_local() {
            return true;
        }
        let longest = |nets: &mut dyn Iterator<Item = Ipv6Net>| {
            nets.filter(|net| net.contains(&address)).map(|net| net.prefix_len()).max()
        };
        let on_link = longest(&mut at.on_link.iter().copied());
        // The prefix of another VM's containers, on whichever link, lies inside a wider one that is on-link here.
        let routed = longest(&mut self.plan.links.iter().flat_map(|link| &link.routed).map(|routed| routed.net));
        on_link.is_some_and(|on_link| routed.is_none_or(|routed| routed < on_link))
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        let unknown: Vec<(u32, Ipv6Addr)> = self
            .wanted
            .iter_mut()
            .filter(|(_, due)| **due <= now)
            .map(|(at, due)| {
                *due = now + WATCHED_LT;
                *at
            })
            .collect();
        for (link, address) in unknown {
            if !self.bindings.contains_key(&(link, address)) {
                self.probe(link, address, now);
            }
        }
        let due: Vec<((u32, Ipv6Addr), Binding)> = self
            .bindings
            .iter()
            .filter(|(_, binding)| binding.state.due() <= now)
            .map(|(at, binding)| (*at, binding.clone()))
            .collect();
        for ((link, address), Binding { mac, state }) in due {
            let lifetime = self.lifetime(link, address, mac);
            let next = match state {
                // RFC 6620 section 3.2.2: nobody objected.
                State::Tentative { .. } => {
                    self.back(link, address, mac);
                    Some((mac, State::Valid { until: now + lifetime }))
                }
                State::Valid { .. } => {
                    self.probe(link, address, now);
                    Some((mac, State::Testing { probes: 1, due: now + RETRANS_TIMER, challenger: None }))
                }
                State::Asked { probes, .. } if probes < PROBES => {
                    self.probe(link, address, now);
                    Some((mac, State::Asked { probes: probes + 1, due: now + RETRANS_TIMER }))
                }
                State::Testing { probes, challenger, .. } if probes < PROBES => {
                    self.probe(link, address, now);
                    Some((mac, State::Testing { probes: probes + 1, due: now + RETRANS_TIMER, challenger }))
                }
                State::Asked { .. } => None,
                // The holder has gone; whoever wants it is asked.
                State::Testing { challenger: Some(challenger), .. } => {
                    self.missing(link, address, mac);
                    self.probe(link, address, now);
                    Some((challenger, State::Asked { probes: 1, due: now + RETRANS_TIMER }))
                }
                State::Testing { challenger: None, .. } => {
                    self.missing(link, address, mac);
                    // What the file says holds though the VM is silent.
                    self.is_configured(link, address, mac).then_some((mac, State::Valid { until: now + lifetime }))
                }
            };
            if next.map(|(mac, state)| (mac, state.is_bound())) != Some((mac, state.is_bound())) {
                self.generation += 1;
            }
            match next {
                Some((mac, state)) => self.bindings.insert((link, address), Binding { mac, state }),
                None => self.bindings.remove(&(link, address)),
            };
        }
    }

    /// When [`Savi::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let bindings = self.bindings.values().map(|binding| binding.state.due());
        bindings.chain(self.wanted.values().copied()).min()
    }

    /// What is to be sent now.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outgoing.pop_front()
    }

    /// Changes whenever [`Savi::sources`] may have changed, and at no other time.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Who may send from where, for each link.
    pub fn sources(&self) -> Vec<Sources> {
        self.plan.links.iter().map(|link| self.sources_of(link)).collect()
    }

    fn sources_of(&self, at: &SaviLink) -> Sources {
        let here = self.bindings.range((at.link, Ipv6Addr::UNSPECIFIED)..=(at.link, Ipv6Addr::from(u128::MAX)));
        let bound = here.filter(|(_, binding)| binding.state.is_bound());
        let hosts: BTreeSet<(MacAddr, Ipv6Addr)> =
            bound.map(|((_, address), binding)| (binding.mac, *address)).collect();
        let mut nets: BTreeMap<MacAddr, Vec<Ipv6Net>> = BTreeMap::new();
        for routed in &at.routed {
            let mac = match routed.by {
                By::Mac(mac) => Some(mac),
                By::Address(address) => self.holder(at.link, address),
            };
            if let Some(mac) = mac {
                nets.entry(mac).or_default().push(routed.net);
            }
        }
        let nets =
            nets.into_iter().flat_map(|(mac, nets)| Ipv6Net::aggregate(&nets).into_iter().map(move |net| (mac, net)));
        Sources { interface: at.interface.clone(), hosts, nets: nets.collect() }
    }

    /// Who has an address.
    pub fn holder(&self, link: u32, address: Ipv6Addr) -> Option<MacAddr> {
        self.bindings.get(&(link, address)).filter(|binding| binding.state.is_bound()).map(|binding| binding.mac)
    }

    /// Link-local addresses of the VMs whose hardware address is configured, as discovery shows them.
    pub fn link_locals(&self) -> Vec<(u32, MacAddr, Ipv6Addr)> {
        let bound = self.bindings.iter().filter(|(_, binding)| binding.state.is_bound());
        bound
            .filter(|((link, address), binding)| {
                let vms = self.plan.links.iter().filter(|at| at.link == *link).flat_map(|at| &at.vms);
                address.is_unicast_link_local() && vms.into_iter().any(|vm| vm.mac == Some(binding.mac))
            })
            .map(|((link, address), binding)| (*link, binding.mac, *address))
            .collect()
    }

    /// VMs that answered once and do not any more.
    pub fn silent(&self) -> &BTreeSet<String> {
        &self.silent
    }

    /// What became of claims.
    pub fn claims(&self) -> &BTreeMap<Claim, u64> {
        &self.claims
    }

    /// Bindings of a link.
    pub fn bound(&self, link: u32) -> usize {
        self.bindings.iter().filter(|((at, _), binding)| *at == link && binding.state.is_bound()).count()
    }

    fn is_configured(&self, link: u32, address: Ipv6Addr, mac: MacAddr) -> bool {
        let vms = self.plan.links.iter().filter(|at| at.link == link).flat_map(|at| &at.vms);
        vms.into_iter().any(|vm| vm.address == Some(address) && vm.mac == Some(mac))
    }

    /// Whose address that is, where it is a VM's by which it is watched: its configured one, or any link-local one.
    fn watched(&self, link: u32, address: Ipv6Addr, mac: MacAddr) -> Option<&str> {
        let vms = self.plan.links.iter().filter(|at| at.link == link).flat_map(|at| &at.vms);
        vms.into_iter()
            .find(|vm| match vm.address {
                Some(own) => own == address,
                None => vm.mac == Some(mac) && address.is_unicast_link_local(),
            })
            .map(|vm| vm.name.as_str())
    }

    fn lifetime(&self, link: u32, address: Ipv6Addr, mac: MacAddr) -> Duration {
        if self.watched(link, address, mac).is_some() { WATCHED_LT } else { DEFAULT_LT }
    }

    fn back(&mut self, link: u32, address: Ipv6Addr, mac: MacAddr) {
        if let Some(name) = self.watched(link, address, mac).map(str::to_owned) {
            self.silent.remove(&name);
        }
    }

    fn missing(&mut self, link: u32, address: Ipv6Addr, mac: MacAddr) {
        if let Some(name) = self.watched(link, address, mac).map(str::to_owned) {
            self.silent.insert(name);
        }
    }

    /// RFC 4861 section 7.2.2.
    fn probe(&mut self, link: u32, target: Ipv6Addr, now: Instant) {
        if now.saturating_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.probes) = (now, 0);
        }
        self.probes += 1;
        let Some(at) = self.plan.links.iter().find(|at| at.link == link) else { return };
        if self.probes > PROBES_PER_SECOND {
            return;
        }
        let group = solicited_node(target);
        let mut buffer = [0; 64];
        let message = Writer::neighbor_solicitation(&mut buffer, target).and_then(|mut writer| {
            writer.source_link_layer(at.mac)?;
            Ok(writer.finish())
        });
        let Ok(message) = message else { return };
        let [.., a, b, c, d] = group.octets();
        let to = MacAddr([0x33, 0x33, a, b, c, d]);
        self.outgoing.push_back(Transmit { link, to, packet: packet(at.source, group, message) });
    }
}

/// Addresses of hosts that the configuration names by address or by hardware address alone.
fn wanted(at: &SaviLink) -> impl Iterator<Item = (u32, Ipv6Addr)> {
    let vms = at.vms.iter().filter_map(|vm| match (vm.address, vm.mac) {
        (Some(_), Some(_)) => None,
        (address, mac) => address.or(mac.map(MacAddr::link_local)),
    });
    let routed = at.routed.iter().filter_map(|routed| match routed.by {
        By::Address(address) => Some(address),
        By::Mac(_) => None,
    });
    vms.chain(routed).map(|address| (at.link, address))
}

/// The holder is asked at once.
fn testing(now: Instant) -> State {
    State::Testing { probes: 0, due: now, challenger: None }
}

/// What shows that somebody has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// It looks for duplicates of it.
    Detection,
    /// It sends from there.
    Packet,
    /// It answers for it.
    Answer,
}

#[cfg(test)]
mod tests;

//! The CLAT: the other end of 464XLAT (RFC 6877), for a host whose network has IPv6 and a NAT64 only.
//!
//! [`Clat`] decides where IPv4 goes and whether it can; [`translator::Translator`] does it to packets. What the host has to be
//! is a [`plan::ClatPlan`]; there is none while IPv4 must stay as it is.
pub mod address;
pub mod check;
mod claim;
mod findings;
pub mod plan;
pub mod prefixes;
pub mod status;
pub mod translator;

use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::collections::VecDeque;

use ipnet::Ipv6Net;
use sixgate_wire::mac::MacAddr;
use sixgate_wire::ndp::{self, ALL_ROUTERS, Delivery, Message, NdpOption};

pub use sixgate_wire::rfc6052::Pref64;

use self::address::Ingredients;
use self::check::{Answer, Check, Due};
use self::claim::{Claim, Heard, Speaker};
use self::plan::ClatPlan;
use self::prefixes::{Lookup, Prefixes};
use self::status::{Stage, Status};
use crate::time::Instant;
use crate::xlat::siit::Translated;

/// RFC 4861 section 10: MAX_RTR_SOLICITATIONS and RTR_SOLICITATION_INTERVAL.
const SOLICITATIONS: u8 = 3;
const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
/// After so many duplicates something is wrong that another address does not mend (RFC 7217 section 6: IDGEN_RETRIES).
const RETRIES: u32 = 3;
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Which address is translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// One of its own out of the uplink's prefix, held by Neighbor Discovery.
    Dedicated,
    /// One out of this prefix, which is routed to the host.
    Within(Ipv6Net),
    /// The host's own.
    Shared,
}

/// What the operator decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The uplink; the link of the IPv6 default route without it.
    pub interface: Option<String>,
    /// The PLAT's prefix; found without it.
    pub pref64: Option<Pref64>,
    /// Which address is translated to.
    pub source: Source,
    /// IPv4 addresses by which is looked whether the PLAT answers; none to believe so.
    pub check: Vec<Ipv4Addr>,
    /// When plain packets are translated by the kernel.
    pub fast_path: FastPath,
}

/// When plain packets are translated by the kernel: they pass other programs' IPv6 rules unseen then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FastPath {
    /// While there are no such rules.
    #[default]
    Auto,
    /// Whatever rules there are.
    Always,
    /// Never.
    Never,
}

impl Settings {
    /// Whether other programs' rules keep packets from the fast path.
    fn yields_fast_path(&self, foreign_v6_rules: bool) -> bool {
        self.fast_path == FastPath::Auto && foreign_v6_rules
    }
}

/// What the kernel says about the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The link to the world, if it has a router and an address.
    pub uplink: Option<Uplink>,
    /// The link of an IPv4 default route that is somebody else's.
    pub native_ipv4: Option<String>,
    /// Kernel interface index of the TUN device.
    pub device: Option<u32>,
    /// Whether somebody else's netfilter rules look at forwarded packets.
    pub foreign_rules: bool,
    /// Whether they look at those of IPv6.
    pub foreign_v6_rules: bool,
}

/// The link to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Kernel interface index.
    pub link: u32,
    /// Kernel name.
    pub interface: String,
    /// Hardware address; none where there is no Neighbor Discovery.
    pub mac: Option<MacAddr>,
    /// MTU for IPv6.
    pub mtu: u32,
    /// Link-local address.
    pub link_local: Option<Ipv6Addr>,
    /// Global addresses that are ready, with the length of their prefix, sorted.
    pub addresses: Vec<Ipv6Net>,
}

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A Router Solicitation from that address to all routers, without checksum.
    Solicitation(Ipv6Addr, Vec<u8>),
    /// An IPv6 packet to a hardware address on the uplink.
    Neighbour(MacAddr, Vec<u8>),
    /// An IPv6 packet into the device.
    Request(Vec<u8>),
}

/// The CLAT's decisions.
#[derive(Debug)]
pub struct Clat {
    settings: Settings,
    secret: Vec<u8>,
    identifier: u16,
    surroundings: Surroundings,
    prefixes: Prefixes,
    /// The prefix in use.
    pref64: Option<Pref64>,
    claim: Option<Claim>,
    /// The prefix that the claimed address lies in.
    claimed_in: Option<Ipv6Net>,
    /// RFC 7217: duplicates so far.
    turn: u32,
    /// The last duplicate, and who has it.
    taken: Option<(Ipv6Addr, MacAddr)>,
    /// When addresses are tried again.
    claim_again: Option<Instant>,
    check: Check,
    /// What the check is about.
    checked: Option<(Ipv6Addr, Pref64, u32)>,
    /// Prefixes that were asked one after the other and stayed silent.
    silent: usize,
    solicitations: u8,
    solicit_at: Option<Instant>,
    outgoing: VecDeque<Transmit>,
    translated: Translated,
}

impl Clat {
    /// Begins to look for a PLAT. `secret` makes addresses that nobody can guess; `identifier` is that of the check's requests.
    pub fn new(settings: Settings, secret: Vec<u8>, identifier: u16, now: Instant) -> Self {
        let prefixes = Prefixes::new(settings.pref64, now);
        let check = Check::new(settings.check.clone(), identifier);
        Self {
            settings,
            secret,
            identifier,
            surroundings: Surroundings::default(),
            prefixes,
            pref64: None,
            claim: None,
            claimed_in: None,
            turn: 0,
            taken: None,
            claim_again: None,
            check,
            checked: None,
            silent: 0,
            solicitations: 0,
            solicit_at: None,
            outgoing: VecDeque::new(),
            translated: Translated::default(),
        }
    }

    /// Identifier of the check's requests.
    pub fn identifier(&self) -> u16 {
        self.identifier
    }

    /// The kernel says something else now.
    pub fn observe(&mut self, surroundings: Surroundings, now: Instant) {
        let link = |surroundings: &Surroundings| surroundings.uplink.as_ref().map(|uplink| uplink.link);
        if link(&surroundings) != link(&self.surroundings) {
            self.prefixes.forget(now);
            (self.claim, self.turn, self.taken, self.claim_again) = (None, 0, None, None);
            (self.solicitations, self.silent) = (0, 0);
            self.solicit_at = link(&surroundings).filter(|_| self.settings.pref64.is_none()).map(|_| now);
        }
        self.surroundings = surroundings;
        self.settle(now);
    }

    /// Takes an ICMPv6 message of router discovery from the uplink.
    pub fn handle_advertisement(&mut self, message: &[u8], source: Ipv6Addr, hop_limit: u8, now: Instant) {
        let delivery = Delivery { source, destination: ALL_ROUTERS, hop_limit };
        let Ok(Message::RouterAdvertisement { options, .. }) = Message::parse(message, &delivery) else { return };
        for option in options.iter() {
            if let NdpOption::Pref64(option) = option {
                self.prefixes.announced(&option, source, now);
                self.solicit_at = None;
            }
        }
        self.settle(now);
    }

    /// Whether `ipv4only.arpa` is to be looked up now; says so once.
    pub fn take_lookup(&mut self, now: Instant) -> bool {
        self.surroundings.uplink.is_some() && self.prefixes.take_lookup(now)
    }

    /// Takes what became of a look-up.
    pub fn handle_lookup(&mut self, lookup: Lookup, now: Instant) {
        self.prefixes.looked_up(lookup, now);
        self.settle(now);
    }

    /// Takes an IPv6 packet from the uplink that holds a Neighbor Solicitation or Advertisement.
    pub fn handle_neighbour(&mut self, packet: &[u8], from: MacAddr, now: Instant) {
        let Some(speaker) = self.speaker() else { return };
        let Some(claim) = &mut self.claim else { return };
        if let Heard::Taken(holder) = claim.handle(packet, from, speaker, now) {
            self.taken = Some((claim.address(), holder));
            (self.claim, self.turn) = (None, self.turn + 1);
            if self.turn.is_multiple_of(RETRIES) {
                self.claim_again = Some(now + RETRY_AFTER);
            }
        }
        self.settle(now);
    }

    /// Takes an answer to the check.
    pub fn handle_answer(&mut self, answer: Answer, now: Instant) {
        if answer == Answer::Translated {
            self.silent = 0;
        }
        self.check.handle_answer(answer, now);
    }

    /// Takes what was translated so far.
    pub fn handle_traffic(&mut self, translated: Translated) {
        self.translated = translated;
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.prefixes.expire(now);
        if self.claim_again.is_some_and(|again| again <= now) {
            self.claim_again = None;
        }
        self.settle(now);
        if let (Some(speaker), Some(claim)) = (self.speaker(), &mut self.claim)
            && claim.handle_timeout(speaker, now)
        {
            self.settle(now);
        }
        match self.check.handle_timeout(self.translated, now) {
            Due::Nothing => {}
            Due::Ask => {
                if self.check.silence().is_some() {
                    self.turn_to_another(now);
                }
                if let Some((address, pref64, _)) = self.checked {
                    let requests = self.check.requests(address, pref64);
                    self.outgoing.extend(requests.into_iter().map(Transmit::Request));
                }
            }
            Due::Failed => self.try_another(now),
        }
        self.solicit(now);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let uplink = self.surroundings.uplink.as_ref();
        let prefixes = uplink.and_then(|_| self.prefixes.poll_timeout());
        let claim = self.claim.as_ref().filter(|_| self.speaker().is_some()).and_then(Claim::poll_timeout);
        [prefixes, claim, self.claim_again, self.check.poll_timeout(), self.solicit_at].into_iter().flatten().min()
    }

    /// What is to be sent now.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if let Some(claim) = &mut self.claim {
            self.outgoing.extend(claim.take_transmits().map(|(to, packet)| Transmit::Neighbour(to, packet)));
        }
        self.outgoing.pop_front()
    }

    /// What the host has to be; nothing while it must stay as it is.
    pub fn plan(&self) -> Option<ClatPlan> {
        let uplink = self.surroundings.uplink.as_ref()?;
        let (address, pref64, device) = self.checked?;
        Some(ClatPlan {
            link: uplink.link,
            interface: uplink.interface.clone(),
            device,
            address,
            shared: self.settings.source == Source::Shared,
            pref64,
            mtu: uplink.mtu,
            active: self.check.has_passed(),
            fast_path: self.wants_fast_path() && !self.settings.yields_fast_path(self.surroundings.foreign_v6_rules),
        })
    }

    /// Whether the kernel's programs could translate here: they know Ethernet.
    fn wants_fast_path(&self) -> bool {
        let has_ethernet = self.surroundings.uplink.as_ref().is_some_and(|uplink| uplink.mac.is_some());
        has_ethernet && self.settings.fast_path != FastPath::Never
    }

    /// Whether neighbours are to be heard on the uplink.
    pub fn needs_neighbours(&self) -> bool {
        self.settings.source == Source::Dedicated && self.surroundings.uplink.is_some()
    }

    /// What `sixgate clat status` shows; counters of drops are the translator's.
    pub fn status(&self) -> Status {
        let usable = self.prefixes.usable(self.pref64);
        let net = |pref64: Pref64| Ipv6Net::new(pref64.prefix(), pref64.length()).ok();
        let plan = self.plan();
        let active = plan.as_ref().filter(|plan| plan.active);
        Status {
            version: status::VERSION,
            stage: self.stage(),
            interface: self.surroundings.uplink.as_ref().map(|uplink| uplink.interface.clone()),
            pref64: self.pref64.and_then(net),
            origin: usable.first().map(|(_, origin)| *origin),
            further_pref64: usable.iter().skip(1).filter_map(|(pref64, _)| net(*pref64)).collect(),
            address: self.checked.map(|(address, ..)| address),
            shared: self.settings.source == Source::Shared,
            host_v4: active.map(|_| address::HOST_V4),
            mtu_v4: active.map(|plan| plan.translation().mtus.v4),
            v4_to_v6: self.translated.v4_to_v6,
            v6_to_v4: self.translated.v6_to_v4,
            findings: self.findings(),
            ..Status::default()
        }
    }

    fn stage(&self) -> Stage {
        if self.surroundings.native_ipv4.is_some() {
            return Stage::NativeIpv4;
        }
        match (&self.surroundings.uplink, self.pref64, &self.checked) {
            (None, ..) => Stage::WithoutIpv6,
            (Some(_), None, _) => Stage::WithoutPrefix,
            (Some(_), Some(_), None) if self.surroundings.device.is_none() => Stage::WithoutDevice,
            (Some(_), Some(_), None) => Stage::Claiming,
            (Some(_), Some(_), Some(_)) if self.check.has_passed() => Stage::Translating,
            (Some(_), Some(_), Some(_)) if self.check.is_asking() => Stage::Checking,
            (Some(_), Some(_), Some(_)) => Stage::PlatSilent,
        }
    }

    fn speaker(&self) -> Option<Speaker> {
        let uplink = self.surroundings.uplink.as_ref()?;
        Some(Speaker { mac: uplink.mac?, source: uplink.link_local? })
    }

    /// The prefix, then the address, then the check.
    fn settle(&mut self, now: Instant) {
        let subject = self.subject(now);
        if subject == self.checked {
            return;
        }
        self.checked = subject;
        if subject.is_some() { self.check.begin(now) } else { self.check.stop() }
    }

    /// What is to be checked.
    fn subject(&mut self, now: Instant) -> Option<(Ipv6Addr, Pref64, u32)> {
        let usable = self.prefixes.usable(self.pref64);
        self.pref64 = usable.first().map(|(pref64, _)| *pref64);
        let address = match (self.surroundings.native_ipv4.is_none(), self.pref64) {
            (true, Some(pref64)) => self.settle_address(pref64, now),
            // An address that nobody needs is given up.
            (_, _) => {
                self.claim = None;
                None
            }
        };
        Some((address?, self.pref64?, self.surroundings.device?))
    }

    /// The address to translate to, once nobody else has it.
    fn settle_address(&mut self, pref64: Pref64, now: Instant) -> Option<Ipv6Addr> {
        let uplink = self.surroundings.uplink.as_ref()?;
        let ingredients =
            Ingredients { secret: &self.secret, interface: &uplink.interface, turn: self.turn, pref64: Some(pref64) };
        match self.settings.source {
            Source::Shared => uplink.addresses.first().map(Ipv6Net::addr),
            Source::Within(net) => Some(address::choose(net, &ingredients)),
            Source::Dedicated => {
                let Some(net) = self.room() else {
                    self.claim = None;
                    return None;
                };
                if uplink.mac.is_none() {
                    // There are no neighbours to ask: what is sent into such a link comes out at its other end.
                    return Some(address::choose(net, &ingredients));
                }
                if self.claimed_in != Some(net) {
                    (self.claim, self.claimed_in, self.turn) = (None, Some(net), 0);
                }
                if self.claim.is_none() && self.claim_again.is_none() && uplink.link_local.is_some() {
                    let ingredients = Ingredients { turn: self.turn, ..ingredients };
                    self.claim = Some(Claim::new(address::choose(net, &ingredients), now));
                }
                self.claim.as_ref().filter(|claim| claim.is_held()).map(Claim::address)
            }
        }
    }

    /// The uplink's prefix, where it has room for one more address: as long as it was, an address stays.
    fn room(&self) -> Option<Ipv6Net> {
        let uplink = self.surroundings.uplink.as_ref()?;
        let mut nets = uplink.addresses.iter().map(Ipv6Net::trunc).filter(|net| net.prefix_len() <= 96);
        let kept = self.claimed_in.filter(|net| nets.clone().any(|other| other == *net));
        kept.or_else(|| nets.next())
    }

    /// The PLAT is silent; another one may answer, unless all were asked.
    fn try_another(&mut self, now: Instant) {
        self.silent += 1;
        if let Some(next) = self.next_prefix().filter(|_| self.silent < self.prefixes.usable(None).len()) {
            self.pref64 = Some(next);
            self.settle(now);
        }
    }

    /// All are silent: they are asked in turn, without a word about it.
    fn turn_to_another(&mut self, now: Instant) {
        if let Some(next) = self.next_prefix() {
            self.pref64 = Some(next);
            self.checked = self.subject(now);
        }
    }

    /// The prefix that comes after the one in use.
    fn next_prefix(&self) -> Option<Pref64> {
        let usable = self.prefixes.usable(None);
        let place = usable.iter().position(|(pref64, _)| Some(*pref64) == self.pref64)?;
        let (next, _) = usable.iter().cycle().nth(place + 1)?;
        Some(*next).filter(|next| Some(*next) != self.pref64)
    }

    /// RFC 4861 section 6.3.7: routers are asked for what they announce.
    fn solicit(&mut self, now: Instant) {
        if self.solicit_at.is_none_or(|due| now < due) {
            return;
        }
        let Some(Speaker { mac, source }) = self.speaker() else {
            // There is no address to ask from yet; the kernel tells when there is.
            self.solicit_at = Some(now + SOLICITATION_INTERVAL);
            return;
        };
        let mut buffer = [0; 16];
        let message = ndp::Writer::router_solicitation(&mut buffer).and_then(|mut writer| {
            writer.source_link_layer(mac)?;
            Ok(writer.finish().to_vec())
        });
        self.outgoing.extend(message.ok().map(|message| Transmit::Solicitation(source, message)));
        self.solicitations += 1;
        self.solicit_at = (self.solicitations < SOLICITATIONS).then_some(now + SOLICITATION_INTERVAL);
    }
}

#[cfg(test)]
mod tests;

//! The stateless translator: RFC 7915 with the addresses of RFC 7757 and RFC 6052. It keeps nothing of a packet.
use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::ControlFlow;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use sixgate_wire::icmpv4::{self, Icmpv4Message};
use sixgate_wire::icmpv6::{self, Icmpv6Message};
use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::ipv6::Ipv6Packet;
use sixgate_wire::rfc6052::Pref64;
use sixgate_wire::rfc6890::is_global_v4;

use super::eam::Eamt;
use super::identification::Identifications;
use super::limiter::Limiter;
use super::offload::{Layout, Unfinished};
use super::transmit::{Offload, Transmit};
use super::unfinished::Translator as _;
use super::{Flow, Identifiers, Mtus, Policy, Refusal, icmp, originate, v4_to_v6, v6_to_v4};
use crate::status::Traffic;
use crate::time::Instant;

mod unfinished;

/// The way through the translator itself is no link and has no MTU.
const NO_LINK: u32 = u16::MAX as u32;

/// What a stateless translator does.
#[derive(Clone, Debug)]
pub struct SiitPlan {
    /// Explicit mappings; they come before the prefix.
    pub eamt: Eamt,
    /// RFC 6052: the prefix of all addresses that have no explicit mapping.
    pub pref64: Option<Pref64>,
    /// RFC 6791: source of ICMPv4 errors of our own, and of those of IPv6 routers without a counterpart.
    pub router_v4: Option<Ipv4Addr>,
    /// Source of ICMPv6 errors of our own, and of those of IPv4 routers without a counterpart.
    pub router_v6: Option<Ipv6Addr>,
    /// What the links on both sides carry.
    pub mtus: Mtus,
    /// What the operator decided.
    pub policy: Policy,
    /// Most ICMP errors of its own; none if zero.
    pub icmp_errors_per_second: u32,
}

/// The stateless translator.
#[derive(Debug)]
pub struct Siit {
    plan: SiitPlan,
    identifications: Identifications,
    limiter: Limiter,
    /// Packets on their way through a hairpin; kept for its memory.
    turned: Transmit,
    /// A part of a super-packet; kept for its memory.
    part: Vec<u8>,
    traffic: Translated,
}

/// What was translated, as it is on the wire before the translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// From IPv4 to IPv6.
    pub v4_to_v6: Traffic,
    /// From IPv6 to IPv4.
    pub v6_to_v4: Traffic,
}

/// A packet's two ends in IPv4, and whether the far one is inside as well.
struct Ends {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    turns_back: bool,
}

impl Siit {
    /// A translator; identifications come from `seed`.
    pub fn new(plan: SiitPlan, seed: [u8; 32]) -> Self {
        let identifications = Identifications::new(&mut ChaCha8Rng::from_seed(seed));
        let limiter = Limiter::new(plan.icmp_errors_per_second);
        let (turned, part, traffic) = (Transmit::new(), Vec::new(), Translated::default());
        Self { plan, identifications, limiter, turned, part, traffic }
    }

    /// Translates by another plan from now on; identifications and counters go on.
    pub fn reconfigure(&mut self, plan: SiitPlan) {
        if plan.icmp_errors_per_second != self.plan.icmp_errors_per_second {
            self.limiter = Limiter::new(plan.icmp_errors_per_second);
        }
        self.plan = plan;
    }

    /// What was translated so far.
    pub fn translated(&self) -> Translated {
        self.traffic
    }

    /// Handles a packet from either side and writes to `out` what leaves in its place: the translation, in fragments if
    /// need be, or an ICMP error, or nothing. What was in `out` is forgotten.
    pub fn handle_input(&mut self, packet: &[u8], out: &mut Transmit, now: Instant) -> Result<(), Refusal> {
        self.handle_offloaded(packet, Offload::NONE, out, now)
    }

    fn handle_v6(&mut self, bytes: &[u8], offload: Offload, out: &mut Transmit, now: Instant) -> Result<(), Refusal> {
        let packet = Ipv6Packet::parse(bytes).map_err(|_| Refusal::Malformed)?;
        let unfinished = match self.unfinished_v6(&packet, bytes, offload, out, now) {
            ControlFlow::Continue(unfinished) => unfinished,
            ControlFlow::Break(result) => return result,
        };
        let before = out.len();
        let result = self.v6_to_v4(&packet, unfinished, out);
        if result.is_ok() {
            self.traffic.v6_to_v4.add(unfinished.on_the_wire(bytes.len(), || Layout::of_v6(&packet)));
        } else if let Err(refusal) = result {
            out.truncate(before);
            if let (Some(error), Some(router)) = (originate::answer_v6(refusal), self.plan.router_v6)
                && !is_illegal_v6(packet.source())
                && originate::may_answer_v6(&packet)
                && self.limiter.admit(now)
            {
                let quoted = self.quoted(bytes, Layout::of_v6(&packet), unfinished);
                originate::emit_v6(error, router, packet.source(), quoted, out);
            }
        }
        result
    }

    fn handle_v4(&mut self, bytes: &[u8], offload: Offload, out: &mut Transmit, now: Instant) -> Result<(), Refusal> {
        let packet = Ipv4Packet::parse(bytes).map_err(|_| Refusal::Malformed)?;
        let unfinished = match self.unfinished_v4(&packet, bytes, offload, out, now) {
            ControlFlow::Continue(unfinished) => unfinished,
            ControlFlow::Break(result) => return result,
        };
        let before = out.len();
        let result = self.v4_to_v6(&packet, None, unfinished, out);
        if result.is_ok() {
            self.traffic.v4_to_v6.add(unfinished.on_the_wire(bytes.len(), || Layout::of_v4(&packet)));
        } else if let Err(refusal) = result {
            out.truncate(before);
            if let (Some(error), Some(router)) = (originate::answer_v4(refusal), self.plan.router_v4)
                && originate::may_answer_v4(&packet)
                && self.limiter.admit(now)
            {
                let identification = self.identifications.next(router, packet.source(), icmpv4::PROTOCOL);
                let quoted = self.quoted(bytes, Layout::of_v4(&packet), unfinished);
                originate::emit_v4(error, router, packet.source(), identification, quoted, out);
            }
        }
        result
    }

    fn v6_to_v4(&mut self, packet: &Ipv6Packet<'_>, unfinished: Unfinished, out: &mut Transmit) -> Result<(), Refusal> {
        let message = error_v6(packet);
        let ends = self.ends(packet, message.is_some())?;
        let flow = Flow { source: ends.source, destination: ends.destination, identifiers: Identifiers::Same };
        let Mtus { v4, v6 } = self.plan.mtus;
        let count = unfinished.count(packet.upper_length());
        let egress = v6_to_v4::Egress {
            mtus: Mtus { v4: if ends.turns_back { NO_LINK } else { v4 }, v6 },
            policy: if ends.turns_back { Policy { tos: None, ..self.plan.policy } } else { self.plan.policy },
            identification: self.identifications.take(flow.source, flow.destination, packet.protocol(), count),
            reassembled_from: None,
            unfinished,
        };
        let before = out.len();
        match message {
            None => v6_to_v4::translate(packet, &flow, &egress, out)?,
            Some(message) => {
                let (original, _) = icmp::split_v6(&message);
                let quoted = Ipv6Packet::parse_quoted(original).map_err(|_| Refusal::Malformed)?;
                // RFC 7915 section 5.3: no errors about errors.
                if error_v6(&quoted).is_some() {
                    return Err(Refusal::IcmpType);
                }
                let quoted = Flow {
                    source: self.to_v4(quoted.source())?,
                    destination: self.to_v4(quoted.destination())?,
                    identifiers: Identifiers::Same,
                };
                v6_to_v4::translate_error(packet, &flow, &quoted, &egress, out)?;
            }
        }
        if ends.turns_back { self.turn_back(before, out) } else { Ok(()) }
    }

    /// Translates a packet. RFC 7757 section 4.2: the far end of one that `turns_back` is represented by the prefix, so
    /// that the answer comes by the translator as well.
    fn v4_to_v6(
        &mut self,
        packet: &Ipv4Packet<'_>,
        turns_back: Option<Pref64>,
        unfinished: Unfinished,
        out: &mut Transmit,
    ) -> Result<(), Refusal> {
        let message = error_v4(packet);
        let far = |address| match turns_back {
            Some(pref64) => Ok(pref64.embed(address)),
            None => self.to_v6(address),
        };
        let source = match (far(packet.source()), &message) {
            (Ok(source), Some(_)) => source,
            (Ok(source), None) if is_legal_v4(packet.source()) => source,
            // RFC 6791: the translator speaks for routers that have no counterpart.
            (Err(refusal), Some(_)) => self.plan.router_v6.ok_or(refusal)?,
            (_, None) => return Err(Refusal::Address),
        };
        let flow = Flow { source, destination: self.to_v6(packet.destination())?, identifiers: Identifiers::Same };
        let Mtus { v4, v6 } = self.plan.mtus;
        let egress = v4_to_v6::Egress {
            mtus: Mtus { v4: if turns_back.is_some() { NO_LINK } else { v4 }, v6 },
            policy: self.plan.policy,
            reassembled_from: None,
            unfinished,
        };
        let Some(message) = message else { return v4_to_v6::translate(packet, &flow, &egress, out) };
        let (original, _) = icmp::split_v4(&message);
        let quoted = Ipv4Packet::parse_quoted(original).map_err(|_| Refusal::Malformed)?;
        // RFC 7915 section 4.3: no errors about errors.
        if error_v4(&quoted).is_some() {
            return Err(Refusal::IcmpType);
        }
        let quoted = Flow {
            source: self.to_v6(quoted.source())?,
            destination: far(quoted.destination())?,
            identifiers: Identifiers::Same,
        };
        v4_to_v6::translate_error(packet, &flow, &quoted, &egress, out)
    }

    /// The addresses of a packet from IPv6.
    fn ends(&self, packet: &Ipv6Packet<'_>, is_error: bool) -> Result<Ends, Refusal> {
        let (source, destination) = (packet.source(), packet.destination());
        if is_illegal_v6(source) {
            return Err(Refusal::Address);
        }
        let source = match (self.to_v4(source), self.plan.router_v4) {
            (Ok(source), _) => source,
            // RFC 6791: the translator speaks for routers that have no counterpart.
            (Err(_), Some(router)) if is_error => router,
            (Err(refusal), _) => return Err(refusal),
        };
        let explicit = self.plan.eamt.to_v4(destination);
        let destination = self.to_v4(destination)?;
        // RFC 7757 section 4.2: an address by the prefix that stands for a host inside.
        let turns_back = explicit.is_none() && self.plan.eamt.to_v6(destination).is_some();
        Ok(Ends { source, destination, turns_back })
    }

    /// RFC 7757 section 3.3.1.
    fn to_v6(&self, address: Ipv4Addr) -> Result<Ipv6Addr, Refusal> {
        if let Some(mapped) = self.plan.eamt.to_v6(address) {
            return Ok(mapped);
        }
        let pref64 = self.plan.pref64.filter(|pref64| represents(*pref64, address)).ok_or(Refusal::Address)?;
        Ok(pref64.embed(address))
    }

    /// RFC 7757 section 3.3.2.
    fn to_v4(&self, address: Ipv6Addr) -> Result<Ipv4Addr, Refusal> {
        if let Some(mapped) = self.plan.eamt.to_v4(address) {
            return Ok(mapped);
        }
        let pref64 = self.plan.pref64.ok_or(Refusal::Address)?;
        let embedded =
            pref64.extract(address).filter(|embedded| is_legal_v4(*embedded) && represents(pref64, *embedded));
        embedded.ok_or(Refusal::Address)
    }
}

/// RFC 6052 section 3.1: the Well-Known Prefix is for global addresses alone.
fn represents(pref64: Pref64, address: Ipv4Addr) -> bool {
    pref64 != Pref64::WELL_KNOWN || is_global_v4(address)
}

/// RFC 7915 section 4.1: an address that a host may have.
fn is_legal_v4(address: Ipv4Addr) -> bool {
    !matches!(address.octets()[0], 0 | 127 | 224..)
}

/// RFC 7915 section 5.1: an address that no packet to be forwarded comes from.
fn is_illegal_v6(source: Ipv6Addr) -> bool {
    source.is_unspecified() || source.is_loopback() || source.is_multicast() || source.is_unicast_link_local()
}

/// The message of a packet, if that is an ICMPv6 error.
fn error_v6<'a>(packet: &Ipv6Packet<'a>) -> Option<Icmpv6Message<'a>> {
    let is_first = packet.fragment().is_none_or(|fragment| fragment.offset == 0);
    let message = Icmpv6Message::parse(packet.upper()).filter(|_| is_first && packet.protocol() == icmpv6::PROTOCOL);
    message.filter(Icmpv6Message::is_error)
}

/// The message of a packet, if that is an ICMPv4 error.
fn error_v4<'a>(packet: &Ipv4Packet<'a>) -> Option<Icmpv4Message<'a>> {
    let is_first = packet.fragment_offset() == 0;
    let message = Icmpv4Message::parse(packet.upper()).filter(|_| is_first && packet.protocol() == icmpv4::PROTOCOL);
    message.filter(Icmpv4Message::is_error)
}

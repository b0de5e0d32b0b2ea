//! What the CLAT does to packets: the stateless translator, and the answers to the check among them.
use core::net::Ipv6Addr;
use std::collections::{BTreeMap, VecDeque};

use sixgate_wire::icmpv6::{self, Icmpv6Message};
use sixgate_wire::ipv6::Ipv6Packet;
use sixgate_wire::rfc6052::Pref64;

use super::check::Answer;
use super::plan::ClatPlan;
use crate::nat64::verdict::Reason;
use crate::time::Instant;
use crate::xlat::siit::{Siit, Translated};
use crate::xlat::transmit::{Offload, Transmit};

/// Answers that wait for whoever asked.
const MOST_ANSWERS: usize = 16;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It left, translated.
    Translated,
    /// It was the answer to a check, and ends here.
    Answer,
    /// It ended here. An ICMP error may have been written in its place.
    Dropped(Reason),
}

/// The translator of a CLAT.
#[derive(Debug)]
pub struct Translator {
    siit: Siit,
    address: Ipv6Addr,
    pref64: Pref64,
    /// Identifier of the check's requests.
    identifier: u16,
    dropped: BTreeMap<Reason, u64>,
    answers: VecDeque<Answer>,
}

impl Translator {
    /// A translator for this plan; `identifier` is the check's.
    pub fn new(plan: &ClatPlan, identifier: u16, seed: [u8; 32]) -> Self {
        let siit = Siit::new(plan.translation(), seed);
        let (dropped, answers) = (BTreeMap::new(), VecDeque::new());
        Self { siit, address: plan.address, pref64: plan.pref64, identifier, dropped, answers }
    }

    /// Follows another plan; counters go on.
    pub fn reconfigure(&mut self, plan: &ClatPlan) {
        (self.address, self.pref64) = (plan.address, plan.pref64);
        self.siit.reconfigure(plan.translation());
    }

    /// Handles a packet of the device and writes to `out` what leaves in its place.
    pub fn handle_offloaded(&mut self, packet: &[u8], offload: Offload, out: &mut Transmit, now: Instant) -> Verdict {
        if let Some(answer) = self.answer(packet) {
            out.clear();
            if self.answers.len() < MOST_ANSWERS {
                self.answers.push_back(answer);
            }
            return Verdict::Answer;
        }
        match self.siit.handle_offloaded(packet, offload, out, now) {
            Ok(()) => Verdict::Translated,
            Err(refusal) => {
                let reason = Reason::from(refusal);
                *self.dropped.entry(reason).or_default() += 1;
                Verdict::Dropped(reason)
            }
        }
    }

    /// The oldest answer to a check.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// What was translated.
    pub fn translated(&self) -> Translated {
        self.siit.translated()
    }

    /// Packets that ended here, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.dropped.iter().map(|(reason, count)| (reason.name(), *count))
    }

    /// Whether it answers a check: an echo reply from an IPv4 address, or an error about a request.
    fn answer(&self, bytes: &[u8]) -> Option<Answer> {
        // Almost every packet ends at this look.
        if bytes.first()? >> 4 != 6 || *bytes.get(6)? != icmpv6::PROTOCOL {
            return None;
        }
        let packet = Ipv6Packet::parse(bytes).ok().filter(|packet| packet.destination() == self.address)?;
        let message = Icmpv6Message::parse(packet.upper())?;
        let translated = self.pref64.contains(packet.source());
        if message.kind() == icmpv6::ECHO_REPLY {
            return (translated && message.identifier() == self.identifier).then_some(Answer::Translated);
        }
        if !message.is_error() {
            return None;
        }
        let quoted = Ipv6Packet::parse_quoted(message.body()).ok().filter(|quoted| quoted.source() == self.address)?;
        let request = Icmpv6Message::parse(quoted.upper()).filter(|_| quoted.protocol() == icmpv6::PROTOCOL)?;
        if request.kind() != icmpv6::ECHO_REQUEST || request.identifier() != self.identifier {
            return None;
        }
        let refused = Answer::Refused { from: packet.source(), kind: message.kind(), code: message.code() };
        Some(if translated { Answer::Translated } else { refused })
    }
}

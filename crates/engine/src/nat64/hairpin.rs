//! Hairpinning: RFC 6146 section 3.8. What was translated to one of our own addresses turns back to IPv6.
use sixgate_wire::icmpv6;
use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::ipv6;

use super::Nat64;
use super::verdict::{Reason, Refused, Verdict};
use crate::time::Instant;
use crate::xlat::offload::{self, Inspected, Layout, Unfinished};
use crate::xlat::originate::Error;
use crate::xlat::transmit::Transmit;
use crate::xlat::v6_to_v4::Egress;
use crate::xlat::{GROWTH, Mtus, Policy};

/// The way through the translator itself is no link and has no MTU.
const MTU: u32 = u16::MAX as u32;

/// How a packet leaves for IPv4 that turns back: in one piece, whatever it came in.
pub(super) fn egress(
    mtus: Mtus,
    policy: Policy,
    identification: u16,
    reassembled_from: Option<u32>,
    unfinished: Unfinished,
) -> Egress {
    Egress {
        mtus: Mtus { v4: MTU, ..mtus },
        // What does not leave keeps its Traffic Class.
        policy: Policy { tos: None, ..policy },
        identification,
        reassembled_from: reassembled_from.map(|_| MTU + GROWTH + ipv6::FRAGMENT_HEADER as u32),
        unfinished,
    }
}

impl Nat64 {
    /// Handles the packets in `turned` as if they had come from IPv4.
    pub(super) fn hairpin(&mut self, turned: &Transmit, out: &mut Transmit, now: Instant) -> Result<Verdict, Refused> {
        let mut verdict = Verdict::Hairpinned;
        for (bytes, offload) in turned.packets() {
            let packet = Ipv4Packet::parse(bytes).map_err(|_| Reason::Malformed)?;
            let mtus = Mtus { v4: MTU, ..self.mtus };
            let Inspected::Fits(unfinished) = offload::inspect(bytes, &Layout::of_v4(&packet), offload) else {
                return Err(Reason::Malformed.into());
            };
            if self.v4_to_v6(&packet, mtus, None, unfinished, out, now).map_err(refused_inside)? == Verdict::Held {
                verdict = Verdict::Held;
            }
        }
        Ok(verdict)
    }
}

/// The sender is in IPv6, so what it is told is said in IPv6 as well.
fn refused_inside(refused: Refused) -> Refused {
    let error = |kind, word| Some(Error { kind, code: 0, word });
    let answer = match (refused.reason, refused.answer) {
        (Reason::HopLimitExceeded, _) => error(icmpv6::TIME_EXCEEDED, 0),
        (Reason::TooBig, Some(answer)) => error(icmpv6::PACKET_TOO_BIG, answer.word + GROWTH),
        (_, _) => None,
    };
    Refused { reason: refused.reason, answer }
}

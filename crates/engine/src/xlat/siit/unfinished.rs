//! Packets that the kernel has not finished: super-packets and partial checksums, before they are translated; and what
//! turns back.
use core::ops::ControlFlow;

use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::ipv6::Ipv6Packet;

use super::Siit;
use crate::time::Instant;
use crate::xlat::offload::{self, Inspected, Layout, Parts, Unfinished};
use crate::xlat::transmit::{Offload, Transmit};
use crate::xlat::unfinished::Translator;
use crate::xlat::{GROWTH, Refusal};

impl Siit {
    /// As [`Self::handle_input`], for a packet of which a device says that something is left to do. What leaves has the
    /// same left to do, as [`Transmit::packets`] tells, or nothing. What is said of a packet that had to be cut is what
    /// became of its last part.
    pub fn handle_offloaded(
        &mut self,
        packet: &[u8],
        offload: Offload,
        out: &mut Transmit,
        now: Instant,
    ) -> Result<(), Refusal> {
        out.clear();
        self.handle_part(packet, offload, out, now)
    }

    /// What is left to do to a packet from IPv6, or what became of it if it could not be handled in one.
    pub(super) fn unfinished_v6(
        &mut self,
        packet: &Ipv6Packet<'_>,
        bytes: &[u8],
        offload: Offload,
        out: &mut Transmit,
        now: Instant,
    ) -> ControlFlow<Result<(), Refusal>, Unfinished> {
        if offload == Offload::NONE {
            return ControlFlow::Continue(Unfinished::NONE);
        }
        let (layout, mtus) = (Layout::of_v6(packet), self.plan.mtus);
        let parts = |unfinished: &Unfinished| unfinished.parts_to_v4(layout.upper_length, mtus);
        self.unfinished(bytes, layout, offload, parts, out, now)
    }

    /// What is left to do to a packet from IPv4, or what became of it if it could not be handled in one.
    pub(super) fn unfinished_v4(
        &mut self,
        packet: &Ipv4Packet<'_>,
        bytes: &[u8],
        offload: Offload,
        out: &mut Transmit,
        now: Instant,
    ) -> ControlFlow<Result<(), Refusal>, Unfinished> {
        if offload == Offload::NONE {
            return ControlFlow::Continue(Unfinished::NONE);
        }
        let (mtus, policy) = (self.plan.mtus, self.plan.policy);
        let fragmented = |unfinished: &Unfinished| match unfinished.parts_to_v6(packet, mtus, &policy) {
            // A SYN is not stored here and need not be finished.
            Parts::Each if unfinished.count(packet.upper_length()) == 1 => Parts::One,
            parts => parts,
        };
        self.unfinished(bytes, Layout::of_v4(packet), offload, fragmented, out, now)
    }

    /// RFC 7757 section 4.2: what is in `out` behind the first `before` packets comes back as if from IPv4.
    pub(super) fn turn_back(&mut self, before: usize, out: &mut Transmit) -> Result<(), Refusal> {
        let pref64 = self.plan.pref64.ok_or(Refusal::Address)?;
        let mut turned = core::mem::take(&mut self.turned);
        turned.take_behind(before, out);
        let result = turned.packets().try_for_each(|(bytes, offload)| {
            let packet = Ipv4Packet::parse(bytes).map_err(|_| Refusal::Malformed)?;
            let Inspected::Fits(unfinished) = offload::inspect(bytes, &Layout::of_v4(&packet), offload) else {
                return Err(Refusal::Malformed);
            };
            // The sender hears in IPv6 of what does not fit.
            self.v4_to_v6(&packet, Some(pref64), unfinished, out).map_err(|refusal| match refusal {
                Refusal::TooBig { mtu } => Refusal::TooBig { mtu: mtu + GROWTH },
                other => other,
            })
        });
        self.turned = turned;
        result
    }
}

impl Translator for Siit {
    type Outcome = Result<(), Refusal>;

    fn handle_part(
        &mut self,
        packet: &[u8],
        offload: Offload,
        out: &mut Transmit,
        now: Instant,
    ) -> Result<(), Refusal> {
        match packet.first().map(|first| first >> 4) {
            Some(6) => self.handle_v6(packet, offload, out, now),
            Some(4) => self.handle_v4(packet, offload, out, now),
            Some(_) | None => self.malformed(),
        }
    }

    fn malformed(&mut self) -> Result<(), Refusal> {
        Err(Refusal::Malformed)
    }

    fn room(&mut self) -> &mut Vec<u8> {
        &mut self.part
    }
}

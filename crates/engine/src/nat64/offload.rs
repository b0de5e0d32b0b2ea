//! Packets that the kernel has not finished: super-packets and partial checksums, before RFC 6146's steps see them.
use core::ops::ControlFlow;

use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::ipv6::Ipv6Packet;

use super::Nat64;
use super::verdict::{Reason, Verdict};
use crate::time::Instant;
use crate::xlat::offload::{Layout, Unfinished};
use crate::xlat::transmit::{Offload, Transmit};
use crate::xlat::unfinished::Translator;

impl Nat64 {
    /// As [`Self::handle_input`], for a packet of which a device says that something is left to do. What leaves has the
    /// same left to do, as [`Transmit::packets`] tells, or nothing.
    pub fn handle_offloaded(&mut self, packet: &[u8], offload: Offload, out: &mut Transmit, now: Instant) -> Verdict {
        out.clear();
        // Packets come in batches that share an instant.
        if self.expired_at != now {
            self.expire(now);
        }
        self.handle_part(packet, offload, out, now)
    }

    /// What is left to do to a packet from IPv6, or its verdict if it could not be handled in one.
    pub(super) fn unfinished_v6(
        &mut self,
        packet: &Ipv6Packet<'_>,
        bytes: &[u8],
        offload: Offload,
        out: &mut Transmit,
        now: Instant,
    ) -> ControlFlow<Verdict, Unfinished> {
        if offload == Offload::NONE {
            return ControlFlow::Continue(Unfinished::NONE);
        }
        let (layout, mtus) = (Layout::of_v6(packet), self.mtus);
        let parts = |unfinished: &Unfinished| unfinished.parts_to_v4(layout.upper_length, mtus);
        self.unfinished(bytes, layout, offload, parts, out, now)
    }

    /// What is left to do to a packet from IPv4, or its verdict if it could not be handled in one.
    pub(super) fn unfinished_v4(
        &mut self,
        packet: &Ipv4Packet<'_>,
        bytes: &[u8],
        offload: Offload,
        out: &mut Transmit,
        now: Instant,
    ) -> ControlFlow<Verdict, Unfinished> {
        if offload == Offload::NONE {
            return ControlFlow::Continue(Unfinished::NONE);
        }
        let (mtus, policy) = (self.mtus, self.policy);
        let parts = |unfinished: &Unfinished| unfinished.parts_to_v6(packet, mtus, &policy);
        self.unfinished(bytes, Layout::of_v4(packet), offload, parts, out, now)
    }

    pub(super) fn drop_malformed(&mut self) -> Verdict {
        self.counters.count(Reason::Malformed);
        Verdict::Dropped(Reason::Malformed)
    }
}

impl Translator for Nat64 {
    type Outcome = Verdict;

    fn handle_part(&mut self, packet: &[u8], offload: Offload, out: &mut Transmit, now: Instant) -> Verdict {
        match packet.first().map(|first| first >> 4) {
            Some(6) => self.handle_v6(packet, offload, out, now),
            Some(4) => self.handle_v4(packet, offload, out, now),
            Some(_) | None => self.drop_malformed(),
        }
    }

    fn malformed(&mut self) -> Verdict {
        self.drop_malformed()
    }

    fn room(&mut self) -> &mut Vec<u8> {
        &mut self.part
    }
}

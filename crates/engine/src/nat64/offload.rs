//! Packets that the kernel has not finished: super-packets and partial checksums, before RFC 6146's steps see them.
use core::ops::ControlFlow;

use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::ipv6::Ipv6Packet;

use super::Nat64;
use super::verdict::{Reason, Verdict};
use crate::time::Instant;
use crate::xlat::offload::{self, Inspected, Layout, Parts, Unfinished};
use crate::xlat::segment::{self, SuperPacket};
use crate::xlat::transmit::{Offload, Transmit};

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

    fn handle_part(&mut self, packet: &[u8], offload: Offload, out: &mut Transmit, now: Instant) -> Verdict {
        match packet.first().map(|first| first >> 4) {
            Some(6) => self.handle_v6(packet, offload, out, now),
            Some(4) => self.handle_v4(packet, offload, out, now),
            Some(_) | None => self.drop_malformed(),
        }
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

    fn unfinished(
        &mut self,
        bytes: &[u8],
        layout: Layout,
        offload: Offload,
        parts: impl Fn(&Unfinished) -> Parts,
        out: &mut Transmit,
        now: Instant,
    ) -> ControlFlow<Verdict, Unfinished> {
        match offload::inspect(bytes, &layout, offload) {
            Inspected::Fits(unfinished) => match parts(&unfinished) {
                Parts::One => ControlFlow::Continue(unfinished),
                parts => {
                    let whole = SuperPacket { bytes, layout, unfinished };
                    ControlFlow::Break(self.handle_parts(&whole, parts, out, now))
                }
            },
            Inspected::Complete(checksum) => {
                let mut part = core::mem::take(&mut self.part);
                part.clear();
                part.extend_from_slice(&bytes[..layout.upper_at + layout.upper_length]);
                let verdict = if segment::complete(&mut part, checksum) {
                    self.handle_part(&part, Offload::NONE, out, now)
                } else {
                    self.drop_malformed()
                };
                self.part = part;
                ControlFlow::Break(verdict)
            }
            Inspected::Malformed => ControlFlow::Break(self.drop_malformed()),
        }
    }

    /// Handles the segments by themselves, finished, or the last one. The verdict is the last one's; each is counted.
    fn handle_parts(&mut self, whole: &SuperPacket<'_>, parts: Parts, out: &mut Transmit, now: Instant) -> Verdict {
        let mut part = core::mem::take(&mut self.part);
        let mut verdict = Verdict::Dropped(Reason::Malformed);
        whole.each_part(parts, &mut part, |bytes, offload| verdict = self.handle_part(bytes, offload, out, now));
        self.part = part;
        verdict
    }

    /// What an ICMP error quotes of a packet: that packet, or its first segment as it would be on the wire.
    pub(super) fn quoted<'a>(&'a mut self, bytes: &'a [u8], layout: Layout, unfinished: Unfinished) -> &'a [u8] {
        if unfinished == Unfinished::NONE {
            return bytes;
        }
        SuperPacket { bytes, layout, unfinished }.finish_first(&mut self.part);
        &self.part
    }

    pub(super) fn drop_malformed(&mut self) -> Verdict {
        self.counters.count(Reason::Malformed);
        Verdict::Dropped(Reason::Malformed)
    }
}

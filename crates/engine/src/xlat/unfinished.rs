//! What every translator does with packets that the kernel has not finished: one that can be handled whole is, another is
//! handled by its parts, as they would be on the wire.
use core::ops::ControlFlow;

use super::offload::{self, Inspected, Layout, Parts, Unfinished};
use super::segment::{self, SuperPacket};
use super::transmit::{Offload, Transmit};
use crate::time::Instant;

/// A translator that packets are handed to with what is left to do to them.
pub(crate) trait Translator {
    /// What it says of a packet.
    type Outcome;

    /// Handles one packet.
    fn handle_part(&mut self, packet: &[u8], offload: Offload, out: &mut Transmit, now: Instant) -> Self::Outcome;

    /// What it says of a packet that contradicts itself.
    fn malformed(&mut self) -> Self::Outcome;

    /// Room for one part.
    fn room(&mut self) -> &mut Vec<u8>;

    /// What is left to do to a packet that can be handled whole, or what became of it by its parts: of several, of the last.
    fn unfinished(
        &mut self,
        bytes: &[u8],
        layout: Layout,
        offload: Offload,
        parts: impl Fn(&Unfinished) -> Parts,
        out: &mut Transmit,
        now: Instant,
    ) -> ControlFlow<Self::Outcome, Unfinished> {
        match offload::inspect(bytes, &layout, offload) {
            Inspected::Fits(unfinished) => match parts(&unfinished) {
                Parts::One => ControlFlow::Continue(unfinished),
                parts => {
                    let whole = SuperPacket { bytes, layout, unfinished };
                    let (mut part, mut outcome) = (core::mem::take(self.room()), None);
                    whole.each_part(parts, &mut part, |bytes, offload| {
                        outcome = Some(self.handle_part(bytes, offload, out, now));
                    });
                    *self.room() = part;
                    ControlFlow::Break(outcome.unwrap_or_else(|| self.malformed()))
                }
            },
            Inspected::Complete(checksum) => {
                let mut part = core::mem::take(self.room());
                part.clear();
                part.extend_from_slice(&bytes[..layout.upper_at + layout.upper_length]);
                let outcome = if segment::complete(&mut part, checksum) {
                    self.handle_part(&part, Offload::NONE, out, now)
                } else {
                    self.malformed()
                };
                *self.room() = part;
                ControlFlow::Break(outcome)
            }
            Inspected::Malformed => ControlFlow::Break(self.malformed()),
        }
    }

    /// What an ICMP error quotes of a packet: that packet, or its first segment as it would be on the wire.
    fn quoted<'a>(&'a mut self, bytes: &'a [u8], layout: Layout, unfinished: Unfinished) -> &'a [u8] {
        if unfinished == Unfinished::NONE {
            return bytes;
        }
        SuperPacket { bytes, layout, unfinished }.finish_first(self.room());
        self.room()
    }
}

//! The reusable buffer that output packets are written into.
use core::ops::Range;

pub use sixgate_wire::virtio_net::Offload;

/// Zero or more packets in one allocation that is kept from call to call.
#[derive(Debug, Default)]
pub struct Transmit {
    bytes: Vec<u8>,
    packets: Vec<(Range<usize>, Offload)>,
}

impl Transmit {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the packets and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
    }

    /// Number of packets.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packets in the order in which they leave.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.packets.iter().map(|(range, _)| &self.bytes[range.clone()])
    }

    /// The packets with what their virtio-net headers are to say.
    pub fn packets(&self) -> impl ExactSizeIterator<Item = (&[u8], Offload)> {
        self.packets.iter().map(|(range, offload)| (&self.bytes[range.clone()], *offload))
    }

    /// Appends a packet made of two parts and hands it out for rewriting.
    pub(crate) fn push(&mut self, header: &[u8], rest: &[u8]) -> &mut [u8] {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_slice(rest);
        self.commit(start)
    }

    /// Appends a packet made of a header and of bytes that were written before.
    pub(crate) fn push_again(&mut self, header: &[u8], rest: Range<usize>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_within(rest);
        self.commit(start);
    }

    /// Appends what `write` appends.
    pub(crate) fn build(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.commit(start);
    }

    /// Says what is left to do to the last packet.
    pub(crate) fn leave(&mut self, left: Offload) {
        if let Some((_, offload)) = self.packets.last_mut() {
            *offload = left;
        }
    }

    /// Forgets the packets behind the first `count`.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.packets.truncate(count);
    }

    /// Holds what was behind the first `count` packets of another, and nothing else; the other loses it.
    pub(crate) fn take_behind(&mut self, count: usize, other: &mut Self) {
        self.clear();
        for (range, offload) in other.packets.drain(count.min(other.packets.len())..) {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(&other.bytes[range]);
            self.packets.push((start..self.bytes.len(), offload));
        }
    }

    /// Takes the last packet back; its bytes stay for [`Self::push_again`].
    pub(crate) fn withdraw(&mut self) -> Range<usize> {
        self.packets.pop().map(|(range, _)| range).unwrap_or_default()
    }

    /// The last packet, for rewriting.
    pub(crate) fn last_mut(&mut self) -> &mut [u8] {
        self.packets.last().map(|(range, _)| &mut self.bytes[range.clone()]).unwrap_or_default()
    }

    fn commit(&mut self, start: usize) -> &mut [u8] {
        self.packets.push((start..self.bytes.len(), Offload::NONE));
        &mut self.bytes[start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn withdrawn_packets_leave_in_pieces() {
        let mut out = Transmit::new();
        out.push(b"H", b"abcd")[0] = b'h';
        assert_eq!(out.iter().collect::<Vec<_>>(), [b"habcd"]);
        let range = out.withdraw();
        assert!(out.is_empty());
        out.push_again(b"1", range.start + 1..range.start + 3);
        out.push_again(b"2", range.start + 3..range.end);
        assert_eq!(out.iter().collect::<Vec<_>>(), [b"1ab", b"2cd"]);
        out.clear();
        assert_eq!(out.packets().len(), 0);
    }
}

//! Port blocks: a client's ports come in rows, so that a log names the row once and not each port (RFC 6888 REQ-13, 14).
use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use std::collections::HashMap;

use super::keyed::Keyed;
use super::quota::{Client, is_fair};

/// A row of ports of an address that a client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Assigned {
    pub(super) client: Client,
    pub(super) address: Ipv4Addr,
    /// The first port.
    pub(super) port: u16,
    /// How many.
    pub(super) count: u16,
}

/// Where a block lies: which address of the pool, which of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) place: usize,
    pub(super) index: u16,
}

/// Who has which blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Ports of a block; none where there are no blocks.
    size: u16,
    owners: HashMap<Client, Vec<Position>, Keyed>,
    /// Blocks that nobody has.
    free: u64,
}

/// The blocks of an address.
#[derive(Debug, Default)]
pub(super) struct Row {
    blocks: Vec<Block>,
    free: Vec<u16>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    owner: Option<Client>,
    /// Ports and identifiers in use, of all protocols.
    used: u32,
}

impl Blocks {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self { size: 0, owners: HashMap::with_hasher(keyed), free: 0 }
    }

    /// Begins anew with blocks of another size, which nobody has.
    pub(super) fn reset(&mut self, size: u16) {
        self.size = size;
        self.owners.clear();
        self.free = 0;
    }

    /// Whether ports are given out in blocks.
    pub(super) const fn are_on(&self) -> bool {
        self.size != 0
    }

    /// Ports of a block.
    pub(super) const fn size(&self) -> u16 {
        self.size
    }

    /// The blocks that fit a share; what is left over behind them is nobody's.
    pub(super) fn row(&mut self, share: &RangeInclusive<u16>) -> (Row, RangeInclusive<u16>) {
        let count = (share.len() / usize::from(self.size)) as u16;
        self.free += u64::from(count);
        let row = Row { blocks: vec![Block::default(); usize::from(count)], free: (0..count).collect() };
        let end = u32::from(*share.start()) + u32::from(count) * u32::from(self.size);
        // An empty share ends before it begins.
        let share = *share.start()..=end.saturating_sub(1) as u16;
        (row, share)
    }

    /// All blocks that somebody has.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Client, Position)> {
        self.owners.iter().flat_map(|(client, positions)| positions.iter().map(|position| (*client, *position)))
    }

    /// The blocks of a client.
    pub(super) fn of(&self, client: Client) -> &[Position] {
        self.owners.get(&client).map_or(&[], Vec::as_slice)
    }

    /// Whether a client may have another block. The last one is kept for somebody who has none.
    pub(super) fn is_fair(&self, client: Client) -> bool {
        let has = self.of(client).len() as u64;
        has == 0 || is_fair(has, self.free.saturating_sub(1))
    }

    /// How many somebody has, and how many are left.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.owners.values().map(|positions| positions.len() as u64).sum(), self.free)
    }

    /// Whether none is left.
    pub(super) const fn are_out(&self) -> bool {
        self.free == 0
    }

    /// Gives a client a block of that address: any, by a random number.
    pub(super) fn assign(&mut self, client: Client, place: usize, row: &mut Row, random: u32) -> Option<u16> {
        let count = u32::try_from(row.free.len()).ok().filter(|count| *count > 0)?;
        let index = row.free.swap_remove((random % count) as usize);
        self.take(client, Position { place, index }, row);
        Some(index)
    }

    /// Gives a client that very block, unless another has it or it waits.
    pub(super) fn claim(&mut self, client: Client, position: Position, row: &mut Row) -> bool {
        let Some(block) = row.blocks.get(usize::from(position.index)) else { return false };
        if let Some(owner) = block.owner {
            return owner == client;
        }
        let Some(free) = row.free.iter().position(|index| *index == position.index) else { return false };
        row.free.swap_remove(free);
        self.take(client, position, row);
        true
    }

    fn take(&mut self, client: Client, position: Position, row: &mut Row) {
        row.blocks[usize::from(position.index)] = Block { owner: Some(client), used: 0 };
        self.free -= 1;
        self.owners.entry(client).or_default().push(position);
    }

    /// One port less of a block is in use; returns whose it was if that was the last.
    pub(super) fn release(&mut self, position: Position, row: &mut Row) -> Option<Client> {
        let block = row.blocks.get_mut(usize::from(position.index))?;
        let owner = block.owner?;
        block.used = block.used.saturating_sub(1);
        if block.used > 0 {
            return None;
        }
        block.owner = None;
        if let Some(positions) = self.owners.get_mut(&owner) {
            positions.retain(|other| *other != position);
            if positions.is_empty() {
                self.owners.remove(&owner);
            }
        }
        Some(owner)
    }

    /// A block that waited may be given to anybody.
    pub(super) fn free(&mut self, index: u16, row: &mut Row) {
        if row.blocks.get(usize::from(index)).is_some_and(|block| block.owner.is_none()) && !row.free.contains(&index) {
            row.free.push(index);
            self.free += 1;
        }
    }

    /// A block waits, although nobody has it; says whether it was free.
    pub(super) fn keep(&mut self, index: u16, row: &mut Row) -> bool {
        let free = row.free.iter().position(|other| *other == index);
        if let Some(free) = free {
            row.free.swap_remove(free);
            self.free -= 1;
        }
        free.is_some()
    }
}

impl Row {
    /// One more port of a block is in use.
    pub(super) fn count(&mut self, index: u16) {
        if let Some(block) = self.blocks.get_mut(usize::from(index)) {
            block.used += 1;
        }
    }

    /// Blocks that nobody has.
    pub(super) const fn free(&self) -> usize {
        self.free.len()
    }
}

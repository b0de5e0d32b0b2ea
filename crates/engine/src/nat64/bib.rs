//! The Binding Information Bases: RFC 6146 section 3.1.
use hashbrown::HashTable;
use slab::Slab;

use super::account::AccountIndex;
use super::keyed::Keyed;
use super::tuple::{Protocol, TransportV4, TransportV6};

/// A BIB entry: one transport address inside and the one outside that stands for it, whatever the other end
/// (endpoint-independent mapping).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) protocol: Protocol,
    /// (X',x)
    pub(super) client: TransportV6,
    /// (T,t)
    pub(super) mapped: TransportV4,
    /// How many sessions use it; it ends with the last one.
    pub(super) sessions: u32,
    /// Made by the operator: it stays, and anybody may use it.
    pub(super) is_static: bool,
    /// Whom its packets are charged to.
    pub(super) account: AccountIndex,
}

/// The three BIBs.
#[derive(Debug)]
pub(super) struct Bib {
    keyed: Keyed,
    bindings: Slab<Binding>,
    by_client: HashTable<u32>,
    by_mapped: HashTable<u32>,
    counts: [u64; 3],
}

impl Bib {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self { keyed, bindings: Slab::new(), by_client: HashTable::new(), by_mapped: HashTable::new(), counts: [0; 3] }
    }

    /// Makes room for so many, so that the tables need not grow step by step.
    pub(super) fn reserve(&mut self, count: usize) {
        let Self { keyed, bindings, by_client, by_mapped, .. } = self;
        bindings.reserve(count);
        by_client
            .reserve(count, |index| keyed.client(bindings[*index as usize].protocol, bindings[*index as usize].client));
        by_mapped
            .reserve(count, |index| keyed.mapped(bindings[*index as usize].protocol, bindings[*index as usize].mapped));
    }

    /// The binding of a host inside.
    pub(super) fn find_client(&self, protocol: Protocol, client: TransportV6) -> Option<u32> {
        let hash = self.keyed.client(protocol, client);
        self.by_client.find(hash, |index| self[*index].is_of_client(protocol, client)).copied()
    }

    /// The binding behind a mapped address.
    pub(super) fn find_mapped(&self, protocol: Protocol, mapped: TransportV4) -> Option<u32> {
        let hash = self.keyed.mapped(protocol, mapped);
        self.by_mapped.find(hash, |index| self[*index].is_of_mapped(protocol, mapped)).copied()
    }

    /// Adds a binding; neither end has one yet.
    pub(super) fn insert(&mut self, binding: Binding) -> u32 {
        let Self { keyed, bindings, by_client, by_mapped, counts } = self;
        let index = bindings.insert(binding) as u32;
        by_client.insert_unique(keyed.client(binding.protocol, binding.client), index, |index| {
            let binding = &bindings[*index as usize];
            keyed.client(binding.protocol, binding.client)
        });
        by_mapped.insert_unique(keyed.mapped(binding.protocol, binding.mapped), index, |index| {
            let binding = &bindings[*index as usize];
            keyed.mapped(binding.protocol, binding.mapped)
        });
        counts[binding.protocol as usize] += 1;
        index
    }

    /// Takes a binding away.
    pub(super) fn remove(&mut self, index: u32) -> Binding {
        let binding = self.bindings.remove(index as usize);
        let hash = self.keyed.client(binding.protocol, binding.client);
        if let Ok(entry) = self.by_client.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
        let hash = self.keyed.mapped(binding.protocol, binding.mapped);
        if let Ok(entry) = self.by_mapped.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
        self.counts[binding.protocol as usize] -= 1;
        binding
    }

    /// All bindings, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Binding> {
        self.bindings.iter_mut().map(|(_, binding)| binding)
    }

    /// All bindings.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Binding)> {
        self.bindings.iter().map(|(index, binding)| (index as u32, binding))
    }

    /// Whether the operator made a binding for this address and port.
    pub(super) fn is_published(&self, protocol: Protocol, mapped: TransportV4) -> bool {
        self.find_mapped(protocol, mapped).is_some_and(|index| self[index].is_static)
    }

    /// How many there are of a protocol.
    pub(super) const fn count(&self, protocol: Protocol) -> u64 {
        self.counts[protocol as usize]
    }
}

impl core::ops::Index<u32> for Bib {
    type Output = Binding;
    fn index(&self, index: u32) -> &Binding {
        &self.bindings[index as usize]
    }
}

impl core::ops::IndexMut<u32> for Bib {
    fn index_mut(&mut self, index: u32) -> &mut Binding {
        &mut self.bindings[index as usize]
    }
}

impl Binding {
    fn is_of_client(&self, protocol: Protocol, client: TransportV6) -> bool {
        self.protocol == protocol && self.client == client
    }

    fn is_of_mapped(&self, protocol: Protocol, mapped: TransportV4) -> bool {
        self.protocol == protocol && self.mapped == mapped
    }
}

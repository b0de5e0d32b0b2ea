//! Hashes of what a remote chooses: SipHash, keyed by the seed, so that nobody can aim at one bucket.
use core::hash::BuildHasher;
use core::net::Ipv4Addr;

use siphasher::sip::SipHasher13;

use super::tuple::{Protocol, TransportV4, TransportV6};

/// The key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyed {
    key: (u64, u64),
}

impl Keyed {
    pub(super) const fn new(key: (u64, u64)) -> Self {
        Self { key }
    }

    /// A client's transport address.
    pub(super) fn client(&self, protocol: Protocol, client: TransportV6) -> u64 {
        self.session_v6(protocol, client, TransportV4 { address: Ipv4Addr::UNSPECIFIED, port: 0 })
    }

    /// A mapped transport address.
    pub(super) fn mapped(&self, protocol: Protocol, mapped: TransportV4) -> u64 {
        self.session_v4(protocol, mapped, TransportV4 { address: Ipv4Addr::UNSPECIFIED, port: 0 })
    }

    /// A session as IPv6 sees it.
    pub(super) fn session_v6(&self, protocol: Protocol, client: TransportV6, server: TransportV4) -> u64 {
        let mut bytes = [0; 25];
        bytes[..16].copy_from_slice(&client.address.octets());
        bytes[16..18].copy_from_slice(&client.port.to_ne_bytes());
        bytes[18..22].copy_from_slice(&server.address.octets());
        bytes[22..24].copy_from_slice(&server.port.to_ne_bytes());
        bytes[24] = protocol as u8;
        self.hash(&bytes)
    }

    /// A session as IPv4 sees it.
    pub(super) fn session_v4(&self, protocol: Protocol, mapped: TransportV4, server: TransportV4) -> u64 {
        let mut bytes = [0; 13];
        bytes[..4].copy_from_slice(&mapped.address.octets());
        bytes[4..6].copy_from_slice(&mapped.port.to_ne_bytes());
        bytes[6..10].copy_from_slice(&server.address.octets());
        bytes[10..12].copy_from_slice(&server.port.to_ne_bytes());
        bytes[12] = protocol as u8;
        self.hash(&bytes)
    }

    /// A binding and an address that it sent to.
    pub(super) fn peer(&self, binding: u32, address: Ipv4Addr) -> u64 {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&binding.to_ne_bytes());
        bytes[4..].copy_from_slice(&address.octets());
        self.hash(&bytes)
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.key.0, self.key.1).hash(bytes)
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.key.0, self.key.1)
    }
}

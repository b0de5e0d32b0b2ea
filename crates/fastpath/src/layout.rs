//! What the maps hold, byte by byte; `program/layout.h` is the same in C.
use core::net::{Ipv4Addr, Ipv6Addr};

use sixgate_wire::checksum::Sum;
use sixgate_wire::mac::MacAddr;
use sixgate_wire::{icmpv4, icmpv6};

use crate::reason::Reason;

/// Raised whenever anything in here changes its meaning: maps of another version are not adopted.
pub const VERSION: u32 = 3;
/// Prefixes that the program can look for.
pub const PREFIXES: usize = 8;

/// Bytes of a key of [`crate::SESSIONS_V6`].
pub const KEY_V6: usize = 40;
/// Bytes of a value of [`crate::SESSIONS_V6`].
pub const VALUE_V6: usize = 80;
/// Bytes of a key of [`crate::SESSIONS_V4`].
pub const KEY_V4: usize = 16;
/// Bytes of a value of [`crate::SESSIONS_V4`].
pub const VALUE_V4: usize = 112;
/// Bytes of the value of [`crate::SETTINGS`].
pub const SETTINGS: usize = 64 + PREFIXES * 32;
/// Bytes of the value of [`crate::COUNTERS`], for one processor.
pub const COUNTERS: usize = 32 + 8 * Reason::ALL.len();

/// What the kernel takes for a session in both maps, each with its own header, bucket and rounding.
pub const SESSION_BYTES: u64 = 2 * (192 + 16);

/// Where the fields of the part that both values begin with lie.
const LAST_USED: usize = 0;
const PACKETS: usize = 8;
const BYTES: usize = 16;
const EPOCH: usize = 24;
const IN: usize = 28;
const OUT: usize = 32;
const ADDRESSES: usize = 36;
const PORTS: usize = 38;
const REST: usize = 40;
/// Where the client's hardware address lies, in both.
const CLIENT_MAC_V6: usize = 72;
const CLIENT_MAC_V4: usize = REST + 34;

/// Stands for any hardware address.
const ANY: MacAddr = MacAddr([0; 6]);

/// A session as both maps know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Protocol number in IPv4; that of ICMP stands for ICMPv6 as well.
    pub protocol: u8,
    /// The host inside and its port or identifier.
    pub client: (Ipv6Addr, u16),
    /// The only hardware address that its packets may come from; absent where any may.
    pub client_mac: Option<MacAddr>,
    /// The server's address as the client knows it.
    pub server_v6: Ipv6Addr,
    /// The address and port, or identifier, that stand for the client.
    pub mapped: (Ipv4Addr, u16),
    /// The server and its port; zero for an echo.
    pub server: (Ipv4Addr, u16),
    /// Interface index of the client's LAN.
    pub lan: u32,
    /// Interface index of the uplink.
    pub uplink: u32,
}

/// Packets and bytes of one direction since the session was handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets on the wire.
    pub packets: u64,
    /// Their bytes, IP headers included, as they came in.
    pub bytes: u64,
}

/// What a value says of its session's use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of CLOCK_MONOTONIC of the last packet, or of the handing over.
    pub last_used: u64,
    /// Packets and bytes.
    pub traffic: Traffic,
}

impl Usage {
    /// Out of a value of either map; nothing if it is too short.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_ne_bytes(*value.get(at..)?.first_chunk()?));
        let traffic = Traffic { packets: word(PACKETS)?, bytes: word(BYTES)? };
        Some(Self { last_used: word(LAST_USED)?, traffic })
    }
}

impl Session {
    /// By which packets from IPv6 find it.
    pub fn key_v6(&self) -> [u8; KEY_V6] {
        let mut key = [0; KEY_V6];
        key[..16].copy_from_slice(&self.client.0.octets());
        key[16..32].copy_from_slice(&self.server_v6.octets());
        key[32..34].copy_from_slice(&self.client.1.to_be_bytes());
        key[34..36].copy_from_slice(&self.server.1.to_be_bytes());
        key[36] = if self.protocol == icmpv4::PROTOCOL { icmpv6::PROTOCOL } else { self.protocol };
        key
    }

    /// By which packets from IPv4 find it.
    pub fn key_v4(&self) -> [u8; KEY_V4] {
        key_v4(self.protocol, self.mapped, self.server)
    }

    /// What becomes of packets from IPv6. Packets without Identification get theirs from `identification` on.
    pub fn value_v6(&self, epoch: u32, now: u64, identification: u16) -> [u8; VALUE_V6] {
        let mut value = [0; VALUE_V6];
        let (v6, v4) = self.pseudo_headers();
        let ports = difference(Sum::ZERO.word(self.client.1), Sum::ZERO.word(self.mapped.1));
        let start = Start { now, epoch, links: [self.lan, self.uplink], addresses: difference(v6, v4), ports };
        start.emit(&mut value);
        value[REST..REST + 4].copy_from_slice(&self.mapped.0.octets());
        value[REST + 4..REST + 8].copy_from_slice(&self.server.0.octets());
        value[REST + 8..REST + 10].copy_from_slice(&self.mapped.1.to_be_bytes());
        value[REST + 10..REST + 12].copy_from_slice(&identification.to_ne_bytes());
        value[CLIENT_MAC_V6..CLIENT_MAC_V6 + 6].copy_from_slice(&self.client_mac.unwrap_or(ANY).0);
        value
    }

    /// What becomes of packets from IPv4.
    pub fn value_v4(&self, epoch: u32, now: u64) -> [u8; VALUE_V4] {
        let mut value = [0; VALUE_V4];
        let (v6, v4) = self.pseudo_headers();
        let ports = difference(Sum::ZERO.word(self.mapped.1), Sum::ZERO.word(self.client.1));
        let start = Start { now, epoch, links: [self.uplink, self.lan], addresses: difference(v4, v6), ports };
        start.emit(&mut value);
        value[REST..REST + 16].copy_from_slice(&self.server_v6.octets());
        value[REST + 16..REST + 32].copy_from_slice(&self.client.0.octets());
        value[REST + 32..REST + 34].copy_from_slice(&self.client.1.to_be_bytes());
        value[CLIENT_MAC_V4..CLIENT_MAC_V4 + 6].copy_from_slice(&self.client_mac.unwrap_or(ANY).0);
        value
    }

    /// The session that an entry of [`crate::SESSIONS_V4`] is about.
    pub fn parse_v4(key: &[u8; KEY_V4], value: &[u8; VALUE_V4]) -> Self {
        let port = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
        let v4 = |bytes: &[u8]| Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]);
        let v6 = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&value[at..at + 16]);
            Ipv6Addr::from(octets)
        };
        let link = |at: usize| u32::from_ne_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]);
        let mut mac = ANY;
        mac.0.copy_from_slice(&value[CLIENT_MAC_V4..CLIENT_MAC_V4 + 6]);
        Self {
            protocol: key[12],
            client: (v6(REST + 16), port(&value[REST + 32..])),
            client_mac: (mac != ANY).then_some(mac),
            server_v6: v6(REST),
            mapped: (v4(&key[4..]), port(&key[10..])),
            server: (v4(key), port(&key[8..])),
            lan: link(OUT),
            uplink: link(IN),
        }
    }

    /// What the checksum covers beside the upper layer, without the length: ICMPv4 has nothing of the kind.
    fn pseudo_headers(&self) -> (Sum, Sum) {
        let v6 = Sum::ZERO.v6(self.client.0).v6(self.server_v6);
        if self.protocol == icmpv4::PROTOCOL {
            (v6.word(u16::from(icmpv6::PROTOCOL)), Sum::ZERO)
        } else {
            (v6, Sum::ZERO.v4(self.mapped.0).v4(self.server.0))
        }
    }
}

/// The epoch in a value of either map; nothing if it is too short.
pub fn epoch(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*value.get(EPOCH..)?.first_chunk()?))
}

/// By which packets from IPv4 find a session.
pub fn key_v4(protocol: u8, mapped: (Ipv4Addr, u16), server: (Ipv4Addr, u16)) -> [u8; KEY_V4] {
    let mut key = [0; KEY_V4];
    key[..4].copy_from_slice(&server.0.octets());
    key[4..8].copy_from_slice(&mapped.0.octets());
    key[8..10].copy_from_slice(&server.1.to_be_bytes());
    key[10..12].copy_from_slice(&mapped.1.to_be_bytes());
    key[12] = protocol;
    key
}

/// What both values begin with.
struct Start {
    now: u64,
    epoch: u32,
    links: [u32; 2],
    addresses: u16,
    ports: u16,
}

impl Start {
    fn emit(&self, value: &mut [u8]) {
        value[LAST_USED..PACKETS].copy_from_slice(&self.now.to_ne_bytes());
        value[EPOCH..IN].copy_from_slice(&self.epoch.to_ne_bytes());
        value[IN..OUT].copy_from_slice(&self.links[0].to_ne_bytes());
        value[OUT..ADDRESSES].copy_from_slice(&self.links[1].to_ne_bytes());
        value[ADDRESSES..PORTS].copy_from_slice(&self.addresses.to_be_bytes());
        value[PORTS..REST].copy_from_slice(&self.ports.to_be_bytes());
    }
}

/// What a sum grows by; zero if by nothing.
fn difference(old: Sum, new: Sum) -> u16 {
    match new.word(!old.fold()).fold() {
        0xffff => 0,
        grown => grown,
    }
}

/// What the program is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Nanoseconds of CLOCK_MONOTONIC at which translation ends unless this is raised.
    pub attended_until: u64,
    /// How long a TCP session may be idle, in nanoseconds.
    pub lifetime_tcp: u64,
    /// The same for UDP.
    pub lifetime_udp: u64,
    /// The same for echoes.
    pub lifetime_icmp: u64,
    /// Sessions of another epoch are stale; nothing is translated in epoch 0.
    pub epoch: u32,
    /// Index of the interface by which the kernel would route the translator's packets.
    pub tun: u32,
    /// Flags of the kernel's look-up of routes.
    pub fib_flags: u32,
    /// MTU towards IPv4.
    pub mtu_v4: u16,
    /// MTU towards IPv6.
    pub mtu_v6: u16,
    /// The same for packets that came without DF.
    pub mtu_v6_without_df: u16,
    /// How many hops the way through here counts as.
    pub hops: u8,
    /// Packets from IPv6 with less are left alone.
    pub least_hop_limit: u8,
    /// Packets from IPv4 with less are left alone.
    pub least_ttl: u8,
    /// TOS of all packets to IPv4.
    pub tos: Option<u8>,
    /// Traffic class of all packets to IPv6.
    pub traffic_class: Option<u8>,
    /// Milliseconds for which a session may know its route; 0 where nobody notes when routes change.
    pub route_lasts: u16,
    /// Which rules the sessions were admitted by: nothing to the program, and for the next daemon to compare.
    pub rules: u32,
    /// Prefixes of the embedded addresses with their lengths.
    pub prefixes: [Option<(Ipv6Addr, u8)>; PREFIXES],
}

impl Settings {
    /// The map's value.
    pub fn emit(&self) -> [u8; SETTINGS] {
        let mut bytes = [0; SETTINGS];
        let longs = [self.attended_until, self.lifetime_tcp, self.lifetime_udp, self.lifetime_icmp];
        for (to, from) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(longs) {
            *to = from.to_ne_bytes();
        }
        for (to, from) in bytes[32..].as_chunks_mut::<4>().0.iter_mut().zip([self.epoch, self.tun, self.fib_flags]) {
            *to = from.to_ne_bytes();
        }
        let mtus = [self.mtu_v4, self.mtu_v6, self.mtu_v6_without_df];
        for (to, from) in bytes[44..].as_chunks_mut::<2>().0.iter_mut().zip(mtus) {
            *to = from.to_ne_bytes();
        }
        bytes[50..57].copy_from_slice(&[
            self.hops,
            self.least_hop_limit,
            self.least_ttl,
            u8::from(self.tos.is_some()),
            self.tos.unwrap_or_default(),
            u8::from(self.traffic_class.is_some()),
            self.traffic_class.unwrap_or_default(),
        ]);
        let prefixes = self.prefixes.iter().flatten();
        bytes[57] = prefixes.clone().count() as u8;
        bytes[58..60].copy_from_slice(&self.route_lasts.to_ne_bytes());
        bytes[60..64].copy_from_slice(&self.rules.to_ne_bytes());
        for (to, (address, length)) in bytes[64..].as_chunks_mut::<32>().0.iter_mut().zip(prefixes) {
            let mask = u128::MAX.checked_shl(u32::from(128 - (*length).min(128))).unwrap_or_default();
            to[..16].copy_from_slice(&(address.to_bits() & mask).to_be_bytes());
            to[16..].copy_from_slice(&mask.to_be_bytes());
        }
        bytes
    }

    /// The epoch in a value of the map, and the rules.
    pub const fn epoch_and_rules(bytes: &[u8; SETTINGS]) -> (u32, u32) {
        let epoch = u32::from_ne_bytes([bytes[32], bytes[33], bytes[34], bytes[35]]);
        (epoch, u32::from_ne_bytes([bytes[60], bytes[61], bytes[62], bytes[63]]))
    }
}

/// What the program has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Translated to IPv4.
    pub v6_to_v4: Traffic,
    /// Translated to IPv6.
    pub v4_to_v6: Traffic,
    /// Left to the kernel, in the order of [`Reason::ALL`].
    pub reasons: [u64; Reason::ALL.len()],
}

impl Counters {
    /// One processor's.
    pub fn parse(bytes: &[u8; COUNTERS]) -> Self {
        let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
        let mut next = || words.next().unwrap_or_default();
        let mut traffic = || Traffic { packets: next(), bytes: next() };
        let (v6_to_v4, v4_to_v6) = (traffic(), traffic());
        let mut reasons = [0; Reason::ALL.len()];
        reasons.fill_with(next);
        Self { v6_to_v4, v4_to_v6, reasons }
    }

    /// Adds another processor's.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, u64::wrapping_add);
    }

    /// Takes away what was there before.
    pub fn subtract(&mut self, before: &Self) {
        self.combine(before, u64::saturating_sub);
    }

    fn combine(&mut self, other: &Self, with: fn(u64, u64) -> u64) {
        for (traffic, other) in [(&mut self.v6_to_v4, other.v6_to_v4), (&mut self.v4_to_v6, other.v4_to_v6)] {
            traffic.packets = with(traffic.packets, other.packets);
            traffic.bytes = with(traffic.bytes, other.bytes);
        }
        for (count, other) in self.reasons.iter_mut().zip(other.reasons) {
            *count = with(*count, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            protocol: 6,
            client: ("2001:db8::2".parse().unwrap(), 1234),
            client_mac: Some(MacAddr([2, 0, 0, 0, 0, 9])),
            server_v6: "64:ff9b::1.2.3.4".parse().unwrap(),
            mapped: (Ipv4Addr::new(198, 51, 100, 1), 40_000),
            server: (Ipv4Addr::new(1, 2, 3, 4), 80),
            lan: 7,
            uplink: 3,
        }
    }

    #[test]
    fn a_session_is_known_again_by_its_entry() {
        let session = session();
        assert_eq!(Session::parse_v4(&session.key_v4(), &session.value_v4(9, 77)), session);
        let session = Session { client_mac: None, ..session };
        assert_eq!(Session::parse_v4(&session.key_v4(), &session.value_v4(9, 77)), session);
        let usage = Usage::parse(&session.value_v6(9, 77, 1)).unwrap();
        assert_eq!(usage, Usage { last_used: 77, traffic: Traffic::default() });
    }

    #[test]
    fn ports_that_stay_make_no_difference() {
        let mut session = session();
        session.mapped.1 = session.client.1;
        assert_eq!(session.value_v6(1, 0, 0)[PORTS..REST], [0, 0]);
        assert_eq!(session.value_v4(1, 0)[PORTS..REST], [0, 0]);
    }

    #[test]
    fn both_directions_differ_by_the_same_with_the_sign_changed() {
        let session = session();
        let word = |value: &[u8]| u16::from_be_bytes([value[ADDRESSES], value[ADDRESSES + 1]]);
        assert_eq!(word(&session.value_v6(1, 0, 0)), !word(&session.value_v4(1, 0)));
    }

    #[test]
    fn settings_hold_prefixes_of_all_lengths() {
        let mut settings = Settings { epoch: 5, rules: 6, ..Settings::default() };
        settings.prefixes[0] = Some(("2001:db8:1:2::".parse().unwrap(), 32));
        settings.prefixes[1] = Some(("64:ff9b::".parse().unwrap(), 96));
        let bytes = settings.emit();
        assert_eq!((Settings::epoch_and_rules(&bytes), bytes[57]), ((5, 6), 2));
        assert_eq!(bytes[64..72], [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0], "what is behind the prefix is no part of it");
        assert_eq!(bytes[80..88], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    }

    #[test]
    fn counters_of_several_processors_are_added() {
        let mut bytes = [0; COUNTERS];
        bytes[0] = 3;
        bytes[32] = 2;
        let mut counters = Counters::parse(&bytes);
        counters.add(&Counters::parse(&bytes));
        assert_eq!((counters.v6_to_v4.packets, counters.reasons[0], counters.reasons[1]), (6, 4, 0));
        counters.subtract(&Counters::parse(&bytes));
        assert_eq!(counters, Counters::parse(&bytes));
    }
}

//! Packets with headers and checksums that are right, so that what lies behind them is looked at; and a translator for
//! them.
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use sixgate_engine::config;
use sixgate_engine::nat64::{Nat64, Transmit};
use sixgate_engine::plan::{Nat64Plan, plan as planned, preview_facts};
use sixgate_wire::checksum::{self, Sum, pseudo_v4, pseudo_v6};
use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::ipv6::Ipv6Packet;

/// The pool's address.
pub(crate) const POOL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Hosts outside; the last one is the pool's address, so that packets turn back.
pub(crate) const SERVERS: [Ipv4Addr; 4] =
    [Ipv4Addr::new(1, 2, 3, 4), Ipv4Addr::new(5, 6, 7, 8), Ipv4Addr::new(9, 9, 9, 9), POOL];

/// The plan of a small file.
pub(crate) static PLAN: LazyLock<Nat64Plan> = LazyLock::new(|| plan(""));

/// A plan out of a file, with more in `[nat64]`.
pub(crate) fn plan(more: &str) -> Nat64Plan {
    let text = format!(
        "[wan]\ninterface = \"eth0\"\nipv4 = {{ address = \"{POOL}/24\" }}\n\
         [[lan]]\nname = \"vms\"\ninterface = \"eth1\"\naddresses = [\"2001:db8:1::1/64\"]\n\
         [[vm]]\nname = \"vm1\"\nlan = \"vms\"\naddress = \"2001:db8:1::2\"\n[nat64]\n{more}"
    );
    let config = config::parse(&text, "harness").unwrap_or_else(|errors| panic!("{errors}"));
    planned(&config, &preview_facts(&config)).nat64.expect("[nat64]")
}

pub(crate) fn client(number: u8) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001_0db8_0001_0000_0000_0000_0000_0002 + u128::from(number % 4))
}

/// A host outside as hosts inside see it, under the Well-Known Prefix.
pub(crate) fn embedded(server: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x0064_ff9b_0000_0000_0000_0000_0000_0000 | u128::from(server.to_bits()))
}

pub(crate) fn v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, hop_limit: u8, upper: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((upper.len() as u16).to_be_bytes());
    packet.extend([protocol, hop_limit]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(upper);
    let sum = pseudo_v6(source, destination, protocol, upper.len() as u32);
    seal(&mut packet[40..], protocol, sum);
    packet
}

pub(crate) fn v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, flags: u16, upper: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + upper.len() as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(flags.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = Sum::ZERO.bytes(&packet).checksum();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(upper);
    let sum = if protocol == 1 { Sum::ZERO } else { pseudo_v4(source, destination, protocol, upper.len() as u32) };
    if flags & 0x3fff == 0 {
        seal(&mut packet[20..], protocol, sum);
    }
    packet
}

fn seal(upper: &mut [u8], protocol: u8, pseudo: Sum) {
    let at = match protocol {
        1 | 58 => 2,
        6 => 16,
        17 => 6,
        _ => return,
    };
    if upper.len() < at + 2 {
        return;
    }
    upper[at..at + 2].fill(0);
    let sum = pseudo.bytes(upper).checksum();
    upper[at..at + 2].copy_from_slice(&if protocol == 17 { checksum::udp(sum) } else { sum }.to_be_bytes());
}

/// What leaves the translator can be read by the next hop.
pub(crate) fn check(out: &Transmit) {
    for packet in out.iter() {
        assert!(Ipv6Packet::parse(packet).is_ok() || Ipv4Packet::parse(packet).is_ok(), "{packet:02x?}");
    }
}

/// A translator with a session of each protocol from port or identifier 5000, and what left for it.
pub(crate) fn busy(plan: &Nat64Plan, now: sixgate_engine::time::Instant) -> (Nat64, Vec<Vec<u8>>) {
    let (mut nat64, mut out) = (Nat64::new(plan, [7; 32]), Transmit::new());
    let tcp = [0x13, 0x88, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];
    let udp = [0x13, 0x88, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
    let echo = [128, 0, 0, 0, 0x13, 0x88, 0, 1, 1, 2, 3, 4];
    let mut sent = Vec::new();
    for (protocol, upper) in [(6, &tcp[..]), (17, &udp), (58, &echo)] {
        nat64.handle_input(&v6(client(0), embedded(SERVERS[0]), protocol, 64, upper), &mut out, now);
        sent.extend(out.iter().map(<[u8]>::to_vec));
    }
    assert_eq!(sent.len(), 3);
    (nat64, sent)
}

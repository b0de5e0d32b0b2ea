//! What holds for all packets.
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use sixgate_engine::nat64::Transmit;
use sixgate_engine::nat64::tuple::Protocol;
use sixgate_engine::nat64::verdict::Verdict;
use sixgate_engine::xlat::offload::Unfinished;
use sixgate_engine::xlat::{Flow, Identifiers, Mtus, Policy, v4_to_v6, v6_to_v4};
use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::ipv6::Ipv6Packet;

use crate::packet::{SYN, fragment_v4, fragment_v6, icmpv4, icmpv6, is_intact, sum, tcp, udp, v4, v6};
use crate::router::{CLIENT, POOL, Router, SERVER, SERVER_V6};

const MTUS: Mtus = Mtus { v6: 65_535, v4: 65_535 };

fn flow<A: core::str::FromStr<Err: core::fmt::Debug>>(source: &str, destination: &str) -> Flow<A> {
    let address = |text: &str| text.parse().unwrap();
    Flow { source: address(source), destination: address(destination), identifiers: Identifiers::Same }
}

fn upper_v6() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let data = proptest::collection::vec(any::<u8>(), 0..1400);
    (0..4, any::<u16>(), any::<u16>(), data).prop_map(|(kind, a, b, data)| match kind {
        0 => tcp(a, b, SYN, &data),
        1 => udp(a, b, &data),
        2 => icmpv6(128, 0, u32::from(a) << 16 | u32::from(b), &data),
        _ => icmpv6(129, 0, u32::from(a) << 16 | u32::from(b), &data),
    })
}

/// A session of each protocol, and packets of all kinds that belong to them.
fn traffic(router: &mut Router) -> Vec<Vec<u8>> {
    let mut packets: Vec<Vec<u8>> = [
        tcp(5000, 80, SYN, b"data of no matter"),
        udp(5000, 53, b"question of some length"),
        icmpv6(128, 0, 5000 << 16, b"ping of no matter either"),
    ]
    .into_iter()
    .map(|upper| v6(CLIENT, SERVER_V6, 64, upper))
    .collect();
    let sent: Vec<_> = packets.iter().map(|packet| router.pass(packet)).collect();
    let port = |protocol| router.mapped(protocol, CLIENT, 5000).unwrap();
    let identifier = u32::from(port(Protocol::Icmp)) << 16;
    let answers = [
        v4(SERVER, POOL, 64, tcp(80, port(Protocol::Tcp), SYN, b"answer of some length")),
        v4(SERVER, POOL, 64, udp(53, port(Protocol::Udp), b"answer of some length")),
        v4(SERVER, POOL, 64, icmpv4(0, 0, identifier, b"answer of some length")),
    ];
    for (kind, code, word) in [(3, 3, 0), (3, 4, 1400), (11, 0, 8 << 16), (12, 0, 0)] {
        packets.extend(sent.iter().map(|sent| v4("9.9.9.9", POOL, 64, icmpv4(kind, code, word, sent))));
    }
    for answer in &answers {
        let received = router.pass(answer);
        for (kind, code, word) in [(1, 4, 0), (2, 0, 1400), (3, 0, 3 << 24), (4, 0, 6)] {
            packets.push(v6(CLIENT, SERVER_V6, 64, icmpv6(kind, code, word, &received)));
        }
        packets.extend([fragment_v4(answer, 0, 16), fragment_v4(answer, 16, 9999)]);
    }
    for id in 0..3 {
        let fragments = [(0, 16), (16, 9999)].map(|(start, end)| fragment_v6(&packets[id], id as u32, start, end));
        packets.extend(fragments);
    }
    packets.extend(answers);
    packets
}

fn is_well_formed(packet: &[u8]) -> bool {
    if packet[0] >> 4 == 6 { Ipv6Packet::parse(packet).is_ok() } else { Ipv4Packet::parse(packet).is_ok() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// RFC 7915: the two translations undo each other, and every checksum is as if computed anew.
    #[test]
    fn a_packet_survives_both_ways(upper in upper_v6(), hop_limit in 3u8..) {
        let packet = v6(CLIENT, SERVER_V6, hop_limit, upper.clone());
        let mut out = Transmit::new();
        let egress = v6_to_v4::Egress { mtus: MTUS, policy: Policy::DEFAULT, identification: 1, reassembled_from: None, unfinished: Unfinished::NONE };
        let view = Ipv6Packet::parse(&packet).unwrap();
        v6_to_v4::translate(&view, &flow::<Ipv4Addr>(POOL, SERVER), &egress, &mut out).unwrap();
        let middle = out.iter().next().unwrap().to_vec();
        prop_assert!(is_intact(&middle));
        out.clear();
        let egress = v4_to_v6::Egress { mtus: MTUS, policy: Policy::DEFAULT, reassembled_from: None, unfinished: Unfinished::NONE };
        let view = Ipv4Packet::parse(&middle).unwrap();
        v4_to_v6::translate(&view, &flow::<Ipv6Addr>(CLIENT, SERVER_V6), &egress, &mut out).unwrap();
        prop_assert_eq!(out.iter().next().unwrap(), v6(CLIENT, SERVER_V6, hop_limit - 2, upper));
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes: Vec<u8>, family in prop_oneof![Just(0x40u8), Just(0x60u8)]) {
        let mut router = Router::new();
        let mut packet = bytes;
        if let Some(first) = packet.first_mut() {
            *first = family | *first & 15;
        }
        router.send(&packet);
    }

    /// Headers that are right, so that what follows them is looked at.
    #[test]
    fn no_upper_layer_causes_a_panic(
        protocol in prop_oneof![Just(0u8), Just(1), Just(6), Just(17), Just(43), Just(44), Just(58), Just(60), any::<u8>()],
        upper in proptest::collection::vec(any::<u8>(), 0..200),
        kind in 0u8..20,
    ) {
        let mut router = Router::new();
        let mut upper = upper;
        if let (1 | 58, Some(first)) = (protocol, upper.first_mut()) {
            *first = kind;
        }
        for packet in [v6(CLIENT, SERVER_V6, 64, (protocol, upper.clone())), v4(SERVER, POOL, 64, (protocol, upper))] {
            let (_, packets) = router.send(&packet);
            for packet in packets {
                prop_assert!(is_well_formed(&packet));
            }
        }
    }

    /// Packets of live sessions with a few bytes changed, cut short, in any order and at any time.
    #[test]
    fn no_damage_causes_a_panic_or_a_malformed_packet(
        steps in proptest::collection::vec(
            (any::<prop::sample::Index>(), proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
             any::<prop::sample::Index>(), any::<bool>(), 0u64..100),
            1..40,
        ),
    ) {
        let mut router = Router::new();
        let packets = traffic(&mut router);
        for (which, damage, length, cut, seconds) in steps {
            let mut packet = which.get(&packets).clone();
            for (at, value) in damage {
                let at = at.index(packet.len());
                packet[at] = value;
            }
            if packet[0] >> 4 == 4 && packet.len() >= 20 {
                packet = reseal_header(packet);
            }
            if cut {
                packet.truncate(length.index(packet.len()));
            }
            let (verdict, packets) = router.send(&packet);
            if matches!(verdict, Verdict::Translated(_)) {
                prop_assert!(!packets.is_empty());
            }
            for packet in packets {
                prop_assert!(is_well_formed(&packet));
            }
            router.wait(seconds);
            prop_assert!(router.nat64.poll_timeout().is_none_or(|due| due > router.now));
        }
        router.wait(10_000);
        // Established connections were probed.
        router.wait(240);
        prop_assert_eq!(router.tables(), ([0; 3], [0; 3]));
        prop_assert_eq!(router.nat64.poll_timeout(), None);
    }
}

/// The header checksum anew, so that damage is not caught at the door.
fn reseal_header(mut packet: Vec<u8>) -> Vec<u8> {
    let length = (usize::from(packet[0] & 15) * 4).clamp(20, packet.len());
    packet[10..12].fill(0);
    let checksum = !sum(&packet[..length]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet
}

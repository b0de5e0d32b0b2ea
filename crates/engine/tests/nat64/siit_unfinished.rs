//! Super-packets and partial checksums through the stateless translator: what leaves is what would have left in pieces.
use proptest::prelude::*;
use sixgate_engine::nat64::{Offload, Transmit};
use sixgate_engine::status::Traffic;
use sixgate_engine::time::Instant;
use sixgate_engine::xlat::siit::{Siit, SiitPlan};
use sixgate_engine::xlat::{Mtus, Refusal};
use sixgate_wire::virtio_net::{PartialChecksum, Segmentation, SegmentationKind};

use crate::packet::{ACK, SYN, dont_fragment, icmpv6, is_intact, join, tcp, udp, v4, v6};
use crate::siit::{ONE, ONE_V4, ROUTER_V6, SERVER, SERVER_V6, TWO, plan};
use crate::unfinished::{CWR, PSH, Unfinished, card, data, in_segments, one_zero, without_checksum};

fn translator(mtus: Mtus) -> Siit {
    Siit::new(SiitPlan { mtus, ..plan() }, [3; 32])
}

const MTUS: Mtus = Mtus { v6: 1500, v4: 1500 };

fn send(siit: &mut Siit, (packet, offload): &Unfinished) -> (Result<(), Refusal>, Vec<Unfinished>) {
    let mut out = Transmit::new();
    let result = siit.handle_offloaded(packet, *offload, &mut out, Instant::from_nanos(1));
    (result, out.packets().map(|(packet, offload)| (packet.to_vec(), offload)).collect())
}

#[test]
fn a_super_packet_crosses_the_clat_whole_in_both_directions() {
    let mut siit = translator(MTUS);
    let up = v4(ONE_V4, SERVER, 64, tcp(5000, 80, ACK | PSH | CWR, &data(1440 * 40)));
    let (result, packets) = send(&mut siit, &in_segments(dont_fragment(up), 1440, true));
    assert_eq!((result, packets.len()), (Ok(()), 1));
    let expected = Segmentation { kind: SegmentationKind::TcpV6, size: 1440, header_length: 60, ecn: true };
    assert_eq!(packets[0].1.segmentation, Some(expected));
    assert_eq!(packets[0].1.checksum, Some(PartialChecksum { start: 40, offset: 16 }));
    assert!(card(&packets[0]).iter().all(|segment| is_intact(segment) && segment.len() == 1500));
    let down = in_segments(v6(SERVER_V6, ONE, 64, tcp(80, 5000, ACK, &data(1428 * 30))), 1428, false);
    let (result, packets) = send(&mut siit, &down);
    assert_eq!((result, packets.len()), (Ok(()), 1));
    assert!(card(&packets[0]).iter().all(|segment| is_intact(segment) && segment.len() == 1468));
    let translated = siit.translated();
    assert_eq!(translated.v4_to_v6, Traffic { packets: 40, bytes: 40 * 1480 }, "as on the wire");
    assert_eq!(translated.v6_to_v4, Traffic { packets: 30, bytes: 30 * 1488 });
}

#[test]
fn what_leaves_the_clat_in_fragments_is_finished_before() {
    let mut siit = translator(MTUS);
    let plain = without_checksum(v4(ONE_V4, SERVER, 64, udp(5000, 80, &data(1400))));
    let (result, packets) = send(&mut siit, &plain);
    assert_eq!((result, packets.len()), (Ok(()), 2));
    assert!(packets.iter().all(|(_, offload)| *offload == Offload::NONE));
    let fragments: Vec<_> = packets.into_iter().map(|(packet, _)| packet).collect();
    assert_eq!(join(&fragments), v6(ONE, SERVER_V6, 63, udp(5000, 80, &data(1400))));
}

/// A SYN is translated as it is: nobody stores it here.
#[test]
fn a_syn_without_its_checksum_is_clamped_and_finished_by_the_kernel() {
    let mut siit = translator(Mtus { v6: 1400, v4: 1500 });
    let (protocol, mut syn) = tcp(5001, 80, SYN, b"");
    syn[12] = 0x60;
    syn.extend([2, 4, 0x22, 0xc4]);
    let (_, packets) = send(&mut siit, &without_checksum(v4(ONE_V4, SERVER, 64, (protocol, syn))));
    assert!(packets[0].1.checksum.is_some());
    let sent = card(&packets[0]).remove(0);
    assert_eq!(sent[60..64], [2, 4, 5, 0x3c], "1,340 bytes: what a link of 1,400 carries over IPv6");
    assert!(is_intact(&sent));
}

#[test]
fn a_super_packet_turns_back_whole_through_the_stateless_translator() {
    let mut siit = translator(MTUS);
    let up = in_segments(v6(ONE, "2001:db8:64::198.51.100.2", 64, udp(5000, 53, &data(12_500))), 1200, false);
    let (result, packets) = send(&mut siit, &up);
    assert!(result == Ok(()) && packets.len() <= 2);
    let segments: Vec<_> = packets.iter().flat_map(card).collect();
    let by_prefix = |data: &[u8]| v6("2001:db8:64::198.51.100.1", TWO, 62, udp(5000, 53, data));
    assert_eq!(segments, data(12_500).chunks(1200).map(by_prefix).collect::<Vec<_>>());
}

#[test]
fn errors_quote_a_segment_as_it_would_have_been_sent() {
    let mut siit = translator(MTUS);
    let up = in_segments(v6(ONE, SERVER_V6, 1, tcp(5000, 80, ACK, &data(9000))), 1000, false);
    let (result, packets) = send(&mut siit, &up);
    assert_eq!(result, Err(Refusal::HopLimit));
    assert_eq!(packets, [(v6(ROUTER_V6, ONE, 64, icmpv6(3, 0, 0, &card(&up)[0])), Offload::NONE)]);
    assert_eq!(siit.translated(), Default::default(), "what was refused is not counted as translated");
    let elsewhere = Offload { checksum: Some(PartialChecksum { start: 40, offset: 14 }), ..up.1 };
    assert_eq!(send(&mut siit, &(up.0, elsewhere)), (Err(Refusal::Malformed), Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Translating a super-packet and cutting it equals cutting it and translating each segment.
    #[test]
    fn cutting_commutes_with_stateless_translation(
        up: bool, is_tcp: bool, df: bool, flags in any::<u8>(), hop_limit in 1u8..5,
        size in 1u16..1500, length in 0usize..9000, v6_mtu in 1280u32..1600, v4_mtu in 576u32..1600,
    ) {
        let mtus = Mtus { v6: v6_mtu, v4: v4_mtu };
        let (mut whole, mut each) = (translator(mtus), translator(mtus));
        // A SYN or an RST with data is never cut.
        let flags = flags & !(SYN | 4) | ACK;
        let upper = |source, destination| if is_tcp {
            tcp(source, destination, flags, &data(length))
        } else {
            udp(source, destination, &data(length))
        };
        let packet = if up {
            let packet = v4(ONE_V4, SERVER, hop_limit, upper(5000, 80));
            if df { dont_fragment(packet) } else { packet }
        } else {
            v6(SERVER_V6, ONE, hop_limit, upper(80, 5000))
        };
        let packet = in_segments(packet, size, is_tcp && flags & CWR != 0);
        let (result, packets) = send(&mut whole, &packet);
        let left: Vec<_> = packets.iter().flat_map(card).collect();
        let (mut right, mut last) = (Vec::new(), result);
        for segment in card(&packet) {
            let (result, packets) = send(&mut each, &(segment, Offload::NONE));
            last = result;
            right.extend(packets.into_iter().map(|(packet, _)| packet));
        }
        if result.is_err() {
            prop_assert!((1..=right.len()).contains(&left.len()));
            prop_assert_eq!(&left[0], &right[0]);
        } else {
            prop_assert_eq!(result, last);
            let same = |packets: Vec<Vec<u8>>| packets.into_iter().map(one_zero).collect::<Vec<_>>();
            prop_assert_eq!(left.len(), right.len());
            prop_assert!(same(left) == same(right));
            prop_assert_eq!(whole.translated(), each.translated());
        }
    }

    /// Guests write both the header and the packet.
    #[test]
    fn no_header_makes_the_stateless_translator_panic(
        header: [u8; 10], start in prop_oneof![Just(20u16), Just(40), any::<u16>()],
        offset in prop_oneof![Just(6u16), Just(16), any::<u16>()], kind in 0u8..6, up: bool, is_tcp: bool,
        damage: Vec<(prop::sample::Index, u8)>, length in 0usize..3000,
    ) {
        let upper = if is_tcp { tcp(5000, 80, ACK, &data(length)) } else { udp(5000, 80, &data(length)) };
        let mut packet = if up { v4(ONE_V4, SERVER, 64, upper) } else { v6(SERVER_V6, ONE, 64, upper) };
        for (at, value) in damage {
            // The IPv4 header's checksum would end it at once.
            let at = at.index(packet.len());
            if !up || at >= 20 {
                packet[at] = value;
            }
        }
        let mut header = header;
        header[1] = kind;
        header[6..8].copy_from_slice(&start.to_ne_bytes());
        header[8..10].copy_from_slice(&offset.to_ne_bytes());
        if let Ok(offload) = Offload::parse(&header) {
            for (packet, offload) in send(&mut translator(MTUS), &(packet, offload)).1 {
                let checksum = offload.checksum.map_or(0, |checksum| checksum.start + checksum.offset + 2);
                prop_assert!(usize::from(checksum) <= packet.len());
            }
        }
    }
}

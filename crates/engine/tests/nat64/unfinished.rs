//! Super-packets and partial checksums: whoever finishes the translation gets what he would have got before it.
use proptest::prelude::*;
use sixgate_engine::nat64::tuple::Protocol;
use sixgate_engine::nat64::verdict::{Direction, Reason, Verdict};
use sixgate_engine::nat64::{Offload, Transmit};
use sixgate_wire::virtio_net::{PartialChecksum, Segmentation, SegmentationKind};

use crate::packet::{ACK, FIN, SYN, dont_fragment, icmpv6, is_intact, join, sum, tcp, udp, unsealed, v4, v6};
use crate::router::{CLIENT, OTHER_CLIENT, POOL, POOL_V6, ROUTER, Router, SERVER, SERVER_V6, plan};

pub(crate) const PSH: u8 = 8;
pub(crate) const CWR: u8 = 0x80;

/// A packet with what is left to do to it.
pub(crate) type Unfinished = (Vec<u8>, Offload);

/// Takes the checksum out of a packet of TCP or UDP: the field holds the pseudo-header's sum.
pub(crate) fn without_checksum(packet: Vec<u8>) -> Unfinished {
    let (start, protocol) = if packet[0] >> 4 == 6 { (40, packet[6]) } else { (20, packet[9]) };
    let offset = if protocol == 6 { 16 } else { 6 };
    let offload = Offload { checksum: Some(PartialChecksum { start, offset }), segmentation: None };
    (unsealed(packet), offload)
}

/// Makes one super-packet of what a whole packet carries.
pub(crate) fn in_segments(packet: Vec<u8>, size: u16, ecn: bool) -> Unfinished {
    let (kind, header_length) = match (packet[0] >> 4, packet[6], packet[9]) {
        (6, 6, _) => (SegmentationKind::TcpV6, 60),
        (6, ..) => (SegmentationKind::Udp, 48),
        (_, _, 6) => (SegmentationKind::TcpV4, 40),
        _ => (SegmentationKind::Udp, 28),
    };
    let (packet, offload) = without_checksum(packet);
    let segmentation = Some(Segmentation { kind, size, header_length, ecn });
    (packet, Offload { segmentation, ..offload })
}

/// What a card makes of a packet, with code that shares nothing with the translator.
pub(crate) fn card((packet, offload): &Unfinished) -> Vec<Vec<u8>> {
    let Some(PartialChecksum { start, offset }) = offload.checksum else {
        assert_eq!(offload.segmentation, None);
        return vec![packet.clone()];
    };
    let (start, field) = (usize::from(start), usize::from(start + offset));
    let is_tcp = offset == 16;
    let header = start + if is_tcp { usize::from(packet[start + 12] >> 4) * 4 } else { 8 };
    if let Some(segmentation) = offload.segmentation {
        assert_eq!(usize::from(segmentation.header_length), header);
    }
    let size = offload.segmentation.map_or(usize::MAX, |segmentation| usize::from(segmentation.size));
    let count = packet[header..].chunks(size).len().max(1);
    let mut segments = Vec::new();
    for index in 0..count {
        let data = packet[header..].chunks(size).nth(index).unwrap_or_default();
        let mut segment = [&packet[..header], data].concat();
        let (length, upper) = (segment.len(), segment.len() - start);
        if count > 1 && segment[0] >> 4 == 6 {
            segment[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
        } else if count > 1 {
            let identification = u16::from_be_bytes([segment[4], segment[5]]).wrapping_add(index as u16);
            segment[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            segment[4..6].copy_from_slice(&identification.to_be_bytes());
            segment[10..12].fill(0);
            let checksum = !sum(&segment[..start]);
            segment[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        if count > 1 && is_tcp {
            let sequence = u32::from_be_bytes(segment[start + 4..start + 8].try_into().unwrap());
            let sequence = sequence.wrapping_add((index * size) as u32);
            segment[start + 4..start + 8].copy_from_slice(&sequence.to_be_bytes());
            if index + 1 < count {
                segment[start + 13] &= !(FIN | PSH);
            }
            if index > 0 {
                segment[start + 13] &= !CWR;
            }
        } else if count > 1 {
            segment[start + 4..start + 6].copy_from_slice(&(upper as u16).to_be_bytes());
        }
        // The pseudo-header was that of the whole: its length goes out, the segment's comes in.
        let old = !((packet.len() - start) as u16);
        let pseudo = [&segment[field..field + 2], &old.to_be_bytes(), &(upper as u16).to_be_bytes()].concat();
        segment[field..field + 2].copy_from_slice(&sum(&pseudo).to_be_bytes());
        let checksum = match !sum(&segment[start..]) {
            0 => 0xffff,
            checksum => checksum,
        };
        segment[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        segments.push(segment);
    }
    segments
}

fn send(router: &mut Router, (packet, offload): &Unfinished) -> (Verdict, Vec<Unfinished>) {
    let mut out = Transmit::new();
    let verdict = router.nat64.handle_offloaded(packet, *offload, &mut out, router.now);
    (verdict, out.packets().map(|(packet, offload)| (packet.to_vec(), offload)).collect())
}

/// Translates one packet that comes out as one.
fn pass(router: &mut Router, packet: &Unfinished) -> Unfinished {
    let (verdict, mut packets) = send(router, packet);
    assert!(matches!(verdict, Verdict::Translated(_) | Verdict::Hairpinned), "{verdict:?}");
    assert_eq!(packets.len(), 1);
    packets.remove(0)
}

/// A router with a TCP connection and a UDP session from the client's port 5000; the mapped ports of both.
fn router(change: impl Fn(&mut sixgate_engine::plan::Nat64Plan)) -> (Router, u16, u16) {
    let mut plan = plan(40_960..=65_535);
    change(&mut plan);
    let mut router = Router::with(&plan);
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, SYN, b"")));
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 80, b"")));
    let [tcp_port, udp_port] =
        [Protocol::Tcp, Protocol::Udp].map(|protocol| router.mapped(protocol, CLIENT, 5000).unwrap());
    router.pass(&v4(SERVER, POOL, 64, tcp(80, tcp_port, SYN | ACK, b"")));
    (router, tcp_port, udp_port)
}

pub(crate) fn data(length: usize) -> Vec<u8> {
    (0..length).map(|byte| (byte * 7 % 251) as u8).collect()
}

#[test]
fn a_super_packet_crosses_whole_in_both_directions() {
    let (mut router, port, _) = router(|_| ());
    let up = in_segments(v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, ACK | PSH | CWR, &data(1428 * 40))), 1428, true);
    let (packet, offload) = pass(&mut router, &up);
    assert_eq!(packet.len(), up.0.len() - 20);
    assert_eq!(offload.checksum, Some(PartialChecksum { start: 20, offset: 16 }));
    let expected = Segmentation { kind: SegmentationKind::TcpV4, size: 1428, header_length: 40, ecn: true };
    assert_eq!(offload.segmentation, Some(expected));
    assert!(card(&(packet, offload)).iter().all(|segment| is_intact(segment) && segment.len() == 1468));
    let down = v4(SERVER, POOL, 64, tcp(80, port, ACK | PSH, &data(1440 * 40)));
    let (packet, offload) = pass(&mut router, &in_segments(dont_fragment(down), 1440, false));
    let expected = Segmentation { kind: SegmentationKind::TcpV6, size: 1440, header_length: 60, ecn: false };
    assert_eq!(offload.segmentation, Some(expected));
    assert!(card(&(packet, offload)).iter().all(|segment| is_intact(segment) && segment.len() == 1500));
    let status = router.nat64.status();
    assert_eq!((status.v6_to_v4.packets, status.v4_to_v6.packets), (2 + 40, 1 + 40), "packets on the wire");
    assert_eq!(status.v4_to_v6.bytes, 40 + 40 * 1480);
}

/// The segments count against the MTU, and one error quotes one of them, finished.
#[test]
fn segments_that_do_not_fit_are_answered_once_and_quoted_as_they_would_be_sent() {
    let (mut router, port, _) = router(|plan| (plan.mtu_v6, plan.mtu_v4) = (1500, 1400));
    let up = in_segments(v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, ACK, &data(1440 * 9))), 1440, false);
    let (verdict, packets) = send(&mut router, &up);
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::TooBig), 1));
    let (error, offload) = &packets[0];
    assert_eq!((*offload, error.len(), is_intact(error)), (Offload::NONE, 1280, true));
    assert_eq!((error[40], &error[44..48]), (2, &1420u32.to_be_bytes()[..]));
    assert_eq!(error[48..], card(&up)[0][..1232]);
    let (mut router, _, _) = self::router(|plan| (plan.mtu_v6, plan.mtu_v4) = (1400, 1500));
    let down = in_segments(dont_fragment(v4(SERVER, POOL, 64, tcp(80, port, ACK, &data(1440 * 9)))), 1440, false);
    let (verdict, packets) = send(&mut router, &down);
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::TooBig), 1));
    assert_eq!((&packets[0].0[20..22], packets[0].0.len()), (&[3, 4][..], 576));
    assert_eq!(packets[0].0[28..], card(&down)[0][..548]);
}

#[test]
fn a_hop_limit_that_is_used_up_is_answered_once() {
    let (mut router, _, _) = router(|_| ());
    let up = in_segments(v6(CLIENT, SERVER_V6, 1, tcp(5000, 80, ACK, &data(9000))), 1000, false);
    let (verdict, packets) = send(&mut router, &up);
    assert_eq!(verdict, Verdict::Dropped(Reason::HopLimitExceeded));
    let expected = v6(ROUTER, CLIENT, 64, icmpv6(3, 0, 0, &card(&up)[0]));
    assert_eq!(packets, [(expected, Offload::NONE)]);
    let (packet, _) = &without_checksum(v6(CLIENT, SERVER_V6, 1, udp(5000, 80, b"short")));
    let plain = without_checksum(packet.clone());
    let (_, packets) = send(&mut router, &plain);
    assert_eq!(packets[0].0[48..], card(&plain)[0], "a checksum that was left out is there in the quotation");
}

#[test]
fn a_super_packet_turns_back_whole() {
    let (mut router, _, _) = router(|_| ());
    router.pass(&v6(OTHER_CLIENT, SERVER_V6, 64, udp(6000, 80, b"")));
    let inside = router.mapped(Protocol::Udp, OTHER_CLIENT, 6000).unwrap();
    // Address-dependent filtering: the other has to have sent to the pool's address.
    let outside = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    router.send(&v6(OTHER_CLIENT, POOL_V6, 64, udp(6000, outside, b"")));
    let up = in_segments(v6(CLIENT, POOL_V6, 64, udp(5000, inside, &data(12_500))), 1200, false);
    let (verdict, packets) = send(&mut router, &up);
    assert_eq!(verdict, Verdict::Hairpinned);
    let segments: Vec<_> = packets.iter().flat_map(card).collect();
    let expected: Vec<_> =
        data(12_500).chunks(1200).map(|data| v6(POOL_V6, OTHER_CLIENT, 62, udp(outside, 6000, data))).collect();
    assert_eq!(segments, expected);
    assert!(packets.len() <= 2);
}

/// RFC 7915 section 4: without DF what is too long leaves in fragments, which need the whole checksum.
#[test]
fn what_leaves_in_fragments_is_finished_before() {
    let (mut router, _, port) = router(|_| ());
    let plain = without_checksum(v4(SERVER, POOL, 64, udp(80, port, &data(1400))));
    let (_, packets) = send(&mut router, &plain);
    assert!(packets.len() == 2 && packets.iter().all(|(_, offload)| *offload == Offload::NONE));
    let fragments: Vec<_> = packets.into_iter().map(|(packet, _)| packet).collect();
    assert_eq!(join(&fragments), v6(SERVER_V6, CLIENT, 63, udp(80, 5000, &data(1400))));
    let whole = in_segments(v4(SERVER, POOL, 64, udp(80, port, &data(4200))), 1400, false);
    let (verdict, packets) = send(&mut router, &whole);
    assert_eq!((verdict, packets.len()), (Verdict::Translated(Direction::V4ToV6), 6));
    for (fragments, data) in packets.chunks(2).zip(data(4200).chunks(1400)) {
        let fragments: Vec<_> = fragments.iter().map(|(packet, _)| packet.clone()).collect();
        assert_eq!(join(&fragments), v6(SERVER_V6, CLIENT, 63, udp(80, 5000, data)));
    }
}

/// The MSS of a SYN whose checksum is left out.
#[test]
fn a_clamped_syn_is_finished_right() {
    let (mut router, _, _) = router(|plan| plan.mtu_v4 = 1400);
    let (protocol, mut syn) = tcp(5001, 80, SYN, b"");
    syn[12] = 0x60;
    syn.extend([2, 4, 0x22, 0xc4]);
    let up = without_checksum(v6(CLIENT, SERVER_V6, 64, (protocol, syn)));
    let sent = card(&pass(&mut router, &up)).remove(0);
    assert_eq!(sent[40..44], [2, 4, 5, 0x50]);
    assert!(is_intact(&sent));
}

/// A card completes a checksum anywhere, and of anything.
#[test]
fn a_checksum_at_an_unusual_place_is_completed_before_translation() {
    let (mut router, _, _) = router(|_| ());
    let echo = v6(CLIENT, SERVER_V6, 64, icmpv6(128, 0, 7 << 16 | 1, b"ping"));
    let mut unsealed = echo.clone();
    // RFC 4443 section 2.3: the pseudo-header's sum is what the rest lacks.
    unsealed[42..44].fill(0);
    let rest = sum(&unsealed[40..]);
    let whole = !u16::from_be_bytes([echo[42], echo[43]]);
    let pseudo = sum(&[whole.to_be_bytes(), (!rest).to_be_bytes()].concat());
    unsealed[42..44].copy_from_slice(&pseudo.to_be_bytes());
    let offload = Offload { checksum: Some(PartialChecksum { start: 40, offset: 2 }), segmentation: None };
    let (packet, offload) = pass(&mut router, &(unsealed, offload));
    assert_eq!((offload, is_intact(&packet)), (Offload::NONE, true));
    let beyond = Offload { checksum: Some(PartialChecksum { start: 40, offset: 900 }), segmentation: None };
    assert_eq!(send(&mut router, &(echo, beyond)), (Verdict::Dropped(Reason::Malformed), Vec::new()));
}

/// A damaged pseudo-header sum stays damaged.
#[test]
fn damage_of_what_is_unfinished_stays_damage() {
    let (mut router, _, _) = router(|_| ());
    let (mut packet, offload) = in_segments(v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, ACK, &data(4000))), 1000, false);
    packet[57] ^= 1;
    for unfinished in send(&mut router, &(packet, offload)).1 {
        assert!(card(&unfinished).iter().all(|segment| !is_intact(segment)));
    }
}

#[test]
fn a_header_that_does_not_fit_its_packet_is_malformed() {
    let (mut router, _, _) = router(|_| ());
    let (packet, right) = in_segments(v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, ACK, &data(4000))), 1000, false);
    let segmentation = right.segmentation.unwrap();
    for wrong in [SegmentationKind::TcpV4, SegmentationKind::Udp] {
        let offload = Offload { segmentation: Some(Segmentation { kind: wrong, ..segmentation }), ..right };
        assert_eq!(send(&mut router, &(packet.clone(), offload)).0, Verdict::Dropped(Reason::Malformed));
    }
    let elsewhere = Offload { checksum: Some(PartialChecksum { start: 40, offset: 14 }), ..right };
    assert_eq!(send(&mut router, &(packet.clone(), elsewhere)).0, Verdict::Dropped(Reason::Malformed));
    assert_eq!(router.count("malformed"), 3);
    assert_eq!(send(&mut router, &(packet, right)).0, Verdict::Translated(Direction::V6ToV4));
}

/// DATA_VALID: the card has checked the whole, and each segment gets a checksum of its own.
#[test]
fn segments_without_a_partial_checksum_get_their_own() {
    let (mut router, _, _) = router(|_| ());
    let (packet, offload) = in_segments(v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, ACK, &data(3500))), 1000, false);
    let (_, packets) = send(&mut router, &(packet, Offload { checksum: None, ..offload }));
    let segments: Vec<_> = packets.iter().flat_map(card).collect();
    assert_eq!(segments.len(), 4);
    assert!(segments.iter().all(|segment| is_intact(segment)));
}

/// RFC 1624: a sum of zero has two ways to be written, of which TCP may use either.
pub(crate) fn one_zero(mut packet: Vec<u8>) -> Vec<u8> {
    let (start, protocol) = if packet[0] >> 4 == 6 { (40, packet[6]) } else { (20, packet[9]) };
    if protocol == 6 && packet.get(start + 16..start + 18) == Some(&[0xff; 2]) {
        packet[start + 16..start + 18].fill(0);
    }
    packet
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Translating a super-packet and cutting it equals cutting it and translating each segment.
    #[test]
    fn cutting_commutes_with_translating(
        up: bool, is_tcp: bool, df: bool, flags in any::<u8>(), hop_limit in 1u8..5,
        size in 1u16..1500, length in 0usize..9000, mtu_v6 in 1280u32..1600, mtu_v4 in 576u32..1600,
    ) {
        let change = |plan: &mut sixgate_engine::plan::Nat64Plan| (plan.mtu_v6, plan.mtu_v4) = (mtu_v6, mtu_v4);
        let (mut whole, tcp_port, udp_port) = router(change);
        let (mut each, _, _) = router(change);
        // A SYN or an RST with data would end the session, and is never cut.
        let flags = flags & !(SYN | 4) | ACK;
        let upper = |source, destination| if is_tcp {
            tcp(source, destination, flags, &data(length))
        } else {
            udp(source, destination, &data(length))
        };
        let packet = if up {
            v6(CLIENT, SERVER_V6, hop_limit, upper(5000, 80))
        } else {
            let packet = v4(SERVER, POOL, hop_limit, upper(80, if is_tcp { tcp_port } else { udp_port }));
            if df { dont_fragment(packet) } else { packet }
        };
        let packet = in_segments(packet, size, is_tcp && flags & CWR != 0);
        let (verdict, packets) = send(&mut whole, &packet);
        let left: Vec<_> = packets.iter().flat_map(card).collect();
        let mut right = Vec::new();
        let mut last = verdict;
        for segment in card(&packet) {
            prop_assert!(is_intact(&segment));
            let (verdict, packets) = each.send(&segment);
            last = verdict;
            right.extend(packets);
        }
        if let Verdict::Dropped(reason) = verdict {
            // All are refused when the longest is, and the sender is told once of those that are looked at as one.
            prop_assert!(matches!(reason, Reason::TooBig | Reason::HopLimitExceeded), "{reason:?}");
            prop_assert!((1..=right.len()).contains(&left.len()));
            prop_assert_eq!(&left[0], &right[0]);
        } else {
            prop_assert_eq!(verdict, last);
            prop_assert_eq!(left.len(), right.len());
            let same = |packets: Vec<Vec<u8>>| packets.into_iter().map(one_zero).collect::<Vec<_>>();
            prop_assert!(same(left) == same(right));
        }
    }

    /// Guests write both the header and the packet.
    #[test]
    fn no_header_causes_a_panic(
        header: [u8; 10], start in prop_oneof![Just(20u16), Just(40), any::<u16>()],
        offset in prop_oneof![Just(6u16), Just(16), any::<u16>()], kind in 0u8..6, up: bool, is_tcp: bool,
        damage: Vec<(prop::sample::Index, u8)>, length in 0usize..3000,
    ) {
        let (mut router, tcp_port, udp_port) = router(|_| ());
        let upper = |source, destination| if is_tcp {
            tcp(source, destination, ACK, &data(length))
        } else {
            udp(source, destination, &data(length))
        };
        let port = if is_tcp { tcp_port } else { udp_port };
        let mut packet = if up {
            v6(CLIENT, SERVER_V6, 64, upper(5000, 80))
        } else {
            v4(SERVER, POOL, 64, upper(80, port))
        };
        for (at, value) in damage {
            // The IPv4 header's checksum would end it at once.
            let at = at.index(packet.len());
            if up || at >= 20 {
                packet[at] = value;
            }
        }
        let mut header = header;
        header[1] = kind;
        header[6..8].copy_from_slice(&start.to_ne_bytes());
        header[8..10].copy_from_slice(&offset.to_ne_bytes());
        if let Ok(offload) = Offload::parse(&header) {
            let (_, packets) = send(&mut router, &(packet, offload));
            for (packet, offload) in packets {
                let checksum = offload.checksum.map_or(0, |checksum| checksum.start + checksum.offset + 2);
                prop_assert!(usize::from(checksum) <= packet.len());
            }
        }
    }
}

//! What RFC 7915 leaves to the operator, and its rules on headers that the other tests do not touch.
use sixgate_engine::nat64::tuple::Protocol;
use sixgate_engine::nat64::verdict::{Reason, Verdict};
use sixgate_engine::plan::Nat64Plan;
use sixgate_engine::xlat::ChecksumZero;

use crate::packet::{
    ACK, SYN, dont_fragment, fragment_v4, fragment_v6, icmpv4, icmpv6, is_intact, join, seal, tcp, udp, v4, v6,
};
use crate::router::{CLIENT, OTHER_CLIENT, POOL, ROUTER, Router, SERVER, SERVER_V6, plan};

const SHARE: core::ops::RangeInclusive<u16> = 40_960..=65_535;

/// A translator under a plan that differs from the usual one, and the port that stands for UDP port 5000.
fn router(change: impl FnOnce(&mut Nat64Plan)) -> (Router, u16) {
    let mut plan = plan(SHARE);
    change(&mut plan);
    let mut router = Router::with(&plan);
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    (router, port)
}

/// A TCP segment with an MSS option behind a NOP.
fn with_mss(source: u16, destination: u16, flags: u8, size: u16) -> (u8, Vec<u8>) {
    let (protocol, mut bytes) = tcp(source, destination, flags, &[]);
    let [high, low] = size.to_be_bytes();
    bytes.extend([1, 2, 4, high, low, 1, 1, 1]);
    bytes[12] = 0x70;
    (protocol, bytes)
}

/// RFC 7915 sections 4.1 and 5.1: instead of a copy, a value that is always the same.
#[test]
fn traffic_class_and_tos_may_be_set() {
    let (mut router, port) = router(|plan| (plan.policy.tos, plan.policy.traffic_class) = (Some(0x28), Some(0xb8)));
    let mut packet = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question"));
    packet[..2].copy_from_slice(&[0x6b, 0x95]);
    let sent = router.pass(&packet);
    assert_eq!(sent[1], 0x28);
    let mut packet = v4(SERVER, POOL, 64, udp(53, port, b"answer"));
    packet[1] = 0x2e;
    let received = router.pass(&seal(packet));
    assert_eq!(received[..4], [0x6b, 0x80, 0, 0]);
    let error = router.pass(&v4("9.9.9.9", POOL, 64, icmpv4(3, 1, 0, &sent)));
    assert_eq!((&error[..2], is_intact(&error)), (&[0x6b, 0x80][..], true));
    let error = router.pass(&v6(CLIENT, SERVER_V6, 64, icmpv6(1, 4, 0, &received)));
    assert_eq!((error[1], is_intact(&error)), (0x28, true));
}

/// RFC 7915 section 4: lowest-ipv6-mtu, 1280 unless the operator knows better, and for packets without DF alone.
#[test]
fn packets_without_df_leave_in_fragments_of_the_lowest_mtu() {
    let data = [7; 1400];
    let (mut careful, port) = router(|_| ());
    let (_, packets) = careful.send(&v4(SERVER, POOL, 64, udp(53, port, &data)));
    assert_eq!(packets.iter().map(Vec::len).collect::<Vec<_>>(), [1280, 1408 - 1232 + 48]);
    assert_eq!(join(&packets), v6(SERVER_V6, CLIENT, 63, udp(53, 5000, &data)));
    let whole = v6(SERVER_V6, CLIENT, 63, udp(53, 5000, &data));
    assert_eq!(careful.pass(&dont_fragment(v4(SERVER, POOL, 64, udp(53, port, &data)))), whole);
    let (mut knowing, port) = router(|plan| plan.policy.lowest_ipv6_mtu = 9000);
    assert_eq!(knowing.pass(&v4(SERVER, POOL, 64, udp(53, port, &data))), whole);
    let (_, packets) = knowing.send(&v4(SERVER, POOL, 64, udp(53, port, &[7; 1472])));
    assert!(packets.len() == 2 && packets.iter().all(|packet| packet.len() <= 1500), "our own link's MTU counts too");
    let (mut broken, port) = router(|plan| plan.policy.lowest_ipv6_mtu = 0);
    let (_, packets) = broken.send(&v4(SERVER, POOL, 64, udp(53, port, &data)));
    assert_eq!(packets[0].len(), 1280);
}

/// RFC 7915 section 4 and RFC 8021: a packet that is whole and fits gets no Fragment header, with or without DF.
#[test]
fn no_atomic_fragments_are_made() {
    let (mut router, port) = router(|_| ());
    for size in [0, 1, 100, 1232] {
        let packet = v4(SERVER, POOL, 64, udp(53, port, &vec![7; size]));
        assert_eq!(router.pass(&packet)[6], 17, "{size}");
        assert_eq!(router.pass(&dont_fragment(packet))[6], 17, "{size}");
    }
}

/// RFC 7915 section 4.5: whoever wants neither to compute nor to forward drops; it is counted.
#[test]
fn datagrams_without_checksum_may_be_dropped() {
    let (mut router, port) = router(|plan| plan.policy.udp_checksum_zero = ChecksumZero::Drop);
    let mut packet = v4(SERVER, POOL, 64, udp(53, port, &[7; 100]));
    router.pass(&packet);
    packet[26..28].fill(0);
    let (verdict, packets) = router.send(&packet);
    assert_eq!((verdict, &packets[0][20..22]), (Verdict::Dropped(Reason::UdpWithoutChecksum), &[3, 13][..]));
    router.send(&fragment_v4(&packet, 0, 64));
    assert_eq!(router.send(&fragment_v4(&packet, 64, 9999)).0, Verdict::Dropped(Reason::UdpWithoutChecksum));
    assert_eq!(router.count("udp-without-checksum"), 2);
}

/// RFC 9293 section 3.7.1: in both directions, to what both links carry, and not on other segments.
#[test]
fn the_mss_is_clamped_on_syn_in_both_directions() {
    let mut narrow = plan(SHARE);
    narrow.mtu_v4 = 1400;
    let mut router = Router::with(&narrow);
    let sent = router.pass(&v6(CLIENT, SERVER_V6, 64, with_mss(5000, 80, SYN, 8940)));
    let port = router.mapped(Protocol::Tcp, CLIENT, 5000).unwrap();
    let expected = |packet: Vec<u8>| {
        let mut packet = packet;
        packet[4..6].copy_from_slice(&sent[4..6]);
        seal(packet)
    };
    assert_eq!(sent, expected(v4(POOL, SERVER, 63, with_mss(port, 80, SYN, 1360))));
    let received = router.pass(&v4(SERVER, POOL, 64, with_mss(80, port, SYN | ACK, 1460)));
    assert_eq!(received, v6(SERVER_V6, CLIENT, 63, with_mss(80, 5000, SYN | ACK, 1360)));
    let received = router.pass(&v4(SERVER, POOL, 64, with_mss(80, port, SYN | ACK, 1000)));
    assert_eq!(received, v6(SERVER_V6, CLIENT, 63, with_mss(80, 5000, SYN | ACK, 1000)), "a smaller one stays");
    let received = router.pass(&v4(SERVER, POOL, 64, with_mss(80, port, ACK, 1460)));
    assert_eq!(received, v6(SERVER_V6, CLIENT, 63, with_mss(80, 5000, ACK, 1460)), "not a SYN");
    let mut damaged = v4(SERVER, POOL, 64, with_mss(80, port, SYN | ACK, 1460));
    damaged[24] ^= 1;
    assert!(!is_intact(&router.pass(&damaged)), "damage is not repaired");
    narrow.policy.clamp_mss = false;
    router.nat64.reconfigure(&narrow, router.now);
    let received = router.pass(&v4(SERVER, POOL, 64, with_mss(80, port, SYN | ACK, 1460)));
    assert_eq!(received, v6(SERVER_V6, CLIENT, 63, with_mss(80, 5000, SYN | ACK, 1460)), "switched off");
}

/// RFC 7915 section 5.1: hop-by-hop options, destination options and a used-up Routing header are skipped.
#[test]
fn extension_headers_are_left_out() {
    let (mut router, port) = router(|_| ());
    let mut packet = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question"));
    let headers = [
        [43, 0, 1, 4, 0, 0, 0, 0], // hop-by-hop options
        [60, 0, 0, 0, 0, 0, 0, 0], // routing, no segments left
        [17, 0, 1, 4, 0, 0, 0, 0], // destination options
    ];
    packet.splice(40..40, headers.concat());
    packet[6] = 0;
    packet[5] += 24;
    let mut expected = v4(POOL, SERVER, 63, udp(port, 53, b"question"));
    let sent = router.pass(&packet);
    expected[4..6].copy_from_slice(&sent[4..6]);
    assert_eq!(sent, seal(expected));
}

/// RFC 7915 section 5.1.1: an extension header behind the Fragment header.
#[test]
fn fragments_that_continue_with_an_extension_header_are_dropped() {
    let mut router = Router::new();
    for next_header in [0, 43, 51, 60] {
        let (_, upper) = udp(5000, 53, &[7; 100]);
        let header = [17, 0, 1, 4, 0, 0, 0, 0];
        let whole = v6(CLIENT, SERVER_V6, 64, (next_header, [&header[..], &upper].concat()));
        for (start, end) in [(0, 64), (64, 9999), (0, 9999)] {
            let (verdict, packets) = router.send(&fragment_v6(&whole, 9, start, end));
            assert_eq!(verdict, Verdict::Dropped(Reason::FragmentInvalid), "{next_header}");
            // RFC 7915 section 5.4: prohibited; RFC 4443 section 2.4 (e): not about later fragments.
            let answers: Vec<_> = packets.iter().map(|packet| (packet[40], packet[41])).collect();
            assert_eq!(answers, if start == 0 { vec![(1, 1)] } else { Vec::new() }, "{next_header}");
        }
    }
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
}

/// RFC 7915 section 4.1: options are ignored, also those that record or stamp.
#[test]
fn ipv4_options_are_left_out() {
    let (mut router, port) = router(|_| ());
    let mut packet = v4(SERVER, POOL, 64, udp(53, port, b"answer"));
    packet.splice(20..20, [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0]);
    packet[0] = 0x48;
    packet[3] += 12;
    packet[10..12].fill(0);
    let checksum = !crate::packet::sum(&packet[..32]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(router.pass(&packet), v6(SERVER_V6, CLIENT, 63, udp(53, 5000, b"answer")));
}

/// RFC 7915 sections 4.2 and 5.2: what has no counterpart ends silently.
#[test]
fn single_hop_and_unknown_messages_are_silently_dropped() {
    let (mut router, _) = router(|_| ());
    for kind in [1, 2, 6, 9, 10, 13, 14, 15, 16, 17, 18, 40, 255] {
        let (verdict, packets) = router.send(&v4(SERVER, POOL, 64, icmpv4(kind, 0, 0, &[0; 24])));
        assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::IcmpType), 0), "ICMPv4 {kind}");
    }
    for kind in [127, 130, 131, 132, 133, 134, 135, 136, 137, 143, 200, 255] {
        let (verdict, packets) = router.send(&v6(CLIENT, SERVER_V6, 64, icmpv6(kind, 0, 0, &[0; 48])));
        assert!(matches!(verdict, Verdict::Dropped(_)) && packets.is_empty(), "ICMPv6 {kind}: {verdict:?}");
    }
    let (verdict, packets) = router.send(&v4(SERVER, POOL, 64, (2, vec![0x11, 0, 0, 0, 0, 0, 0, 0])));
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::UnknownProtocol), 0), "IGMP");
}

/// RFC 7915 section 4.2: a router that does not know its MTU; the greatest plateau below the quoted Total Length.
#[test]
fn an_mtu_of_zero_becomes_a_plateau() {
    let mut wide = plan(SHARE);
    (wide.mtu_v4, wide.mtu_v6) = (65_535, 65_535);
    for (length, mtu) in [(65_535, 32_020), (9000, 8186), (8166, 4372), (4353, 4372), (1500, 1512), (1492, 1280)] {
        let mut router = Router::with(&wide);
        let mut sent = router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
        sent[2..4].copy_from_slice(&u16::to_be_bytes(length));
        let error = router.pass(&v4("9.9.9.9", POOL, 64, icmpv4(3, 4, 0, &sent)));
        assert_eq!((error[40], &error[44..48]), (2, &u32::to_be_bytes(mtu)[..]), "{length}");
    }
}

/// RFC 7915 section 5.2: the Fragment header of the quoted packet is part of the difference.
#[test]
fn the_mtu_of_a_quoted_fragment_is_8_bytes_smaller() {
    let (mut router, port) = router(|_| ());
    let (_, packets) = router.send(&v4(SERVER, POOL, 64, udp(53, port, &[7; 1400])));
    let error = router.pass(&v6(CLIENT, SERVER_V6, 64, icmpv6(2, 0, 1400, &packets[0][..600])));
    assert_eq!((&error[20..22], &error[26..28]), (&[3, 4][..], &1372u16.to_be_bytes()[..]));
    assert!(is_intact(&error));
    assert_eq!(error[28 + 6] & 0x20, 0x20, "MF of the quoted packet");
}

/// RFC 7915 section 4.3: a quoted packet that is a fragment gets a Fragment header, and its length counts it.
#[test]
fn quoted_fragments_stay_fragments() {
    let (mut router, _) = router(|_| ());
    let sent = router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 100])));
    let fragment = fragment_v4(&sent, 0, 64);
    let error = router.pass(&v4("9.9.9.9", POOL, 64, icmpv4(11, 1, 0, &fragment)));
    assert!(is_intact(&error));
    assert_eq!((&error[52..54], error[54]), (&72u16.to_be_bytes()[..], 44));
    assert_eq!(error[88..92], [17, 0, 0, 1]);
    assert_eq!(error[92..96], [0, 0, sent[4], sent[5]]);
}

/// RFC 5508 REQ-3 b.
#[test]
fn options_of_a_quoted_packet_are_left_out() {
    let (mut router, _) = router(|_| ());
    let sent = router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    let mut quoted = sent.clone();
    quoted.splice(20..20, [7, 7, 4, 192, 0, 2, 1, 0]);
    (quoted[0], quoted[3]) = (0x47, quoted[3] + 8);
    let error = router.pass(&v4("9.9.9.9", POOL, 64, icmpv4(11, 0, 0, &quoted)));
    assert_eq!(error, router.pass(&v4("9.9.9.9", POOL, 64, icmpv4(11, 0, 0, &sent))));
}

/// RFC 4884 section 5.1: extensions that ICMPv6 has no place for are left out, as is a length that lies.
#[test]
fn extensions_without_a_place_are_left_out() {
    let extension = [0x20, 0, 0xde, 0xad, 0, 8, 1, 1, 0, 1, 0x21, 1];
    let (mut router, _) = router(|_| ());
    let sent = router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    let mut body = sent;
    body.resize(128, 0);
    body.extend(extension);
    for (kind, code, word) in [(3, 4, 32 << 16 | 1400), (3, 2, 32 << 16), (12, 0, 32 << 16)] {
        let error = router.pass(&v4("9.9.9.9", POOL, 64, icmpv4(kind, code, word, &body)));
        assert!(is_intact(&error));
        assert_eq!(error.len(), 48 + 56, "{kind} {code}");
    }
    let error = router.pass(&v4("9.9.9.9", POOL, 64, icmpv4(11, 0, 255 << 16, &body)));
    assert_eq!((error.len(), error[44], is_intact(&error)), (48 + 56, 0, true));
}

/// RFC 4884 section 4.2 and RFC 4443 section 2.4 (c): the quoted packet is cut before the extensions are.
#[test]
fn long_quotations_make_room_for_extensions() {
    let (mut router, _) = router(|_| ());
    let sent = router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 1300])));
    let extension = [0x20, 0, 0xde, 0xad, 0, 8, 1, 1, 0, 1, 0x21, 1];
    let body = [&sent[..1020], &extension].concat();
    let error = router.pass(&v4("9.9.9.9", POOL, 64, icmpv4(11, 0, 255 << 16, &body)));
    assert_eq!((error[44], error.len(), is_intact(&error)), (130, 48 + 1040 + 12, true));
    assert_eq!(error[error.len() - 12..], extension);
    let received = router.pass(&v4(SERVER, POOL, 64, udp(53, router_port(&router), &[7; 1100])));
    let body = [&received[..1040], &extension].concat();
    let error = router.pass(&v6(CLIENT, SERVER_V6, 64, icmpv6(3, 0, 130 << 24, &body)));
    assert_eq!((error[25], error.len(), is_intact(&error)), (134, 28 + 536 + 12, true));
    assert_eq!(error[error.len() - 12..], extension);
}

fn router_port(router: &Router) -> u16 {
    router.mapped(Protocol::Udp, CLIENT, 5000).unwrap()
}

/// RFC 7915 section 4.1: sources that nobody has are refused, but not those of errors, which help to find the fault.
#[test]
fn illegal_sources_are_refused_and_translated_in_errors() {
    let (mut router, port) = router(|_| ());
    let sent = router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    for source in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
        let (verdict, packets) = router.send(&v4(source, POOL, 64, udp(53, port, b"answer")));
        assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::InvalidSource), 0), "{source}");
        let error = router.pass(&v4(source, POOL, 64, icmpv4(11, 0, 0, &sent)));
        assert_eq!((error[40], is_intact(&error)), (3, true), "{source}");
    }
    router.pass(&v4("10.0.0.1", POOL, 64, icmpv4(11, 0, 0, &sent)));
}

/// RFC 7915 sections 4.4 and 5.4: whether errors are sent, and how many.
#[test]
fn errors_may_be_switched_off() {
    let (mut router, port) = router(|plan| plan.icmp_errors_per_second = 0);
    let (verdict, packets) = router.send(&v6(CLIENT, SERVER_V6, 1, udp(5000, 53, b"question")));
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::HopLimitExceeded), 0));
    let (verdict, packets) = router.send(&v4(SERVER, POOL, 1, udp(53, port, b"answer")));
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::HopLimitExceeded), 0));
}

/// RFC 7915 section 5.1: DF and Identification of small packets, RFC 7915 section 6: a sequence for each destination.
#[test]
fn small_packets_leave_without_df_and_with_an_identification_of_their_own() {
    let (mut router, _) = router(|_| ());
    let mut identification = |client: &str, server: &str, size: usize| {
        let packet = router.pass(&v6(client, server, 64, udp(5000, 53, &vec![7; size])));
        assert_eq!(packet[6] & 0x40 != 0, size > 1232, "DF above 1260 bytes alone");
        u16::from_be_bytes([packet[4], packet[5]])
    };
    let first = identification(CLIENT, SERVER_V6, 8);
    identification(CLIENT, "64:ff9b::8.8.8.8", 8);
    assert_eq!(identification(OTHER_CLIENT, SERVER_V6, 1232), first.wrapping_add(1));
    identification(CLIENT, SERVER_V6, 1233);
}

/// RFC 4443 section 2.4 (e) and RFC 1812 section 4.3.2.7: what is never answered.
#[test]
fn errors_never_answer_errors_fragments_or_many() {
    let (mut router, port) = router(|_| ());
    let whole = v4(SERVER, POOL, 1, udp(53, port, &[7; 100]));
    let (verdict, packets) = router.send(&fragment_v4(&whole, 64, 9999));
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::HopLimitExceeded), 0));
    let (verdict, packets) = router.send(&fragment_v4(&whole, 0, 64));
    assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::HopLimitExceeded), 1));
    let error = icmpv4(3, 3, 0, &v4(POOL, SERVER, 9, udp(port, 53, b"")));
    assert!(router.send(&v4(SERVER, POOL, 1, error)).1.is_empty());
    for source in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
        let (verdict, packets) = router.send(&v4(source, POOL, 1, udp(53, port, b"")));
        assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::InvalidSource), 0), "{source}");
    }
    for source in ["::", "ff02::1", "fe80::1"] {
        let (verdict, packets) = router.send(&v6(source, SERVER_V6, 1, udp(5000, 53, b"")));
        assert_eq!((verdict, packets.len()), (Verdict::Dropped(Reason::InvalidSource), 0), "{source}");
    }
}

/// RFC 7915 sections 4.1 and 5.1: Time Exceeded comes from the router's own address towards IPv6, from the address that
/// the sender knows towards IPv4.
#[test]
fn time_exceeded_comes_from_an_address_of_ours() {
    let (mut router, port) = router(|_| ());
    let packet = v6(CLIENT, SERVER_V6, 1, udp(5000, 53, b"question"));
    assert_eq!(router.send(&packet).1, [v6(ROUTER, CLIENT, 64, icmpv6(3, 0, 0, &packet))]);
    let packet = v4(SERVER, POOL, 1, udp(53, port, b"answer"));
    let (_, packets) = router.send(&packet);
    assert_eq!((&packets[0][12..16], &packets[0][16..22]), (&[198, 51, 100, 1][..], &[1, 2, 3, 4, 11, 0][..]));
}

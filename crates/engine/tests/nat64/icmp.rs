//! ICMP errors through the translator, and the MTUs they carry: RFC 7915 sections 4.2, 4.3, 5.2 and 5.3.
use sixgate_engine::nat64::tuple::Protocol;
use sixgate_engine::nat64::verdict::{Reason, Verdict};

use crate::packet::{dont_fragment, icmpv4, icmpv6, is_intact, tcp, udp, v4, v6};
use crate::router::{CLIENT, POOL, ROUTER, Router, SERVER, SERVER_V6, STRANGER, plan};

const HOP: &str = "9.9.9.9";
const HOP_V6: &str = "64:ff9b::9.9.9.9";

/// A session, and the packets that errors quote: as the server's network saw the question and as the client's saw the
/// answer.
fn session(router: &mut Router) -> (Vec<u8>, Vec<u8>) {
    let sent = router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    let answer = router.pass(&v4(SERVER, POOL, 64, udp(53, port, b"answer")));
    (sent, answer)
}

/// Type, code and word of the translation of an ICMPv4 error about the session, if there is one.
fn to_v6(kind: u8, code: u8, word: u32) -> Option<(u8, u8, u32)> {
    let mut router = Router::new();
    let (sent, _) = session(&mut router);
    let (verdict, packets) = router.send(&v4(HOP, POOL, 64, icmpv4(kind, code, word, &sent)));
    let packet = packets.first();
    if packet.is_none() {
        assert_eq!(verdict, Verdict::Dropped(Reason::IcmpType));
    }
    packet.map(|packet| {
        assert!(is_intact(packet));
        assert_eq!(packet[48..], v6(CLIENT, SERVER_V6, 63, udp(5000, 53, b"question")), "the quoted packet");
        (packet[40], packet[41], u32::from_be_bytes(*packet[44..].first_chunk().unwrap()))
    })
}

/// Type, code and word of the translation of an ICMPv6 error about the session, if there is one.
fn to_v4(kind: u8, code: u8, word: u32) -> Option<(u8, u8, u32)> {
    let mut router = Router::new();
    let (_, answer) = session(&mut router);
    let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    let (verdict, packets) = router.send(&v6(ROUTER, SERVER_V6, 64, icmpv6(kind, code, word, &answer)));
    let packet = packets.first();
    if packet.is_none() {
        assert_eq!(verdict, Verdict::Dropped(Reason::IcmpType));
    }
    packet.map(|packet| {
        assert!(is_intact(packet));
        let mut quoted = v4(SERVER, POOL, 63, udp(53, port, b"answer"));
        quoted[4..6].fill(0);
        assert_eq!(packet[28..], crate::packet::seal(quoted), "the quoted packet");
        (packet[20], packet[21], u32::from_be_bytes(*packet[24..].first_chunk().unwrap()))
    })
}

/// RFC 7915 section 4.2.
#[test]
fn icmpv4_destination_unreachable_codes_have_their_counterparts() {
    for code in [0, 1, 5, 6, 7, 8, 11, 12] {
        assert_eq!(to_v6(3, code, 0), Some((1, 0, 0)), "{code}");
    }
    for code in [9, 10, 13, 15] {
        assert_eq!(to_v6(3, code, 0), Some((1, 1, 0)), "{code}");
    }
    assert_eq!(to_v6(3, 2, 0), Some((4, 1, 6)));
    assert_eq!(to_v6(3, 3, 0), Some((1, 4, 0)));
    assert_eq!(to_v6(3, 14, 0), None);
    assert_eq!(to_v6(3, 16, 0), None);
}

/// RFC 7915 section 4.2: the MTU.
#[test]
fn fragmentation_needed_becomes_packet_too_big_and_20_bytes_more() {
    assert_eq!(to_v6(3, 4, 1400), Some((2, 0, 1420)));
    assert_eq!(to_v6(3, 4, 1492), Some((2, 0, 1500)), "no more than our own link carries");
    assert_eq!(to_v6(3, 4, 1000), Some((2, 0, 1280)), "no less than IPv6 demands");
    assert_eq!(to_v6(3, 4, 0), Some((2, 0, 1280)), "RFC 1191: a plateau below the quoted packet");
}

/// RFC 7915 section 4.2, figure 3.
#[test]
fn icmpv4_time_exceeded_and_parameter_problem_have_their_counterparts() {
    assert_eq!(to_v6(11, 0, 0), Some((3, 0, 0)));
    assert_eq!(to_v6(11, 1, 0), Some((3, 1, 0)));
    let pointers = [
        Some(0),
        Some(1),
        Some(4),
        Some(4),
        None,
        None,
        None,
        None,
        Some(7),
        Some(6),
        None,
        None,
        Some(8),
        Some(8),
        Some(8),
        Some(8),
        Some(24),
        Some(24),
        Some(24),
        Some(24),
        None,
    ];
    for (pointer, expected) in pointers.into_iter().enumerate() {
        assert_eq!(to_v6(12, 0, (pointer as u32) << 24), expected.map(|pointer| (4, 0, pointer)), "{pointer}");
    }
    assert_eq!(to_v6(12, 2, 0), Some((4, 0, 0)));
    assert_eq!(to_v6(12, 1, 0), None);
    for kind in [4, 5] {
        assert_eq!(to_v6(kind, 0, 0), None, "{kind}");
    }
}

/// RFC 7915 section 5.2.
#[test]
fn icmpv6_errors_have_their_counterparts() {
    for (code, expected) in [(0, 1), (1, 10), (2, 1), (3, 1), (4, 3)] {
        assert_eq!(to_v4(1, code, 0), Some((3, expected, 0)), "{code}");
    }
    assert_eq!(to_v4(1, 5, 0), None);
    assert_eq!(to_v4(2, 0, 1400), Some((3, 4, 1380)));
    assert_eq!(to_v4(2, 0, 9000), Some((3, 4, 1480)), "no more than our own link carries");
    assert_eq!(to_v4(2, 0, 600), Some((3, 4, 1260)), "RFC 8021: less than IPv6's minimum is not believed");
    assert_eq!(to_v4(3, 0, 0), Some((11, 0, 0)));
    assert_eq!(to_v4(3, 1, 0), Some((11, 1, 0)));
    assert_eq!(to_v4(4, 1, 6), Some((3, 2, 0)));
    assert_eq!(to_v4(4, 2, 40), None);
    assert_eq!(to_v4(5, 0, 0), None);
}

/// RFC 7915 section 5.2, figure 6.
#[test]
fn icmpv6_pointers_have_their_counterparts() {
    let pointer = |pointer| to_v4(4, 0, pointer).map(|(kind, code, word)| (kind, code, word >> 24));
    for (from, to) in [(0, 0), (1, 1), (4, 2), (5, 2), (6, 9), (7, 8), (8, 12), (23, 12), (24, 16), (39, 16)] {
        assert_eq!(pointer(from), Some((12, 0, to)), "{from}");
    }
    for from in [2, 3, 40, 1000] {
        assert_eq!(pointer(from), None, "{from}");
    }
}

/// RFC 7915 section 4.2: the sender of the error shows, so that traceroute works.
#[test]
fn the_error_comes_from_who_sent_it() {
    let mut router = Router::new();
    let (sent, answer) = session(&mut router);
    let error = router.pass(&v4(HOP, POOL, 64, icmpv4(11, 0, 0, &sent)));
    let quoted = v6(CLIENT, SERVER_V6, 63, udp(5000, 53, b"question"));
    assert_eq!(error, v6(HOP_V6, CLIENT, 63, icmpv6(3, 0, 0, &quoted)));
    // RFC 6791: behind the Well-Known Prefix the translator speaks for a private router.
    let error = router.pass(&v4("10.0.0.1", POOL, 64, icmpv4(11, 0, 0, &sent)));
    assert_eq!(error, v6(ROUTER, CLIENT, 63, icmpv6(3, 0, 0, &quoted)));
    // RFC 6146 section 3.6.1: outside there is but the mapped address.
    let error = router.pass(&v6(ROUTER, SERVER_V6, 64, icmpv6(1, 0, 0, &answer)));
    assert_eq!(error[12..20], [198, 51, 100, 1, 1, 2, 3, 4]);
}

#[test]
fn errors_change_no_session() {
    let mut router = Router::new();
    let (sent, _) = session(&mut router);
    let due = router.nat64.poll_timeout();
    router.wait(100);
    router.pass(&v4(HOP, POOL, 64, icmpv4(3, 3, 0, &sent)));
    assert_eq!((router.nat64.poll_timeout(), router.tables()), (due, ([0, 1, 0], [0, 1, 0])));
}

#[test]
fn errors_about_nothing_of_ours_are_refused() {
    let mut router = Router::new();
    let (sent, answer) = session(&mut router);
    let mut refused = |packet: Vec<u8>, reason| {
        let (verdict, packets) = router.send(&packet);
        assert_eq!((verdict, packets.len()), (Verdict::Dropped(reason), 0));
    };
    let other = v4(POOL, STRANGER, 60, udp(1, 2, b"question"));
    refused(v4(HOP, POOL, 64, icmpv4(3, 3, 0, &other)), Reason::IcmpErrorWithoutSession);
    let other = v4(STRANGER, SERVER, 60, udp(1, 2, b"question"));
    refused(v4(HOP, POOL, 64, icmpv4(3, 3, 0, &other)), Reason::IcmpErrorWithoutSession);
    refused(v4(HOP, POOL, 64, icmpv4(3, 3, 0, &sent[..22])), Reason::Malformed);
    refused(v4(HOP, POOL, 64, icmpv4(3, 3, 0, &[])), Reason::Malformed);
    let nested = v4(POOL, SERVER, 60, icmpv4(3, 3, 0, &sent));
    refused(v4(HOP, POOL, 64, icmpv4(3, 3, 0, &nested)), Reason::IcmpErrorWithoutSession);
    let other = v6(SERVER_V6, CLIENT, 60, udp(53, 1, b"answer"));
    refused(v6(CLIENT, SERVER_V6, 64, icmpv6(1, 4, 0, &other)), Reason::IcmpErrorWithoutSession);
    refused(v6(CLIENT, "64:ff9b::5.6.7.8", 64, icmpv6(1, 4, 0, &answer)), Reason::IcmpErrorWithoutSession);
    let mut damaged = v4(HOP, POOL, 64, icmpv4(3, 3, 0, &sent));
    damaged[23] ^= 1;
    refused(damaged, Reason::BadChecksum);
    // RFC 7915 sections 4.2 and 5.2: what is for one link stays on it.
    refused(v6(CLIENT, SERVER_V6, 255, icmpv6(135, 0, 0, &[0; 16])), Reason::IcmpType);
    refused(v4(SERVER, POOL, 64, icmpv4(13, 0, 0, &[0; 12])), Reason::IcmpType);
}

/// RFC 5508 REQ-4 and 5: errors about echoes.
#[test]
fn errors_about_echoes_carry_the_clients_identifier() {
    let mut router = Router::new();
    let request = router.pass(&v6(CLIENT, SERVER_V6, 3, icmpv6(128, 0, 0x0007_0009, b"traceroute -I")));
    let error = router.pass(&v4(HOP, POOL, 64, icmpv4(11, 0, 0, &request)));
    let quoted = v6(CLIENT, SERVER_V6, 2, icmpv6(128, 0, 0x0007_0009, b"traceroute -I"));
    assert_eq!(error, v6(HOP_V6, CLIENT, 63, icmpv6(3, 0, 0, &quoted)));
}

/// RFC 792 quotes no more than eight bytes of the upper layer.
#[test]
fn a_short_quotation_is_enough() {
    let mut router = Router::new();
    let sent = router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, crate::packet::SYN, &[])));
    let error = router.pass(&v4(HOP, POOL, 64, icmpv4(3, 1, 0, &sent[..28])));
    assert!(is_intact(&error));
    let quoted = v6(CLIENT, SERVER_V6, 63, tcp(5000, 80, crate::packet::SYN, &[]));
    assert_eq!(error[48..], quoted[..48], "the length is that of the whole packet");
}

/// RFC 1812 section 4.3.2.3 and RFC 4443 section 2.4 (c).
#[test]
fn long_quotations_are_cut() {
    let mut router = Router::new();
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 1400])));
    let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    let answer = v6(SERVER_V6, CLIENT, 63, udp(53, 5000, &[7; 1180]));
    let error = router.pass(&v6(CLIENT, SERVER_V6, 64, icmpv6(1, 4, 0, &answer)));
    assert_eq!((error.len(), is_intact(&error)), (576, true));
    let sent = v4(POOL, SERVER, 63, udp(port, 53, &[7; 1400]));
    let error = router.pass(&v4(HOP, POOL, 64, icmpv4(3, 3, 0, &sent)));
    assert_eq!((error.len(), is_intact(&error)), (1280, true));
}

/// RFC 4884: what follows the quoted packet survives, and the length attribute is in the other protocol's units.
#[test]
fn extensions_are_kept() {
    let mut router = Router::new();
    let (sent, answer) = session(&mut router);
    let extension = [0x20, 0, 0xde, 0xad, 0, 8, 1, 1, 0, 1, 0x21, 1];
    let mut body = sent;
    body.resize(128, 0);
    body.extend(extension);
    let error = router.pass(&v4(HOP, POOL, 64, icmpv4(11, 0, 32 << 16, &body)));
    assert!(is_intact(&error));
    assert_eq!((error.len(), error[44]), (40 + 8 + 128 + 12, 16));
    assert_eq!(error[48 + 128..], extension);
    let mut body = answer;
    body.resize(128, 0);
    body.extend(extension);
    let error = router.pass(&v6(CLIENT, SERVER_V6, 64, icmpv6(3, 0, 16 << 24, &body)));
    assert!(is_intact(&error));
    assert_eq!((error.len(), error[25]), (20 + 8 + 128 + 12, 32));
    assert_eq!(error[28 + 128..], extension);
}

/// RFC 7915 section 5.1: DF, and what happens when the packet does not fit.
#[test]
fn large_packets_from_ipv6_are_answered_with_the_mtu() {
    let mut narrow = plan(40_960..=65_535);
    narrow.mtu_v4 = 1400;
    let mut router = Router::with(&narrow);
    let fits = router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 1372])));
    assert_eq!((fits.len(), fits[6]), (1400, 0x40), "DF");
    let packet = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 1373]));
    let (verdict, packets) = router.send(&packet);
    assert_eq!(verdict, Verdict::Dropped(Reason::TooBig));
    assert_eq!(packets, [v6(ROUTER, CLIENT, 64, icmpv6(2, 0, 1420, &packet[..1232]))]);
    let small = router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 1232])));
    assert_eq!((small.len(), small[6]), (1260, 0), "up to 1260 bytes without DF");
}

/// RFC 7915 section 4.2.
#[test]
fn large_packets_from_ipv4_with_df_are_answered_with_the_mtu() {
    let mut router = Router::new();
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    let fits = router.pass(&dont_fragment(v4(SERVER, POOL, 64, udp(53, port, &[7; 1452]))));
    assert_eq!(fits.len(), 1500);
    let packet = dont_fragment(v4(SERVER, POOL, 64, udp(53, port, &[7; 1453])));
    let (verdict, packets) = router.send(&packet);
    assert_eq!(verdict, Verdict::Dropped(Reason::TooBig));
    assert!(is_intact(&packets[0]));
    assert_eq!((&packets[0][20..22], &packets[0][24..28]), (&[3, 4][..], &1480u32.to_be_bytes()[..]));
    assert_eq!(packets[0][28..], packet[..548]);
}

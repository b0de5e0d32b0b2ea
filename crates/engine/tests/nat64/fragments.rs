//! Fragments in both directions: RFC 6146 section 3.4, RFC 7915 sections 4 and 5.1.1, RFC 5722.
use sixgate_engine::nat64::tuple::Protocol;
use sixgate_engine::nat64::verdict::{Direction, Reason, Verdict};

use crate::packet::{SYN, fragment_v4, fragment_v6, icmpv4, icmpv6, is_intact, join, tcp, udp, v4, v6};
use crate::router::{CLIENT, POOL, Router, SERVER, SERVER_V6};

const TO_V4: Verdict = Verdict::Translated(Direction::V6ToV4);
const TO_V6: Verdict = Verdict::Translated(Direction::V4ToV6);

/// A session of each protocol, and the port or identifier that stands for 5000.
fn sessions(router: &mut Router) -> [u16; 3] {
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, SYN, &[])));
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[])));
    router.pass(&v6(CLIENT, SERVER_V6, 64, icmpv6(128, 0, 5000 << 16, &[])));
    [Protocol::Tcp, Protocol::Udp, Protocol::Icmp].map(|protocol| router.mapped(protocol, CLIENT, 5000).unwrap())
}

#[test]
fn fragments_from_ipv6_arrive_whole_whatever_their_order() {
    let mut router = Router::new();
    let [tcp_port, udp_port, identifier] = sessions(&mut router);
    let data: Vec<u8> = (0..3000u32).map(|index| index as u8).collect();
    for (packet, expected) in [
        (tcp(5000, 80, SYN, &data), tcp(tcp_port, 80, SYN, &data)),
        (udp(5000, 53, &data), udp(udp_port, 53, &data)),
        (icmpv6(128, 0, 5000 << 16, &data), icmpv4(8, 0, u32::from(identifier) << 16, &data)),
    ] {
        let whole = v6(CLIENT, SERVER_V6, 64, packet);
        let pieces = [(0, 1200), (1200, 2400), (2400, 9999)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let fragment = |index: usize| fragment_v6(&whole, 0x1_abcd, pieces[index].0, pieces[index].1);
            assert_eq!(router.send(&fragment(order[0])), (Verdict::Held, Vec::new()));
            assert_eq!(router.send(&fragment(order[1])), (Verdict::Held, Vec::new()));
            let (verdict, packets) = router.send(&fragment(order[2]));
            assert_eq!(verdict, TO_V4);
            assert!(packets.iter().all(|packet| packet.len() <= 1220), "no larger than their translations");
            // RFC 7915 section 5.1.1: the identification's low-order 16 bits, and no DF.
            assert!(packets.iter().all(|packet| packet[4..6] == [0xab, 0xcd] && packet[6] & 0x40 == 0));
            let mut whole = v4(POOL, SERVER, 63, expected.clone());
            whole[4..6].copy_from_slice(&[0xab, 0xcd]);
            let joined = join(&packets);
            assert!(is_intact(&joined));
            assert_eq!(joined, crate::packet::seal(whole));
        }
    }
    assert_eq!(router.tables(), ([1, 1, 1], [1, 1, 1]));
}

#[test]
fn fragments_from_ipv4_arrive_whole_whatever_their_order() {
    let mut router = Router::new();
    let [tcp_port, udp_port, identifier] = sessions(&mut router);
    let data: Vec<u8> = (0..3000u32).map(|index| index as u8).collect();
    for (packet, expected) in [
        (tcp(80, tcp_port, 0, &data), tcp(80, 5000, 0, &data)),
        (udp(53, udp_port, &data), udp(53, 5000, &data)),
        (icmpv4(0, 0, u32::from(identifier) << 16, &data), icmpv6(129, 0, 5000 << 16, &data)),
    ] {
        let whole = v4(SERVER, POOL, 64, packet);
        let pieces = [(0, 1400), (1400, 2800), (2800, 9999)];
        for order in [[0, 1, 2], [2, 0, 1], [1, 0, 2]] {
            let fragment = |index: usize| fragment_v4(&whole, pieces[index].0, pieces[index].1);
            assert_eq!(router.send(&fragment(order[0])), (Verdict::Held, Vec::new()));
            assert_eq!(router.send(&fragment(order[1])), (Verdict::Held, Vec::new()));
            let (verdict, packets) = router.send(&fragment(order[2]));
            assert_eq!(verdict, TO_V6);
            assert!(packets.iter().all(|packet| packet.len() <= 1448), "no larger than their translations");
            assert!(packets.iter().all(|packet| packet[44..48] == [0, 0, 0x12, 0x34]), "identification");
            assert_eq!(join(&packets), v6(SERVER_V6, CLIENT, 63, expected.clone()));
        }
    }
}

/// RFC 7915 section 4: without DF the translator fragments.
#[test]
fn large_packets_without_df_leave_in_fragments() {
    let mut router = Router::new();
    let [_, port, _] = sessions(&mut router);
    let (verdict, packets) = router.send(&v4(SERVER, POOL, 64, udp(53, port, &[7; 1472])));
    assert_eq!((verdict, packets.len()), (TO_V6, 2));
    assert!(packets.iter().all(|packet| packet.len() <= 1500));
    assert_eq!(join(&packets), v6(SERVER_V6, CLIENT, 63, udp(53, 5000, &[7; 1472])));
}

/// RFC 6146 section 3.4: a datagram without a checksum can be translated once it is whole.
#[test]
fn fragmented_datagrams_without_checksum_get_one() {
    let mut router = Router::new();
    let [_, port, _] = sessions(&mut router);
    let mut whole = v4(SERVER, POOL, 64, udp(53, port, &[7; 100]));
    whole[26..28].fill(0);
    router.send(&fragment_v4(&whole, 0, 64));
    let packet = router.pass(&fragment_v4(&whole, 64, 9999));
    assert_eq!(packet, v6(SERVER_V6, CLIENT, 63, udp(53, 5000, &[7; 100])));
}

/// RFC 6946: an atomic fragment is a packet like any other, apart from DF and identification.
#[test]
fn atomic_fragments_are_not_held() {
    let mut router = Router::new();
    let whole = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 1300]));
    let packet = router.pass(&fragment_v6(&whole, 0xdead_beef, 0, 9999));
    assert_eq!((&packet[4..8], packet.len()), (&[0xbe, 0xef, 0, 0][..], 1328));
    assert!(is_intact(&packet));
}

/// RFC 5722 section 4.
#[test]
fn overlapping_fragments_are_discarded_with_all_that_follow() {
    let mut router = Router::new();
    sessions(&mut router);
    let whole = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 400]));
    let held = Verdict::Held;
    let invalid = Verdict::Dropped(Reason::FragmentInvalid);
    assert_eq!(router.send(&fragment_v6(&whole, 1, 0, 200)).0, held);
    assert_eq!(router.send(&fragment_v6(&whole, 1, 0, 200)).0, held, "an exact copy");
    assert_eq!(router.send(&fragment_v6(&whole, 1, 192, 304)).0, invalid);
    assert_eq!(router.send(&fragment_v6(&whole, 1, 200, 9999)).0, invalid);
    assert_eq!(router.send(&fragment_v6(&whole, 2, 0, 200)).0, held, "another packet is not concerned");
    assert_eq!(router.send(&fragment_v6(&whole, 2, 200, 9999)).0, TO_V4);
    assert_eq!(router.send(&fragment_v6(&whole, 3, 200, 9999)).0, held);
    let beyond = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 800]));
    assert_eq!(router.send(&fragment_v6(&beyond, 3, 600, 640)).0, invalid, "beyond the end");
    assert_eq!(router.send(&fragment_v6(&whole, 4, 0, 203)).0, invalid, "not a multiple of eight");
}

/// RFC 6146 section 4: FRAGMENT_MIN.
#[test]
fn incomplete_packets_are_dropped_after_two_seconds() {
    let mut router = Router::new();
    let whole = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 400]));
    router.send(&fragment_v6(&whole, 1, 0, 200));
    assert_eq!(router.nat64.poll_timeout(), Some(router.now + core::time::Duration::from_secs(2)));
    router.wait(2);
    assert_eq!((router.nat64.poll_timeout(), router.count("fragment-timeout")), (None, 1));
    assert_eq!(router.send(&fragment_v6(&whole, 1, 200, 9999)).0, Verdict::Held, "the first half is gone");
}

#[test]
fn waiting_fragments_are_bounded_and_room_comes_back() {
    let mut router = Router::new();
    let whole = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 400]));
    let verdicts: Vec<_> = (0..600).map(|id| router.send(&fragment_v6(&whole, id, 0, 200)).0).collect();
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Held).count(), 410);
    assert_eq!(router.count("fragment-limit"), 190);
    assert_eq!(router.send(&fragment_v6(&whole, 7, 200, 9999)).0, TO_V4, "what waits can be completed");
    router.wait(2);
    assert_eq!(router.count("fragment-timeout"), 409);
    assert_eq!(router.send(&fragment_v6(&whole, 9, 0, 200)).0, Verdict::Held);
    let large = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 60_000]));
    let held = (100..200).filter(|id| router.send(&fragment_v6(&large, *id, 0, 59_200)).0 == Verdict::Held).count();
    assert_eq!(held, 57, "four fifths of four mebibytes");
    // One who fills the room leaves some to others.
    let other = v6("2001:db8:2::2", SERVER_V6, 64, udp(5000, 53, &[7; 400]));
    assert_eq!(router.send(&fragment_v6(&other, 1, 0, 200)).0, Verdict::Held);
    assert_eq!(router.send(&fragment_v6(&other, 1, 200, 9999)).0, TO_V4);
    assert_eq!(router.send(&fragment_v6(&whole, 9, 200, 9999)).0, Verdict::Dropped(Reason::FragmentLimit));
}

/// RFC 6146 section 3.8 with fragments.
#[test]
fn fragments_are_hairpinned() {
    let mut router = Router::new();
    let [_, port, _] = sessions(&mut router);
    let pool = crate::router::POOL_V6;
    router.send(&v6(crate::router::OTHER_CLIENT, pool, 64, udp(6001, port, b"knock")));
    let theirs = router.mapped(Protocol::Udp, crate::router::OTHER_CLIENT, 6001).unwrap();
    let whole = v6(CLIENT, pool, 64, udp(5000, theirs, &[7; 2000]));
    router.send(&fragment_v6(&whole, 1, 0, 1200));
    let (verdict, packets) = router.send(&fragment_v6(&whole, 1, 1200, 9999));
    assert_eq!(verdict, Verdict::Hairpinned);
    assert_eq!(join(&packets), v6(pool, crate::router::OTHER_CLIENT, 62, udp(port, 6001, &[7; 2000])));
}

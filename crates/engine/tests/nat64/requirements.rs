//! What RFCs demand in so many words and no other test says as plainly.
use sixgate_engine::nat64::tuple::Protocol;
use sixgate_engine::nat64::verdict::{Direction, Reason, Verdict};

use crate::packet::{SYN, fragment_v4, fragment_v6, icmpv4, icmpv6, tcp, udp, v4, v6};
use crate::router::{CLIENT, POOL, ROUTER, Router, SERVER, SERVER_V6, STRANGER, plan};

const TO_V4: Verdict = Verdict::Translated(Direction::V6ToV4);
const TO_V6: Verdict = Verdict::Translated(Direction::V4ToV6);

/// RFC 6146 sections 3.5.1, 3.5.2.2 and 3.5.3: no binding can be made; Destination Unreachable, Address unreachable.
#[test]
fn who_gets_no_binding_hears_address_unreachable_whatever_the_protocol() {
    let mut router = Router::with(&plan(40_000..=40_000));
    let openings = |port: u16| {
        [tcp(port, 80, SYN, &[]), udp(port, 53, b"question"), icmpv6(128, 0, u32::from(port) << 16, b"ping")]
            .map(|upper| v6(CLIENT, SERVER_V6, 64, upper))
    };
    for packet in openings(5000) {
        router.pass(&packet);
    }
    for packet in openings(5001) {
        let (verdict, packets) = router.send(&packet);
        assert_eq!(verdict, Verdict::Dropped(Reason::PoolExhausted));
        assert_eq!(packets, [v6(ROUTER, CLIENT, 64, icmpv6(1, 3, 0, &packet))]);
    }
    // RFC 6888 REQ-11 d: nothing is taken from whoever has something.
    assert_eq!(router.tables(), ([1; 3], [1; 3]));
}

/// RFC 4787 REQ-14 a: whole packets and fragments in order pass while somebody fills the store.
#[test]
fn a_flood_of_fragments_keeps_no_whole_packet_out() {
    let mut router = Router::new();
    let whole = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 400]));
    router.pass(&whole);
    let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    let answer = v4(SERVER, POOL, 64, udp(53, port, &[7; 400]));
    for id in 0..5000 {
        router.send(&fragment_v6(&whole, id, 0, 200));
        let spam = v4(STRANGER, POOL, 64, udp(53, port, &[7; 400]));
        let mut spam = fragment_v4(&spam, 0, 200);
        spam[4..6].copy_from_slice(&(id as u16).to_be_bytes());
        router.send(&crate::packet::seal_header(spam));
    }
    assert!(router.count("fragment-limit") > 0);
    assert_eq!(router.send(&whole).0, TO_V4);
    assert_eq!(router.send(&answer).0, TO_V6);
    assert_eq!(router.send(&fragment_v4(&answer, 0, 200)).0, Verdict::Held, "another sender has room left");
    assert_eq!(router.send(&fragment_v4(&answer, 200, 9999)).0, TO_V6);
}

/// RFC 4787 REQ-6: packets from inside keep a mapping alive, and here those from outside do as well (REQ-6 a).
#[test]
fn packets_from_either_side_keep_a_mapping_alive() {
    for from_inside in [true, false] {
        let mut router = Router::new();
        let question = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question"));
        router.pass(&question);
        let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
        for _ in 0..3 {
            router.wait(299);
            match from_inside {
                true => router.pass(&question),
                false => router.pass(&v4(SERVER, POOL, 64, udp(53, port, b"answer"))),
            };
        }
        assert_eq!(router.tables().0, [0, 1, 0]);
        router.wait(300);
        assert_eq!(router.tables().0, [0, 0, 0]);
    }
}

/// RFC 5382 REQ-4: once a SYN has left, the one that waited is dropped without a word.
#[test]
fn a_syn_that_waited_for_a_connection_that_opens_is_never_answered() {
    let mut router = Router::new();
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 79, SYN, &[])));
    let port = router.mapped(Protocol::Tcp, CLIENT, 5000).unwrap();
    assert_eq!(router.send(&v4(STRANGER, POOL, 64, tcp(80, port, SYN, &[]))).0, Verdict::Held);
    router.pass(&v6(CLIENT, "64:ff9b::5.6.7.8", 64, tcp(5000, 80, SYN, &[])));
    assert_eq!(router.rest(10), Vec::<Vec<u8>>::new());
    // A second one is admitted now, and the connection stands.
    assert_eq!(router.send(&v4(STRANGER, POOL, 64, tcp(80, port, SYN, &[]))).0, TO_V6);
}

/// RFC 5722 section 4: overlapping fragments of IPv6 end the datagram, also parts that are still to come; and an exact
/// repetition (RFC 8200 section 4.5) may be one of the network's own.
#[test]
fn overlapping_fragments_end_a_datagram_in_both_families() {
    let mut router = Router::new();
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    let port = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
    let question = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 400]));
    let answer = v4(SERVER, POOL, 64, udp(53, port, &[7; 400]));
    let cut: [&dyn Fn(usize, usize) -> Vec<u8>; 2] =
        [&|start, end| fragment_v6(&question, 1, start, end), &|start, end| fragment_v4(&answer, start, end)];
    for cut in cut {
        assert_eq!(router.send(&cut(0, 200)).0, Verdict::Held);
        assert_eq!(router.send(&cut(192, 408)).0, Verdict::Dropped(Reason::FragmentInvalid));
        assert_eq!(router.send(&cut(200, 9999)).0, Verdict::Dropped(Reason::FragmentInvalid), "what follows");
        assert_eq!(router.send(&cut(0, 200)).0, Verdict::Dropped(Reason::FragmentInvalid), "what comes again");
    }
}

/// RFC 5508 REQ-4 and REQ-5: an error about nothing of ours ends in silence, from either side.
#[test]
fn errors_about_sessions_that_are_not_there_end_in_silence() {
    let mut router = Router::new();
    let quoted = v4(POOL, SERVER, 64, udp(50_000, 53, b"question"));
    let from_outside = v4(STRANGER, POOL, 64, icmpv4(3, 3, 0, &quoted));
    let quoted = v6(SERVER_V6, CLIENT, 64, udp(53, 5000, b"answer"));
    let from_inside = v6(CLIENT, SERVER_V6, 64, icmpv6(1, 4, 0, &quoted));
    for packet in [from_outside, from_inside] {
        let (verdict, packets) = router.send(&packet);
        assert_eq!(verdict, Verdict::Dropped(Reason::IcmpErrorWithoutSession));
        assert_eq!(packets, Vec::<Vec<u8>>::new());
    }
}

//! Sessions survive the daemon, and nothing that a file may hold does harm.
use core::time::Duration;

use proptest::prelude::*;
use sixgate_engine::nat64::tuple::Protocol;
use sixgate_engine::nat64::verdict::{Direction, Reason, Verdict};
use sixgate_engine::nat64::{Nat64, Restored, SnapshotError};
use sixgate_engine::plan::Nat64Plan;

use crate::packet::{ACK, SYN, icmpv6, tcp, udp, v4, v6};
use crate::router::{CLIENT, POOL, Router, SERVER, SERVER_V6, plan};

const TO_V6: Verdict = Verdict::Translated(Direction::V4ToV6);

/// A translator with a session of each protocol; the connection is established. Returns their ports.
fn busy() -> (Router, [u16; 3]) {
    let mut router = Router::new();
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, SYN, &[])));
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    router.pass(&v6(CLIENT, SERVER_V6, 64, icmpv6(128, 0, 5000 << 16, b"ping")));
    let ports = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp].map(|it| router.mapped(it, CLIENT, 5000).unwrap());
    router.pass(&v4(SERVER, POOL, 64, tcp(80, ports[0], SYN | ACK, &[])));
    (router, ports)
}

#[test]
fn sessions_survive_a_restart_with_what_is_left_of_their_lifetimes() {
    let (mut router, [tcp_port, udp_port, _]) = busy();
    router.wait(50);
    let due = router.nat64.poll_timeout();
    let restored = router.restart(&plan(40_960..=65_535));
    assert_eq!(restored, Restored { sessions: 3, left_out: 0 });
    assert_eq!((router.tables(), router.nat64.poll_timeout()), (([1; 3], [1; 3]), due));
    assert_eq!(router.send(&v4(SERVER, POOL, 64, tcp(80, tcp_port, ACK, b"more"))).0, TO_V6);
    assert_eq!(router.send(&v4(SERVER, POOL, 64, udp(53, udp_port, b"answer"))).0, TO_V6);
    router.wait(10);
    assert_eq!(router.tables().0, [1, 1, 0], "ICMP_DEFAULT goes on where it was");
    router.wait(300);
    assert_eq!(router.tables().0, [1, 0, 0], "the connection is established still");
    // Ports that are in use are not given to others.
    for port in 0..100 {
        router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(port, 80, SYN, &[])));
        assert_ne!(router.mapped(Protocol::Tcp, CLIENT, port), Some(tcp_port));
    }
}

#[test]
fn the_time_that_passes_while_nobody_is_there_counts() {
    let (mut router, _) = busy();
    let saved = router.nat64.save();
    router.nat64 = Nat64::new(&plan(40_960..=65_535), [8; 32]);
    router.now = router.now + Duration::from_secs(400);
    router.nat64.restore(&saved, router.now).unwrap();
    router.wait(0);
    assert_eq!(router.tables().0, [1, 0, 0]);
}

#[test]
fn what_no_longer_fits_is_left_out_and_the_rest_is_kept() {
    let (mut router, _) = busy();
    let mut moved = plan(40_960..=65_535);
    moved.pool4 = vec!["198.51.100.2".parse().unwrap()];
    assert_eq!(router.restart(&moved), Restored { sessions: 0, left_out: 3 });
    assert_eq!(router.tables(), ([0; 3], [0; 3]));
    let (mut router, _) = busy();
    let mut small = plan(40_960..=65_535);
    small.max_sessions = 2;
    assert_eq!(router.restart(&small), Restored { sessions: 2, left_out: 1 });
}

#[test]
fn what_is_not_whole_and_right_is_refused_and_changes_nothing() {
    let (router, _) = busy();
    let saved = router.nat64.save();
    let refused = |bytes: &[u8]| {
        let mut fresh = Router::new();
        fresh.now = router.now;
        let error = fresh.nat64.restore(bytes, fresh.now).unwrap_err();
        assert_eq!((fresh.tables(), fresh.nat64.poll_timeout()), (([0; 3], [0; 3]), None));
        error
    };
    assert_eq!(refused(&[]), SnapshotError::Unknown);
    assert_eq!(refused(&[b'x'; 1000]), SnapshotError::Unknown);
    let mut other = saved.clone();
    other[11] = 9;
    assert_eq!(refused(&other), SnapshotError::Version(9));
    assert_eq!(refused(&saved[..saved.len() - 1]), SnapshotError::Damaged);
    for at in 12..saved.len() {
        let mut damaged = saved.clone();
        damaged[at] ^= 1;
        assert_eq!(refused(&damaged), SnapshotError::Damaged, "byte {at}");
    }
    let mut renumbered = plan(40_960..=65_535);
    renumbered.pref64 = "2001:db8:64::/96".parse().unwrap();
    let mut fresh = Router::with(&renumbered);
    assert_eq!(fresh.nat64.restore(&saved, router.now), Err(SnapshotError::Prefix));
    let mut fresh = Router::new();
    assert_eq!(fresh.nat64.restore(&saved, sixgate_engine::time::Instant::ZERO), Err(SnapshotError::Clock));
    fresh.pass(&v6(CLIENT, SERVER_V6, 64, udp(1, 1, &[])));
    assert_eq!(fresh.nat64.restore(&saved, router.now), Err(SnapshotError::Late), "before any new allocation");
}

/// RFC 6888 REQ-8: a restart gives nobody's port away early, be it by itself or as a part of a block.
#[test]
fn what_is_held_back_is_held_back_by_the_next_daemon_for_the_rest_of_its_time() {
    // Two ports or two blocks; the first client has one of them.
    for (ports, block) in [(40_000..=40_001, 0), (40_000..=40_127, 64)] {
        let plan = Nat64Plan { port_block: block, ..plan(ports) };
        let mut router = Router::with(&plan);
        let ask = |client: &str, port| v6(client, SERVER_V6, 64, udp(port, 53, b"question"));
        router.pass(&ask(CLIENT, 5000));
        let given = router.mapped(Protocol::Udp, CLIENT, 5000).unwrap();
        router.wait(300);
        assert_eq!(router.tables(), ([0; 3], [0; 3]));
        router.wait(100);
        let held = router.nat64.status().pool.held;
        assert_eq!(held, u64::from(block.max(1)));
        assert_eq!(router.restart(&plan), Restored::default());
        assert_eq!(router.nat64.status().pool.held, held);
        let refused = |router: &mut Router, client: &str| {
            matches!(router.send(&ask(client, 5000)).0, Verdict::Dropped(Reason::PoolExhausted))
        };
        assert!(!refused(&mut router, "2001:db8:2::2"));
        assert!(refused(&mut router, "2001:db8:3::2"), "the port or block {given} is not free yet");
        router.wait(20);
        assert_eq!(router.nat64.status().pool.held, 0);
        assert!(!refused(&mut router, "2001:db8:3::2"));
    }
}

/// Sizes that do not fit any more, and ports that somebody has, are nobody's to hold back.
#[test]
fn what_was_held_back_under_other_shares_is_forgotten() {
    let in_blocks = Nat64Plan { port_block: 64, ..plan(40_000..=40_127) };
    let mut router = Router::with(&in_blocks);
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    router.wait(300);
    router.restart(&Nat64Plan { port_block: 128, ..in_blocks });
    assert_eq!((router.nat64.status().pool.held, router.nat64.status().pool.blocks), (0, (0, 1)));
    let mut router = Router::new();
    router.pass(&v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")));
    router.wait(300);
    router.restart(&plan(1024..=2047));
    assert_eq!((router.nat64.status().pool.held, router.nat64.status().pool.free.udp), (0, 1024));
}

proptest! {
    /// Whatever the records say, behind a header that is right.
    #[test]
    fn no_file_causes_a_panic_or_sessions_that_contradict_each_other(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        copies in 0usize..4,
    ) {
        let (mut router, _) = busy();
        let mut saved = router.nat64.save();
        let records = saved[32..].to_vec();
        for _ in 0..copies {
            saved.extend(&records);
        }
        for (at, value) in damage {
            let at = 32 + at.index(saved.len() - 32);
            saved[at] = value;
        }
        let count = ((saved.len() - 32) / 40) as u32;
        saved[28..32].copy_from_slice(&count.to_be_bytes());
        let hash = siphasher::sip::SipHasher13::new().hash(&saved[20..]);
        saved[12..20].copy_from_slice(&hash.to_be_bytes());
        router.nat64 = Nat64::new(&plan(40_960..=65_535), [8; 32]);
        if let Ok(Restored { sessions, left_out }) = router.nat64.restore(&saved, router.now) {
            // Damage may make ports that are held back of a session.
            prop_assert!(sessions + left_out <= u64::from(count));
            prop_assert_eq!(router.tables().0.iter().sum::<u64>(), sessions);
        }
        router.wait(10_000);
        router.wait(240);
        prop_assert_eq!(router.tables(), ([0; 3], [0; 3]));
    }
}

//! Packets of sessions that are there cost no memory: what one needs is there from the first ones on.
use core::time::Duration;

use sixgate_engine::nat64::Offload;
use sixgate_engine::nat64::tuple::Protocol;
use sixgate_engine::nat64::verdict::Verdict;

use crate::packet::{ACK, SYN, icmpv4, icmpv6, tcp, udp, v4, v6};
use crate::router::{CLIENT, OTHER_CLIENT, POOL, POOL_V6, Router, SERVER, SERVER_V6};

/// More packets than any list doubles for unnoticed.
const ROUNDS: u64 = 2000;

#[test]
fn packets_of_known_sessions_allocate_nothing() {
    let mut router = Router::new();
    let up = [
        v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, ACK, &[1; 1000])),
        v6(CLIENT, SERVER_V6, 64, udp(5000, 53, b"question")),
        v6(CLIENT, SERVER_V6, 64, icmpv6(128, 0, 5000 << 16, b"ping")),
    ];
    router.pass(&v6(CLIENT, SERVER_V6, 64, tcp(5000, 80, SYN, &[])));
    up[1..].iter().for_each(|packet| drop(router.pass(packet)));
    let port = |protocol| router.mapped(protocol, CLIENT, 5000).unwrap();
    let [tcp_port, udp_port, identifier] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp].map(port);
    let quoted = router.pass(&up[1]);
    let down = [
        v4(SERVER, POOL, 64, tcp(80, tcp_port, SYN | ACK, &[])),
        v4(SERVER, POOL, 64, tcp(80, tcp_port, ACK, &[1; 1000])),
        v4(SERVER, POOL, 64, udp(53, udp_port, b"an answer")),
        v4(SERVER, POOL, 64, icmpv4(0, 0, u32::from(identifier) << 16, b"ping")),
        // An error, what turns back, what is fragmented, and what is refused with and without an answer.
        v4(SERVER, POOL, 64, icmpv4(11, 0, 0, &quoted)),
        v4(SERVER, POOL, 64, udp(53, udp_port, &[2; 1460])),
        v4(SERVER, POOL, 1, udp(53, udp_port, b"late")),
        v4(SERVER, POOL, 64, udp(53, 50_001, b"for nobody")),
        v6(OTHER_CLIENT, POOL_V6, 64, udp(6000, udp_port, b"to a neighbour")),
        v6(CLIENT, SERVER_V6, 2, udp(5000, 53, b"late")),
    ];
    let mut out = sixgate_engine::nat64::Transmit::new();
    let mut all = |router: &mut Router| {
        let mut passed = 0;
        for packet in up.iter().chain(&down) {
            let verdict = router.nat64.handle_offloaded(packet, Offload::NONE, &mut out, router.now);
            passed += u64::from(matches!(verdict, Verdict::Translated(_) | Verdict::Hairpinned));
        }
        // Time goes on, and timers are looked at as the daemon does.
        router.now = router.now + Duration::from_millis(1);
        passed
    };
    for _ in 0..10 {
        all(&mut router);
    }
    let mut passed = 0;
    let told = allocation_counter::measure(|| passed = (0..ROUNDS).map(|_| all(&mut router)).sum());
    assert!(passed >= ROUNDS * 8, "{passed} of {ROUNDS} rounds");
    assert_eq!(told.count_total, 0, "{told:?}");
}

//! The translator by itself, on one core: sessions a second, what a million of them occupies, packets a second.
//!
//! `cargo bench -p sixgate-engine` prints a JSON object a line; `cargo xtask bench nat64` reads them.
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::fs;
use std::time::Instant as Clock;

use sixgate_engine::config::{Filtering, Nat64Limits, Nat64Timers};
use sixgate_engine::nat64::event::Wanted;
use sixgate_engine::nat64::verdict::Verdict;
use sixgate_engine::nat64::{Nat64, Transmit};
use sixgate_engine::plan::Nat64Plan;
use sixgate_engine::time::Instant;
use sixgate_engine::xlat::Policy;
use sixgate_wire::checksum::{self, pseudo_v4, pseudo_v6};
use sixgate_wire::ipv4::Ipv4Header;
use sixgate_wire::ipv6::Ipv6Header;
use sixgate_wire::{tcp, udp};

/// Sessions that are made and held, each with a binding of its own.
const SESSIONS: u32 = 1_000_000;
/// Sessions of each client.
const PER_CLIENT: u32 = 100;
/// Sessions among which packets alternate.
const FLOWS: u32 = 10_000;
/// Payload of a datagram.
const PAYLOAD: usize = 64;
/// How long packets are counted.
const LASTS: Duration = Duration::from_secs(1);
/// Places of the table that the daemon saves at a time.
const SLICE: usize = 1024;
/// Times that each is measured.
const ROUNDS: usize = 5;

fn main() {
    // `cargo test --all-targets` runs this without `--bench`: it shall compile, and not take long.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    memory();
    for protocol in [tcp::PROTOCOL, udp::PROTOCOL] {
        let rates: Vec<f64> = (0..ROUNDS).map(|_| new_sessions(protocol)).collect();
        let name = if protocol == tcp::PROTOCOL { "new-sessions-tcp" } else { "new-sessions-udp" };
        report(name, &rates);
    }
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let rates = packets();
        up.push(rates.0);
        down.push(rates.1);
    }
    report("packets-v6-to-v4", &up);
    report("packets-v4-to-v6", &down);
}

fn report(name: &str, values: &[f64]) {
    let values: Vec<String> = values.iter().map(|value| format!("{value:.0}")).collect();
    println!("{{\"name\":\"{name}\",\"values\":[{}]}}", values.join(","));
}

/// Enough addresses that a million bindings find ports.
fn translator() -> Nat64 {
    let plan = Nat64Plan {
        pref64: "64:ff9b::/96".parse().expect("a prefix"),
        further_pref64: Vec::new(),
        pool4: (1..=20).map(|host| Ipv4Addr::new(198, 51, 100, host)).collect(),
        ports: 1024..=65_535,
        further_pool4: Vec::new(),
        further_ports: 1024..=65_535,
        port_block: 0,
        never_translate: Vec::new(),
        translate_non_global: Vec::new(),
        router_v6: None,
        mtu_v6: 1500,
        mtu_v4: 1500,
        policy: Policy::DEFAULT,
        icmp_errors_per_second: 0,
        shortcut: None,
        filtering: Filtering::AddressDependent,
        limits: Nat64Limits::default(),
        clients: Vec::new(),
        static_bindings: Vec::new(),
        published_echo: Vec::new(),
        timers: Nat64Timers::default(),
        vms: Vec::new(),
        events: Wanted::Nothing,
        log: None,
        max_sessions: SESSIONS + FLOWS,
        obstacle: None,
        fast_path: None,
    };
    Nat64::new(&plan, [7; 32])
}

fn client(session: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001_0db8_0000_0000_0000_0000_0000_0002 | u128::from(session / PER_CLIENT) << 64)
}

fn server(session: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0102_0000 + session % 60_000)
}

/// The first packet of a session.
fn opening(protocol: u8, session: u32, payload: usize) -> Vec<u8> {
    let [a, b, c, d] = server(session).octets();
    let embedded = u128::from(u32::from_be_bytes([a, b, c, d]));
    let destination = Ipv6Addr::from_bits(0x0064_ff9b_0000_0000_0000_0000_0000_0000 | embedded);
    let source_port = 10_000 + (session % PER_CLIENT) as u16;
    let upper = upper(protocol, source_port, 53, payload);
    let header = Ipv6Header {
        traffic_class: 0,
        payload_length: upper.len() as u16,
        next_header: protocol,
        hop_limit: 64,
        source: client(session),
        destination,
    };
    let pseudo = pseudo_v6(header.source, destination, protocol, upper.len() as u32);
    [&header.emit()[..], &sealed(protocol, upper, pseudo)].concat()
}

/// A datagram back from the server, to where its session's first packet came from.
fn answer(sent: &[u8]) -> Vec<u8> {
    let word = |at: usize| u16::from_be_bytes([sent[at], sent[at + 1]]);
    let address = |at: usize| Ipv4Addr::new(sent[at], sent[at + 1], sent[at + 2], sent[at + 3]);
    let upper = upper(udp::PROTOCOL, word(22), word(20), PAYLOAD);
    let header = Ipv4Header {
        tos: 0,
        total_length: 20 + upper.len() as u16,
        identification: 1,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol: udp::PROTOCOL,
        source: address(16),
        destination: address(12),
    };
    let pseudo = pseudo_v4(header.source, header.destination, udp::PROTOCOL, upper.len() as u32);
    [&header.emit()[..], &sealed(udp::PROTOCOL, upper, pseudo)].concat()
}

fn upper(protocol: u8, source: u16, destination: u16, payload: usize) -> Vec<u8> {
    let header = if protocol == tcp::PROTOCOL { tcp::HEADER } else { udp::HEADER };
    let mut bytes = vec![0; header + payload];
    bytes[..2].copy_from_slice(&source.to_be_bytes());
    bytes[2..4].copy_from_slice(&destination.to_be_bytes());
    if protocol == tcp::PROTOCOL {
        // A data offset of five words, and SYN.
        (bytes[12], bytes[13]) = (0x50, 0x02);
    } else {
        let length = bytes.len() as u16;
        bytes[4..6].copy_from_slice(&length.to_be_bytes());
    }
    bytes
}

fn sealed(protocol: u8, mut upper: Vec<u8>, pseudo: checksum::Sum) -> Vec<u8> {
    let at = if protocol == tcp::PROTOCOL { tcp::CHECKSUM } else { udp::CHECKSUM };
    let checksum = checksum::udp(pseudo.bytes(&upper).checksum());
    upper[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    upper
}

fn pass(nat64: &mut Nat64, packet: &[u8], out: &mut Transmit, now: Instant) {
    let verdict = nat64.handle_input(packet, out, now);
    assert!(matches!(verdict, Verdict::Translated(_)), "{verdict:?}");
}

/// A million sessions in an otherwise empty process: how much more it occupies.
fn memory() {
    let (mut out, now) = (Transmit::new(), Instant::from_nanos(1));
    let before = resident();
    let mut nat64 = translator();
    for session in 0..SESSIONS {
        pass(&mut nat64, &opening(udp::PROTOCOL, session, 0), &mut out, now);
    }
    let status = nat64.status();
    assert_eq!((status.sessions.udp, status.bindings.udp), (u64::from(SESSIONS), u64::from(SESSIONS)));
    report("mebibytes-for-a-million-sessions", &[(resident() - before) as f64 / 1024.0]);
    saving(&nat64, now);
}

/// A million sessions taken down in slices as the daemon does, sealed by another thread there, and read again.
fn saving(nat64: &Nat64, now: Instant) {
    let (mut slices, mut seals, mut restores) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut longest = Duration::ZERO;
        let begin = Clock::now();
        let mut saving = nat64.begin_save();
        longest = longest.max(begin.elapsed());
        for is_last in std::iter::repeat_with(|| {
            let begin = Clock::now();
            let is_last = nat64.save_some(&mut saving, SLICE);
            longest = longest.max(begin.elapsed());
            is_last
        }) {
            if is_last {
                break;
            }
        }
        let begin = Clock::now();
        let saved = saving.seal();
        seals.push(begin.elapsed().as_secs_f64() * 1e3);
        let mut next = translator();
        let begin = Clock::now();
        let restored = next.restore(&saved, now).expect("saved sessions");
        restores.push(begin.elapsed().as_secs_f64() * 1e3);
        assert_eq!(restored.sessions, u64::from(SESSIONS));
        slices.push(longest.as_secs_f64() * 1e6);
    }
    report("microseconds-of-the-longest-slice", &slices);
    report("milliseconds-to-seal-a-million-sessions", &seals);
    report("milliseconds-to-restore-a-million-sessions", &restores);
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
}

/// New sessions a second, from none to half of a million.
fn new_sessions(protocol: u8) -> f64 {
    const BATCH: u32 = 10_000;
    let (mut nat64, mut out, now) = (translator(), Transmit::new(), Instant::from_nanos(1));
    let mut took = Duration::ZERO;
    for first in (0..SESSIONS / 2).step_by(BATCH as usize) {
        let packets: Vec<_> = (first..first + BATCH).map(|session| opening(protocol, session, 0)).collect();
        let begin = Clock::now();
        for packet in &packets {
            pass(&mut nat64, packet, &mut out, now);
        }
        took += begin.elapsed();
    }
    f64::from(SESSIONS / 2) / took.as_secs_f64()
}

/// Packets a second of live UDP sessions, in each direction.
fn packets() -> (f64, f64) {
    let (mut nat64, mut out, now) = (translator(), Transmit::new(), Instant::from_nanos(1));
    let up: Vec<_> = (0..FLOWS).map(|session| opening(udp::PROTOCOL, session, PAYLOAD)).collect();
    let mut down = Vec::new();
    for packet in &up {
        pass(&mut nat64, packet, &mut out, now);
        down.push(answer(out.iter().next().expect("a translation")));
    }
    (repeat(&mut nat64, &up, &mut out, now), repeat(&mut nat64, &down, &mut out, now))
}

fn repeat(nat64: &mut Nat64, packets: &[Vec<u8>], out: &mut Transmit, now: Instant) -> f64 {
    let (begin, mut count) = (Clock::now(), 0usize);
    while begin.elapsed() < LASTS {
        for packet in packets {
            pass(nat64, packet, out, now);
        }
        count += packets.len();
    }
    count as f64 / begin.elapsed().as_secs_f64()
}

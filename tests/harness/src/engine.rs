//! The whole translator under a script of packets, time, other configurations and restarts. Its tables, its events and
//! its counters tell the same story, and in the end nothing is left.
use std::sync::LazyLock;

use sixgate_engine::nat64::event::{EventKind, Wanted};
use sixgate_engine::nat64::tuple::{Protocol, TransportV6};
use sixgate_engine::nat64::{Nat64, Transmit};
use sixgate_engine::plan::Nat64Plan;
use sixgate_engine::time::{Duration, Instant};

use crate::packet::{POOL, SERVERS, check, client, embedded, plan, v4, v6};
use crate::script::Script;

/// What has been told of the tables so far.
#[derive(Default)]
struct Told {
    sessions: u64,
    bindings: u64,
}

pub(crate) fn run(bytes: &[u8]) {
    let plans = &*PLANS;
    let mut script = Script::new(bytes);
    let mut now = Instant::from_nanos(1);
    let (mut nat64, mut out, mut told) = (Nat64::new(&plans[0], [7; 32]), Transmit::new(), Told::default());
    let mut last = Vec::new();
    for _ in 0..200 {
        if script.is_over() {
            break;
        }
        let step = script.byte();
        match step & 7 {
            0 => last = script.piece().to_vec(),
            1 | 2 => last = from_inside(&mut script),
            3 => last = from_outside(&mut script, &nat64),
            4 => {
                now = now + Duration::from_secs(u64::from(script.byte()) * if step & 8 == 0 { 1 } else { 60 });
                nat64.handle_timeout(now, &mut out);
                check(&out);
            }
            5 => nat64.reconfigure(&plans[usize::from(step >> 3) % plans.len()], now),
            6 if step & 8 != 0 => restart(&mut nat64, &plans[usize::from(step >> 4) % plans.len()], &mut told, now),
            6 => last = error_about(&last, &mut script),
            _ => {
                let page = nat64.list(script.byte().into(), 3, None, now);
                assert!(page.sessions.len() <= 3);
            }
        }
        if step & 7 < 4 || step & 15 == 6 {
            nat64.handle_input(&last, &mut out, now);
            check(&out);
            if let Some(packet) = out.iter().next() {
                last = packet.to_vec();
            }
        }
        hear(&mut nat64, &mut told);
    }
    for _ in 0..4 {
        now = now + Duration::from_secs(8000);
        nat64.handle_timeout(now, &mut out);
        check(&out);
        hear(&mut nat64, &mut told);
    }
    assert_eq!((told.sessions, told.bindings), (0, 0));
    assert_eq!(nat64.poll_timeout(), None);
}

/// The plan, and others that take sessions away, make room scarce, or change nothing of them.
static PLANS: LazyLock<[Nat64Plan; 4]> = LazyLock::new(plans);

fn plans() -> [Nat64Plan; 4] {
    let with = |more| Nat64Plan { events: Wanted::Sessions, ..plan(more) };
    let offline = Nat64Plan { pool4: Vec::new(), ..with("") };
    [
        with(""),
        offline,
        with("ports = \"40960-40975\"\nmax_sessions = 16\n[nat64.limits]\nsessions = 16\n"),
        with("prefix = [\"2001:db8:64::/96\", \"64:ff9b::/96\"]\nfiltering = \"endpoint-independent\"\n"),
    ]
}

/// What was told agrees with what is there.
fn hear(nat64: &mut Nat64, told: &mut Told) {
    while let Some(event) = nat64.poll_event() {
        match event.kind {
            EventKind::SessionCreated(..) => told.sessions += 1,
            EventKind::SessionRemoved(..) => told.sessions -= 1,
            EventKind::BindingCreated(..) => told.bindings += 1,
            EventKind::BindingRemoved(..) => told.bindings -= 1,
            _ => {}
        }
    }
    let status = nat64.status();
    let sum = |counts: sixgate_engine::status::Sessions| counts.tcp + counts.udp + counts.icmp;
    assert_eq!((told.sessions, told.bindings), (sum(status.sessions), sum(status.bindings)));
    assert!(told.bindings <= told.sessions, "a binding ends with its last session");
    assert_eq!(status.events_lost, 0);
}

/// The next daemon goes on with what was saved; under another configuration it may have to refuse.
fn restart(nat64: &mut Nat64, plan: &Nat64Plan, told: &mut Told, now: Instant) {
    let saved = nat64.save();
    *nat64 = Nat64::new(plan, [8; 32]);
    *told = Told::default();
    // Other prefixes, or sessions from before, are refused as a whole.
    let _ = nat64.restore(&saved, now);
    hear(nat64, told);
}

fn from_inside(script: &mut Script<'_>) -> Vec<u8> {
    let choice = script.byte();
    let protocol = [6, 17, 58, script.byte()][usize::from(choice & 3)];
    let mut upper = script.piece().to_vec();
    shape(protocol, choice, &mut upper);
    v6(client(choice >> 2), embedded(SERVERS[usize::from(choice >> 4 & 3)]), protocol, 64 - (choice >> 6), &upper)
}

fn from_outside(script: &mut Script<'_>, nat64: &Nat64) -> Vec<u8> {
    let choice = script.byte();
    let protocol = [6, 17, 1, script.byte()][usize::from(choice & 3)];
    let mut upper = script.piece().to_vec();
    shape(protocol, choice, &mut upper);
    let tables = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp][usize::from(choice & 3) % 3];
    let inside = TransportV6 { address: client(choice >> 2), port: 5000 };
    if let Some(mapped) = nat64.mapped(tables, inside) {
        let at = if protocol == 1 { 4 } else { 2 };
        if let Some(port) = upper.get_mut(at..at + 2) {
            port.copy_from_slice(&mapped.port.to_be_bytes());
        }
    }
    v4(SERVERS[usize::from(choice >> 4 & 3)], POOL, protocol, 0, &upper)
}

/// Headers that pass for such, mostly of a few flows.
fn shape(protocol: u8, choice: u8, upper: &mut Vec<u8>) {
    let port = if choice & 64 == 0 { [0x13, 0x88] } else { [0x13, 0x89] };
    match protocol {
        6 => {
            upper.resize(upper.len().max(20), 0);
            upper[..2].copy_from_slice(&port);
            upper[12] = 0x50;
        }
        17 => {
            upper.resize(upper.len().max(8), 0);
            let length = upper.len() as u16;
            upper[..2].copy_from_slice(&port);
            upper[4..6].copy_from_slice(&length.to_be_bytes());
        }
        1 | 58 => {
            upper.resize(upper.len().max(8), 0);
            if choice & 128 == 0 {
                upper[0] = if protocol == 58 { 128 } else { 0 };
                upper[4..6].copy_from_slice(&port);
            }
        }
        _ => {}
    }
}

fn error_about(last: &[u8], script: &mut Script<'_>) -> Vec<u8> {
    let mut message = vec![script.byte(), script.byte() & 15, 0, 0];
    message.extend(script.take(4));
    message.resize(8, 0);
    message.extend(last);
    match last.first().map(|first| first >> 4) {
        Some(4) => v4(SERVERS[0], POOL, 1, 0, &message),
        _ => v6(client(0), embedded(SERVERS[0]), 58, 64, &message),
    }
}

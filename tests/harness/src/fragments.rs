//! Fragments in any order, of any size, overlapping or not, some never coming: what comes out whole is what was cut, and
//! nothing stays.
use sixgate_engine::nat64::{Nat64, Transmit};
use sixgate_engine::time::{Duration, Instant};

use crate::packet::{PLAN, POOL, SERVERS, check, client, embedded, v4, v6};
use crate::script::Script;

pub(crate) fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let (mut nat64, mut out) = (Nat64::new(&PLAN, [7; 32]), Transmit::new());
    let mut now = Instant::from_nanos(1);
    for _ in 0..64 {
        if script.is_over() {
            break;
        }
        let choice = script.byte();
        let offset = script.word() & 0x1fff;
        let data = script.piece();
        let protocol = [17, 6, 58, 1][usize::from(choice & 3)];
        let more = choice & 4 != 0;
        let packet = match choice & 8 {
            0 => {
                let mut part = vec![protocol, 0];
                part.extend((offset << 3 | u16::from(more)).to_be_bytes());
                part.extend([0, 0, 0, choice >> 6]);
                part.extend(data);
                v6(client(0), embedded(SERVERS[0]), 44, 64, &part)
            }
            _ => v4(SERVERS[usize::from(choice >> 7)], POOL, protocol, offset | u16::from(more) << 13, data),
        };
        nat64.handle_input(&packet, &mut out, now);
        check(&out);
        if choice & 16 != 0 {
            now = now + Duration::from_millis(script.byte().into());
            nat64.handle_timeout(now, &mut out);
        }
    }
    whole(&mut script, &mut nat64, now);
    // FRAGMENT_MIN is over, and so is every session.
    for _ in 0..3 {
        now = now + Duration::from_secs(8000);
        nat64.handle_timeout(now, &mut out);
        check(&out);
    }
    assert_eq!(nat64.poll_timeout(), None);
}

/// A datagram cut into parts that come in any order arrives as it was, whatever came before.
fn whole(script: &mut Script<'_>, nat64: &mut Nat64, now: Instant) {
    let (order, size) = (script.byte(), usize::from(script.byte() % 8 + 1) * 8);
    let data = script.rest();
    let mut upper = vec![0x17, 0x70, 0, 53];
    upper.extend((8 + data.len() as u16).to_be_bytes());
    upper.extend([0, 0]);
    upper.extend(data);
    if upper.len() > 1200 {
        return;
    }
    let packet = v6(client(1), embedded(SERVERS[1]), 17, 64, &upper);
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for (number, part) in packet[40..].chunks(size).enumerate() {
        let start = number * size;
        let more = start + part.len() < upper.len();
        let mut bytes = vec![17, 0];
        bytes.extend((start as u16 | u16::from(more)).to_be_bytes());
        bytes.extend([0xff, 0, 0, 1]);
        bytes.extend(part);
        parts.push(v6(client(1), embedded(SERVERS[1]), 44, 64, &bytes));
    }
    // A store that is full refuses more parts than it has room for.
    if parts.len() > 16 || parts.len() < 2 {
        return;
    }
    let count = parts.len();
    parts.rotate_left(usize::from(order) % count);
    let mut out = Transmit::new();
    let mut arrived = Vec::new();
    for part in &parts {
        nat64.handle_input(part, &mut out, now);
        check(&out);
        arrived.extend(out.iter().map(<[u8]>::to_vec));
    }
    // What came in small parts leaves in small parts, in order.
    let whole: Vec<u8> = arrived.iter().flat_map(|packet| &packet[20..]).copied().collect();
    assert_eq!(whole.get(8..), Some(data), "{} packets of one in {count} parts", arrived.len());
}

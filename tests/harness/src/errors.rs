//! ICMP errors whose outer headers are right and which quote anything: packets of live sessions, bent.
use sixgate_engine::nat64::Transmit;
use sixgate_engine::time::Instant;

use crate::packet::{PLAN, POOL, SERVERS, busy, check, client, embedded, v4, v6};
use crate::script::Script;

pub(crate) fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let now = Instant::from_nanos(1);
    let (mut nat64, sent) = busy(&PLAN, now);
    let before = nat64.status();
    let mut out = Transmit::new();
    while !script.is_over() {
        let choice = script.byte();
        let mut message = vec![script.byte(), script.byte(), 0, 0];
        message.extend(script.take(4));
        message.resize(8, 0);
        // Something that a session has sent, with other bytes in places, cut or made longer.
        let quoted = &sent[usize::from(choice & 3) % 3];
        let mut quote = match choice & 4 {
            0 => quoted.clone(),
            // What the host inside would have sent: the same in IPv6.
            _ => v6(client(0), embedded(SERVERS[0]), [6, 17, 58][usize::from(choice & 3) % 3], 60, &quoted[20..]),
        };
        for _ in 0..choice >> 6 {
            let (at, to) = (usize::from(script.byte()), script.byte());
            if let Some(byte) = quote.get_mut(at) {
                *byte = to;
            }
        }
        if choice & 8 != 0 {
            quote.truncate(script.byte().into());
        }
        if choice & 16 != 0 {
            quote.extend(script.piece());
        }
        message.extend(quote);
        let packet = match choice & 32 {
            0 => v4(SERVERS[usize::from(choice & 1)], POOL, 1, 0, &message),
            _ => v6(client(choice & 1), embedded(SERVERS[0]), 58, 64, &message),
        };
        nat64.handle_input(&packet, &mut out, now);
        check(&out);
    }
    // RFC 5508 REQ-6, RFC 4787 REQ-12: errors change no session. What is no error may be a query that makes one.
    let after = nat64.status();
    assert_eq!((after.sessions.tcp, after.sessions.udp), (before.sessions.tcp, before.sessions.udp));
}

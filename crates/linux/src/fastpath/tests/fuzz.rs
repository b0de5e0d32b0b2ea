//! Random packets through program and engine: what the program translates, the engine translates likewise.
use std::net::{Ipv4Addr, Ipv6Addr};

use sixgate_wire::checksum::{Sum, pseudo_v4, pseudo_v6};

use super::*;
use crate::testing::in_namespace;

/// Cases in the ordinary run; `SIXGATE_FUZZ_CASES` asks for more.
const CASES: u64 = 20_000;
const SEED: u64 = 0x6474;

/// A source of packets, some of them damaged.
pub(crate) struct Traffic {
    state: u64,
    pref64: sixgate_wire::rfc6052::Pref64,
    pool: Ipv4Addr,
}

impl Traffic {
    pub(crate) fn new(seed: u64, plan: &Nat64Plan) -> Self {
        let pref64 = sixgate_wire::rfc6052::Pref64::new(plan.pref64.network(), plan.pref64.prefix_len()).unwrap();
        Self { state: seed ^ 0x9e37_79b9_7f4a_7c15, pref64, pool: plan.pool4[0] }
    }

    /// xorshift64*.
    pub(crate) fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    pub(super) fn session(&mut self, rig: &Rig, protocol: u8) -> Session {
        let server = Ipv4Addr::from(0x0800_0000 | self.next() as u32 & 0x00ff_ffff);
        let client = Ipv6Addr::from(0x2001_0db8_0001_u128 << 80 | u128::from(self.next()));
        let server_port = if protocol == 1 { 0 } else { self.next() as u16 };
        Session {
            protocol,
            client: (client, self.next() as u16),
            client_mac: None,
            server_v6: self.pref64.embed(server),
            mapped: (self.pool, self.next() as u16 | 1024),
            server: (server, server_port),
            lan: rig.lan,
            uplink: rig.uplink,
        }
    }

    fn upper(&mut self, protocol: u8, source: u16, destination: u16, from_v6: bool) -> Vec<u8> {
        let most = if self.below(4) == 0 { 1500 } else { 200 };
        let length = self.below(most) as usize;
        let data = self.bytes(length);
        match protocol {
            6 => {
                let options = 4 * self.below(6) as usize;
                let mut upper = [source.to_be_bytes(), destination.to_be_bytes()].concat();
                upper.extend(self.bytes(8));
                upper.extend([(5 + options as u8 / 4) << 4, 0x10 | self.next() as u8 & 0xe8, 1, 2, 0, 0, 0, 0]);
                upper.extend(vec![1; options]);
                upper.extend(data);
                upper
            }
            17 => {
                let length = (8 + data.len()) as u16;
                let words = [source, destination, length, 0].map(u16::to_be_bytes).concat();
                [words, data].concat()
            }
            _ => {
                let request = self.below(2) == 0;
                let kind = match (from_v6, request) {
                    (true, true) => 128,
                    (true, false) => 129,
                    (false, true) => 8,
                    (false, false) => 0,
                };
                let identifier = if from_v6 { source } else { destination };
                let mut upper = vec![kind, 0, 0, 0];
                upper.extend(identifier.to_be_bytes());
                upper.extend(self.bytes(2));
                upper.extend(data);
                upper
            }
        }
    }

    /// A packet from the client that is as it should be.
    pub(crate) fn plain_v6(&mut self, session: &Session) -> Vec<u8> {
        let upper = self.upper(session.protocol, session.client.1, session.server.1, true);
        let protocol = if session.protocol == 1 { 58 } else { session.protocol };
        let class = self.next() as u8;
        let mut packet = vec![0x60 | class >> 4, class << 4 | self.below(16) as u8, self.next() as u8, 1];
        packet.extend((upper.len() as u16).to_be_bytes());
        packet.extend([protocol, 3 + self.below(250) as u8]);
        packet.extend(session.client.0.octets());
        packet.extend(session.server_v6.octets());
        packet.extend(upper);
        let sum = pseudo_v6(session.client.0, session.server_v6, protocol, packet.len() as u32 - 40);
        seal(&mut packet, 40, protocol, sum);
        packet
    }

    /// A packet from the server that is as it should be.
    pub(crate) fn plain_v4(&mut self, session: &Session) -> Vec<u8> {
        let upper = self.upper(session.protocol, session.server.1, session.mapped.1, false);
        let mut packet = vec![0x45, self.next() as u8];
        packet.extend((20 + upper.len() as u16).to_be_bytes());
        packet.extend(self.bytes(2));
        let fragmentable = upper.len() < 1200 && self.below(2) == 0;
        packet.extend([if fragmentable { 0 } else { 0x40 }, 0, 2 + self.below(250) as u8, session.protocol, 0, 0]);
        packet.extend(session.server.0.octets());
        packet.extend(session.mapped.0.octets());
        packet.extend(upper);
        let sum = match session.protocol {
            1 => Sum::ZERO,
            protocol => pseudo_v4(session.server.0, session.mapped.0, protocol, packet.len() as u32 - 20),
        };
        seal(&mut packet, 20, session.protocol, sum);
        seal_v4(&mut packet);
        packet
    }

    /// Changes something: mostly in the headers, sometimes the length, sometimes with the checksum put right again.
    pub(crate) fn damage(&mut self, packet: &mut Vec<u8>) {
        for _ in 0..=self.below(2) {
            let headers = packet.len().min(64) as u64;
            let at = self.below(headers) as usize;
            match self.below(4) {
                0 => packet[at] = self.next() as u8,
                1 => packet[at] ^= 1 << self.below(8),
                2 => packet[at] = [0, 0xff, 0x7f, 1][self.below(4) as usize],
                _ => {
                    let length = self.below(packet.len() as u64 + 8) as usize;
                    packet.resize(length.max(1), 0);
                }
            }
        }
        if packet[0] >> 4 == 4 && packet.len() >= 20 && self.below(2) == 0 {
            seal_v4(packet);
        }
    }
}

fn seal(packet: &mut [u8], start: usize, protocol: u8, pseudo: Sum) {
    let at = start + [(6, 16), (17, 6)].into_iter().find(|(other, _)| *other == protocol).map_or(2, |(_, at)| at);
    packet[at..at + 2].fill(0);
    let checksum = match (protocol, pseudo.bytes(&packet[start..]).checksum()) {
        (17, 0) => 0xffff,
        (_, checksum) => checksum,
    };
    packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

pub(crate) fn seal_v4(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let checksum = Sum::ZERO.bytes(&packet[..20]).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Opens the session in the engine; false if it does not want it.
fn open(twin: &mut Twin, traffic: &mut Traffic, rig: &Rig, protocol: u8, now: Instant) -> Option<Session> {
    let wanted = traffic.session(rig, protocol);
    let mut first = traffic.plain_v6(&wanted);
    if protocol == 6 {
        first[40 + 13] = 2;
        // The options may be anything but options that are clamped.
        let sum = pseudo_v6(wanted.client.0, wanted.server_v6, 6, first.len() as u32 - 40);
        seal(&mut first, 40, 6, sum);
    }
    let (verdict, outputs) = twin.handle(&first, now);
    session(rig, verdict, &first, outputs.first()?)
}

#[test]
fn random_packets_fare_alike_in_program_and_engine() {
    in_namespace(|| async {
        let cases = std::env::var("SIXGATE_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
        let mut plan = plan();
        plan.ports = 40_960..=65_535;
        plan.limits.new_sessions_per_second = 1_000_000;
        let time = now();
        let mut rig = Rig::new(&plan);
        let mut twin = Twin::new(&plan);
        let mut traffic = Traffic::new(SEED, &plan);
        let mut sessions = Vec::new();
        while sessions.len() < 60 {
            let protocol = [6, 17, 1][sessions.len() % 3];
            let Some(session) = open(&mut twin, &mut traffic, &rig, protocol, time) else { continue };
            rig.insert(&session);
            sessions.push(session);
        }
        let (mut translated, mut plain) = (0, 0);
        for case in 0..cases {
            let session = sessions[traffic.below(sessions.len() as u64) as usize];
            let mut packet =
                if traffic.below(2) == 0 { traffic.plain_v6(&session) } else { traffic.plain_v4(&session) };
            let is_plain = traffic.below(2) == 0;
            plain += u64::from(is_plain);
            if !is_plain {
                traffic.damage(&mut packet);
            }
            // The kernel takes no shorter ones here; on the wire, the program's look at the end keeps them out.
            if packet.len() < if packet[0] >> 4 == 6 { 40 } else { 20 } {
                continue;
            }
            let before = packet.clone();
            let outcome = rig.run(&packet);
            let (verdict, outputs) = twin.handle(&packet, time);
            if let Outcome::Translated(bytes) = outcome {
                translated += 1;
                assert!(matches!(verdict, Verdict::Translated(_)), "case {case}: {verdict:?} {before:02x?}");
                let expected: Vec<Vec<u8>> = outputs.into_iter().map(normalized).collect();
                assert_eq!([normalized(bytes)][..], expected[..], "case {case}: {before:02x?}");
            }
        }
        // Long packets that grow beyond the MTU are the engine's.
        assert!(translated > plain * 8 / 10, "{translated} of {plain} plain ones and {cases} in all");
    });
}

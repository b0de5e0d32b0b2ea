//! The program in the kernel, packet by packet, side by side with the engine.
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use sixgate_engine::config;
use sixgate_engine::nat64::verdict::{Direction, Verdict};
use sixgate_engine::nat64::{Nat64, Transmit};
use sixgate_engine::plan::{Nat64Plan, plan as planned, preview_facts};
use sixgate_engine::time::Instant;
use sixgate_fastpath::reason::Reason;
use sixgate_wire::mac::MacAddr;

use super::{FastPath, Session, Settings};
use crate::clock::now;
use crate::testing::{self, Told, run};

mod complete;
pub(crate) mod fuzz;
mod hooks;
mod routes;
mod senders;
pub(crate) mod vectors;

const EPOCH: u32 = 1;
const ETHERNET: usize = 14;
/// Hardware address of every link here.
const ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// And of whoever sends to them.
const SENDER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// A configuration for which vectors are written.
const CONFIG: &str = "[wan]\ninterface = \"eth0\"\nipv4 = { address = \"198.51.100.1/24\" }\n[nat64]\n";

pub(crate) fn plan() -> Nat64Plan {
    let config = config::parse(CONFIG, "test").unwrap();
    let plan = planned(&config, &preview_facts(&config)).nat64.unwrap();
    let router_v6 = Some("2001:db8:1::1".parse().unwrap());
    Nat64Plan { router_v6, mtu_v4: 1500, mtu_v6: 1500, ports: 40_000..=40_000, ..plan }
}

/// What the program made of a packet.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Translated(Vec<u8>),
    Left(Reason),
    /// It is none of the program's business.
    Ignored,
}

/// The program, and the links and routes that it asks the kernel for.
struct Rig {
    fast_path: FastPath,
    lan: u32,
    uplink: u32,
}

impl Rig {
    /// In a network namespace of the test's own.
    fn new(plan: &Nat64Plan) -> Self {
        let [lan, uplink] = ["lan0", "wan0"].map(|name| {
            run(&format!("ip link add {name} address 02:00:00:00:00:01 mtu 65535 type veth peer name {name}-peer"));
            run(&format!("ip link set {name}-peer up"));
            run(&format!("ip link set {name} up"));
            let text = run(&format!("ip -o link show dev {name}"));
            text.split(':').next().unwrap().parse().unwrap()
        });
        run("ip -4 route add default dev wan0");
        run("ip -6 route add default dev lan0");
        for path in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            crate::sysctl::write(path, "1").unwrap();
        }
        let mut fast_path = FastPath::open(Path::new("/nowhere"), 1000).unwrap();
        // The engine counts as one hop, and refuses what has no more than it and the kernel need.
        let settings = Settings { hops: 1, least_hop_limit: 3, least_ttl: 2, ..super::settings(plan, uplink) };
        let settings = Settings { epoch: EPOCH, attended_until: u64::MAX, ..settings };
        fast_path.configure(&settings).unwrap();
        Self { fast_path, lan, uplink }
    }

    fn insert(&mut self, session: &Session) {
        self.fast_path.insert(session, EPOCH, now().as_nanos(), 7).unwrap();
    }

    /// Runs the program on an IP packet that came in by the side of its version.
    fn run(&self, packet: &[u8]) -> Outcome {
        self.run_with(packet, 0, 0)
    }

    fn run_with(&self, packet: &[u8], segment: u32, flags: u32) -> Outcome {
        let (kind, link) = if packet[0] >> 4 == 6 { (0x86dd_u16, self.lan) } else { (0x0800, self.uplink) };
        let mut frame = [&ADDRESS[..], &SENDER.0, &kind.to_be_bytes(), packet].concat();
        // Ethernet's padding, unless it would pass for bytes that are missing.
        if declared_length(packet) == packet.len() {
            frame.resize(frame.len().max(60), 0);
        }
        let before = self.fast_path.counters();
        let (verdict, out) = self.test_run(&frame, link, segment, flags);
        let mut moved = self.fast_path.counters();
        moved.subtract(&before);
        match verdict {
            // TC_ACT_REDIRECT
            7 => {
                assert_eq!(moved.reasons.iter().sum::<u64>(), 0);
                let out = &out[ETHERNET..];
                Outcome::Translated(out[..declared_length(out)].to_vec())
            }
            // TC_ACT_UNSPEC
            u32::MAX => {
                assert_eq!(out, frame, "what is left alone is as it was");
                let reason = moved.reasons.iter().position(|count| *count == 1);
                reason.map_or(Outcome::Ignored, |at| Outcome::Left(Reason::ALL[at]))
            }
            other => panic!("verdict {other}"),
        }
    }

    fn test_run(&self, frame: &[u8], link: u32, segment: u32, flags: u32) -> (u32, Vec<u8>) {
        let program = self.fast_path.program.program(super::PROGRAM).unwrap();
        let aya::programs::Program::SchedClassifier(program) = program else { panic!("another type") };
        let told = Told { link, segment, ..Told::default() };
        let (verdict, out, _) = testing::test_run(program.fd().unwrap().as_fd().as_raw_fd(), frame, told, flags);
        (verdict, out)
    }
}

/// The length that a packet says of itself.
pub(crate) fn declared_length(packet: &[u8]) -> usize {
    let (length, at) = if packet[0] >> 4 == 6 { (40, 4) } else { (0, 2) };
    length + packet.get(at..at + 2).map_or(0, |bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
}

/// The engine, whose answers are right.
struct Twin {
    engine: Nat64,
    out: Transmit,
}

impl Twin {
    fn new(plan: &Nat64Plan) -> Self {
        Self { engine: Nat64::new(plan, [7; 32]), out: Transmit::new() }
    }

    fn handle(&mut self, packet: &[u8], now: Instant) -> (Verdict, Vec<Vec<u8>>) {
        let verdict = self.engine.handle_input(packet, &mut self.out, now);
        (verdict, self.out.iter().map(<[u8]>::to_vec).collect())
    }
}

/// The session of a packet and of what the engine has made of it; none if that was not one of its own.
fn session(rig: &Rig, verdict: Verdict, packet: &[u8], translated: &[u8]) -> Option<Session> {
    let Verdict::Translated(direction) = verdict else { return None };
    let (v6, v4) = if direction == Direction::V6ToV4 { (packet, translated) } else { (translated, packet) };
    let (upper_v6, upper_v4) = (v6.get(40..48)?, v4.get(20..28)?);
    let port = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let v6_address = |at: usize| std::net::Ipv6Addr::from(*v6[at..].first_chunk::<16>().unwrap());
    let v4_address = |at: usize| std::net::Ipv4Addr::from(*v4[at..].first_chunk::<4>().unwrap());
    let is_plain = v4[0] == 0x45 && v4[6] & 0x3f == 0 && v4[7] == 0;
    if !is_plain || !matches!(v6[6], 6 | 17 | 58) || v6[6] == 58 && !matches!(v6[40], 128 | 129) {
        return None;
    }
    let from_client = direction == Direction::V6ToV4;
    let (client_at, server_at) = if from_client { (8, 24) } else { (24, 8) };
    let (mapped_at, server_v4_at) = if from_client { (12, 16) } else { (16, 12) };
    let (inside, outside) = if from_client { (0, 2) } else { (2, 0) };
    let (client, mapped, server) = if v6[6] == 58 {
        (port(upper_v6, 4), port(upper_v4, 4), 0)
    } else {
        (port(upper_v6, inside), port(upper_v4, inside), port(upper_v4, outside))
    };
    Some(Session {
        protocol: v4[9],
        client: (v6_address(client_at), client),
        client_mac: None,
        server_v6: v6_address(server_at),
        mapped: (v4_address(mapped_at), mapped),
        server: (v4_address(server_v4_at), server),
        lan: rig.lan,
        uplink: rig.uplink,
    })
}

/// Takes out what nobody decides: the Identification of packets to IPv4, and with it the header's checksum.
pub(crate) fn normalized(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        assert!(sixgate_wire::checksum::Sum::ZERO.bytes(&packet[..20]).is_valid(), "header checksum");
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

//! The programs in the kernel, packet by packet, side by side with the translator.
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};

use sixgate_engine::clat::Pref64;
use sixgate_engine::clat::translator::{Translator, Verdict};
use sixgate_engine::time::Instant;
use sixgate_engine::xlat::transmit::{Offload, Transmit};
use sixgate_wire::checksum::Sum;

use super::*;
use crate::fastpath::Session;
use crate::fastpath::tests::fuzz::{Traffic as Packets, seal_v4};
use crate::fastpath::tests::vectors::{Step, folder, parse};
use crate::fastpath::tests::{declared_length, normalized, plan as nat64_plan};
use crate::testing::{Told, in_namespace, run, test_run};

const ETHERNET: usize = 14;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const IDENTIFIER: u16 = 4242;
/// Packets for each prefix in the ordinary run; `SIXGATE_FUZZ_CASES` asks for more.
const CASES: u64 = 4_000;
/// A prefix of each length, and the well-known one.
const PREFIXES: [(&str, u8); 7] = [
    ("64:ff9b::", 96),
    ("2001:db8:64::", 96),
    ("2001:db8:64:65::", 64),
    ("2001:db8:64:6500::", 56),
    ("2001:db8:64::", 48),
    ("2001:db8:6500::", 40),
    ("2001:db8::", 32),
];
const SERVER: Ipv4Addr = Ipv4Addr::new(8, 8, 4, 4);

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Translated(Vec<u8>),
    Left,
    /// It is none of the programs' business.
    Ignored,
}

struct Rig {
    path: ClatPath,
    translator: Translator,
    plan: ClatPlan,
    out: Transmit,
}

impl Rig {
    /// In a network namespace of the test's own.
    fn new(prefix: &str, length: u8, shared: bool) -> Self {
        let [device, link] = ["clat0", "wan0"].map(|name| {
            let (exists, text) = crate::testing::attempt(&format!("ip -o link show dev {name}"));
            let text = if exists {
                text
            } else {
                run(&format!("ip link add {name} address 02:00:00:00:00:01 mtu 65535 type veth peer name {name}-peer"));
                run(&format!("ip link set {name}-peer up"));
                run(&format!("ip link set {name} up"));
                run(&format!("ip -o link show dev {name}"))
            };
            text.split(':').next().unwrap().parse().unwrap()
        });
        run("ip -6 route replace default dev wan0");
        crate::sysctl::write("net/ipv6/conf/all/forwarding", "1").unwrap();
        let plan = ClatPlan {
            link,
            interface: "wan0".to_owned(),
            device,
            address: "2001:db8:1:2:3:4:5:6".parse().unwrap(),
            shared,
            pref64: Pref64::new(prefix.parse().unwrap(), length).unwrap(),
            mtu: 1500,
            active: true,
            fast_path: true,
        };
        let mut path = ClatPath::open().unwrap();
        // The engine counts as one hop. A frame that is put in by hand has a link header.
        let settings = Settings { hops: 1, least_hops: 2, link_header: 14, ..settings(&plan, IDENTIFIER) };
        path.configure(&settings).unwrap();
        let translator = Translator::new(&plan, IDENTIFIER, [7; 32]);
        Self { path, translator, plan, out: Transmit::new() }
    }

    /// Runs the program of its version on an IP packet.
    fn run(&self, packet: &[u8]) -> Outcome {
        let (kind, name, link) = match packet[0] >> 4 {
            6 => (0x86dd_u16, clat::IN, self.plan.link),
            _ => (0x0800, clat::OUT, self.plan.device),
        };
        let frame = [&MAC[..], &[2, 0, 0, 0, 0, 2], &kind.to_be_bytes(), packet].concat();
        let before = self.path.counters();
        let program = self.path.programs.program(name).unwrap();
        let aya::programs::Program::SchedClassifier(program) = program else { panic!("another type") };
        let fd = program.fd().unwrap().as_fd().as_raw_fd();
        let (verdict, out, _) = test_run(fd, &frame, Told { link, ..Told::default() }, 0);
        let after = self.path.counters();
        match verdict {
            // TC_ACT_REDIRECT
            7 => {
                assert_eq!(after.left, before.left);
                let out = &out[ETHERNET..];
                Outcome::Translated(out[..declared_length(out)].to_vec())
            }
            // TC_ACT_UNSPEC
            u32::MAX => {
                assert_eq!(out, frame, "what is left alone is as it was");
                if after.left > before.left { Outcome::Left } else { Outcome::Ignored }
            }
            other => panic!("verdict {other}"),
        }
    }

    /// What becomes of a packet; what is translated, the translator behind the device translates alike.
    fn compare(&mut self, packet: &[u8], place: &str) -> Outcome {
        let outcome = self.run(packet);
        let now = Instant::from_nanos(1_000_000_000);
        let verdict = self.translator.handle_offloaded(packet, Offload::NONE, &mut self.out, now);
        if let Outcome::Translated(bytes) = &outcome {
            assert_eq!(verdict, Verdict::Translated, "{place}: {packet:02x?}");
            let expected: Vec<Vec<u8>> = self.out.iter().map(|packet| normalized(packet.to_vec())).collect();
            assert_eq!([normalized(bytes.clone())][..], expected[..], "{place}: {packet:02x?}");
        }
        outcome
    }
}

#[test]
fn random_packets_fare_alike_in_programs_and_translator() {
    in_namespace(|| async {
        let cases = std::env::var("SIXGATE_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
        for (prefix, length) in PREFIXES {
            let mut rig = Rig::new(prefix, length, false);
            let mut packets = Packets::new(u64::from(length), &nat64_plan());
            let (mut translated, mut plain) = (0, 0);
            for case in 0..cases {
                let is_global = packets.below(8) > 0;
                let server = if is_global { 0x0800_0000 | packets.next() as u32 >> 8 } else { packets.next() as u32 };
                let server = Ipv4Addr::from(server);
                // What is the client for NAT64 is the server here: a packet comes from there, and one goes there.
                let session = Session {
                    protocol: [6, 17, 1][packets.below(3) as usize],
                    client: (rig.plan.pref64.embed(server), packets.next() as u16),
                    client_mac: None,
                    server_v6: rig.plan.address,
                    mapped: (server, packets.next() as u16),
                    server: (HOST_V4, packets.next() as u16),
                    lan: 0,
                    uplink: 0,
                };
                let from_v6 = packets.below(2) == 0;
                let mut packet = if from_v6 { packets.plain_v6(&session) } else { packets.plain_v4(&session) };
                let is_plain = packets.below(2) == 0;
                plain += u64::from(is_plain);
                if !is_plain {
                    packets.damage(&mut packet);
                }
                // The kernel takes no shorter ones here; on the wire, the program's look at the end keeps them out.
                if packet.len() < if packet[0] >> 4 == 6 { 40 } else { 20 } {
                    continue;
                }
                let outcome = rig.compare(&packet, &format!("/{length} case {case}"));
                translated += u64::from(matches!(outcome, Outcome::Translated(_)));
            }
            // Long packets that grow beyond the MTU and addresses that are no host's are the translator's.
            assert!(translated > plain * 7 / 10, "/{length}: {translated} of {plain} plain ones and {cases} in all");
        }
    });
}

/// The same packet between the CLAT and a server.
fn between(mut packet: Vec<u8>, plan: &ClatPlan) -> Vec<u8> {
    if packet.len() >= 40 && packet[0] >> 4 == 6 {
        packet[8..24].copy_from_slice(&plan.pref64.embed(SERVER).octets());
        packet[24..40].copy_from_slice(&plan.address.octets());
    } else if packet.len() >= 20 && packet[0] >> 4 == 4 {
        let was_valid = Sum::ZERO.bytes(&packet[..20]).is_valid();
        packet[12..16].copy_from_slice(&HOST_V4.octets());
        packet[16..20].copy_from_slice(&SERVER.octets());
        if was_valid {
            seal_v4(&mut packet);
        }
    }
    packet
}

#[test]
fn packets_of_every_vector_come_out_as_from_the_translator_or_are_left_to_it() {
    let (send, receive) = std::sync::mpsc::channel();
    in_namespace(move || async move {
        let mut folders: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.retain(|path| path.is_dir());
        folders.sort();
        let mut rig = Rig::new("64:ff9b::", 96, false);
        let mut all = String::new();
        for path in folders {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let (_, steps) = parse(&fs::read_to_string(path.join("case.txt")).unwrap());
            for (index, step) in steps.into_iter().enumerate() {
                let Step::Input(packet) = step else { continue };
                let packet = between(packet, &rig.plan);
                let place = format!("{name} {}", index + 1);
                let became = match rig.compare(&packet, &place) {
                    Outcome::Translated(_) => "translated",
                    Outcome::Left => "left",
                    Outcome::Ignored => "ignored",
                };
                writeln!(all, "{place}: {became}").unwrap();
            }
        }
        send.send(all).unwrap();
    });
    // Nothing comes where the test is skipped.
    let Ok(all) = receive.recv() else { return };
    let golden = folder().join("clat-fast-path.txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&golden, &all).unwrap();
    }
    assert_eq!(fs::read_to_string(&golden).unwrap_or_default(), all, "BLESS=1 writes clat-fast-path.txt anew");
}

fn udp_v6(source: Ipv6Addr, destination: Ipv6Addr, port: u16) -> Vec<u8> {
    let words = [53, port, 9, 0x1234].map(u16::to_be_bytes).concat();
    let header = [0x60, 0, 0, 0, 0, 9, 17, 64];
    [&header[..], &source.octets(), &destination.octets(), &words, &[1]].concat()
}

#[test]
fn what_is_not_the_clats_is_left_alone() {
    in_namespace(|| async {
        let rig = Rig::new("2001:db8:64::", 96, false);
        let (server, address) = (rig.plan.pref64.embed(SERVER), rig.plan.address);
        assert!(matches!(rig.run(&udp_v6(server, address, 80)), Outcome::Translated(_)));
        let stranger = "2001:db8:9::9".parse().unwrap();
        assert_eq!(rig.run(&udp_v6(stranger, address, 80)), Outcome::Left, "by no PLAT");
        assert_eq!(rig.run(&udp_v6(server, stranger, 80)), Outcome::Ignored, "to somebody else");
        let own_echo = |kind: u8, identifier: u16| {
            let [a, b] = identifier.to_be_bytes();
            let header = [0x60, 0, 0, 0, 0, 8, 58, 64];
            [&header[..], &server.octets(), &address.octets(), &[kind, 0, 1, 2, a, b, 0, 1]].concat()
        };
        assert_eq!(rig.run(&own_echo(129, IDENTIFIER)), Outcome::Left, "the answer to a check");
        assert!(matches!(rig.run(&own_echo(129, 7)), Outcome::Translated(_)));
        let mut rig = Rig::new("2001:db8:64::", 96, true);
        assert_eq!(rig.run(&udp_v6(server, address, 60_999)), Outcome::Left, "the host's own port");
        assert!(matches!(rig.run(&udp_v6(server, address, 61_000)), Outcome::Translated(_)));
        assert_eq!(rig.run(&own_echo(129, 7)), Outcome::Left, "nobody can tell whose it is");
        rig.path.rest();
        assert_eq!(rig.run(&udp_v6(server, address, 61_000)), Outcome::Ignored, "it rests");
        assert_eq!(rig.path.failed(), 0);
    });
}

#[test]
fn programs_run_where_the_plan_says_and_nowhere_after() {
    in_namespace(|| async {
        run("ip tuntap add clat mode tun");
        run("ip link set clat up");
        let index = run("ip -o link show dev clat").split(':').next().unwrap().parse().unwrap();
        let rig = Rig::new("2001:db8:64::", 96, false);
        let plan = ClatPlan { device: index, ..rig.plan };
        for kind in [Hook::Tcx, Hook::Clsact] {
            if kind == Hook::Tcx && Hook::best() != Hook::Tcx {
                continue;
            }
            let mut path = ClatPath::open().unwrap();
            path.hooks.iter_mut().for_each(|hooks| hooks.wanted = Some(kind));
            path.follow(&plan, IDENTIFIER).unwrap();
            path.follow(&plan, IDENTIFIER).unwrap();
            assert_eq!(path.hook(), Some(kind));
            path.rest();
            assert_eq!(path.hook(), None);
        }
        let filters = run("tc filter show dev wan0 ingress") + &run("tc filter show dev clat egress");
        assert!(!filters.contains("clat_"), "{filters}");
    });
}

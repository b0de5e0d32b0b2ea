//! What goes past rules and routing, packet by packet, and in which order programs see packets.
use std::net::Ipv6Addr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use aya::maps::HashMap;
use sixgate_engine::npt::NptPlan;

use super::*;
use crate::clock::now;
use crate::fastpath::FastPath;
use crate::npt::Npt;
use crate::testing::{Told, in_namespace, run, test_run, wire};

const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const NEXT: [u8; 6] = [2, 0, 0, 0, 0, 3];
const ON_OUT: [u8; 6] = [2, 0, 0, 0, 0, 4];
const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);
const PORTS: [u16; 2] = [40_000, 443];
const LONGEST: usize = 200;
const HOP_LIMIT: usize = 14 + 7;
const REDIRECTED: u32 = 7;
const LEFT: u32 = u32::MAX;
const HOUR: u64 = 3_600_000_000_000;

/// The programs with one flow that they know.
struct Rig {
    flows: Flows,
    near: u32,
    far: u32,
}

/// What is told of a flow.
#[derive(Clone, Copy)]
struct Known {
    epoch: u32,
    learnt_at: u64,
    until: u64,
    held_until: u64,
}

impl Rig {
    fn new() -> Self {
        let [near, far] = wire(["near0", "far0"]);
        let mut flows = Flows::open(100).unwrap();
        flows.begin_epoch().unwrap();
        let mut rig = Self { flows, near, far };
        let until = now().as_nanos() + HOUR;
        rig.learn(Known { epoch: 1, learnt_at: until, until, held_until: 0 });
        rig
    }

    fn learn(&mut self, told: Known) {
        let mut value = Vec::new();
        for number in [told.learnt_at, told.until, told.held_until] {
            value.extend(number.to_ne_bytes());
        }
        for number in [told.epoch, self.near, self.near, LONGEST as u32] {
            value.extend(number.to_ne_bytes());
        }
        value.extend([SENDER, NEXT, ON_OUT].concat());
        value.extend([0; 6]);
        let value: [u8; 64] = value.try_into().unwrap();
        for protocol in [6, 17] {
            let ports = PORTS.map(u16::to_be_bytes).concat();
            let key = [&CLIENT.octets()[..], &SERVER.octets(), &ports, &[protocol, 0, 0, 0]].concat();
            let key: [u8; 40] = key.try_into().unwrap();
            let map = self.flows.programs.map_mut(flow::FLOWS).unwrap();
            HashMap::<_, [u8; 40], [u8; 64]>::try_from(map).unwrap().insert(key, value, 0).unwrap();
        }
    }

    /// The verdict, the frame, and the reason why it was left.
    fn run(&self, frame: &[u8], told: Told) -> (u32, Vec<u8>, Option<Reason>) {
        let program: &SchedClassifier = self.flows.programs.program(flow::TAKE).unwrap().try_into().unwrap();
        let before = self.flows.counters();
        let (verdict, out, _) = test_run(program.fd().unwrap().as_fd().as_raw_fd(), frame, told, 0);
        let after = self.flows.counters();
        let moved = Reason::ALL.into_iter().zip(before.reasons.iter().zip(after.reasons));
        let reason = moved.filter(|(_, (before, after))| *before != after).map(|(reason, _)| reason).next();
        assert_eq!(after.packets - before.packets, u64::from(reason.is_none()), "counted once, here or there");
        (verdict, out, reason)
    }

    fn ensure_left(&self, frame: &[u8], told: Told, expected: Reason) {
        let (verdict, out, reason) = self.run(frame, told);
        assert_eq!((verdict, reason), (LEFT, Some(expected)));
        assert_eq!(out, frame, "{expected:?}");
    }

    fn here(&self) -> Told {
        Told { link: self.near, ..Told::default() }
    }
}

fn frame(next_header: u8, upper: &[u8]) -> Vec<u8> {
    let mut frame = [ROUTER, SENDER].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(u16::try_from(upper.len()).unwrap().to_be_bytes());
    frame.extend([next_header, 64]);
    frame.extend(CLIENT.octets());
    frame.extend(SERVER.octets());
    frame.extend(upper);
    frame
}

fn udp(payload: usize) -> Vec<u8> {
    let length = u16::try_from(8 + payload).unwrap();
    let mut upper = [PORTS[0], PORTS[1], length, 0x1234].map(u16::to_be_bytes).concat();
    upper.resize(8 + payload, 7);
    upper
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut upper = PORTS.map(u16::to_be_bytes).concat();
    upper.extend([0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, flags, 1, 0, 0, 0, 0, 0]);
    upper
}

#[test]
fn a_plain_packet_of_a_known_flow_leaves_as_the_one_before_did() {
    in_namespace(|| async {
        let rig = Rig::new();
        for sent in [frame(17, &udp(10)), frame(6, &tcp(0x10)), frame(17, &udp(LONGEST - 48))] {
            let (verdict, out, reason) = rig.run(&sent, rig.here());
            assert_eq!((verdict, reason), (REDIRECTED, None));
            let mut expected = sent.clone();
            expected[..6].copy_from_slice(&NEXT);
            expected[6..12].copy_from_slice(&ON_OUT);
            expected[HOP_LIMIT] -= 1;
            assert_eq!(out, expected);
        }
        assert_eq!(rig.flows.counters().bytes, (40 + 18) + (40 + 20) + LONGEST as u64);
    });
}

#[test]
fn everything_else_passes_rules_and_routing_untouched() {
    in_namespace(|| async {
        let mut rig = Rig::new();
        let here = rig.here();
        let plain = frame(17, &udp(10));
        let changed = |at: usize, value: u8| {
            let mut frame = plain.clone();
            frame[at] = value;
            frame
        };
        for flags in [0x02, 0x12, 0x11, 0x04, 0x14] {
            rig.ensure_left(&frame(6, &tcp(flags)), here, Reason::TcpFlags);
        }
        // The connection is closing now, also for packets without flags.
        rig.ensure_left(&frame(6, &tcp(0x10)), here, Reason::Closing);
        rig.ensure_left(&changed(11, 9), here, Reason::OtherSender);
        rig.ensure_left(&plain, Told { link: rig.far, ..here }, Reason::OtherSender);
        rig.ensure_left(&changed(HOP_LIMIT, 1), here, Reason::HopLimit);
        rig.ensure_left(&changed(HOP_LIMIT, 0), here, Reason::HopLimit);
        rig.ensure_left(&changed(14 + 39, 9), here, Reason::Unknown);
        rig.ensure_left(&changed(14 + 43, 9), here, Reason::Unknown);
        rig.ensure_left(&frame(17, &udp(LONGEST - 47)), here, Reason::TooBig);
        for header in [0, 43, 44, 60, 58, 50] {
            let upper = [&[17, 0, 0, 0, 0, 0, 0, 0][..], &udp(10)].concat();
            rig.ensure_left(&frame(header, &upper), here, Reason::Protocol);
        }
        rig.ensure_left(&changed(14, 0x40), here, Reason::Malformed);
        rig.ensure_left(&changed(14 + 5, 17), here, Reason::Malformed);
        rig.ensure_left(&changed(14 + 5, 19), here, Reason::Malformed);
        rig.ensure_left(&frame(17, &[0; 7]), here, Reason::Malformed);
        let later = now().as_nanos() + HOUR;
        let known = Known { epoch: 1, learnt_at: later, until: later, held_until: 0 };
        for (told, reason) in [
            (Known { until: 1, ..known }, Reason::Due),
            (Known { held_until: later, ..known }, Reason::Closing),
            (Known { epoch: 2, ..known }, Reason::Changed),
            (Known { learnt_at: 1, ..known }, Reason::Changed),
        ] {
            rig.learn(told);
            rig.ensure_left(&plain, here, reason);
        }
        rig.learn(known);
        assert_eq!(rig.run(&plain, here).2, None);
        // Whatever the kernel tells of links and routes, and whatever the daemon tells of rules.
        rig.learn(Known { learnt_at: now().as_nanos(), ..known });
        run("ip -6 route add 2001:db8:77::/48 dev near0");
        rig.ensure_left(&plain, here, Reason::Changed);
        rig.learn(known);
        rig.flows.begin_epoch().unwrap();
        rig.ensure_left(&plain, here, Reason::Changed);
    });
}

#[test]
fn packets_are_seen_behind_prefix_translation_and_leave_before_it() {
    in_namespace(|| async {
        let [near, _] = wire(["near0", "far0"]);
        let link = (near, "near0".to_owned());
        let nowhere = Path::new("/nowhere");
        let programs = |direction| -> Vec<String> {
            let (_, programs) = SchedClassifier::query_tcx("near0", direction).unwrap();
            programs.iter().map(|program| program.name_as_str().unwrap().to_owned()).collect()
        };
        let mut flows = Flows::open(100).unwrap();
        assert!(flows.attach(std::slice::from_ref(&link)).is_empty());
        if flows.hook() == Some(Hook::Clsact) {
            return;
        }
        // Whatever comes first.
        let mut npt = Npt::open(nowhere).unwrap();
        assert!(npt.apply(&NptPlan { uplink: link.clone(), lans: Vec::new(), pairs: Vec::new() }).is_empty());
        let mut fast_path = FastPath::open(nowhere, 10).unwrap();
        assert!(fast_path.attach(std::slice::from_ref(&link)).is_empty());
        for _ in 0..2 {
            let (ingress, egress) = (programs(TcAttachType::Ingress), programs(TcAttachType::Egress));
            assert_eq!(ingress.last().unwrap(), flow::IN, "{ingress:?}");
            assert_eq!((ingress.len(), egress), (3, vec![flow::OUT.to_owned(), "npt_out".to_owned()]));
            flows.end();
            assert_eq!(programs(TcAttachType::Egress), ["npt_out"]);
            flows = Flows::open(100).unwrap();
            assert!(flows.attach(std::slice::from_ref(&link)).is_empty());
        }
    });
}

#[test]
fn filters_of_clsact_come_last_and_go() {
    in_namespace(|| async {
        let [near, _] = wire(["near0", "far0"]);
        let link = [(near, "near0".to_owned())];
        let mut flows = Flows::open(100).unwrap();
        flows.hooks.iter_mut().for_each(|hooks| hooks.wanted = Some(Hook::Clsact));
        assert!(flows.attach(&link).is_empty());
        assert_eq!(flows.hook(), Some(Hook::Clsact));
        for (side, priority, name) in [("ingress", "pref 61440", flow::IN), ("egress", "pref 16384", flow::OUT)] {
            let filters = run(&format!("tc filter show dev near0 {side}"));
            assert!(filters.contains(priority) && filters.contains(name), "{filters}");
        }
        flows.end();
        assert_eq!(run("tc filter show dev near0 ingress").trim(), "");
    });
}

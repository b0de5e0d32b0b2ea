//! The programs in the kernel, packet by packet, side by side with the engine.
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::path::Path;

use sixgate_engine::npt::{Pair, translate_inbound, translate_outbound};

use super::*;
use crate::testing::{Told, in_namespace, run, test_run};

const ETHERNET: usize = 14;

fn pair(inside: &str, outside: Option<&str>) -> Pair {
    Pair { inside: inside.parse().unwrap(), outside: outside.map(|net| net.parse().unwrap()) }
}

fn pairs() -> Vec<Pair> {
    vec![
        pair("fd00:1:2::/48", Some("2001:db8:1::/48")),
        pair("fd00:a:b:c::/64", Some("2001:db8:a:b::/64")),
        pair("fd00:a:b:d:21::/80", Some("2001:db8:a:c:31::/80")),
        pair("fd00:a:b:e:1000::/76", Some("2001:db8:a:d:2000::/76")),
        pair("fd00:a:b:f:1:2:3:0/112", Some("2001:db8:a:e:5:6:7:0/112")),
        pair("fd00:9::/64", None),
    ]
}

struct Rig {
    npt: Npt,
    pairs: Vec<Pair>,
}

impl Rig {
    fn new() -> Self {
        run("ip link add wan0 type veth peer name wan1");
        run("ip link set wan0 up");
        let index = run("ip -o link show dev wan0").split(':').next().unwrap().parse().unwrap();
        let mut npt = Npt::open(Path::new("/nowhere")).unwrap();
        let plan = NptPlan { uplink: (index, "wan0".to_owned()), lans: Vec::new(), pairs: pairs() };
        assert!(npt.apply(&plan).is_empty());
        Self { npt, pairs: plan.pairs }
    }

    /// The verdict and the packet that the program makes of a packet.
    fn kernel(&self, program: &str, packet: &[u8]) -> (Verdict, Vec<u8>) {
        let frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd][..], packet].concat();
        let before = self.npt.counters();
        let (action, out, _) = test_run(fd(&self.npt, program), &frame, Told::default(), 0);
        let moved = self.npt.counters().into_iter().find(|(verdict, count)| before[verdict] != *count);
        let verdict = moved.map_or(Verdict::Malformed, |(verdict, _)| verdict);
        assert_eq!(action == 2, verdict.is_drop(), "{verdict:?} {action}");
        (verdict, out[ETHERNET..].to_vec())
    }

    fn both_agree(&self, packet: &[u8]) -> [Verdict; 2] {
        [npt::IN, npt::OUT].map(|program| {
            let mut expected = packet.to_vec();
            let engine = if program == npt::IN { translate_inbound } else { translate_outbound };
            let verdict = engine(&self.pairs, &mut expected);
            let (by_kernel, out) = self.kernel(program, packet);
            assert_eq!(by_kernel, verdict, "{program} {packet:x?}");
            assert_eq!(out, expected, "{program} {packet:x?}");
            verdict
        })
    }
}

fn fd(npt: &Npt, program: &str) -> RawFd {
    let program: &SchedClassifier = npt.programs.program(program).unwrap().try_into().unwrap();
    program.fd().unwrap().as_fd().as_raw_fd()
}

fn header(source: Ipv6Addr, destination: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0x60, 0, 0, 0][..], &length, &[next, 64], &source.octets(), &destination.octets(), payload].concat()
}

/// A generator that is as good as any, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn address(&mut self, pairs: &[Pair]) -> Ipv6Addr {
        let mut host = u128::from(self.next()) << 64 | u128::from(self.next());
        for word in 0..8 {
            if self.below(3) == 0 {
                host |= 0xffff << (16 * word);
            }
        }
        let pair = pairs[usize::try_from(self.below(pairs.len() as u64)).unwrap()];
        let net = match self.below(3) {
            0 => Some(pair.inside),
            1 => pair.outside,
            _ => None,
        };
        net.map_or(Ipv6Addr::from(host), |net| {
            Ipv6Addr::from(u128::from(net.network()) | host & !u128::from(net.netmask()))
        })
    }

    fn packet(&mut self, pairs: &[Pair], depth: u8) -> Vec<u8> {
        let mut payload: Vec<u8> = (0..self.below(40)).map(|_| self.next() as u8).collect();
        let mut next = [6, 17, 58, 59, 58][usize::try_from(self.below(5)).unwrap()];
        if next == 58 && depth > 0 {
            payload =
                [&[self.below(256) as u8 & 0x8f, 0, 0, 0, 0, 0, 0, 0][..], &self.packet(pairs, depth - 1)].concat();
        }
        for _ in 0..self.below(4) {
            let kind = [0, 43, 60, 44][usize::try_from(self.below(4)).unwrap()];
            let (length, offset) = if kind == 44 { (0, self.below(2) as u8 * 8) } else { (self.below(2) as u8, 0) };
            let filling = vec![0; 8 * usize::from(length)];
            payload = [&[next, length, 0, offset, 0, 0, 0, 1][..], &filling, &payload].concat();
            next = kind;
        }
        let mut packet = header(self.address(pairs), self.address(pairs), next, &payload);
        if depth > 0 && self.below(10) == 0 {
            packet.truncate(usize::try_from(40 + self.below(packet.len() as u64 - 39)).unwrap());
        }
        packet
    }
}

#[test]
fn the_kernel_and_the_engine_make_the_same_of_random_packets() {
    in_namespace(|| async {
        let (rig, mut random) = (Rig::new(), Random(0x2545_f491_4f6c_dd1d));
        let mut seen = BTreeMap::<Verdict, u32>::new();
        for _ in 0..20_000 {
            for verdict in rig.both_agree(&random.packet(&rig.pairs, 1)) {
                *seen.entry(verdict).or_default() += 1;
            }
        }
        for verdict in Verdict::ALL.into_iter().filter(|verdict| *verdict != Verdict::Malformed) {
            assert!(seen.contains_key(&verdict), "{verdict:?} was never tried: {seen:?}");
        }
    });
}

#[test]
fn other_prefixes_take_the_place_of_those_before() {
    in_namespace(|| async {
        let mut rig = Rig::new();
        let (inside, server) = ("fd00:a:b:c::5".parse().unwrap(), "2001:db8:ffff::1".parse().unwrap());
        let packet = header(inside, server, 59, &[]);
        let (_, before) = rig.kernel(npt::OUT, &packet);
        let changed = pair("fd00:a:b:c::/64", Some("2001:db8:b0b::/64"));
        let link = run("ip -o link show dev wan0").split(':').next().unwrap().parse().unwrap();
        let plan = NptPlan { uplink: (link, "wan0".to_owned()), lans: Vec::new(), pairs: vec![changed] };
        assert!(rig.npt.apply(&plan).is_empty());
        rig.pairs = plan.pairs;
        let (verdict, after) = rig.kernel(npt::OUT, &packet);
        assert_eq!(verdict, Verdict::Translated);
        assert_ne!(before, after);
        assert_eq!(rig.both_agree(&packet), [Verdict::NotMapped, Verdict::Translated]);
        let old = header(server, "2001:db8:a:b::5".parse().unwrap(), 59, &[]);
        assert_eq!(rig.both_agree(&old), [Verdict::NotMapped; 2], "the old prefix leads nowhere");
        let other = header("fd00:9::5".parse().unwrap(), server, 59, &[]);
        assert_eq!(rig.both_agree(&other), [Verdict::NotMapped; 2], "what is not configured is not translated");
    });
}

#[test]
fn hosts_on_two_lans_reach_each_other_by_their_addresses_outside() {
    in_namespace(|| async {
        let rig = Rig::new();
        let (a, b) = ("fd00:a:b:c::5".parse().unwrap(), "fd00:a:b:d:21::6".parse().unwrap());
        let outbound = |at: usize, address| rig.pairs[at].outbound().unwrap().translate(address).unwrap();
        let packet = header(a, outbound(2, b), 59, &[]);
        let frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd][..], &packet].concat();
        let (_, inside, mark) = test_run(fd(&rig.npt, npt::LAN_IN), &frame, Told { mark: 1, ..Told::default() }, 0);
        assert_eq!(inside[ETHERNET..], header(a, b, 59, &[]), "the firewall sees both inside");
        assert_eq!(mark & 1, 1, "what others have marked stays");
        let (_, out, mark) = test_run(fd(&rig.npt, npt::LAN_OUT), &inside, Told { mark, ..Told::default() }, 0);
        assert_eq!(out[ETHERNET..], header(outbound(1, a), b, 59, &[]));
        assert_eq!(mark, 1);
        let (_, unmarked, _) = test_run(fd(&rig.npt, npt::LAN_OUT), &inside, Told { mark: 1, ..Told::default() }, 0);
        assert_eq!(unmarked, inside, "what was not translated on its way in is not on its way out");
    });
}

//! Replays `tests/vectors/nat64`, whose README describes the format.
use std::fs;
use std::path::Path;

use sixgate_engine::config::Filtering;
use sixgate_engine::nat64::verdict::{Direction, Verdict};
use sixgate_engine::plan::Nat64Plan;
use sixgate_engine::xlat::ChecksumZero;

use crate::packet::sum;
use crate::router::{Router, plan};

/// A packet; None stands for a byte that may be anything.
type Bytes = Vec<Option<u8>>;

#[derive(Debug)]
enum Step {
    Input { packet: Vec<u8>, verdict: String, outputs: Vec<Bytes> },
    Wait { seconds: u64, outputs: Vec<Bytes> },
    Sessions([u64; 3]),
}

struct Case {
    plan: Nat64Plan,
    steps: Vec<Step>,
}

/// Panics on what the README does not describe.
fn parse(text: &str) -> Case {
    let mut case = Case { plan: plan(40_000..=40_000), steps: Vec::new() };
    let mut bytes: Option<Bytes> = None;
    let mut is_input = false;
    // An empty line at the end lets the last bytes find their step.
    for line in text.lines().chain([""]) {
        let line = line.split('#').next().unwrap_or_default();
        if line.starts_with(' ') {
            let bytes = bytes.as_mut().expect("bytes belong to a packet");
            bytes.extend(line.split_whitespace().map(|byte| match byte {
                "??" => None,
                byte => Some(u8::from_str_radix(byte, 16).expect(byte)),
            }));
            continue;
        }
        match (bytes.take(), is_input, case.steps.last_mut()) {
            (Some(packet), true, _) => {
                let packet = packet.into_iter().map(|byte| byte.expect("input is known")).collect();
                case.steps.push(Step::Input { packet, verdict: String::new(), outputs: Vec::new() });
            }
            (Some(packet), false, Some(Step::Input { outputs, .. } | Step::Wait { outputs, .. })) => {
                outputs.push(packet);
            }
            (Some(_), false, _) => panic!("out without in"),
            (None, _, _) => {}
        }
        match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
            ("", "") => {}
            ("in", "") => (bytes, is_input) = (Some(Bytes::new()), true),
            ("out", "") => (bytes, is_input) = (Some(Bytes::new()), false),
            ("verdict", words) => match case.steps.last_mut() {
                Some(Step::Input { verdict, .. }) => *verdict = words.to_owned(),
                other => panic!("verdict after {other:?}"),
            },
            ("wait", seconds) => {
                case.steps.push(Step::Wait { seconds: seconds.parse().unwrap(), outputs: Vec::new() });
            }
            ("sessions", counts) => {
                let counts: Vec<u64> = counts.split(' ').map(|count| count.parse().unwrap()).collect();
                case.steps.push(Step::Sessions(counts.try_into().unwrap()));
            }
            ("set", pair) => set(&mut case.plan, pair),
            (word, _) => panic!("{word:?} is no keyword"),
        }
    }
    case
}

fn set(plan: &mut Nat64Plan, pair: &str) {
    let (key, value) = pair.split_once(' ').expect("set KEY VALUE");
    match key {
        "pref64" => plan.pref64 = value.parse().unwrap(),
        "pool4" => plan.pool4 = vec![value.parse().unwrap()],
        "router-v6" => plan.router_v6 = Some(value.parse().unwrap()),
        "mtu-v6" => plan.mtu_v6 = value.parse().unwrap(),
        "mtu-v4" => plan.mtu_v4 = value.parse().unwrap(),
        "translate-non-global" => plan.translate_non_global.push(value.parse().unwrap()),
        "filtering" => {
            plan.filtering = match value {
                "address-dependent" => Filtering::AddressDependent,
                "endpoint-independent" => Filtering::EndpointIndependent,
                _ => panic!("{value:?} is no kind of filtering"),
            }
        }
        "ports" => {
            let (first, last) = value.split_once('-').expect("ports FIRST-LAST");
            plan.ports = first.parse().unwrap()..=last.parse().unwrap();
        }
        "tos" => plan.policy.tos = Some(value.parse().unwrap()),
        "traffic-class" => plan.policy.traffic_class = Some(value.parse().unwrap()),
        "lowest-ipv6-mtu" => plan.policy.lowest_ipv6_mtu = value.parse().unwrap(),
        "udp-checksum-zero" if value == "drop" => plan.policy.udp_checksum_zero = ChecksumZero::Drop,
        "clamp-mss" => plan.policy.clamp_mss = value.parse().unwrap(),
        _ => panic!("{key:?} is no key"),
    }
}

fn name(verdict: Verdict) -> String {
    match verdict {
        Verdict::Translated(Direction::V6ToV4) => "translated v6-to-v4".to_owned(),
        Verdict::Translated(Direction::V4ToV6) => "translated v4-to-v6".to_owned(),
        Verdict::Hairpinned => "hairpinned".to_owned(),
        Verdict::Held => "held".to_owned(),
        Verdict::Dropped(reason) => format!("dropped {}", reason.name()),
    }
}

fn assert_matches(place: &str, expected: &Bytes, packet: &[u8]) {
    let hex = |bytes: &Bytes| -> String {
        let text: Vec<_> =
            bytes.iter().map(|byte| byte.map_or("??".to_owned(), |byte| format!("{byte:02x}"))).collect();
        text.chunks(16).map(|line| line.join(" ") + "\n").collect()
    };
    let masked: Bytes = packet
        .iter()
        .enumerate()
        .map(|(at, byte)| expected.get(at).is_none_or(Option::is_some).then_some(*byte))
        .collect();
    assert_eq!(hex(&masked), hex(expected), "{place}");
    if packet[0] >> 4 == 4 {
        assert_eq!(sum(&packet[..20]), 0xffff, "{place}: header checksum");
    }
}

fn assert_all_match(place: &str, expected: &[Bytes], packets: &[Vec<u8>]) {
    assert_eq!(packets.len(), expected.len(), "{place}");
    for (expected, packet) in expected.iter().zip(packets) {
        assert_matches(place, expected, packet);
    }
}

#[test]
fn every_vector_comes_out_byte_for_byte() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/nat64");
    let mut cases = 0;
    for folder in fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let case = parse(&fs::read_to_string(folder.join("case.txt")).unwrap());
        let mut router = Router::with(&case.plan);
        for (index, step) in case.steps.iter().enumerate() {
            let place = format!("{} step {}", folder.file_name().unwrap().to_string_lossy(), index + 1);
            match step {
                Step::Wait { seconds, outputs } => assert_all_match(&place, outputs, &router.rest(*seconds)),
                Step::Sessions(expected) => assert_eq!(router.tables().0, *expected, "{place}"),
                Step::Input { packet, verdict, outputs } => {
                    let (was, packets) = router.send(packet);
                    assert_eq!(name(was), *verdict, "{place}");
                    assert_all_match(&place, outputs, &packets);
                }
            }
        }
        cases += 1;
    }
    assert!(cases >= 12, "{cases} cases under {}", root.display());
}

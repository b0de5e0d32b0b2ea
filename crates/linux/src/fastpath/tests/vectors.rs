//! `tests/vectors/nat64` through the program: what it translates, it translates as the engine does.
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sixgate_engine::config::Filtering;
use sixgate_engine::xlat::ChecksumZero;

use super::*;
use crate::testing::in_namespace;

/// What becomes of each packet of each case, one line for each.
const GOLDEN: &str = "fast-path.txt";

pub(crate) enum Step {
    Input(Vec<u8>),
    Wait(u64),
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/nat64")
}

/// The packets of a case and the plan that they are for; what is to come out is the engine's test's matter.
pub(crate) fn parse(text: &str) -> (Nat64Plan, Vec<Step>) {
    let (mut plan, mut steps, mut is_input) = (plan(), Vec::new(), false);
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        if line.starts_with(' ') {
            if let (true, Some(Step::Input(packet))) = (is_input, steps.last_mut()) {
                packet.extend(line.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect(byte)));
            }
            continue;
        }
        is_input = line.trim() == "in";
        match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
            ("in", _) => steps.push(Step::Input(Vec::new())),
            ("wait", seconds) => steps.push(Step::Wait(seconds.parse().unwrap())),
            ("set", pair) => set(&mut plan, pair.split_once(' ').unwrap()),
            _ => {}
        }
    }
    (plan, steps)
}

fn set(plan: &mut Nat64Plan, (key, value): (&str, &str)) {
    match key {
        "pref64" => plan.pref64 = value.parse().unwrap(),
        "pool4" => plan.pool4 = vec![value.parse().unwrap()],
        "router-v6" => plan.router_v6 = Some(value.parse().unwrap()),
        "mtu-v6" => plan.mtu_v6 = value.parse().unwrap(),
        "mtu-v4" => plan.mtu_v4 = value.parse().unwrap(),
        "translate-non-global" => plan.translate_non_global.push(value.parse().unwrap()),
        "filtering" if value == "endpoint-independent" => plan.filtering = Filtering::EndpointIndependent,
        "filtering" => plan.filtering = Filtering::AddressDependent,
        "ports" => {
            let (first, last) = value.split_once('-').unwrap();
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

/// Plays a case; one line for each packet.
fn play(name: &str, text: &str, out: &mut String) {
    let (plan, steps) = parse(text);
    let mut rig = Rig::new(&plan);
    let mut twin = Twin::new(&plan);
    let mut time = now();
    for (index, step) in steps.into_iter().enumerate() {
        let place = format!("{name} {}", index + 1);
        let packet = match step {
            Step::Wait(seconds) => {
                time = time + Duration::from_secs(seconds);
                twin.engine.handle_timeout(time, &mut Transmit::new());
                continue;
            }
            Step::Input(packet) => packet,
        };
        let (verdict, outputs) = twin.handle(&packet, time);
        // A session is here as soon as the engine has it, so that as much as possible is tried.
        if let [translated] = &outputs[..]
            && let Some(session) = session(&rig, verdict, &packet, translated)
        {
            rig.insert(&session);
        }
        let became = match rig.run(&packet) {
            Outcome::Translated(bytes) => {
                assert!(matches!(verdict, Verdict::Translated(_)), "{place}: the engine says {verdict:?}");
                let expected: Vec<Vec<u8>> = outputs.into_iter().map(normalized).collect();
                assert_eq!([normalized(bytes)][..], expected[..], "{place}");
                "translated".to_owned()
            }
            Outcome::Left(reason) => format!("left, {}", reason.name()),
            Outcome::Ignored => "ignored".to_owned(),
        };
        writeln!(out, "{place}: {became}").unwrap();
    }
}

#[test]
fn every_vector_comes_out_of_the_program_as_out_of_the_engine_or_is_left_to_it() {
    let mut folders: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(folders.len() >= 50, "{} cases", folders.len());
    let mut all = String::new();
    for path in folders {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(path.join("case.txt")).unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        in_namespace(move || async move {
            let mut out = String::new();
            play(&name, &text, &mut out);
            send.send(out).unwrap();
        });
        // Nothing comes where the test is skipped.
        let Ok(out) = receive.recv() else { return };
        all += &out;
    }
    let golden = folder().join(GOLDEN);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&golden, &all).unwrap();
    }
    assert_eq!(fs::read_to_string(&golden).unwrap_or_default(), all, "BLESS=1 writes {GOLDEN} anew");
}

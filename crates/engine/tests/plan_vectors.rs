//! Golden texts: every folder in `tests/vectors/plan` is a configuration with facts, and the plan and ruleset that follow.
//!
//! `BLESS=1 cargo test -p sixgate-engine --test plan_vectors` writes them anew; read the difference before it is committed.
use std::fs;
use std::path::{Path, PathBuf};

use sixgate_engine::facts::{Address, AddressState, Facts, Link};
use sixgate_engine::finding::CODES;
use sixgate_engine::{config, firewall, plan};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/plan")
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FactsFile {
    #[serde(default)]
    link: Vec<LinkEntry>,
    #[serde(default)]
    address: Vec<AddressEntry>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkEntry {
    index: u32,
    name: String,
    mac: Option<String>,
    mtu: u32,
    #[serde(default = "yes")]
    up: bool,
    #[serde(default = "yes")]
    carrier: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressEntry {
    link: u32,
    net: ipnet::IpNet,
    #[serde(default = "ready")]
    state: AddressState,
    #[serde(default)]
    ours: bool,
}

fn yes() -> bool {
    true
}

fn ready() -> AddressState {
    AddressState::Ready
}

fn facts(text: &str) -> Facts {
    let file: FactsFile = toml::from_str(text).unwrap();
    let links = file.link.into_iter().map(|link| Link {
        index: link.index,
        name: link.name,
        mac: link.mac.map(|mac| mac.parse().unwrap()),
        mtu: link.mtu,
        up: link.up,
        carrier: link.carrier,
    });
    let mut addresses: Vec<Address> = file
        .address
        .into_iter()
        .map(|held| Address { link: held.link, net: held.net, state: held.state, ours: held.ours })
        .collect();
    addresses.sort();
    Facts { links: links.collect(), addresses, ..Facts::default() }
}

/// Compares with the golden file, or writes it where `BLESS` is set.
fn golden(path: &Path, actual: &str) -> Result<(), String> {
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, actual).unwrap();
        return Ok(());
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    let line = expected.lines().zip(actual.lines()).take_while(|(a, b)| a == b).count();
    Err(format!(
        "{}:{}: expected {:?}, got {:?}",
        path.display(),
        line + 1,
        expected.lines().nth(line).unwrap_or("the end"),
        actual.lines().nth(line).unwrap_or("the end"),
    ))
}

#[test]
fn each_configuration_with_its_facts_gives_its_golden_plan_and_ruleset() {
    let mut cases: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    assert!(cases.len() >= 6, "the vectors are gone: {cases:?}");
    let mut differences = Vec::new();
    for case in cases {
        let text = fs::read_to_string(case.join("config.toml")).unwrap();
        let config =
            config::parse(&text, "config.toml").unwrap_or_else(|errors| panic!("{}: {errors}", case.display()));
        let facts = facts(&fs::read_to_string(case.join("facts.toml")).unwrap());
        let plan = plan::plan(&config, &facts);
        for finding in &plan.findings {
            assert!(CODES.contains(&finding.code.as_str()), "{} is not in CODES", finding.code);
        }
        differences.extend(golden(&case.join("plan.txt"), &plan.render(&facts)).err());
        let rules = format!("{}{}", plan.firewall, plan.shortcut.iter().map(ToString::to_string).collect::<String>());
        differences.extend(golden(&case.join("ruleset.nft"), &rules).err());
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_closed_ruleset_is_golden_too() {
    if let Err(difference) = golden(&folder().join("closed.nft"), &firewall::closed().to_string()) {
        panic!("{difference}");
    }
}

#[test]
fn the_same_facts_give_the_same_plan() {
    let text = fs::read_to_string(folder().join("carved64/config.toml")).unwrap();
    let config = config::parse(&text, "config.toml").unwrap();
    let facts = facts(&fs::read_to_string(folder().join("carved64/facts.toml")).unwrap());
    assert_eq!(plan::plan(&config, &facts), plan::plan(&config, &facts));
}

#[test]
fn every_code_of_a_finding_is_documented_and_every_documented_code_exists() {
    let docs = include_str!("../../../docs/findings.md");
    let documented: Vec<&str> = docs.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(documented, CODES);
}

/// All Rust files below a folder that are not tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "tests" && name != "target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs")
            && path.file_name().is_none_or(|name| name != "tests.rs")
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_known_code_is_raised_somewhere() {
    // The other direction, that every raised code is known, is asserted by `Finding::new`.
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = sources(&crates).into_iter().filter(|file| !file.ends_with("engine/src/finding.rs"));
    let text: String = files.map(|file| fs::read_to_string(&file).unwrap()).collect();
    let missing: Vec<&&str> = CODES.iter().filter(|code| !text.contains(&format!("\"{code}\""))).collect();
    assert!(missing.is_empty(), "nothing raises {missing:?}");
}

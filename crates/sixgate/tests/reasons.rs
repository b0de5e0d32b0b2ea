//! Every reason that something is dropped or refused for is explained in `docs/reasons.md`, and nothing else is.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sixgate_engine::nat64::verdict::Reason;

const DOCS: &str = include_str!("../../../docs/reasons.md");

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What a section of the document explains: its list's names.
fn documented(section: &str) -> BTreeSet<String> {
    let heading = format!("\n## {section}\n");
    let (_, rest) = DOCS.split_once(&heading).unwrap_or_else(|| panic!("docs/reasons.md has no section {section}"));
    let body = rest.split("\n## ").next().unwrap();
    let names: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next()).collect();
    let unique: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(unique.len(), names.len(), "{section} explains something twice");
    unique
}

/// The string literals that follow `before` in a source file's code, without its tests.
fn literals(file: &str, before: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(crates().join(file)).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    let found: BTreeSet<String> =
        code.split(before).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect();
    assert!(!found.is_empty(), "nothing in {file} looks like {before}..");
    found
}

fn ensure_same(section: &str, named: &BTreeSet<String>) {
    let documented = documented(section);
    let missing: Vec<_> = named.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/reasons.md, section {section}: add a line \"- `..`: ..\" for {missing:?}");
    let gone: Vec<_> = documented.difference(named).collect();
    assert!(gone.is_empty(), "docs/reasons.md, section {section}: nothing counts {gone:?} any more");
}

#[test]
fn every_drop_of_the_firewall_is_explained() {
    let files = ["bogon", "connections", "forward", "input", "neighbours", "outbound", "output", "prerouting"];
    let named = files.iter().flat_map(|file| literals(&format!("engine/src/firewall/{file}.rs"), "\"drop: ")).collect();
    ensure_same("Firewall", &named);
}

#[test]
fn every_reason_of_router_discovery_is_explained() {
    let mut named =
        literals("wire/src/ndp/mod.rs", "=> \"ndp-").into_iter().map(|name| format!("ndp-{name}")).collect();
    let ours = ["engine/src/ra/verdict.rs", "engine/src/ra/advertiser.rs"];
    let prefix = |name: String| format!("ra-{name}");
    BTreeSet::extend(&mut named, ours.iter().flat_map(|file| literals(file, "\"ra-")).map(prefix));
    // Counted as a solicitation, and answered.
    assert!(named.remove("ra-solicited"));
    ensure_same("Router advertisements", &named);
}

#[test]
fn every_verdict_on_the_uplink_is_explained() {
    let mut named: BTreeSet<String> = BTreeSet::new();
    for (file, prefix) in [("dhcp/v4", "dhcp4-"), ("dhcp/v6", "dhcp6-"), ("uplink/discovery", "ra-")] {
        let found = literals(&format!("engine/src/{file}.rs"), &format!("=> \"{prefix}"));
        named.extend(found.into_iter().map(|name| format!("{prefix}{name}")));
    }
    ensure_same("Uplink", &named);
}

#[test]
fn every_claim_to_an_address_is_explained() {
    let found = literals("engine/src/savi.rs", "=> \"savi-");
    ensure_same("Anti-spoofing", &found.into_iter().map(|name| format!("savi-{name}")).collect());
}

#[test]
fn every_verdict_of_the_stateless_server_is_explained() {
    let found = literals("engine/src/dhcp/stateless.rs", "=> \"stateless-");
    ensure_same("DHCPv6 for LANs", &found.into_iter().map(|name| format!("stateless-{name}")).collect());
}

#[test]
fn every_verdict_of_the_ndp_proxy_is_explained() {
    let found = literals("engine/src/ndp_proxy.rs", "=> \"proxy-");
    ensure_same("NDP proxy", &found.into_iter().map(|name| format!("proxy-{name}")).collect());
}

#[test]
fn every_reason_of_the_resolver_is_explained() {
    let mut named = literals("engine/src/dns64/reason.rs", "=> \"");
    for file in ["worker", "front", "streams"] {
        named.extend(literals(&format!("sixgate/src/tasks/dns64/{file}.rs"), "refuse(\""));
    }
    let answers = documented("Answers of DNS64");
    assert!(answers.is_subset(&named), "nothing counts {:?} any more", answers.difference(&named));
    ensure_same("DNS64", &named.difference(&answers).cloned().collect());
}

#[test]
fn every_reason_of_the_translator_is_explained() {
    let mut named: BTreeSet<String> = Reason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
    named.extend(literals("sixgate/src/tasks/nat64/worker.rs", "reasons.insert(\""));
    ensure_same("NAT64", &named);
}

#[test]
fn every_reason_of_the_fast_path_is_explained() {
    let named = sixgate_linux::fastpath::Reason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
    ensure_same("Fast path", &named);
}

#[test]
fn every_reason_of_the_flow_offload_is_explained() {
    let named = sixgate_linux::flow::Reason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
    ensure_same("Flow offload", &named);
}

#[test]
fn every_refusal_of_the_control_socket_is_explained() {
    ensure_same("Control", &literals("sixgate/src/tasks/control.rs", "=> \""));
}

#[test]
fn every_verdict_of_npt_is_explained() {
    let named = sixgate_engine::npt::Verdict::ALL.iter().map(|verdict| verdict.name().to_owned()).collect();
    ensure_same("NPTv6", &named);
}

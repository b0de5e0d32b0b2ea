//! The house rules that no compiler checks: RFC compliance, dependency edges, file sizes, first lines, names, trailing blanks.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{cargo, output, root};
use crate::compliance;

/// Which workspace crates a crate may use. An edge that is not listed is an error.
const EDGES: &[(&str, &[&str])] = &[
    ("sixgate-wire", &[]),
    ("sixgate-engine", &["sixgate-wire"]),
    ("sixgate-fastpath", &["sixgate-wire"]),
    ("sixgate-linux", &["sixgate-engine", "sixgate-fastpath", "sixgate-wire"]),
    ("sixgate", &["sixgate-linux", "sixgate-engine", "sixgate-wire"]),
    ("sixgate-qemu", &[]),
    ("sixgate-client", &[]),
    ("sixgate-harness", &["sixgate-engine", "sixgate-wire"]),
    ("sixgate-lab", &["sixgate-qemu", "sixgate-wire"]),
    ("xtask", &["sixgate-qemu"]),
];

/// Crates that may contain unsafe code.
const UNSAFE: &[&str] = &["crates/linux"];

/// Lines that a source file may have before its tests.
const LONGEST_FILE: usize = 600;

/// File names that say nothing.
const EMPTY_NAMES: &[&str] =
    &["common", "util", "utils", "helper", "helpers", "manager", "misc", "context", "data", "info"];

/// Checks all rules and names every breach.
pub(crate) fn tidy() -> Result<()> {
    let mut breaches = Vec::new();
    edges(&mut breaches)?;
    compliance::check(&mut breaches)?;
    for path in tracked_files()? {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        blanks(&path, &text, &mut breaches);
        if path.extension().is_some_and(|extension| extension == "rs") {
            source(&path, &text, &mut breaches);
        }
    }
    if breaches.is_empty() {
        return Ok(());
    }
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    bail!("{} breaches of the house rules", breaches.len())
}

fn edges(breaches: &mut Vec<String>) -> Result<()> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let members: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = EDGES.iter().find(|(from, _)| *from == name) else {
            breaches.push(format!("crate {name} is not in the list of crates and their edges in xtask's tidy"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            if members.contains(to) && !allowed.contains(&to) {
                breaches.push(format!("crate {name} must not depend on {to}"));
            }
        }
    }
    Ok(())
}

fn tracked_files() -> Result<Vec<PathBuf>> {
    let list = output(Command::new("git").current_dir(root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    Ok(list.lines().map(PathBuf::from).collect())
}

fn blanks(path: &Path, text: &str, breaches: &mut Vec<String>) {
    if path.starts_with("tests/fuzz") || path.file_name().is_some_and(|name| name == "LICENSE-APACHE") {
        return;
    }
    if let Some((number, _)) = text.lines().enumerate().find(|(_, line)| line.ends_with([' ', '\t', '\r'])) {
        breaches.push(format!("{}:{}: trailing blank", path.display(), number + 1));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        breaches.push(format!("{}: no newline at the end", path.display()));
    }
}

fn source(path: &Path, text: &str, breaches: &mut Vec<String>) {
    let shown = path.display();
    if !text.starts_with("//! ") {
        breaches.push(format!("{shown}: the first line is not a `//!` sentence"));
    }
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    let is_test = path.components().any(|part| part.as_os_str() == "tests") && !path.starts_with("tests/lab/src")
        || path.file_stem().is_some_and(|stem| stem == "tests");
    if lines > LONGEST_FILE && !is_test {
        breaches.push(format!("{shown}: {lines} lines without its tests, at most {LONGEST_FILE}"));
    }
    if path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| EMPTY_NAMES.contains(&stem)) {
        breaches.push(format!("{shown}: the name says nothing; name it after what it holds"));
    }
    let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    if is_root && !UNSAFE.iter().any(|home| path.starts_with(home)) && !text.contains("#![forbid(unsafe_code)]") {
        breaches.push(format!("{shown}: `#![forbid(unsafe_code)]` is missing"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches_of(path: &str, text: &str) -> Vec<String> {
        let mut breaches = Vec::new();
        source(Path::new(path), text, &mut breaches);
        blanks(Path::new(path), text, &mut breaches);
        breaches
    }

    #[test]
    fn a_clean_file_has_no_breach() {
        assert_eq!(breaches_of("crates/wire/src/mac.rs", "//! One sentence.\n"), Vec::<String>::new());
    }

    #[test]
    fn each_rule_is_seen() {
        let long = format!("//! Long.\n{}", "x\n".repeat(LONGEST_FILE));
        for (path, text, part) in [
            ("crates/wire/src/mac.rs", "use x;\n", "first line"),
            ("crates/wire/src/mac.rs", long.as_str(), "at most 600"),
            ("crates/wire/src/util.rs", "//! One.\n", "says nothing"),
            ("crates/wire/src/lib.rs", "//! One.\n", "forbid(unsafe_code)"),
            ("crates/wire/src/mac.rs", "//! One.\nlet x; \n", "trailing blank"),
            ("crates/wire/src/mac.rs", "//! One.", "newline"),
        ] {
            let breaches = breaches_of(path, text);
            assert_eq!(breaches.len(), 1, "{path}: {breaches:?}");
            assert!(breaches[0].contains(part), "{breaches:?}");
        }
    }

    #[test]
    fn tests_do_not_count_towards_a_files_size() {
        let text = format!("//! Long tests.\n#[cfg(test)]\n{}", "x\n".repeat(2 * LONGEST_FILE));
        assert_eq!(breaches_of("crates/wire/src/mac.rs", &text), Vec::<String>::new());
    }
}

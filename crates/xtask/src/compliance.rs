//! `cargo xtask compliance`: writes `docs/rfc-compliance.md` out of the cases in `tests/vectors/compliance`.
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::command::root;

mod evidence;

use evidence::Evidence;

/// The document, from the repository's root.
const DOCUMENT: &str = "docs/rfc-compliance.md";
/// The cases, from the repository's root.
const CASES: &str = "tests/vectors/compliance";

/// One file of cases: an RFC.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Rfc {
    /// Its number.
    rfc: u32,
    /// Its title.
    title: String,
    /// What it demands, in its own order.
    requirement: Vec<Requirement>,
}

/// One sentence of an RFC that says MUST or SHOULD, or a numbered requirement.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    /// Section, or the number of the requirement.
    section: String,
    /// How strongly it is demanded.
    level: Level,
    /// What is demanded, in words of our own.
    text: String,
    /// Tests that show it: `crate::module::name`, `vector:NAME`, `lab:NAME`.
    #[serde(default)]
    test: Vec<String>,
    /// What is not built yet.
    missing: Option<String>,
    /// Why it does not apply, or is done differently on purpose.
    reason: Option<String>,
}

/// RFC 2119.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
enum Level {
    #[serde(rename = "MUST")]
    Must,
    #[serde(rename = "MUST NOT")]
    MustNot,
    #[serde(rename = "SHOULD")]
    Should,
    #[serde(rename = "SHOULD NOT")]
    ShouldNot,
    #[serde(rename = "MAY")]
    May,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::MustNot => "MUST NOT",
            Self::Should => "SHOULD",
            Self::ShouldNot => "SHOULD NOT",
            Self::May => "MAY",
        }
    }

    const fn is_must(self) -> bool {
        matches!(self, Self::Must | Self::MustNot)
    }
}

/// Writes the document.
pub(crate) fn write() -> Result<()> {
    let (document, breaches) = build()?;
    if !breaches.is_empty() {
        bail!("{}", breaches.join("\n"));
    }
    fs::write(root().join(DOCUMENT), document).with_context(|| DOCUMENT.to_owned())?;
    Ok(())
}

/// What is wrong with the cases or with the document.
pub(crate) fn check(breaches: &mut Vec<String>) -> Result<()> {
    let (document, found) = build()?;
    breaches.extend(found);
    if fs::read_to_string(root().join(DOCUMENT)).unwrap_or_default() != document {
        breaches.push(format!("{DOCUMENT} does not say what the cases say; write it by `cargo xtask compliance`"));
    }
    Ok(())
}

fn build() -> Result<(String, Vec<String>)> {
    let rfcs = read(&root().join(CASES))?;
    let evidence = Evidence::collect(&root())?;
    let breaches = breaches(&rfcs, &evidence);
    Ok((document(&rfcs), breaches))
}

fn read(folder: &Path) -> Result<Vec<Rfc>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    let mut rfcs = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path)?;
        rfcs.push(toml::from_str(&text).with_context(|| path.display().to_string())?);
    }
    rfcs.sort_by_key(|rfc: &Rfc| rfc.rfc);
    Ok(rfcs)
}

/// Each requirement has tests that exist, or says why not.
fn breaches(rfcs: &[Rfc], evidence: &Evidence) -> Vec<String> {
    let mut breaches = Vec::new();
    for rfc in rfcs {
        for requirement in &rfc.requirement {
            let place = format!("RFC {} {} ({})", rfc.rfc, requirement.section, requirement.text);
            let says = [!requirement.test.is_empty(), requirement.missing.is_some(), requirement.reason.is_some()];
            if says.iter().filter(|said| **said).count() != 1 {
                breaches.push(format!("{place}: wants one of `test`, `missing` and `reason`"));
            }
            for text in [&requirement.missing, &requirement.reason].into_iter().flatten() {
                if !text.ends_with('.') {
                    breaches.push(format!("{place}: the reason is no sentence"));
                }
            }
            for test in requirement.test.iter().filter(|test| !evidence.has(test)) {
                breaches.push(format!("{place}: there is no {test}"));
            }
        }
    }
    breaches
}

fn document(rfcs: &[Rfc]) -> String {
    let mut out = String::from(
        "# RFC compliance\n\n\
         Every MUST and SHOULD of the RFCs that a NAT64 has to follow, with the tests that show it or the reason why there\n\
         is none. Written by `cargo xtask compliance` out of `tests/vectors/compliance`; the house rules fail where a test\n\
         does not exist or this document is not what the cases say.\n\n\
         `nat64::..` names a test in the engine's sources, `tests::..` one beside them, `vector:..` a folder in\n\
         `tests/vectors/nat64`, `lab:..` a scenario of `tests/lab`.\n\n",
    );
    summary(rfcs, &mut out);
    missing(rfcs, &mut out);
    for rfc in rfcs {
        let _ = write!(out, "## RFC {}: {}\n\n", rfc.rfc, rfc.title);
        out.push_str("| Section | Level | Requirement | |\n|---|---|---|---|\n");
        for requirement in &rfc.requirement {
            let status = status(requirement);
            let Requirement { section, level, text, .. } = requirement;
            let _ = writeln!(out, "| {section} | {} | {} | {status} |", level.name(), cell(text));
        }
        out.push('\n');
    }
    while out.ends_with("\n\n") {
        out.pop();
    }
    out
}

fn summary(rfcs: &[Rfc], out: &mut String) {
    out.push_str(
        "| RFC | tested | not built yet | of them MUST | otherwise | distinct tests |\n|---|---|---|---|---|---|\n",
    );
    for rfc in rfcs {
        let count =
            |is: &dyn Fn(&Requirement) -> bool| rfc.requirement.iter().filter(|requirement| is(requirement)).count();
        let tests: BTreeSet<&String> = rfc.requirement.iter().flat_map(|requirement| &requirement.test).collect();
        let _ = writeln!(
            out,
            "| {}: {} | {} | {} | {} | {} | {} |",
            rfc.rfc,
            rfc.title,
            count(&|requirement| !requirement.test.is_empty()),
            count(&|requirement| requirement.missing.is_some()),
            count(&|requirement| requirement.missing.is_some() && requirement.level.is_must()),
            count(&|requirement| requirement.reason.is_some()),
            tests.len(),
        );
    }
    out.push('\n');
}

fn missing(rfcs: &[Rfc], out: &mut String) {
    out.push_str("## Not built yet\n\n");
    let mut none = true;
    for rfc in rfcs {
        for requirement in &rfc.requirement {
            if let Some(missing) = &requirement.missing {
                let Requirement { section, level, text, .. } = requirement;
                let _ =
                    writeln!(out, "- RFC {} {section}, {}: {} {}", rfc.rfc, level.name(), cell(text), cell(missing));
                none = false;
            }
        }
    }
    if none {
        out.push_str("Nothing.\n");
    }
    out.push('\n');
}

fn status(requirement: &Requirement) -> String {
    if let Some(missing) = &requirement.missing {
        return format!("**missing**: {}", cell(missing));
    }
    if let Some(reason) = &requirement.reason {
        return cell(reason);
    }
    let names: Vec<String> =
        requirement.test.iter().map(|test| format!("`{}`", test.strip_prefix("engine::").unwrap_or(test))).collect();
    format!("✓ {}", names.join(" "))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(test: &[&str], missing: Option<&str>, reason: Option<&str>) -> Vec<Rfc> {
        let requirement = Requirement {
            section: "1".to_owned(),
            level: Level::Must,
            text: "Do it.".to_owned(),
            test: test.iter().map(|test| (*test).to_owned()).collect(),
            missing: missing.map(str::to_owned),
            reason: reason.map(str::to_owned),
        };
        vec![Rfc { rfc: 1, title: "Host software".to_owned(), requirement: vec![requirement] }]
    }

    #[test]
    fn the_cases_hold_and_the_document_says_what_they_say() {
        let mut breaches = Vec::new();
        check(&mut breaches).unwrap();
        assert_eq!(breaches, Vec::<String>::new());
    }

    #[test]
    fn a_must_without_test_or_reason_is_a_breach() {
        let evidence = Evidence::collect(&root()).unwrap();
        let breaches = |cases: Vec<Rfc>| breaches(&cases, &evidence).len();
        assert_eq!(breaches(requirement(&[], None, None)), 1);
        assert_eq!(breaches(requirement(&["vector:hairpin"], None, Some("Both."))), 1);
        assert_eq!(breaches(requirement(&[], Some("no sentence"), None)), 1);
        assert_eq!(breaches(requirement(&[], Some("Not yet."), None)), 0);
        assert_eq!(breaches(requirement(&[], None, Some("Does not apply."))), 0);
        assert_eq!(breaches(requirement(&["vector:hairpin"], None, None)), 0);
    }

    #[test]
    fn a_test_that_does_not_exist_is_a_breach() {
        let evidence = Evidence::collect(&root()).unwrap();
        for name in ["vector:no-such", "lab:no_such", "engine::nat64::tcp::no_such", "no_such", "vector:.."] {
            assert_eq!(breaches(&requirement(&[name], None, None), &evidence).len(), 1, "{name}");
        }
        let names = [
            "vector:hairpin",
            "lab:udp_and_ping_go_through_nat64",
            "engine::nat64::tcp::a_connection_from_inside_opens_and_closes",
            "engine::tests::nat64::icmp::errors_change_no_session",
            "engine::tests::nat64::properties::no_bytes_cause_a_panic",
            "wire::rfc6052::rfc_6052_section_2_4_examples_go_both_ways",
        ];
        assert_eq!(breaches(&requirement(&names, None, None), &evidence), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_stands_on_top() {
        let text = document(&requirement(&[], Some("Comes later."), None));
        let top = text.find("- RFC 1 1, MUST: Do it. Comes later.").unwrap();
        assert!(top < text.find("## RFC 1: Host software").unwrap());
        assert!(text.ends_with("|\n") && !text.ends_with("\n\n"));
    }
}

//! What a requirement may name: tests in the sources, vectors, scenarios of the lab.
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Folders whose tests have names: the crate's name and where its sources lie.
const SOURCES: [(&str, &str); 6] = [
    ("wire", "crates/wire/src"),
    ("engine", "crates/engine/src"),
    ("engine::tests", "crates/engine/tests"),
    ("linux", "crates/linux/src"),
    ("sixgate", "crates/sixgate/src"),
    ("sixgate::tests", "crates/sixgate/tests"),
];
/// Where scenarios have their names.
const SCENARIOS: &str = "tests/lab/src/scenario/mod.rs";
/// Where vectors lie, a folder each.
const VECTORS: &str = "tests/vectors/nat64";

/// Where dialogues of the resolver lie; each is named by its sentence.
const DIALOGUES: &str = "tests/vectors/dns64";

/// All names there are.
pub(super) struct Evidence(BTreeSet<String>);

impl Evidence {
    /// Looks through the sources.
    pub(super) fn collect(root: &Path) -> Result<Self> {
        let mut names = BTreeSet::new();
        for (prefix, folder) in SOURCES {
            walk(&root.join(folder), prefix, &mut names)?;
        }
        for entry in fs::read_dir(root.join(VECTORS)).context(VECTORS)? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.join("case.txt").is_file()) {
                names.insert(format!("vector:{}", name.to_string_lossy()));
            }
        }
        for entry in fs::read_dir(root.join(DIALOGUES)).context(DIALOGUES)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                let sentences = text.lines().filter_map(|line| line.strip_prefix("says = \"")?.strip_suffix('"'));
                names.extend(sentences.map(|says| format!("dialogue:{says}")));
            }
        }
        let scenarios = fs::read_to_string(root.join(SCENARIOS)).context(SCENARIOS)?;
        for line in scenarios.lines().filter(|line| line.contains("=>")) {
            if let Some((name, _)) = line.trim().split_once(':') {
                names.insert(format!("lab:{name}"));
            }
        }
        Ok(Self(names))
    }

    /// Whether something has that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

fn walk(folder: &Path, prefix: &str, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            walk(&path, &format!("{prefix}::{stem}"), names)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            // A module of tests bears no name of its own.
            let module = match stem.as_str() {
                "mod" | "main" | "lib" | "tests" => prefix.to_owned(),
                _ => format!("{prefix}::{stem}"),
            };
            names.extend(tests(&fs::read_to_string(&path)?).map(|name| format!("{module}::{name}")));
        }
    }
    Ok(())
}

/// The names of the functions behind `#[test]`.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().filter_map(move |line| {
        let line = line.trim();
        is_test |= line == "#[test]";
        let name = line.strip_prefix("fn ")?.split(['(', '<']).next()?;
        core::mem::take(&mut is_test).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_functions_behind_the_attribute_count() {
        let text =
            "fn one() {}\n#[test]\nfn two() {}\n  #[test]\n  #[ignore]\n  fn three(a in 0..1) {}\nfn four() {}\n";
        assert_eq!(super::tests(text).collect::<Vec<_>>(), ["two", "three"]);
    }
}

//! Static release builds: no loader, no C library in the image.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::command::{cargo, output, root, run, target};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds a package's program of the same name and returns where it is.
pub(crate) fn build(package: &str) -> Result<PathBuf> {
    // Neither the folder of this working copy nor that of the crates' sources may be seen in the bytes.
    let (root, cargo_home) = (root(), cargo_home());
    let flags = format!(
        "target.{TARGET}.rustflags=['-C', 'target-feature=+crt-static', '--remap-path-prefix={}=/cargo', '--remap-path-prefix={}=/sixgate']",
        cargo_home.display(),
        root.display()
    );
    let mut command = cargo();
    // Flags from the environment would replace those of the configuration.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    run(command.args(["build", "--quiet", "--release", "--target", TARGET, "--package", package, "--config", &flags]))?;
    let binary = target().join(TARGET).join("release").join(package);
    if wants_a_loader(&binary)? {
        bail!("{} is linked dynamically; is the C library's static form (libc6-dev) installed?", binary.display());
    }
    Ok(binary)
}

/// Where cargo keeps the sources of crates.
fn cargo_home() -> PathBuf {
    let told = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    told.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"))
}

/// Every crate in the router's binary: name, version, licence.
pub(super) fn crates() -> Result<BTreeSet<(String, String, String)>> {
    let mut command = cargo();
    command.args(["tree", "--quiet", "--package", "sixgate", "--edges", "normal", "--target", TARGET]);
    let tree = output(command.args(["--prefix", "none", "--no-dedupe", "--format", "{p} | {l}"]))?;
    Ok(tree.lines().filter_map(crate_line).collect())
}

/// A line of cargo's, without where a crate of this workspace lies. Old crates write a slash for the choice.
fn crate_line(line: &str) -> Option<(String, String, String)> {
    let (name, licence) = line.split_once(" | ")?;
    let mut words = name.split_whitespace();
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    Some((name.to_owned(), version.to_owned(), licence.replace('/', " OR ")))
}

/// Whether an ELF file of 64 bits names an interpreter.
fn wants_a_loader(path: &Path) -> Result<bool> {
    const INTERPRETER: u32 = 3;
    let elf = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let number = |at: usize, size: usize| -> Result<usize> {
        let bytes = elf.get(at..at + size).context("a truncated ELF file")?;
        let mut wide = [0; 8];
        wide[..size].copy_from_slice(bytes);
        usize::try_from(u64::from_le_bytes(wide)).context("an offset beyond this machine")
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        if number(table + index * size, 4)? == INTERPRETER as usize {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_listed_without_its_folder() {
        let found = |line| crate_line(line).map(|(name, version, licence)| format!("{name} {version} {licence}"));
        let own = "sixgate v0.1.0 (/home/somebody/sixgate) | MIT OR Apache-2.0";
        assert_eq!(found(own).as_deref(), Some("sixgate 0.1.0 MIT OR Apache-2.0"));
        assert_eq!(
            found("serde v1.0.0 (proc-macro) | MIT/Apache-2.0").as_deref(),
            Some("serde 1.0.0 MIT OR Apache-2.0")
        );
        assert_eq!(found(""), None);
    }

    #[test]
    fn a_program_with_a_loader_is_recognised() {
        // Tests themselves are linked dynamically.
        assert!(wants_a_loader(&std::env::current_exe().unwrap()).unwrap());
    }
}

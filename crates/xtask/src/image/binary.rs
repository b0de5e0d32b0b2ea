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

/// Every crate in the router's binary with its version and licence, a line each.
pub(crate) fn licences() -> Result<String> {
    let mut command = cargo();
    command.args(["tree", "--quiet", "--package", "sixgate", "--edges", "normal", "--target", TARGET]);
    let tree = output(command.args(["--prefix", "none", "--no-dedupe", "--format", "{p} | {l}"]))?;
    let lines: BTreeSet<String> = tree.lines().filter_map(crate_line).collect();
    Ok(lines.into_iter().collect())
}

/// A line of cargo's, without where a crate of this workspace lies.
fn crate_line(line: &str) -> Option<String> {
    let (name, licence) = line.split_once(" | ")?;
    let name = name.split(" (").next().unwrap_or(name);
    Some(format!("{name} | {licence}\n"))
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
        let line = crate_line("sixgate v0.1.0 (/home/somebody/sixgate) | MIT OR Apache-2.0").unwrap();
        assert_eq!(line, "sixgate v0.1.0 | MIT OR Apache-2.0\n");
        assert_eq!(crate_line("serde v1.0.0 (proc-macro) | MIT").unwrap(), "serde v1.0.0 | MIT\n");
        assert_eq!(crate_line(""), None);
    }

    #[test]
    fn a_program_with_a_loader_is_recognised() {
        // Tests themselves are linked dynamically.
        assert!(wants_a_loader(&std::env::current_exe().unwrap()).unwrap());
    }
}

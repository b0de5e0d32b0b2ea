//! What is on the image, as a bill of materials (CycloneDX 1.5), and the licences of all of it.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{apt, binary};
use crate::command::{cargo, output};

/// Packages of the boot loader, with the licence of what is taken out of them.
const LOADER: &[(&str, &str)] = &[
    ("grub-pc-bin", "GPL-3.0-or-later"),
    ("grub-efi-amd64-signed", "GPL-3.0-or-later"),
    ("shim-signed", "BSD-2-Clause"),
];
const KERNEL_LICENCE: &str = "GPL-2.0-only WITH Linux-syscall-note";
/// Files of a crate that hold its licence.
const LICENCE_FILES: &[&str] = &["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// The bill and the licences.
pub(super) struct Bill {
    /// CycloneDX, in JSON.
    pub(super) components: String,
    /// Each licence text once, below the names of what it covers.
    pub(super) licences: String,
}

/// Draws up the bill for an image of this kernel, whose package is this file, unpacked into that tree.
pub(super) fn draw_up(folder: &Path, kernel: (&Path, &Path)) -> Result<Bill> {
    let mut components = Vec::new();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut debian = vec![(kernel.0.to_owned(), kernel.1.to_owned(), KERNEL_LICENCE)];
    for (name, licence) in LOADER {
        let (file, tree) = apt::unpacked(name, &folder.join("packages"))?;
        debian.push((file, tree, licence));
    }
    for (file, tree, licence) in &debian {
        let package = Package::read(file)?;
        components.push(package.component(licence, Some(file))?);
        note_copyright(&tree.join("usr/share/doc").join(&package.name).join("copyright"), &package.label(), &mut texts);
    }
    // The C library is in the binary, from the machine that builds it.
    if let Ok(package) = Package::installed("libc6-dev") {
        components.push(package.component("LGPL-2.1-or-later", None)?);
        note_copyright(Path::new("/usr/share/doc/libc6-dev/copyright"), &package.label(), &mut texts);
    }
    let rustc = output(Command::new("rustc").arg("--version"))?;
    let version = rustc.split_whitespace().nth(1).unwrap_or_default();
    components.push(json!({
        "type": "library", "name": "rust-std", "version": version, "licenses": [{ "expression": "MIT OR Apache-2.0" }],
    }));
    let folders = crate_folders()?;
    for (name, version, licence) in binary::crates()? {
        components.push(json!({
            "type": "library", "name": name, "version": version, "purl": format!("pkg:cargo/{name}@{version}"),
            "licenses": [{ "expression": licence }],
        }));
        if let Some(folder) = folders.get(&(name.clone(), version.clone())) {
            note_licences(folder, &format!("{name} {version}"), &mut texts)?;
        }
    }
    let bill = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": { "component": {
            "type": "operating-system", "name": "sixgate", "version": env!("CARGO_PKG_VERSION"),
            "licenses": [{ "expression": "MIT OR Apache-2.0" }],
        } },
        "components": components,
    });
    Ok(Bill { components: serde_json::to_string_pretty(&bill)? + "\n", licences: emit(&texts) })
}

/// A Debian package by its own words.
struct Package {
    name: String,
    version: String,
    architecture: String,
    /// The source package with its version.
    source: String,
}

impl Package {
    fn read(file: &Path) -> Result<Self> {
        const FORMAT: &str = "${Package}\t${Version}\t${Architecture}\t${source:Package} ${source:Version}\n";
        Self::parse(&output(Command::new("dpkg-deb").arg(format!("--showformat={FORMAT}")).arg("--show").arg(file))?)
    }

    fn installed(name: &str) -> Result<Self> {
        const FORMAT: &str = "${Package}\t${Version}\t${Architecture}\t${source:Package} ${source:Version}\n";
        Self::parse(&output(Command::new("dpkg-query").arg(format!("--showformat={FORMAT}")).args(["--show", name]))?)
    }

    fn parse(line: &str) -> Result<Self> {
        let mut fields = line.trim_end().split('\t').map(str::to_owned);
        let mut field = || fields.next().filter(|field| !field.is_empty()).context("dpkg left a field out");
        Ok(Self { name: field()?, version: field()?, architecture: field()?, source: field()? })
    }

    fn label(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    fn component(&self, licence: &str, file: Option<&Path>) -> Result<Value> {
        let Self { name, version, architecture, source } = self;
        let mut component = json!({
            "type": "library", "name": name, "version": version,
            "purl": format!("pkg:deb/debian/{name}@{}?arch={architecture}", version.replace('+', "%2B")),
            "licenses": [{ "expression": licence }],
            "properties": [{ "name": "debian:source", "value": source }],
        });
        if let Some(file) = file {
            let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
            component["hashes"] = json!([{ "alg": "SHA-256", "content": digest }]);
        }
        Ok(component)
    }
}

/// Where the sources of each crate lie.
fn crate_folders() -> Result<BTreeMap<(String, String), PathBuf>> {
    let metadata = output(cargo().args(["metadata", "--quiet", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo's metadata")?;
    let folder = |package: &Value| {
        let text = |key: &str| package[key].as_str().map(str::to_owned);
        let folder = PathBuf::from(text("manifest_path")?).parent()?.to_owned();
        Some(((text("name")?, text("version")?), folder))
    };
    Ok(metadata["packages"].as_array().into_iter().flatten().filter_map(folder).collect())
}

fn note_licences(folder: &Path, label: &str, texts: &mut BTreeMap<String, BTreeSet<String>>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_file() && LICENCE_FILES.iter().any(|prefix| name.starts_with(prefix)) {
            note_copyright(&path, label, texts);
        }
    }
    Ok(())
}

/// A package without the file has its licence in the bill alone.
fn note_copyright(path: &Path, label: &str, texts: &mut BTreeMap<String, BTreeSet<String>>) {
    if let Ok(text) = fs::read_to_string(path) {
        texts.entry(text.trim().replace('\r', "")).or_default().insert(label.to_owned());
    }
}

/// In the order of the names.
fn emit(texts: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut sections: Vec<(String, &str)> = texts
        .iter()
        .map(|(text, names)| (names.iter().cloned().collect::<Vec<_>>().join(", "), text.as_str()))
        .collect();
    sections.sort();
    let rule = "=".repeat(80);
    sections.iter().map(|(names, text)| format!("{rule}\n{names}\n{rule}\n\n{text}\n\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_that_several_share_is_printed_once() {
        let mut texts = BTreeMap::new();
        let folder = std::env::temp_dir().join(format!("sixgate-sbom-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("LICENSE-MIT"), "may be used\r\n").unwrap();
        fs::write(folder.join("README"), "not this").unwrap();
        for label in ["one 1.0", "two 2.0"] {
            note_licences(&folder, label, &mut texts).unwrap();
        }
        fs::remove_dir_all(&folder).unwrap();
        let text = emit(&texts);
        assert!(text.contains("one 1.0, two 2.0") && text.matches("may be used").count() == 1, "{text}");
        assert!(!text.contains("not this"));
    }

    #[test]
    fn a_package_names_its_source() {
        let line =
            "linux-image-6.12.117+deb12-amd64\t6.12.117-1~deb12u1\tamd64\tlinux-signed-amd64 6.12.117+1~deb12u1\n";
        let component = Package::parse(line).unwrap().component("GPL-2.0-only", None).unwrap();
        assert_eq!(component["properties"][0]["value"], "linux-signed-amd64 6.12.117+1~deb12u1");
        assert_eq!(component["purl"], "pkg:deb/debian/linux-image-6.12.117+deb12-amd64@6.12.117-1~deb12u1?arch=amd64");
        assert!(Package::parse("a\tb\n").is_err());
    }
}

//! The kernel modules of `image/modules.list` with what they depend on, unpacked.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use sixgate_qemu::cpio::{Archive, Entry};

use super::kernel::Kernel;
use crate::command::root;

/// Tables of depmod that PID 1 reads.
const TABLES: &[&str] = &["modules.dep", "modules.alias", "modules.softdep"];

/// Chosen modules.
pub(crate) struct Modules {
    /// `/lib/modules` and `/etc/modules`.
    pub(crate) archive: Archive,
    /// How many.
    pub(crate) count: usize,
}

/// Dependencies of all modules: path to paths, both relative to the release's folder.
struct Dependencies(BTreeMap<String, Vec<String>>);

/// Picks what the list names.
pub(crate) fn pick(kernel: &Kernel) -> Result<Modules> {
    let list = fs::read_to_string(root().join("image/modules.list")).context("cannot read image/modules.list")?;
    let dependencies = Dependencies::read(kernel)?;
    let (mut chosen, mut unpacked) = (BTreeSet::new(), BTreeSet::new());
    let (mut first, mut preloaded) = (Vec::new(), Vec::new());
    for line in patterns(&list) {
        let pattern = line.trim_start_matches(['+', '~']);
        let found = dependencies.matching(pattern);
        if found.is_empty() && !is_built_in(kernel, pattern)? {
            // Kernels differ in what they are built with; a router without a CD drive's driver still routes.
            eprintln!("{} has no module {pattern}, which image/modules.list names", kernel.package);
        }
        for path in found {
            chosen.extend(dependencies.with(path));
            match &line[..line.len() - pattern.len()] {
                "~" => continue,
                "+" => preloaded.push(name(path)),
                "++" => first.push(name(path)),
                _ => {}
            }
            unpacked.extend(dependencies.with(path));
        }
    }

    let mut archive = Archive::default();
    let home = format!("lib/modules/{}", kernel.release);
    for path in &chosen {
        if unpacked.contains(path) {
            let plain = path.trim_end_matches(".xz");
            archive.add(&format!("{home}/{plain}"), Entry::File(unpack(kernel, path)?));
        } else {
            let packed = self::home(kernel).join(path);
            let content = fs::read(&packed).with_context(|| format!("cannot read {}", packed.display()))?;
            archive.add(&format!("{home}/{path}"), Entry::File(content));
        }
    }
    for table in TABLES {
        archive.add(&format!("{home}/{table}"), Entry::File(reduced(kernel, table, &chosen, &unpacked)?.into()));
    }
    for (path, names) in [("etc/modules.first", first), ("etc/modules", preloaded)] {
        archive.add(path, Entry::File(names.iter().map(|name| format!("{name}\n")).collect::<String>().into()));
    }
    Ok(Modules { archive, count: chosen.len() })
}

/// The contents of these modules and what they depend on, in the order in which they can be loaded.
pub(crate) fn in_load_order(kernel: &Kernel, names: &[&str]) -> Result<Vec<Vec<u8>>> {
    let dependencies = Dependencies::read(kernel)?;
    let mut order: Vec<String> = Vec::new();
    for wanted in names {
        for path in dependencies.matching(wanted) {
            for needed in dependencies.with(path) {
                if !order.contains(&needed) {
                    order.push(needed);
                }
            }
        }
    }
    order.iter().map(|path| unpack(kernel, path)).collect()
}

fn patterns(list: &str) -> impl Iterator<Item = &str> {
    list.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty())
}

impl Dependencies {
    fn read(kernel: &Kernel) -> Result<Self> {
        let text = fs::read_to_string(home(kernel).join("modules.dep")).context("depmod left no modules.dep")?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Self(
            lines
                .map(|(path, needs)| (path.to_owned(), needs.split_whitespace().map(str::to_owned).collect()))
                .collect(),
        )
    }

    /// Modules whose name matches: `-` and `_` are the same, a `*` at the end stands for anything.
    fn matching(&self, pattern: &str) -> Vec<&str> {
        let pattern = pattern.replace('-', "_");
        let matches = |path: &str| match pattern.strip_suffix('*') {
            Some(start) => name(path).starts_with(start),
            None => name(path) == pattern,
        };
        self.0.keys().map(String::as_str).filter(|path| matches(path)).collect()
    }

    /// A module behind all that it depends on: modules.dep names the nearest dependency first.
    fn with(&self, path: &str) -> Vec<String> {
        let needs = self.0.get(path).into_iter().flatten().rev();
        needs.cloned().chain([path.to_owned()]).collect()
    }
}

/// A module's name as the kernel writes it.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

fn is_built_in(kernel: &Kernel, pattern: &str) -> Result<bool> {
    let text = fs::read_to_string(home(kernel).join("modules.builtin")).context("cannot read modules.builtin")?;
    Ok(text.lines().any(|path| name(path) == pattern.replace('-', "_")))
}

/// A table of depmod without the lines about modules that are not in the image, with the names that they have there.
fn reduced(kernel: &Kernel, table: &str, chosen: &BTreeSet<String>, unpacked: &BTreeSet<String>) -> Result<String> {
    let path = home(kernel).join(table);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let names: BTreeSet<String> = chosen.iter().map(|path| name(path)).collect();
    let keep = |line: &&str| match line.split_once(':') {
        Some((path, _)) if table == "modules.dep" => chosen.contains(path),
        // `alias PATTERN MODULE` or `softdep MODULE pre: ...`
        _ if table == "modules.alias" => line.split_whitespace().nth(2).is_some_and(|module| names.contains(module)),
        _ => line.split_whitespace().nth(1).is_some_and(|module| names.contains(module)),
    };
    let there =
        |path: &str| if unpacked.contains(path) { path.trim_end_matches(".xz").to_owned() } else { path.to_owned() };
    let renamed = |line: &str| match line.split_once(':') {
        Some((path, needs)) if table == "modules.dep" => {
            let needs = needs.split_whitespace().map(|path| format!(" {}", there(path)));
            format!("{}:{}\n", there(path), needs.collect::<String>())
        }
        _ => format!("{line}\n"),
    };
    Ok(text.lines().filter(keep).map(renamed).collect())
}

/// A module's content. Unpacked ones are smaller in a compressed initramfs, and load faster.
fn unpack(kernel: &Kernel, path: &str) -> Result<Vec<u8>> {
    let file = home(kernel).join(path);
    if !path.ends_with(".xz") {
        return fs::read(&file).with_context(|| format!("cannot read {}", file.display()));
    }
    let unpacked = Command::new("xz").args(["--decompress", "--stdout"]).arg(&file).stdin(Stdio::null()).output()?;
    if !unpacked.status.success() {
        bail!("cannot unpack {}: {}", file.display(), String::from_utf8_lossy(&unpacked.stderr));
    }
    Ok(unpacked.stdout)
}

fn home(kernel: &Kernel) -> std::path::PathBuf {
    Path::new(&kernel.tree).join("lib/modules").join(&kernel.release)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "kernel/a/virtio_net.ko.xz: kernel/a/net_failover.ko.xz kernel/b/failover.ko.xz\n\
                         kernel/a/net_failover.ko.xz: kernel/b/failover.ko.xz\n\
                         kernel/b/failover.ko.xz:\n\
                         kernel/c/virtio-rng.ko.xz:\n";

    #[test]
    fn a_module_comes_after_what_it_depends_on() {
        let dependencies = Dependencies::parse(TABLE);
        let order = dependencies.with("kernel/a/virtio_net.ko.xz");
        let names: Vec<_> = order.iter().map(|path| name(path)).collect();
        assert_eq!(names, ["failover", "net_failover", "virtio_net"]);
    }

    #[test]
    fn dashes_and_underscores_are_the_same_and_a_star_matches_the_rest() {
        let dependencies = Dependencies::parse(TABLE);
        assert_eq!(dependencies.matching("virtio_rng"), ["kernel/c/virtio-rng.ko.xz"]);
        assert_eq!(dependencies.matching("virtio-*").len(), 2);
        assert!(dependencies.matching("virtio").is_empty());
    }

    #[test]
    fn comments_and_empty_lines_of_the_list_are_skipped() {
        let lines: Vec<_> = patterns("# all\n\n+tun # the device\nnft_*\n").collect();
        assert_eq!(lines, ["+tun", "nft_*"]);
    }
}

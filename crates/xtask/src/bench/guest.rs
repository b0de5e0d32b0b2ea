//! `cargo xtask bench guest`: instructions a packet beside Jool and a flowtable, in a machine whose kernel has modules for them.
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::generator::FIRST_DESTINATION;
use super::series::Series;
use crate::command::{cargo, output, root, run, target};
use crate::guest::Guest;
use crate::image::apt;
use crate::setup;

/// Where the result goes.
const DOCUMENT: &str = "docs/benchmarks/guest.md";
const SCRIPT: &str = include_str!("guest.sh");
/// What contestants, generator and links use of the kernel.
const MODULES: &[&str] = &[
    "crc32c_generic",
    "veth",
    "tun",
    "dummy",
    "sch_ingress",
    "cls_bpf",
    "pktgen",
    "nf_tables",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nf_nat",
    "nf_flow_table",
    "nf_flow_table_inet",
    "nft_*",
    "nf_log_syslog",
    "nfnetlink_log",
    "x_tables",
];
/// The guest's clock goes on by a nanosecond with each instruction.
const OPTIONS: &[&str] = &["-icount", "shift=0,sleep=off"];
const SECONDS: u32 = 900;
/// In the script's order: its word, and what is shown.
const CONTESTANTS: [(&str, &str); 6] = [
    ("alone", "the generator alone"),
    ("forward", "kernel, IPv6 forwarding"),
    ("nat44", "kernel, NAT44 masquerade"),
    ("flow", "kernel, NAT44 with flowtable"),
    ("jool", "Jool"),
    ("sixgate", "sixgate, fast path"),
];

/// What can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only prints the result.
    #[arg(long)]
    dry: bool,
    /// Debian's package of the kernel, or a name for the newest of several; Jool has to build against it.
    #[arg(long, default_value = "linux-image-amd64")]
    kernel: String,
}

/// Measures and writes the document.
pub(super) fn run_in_guest(options: &Options) -> Result<()> {
    setup::ensure(setup::Purpose::BenchGuest)?;
    let mut guest = Guest::new("bench", &options.kernel)?;
    let release = guest.release().to_owned();
    guest.modules(MODULES)?;
    let jool = Jool::build(&release)?;
    for module in jool.modules()? {
        guest.module(module);
    }
    guest.program("jool", &jool.tree.join("usr/bin/jool"), Some(&jool.tree))?;
    for name in ["ip", "nft"] {
        guest.tool(name)?;
    }
    run(cargo().args(["build", "--quiet", "--package", "sixgate"]))?;
    guest.myself()?;
    guest.program("sixgate", &target().join("debug/sixgate"), None)?;
    let text = guest.run(&SCRIPT.replace("PORT", &FIRST_DESTINATION.to_string()), OPTIONS, SECONDS)?;
    let rows = CONTESTANTS.iter().map(|(word, _)| instructions(&text, word)).collect::<Result<Vec<_>>>()?;
    let document = document(&release, &jool.version, &rows);
    println!("{document}");
    if !options.dry {
        fs::write(root().join(DOCUMENT), document)?;
    }
    Ok(())
}

/// Instructions a packet, round by round, of a contestant whose packets all arrived.
fn instructions(text: &str, contestant: &str) -> Result<Series> {
    let mut series = Series::default();
    for line in text.lines() {
        let Some(line) = line.trim().strip_prefix(&format!("ROW {contestant} ")) else { continue };
        let mut words = line.split_whitespace();
        let mut number = || words.next().and_then(|word| word.parse::<f64>().ok()).context(line.to_owned());
        let (microseconds, sent, arrived) = (number()?, number()?, number()?);
        let expected = if contestant == "alone" { 0.0 } else { sent };
        ensure!((arrived - expected).abs() < sent / 100.0, "{contestant}: {arrived} packets arrived of {expected}");
        series.push(microseconds * 1000.0 / sent);
    }
    if series.is_empty() {
        bail!("{contestant} was not measured");
    }
    Ok(series)
}

fn document(release: &str, jool: &str, rows: &[Series]) -> String {
    let alone = rows[0].median();
    let net = |at: usize| rows[at].median() - alone;
    let mut out = format!(
        "# NAT64 in instructions\n\nMade by `cargo xtask bench guest`; do not edit.\n\n\
         Linux {release} in QEMU without hardware virtualization, Jool {jool}, built against that kernel. The clock of the machine goes on by a nanosecond with each \
         instruction (`-icount shift=0`), so that time there is a count of instructions and does not depend on who else runs on the host.\n\n\
         The kernel's own generator (pktgen, `netif_receive`) hands UDP packets of 80 bytes in one established flow to the router's link, one after the other; \
         routing, translation and the way out over the next link, to its other end, where they are addressed to nobody, are done at once on the only \
         processor. Each contestant has namespaces of its own; they take turns. What the generator costs by itself, with packets that are addressed to nobody \
         from the beginning, is taken off. An instruction is not a nanosecond: what caches and pipelines make of them is not in here.\n\n\
         | | instructions a packet (least – greatest) | without the generator's | to forwarding |\n|---|---|---|---|\n"
    );
    for (at, (_, name)) in CONTESTANTS.iter().enumerate() {
        let (least, greatest) = rows[at].spread();
        let _ = write!(out, "| {name} | {:.0} ({least:.0} – {greatest:.0}) |", rows[at].median());
        let _ =
            if at == 0 { writeln!(out, " | |") } else { writeln!(out, " {:.0} | {:.2} |", net(at), net(at) / net(1)) };
    }
    let verdict = |holds: bool| if holds { "met" } else { "missed" };
    let (forwarding, faster) = (net(5) / net(1), net(4) / net(5));
    let _ = writeln!(
        out,
        "\nThe fast path takes {forwarding:.2} of what plain forwarding takes (at most 1.00: {}). Jool takes {faster:.2} times as many as the fast path (at least 1.20: {}).",
        verdict(forwarding <= 1.0),
        verdict(faster >= 1.2)
    );
    out
}

/// Jool's module for a kernel, built in the target folder.
struct Jool {
    tree: PathBuf,
    version: String,
    source: PathBuf,
}

impl Jool {
    fn build(release: &str) -> Result<Self> {
        let folder = target().join("guest").join(format!("jool-{release}"));
        let tree = folder.join("tree");
        fs::create_dir_all(&tree)?;
        // 6.1.0-50-amd64: the common headers lack the flavour, the tools belong to all of 6.1.
        let common = release.rsplit_once('-').map_or(release, |(common, _)| common);
        let series = release.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
        let headers = [
            format!("linux-headers-{release}"),
            format!("linux-headers-{common}-common"),
            format!("linux-kbuild-{series}"),
        ];
        let mut version = String::new();
        for package in
            headers.into_iter().chain(["jool-dkms", "jool-tools", "libnl-3-200", "libnl-genl-3-200"].map(str::to_owned))
        {
            let cache = folder.join(&package);
            let name = apt::fetch(std::slice::from_ref(&package), apt::itself, &cache)?;
            run(Command::new("dpkg-deb").arg("--extract").arg(cache.join(format!("{name}.deb"))).arg(&tree))?;
            if package == "jool-dkms" {
                name.split('_').nth(1).unwrap_or_default().clone_into(&mut version);
            }
        }
        let headers = tree.join("usr/src").join(format!("linux-headers-{release}"));
        // It names its other half by where an installation would put it.
        let makefile = headers.join("Makefile");
        let text = fs::read_to_string(&makefile)?;
        fs::write(&makefile, text.replace(" /usr/src", &format!(" {}", tree.join("usr/src").display())))?;
        let upstream = version.split('-').next().unwrap_or_default();
        let source = tree.join("usr/src").join(format!("jool-dkms-{upstream}")).join("src/mod");
        for part in ["common", "nat64"] {
            let mut make = Command::new("make");
            make.arg("-C").arg(&headers).arg(format!("M={}", source.join(part).display())).arg("modules");
            output(&mut make).with_context(|| format!("Jool {version} does not build against {release}"))?;
        }
        Ok(Self { tree, version, source })
    }

    fn modules(&self) -> Result<[Vec<u8>; 2]> {
        let read = |path: &str| -> Result<Vec<u8>> { Ok(fs::read(self.source.join(path))?) };
        Ok([read("common/jool_common.ko")?, read("nat64/jool.ko")?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_read_and_lost_packets_are_no_measurement() {
        let text = "ROW jool 8000 1000 1000\nROW alone 900 1000 0\nROW jool 9000 1000 999\nROW flow 900 1000 10\n";
        assert_eq!(instructions(text, "jool").unwrap().spread(), (8000.0, 9000.0));
        assert_eq!(instructions(text, "alone").unwrap().median(), 900.0);
        assert!(instructions(text, "flow").is_err() && instructions(text, "nat44").is_err());
    }
}

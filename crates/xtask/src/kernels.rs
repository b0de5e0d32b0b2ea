//! `cargo xtask kernels`: the tests of the fast paths inside other kernels of Debian's, under emulation.
use anyhow::{Context as _, Result};

use crate::command::{cargo, output, root};
use crate::guest::Guest;
use crate::setup;

/// What the tests use of the kernel.
const MODULES: &[&str] = &["veth", "sch_ingress", "cls_bpf", "dummy", "tun"];
/// Far fewer random packets than without emulation.
const SCRIPT: &str = "
uname -r
export LAB_REQUIRED=1 SIXGATE_FUZZ_CASES=2000
tests --test-threads=1 fastpath clat:: dns_answers
result $?
";
const SECONDS: u32 = 600;

/// Which kernels.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Debian's packages of kernels, or names for the newest of several.
    #[arg(default_value = "linux-image-amd64")]
    packages: Vec<String>,
}

/// Runs the tests in each.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(setup::Purpose::Test)?;
    let mut build = cargo();
    build.args(["test", "--quiet", "--package", "sixgate-linux", "--lib", "--no-run", "--message-format=json"]);
    let messages = output(&mut build)?;
    let executable = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut executable = executable.filter_map(|message| Some(message["executable"].as_str()?.to_owned()));
    let tests = executable.next_back().context("cargo built no tests")?;
    for package in &options.packages {
        let mut guest = Guest::new(&format!("tests-{package}"), package)?;
        guest.modules(MODULES)?;
        guest.tool("ip")?;
        guest.tool("tc")?;
        guest.program("tests", tests.as_ref(), None)?;
        guest.folder(&root().join("tests/vectors/nat64"))?;
        // The vectors are looked for by way of the crate's folder.
        guest.folder(&root().join("crates/linux/src/fastpath/tests"))?;
        let release = guest.release().to_owned();
        let text = guest.run(SCRIPT, &[], SECONDS)?;
        let summary = text.lines().find(|line| line.contains("test result")).unwrap_or_default();
        println!("{release}: {}", summary.trim());
    }
    Ok(())
}

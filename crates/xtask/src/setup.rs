//! What the host lacks: found out, installed with apt where that is possible, else named in one command.
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{on_path, run};

/// What the host is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Building the image.
    Image,
    /// Running the demo.
    Run,
    /// Running all tests.
    Test,
    /// Measuring.
    Bench,
    /// Measuring the resolver beside others.
    BenchDns,
    /// Measuring the firewall beside others.
    BenchFirewall,
    /// Measuring in a machine with another kernel.
    BenchGuest,
}

/// A Debian package, the program that shows whether it is there, and from which purpose on it is needed.
struct Need {
    program: &'static str,
    package: &'static str,
    purposes: &'static [Purpose],
}

const EVERYTHING: &[Purpose] = &[Purpose::Image, Purpose::Run, Purpose::Test, Purpose::BenchGuest];
const BUILDS: &[Purpose] = &[
    Purpose::Image,
    Purpose::Run,
    Purpose::Test,
    Purpose::Bench,
    Purpose::BenchDns,
    Purpose::BenchFirewall,
    Purpose::BenchGuest,
];
const MACHINES: &[Purpose] = &[Purpose::Run, Purpose::Test, Purpose::BenchGuest];
const MODULES: &[Purpose] = &[Purpose::BenchGuest];
const TESTS: &[Purpose] = &[Purpose::Test];
const LABS: &[Purpose] =
    &[Purpose::Test, Purpose::Bench, Purpose::BenchDns, Purpose::BenchFirewall, Purpose::BenchGuest];
const RESOLVERS: &[Purpose] = &[Purpose::BenchDns];
/// Takes signed updates in the lab, and is a peer of the resolver.
const SIGNED: &[Purpose] = &[Purpose::Test, Purpose::BenchDns];
const BENCHES: &[Purpose] = &[Purpose::Bench];
const FORWARDERS: &[Purpose] = &[Purpose::Bench, Purpose::BenchFirewall];
const FIREWALLS: &[Purpose] = &[Purpose::BenchFirewall];

const NEEDS: &[Need] = &[
    Need { program: "cc", package: "gcc", purposes: EVERYTHING },
    Need { program: "ld", package: "binutils", purposes: EVERYTHING },
    Need { program: "clang", package: "clang", purposes: BUILDS },
    Need { program: "depmod", package: "kmod", purposes: EVERYTHING },
    Need { program: "xz", package: "xz-utils", purposes: EVERYTHING },
    Need { program: "zstd", package: "zstd", purposes: EVERYTHING },
    Need { program: "mke2fs", package: "e2fsprogs", purposes: EVERYTHING },
    Need { program: "qemu-system-x86_64", package: "qemu-system-x86", purposes: MACHINES },
    Need { program: "make", package: "make", purposes: MODULES },
    Need { program: "ip", package: "iproute2", purposes: LABS },
    Need { program: "nft", package: "nftables", purposes: LABS },
    Need { program: "dig", package: "bind9-dnsutils", purposes: LABS },
    Need { program: "curl", package: "curl", purposes: TESTS },
    Need { program: "ping", package: "iputils-ping", purposes: LABS },
    Need { program: "rdisc6", package: "ndisc6", purposes: TESTS },
    Need { program: "ethtool", package: "ethtool", purposes: TESTS },
    // systemd-networkd is a client of the lab.
    Need { program: "networkctl", package: "systemd", purposes: TESTS },
    Need { program: "traceroute", package: "traceroute", purposes: TESTS },
    Need { program: "tcpdump", package: "tcpdump", purposes: TESTS },
    Need { program: "iperf3", package: "iperf3", purposes: FORWARDERS },
    Need { program: "tayga", package: "tayga", purposes: BENCHES },
    Need { program: "dnsperf", package: "dnsperf", purposes: RESOLVERS },
    Need { program: "unbound", package: "unbound", purposes: RESOLVERS },
    Need { program: "named", package: "bind9", purposes: SIGNED },
    Need { program: "openssl", package: "openssl", purposes: TESTS },
    // What Docker in the lab is made of beside what is unpacked, and the package that brings the library it is linked with.
    Need { program: "runc", package: "runc", purposes: TESTS },
    Need { program: "iptables", package: "iptables", purposes: TESTS },
    Need { program: "dmsetup", package: "dmsetup", purposes: TESTS },
    // A C library whose stub resolver is another one.
    Need { program: "musl-gcc", package: "musl-tools", purposes: TESTS },
    Need { program: "kdig", package: "knot-dnsutils", purposes: TESTS },
    Need { program: "python3", package: "python3", purposes: TESTS },
    Need { program: "jsonschema", package: "python3-jsonschema", purposes: TESTS },
    Need { program: "nsd", package: "nsd", purposes: RESOLVERS },
    Need { program: "conntrack", package: "conntrack", purposes: FIREWALLS },
    Need { program: "ufw", package: "ufw", purposes: FIREWALLS },
    Need { program: "taskset", package: "util-linux", purposes: FORWARDERS },
];

/// Servers that the lab's provider and container hosts are made of, and a tool that comes with one. Installed, they would run on
/// the host: they are unpacked into `target/tools/debian` instead, where the lab looks for programs.
const UNPACKED: &[Need] = &[
    Need { program: "dhcpd", package: "isc-dhcp-server", purposes: TESTS },
    Need { program: "radvd", package: "radvd", purposes: TESTS },
    Need { program: "dhcpcd", package: "dhcpcd-base", purposes: TESTS },
    Need { program: "promtool", package: "prometheus", purposes: TESTS },
    // By their paths: the lab means Debian's Docker whatever else is installed, and a busybox that needs no libraries.
    Need { program: "sbin/dockerd", package: "docker.io", purposes: TESTS },
    // Before Debian 13 the client comes with the daemon.
    Need { program: "bin/docker", package: "docker-cli", purposes: TESTS },
    Need { program: "bin/containerd", package: "containerd", purposes: TESTS },
    Need { program: "bin/busybox", package: "busybox-static", purposes: TESTS },
];

/// Subcommands of cargo that the tests use, and the toolchain's components that they come with.
const COMPONENTS: &[(&str, &str)] = &[("fmt", "rustfmt"), ("clippy", "clippy")];

/// Makes sure that everything for `purpose` is there, or says which one command puts it there.
pub(crate) fn ensure(purpose: Purpose) -> Result<()> {
    let missing: Vec<_> = NEEDS
        .iter()
        .filter(|need| need.purposes.contains(&purpose) && !on_path(need.program))
        .map(|need| need.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut install =
        vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--no-install-recommends"];
    install.extend(&missing);
    if !on_path("apt-get") {
        bail!("this needs the Debian packages {}, and there is no apt-get here", missing.join(" "));
    }
    let by_hand = format!("sudo sh -c 'apt-get update && {}'", install[2..].join(" "));
    let Some(privilege) = privilege() else {
        bail!("{} not installed; type\n\n    {by_hand}\n\nand try again", missing.join(", "));
    };
    eprintln!("installing {}", missing.join(", "));
    run(&mut apt(privilege, &["apt-get", "update", "--quiet"]))?;
    let services: Vec<&str> = SERVICES.iter().copied().filter(|service| missing.contains(service)).collect();
    let _silence = if services.is_empty() { None } else { Some(Silence::keep(privilege)?) };
    run(&mut apt(privilege, &install))?;
    for service in services {
        // Without systemd nothing starts it.
        let _ = apt(privilege, &["systemctl", "--quiet", "disable", service]).status();
    }
    Ok(())
}

/// Packages whose service is not wanted: the programs are run by the benchmark itself.
const SERVICES: &[&str] = &["unbound", "bind9", "nsd", "ufw"];
/// Debian's way to say that packages may not start services.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// While it is held, no package that is installed starts a service.
struct Silence(&'static [&'static str]);

impl Silence {
    fn keep(privilege: &'static [&'static str]) -> Result<Option<Self>> {
        if std::path::Path::new(POLICY).exists() {
            return Ok(None);
        }
        let script = format!("printf '#!/bin/sh\\nexit 101\\n' > {POLICY} && chmod 755 {POLICY}");
        run(&mut apt(privilege, &["sh", "-c", &script]))?;
        Ok(Some(Self(privilege)))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = run(&mut apt(self.0, &["rm", POLICY]));
    }
}

/// Unpacks what must not be installed, unless it is there already.
pub(crate) fn unpack(purpose: Purpose) -> Result<()> {
    let home = crate::command::target().join("tools/debian");
    let unpacked =
        |need: &Need| ["usr/sbin", "usr/bin", "usr", ""].iter().any(|it| home.join(it).join(need.program).is_file());
    let lacks = |need: &&Need| !unpacked(need) && !on_path(need.program);
    for need in UNPACKED.iter().filter(|need| need.purposes.contains(&purpose)).filter(lacks) {
        eprintln!("unpacking {}", need.package);
        let folder = home.join("packages").join(need.package);
        std::fs::create_dir_all(&folder)?;
        let download = || run(Command::new("apt-get").current_dir(&folder).args(["download", "--quiet", need.package]));
        if download().is_err() {
            // A fresh machine has no lists of packages yet.
            let Some(privilege) = privilege() else { bail!("run `sudo apt-get update` once and try again") };
            run(&mut apt(privilege, &["apt-get", "update", "--quiet"]))?;
            download()?;
        }
        for file in std::fs::read_dir(&folder)? {
            run(Command::new("dpkg-deb").arg("-x").arg(file?.path()).arg(&home))?;
        }
    }
    Ok(())
}

/// Makes sure that the toolchain's formatter and linter are there: rustup's minimal profile leaves them out.
pub(crate) fn ensure_components() -> Result<()> {
    let answers = |verb: &str| {
        let version = crate::command::cargo().args([verb, "--version"]).output();
        version.is_ok_and(|output| output.status.success())
    };
    let missing: Vec<_> = COMPONENTS.iter().filter(|(verb, _)| !answers(verb)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !on_path("rustup") {
        bail!("the Rust toolchain lacks {}; install it from where the toolchain came from", missing.join(" and "));
    }
    run(Command::new("rustup").current_dir(crate::command::root()).args(["component", "add"]).args(&missing))
}

/// How root's rights are had: the words before the command.
fn privilege() -> Option<&'static [&'static str]> {
    if is_root() {
        return Some(&[]);
    }
    let sudo = Command::new("sudo").args(["--non-interactive", "true"]).output();
    sudo.is_ok_and(|output| output.status.success()).then_some(&["sudo", "--non-interactive"])
}

/// Whether this runs as root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|myself| myself.uid() == 0)
}

fn apt(privilege: &[&str], words: &[&str]) -> Command {
    let mut all = privilege.iter().chain(words);
    let mut command = Command::new(all.next().expect("at least apt-get"));
    command.args(all);
    command
}

/// Installs a program of the Rust ecosystem into `target/tools` unless it is there already or on the path.
pub(crate) fn cargo_tool(name: &str, version: &str) -> Result<std::path::PathBuf> {
    if on_path(name) {
        return Ok(name.into());
    }
    let home = crate::command::target().join("tools");
    let program = home.join("bin").join(name);
    if !program.is_file() {
        run(crate::command::cargo()
            .args(["install", "--locked", "--quiet", "--version", version, "--root"])
            .arg(&home)
            .arg(name))?;
    }
    Ok(program)
}

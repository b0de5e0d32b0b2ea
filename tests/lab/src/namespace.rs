//! A network namespace: a host of the lab, with programs and sockets inside.
use std::fs::{self, File};
use std::net::Ipv6Addr;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::program::{self, DEADLINE, Outcome};
use crate::wait;

/// A network namespace with `lo` up. Dropping it removes it with everything in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

impl Namespace {
    /// Makes a namespace; the name has to be unique on this machine.
    pub fn create(name: &str) -> Result<Self> {
        program::tool(&format!("ip netns add {name}"))?;
        let handle = File::open(format!("/run/netns/{name}"));
        let this = Self { name: name.to_owned(), handle: handle.with_context(|| format!("/run/netns/{name}"))? };
        this.ip("link set lo up")?;
        Ok(this)
    }

    /// Names a namespace that something else has made, by the file that it is seen as. Dropping it ends what runs inside.
    pub fn attach(name: &str, file: &Path) -> Result<Self> {
        let enter = format!("--net={}", file.display());
        let attach = format!("exec ip netns attach {name} $$");
        program::run(["nsenter", &enter, "sh", "-c", &attach], DEADLINE)?.text()?;
        let handle = File::open(format!("/run/netns/{name}"));
        Ok(Self { name: name.to_owned(), handle: handle.with_context(|| format!("/run/netns/{name}"))? })
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a thread inside. Sockets made there stay inside wherever they are used later.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = || move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network));
        let joined = thread::scope(|scope| {
            scope
                .spawn(|| {
                    enter().expect("the lab runs as root, which may enter namespaces it made");
                    work()
                })
                .join()
        });
        joined.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Command line that runs `line` inside; words are separated by blanks.
    pub fn command_line(&self, line: &str) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].into_iter().chain(line.split_whitespace()).map(str::to_owned).collect()
    }

    /// Runs a program inside, to its end.
    pub fn run(&self, line: &str) -> Result<Outcome> {
        self.run_for(line, DEADLINE)
    }

    /// As [`Namespace::run`], with a deadline of its own.
    pub fn run_for(&self, line: &str, deadline: Duration) -> Result<Outcome> {
        program::run(self.command_line(line), deadline)
    }

    /// `ip` inside, which has to succeed.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        program::tool(&format!("ip -netns {} {arguments}", self.name))
    }

    /// `ip -json` inside.
    pub fn ip_json(&self, arguments: &str) -> Result<Value> {
        let text = self.ip(&format!("-json {arguments}"))?;
        // `ip -json` prints nothing at all for an empty table.
        if text.trim().is_empty() { Ok(Value::Array(Vec::new())) } else { Ok(serde_json::from_str(&text)?) }
    }

    /// Reads below `/proc/sys` inside.
    pub fn sysctl(&self, path: &str) -> Result<String> {
        let file = format!("/proc/sys/{path}");
        let text = self.inside(|| fs::read_to_string(&file)).with_context(|| file.clone())?;
        Ok(text.trim().to_owned())
    }

    /// Writes below `/proc/sys` inside.
    pub fn set_sysctl(&self, path: &str, value: &str) -> Result<()> {
        let file = format!("/proc/sys/{path}");
        self.inside(|| fs::write(&file, value)).with_context(|| format!("{file} = {value}"))
    }

    /// What programs inside find as `/etc/resolv.conf`.
    pub fn set_resolver(&self, resolver: Ipv6Addr) -> Result<()> {
        fs::create_dir_all(self.etc())?;
        fs::write(self.resolver_file(), format!("nameserver {resolver}\noptions timeout:3 attempts:2\n"))?;
        Ok(())
    }

    /// The file of [`Namespace::set_resolver`].
    pub fn resolver_file(&self) -> PathBuf {
        self.etc().join("resolv.conf")
    }

    fn etc(&self) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.name)
    }

    /// The link's global IPv6 addresses that are past duplicate address detection.
    pub fn global_addresses(&self, link: &str) -> Result<Vec<Ipv6Addr>> {
        let links = self.ip_json(&format!("-6 address show dev {link} scope global"))?;
        let addresses = links.as_array().into_iter().flatten().flat_map(|link| link["addr_info"].as_array());
        Ok(addresses
            .flatten()
            .filter(|address| address["tentative"].is_null())
            .filter_map(|address| address["local"].as_str()?.parse().ok())
            .collect())
    }

    /// Waits until the link holds a usable global address, and says which.
    pub fn await_global_address(&self, link: &str, deadline: Duration) -> Result<Ipv6Addr> {
        wait::until(&format!("{} to have a global address on {link}", self.name), deadline, || {
            self.global_addresses(link).ok()?.first().copied()
        })
    }

    /// Next hops of the IPv6 default routes.
    pub fn default_gateways(&self) -> Result<Vec<String>> {
        let routes = self.ip_json("-6 route show default")?;
        let routes = routes.as_array().cloned().unwrap_or_default();
        Ok(routes.iter().filter_map(|route| Some(route["gateway"].as_str()?.to_owned())).collect())
    }
}

impl Namespace {
    /// Ends whatever still runs inside: what a program under test has started may outlive it.
    fn end_programs(&self) -> Result<()> {
        for pid in program::tool(&format!("ip netns pids {}", self.name))?.split_whitespace() {
            program::tool(&format!("kill -KILL {pid}"))?;
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A failure leaves a namespace that `World::sweep` of the next run removes.
        let _ = self.end_programs();
        let _ = program::tool(&format!("ip netns delete {}", self.name));
        let _ = fs::remove_dir_all(self.etc());
    }
}

//! Docker on a host of the lab: Debian's own daemon with its containers, as whoever uses it runs them.
//!
//! The daemon is process 1 of a process namespace and has mounts of its own: what it starts ends with it, and what the machine
//! has of Docker, if anything, is neither seen nor touched.
use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::lab::SOON;
use crate::namespace::Namespace;
use crate::program::{self, Daemon, Outcome};
use crate::wait;
use crate::world::{World, target_folder};

/// The image that containers are made of.
const IMAGE: &str = "box";
/// Programs of busybox in the image.
const PROGRAMS: &[&str] = &["sh", "cat", "httpd", "wget", "nslookup", "ping", "timeout"];
/// What a container does: its web servers tell whoever asks for [`PEER`] who he is.
const SERVE: &str = "httpd -p 8080 -h /www && exec httpd -f -p 8081 -h /www";
/// Path of the page that says from where it was asked for.
pub const PEER: &str = "cgi-bin/peer";
const PEER_SCRIPT: &str = "#!/bin/sh\nprintf 'Content-type: text/plain\\r\\n\\r\\n%s\\n' \"$REMOTE_ADDR\"\n";
/// How long `docker` may take for anything.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long the daemon may take to end, containers included.
const END: Duration = Duration::from_secs(30);

/// Docker on one host; dropping it ends it with all of its containers.
#[derive(Debug)]
pub struct Docker {
    daemon: Option<Daemon>,
    line: Vec<String>,
    settings: PathBuf,
    log: PathBuf,
    /// What the daemon finds as `/run`.
    run: PathBuf,
    /// Images and layers.
    data: PathBuf,
    /// Name of the daemon's own control group.
    group: String,
}

/// A running container.
#[derive(Debug)]
pub struct Container<'a> {
    /// Its network namespace, for programs and sockets beside those in the container.
    pub namespace: Namespace,
    /// Its IPv6 address, where it has one that is not link-local.
    pub address: Option<Ipv6Addr>,
    /// Its name.
    pub name: String,
    docker: &'a Docker,
}

impl Docker {
    /// Starts the daemon in a host's network namespace, with `daemon.json`, and makes the image.
    ///
    /// It finds what [`Namespace::set_resolver`] wrote as `/etc/resolv.conf`.
    pub fn start(world: &World, host: &Namespace, settings: &Value) -> Result<Self> {
        let run = world.runtime().join(host.name()).join("run");
        let data = world.folder().join(format!("docker-{}", host.name()));
        let place = |name: &str| world.folder().join(format!("{}-{name}", host.name()));
        let (file, launcher) = (place("daemon.json"), place("docker.sh"));
        fs::create_dir_all(&run)?;
        // Docker keeps a key beside its settings wherever those are, and shims have their sockets below /run.
        let script = format!(
            "set -e
             mount --bind {} /etc/resolv.conf
             mkdir -p /etc/docker
             mount -t tmpfs tmpfs /etc/docker
             mount --bind {} /run
             export PATH={tools}/usr/sbin:{tools}/usr/bin:$PATH
             exec dockerd --config-file {} --data-root {} --cgroup-parent /{} --exec-opt native.cgroupdriver=cgroupfs\n",
            host.resolver_file().display(),
            run.display(),
            file.display(),
            data.display(),
            host.name(),
            tools = tools().display(),
        );
        fs::write(&launcher, script)?;
        let enter = format!("--net=/run/netns/{}", host.name());
        let line = ["nsenter", &enter, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh"];
        let line = line.iter().map(|&word| word.to_owned()).chain([launcher.display().to_string()]).collect();
        let (group, log) = (host.name().to_owned(), place("docker.log"));
        let mut this = Self { daemon: None, line, settings: file, log, run, data, group };
        this.configure(settings)?;
        this.start_again()?;
        this.import(&place("box"))?;
        Ok(this)
    }

    /// Where its `daemon.json` lies.
    pub fn settings(&self) -> &Path {
        &self.settings
    }

    /// Writes its `daemon.json`.
    pub fn configure(&self, settings: &Value) -> Result<()> {
        fs::write(&self.settings, format!("{settings:#}\n")).with_context(|| self.settings.display().to_string())
    }

    /// Ends the daemon as systemd does, with its containers; they stay as they are configured.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            self.terminate()?;
            daemon.wait(END)?;
        }
        Ok(())
    }

    /// Starts the daemon, and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        // The file of the last one would name a process that this one takes for its own.
        let _ = fs::remove_file(self.run.join("docker.pid"));
        self.daemon = Some(Daemon::start(&self.line, &self.log)?);
        wait::until_ok("Docker to answer", PATIENCE, || {
            let daemon = self.daemon.as_mut().context("a daemon")?;
            if !daemon.runs() {
                return Ok(Err(anyhow::anyhow!("Docker has ended:\n{}", daemon.log())));
            }
            self.command("version").and_then(Outcome::text).map(|_| Ok(()))
        })?
    }

    /// Ends the daemon itself, and what it runs with it.
    fn terminate(&self) -> Result<()> {
        for pid in program::tool(&format!("ip netns pids {}", self.group))?.split_whitespace() {
            if fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "dockerd") {
                program::tool(&format!("kill -TERM {pid}"))?;
            }
        }
        Ok(())
    }

    fn import(&self, folder: &Path) -> Result<()> {
        let busybox = ["usr/bin", "bin"].iter().map(|it| tools().join(it).join("busybox"));
        let busybox = busybox.filter(|it| it.is_file()).find(|it| !it.is_symlink());
        let busybox = busybox.context("no static busybox is unpacked: `cargo xtask test` does it")?;
        let (bin, pages) = (folder.join("bin"), folder.join("www/cgi-bin"));
        for place in [&bin, &pages, &folder.join("etc"), &folder.join("tmp")] {
            fs::create_dir_all(place)?;
        }
        fs::copy(busybox, bin.join("busybox"))?;
        for program in PROGRAMS {
            std::os::unix::fs::symlink("busybox", bin.join(program))?;
        }
        fs::write(pages.join("peer"), PEER_SCRIPT)?;
        let tar = folder.with_extension("tar");
        program::tool(&format!("chmod 755 {}", pages.join("peer").display()))?;
        program::tool(&format!("tar -C {} -cf {} .", folder.display(), tar.display()))?;
        self.command(&format!("import {} {IMAGE}", tar.display()))?.text()?;
        fs::remove_dir_all(folder)?;
        Ok(fs::remove_file(tar)?)
    }

    /// `docker` with these words, which are separated by blanks.
    pub fn command(&self, words: &str) -> Result<Outcome> {
        self.docker(words, &[])
    }

    fn docker(&self, words: &str, more: &[&str]) -> Result<Outcome> {
        let socket = format!("unix://{}/docker.sock", self.run.display());
        let config = self.run.display().to_string();
        // A newer client may not speak with the daemon that is meant.
        let unpacked = tools().join("usr/bin/docker");
        let client = if unpacked.is_file() { unpacked.display().to_string() } else { "docker".to_owned() };
        let line = [&client, "--config", &config, "--host", &socket].into_iter();
        program::run(line.chain(words.split_whitespace()).chain(more.iter().copied()), PATIENCE)
    }

    /// Runs a container that serves at ports 8080 and 8081, with further options of `docker run`.
    pub fn run(&self, name: &str, options: &str) -> Result<Container<'_>> {
        let words = format!("run --detach --stop-signal KILL --name {name} --hostname {name} {options} {IMAGE} sh -c");
        self.docker(&words, &[SERVE])?.text().with_context(|| self.log())?;
        self.find(name)
    }

    /// A container that runs already.
    pub fn find(&self, name: &str) -> Result<Container<'_>> {
        let told: Value = serde_json::from_str(&self.command(&format!("inspect {name}"))?.text()?)?;
        let settings = &told[0]["NetworkSettings"];
        let key = settings["SandboxKey"].as_str().and_then(|path| path.rsplit('/').next()).context("a namespace")?;
        let daemon = self.daemon.as_ref().context("Docker does not run")?;
        let file = format!("/proc/{}/root/run/docker/netns/{key}", daemon.pid());
        let namespace = Namespace::attach(&format!("{}-{name}", self.group), Path::new(&file))?;
        let networks = settings["Networks"].as_object();
        let addresses = networks.into_iter().flatten().filter_map(|(_, it)| it["GlobalIPv6Address"].as_str());
        let address = addresses.filter_map(|it| it.parse().ok()).next();
        Ok(Container { namespace, address, name: name.to_owned(), docker: self })
    }

    /// What the daemon has written.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    fn remove_groups(&self) -> Result<()> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup")?.filter_map(|it| Some(it.ok()?.path()));
        for group in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|it| it.join(&self.group)) {
            let Ok(inner) = fs::read_dir(&group) else { continue };
            for folder in inner.filter_map(|it| Some(it.ok()?.path())).filter(|it| it.is_dir()) {
                fs::remove_dir(folder)?;
            }
            fs::remove_dir(group)?;
        }
        Ok(())
    }
}

/// Where packages are unpacked that are not installed.
fn tools() -> PathBuf {
    target_folder().join("tools/debian")
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            // All processes of the namespace end with the first.
            let _ = daemon.signal(Signal::KILL);
        }
        // The last of them may take a moment to go; what stays afterwards is empty groups.
        let _ = wait::until_ok("the control groups to be empty", Duration::from_secs(3), || self.remove_groups());
        let _ = fs::remove_dir_all(&self.data);
        let _ = fs::remove_dir_all(&self.run);
    }
}

impl Container<'_> {
    /// Its IPv6 address.
    pub fn address(&self) -> Result<Ipv6Addr> {
        self.address.with_context(|| format!("{} has no IPv6 address", self.name))
    }

    /// Runs a program in the container, to its end.
    pub fn exec(&self, line: &str) -> Result<Outcome> {
        self.docker.command(&format!("exec {} {line}", self.name))
    }

    /// Fetches a URL by the container's own program and resolver.
    pub fn fetch(&self, url: &str) -> Result<String> {
        Ok(self.exec(&format!("timeout 15 wget -q -O - {url}"))?.text()?.trim().trim_matches(['[', ']']).to_owned())
    }

    /// As [`Container::fetch`], until it works or the deadline passes.
    pub fn await_fetch(&self, url: &str) -> Result<String> {
        wait::until_ok(&format!("{} to fetch {url}", self.name), SOON, || self.fetch(url))
    }

    /// Whom another container's page takes this one for.
    pub fn seen_by(&self, other: &Container<'_>) -> Result<Ipv6Addr> {
        let seen = self.await_fetch(&format!("http://[{}]:8080/{PEER}", other.address()?))?;
        seen.parse().with_context(|| format!("the container says {seen:?}"))
    }

    /// Fails when another container is reached.
    pub fn ensure_refused(&self, url: &str) -> Result<()> {
        let outcome = self.exec(&format!("timeout 2 wget -q -O - {url}"))?;
        ensure!(!outcome.success, "{} reaches {url}", self.name);
        Ok(())
    }
}

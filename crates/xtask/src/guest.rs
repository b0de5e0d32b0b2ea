//! A machine with one of Debian's kernels and programs of this one: what needs another kernel, or its modules, runs in there.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use sixgate_qemu::cpio::{Archive, Entry};

use crate::command::{output, target};
use crate::image::apt;
use crate::image::kernel::{self, Kernel};
use crate::image::{base, modules};

/// What scripts say last.
const RESULT: &str = "RESULT ";

/// Before a script runs: modules, the kernel's own file systems, the shell's programs.
const BEGIN: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
mkdir -p /run /tmp; mount -t bpf bpf /sys/fs/bpf
mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
for module in /modules/*; do insmod $module; done
";

/// The machine before it starts.
pub(crate) struct Guest {
    name: String,
    kernel: Kernel,
    folder: PathBuf,
    archive: Archive,
    modules: usize,
}

impl Guest {
    /// With the kernel of a package of Debian's, or of what that depends on.
    pub(crate) fn new(name: &str, package: &str) -> Result<Self> {
        let folder = target().join("guest");
        let cache = folder.join(package);
        let kernel = kernel::named(&cache, package)?;
        let (_, busybox) = apt::unpacked("busybox-static", &folder.join("packages"))?;
        let mut archive = base();
        archive.add("bin/busybox", Entry::Executable(fs::read(busybox.join("bin/busybox"))?));
        Ok(Self { name: name.to_owned(), kernel, folder, archive, modules: 0 })
    }

    /// What the kernel calls itself.
    pub(crate) fn release(&self) -> &str {
        &self.kernel.release
    }

    /// Has modules of the kernel's loaded before the script runs, in an order that works.
    pub(crate) fn modules(&mut self, names: &[&str]) -> Result<()> {
        modules::in_load_order(&self.kernel, names)?.into_iter().for_each(|module| self.module(module));
        Ok(())
    }

    /// Has another module loaded after those.
    pub(crate) fn module(&mut self, content: Vec<u8>) {
        self.archive.add(&format!("modules/{:03}.ko", self.modules), Entry::File(content));
        self.modules += 1;
    }

    /// Puts a program into /bin, and the libraries that it needs to where they are here, or out of an unpacked tree.
    pub(crate) fn program(&mut self, name: &str, path: &Path, tree: Option<&Path>) -> Result<()> {
        // Debugging information would take more memory than the machine has.
        let stripped = self.folder.join("stripped");
        output(Command::new("strip").arg("-o").arg(&stripped).arg(path))?;
        self.archive.add(&format!("bin/{name}"), Entry::Executable(fs::read(&stripped)?));
        let mut ldd = Command::new("ldd");
        if let Some(tree) = tree {
            let folders = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(|folder| tree.join(folder));
            ldd.env("LD_LIBRARY_PATH", std::env::join_paths(folders)?);
        }
        // A program without libraries is an error to ldd.
        let text = String::from_utf8_lossy(&ldd.arg(path).output()?.stdout).into_owned();
        for line in text.lines() {
            let Some(library) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
            let place = match tree {
                Some(folder) if library.starts_with(&*folder.to_string_lossy()) => {
                    format!("lib/{}", library.rsplit('/').next().unwrap_or_default())
                }
                _ => library.trim_start_matches('/').to_owned(),
            };
            self.archive.add(&place, Entry::Executable(fs::read(library).with_context(|| library.to_owned())?));
        }
        Ok(())
    }

    /// Puts this program into /bin, also where another build has taken its file's place meanwhile.
    pub(crate) fn myself(&mut self) -> Result<()> {
        let copy = self.folder.join("xtask");
        fs::copy("/proc/self/exe", &copy)?;
        self.program("xtask", &copy, None)
    }

    /// As [`Self::program`], for one that is on this machine's path.
    pub(crate) fn tool(&mut self, name: &str) -> Result<()> {
        let path = output(Command::new("sh").args(["-c", &format!("PATH=$PATH:/usr/sbin:/sbin command -v {name}")]))?;
        self.program(name, Path::new(path.trim()), None)
    }

    /// Puts a folder where it is here.
    pub(crate) fn folder(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                self.folder(&path)?;
            } else {
                self.archive.add(&path.to_string_lossy(), Entry::File(fs::read(&path)?));
            }
        }
        Ok(())
    }

    /// Runs a shell script to its end, after which the machine powers off, and gives what it printed. The script ends with
    /// `result CODE`.
    pub(crate) fn run(mut self, script: &str, options: &[&str], seconds: u32) -> Result<String> {
        let script = format!("{BEGIN}\nresult() {{ echo \"{RESULT}$1\"; poweroff -f; }}\n{script}\n");
        self.archive.add("init", Entry::Executable(script.into()));
        // It is read once: compressing it would take longer.
        let initrd = self.folder.join(format!("{}.cpio", self.name));
        fs::write(&initrd, self.archive.emit())?;
        let boot = self.kernel.tree.join("boot").join(format!("vmlinuz-{}", self.kernel.release));
        eprintln!("{} in a machine with {}", self.name, self.kernel.package);
        let mut command = Command::new("setpriv");
        // QEMU ends with us, also when we are killed.
        command.args(["--pdeathsig", "KILL", "--", "timeout", "-k", "5", &seconds.to_string(), "qemu-system-x86_64"]);
        command.args(["-m", "1024", "-display", "none", "-serial", "stdio", "-no-reboot", "-nic", "none"]);
        command.args(options).args(["-append", "console=ttyS0 panic=-1 quiet"]);
        let ran = command.arg("-kernel").arg(boot).arg("-initrd").arg(initrd).stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        let log = self.folder.join(format!("{}.log", self.name));
        fs::write(&log, &text)?;
        let succeeded = text.lines().any(|line| line.trim() == format!("{RESULT}0"));
        ensure!(succeeded, "{} did not succeed: {}", self.name, log.display());
        Ok(text)
    }
}

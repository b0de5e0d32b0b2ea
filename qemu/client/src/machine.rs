//! What a process 1 has to do before anything else, and its last deed.
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};
use rustix::time::{ClockId, clock_gettime};

/// Mounts the kernel's own file systems.
pub(crate) fn mount_all() -> Result<()> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        match mount(kind, target, kind, MountFlags::empty(), None) {
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) => return Err(anyhow!(error).context(format!("cannot mount {target}"))),
        }
    }
    Ok(())
}

/// Loads the image's modules, which are numbered in the order in which they depend on each other.
pub(crate) fn load_modules() -> Result<()> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir("/modules")?.map(|entry| Ok(entry?.path())).collect::<Result<_>>().context("/modules")?;
    paths.sort();
    for path in paths {
        finit_module(File::open(&path)?, c"", 0).with_context(|| format!("cannot load {}", path.display()))?;
    }
    Ok(())
}

/// The value of `name=value` on the kernel's command line.
pub(crate) fn argument(name: &str) -> Result<String> {
    let line = fs::read_to_string("/proc/cmdline")?;
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.map(str::to_owned).with_context(|| format!("{name} is missing on the kernel's command line"))
}

/// Time since the kernel started.
pub(crate) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// Switches the machine off. Process 1 must not end: the kernel would call that a panic.
pub(crate) fn power_off() -> ! {
    loop {
        if let Err(error) = reboot(RebootCommand::PowerOff) {
            println!("client: the kernel refuses to power off: {error}");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

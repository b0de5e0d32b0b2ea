//! Locking the kernel up once everything is in place: no more modules, no other kernel, nothing for those without rights.
use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::modules::Modules;

/// Values that a router can do with from its first moment on. Kernels lack some of them.
const SYSCTLS: &[(&str, &str)] = &[
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/yama/ptrace_scope", "3"),
    ("kernel/io_uring_disabled", "2"),
    ("kernel/sysrq", "0"),
    ("kernel/core_pattern", "|/none"),
    ("user/max_user_namespaces", "0"),
    ("vm/unprivileged_userfaultfd", "0"),
    ("dev/tty/ldisc_autoload", "0"),
    ("fs/suid_dumpable", "0"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    // Cards are raised before the router says which of them may listen to advertisements.
    ("net/ipv6/conf/default/accept_ra", "0"),
];

/// Modules that are no use before their hardware is there and make a device of their own as soon as they are loaded.
const ONLY_WHEN_ASKED: &[&str] = &["dummy", "softdog"];

/// Sets what can be set at the start. Returns what the kernel refused.
pub fn set_values() -> Vec<(&'static str, io::Error)> {
    let set = |(path, value): &(&'static str, &str)| match fs::write(Path::new("/proc/sys").join(path), value) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Some((*path, error)),
        Ok(()) | Err(_) => None,
    };
    SYSCTLS.iter().filter_map(set).collect()
}

/// Loads all modules of the image, so that cards and drives that are plugged in later find their drivers, then no more for
/// good; the files go, and their memory with them. Returns how many were new.
///
/// # Errors
/// The kernel does not lock its modules.
pub fn lock_modules() -> io::Result<usize> {
    let mut modules = Modules::open();
    let mut count = 0;
    for name in modules.names().into_iter().filter(|name| !ONLY_WHEN_ASKED.contains(&name.as_str())) {
        // A driver that finds nothing to drive may say so by failing.
        count += modules.load(&name).unwrap_or_default();
    }
    fs::write("/proc/sys/kernel/modules_disabled", "1")?;
    let _ = fs::remove_dir_all("/lib/modules");
    Ok(count)
}

/// Not even root changes the running kernel from here on (lockdown's mode `integrity`).
///
/// # Errors
/// The kernel has no lockdown.
pub fn lock_down() -> io::Result<()> {
    const HOME: &str = "/sys/kernel/security";
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount("securityfs", HOME, "securityfs", flags, c"") {
        Ok(()) | Err(Errno::BUSY) => {}
        Err(error) => return Err(error.into()),
    }
    let file = Path::new(HOME).join("lockdown");
    // Secure Boot has switched it on already.
    if fs::read_to_string(&file)?.contains("[none]") { fs::write(file, "integrity") } else { Ok(()) }
}

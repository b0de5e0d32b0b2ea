//! The file systems that every Linux program expects.
use std::ffi::CStr;
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

struct Mount {
    kind: &'static str,
    target: &'static str,
    options: &'static CStr,
    executables: bool,
}

const MOUNTS: &[Mount] = &[
    Mount { kind: "proc", target: "/proc", options: c"", executables: false },
    Mount { kind: "sysfs", target: "/sys", options: c"", executables: false },
    Mount { kind: "devtmpfs", target: "/dev", options: c"mode=0755", executables: true },
    Mount { kind: "devpts", target: "/dev/pts", options: c"mode=0620,ptmxmode=0666", executables: false },
    Mount { kind: "tmpfs", target: "/run", options: c"mode=0755,size=16m", executables: false },
    Mount { kind: "tmpfs", target: "/tmp", options: c"mode=1777,size=16m", executables: false },
    Mount { kind: "bpf", target: "/sys/fs/bpf", options: c"mode=0700", executables: false },
    // The types of the whole kernel: the loader of programs would unpack them to 20 MB each time, and ours need none of them.
    Mount { kind: "tmpfs", target: "/sys/kernel/btf", options: c"mode=0555,size=4k", executables: false },
];

/// Mounts them all; what is mounted already stays. Returns what failed, so that one missing file system does not keep the others away.
pub fn mount_all() -> Vec<(&'static str, io::Error)> {
    MOUNTS.iter().filter_map(|mount| Some((mount.target, mount.apply().err()?))).collect()
}

impl Mount {
    fn apply(&self) -> io::Result<()> {
        fs::create_dir_all(self.target)?;
        let mut flags = MountFlags::NOSUID;
        if !self.executables {
            flags |= MountFlags::NOEXEC | MountFlags::NODEV;
        }
        if self.kind == "devpts" {
            flags -= MountFlags::NODEV;
        }
        match mount(self.kind, self.target, self.kind, flags, self.options) {
            // The kernel may have mounted /dev before it started us.
            Ok(()) | Err(Errno::BUSY) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

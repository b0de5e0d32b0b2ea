//! Where programs and maps outlive the process: a folder of a BPF file system, one for each network namespace and layout.
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use sixgate_fastpath::layout;

/// BPF_FS_MAGIC.
const MAGIC: i64 = 0xcafe_4a11;
/// Where the kernel has a place for the file system.
const USUAL: &str = "/sys/fs/bpf";

/// The folder.
#[derive(Debug)]
pub(super) struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Makes the folder, and the file system in its usual place where that is missing. Those of other layouts go.
    pub(super) fn open(bpffs: &Path) -> io::Result<Self> {
        if !is_bpffs(bpffs) && bpffs == Path::new(USUAL) {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            match mount("bpf", bpffs, "bpf", flags, c"mode=0700") {
                Ok(()) | Err(Errno::BUSY) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let this = Self::place(bpffs)?;
        this.discard_others()?;
        fs::create_dir_all(&this.folder)?;
        Ok(this)
    }

    /// What a former process left, of whatever layout.
    pub(super) fn existing(bpffs: &Path) -> io::Result<Self> {
        let this = Self::place(bpffs)?;
        fs::metadata(this.home())?;
        Ok(this)
    }

    fn place(bpffs: &Path) -> io::Result<Self> {
        if !is_bpffs(bpffs) {
            return Err(io::Error::other(format!("{} is no BPF file system", bpffs.display())));
        }
        let namespace = fs::metadata("/proc/thread-self/ns/net")?.ino();
        let folder = bpffs.join("sixgate").join(namespace.to_string()).join(format!("v{}", layout::VERSION));
        Ok(Self { folder })
    }

    /// The folder of this network namespace.
    fn home(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    /// Path of a map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Path of the hook on an interface.
    pub(super) fn link(&self, interface: u32) -> PathBuf {
        self.folder.join(format!("link-{interface}"))
    }

    /// Interfaces with a hook that was pinned.
    pub(super) fn links(&self) -> Vec<u32> {
        let names = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| name.to_str()?.strip_prefix("link-")?.parse().ok()).collect()
    }

    /// Removes everything; hooks that nobody holds any more go with it.
    pub(super) fn discard(self) -> io::Result<()> {
        fs::remove_dir_all(self.home())
    }

    fn discard_others(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.home()).into_iter().flatten() {
            let path = entry?.path();
            if path != self.folder {
                tracing::info!("removing the fast path of another layout in {}", path.display());
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }
}

fn is_bpffs(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|about| about.f_type == MAGIC)
}

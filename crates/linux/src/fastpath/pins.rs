//! Where programs and maps outlive the process: a folder of a BPF file system, one for each network namespace and layout.
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

/// BPF_FS_MAGIC.
const MAGIC: i64 = 0xcafe_4a11;
/// Where the kernel has a place for the file system.
const USUAL: &str = "/sys/fs/bpf";

/// Whose folder, with the version of what lies in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
}

/// The folder.
#[derive(Debug)]
pub(crate) struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Makes the folder, and the file system in its usual place where that is missing. Those of other layouts go.
    pub(crate) fn open(bpffs: &Path, owner: Owner) -> io::Result<Self> {
        if !is_bpffs(bpffs) && bpffs == Path::new(USUAL) {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            match mount("bpf", bpffs, "bpf", flags, c"mode=0700") {
                Ok(()) | Err(Errno::BUSY) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let this = Self::place(bpffs, owner)?;
        this.discard_others()?;
        fs::create_dir_all(&this.folder)?;
        Ok(this)
    }

    /// What a former process left, of whatever layout.
    pub(crate) fn existing(bpffs: &Path, owner: Owner) -> io::Result<Self> {
        let this = Self::place(bpffs, owner)?;
        fs::metadata(this.home())?;
        Ok(this)
    }

    fn place(bpffs: &Path, owner: Owner) -> io::Result<Self> {
        if !is_bpffs(bpffs) {
            return Err(io::Error::other(format!("{} is no BPF file system", bpffs.display())));
        }
        let namespace = fs::metadata("/proc/thread-self/ns/net")?.ino();
        let folder = bpffs.join(owner.name).join(namespace.to_string()).join(format!("v{}", owner.version));
        Ok(Self { folder })
    }

    /// The folder of this network namespace.
    fn home(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    /// Path of a map.
    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Path of the hook on an interface.
    pub(crate) fn link(&self, name: &str, interface: u32) -> PathBuf {
        self.folder.join(format!("{name}-{interface}"))
    }

    /// Interfaces with a hook that was pinned.
    pub(crate) fn links(&self, name: &str) -> Vec<u32> {
        let names = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter_map(|file| file.to_str()?.strip_prefix(name)?.strip_prefix('-')?.parse().ok()).collect()
    }

    /// Removes everything; hooks that nobody holds any more go with it.
    pub(crate) fn discard(self) -> io::Result<()> {
        fs::remove_dir_all(self.home())
    }

    fn discard_others(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.home()).into_iter().flatten() {
            let path = entry?.path();
            if path != self.folder {
                tracing::info!("removing what is of another layout in {}", path.display());
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }
}

fn is_bpffs(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|about| about.f_type == MAGIC)
}

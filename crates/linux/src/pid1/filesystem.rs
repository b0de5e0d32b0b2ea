//! A mounted file system as a whole: frozen for a snapshot, thawed, trimmed.
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// `_IOWR('X', 119, int)`, `_IOWR('X', 120, int)`, `_IOWR('X', 121, struct fstrim_range)` of linux/fs.h.
const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;
const FITRIM: libc::c_ulong = 0xc018_5879;

/// `struct fstrim_range` of linux/fs.h.
#[repr(C)]
struct Range {
    start: u64,
    length: u64,
    least: u64,
}

/// Writes everything to the disk and lets nobody write until [`thaw`]. EBUSY where it is frozen already.
pub fn freeze(mounted_at: &Path) -> io::Result<()> {
    // SAFETY: the request takes an int that it does not look at; the descriptor lives through the call.
    check(unsafe { libc::ioctl(File::open(mounted_at)?.as_raw_fd(), FIFREEZE, 0) })
}

/// Lets everybody write again. EINVAL where it is not frozen.
pub fn thaw(mounted_at: &Path) -> io::Result<()> {
    // SAFETY: as above.
    check(unsafe { libc::ioctl(File::open(mounted_at)?.as_raw_fd(), FITHAW, 0) })
}

/// Tells the disk which blocks are not in use; returns how many bytes they are.
pub fn trim(mounted_at: &Path) -> io::Result<u64> {
    let mut range = Range { start: 0, length: u64::MAX, least: 0 };
    let folder = File::open(mounted_at)?;
    // SAFETY: `range` is the structure that the request reads and writes, and it lives through the call.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), FITRIM, &raw mut range) })?;
    Ok(range.length)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_frozen_says_why() {
        assert!(freeze(Path::new("/nonexistent")).is_err());
        // The file system of processes supports neither; nothing is frozen by this.
        assert!(freeze(Path::new("/proc")).is_err() && thaw(Path::new("/proc")).is_err());
        assert!(trim(Path::new("/proc")).is_err());
    }
}

//! The partition of configuration and state: mounted, and made new when it is damaged, with what could be read of it.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sixgate_engine::finding::{Finding, Severity};
use sixgate_linux::pid1;

use super::partition;

/// Where it is mounted.
pub(crate) const HOME: &str = "/var/lib/sixgate";
/// The configuration's folder on it.
pub(crate) const CONFIGURATION: &str = "/var/lib/sixgate/configuration";
/// A file that asks for everything to be made new at the next start.
pub(crate) const RESET: &str = "/var/lib/sixgate/factory-reset";
/// The blocks of an empty file system, as the image's builder leaves them: number, content.
const TEMPLATE: &str = "/etc/state.template";
const BLOCK: usize = 4096;

/// How long the disk may take to appear after a boot from it.
const DISK: Duration = Duration::from_secs(10);
/// Free bytes below which a configuration may no longer be written.
const FULL: u64 = 256 << 10;
/// What is taken over into a new file system, where it can be read.
const SALVAGED: &[&str] = &["configuration/sixgate.toml", "seed.json", "slot-a/sixgate.toml", "slot-b/sixgate.toml"];

/// What became of the partition.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// It is mounted and can be written to.
    pub(crate) writable: bool,
    /// What an operator should know.
    pub(crate) findings: Vec<Finding>,
}

/// Mounts the partition.
pub(crate) fn open() -> Opened {
    let booted_from_disk = pid1::kernel_argument("sixgate.slot").is_some();
    let Some(device) = partition::wait_for("state", if booted_from_disk { DISK } else { Duration::ZERO }) else {
        let findings = booted_from_disk.then(|| missing("the disk has no partition `state`")).into_iter().collect();
        return Opened { writable: false, findings };
    };
    match open_device(&device) {
        Ok(opened) => opened,
        Err(error) => Opened { writable: false, findings: vec![missing(&error.to_string())] },
    }
}

fn missing(why: &str) -> Finding {
    Finding::new(
        Severity::Error,
        "state-unavailable",
        "state",
        format!("there is nowhere to keep configuration and state ({why}); what changes now is gone at the next start"),
        "power off, attach a new copy of the image as the disk, and restore the configuration",
    )
}

fn open_device(device: &Path) -> io::Result<Opened> {
    fs::create_dir_all(HOME)?;
    let damage = match damage(device) {
        None => mount_at(device, MountFlags::empty(), c"errors=remount-ro").err().map(|error| error.to_string()),
        Some(damage) => Some(damage),
    }
    .or_else(unreadable);
    let Some(damage) = damage else {
        if Path::new(RESET).exists() {
            unmount(HOME, UnmountFlags::empty())?;
            renew(device, &[])?;
            return Ok(Opened { writable: true, findings: vec![reset_on_request()] });
        }
        return Ok(Opened { writable: true, findings: full().into_iter().collect() });
    };
    let _ = unmount(HOME, UnmountFlags::DETACH);
    let saved = salvage(device);
    renew(device, &saved)?;
    let kept = if saved.is_empty() { "nothing of it could be read" } else { "what could be read of it was kept" };
    let finding = Finding::new(
        Severity::Warning,
        "state-renewed",
        "state",
        format!("the partition of configuration and state was damaged ({damage}) and was made new; {kept}"),
        "look at the configuration; if this happens again, look at the host's disk",
    );
    Ok(Opened { writable: true, findings: vec![finding] })
}

fn reset_on_request() -> Finding {
    Finding::new(
        Severity::Note,
        "state-reset",
        "state",
        "configuration and state were reset, as asked for before this start",
        "restore a backup, or go on with what the first boot made",
    )
}

/// A file system that was mounted but does not give its files back.
fn unreadable() -> Option<String> {
    SALVAGED.iter().find_map(|path| match fs::read(Path::new(HOME).join(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Some(format!("{path}: {error}")),
        Ok(_) | Err(_) => None,
    })
}

fn full() -> Option<Finding> {
    let free = rustix::fs::statvfs(HOME).map_or(0, |room| room.f_bavail * room.f_frsize);
    (free < FULL).then(|| {
        Finding::new(
            Severity::Warning,
            "state-full",
            "state",
            "the partition of configuration and state is full; changes cannot be kept",
            "reset the machine to its defaults after a backup of the configuration (request `factory-reset`)",
        )
    })
}

/// What the superblock says about itself: ext4 notes there that it met an error.
fn damage(device: &Path) -> Option<String> {
    let mut superblock = [0; 1024];
    let read = File::open(device).and_then(|file| file.read_exact_at(&mut superblock, 1024));
    if let Err(error) = read {
        return Some(error.to_string());
    }
    judge(&superblock).map(str::to_owned)
}

fn judge(superblock: &[u8; 1024]) -> Option<&'static str> {
    const MAGIC: [u8; 2] = 0xef53_u16.to_le_bytes();
    const ERRORS: u8 = 2;
    if superblock[0x38..0x3a] != MAGIC {
        return Some("no file system");
    }
    (superblock[0x3a] & ERRORS != 0).then_some("the file system met an error")
}

fn mount_at(device: &Path, flags: MountFlags, options: &std::ffi::CStr) -> io::Result<()> {
    let flags = flags | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    Ok(mount(device, HOME, "ext4", flags, options)?)
}

/// What can be read of a damaged file system, without replaying its journal or writing to it.
fn salvage(device: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    if mount_at(device, MountFlags::RDONLY, c"noload").is_err() {
        return Vec::new();
    }
    let saved = SALVAGED
        .iter()
        .filter_map(|path| Some((PathBuf::from(path), fs::read(Path::new(HOME).join(path)).ok()?)))
        .filter(|(_, content)| std::str::from_utf8(content).is_ok_and(|text| !text.trim_matches('\0').is_empty()))
        .collect();
    let _ = unmount(HOME, UnmountFlags::DETACH);
    saved
}

/// Makes the file system new, mounts it and puts these files into it.
fn renew(device: &Path, files: &[(PathBuf, Vec<u8>)]) -> io::Result<()> {
    write_template(device, &fs::read(TEMPLATE)?)?;
    mount_at(device, MountFlags::empty(), c"errors=remount-ro")?;
    for (path, content) in files {
        keep(&Path::new(HOME).join(path), content)?;
    }
    Ok(())
}

fn write_template(device: &Path, template: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(device)?;
    let size = file.seek(SeekFrom::End(0))?;
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    file.seek(SeekFrom::Start(0))?;
    while at < size {
        let length = usize::try_from(size - at).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all(&zeros[..length])?;
        at += length as u64;
    }
    for piece in template.chunks_exact(4 + BLOCK) {
        let number = u32::from_le_bytes([piece[0], piece[1], piece[2], piece[3]]);
        file.write_all_at(&piece[4..], u64::from(number) * BLOCK as u64)?;
    }
    file.sync_all()
}

/// Writes a file so that a power cut leaves the old content or the new one.
pub(crate) fn keep(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    File::open(folder)?.sync_all()
}

/// Reads a file of bounded length.
pub(crate) fn read_text(path: &Path, most: u64) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(most).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_tells_what_it_met() {
        let mut superblock = [0; 1024];
        assert_eq!(judge(&superblock), Some("no file system"));
        superblock[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        superblock[0x3a] = 1;
        assert_eq!(judge(&superblock), None);
        superblock[0x3a] = 3;
        assert_eq!(judge(&superblock), Some("the file system met an error"));
    }

    #[test]
    fn a_template_replaces_all_that_was_there() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), vec![7; BLOCK * 4]).unwrap();
        let mut template = 2_u32.to_le_bytes().to_vec();
        template.extend([9; BLOCK]);
        write_template(file.path(), &template).unwrap();
        let after = fs::read(file.path()).unwrap();
        let blocks: Vec<u8> = after.chunks(BLOCK).map(|block| block[0]).collect();
        assert_eq!(blocks, [0, 0, 9, 0]);
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/sixgate.toml");
        keep(&path, b"one").unwrap();
        keep(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}

//! One daemon for each control socket: a lock that goes with the process, and the count of starts since boot.
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long a daemon that is about to end may keep the lock.
const PATIENCE: Duration = Duration::from_secs(6);

/// The right to be the daemon behind a control socket, held until the process ends.
#[derive(Debug)]
pub struct Instance {
    /// How often the daemon was started since boot, this start included.
    pub starts: u32,
    _lock: File,
}

impl Instance {
    /// Waits until a former daemon has gone.
    ///
    /// # Errors
    /// Another daemon stays, or the lock cannot be created.
    pub fn claim(control: &Path) -> anyhow::Result<Self> {
        Self::claim_within(control, PATIENCE)
    }

    fn claim_within(control: &Path, patience: Duration) -> anyhow::Result<Self> {
        let path = lock_path(control);
        let create = || -> std::io::Result<File> {
            if let Some(directory) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
            }
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)
        };
        let mut lock = create().with_context(|| format!("{} cannot be created; are you root?", path.display()))?;
        let deadline = Instant::now() + patience;
        while let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != Errno::WOULDBLOCK && error != Errno::INTR {
                return Err(error).with_context(|| format!("{} cannot be locked", path.display()));
            }
            if Instant::now() >= deadline {
                let control = control.display();
                anyhow::bail!("another daemon serves {control}; stop it, or give this one another --control");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let starts = count(&mut lock).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self { starts, _lock: lock })
    }
}

fn lock_path(control: &Path) -> PathBuf {
    let mut path = control.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// The lock file holds how often it was locked.
fn count(lock: &mut File) -> std::io::Result<u32> {
    let mut text = String::new();
    // A file that is not a number counts as none: nothing but this function writes it.
    let former: u32 = match lock.take(16).read_to_string(&mut text) {
        Ok(_) => text.trim().parse().unwrap_or_default(),
        Err(_) => 0,
    };
    let starts = former.saturating_add(1);
    lock.rewind()?;
    lock.set_len(0)?;
    lock.write_all(starts.to_string().as_bytes())?;
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_counted_and_a_second_daemon_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let control = directory.path().join("run/control.sock");
        let first = Instance::claim_within(&control, Duration::ZERO).unwrap();
        assert_eq!(first.starts, 1);
        let error = Instance::claim_within(&control, Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("another daemon"), "{error}");
        drop(first);
        // Whoever looks through /proc holds a closed file for a moment longer.
        assert_eq!(Instance::claim_within(&control, PATIENCE).unwrap().starts, 2);
        std::fs::write(lock_path(&control), b"\xff\xfe").unwrap();
        assert_eq!(Instance::claim_within(&control, PATIENCE).unwrap().starts, 1);
    }
}

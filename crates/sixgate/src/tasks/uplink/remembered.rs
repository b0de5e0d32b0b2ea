//! The file that leases and identifiers are kept in.
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::uplink::Memory;

use crate::backup::{MEMORY, RESTORED};

/// The memory in its file.
pub(super) struct Remembered {
    folder: PathBuf,
    memory: Memory,
    problem: Option<io::Error>,
}

impl Remembered {
    /// Reads the file. One that is not there or cannot be understood is a first start.
    pub(super) fn open(folder: PathBuf) -> Self {
        let mut remembered = Self { folder, memory: Memory::default(), problem: None };
        // A backup that was restored while a daemon ran.
        match fs::rename(remembered.folder.join(RESTORED), remembered.file()) {
            Ok(()) => tracing::info!("leases and identifiers are those of a backup"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => remembered.problem = Some(error),
        }
        match fs::read(remembered.file()) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(memory) => remembered.memory = memory,
                Err(error) => tracing::warn!("{} is not usable: {error}", remembered.file().display()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => remembered.problem = Some(error),
        }
        remembered
    }

    pub(super) fn memory(&self) -> Memory {
        self.memory.clone()
    }

    /// Writes the file where something has changed that is worth it.
    pub(super) fn keep(&mut self, memory: Memory) {
        if memory.same_as(&self.memory) {
            return;
        }
        self.problem = self.write(&memory).err();
        self.memory = memory;
    }

    fn write(&self, memory: &Memory) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o755).create(&self.folder)?;
        let new = self.folder.join("uplink.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(memory)?)?;
        file.sync_data()?;
        fs::rename(new, self.file())
    }

    fn file(&self) -> PathBuf {
        self.folder.join(MEMORY)
    }

    pub(super) fn finding(&self) -> Option<Finding> {
        let error = self.problem.as_ref()?;
        Some(Finding::new(
            Severity::Warning,
            "state-not-kept",
            self.folder.display().to_string(),
            format!("leases are not kept over a restart: {error}"),
            "make the folder writable for the daemon, or name another one with --state",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_a_first_start_and_a_folder_that_cannot_be_made_is_a_finding() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("uplink.json"), "{").unwrap();
        let mut remembered = Remembered::open(folder.path().to_owned());
        assert_eq!(remembered.memory(), Memory::default());
        remembered.keep(Memory::default());
        assert!(remembered.finding().is_none());

        let busy = folder.path().join("uplink.json/below");
        let mut remembered = Remembered::open(busy);
        let memory: Memory = serde_json::from_str(r#"{"mac":"02:00:00:00:00:01"}"#).unwrap();
        remembered.keep(memory);
        assert_eq!(remembered.finding().map(|finding| finding.code), Some("state-not-kept".to_owned()));
    }
}

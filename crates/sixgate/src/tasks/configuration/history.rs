//! The configurations of the past: one file for each, in a folder beside the configuration file.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::durable::{self, Written};

/// So many configurations are kept.
const KEPT: usize = 20;

/// How a configuration came into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Read from the file at start or on `reload`.
    File,
    /// `apply`, confirmed where that was asked for.
    Apply,
    /// `revert`.
    Revert,
}

impl Origin {
    /// Its word in file names and lists.
    pub const fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Apply => "apply",
            Self::Revert => "revert",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::File, Self::Apply, Self::Revert].into_iter().find(|origin| origin.word() == word)
    }
}

/// A configuration of the past. Its file is called `000012.1764001234.apply.toml`: number, seconds since 1970, origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number, counting up.
    pub number: u64,
    /// When it came into force, in seconds since 1970.
    pub time: u64,
    /// How.
    pub origin: Origin,
    path: PathBuf,
}

impl Entry {
    fn parse(path: PathBuf) -> Option<Self> {
        let mut parts = path.file_name()?.to_str()?.strip_suffix(".toml")?.split('.');
        let (number, time) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let origin = Origin::parse(parts.next()?)?;
        parts.next().is_none().then_some(Self { number, time, origin, path })
    }

    /// Its text.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> io::Result<String> {
        fs::read_to_string(&self.path)
    }
}

/// The folder of past configurations.
#[derive(Clone, Debug)]
pub struct History {
    folder: PathBuf,
}

impl History {
    /// That of a configuration file: `sixgate.toml` has `sixgate.history`.
    pub fn of(file: &Path) -> Self {
        Self { folder: file.with_extension("history") }
    }

    /// The folder; it exists once something was recorded.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is kept, oldest first. Foreign files in the folder are none of ours.
    pub fn entries(&self) -> Vec<Entry> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut entries: Vec<Entry> = files.filter_map(|file| Entry::parse(file.path())).collect();
        entries.sort_by_key(|entry| entry.number);
        entries
    }

    /// Keeps a configuration that has come into force, unless it is the newest one already.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn record(&self, text: &str, origin: Origin) -> io::Result<()> {
        self.write(text, origin)?.map_or(Ok(()), |written| self.keep(written))
    }

    /// Writes a configuration that is about to come into force, beside those that are kept; nothing where it is the newest.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn write(&self, text: &str, origin: Origin) -> io::Result<Option<Written>> {
        let entries = self.entries();
        let newest = entries.last();
        if newest.is_some_and(|newest| newest.read().is_ok_and(|held| held == text)) {
            return Ok(None);
        }
        self.create()?;
        let number = newest.map_or(1, |newest| newest.number + 1);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let name = format!("{number:06}.{time}.{}.toml", origin.word());
        Written::beside(&self.folder.join(name), text.as_bytes()).map(Some)
    }

    /// Keeps it, and only the last of the others.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn keep(&self, written: Written) -> io::Result<()> {
        let entries = self.entries();
        written.replace()?;
        for entry in entries.iter().take((entries.len() + 1).saturating_sub(KEPT)) {
            durable::remove(&entry.path)?;
        }
        Ok(())
    }

    /// Makes the folder, for root alone.
    pub(super) fn create(&self) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_twenty_are_kept_and_one_that_stays_in_force_is_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::of(&folder.path().join("sixgate.toml"));
        assert!(history.entries().is_empty());
        for number in 1..=25 {
            let origin = if number % 2 == 0 { Origin::Apply } else { Origin::File };
            history.record(&format!("# {number}"), origin).unwrap();
            history.record(&format!("# {number}"), Origin::Revert).unwrap();
        }
        let entries = history.entries();
        assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), (6..=25).collect::<Vec<_>>());
        assert_eq!(entries[0].read().unwrap(), "# 6");
        assert_eq!((entries[0].origin, entries[19].origin), (Origin::Apply, Origin::File));
        assert!(entries[19].time > 1_700_000_000);
    }

    #[test]
    fn foreign_files_in_the_folder_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::of(&folder.path().join("a.toml"));
        history.create().unwrap();
        for name in ["notes.txt", "1.2.toml", "000001.12.apply.toml.new", "x.1.file.toml", "1.1.file.more.toml"] {
            fs::write(history.folder().join(name), "x").unwrap();
        }
        assert!(history.entries().is_empty());
        history.record("y", Origin::File).unwrap();
        assert_eq!(history.entries().len(), 1);
        assert_eq!(fs::read_dir(history.folder()).unwrap().count(), 6);
    }
}

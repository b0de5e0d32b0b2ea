//! A configuration on trial: in force until a deadline, unless somebody confirms it. The file has the one from before.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sixgate_linux::clock::{boot_id, since_boot};

use super::history::{History, Origin};
use crate::durable;

/// What is on disk while a configuration is tried. Whoever is locked out pulls the plug: another boot ends the trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trial {
    /// The configuration that is tried.
    pub(super) text: String,
    /// What goes back into force; absent where there was none.
    pub(super) before: Option<String>,
    /// Whether it was an earlier configuration.
    pub(super) reverting: bool,
    boot: String,
    /// On the clock that goes on while the machine sleeps.
    until: Duration,
}

impl Trial {
    /// A trial that begins now.
    pub(super) fn begin(text: String, before: Option<String>, origin: Origin, length: Duration) -> Self {
        Self { text, before, reverting: origin == Origin::Revert, boot: boot_id(), until: since_boot() + length }
    }

    /// How it will have come into force once it is confirmed.
    pub(super) fn origin(&self) -> Origin {
        if self.reverting { Origin::Revert } else { Origin::Apply }
    }

    /// How long it still lasts; nothing once it is over.
    pub(super) fn left(&self) -> Option<Duration> {
        if self.boot != boot_id() {
            return None;
        }
        self.until.checked_sub(since_boot()).filter(|left| !left.is_zero())
    }

    /// The trial that a former daemon has left on disk. One that cannot be read is none: the file then decides.
    pub(super) fn read(history: &History) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(history.folder())).ok()?).ok()
    }

    /// Puts it on disk, before anything of it comes into force.
    pub(super) fn write(&self, history: &History) -> io::Result<()> {
        history.create()?;
        durable::replace(&path(history.folder()), &serde_json::to_vec(self)?)
    }

    /// Takes the trial from the disk, if there is one.
    pub(super) fn remove(history: &History) -> io::Result<()> {
        durable::remove(&path(history.folder()))
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("trial.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_survives_the_daemon_and_ends_with_its_time_or_with_the_boot() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::of(&folder.path().join("sixgate.toml"));
        assert_eq!(Trial::read(&history), None);
        let trial = Trial::begin("new".to_owned(), Some("old".to_owned()), Origin::Apply, Duration::from_secs(3600));
        trial.write(&history).unwrap();
        let read = Trial::read(&history).unwrap();
        assert_eq!(read, trial);
        assert!(read.left().is_some_and(|left| left > Duration::from_secs(3500) && left <= Duration::from_secs(3600)));
        assert_eq!(Trial { boot: "another".to_owned(), ..trial.clone() }.left(), None);
        assert_eq!(Trial { until: Duration::ZERO, ..trial }.left(), None);
        Trial::remove(&history).unwrap();
        assert_eq!(Trial::read(&history), None);
    }
}

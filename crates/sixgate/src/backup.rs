//! A backup: configuration and what outlives a restart, in one file that people can read.
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::change;
use crate::control::{Client, Request};

/// Version of the form.
const FORM: u32 = 1;
/// The file of leases and identifiers, and where what was restored of it waits for the next start.
pub(crate) const MEMORY: &str = "uplink.json";
pub(crate) const RESTORED: &str = "uplink.restored";

/// The whole of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Backup {
    /// The form's version; its name says what the file is.
    pub sixgate_backup: u32,
    /// Version of sixgate that wrote it.
    pub version: String,
    /// The configuration file as it was in force.
    pub configuration: String,
    /// Leases and identifiers: who the router is to DHCP servers, and its own unique local prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<serde_json::Value>,
}

impl Backup {
    /// Of a configuration and what lies in the folder of the state.
    pub(crate) fn take(configuration: String, state: &Path) -> Self {
        let memory = fs::read(state.join(MEMORY)).ok();
        let uplink = memory.and_then(|text| serde_json::from_slice(&text).ok());
        Self { sixgate_backup: FORM, version: env!("CARGO_PKG_VERSION").to_owned(), configuration, uplink }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let backup: Self = serde_json::from_str(text).map_err(|error| format!("this is no backup: {error}"))?;
        if backup.sixgate_backup != FORM {
            return Err(format!(
                "this backup has form {}, and this version reads form {FORM} only",
                backup.sixgate_backup
            ));
        }
        Ok(backup)
    }

    /// As a file.
    pub(crate) fn emit(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Leaves leases and identifiers for the next start: a daemon that runs would write over them.
    pub(crate) fn leave_memory(&self, state: &Path) -> std::io::Result<()> {
        match &self.uplink {
            None => Ok(()),
            Some(uplink) => {
                fs::create_dir_all(state)?;
                crate::durable::replace(&state.join(RESTORED), uplink.to_string().as_bytes())
            }
        }
    }
}

/// `sixgate backup FILE`.
pub fn backup(control: &Path, file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let text = Client::connect(control)?.backup()?.emit();
    if file == Path::new("-") {
        std::io::stdout().write_all(text.as_bytes())?;
    } else {
        crate::durable::replace(file, text.as_bytes())
            .with_context(|| format!("{} cannot be written", file.display()))?;
        change::accepted("the backup is written", json);
    }
    Ok(ExitCode::SUCCESS)
}

/// `sixgate restore FILE`.
pub fn restore(control: &Path, file: &Path, confirm: Option<Duration>, json: bool) -> anyhow::Result<ExitCode> {
    let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let backup = Box::new(Backup::parse(&text).map_err(anyhow::Error::msg)?);
    let request = Request::Restore { backup, confirm: confirm.map(|length| length.as_secs()) };
    change::ask(
        control,
        &request,
        &change::told(confirm, "the configuration is in force; leases count from the next start"),
        json,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_comes_back_as_it_was_and_waits_for_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MEMORY), "{\"mac\":\"02:00:00:00:00:01\"}").unwrap();
        let taken = Backup::take("[wan]\ninterface = \"eth0\"\n".to_owned(), folder.path());
        let read = Backup::parse(&taken.emit()).unwrap();
        assert_eq!(read, taken);
        let elsewhere = tempfile::tempdir().unwrap();
        read.leave_memory(elsewhere.path()).unwrap();
        let left = fs::read_to_string(elsewhere.path().join(RESTORED)).unwrap();
        assert_eq!(left, "{\"mac\":\"02:00:00:00:00:01\"}");
        assert!(!elsewhere.path().join(MEMORY).exists());
    }

    #[test]
    fn what_is_no_backup_is_said_to_be_none() {
        for text in ["", "{}", "[wan]\n", "{\"sixgate-backup\":2,\"version\":\"9\",\"configuration\":\"\"}"] {
            assert!(Backup::parse(text).is_err(), "{text}");
        }
        assert_eq!(Backup::take(String::new(), Path::new("/nonexistent")).uplink, None);
    }
}

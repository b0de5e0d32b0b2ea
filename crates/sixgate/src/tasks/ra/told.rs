//! The file that holds what hosts on a link were told, so that the next daemon can take it back.
use std::fs;
use std::path::{Path, PathBuf};

use sixgate_engine::ra::Known;

use crate::durable;

/// What is known, and its file.
pub(super) struct Told {
    file: PathBuf,
    known: Known,
}

impl Told {
    /// Reads the file of a LAN in the folder of the state. One that is not there or cannot be understood is a first start.
    pub(super) fn open(state: &Path, lan: &str) -> Self {
        let file = state.join(format!("advertised-{lan}.json"));
        let known = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { file, known }
    }

    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// Writes the file where something else is told. That it cannot be written is found by whoever keeps the leases there.
    pub(super) fn keep(&mut self, known: Known) {
        if known.same_as(&self.known) {
            return;
        }
        let written = serde_json::to_vec(&known).map_err(Into::into).and_then(|text| {
            self.file.parent().map_or(Ok(()), fs::create_dir_all)?;
            durable::replace(&self.file, &text)
        });
        if let Err(error) = written {
            tracing::debug!("{}: {error}", self.file.display());
        }
        self.known = known;
    }
}

/// Seconds since 1970.
pub(super) fn unix() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_a_first_start() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("advertised-vms.json"), "{").unwrap();
        let mut told = Told::open(folder.path(), "vms");
        assert_eq!(told.known(), &Known::default());
        let known: Known = serde_json::from_str(r#"{"advertised":[[{"Domain":"lab.test"},1800]]}"#).unwrap();
        told.keep(known.clone());
        assert_eq!(Told::open(folder.path(), "vms").known(), &known);
        assert_eq!(Told::open(folder.path(), "other").known(), &Known::default());
    }
}

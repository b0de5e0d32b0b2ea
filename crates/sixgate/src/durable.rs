//! Files that are whole after a power cut: the old content or the new one, never a part.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mode of a file that did not exist: the configuration is nobody's business but root's.
const MODE: u32 = 0o600;

/// Replaces a file's content. Once this returns, the new content survives a power cut.
///
/// # Errors
/// The folder cannot be written, or the disk is full; the old content is still there.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    Written::beside(path, content)?.replace()
}

/// The new content of a file, on disk beside the old one. Unless it takes its place, it goes.
#[derive(Debug)]
pub struct Written {
    path: PathBuf,
    new: PathBuf,
}

impl Written {
    /// Writes it. That takes most of the time.
    ///
    /// # Errors
    /// The folder cannot be written, or the disk is full.
    pub fn beside(path: &Path, content: &[u8]) -> io::Result<Self> {
        // A link stays a link: what it points to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mode = fs::metadata(&path).map_or(MODE, |held| held.permissions().mode() & 0o7777);
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let written = Self { new: folder(&path).join(name), path };
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&written.new)?;
        file.write_all(content)?;
        file.sync_all()?;
        Ok(written)
    }

    /// Puts it in the file's place. Once this returns, it survives a power cut.
    ///
    /// # Errors
    /// The folder cannot be written; the old content is still there.
    pub fn replace(self) -> io::Result<()> {
        fs::rename(&self.new, &self.path)?;
        sync(&folder(&self.path))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // Where it has taken the file's place there is none.
        let _ = fs::remove_file(&self.new);
    }
}

fn folder(path: &Path) -> PathBuf {
    path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Removes a file; fine when there is none. Once this returns, a power cut does not bring it back.
///
/// # Errors
/// The folder cannot be written.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync(path.parent().unwrap_or(Path::new("."))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_behind_its_link_and_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        replace(&file, b"old").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, MODE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        replace(&link, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left over");
    }

    #[test]
    fn what_is_written_and_not_wanted_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        replace(&file, b"old").unwrap();
        let written = Written::beside(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"old");
        drop(written);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        Written::beside(&file, b"new").unwrap().replace().unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_and_removing_nothing_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(replace(&folder.path().join("missing/file"), b"").is_err());
        remove(&folder.path().join("missing")).unwrap();
    }
}

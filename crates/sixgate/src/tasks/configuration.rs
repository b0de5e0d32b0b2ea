//! Reads the configuration file at start and on request. An error keeps the configuration in force.
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use sixgate_engine::config::{self, Config};
use sixgate_engine::finding::{Finding, Severity};
use tokio::sync::{mpsc, watch};

use crate::wiring::{Configured, Reload};

/// A longer file is not a configuration.
const MAX_FILE: u64 = 1 << 20;

/// This task's ends of the channels.
pub struct Ends {
    /// Requests to read the file again.
    pub reloads: mpsc::Receiver<Reload>,
    /// The configuration.
    pub configured: watch::Sender<Configured>,
}

/// Runs until nobody can ask any more.
pub async fn run(mut ends: Ends, file: PathBuf) {
    let mut asked: Option<Reload> = None;
    loop {
        let outcome = read(&file);
        match &outcome {
            Ok(_) => tracing::info!("configuration {} is in force", file.display()),
            Err(error) => tracing::error!("configuration {} is not usable:\n{error}", file.display()),
        }
        let answer = outcome.as_ref().map(|_| ()).map_err(String::clone);
        ends.configured.send_modify(|configured| take(configured, &file, outcome));
        if let Some(asked) = asked.take() {
            // Whoever asked may have gone away meanwhile.
            let _ = asked.send(answer);
        }
        asked = ends.reloads.recv().await;
        if asked.is_none() {
            return;
        }
    }
}

/// Reads and validates a file; the error is text for people, with excerpts.
pub fn read(file: &Path) -> Result<Config, String> {
    let mut text = String::new();
    let readable = open(file).and_then(|opened| opened.take(MAX_FILE + 1).read_to_string(&mut text));
    readable.map_err(|error| format!("{}: {error}", file.display()))?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("{}: longer than {MAX_FILE} bytes", file.display()));
    }
    config::parse(&text, &file.display().to_string()).map_err(|errors| errors.to_string())
}

/// A pipe or a device could keep the daemon waiting for ever, with nothing denied yet.
fn open(file: &Path) -> io::Result<File> {
    // Opening a pipe waits for whoever writes to it, unless told otherwise.
    let opened = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(file)?;
    if opened.metadata()?.is_file() { Ok(opened) } else { Err(io::Error::other("it is not a regular file")) }
}

fn take(configured: &mut Configured, file: &Path, outcome: Result<Config, String>) {
    configured.attempted = true;
    match outcome {
        Ok(config) => {
            configured.config = Some(Arc::new(config));
            configured.findings.clear();
        }
        Err(error) => {
            let (severity, code, state) = match configured.config {
                Some(_) => (Severity::Warning, "configuration-rejected", "the previous one stays in force"),
                None => (Severity::Error, "configuration-invalid", "everything is denied, nothing is forwarded"),
            };
            configured.findings = vec![Finding::new(
                severity,
                code,
                file.display().to_string(),
                format!("the configuration is not usable, {state}:\n{error}"),
                "correct the file (`sixgate check FILE` tells whether it is right), then send SIGHUP or `reload`",
            )];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "[wan]\ninterface = \"eth0\"\n";
    const WRONG: &str = "[wan]\ninterfaec = \"eth0\"\n";

    fn file_with(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn an_error_keeps_the_configuration_in_force() {
        let file = file_with(VALID);
        let mut configured = Configured::default();
        take(&mut configured, file.path(), read(file.path()));
        let before = configured.config.clone();
        assert!(before.is_some() && configured.findings.is_empty());

        std::fs::write(file.path(), WRONG).unwrap();
        take(&mut configured, file.path(), read(file.path()));
        assert_eq!(configured.config, before);
        assert_eq!(configured.findings[0].code, "configuration-rejected");
        assert!(configured.findings[0].text.contains("interfaec"), "{}", configured.findings[0].text);
    }

    #[test]
    fn a_missing_or_oversized_file_is_an_error_with_its_name() {
        let error = read(Path::new("/nonexistent/sixgate.toml")).unwrap_err();
        assert!(error.contains("/nonexistent/sixgate.toml"), "{error}");
        let file = file_with(&"#".repeat(MAX_FILE as usize + 1));
        assert!(read(file.path()).unwrap_err().contains("longer than"));
    }

    #[test]
    fn a_pipe_a_folder_and_bytes_that_are_no_text_are_errors_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(read(&pipe).unwrap_err().contains("not a regular file"));
        assert!(read(folder.path()).unwrap_err().contains("not a regular file"));
        assert!(read(Path::new("/dev/zero")).unwrap_err().contains("not a regular file"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"hostname = \"\xff\"\n").unwrap();
        assert!(read(file.path()).unwrap_err().contains("UTF-8"));
    }

    #[tokio::test]
    async fn a_reload_is_answered_after_the_new_configuration_is_visible() {
        let file = file_with(WRONG);
        let (reload, reloads) = mpsc::channel(1);
        let (configured, mut seen) = watch::channel(Configured::default());
        let task = tokio::spawn(run(Ends { reloads, configured }, file.path().to_owned()));
        seen.wait_for(|configured| configured.attempted).await.unwrap();
        assert!(seen.borrow().config.is_none());

        std::fs::write(file.path(), VALID).unwrap();
        let (asked, answer) = tokio::sync::oneshot::channel();
        reload.send(asked).await.unwrap();
        assert_eq!(answer.await.unwrap(), Ok(()));
        assert!(seen.borrow().config.is_some() && seen.borrow().findings.is_empty());
        drop(reload);
        task.await.unwrap();
    }
}

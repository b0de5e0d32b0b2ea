//! Reads the configuration file at start and on request. An error keeps the configuration in force.
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sixgate_engine::config::Config;
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
    let readable = std::fs::File::open(file).and_then(|opened| opened.take(MAX_FILE + 1).read_to_string(&mut text));
    readable.map_err(|error| format!("{}: {error}", file.display()))?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("{}: longer than {MAX_FILE} bytes", file.display()));
    }
    Err(format!("{}: this build does not read configurations yet", file.display()))
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
            configured.findings = vec![Finding {
                severity,
                code: code.to_owned(),
                subject: file.display().to_string(),
                text: format!("the configuration is not usable, {state}:\n{error}"),
                mend: "correct the file (`sixgate check FILE` tells whether it is right), then send SIGHUP or `reload`"
                    .to_owned(),
            }];
        }
    }
}

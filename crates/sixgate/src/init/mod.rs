//! `sixgate init`: PID 1 of the image.
use std::process::ExitCode;

/// Runs as PID 1; returns only when it is not.
pub fn run() -> ExitCode {
    tracing::error!("sixgate init is not part of this build");
    ExitCode::FAILURE
}

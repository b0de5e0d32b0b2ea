//! How a command tells that it has failed: a sentence for people, the control protocol's error for programs.
use std::process::ExitCode;

use crate::clat::report::Silent;
use crate::control::{ClientError, ErrorKind, emit_reply, refusal};

/// The exit status of a command; what went wrong is told where anything did.
pub(crate) fn told(outcome: anyhow::Result<ExitCode>, json: bool) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        if json {
            print!("{}", emit_reply(&refusal(kind(&error), format!("{error:#}"))));
        } else {
            eprintln!("sixgate: {error:#}");
        }
        ExitCode::FAILURE
    })
}

fn kind(error: &anyhow::Error) -> ErrorKind {
    if error.is::<Silent>() {
        return ErrorKind::Unavailable;
    }
    match error.downcast_ref() {
        Some(ClientError::Refused { kind, .. }) => *kind,
        Some(ClientError::Version { .. }) => ErrorKind::Version,
        Some(ClientError::Connect { .. } | ClientError::Broken(_) | ClientError::Garbage(_)) => ErrorKind::Unavailable,
        None => ErrorKind::Refused,
    }
}

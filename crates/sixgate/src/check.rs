//! `sixgate check`: validates a configuration file and prints what it leads to.
use std::path::Path;
use std::process::ExitCode;

use sixgate_engine::plan::preview;

use crate::tasks::configuration::read;

/// Prints the plan, as if every configured interface existed, or every error on stderr.
pub fn check(file: &Path) -> ExitCode {
    match read(file) {
        Ok(config) => {
            print!("{}", preview(&config));
            ExitCode::SUCCESS
        }
        Err(errors) => {
            eprintln!("{}", errors.trim_end());
            ExitCode::FAILURE
        }
    }
}

//! `sixgate check`: validates a configuration file and prints what it leads to.
use std::path::Path;
use std::process::ExitCode;

use sixgate_engine::plan::preview;

use crate::tasks::configuration::read;

/// Prints the plan, as if every configured interface existed, or every error on stderr.
pub fn check(file: &Path, json: bool) -> ExitCode {
    let outcome = read(file);
    if json {
        let told = match &outcome {
            Ok(config) => serde_json::json!({ "version": 1, "valid": true, "plan": preview(config) }),
            Err(errors) => serde_json::json!({ "version": 1, "valid": false, "errors": errors.trim_end() }),
        };
        println!("{told:#}");
        return if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match outcome {
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

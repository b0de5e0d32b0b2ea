//! Real programs: run to their end with a deadline, or kept running with their output in a file.
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// How long a program may take unless told otherwise.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What a program left behind.
#[derive(Debug)]
pub struct Outcome {
    /// The command line, for messages.
    pub line: String,
    /// Whether it ended with status 0.
    pub success: bool,
    /// Its exit code; 124 when the deadline ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Outcome {
    /// Standard output of a program that succeeded; an error with everything it said otherwise.
    pub fn text(self) -> Result<String> {
        ensure!(self.success, "{self}");
        Ok(self.stdout)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code.map_or("no code".to_owned(), |code| code.to_string());
        write!(out, "`{}` ended with {code}\n{}{}", self.line, self.stdout, self.stderr)
    }
}

/// Runs a program to its end; `timeout` from coreutils kills it after `deadline`.
///
/// The environment holds PATH and C locale only, so that a proxy setting of the host never reaches a client.
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, deadline: Duration) -> Result<Outcome> {
    let arguments: Vec<S> = arguments.into_iter().collect();
    let line = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");
    let Output { status, stdout, stderr } = plain_environment(&mut Command::new("timeout"))
        .arg("--kill-after=1")
        .arg(deadline.as_secs_f32().to_string())
        .args(&arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`{line}` cannot be started"))?;
    Ok(Outcome {
        line,
        success: status.success(),
        code: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Runs a tool of the lab itself (`ip`, `nft`), which has to succeed. Words are separated by blanks.
pub fn tool(line: &str) -> Result<String> {
    run(line.split_whitespace(), DEADLINE)?.text()
}

/// Whether a program of that name is in PATH.
pub fn exists(name: &str) -> bool {
    std::env::split_paths(&search_path()).any(|folder| folder.join(name).is_file())
}

fn search_path() -> String {
    // A user's PATH often lacks the folders of `ip`, `nft` and `tcpdump`.
    // Servers that would start with the host are unpacked there and not installed.
    let unpacked = crate::world::target_folder().join("tools/debian/usr");
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:{0}/sbin:{0}/bin", unpacked.display())
}

fn plain_environment(command: &mut Command) -> &mut Command {
    command.env_clear().env("PATH", search_path()).env("LC_ALL", "C").env("RUST_BACKTRACE", "1")
}

/// A program that runs until it is ended; dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program; what it writes is appended to `log`.
    pub fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, log: &Path) -> Result<Self> {
        let arguments: Vec<S> = arguments.into_iter().collect();
        let [program, rest @ ..] = arguments.as_slice() else { bail!("an empty command line") };
        let name = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");
        let output = File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
        let child = plain_environment(&mut Command::new(program.as_ref()))
            .args(rest)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("`{name}` cannot be started"))?;
        Ok(Self { name, child, log: log.to_owned() })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, signal).with_context(|| format!("{signal:?} to `{}`", self.name))
    }

    /// Waits until it has ended.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let Self { name, child, .. } = self;
        wait::until(&format!("`{name}` to end"), deadline, || child.try_wait().ok().flatten())
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_runs_too_long_is_ended() {
        let outcome = run(["sleep", "30"], Duration::from_millis(100)).unwrap();
        assert_eq!((outcome.success, outcome.code), (false, Some(124)));
    }

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let error = run(["sh", "-c", "echo out; echo err >&2; exit 3"], DEADLINE).unwrap().text().unwrap_err();
        assert_eq!(error.to_string(), "`sh -c echo out; echo err >&2; exit 3` ended with 3\nout\nerr\n");
    }
}

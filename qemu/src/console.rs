//! The serial console of a machine: written to a log, kept for searching, passed on to whoever shows it.
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The serial console. Clones show the same machine.
#[derive(Clone)]
pub struct Console {
    shared: Arc<Shared>,
    log: PathBuf,
}

struct Shared {
    output: Mutex<Output>,
    changed: Condvar,
    input: UnixStream,
}

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    ended: bool,
    audience: Vec<Sender<Vec<u8>>>,
}

impl Console {
    /// Reads the machine's end of the line from now on, into memory and into the log.
    pub(crate) fn open(stream: UnixStream, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let input = stream.try_clone()?;
        let shared = Arc::new(Shared { output: Mutex::default(), changed: Condvar::new(), input });
        let console = Self { shared: Arc::clone(&shared), log: log.to_owned() };
        thread::Builder::new().name("console".into()).spawn(move || shared.read(stream, file))?;
        Ok(console)
    }

    /// The file with everything that was printed.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Everything printed so far, escape sequences included.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.output().bytes).into_owned()
    }

    /// Types on the console.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        (&self.shared.input).write_all(bytes).context("the machine's serial line is closed")
    }

    /// Sends what was printed so far, then what follows, until the machine ends.
    pub fn attach(&self, audience: Sender<Vec<u8>>) {
        let mut output = self.shared.output();
        if audience.send(output.bytes.clone()).is_ok() && !output.ended {
            output.audience.push(audience);
        }
    }

    /// Waits until this text was printed.
    pub fn wait_for(&self, needle: &str, deadline: Instant) -> Result<()> {
        let mut output = self.shared.output();
        loop {
            if contains(&output.bytes, needle.as_bytes()) {
                return Ok(());
            }
            if output.ended {
                bail!("the machine ended before it printed {needle:?}\n{}", self.tail(&output));
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                bail!("the console did not print {needle:?} in time\n{}", self.tail(&output));
            };
            output = self.shared.changed.wait_timeout(output, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The last lines, for an error message.
    fn tail(&self, output: &Output) -> String {
        let text = String::from_utf8_lossy(&output.bytes);
        let lines: Vec<_> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(15)..].join("\n");
        format!("the console's last lines (all of it in {}):\n{last}", self.log.display())
    }
}

impl Shared {
    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, mut stream: UnixStream, mut log: File) {
        let mut buffer = [0; 4096];
        // A log that cannot be written is no reason to stall the machine: the text is in memory as well.
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            let chunk = &buffer[..length];
            let _ = log.write_all(chunk);
            let mut output = self.output();
            output.bytes.extend_from_slice(chunk);
            output.audience.retain(|audience| audience.send(chunk.to_vec()).is_ok());
            self.changed.notify_all();
        }
        let mut output = self.output();
        output.ended = true;
        output.audience.clear();
        self.changed.notify_all();
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn console() -> (UnixStream, Console, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let (machine, host) = UnixStream::pair().unwrap();
        let console = Console::open(host, &folder.path().join("console.log")).unwrap();
        (machine, console, folder)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn text_is_found_across_two_writes() {
        let (mut machine, console, _folder) = console();
        machine.write_all(b"sixgate is re").unwrap();
        machine.write_all(b"ady\r\n").unwrap();
        console.wait_for("is ready", soon()).unwrap();
    }

    #[test]
    fn waiting_ends_when_the_machine_does() {
        let (machine, console, _folder) = console();
        drop(machine);
        let error = console.wait_for("never", soon()).unwrap_err();
        assert!(error.to_string().contains("the machine ended before"), "{error}");
    }

    #[test]
    fn an_audience_gets_the_past_and_the_present() {
        let (mut machine, console, _folder) = console();
        machine.write_all(b"past ").unwrap();
        console.wait_for("past", soon()).unwrap();
        let (sender, receiver) = mpsc::channel();
        console.attach(sender);
        machine.write_all(b"present").unwrap();
        drop(machine);
        assert_eq!(receiver.iter().flatten().collect::<Vec<u8>>(), b"past present");
    }
}

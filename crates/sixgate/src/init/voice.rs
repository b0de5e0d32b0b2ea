//! What process 1 says: short lines with the time since boot, on the console until that shows something better, then in the kernel's log.
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

use sixgate_linux::pid1;

/// Where process 1 speaks.
pub(super) struct Voice {
    on_console: bool,
}

impl Voice {
    pub(super) fn new() -> Self {
        Self { on_console: true }
    }

    /// Leaves the console to somebody else.
    pub(super) fn leave_console(&mut self) {
        self.on_console = false;
    }

    /// Takes the console back.
    pub(super) fn take_console(&mut self) {
        self.on_console = true;
    }

    /// Says one line.
    pub(super) fn say(&self, text: impl Display) {
        // A line that nobody can take is lost, and process 1 goes on.
        if self.on_console {
            let _ = write!(std::io::stdout(), "[{:8.3}] init: {text}\r\n", pid1::since_boot().as_secs_f64());
        } else if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
            // In one piece: the log takes each write for a line.
            let _ = log.write_all(format!("init: {text}").as_bytes());
        }
    }

    /// Says what went wrong, when something did.
    pub(super) fn attempt<E: Display>(&self, what: &str, outcome: Result<(), E>) {
        if let Err(error) = outcome {
            self.say(format_args!("{what}: {error}"));
        }
    }
}

//! The terminal in which the demo is watched: raw while it runs, as before afterwards.
use std::io::{self, Read as _, Write as _};
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context as _, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// A raw terminal; dropping it gives it back.
pub(crate) struct Terminal {
    before: Termios,
}

impl Terminal {
    /// Makes the terminal raw and switches to its second screen.
    pub(crate) fn enter() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("this is no terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        let terminal = Self { before };
        terminal.write("\x1b[?1049h\x1b[2J")?;
        Ok(terminal)
    }

    /// Columns and rows.
    pub(crate) fn size(&self) -> (u16, u16) {
        let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        size.map_or((80, 24), |size| (size.ws_col, size.ws_row))
    }

    /// Writes to the terminal.
    pub(crate) fn write(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to give back.
        let _ = self.write("\x1b[0m\x1b[?25h\x1b[?1l\x1b[?1049l");
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// Sends what is typed, from a thread that ends with the process.
pub(crate) fn read_keys(keys: Sender<Vec<u8>>) -> Result<()> {
    thread::Builder::new().name("keys".into()).spawn(move || {
        let mut buffer = [0; 256];
        while let Ok(length @ 1..) = io::stdin().read(&mut buffer) {
            if keys.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

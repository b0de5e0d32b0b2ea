//! Somebody at the machine's serial console: presses keys, counts them, and reads what was drawn.
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Unit;
use crate::wait;

const PATIENCE: Duration = Duration::from_secs(240);

/// The keyboard of one machine.
#[derive(Default)]
pub(super) struct Keyboard {
    /// Keys that were pressed.
    pub(super) pressed: usize,
    /// What had been drawn before the last key.
    seen: usize,
}

impl Keyboard {
    /// Presses a key.
    pub(super) fn press(&mut self, unit: &mut Unit, key: &str) -> Result<()> {
        let console = unit.machine()?.console();
        self.seen = console.text().len();
        self.pressed += 1;
        console.write(key.as_bytes())
    }

    /// Waits until a text was drawn since the last key. Blanks do not count: only cells that changed are drawn.
    pub(super) fn await_text(&self, unit: &mut Unit, text: &str) -> Result<()> {
        let wanted = text.replace(' ', "");
        wait::until_ok(text, PATIENCE, || {
            let drawn = unit.machine()?.console().text();
            ensure!(letters(drawn.get(self.seen..).unwrap_or_default()).contains(&wanted), "it was not drawn");
            Ok(())
        })
    }
}

/// Output without control sequences and blanks.
fn letters(text: &str) -> String {
    let mut letters = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            // A sequence ends with its first letter.
            '\x1b' => drop(characters.find(char::is_ascii_alphabetic)),
            ' ' => {}
            other => letters.push(other),
        }
    }
    letters
}

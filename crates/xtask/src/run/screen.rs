//! The router's serial console drawn in the upper part of the terminal, with lines about the client below it.
//!
//! What the router writes is interpreted here and not passed through: so it can neither draw over the lower lines nor
//! learn the terminal's full height when it asks for it.
use std::num::NonZero;

use vt100::{Callbacks, Parser};

/// Terminals of this height and more have room for a second line about the client.
const ROOM_FOR_TWO: u16 = 27;

/// The divided screen.
pub(crate) struct Screen {
    console: Parser<Answers>,
    drawn: Option<vt100::Screen>,
    columns: u16,
    rows: u16,
    lines: Vec<String>,
}

/// Answers to what the router asks its terminal.
#[derive(Default)]
struct Answers(Vec<u8>);

impl Callbacks for Answers {
    fn unhandled_csi(
        &mut self,
        screen: &mut vt100::Screen,
        first: Option<u8>,
        second: Option<u8>,
        parameters: &[&[u16]],
        command: char,
    ) {
        // Device Status Report: where the cursor is, or whether the terminal is well.
        match (first, second, parameters, command) {
            (None, None, [[6]], 'n') => {
                let (row, column) = screen.cursor_position();
                self.0.extend(format!("\x1b[{};{}R", row + 1, column + 1).as_bytes());
            }
            (None, None, [[5]], 'n') => self.0.extend(b"\x1b[0n"),
            _ => {}
        }
    }
}

impl Screen {
    /// A terminal of this size.
    pub(crate) fn new(columns: u16, rows: u16) -> Self {
        let console =
            Parser::new_with_callbacks(at_least_one(upper(rows)), at_least_one(columns), 0, Answers::default());
        Self { console, drawn: None, columns, rows, lines: Vec::new() }
    }

    /// Takes a new size; returns whether it is one.
    pub(crate) fn resize(&mut self, columns: u16, rows: u16) -> bool {
        if (columns, rows) == (self.columns, self.rows) {
            return false;
        }
        (self.columns, self.rows) = (columns, rows);
        self.console.screen_mut().set_size(at_least_one(upper(rows)), at_least_one(columns));
        self.drawn = None;
        true
    }

    /// Takes what the router wrote; returns what the terminal answers to it.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.console.process(bytes);
        std::mem::take(&mut self.console.callbacks_mut().0)
    }

    /// What to write to the terminal so that it shows the console, and below it as many of these lines as there is room for.
    pub(crate) fn draw(&mut self, lines: &[String]) -> String {
        let screen = self.console.screen().clone();
        let mut out = "\x1b[?25l".to_owned();
        let everything = self.drawn.is_none();
        match &self.drawn {
            Some(drawn) => out.push_str(&screen.contents_diff(drawn)),
            None => out.push_str(&screen.contents_formatted()),
        }
        if everything || self.lines != lines {
            self.lines = lines.to_vec();
            let below = upper(self.rows)..self.rows;
            for (row, line) in below.zip(lines.iter().map(String::as_str).chain(std::iter::repeat(""))) {
                let width = usize::from(self.columns);
                let line: String = line.chars().take(width).collect();
                out.push_str(&format!("\x1b[{};1H\x1b[0;7m{line:width$}\x1b[0m", row + 1));
            }
            // The next difference is computed from where and how the console left the terminal.
            out.push_str(&screen.attributes_formatted());
        }
        out.push_str(&screen.cursor_state_formatted());
        self.drawn = Some(screen);
        out
    }
}

/// Rows of the console in a terminal with so many.
fn upper(rows: u16) -> u16 {
    rows.saturating_sub(if rows >= ROOM_FOR_TWO { 2 } else { 1 })
}

fn at_least_one(cells: u16) -> NonZero<u16> {
    NonZero::new(cells).unwrap_or(NonZero::<u16>::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_learns_the_size_of_its_part() {
        let mut screen = Screen::new(80, 24);
        assert_eq!(screen.take(b"\x1b[999;999H\x1b[6n"), b"\x1b[23;80R");
        assert!(screen.resize(100, 40));
        assert_eq!(screen.take(b"\x1b[999;999H\x1b[6n"), b"\x1b[38;100R");
        assert!(!screen.resize(100, 40));
    }

    /// What a real terminal shows after these writes.
    fn shown(columns: u16, rows: u16, writes: &[String]) -> Vec<String> {
        let mut terminal = Parser::new(at_least_one(rows), at_least_one(columns), 0);
        writes.iter().for_each(|bytes| terminal.process(bytes.as_bytes()));
        terminal.screen().rows(0, columns).map(|row| row.trim_end().to_owned()).collect()
    }

    #[test]
    fn the_router_cannot_draw_over_the_lines_below() {
        let mut screen = Screen::new(20, 5);
        let mut writes = Vec::new();
        screen.take(b"one\r\ntwo");
        writes.push(screen.draw(&["client: boots".into()]));
        screen.take(b"\x1b[2J\x1b[HONE\x1b[99;1HLAST");
        writes.push(screen.draw(&["client: boots".into()]));
        assert_eq!(shown(20, 5, &writes), ["ONE", "", "", "LAST", "client: boots"]);
        screen.take(b"\r\nMORE\r\n");
        writes.push(screen.draw(&["client: 200 OK, and much more than fits".into()]));
        assert_eq!(shown(20, 5, &writes), ["", "LAST", "MORE", "", "client: 200 OK, and"]);
    }
}

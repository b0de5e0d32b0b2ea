//! A terminal at the other end of the serial line: what its screen shows, as text and as a drawing.
use std::fmt::Write as _;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sixgate_qemu::Console;
use vt100::{Cell, Color, Parser};

/// A serial console is of this size unless its terminal says otherwise; this one says nothing.
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;
/// How long something may take to be shown.
const PATIENCE: Duration = Duration::from_secs(240);
/// A screen that was not written to for so long is at rest until the next second.
const REST: Duration = Duration::from_millis(400);

/// Size of a cell in a drawing, in pixels.
const CELL: (usize, usize) = (9, 18);
const BLACK: &str = "#101010";
const WHITE: &str = "#d0d0d0";

/// The terminal.
pub(super) struct Terminal {
    written: Receiver<Vec<u8>>,
    parser: Parser,
}

impl Terminal {
    /// Shows what was written so far, and what follows.
    pub(super) fn attach(console: &Console) -> Self {
        let (audience, written) = channel();
        console.attach(audience);
        let cells = |number| NonZero::new(number).unwrap_or(NonZero::<u16>::MIN);
        Self { written, parser: Parser::new(cells(ROWS), cells(COLUMNS), 0) }
    }

    /// What the screen shows.
    pub(super) fn text(&self) -> String {
        self.parser.screen().contents()
    }

    /// Waits until the screen shows all of these, and is at rest.
    pub(super) fn await_texts(&mut self, texts: &[&str]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let moved = self.written.recv_timeout(REST).map(|bytes| self.parser.process(&bytes)).is_ok();
            let shown = self.text();
            if !moved && texts.iter().all(|text| shown.contains(text)) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{texts:?} are never shown, but\n{shown}");
        }
    }

    /// The screen as SVG, with its text as the description.
    pub(super) fn draw(&self) -> String {
        let (width, height) = (usize::from(COLUMNS) * CELL.0, usize::from(ROWS) * CELL.1);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"DejaVu Sans Mono, Liberation Mono, monospace\" font-size=\"15\">\n<desc>\n"
        );
        for line in self.text().lines() {
            let _ = writeln!(svg, "{}", escaped(line.trim_end()));
        }
        let _ = writeln!(svg, "</desc>\n<rect width=\"{width}\" height=\"{height}\" fill=\"{BLACK}\"/>");
        for row in 0..ROWS {
            let mut column = 0;
            while column < COLUMNS {
                column = self.draw_run(&mut svg, row, column);
            }
        }
        svg + "</svg>\n"
    }

    /// Draws the cells from here on that look alike; returns where the next ones begin.
    fn draw_run(&self, svg: &mut String, row: u16, first: u16) -> u16 {
        let cell = |column: u16| self.parser.screen().cell(row, column);
        let look = |cell: &Cell| (cell.fgcolor(), cell.bgcolor(), cell.bold(), cell.inverse());
        let style = cell(first).map(look);
        let mut text = String::new();
        let mut column = first;
        while column < COLUMNS && cell(column).map(look) == style {
            let content = cell(column).map(Cell::contents).unwrap_or_default();
            text.push_str(if content.is_empty() { " " } else { content });
            column += 1;
        }
        let Some((front, back, bold, inverse)) = style else { return column };
        let (mut front, mut back) = (color(front, WHITE), color(back, BLACK));
        if inverse {
            (front, back) = (back, front);
        }
        let width = |cells: u16| usize::from(cells) * CELL.0;
        let (x, y) = (width(first), usize::from(row) * CELL.1);
        if back != BLACK {
            let (width, height) = (width(column - first), CELL.1);
            let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{back}\"/>");
        }
        if !text.trim().is_empty() {
            // Blanks at the beginning are no part of the text: not everything that draws SVG keeps them.
            let blanks = text.len() - text.trim_start_matches(' ').len();
            let (x, text) = (x + blanks * CELL.0, text.trim());
            let weight = if bold { " font-weight=\"bold\"" } else { "" };
            let length = text.chars().count() * CELL.0;
            let (y, text) = (y + 14, escaped(text));
            let _ = writeln!(
                svg,
                "<text x=\"{x}\" y=\"{y}\" fill=\"{front}\"{weight} textLength=\"{length}\" lengthAdjust=\"spacingAndGlyphs\" \
                 xml:space=\"preserve\">{text}</text>"
            );
        }
        column
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The sixteen colours as terminals show them.
fn color(color: Color, default: &'static str) -> &'static str {
    const COLORS: [&str; 16] = [
        BLACK, "#cc3333", "#33aa33", "#c8a020", "#3465a4", "#a050a0", "#20a0a8", WHITE, "#606060", "#ff6666",
        "#66dd66", "#ffe066", "#6699ff", "#dd88dd", "#66dddd", "#ffffff",
    ];
    match color {
        Color::Default | Color::Rgb(..) => default,
        Color::Idx(index) => COLORS.get(usize::from(index)).copied().unwrap_or(default),
    }
}

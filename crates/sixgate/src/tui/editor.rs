//! An editor for the configuration, with what the checker says beside it.
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::text::{Line, Span};
use sixgate_engine::config;

use super::page::{clip, harmless, rule, width, wrap};
use super::theme::{Role, Theme};

/// What the checker calls the text.
const NAME: &str = "configuration";
/// The text is checked when nothing was typed for so long.
const PAUSE: Duration = Duration::from_millis(400);
/// From this width on the checker's messages stand at the right, else below.
const BESIDE_FROM: usize = 110;
/// Rows of messages below the text.
const BELOW: usize = 7;
/// A tab's columns.
const TAB: usize = 4;
/// Columns of the line numbers.
const MARGIN: usize = 6;

/// A text with a cursor.
#[derive(Debug)]
pub(super) struct Editor {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
    top: usize,
    /// What the checker says; nothing where all is right.
    complaint: String,
    /// Lines that it complains of, counting from 1.
    wrong: Vec<usize>,
    changed: bool,
    /// The rest of an arrow key that a slow line has torn is to come.
    torn: bool,
    /// When something was typed that was not checked yet.
    unchecked: Option<Duration>,
}

impl Editor {
    /// An editor of that text.
    pub(super) fn new(text: &str) -> Self {
        let lines: Vec<Vec<char>> = text.lines().map(|line| harmless(line).chars().collect()).collect();
        let mut editor = Self {
            lines: if lines.is_empty() { vec![Vec::new()] } else { lines },
            row: 0,
            column: 0,
            top: 0,
            complaint: String::new(),
            wrong: Vec::new(),
            changed: false,
            torn: false,
            unchecked: None,
        };
        editor.check();
        editor
    }

    /// The text as it stands.
    pub(super) fn text(&self) -> String {
        self.lines.iter().flat_map(|line| line.iter().chain(std::iter::once(&'\n'))).collect()
    }

    /// Whether something was typed.
    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }

    /// What the checker says of the text as it stands; nothing where all is right.
    pub(super) fn complaint(&mut self) -> &str {
        if self.unchecked.is_some() {
            self.check();
        }
        &self.complaint
    }

    /// Lets time pass.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        if self.unchecked.is_some_and(|since| now.saturating_sub(since) >= PAUSE) {
            self.check();
        }
    }

    /// Takes a key; Escape is not for the editor.
    pub(super) fn handle_key(&mut self, key: KeyEvent, rows: usize, now: Duration) {
        let page = rows.saturating_sub(BELOW + 1).max(1);
        match key.code {
            KeyCode::Up => self.row = self.row.saturating_sub(1),
            KeyCode::Down => self.row = (self.row + 1).min(self.lines.len() - 1),
            KeyCode::PageUp => self.row = self.row.saturating_sub(page),
            KeyCode::PageDown => self.row = (self.row + page).min(self.lines.len() - 1),
            KeyCode::Left if self.column > 0 => self.column -= 1,
            KeyCode::Left if self.row > 0 => {
                self.row -= 1;
                self.column = self.lines[self.row].len();
            }
            KeyCode::Right if self.column < self.lines[self.row].len() => self.column += 1,
            KeyCode::Right if self.row + 1 < self.lines.len() => (self.row, self.column) = (self.row + 1, 0),
            KeyCode::Home => self.column = 0,
            KeyCode::End => self.column = self.lines[self.row].len(),
            KeyCode::Char(letter) => {
                self.lines[self.row].insert(self.column, letter);
                self.column += 1;
                self.touched(now);
            }
            KeyCode::Tab => {
                for _ in 0..TAB {
                    self.lines[self.row].insert(self.column, ' ');
                }
                self.column += TAB;
                self.touched(now);
            }
            KeyCode::Enter => {
                let rest = self.lines[self.row].split_off(self.column);
                self.lines.insert(self.row + 1, rest);
                (self.row, self.column) = (self.row + 1, 0);
                self.touched(now);
            }
            KeyCode::Backspace if self.column > 0 => {
                self.column -= 1;
                self.lines[self.row].remove(self.column);
                self.touched(now);
            }
            KeyCode::Backspace if self.row > 0 => {
                let rest = self.lines.remove(self.row);
                self.row -= 1;
                self.column = self.lines[self.row].len();
                self.lines[self.row].extend(rest);
                self.touched(now);
            }
            KeyCode::Delete if self.column < self.lines[self.row].len() => {
                self.lines[self.row].remove(self.column);
                self.touched(now);
            }
            KeyCode::Delete if self.row + 1 < self.lines.len() => {
                let rest = self.lines.remove(self.row + 1);
                self.lines[self.row].extend(rest);
                self.touched(now);
            }
            _ => {}
        }
        self.column = self.column.min(self.lines[self.row].len());
    }

    /// A sequence has begun whose last letter is not for the text.
    pub(super) fn tear(&mut self) {
        self.torn = true;
    }

    /// Whether it has.
    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// Takes the last letter of a torn sequence as the key that it was.
    pub(super) fn handle_torn(&mut self, letter: char, rows: usize, now: Duration) {
        self.torn = false;
        let code = match letter {
            'A' => KeyCode::Up,
            'B' => KeyCode::Down,
            'C' => KeyCode::Right,
            'D' => KeyCode::Left,
            'F' => KeyCode::End,
            'H' => KeyCode::Home,
            _ => return,
        };
        self.handle_key(KeyEvent::from(code), rows, now);
    }

    /// What is on the screen: the text around the cursor, and the checker's messages.
    pub(super) fn page(&mut self, theme: Theme, columns: usize, rows: usize) -> Vec<Line<'static>> {
        let beside = columns >= BESIDE_FROM;
        let (room, height) = if beside { (columns / 2, rows) } else { (columns, rows.saturating_sub(BELOW).max(1)) };
        let height = height.saturating_sub(1).max(1);
        self.top = self.top.min(self.row).max((self.row + 1).saturating_sub(height));
        let state = if self.changed { "Configuration, changed" } else { "Configuration" };
        let mut text = vec![rule(theme, room, state, &[])];
        text.extend((self.top..self.top + height).map(|row| self.row_line(theme, room, row)));
        let width_of_messages = if beside { columns - room - 2 } else { columns };
        let messages = self.messages(theme, width_of_messages);
        if beside {
            return super::page::beside(text, messages, room);
        }
        text.extend(messages.into_iter().take(BELOW));
        text
    }

    fn row_line(&self, theme: Theme, room: usize, row: usize) -> Line<'static> {
        let Some(line) = self.lines.get(row) else { return Line::from("") };
        let wrong = self.wrong.contains(&(row + 1));
        let number = format!("{:>4}{} ", row + 1, if wrong { '!' } else { ' ' });
        let mut spans = vec![Span::styled(number, theme.style(if wrong { Role::Bad } else { Role::Frame }))];
        let room = room.saturating_sub(MARGIN + 1).max(1);
        if row != self.row {
            spans.push(Span::raw(clip(&line.iter().collect::<String>(), room)));
            return Line::from(spans);
        }
        // The cursor's line moves so that the cursor can be seen.
        let from = (self.column + 1).saturating_sub(room);
        let until = (from + room).min(line.len());
        let before: String = line[from..self.column].iter().collect();
        let under = line.get(self.column).copied().unwrap_or(' ');
        let after: String = line.get(self.column + 1..until).unwrap_or_default().iter().collect();
        spans.push(Span::raw(before));
        spans.push(Span::styled(under.to_string(), theme.style(Role::Open)));
        spans.push(Span::raw(after));
        Line::from(spans)
    }

    fn messages(&self, theme: Theme, columns: usize) -> Vec<Line<'static>> {
        let verdict = match (self.unchecked.is_some(), self.complaint.is_empty()) {
            (true, _) => "checking",
            (false, true) => "nothing is wrong",
            (false, false) => "it cannot be applied as it is",
        };
        let mut lines = vec![rule(theme, columns, verdict, &[])];
        let role = if self.complaint.is_empty() { Role::Plain } else { Role::Warning };
        let text = if self.complaint.is_empty() {
            "Esc: apply it with a trial of 60 s, or leave it.".to_owned()
        } else {
            harmless(&self.complaint)
        };
        lines.extend(
            wrap(&text, columns.saturating_sub(2))
                .into_iter()
                .map(|line| Line::from(Span::styled(format!(" {line}"), theme.style(role)))),
        );
        debug_assert!(lines.iter().all(|line| width(&line.to_string()) <= columns.max(4)));
        lines
    }

    fn touched(&mut self, now: Duration) {
        self.changed = true;
        self.unchecked = Some(now);
    }

    fn check(&mut self) {
        self.unchecked = None;
        self.complaint = config::parse(&self.text(), NAME).err().map_or_else(String::new, |errors| errors.to_string());
        self.wrong = self.complaint.lines().filter_map(line_number).collect();
    }
}

/// The line that an excerpt points at: `--> configuration:12:3`.
fn line_number(line: &str) -> Option<usize> {
    let (_, place) = line.split_once(NAME)?;
    place.strip_prefix(':')?.split(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyModifiers;

    use super::*;

    const RIGHT: &str = "[wan]\ninterface = \"eth0\"\n";

    fn press(editor: &mut Editor, codes: &[KeyCode]) {
        for code in codes {
            editor.handle_key(KeyEvent::new(*code, KeyModifiers::NONE), 20, Duration::ZERO);
        }
    }

    #[test]
    fn text_is_typed_split_and_joined() {
        let mut editor = Editor::new("ab\ncd\n");
        press(&mut editor, &[KeyCode::Right, KeyCode::Char('X'), KeyCode::Enter]);
        assert_eq!(editor.text(), "aX\nb\ncd\n");
        press(&mut editor, &[KeyCode::Backspace, KeyCode::Backspace]);
        assert_eq!(editor.text(), "ab\ncd\n");
        press(&mut editor, &[KeyCode::End, KeyCode::Delete]);
        assert_eq!(editor.text(), "abcd\n");
        press(&mut editor, &[KeyCode::Home, KeyCode::Left, KeyCode::Up, KeyCode::PageDown, KeyCode::Delete]);
        assert_eq!(editor.text(), "bcd\n");
        assert!(editor.is_changed());
    }

    #[test]
    fn the_checker_names_the_line_once_typing_pauses() {
        let mut editor = Editor::new(RIGHT);
        assert_eq!(editor.complaint(), "");
        press(&mut editor, &[KeyCode::Down, KeyCode::Char('x')]);
        editor.handle_timeout(Duration::from_millis(100));
        assert!(editor.unchecked.is_some());
        editor.handle_timeout(Duration::from_millis(500));
        assert!(editor.unchecked.is_none() && editor.wrong.contains(&2), "{:?}: {}", editor.wrong, editor.complaint);
        press(&mut editor, &[KeyCode::Backspace]);
        assert_eq!(editor.complaint(), "");
    }

    #[test]
    fn the_cursor_is_always_on_the_screen() {
        let mut editor = Editor::new(&format!("{}\n", "x".repeat(300)).repeat(90));
        for (columns, rows) in [(80, 21), (132, 40), (20, 5), (1, 1)] {
            press(&mut editor, &[KeyCode::PageDown, KeyCode::End]);
            let lines = editor.page(Theme::new(false), columns, rows);
            assert!(lines.iter().any(|line| line.spans.len() >= 4), "{columns}x{rows}");
        }
    }
}

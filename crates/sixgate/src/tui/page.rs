//! The lines that a page is made of: titled rules, labelled items that wrap between items, wrapped text.
use ratatui::text::{Line, Span};

use super::theme::{Role, Theme};

/// Columns that a label takes, with the blank before it and the gap behind it.
pub(super) const LABEL: usize = 13;
/// Blanks between two items.
const GAP: usize = 3;
/// Marks text that was cut; a glyph that code page 437 has.
const CUT: char = '»';

/// A piece of text that is not broken unless it is wider than the page.
#[derive(Clone, Debug)]
pub(super) struct Item {
    text: String,
    role: Role,
}

impl Item {
    /// A piece of text in a role.
    pub(super) fn new(role: Role, text: impl Into<String>) -> Self {
        Self { text: text.into(), role }
    }

    /// A value.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self::new(Role::Plain, text)
    }

    /// Whether it contains a text, which is in lower case.
    pub(super) fn contains(&self, text: &str) -> bool {
        self.text.to_lowercase().contains(text)
    }

    /// Its width in columns.
    fn width(&self) -> usize {
        width(&self.text)
    }
}

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// The text in at most so many columns, with a mark where it was cut.
pub(super) fn clip(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (head, _) = split(text, columns.saturating_sub(1));
    if columns == 0 { String::new() } else { format!("{head}{CUT}") }
}

/// Text from elsewhere, made harmless: tabs are blanks, other control characters question marks.
pub(super) fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => clean.push('\n'),
            '\r' => {}
            '\t' => clean.push_str("    "),
            other if other.is_control() => clean.push('?'),
            other => clean.push(other),
        }
    }
    clean
}

/// A rule across the page with a title at its left and a state at its right.
pub(super) fn rule(theme: Theme, columns: usize, title: &str, state: &[Item]) -> Line<'static> {
    let title = clip(title, columns.saturating_sub(4));
    let mut spans = vec![
        Span::styled("─ ", theme.style(Role::Frame)),
        Span::styled(title.clone(), theme.style(Role::Title)),
        Span::raw(" "),
    ];
    let mut taken = width(&title) + 3;
    let mut shown = Vec::new();
    for item in state {
        // Two blanks before, one blank and one column of the rule behind, one column of the rule at least between.
        let needed = item.width() + 2;
        if taken + needed + 3 > columns {
            break;
        }
        taken += needed;
        shown.push(item);
    }
    let tail = if shown.is_empty() { 0 } else { 2 };
    spans.push(Span::styled("─".repeat(columns.saturating_sub(taken + tail)), theme.style(Role::Frame)));
    for (index, item) in shown.iter().enumerate() {
        // The first item's two blanks are one blank and the room that the rule's tail takes.
        spans.push(Span::raw(if index == 0 { " " } else { "  " }));
        spans.push(Span::styled(item.text.clone(), theme.style(item.role)));
    }
    if !shown.is_empty() {
        spans.push(Span::styled(" ──", theme.style(Role::Frame)));
    }
    Line::from(spans)
}

/// Items behind a label, as many in a line as fit; further lines are indented below the first item.
pub(super) fn labelled(theme: Theme, columns: usize, label: &str, items: &[Item]) -> Vec<Line<'static>> {
    let head = format!(" {:<pad$}", clip(label, LABEL.saturating_sub(2)), pad = LABEL.saturating_sub(1));
    let room = columns.saturating_sub(LABEL).max(1);
    let mut lines = Vec::new();
    let mut line = vec![Span::styled(head, theme.style(Role::Label))];
    let mut taken = 0;
    for item in items {
        let gap = if taken == 0 { 0 } else { GAP };
        if taken > 0 && taken + gap + item.text.trim_end().chars().count() > room {
            lines.push(Line::from(line));
            line = vec![Span::raw(" ".repeat(LABEL))];
            taken = 0;
        } else if gap > 0 {
            line.push(Span::raw(" ".repeat(gap)));
            taken += gap;
        }
        let text = clip(&item.text, room.saturating_sub(taken).max(1));
        taken += width(&text);
        line.push(Span::styled(text, theme.style(item.role)));
    }
    lines.push(Line::from(line));
    lines
}

/// Rows of labelled items whose columns are aligned where the page is wide enough for that.
pub(super) fn table(theme: Theme, columns: usize, mut rows: Vec<(String, Vec<Item>)>) -> Vec<Line<'static>> {
    let cells = rows.iter().map(|(_, items)| items.len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..cells)
        .map(|cell| rows.iter().filter_map(|(_, items)| items.get(cell)).map(Item::width).max().unwrap_or(0))
        .collect();
    let needed = widths.iter().sum::<usize>() + GAP * cells.saturating_sub(1) + LABEL;
    if needed <= columns {
        for (_, items) in &mut rows {
            for (item, wanted) in items.iter_mut().zip(&widths) {
                item.text.push_str(&" ".repeat(wanted.saturating_sub(item.width())));
            }
        }
    }
    rows.iter().flat_map(|(label, items)| labelled(theme, columns, label, items)).collect()
}

/// A text broken between words into lines of at most so many columns; its own line breaks are kept, and lines that
/// begin with blanks (excerpts of a file) are broken only where they are too long.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    for source in text.lines() {
        let mut rest = source.trim_end();
        while width(rest) > columns {
            let (head, _) = split(rest, columns);
            let indent = head.len() - head.trim_start().len();
            let end = if rest[head.len()..].starts_with(' ') {
                head.len()
            } else {
                head.rfind(' ').filter(|blank| *blank > indent).unwrap_or(head.len())
            };
            // A glyph wider than the page would never fit: it is left out rather than looped on.
            let end = if end == 0 { rest.chars().next().map_or(rest.len(), char::len_utf8) } else { end };
            lines.push(clip(rest[..end].trim_end(), columns));
            rest = rest[end..].trim_start();
        }
        if !rest.is_empty() || source.trim().is_empty() {
            lines.push(rest.to_owned());
        }
    }
    lines
}

/// Two pages side by side with a gap of one column each way.
pub(super) fn beside(left: Vec<Line<'static>>, right: Vec<Line<'static>>, columns: usize) -> Vec<Line<'static>> {
    let rows = left.len().max(right.len());
    let (mut left, mut right) = (left.into_iter(), right.into_iter());
    (0..rows)
        .map(|_| {
            let mut line = left.next().unwrap_or_default();
            let taken = line.width();
            line.spans.push(Span::raw(" ".repeat((columns + 2).saturating_sub(taken))));
            line.spans.extend(right.next().unwrap_or_default().spans);
            line
        })
        .collect()
}

/// The longest beginning that fits into so many columns, and the rest.
fn split(text: &str, columns: usize) -> (&str, &str) {
    let mut taken = 0;
    for (index, character) in text.char_indices() {
        let mut encoded = [0; 4];
        taken += width(character.encode_utf8(&mut encoded));
        if taken > columns {
            return text.split_at(index);
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONO: Theme = Theme::new(false);

    fn text(lines: &[Line<'_>]) -> Vec<String> {
        lines.iter().map(|line| line.to_string().trim_end().to_owned()).collect()
    }

    #[test]
    fn rule_fills_the_page_exactly_with_and_without_a_state() {
        let state = [Item::plain("eth0"), Item::plain("up")];
        for columns in 12..100 {
            assert_eq!(rule(MONO, columns, "Uplink", &[]).width(), columns);
            assert_eq!(rule(MONO, columns, "Uplink", &state).width(), columns, "at {columns} columns");
        }
    }

    #[test]
    fn items_wrap_between_items_below_the_first() {
        let items = ["2001:db8::1/64", "fe80::1/64", "via fe80::2"].map(Item::plain);
        let lines = labelled(MONO, 39, "IPv6", &items);
        assert_eq!(text(&lines), [" IPv6        2001:db8::1/64", "             fe80::1/64   via fe80::2"]);
    }

    #[test]
    fn item_wider_than_the_page_is_cut_with_a_mark() {
        let lines = labelled(MONO, 20, "IPv6", &[Item::plain("2001:db8::1/64")]);
        assert_eq!(text(&lines), [" IPv6        2001:d»"]);
    }

    #[test]
    fn table_aligns_where_it_fits() {
        let row = |name: &str, items: [&str; 2]| (name.to_owned(), items.map(Item::plain).to_vec());
        let rows = vec![row("a", ["1", "x"]), row("b", ["333", "y"])];
        assert_eq!(text(&table(MONO, 80, rows)), [" a           1     x", " b           333   y"]);
    }

    #[test]
    fn wrapping_breaks_between_words_and_keeps_line_breaks() {
        assert_eq!(wrap("one two three\n  four", 8), ["one two", "three", "  four"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("漢字", 1), ["»", "»"]);
    }

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\tc\r\n"), "a?[2Jb    c\n");
    }
}

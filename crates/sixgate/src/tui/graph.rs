//! A quantity over time as columns of blocks, newest at the right.
use ratatui::text::{Line, Span};

use super::page::{LABEL, clip, width};
use super::theme::{Role, Theme};

/// What a column's top may be filled with, from nothing to all of it.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The same where the font has code page 437's glyphs only: the screen and, as far as is known, the serial line.
const HALVES: [char; 3] = [' ', '▄', '█'];

/// How much higher than its greatest value a graph is: what stays the same is seen to be a level, not a limit.
const HEADROOM: f64 = 1.2;

/// A graph of `rows` lines. At its left stands what it is, below that the newest value, and below that the greatest one
/// that is shown. `values` begin with the oldest; those that have no room are left out.
pub(super) fn graph(
    theme: Theme,
    columns: usize,
    rows: usize,
    label: &str,
    values: &[f64],
    unit: fn(f64) -> String,
) -> Vec<Line<'static>> {
    let room = columns.saturating_sub(LABEL + 1);
    let shown = &values[values.len().saturating_sub(room)..];
    let most = shown.iter().copied().fold(0.0, f64::max);
    let blocks: &[char] = if theme.has_eighths() { &EIGHTHS } else { &HALVES };
    let steps = blocks.len() - 1;
    let heights: Vec<usize> = shown.iter().map(|value| height(*value, most * HEADROOM, rows * steps)).collect();
    let newest = shown.last().map_or_else(|| "-".to_owned(), |value| unit(*value));
    let greatest = if most > 0.0 { format!("↑{}", unit(most)) } else { String::new() };
    let blanks = " ".repeat(room - shown.len());
    (0..rows)
        .map(|row| {
            let (text, role) = match row {
                0 => (label, Role::Label),
                1 => (newest.as_str(), Role::Plain),
                2 => (greatest.as_str(), Role::Frame),
                _ => ("", Role::Plain),
            };
            let below = (rows - 1 - row) * steps;
            let bars: String = heights.iter().map(|height| blocks[height.saturating_sub(below).min(steps)]).collect();
            Line::from(vec![
                Span::styled(margin(text), theme.style(role)),
                Span::styled(format!("{blanks}{bars}"), theme.style(Role::Graph)),
            ])
        })
        .collect()
}

/// A value's height: whatever is more than nothing can be seen.
fn height(value: f64, most: f64, full: usize) -> usize {
    if value <= 0.0 || most <= 0.0 {
        return 0;
    }
    let height = (value / most * full as f64).round();
    (height as usize).clamp(1, full)
}

/// Text in the margin's width.
fn margin(text: &str) -> String {
    let text = clip(text, LABEL - 1);
    format!(" {text}{}", " ".repeat(LABEL.saturating_sub(width(&text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(theme: Theme, rows: usize, values: &[f64]) -> Vec<String> {
        let lines = graph(theme, 20, rows, "in", values, |value| format!("{value}/s"));
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn columns_grow_by_eighths_where_the_font_has_them_and_by_halves_elsewhere() {
        let values = [0.0, 0.1, 5.0, 10.0];
        assert_eq!(drawn(Theme::new(false).with_eighths(), 1, &values), [" in              ▁▃▇"]);
        assert_eq!(drawn(Theme::new(false), 1, &values), [" in              ▄▄█"]);
    }

    #[test]
    fn the_newest_and_the_greatest_value_stand_below_the_name() {
        let expected = [" in               ▄ ", " 5/s              █▄", " ↑10/s            ██"];
        assert_eq!(drawn(Theme::new(false), 3, &[10.0, 5.0]), expected);
    }

    #[test]
    fn the_oldest_values_are_left_out_where_there_is_no_room() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        let lines = drawn(Theme::new(false), 1, &values);
        assert_eq!(lines[0].chars().filter(|block| *block == '█').count(), 6);
        assert_eq!(drawn(Theme::new(false), 1, &[])[0].trim_end(), " in");
    }
}

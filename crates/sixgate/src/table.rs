//! Tables for people: rows under a head, columns as wide as what stands in them.
use std::fmt::Write as _;

/// To which side of its column a value keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Blanks between two columns.
const GAP: usize = 2;
/// A column does not grow wider for the sake of one long value; that row runs over.
const WIDEST: usize = 46;

/// A table in the making.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    columns: [(&'static str, Side); COLUMNS],
    widths: [usize; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
    has_head: bool,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table without rows.
    pub(crate) fn new(columns: [(&'static str, Side); COLUMNS]) -> Self {
        Self { columns, widths: columns.map(|(name, _)| name.len()), rows: Vec::new(), has_head: false }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, row: [String; COLUMNS]) {
        for (width, value) in self.widths.iter_mut().zip(&row) {
            *width = (*width).max(value.chars().count().min(WIDEST));
        }
        self.rows.push(row);
    }

    /// The rows since the last time as text, below the head the first time. No rows, no head.
    pub(crate) fn emit(&mut self) -> String {
        let mut out = String::new();
        if !self.rows.is_empty() && !std::mem::replace(&mut self.has_head, true) {
            self.write(&mut out, &self.columns.map(|(name, _)| name.to_owned()));
        }
        for row in std::mem::take(&mut self.rows) {
            self.write(&mut out, &row);
        }
        out
    }

    fn write(&self, out: &mut String, row: &[String; COLUMNS]) {
        let mut line = String::new();
        for ((value, (_, side)), width) in row.iter().zip(&self.columns).zip(self.widths) {
            // Writing to a String cannot fail.
            let _ = match side {
                Side::Left => write!(line, "{value:<width$}"),
                Side::Right => write!(line, "{value:>width$}"),
            };
            line.extend([' '; GAP]);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: [&str; 3]) -> [String; 3] {
        values.map(str::to_owned)
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them_and_numbers_keep_to_the_right() {
        let mut table = Table::new([("NAME", Side::Left), ("N", Side::Right), ("REST", Side::Left)]);
        assert_eq!(table.emit(), "");
        table.row(row(["vm1", "7", "short"]));
        table.row(row(["a-longer-name", "1234", ""]));
        let expected = "NAME              N  REST\nvm1               7  short\na-longer-name  1234\n";
        assert_eq!(table.emit(), expected);
        // What follows later stands below the same head.
        table.row(row(["x", "8", "y"]));
        assert_eq!(table.emit(), "x                 8  y\n");
    }

    #[test]
    fn one_long_value_does_not_push_all_others_away() {
        let mut table = Table::new([("A", Side::Left), ("B", Side::Left), ("C", Side::Left)]);
        table.row(row([&"x".repeat(200), "1", "2"]));
        table.row(row(["y", "1", "2"]));
        let text = table.emit();
        assert_eq!(text.lines().last().map(|line| line.find('1')), Some(Some(WIDEST + GAP)));
    }
}

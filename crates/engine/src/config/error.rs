//! Errors in the configuration file, each with its place, what is wrong and how to mend it.
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// More are not shown; the first ones are what somebody mends first.
const SHOWN: usize = 50;

/// One thing that is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Line in the file, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, one sentence.
    pub message: String,
    /// What would be right: the RFC's name of the variable and its range, or what to write instead.
    pub mend: String,
    span: Range<usize>,
}

/// Everything that is wrong with the file, in the file's order. It displays as plain text with an excerpt for each error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    file: String,
    text: String,
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(super) fn new(file: &str, text: &str, found: Vec<(Range<usize>, String, String)>) -> Self {
        let lines = Lines::new(text);
        let mut errors: Vec<ConfigError> = found
            .into_iter()
            .map(|(span, message, mend)| {
                let span = clamp(text, &span);
                let (line, column) = lines.place(span.start);
                ConfigError { line, column, message, mend, span }
            })
            .collect();
        errors.sort_by(|a, b| (a.span.start, &a.message).cmp(&(b.span.start, &b.message)));
        errors.dedup();
        Self { file: file.to_owned(), text: text.to_owned(), errors }
    }

    /// The errors in the file's order; never empty.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = Renderer::plain();
        for error in self.errors.iter().take(SHOWN) {
            // The renderer is given the lines around the error, not the whole file: its work stays in proportion.
            let (excerpt, start) = excerpt(&self.text, &error.span);
            let span = error.span.start - start..error.span.end.min(start + excerpt.len()) - start;
            let mut group = Level::ERROR.primary_title(error.message.as_str()).element(
                Snippet::source(excerpt)
                    .line_start(error.line)
                    .path(self.file.as_str())
                    .annotation(AnnotationKind::Primary.span(span)),
            );
            if !error.mend.is_empty() {
                group = group.element(Level::HELP.message(error.mend.as_str()));
            }
            writeln!(out, "{}\n", renderer.render(&[group]))?;
        }
        let count = self.errors.len();
        if count > SHOWN {
            writeln!(out, "and {} more", count - SHOWN)?;
        }
        write!(out, "{}: {count} {}", self.file, if count == 1 { "error" } else { "errors" })
    }
}

impl std::error::Error for ConfigErrors {}

/// The span within the text and on character boundaries, at least as long as a character where there is one.
fn clamp(text: &str, span: &Range<usize>) -> Range<usize> {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    // A span over several lines (a whole table) points at its first one.
    if let Some(newline) = text[start..end].find('\n') {
        end = start + newline;
    }
    start..end
}

/// Where the lines of a text begin, so that a place is found without reading the text again.
pub(super) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { text, starts: core::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect() }
    }

    /// Line and column from 1, the column in characters.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|line| self.starts.get(line)).copied().unwrap_or_default();
        (line, self.text.get(start..offset).map_or(1, |before| before.chars().count() + 1))
    }
}

/// The line of the span and its offset in the text.
fn excerpt<'a>(text: &'a str, span: &Range<usize>) -> (&'a str, usize) {
    let start = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[span.end..].find('\n').map_or(text.len(), |newline| span.end + newline);
    (&text[start..end], start)
}

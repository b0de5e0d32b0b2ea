//! Findings as lines, worst first: what is wrong in full, then the mend.
use ratatui::text::{Line, Span};
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::status::Status;

use super::app::count;
use super::format::plural;
use super::page::{Item, harmless, rule, wrap};
use super::theme::{Role, Theme};

/// Columns that the severity takes.
const INDENT: usize = 10;

/// The word and the look of a severity.
fn face(severity: Severity) -> (&'static str, Role) {
    match severity {
        Severity::Error => ("ERROR", Role::Bad),
        Severity::Warning => ("WARNING", Role::Warning),
        Severity::Note => ("note", Role::Label),
    }
}

/// All findings, worst first, in full.
pub(super) fn all(theme: Theme, columns: usize, status: &Status) -> Vec<Line<'static>> {
    let mut lines = vec![title(theme, columns, status)];
    if status.findings.is_empty() {
        lines.push(Line::from(" Nothing to mend: the router does all that its configuration asks for."));
    }
    for (index, finding) in worst_first(status).into_iter().enumerate() {
        if index > 0 {
            lines.push(Line::default());
        }
        lines.extend(one(theme, columns, finding));
    }
    lines
}

/// What must be seen at once: errors and warnings, worst first, as long as they fit into `rows` lines; the worst one
/// is shown in full however long it is. Empty when there is nothing that hurts.
pub(super) fn urgent(theme: Theme, columns: usize, rows: usize, status: &Status) -> Vec<Line<'static>> {
    let findings: Vec<_> =
        worst_first(status).into_iter().filter(|finding| finding.severity != Severity::Note).collect();
    if findings.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![title(theme, columns, status)];
    for (index, finding) in findings.iter().enumerate() {
        let more = one(theme, columns, finding);
        let left = findings.len() - index;
        let hint = usize::from(left > 1);
        if index > 0 && lines.len() + more.len() + hint > rows {
            let text = format!(" {:<pad$}and {left} more: press f", "", pad = INDENT - 1);
            lines.push(Line::from(Span::styled(text, theme.style(Role::Title))));
            break;
        }
        lines.extend(more);
    }
    lines
}

/// What is worth knowing and hurts nobody; empty when there is nothing.
pub(super) fn notes(theme: Theme, columns: usize, status: &Status) -> Vec<Line<'static>> {
    let notes: Vec<_> = status.findings.iter().filter(|finding| finding.severity == Severity::Note).collect();
    if notes.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![rule(theme, columns, "Notes", &[])];
    lines.extend(notes.into_iter().flat_map(|finding| one(theme, columns, finding)));
    lines
}

fn title(theme: Theme, columns: usize, status: &Status) -> Line<'static> {
    let mut state = Vec::new();
    for (severity, noun) in [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")] {
        let found = count(status, severity);
        if found > 0 {
            state.push(Item::new(face(severity).1, plural(found, noun)));
        }
    }
    if state.is_empty() {
        state.push(Item::new(Role::Good, "none"));
    }
    rule(theme, columns, "Findings", &state)
}

fn worst_first(status: &Status) -> Vec<&Finding> {
    let mut findings: Vec<_> = status.findings.iter().collect();
    findings.sort_by_key(|finding| core::cmp::Reverse(finding.severity));
    findings
}

fn one(theme: Theme, columns: usize, finding: &Finding) -> Vec<Line<'static>> {
    let (word, role) = face(finding.severity);
    let mut lines = Vec::new();
    let head = Span::styled(format!(" {word:<pad$}", pad = INDENT - 1), theme.style(role));
    let subject = harmless(&finding.subject);
    let text = harmless(&finding.text);
    let text = text.trim_end();
    let room = columns.saturating_sub(INDENT);
    if text.contains('\n') {
        // An excerpt of a file: its columns matter, so it has the whole width and starts at the left.
        let code = Span::styled(format!("  {}", harmless(&finding.code)), theme.style(Role::Label));
        lines.push(Line::from(vec![head, Span::styled(subject, theme.style(Role::Title)), code]));
        lines.extend(wrap(text, columns.saturating_sub(1)).into_iter().map(|line| Line::from(format!(" {line}"))));
    } else {
        let told = subject.is_empty() || text.starts_with(&subject);
        let sentence = if told { text.to_owned() } else { format!("{subject}: {text}") };
        let mut sentences = wrap(&sentence, room).into_iter();
        lines.push(Line::from(vec![head, Span::raw(sentences.next().unwrap_or_default())]));
        lines.extend(sentences.map(|line| Line::from(format!("{}{line}", " ".repeat(INDENT)))));
    }
    let mend = harmless(&finding.mend);
    if !mend.trim().is_empty() {
        for (index, line) in wrap(mend.trim(), room).into_iter().enumerate() {
            let label = if index == 0 { "mend" } else { "" };
            lines.push(Line::from(vec![
                Span::styled(format!(" {label:<pad$}", pad = INDENT - 1), theme.style(Role::Label)),
                Span::raw(line),
            ]));
        }
    }
    lines
}

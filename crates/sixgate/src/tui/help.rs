//! The help: keys, and what the words on the pages mean.
use ratatui::text::{Line, Span};

use super::page::{LABEL, rule, wrap};
use super::theme::{Role, Theme};

/// Keys and what they do, everywhere.
const KEYS: &[(&str, &str)] = &[
    ("↑ ↓  j k", "a line up or down"),
    ("PgUp PgDn", "a page up or down; also b and the space bar"),
    ("Home End", "to the first or the last line; also g and G"),
    ("Tab ← →", "the next page or the one before; the letters in the second line lead to each"),
    ("< >", "the order of sessions: by bytes, by time, by client, by server"),
    (
        "/",
        "show only rows that contain what you type; Enter keeps it, Esc shows all again; of sessions, an address or prefix of clients",
    ),
    (
        "a",
        "the menu of actions: ping, trace, resolve, capture, explain, edit, keep, go back, restart, update, power off",
    ),
    (
        "e",
        "edit the configuration, with what the checker says beside it; Esc applies it with a trial of 60 s or leaves it",
    ),
    ("r", "restart the daemon, after a question; the network stays as it is; a, then R restarts one service alone"),
    ("p", "power the machine off, after a question"),
    ("U", "the image: install the update on an attached drive and try it, after a question"),
    ("Z", "the image: go back to the system before the last update, after a question"),
    ("X", "the image: forget configuration and state and start anew, after a question"),
    (
        "W",
        "three questions, and a configuration made of the answers: cards, prefixes, the plan; nothing changes before the last yes",
    ),
    ("mouse", "where there is one: the wheel scrolls, a click on a page's name opens it"),
    ("Ctrl-L", "find out the terminal's size again and draw everything"),
    ("?", "this help, and back"),
];

/// Words that need a sentence.
const WORDS: &[(&str, &str)] = &[
    (
        "(L A)",
        "Flags of an advertised prefix. L: hosts reach one another in it directly. A: hosts take addresses in it.",
    ),
    ("RA, RS", "Router advertisements sent, and solicitations received from hosts."),
    ("PREF64", "The NAT64 prefix that hosts are told of. Withdrawn: told with lifetime 0, as translation cannot work."),
    (
        "seen",
        "The kernel has a live neighbour entry for the host, and since when nothing was heard of it. Silent: it did not answer. -: nobody asked yet.",
    ),
    (
        "wanted by",
        "Two hosts took the same address: one of them fails in duplicate address detection, or takes what is another's.",
    ),
    ("► prefix", "Container prefixes that are routed to the VM."),
    ("not passed", "Packets that came to the translator and were not translated, by reason."),
    ("dropped", "What the firewall refused, by rule: whatever no allow entry names ends here."),
    ("admitted", "What allow entries let in, by entry."),
    ("rates", "Means of the last few seconds; a dash while there is nothing to compare."),
];

/// The page.
pub(super) fn page(theme: Theme, columns: usize, console: bool) -> Vec<Line<'static>> {
    let mut lines = vec![rule(theme, columns, "Keys", &[])];
    for (key, meaning) in KEYS {
        lines.extend(entry(theme, columns, key, meaning));
    }
    if !console {
        lines.extend(entry(theme, columns, "q", "leave; the router goes on"));
    }
    lines.push(rule(theme, columns, "Words", &[]));
    for (word, meaning) in WORDS {
        lines.extend(entry(theme, columns, word, meaning));
    }
    lines
}

fn entry(theme: Theme, columns: usize, word: &str, meaning: &str) -> Vec<Line<'static>> {
    let room = columns.saturating_sub(LABEL);
    wrap(meaning, room)
        .into_iter()
        .enumerate()
        .map(|(index, line)| {
            let word = if index == 0 { word } else { "" };
            Line::from(vec![
                Span::styled(format!(" {word:<pad$}", pad = LABEL - 1), theme.style(Role::Label)),
                Span::raw(line),
            ])
        })
        .collect()
}

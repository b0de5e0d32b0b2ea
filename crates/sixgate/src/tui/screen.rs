//! The screen: a line of state, a line of pages, the page, a line of keys, and a question on top when there is one.
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::app::{App, View};
use super::feed::Trouble;
use super::format::{bytes, duration};
use super::keys::{EDITING, legend};
use super::page::{clip, harmless, rule, width, wrap};
use super::sheet::Sheet;
use super::theme::Role;
use super::{act, findings, firewall, help, log, machine, network, overview, resolver, sessions, translator, vms};

/// A daemon that does not answer is starting rather than gone for so many seconds after the appliance's console came up.
const BOOT_SECONDS: u64 = 15;

/// The line of pages is left out on a terminal with fewer rows.
const PAGES_FROM: u16 = 10;

/// There are more pages on that side; code page 437 has both.
const MORE_BEFORE: char = '«';
const MORE_BEHIND: char = '»';

/// Draws everything.
pub(super) fn draw(app: &mut App, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    let columns = usize::from(area.width);
    let row = |index: u16| Rect { x: area.x, y: area.y + index, width: area.width, height: 1 };
    // What a tiny terminal lacks room for goes in this order: the keys, the state.
    let head = u16::from(area.height >= 2);
    let foot = u16::from(area.height >= 3);
    let tabs = u16::from(area.height >= PAGES_FROM);
    let body = Rect { y: area.y + head + tabs, height: area.height - head - tabs - foot, ..area };

    let rows = usize::from(body.height);
    let lines = page(app, columns, rows);
    let total = lines.len();
    app.measured(total, rows);
    let shown: Vec<_> = lines.into_iter().skip(app.scroll).take(rows).collect();
    let last = app.scroll + shown.len();
    frame.render_widget(Paragraph::new(shown), body);
    if head > 0 {
        frame.render_widget(state_line(app, columns), row(0));
    }
    if tabs > 0 {
        frame.render_widget(pages_line(app, columns), row(head));
    }
    if foot > 0 {
        let position = (total > rows).then(|| format!("{}-{last} of {total}", app.scroll + 1));
        frame.render_widget(key_line(app, columns, position.as_deref()), row(area.height - 1));
    }
    draw_box(app, frame);
}

/// The page that is open, with what must be said before it.
fn page(app: &mut App, columns: usize, rows: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some((role, text)) = &app.notice {
        let style = app.theme.style(*role);
        let text = harmless(text);
        lines.extend(
            wrap(&text, columns.saturating_sub(2))
                .into_iter()
                .map(|line| Line::from(Span::styled(format!(" {line}"), style))),
        );
    }
    if let Some(wizard) = &app.wizard {
        lines.extend(silence(app, columns));
        lines.extend(wizard.page(app.theme, columns, app.status(), app.now));
        return lines;
    }
    if app.view == View::Help {
        lines.extend(help::page(app.theme, columns, app.console));
        return lines;
    }
    lines.extend(silence(app, columns));
    if app.status().is_some() {
        let rows = rows.saturating_sub(lines.len());
        if let (View::Editor, Some(editor)) = (app.view, app.editor.as_mut()) {
            lines.extend(editor.page(app.theme, columns, rows));
            return lines;
        }
        let Some(status) = app.status() else { return lines };
        let sheet = Sheet { theme: app.theme, columns, status, history: &app.history, filter: &app.filter };
        lines.extend(match app.view {
            View::Overview | View::Help => overview::page(&sheet, rows),
            View::Network => network::page(&sheet),
            View::Vms => vms::page(&sheet),
            View::Prefixes => log::prefixes(&sheet),
            View::Log => log::log(&sheet, app.log.iter()),
            View::Configurations => log::configurations(&sheet, app.past.as_deref()),
            View::Output | View::Editor => {
                app.output.as_ref().map_or_else(Vec::new, |output| output.page(app.theme, columns))
            }
            View::Translator => translator::page(&sheet),
            View::Sessions => sessions::page(&sheet, app.sessions.as_ref(), app.order),
            View::Resolver => resolver::page(&sheet),
            View::Firewall => firewall::page(&sheet, app.denials.as_deref()),
            View::System => machine::page(&sheet),
            View::Findings => findings::all(app.theme, columns, status),
        });
    }
    lines
}

/// Why the daemon says nothing, and what to do about it.
fn silence(app: &App, columns: usize) -> Vec<Line<'static>> {
    let Some((trouble, since)) = &app.trouble else {
        return Vec::new();
    };
    let socket = &app.socket;
    let seconds = app.now.saturating_sub(*since).as_secs();
    let booting = app.console && app.status().is_none() && app.now.as_secs() < BOOT_SECONDS;
    let supervised = "The appliance starts it again by itself.".to_owned();
    let (title, text, mend) = match trouble {
        Trouble::Absent | Trouble::Starting | Trouble::Silent if booting => {
            ("sixgate is starting", "The daemon does not answer yet.".to_owned(), String::new())
        }
        Trouble::Absent => (
            "The daemon is not there",
            format!("There is no control socket at {socket}."),
            if app.console {
                supervised
            } else {
                "Start it with `sixgate run --config FILE`, or name the socket of another one with --control."
                    .to_owned()
            },
        ),
        Trouble::Starting => (
            "The daemon is starting, or has ended",
            format!("The control socket at {socket} is there; nobody answers on it."),
            if app.console { supervised } else { "See what its log says.".to_owned() },
        ),
        Trouble::Denied => (
            "The daemon is not for you to see",
            format!("The control socket at {socket} belongs to another user."),
            "Run this as the user who runs the daemon: root, as a rule.".to_owned(),
        ),
        Trouble::Silent => (
            "The daemon does not answer",
            format!("It takes connections at {socket} and says nothing: it is starting, overloaded, or hangs."),
            "Restart it if it stays so.".to_owned(),
        ),
        Trouble::OtherVersion(theirs) => (
            "The daemon is of another version",
            match theirs {
                Some(theirs) => format!(
                    "It speaks version {theirs} of the control protocol, this console version {}.",
                    crate::control::VERSION
                ),
                None => "Its answers are not those of this console's release.".to_owned(),
            },
            "Restart the daemon, or use the binary that it was started from.".to_owned(),
        ),
        Trouble::Other(why) => ("The daemon cannot be asked", harmless(why), String::new()),
    };
    let mut lines = vec![rule(app.theme, columns, title, &[])];
    let mut sentences = format!("{text} {mend}").trim().to_owned();
    if seconds > 0 && !booting {
        sentences.push_str(&format!(" No answer for {}.", duration(seconds)));
    }
    if app.status().is_some() {
        sentences.push_str(" What follows is what it said last.");
    }
    let style = app.theme.style(if booting { Role::Plain } else { Role::Bad });
    lines.extend(
        wrap(&sentences, columns.saturating_sub(2))
            .into_iter()
            .map(|line| Line::from(Span::styled(format!(" {line}"), style))),
    );
    lines
}

/// Who this is and how it is, in the first line.
fn state_line(app: &App, columns: usize) -> Line<'static> {
    let bar = app.theme.style(Role::Bar);
    let (role, verdict) = app.verdict();
    let verdict = clip(&format!(" {verdict} "), columns);
    let mut room = columns.saturating_sub(width(&verdict));
    let mut facts = Vec::new();
    let mut name = " sixgate".to_owned();
    if let Some(status) = app.status() {
        let system = &status.system;
        name = format!(" sixgate {}  {}", harmless(&system.sixgate), harmless(&system.hostname));
        let used = system.memory_total.saturating_sub(system.memory_available);
        facts = vec![
            format!("up {}", duration(system.machine_uptime)),
            format!("mem {} of {}", bytes(used), bytes(system.memory_total)),
            format!("load {:.2}", system.load),
        ];
    }
    let name = clip(&name, room);
    room -= width(&name);
    let mut shown = String::new();
    for fact in facts {
        let fact = format!("{fact}   ");
        if width(&shown) + width(&fact) < room {
            shown.push_str(&fact);
        }
    }
    let blanks = " ".repeat(room.saturating_sub(width(&shown)));
    Line::from(vec![Span::styled(format!("{name}{blanks}{shown}"), bar), Span::styled(verdict, app.theme.style(role))])
}

/// The pages with their keys; the open one stands out. Where not all have room, those around the open one are shown, and
/// signs on both sides say that there are more.
fn pages_line(app: &mut App, columns: usize) -> Line<'static> {
    let open = View::PAGES.iter().position(|(view, ..)| *view == app.view).unwrap_or(0);
    let wide = |(_, _, title): &(View, char, &str)| width(title) + 3;
    let mut first = 0;
    while View::PAGES[first..=open].iter().map(wide).sum::<usize>() > columns && first < open {
        first += 1;
    }
    let mut spans = Vec::new();
    let mut taken = 0;
    app.tabs.clear();
    for (view, key, title) in &View::PAGES[first..] {
        let needed = width(title) + 3;
        if taken + needed > columns {
            break;
        }
        app.tabs.push((*view, taken..taken + needed));
        taken += needed;
        let role = if app.view == *view { Role::Open } else { Role::Plain };
        let before = if first > 0 && app.tabs.len() == 1 { MORE_BEFORE } else { ' ' };
        spans.push(Span::styled(format!("{before}{key} "), app.theme.style(Role::Label)));
        spans.push(Span::styled(*title, app.theme.style(role)));
    }
    let filter = match (app.typing, app.filter.is_empty()) {
        (true, _) => format!("/{}_", app.filter),
        (false, false) => format!("/{}", app.filter),
        (false, true) => String::new(),
    };
    let filter = harmless(&filter);
    // The filter is what was typed last: it has its room.
    while width(&filter) + taken > columns && spans.len() > 2 {
        spans.truncate(spans.len() - 2);
        taken = app.tabs.pop().map_or(0, |(_, columns)| columns.start);
    }
    let filter = clip(&filter, columns - taken);
    if first + app.tabs.len() < View::PAGES.len() && columns - taken - width(&filter) >= 2 {
        spans.push(Span::styled(format!(" {MORE_BEHIND}"), app.theme.style(Role::Label)));
        taken += 2;
    }
    spans.push(Span::raw(" ".repeat(columns - taken - width(&filter))));
    spans.push(Span::styled(filter, app.theme.style(Role::Title)));
    Line::from(spans)
}

/// What can be pressed, in the last line, and which lines of the page are shown.
fn key_line(app: &App, columns: usize, position: Option<&str>) -> Line<'static> {
    let (bar, key) = (app.theme.style(Role::Bar), app.theme.style(Role::Key));
    let position = position.map(|position| format!(" {position} ")).unwrap_or_default();
    let position = clip(&position, columns);
    let room = columns.saturating_sub(width(&position));
    let mut spans = Vec::new();
    let mut taken = 0;
    let keys = match &app.wizard {
        Some(wizard) => wizard.legend(),
        None if app.view == View::Editor => EDITING.to_vec(),
        None => legend(app.console, !position.is_empty()),
    };
    for (name, meaning) in keys {
        let needed = width(name) + width(meaning) + 3;
        if taken + needed > room {
            break;
        }
        taken += needed;
        spans.push(Span::styled(format!(" {name}"), key));
        spans.push(Span::styled(format!(" {meaning} "), bar));
    }
    spans.push(Span::styled(" ".repeat(room - taken), bar));
    spans.push(Span::styled(position, bar));
    Line::from(spans)
}

/// What is asked, typed or chosen, in a box in the middle.
fn draw_box(app: &App, frame: &mut Frame<'_>) {
    let host = app.status().map(|status| harmless(&status.system.hostname)).unwrap_or_default();
    let host = if host.is_empty() { "the router".to_owned() } else { host };
    let columns = usize::from(frame.area().width).min(64).saturating_sub(4);
    let (key, plain) = (app.theme.style(Role::Warning), app.theme.style(Role::Plain));
    let text = |text: &str| -> Vec<Line<'static>> {
        wrap(text, columns).into_iter().map(|line| Line::from(format!(" {line}"))).collect()
    };
    let answers = |answers: &[(&'static str, &'static str)]| {
        let spans = answers.iter().flat_map(|(answer, meaning)| {
            [Span::styled(format!(" {answer}"), key), Span::styled(format!(" {meaning}  "), plain)]
        });
        Line::from(spans.collect::<Vec<_>>())
    };
    if let Some(request) = &app.question {
        let (title, question) = act::question(request, &host);
        let mut lines = text(&question);
        lines.extend([Line::default(), answers(&[("y", "yes"), ("n", "no")])]);
        draw_lines(app, title, lines, columns, frame);
    } else if let Some(prompt) = &app.prompt {
        let mut lines = text(prompt.hint);
        // The end of what is typed is what has to be seen.
        let typed: Vec<char> = match prompt.act {
            act::Act::Unlock => vec!['*'; prompt.text.chars().count()],
            _ => harmless(&prompt.text).chars().collect(),
        };
        let shown: String = typed[typed.len().saturating_sub(columns.saturating_sub(3))..].iter().collect();
        lines.extend([Line::default(), Line::from(Span::styled(format!(" {shown}_"), app.theme.style(Role::Title)))]);
        lines.extend([Line::default(), answers(&[("Enter", "does it"), ("Esc", "leaves it")])]);
        draw_lines(app, &format!(" {} ", prompt.title), lines, columns, frame);
    } else if let Some(at) = app.menu {
        let row = |(index, (_, letter, name)): (usize, &(act::Act, char, &str))| {
            let name = format!(" {name:<pad$}", pad = columns.saturating_sub(4));
            let style = app.theme.style(if index == at { Role::Open } else { Role::Plain });
            Line::from(vec![
                Span::styled(format!(" {letter}"), key),
                Span::styled(clip(&name, columns.saturating_sub(2)), style),
            ])
        };
        // Where not all have room, those around the cursor are shown.
        let room = usize::from(frame.area().height).saturating_sub(2).max(1);
        let first = (at + 1).saturating_sub(room);
        let lines = act::Act::ALL.iter().enumerate().skip(first).take(room).map(row).collect();
        draw_lines(app, " Actions ", lines, columns, frame);
    } else if app.leaving {
        let mut lines =
            text("Apply what you have written? It is tried for 60 s and goes by itself unless you keep it.");
        lines.extend([Line::default(), answers(&[("y", "apply"), ("d", "discard"), ("n", "go on")])]);
        draw_lines(app, " Configuration ", lines, columns, frame);
    }
}

fn draw_lines(app: &App, title: &str, lines: Vec<Line<'static>>, columns: usize, frame: &mut Frame<'_>) {
    let area = frame.area();
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let wanted = u16::try_from(columns + 4).unwrap_or(u16::MAX).min(area.width);
    let place =
        Rect { x: area.x + (area.width - wanted) / 2, y: area.y + (area.height - height) / 2, width: wanted, height };
    frame.render_widget(Clear, place);
    // A terminal too small for the whole box needs the answer's keys more than the text.
    let skip = lines.len().saturating_sub(usize::from(height.saturating_sub(2)));
    let lines: Vec<_> = lines.into_iter().skip(skip).collect();
    let block = Block::bordered().title(Span::styled(title.to_owned(), app.theme.style(Role::Title)));
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

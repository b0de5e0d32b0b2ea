//! The screen: a line of state, a line of pages, the page, a line of keys, and a question on top when there is one.
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::app::{App, View};
use super::detail::{self, Sheet};
use super::feed::Trouble;
use super::format::{bytes, duration};
use super::keys::legend;
use super::page::{clip, harmless, rule, width, wrap};
use super::theme::Role;
use super::wizard::Wizard;
use super::{findings, help, overview, sessions};
use crate::control::{MachineAction, Request};

/// A daemon that does not answer is starting rather than gone for so many seconds after the appliance's console came up.
const BOOT_SECONDS: u64 = 15;

/// The line of pages is left out on a terminal with fewer rows.
const PAGES_FROM: u16 = 10;

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
    if let Some(request) = &app.question {
        draw_question(app, request, frame);
    }
}

/// The page that is open, with what must be said before it.
fn page(app: &App, columns: usize, rows: usize) -> Vec<Line<'static>> {
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
    if let Some(status) = app.status() {
        let rows = rows.saturating_sub(lines.len());
        let sheet = Sheet { theme: app.theme, columns, status, history: &app.history, filter: &app.filter };
        lines.extend(match app.view {
            View::Overview | View::Help => overview::page(&sheet, rows),
            View::Network => detail::network(&sheet),
            View::Translator => detail::translator(&sheet),
            View::Sessions => sessions::page(&sheet, app.sessions.as_ref(), app.order),
            View::Resolver => detail::resolver(&sheet),
            View::Firewall => detail::firewall(&sheet),
            View::System => detail::system(&sheet),
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

/// The pages with their keys; the open one stands out.
fn pages_line(app: &App, columns: usize) -> Line<'static> {
    let mut spans = Vec::new();
    let mut taken = 0;
    for (view, key, title) in View::PAGES {
        let needed = width(title) + 3;
        if taken + needed > columns {
            break;
        }
        taken += needed;
        let open = app.view == view;
        spans.push(Span::styled(format!(" {key} "), app.theme.style(Role::Label)));
        spans.push(Span::styled(title, app.theme.style(if open { Role::Open } else { Role::Plain })));
    }
    let filter = match (app.typing, app.filter.is_empty()) {
        (true, _) => format!("/{}_", app.filter),
        (false, false) => format!("/{}", app.filter),
        (false, true) => String::new(),
    };
    let filter = clip(&harmless(&filter), columns - taken);
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
    let keys = app.wizard.as_ref().map_or_else(|| legend(app.console, !position.is_empty()), Wizard::legend);
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

/// The question that waits for an answer, in a box in the middle.
fn draw_question(app: &App, request: &Request, frame: &mut Frame<'_>) {
    let host = app.status().map(|status| harmless(&status.system.hostname)).unwrap_or_default();
    let host = if host.is_empty() { "the router".to_owned() } else { host };
    let (title, text) = match request {
        Request::PowerOff => (
            " Power off ",
            format!("Power {host} off? Everything behind it loses its network until the machine is started again."),
        ),
        Request::Machine(MachineAction::FactoryReset) => (
            " Reset ",
            format!("Forget the configuration and all state of {host}, and start the machine anew as after its first boot?"),
        ),
        Request::Machine(MachineAction::Update) => (
            " Update ",
            "Install the update on the attached drive and start the machine anew? It goes back by itself if that does not prove healthy."
                .to_owned(),
        ),
        Request::Machine(MachineAction::Rollback) => {
            (" Go back ", "Start the machine anew with the system that it ran before the last update?".to_owned())
        }
        Request::Machine(MachineAction::Reboot) => (" Restart ", "Start the machine anew?".to_owned()),
        Request::Restart
        | Request::Reload
        | Request::Stop
        | Request::Status
        | Request::Sessions { .. }
        | Request::Apply { .. }
        | Request::Backup
        | Request::Restore { .. }
        | Request::Confirm
        | Request::Revert { .. }
        | Request::Denials
        | Request::Propose { .. }
        | Request::History
        | Request::Why { .. }
        | Request::Configuration
        | Request::Log { .. }
        | Request::Resolve { .. }
        | Request::Ping { .. }
        | Request::Trace { .. }
        | Request::Capture(_)
        | Request::FlushDns { .. } => (
            " Restart ",
            "Restart the daemon? Addresses, routes and the firewall stay as they are; NAT64 sessions begin anew."
                .to_owned(),
        ),
    };
    let area = frame.area();
    let columns = usize::from(area.width).min(60).saturating_sub(4);
    let mut lines: Vec<_> = wrap(&text, columns).into_iter().map(|line| Line::from(format!(" {line}"))).collect();
    lines.push(Line::default());
    let (key, plain) = (app.theme.style(Role::Warning), app.theme.style(Role::Plain));
    lines.push(Line::from(vec![
        Span::styled(" y", key),
        Span::styled(" yes   ", plain),
        Span::styled("n", key),
        Span::styled(" no", plain),
    ]));
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let wanted = u16::try_from(columns + 4).unwrap_or(u16::MAX).min(area.width);
    let place =
        Rect { x: area.x + (area.width - wanted) / 2, y: area.y + (area.height - height) / 2, width: wanted, height };
    frame.render_widget(Clear, place);
    // A terminal too small for the whole box needs the answer's keys more than the text.
    let skip = lines.len().saturating_sub(usize::from(height.saturating_sub(2)));
    let lines: Vec<_> = lines.into_iter().skip(skip).collect();
    let block = Block::bordered().title(Span::styled(title, app.theme.style(Role::Title)));
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

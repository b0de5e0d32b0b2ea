//! The console's state: what was heard from the daemon, what is open, where the page is scrolled to.
use core::net::Ipv6Addr;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ipnet::Ipv6Net;
use sixgate_engine::finding::Severity;
use sixgate_engine::status::Status;

use super::feed::{Observation, Trouble};
use super::format::plural;
use super::keys::{self, Command};
use super::rates::History;
use super::sessions::{Order, Told};
use super::theme::{Role, Theme};
use super::wizard::{Outcome, Wizard};
use crate::control::Request;

/// A question closes itself after so long, so that a stray key tomorrow answers nothing.
const QUESTION_LIFE: Duration = Duration::from_secs(30);
/// A notice goes after so long.
const NOTICE_LIFE: Duration = Duration::from_secs(15);

/// A filter is no longer than this.
const LONGEST_FILTER: usize = 64;

/// What fills the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    /// Everything, briefly.
    #[default]
    Overview,
    /// Uplink, LANs and VMs.
    Network,
    /// The translator.
    Translator,
    /// The translator's sessions.
    Sessions,
    /// The resolver.
    Resolver,
    /// The firewall, rule by rule.
    Firewall,
    /// The machine and the daemon.
    System,
    /// All findings in full.
    Findings,
    /// Keys and words.
    Help,
}

impl View {
    /// What stands in the line of pages, with key and title, in this order.
    pub(super) const PAGES: [(Self, char, &str); 8] = [
        (Self::Overview, 'o', "Overview"),
        (Self::Network, 'l', "LANs"),
        (Self::Translator, 't', "NAT64"),
        (Self::Sessions, 's', "Sessions"),
        (Self::Resolver, 'd', "DNS"),
        (Self::Firewall, 'w', "Firewall"),
        (Self::System, 'm', "Machine"),
        (Self::Findings, 'f', "Findings"),
    ];

    /// The page so many places further, round and round.
    fn further(self, pages: isize) -> Self {
        let at = Self::PAGES.iter().position(|(view, ..)| *view == self);
        let at = at.map_or(0, |at| at.wrapping_add_signed(pages).wrapping_add(Self::PAGES.len()) % Self::PAGES.len());
        Self::PAGES[at].0
    }
}

/// What the loop is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Leave.
    Quit,
    /// Send this to the daemon.
    Send(Request),
    /// Find out the size again and draw everything.
    Repaint,
}

/// The console's state.
#[derive(Debug)]
pub(super) struct App {
    /// The look.
    pub(super) theme: Theme,
    /// Whether this is the appliance's own console.
    pub(super) console: bool,
    /// The daemon's socket, for messages.
    pub(super) socket: String,
    /// What the daemon said.
    pub(super) history: History,
    /// Why it says nothing, and since when.
    pub(super) trouble: Option<(Trouble, Duration)>,
    /// What fills the screen.
    pub(super) view: View,
    /// The request that waits for a yes.
    pub(super) question: Option<Request>,
    /// What came of the last request.
    pub(super) notice: Option<(Role, String)>,
    /// What rows of tables have to contain; everything when empty.
    pub(super) filter: String,
    /// Whether keys are written into the filter.
    pub(super) typing: bool,
    /// What was heard of the sessions, while their page is open.
    pub(super) sessions: Option<Told>,
    /// Their order.
    pub(super) order: Order,
    /// First line of the page that is shown.
    pub(super) scroll: usize,
    /// The dialogue of the first boot, while it is open.
    pub(super) wizard: Option<Wizard>,
    /// It opens by itself: once, and on the appliance's own console only.
    welcomes: bool,
    /// Time since the console started.
    pub(super) now: Duration,
    question_at: Duration,
    notice_at: Duration,
    /// Lines of the page and rows for them, when it was drawn last.
    extent: (usize, usize),
}

impl App {
    /// A console that has heard nothing yet.
    pub(super) fn new(theme: Theme, console: bool, socket: String) -> Self {
        Self {
            theme,
            console,
            socket,
            history: History::default(),
            trouble: None,
            view: View::default(),
            question: None,
            notice: None,
            filter: String::new(),
            typing: false,
            sessions: None,
            order: Order::default(),
            scroll: 0,
            wizard: None,
            welcomes: console,
            now: Duration::ZERO,
            question_at: Duration::ZERO,
            notice_at: Duration::ZERO,
            extent: (0, 0),
        }
    }

    /// The newest state, however old.
    pub(super) fn status(&self) -> Option<&Status> {
        self.history.last()
    }

    /// Lets time pass.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        self.now = now;
        if let Some(wizard) = &mut self.wizard {
            wizard.handle_timeout(now);
        }
        if self.question.is_some() && now.saturating_sub(self.question_at) > QUESTION_LIFE {
            self.question = None;
        }
        if self.notice.is_some() && now.saturating_sub(self.notice_at) > NOTICE_LIFE {
            self.notice = None;
        }
    }

    /// Takes what was heard from the daemon.
    pub(super) fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::Status(status) => {
                if self.trouble.take().is_some() {
                    self.scroll = 0;
                }
                self.welcome(&status);
                self.history.push(self.now, *status);
            }
            Observation::Trouble(trouble) => {
                let since = self.trouble.as_ref().map(|(_, since)| *since);
                if since.is_none() {
                    // What is new stands at the top of the page.
                    self.scroll = 0;
                }
                let since = since.unwrap_or(self.now);
                self.trouble = Some((trouble, since));
            }
            Observation::Sessions(told) => self.sessions = (self.view == View::Sessions).then_some(told),
            Observation::Accepted(request) => {
                self.conclude(&request);
                let text = match request {
                    Request::PowerOff => "Powering off: the router withdraws from its networks first.",
                    Request::Restart => "The daemon restarts.",
                    Request::Reload => "The configuration is read again.",
                    Request::Stop => "The router stops.",
                    Request::Machine(_) => "The machine starts anew: the router withdraws from its networks first.",
                    Request::Confirm => "The configuration stays.",
                    Request::Apply { .. } | Request::Restore { .. } | Request::Revert { .. } => {
                        "The configuration is in force."
                    }
                    Request::Status
                    | Request::Backup
                    | Request::Sessions { .. }
                    | Request::Denials
                    | Request::Propose { .. }
                    | Request::History
                    | Request::Why { .. }
                    | Request::Configuration
                    | Request::Log { .. }
                    | Request::Resolve { .. }
                    | Request::Ping { .. }
                    | Request::Trace { .. }
                    | Request::Capture(_) => "The daemon answers.",
                    Request::FlushDns { .. } => "The resolver forgets what it knew.",
                };
                self.tell(Role::Title, text.to_owned());
            }
            Observation::Rejected(request, why) => {
                if let Some(wizard) = &mut self.wizard {
                    return wizard.refused(&why);
                }
                let what = request.name();
                self.tell(Role::Bad, format!("{what} refused: {why}"));
            }
        }
    }

    /// Opens the dialogue of the first boot where the machine made its own configuration, and closes it where that is
    /// settled elsewhere.
    fn welcome(&mut self, status: &Status) {
        let made = status.findings.iter().any(|finding| finding.code == "configuration-made");
        if made && self.welcomes {
            self.wizard = Some(Wizard::welcome(status.cards.clone()));
            self.welcomes = false;
        }
        if let Some(wizard) = &mut self.wizard {
            wizard.observe_cards(&status.cards);
        }
        if !made && self.wizard.as_ref().is_some_and(Wizard::is_welcome) {
            self.wizard = None;
        }
    }

    /// What an accepted request means to the dialogue.
    fn conclude(&mut self, request: &Request) {
        if let (Request::Apply { .. }, Some(wizard)) = (request, &mut self.wizard) {
            wizard.applied(self.now);
        } else if matches!(request, Request::Confirm | Request::Revert { .. }) {
            self.wizard = None;
        }
    }

    /// Takes a key while the dialogue is open.
    fn handle_wizard_key(&mut self, key: KeyEvent) -> Option<Action> {
        let wizard = self.wizard.as_mut()?;
        let takes_text = wizard.takes_text();
        match wizard.handle_key(key) {
            Outcome::Stay => {}
            Outcome::Turned => self.scroll = 0,
            Outcome::Close => {
                self.wizard = None;
                self.scroll = 0;
            }
            Outcome::Send(request) => return Some(Action::Send(request)),
            Outcome::Pass if takes_text => {}
            Outcome::Pass => {
                // Only what moves the page or ends the machine: nothing may open below the question.
                let passes = |command: &Command| {
                    matches!(
                        command,
                        Command::Lines(_)
                            | Command::Pages(_)
                            | Command::First
                            | Command::Last
                            | Command::PowerOff
                            | Command::Quit
                    )
                };
                return keys::command(key).filter(passes).and_then(|command| self.handle_command(command));
            }
        }
        None
    }

    /// Takes a key: a letter of the filter while that is being written, else a command.
    pub(super) fn handle_key(&mut self, key: KeyEvent) -> Option<Action> {
        if self.wizard.is_some() && self.question.is_none() && !key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.kind == KeyEventKind::Release { None } else { self.handle_wizard_key(key) };
        }
        if !self.typing || self.question.is_some() || key.modifiers.contains(KeyModifiers::CONTROL) {
            return keys::command(key).and_then(|command| self.handle_command(command));
        }
        match key.code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => self.close_filter(),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) if self.filter.len() < LONGEST_FILTER => self.filter.push(letter),
            _ => return keys::command(key).and_then(|command| self.handle_command(command)),
        }
        self.scroll = 0;
        None
    }

    fn close_filter(&mut self) {
        self.typing = false;
        self.filter.clear();
    }

    /// Takes a key's command.
    pub(super) fn handle_command(&mut self, command: Command) -> Option<Action> {
        if let Some(request) = self.question.clone() {
            return match command {
                Command::Yes => {
                    self.question = None;
                    Some(Action::Send(request))
                }
                Command::Repaint => Some(Action::Repaint),
                Command::Quit if !self.console => Some(Action::Quit),
                // Only a yes is a yes; whatever else is pressed closes the question, but for keys pressed to read on.
                Command::Lines(_) | Command::Pages(_) | Command::First | Command::Last => None,
                Command::No
                | Command::Close
                | Command::Quit
                | Command::PowerOff
                | Command::Restart
                | Command::Machine(_)
                | Command::Show(_)
                | Command::Further(_)
                | Command::Filter
                | Command::Order(_)
                | Command::Wizard
                | Command::Help => {
                    self.question = None;
                    None
                }
            };
        }
        match command {
            Command::Quit => return (!self.console).then_some(Action::Quit),
            Command::Repaint => return Some(Action::Repaint),
            Command::PowerOff => self.ask(Request::PowerOff),
            Command::Restart => self.ask(Request::Restart),
            Command::Machine(action) => self.ask(Request::Machine(action)),
            Command::Show(view) => self.show(if self.view == view { View::Overview } else { view }),
            Command::Further(pages) => self.show(self.view.further(pages)),
            Command::Filter => self.typing = true,
            Command::Order(places) => self.order = self.order.further(places),
            Command::Wizard => {
                let cards = self.status().map(|status| status.cards.clone());
                self.wizard = Some(Wizard::questions(cards.unwrap_or_default()));
                self.scroll = 0;
            }
            Command::Help => self.show(if self.view == View::Help { View::Overview } else { View::Help }),
            Command::Close if !self.filter.is_empty() => self.close_filter(),
            Command::Close => self.show(View::Overview),
            Command::Yes | Command::No => {}
            Command::Lines(lines) => self.scroll_by(i64::from(lines)),
            Command::Pages(pages) => {
                // One line stays for the eye.
                let page = i64::try_from(self.extent.1.saturating_sub(1).max(1)).unwrap_or(1);
                self.scroll_by(i64::from(pages) * page);
            }
            Command::First => self.scroll = 0,
            Command::Last => self.scroll = usize::MAX,
        }
        self.clamp();
        None
    }

    /// Notes how long the page is and how much of it fits; the scroll position follows.
    pub(super) fn measured(&mut self, lines: usize, rows: usize) {
        self.extent = (lines, rows);
        self.clamp();
    }

    /// The whole state in a word.
    pub(super) fn verdict(&self) -> (Role, String) {
        if self.trouble.is_some() {
            let word = if self.status().is_some() { "NO ANSWER" } else { "NO DAEMON" };
            return (Role::BarBad, word.to_owned());
        }
        let Some(status) = self.status() else {
            return (Role::Bar, "connecting".to_owned());
        };
        let errors = count(status, Severity::Error);
        let warnings = count(status, Severity::Warning);
        match (errors, warnings) {
            (0, 0) => (Role::BarGood, "OK".to_owned()),
            (0, warnings) => (Role::BarWarning, plural(warnings, "WARNING").to_uppercase()),
            (errors, _) => (Role::BarBad, plural(errors, "ERROR").to_uppercase()),
        }
    }

    /// What the open page needs of the daemon beside its state. A filter that is an address or a prefix is the daemon's
    /// work: it knows all sessions.
    pub(super) fn wish(&self) -> Option<Request> {
        let clients = || {
            let address = || self.filter.parse::<Ipv6Addr>().ok().map(Ipv6Net::from);
            self.filter.parse::<Ipv6Net>().ok().or_else(address)
        };
        (self.view == View::Sessions).then(|| Request::Sessions { from: 0, clients: clients() })
    }

    fn ask(&mut self, request: Request) {
        self.question = Some(request);
        self.question_at = self.now;
    }

    fn tell(&mut self, role: Role, text: String) {
        self.notice = Some((role, text));
        self.notice_at = self.now;
        self.scroll = 0;
    }

    fn show(&mut self, view: View) {
        if self.view != view {
            self.view = view;
            self.sessions = None;
            self.scroll = 0;
        }
    }

    fn scroll_by(&mut self, lines: i64) {
        let lines_away = usize::try_from(lines.unsigned_abs()).unwrap_or(usize::MAX);
        self.scroll =
            if lines < 0 { self.scroll.saturating_sub(lines_away) } else { self.scroll.saturating_add(lines_away) };
    }

    fn clamp(&mut self) {
        let (lines, rows) = self.extent;
        self.scroll = self.scroll.min(lines.saturating_sub(rows));
    }
}

/// How many findings of that severity there are.
pub(super) fn count(status: &Status, severity: Severity) -> usize {
    status.findings.iter().filter(|finding| finding.severity == severity).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(console: bool) -> App {
        App::new(Theme::new(false), console, "/run/sixgate/control.sock".to_owned())
    }

    #[test]
    fn power_off_is_sent_only_after_a_yes() {
        let mut app = app(true);
        assert_eq!(app.handle_command(Command::PowerOff), None);
        assert_eq!(app.question, Some(Request::PowerOff));
        assert_eq!(app.handle_command(Command::No), None);
        assert_eq!(app.question, None);
        assert_eq!(app.handle_command(Command::Yes), None, "a yes without a question is nothing");
        app.handle_command(Command::PowerOff);
        assert_eq!(app.handle_command(Command::Yes), Some(Action::Send(Request::PowerOff)));
        assert_eq!(app.question, None);
    }

    #[test]
    fn pressing_the_key_twice_is_not_a_yes() {
        let mut app = app(true);
        app.handle_command(Command::Restart);
        assert_eq!(app.handle_command(Command::Restart), None);
        assert_eq!(app.question, None);
    }

    #[test]
    fn forgotten_question_closes_itself() {
        let mut app = app(true);
        app.handle_command(Command::PowerOff);
        app.handle_timeout(Duration::from_secs(31));
        assert_eq!(app.handle_command(Command::Yes), None);
    }

    #[test]
    fn appliance_console_cannot_be_left() {
        assert_eq!(app(true).handle_command(Command::Quit), None);
        assert_eq!(app(false).handle_command(Command::Quit), Some(Action::Quit));
    }

    #[test]
    fn scrolling_stays_on_the_page() {
        let mut app = app(false);
        app.measured(30, 10);
        app.handle_command(Command::Lines(-1));
        assert_eq!(app.scroll, 0);
        app.handle_command(Command::Pages(1));
        assert_eq!(app.scroll, 9);
        app.handle_command(Command::Last);
        assert_eq!(app.scroll, 20);
        app.handle_command(Command::Lines(1));
        assert_eq!(app.scroll, 20);
        app.measured(5, 10);
        assert_eq!(app.scroll, 0);
    }

    #[test]
    fn silence_is_counted_from_its_beginning() {
        let mut app = app(false);
        app.handle_timeout(Duration::from_secs(5));
        app.observe(Observation::Trouble(Trouble::Absent));
        app.handle_timeout(Duration::from_secs(9));
        app.observe(Observation::Trouble(Trouble::Starting));
        assert_eq!(app.trouble, Some((Trouble::Starting, Duration::from_secs(5))));
        app.observe(Observation::Status(Box::default()));
        assert_eq!(app.trouble, None);
    }
}

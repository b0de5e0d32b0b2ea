//! Keys: what each does, and the line that says so.
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::act::Act;
use super::app::View;
use crate::control::MachineAction;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Leave the console; the router goes on.
    Quit,
    /// Ask whether to power the machine off.
    PowerOff,
    /// Ask whether to restart the daemon.
    Restart,
    /// Ask whether to do something with the machine.
    Machine(MachineAction),
    /// Open the menu of actions.
    Menu,
    /// Begin an action of the menu.
    Act(Act),
    /// To a page, and from there back to the overview.
    Show(View),
    /// To the page so many places further.
    Further(isize),
    /// The order of rows so many places further.
    Order(isize),
    /// Write what rows of tables have to contain.
    Filter,
    /// Ask the questions of the first boot.
    Wizard,
    /// To the help and back.
    Help,
    /// Close what is open.
    Close,
    /// Yes, to a question.
    Yes,
    /// No, to a question.
    No,
    /// Scroll by so many lines.
    Lines(i32),
    /// Scroll by so many pages.
    Pages(i32),
    /// To the first line.
    First,
    /// To the last line.
    Last,
    /// Find out the size again and draw everything.
    Repaint,
}

/// What a key asks for, if anything.
///
/// On a slow serial line an arrow key's three bytes can come apart into Escape, `[` and a letter: Escape therefore
/// closes and never quits, and `[` and the capitals A to F and H mean nothing. Ctrl-O leaves Proxmox's serial terminal and never
/// gets here; it means nothing either.
pub(super) fn command(key: KeyEvent) -> Option<Command> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'd') => Some(Command::Quit),
            KeyCode::Char('l') => Some(Command::Repaint),
            _ => None,
        };
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    match key.code {
        KeyCode::Char('q' | 'Q') => Some(Command::Quit),
        KeyCode::Char('p' | 'P') => Some(Command::PowerOff),
        KeyCode::Char('r' | 'R') => Some(Command::Restart),
        KeyCode::Char('a') => Some(Command::Menu),
        KeyCode::Char('e') => Some(Command::Act(Act::Edit)),
        KeyCode::Char('U') => Some(Command::Machine(MachineAction::Update)),
        KeyCode::Char('X') => Some(Command::Machine(MachineAction::FactoryReset)),
        KeyCode::Char('Z') => Some(Command::Machine(MachineAction::Rollback)),
        KeyCode::Char('W') => Some(Command::Wizard),
        KeyCode::Tab | KeyCode::Right => Some(Command::Further(1)),
        KeyCode::BackTab | KeyCode::Left => Some(Command::Further(-1)),
        KeyCode::Char('>') => Some(Command::Order(1)),
        KeyCode::Char('<') => Some(Command::Order(-1)),
        KeyCode::Char('/') => Some(Command::Filter),
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => Some(Command::Help),
        KeyCode::Char('y' | 'Y') => Some(Command::Yes),
        KeyCode::Char('n' | 'N') => Some(Command::No),
        KeyCode::Esc => Some(Command::Close),
        KeyCode::Up | KeyCode::Char('k') => Some(Command::Lines(-1)),
        KeyCode::Down | KeyCode::Char('j') | KeyCode::Enter => Some(Command::Lines(1)),
        KeyCode::PageUp | KeyCode::Char('b') => Some(Command::Pages(-1)),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(Command::Pages(1)),
        KeyCode::Home | KeyCode::Char('g') => Some(Command::First),
        KeyCode::End | KeyCode::Char('G') => Some(Command::Last),
        KeyCode::Char(letter) => {
            View::PAGES.iter().find(|(_, key, _)| *key == letter).map(|(view, ..)| Command::Show(*view))
        }
        _ => None,
    }
}

/// The keys while the configuration is edited.
pub(super) const EDITING: [(&str, &str); 3] =
    [("Esc", "apply or leave"), ("↑↓←→ PgUp PgDn", "move"), ("Enter Tab Del", "write")];

/// The keys of the last line with what they do, most needed first.
pub(super) fn legend(console: bool, scrolls: bool) -> Vec<(&'static str, &'static str)> {
    let mut keys = Vec::new();
    if !console {
        keys.push(("q", "quit"));
    }
    keys.push(("?", "help"));
    keys.push(("Tab", "next page"));
    keys.push(("/", "filter"));
    keys.push(("a", "actions"));
    keys.push(("e", "edit"));
    keys.push(("p", "power off"));
    if scrolls {
        keys.push(("↑↓ PgDn", "scroll"));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode, modifiers: KeyModifiers) -> Option<Command> {
        command(KeyEvent::new(code, modifiers))
    }

    #[test]
    fn torn_arrow_key_does_nothing_but_close() {
        assert_eq!(press(KeyCode::Esc, KeyModifiers::NONE), Some(Command::Close));
        for torn in ['[', 'O', 'A', 'B', 'C', 'D', 'F', 'H', '~', '1', '4', '5', '6', ';'] {
            assert_eq!(press(KeyCode::Char(torn), KeyModifiers::NONE), None, "{torn}");
        }
    }

    #[test]
    fn control_o_is_never_bound() {
        assert_eq!(press(KeyCode::Char('o'), KeyModifiers::CONTROL), None);
    }

    #[test]
    fn power_off_needs_the_bare_key() {
        assert_eq!(press(KeyCode::Char('p'), KeyModifiers::NONE), Some(Command::PowerOff));
        assert_eq!(press(KeyCode::Char('p'), KeyModifiers::CONTROL), None);
        assert_eq!(press(KeyCode::Char('p'), KeyModifiers::ALT), None);
    }

    #[test]
    fn quitting_is_not_offered_on_the_appliance_console() {
        assert!(legend(false, true).iter().any(|(_, name)| *name == "quit"));
        assert!(!legend(true, true).iter().any(|(_, name)| *name == "quit"));
    }
}

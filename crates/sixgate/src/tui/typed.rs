//! Keys while something is typed or chosen, and the mouse.
use crossterm::event::{KeyCode, KeyEvent, MouseButton, MouseEvent, MouseEventKind};

use super::act::{Act, TRIAL, Wanted};
use super::app::{Action, App, LONGEST_FILTER, View};
use super::keys::{self, Command};
use super::output::Output;
use super::theme::Role;
use crate::control::Request;

/// Lines that a notch of the mouse's wheel scrolls.
const WHEEL: i32 = 3;

impl App {
    /// Takes what a mouse does: its wheel scrolls, a click on a page's name opens it.
    pub(super) fn handle_mouse(&mut self, mouse: MouseEvent) -> Option<Action> {
        if self.question.is_some() || self.prompt.is_some() || self.menu.is_some() || self.view == View::Editor {
            return None;
        }
        match mouse.kind {
            MouseEventKind::ScrollUp => self.handle_command(Command::Lines(-WHEEL)),
            MouseEventKind::ScrollDown => self.handle_command(Command::Lines(WHEEL)),
            MouseEventKind::Down(MouseButton::Left) if mouse.row == 1 => {
                let column = usize::from(mouse.column);
                let hit = self.tabs.iter().find(|(_, columns)| columns.contains(&column)).map(|(view, _)| *view)?;
                self.handle_command(Command::Show(hit))
            }
            MouseEventKind::Down(_)
            | MouseEventKind::Up(_)
            | MouseEventKind::Drag(_)
            | MouseEventKind::Moved
            | MouseEventKind::ScrollLeft
            | MouseEventKind::ScrollRight => None,
        }
    }

    pub(super) fn filter_key(&mut self, key: KeyEvent) -> Option<Action> {
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

    pub(super) fn menu_key(&mut self, key: KeyEvent, at: usize) -> Option<Action> {
        let last = Act::ALL.len() - 1;
        match key.code {
            KeyCode::Up => self.menu = Some(at.saturating_sub(1)),
            KeyCode::Down => self.menu = Some((at + 1).min(last)),
            KeyCode::Home => self.menu = Some(0),
            KeyCode::End => self.menu = Some(last),
            KeyCode::Enter => return self.begin(Act::ALL[at].0),
            KeyCode::Char(letter) => match Act::ALL.iter().find(|(_, key, _)| *key == letter) {
                Some((act, ..)) => return self.begin(*act),
                None => self.menu = None,
            },
            _ => self.menu = None,
        }
        None
    }

    /// Whether a password is to be typed first.
    pub(super) fn is_locked(&self) -> bool {
        let demanded = self.status().is_some_and(|status| status.control.password);
        demanded && self.unlocked.is_none_or(|until| self.now >= until)
    }

    /// Something was chosen: what changes anything has to be typed or answered first.
    pub(super) fn begin(&mut self, act: Act) -> Option<Action> {
        self.menu = None;
        if self.is_locked() {
            self.waiting = Some(act);
            self.prompt = Act::Unlock.prompt(self.console);
            return None;
        }
        self.prompt = act.prompt(self.console);
        if self.prompt.is_some() {
            return None;
        }
        match act.request("") {
            // To look at the text changes nothing; what is written is asked about.
            Ok(Wanted::Send(request @ Request::Configuration)) => return Some(Action::Send(request)),
            Ok(Wanted::Send(request)) => self.ask(request),
            Ok(Wanted::Look { .. }) => {}
            Err(why) => self.tell(Role::Bad, why),
        }
        None
    }

    pub(super) fn prompt_key(&mut self, key: KeyEvent) -> Option<Action> {
        let prompt = self.prompt.as_mut()?;
        match key.code {
            KeyCode::Char(letter) => prompt.push(letter),
            KeyCode::Backspace => drop(prompt.text.pop()),
            KeyCode::Esc => self.prompt = None,
            KeyCode::Enter => {
                let prompt = self.prompt.take()?;
                match prompt.act.request(&prompt.text) {
                    Ok(Wanted::Send(request)) => return Some(Action::Send(request)),
                    Ok(Wanted::Look { request, file }) => {
                        self.looks += 1;
                        let title = format!("{} {}", prompt.title, prompt.text);
                        self.output = Some(Output::new(self.looks, title));
                        self.show(View::Output);
                        return Some(Action::Look { number: self.looks, request, file });
                    }
                    Err(why) => self.tell(Role::Bad, format!("{}: {why}", prompt.title)),
                }
            }
            _ => {}
        }
        None
    }

    pub(super) fn editor_key(&mut self, key: KeyEvent) -> Option<Action> {
        let (now, rows) = (self.now, self.extent.1);
        let editor = self.editor.as_mut()?;
        if !self.leaving {
            match key.code {
                KeyCode::Char(letter) if editor.is_torn() => editor.handle_torn(letter, rows, now),
                KeyCode::Esc if editor.is_changed() => self.leaving = true,
                KeyCode::Esc => self.show(View::Overview),
                _ => editor.handle_key(key, rows, now),
            }
            return None;
        }
        self.leaving = false;
        match key.code {
            KeyCode::Char('y' | 'Y') if editor.complaint().is_empty() => {
                let request = Request::Apply { text: editor.text(), confirm: Some(TRIAL), session: None };
                self.show(View::Overview);
                Some(Action::Send(request))
            }
            KeyCode::Char('d' | 'D') => {
                self.show(View::Overview);
                self.editor = None;
                None
            }
            // Whatever else is pressed goes back to the text. An arrow key that the line has torn begins like this.
            KeyCode::Char('[' | 'O') => {
                editor.tear();
                None
            }
            _ => None,
        }
    }
}

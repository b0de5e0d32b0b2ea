//! The first boot's dialogue: which cards, which prefixes, and the plan before it comes into force, on trial until somebody says yes.
//!
//! It is a state of plain values like the rest of the console: keys and answers go in, lines and requests come out. Its
//! configuration goes the way of every other one, by `apply` with a time after which it is taken back.
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use sixgate_engine::config;
use sixgate_engine::plan::preview;
use sixgate_engine::status::Card;

mod answers;
mod page;

pub(crate) use answers::Answers;

use crate::control::Request;

/// How long the new configuration is tried: long enough to walk to a virtual machine and look.
const TRIAL: Duration = Duration::from_secs(120);
/// No answer is longer.
const LONGEST: usize = 160;

/// The question that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// What the machine did by itself; whether to go on.
    Welcome,
    /// Which card is the uplink, which one the LAN's.
    Cards,
    /// Addresses and prefixes, learnt or entered.
    Addresses,
    /// What follows from the answers.
    Plan { text: String, plan: String },
    /// It is in force since then; whether to keep it.
    Trial { since: Duration },
}

/// What a key led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The dialogue goes on.
    Stay,
    /// The page turned: it begins at its first line.
    Turned,
    /// It is over.
    Close,
    /// The daemon is asked.
    Send(Request),
    /// The key is the console's own.
    Pass,
}

/// The dialogue.
#[derive(Clone, Debug)]
pub(super) struct Wizard {
    step: Step,
    cards: Vec<Card>,
    /// The card or the answer that keys act on.
    chosen: usize,
    answers: Answers,
    /// What is wrong with the answers, or what the daemon said.
    complaint: Option<String>,
    /// Somebody opened it by its key, so nothing was decided for them.
    asked_for: bool,
}

impl Wizard {
    /// A dialogue that opens by itself on a machine that made its own configuration.
    pub(super) fn welcome(cards: Vec<Card>) -> Self {
        Self::new(cards, false)
    }

    /// A dialogue that somebody asked for.
    pub(super) fn questions(cards: Vec<Card>) -> Self {
        let mut wizard = Self::new(cards, true);
        wizard.step = Step::Cards;
        wizard
    }

    fn new(cards: Vec<Card>, asked_for: bool) -> Self {
        let answers = Answers::proposed(&cards);
        Self { step: Step::Welcome, cards, chosen: 0, answers, complaint: None, asked_for }
    }

    /// Whether it only tells what the machine did.
    pub(super) fn is_welcome(&self) -> bool {
        self.step == Step::Welcome
    }

    /// Whether letters are answers rather than keys.
    pub(super) fn takes_text(&self) -> bool {
        self.step == Step::Addresses
    }

    /// The cards as they are now: a cable that is plugged in while the question is open counts. What was chosen stays.
    pub(super) fn observe_cards(&mut self, cards: &[Card]) {
        if self.step == Step::Welcome || self.cards.is_empty() {
            self.answers = Answers::proposed(cards);
        }
        self.cards = cards.to_vec();
        self.answers.forget_absent(&self.cards);
        if self.step == Step::Cards {
            self.chosen = self.chosen.min(self.cards.len().saturating_sub(1));
        }
    }

    /// The daemon put the configuration into force.
    pub(super) fn applied(&mut self, now: Duration) {
        self.step = Step::Trial { since: now };
        self.complaint = None;
    }

    /// The daemon refused.
    pub(super) fn refused(&mut self, why: &str) {
        self.complaint = Some(why.to_owned());
    }

    /// Lets time pass; the daemon takes the trial back by itself, and this is what remains to be told.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        if let Step::Trial { since } = self.step
            && now.saturating_sub(since) > TRIAL
        {
            self.step = Step::Addresses;
            self.chosen = 0;
            self.complaint =
                Some("Nobody confirmed it, so the configuration from before is in force again.".to_owned());
        }
    }

    /// Takes a key.
    pub(super) fn handle_key(&mut self, key: KeyEvent) -> Outcome {
        match &self.step {
            Step::Welcome => match key.code {
                KeyCode::Enter => self.turn(Step::Cards),
                KeyCode::Esc => Outcome::Close,
                _ => Outcome::Pass,
            },
            Step::Cards => self.handle_card_key(key.code),
            Step::Addresses => self.handle_answer_key(key.code),
            Step::Plan { text, .. } => match key.code {
                KeyCode::Enter => {
                    self.complaint = None;
                    let confirm = Some(TRIAL.as_secs());
                    Outcome::Send(Request::Apply { text: text.clone(), confirm, session: None })
                }
                KeyCode::Esc => self.turn(Step::Addresses),
                _ => Outcome::Pass,
            },
            Step::Trial { .. } => match key.code {
                KeyCode::Char('y' | 'Y') => Outcome::Send(Request::Confirm),
                KeyCode::Char('n' | 'N') => Outcome::Send(Request::Revert { to: None, confirm: None, session: None }),
                _ => Outcome::Pass,
            },
        }
    }

    fn handle_card_key(&mut self, code: KeyCode) -> Outcome {
        match code {
            KeyCode::Up | KeyCode::Char('k') => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => {
                self.chosen = (self.chosen + 1).min(self.cards.len().saturating_sub(1));
            }
            KeyCode::Char('u' | 'U') => {
                if let Some(card) = self.cards.get(self.chosen) {
                    self.answers.choose_uplink(&card.mac);
                }
            }
            KeyCode::Char('l' | 'L') => {
                if let Some(card) = self.cards.get(self.chosen) {
                    self.answers.choose_lan(&card.mac);
                }
            }
            KeyCode::Enter => {
                if let Some(complaint) = self.answers.complaint() {
                    self.complaint = Some(complaint.to_owned());
                    return Outcome::Stay;
                }
                return self.turn(Step::Addresses);
            }
            KeyCode::Esc if self.asked_for => return Outcome::Close,
            KeyCode::Esc => return self.turn(Step::Welcome),
            _ => return Outcome::Pass,
        }
        self.complaint = None;
        Outcome::Stay
    }

    fn handle_answer_key(&mut self, code: KeyCode) -> Outcome {
        let fields = self.answers.fields();
        match code {
            KeyCode::Up | KeyCode::BackTab => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Down | KeyCode::Tab => self.chosen = (self.chosen + 1).min(fields - 1),
            KeyCode::Backspace => {
                self.answers.field_mut(self.chosen).pop();
            }
            KeyCode::Delete => self.answers.field_mut(self.chosen).clear(),
            KeyCode::Char(letter) => {
                let field = self.answers.field_mut(self.chosen);
                if field.len() < LONGEST && !letter.is_control() {
                    field.push(letter);
                }
            }
            KeyCode::Enter => return self.conclude(),
            KeyCode::Esc => return self.turn(Step::Cards),
            _ => return Outcome::Pass,
        }
        self.complaint = None;
        Outcome::Stay
    }

    /// From the answers to the plan, or to what is wrong with them.
    fn conclude(&mut self) -> Outcome {
        let text = self.answers.write();
        match config::parse(&text, "your answers") {
            Ok(config) => self.turn(Step::Plan { plan: preview(&config), text }),
            Err(errors) => {
                self.complaint = Some(errors.to_string());
                Outcome::Stay
            }
        }
    }

    fn turn(&mut self, step: Step) -> Outcome {
        self.step = step;
        self.chosen = 0;
        self.complaint = None;
        Outcome::Turned
    }
}

#[cfg(test)]
mod tests;

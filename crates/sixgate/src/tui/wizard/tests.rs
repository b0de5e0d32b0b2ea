//! The dialogue by its keys, and that what it writes is a configuration.
use crossterm::event::KeyModifiers;
use sixgate_engine::config::Config;

use super::*;

fn card(number: u8, link: bool) -> Card {
    Card { name: format!("eth{number}"), mac: format!("bc:24:11:00:00:0{number}"), link }
}

fn cards() -> Vec<Card> {
    vec![card(1, true), card(2, true), card(3, false)]
}

fn press(wizard: &mut Wizard, codes: &[KeyCode]) -> Outcome {
    let press = |code: &KeyCode| wizard.handle_key(KeyEvent::new(*code, KeyModifiers::NONE));
    codes.iter().map(press).last().expect("a key")
}

fn text(wizard: &mut Wizard, text: &str) {
    let keys: Vec<KeyCode> = text.chars().map(KeyCode::Char).collect();
    press(wizard, &keys);
}

fn applied(outcome: Outcome) -> (String, Config) {
    let Outcome::Send(Request::Apply { text, confirm: Some(120), session: None }) = outcome else {
        panic!("{outcome:?}")
    };
    let config = config::parse(&text, "answers").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    (text, config)
}

#[test]
fn four_times_enter_accept_what_is_proposed_and_a_yes_keeps_it() {
    let mut wizard = Wizard::welcome(cards());
    assert_eq!(press(&mut wizard, &[KeyCode::Enter, KeyCode::Enter, KeyCode::Enter]), Outcome::Turned);
    let (text, config) = applied(press(&mut wizard, &[KeyCode::Enter]));
    assert!(text.contains("ipv6 = \"dhcpv6-pd\"") && text.contains("delegated = \"wan\""), "{text}");
    assert_eq!(config.lans.len(), 1);
    wizard.applied(Duration::from_secs(9));
    assert_eq!(press(&mut wizard, &[KeyCode::Enter]), Outcome::Pass, "only a yes is a yes");
    assert_eq!(press(&mut wizard, &[KeyCode::Char('y')]), Outcome::Send(Request::Confirm));
}

#[test]
fn uplink_and_lan_change_places_and_a_third_card_takes_over() {
    let mut wizard = Wizard::questions(cards());
    press(&mut wizard, &[KeyCode::Down, KeyCode::Char('u')]);
    assert_eq!(wizard.answers.uplink.as_deref(), Some("bc:24:11:00:00:02"));
    assert_eq!(wizard.answers.lan.as_deref(), Some("bc:24:11:00:00:01"));
    press(&mut wizard, &[KeyCode::Down, KeyCode::Char('l')]);
    assert_eq!(wizard.answers.lan.as_deref(), Some("bc:24:11:00:00:03"));
    assert_eq!(wizard.answers.uplink.as_deref(), Some("bc:24:11:00:00:02"));
}

#[test]
fn a_card_that_was_pulled_is_asked_for_again() {
    let mut wizard = Wizard::questions(cards());
    wizard.observe_cards(&[card(1, true), card(3, true)]);
    assert_eq!(press(&mut wizard, &[KeyCode::Enter]), Outcome::Stay);
    assert!(wizard.complaint.as_deref().is_some_and(|complaint| complaint.contains("press l")));
    assert_eq!(press(&mut wizard, &[KeyCode::Down, KeyCode::Char('l'), KeyCode::Enter]), Outcome::Turned);
}

#[test]
fn entered_addresses_take_the_place_of_learnt_ones() {
    let mut wizard = Wizard::questions(cards());
    press(&mut wizard, &[KeyCode::Enter, KeyCode::Delete]);
    text(&mut wizard, "203.0.113.136/26");
    press(&mut wizard, &[KeyCode::Down]);
    text(&mut wizard, "203.0.113.129");
    press(&mut wizard, &[KeyCode::Tab, KeyCode::Delete]);
    text(&mut wizard, "2001:db8:1:2:10::1/76");
    press(&mut wizard, &[KeyCode::Down]);
    text(&mut wizard, "fe80::1");
    press(&mut wizard, &[KeyCode::Down, KeyCode::Delete]);
    text(&mut wizard, "2001:db8:1:2::1/64");
    assert_eq!(press(&mut wizard, &[KeyCode::Enter]), Outcome::Turned);
    let (text, _) = applied(press(&mut wizard, &[KeyCode::Enter]));
    assert!(text.contains("ipv4 = { address = \"203.0.113.136/26\", gateway = \"203.0.113.129\" }"), "{text}");
    assert!(text.contains("addresses = [\"2001:db8:1:2::1/64\"]") && !text.contains("delegated"), "{text}");
}

#[test]
fn what_is_wrong_with_an_answer_is_said_and_nothing_is_applied() {
    let mut wizard = Wizard::questions(cards());
    press(&mut wizard, &[KeyCode::Enter, KeyCode::Delete]);
    text(&mut wizard, "203.0.113.1000/26");
    assert_eq!(press(&mut wizard, &[KeyCode::Enter]), Outcome::Stay);
    assert!(wizard.complaint.is_some());
    press(&mut wizard, &[KeyCode::Backspace]);
    assert_eq!(wizard.complaint, None);
}

#[test]
fn hostile_answers_stay_inside_their_quotes() {
    let mut wizard = Wizard::questions(cards());
    press(&mut wizard, &[KeyCode::Enter, KeyCode::Delete]);
    text(&mut wizard, "1.2.3.4/24\" }\nallow = \"");
    assert_eq!(press(&mut wizard, &[KeyCode::Enter]), Outcome::Stay);
}

#[test]
fn without_an_answer_the_trial_ends_and_says_so() {
    let mut wizard = Wizard::welcome(cards());
    press(&mut wizard, &[KeyCode::Enter; 4]);
    wizard.applied(Duration::from_secs(1));
    wizard.handle_timeout(Duration::from_secs(100));
    assert!(matches!(wizard.step, Step::Trial { .. }));
    wizard.handle_timeout(Duration::from_secs(122));
    assert!(wizard.step == Step::Addresses && wizard.complaint.is_some());
}

#[test]
fn escape_leaves_the_machine_as_it_is() {
    let mut wizard = Wizard::welcome(cards());
    assert_eq!(press(&mut wizard, &[KeyCode::Enter, KeyCode::Esc]), Outcome::Turned);
    assert!(wizard.is_welcome());
    assert_eq!(press(&mut wizard, &[KeyCode::Esc]), Outcome::Close);
}

#[test]
fn the_plan_is_shown_before_anything_is_applied() {
    let mut wizard = Wizard::welcome(cards());
    press(&mut wizard, &[KeyCode::Enter; 3]);
    let lines = wizard.page(crate::tui::theme::Theme::new(false), 80, None, Duration::ZERO);
    let shown = lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(shown.contains("Question 3 of 3") && shown.contains("64:ff9b::/96"), "{shown}");
}

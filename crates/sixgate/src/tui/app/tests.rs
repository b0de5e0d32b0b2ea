//! What keys, time and the daemon's answers make of the console's state.
use crossterm::event::{KeyCode, MouseButton, MouseEvent, MouseEventKind};

use super::super::act::TRIAL;
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

fn press(app: &mut App, keys: &str) -> Option<Action> {
    let code = |key| match key {
        '\n' => KeyCode::Enter,
        '\x1b' => KeyCode::Esc,
        letter => KeyCode::Char(letter),
    };
    keys.chars().map(|key| app.handle_key(KeyEvent::from(code(key)))).last().flatten()
}

#[test]
fn an_action_is_typed_and_then_done() {
    let mut app = app(true);
    assert_eq!(press(&mut app, "a1vm1"), None);
    let look = press(&mut app, "\n");
    let request = Request::Ping { to: "vm1".to_owned(), count: 5 };
    assert_eq!(look, Some(Action::Look { number: 1, request, file: None }));
    assert_eq!(app.view, View::Output);
    app.observe(Observation::Told(9, vec!["of another one".to_owned()]));
    app.observe(Observation::Told(1, vec!["an answer".to_owned()]));
    assert_eq!(app.output.as_ref().unwrap().lines.len(), 1);
    assert_eq!(press(&mut app, "\x1b"), Some(Action::EndLook));
    app.observe(Observation::Ended(1, Ok(())));
    assert_eq!(press(&mut app, "\x1b"), None);
    assert_eq!(app.view, View::Overview);
}

#[test]
fn everything_of_the_menu_needs_a_second_key_before_it_changes_anything() {
    for (act, key, name) in Act::ALL {
        let mut app = app(true);
        let done = press(&mut app, &format!("a{key}"));
        let harmless = act == Act::Edit && done == Some(Action::Send(Request::Configuration));
        assert!(harmless || done.is_none(), "{name}: {done:?}");
        assert!(harmless || app.question.is_some() || app.prompt.is_some(), "{name}");
        assert_eq!(press(&mut app, "\x1b"), None, "{name}");
        assert!(app.question.is_none() && app.prompt.is_none(), "{name}");
    }
}

#[test]
fn what_is_written_is_applied_for_a_trial_after_a_yes_and_never_while_it_is_wrong() {
    let mut app = app(true);
    app.observe(Observation::Edit("[wan]\ninterface = \"eth0\"\n".to_owned()));
    assert_eq!(app.view, View::Editor);
    assert_eq!(press(&mut app, "# mine \n\x1by"), {
        let text = "# mine \n[wan]\ninterface = \"eth0\"\n".to_owned();
        Some(Action::Send(Request::Apply { text, confirm: Some(TRIAL), session: None }))
    });
    app.observe(Observation::Edit("[wan]\ninterface = \"eth0\"\n".to_owned()));
    assert_eq!(press(&mut app, "x\x1by"), None);
    assert_eq!((app.view, app.leaving), (View::Editor, false));
    // A torn arrow key is an arrow key and no letter.
    press(&mut app, "\x1b[B");
    assert!(app.editor.as_ref().unwrap().text().starts_with("x[wan]\n"));
    press(&mut app, "\x1bd");
    assert_eq!(app.view, View::Overview);
}

#[test]
fn a_click_on_a_page_opens_it_and_the_wheel_scrolls() {
    let mut app = app(false);
    app.measured(30, 10);
    app.tabs = vec![(View::Overview, 0..11), (View::Network, 11..18)];
    let mouse = |kind, column, row| MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
    app.handle_mouse(mouse(MouseEventKind::ScrollDown, 5, 5));
    assert_eq!(app.scroll, 3);
    app.handle_mouse(mouse(MouseEventKind::Down(MouseButton::Left), 12, 1));
    assert_eq!(app.view, View::Network);
    app.handle_mouse(mouse(MouseEventKind::Down(MouseButton::Left), 12, 5));
    assert_eq!(app.view, View::Network);
}

#[test]
fn the_log_is_heard_in_parts_and_begins_anew_with_the_daemon() {
    let mut app = app(false);
    let event = |number| Event {
        number,
        at: 0,
        level: "info".to_owned(),
        source: "test".to_owned(),
        text: "something".to_owned(),
    };
    app.view = View::Log;
    assert_eq!(app.wish(), Some(Request::Log { after: 0 }));
    app.observe(Observation::Log(vec![event(1), event(2)]));
    app.observe(Observation::Log(vec![event(2), event(3)]));
    assert_eq!((app.log.len(), app.wish()), (3, Some(Request::Log { after: 3 })));
    let uptime = |seconds| {
        let mut status = Status::default();
        status.system.daemon_uptime = seconds;
        Observation::Status(Box::new(status))
    };
    app.observe(uptime(9));
    app.observe(uptime(1));
    assert_eq!(app.wish(), Some(Request::Log { after: 0 }));
}

#[test]
fn a_password_is_demanded_for_actions_while_the_state_stays_visible() {
    let mut app = app(true);
    let mut status = Status::default();
    status.control.password = true;
    app.observe(Observation::Status(Box::new(status)));
    for keys in ["p", "ap", "e", "r", "a1"] {
        assert_eq!(press(&mut app, keys), None);
        assert_eq!(app.prompt.as_ref().map(|prompt| prompt.act), Some(Act::Unlock), "{keys}");
        press(&mut app, "\x1b");
    }
    press(&mut app, "lp");
    assert_eq!(app.view, View::Network);
    let unlock = Request::Unlock { password: "sesame".to_owned() };
    assert_eq!(press(&mut app, "sesame\n"), Some(Action::Send(unlock.clone())));
    app.observe(Observation::Accepted(unlock));
    press(&mut app, "\n");
    assert_eq!(app.question, Some(Request::PowerOff));
    press(&mut app, "n");
    app.handle_timeout(UNLOCKED);
    press(&mut app, "p");
    assert_eq!(app.question, None);
}

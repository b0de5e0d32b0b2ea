//! The console as a whole: what it shows at the sizes people have, and that no size breaks it.
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::backend::{CrosstermBackend, TestBackend};
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use sixgate_engine::firewall::denial::Denial;
use sixgate_engine::plan::Obstacle;
use sixgate_engine::status::{Session, Status};

use super::app::{App, View};
use super::feed::{Observation, Trouble};
use super::screen;
use super::sessions::Told;
use super::theme::Theme;
use crate::control::{Event, PastConfiguration, Request};

mod gallery;
mod states;

use states::{configuration_error, normal, overloaded, traffic};

const SIZES: [(u16, u16); 3] = [(80, 24), (132, 43), (200, 50)];

fn app() -> App {
    App::new(Theme::new(true), false, "/run/sixgate/control.sock".to_owned())
}

/// A console that has heard these states, a second apart.
fn showing(states: impl IntoIterator<Item = Status>) -> App {
    let mut app = app();
    for (second, state) in (1..).zip(states) {
        app.handle_timeout(Duration::from_secs(second));
        app.observe(Observation::Status(Box::new(state)));
    }
    app
}

fn press(app: &mut App, code: KeyCode) {
    app.handle_key(KeyEvent::new(code, KeyModifiers::NONE));
}

fn terminal(app: &mut App, (columns, rows): (u16, u16)) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a test backend cannot fail");
    terminal.draw(|frame| screen::draw(app, frame)).expect("a test backend cannot fail");
    terminal
}

/// The screen's rows without trailing blanks, between bars that show where it ends.
fn rows(app: &mut App, size: (u16, u16)) -> String {
    let terminal = terminal(app, size);
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in buffer.content().chunks(usize::from(size.0)) {
        let row: String = row.iter().map(|cell| cell.symbol()).collect();
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn snapshot(name: &str, mut app: App) {
    for size in SIZES {
        let name = format!("{name}_{}x{}", size.0, size.1);
        insta::assert_snapshot!(name, rows(&mut app, size));
    }
}

#[test]
fn overview_of_nothing() {
    snapshot("empty", showing([Status::default()]));
}

#[test]
fn overview_of_a_router_at_work() {
    snapshot("normal", showing((0..4).map(normal)));
}

#[test]
fn overview_of_an_overloaded_router() {
    snapshot("overloaded", showing((0..4).map(overloaded)));
}

#[test]
fn overview_of_a_wrong_configuration() {
    snapshot("configuration_error", showing([configuration_error()]));
}

/// A page by its key, of an empty, a plain and an overloaded router.
fn page_snapshots(name: &str, key: char) {
    let states: [(&str, Vec<Status>); 3] = [
        ("empty", vec![Status::default()]),
        ("normal", (0..90).map(normal).collect()),
        ("overloaded", (0..90).map(overloaded).collect()),
    ];
    for (state, statuses) in states {
        let mut app = showing(statuses);
        press(&mut app, KeyCode::Char(key));
        for size in [SIZES[0], SIZES[1]] {
            let name = format!("{name}_{state}_{}x{}", size.0, size.1);
            insta::assert_snapshot!(name, rows(&mut app, size));
        }
    }
}

#[test]
fn page_of_the_network() {
    page_snapshots("network", 'l');
}

#[test]
fn page_of_the_vms() {
    page_snapshots("vms", 'v');
}

#[test]
fn page_of_the_prefixes() {
    page_snapshots("prefixes", 'u');
}

/// A console on a page, with what the daemon tells for that page.
fn told(state: fn(u64) -> Status, key: char, observation: Observation) -> App {
    let mut app = showing((0..4).map(state));
    press(&mut app, KeyCode::Char(key));
    app.observe(observation);
    app
}

fn both_sizes(name: &str, mut app: App) {
    for size in [SIZES[0], SIZES[1]] {
        insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), rows(&mut app, size));
    }
}

/// So many events, every ninth of them a warning.
fn events(number: u64) -> Vec<Event> {
    let event = |number: u64| Event {
        number,
        at: 1_795_500_000_000 + number * 700,
        level: if number.is_multiple_of(9) { "warn" } else { "info" }.to_owned(),
        source: ["lifecycle", "network", "uplink"][number as usize % 3].to_owned(),
        text: format!(
            "event {number}: the interface eth0 is up with carrier, and its addresses are ready to be used by all"
        ),
    };
    (1..=number).map(event).collect()
}

#[test]
fn page_of_the_log() {
    for (name, number) in [("empty", 0), ("normal", 12), ("overloaded", 1_000)] {
        both_sizes(&format!("log_{name}"), told(normal, 'i', Observation::Log(events(number))));
    }
}

fn configurations(number: u64) -> Vec<PastConfiguration> {
    let entry = |number: u64| PastConfiguration {
        number,
        time: 1_795_500_000 + 3_600 * number,
        origin: ["apply", "file", "revert"][number as usize % 3].to_owned(),
        in_force: false,
        added: number as usize,
        removed: 1,
        difference: "@@ line 31\n-tcp = [443]\n+tcp = [443, 8443]\n".to_owned(),
    };
    let mut past: Vec<_> = (1..=number).rev().map(entry).collect();
    past.iter_mut().take(1).for_each(|entry| entry.in_force = true);
    past
}

#[test]
fn page_of_the_configurations() {
    for (name, number) in [("empty", 0), ("normal", 3), ("overloaded", 20)] {
        both_sizes(&format!("configurations_{name}"), told(normal, 'c', Observation::Past(configurations(number))));
    }
}

/// So many denials of scanners, counted together where they are alike.
fn denials(number: u64) -> Vec<Denial> {
    let denial = |number: u64| Denial {
        number,
        time: 1_795_500_000 + number,
        packets: 1 + 10_000 / number,
        reason: "through the router, not admitted".to_owned(),
        link: "eth0".to_owned(),
        source: "2001:db8:bad::1".parse().expect("an address"),
        from: "2001:db8:bad::1".to_owned(),
        destination: "2001:db8:1:2:21::5".parse().expect("an address"),
        to: "vm1/containers::5".to_owned(),
        service: format!("tcp/{}", 20 + number),
    };
    (1..=number).rev().map(denial).collect()
}

#[test]
fn page_of_the_firewall_with_what_was_refused() {
    for (name, number, state) in
        [("none", 0, normal as fn(u64) -> Status), ("few", 3, normal), ("many", 10_000, overloaded)]
    {
        both_sizes(&format!("denials_{name}"), told(state, 'w', Observation::Denials(denials(number))));
    }
}

#[test]
fn menu_of_actions_and_what_is_typed() {
    let mut app = showing([normal(0)]);
    press(&mut app, KeyCode::Char('a'));
    snapshot("menu", app);
    let mut app = showing([normal(0)]);
    for key in "a5vm1 /tmp/vm1.pcapng".chars() {
        press(&mut app, KeyCode::Char(key));
    }
    snapshot("prompt", app);
}

#[test]
fn what_an_action_tells() {
    let mut app = showing([normal(0)]);
    for key in "a1vm1".chars() {
        press(&mut app, KeyCode::Char(key));
    }
    press(&mut app, KeyCode::Enter);
    let line = |number: u32| format!("{number:>3}  2001:db8:1:2:20::2  0.{:03} ms", 400 + number);
    app.observe(Observation::Told(1, (1..=3).map(line).collect()));
    assert!(rows(&mut app, SIZES[0]).contains("goes on"));
    app.observe(Observation::Ended(1, Err("the daemon is ending".to_owned())));
    both_sizes("output", app);
}

#[test]
fn editor_with_the_checkers_messages() {
    let text = "hostname = \"gw1\"\n\n[wan]\ninterface = \"eth0\"\nadress = \"2001:db8::1\"\n";
    let mut app = showing([normal(0)]);
    app.observe(Observation::Edit(text.to_owned()));
    snapshot("editor", app);
}

/// A terminal that only counts what is written to it.
#[derive(Clone, Default)]
struct Counted(std::rc::Rc<std::cell::Cell<usize>>);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.set(self.0.get() + bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn counted() -> (Terminal<CrosstermBackend<Counted>>, Counted) {
    let counted = Counted::default();
    let viewport = Viewport::Fixed(Rect::new(0, 0, 80, 24));
    let backend = CrosstermBackend::new(counted.clone());
    (Terminal::with_options(backend, TerminalOptions { viewport }).expect("it takes all"), counted)
}

#[test]
fn in_a_steady_state_a_serial_line_is_written_less_than_4_kib_a_second() {
    // A full picture is written this often, for whoever attaches late.
    const REPAINTED_EVERY: usize = 10;
    const SECONDS: u64 = 120;
    let states =
        [('o', normal as fn(u64) -> Status), ('o', overloaded), ('t', normal), ('l', normal), ('w', overloaded)];
    for (key, state) in states {
        let mut app = app();
        let (mut terminal, written) = counted();
        press(&mut app, KeyCode::Char(key));
        let mut before = 0;
        for second in 0..SECONDS {
            app.handle_timeout(Duration::from_secs(second));
            app.observe(Observation::Status(Box::new(state(second))));
            terminal.draw(|frame| screen::draw(&mut app, frame)).expect("it takes all");
            if second == SECONDS / 2 {
                // Graphs are as wide as the screen by now.
                before = written.0.get();
            }
        }
        let (mut whole, picture) = counted();
        whole.draw(|frame| screen::draw(&mut app, frame)).expect("it takes all");
        let changes = (written.0.get() - before) / (SECONDS / 2) as usize;
        let rate = changes + picture.0.get() / REPAINTED_EVERY;
        println!("page {key}: {changes} bytes a second change, a picture has {}", picture.0.get());
        assert!(rate <= 4096, "{rate} bytes a second on page {key}");
    }
}

#[test]
fn page_of_the_translator() {
    page_snapshots("translator", 't');
}

#[test]
fn page_of_the_resolver() {
    page_snapshots("resolver", 'd');
}

#[test]
fn page_of_the_firewall() {
    page_snapshots("firewall", 'w');
}

#[test]
fn page_of_the_system() {
    page_snapshots("system", 'm');
}

/// So many sessions of a few clients, the later ones with more bytes.
fn sessions(number: u32) -> Told {
    let session = |index: u32| Session {
        protocol: ["tcp", "udp", "icmp"][index as usize % 3].to_owned(),
        state: index.is_multiple_of(3).then(|| "ESTABLISHED".to_owned()),
        client: format!("[2001:db8:1:2:{}::2]:{}", 20 + index % 4 * 10, 1024 + index % 60_000)
            .parse()
            .expect("a client"),
        mapped: format!("203.0.113.136:{}", 40_960 + index % 24_000).parse().expect("an address"),
        server: format!("198.51.100.{}:443", index % 250).parse().expect("an address"),
        idle: u64::from(index % 90),
        v6_to_v4: traffic(u64::from(index), 80 * u64::from(index)),
        v4_to_v6: traffic(u64::from(index), 1200 * u64::from(index)),
    };
    Told { sessions: (0..number).map(session).collect(), more: number > 1_000 }
}

#[test]
fn page_of_the_sessions() {
    for (name, number) in [("empty", 0), ("normal", 12), ("overloaded", 2_048)] {
        let mut app = showing((0..4).map(normal));
        press(&mut app, KeyCode::Char('s'));
        assert!(rows(&mut app, SIZES[0]).contains("asking"));
        app.observe(Observation::Sessions(sessions(number)));
        for size in [SIZES[0], SIZES[1]] {
            insta::assert_snapshot!(format!("sessions_{name}_{}x{}", size.0, size.1), rows(&mut app, size));
        }
    }
}

#[test]
fn sessions_are_asked_for_while_their_page_is_open_and_a_prefix_is_the_daemons_to_search() {
    let mut app = showing([normal(0)]);
    assert_eq!(app.wish(), None);
    press(&mut app, KeyCode::Char('s'));
    assert_eq!(app.wish(), Some(Request::Sessions { from: 0, clients: None }));
    app.filter = "2001:db8:1:2:20::/76".to_owned();
    assert_eq!(app.wish(), Some(Request::Sessions { from: 0, clients: Some(app.filter.parse().unwrap()) }));
    press(&mut app, KeyCode::Char('o'));
    assert_eq!(app.wish(), None);
}

#[test]
fn sessions_stand_in_the_order_that_is_asked_for() {
    let mut app = showing([normal(0)]);
    press(&mut app, KeyCode::Char('s'));
    app.observe(Observation::Sessions(sessions(12)));
    let first = |app: &mut App| rows(app, (132, 43)).lines().nth(3).unwrap().to_owned();
    assert!(first(&mut app).contains("198.51.100.11:443"));
    press(&mut app, KeyCode::Char('<'));
    assert!(first(&mut app).contains("198.51.100.0:443"));
}

#[test]
fn tab_leads_round_all_pages_and_back() {
    let mut app = showing([normal(0)]);
    let first = rows(&mut app, SIZES[0]);
    let mut seen = vec![first.clone()];
    for _ in 1..View::PAGES.len() {
        press(&mut app, KeyCode::Tab);
        let shown = rows(&mut app, SIZES[0]);
        assert!(!seen.contains(&shown), "{shown}");
        seen.push(shown);
    }
    press(&mut app, KeyCode::Tab);
    assert_eq!(rows(&mut app, SIZES[0]), first);
    press(&mut app, KeyCode::BackTab);
    assert_eq!(Some(&rows(&mut app, SIZES[0])), seen.last());
}

#[test]
fn a_filter_leaves_the_rows_that_contain_it_and_says_how_many_it_hides() {
    let mut app = showing((0..4).map(overloaded));
    press(&mut app, KeyCode::Char('v'));
    press(&mut app, KeyCode::Char('/'));
    for letter in "VM17".chars() {
        press(&mut app, KeyCode::Char(letter));
    }
    let shown = rows(&mut app, (132, 60));
    assert!(shown.contains("/VM17_") && shown.contains("vm17"), "{shown}");
    assert!(shown.contains("489 of 500 not shown") && !shown.contains("vm16 "), "{shown}");
    press(&mut app, KeyCode::Enter);
    press(&mut app, KeyCode::Char('t'));
    assert!(rows(&mut app, SIZES[0]).contains("/VM17"), "the filter stays from page to page");
    press(&mut app, KeyCode::Esc);
    press(&mut app, KeyCode::Char('v'));
    assert!(rows(&mut app, (132, 80)).contains("vm16"));
}

#[test]
fn all_findings_in_full() {
    page_snapshots("findings", 'f');
}

#[test]
fn upstreams_that_fail_and_those_that_were_never_asked_are_told_apart() {
    let upstreams = |second: u64| {
        let mut status = normal(second);
        let dns64 = status.dns64.as_mut().expect("a resolver");
        let upstream = |answers, failures| {
            let address = "[2001:db8::53]:53".parse().expect("an address");
            sixgate_engine::status::Upstream { address, answers, failures, latency_us: 0, encrypted: None }
        };
        dns64.upstreams =
            vec![upstream(9, second), upstream(second, second), upstream(second, 0), upstream(0, 9), upstream(0, 0)];
        status
    };
    let mut app = showing((0..4).map(upstreams));
    press(&mut app, KeyCode::Char('d'));
    let shown = rows(&mut app, SIZES[1]);
    let at = |word: &str| shown.find(word).unwrap_or_else(|| panic!("{word} is missing:\n{shown}"));
    let words = ["FAILING", "LOSES SOME", "answers    ", "NEVER ANSWERED", "not asked yet"];
    assert!(words.map(at).is_sorted(), "{shown}");
}

#[test]
fn help() {
    let mut app = showing([normal(0)]);
    press(&mut app, KeyCode::Char('?'));
    snapshot("help", app);
}

#[test]
fn question_before_power_off() {
    let mut app = showing((0..4).map(normal));
    app.console = true;
    press(&mut app, KeyCode::Char('p'));
    snapshot("power_off", app);
}

#[test]
fn daemon_that_is_not_there() {
    let mut app = app();
    app.observe(Observation::Trouble(Trouble::Absent));
    app.handle_timeout(Duration::from_secs(42));
    insta::assert_snapshot!("absent_80x24", rows(&mut app, SIZES[0]));
}

#[test]
fn daemon_that_went_away_leaves_its_last_state_on_the_screen() {
    let mut app = showing((0..4).map(normal));
    app.observe(Observation::Trouble(Trouble::Starting));
    app.handle_timeout(Duration::from_secs(9));
    let shown = rows(&mut app, SIZES[0]);
    assert!(shown.contains("NO ANSWER"), "{shown}");
    assert!(shown.contains("No answer for 5 s."), "{shown}");
    assert!(shown.contains("203.0.113.136/26"), "{shown}");
}

#[test]
fn every_trouble_is_said_in_its_own_words() {
    let mut seen = Vec::new();
    for trouble in [
        Trouble::Absent,
        Trouble::Starting,
        Trouble::Denied,
        Trouble::Silent,
        Trouble::OtherVersion(Some(7)),
        Trouble::OtherVersion(None),
        Trouble::Other("because".to_owned()),
    ] {
        let mut app = app();
        app.observe(Observation::Trouble(trouble));
        let shown = rows(&mut app, SIZES[0]);
        assert!(!seen.contains(&shown), "{shown}");
        seen.push(shown);
    }
    assert!(seen[4].contains("version 7"), "{}", seen[4]);
}

#[test]
fn booting_appliance_says_that_it_starts_and_not_that_something_is_missing() {
    let mut app = app();
    app.console = true;
    app.handle_timeout(Duration::from_secs(3));
    app.observe(Observation::Trouble(Trouble::Absent));
    let shown = rows(&mut app, SIZES[0]);
    assert!(shown.contains("sixgate is starting"), "{shown}");
    app.handle_timeout(Duration::from_secs(60));
    let shown = rows(&mut app, SIZES[0]);
    assert!(shown.contains("The daemon is not there"), "{shown}");
}

#[test]
fn every_line_of_a_long_finding_can_be_scrolled_to() {
    let mut status = configuration_error();
    let text: Vec<_> = (0..200).map(|line| format!("line number {line:03}")).collect();
    status.findings[0].text = text.join("\n");
    let mut app = showing([status]);
    let mut shown = String::new();
    for _ in 0..40 {
        shown.push_str(&rows(&mut app, SIZES[0]));
        press(&mut app, KeyCode::PageDown);
    }
    for line in text {
        assert!(shown.contains(&line), "{line} is never shown");
    }
    assert!(shown.contains("Correct the file"));
}

#[test]
fn obstacle_and_missing_pieces_are_words() {
    let mut status = normal(0);
    if let Some(nat64) = &mut status.nat64 {
        nat64.obstacle = Some(Obstacle::NoDevice);
    }
    if let Some(advertised) = &mut status.lans[0].advertised {
        advertised.pref64 = advertised.pref64.map(|(prefix, _)| (prefix, false));
    }
    if let Some(dns64) = &mut status.dns64 {
        dns64.synthesizing = false;
        dns64.listening.clear();
    }
    status.wan.carrier = false;
    status.firewall.forwarding = false;
    let shown = rows(&mut showing([status]), (132, 43));
    for word in ["NO TUN DEVICE", "WITHDRAWN", "NO SYNTHESIS", "LISTENS NOWHERE", "NO CARRIER", "NOT FORWARDING"] {
        assert!(shown.contains(word), "{word} is missing:\n{shown}");
    }
}

//! `sixgate tui` on a terminal of its own: the real binary, driven by keys, against a daemon that only knows the protocol.
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};
use sixgate::control::{Probe, ProbeOutcome, Reply, Request, emit_reply, parse_request};
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::status::{self, Status, Traffic};

const PATIENCE: Duration = Duration::from_secs(20);
const CONFIGURATION: &str = "hostname = \"gw1\"\n\n[wan]\ninterface = \"eth0\"\n";

/// The binary on a terminal.
struct Console {
    /// Our end; dropping it hangs the terminal up.
    keyboard: Option<File>,
    /// Its end, kept open so that it can be asked.
    terminal: OwnedFd,
    process: Child,
    /// What it wrote.
    output: Vec<u8>,
    /// What that looks like.
    screen: vt100::Parser,
    /// The size that our end answers when it is asked, as a serial terminal would.
    answers: Option<(u16, u16)>,
    answered: usize,
}

impl Console {
    fn start(socket: &Path, size: (u16, u16), answers: Option<(u16, u16)>, arguments: &[&str]) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let terminal = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let winsize = Winsize { ws_col: size.0, ws_row: size.1, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, winsize).unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        // An optimized binary, for measurements.
        let binary = std::env::var_os("SIXGATE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_sixgate").into());
        let process = Command::new(binary)
            .args(["tui", "--control"])
            .arg(socket)
            .args(arguments)
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let screen = vt100::Parser::new(cells(size.1.max(24)), cells(size.0.max(80)), 0);
        Self {
            keyboard: Some(File::from(keyboard)),
            terminal,
            process,
            output: Vec::new(),
            screen,
            answers,
            answered: 0,
        }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Reads on until the text has been written. Blanks do not count: only cells that changed are written.
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        let wanted = text.replace(' ', "");
        while !letters(&self.output).contains(&wanted) {
            assert!(Instant::now() < deadline, "{text:?} was never written, but {:?}", letters(&self.output));
            self.read();
        }
    }

    /// Reads on until the screen shows something.
    fn wait_until(&mut self, what: &str, shows: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.screen.screen().contents();
            if shows(&shown) {
                return shown;
            }
            assert!(Instant::now() < deadline, "{what} is never shown, but\n{shown}");
            self.read();
        }
    }

    /// Forgets what was written until now.
    fn forget(&mut self) {
        self.output.clear();
        self.answered = 0;
    }

    /// Reads what there is, and answers if it was a question.
    fn read(&mut self) {
        let keyboard = self.keyboard.as_mut().unwrap();
        let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let mut fds = [PollFd::new(&*keyboard, PollFlags::IN)];
        if rustix::event::poll(&mut fds, Some(&wait)).unwrap() == 0 {
            return;
        }
        let mut chunk = [0; 4096];
        let length = keyboard.read(&mut chunk).unwrap_or(0);
        self.output.extend_from_slice(&chunk[..length]);
        self.screen.process(&chunk[..length]);
        let asked = self.output.windows(4).filter(|window| window == b"\x1b[6n").count();
        while self.answered < asked {
            self.answered += 1;
            if let Some((columns, rows)) = self.answers {
                write!(keyboard, "\x1b[{rows};{columns}R").unwrap();
            }
        }
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the console does not end");
            match self.keyboard {
                Some(_) => self.read(),
                None => std::thread::yield_now(),
            }
        }
    }

    fn size(&self) -> (u16, u16) {
        let size = tcgetwinsize(self.terminal.as_fd()).unwrap();
        (size.ws_col, size.ws_row)
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(self.terminal.as_fd()).unwrap().local_modes.contains(LocalModes::ICANON)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn cells(number: u16) -> std::num::NonZero<u16> {
    number.try_into().unwrap()
}

/// Output without control sequences and blanks.
fn letters(output: &[u8]) -> String {
    let mut letters = String::new();
    let text = String::from_utf8_lossy(output);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            // A sequence ends with its first letter.
            '\x1b' => drop(characters.find(char::is_ascii_alphabetic)),
            ' ' => {}
            other => letters.push(other),
        }
    }
    letters
}

/// A daemon that answers requests for the status and accepts all others; which ones, comes out of the channel.
fn daemon(socket: &Path, status: Status) -> Receiver<Request> {
    busy_daemon(socket, move |_| status.clone())
}

/// The same of a state that goes on: what it is after so many milliseconds.
fn busy_daemon(socket: &Path, status: impl Fn(u64) -> Status + Send + 'static) -> Receiver<Request> {
    let began = Instant::now();
    let now = move || status(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    let listener = UnixListener::bind(socket).unwrap();
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let _ = serve(BufReader::new(connection?), &now, &sender);
        }
        std::io::Result::Ok(())
    });
    requests
}

fn serve(
    mut connection: BufReader<std::os::unix::net::UnixStream>,
    status: &dyn Fn() -> Status,
    requests: &Sender<Request>,
) -> std::io::Result<()> {
    let mut line = Vec::new();
    while connection.read_until(b'\n', &mut line)? > 0 {
        let reply = match parse_request(&line) {
            Ok(Request::Status) => Reply::Status { status: Box::new(status()) },
            Ok(Request::Configuration) => Reply::Configuration { text: CONFIGURATION.to_owned() },
            Ok(Request::Ping { count, .. }) => {
                for sequence in 1..=count {
                    let to = "2001:db8::9".parse().unwrap();
                    let (from, micros) = (Some(to), Some(1_234));
                    let probe = Probe { sequence, to, hops: None, from, micros, outcome: ProbeOutcome::Reply };
                    connection.get_mut().write_all(emit_reply(&Reply::Probe { probe }).as_bytes())?;
                }
                Reply::Accepted
            }
            Ok(request) => {
                let _ = requests.send(request);
                Reply::Accepted
            }
            Err(refusal) => refusal,
        };
        connection.get_mut().write_all(emit_reply(&reply).as_bytes())?;
        line.clear();
    }
    Ok(())
}

fn state() -> Status {
    let mut status = Status { version: status::VERSION, ..Status::default() };
    status.system.hostname = "gw1".to_owned();
    status.findings.push(Finding {
        severity: Severity::Error,
        code: "wan-interface-missing".to_owned(),
        subject: "eth0".to_owned(),
        text: "The uplink's interface is missing.".to_owned(),
        mend: "Attach it.".to_owned(),
    });
    status
}

fn socket() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    (folder, socket)
}

#[test]
fn serial_line_is_asked_for_its_size_and_left_as_it_was() {
    let (_folder, socket) = socket();
    let _requests = daemon(&socket, state());
    let mut console = Console::start(&socket, (0, 0), Some((100, 30)), &[]);
    console.wait_for("gw1");
    console.wait_for("The uplink's interface is missing.");
    assert_eq!(console.size(), (100, 30));
    assert!(console.is_raw());
    console.press("q");
    assert!(console.wait_for_end().success());
    assert!(!console.is_raw());
    // One screen only, so it is left empty, with the cursor shown.
    let written = String::from_utf8_lossy(&console.output);
    let (_, after_clearing) = written.rsplit_once("\x1b[2J").unwrap();
    assert_eq!(after_clearing.replace("\x1b[?25h", ""), "\x1b[1;1H", "{written:?}");
}

#[test]
fn serial_line_that_does_not_answer_is_taken_for_80x24() {
    let (_folder, socket) = socket();
    let _requests = daemon(&socket, state());
    let mut console = Console::start(&socket, (0, 0), None, &[]);
    console.wait_for("gw1");
    assert_eq!(console.size(), (80, 24));
    console.press("q");
    assert!(console.wait_for_end().success());
}

#[test]
fn power_off_is_asked_for_by_two_keys() {
    let (_folder, socket) = socket();
    let requests = daemon(&socket, state());
    let mut console = Console::start(&socket, (80, 24), None, &["--console"]);
    console.wait_for("gw1");
    console.press("p");
    console.wait_for("Power gw1 off?");
    assert!(requests.try_recv().is_err(), "nothing is sent before the yes");
    console.press("y");
    assert_eq!(requests.recv_timeout(PATIENCE).unwrap(), Request::PowerOff);
    assert!(requests.try_recv().is_err(), "it is sent once");
}

#[test]
fn torn_escape_sequence_stops_nothing() {
    let (_folder, socket) = socket();
    let _requests = daemon(&socket, state());
    let mut console = Console::start(&socket, (80, 24), None, &["--console"]);
    console.wait_for("gw1");
    console.press("\x1b[");
    console.forget();
    // Whatever had been pressed, the console goes on: a daemon that is gone is noticed without a further key.
    std::fs::remove_file(&socket).unwrap();
    console.wait_for("The daemon is not there");
}

#[test]
fn daemon_that_comes_later_is_found() {
    let (_folder, socket) = socket();
    let mut console = Console::start(&socket, (80, 24), None, &[]);
    console.wait_for("The daemon is not there");
    let _requests = daemon(&socket, state());
    console.wait_for("gw1");
    console.press("q");
    assert!(console.wait_for_end().success());
}

#[test]
fn terminal_that_is_hung_up_ends_the_console() {
    let (_folder, socket) = socket();
    let _requests = daemon(&socket, state());
    let mut console = Console::start(&socket, (80, 24), None, &["--console"]);
    console.wait_for("gw1");
    drop(console.keyboard.take());
    assert!(console.wait_for_end().success());
}

#[test]
fn without_a_terminal_it_says_what_to_use_instead() {
    let output = Command::new(env!("CARGO_BIN_EXE_sixgate"))
        .args(["tui", "--control", "/nowhere"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("sixgate status"), "{output:?}");
}

#[test]
fn first_boot_is_answered_by_five_keys() {
    let (_folder, socket) = socket();
    let mut status = state();
    status.findings[0].code = "configuration-made".to_owned();
    for (name, mac) in [("eth0", "bc:24:11:00:00:01"), ("eth1", "bc:24:11:00:00:02")] {
        status.cards.push(status::Card { name: name.to_owned(), mac: mac.to_owned(), link: true });
    }
    let requests = daemon(&socket, status);
    let mut console = Console::start(&socket, (80, 24), None, &["--console"]);
    console.wait_for("First boot");
    for title in ["Question 1 of 3", "Question 2 of 3", "Question 3 of 3"] {
        console.press("\r");
        console.wait_for(title);
    }
    assert!(requests.try_recv().is_err(), "nothing is sent before the plan was seen");
    console.press("\r");
    let Request::Apply { text, confirm: Some(120), session: None } = requests.recv_timeout(PATIENCE).unwrap() else {
        panic!("no trial")
    };
    assert!(text.contains("mac = \"bc:24:11:00:00:01\"\nipv4 = \"dhcp\""), "{text}");
    console.wait_for("Does it work?");
    console.press("y");
    assert_eq!(requests.recv_timeout(PATIENCE).unwrap(), Request::Confirm);
}

#[test]
fn pages_and_actions_are_driven_by_keys_and_read_from_the_screen() {
    let (_folder, socket) = socket();
    let requests = daemon(&socket, state());
    let mut console = Console::start(&socket, (80, 24), None, &["--console"]);
    console.wait_until("the overview", |shown| shown.contains("Services"));
    for (key, title) in [
        ("l", "─ Uplink"),
        ("v", "─ VMs"),
        ("u", "─ Time line"),
        ("m", "─ Machine"),
        ("i", "─ Log"),
        ("o", "─ Services"),
    ] {
        console.press(key);
        console.wait_until(title, |shown| shown.contains(title));
    }
    // An action by its number, what is typed for it, and what comes of it.
    console.press("a1vm1");
    console.wait_until("what was typed", |shown| shown.contains("vm1_"));
    console.press("\r");
    console.wait_until("the answers", |shown| shown.contains("Ping vm1") && shown.contains("5  2001:db8::9  1.234 ms"));
    console.press("o");
    // The configuration is edited, found wrong, mended, and applied for a trial.
    console.press("e");
    console
        .wait_until("the editor", |shown| shown.contains("interface = \"eth0\"") && shown.contains("nothing is wrong"));
    console.press("x");
    console.wait_until("the complaint", |shown| shown.contains("1!") && shown.contains("it cannot be applied"));
    console.press("\x7f# mine\r");
    console
        .wait_until("the end of the complaint", |shown| shown.contains("# mine") && shown.contains("nothing is wrong"));
    console.press("\x1b");
    console.wait_until("the question", |shown| shown.contains("Apply what you have written?"));
    console.press("y");
    let text = format!("# mine\n{CONFIGURATION}");
    let applied = Request::Apply { text, confirm: Some(60), session: None };
    assert_eq!(
        std::iter::from_fn(|| requests.recv_timeout(PATIENCE).ok()).find(|request| *request == applied),
        Some(applied)
    );
    console.wait_until("what came of it", |shown| shown.contains("on trial"));
}

#[test]
fn an_older_console_says_plainly_that_the_daemon_is_newer() {
    let (_folder, socket) = socket();
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut line = String::new();
            let mut connection = BufReader::new(connection.unwrap());
            // A console that has ended asks nothing any more.
            let _ = connection.read_line(&mut line);
            let _ = connection.get_mut().write_all(b"{\"version\":7,\"reply\":\"news\",\"about\":[]}\n");
        }
    });
    let mut console = Console::start(&socket, (80, 24), None, &[]);
    let shown = console.wait_until("the two versions", |shown| shown.contains("another version"));
    assert!(shown.contains("It speaks version 7 of the control protocol, this console version 1."), "{shown}");
    console.press("q");
    assert!(console.wait_for_end().success());
    let output =
        Command::new(env!("CARGO_BIN_EXE_sixgate")).args(["status", "--control"]).arg(&socket).output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("version 7") && told.contains("version 1"), "{told}");
}

/// Runs for `SIXGATE_MEASURE` seconds and prints what `docs/benchmarks/console.md` records.
#[test]
fn a_console_on_a_serial_line_writes_little_and_computes_little() {
    let seconds: u64 = std::env::var("SIXGATE_MEASURE").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let (_folder, socket) = socket();
    let _requests = busy_daemon(&socket, busy);
    let mut console = Console::start(&socket, (0, 0), Some((80, 24)), &["--console"]);
    console.wait_for("gw1");
    console.forget();
    let (began, before) = (Instant::now(), ticks(console.process.id()));
    while began.elapsed() < Duration::from_secs(seconds) {
        console.read();
    }
    let elapsed = began.elapsed().as_secs_f64();
    let rate = console.output.len() as f64 / elapsed;
    let cpu = (ticks(console.process.id()) - before) as f64 / rustix::param::clock_ticks_per_second() as f64 / elapsed;
    println!("{rate:.0} bytes a second, {:.2} % of a CPU, over {elapsed:.0} s", cpu * 100.0);
    assert!(rate <= 4096.0, "{rate} bytes a second");
}

/// A router all of whose counters move, and whose rates swing.
fn busy(millis: u64) -> Status {
    let mut status = state();
    let passed = |packets: u64| Traffic { packets: packets * millis / 1_000, bytes: 700 * packets * millis / 1_000 };
    let swing = 1 + millis / 1_000 % 20;
    status.system.machine_uptime = millis / 1_000;
    status.system.daemon_uptime = millis / 1_000;
    status.system.load = swing as f32 / 10.0;
    status.wan.present = true;
    status.wan.carrier = true;
    (status.wan.received, status.wan.sent) = (passed(8_000 * swing), passed(5_000 * swing));
    status.nat64 = Some(status::Nat64 {
        sessions: status::Sessions { tcp: 1_000 + 37 * swing, udp: 300 + swing, icmp: swing },
        v6_to_v4: passed(4_000 * swing),
        v4_to_v6: passed(6_000 * swing),
        ..status::Nat64::default()
    });
    let queries = 40 * swing * millis / 1_000;
    status.dns64 = Some(status::Dns64 { queries, synthesized: queries / 2, ..status::Dns64::default() });
    status
}

/// User and system time of a process, in ticks.
fn ticks(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = text.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

//! The console as it really looks: keys on the serial line and on the machine's keyboard, and the pictures in `docs/images`.
//!
//! With `BLESS=1` the pictures are taken anew; without, they are held against what the machine shows now. Numbers may differ, and
//! whatever depends on time; pages, titles and the names of values may not.
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use sixgate_qemu::{Firmware, Hardware};

use super::terminal::Terminal;
use super::{Case, Unit};
use crate::wait;

const PATIENCE: Duration = Duration::from_secs(120);
/// The screen's text, as the processor has it: a character and its colours in two bytes.
const TEXT_MEMORY: (u64, usize) = (0xb8000, 32 << 10);
/// Seconds over which the serial line's bytes are counted.
const STEADY: Duration = Duration::from_secs(11);

/// Pages on the serial line: key, picture, and what shows that the page is there.
const PAGES: [(&str, &str, &[&str]); 6] = [
    ("l", "network", &["─ Uplink", "─ LAN vms", "advertises"]),
    ("t", "nat64", &["─ NAT64", "works", "fast path"]),
    ("d", "dns", &["─ DNS64", "─ Upstream", "─ Names"]),
    ("m", "machine", &["─ Machine", "─ Start"]),
    ("a", "actions", &["Actions", "Power off"]),
    ("\x1be", "editor", &["hostname = \"gw1\"", "nothing is wrong"]),
];

const CONFIGURATION: &str = r#"hostname = "gw1"

[wan]
interface = "eth0"
ipv4 = { address = "203.0.113.136/26", gateway = "203.0.113.129" }
ipv6 = { address = "2001:db8:1:2:10::1/76", gateway = "fe80::1" }

[[lan]]
name = "vms"
interface = "eth1"
addresses = ["2001:db8:1:2::1/64"]

[[vm]]
name = "vm1"
lan = "vms"
gateway = "2001:db8:1:2:20::1/76"
address = "2001:db8:1:2:20::2"
containers = "2001:db8:1:2:21::/80"

[dns64]
upstream = ["2620:fe::fe"]

[nat64]
prefix = "64:ff9b::/96"

[[allow]]
to = "vm1/containers::5"
tcp = [443]
"#;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new(
        "console: keys on the serial line and on the keyboard, and its looks as docs/images has them",
        looks,
    )]
}

fn looks(unit: &mut Unit) -> Result<()> {
    unit.memory = 256;
    unit.boot(Unit::hardware())?;
    unit.status_with("a configuration of its own", |status| status["firewall"]["loaded"] == true)?;
    let reply = unit.request(&json!({ "apply": { "text": CONFIGURATION } }))?;
    ensure!(reply["reply"] == "accepted", "{reply}");
    unit.status_with("the configuration in force", |status| {
        status["system"]["hostname"] == "gw1" && status["lans"][0]["advertised"]["sent"].as_u64() > Some(0)
    })?;
    let mut terminal = Terminal::attach(unit.machine()?.console());
    terminal.await_texts(&["gw1", "─ Services", "Firewall    in force"])?;
    judge("overview", &terminal, true)?;
    for (keys, picture, shown) in PAGES {
        press(unit, keys)?;
        terminal.await_texts(shown).with_context(|| picture.to_owned())?;
        judge(picture, &terminal, false)?;
    }
    // What was written is asked about and discarded, and the overview goes on.
    press(unit, "#")?;
    terminal.await_texts(&["#hostname"])?;
    press(unit, "\x1b")?;
    terminal.await_texts(&["Configuration", "discard"])?;
    press(unit, "d")?;
    terminal.await_texts(&["─ Services"])?;
    steady(unit)?;

    keyboard(unit)?;
    picture(unit, "vga-seabios")?;
    unit.power_off()?;
    unit.boot(Hardware { firmware: Firmware::Ovmf, ..Unit::hardware() })?;
    unit.status_with("the kept configuration, with all services at work", |status| {
        status["system"]["hostname"] == "gw1"
            && status["lans"][0]["advertised"]["sent"].as_u64() > Some(0)
            && status["nat64"].is_object()
            && status["nat64"]["obstacle"].is_null()
            && status["dns64"]["synthesizing"] == true
            && status["firewall"]["forwarding"] == true
    })?;
    wait::until_ok("the console on the firmware's frame buffer", PATIENCE, || bars(unit))?;
    // What is on the screen once it has changed twice was asked for after that.
    for _ in 0..2 {
        let before = dump(unit)?;
        wait::until_ok("a picture of later", PATIENCE, || {
            ensure!(dump(unit)? != before, "the screen has not changed");
            Ok(())
        })?;
    }
    picture(unit, "vga-ovmf")?;
    unit.power_off().map(drop)
}

/// Presses keys on the serial line. Escape is given time, lest it be taken for the beginning of an arrow key.
fn press(unit: &mut Unit, keys: &str) -> Result<()> {
    for key in keys.chars() {
        unit.machine()?.console().write(key.to_string().as_bytes())?;
        if key == '\x1b' {
            let before = unit.machine()?.console().text().len();
            wait::until("the box to go", PATIENCE, || {
                let now = unit.machine().ok()?.console().text().len();
                (now > before).then_some(())
            })?;
        }
    }
    Ok(())
}

/// What a console at rest writes, a whole picture every ten seconds included.
fn steady(unit: &mut Unit) -> Result<()> {
    let console = unit.machine()?.console().clone();
    let (before, began) = (console.text().len(), Instant::now());
    wait::until("seconds to pass", PATIENCE, || (began.elapsed() >= STEADY).then_some(()))?;
    let rate = (console.text().len() - before) as f64 / began.elapsed().as_secs_f64();
    eprintln!("the serial line: {rate:.0} bytes a second");
    ensure!(rate <= 4096.0, "{rate} bytes a second");
    Ok(())
}

/// A key on the machine's own keyboard opens a page on its screen, which has a console of its own.
fn keyboard(unit: &mut Unit) -> Result<()> {
    let shows = |unit: &mut Unit, text: &str| -> Result<()> {
        let file = unit.folder().join("text.bin");
        let (address, size) = TEXT_MEMORY;
        let arguments = json!({ "val": address, "size": size, "filename": std::path::absolute(&file)? });
        unit.machine()?.monitor()?.execute("pmemsave", &arguments)?;
        let cells = fs::read(&file)?;
        let glyphs: String = cells.chunks(2).map(|cell| char::from(cell[0])).collect();
        ensure!(glyphs.contains(text), "{text:?} is not on the screen");
        Ok(())
    };
    wait::until_ok("the overview on the screen", PATIENCE, || shows(unit, " Services "))?;
    ensure!(shows(unit, " Start ").is_err(), "the machine's page is open already");
    for (key, text) in [("m", " Start "), ("p", "Power gw1 off?"), ("n", ""), ("o", "in force")] {
        let keys = json!({ "keys": [{ "type": "qcode", "data": key }] });
        unit.machine()?.monitor()?.execute("send-key", &keys)?;
        wait::until_ok(text, PATIENCE, || shows(unit, text))?;
    }
    wait::until_ok("the overview on the screen", PATIENCE, || shows(unit, " Services "))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images")
}

fn blesses() -> bool {
    std::env::var_os("BLESS").is_some_and(|value| value == "1")
}

/// Takes a picture of the screen where one is wanted.
fn picture(unit: &mut Unit, name: &str) -> Result<()> {
    if !blesses() {
        return Ok(());
    }
    fs::create_dir_all(folder())?;
    let file = std::path::absolute(folder().join(format!("{name}.png")))?;
    unit.machine()?.monitor()?.execute("screendump", &json!({ "filename": file, "format": "png" }))?;
    Ok(())
}

/// The screen as it is, as a picture in the PPM format.
fn dump(unit: &mut Unit) -> Result<Vec<u8>> {
    let file = std::path::absolute(unit.folder().join("screen.ppm"))?;
    unit.machine()?.monitor()?.execute("screendump", &json!({ "filename": file }))?;
    Ok(fs::read(&file)?)
}

/// Whether the screen's first and last line of text are the console's bars, and a page is between them.
fn bars(unit: &mut Unit) -> Result<()> {
    const LINE: usize = 16;
    let bytes = dump(unit)?;
    // P6, width, height, 255, and three bytes for each pixel.
    let mut words = bytes.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let mut number = || -> Option<usize> { std::str::from_utf8(words.next()?).ok()?.parse().ok() };
    let (_, Some(width), Some(height)) = (number(), number(), number()) else { bail!("no picture") };
    let pixels = &bytes[bytes.len().checked_sub(width * height * 3).context("a torn picture")?..];
    let blue = |row: usize| {
        let row = &pixels[row * width * 3..(row + 1) * width * 3];
        row.chunks(3).filter(|pixel| pixel[2] > 100 && pixel[0] < 100 && pixel[1] < 100).count()
    };
    let rows = height / LINE;
    let (first, last) = (blue(1), blue((rows - 1) * LINE + 1));
    ensure!(first > width / 2 && last > width / 2, "{first} and {last} of {width} pixels are the bars'");
    let is_written =
        |line: &usize| pixels[line * LINE * width * 3..][..LINE * width * 3].iter().any(|value| *value > 100);
    let written = (2..rows - 1).filter(is_written).count();
    ensure!(written > 8, "{written} lines are written between the bars");
    // The state in a word is in red at the end of the first line while the daemon is awaited.
    let end = &pixels[(2 * width - 1) * 3..2 * width * 3];
    ensure!(end[0] < 100 || end[1] > 50, "something is wrong on the screen");
    Ok(())
}

/// Holds the screen against its picture, or takes that anew.
fn judge(name: &str, terminal: &Terminal, has_findings: bool) -> Result<()> {
    let path = folder().join(format!("{name}.svg"));
    if blesses() {
        fs::create_dir_all(folder())?;
        return Ok(fs::write(path, terminal.draw())?);
    }
    let drawing = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let shown = terminal.text();
    let (kept, now) = (skeleton(&described(&drawing)), skeleton(&shown));
    // What hurts depends on how long the machine has been running, and takes room of what follows.
    let shared = if has_findings { kept.len().min(now.len()) } else { usize::MAX };
    let (kept, now) = (&kept[..kept.len().min(shared)], &now[..now.len().min(shared)]);
    ensure!(
        kept == now,
        "{} is not what the console looks like: BLESS=1 takes it anew.\n{kept:#?}\n{shown}",
        path.display()
    );
    Ok(())
}

/// The text of a drawing.
fn described(drawing: &str) -> String {
    let text = drawing.split("<desc>\n").nth(1).and_then(|rest| rest.split("</desc>").next()).unwrap_or_default();
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// What of a screen stays the same from second to second: pages, titles, names of values. Findings are left out.
/// Where a box lies over the page, it is the box.
fn skeleton(screen: &str) -> Vec<String> {
    if screen.contains('┌') {
        let inside = |line: &str| {
            let (_, rest) = line.split_once(['┌', '│', '└'])?;
            Some(rest.rsplit_once(['┐', '│', '┘'])?.0.trim().to_owned())
        };
        return screen.lines().filter_map(inside).collect();
    }
    let mut skeleton = Vec::new();
    let mut is_finding = false;
    for (row, line) in screen.lines().enumerate() {
        let title = line.strip_prefix("─ ").map(|rest| rest.split(" ─").next().unwrap_or_default());
        match (row, title) {
            (0, _) => skeleton.push(line.chars().take(20).collect()),
            (1, _) => skeleton.push(line.trim_end().to_owned()),
            (_, Some(title)) => {
                is_finding = ["Findings", "Notes"].contains(&title);
                if !is_finding {
                    skeleton.push(format!("─ {title}"));
                }
            }
            (_, None) => {
                let label: String = line.chars().take(13).collect();
                let label = label.trim();
                // There may be nothing to count now, and something a second later.
                let is_empty = label == "none";
                if !is_finding && !is_empty && label.starts_with(char::is_alphabetic) {
                    skeleton.push(label.to_owned());
                }
            }
        }
    }
    skeleton
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_findings_are_no_part_of_what_a_screen_looks_like() {
        let screen = |number: u32, finding: &str| {
            format!(
                " sixgate 0.1.0  gw1   up {number} s\n o Overview\n{finding}─ Services ─── x ──\n Uplink      up {number}\n {number} bit/s  ▄▄\n"
            )
        };
        let expected = [" sixgate 0.1.0  gw1 ", " o Overview", "─ Services", "Uplink"];
        assert_eq!(skeleton(&screen(1, "")), expected);
        assert_eq!(skeleton(&screen(77, "─ Findings ── 1 ──\n ERROR   it is so\n mend    leave it\n")), expected);
        assert_eq!(
            skeleton(" o Overview\n 7 s ┌ Actions ┐\n  8 s│ 1 Ping  │9\n     └─────────┘\n"),
            ["Actions", "1 Ping", "─────────"]
        );
    }

    #[test]
    fn every_picture_is_there_and_shows_this_version() {
        let names = PAGES.iter().map(|(_, name, _)| *name).chain(["overview"]);
        for name in names {
            let drawing = fs::read_to_string(folder().join(format!("{name}.svg"))).unwrap_or_default();
            let text = described(&drawing);
            let version = format!(" sixgate {}  gw1", env!("CARGO_PKG_VERSION"));
            assert!(text.starts_with(&version), "{name}: take the pictures anew, see docs/testing.md\n{text}");
        }
        for name in ["vga-seabios", "vga-ovmf"] {
            let picture = fs::read(folder().join(format!("{name}.png"))).unwrap_or_default();
            assert!(picture.starts_with(b"\x89PNG"), "{name}");
        }
    }
}

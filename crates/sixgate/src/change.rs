//! `sixgate apply`, `confirm`, `revert` and `history`: configurations that cannot lock anybody out; `why`.
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::control::{Client, PastConfiguration, Reply, Request, Session, emit_reply};
use crate::table::{Side, Table};
use crate::tasks::configuration::read_text;

/// What takes long shows how long it has taken this often.
const PROGRESS: Duration = Duration::from_secs(1);
/// How long a change is tried unless it is said.
pub const DEFAULT_TRIAL: &str = "60s";

/// Puts a file's content into force, for a trial where there is to be one.
pub fn apply(
    control: &Path,
    file: &Path,
    confirm: Option<Duration>,
    force: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let text = read_text(file).map_err(anyhow::Error::msg)?;
    let session = session().filter(|_| !force);
    let request = Request::Apply { text, confirm: confirm.map(|length| length.as_secs()), session };
    ask(control, &request, &told(confirm, "the configuration is in force and kept"), json)
}

/// Keeps what is on trial.
pub fn confirm(control: &Path, json: bool) -> anyhow::Result<ExitCode> {
    ask(control, &Request::Confirm, "the configuration is kept", json)
}

/// Goes back.
pub fn revert(
    control: &Path,
    to: Option<u64>,
    confirm: Option<Duration>,
    force: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let session = session().filter(|_| !force);
    let request = Request::Revert { to, confirm: confirm.map(|length| length.as_secs()), session };
    ask(control, &request, &told(confirm, "the earlier configuration is in force"), json)
}

/// Lists what is kept, or shows what came with one of them.
pub fn history(control: &Path, number: Option<u64>, json: bool) -> anyhow::Result<ExitCode> {
    let mut past = Client::connect(control)?.history()?;
    if let Some(number) = number {
        past.retain(|entry| entry.number == number);
        anyhow::ensure!(!past.is_empty(), "there is no configuration {number}; `sixgate history` lists what is kept");
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&past)?);
    } else if number.is_some() {
        past.iter().for_each(|entry| print!("{}", entry.difference));
    } else {
        print!("{}", list(&past));
    }
    Ok(ExitCode::SUCCESS)
}

/// The session that this command runs in, as sshd tells it.
fn session() -> Option<Session> {
    parse_session(&std::env::var("SSH_CONNECTION").ok()?)
}

/// Client's address and port, server's address and port.
fn parse_session(text: &str) -> Option<Session> {
    let mut words = text.split_whitespace();
    let (peer, _, local, port) = (words.next()?, words.next()?, words.next()?, words.next()?);
    Some(Session { peer: peer.parse().ok()?, local: local.parse().ok()?, port: port.parse().ok()? })
}

/// Tells what becomes of a conversation; fails where something stops it.
pub fn why(control: &Path, from: String, to: String, service: String, json: bool) -> anyhow::Result<ExitCode> {
    let steps = Client::connect(control)?.why(from, to, service)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&steps)?);
    } else {
        steps.iter().for_each(|step| println!("{step}"));
    }
    Ok(if steps.iter().all(|step| step.passes) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks something of the daemon or the machine.
pub fn machine(control: &Path, request: &Request, json: bool) -> anyhow::Result<ExitCode> {
    ask(control, request, "it is under way", json)
}

pub(crate) fn told(confirm: Option<Duration>, lasting: &str) -> String {
    match confirm {
        None => lasting.to_owned(),
        Some(length) => format!(
            "the configuration is on trial for {} s: `sixgate confirm` keeps it, else the one from before comes back",
            length.as_secs()
        ),
    }
}

/// Has something done; what takes long shows on a terminal that it goes on.
pub(crate) fn ask(control: &Path, request: &Request, told: &str, json: bool) -> anyhow::Result<ExitCode> {
    let progress = std::io::stderr().is_terminal().then(|| {
        let (done, ended) = mpsc::channel::<()>();
        let began = Instant::now();
        std::thread::spawn(move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(PROGRESS) {
                eprint!("\r{} s", began.elapsed().as_secs());
            }
        });
        done
    });
    let outcome = Client::connect(control)?.command(request);
    drop(progress);
    outcome?;
    accepted(told, json);
    Ok(ExitCode::SUCCESS)
}

/// Tells people or programs that it was done.
pub(crate) fn accepted(told: &str, json: bool) {
    if json { print!("{}", emit_reply(&Reply::Accepted)) } else { println!("{told}") }
}

fn list(past: &[PastConfiguration]) -> String {
    let mut table = Table::new([
        ("NUMBER", Side::Right),
        ("SINCE", Side::Left),
        ("BY", Side::Left),
        ("LINES NEW", Side::Right),
        ("GONE", Side::Right),
        ("", Side::Left),
    ]);
    for PastConfiguration { number, time, origin, in_force, added, removed, .. } in past {
        let force = if *in_force { "in force" } else { "" };
        table.row([
            number.to_string(),
            utc(*time),
            origin.clone(),
            format!("+{added}"),
            format!("-{removed}"),
            force.to_owned(),
        ]);
    }
    table.emit()
}

/// `60s`, `5m`, `2h`, or a number of seconds.
pub fn parse_length(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return Err(format!("\"{unit}\" is no unit of time; write 60s, 5m or 2h")),
    };
    let number: u64 = digits.parse().map_err(|_| "write a length of time such as 60s, 5m or 2h".to_owned())?;
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
}

/// Seconds since 1970 as a date and a time, UTC.
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Days since 1970-01-01 in the Gregorian calendar. Years begin in March here, so that leap days come last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_MARCH_OF_YEAR_0: u64 = 719_468;
    let days = days + DAYS_TO_MARCH_OF_YEAR_0;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, wrapped) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + wrapped, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_with_their_unit() {
        for (text, seconds) in [("60s", 60), ("60", 60), ("5m", 300), ("5min", 300), ("2h", 7200)] {
            assert_eq!(parse_length(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "5 m", "-5s", "5d", "99999999999999999999s", "9999999999999999999h"] {
            assert!(parse_length(text).is_err(), "{text}");
        }
        assert!(parse_length(DEFAULT_TRIAL).is_ok());
    }

    #[test]
    fn sshd_tells_the_session() {
        let session = parse_session("2001:db8::7 51234 2001:db8::1 22").unwrap();
        assert_eq!((session.peer, session.port), ("2001:db8::7".parse().unwrap(), 22));
        assert_eq!(parse_session("2001:db8::7 51234"), None);
    }

    #[test]
    fn dates_are_right_in_leap_years_and_centuries() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_798_761_600, "2027-01-01 00:00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }

    #[test]
    fn the_history_is_a_row_for_each_configuration() {
        let entry = PastConfiguration {
            number: 12,
            time: 0,
            origin: "apply".to_owned(),
            in_force: true,
            added: 3,
            removed: 1,
            difference: String::new(),
        };
        let expected = "\
NUMBER  SINCE                    BY     LINES NEW  GONE
    12  1970-01-01 00:00:00 UTC  apply         +3    -1  in force
";
        assert_eq!(list(&[entry]), expected);
    }
}

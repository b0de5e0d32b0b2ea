//! `sixgate capture`, `ping`, `trace`, `resolve` and `log`: what the router itself sees.
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use ct_codecs::{Base64, Decoder as _};

use crate::change::utc;
use crate::control::{Capture, Client, Event, Probe, ProbeOutcome, Reply, Request, Resolved, emit_reply};

/// How often the log is asked for what is new.
const FOLLOW: Duration = Duration::from_millis(500);

/// Writes a capture to a file as it comes, or shows a line for each packet.
pub fn capture(control: &Path, wanted: Capture, file: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    let mut out: Option<Box<dyn Write>> = match file {
        None => None,
        Some(path) if path == Path::new("-") => {
            anyhow::ensure!(!io::stdout().is_terminal(), "a capture is no text: write it into a file or a pipe");
            Some(Box::new(io::stdout()))
        }
        Some(path) => {
            let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
            Some(Box::new(file))
        }
    };
    let progress = file.is_some() && io::stderr().is_terminal();
    let mut failed = None;
    let mut packets = 0;
    let told = |reply: Option<Reply>| {
        let Some(Reply::Captured { file, lines }) = reply else { return ControlFlow::Continue(()) };
        packets += lines.len();
        let written = match &mut out {
            None if json => io::stdout().write_all(emit_reply(&Reply::Captured { file, lines }).as_bytes()),
            None => lines.iter().try_for_each(|line| writeln!(io::stdout(), "{line}")),
            Some(out) => match Base64::decode_to_vec(file, None) {
                Ok(bytes) => out.write_all(&bytes).and_then(|()| out.flush()),
                Err(_) => Err(io::Error::other("the daemon sent something that is no part of a capture")),
            },
        };
        if progress {
            eprint!("\r{packets} packets");
        }
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let ended = Client::connect(control)?.stream(&Request::Capture(wanted), told);
    if progress {
        eprintln!("\r{packets} packets");
    }
    match failed {
        // Whoever read it has seen enough.
        Some(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Some(error) => Err(error).context("the capture cannot be written"),
        None => {
            ended?;
            // A file that goes to standard output is all that may go there.
            if json && file != Some(Path::new("-")) {
                print!("{}", emit_reply(&Reply::Accepted));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Shows what comes of echo requests; fails where the host has not answered at all.
pub fn probe(control: &Path, request: &Request, json: bool) -> anyhow::Result<ExitCode> {
    let mut answered = false;
    Client::connect(control)?.stream(request, |reply| {
        let Some(Reply::Probe { probe }) = reply else { return ControlFlow::Continue(()) };
        answered |= probe.outcome == ProbeOutcome::Reply;
        let line = if json { serde_json::to_string(&probe).unwrap_or_default() } else { probe_line(&probe) };
        if writeln!(io::stdout(), "{line}").is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came of an echo request, for people.
pub fn probe_line(probe: &Probe) -> String {
    let Probe { sequence, to, from, micros, outcome, .. } = probe;
    let from = from.map_or_else(|| to.to_string(), |from| from.to_string());
    let took = micros.map_or_else(String::new, |micros| format!("  {}.{:03} ms", micros / 1_000, micros % 1_000));
    match outcome {
        ProbeOutcome::Reply => format!("{sequence:>3}  {from}{took}"),
        ProbeOutcome::HopLimit if probe.hops.is_some() => format!("{sequence:>3}  {from}{took}"),
        ProbeOutcome::HopLimit => format!("{sequence:>3}  {from}{took}  the hop limit was used up: a loop?"),
        ProbeOutcome::Unreachable(code) => format!("{sequence:>3}  {from}{took}  says: unreachable, code {code}"),
        ProbeOutcome::Silence if probe.hops.is_some() => format!("{sequence:>3}  nobody answers"),
        ProbeOutcome::Silence => format!("{sequence:>3}  {to} does not answer"),
        ProbeOutcome::NotSent(why) => format!("{sequence:>3}  cannot be sent to {to}: {why}"),
    }
}

/// Shows what the resolver says about a name; fails where there is no address.
pub fn resolve(control: &Path, name: String, synthesis: bool, json: bool) -> anyhow::Result<ExitCode> {
    let resolved = Client::connect(control)?.resolve(name, synthesis)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&resolved)?);
    } else {
        resolved_lines(&resolved).iter().for_each(|line| println!("{line}"));
    }
    Ok(if resolved.addresses.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the resolver says, for people.
pub fn resolved_lines(resolved: &Resolved) -> Vec<String> {
    let mut lines = resolved.records.clone();
    lines.extend(resolved.errors.iter().map(|error| format!("refused: {error}")));
    if lines.is_empty() {
        lines.push("the name has no address".to_owned());
    }
    let server = resolved.server.map_or_else(String::new, |server| format!("{server}, "));
    lines.push(format!("({server}{}.{:03} ms)", resolved.micros / 1_000, resolved.micros % 1_000));
    lines
}

/// Shows what was logged, and goes on where that is wanted.
pub fn log(control: &Path, follow: bool, json: bool) -> anyhow::Result<ExitCode> {
    let mut after = 0;
    loop {
        for event in Client::connect(control)?.log(after)? {
            after = event.number;
            let line = if json { serde_json::to_string(&event)? } else { event_line(&event) };
            match writeln!(io::stdout(), "{line}") {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                Err(error) => return Err(error.into()),
            }
        }
        if !follow {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(FOLLOW);
    }
}

fn event_line(event: &Event) -> String {
    let Event { at, level, source, text, .. } = event;
    format!("{}  {level:<5}  {source:<13}  {text}", utc(at / 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_sentence() {
        let probe = |hops, from: Option<&str>, outcome| Probe {
            sequence: 2,
            to: "2001:db8::9".parse().unwrap(),
            hops,
            from: from.map(|from| from.parse().unwrap()),
            micros: from.map(|_| 1_234),
            outcome,
        };
        let line = |hops, from, outcome| probe_line(&probe(hops, from, outcome));
        assert_eq!(line(None, Some("2001:db8::9"), ProbeOutcome::Reply), "  2  2001:db8::9  1.234 ms");
        assert_eq!(line(Some(2), Some("fe80::1"), ProbeOutcome::HopLimit), "  2  fe80::1  1.234 ms");
        assert_eq!(line(Some(2), None, ProbeOutcome::Silence), "  2  nobody answers");
        assert_eq!(line(None, None, ProbeOutcome::Silence), "  2  2001:db8::9 does not answer");
        assert!(line(None, Some("fe80::1"), ProbeOutcome::Unreachable(1)).contains("unreachable, code 1"));
        assert!(line(None, None, ProbeOutcome::NotSent("no route".to_owned())).contains("no route"));
    }

    #[test]
    fn a_name_without_an_address_is_told_in_words() {
        assert_eq!(resolved_lines(&Resolved::default()), ["the name has no address", "(0.000 ms)"]);
    }
}

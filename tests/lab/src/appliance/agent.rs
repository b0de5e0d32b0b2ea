//! The guest agent's other end, as strict as Proxmox's: both answers of a conversation are found by one pattern.
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Unit;
use super::unit::AGENT_PORT;

const PATIENCE: Duration = Duration::from_secs(60);

/// Asks one question, preceded by a sync in the same write.
pub(super) fn ask(unit: &mut Unit, command: &str, arguments: &Value) -> Result<Value> {
    let mut port = unit.machine()?.port(AGENT_PORT)?;
    port.set_read_timeout(Some(Duration::from_millis(200)))?;
    let number = Instant::now().elapsed().as_nanos() as u64 % 100_000 + 1;
    let sync = json!({ "execute": "guest-sync-delimited", "arguments": { "id": number } });
    let question = json!({ "execute": command, "arguments": arguments });
    let mut bytes = vec![0xff];
    bytes.extend(format!("{sync}\n{question}\n").into_bytes());
    port.write_all(&bytes)?;
    let (synced, answer) = conversation(&mut port).with_context(|| command.to_owned())?;
    ensure!(synced == json!({ "return": number }), "the sync came back as {synced}");
    match answer.get("error") {
        Some(error) => bail!("{command}: {error}"),
        None => Ok(answer["return"].clone()),
    }
}

/// Says something that has no answer.
pub(super) fn tell(unit: &mut Unit, command: &str, arguments: &Value) -> Result<()> {
    let mut port = unit.machine()?.port(AGENT_PORT)?;
    Ok(port.write_all(format!("{}\n", json!({ "execute": command, "arguments": arguments })).as_bytes())?)
}

fn conversation(port: &mut UnixStream) -> Result<(Value, Value)> {
    let deadline = Instant::now() + PATIENCE;
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some((sync, answer)) = pattern(&heard) {
            return Ok((serde_json::from_slice(sync)?, serde_json::from_slice(answer)?));
        }
        ensure!(Instant::now() < deadline, "the agent said only {:?}", String::from_utf8_lossy(&heard));
        match port.read(&mut buffer) {
            Ok(0) => bail!("the port was closed after {:?}", String::from_utf8_lossy(&heard)),
            Ok(length) => heard.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// `^.*\xff([^\n]+}\r?\n[^\n]+})\r?\n`, with `.` for any byte.
fn pattern(heard: &[u8]) -> Option<(&[u8], &[u8])> {
    let begin = heard.iter().rposition(|byte| *byte == 0xff)? + 1;
    let mut lines = heard[begin..].split_inclusive(|byte| *byte == b'\n');
    let mut object = || {
        let line = lines.next()?.strip_suffix(b"\n")?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (line.len() > 1 && line.ends_with(b"}")).then_some(line)
    };
    Some((object()?, object()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_wants_two_whole_lines_behind_the_delimiter() {
        assert_eq!(pattern(b"{}\n{}\n"), None);
        assert_eq!(pattern(b"\xff{\"return\":1}\n{\"return\""), None);
        let (one, two) = pattern(b"old\xff{\"return\":1}\n{\"return\":{}}\n").unwrap();
        assert_eq!((one, two), (&b"{\"return\":1}"[..], &b"{\"return\":{}}"[..]));
        assert_eq!(pattern(b"\xff{\"return\":1} \n{}\n"), None);
    }
}

//! QEMU's monitor protocol: one JSON object per line, a command at a time.
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take over an answer.
const ANSWER: Duration = Duration::from_secs(20);

/// A connection to a machine's monitor.
pub struct Qmp {
    answers: BufReader<UnixStream>,
}

impl Qmp {
    /// Greets and switches to command mode.
    pub fn open(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut qmp = Self { answers: BufReader::new(stream) };
        let greeting = qmp.line()?;
        if greeting.get("QMP").is_none() {
            bail!("this is not a QEMU monitor: {greeting}");
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns its answer; events that come before it are skipped.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.answers.get_mut(), "{request}")?;
        loop {
            let mut line = self.line()?;
            if let Some(answer) = line.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = line.get("error") {
                bail!("QEMU refuses {command}: {}", error["desc"].as_str().unwrap_or("without a reason"));
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self.answers.read_line(&mut line).context("QEMU's monitor does not answer")?;
        if length == 0 {
            bail!("QEMU closed its monitor");
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU's monitor said {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A monitor that greets, accepts the capabilities and then plays these lines.
    fn monitor(lines: &'static [&'static str]) -> Qmp {
        let (host, qemu) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut requests = BufReader::new(qemu.try_clone().unwrap()).lines();
            writeln!(&qemu, "{{\"QMP\": {{}}}}").unwrap();
            requests.next();
            writeln!(&qemu, "{{\"return\": {{}}}}").unwrap();
            requests.next();
            for line in lines {
                writeln!(&qemu, "{line}").unwrap();
            }
        });
        Qmp::open(host).unwrap()
    }

    #[test]
    fn an_event_before_the_answer_is_skipped() {
        let mut qmp = monitor(&[r#"{"event": "RESUME"}"#, r#"{"return": {"running": true}}"#]);
        assert_eq!(qmp.execute("query-status", &json!({})).unwrap()["running"], true);
    }

    #[test]
    fn a_refusal_names_the_command_and_the_reason() {
        let mut qmp = monitor(&[r#"{"error": {"class": "GenericError", "desc": "no such thing"}}"#]);
        let error = qmp.execute("eject", &json!({})).unwrap_err().to_string();
        assert_eq!(error, "QEMU refuses eject: no such thing");
    }
}

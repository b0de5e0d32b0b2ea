//! QEMU's guest agent: the host's questions about this machine, on a virtio-serial port, one JSON object after the other.
//!
//! It runs as a process of its own, so that it answers while the router is down. It gives information, freezes the state's
//! file system for backups and ends the machine; it runs nothing and touches no file for the host.
mod answer;
mod interfaces;

use std::process::ExitCode;

use serde_json::{Value, json};
use sixgate_linux::confine;
use sixgate_linux::virtio_port::{self, Incoming, VirtioPort};

use answer::{Agent, Reply};

/// The port's name.
pub const PORT: &str = "org.qemu.guest_agent.0";
/// The longest question; what goes on longer is dropped.
const MOST: usize = 64 << 10;
/// Separates a conversation from what an earlier one left behind. No JSON contains this byte.
const DELIMITER: u8 = 0xff;

/// Answers until the port is gone.
pub fn run() -> anyhow::Result<ExitCode> {
    confine::keep_capabilities(confine::AGENT)?;
    confine::refuse_what_nobody_needs()?;
    let device = virtio_port::find(PORT).ok_or_else(|| anyhow::anyhow!("there is no port {PORT}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut port = VirtioPort::open(&device)?;
        let mut agent = Agent::default();
        let mut input = Vec::new();
        while let Some(incoming) = port.read().await {
            let Incoming::Bytes(bytes) = incoming else {
                input.clear();
                continue;
            };
            for question in questions(&mut input, &bytes) {
                if let Some(answer) = emit(&question, agent.answer(&question).await) {
                    port.write(answer).await;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// A question as it was understood: JSON, or not.
#[derive(Debug, PartialEq)]
enum Question {
    Object(Value),
    Garbage,
}

/// The questions that these bytes complete. An object is complete without the end of its line.
fn questions(input: &mut Vec<u8>, bytes: &[u8]) -> Vec<Question> {
    let mut found = Vec::new();
    for part in bytes.split_inclusive(|byte| *byte == DELIMITER) {
        let (part, delimited) = part.strip_suffix(&[DELIMITER]).map_or((part, false), |part| (part, true));
        input.extend_from_slice(part);
        take(input, &mut found);
        if delimited || input.len() > MOST {
            input.clear();
        }
    }
    found
}

fn take(input: &mut Vec<u8>, found: &mut Vec<Question>) {
    loop {
        let mut stream = serde_json::Deserializer::from_slice(input).into_iter::<Value>();
        match stream.next() {
            Some(Ok(value)) => {
                let used = stream.byte_offset();
                input.drain(..used);
                found.push(Question::Object(value));
            }
            Some(Err(error)) if error.is_eof() => return,
            Some(Err(_)) => {
                // Whatever it was, it ends with its line.
                found.push(Question::Garbage);
                let end = input.iter().position(|byte| *byte == b'\n').map_or(input.len(), |end| end + 1);
                input.drain(..end);
            }
            None => {
                input.clear();
                return;
            }
        }
    }
}

/// One line, which ends in `}` directly before its end; a delimited one begins with the delimiter.
fn emit(question: &Question, reply: Reply) -> Option<Vec<u8>> {
    let delimited = matches!(question, Question::Object(object) if object["execute"] == "guest-sync-delimited");
    let line = match reply {
        Reply::Silence => return None,
        Reply::Value(value) => json!({ "return": value }),
        Reply::Refusal(class, text) => json!({ "error": { "class": class, "desc": text } }),
    };
    let mut bytes = if delimited { vec![DELIMITER] } else { Vec::new() };
    bytes.extend(line.to_string().into_bytes());
    bytes.push(b'\n');
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(found: &[Question]) -> Vec<&str> {
        let name = |question: &Question| match question {
            Question::Object(object) => object["execute"].as_str().unwrap_or("?").to_owned().leak() as &str,
            Question::Garbage => "garbage",
        };
        found.iter().map(name).collect()
    }

    #[test]
    fn two_questions_in_one_write_are_two_questions() {
        let mut input = Vec::new();
        let bytes =
            b"\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":7}}\n{\"execute\":\"guest-ping\"}";
        assert_eq!(objects(&questions(&mut input, bytes)), ["guest-sync-delimited", "guest-ping"]);
        assert!(input.is_empty());
    }

    #[test]
    fn a_delimiter_ends_what_an_earlier_conversation_began() {
        let mut input = Vec::new();
        assert!(questions(&mut input, b"{\"execute\":\"gue").is_empty());
        assert_eq!(objects(&questions(&mut input, b"\xff{\"execute\":\"guest-ping\"}\n")), ["guest-ping"]);
        assert_eq!(objects(&questions(&mut input, b"{\"execute\":")), [] as [&str; 0]);
        assert_eq!(objects(&questions(&mut input, b"\"guest-info\"}\n")), ["guest-info"]);
    }

    #[test]
    fn garbage_is_answered_and_ends_with_its_line() {
        let mut input = Vec::new();
        let found = questions(&mut input, b"what is this\n{\"execute\":\"guest-ping\"}\n");
        assert_eq!(objects(&found), ["garbage", "guest-ping"]);
        for _ in 0..10 {
            questions(&mut input, &[b'['; 16 << 10]);
        }
        assert!(input.len() <= MOST);
    }

    #[test]
    fn an_answer_is_one_line_and_a_delimited_one_says_so() {
        let sync = Question::Object(json!({ "execute": "guest-sync-delimited", "arguments": { "id": 7 } }));
        assert_eq!(emit(&sync, Reply::Value(json!(7))).unwrap(), b"\xff{\"return\":7}\n");
        let ping = Question::Object(json!({ "execute": "guest-ping" }));
        assert_eq!(emit(&ping, Reply::Value(json!({}))).unwrap(), b"{\"return\":{}}\n");
        assert_eq!(emit(&ping, Reply::Silence), None);
    }
}

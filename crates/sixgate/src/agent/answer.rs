//! Answers to the host's questions.
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sixgate_linux::pid1::filesystem;

use super::{Question, interfaces};
use crate::init::STATE_HOME;

/// What is answered.
pub(super) enum Reply {
    /// A value.
    Value(Value),
    /// A refusal: its class in QEMU's words, and a sentence.
    Refusal(&'static str, String),
    /// Nothing: the machine ends.
    Silence,
}

/// What is served.
const SERVED: &[&str] = &[
    "guest-fsfreeze-freeze",
    "guest-fsfreeze-status",
    "guest-fsfreeze-thaw",
    "guest-fstrim",
    "guest-get-fsinfo",
    "guest-get-host-name",
    "guest-get-memory-block-info",
    "guest-get-memory-blocks",
    "guest-get-osinfo",
    "guest-get-time",
    "guest-get-timezone",
    "guest-get-users",
    "guest-get-vcpus",
    "guest-info",
    "guest-network-get-interfaces",
    "guest-ping",
    "guest-shutdown",
    "guest-sync",
    "guest-sync-delimited",
];

/// What is known and refused: the host may not run anything here, nor read or write files, nor set passwords.
const REFUSED: &[&str] = &[
    "guest-exec",
    "guest-exec-status",
    "guest-file-close",
    "guest-file-flush",
    "guest-file-open",
    "guest-file-read",
    "guest-file-seek",
    "guest-file-write",
    "guest-set-user-password",
    "guest-ssh-add-authorized-keys",
    "guest-ssh-get-authorized-keys",
    "guest-ssh-remove-authorized-keys",
];

/// What may be asked while the file system is frozen.
const WHILE_FROZEN: &[&str] =
    &["guest-fsfreeze-status", "guest-fsfreeze-thaw", "guest-info", "guest-ping", "guest-sync", "guest-sync-delimited"];

/// The agent between two questions.
#[derive(Debug, Default)]
pub(super) struct Agent {
    frozen: bool,
}

impl Agent {
    /// Answers a question.
    pub(super) async fn answer(&mut self, question: &Question) -> Reply {
        let Question::Object(object) = question else { return refusal("this is no JSON") };
        let Some(name) = object["execute"].as_str() else { return refusal("an object with `execute` is expected") };
        if REFUSED.contains(&name) {
            return Reply::Refusal("CommandNotFound", format!("{name} is not allowed on this router"));
        }
        if self.frozen && !WHILE_FROZEN.contains(&name) {
            return refusal("the file system is frozen");
        }
        match name {
            "guest-sync" | "guest-sync-delimited" => Reply::Value(object["arguments"]["id"].clone()),
            "guest-ping" => Reply::Value(json!({})),
            "guest-info" => Reply::Value(info()),
            "guest-network-get-interfaces" => match interfaces::all().await {
                Ok(interfaces) => Reply::Value(interfaces),
                Err(error) => refusal(&format!("the interfaces cannot be read: {error}")),
            },
            "guest-get-osinfo" => Reply::Value(os_info()),
            "guest-get-host-name" => Reply::Value(json!({ "host-name": text("/proc/sys/kernel/hostname") })),
            "guest-get-time" => Reply::Value(json!(nanoseconds())),
            "guest-get-timezone" => Reply::Value(json!({ "zone": "UTC", "offset": 0 })),
            "guest-get-users" | "guest-get-memory-blocks" => Reply::Value(json!([])),
            "guest-get-memory-block-info" => Reply::Value(json!({ "size": memory_block() })),
            "guest-get-vcpus" => Reply::Value(processors(Path::new("/sys/devices/system/cpu"))),
            "guest-get-fsinfo" => Reply::Value(file_systems()),
            "guest-fsfreeze-status" => Reply::Value(json!(if self.frozen { "frozen" } else { "thawed" })),
            "guest-fsfreeze-freeze" => self.freeze(),
            "guest-fsfreeze-thaw" => self.thaw(),
            "guest-fstrim" => trim(),
            "guest-shutdown" => shutdown(object["arguments"]["mode"].as_str().unwrap_or("powerdown")),
            other => Reply::Refusal("CommandNotFound", format!("the command {other} has not been found")),
        }
    }

    fn freeze(&mut self) -> Reply {
        if !is_mounted() {
            return Reply::Value(json!(0));
        }
        match filesystem::freeze(Path::new(STATE_HOME)) {
            Ok(()) => {
                self.frozen = true;
                Reply::Value(json!(1))
            }
            Err(error) => refusal(&format!("the file system cannot be frozen: {error}")),
        }
    }

    fn thaw(&mut self) -> Reply {
        let was = std::mem::take(&mut self.frozen);
        match filesystem::thaw(Path::new(STATE_HOME)) {
            Err(error) if was => refusal(&format!("the file system cannot be thawed: {error}")),
            Ok(()) | Err(_) => Reply::Value(json!(u8::from(was))),
        }
    }
}

fn refusal(text: &str) -> Reply {
    Reply::Refusal("GenericError", text.to_owned())
}

fn info() -> Value {
    let command = |name: &&str, enabled: bool| json!({ "name": name, "enabled": enabled, "success-response": *name != "guest-shutdown" });
    let served = SERVED.iter().map(|name| command(name, true));
    let commands: Vec<Value> = served.chain(REFUSED.iter().map(|name| command(name, false))).collect();
    json!({ "version": env!("CARGO_PKG_VERSION"), "supported_commands": commands })
}

fn os_info() -> Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "id": "sixgate",
        "name": "sixgate",
        "pretty-name": format!("sixgate {version}"),
        "version": version,
        "version-id": version,
        "kernel-release": text("/proc/sys/kernel/osrelease"),
        "kernel-version": text("/proc/sys/kernel/version"),
        "machine": "x86_64",
    })
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn memory_block() -> u64 {
    u64::from_str_radix(&text("/sys/devices/system/memory/block_size_bytes"), 16).unwrap_or_default()
}

fn processors(folder: &Path) -> Value {
    let mut numbers: Vec<u32> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("cpu")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let online = |number: u32| {
        // The first processor often has no such file: it cannot be taken offline.
        let file = folder.join(format!("cpu{number}/online"));
        fs::read_to_string(file).is_ok_and(|text| text.trim() == "0")
    };
    let described = numbers
        .into_iter()
        .map(|number| json!({ "logical-id": number, "online": !online(number), "can-offline": false }));
    Value::Array(described.collect())
}

/// The device that is mounted where the state is.
fn state_device() -> Option<(String, String)> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (device, place, kind) = (words.next()?, words.next()?, words.next()?);
        (place == STATE_HOME).then(|| (device.rsplit('/').next().unwrap_or(device).to_owned(), kind.to_owned()))
    })
}

fn is_mounted() -> bool {
    state_device().is_some()
}

fn file_systems() -> Value {
    let Some((device, kind)) = state_device() else { return json!([]) };
    let room = rustix::fs::statvfs(STATE_HOME);
    let (total, used) =
        room.map_or((0, 0), |room| (room.f_blocks * room.f_frsize, (room.f_blocks - room.f_bfree) * room.f_frsize));
    json!([{
        "name": device, "mountpoint": STATE_HOME, "type": kind, "disk": [], "total-bytes": total, "used-bytes": used,
    }])
}

fn trim() -> Reply {
    if !is_mounted() {
        return Reply::Value(json!({ "paths": [] }));
    }
    let path = match filesystem::trim(Path::new(STATE_HOME)) {
        Ok(trimmed) => json!({ "path": STATE_HOME, "trimmed": trimmed, "minimum": 0 }),
        Err(error) => json!({ "path": STATE_HOME, "error": error.to_string() }),
    };
    Reply::Value(json!({ "paths": [path] }))
}

/// Process 1 ends the machine when it is asked by a signal.
fn shutdown(mode: &str) -> Reply {
    let signal = match mode {
        "powerdown" | "halt" => Signal::TERM,
        "reboot" => Signal::INT,
        other => return refusal(&format!("the mode {other} is unknown")),
    };
    match kill_process(Pid::INIT, signal) {
        Ok(()) => Reply::Silence,
        Err(error) => refusal(&format!("process 1 cannot be told: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(agent: &mut Agent, question: Value) -> Value {
        match agent.answer(&Question::Object(question)).await {
            Reply::Value(value) => value,
            Reply::Refusal(class, text) => json!({ "class": class, "text": text }),
            Reply::Silence => Value::Null,
        }
    }

    #[tokio::test]
    async fn the_identifier_of_a_sync_comes_back_as_the_number_it_was() {
        let mut agent = Agent::default();
        let question = json!({ "execute": "guest-sync-delimited", "arguments": { "id": 4_294_967_295_u64 } });
        assert_eq!(ask(&mut agent, question).await, json!(4_294_967_295_u64));
    }

    #[tokio::test]
    async fn nothing_is_run_and_no_file_is_touched_for_the_host() {
        let mut agent = Agent::default();
        for name in REFUSED {
            let refused = ask(&mut agent, json!({ "execute": name, "arguments": { "path": "/bin/sh" } })).await;
            assert_eq!(refused["class"], "CommandNotFound", "{name}");
        }
        let info = ask(&mut agent, json!({ "execute": "guest-info" })).await;
        let listed = info["supported_commands"].as_array().unwrap();
        assert_eq!(listed.len(), SERVED.len() + REFUSED.len());
        assert!(listed.iter().all(|command| command["enabled"] == SERVED.contains(&command["name"].as_str().unwrap())));
    }

    #[tokio::test]
    async fn every_served_command_is_known() {
        for name in SERVED.iter().filter(|name| !["guest-shutdown", "guest-fstrim"].contains(name)) {
            let mut agent = Agent::default();
            let answer = ask(&mut agent, json!({ "execute": name })).await;
            assert_ne!(answer["class"], "CommandNotFound", "{name}");
        }
        let mode =
            ask(&mut Agent::default(), json!({ "execute": "guest-shutdown", "arguments": { "mode": "x" } })).await;
        assert_eq!(mode["class"], "GenericError");
    }

    #[tokio::test]
    async fn a_frozen_machine_answers_only_what_does_not_write() {
        let mut agent = Agent { frozen: true };
        assert_eq!(ask(&mut agent, json!({ "execute": "guest-fsfreeze-status" })).await, json!("frozen"));
        assert_eq!(ask(&mut agent, json!({ "execute": "guest-fstrim" })).await["class"], "GenericError");
        assert_eq!(ask(&mut agent, json!({ "execute": "guest-ping" })).await, json!({}));
    }

    #[test]
    fn a_processor_without_a_switch_is_online() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cpu0", "cpu1", "cpufreq"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("cpu1/online"), "0\n").unwrap();
        let processors = processors(folder.path());
        assert_eq!((processors[0]["online"].as_bool(), processors[1]["online"].as_bool()), (Some(true), Some(false)));
        assert_eq!(processors.as_array().unwrap().len(), 2);
    }
}

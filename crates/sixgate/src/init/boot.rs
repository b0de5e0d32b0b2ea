//! From the kernel's hand-over to a machine on which `sixgate run` can start. Nothing here is fatal: what fails is said, the rest goes on.
use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use sixgate_linux::pid1;
use sixgate_linux::pid1::lock;
use sixgate_linux::pid1::modules::Modules;
use sixgate_linux::pid1::mounts;
use sixgate_linux::pid1::power;
use sixgate_linux::pid1::random;

use super::starter;
use super::supervisor::CONFIG;
use super::timeline::{self, mark};
use super::voice::Voice;

/// Modules to load at every boot before the disk is looked at, one a line.
const FIRST: &str = "/etc/modules.first";
/// And afterwards.
const PRELOAD: &str = "/etc/modules";

/// A driver that reveals hardware which reveals hardware: nothing is nested deeper than that.
const COLD_PLUG_PASSES: usize = 4;

/// Disks that appear late, a damaged file system that is made new: all of that under emulation.
const PREPARED_WITHIN: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How much the thread that waits for random numbers gives way: the kernel makes them while it is let run now and then.
const GIVES_WAY: i32 = 10;

/// Brings the machine up. What takes its time without a processor is begun first: random numbers, duplicate address detection
/// on the cards, the disk.
pub(super) fn boot(voice: &mut Voice) {
    let reached = pid1::since_boot();
    voice.say(format_args!("sixgate {} starts", env!("CARGO_PKG_VERSION")));
    for (target, error) in mounts::mount_all() {
        voice.say(format_args!("cannot mount {target}: {error}"));
    }
    timeline::begin(reached);
    gather_randomness();
    voice.attempt("Ctrl-Alt-Del will reset at once", power::catch_ctrl_alt_del());
    voice.attempt("the kernel's log stays limited", pid1::open_kernel_log_to_programs());
    for (value, error) in lock::set_values() {
        voice.say(format_args!("the kernel keeps {value}: {error}"));
    }
    let mut modules = Modules::open();
    let mut count = load(&mut modules, FIRST, voice) + cold_plug(&mut modules);
    starter::raise_cards();
    mark("cards raised");
    let preparing = begin_to_prepare(voice);
    count += load(&mut modules, PRELOAD, voice);
    voice.say(format_args!("{count} modules loaded"));
    mark("modules");
    if let Some(preparing) = preparing {
        await_prepared(preparing, voice);
    }
    mark("state");
    let hostname = hostname(&fs::read_to_string(CONFIG).unwrap_or_default());
    voice.attempt("cannot set the host name", pid1::set_hostname(&hostname));
    voice.attempt("cannot raise the loopback interface", pid1::raise_loopback());
    voice.attempt("no random numbers", random::wait());
    voice.say("random numbers are ready");
    mark("random numbers");
}

/// Without another source the kernel makes random numbers only while somebody waits for them.
fn gather_randomness() {
    let gather = || {
        let _ = rustix::process::setpriority_process(None, GIVES_WAY);
        let _ = random::wait();
    };
    // Without the thread the wait comes at the end.
    let _ = thread::Builder::new().name("random".into()).spawn(gather);
}

/// State and first boot, by a process that may fail or hang without taking this one along.
fn begin_to_prepare(voice: &Voice) -> Option<Child> {
    let started = std::env::current_exe().and_then(|program| Command::new(program).arg("prepare").spawn());
    started.inspect_err(|error| voice.say(format_args!("the machine cannot be prepared: {error}"))).ok()
}

fn await_prepared(mut child: Child, voice: &Voice) {
    let deadline = Instant::now() + PREPARED_WITHIN;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return,
            Ok(Some(status)) => return voice.say(format_args!("preparing the machine ended with {status}")),
            Ok(None) if Instant::now() < deadline => thread::sleep(LOOK_AGAIN),
            Ok(None) | Err(_) => {
                voice.attempt("it cannot be ended", child.kill());
                return voice.say("preparing the machine took too long");
            }
        }
    }
}

/// The modules that a file names.
fn load(modules: &mut Modules, list: &str, voice: &Voice) -> usize {
    let mut count = 0;
    for name in fs::read_to_string(list).unwrap_or_default().split_whitespace() {
        match modules.load(name) {
            Ok(new) => count += new,
            Err(error) => voice.say(format_args!("cannot load a module: {error}")),
        }
    }
    count
}

/// The drivers of all hardware.
fn cold_plug(modules: &mut Modules) -> usize {
    let passes = (0..COLD_PLUG_PASSES).map(|_| modules.cold_plug());
    passes.take_while(|new| *new > 0).sum()
}

/// The name in a configuration, whatever else is wrong with it; `sixgate run` judges the whole.
fn hostname(config: &str) -> String {
    let table: Option<toml::Table> = config.parse().ok();
    let name = table.as_ref().and_then(|table| table.get("hostname")?.as_str());
    let fits = |name: &&str| !name.is_empty() && name.len() <= 64;
    name.filter(fits).unwrap_or("sixgate").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_name_is_found_in_a_file_that_is_wrong_elsewhere() {
        assert_eq!(hostname("hostname = \"edge\"\n[wan]\nnonsense = 1\n"), "edge");
    }

    #[test]
    fn without_a_usable_name_the_machine_is_called_sixgate() {
        let long = format!("hostname = \"{}\"", "x".repeat(65));
        for config in ["", "hostname = 3", "hostname = \"\"", "not toml", long.as_str()] {
            assert_eq!(hostname(config), "sixgate", "{config}");
        }
    }
}

//! Process 1 after booting: it reaps, keeps the programs running, and ends the machine when somebody asks for it.
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sixgate_linux::pid1;
use sixgate_linux::pid1::children::{self, End};
use sixgate_linux::pid1::consoles::{self, Console};
use sixgate_linux::pid1::lock;
use sixgate_linux::pid1::power::{self, Ending, PowerButton};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::mpsc;

use super::loader;
use super::service::Service;
use super::voice::Voice;
use crate::agent;
use crate::lifecycle::{EXIT_POWER_OFF, EXIT_REBOOT, SUPERVISOR_VARIABLE};

/// The router's configuration.
pub(crate) const CONFIG: &str = "/etc/sixgate/sixgate.toml";

/// How long the router may take to withdraw from its networks before the machine ends.
const STOP: Duration = Duration::from_secs(5);

/// How often the watchdog is fed; it waits for half a minute.
const FEED: Duration = Duration::from_secs(5);

/// How long a system on trial may take to prove healthy.
const TRIAL: Duration = Duration::from_secs(300);

/// When modules and kernel are locked: the ruleset's own modules are loaded by then, and the router serves.
const LOCK_AFTER: Duration = Duration::from_secs(15);

/// From which level on the kernel's messages are shown: while something is drawn, emergencies only; otherwise informational ones.
const DRAWN: u8 = 1;
const LOGGED: u8 = 7;

/// Supervises until the machine ends; returns only when not even that works.
pub(super) fn supervise(voice: &mut Voice) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ending = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match Supervisor::new(voice) {
                Ok(supervisor) => supervisor.run().await,
                Err(error) => fail(voice, &error),
            }
        }),
        Err(error) => fail(voice, &error),
    };
    voice.say(match ending {
        Ending::PowerOff => "powering off",
        Ending::Reboot => "rebooting",
    });
    voice.attempt("the kernel refuses", power::end(ending));
    ExitCode::FAILURE
}

fn fail(voice: &Voice, error: &io::Error) -> Ending {
    voice.say(format_args!("cannot supervise: {error}"));
    Ending::Reboot
}

struct Supervisor<'a> {
    voice: &'a mut Voice,
    router: Service,
    /// Consoles, and the guest agent where the host asks for one.
    others: Vec<Service>,
    has_consoles: bool,
    /// Resets the machine unless it is written to: nothing else notices that process 1 hangs.
    watchdog: Option<File>,
    /// When a system on trial is given up.
    trial_ends: Option<Instant>,
    children: Signals,
    /// Ctrl-Alt-Del.
    interrupt: Signals,
    terminate: Signals,
    button: mpsc::Receiver<()>,
}

impl<'a> Supervisor<'a> {
    fn new(voice: &'a mut Voice) -> io::Result<Self> {
        let now = Instant::now();
        let children = signal(SignalKind::child())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let button = watch_power_button(voice);
        let router = Service::new("sixgate run", now, run_command);
        // `sixgate.consoles=log` shows the log instead of drawing: for looking into a machine that does not come up.
        let mut others: Vec<Service> = if pid1::kernel_argument("sixgate.consoles").as_deref() == Some("log") {
            voice.attempt("cannot set the console's level", pid1::set_console_level(LOGGED));
            Vec::new()
        } else {
            let found = consoles::present();
            let console =
                |console: Console| Service::new(&name(&console), now, move || tui_command(&console)).giving_way();
            found.into_iter().map(console).collect()
        };
        let has_consoles = !others.is_empty();
        if sixgate_linux::virtio_port::find(agent::PORT).is_some() {
            others.push(Service::new("the guest agent", now, agent_command).giving_way());
        }
        let watchdog = OpenOptions::new().write(true).open("/dev/watchdog0").ok();
        let trial_ends = pid1::kernel_argument("sixgate.trial").map(|_| now + TRIAL);
        Ok(Self { voice, router, others, has_consoles, watchdog, trial_ends, children, interrupt, terminate, button })
    }

    async fn run(mut self) -> Ending {
        if self.has_consoles {
            let names: Vec<&str> = self.others.iter().map(|service| service.name.as_str()).collect();
            self.voice.say(format_args!("starting the router, {}", names.join(", ")));
            self.voice.attempt("cannot set the console's level", pid1::set_console_level(DRAWN));
            self.voice.leave_console();
        }
        let mut fed = tokio::time::interval(FEED);
        lock_later();
        loop {
            self.start_what_is_due();
            let due = self.services().filter_map(|service| service.poll_timeout()).min();
            let ending = tokio::select! {
                _ = self.children.recv() => self.reap(),
                _ = self.interrupt.recv() => Some((Ending::Reboot, "Ctrl-Alt-Del")),
                _ = self.terminate.recv() => Some((Ending::PowerOff, "told to power off")),
                Some(()) = self.button.recv() => Some((Ending::PowerOff, "power button")),
                _ = fed.tick() => {
                self.feed();
                self.judge_trial()
            }
                () = until(due) => None,
            };
            if let Some((ending, why)) = ending {
                self.end(why).await;
                return ending;
            }
        }
    }

    /// Whatever is written counts, but for the letter that disarms it.
    fn feed(&mut self) {
        if let Some(watchdog) = &mut self.watchdog {
            let fed = watchdog.write_all(b"1");
            self.voice.attempt("the watchdog is not fed", fed);
        }
    }

    /// A system on trial that has not proven healthy in time: the loader boots the one before.
    fn judge_trial(&mut self) -> Option<(Ending, &'static str)> {
        self.trial_ends.filter(|ends| *ends <= Instant::now())?;
        self.trial_ends = None;
        let confirmed = loader::read().is_ok_and(|environment| environment.on_trial.is_none());
        (!confirmed).then_some((Ending::Reboot, "the update did not prove healthy"))
    }

    fn services(&mut self) -> impl Iterator<Item = &mut Service> {
        std::iter::once(&mut self.router).chain(&mut self.others)
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        for service in std::iter::once(&mut self.router).chain(&mut self.others) {
            if let Err(error) = service.handle_timeout(now) {
                self.voice.say(format_args!("cannot start {}: {error}", service.name));
            }
        }
    }

    /// Takes note of all children that ended. The router may ask for the machine's end by its exit status.
    fn reap(&mut self) -> Option<(Ending, &'static str)> {
        let now = Instant::now();
        let mut ending = None;
        while let Some((process, end)) = children::reap() {
            if self.router.owns(process) && end == End::Exited(i32::from(EXIT_POWER_OFF)) {
                self.router.retire();
                ending = Some((Ending::PowerOff, "the router was told to power off"));
            }
            if self.router.owns(process) && end == End::Exited(i32::from(EXIT_REBOOT)) {
                self.router.retire();
                ending = Some((Ending::Reboot, "the router was told to restart the machine"));
            }
            for service in std::iter::once(&mut self.router).chain(&mut self.others) {
                if let Some(wait) = service.handle_end(process, now) {
                    let wait = wait.as_secs_f64();
                    self.voice.say(format_args!("{} ended with {end}, starting it again in {wait} s", service.name));
                }
            }
        }
        ending
    }

    /// Stops the router, which withdraws from its networks, and clears the consoles.
    async fn end(&mut self, why: &str) {
        self.services().for_each(|service| service.signal(Signal::TERM));
        let deadline = Instant::now() + STOP;
        while self.services().any(|service| service.is_running()) {
            tokio::select! {
                _ = self.children.recv() => {}
                () = until(Some(deadline)) => break,
            }
            while let Some((process, _)) = children::reap() {
                self.services().filter(|service| service.owns(process)).for_each(Service::retire);
            }
        }
        self.voice.take_console();
        if self.router.is_running() {
            self.voice.say(format_args!("the router did not stop within {} s", STOP.as_secs()));
        }
        self.voice.say(why);
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Locks modules and kernel on a thread of its own, once the router has had its share of the processor.
fn lock_later() {
    let lock = || {
        thread::sleep(LOCK_AFTER);
        // Of this thread alone; a kernel that refuses makes the start a little slower.
        let _ = rustix::process::setpriority_process(None, 10);
        let say = |text: &str| {
            if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
                let _ = log.write_all(format!("init: {text}").as_bytes());
            }
        };
        match lock::lock_modules() {
            Ok(count) => say(&format!("no more modules are loaded; {count} were loaded for what may be plugged in")),
            Err(error) => say(&format!("the kernel goes on to load modules: {error}")),
        }
        if let Err(error) = lock::lock_down() {
            say(&format!("the kernel is not locked down: {error}"));
        }
    };
    // Without the thread the machine is as it was.
    let _ = thread::Builder::new().name("lock".into()).spawn(lock);
}

/// Waits for the button on a thread of its own, which ends with the machine.
fn watch_power_button(voice: &Voice) -> mpsc::Receiver<()> {
    let (pressed, button) = mpsc::channel(1);
    let watch = move |mut button: PowerButton| {
        while button.wait().is_ok() {
            let _ = pressed.blocking_send(());
        }
    };
    let started = PowerButton::open()
        .and_then(|button| thread::Builder::new().name("power-button".into()).spawn(move || watch(button)));
    voice.attempt("no power button", started.map(drop));
    button
}

fn run_command() -> io::Result<Command> {
    let log = OpenOptions::new().write(true).open("/dev/kmsg")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--config", CONFIG]).env(SUPERVISOR_VARIABLE, "init").env("NO_COLOR", "1");
    if let Some(filter) = pid1::kernel_argument("sixgate.log") {
        command.env("RUST_LOG", filter);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

fn agent_command() -> io::Result<Command> {
    let log = OpenOptions::new().write(true).open("/dev/kmsg")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("agent").env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

fn tui_command(console: &Console) -> io::Result<Command> {
    let terminal = console.open()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["tui", "--console"]).env("TERM", console.terminal);
    command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal);
    Ok(command)
}

fn name(console: &Console) -> String {
    format!("the console on {}", console.device.display())
}

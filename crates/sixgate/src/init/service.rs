//! A program that is to run for ever: when it is due, and how long to wait after it ended.
use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sixgate_linux::pid1::children::{self, Process};

/// A program that ran for so long was well: its next start is not delayed.
const WELL_AFTER: Duration = Duration::from_secs(30);
/// A quarter of the processor at least, where the router could use all of it.
const GIVES_WAY: i32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A supervised program.
pub(super) struct Service {
    /// What to call it.
    pub(super) name: String,
    command: Box<dyn Fn() -> io::Result<Command>>,
    state: State,
    wait: Duration,
    /// How much it gives way to the others.
    niceness: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Due(Instant),
    Running(Process, Instant),
    /// The machine is ending.
    Retired,
}

impl Service {
    /// A program that is due at once.
    pub(super) fn new(name: &str, now: Instant, command: impl Fn() -> io::Result<Command> + 'static) -> Self {
        Self {
            name: name.to_owned(),
            command: Box::new(command),
            state: State::Due(now),
            wait: FIRST_WAIT,
            niceness: 0,
        }
    }

    /// The same, giving way to whatever does not.
    pub(super) fn giving_way(self) -> Self {
        Self { niceness: GIVES_WAY, ..self }
    }

    /// When [`Service::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Due(at) => Some(at),
            State::Running(..) | State::Retired => None,
        }
    }

    /// Starts the program if it is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> io::Result<()> {
        let State::Due(at) = self.state else { return Ok(()) };
        if at > now {
            return Ok(());
        }
        match (self.command)().and_then(|mut command| children::start(&mut command)) {
            Ok(process) => {
                if self.niceness != 0 {
                    children::give_way(process, self.niceness);
                }
                self.state = State::Running(process, now);
                Ok(())
            }
            Err(error) => {
                self.postpone(now);
                Err(error)
            }
        }
    }

    /// Takes note that a process ended. Returns how long the program stays away, if it was this one.
    pub(super) fn handle_end(&mut self, process: Process, now: Instant) -> Option<Duration> {
        match self.state {
            State::Running(own, since) if own == process => {
                if now.saturating_duration_since(since) >= WELL_AFTER {
                    self.wait = FIRST_WAIT;
                }
                Some(self.postpone(now))
            }
            State::Running(..) | State::Due(_) | State::Retired => None,
        }
    }

    /// Whether it runs.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running(..))
    }

    /// Whether this is its process.
    pub(super) fn owns(&self, process: Process) -> bool {
        matches!(self.state, State::Running(own, _) if own == process)
    }

    /// Sends it a signal, if it runs.
    pub(super) fn signal(&self, signal: Signal) {
        if let State::Running(process, _) = self.state {
            children::signal(process, signal);
        }
    }

    /// It is not started again; call when its end was seen or does not matter any more.
    pub(super) fn retire(&mut self) {
        self.state = State::Retired;
    }

    fn postpone(&mut self, now: Instant) -> Duration {
        let wait = self.wait;
        self.state = State::Due(now + wait);
        self.wait = (wait * 2).min(LONGEST_WAIT);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of our own child, without taking that of another test's.
    fn run_once(service: &mut Service, now: Instant) -> Option<Duration> {
        service.handle_timeout(now).unwrap();
        let State::Running(process, _) = service.state else { panic!("it is due") };
        service.handle_end(process, now)
    }

    #[test]
    fn a_program_that_keeps_failing_waits_longer_and_longer() {
        let now = Instant::now();
        let mut service = Service::new("true", now, || Ok(Command::new("true")));
        let mut at = now;
        let mut waits = Vec::new();
        for _ in 0..9 {
            let wait = run_once(&mut service, at).unwrap();
            waits.push(wait.as_millis());
            assert_eq!(service.poll_timeout(), Some(at + wait));
            at += wait;
        }
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    }

    #[test]
    fn a_program_that_ran_well_starts_again_soon() {
        let now = Instant::now();
        let mut service = Service::new("true", now, || Ok(Command::new("true")));
        let wait = run_once(&mut service, now).unwrap();
        assert_eq!(run_once(&mut service, now + wait), Some(FIRST_WAIT * 2));
        let later = now + Duration::from_secs(10);
        service.handle_timeout(later).unwrap();
        let State::Running(process, _) = service.state else { panic!("it is due") };
        assert_eq!(service.handle_end(process, later + WELL_AFTER), Some(FIRST_WAIT));
    }

    #[test]
    fn a_program_that_cannot_be_started_is_tried_again() {
        let now = Instant::now();
        let mut service = Service::new("nothing", now, || Ok(Command::new("/nonexistent/program")));
        assert!(service.handle_timeout(now).is_err());
        assert_eq!(service.poll_timeout(), Some(now + FIRST_WAIT));
    }

    #[test]
    fn a_retired_program_is_never_due() {
        let now = Instant::now();
        let mut service = Service::new("true", now, || Ok(Command::new("true")));
        service.retire();
        assert_eq!(service.poll_timeout(), None);
        service.handle_timeout(now).unwrap();
        assert!(!service.is_running());
    }
}

//! Children of process 1: its own, and every orphan of the machine.
use std::process::{Child, Command};
use std::{fmt, io};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

/// A process by its number. The number stays its own until [`reap`] has reported its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(Pid);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Killed(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Starts a program in a process group of its own; its end is reported by [`reap`] alone.
pub fn start(command: &mut Command) -> io::Result<Process> {
    use std::os::unix::process::CommandExt as _;
    let child: Child = command.process_group(0).spawn()?;
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::Error::other("a child without a number"))?;
    Ok(Process(pid))
}

/// How much a process gives way to others; zero is as usual, 19 the most.
pub fn give_way(process: Process, niceness: i32) {
    // It may have ended already.
    let _ = rustix::process::setpriority_process(Some(process.0), niceness);
}

/// Sends a signal; a process that has ended already is no error.
pub fn signal(process: Process, signal: Signal) {
    let _ = kill_process(process.0, signal);
}

/// The next child that has ended, orphans included; nothing when all that are left still run.
pub fn reap() -> Option<(Process, End)> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if let Some(end) = end_of(status) {
                    return Some((Process(pid), end));
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

fn end_of(status: WaitStatus) -> Option<End> {
    status.exit_status().map(End::Exited).or_else(|| status.terminating_signal().map(End::Killed))
}

//! The power button, Ctrl-Alt-Del, and how the machine ends.
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::system::{RebootCommand, reboot};

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is switched off.
    PowerOff,
    /// It starts again.
    Reboot,
}

/// Asks the kernel for SIGINT at Ctrl-Alt-Del instead of an immediate reset. Only process 1 may.
pub fn catch_ctrl_alt_del() -> io::Result<()> {
    only_first_process()?;
    Ok(reboot(RebootCommand::CadOff)?)
}

/// Writes everything to the disks and ends the machine. Only process 1 may. Returns only when that is refused.
pub fn end(ending: Ending) -> io::Result<()> {
    only_first_process()?;
    rustix::fs::sync();
    reboot(match ending {
        Ending::PowerOff => RebootCommand::PowerOff,
        Ending::Reboot => RebootCommand::Restart,
    })?;
    Ok(())
}

/// On a machine with another init these calls would end that machine.
fn only_first_process() -> io::Result<()> {
    if super::is_first_process() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "this is not process 1"))
    }
}

/// The machine's input devices, one of which is its power button.
pub struct PowerButton {
    devices: Vec<File>,
}

/// Size of `struct input_event` on machines of 64 bits: two times of 8 bytes, type, code, value.
const EVENT: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
const PRESSED: i32 = 1;

impl PowerButton {
    /// Opens all input devices that are there now.
    pub fn open() -> io::Result<Self> {
        let paths = fs::read_dir("/dev/input")?.flatten().map(|entry| entry.path());
        let events =
            paths.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("event")));
        let devices: Vec<File> = events.filter_map(|path: PathBuf| File::open(path).ok()).collect();
        if devices.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no input device; is evdev loaded?"));
        }
        Ok(Self { devices })
    }

    /// Blocks until the button is pressed.
    pub fn wait(&mut self) -> io::Result<()> {
        loop {
            let mut waits: Vec<_> = self.devices.iter().map(|device| PollFd::new(device, PollFlags::IN)).collect();
            match poll(&mut waits, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let ready: Vec<bool> = waits.iter().map(|wait| !wait.revents().is_empty()).collect();
            let mut gone = Vec::new();
            for (index, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
                let mut events = [0; 16 * EVENT];
                match self.devices[index].read(&mut events) {
                    Ok(length) if presses_power(&events[..length]) => return Ok(()),
                    Ok(1..) => {}
                    // The device was unplugged.
                    Ok(_) | Err(_) => gone.push(index),
                }
            }
            for index in gone.into_iter().rev() {
                self.devices.remove(index);
            }
            if self.devices.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the last input device is gone"));
            }
        }
    }
}

fn presses_power(events: &[u8]) -> bool {
    events.chunks_exact(EVENT).any(|event| {
        let kind = u16::from_ne_bytes([event[16], event[17]]);
        let code = u16::from_ne_bytes([event[18], event[19]]);
        let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
        (kind, code, value) == (EV_KEY, KEY_POWER, PRESSED)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn nobody_but_the_first_process_ends_the_machine() {
        assert!(!crate::pid1::is_first_process(), "this test must not run as process 1");
        assert_eq!(only_first_process().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn pressing_counts_and_releasing_does_not() {
        assert!(presses_power(&[event(0, 0, 0), event(1, 116, 1)].concat()));
        assert!(!presses_power(&event(1, 116, 0)));
        assert!(!presses_power(&event(1, 30, 1)));
        assert!(!presses_power(&event(1, 116, 1)[..20]));
    }
}

//! Consoles of the machine: the screen and the serial lines that are really there.
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// Its device.
    pub device: PathBuf,
    /// What to call its terminal.
    pub terminal: &'static str,
}

impl Console {
    /// Opens it for reading and writing.
    pub fn open(&self) -> io::Result<File> {
        let flags = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(&self.device)
    }
}

/// The screen, when there is one, and all serial lines, when there are any.
pub fn present() -> Vec<Console> {
    let mut consoles = Vec::new();
    if has_screen(Path::new("/sys/class/vtconsole")) {
        consoles.push(Console { device: "/dev/tty1".into(), terminal: "linux" });
    }
    let ports = fs::read_to_string("/proc/tty/driver/serial").unwrap_or_default();
    for port in serial_ports(&ports) {
        consoles.push(Console { device: format!("/dev/ttyS{port}").into(), terminal: "vt220" });
    }
    consoles.retain(|console| console.device.exists());
    consoles
}

/// A screen shows text by a driver other than the dummy one.
fn has_screen(folder: &Path) -> bool {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names
        .filter_map(|entry| fs::read_to_string(entry.path().join("name")).ok())
        .any(|name| !name.contains("dummy device"))
}

/// Numbers of the ports that have a chip, from the driver's table.
fn serial_ports(table: &str) -> Vec<u32> {
    let lines = table.lines().filter(|line| !line.contains("uart:unknown"));
    lines.filter_map(|line| line.split_once(": uart:")?.0.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_without_a_chip_is_no_console() {
        let table = "serinfo:1.0 driver revision:\n\
                     0: uart:16550A port:000003F8 irq:4 tx:1183 rx:0 RTS|CTS|DTR|DSR|CD\n\
                     1: uart:unknown port:000002F8 irq:3\n\
                     2: uart:16550A port:000003E8 irq:4 tx:0 rx:0\n";
        assert_eq!(serial_ports(table), [0, 2]);
        assert!(serial_ports("").is_empty());
    }
}

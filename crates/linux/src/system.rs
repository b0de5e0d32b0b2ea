//! The machine's own figures for the status: memory, load, uptime, kernel.
use std::fs;

/// What the machine says of itself. A figure that cannot be read is 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Seconds since boot.
    pub uptime: u64,
    /// Bytes of memory in the machine.
    pub memory_total: u64,
    /// Bytes of memory available.
    pub memory_available: u64,
    /// Resident set of this process in bytes.
    pub resident: u64,
    /// Load average over one minute.
    pub load: f32,
}

impl Machine {
    /// Reads the figures, from `/proc` for the most part.
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let memory = text("/proc/meminfo");
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            uptime: u64::try_from(rustix::system::sysinfo().uptime).unwrap_or_default(),
            memory_total: kibibytes(&memory, "MemTotal:"),
            memory_available: kibibytes(&memory, "MemAvailable:"),
            resident: word(&text("/proc/self/statm"), 1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * page,
            load: word(&text("/proc/loadavg"), 0).and_then(|load| load.parse().ok()).unwrap_or_default(),
        }
    }
}

/// Bytes of memory in the machine; 0 where that cannot be read.
pub fn memory() -> u64 {
    kibibytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal:")
}

/// The kernel's name for this boot; empty where it has none.
pub fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// A line of `/proc/meminfo` in bytes.
fn kibibytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    word(line, 0).and_then(|number| number.parse::<u64>().ok()).unwrap_or_default().saturating_mul(1024)
}

fn word(text: &str, position: usize) -> Option<&str> {
    text.split_whitespace().nth(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory_and_a_kernel() {
        let machine = Machine::read();
        assert!(machine.memory_total >= machine.memory_available && machine.memory_available > 0, "{machine:?}");
        assert!(machine.resident > 0 && machine.resident < machine.memory_total, "{machine:?}");
        assert!(machine.uptime > 0 && machine.kernel.contains('.'), "{machine:?}");
    }

    #[test]
    fn a_missing_line_is_zero() {
        assert_eq!(kibibytes("MemTotal:       16384 kB\nMemFree: 1 kB\n", "MemTotal:"), 16384 * 1024);
        assert_eq!(kibibytes("MemTotal:\n", "MemTotal:"), 0);
        assert_eq!(kibibytes("", "MemTotal:"), 0);
    }
}

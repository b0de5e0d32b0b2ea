//! What process 1 of the image asks of the kernel: mounts, modules, children, consoles, the power button.
pub mod children;
pub mod consoles;
pub mod filesystem;
pub mod lock;
pub mod modules;
pub mod mounts;
pub mod power;
pub mod random;

use std::fs;
use std::io;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Whether this process is the first one, which the kernel started.
pub fn is_first_process() -> bool {
    rustix::process::getpid().is_init()
}

/// Time since the kernel started.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// Sets the kernel's idea of the host name.
pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}

/// Brings the loopback interface up; the kernel gives it its addresses.
pub fn raise_loopback() -> io::Result<()> {
    const IFF_UP_LOOPBACK: &str = "0x9";
    fs::write("/sys/class/net/lo/flags", IFF_UP_LOOPBACK)
}

/// Sets from which level on the kernel's messages are shown on the console: 1 hides all but emergencies, 7 shows all but debugging.
pub fn set_console_level(level: u8) -> io::Result<()> {
    fs::write("/proc/sys/kernel/printk", format!("{level}"))
}

/// Lets programs write to the kernel's log without a limit on their rate; the log itself is bounded.
pub fn open_kernel_log_to_programs() -> io::Result<()> {
    // The kernel wants the end of the line as well.
    fs::write("/proc/sys/kernel/printk_devkmsg", "on\n")
}

/// The value of `name=value` on the kernel's command line.
pub fn kernel_argument(name: &str) -> Option<String> {
    argument(&fs::read_to_string("/proc/cmdline").ok()?, name)
}

fn argument(line: &str, name: &str) -> Option<String> {
    line.split_whitespace().find_map(|word| Some(word.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_found_by_its_whole_name() {
        let line = "console=ttyS0 sixgate.consoles=log sixgate.console=none\n";
        assert_eq!(argument(line, "sixgate.console").as_deref(), Some("none"));
        assert_eq!(argument(line, "sixgate.consoles").as_deref(), Some("log"));
        assert_eq!(argument(line, "sixgate"), None);
    }

    #[test]
    fn only_the_first_process_is_the_first() {
        assert!(!is_first_process());
    }
}

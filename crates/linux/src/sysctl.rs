//! Values below `/proc/sys`, read before they are written: some have side effects even when nothing changes.
use std::{fs, io};

use sixgate_engine::plan::{Stage, Sysctl};

use crate::network::ApplyError;

/// The two switches that make this machine a router.
const FORWARDING: [&str; 2] = ["net/ipv4/conf/all/forwarding", "net/ipv6/conf/all/forwarding"];

/// Writes the values of one stage, in order, where they differ. One failing value does not stop the rest.
///
/// They take effect in the network namespace of the calling thread.
pub fn apply_sysctls(sysctls: &[Sysctl], stage: Stage) -> Vec<ApplyError> {
    sysctls
        .iter()
        .filter(|sysctl| sysctl.stage == stage)
        .filter_map(|sysctl| write(&sysctl.path, &sysctl.value).err())
        .collect()
}

/// Those of a list whose values are others.
pub fn differing(sysctls: &[Sysctl]) -> impl Iterator<Item = &Sysctl> {
    sysctls.iter().filter(|sysctl| read(&sysctl.path).is_ok_and(|value| value != normal(&sysctl.value)))
}

/// Switches forwarding off, for `stop`.
pub fn stop_forwarding() -> Vec<ApplyError> {
    FORWARDING.iter().filter_map(|path| write(path, "0").err()).collect()
}

/// Whether both address families are forwarded.
pub fn forwarding() -> bool {
    FORWARDING.iter().all(|path| read(path).is_ok_and(|value| value != "0"))
}

/// Reads a value, with runs of blanks as one space.
///
/// # Errors
/// The value does not exist or may not be read.
pub fn read(path: &str) -> io::Result<String> {
    Ok(normal(&fs::read_to_string(full(path))?))
}

/// Writes a value where it differs.
///
/// # Errors
/// The value does not exist, may not be written, or is refused.
pub fn write(path: &str, value: &str) -> Result<(), ApplyError> {
    if read(path).is_ok_and(|current| current == normal(value)) {
        return Ok(());
    }
    fs::write(full(path), value)
        .map_err(|error| ApplyError::io(format!("sysctl {path}"), format!("set to {value}"), &error))
}

fn full(path: &str) -> String {
    format!("/proc/sys/{path}")
}

/// The kernel separates the numbers of a pair by a tab.
fn normal(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

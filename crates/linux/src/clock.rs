//! The engine's clock and its only source of randomness.
use std::fs;
use std::io;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use sixgate_engine::time::Instant;

/// CLOCK_MONOTONIC, now.
pub fn now() -> Instant {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither field is negative on this clock.
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Time since the machine was started, its sleep included (CLOCK_BOOTTIME).
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // Neither field is negative on this clock.
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// Which boot of the machine this is; no two have the same. Empty where the kernel does not say.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

/// CLOCK_REALTIME, in nanoseconds since 1970.
pub fn wall() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// Sets CLOCK_REALTIME that much further, at once, and has the kernel write it to the machine's battery-backed clock.
///
/// # Errors
/// The process may not set clocks, or the time lies outside of what they hold.
pub fn step(offset: i64) -> io::Result<()> {
    let new = wall().saturating_add(offset);
    let new = Timespec { tv_sec: new.div_euclid(1_000_000_000), tv_nsec: new.rem_euclid(1_000_000_000) };
    clock_settime(ClockId::Realtime, new)?;
    adjust(0, 0)
}

/// Has the kernel bring CLOCK_REALTIME that much further without a jump, and learn from it how fast the clock runs.
/// `poll` is how long it is until the next correction.
///
/// # Errors
/// As for [`step`].
pub fn slew(offset: i64, poll: Duration) -> io::Result<()> {
    // The loop's time constant is the exponent of the interval, less 4 in the kernel's own count.
    adjust(offset, i64::from(poll.as_secs().max(16).ilog2()))
}

fn adjust(offset: i64, constant: i64) -> io::Result<()> {
    // SAFETY: all fields of the C structure are integers, for which zeros are values.
    let mut change: libc::timex = unsafe { core::mem::zeroed() };
    change.modes = libc::ADJ_OFFSET
        | libc::ADJ_NANO
        | libc::ADJ_STATUS
        | libc::ADJ_TIMECONST
        | libc::ADJ_MAXERROR
        | libc::ADJ_ESTERROR;
    change.offset = offset;
    change.constant = constant;
    // Not STA_UNSYNC: the kernel then writes its time to the battery-backed clock every eleven minutes.
    change.status = libc::STA_PLL;
    // SAFETY: the structure is valid and lives through the call.
    if unsafe { libc::adjtimex(&raw mut change) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A seed for the engine's generators. Waits until the kernel's pool is ready, about a second after boot at worst.
///
/// # Errors
/// The kernel has no getrandom.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    let mut filled = 0;
    while let Some(rest) = seed.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_seeds_differ() {
        let before = now();
        assert!(before > Instant::ZERO);
        assert!(now() >= before);
        // No machine of today shows a time before 2020.
        assert!(wall() > 1_577_836_800_000_000_000);
        assert_ne!(seed().unwrap(), seed().unwrap());
        assert!(since_boot() > Duration::ZERO);
        assert_eq!(boot_id(), boot_id());
        assert_eq!(boot_id().len(), 36);
    }
}

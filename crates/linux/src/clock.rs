//! The engine's clock and its only source of randomness.
use std::fs;
use std::io;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};
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
        assert_ne!(seed().unwrap(), seed().unwrap());
        assert!(since_boot() > Duration::ZERO);
        assert_eq!(boot_id(), boot_id());
        assert_eq!(boot_id().len(), 36);
    }
}

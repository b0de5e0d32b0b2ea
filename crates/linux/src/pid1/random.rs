//! The kernel's random numbers at the start: whether they are fit for keys yet, and what is added to them.
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use rustix::rand::{GetRandomFlags, getrandom};

/// Bytes of a seed.
pub const SEED: usize = 32;

/// Blocks until the kernel's random numbers are fit for keys. Without another source the kernel makes them out of the
/// processor's jitter while somebody waits, which takes it about a second.
pub fn wait() -> io::Result<()> {
    getrandom(&mut [0_u8; 1], GetRandomFlags::empty())?;
    Ok(())
}

/// A new seed, once random numbers are fit for keys.
///
/// # Errors
/// They are not yet.
pub fn seed() -> io::Result<[u8; SEED]> {
    let mut seed = [0; SEED];
    let length = getrandom(&mut seed, GetRandomFlags::NONBLOCK)?;
    if length == SEED { Ok(seed) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// How much an added seed counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is secret and is used once: random numbers are fit for keys with it.
    Whole,
    /// It does no harm.
    None,
}

/// `struct rand_pool_info` of linux/random.h.
#[repr(C)]
struct PoolInfo {
    entropy_count: libc::c_int,
    buf_size: libc::c_int,
    buf: [u8; SEED],
}

/// Adds a seed to the kernel's pool.
///
/// # Errors
/// The process may not (CAP_SYS_ADMIN).
pub fn add(seed: &[u8; SEED], trust: Trust) -> io::Result<()> {
    /// `_IOW('R', 0x03, int[2])`.
    const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
    let pool = File::options().write(true).open("/dev/random")?;
    let bits = match trust {
        Trust::Whole => SEED as libc::c_int * 8,
        Trust::None => 0,
    };
    let info = PoolInfo { entropy_count: bits, buf_size: SEED as libc::c_int, buf: *seed };
    // SAFETY: the kernel reads the two numbers and as many bytes behind them as the second one says, all of which are `info`'s.
    let outcome = unsafe { libc::ioctl(pool.as_raw_fd(), RNDADDENTROPY, &raw const info) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seeds_differ() {
        wait().unwrap();
        assert_ne!(seed().unwrap(), seed().unwrap());
    }

    #[test]
    fn a_seed_is_taken_by_the_kernel() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        match add(&[7; SEED], Trust::None) {
            Ok(()) => {}
            // Containers may keep the capability away.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}

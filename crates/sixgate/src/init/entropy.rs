//! The seed that one start leaves to the next, so that a machine without an entropy source has random numbers at once.
//!
//! It counts once, on the machine that left it. A copy of the machine, or one that was put back to a snapshot, has a new VM
//! generation identifier, which the kernel mixes in by itself.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use sixgate_linux::pid1::random::{self, SEED, Trust};

use super::starter;
use super::state::{self, keep};

/// A file of the digest of what the machine is known by, and the seed.
fn path() -> PathBuf {
    Path::new(state::HOME).join("random-seed")
}

/// Gives the kernel the seed of the start before, and leaves another one at once: this one is never used again.
///
/// # Errors
/// The seed cannot be replaced or added; then it does not count.
pub(super) fn hand_over() -> io::Result<()> {
    let Some((machine, seed)) = fs::read(path()).ok().and_then(|bytes| parse(&bytes)) else { return Ok(()) };
    let ours = machine == self::machine();
    let replaced = keep(&path(), &emit(&machine, &derive(&seed, "next")));
    let trust = if ours && replaced.is_ok() { Trust::Whole } else { Trust::None };
    random::add(&derive(&seed, "now"), trust)?;
    replaced
}

/// Leaves a new seed to the next start.
///
/// # Errors
/// There is nowhere to keep it, or there are no random numbers yet.
pub(crate) fn leave() -> io::Result<()> {
    keep(&path(), &emit(&machine(), &random::seed()?))
}

/// What a machine keeps and its copy does not have: its identifier and the addresses of its cards.
fn machine() -> [u8; SEED] {
    let mut digest = Sha256::new();
    digest.update(fs::read("/sys/class/dmi/id/product_uuid").unwrap_or_default());
    let mut cards: Vec<String> = starter::present().into_iter().map(|card| card.mac).collect();
    cards.sort();
    for mac in cards {
        digest.update(mac);
    }
    digest.finalize().into()
}

/// Two seeds out of one, neither of which tells the other.
fn derive(seed: &[u8; SEED], purpose: &str) -> [u8; SEED] {
    Sha256::new().chain_update(purpose).chain_update(seed).finalize().into()
}

fn emit(machine: &[u8; SEED], seed: &[u8; SEED]) -> Vec<u8> {
    [&machine[..], &seed[..]].concat()
}

fn parse(bytes: &[u8]) -> Option<([u8; SEED], [u8; SEED])> {
    let (machine, seed) = bytes.split_at_checked(SEED)?;
    Some((machine.try_into().ok()?, seed.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_read_and_what_is_cut_short_is_not() {
        let bytes = emit(&[1; SEED], &[2; SEED]);
        assert_eq!(parse(&bytes), Some(([1; SEED], [2; SEED])));
        assert_eq!(parse(&bytes[..63]), None);
        assert_eq!(parse(&[&bytes[..], b"x"].concat()), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn the_next_seed_is_another_one() {
        let seed = [3; SEED];
        assert_ne!(derive(&seed, "now"), derive(&seed, "next"));
        assert_ne!(derive(&seed, "now"), seed);
    }
}

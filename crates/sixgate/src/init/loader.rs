//! The boot loader's environment: which slot is good, which is on trial. It is read and written as one sector of the disk,
//! so a power cut leaves the old one or the new one.
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::partition;

/// How the block begins on the disk.
const MARK: &[u8] = b"# GRUB Environment Block\n";
const SECTOR: usize = 512;
/// The block is the first file of its partition.
const SEARCHED: usize = 1 << 20;

/// One of the two places for a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The first one.
    A,
    /// The second one.
    B,
}

impl Slot {
    /// The letter that stands for it.
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The slot of a letter.
    pub(crate) fn of_letter(letter: &str) -> Option<Self> {
        match letter {
            "a" => Some(Self::A),
            "b" => Some(Self::B),
            _ => None,
        }
    }

    /// Not this one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its partition's name.
    pub(crate) fn partition(self) -> &'static str {
        match self {
            Self::A => "slot-a",
            Self::B => "slot-b",
        }
    }
}

/// The environment's variables, as `image/grub.cfg` explains them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// The slot that proved healthy last.
    pub(crate) good: Option<Slot>,
    /// The one before it.
    pub(crate) other: Option<Slot>,
    /// A slot on trial.
    pub(crate) on_trial: Option<Slot>,
    /// It has not been tried yet.
    pub(crate) untried: bool,
    /// Starts of the good slot that did not come to be healthy.
    pub(crate) boots: u8,
}

impl Environment {
    fn parse(sector: &[u8]) -> Self {
        let text = String::from_utf8_lossy(sector);
        let mut environment = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match name {
                "good" => environment.good = Slot::of_letter(value),
                "other" => environment.other = Slot::of_letter(value),
                "try" => environment.on_trial = Slot::of_letter(value),
                "tries" => environment.untried = value == "1",
                "boots" => environment.boots = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        environment
    }

    fn emit(&self) -> [u8; SECTOR] {
        let letter = |slot: Option<Slot>| slot.map_or("", Slot::letter);
        let text = format!(
            "{}good={}\nother={}\ntry={}\ntries={}\nboots={}\n",
            String::from_utf8_lossy(MARK),
            letter(self.good),
            letter(self.other),
            letter(self.on_trial),
            u8::from(self.untried),
            self.boots
        );
        let mut sector = [b'#'; SECTOR];
        sector[..text.len()].copy_from_slice(text.as_bytes());
        sector
    }
}

/// Reads the environment from the disk that this machine booted from.
pub(crate) fn read() -> io::Result<Environment> {
    let device = device()?;
    let (_, sector) = locate(&mut File::open(device)?)?;
    Ok(Environment::parse(&sector))
}

/// Changes the environment. It is on the disk when this returns.
pub(crate) fn change(change: impl FnOnce(&mut Environment)) -> io::Result<()> {
    change_on(&device()?, change)
}

fn change_on(device: &Path, change: impl FnOnce(&mut Environment)) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(device)?;
    let (at, sector) = locate(&mut file)?;
    let before = Environment::parse(&sector);
    let mut after = before.clone();
    change(&mut after);
    if after != before {
        file.write_all_at(&after.emit(), at)?;
        file.sync_all()?;
    }
    Ok(())
}

fn device() -> io::Result<std::path::PathBuf> {
    partition::find("esp").ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "this disk has no partition `esp`"))
}

fn locate(file: &mut File) -> io::Result<(u64, Vec<u8>)> {
    let mut start = Vec::new();
    file.take(SEARCHED as u64).read_to_end(&mut start)?;
    let found = start.chunks_exact(SECTOR).position(|sector| sector.starts_with(MARK));
    let index =
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the loader's environment is not where it was"))?;
    Ok(((index * SECTOR) as u64, start[index * SECTOR..(index + 1) * SECTOR].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> tempfile::NamedTempFile {
        let mut sectors = vec![0; SECTOR * 7];
        sectors.extend(Environment { good: Some(Slot::A), ..Environment::default() }.emit());
        sectors.extend([b'#'; SECTOR]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), sectors).unwrap();
        file
    }

    #[test]
    fn a_change_is_one_sector_and_nothing_else_moves() {
        let disk = disk();
        let before = std::fs::read(disk.path()).unwrap();
        change_on(disk.path(), |environment| {
            environment.on_trial = Some(Slot::B);
            environment.untried = true;
        })
        .unwrap();
        let after = std::fs::read(disk.path()).unwrap();
        let changed: Vec<_> =
            before.chunks(SECTOR).zip(after.chunks(SECTOR)).map(|(before, after)| before != after).collect();
        assert_eq!(changed, [false, false, false, false, false, false, false, true, false]);
        let (_, sector) = locate(&mut File::open(disk.path()).unwrap()).unwrap();
        let read = Environment::parse(&sector);
        assert_eq!((read.good, read.on_trial, read.untried), (Some(Slot::A), Some(Slot::B), true));
    }

    #[test]
    fn what_grub_writes_is_read_and_what_is_unknown_is_skipped() {
        let read =
            Environment::parse(b"# GRUB Environment Block\ngood=b\nother=a\ntry=\ntries=0\nboots=2\nmenu=x\n####");
        let expected =
            Environment { good: Some(Slot::B), other: Some(Slot::A), on_trial: None, untried: false, boots: 2 };
        assert_eq!(read, expected);
        assert_eq!(Environment::parse(&expected.emit()), expected);
    }

    #[test]
    fn a_disk_without_the_block_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0; SECTOR * 4]).unwrap();
        assert!(change_on(file.path(), |environment| environment.boots = 1).is_err());
        assert_eq!(std::fs::read(file.path()).unwrap(), [0; SECTOR * 4]);
    }
}

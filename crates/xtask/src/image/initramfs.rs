//! Compressed parts of an initramfs; the same entries give the same bytes.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use sixgate_qemu::cpio::Archive;

use super::write_if_changed;
use crate::command::run;

/// Writes an archive to `plain` and compresses it beside it, unless that was done for the same bytes before.
pub(crate) fn compress(plain: &Path, archive: &Archive) -> Result<PathBuf> {
    let compressed = plain.with_extension("cpio.zst");
    if write_if_changed(plain, &archive.emit())? || !compressed.is_file() {
        run(Command::new("zstd").args(["--quiet", "--force", "-19", "-T0", "-o"]).arg(&compressed).arg(plain))
            .inspect_err(|_| drop(fs::remove_file(plain)))?;
    }
    Ok(compressed)
}

/// Puts parts behind one another, each at a multiple of four bytes.
pub(crate) fn join(path: &Path, parts: &[&Path]) -> Result<()> {
    let mut all = Vec::new();
    for part in parts {
        all.extend(fs::read(part).with_context(|| format!("cannot read {}", part.display()))?);
        all.resize(all.len().next_multiple_of(4), 0);
    }
    write_if_changed(path, &all).map(drop)
}

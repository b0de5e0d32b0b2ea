//! OVMF, the UEFI firmware that the tests boot: Debian's package, unpacked under `target/`.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::apt;

/// Has OVMF's files in the folder `firmware` beside the image.
pub(crate) fn fetch(folder: &Path) -> Result<PathBuf> {
    let (_, tree) = apt::unpacked("ovmf", &folder.join("packages"))?;
    let firmware = folder.join("firmware");
    fs::create_dir_all(&firmware)?;
    for name in ["OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd", "OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"] {
        let source = tree.join("usr/share/OVMF").join(name);
        fs::copy(&source, firmware.join(name)).with_context(|| format!("cannot copy {}", source.display()))?;
    }
    Ok(firmware)
}
